"""An answer that fails after its first byte is truncated for everybody who reads it, and no cache keeps it."""
import subprocess

import pytest

from ..support import fastcgi
from ..support.postgres import Cluster
from ..support.processes import Folder
from ..support.sample import ALL_DAYS, Failing
from ..support.webservers import Apache, ApacheCgid, ApacheFcgid, InFrontOfWorker, Lighttpd, Nginx, WebServer
from ..support.worker import TcpWorker, Worker

# Of the exit codes of curl: a transfer is shorter than announced, or its HTTP/2 stream was reset.
PARTIAL, STREAM_ERROR = 18, 92


@pytest.fixture
def failing_calls():
    """The same in a database of the name that the shipped files have, for web servers that start the worker."""
    cluster = Cluster()
    database = cluster.database("calls", kind=Failing)
    database.install(30_000)
    yield database
    cluster.remove()


class CachingNginx(Nginx):
    """With the cache switched on, as nginx.conf.example says."""

    def start(self):
        super().start()
        self.switch_on_cache()


class OwnNginx(InFrontOfWorker, WebServer):
    """nginx with a configuration that is no file of ours."""
    logs_folder, listen, upstream, options = "nginx", "80", "unix:/run/callstats/callstats.sock", ""

    def prepare(self):
        super().prepare()
        self.machine.run("rm /etc/nginx/sites-enabled/default")
        self.machine.write("/etc/nginx/conf.d/own.conf", f"""
            fastcgi_cache_path /var/lib/nginx/own keys_zone=own:1m;
            upstream worker {{ server {self.upstream}; keepalive 16; }}
            server {{
                listen {self.listen};
                include fastcgi_params;
                location / {{ fastcgi_pass worker; {self.options} }}
            }}""")

    def start(self):
        self.machine.run("nginx")


class Http2Nginx(OwnNginx):
    """Unencrypted HTTP/2."""
    listen, options = "80 http2", "fastcgi_keep_conn on;"


class NotKeptNginx(OwnNginx):
    pass


class CachingNotKeptNginx(OwnNginx):
    options = "fastcgi_cache own; fastcgi_cache_key $request_uri; fastcgi_cache_valid 200 1m;"


class UnbufferedNginx(OwnNginx):
    options = "fastcgi_keep_conn on; fastcgi_buffering off;"


def curl(url, *options):
    """The exit code of curl, the HTTP status, and the body."""
    folder = Folder("curl")
    try:
        done = subprocess.run(["curl", "-q", "--noproxy", "*", "-sS", "--max-time", "30", "-o", str(folder / "body"),
                               "-w", "%{http_code}", *options, url], capture_output=True, text=True)
        return done.returncode, done.stdout, (folder / "body").read_bytes()
    finally:
        folder.remove()


def test_connection_ends_without_end_request(failing, start):
    """FastCGI 1.0, section 5.5: FCGI_END_REQUEST would say that the answer is complete."""
    worker = start(Worker, failing.url)
    for keep in (False, True):
        with fastcgi.Connection(worker.socket) as connection:
            connection.send(fastcgi.request(fastcgi.parameters("GET", ALL_DAYS), keep=keep))
            answer = connection.receive()
            assert answer.status == 200 and len(answer.body) > 100_000
            assert answer.app_status is None and connection.is_closed()
    assert worker.text().count("could not read block 7") == 2


SEES_IT = {
    "nginx": Nginx,
    "nginx, gzip": Nginx,  # Debian's nginx.conf switches it on
    "nginx, cache": CachingNginx,
    "Apache, mod_proxy_fcgi": Apache,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", SEES_IT)
def test_client_sees_a_truncated_answer(way, failing, start):
    worker = start(Worker, failing.url)
    server = start(SEES_IT[way], worker.socket)
    options = ["--compressed"] if "gzip" in way else []
    if options:
        assert server.ask("HEAD", ALL_DAYS, [("Accept-Encoding", "gzip")])[1]["content-encoding"] == "gzip"
    for times in (1, 2):
        code, status, body = curl(server.url + ALL_DAYS, *options)
        print(f"{way}: curl ends with {code}, {len(body)} bytes")
        assert (code, status) == (PARTIAL, "200") and len(body) > 100_000
        assert worker.text().count("could not read block 7") == times, "it came from the worker, not from a cache"
    # The very same address, once the fault is repaired: nothing of the truncated answer is left anywhere.
    failing.fail_after(100_000)
    code, status, body = curl(server.url + ALL_DAYS, *options)
    assert (code, status) == (0, "200") and body.endswith(b"]")


def test_client_of_http2_sees_a_truncated_answer(failing, start):
    worker = start(Worker, failing.url)
    server = start(Http2Nginx, worker.socket)
    code, status, body = curl(server.url + ALL_DAYS, "--http2-prior-knowledge")
    print(f"HTTP/2: curl ends with {code}")
    assert (code, status) == (STREAM_ERROR, "200") and len(body) > 100_000


HIDES_IT = {
    "nginx, connections not kept": NotKeptNginx,
    "nginx, cache, connections not kept": CachingNotKeptNginx,
    "nginx, unbuffered": UnbufferedNginx,
}


@pytest.mark.parametrize("way", HIDES_IT)
def test_truncation_hidden_by_nginx_is_not_json(way, failing, start):
    """nginx looks for FCGI_END_REQUEST only where it keeps connections and buffers, as nginx.conf.example does."""
    worker = start(Worker, failing.url)
    server = start(HIDES_IT[way], worker.socket)
    code, status, body = curl(server.url + ALL_DAYS)
    assert (code, status) == (0, "200") and len(body) > 100_000 and not body.endswith(b"]")


def test_lighttpd_shows_a_truncated_answer(failing_calls, start):
    """With server.stream-response-body = 1, as deploy/lighttpd/callstats.conf has it."""
    worker = start(Worker, failing_calls.url)
    server = start(Lighttpd, worker.environment)
    code, status, body = curl(server.url + ALL_DAYS)
    assert (code, status) == (PARTIAL, "200") and len(body) > 100_000


@pytest.mark.parametrize("kind", [ApacheFcgid, ApacheCgid])
def test_truncation_hidden_by_a_web_server_is_not_json(kind, failing_calls, start):
    """mod_fcgid and mod_cgid end such an answer as a complete one: the documentation has it, and a parser notices."""
    worker = start(Worker, failing_calls.url)
    server = start(kind, worker.environment)
    code, status, body = curl(server.url + ALL_DAYS)
    print(f"{kind.__name__}: curl ends with {code}")
    assert status == "200" and len(body) > 100_000 and not body.endswith(b"]")


@pytest.mark.parametrize("keep", [False, True])
def test_tcp_connection_is_reset(keep, failing, start):
    """So that also a web server that waits for the end of the connection alone sees it."""
    worker = start(TcpWorker, failing.url)
    with fastcgi.Connection(("127.0.0.1", worker.port)) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", ALL_DAYS), keep=keep))
        with pytest.raises(ConnectionResetError):
            while connection.socket.recv(65536):
                pass


def test_truncation_over_http_1_0_is_not_json(failing, start):
    """HTTP/1.0 has no other end than that of the connection."""
    worker = start(Worker, failing.url)
    server = start(Nginx, worker.socket)
    code, status, body = curl(server.url + ALL_DAYS, "--http1.0")
    print(f"HTTP/1.0: curl ends with {code}")
    assert status == "200" and not body.endswith(b"]")
