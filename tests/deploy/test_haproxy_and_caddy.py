"""The examples for HAProxy and Caddy as they are, in Debian's packages."""
import json

import pytest

from ..support.sample import DAY_WITHOUT_TOKEN
from ..support.webservers import Caddy, HAProxy
from ..support.worker import ROOT_TOKEN
from .errors import TOKEN, UNAVAILABLE

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


@pytest.mark.parametrize("kind", [HAProxy, Caddy], ids=lambda kind: kind.__name__)
def test_unreachable_worker_is_503(kind, start):
    server = start(kind, "/nowhere/socket")
    status, headers, body = server.ask("GET", f"{DAY_WITHOUT_TOKEN}&token={TOKEN}")
    assert (status, headers["retry-after"], json.loads(body)) == (503, "1", UNAVAILABLE)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert TOKEN not in server.logs()
