"""nginx.conf.example as it is, in Debian's stock nginx."""
import concurrent.futures
import os
import socket
import threading

import pytest

from ..support import fastcgi
from ..support.processes import Folder, wait_until
from ..support.sample import BILLING, DAY
from ..support.webservers import Nginx, NginxCgi
from ..support.worker import ROOT_TOKEN, Worker
from . import errors
from .errors import PATIENCE, REFUSED, TOKEN, UNREADABLE, check_form, parse


class BesideDefault(Nginx):
    """Debian's default site stays, and another site has a /stats of its own."""

    def prepare(self):
        super().prepare()
        self.machine.run("ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default")
        self.machine.write("/etc/nginx/sites-enabled/other", """server { listen 80; server_name other.example;
            root /srv/other; location / { index index.html; } }""")
        for name in ("index.html", "stats/index.html", "stats.html", "statsboard/index.html"):
            self.machine.write(f"/srv/other/{name}", f"other's {name}")


@pytest.fixture(scope="module")
def nginx(replay_worker):
    server = Nginx(replay_worker.socket)
    yield server
    server.stop()


# The others depend on the version of nginx.
EXPECTED = {"TRACE": (405, errors.METHOD), "CONNECT with a path": (405, errors.METHOD),
            "CONNECT": (400, errors.MALFORMED), "long URL": (414, errors.TOO_LARGE),
            "long query": (414, errors.TOO_LARGE), "long header": (431, errors.TOO_LARGE),
            "long authorization": (431, errors.TOO_LARGE), "large body": (413, errors.BODY),
            "path with a broken escape": (400, errors.MALFORMED)}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_request_gets_the_documented_form(nginx, name):
    status, headers, body = parse(nginx.raw(REFUSED[name].encode("latin-1"), PATIENCE.get(name, 10)))
    assert status >= 400
    error = check_form(status, headers, body)
    if name in EXPECTED:
        assert (status, error) == EXPECTED[name]


def test_expected_forms_are_those_of_refused_requests():
    assert EXPECTED.keys() < REFUSED.keys()


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_request_gets_the_documented_form(nginx, name):
    answer = nginx.raw(UNREADABLE[name].encode())
    if answer.startswith(b"HTTP/"):
        assert check_form(*parse(answer)) == errors.MALFORMED


def test_no_token_reaches_a_log(nginx):
    for name, request in {**REFUSED, **UNREADABLE}.items():
        nginx.raw(request.encode("latin-1"), PATIENCE.get(name, 10))
    assert nginx.ask("GET", DAY)[0] == 200
    nginx.ask("GET", f"/callstats-probe?token={TOKEN}")
    nginx.ask("GET", "/callstats-probe", [("Referer", f"http://x/?token={TOKEN}")])
    wait_until(lambda: '"GET /stats/acme/support/Billing" 200 ' in nginx.logs(), 10, "the access log is flushed")
    logs = nginx.logs()
    assert TOKEN not in logs and ROOT_TOKEN not in logs
    assert '"GET /stats/acme/support&token=[token]" 401' in logs
    assert '"GET /stats/acme/support%3F%54oken%3D[token]" 401' in logs
    assert '"GET /stats/acme/support%253Ftoken%253D[token]" 401' in logs


@pytest.mark.parametrize("kind", ["missing", "denied", "silent"])
def test_unreachable_worker_is_503_and_explained(kind, start):
    folder = Folder("away")
    path = str(folder / "socket")
    if kind == "missing":
        server = start(Nginx, "/nowhere/socket")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        server = start(Nginx, path)
        if kind == "denied":
            os.chmod(path, 0o600)
        else:
            listener.close()
    for _ in range(2):
        status, headers, body = server.ask("GET", f"/stats/acme/support?token={TOKEN}")
        assert status == 503 and headers["retry-after"] == "1"
        assert check_form(status, headers, body) == errors.UNAVAILABLE
    assert server.ask("GET", "/callstats-probe")[0] == 503
    cause = {"missing": "(2: No such file or directory)", "denied": "(13: Permission denied)",
             "silent": "(111: Connection refused)"}[kind]
    wait_until(lambda: '"GET /stats/acme/support" 503' in server.logs(), 10)
    assert f"/run/callstats/callstats.sock failed {cause}" in server.logs()
    assert '"unix:/run/callstats/callstats.sock" 502' in server.logs()
    assert TOKEN not in server.logs()
    folder.remove()


def test_other_sites_stay_as_they_are(replay_worker, start):
    server = start(BesideDefault, replay_worker.socket)
    assert server.ask("GET", DAY)[0] == 200
    for path, name in (("/", "index.html"), ("/stats/", "stats/index.html"), ("/stats.html", "stats.html"),
                       ("/statsboard/", "statsboard/index.html")):
        status, headers, body = server.ask("GET", path, [("Host", "other.example")])
        assert (status, body) == (200, f"other's {name}".encode())
        assert not {"content-security-policy", "cache-control", "x-content-type-options"} & set(headers)
    status, headers, body = server.ask("GET", "/none", [("Host", "other.example")])
    assert status == 404 and b"<html>" in body
    assert TOKEN not in server.logs() and ROOT_TOKEN not in server.logs()


