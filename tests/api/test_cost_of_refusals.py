"""A refused request costs little, whichever part of it is large: CPU time of the worker, not wall-clock time."""
import time

import pytest

from ..support import fastcgi
from ..support.worker import ROOT_TOKEN

KB64 = 64_000  # nginx.conf.example lets lines of 64 kB through


def numbered(pattern, size=KB64):
    """The pattern with 0, 1, 2... in it, again and again, up to a size."""
    out, length = [], 0
    for number in range(size):
        part = pattern.format(number)
        length += len(part)
        if length > size:
            break
        out.append(part)
    return "".join(out)


LARGE = {
    "slashes and tokens": "/stats" + "/" * 32_000 + "?" + numbered("&Token={:06d}", 31_000),
    "slashes": "/stats" + "/" * KB64,
    "short segments": "/stats" + "/a" * (KB64 // 2),
    "segments and tokens": "/stats" + "/ab" * 10_000 + "?" + numbered("&token={:06d}", 31_000),
    "one segment": "/stats/" + "a" * KB64,
    "segments like tokens": "/stats" + ("/" + "a" * 32) * (KB64 // 33),
    "letters and dashes": "/stats/" + "a-" * (KB64 // 2),
    "escapes": "/stats" + "/%41" * (KB64 // 4),
    "broken escapes": "/stats/a/b?" + "%" * KB64,
    "token= in the path": "/stats/a/" + "token=" * (KB64 // 6),
    "query parameters": "/stats/a/b/c/d?" + numbered("&x{0}={0}"),
    "tokens that differ": "/stats/a/b?" + numbered("&token=secret{:06d}"),
    "TOKENS in capitals": "/stats/a/b/c/d?" + numbered("&TOKEN=secret{:06d}"),
    "one long token": "/stats/a/b/c/d?token=" + "ab" * (KB64 // 2),
    "a token that is nearly in the path": "/stats" + "/aaaaaab" * 4_000 + "?token=" + "aaaaaa" * 5_000,
    "a name": "/stats/" + "%C3%A9" * (KB64 // 6) + "/b",
    "date ranges": "/stats/a/b?" + numbered("&daterange=202603{:02d}"),
}
HEADERS = {
    "spaces": "Bearer" + " " * KB64 + "x",
    "one long token": "Bearer " + "x" * KB64,
    "escapes": "%41" * (KB64 // 3),
    "not UTF-8": b"Bearer " + b"\xff" * KB64,
}


def cpu_seconds(worker, uri, headers=(), requests=20):
    """The worker's CPU time for a request, the least of three series."""
    clock = (-worker.pid - 1) * 8 + 2  # CLOCK_PROCESS_CPUTIME_ID of another process, as clock_getcpuclockid(3) makes it
    series = []
    with fastcgi.Connection(worker.socket) as connection:
        for _ in range(3):
            before = time.clock_gettime(clock)
            for _ in range(requests):
                answer = connection.ask("GET", uri, headers, keep=True)
                assert answer.status in (400, 401, 404)
            series.append((time.clock_gettime(clock) - before) / requests)
    return min(series)


@pytest.fixture(scope="module")
def plain(replay_worker):
    """CPU time of a small request that is refused."""
    return cpu_seconds(replay_worker, "/stats/nothing", requests=200)


def check(seconds, plain):
    print(f"{seconds * 1000:.2f} ms, {seconds / plain:.0f} times a small one")
    # A small one takes some 20 us, so that this is less than 5 ms. Quadratic work takes a second.
    assert seconds < 200 * plain


@pytest.mark.parametrize("case", LARGE)
def test_large_url_is_refused_at_a_small_cost(case, replay_worker, plain):
    check(cpu_seconds(replay_worker, LARGE[case]), plain)


@pytest.mark.parametrize("case", HEADERS)
def test_large_header_is_refused_at_a_small_cost(case, replay_worker, plain):
    uri = "/stats/a/b" if case == "one long token" else "/stats/a/b/c/d"
    headers = [("Authorization", HEADERS[case])]
    check(cpu_seconds(replay_worker, uri, headers), plain)


def test_many_tokens_are_all_kept_out_of_the_log(replay_worker):
    tokens = [f"secret{number:06d}" for number in range(300)]
    uri = "/stats/" + "/".join(tokens) + "?" + "&".join(f"token={token}" for token in tokens)
    assert replay_worker.ask("GET", uri).status == 400
    assert ROOT_TOKEN not in replay_worker.text()
    assert not [token for token in tokens if token in replay_worker.text()]
