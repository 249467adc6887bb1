"""deploy/lighttpd as it is, in Debian's stock lighttpd, beside other paths and sites."""
import json

import pytest

from ..support.processes import wait_until
from ..support.sample import BILLING, DAY
from ..support.webservers import Lighttpd
from ..support.worker import ROOT_TOKEN
from . import errors
from .errors import REFUSED, TOKEN, UNREADABLE, check_form, parse

PATHS = {"/": "index.html", "/stats.html": "stats.html", "/statsboard/": "statsboard/index.html"}


class Beside(Lighttpd):
    """With Debian's access log, and other paths."""

    def prepare(self):
        super().prepare()
        for name in PATHS.values():
            self.machine.write(f"/var/www/html/{name}", f"other's {name}")
        self.machine.run("lighty-enable-mod accesslog")

    def type(self, *commands, **place):
        super().type(*(command for command in commands if "#alone#" not in command), **place)


@pytest.fixture(scope="module", params=[Lighttpd, Beside], ids=lambda kind: kind.__name__)
def lighttpd(request, replay_worker):
    server = request.param(replay_worker.environment)
    yield server
    server.stop()


def test_refused_requests_get_the_documented_form(lighttpd):
    expected = {"long URL": (431, errors.TOO_LARGE), "long header": (431, errors.TOO_LARGE),
                "bad length": (400, errors.MALFORMED)}
    for name, request in REFUSED.items():
        answer = lighttpd.raw(request.encode("latin-1"), timeout=3)
        if not answer.startswith(b"HTTP/") or name in ("another path", "a path that begins alike", "above the root"):
            continue
        status, headers, body = parse(answer)
        assert status >= 400, name
        if isinstance(lighttpd, Beside) and body.startswith(b"<?xml"):
            continue  # the whole server's
        if status in (400, 405, 431, 501, 505):  # nothing but the page can be had where no path was read
            error = json.loads(body)
        else:
            error = check_form(status, headers, body)
        if name in expected:
            assert (status, error) == expected.pop(name), name
    assert expected == {} or isinstance(lighttpd, Beside), "each of these was answered"
    for request in UNREADABLE.values():
        answer = lighttpd.raw(request.encode(), timeout=3)
        if answer.startswith(b"HTTP/") and not isinstance(lighttpd, Beside):
            assert json.loads(parse(answer)[2])["error"]
    wait_until(lambda: '"GET [token]" 401' in lighttpd.logs(), what="the access log is written")
    assert TOKEN not in lighttpd.machine.path("/var/log/lighttpd/callstats.log").read_text()
    if not isinstance(lighttpd, Beside):
        assert TOKEN not in lighttpd.logs()


def test_other_paths_stay_as_they_are(replay_worker, start):
    server = start(Beside, replay_worker.environment)
    assert server.ask("GET", DAY)[0] == 200
    for path, name in PATHS.items():
        status, headers, body = server.ask("GET", path)
        assert (status, body) == (200, f"other's {name}".encode())
        assert not {"content-security-policy", "cache-control", "x-content-type-options"} & set(headers)
    status, headers, body = server.ask("GET", "/none")
    assert status == 404 and body.startswith(b"<?xml")
    wait_until(lambda: "/statsboard/" in server.machine.path("/var/log/lighttpd/access.log").read_text())
    assert ROOT_TOKEN not in server.logs()


def test_escaped_slash_belongs_to_a_name(lighttpd):
    status, _, body = lighttpd.ask("GET", f"/stats/acme/support/no%2Fsuch?token={ROOT_TOKEN}")
    assert status == 404 and b"no/such" in body


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_probe_answers_local_addresses(lighttpd, host):
    with lighttpd.machine.connect(80, host, host=host) as connection:
        connection.sendall(b"GET /callstats-probe HTTP/1.0\r\nHost: stats.example\r\n\r\n")
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ") and json.loads(body)["database"]["up"] is True


def test_probe_refuses_other_addresses(lighttpd):
    lighttpd.machine.run("ip address replace 192.0.2.1/32 dev lo")
    with lighttpd.machine.connect(80, "192.0.2.1", host="192.0.2.1") as connection:
        connection.sendall(b"GET /callstats-probe HTTP/1.0\r\nHost: stats.example\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status, headers, body = parse(answer)
    assert status == 404 and check_form(status, headers, body)["error"] == "Not found."


class Rewriting(Lighttpd):
    """With an older address of the API at another host."""

    def prepare(self):
        super().prepare()
        self.machine.write("/etc/lighttpd/conf-available/60-old.conf", r"""
            server.modules += ( "mod_rewrite" )
            $HTTP["host"] == "old.example" {
                url.rewrite-once = ( "^/api/v1/(.*)$" => "/stats/$1" )
                fastcgi.server = ( "/stats/" => ((
                    "socket" => "/run/lighttpd/old.sock",
                    "bin-path" => "/usr/bin/callstats",
                    "bin-environment" => (
                        "DATABASE_URL" => "host=/var/run/postgresql dbname=calls user=callstats_worker",
                        "CALLSTATS_ROOT_TOKEN_FILE" => "/etc/callstats/root-token",
                        "CALLSTATS_PATH_SOURCE" => "path-info",
                    ),
                    "max-procs" => 1,
                    "check-local" => "disable",
                )))
            }""")
        self.machine.run("lighty-enable-mod old")


def test_rewritten_addresses_are_answered_by_their_new_path(replay_worker, start):
    server = start(Rewriting, replay_worker.environment)
    old = [("Host", "old.example")]
    status, _, body = server.ask("GET", DAY.replace("/stats/", "/api/v1/"), old)
    assert (status, body) == (200, BILLING)
    status, _, body = server.ask("GET", f"/api/v1/acme/support/no%20such%25?token={ROOT_TOKEN}", old)
    assert status == 404 and b"no such%" in body
    assert server.ask("GET", DAY)[2] == BILLING


def test_worker_that_cannot_start_is_503(replay_worker, start):
    class WithoutWorker(Lighttpd):
        def start(self):
            super().start()
            wait_until(lambda: list(self.machine.path("/run/lighttpd").glob("callstats.sock*")))
            for path in self.machine.path("/run/lighttpd").glob("callstats.sock*"):
                path.unlink()

    server = start(WithoutWorker, replay_worker.environment)
    status, headers, body = server.ask("GET", f"/stats/acme/support?token={TOKEN}")
    assert status == 503
    assert check_form(status, headers, body) == errors.UNAVAILABLE
    assert TOKEN not in server.logs()
