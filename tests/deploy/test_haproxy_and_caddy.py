"""The examples for HAProxy and Caddy as they are, in Debian's packages."""
import json

import pytest

from ..support.processes import wait_until
from ..support.sample import DAY_WITHOUT_TOKEN
from ..support.webservers import Caddy, HAProxy
from ..support.worker import ROOT_TOKEN
from . import errors
from .errors import REFUSED, TOKEN, UNAVAILABLE, UNREADABLE, check_form, parse

BEARER = [("Authorization", f"Bearer {ROOT_TOKEN}")]


@pytest.fixture(scope="module", params=[HAProxy, Caddy], ids=lambda kind: kind.__name__)
def server(request, replay_worker):
    server = request.param(replay_worker.socket)
    yield server
    server.stop()


def test_answers_are_those_of_the_worker(server):
    for uri, headers in ((f"{DAY_WITHOUT_TOKEN}&token={ROOT_TOKEN}", []), (DAY_WITHOUT_TOKEN, BEARER)):
        status, headers, body = server.ask("GET", uri, headers)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8"), server.logs()
        assert body.startswith(b'[{"date":"20260303"')
    status, _, body = server.ask("GET", "/stats/acme/support/no%2Fsuch", BEARER)
    assert status == 404 and b"no/such" in body
    assert server.ask("HEAD", DAY_WITHOUT_TOKEN, BEARER)[2] == b""
    assert server.ask("POST", DAY_WITHOUT_TOKEN, BEARER)[0] == 405
    assert server.ask("GET", DAY_WITHOUT_TOKEN)[0] == 401
    for _ in range(50):
        assert server.ask("GET", DAY_WITHOUT_TOKEN, BEARER)[0] == 200


def test_probe_is_served(server):
    status, _, body = server.ask("GET", "/callstats-probe")
    assert status == 200 and json.loads(body)["database"]["up"] is True
    assert server.ask("GET", "/stats/acme/support", [("CALLSTATS-PROBE", "1")])[0] == 401


def test_other_paths_are_not_served(server):
    for path in ("/", "/statsboard", "/stats.html"):
        status, headers, body = server.ask("GET", path)
        assert (status, headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert json.loads(body)["error"] == "Not found."
    assert ROOT_TOKEN not in server.logs()


def test_no_token_reaches_a_log(server):
    for request in (REFUSED | UNREADABLE).values():
        server.raw(request.encode("latin-1"), timeout=2)
    referer = [("Referer", f"http://x/?token={TOKEN}")]
    assert server.ask("GET", f"/stats/acme/last?token={ROOT_TOKEN}", referer)[0] == 404
    if server.logs_folder == "haproxy":
        wait_until(lambda: '"GET /stats/acme/last" 404' in server.logs())
        for cut in ("&", "%3F", "%253F"):
            assert f'"GET /stats/acme/support{cut}[token]" 401' in server.logs(), server.logs()
    assert TOKEN not in server.logs() and ROOT_TOKEN not in server.logs()


def test_errors_of_haproxy_have_the_documented_form(replay_worker, start):
    server = start(HAProxy, replay_worker.socket)
    expected = {"path with a broken escape": (400, errors.MALFORMED), "referer": (400, errors.MALFORMED),
                "two hosts": (401, None), "another path": (404, None), "TRACE": (405, errors.METHOD)}
    unparsed = set()
    for name, request in (REFUSED | UNREADABLE).items():
        answer = server.raw(request.encode("latin-1"), timeout=2)
        if not answer:
            assert name == "large body", name
            continue
        if answer.startswith(b"HTTP/1.1 400 Bad request\r\nContent-length: 90\r\n"):
            unparsed.add(name)  # HAProxy's own, which has one text
            continue
        status, headers, body = parse(answer)
        error = check_form(status, headers, body)
        if name in expected:
            wanted, text = expected.pop(name)
            assert status == wanted and text in (None, error), name
    assert expected == {}, "each of these was answered"
    assert unparsed <= {"CONNECT with a path", "long URL", "long query", "long header", "long authorization",
                        "unknown transfer encoding", "bad length", "bad header", *UNREADABLE}


@pytest.mark.parametrize("kind", [HAProxy, Caddy], ids=lambda kind: kind.__name__)
def test_unreachable_worker_is_503(kind, start):
    server = start(kind, "/nowhere/socket")
    status, headers, body = server.ask("GET", f"{DAY_WITHOUT_TOKEN}&token={TOKEN}")
    assert (status, headers["retry-after"], json.loads(body)) == (503, "1", UNAVAILABLE)
    check_form(status, headers, body)
    if kind is HAProxy:
        wait_until(lambda: '"GET /stats/acme/support/Billing" 503' in server.logs())
    assert TOKEN not in server.logs()