class Rewriting(Nginx):
    """An older address of the API is rewritten to that of the service."""

    def prepare(self):
        super().prepare()
        self.machine.write("/etc/nginx/sites-enabled/old", r"""server { listen 80; server_name old.example;
            location /api/v1/ { rewrite ^/api/v1/(.*)$ /stats/$1 break; include fastcgi_params;
                                fastcgi_pass unix:/run/callstats/callstats.sock; } }""")


@pytest.mark.parametrize("source, status, body", [("path-info", 200, BILLING), ("request-uri", 404, None)])
def test_rewritten_addresses_are_answered_by_their_new_path(source, status, body, replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_PATH_SOURCE=source)
    server = start(Rewriting, worker.socket)
    got = server.ask("GET", DAY.replace("/stats/", "/api/v1/"), [("Host", "old.example")])
    assert got[0] == status and body in (None, got[2])
    assert server.ask("GET", DAY)[2] == BILLING


class RewritingCgi(NginxCgi):
    """The same in front of fcgiwrap, which takes the executable from SCRIPT_FILENAME."""

    def prepare(self):
        super().prepare()
        self.machine.write("/etc/nginx/sites-enabled/old", r"""server { listen 80; server_name old.example;
            location /api/v1/ { rewrite ^/api/v1/(.*)$ /stats/$1 break; include fastcgi_params;
                                fastcgi_param SCRIPT_FILENAME /usr/bin/callstats;
                                fastcgi_pass unix:/run/callstats/callstats.sock; } }""")


@pytest.mark.parametrize("source, status, body", [("path-info", 200, BILLING), ("request-uri", 404, None)])
def test_rewritten_addresses_are_answered_by_their_new_path_as_cgi(source, status, body, replay_worker, start):
    server = start(RewritingCgi, {**replay_worker.environment, "CALLSTATS_PATH_SOURCE": source})
    old = [("Host", "old.example")]
    for path in (DAY, DAY.replace("Billing", "B%69lling")):
        got = server.ask("GET", path.replace("/stats/", "/api/v1/"), old)
        assert got[0] == status and body in (None, got[2]), got
    bearer = [*old, ("Authorization", f"Bearer {ROOT_TOKEN}")]
    got = server.ask("GET", "/api/v1/acme/support/no%20such%25", bearer)
    assert got[0] == 404 and (status != 200 or b"no such%" in got[2])
    assert server.ask("GET", DAY)[2] == BILLING


class Gate:
    """A FastCGI application that answers on request."""

    def __init__(self):
        self.folder = Folder("gate")
        self.socket = str(self.folder / "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen(512)
        self.waiting, self.open = [], threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.waiting.append(connection)
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            connection.recv(65536)
            self.open.wait(60)
            connection.sendall(fastcgi.stream(fastcgi.STDOUT, b"Content-Type: text/html\r\n\r\n[]", 1)
                               + fastcgi.record(fastcgi.END_REQUEST, bytes(8), 1))

    def stop(self):
        self.open.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.folder.remove()


def test_requests_in_flight_are_limited_by_token_and_address(start):
    gate = start(Gate)
    server = start(Nginx, gate.socket)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        def ask(token, source="127.0.0.1"):
            return pool.submit(server.ask, "GET", f"/stats/a/b?token={token}{TOKEN}", source=source)

        first = [ask("one") for _ in range(64)]
        wait_until(lambda: sum(one.done() for one in first) == 32)
        second = [ask("two") for _ in range(8)]
        elsewhere = [ask("one", "127.0.0.2") for _ in range(8)]
        wait_until(lambda: len(gate.waiting) == 48, what="those that are not limited are at the worker")
        gate.open.set()
        answers = [one.result() for one in first]
        assert sorted(status for status, _, _ in answers) == [200] * 32 + [429] * 32
        for status, headers, body in answers:
            if status == 429:
                assert check_form(status, headers, body) == errors.TOO_MANY and headers["retry-after"] == "1"
        assert {one.result()[0] for one in [*second, *elsewhere]} == {200}


def test_cache_works_in_stock_debian(replay_worker, start):
    server = start(Nginx, replay_worker.socket)
    before = replay_worker.text().count("/Billing 200 ")
    server.switch_on_cache()

    def cached():
        server.ask("GET", DAY)
        count = replay_worker.text().count("/Billing 200 ")
        assert server.ask("GET", DAY)[0] == 200
        return replay_worker.text().count("/Billing 200 ") == count
    wait_until(cached)
    assert replay_worker.text().count("/Billing 200 ") > before
    assert server.ask("GET", "/stats/acme/support/Billing?daterange=20260303")[0] == 401
    owner = server.machine.run("stat -c '%U %a' /var/cache/callstats").split()
    assert owner == ["www-data", "700"]
