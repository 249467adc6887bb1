"""Hosts that hang, refuse, vanish and return."""

import concurrent.futures
import contextlib
import re
import socket
import subprocess
import time

import pytest

from ..support import fastcgi
from ..support.postgres import Cluster, Replica
from ..support.processes import CALLSTATS, Folder, as_user, free_port, wait_until
from ..support.sample import BILLING, DATA, DAY
from ..support.worker import Worker, cgi, check


class Silent:
    """Listens and never accepts: a hung server. TCP unless it gets a folder."""

    def __init__(self, folder=None):
        self.socket = socket.socket(socket.AF_UNIX if folder else socket.AF_INET)
        self.socket.bind(str(folder / ".s.PGSQL.5432") if folder else ("127.0.0.1", 0))
        self.socket.listen(50)
        self.port = 5432 if folder else self.socket.getsockname()[1]

    def stop(self):
        self.socket.close()


def timed(function):
    began = time.monotonic()
    return function(), time.monotonic() - began


@pytest.mark.parametrize("kind", [pytest.param("TCP", marks=pytest.mark.slow), "Unix"])
def test_host_after_a_silent_one_is_used(kind, replay_database, start):
    folder = Folder("silent")
    if kind == "Unix":
        folder.path.chmod(0o777)
    silent = start(Silent, folder if kind == "Unix" else None)
    if kind == "Unix":
        (folder / ".s.PGSQL.5432").chmod(0o777)
    host, port = (folder.path, 5432) if kind == "Unix" else ("127.0.0.1", silent.port)
    good = replay_database.cluster
    hosts = f"host={host},{good.folder.path} port={port},{good.port}"
    url = f"{hosts} dbname={replay_database.name} user=callstats_worker connect_timeout=2"
    worker = start(Worker, url)
    wait_until(lambda: worker.ask("GET", DAY).status == 200, 5)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: worker.ask("GET", DAY), range(16)))
    assert {answer.body for answer in answers} == {BILLING}, "the silent host costs its time once"
    environment = {"DATABASE_URL": url, "CALLSTATS_ROOT_TOKEN_FILE": str(worker.root_token_file)}
    (_, text), seconds = timed(lambda: check(environment))
    assert "PostgreSQL" in text and seconds < 10
    folder.remove()


@pytest.mark.parametrize("kind", ["TCP", pytest.param("Unix", marks=pytest.mark.slow)])
def test_silent_host_is_reported_in_time(kind, replay_database, start):
    folder = Folder("silent")
    folder.path.chmod(0o777)
    silent = start(Silent, folder if kind == "Unix" else None)
    host = folder.path if kind == "Unix" else "127.0.0.1"
    if kind == "Unix":
        (folder / ".s.PGSQL.5432").chmod(0o777)
    url = f"host={host} port={silent.port} dbname={replay_database.name} user=callstats_worker connect_timeout=2"
    worker = start(Worker, url, CALLSTATS_DB_WAIT_MS="1000")
    for _ in range(3):
        answer, seconds = timed(lambda: worker.ask("GET", DAY))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1") and seconds < 2
    assert "database connections were busy" not in worker.text()
    assert re.search(rf"(no connection to|cannot connect to) the database at {re.escape(str(host))}", worker.text())
    threads = worker.threads()
    environment = {"DATABASE_URL": url, "CALLSTATS_ROOT_TOKEN_FILE": str(worker.root_token_file)}
    (code, text), seconds = timed(lambda: check(environment))
    assert code == 1 and "did not reply within 2000 ms" in text and seconds < 5
    (status, _, log), seconds = timed(lambda: cgi(url, worker.folder, DAY))
    assert status == 503 and seconds < 5, log
    assert worker.threads() <= threads + 1
    silent.stop()
    folder.remove()


def test_probe_of_a_hung_database_answers_within_a_second(start, replay_database):
    silent = start(Silent)
    worker = start(Worker, f"host=127.0.0.1 port={silent.port} user=callstats_worker")
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request({"REQUEST_METHOD": "GET", "CALLSTATS_PROBE": "1"}))
        answer, seconds = timed(connection.receive)
    assert answer.status == 503 and seconds < 1.5


def logins(cluster):
    return (cluster.folder / "log").read_text(errors="replace").count("FATAL")


@pytest.fixture
def own_database():
    """In a cluster of its own, whose settings the test changes."""
    cluster = Cluster()
    database = cluster.database()
    database.script(DATA)
    yield database
    cluster.remove()


