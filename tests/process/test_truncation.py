"""An answer that fails after its first byte is truncated for everybody who reads it, and no cache keeps it."""
import subprocess

import pytest

from ..support import fastcgi
from ..support.processes import Folder
from ..support.webservers import Apache, ApacheCgid, ApacheFcgid, LighttpdProxy, Nginx
from ..support.worker import ROOT_TOKEN, TcpWorker, Worker

ALL = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20000101-21001231"

# Of the exit codes of curl: a transfer is shorter than announced, or its HTTP/2 stream was reset.
PARTIAL, STREAM_ERROR = 18, 92


@pytest.fixture
def failing(one_folder):
    """Rows stream in the order of an index and end in an error, as a bad sector of a disk makes them."""
    database = one_folder
    database.query("""
        create table callstats.day (organization_id int, call_date date, folder_id int, agent_id text collate "C", n int);
        insert into callstats.day select 1, date '2000-01-01' + n, 1, null, n from generate_series(0, 50000) n;
        create index on callstats.day (organization_id, call_date, folder_id, agent_id) include (n);
        analyze callstats.day;
        create table callstats.fault (after int);
        insert into callstats.fault values (30000);
        create function callstats.read_day(n int) returns int language plpgsql stable security definer as $$
        begin
            if n >= (select after from callstats.fault) then
                raise exception 'could not read block 7' using errcode = 'io_error';
            end if;
            return 1000;
        end $$;
        create view callstats.call_source as select organization_id, call_date, folder_id, agent_id, 1 as calls,
            callstats.read_day(n) as duration_ms from callstats.day;
        grant select on callstats.call_source to callstats_worker""")
    database.query(f"alter database {database.name} set enable_hashagg = off")
    return database


class CachingNginx(Nginx):
    """With the lines of the cache in."""

    def site(self):
        return super().site().replace("#cache# ", "").replace("/var/cache/nginx/callstats", str(self.folder / "cache"))


def nginx(*changes):
    return lambda socket: Nginx(socket, changes)


def curl(url, *options):
    """The exit code of curl, the HTTP status, and the body."""
    folder = Folder("curl")
    try:
        done = subprocess.run(["curl", "-q", "--noproxy", "*", "-sS", "--max-time", "30", "-o", str(folder / "body"),
                               "-w", "%{http_code}", *options, url], capture_output=True, text=True)
        return done.returncode, done.stdout, (folder / "body").read_bytes()
    finally:
        folder.remove()


def test_the_connection_ends_without_end_request(failing, start):
    """FastCGI 1.0, section 5.5: FCGI_END_REQUEST would say that the answer is complete."""
    worker = start(Worker, failing.url)
    for keep in (False, True):
        with fastcgi.Connection(worker.socket) as connection:
            connection.send(fastcgi.request(fastcgi.parameters("GET", ALL), keep=keep))
            answer = connection.receive()
            assert answer.status == 200 and len(answer.body) > 100_000
            assert answer.app_status is None and connection.is_closed()
    assert worker.text().count("could not read block 7") == 2


SEES_IT = {
    "nginx": nginx(),
    "nginx, gzip": nginx(("server_name stats.example;", "server_name stats.example; gzip on;")),
    "nginx, cache": CachingNginx,
    "Apache, mod_proxy_fcgi": Apache,
    "lighttpd, server.stream-response-body = 1": LighttpdProxy,
}


@pytest.mark.parametrize("way", SEES_IT)
def test_a_client_sees_a_truncated_answer(way, failing, start):
    worker = start(Worker, failing.url)
    server = start(SEES_IT[way], worker.socket)
    options = ["--compressed"] if "gzip" in way else []
    for times in (1, 2):
        code, status, body = curl(server.url + ALL, *options)
        print(f"{way}: curl ends with {code}, {len(body)} bytes")
        assert (code, status) == (PARTIAL, "200") and len(body) > 100_000
        assert worker.text().count("could not read block 7") == times, "it came from the worker, not from a cache"
    # The very same address, once the fault is repaired: nothing of the truncated answer is left anywhere.
    failing.query("update callstats.fault set after = 100000")
    code, status, body = curl(server.url + ALL, *options)
    assert (code, status) == (0, "200") and body.endswith(b"]")


def test_a_client_of_http2_sees_a_truncated_answer(failing, start):
    worker = start(Worker, failing.url)
    server = start(Http2Nginx, worker.socket)
    code, status, body = curl(server.url + ALL, "--http2-prior-knowledge")
    print(f"HTTP/2: curl ends with {code}")
    assert (code, status) == (STREAM_ERROR, "200") and len(body) > 100_000


class Http2Nginx(Nginx):
    """Unencrypted HTTP/2."""

    def site(self):
        return super().site().replace(f"listen 127.0.0.1:{self.port};", f"listen 127.0.0.1:{self.port} http2;")


NOT_KEPT = ("fastcgi_keep_conn on;", "fastcgi_keep_conn off;"), ("keepalive 16;", "")
HIDES_IT = {
    "nginx, connections not kept": nginx(*NOT_KEPT),
    "nginx, cache, connections not kept": lambda socket: CachingNginx(socket, NOT_KEPT),
    "nginx, unbuffered": nginx(("fastcgi_keep_conn on;", "fastcgi_keep_conn on; fastcgi_buffering off;")),
}


@pytest.mark.parametrize("way", HIDES_IT)
def test_where_nginx_hides_it_the_answer_is_no_json(way, failing, start):
    """nginx looks for FCGI_END_REQUEST only where it keeps connections and buffers, as nginx.conf.example does."""
    worker = start(Worker, failing.url)
    server = start(HIDES_IT[way], worker.socket)
    code, status, body = curl(server.url + ALL)
    assert (code, status) == (0, "200") and len(body) > 100_000 and not body.endswith(b"]")


def test_over_tcp_nginx_sees_it_where_connections_are_not_kept(failing, start):
    """There the worker can reset the connection."""
    worker = start(TcpWorker, failing.url)
    server = start(nginx(*NOT_KEPT, ("unix:TCP", f"127.0.0.1:{worker.port}")), "TCP")
    code, status, _ = curl(server.url + ALL)
    assert code != 0 or status == "503"


@pytest.mark.parametrize("kind", [ApacheFcgid, ApacheCgid])
def test_where_the_web_server_hides_it_the_answer_is_no_json(kind, failing, start):
    """mod_fcgid and mod_cgid end such an answer as a complete one: docs say so, and a reader of JSON notices."""
    worker = start(Worker, failing.url)
    server = start(kind, worker.environment)
    code, status, body = curl(server.url + ALL)
    print(f"{kind.__name__}: curl ends with {code}")
    assert status == "200" and len(body) > 100_000 and not body.endswith(b"]")


def test_with_http_1_0_the_answer_is_no_json(failing, start):
    """HTTP/1.0 has no other end than that of the connection."""
    worker = start(Worker, failing.url)
    server = start(Nginx, worker.socket)
    code, status, body = curl(server.url + ALL, "--http1.0")
    print(f"HTTP/1.0: curl ends with {code}")
    assert status == "200" and not body.endswith(b"]")
