"""A database that stops, stalls, refuses and fails: made for real, and what a client sees of it."""
import contextlib
import dataclasses
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from ..support import fastcgi
from ..support.postgres import Cluster
from ..support.processes import Folder, free_port, wait_until
from ..support.sample import ALL_DAYS, BILLING, DATA, DAY
from ..support.webservers import Nginx
from ..support.worker import Worker


@pytest.fixture(scope="module")
def frail():
    """A cluster that may be stopped."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def frail_database(frail):
    database = frail.database()
    database.script(DATA)
    return database


@contextlib.contextmanager
def asked(worker, uri=DAY):
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", uri)))
        yield connection


def many_at_once(worker, count=8):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(asked(worker)) for _ in range(count)]
        return [connection.receive() for connection in connections]


@pytest.mark.slow
def test_requests_end_in_time_while_the_server_is_stopped(frail, frail_database, start):
    worker = start(Worker, frail_database.url)
    seen, over = [], threading.Event()

    def load():
        while not over.is_set():
            began = time.monotonic()
            answer = worker.ask("GET", DAY)
            seen.append((began, time.monotonic(), answer))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(seen) > 100)
    frail_database.connection.close()
    stopping = time.monotonic()
    frail.stop()
    stopped = time.monotonic()
    over.wait(10)
    returning = time.monotonic()
    frail.start()
    returned = time.monotonic()
    wait_until(lambda: seen[-1][2].status == 200, 2)
    over.wait(1)
    over.set()
    for thread in threads:
        thread.join()

    assert {(answer.status, answer.body) for _, ended, answer in seen if ended < stopping} == {(200, BILLING)}
    away = [(ended - began, answer) for began, ended, answer in seen if began > stopped and ended < returning]
    assert {(answer.status, answer.headers["retry-after"]) for _, answer in away} == {(503, "1")}
    longest = max(seconds for seconds, _ in away)
    back = min(ended for _, ended, answer in seen if ended > returning and answer.status == 200)
    late = [answer.status for began, _, answer in seen if began > returned + 1 and answer.status != 200]
    print(f"{len(away)} answers while stopped, the slowest after {longest:.2f} s; "
          f"200 again {max(0, back - returned):.2f} s after PostgreSQL was back")
    assert longest < 2.5 and late == [] and back - returned < 1
    assert worker.text().count("; retrying. Hint:") < 5, "logged when it changes, not for each try"
    assert "the database is available again" in worker.text()


def test_connections_that_died_while_idle_cost_nothing(frail, frail_database, start):
    worker = start(Worker, frail_database.url)
    assert {answer.status for answer in many_at_once(worker)} == {200}
    frail_database.connection.close()
    frail.stop()
    frail.start()
    assert {answer.status for answer in many_at_once(worker)} == {200}
    frail.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'callstats_worker'")
    assert {answer.status for answer in many_at_once(worker)} == {200}
    assert " 503 " not in worker.text()


def test_connection_that_dies_under_a_request_is_replaced(gated, start):
    """Terminated in the middle of the statement, before its first row: retried once."""
    worker = start(Worker, gated.url)
    with asked(worker) as connection:
        victim = wait_until(lambda: gated.query("""select pid from pg_stat_activity where datname = current_database()
            and wait_event_type = 'Lock' and usename = 'callstats_worker'"""))[0][0]
        gated.query("select pg_terminate_backend(%s)", victim)
        gated.open()
        answer = connection.receive()
    assert (answer.status, answer.body) == (200, BILLING)


def test_waiting_for_a_connection_is_bounded(gated, start):
    worker = start(Worker, gated.url, CALLSTATS_DB_CONNECTIONS="1", CALLSTATS_DB_WAIT_MS="300")
    with asked(worker) as first:
        gated.wait_for_statement()
        began = time.monotonic()
        for method, uri, status in [("GET", "/stats/acme/support", 401), ("POST", DAY, 405), ("GET", "/stats", 404)]:
            assert worker.ask(method, uri).status == status
        unhindered = time.monotonic() - began
        began = time.monotonic()
        answer = worker.ask("GET", DAY)
        waited = time.monotonic() - began
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert unhindered < 0.3 <= waited < 1
        assert "all 1 database connections were busy for 300 ms. Hint: raise CALLSTATS_DB_CONNECTIONS" in worker.text()
        gated.open()
        assert first.receive().body == BILLING


def test_statement_timeout_is_a_503(gated, start):
    worker = start(Worker, gated.url, CALLSTATS_STATEMENT_TIMEOUT_MS="300")
    answer = worker.ask("GET", DAY)
    assert answer.status == 503 and "retry-after" not in answer.headers
    assert json.loads(answer.body)["error"] == "The query took too long."
    assert "raise CALLSTATS_STATEMENT_TIMEOUT_MS" in worker.text()
    gated.open()
    assert worker.ask("GET", DAY).body == BILLING


def test_table_locked_by_a_migration_is_a_503(sample_database, start):
    worker = start(Worker, sample_database.url, CALLSTATS_STATEMENT_TIMEOUT_MS="300")
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.closing(sample_database.cluster.connect(sample_database.name)) as migration:
        migration.autocommit = False
        with migration.cursor() as cursor:
            cursor.execute("lock table callstats.call in access exclusive mode")
        answer = worker.ask("GET", DAY)
        assert answer.status == 503 and "retry-after" not in answer.headers
        assert "lock" in worker.text()
    assert worker.ask("GET", DAY).body == BILLING


def test_failure_before_the_first_byte_is_an_error_response(failing, start):
    failing.fail_after(20)
    worker = start(Worker, failing.url)
    answer = worker.ask("GET", ALL_DAYS)
    assert (answer.status, answer.app_status) == (500, 0)
    assert b"secret" not in answer.body and "could not read block 7" in worker.text() and "58030" in worker.text()
    failing.fail_after(100_000)
    assert len(json.loads(worker.ask("GET", ALL_DAYS).body)) > 30_000


def test_failure_after_the_first_byte_truncates_the_response(failing, start):
    worker = start(Worker, failing.url)
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", ALL_DAYS), keep=True))
        answer = connection.receive()
        assert answer.status == 200 and answer.app_status is None
        assert connection.is_closed()
    assert len(answer.body) > 100_000
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    assert "could not read block 7" in worker.text()
    server = start(Nginx, worker.socket)
    with pytest.raises(http.client.IncompleteRead):
        server.ask("GET", ALL_DAYS)
    failing.fail_after(100_000)
    assert worker.ask("GET", ALL_DAYS).body.endswith(b"]")


def is_active(database):
    return database.query("""select 1 from pg_stat_activity where usename = 'callstats_worker' and state = 'active'
        and datname = current_database()""")


@pytest.mark.parametrize("way", ["FastCGI", "nginx"])
def test_query_does_not_outlive_its_client(way, failing, start):
    failing.query("""create or replace function callstats.read_day(n int) returns int language plpgsql stable as
        $$ begin if n > 2000 then perform pg_sleep(0.001); end if; return 1000; end $$""")
    worker = start(Worker, failing.url)
    if way == "nginx":
        server = start(Nginx, worker.socket)
        connection = server.connect()
        connection.sendall(f"GET {ALL_DAYS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(worker.socket)
        connection.sendall(fastcgi.request(fastcgi.parameters("GET", ALL_DAYS)))
    assert connection.recv(100)
    assert is_active(failing)
    connection.close()
    began = time.monotonic()
    wait_until(lambda: not is_active(failing), 5)
    print(f"{way}: cancelled {time.monotonic() - began:.2f} s after the client was gone")
    assert time.monotonic() - began < 1
    wait_until(lambda: "client disconnected" in worker.text())
    assert " WARN " not in worker.text()


@pytest.fixture(scope="module")
def authority():
    """Certificates: of an authority, of a server named localhost, and of an authority that signed nothing."""
    folder = Folder("tls")

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder.path)

    for name in ("authority", "stranger"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"
    )
    folder.write("names", "subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", "server.pem")
    for name in ("server.key", "server.pem", "authority.pem", "stranger.pem"):
        folder.write(name, (folder / name).read_bytes())
    yield folder
    folder.remove()


@dataclasses.dataclass
class Encrypted:
    """A cluster that listens on a port with TLS, and the URL of a database there."""
    cluster: Cluster
    url: str


@pytest.fixture(scope="module")
def encrypted(authority):
    cluster = Cluster(["listen_addresses=localhost", "ssl=on", f"ssl_cert_file={authority / 'server.pem'}",
                       f"ssl_key_file={authority / 'server.key'}"], port=free_port())
    # Over the network only with TLS.
    (cluster.data / "pg_hba.conf").write_text("local all all trust\nhostssl all all localhost trust\n")
    cluster.execute("select pg_reload_conf()")
    database = cluster.database()
    database.script(DATA)
    yield Encrypted(cluster, f"host=localhost port={cluster.port} dbname={database.name} user=callstats_worker")
    cluster.remove()


def test_connection_with_a_verified_certificate_is_encrypted(encrypted, authority, start):
    worker = start(Worker, f"{encrypted.url} sslmode=require sslrootcert={authority / 'authority.pem'}")
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.closing(encrypted.cluster.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'callstats_worker'"
        )
        assert cursor.fetchone() == (True,)


@pytest.mark.parametrize("options, words", [
    ("sslmode=require sslrootcert={stranger}", "certificate verify failed"),
    ("sslmode=verify-full sslrootcert=system", "certificate verify failed"),
    ("sslmode=verify-full sslrootcert={authority} host=127.0.0.1", "not valid for the name of the host"),
    ("sslmode=disable", "no encryption"),
], ids=["another CA", "the CA certificates of the system", "another name", "unencrypted"])
def test_wrong_certificate_is_refused(options, words, encrypted, authority, start):
    options = options.format(stranger=authority / "stranger.pem", authority=authority / "authority.pem")
    url = encrypted.url.replace("host=localhost ", "") if "host=" in options else encrypted.url
    worker = start(Worker, f"{url} {options}")
    assert worker.ask("GET", DAY).status == 503
    wait_until(lambda: words in worker.text())


def test_second_host_is_used_while_the_first_is_down(cluster, replay_database, start):
    worker = start(
        Worker,
        replay_database.url.replace("host=", "host=/nowhere,127.0.0.1,").replace(
            "port=5432", f"port=5432,{free_port()},5432"
        ),
    )
    assert worker.ask("GET", DAY).body == BILLING


def test_wait_for_a_stalled_server_is_bounded(frail, frail_database, start):
    """Stopped by a signal: the kernel still accepts connections, and nobody answers on them. All requests
    get their answer in time, the one whose statement is with the server, too, and nothing is left of it afterwards."""
    worker = start(Worker, frail_database.url, CALLSTATS_DB_CONNECTIONS="1", CALLSTATS_DB_WAIT_MS="300")
    assert worker.ask("GET", DAY).body == BILLING
    pids = [frail.process.pid, *(pid for (pid,) in frail_database.query("select pid from pg_stat_activity"))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            waiting = {connection.socket: connection for connection in (
                stack.enter_context(asked(worker)) for _ in range(6))}
            began = time.monotonic()
            while waiting:  # the one that has the connection is the last
                if len(waiting) == 1:
                    assert time.monotonic() - began < 2
                ready, _, _ = select.select(list(waiting), [], [], 10)
                assert ready, "all are answered"
                for answered in ready:
                    assert waiting.pop(answered).receive().status == 503
            assert time.monotonic() - began < 4
            assert "no reply within 1000 ms" in worker.text()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: worker.ask("GET", DAY).body == BILLING)