@pytest.mark.slow
def test_refused_logins_are_retried_with_growing_pauses_and_logged_once(own_database, start):
    (own_database.cluster.data / "pg_hba.conf").write_text("local all owner trust\nlocal all all scram-sha-256\n")
    own_database.cluster.execute(
        "set password_encryption = 'scram-sha-256';"
        "alter role callstats_worker password 'right'; select pg_reload_conf()"
    )
    password = Folder("password")
    path = password.write("password", "wrong\n")
    worker = start(
        Worker, own_database.url, CALLSTATS_DATABASE_PASSWORD_FILE=str(path), CALLSTATS_DB_WAIT_MS="300"
    )
    began = time.monotonic()
    while time.monotonic() - began < 5:
        answer = worker.ask("GET", DAY)
        assert answer.status == 503
    assert "28P01" in worker.text()
    assert logins(own_database.cluster) <= 8
    assert worker.text().count("; retrying") == 1
    password.write("password", "right\n")
    wait_until(lambda: worker.ask("GET", DAY).status == 200, 2, "another password is tried at once")
    password.remove()


def test_no_login_is_attempted_while_good_connections_are_idle(own_database, start):
    own_database.cluster.execute("alter role callstats_worker connection limit 2")
    worker = start(Worker, own_database.url)
    with concurrent.futures.ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda _: worker.ask("GET", DAY), range(24)))
    assert {answer.status for answer in answers} == {200}
    last = {"count": -1, "changed": 0.0}

    def is_quiet():
        count = logins(own_database.cluster)
        if count != last["count"]:
            last.update(count=count, changed=time.monotonic())
        return time.monotonic() - last["changed"] > 2

    wait_until(is_quiet, 15, "no login for two seconds")


def test_connections_have_a_lifetime(replay_database, start):
    # Other workers of the tests use the same database.
    url = f"{replay_database.url} application_name=short-lived"
    worker = start(Worker, url, CALLSTATS_DB_LIFETIME_MS="300", CALLSTATS_DB_CONNECTIONS="1")

    def backend():
        assert worker.ask("GET", DAY).body == BILLING
        rows = replay_database.query("select pid from pg_stat_activity where application_name = 'short-lived'")
        return {pid for (pid,) in rows}

    first = backend()
    wait_until(lambda: not first & backend(), 15)


@pytest.fixture(scope="module")
def pair():
    primary = Cluster(["wal_level=replica", "max_wal_senders=4"])
    database = primary.database()
    database.script(DATA)
    replica = Replica(primary)
    with contextlib.closing(replica.connect("postgres")):
        yield primary, replica, database
    replica.remove()
    primary.remove()


@pytest.mark.parametrize("target", ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"])
def test_target_session_attrs_choose_as_in_psql(target, pair, start):
    primary, replica, database = pair
    environment = {"CALLSTATS_ROOT_TOKEN_FILE": "/dev/null"}
    for first, second in [(primary, replica), (replica, primary), (primary, primary), (replica, replica)]:
        url = (
            f"host={first.folder.path},{second.folder.path} dbname={database.name} user=callstats_worker "
            f"target_session_attrs={target}"
        )
        shown = subprocess.run(
            ["psql", "-X", "-At", "-d", url, "-c", r"\echo :HOST"],
            capture_output=True,
            text=True,
            timeout=20,
            **as_user(),
        )
        _, text = check({"DATABASE_URL": url, **environment})
        if shown.returncode:
            assert "FAIL   database" in text, url
        else:
            assert f"{shown.stdout.strip()}/.s.PGSQL.5432 directly" in text, f"{url}\n{text}"
    hosts = f"host={primary.folder.path},{replica.folder.path}"
    url = f"{hosts} dbname={database.name} user=callstats_worker target_session_attrs={target}"
    assert start(Worker, url).ask("GET", DAY).body == BILLING


@pytest.mark.parametrize(
    "options, timer", [("", r"[0-4]\.?\d*(sec|ms)"), ("keepalives_idle=3600", r"(59|60)min"), ("keepalives=0", None)]
)
def test_keepalives_of_the_operator_win(options, timer, start):
    cluster = Cluster(["listen_addresses=127.0.0.1"], port=free_port())
    try:
        database = cluster.database()
        database.script(DATA)
        url = f"host=127.0.0.1 port={cluster.port} dbname={database.name} user=callstats_worker {options}"
        worker = Worker(url)
        assert worker.ask("GET", DAY).body == BILLING

        def connections():
            command = ["ss", "-Htno", "state", "established", "dport", f"= :{cluster.port}"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

        def are_as_wanted():
            lines = connections()
            if timer is None:
                return lines and not any("timer:" in line for line in lines)
            return lines and all(re.search(rf"keepalive,{timer}", line) for line in lines)

        wait_until(are_as_wanted)
        worker.stop()
        wait_until(lambda: not connections())
        # The operator's commands as well: one that waits for a lock.
        with contextlib.closing(cluster.connect(database.name)) as other:
            other.autocommit = False
            other.cursor().execute("lock table callstats.company in access exclusive mode")
            url = url.replace("callstats_worker", "owner")
            command = [CALLSTATS, "tenant", "list", "--database", url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **as_user()) as listing:
                wait_until(are_as_wanted)
                other.rollback()
                assert "acme" in listing.communicate(timeout=20)[0]
    finally:
        cluster.remove()
