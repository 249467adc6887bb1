"""The examples for HAProxy and Caddy as they are, in Debian's packages."""
import json
import os

import pytest

from ..support.processes import PROJECT
from ..support.sample import DAY_WITHOUT_TOKEN
from ..support.webservers import InFrontOfWorker, WebServer, commands
from ..support.worker import ROOT_TOKEN
from .errors import TOKEN, UNAVAILABLE

BEARER = [("Authorization", f"Bearer {ROOT_TOKEN}")]


class HAProxy(InFrontOfWorker, WebServer):
    """With the folder of the socket instead of a link: the chroot sees no link's target outside of it."""
    logs_folder, file = "haproxy", PROJECT / "deploy" / "haproxy" / "callstats.cfg"

    def prepare(self):
        super().prepare()
        folder, name = os.path.split(self.socket)
        if os.path.isdir(folder):
            self.machine.run(["mount", "--bind", folder, "/run/callstats"])
            self.machine.run(["ln", "-sf", name, "/run/callstats/callstats.sock"])
        self.type(*commands(self.file))

    def start(self):
        options = self.machine.run(". /etc/default/haproxy; echo $EXTRAOPTS").split()
        self.machine.run("mkdir -p /run/haproxy")
        self.machine.run(["haproxy", "-D", "-f", "/etc/haproxy/haproxy.cfg", *options])


class Caddy(InFrontOfWorker, WebServer):
    logs_folder, file = "caddy", PROJECT / "deploy" / "caddy" / "Caddyfile"

    def prepare(self):
        super().prepare()
        self.type(*commands(self.file))

    def start(self):
        self.machine.run("mkdir -p /var/log/caddy && chown caddy /var/log/caddy")
        self.machine.run("sysctl -q -w net.ipv4.ip_unprivileged_port_start=0")
        self.machine.run("runuser -u caddy -- sh -c 'HOME=/var/lib/caddy exec caddy run --config /etc/caddy/Caddyfile "
                         "--adapter caddyfile' >/var/log/caddy/caddy.log 2>&1 &")


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
