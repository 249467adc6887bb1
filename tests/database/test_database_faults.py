"""A database that stops, stalls, refuses and fails: made for real, and what a client sees of it."""
import contextlib
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
from ..support.processes import PROJECT, Folder, free_port, wait_until
from ..support.webservers import Nginx
from ..support.worker import ROOT_TOKEN, Worker

DAY = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20260303"
BILLING = b'[{"date":"20260303","folder":"Billing","calls":1,"avg_duration_seconds":1}]'


@pytest.fixture(scope="module")
def frail():
    """A cluster that may be stopped."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def frail_database(frail):
    database = frail.database()
    database.script(PROJECT / "tests" / "replay" / "data.sql")
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
        wait_until(lambda: gated.query("select 1 from pg_locks where locktype = 'advisory' and not granted"))
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


def test_table_locked_by_a_migration_is_a_503(database, start):
    database.script(PROJECT / "tests" / "replay" / "data.sql")
    worker = start(Worker, database.url, CALLSTATS_STATEMENT_TIMEOUT_MS="300")
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.closing(database.cluster.connect(database.name)) as migration:
        migration.autocommit = False
        with migration.cursor() as cursor:
            cursor.execute("lock table callstats.call in access exclusive mode")
        answer = worker.ask("GET", DAY)
        assert answer.status == 503 and "retry-after" not in answer.headers
        assert "lock" in worker.text()
    assert worker.ask("GET", DAY).body == BILLING


@pytest.fixture
def failing(one_folder):
    """Rows that end in an error, as a bad sector of a disk does; `after` sets after how many days."""
    database = one_folder
    database.query("""
        create table callstats.fault (after int);
        insert into callstats.fault values (0);
        create function callstats.read_day(n int) returns int language plpgsql stable security definer as $$
        begin
            if n >= (select after from callstats.fault) then
                raise exception 'could not read block 7 in file "base/1/2": secret detail' using errcode = 'io_error';
            end if;
            return 1000;
        end $$;
        create view callstats.call_source as select 1 as organization_id, date '2000-01-01' + n as call_date, 1 as folder_id,
            null::text as agent_id, 1 as calls, callstats.read_day(n) as duration_ms from generate_series(0, 50000) n;
        grant select on callstats.call_source to callstats_worker""")
    database.after = lambda days: database.query("update callstats.fault set after = %s", days)
    # Rows come one after the other only where nothing sorts them: the statement groups in the order it is given.
    for option in ("hashagg", "seqscan", "bitmapscan"):  # as the planner decides for a large table
        database.query(f"alter database {database.name} set enable_{option} = off")
    return database


ALL = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20000101-21001231"


def streaming(database):
    """A table behind the view, with an index in group order, and the failing function on top: rows stream."""
    database.query("""
        drop view callstats.call_source;
        create table callstats.day (organization_id int, call_date date, folder_id int, agent_id text collate "C", n int);
        insert into callstats.day select 1, date '2000-01-01' + n, 1, null, n from generate_series(0, 50000) n;
        create index on callstats.day (organization_id, call_date, folder_id, agent_id) include (n);
        analyze callstats.day;
        create view callstats.call_source as select organization_id, call_date, folder_id, agent_id, 1 as calls,
            callstats.read_day(n) as duration_ms from callstats.day;
        grant select on callstats.call_source to callstats_worker""")


def test_failure_before_the_first_byte_is_an_error_response(failing, start):
    streaming(failing)
    failing.after(20)
    worker = start(Worker, failing.url)
    answer = worker.ask("GET", ALL)
    assert (answer.status, answer.app_status) == (500, 0)
    assert b"secret" not in answer.body and "could not read block 7" in worker.text() and "58030" in worker.text()
    failing.after(100_000)
    assert len(json.loads(worker.ask("GET", ALL).body)) > 30_000


def test_failure_after_the_first_byte_truncates_the_response(failing, start):
    streaming(failing)
    failing.after(30_000)
    worker = start(Worker, failing.url)
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", ALL), keep=True))
        answer = connection.receive()
        assert answer.status == 200 and answer.app_status is None
        assert connection.is_closed()
    assert len(answer.body) > 100_000
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    assert "could not read block 7" in worker.text()
    server = start(Nginx, worker.socket)
    with pytest.raises(http.client.IncompleteRead):
        server.ask("GET", ALL)
    failing.after(100_000)
    assert worker.ask("GET", ALL).body.endswith(b"]")


def is_active(database):
    return database.query("""select 1 from pg_stat_activity where usename = 'callstats_worker' and state = 'active'
        and datname = current_database()""")


@pytest.mark.parametrize("way", ["FastCGI", "nginx"])
def test_query_does_not_outlive_its_client(way, failing, start):
    streaming(failing)
    failing.query("""create or replace function callstats.read_day(n int) returns int language plpgsql stable as
        $$ begin if n > 2000 then perform pg_sleep(0.001); end if; return 1000; end $$""")
    worker = start(Worker, failing.url)
    if way == "nginx":
        server = start(Nginx, worker.socket)
        connection = server.connect()
        connection.sendall(f"GET {ALL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(worker.socket)
        connection.sendall(fastcgi.request(fastcgi.parameters("GET", ALL)))
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
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    folder.write("names", "subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", "server.pem")
    for name in ("server.key", "server.pem", "authority.pem", "stranger.pem"):
        folder.write(name, (folder / name).read_bytes())
    yield folder
    folder.remove()


@pytest.fixture(scope="module")
def encrypted(authority):
    """A cluster that listens on a port and speaks TLS."""
    cluster = Cluster(["listen_addresses=localhost", "ssl=on", f"ssl_cert_file={authority / 'server.pem'}",
                       f"ssl_key_file={authority / 'server.key'}"], port=free_port())
    # Over the network only with TLS.
    (cluster.data / "pg_hba.conf").write_text("local all all trust\nhostssl all all localhost trust\n")
    cluster.execute("select pg_reload_conf()")
    database = cluster.database()
    database.script(PROJECT / "tests" / "replay" / "data.sql")
    cluster.tls_url = f"host=localhost port={cluster.port} dbname={database.name} user=callstats_worker"
    yield cluster
    cluster.remove()


def test_connection_with_a_verified_certificate_is_encrypted(encrypted, authority, start):
    worker = start(Worker, f"{encrypted.tls_url} sslmode=require sslrootcert={authority / 'authority.pem'}")
    assert worker.ask("GET", DAY).body == BILLING
    with contextlib.closing(encrypted.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute("select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'callstats_worker'")
        assert cursor.fetchone() == (True,)


@pytest.mark.parametrize("options, words", [
    ("sslmode=require sslrootcert={stranger}", "certificate verify failed"),
    ("sslmode=verify-full sslrootcert=system", "certificate verify failed"),
    ("sslmode=verify-full sslrootcert={authority} host=127.0.0.1", "not valid for the name of the host"),
    ("sslmode=disable", "no encryption"),
], ids=["another authority", "the authorities of the system", "another name", "in the clear"])
def test_wrong_certificate_is_refused(options, words, encrypted, authority, start):
    options = options.format(stranger=authority / "stranger.pem", authority=authority / "authority.pem")
    url = encrypted.tls_url.replace("host=localhost ", "") if "host=" in options else encrypted.tls_url
    worker = start(Worker, f"{url} {options}")
    assert worker.ask("GET", DAY).status == 503
    wait_until(lambda: words in worker.text())


def test_second_host_is_used_while_the_first_is_down(cluster, replay_database, start):
    worker = start(Worker, replay_database.url.replace("host=", "host=/nowhere,127.0.0.1,").replace("port=5432", f"port=5432,{free_port()},5432"))
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
