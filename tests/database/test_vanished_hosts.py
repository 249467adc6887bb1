"""Hosts that vanish without a word, as a machine that loses its power, and come back; in networks of their own."""

import concurrent.futures
import contextlib
import dataclasses
import re
import subprocess
import time

import pytest

from ..support import fastcgi
from ..support.network import Host, Network
from ..support.postgres import Cluster, Database
from ..support.processes import CALLSTATS, as_user, wait_until
from ..support.sample import BILLING, DATA, DAY, Gated
from ..support.worker import Worker, cgi, check

QUICK = "connect_timeout=1 tcp_user_timeout=2000 keepalives_idle=1 keepalives_interval=1 keepalives_count=1"


@dataclasses.dataclass
class Far:
    """A database that is reached through a network; its tests still reach it by its Unix socket."""

    network: Network
    host: Host
    database: Database
    gated: Gated

    def url(self, options="", name="calls"):
        return f"host={self.host.address} dbname={name} user=callstats_worker {options}"

    def worker(self, start, url, **environment):
        with self.network.entered():
            return start(Worker, url, **environment)


@pytest.fixture(scope="module")
def far():
    network = Network()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(network.stop)
        host = network.host()
        with host.entered():
            cluster = Cluster(["listen_addresses=*"], name="far")
        cleanup.callback(cluster.remove)
        (cluster.data / "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")
        cluster.execute("select pg_reload_conf()")
        database = cluster.database("calls")
        database.script(DATA)
        gated = cluster.database("gated", kind=Gated)
        gated.install()
        yield Far(network, host, database, gated)


@pytest.fixture
def vanishing(far):
    """The host, which is there again after the test."""
    with contextlib.ExitStack() as cleanup:

        def vanish():
            far.host.vanishes()
            cleanup.callback(far.host.returns)

        yield vanish, cleanup.close


def answers_of_all_connections(worker):
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        return {answer.body for answer in threads.map(lambda _: worker.ask("GET", DAY), range(200))}


def use_all_connections(worker):
    assert answers_of_all_connections(worker) == {BILLING}, worker.text()


def timed(function):
    began = time.monotonic()
    return function(), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("options, limit", [("", 15), (QUICK, 8)])
def test_next_host_answers_within_the_timeouts_of_the_operator(options, limit, far, vanishing, replay_database, start):
    """By default ten seconds. Until then a request has its answer in time, and one at a time is the worst case: each
    finds another connection that is dead."""
    vanish, _ = vanishing
    near = replay_database.cluster
    hosts = f"host={far.host.address},{near.folder.path} port=5432,{near.port}"
    worker = far.worker(start, f"{hosts} dbname={replay_database.name} user=callstats_worker {options}")
    use_all_connections(worker)
    vanish()
    began = time.monotonic()
    while True:
        answer, seconds = timed(lambda: worker.ask("GET", DAY))
        assert seconds < 4, worker.text()
        if answer.status == 200:
            break
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.body == BILLING and time.monotonic() - began < limit, worker.text()
    # Connections that were idle all the time can still be dead.
    wait_until(lambda: answers_of_all_connections(worker) == {BILLING}, limit)


@pytest.mark.slow
def test_only_host_is_reported_and_used_again_when_it_returns(far, vanishing, start):
    vanish, come_back = vanishing
    worker = far.worker(start, far.url())
    use_all_connections(worker)
    threads = worker.threads()
    vanish()
    for _ in range(8):
        answer, seconds = timed(lambda: worker.ask("GET", DAY))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1") and seconds < 4
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request({"REQUEST_METHOD": "GET", "CALLSTATS_PROBE": "1"}))
        answer, seconds = timed(connection.receive)
    assert answer.status == 503 and seconds < 2
    reasons = re.findall(r"the database does not reply|(?:cannot connect|no connection) to the database", worker.text())
    assert len(reasons) >= 8 and "were busy" not in worker.text(), worker.text()
    with far.network.entered():
        (status, _, log), seconds = timed(lambda: cgi(far.url(), worker.folder, DAY))
        assert status == 503 and "did not reply within 2000 ms" in log and seconds < 5, log
        (code, text), seconds = timed(lambda: check(worker.environment))
        assert code == 1 and "did not reply within 2000 ms" in text and seconds < 8, text
    come_back()
    began = time.monotonic()
    wait_until(lambda: worker.ask("GET", DAY).status == 200, 15)
    assert time.monotonic() - began < 2, worker.text()
    use_all_connections(worker)
    wait_until(lambda: worker.threads() <= threads, what="the threads end that waited for the host")


@pytest.mark.slow
def test_requests_in_flight_of_a_vanished_host_are_answered(far, vanishing, start):
    vanish, come_back = vanishing
    far.gated.close()
    worker = far.worker(start, far.url(name="gated"))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        requests = [threads.submit(timed, lambda: worker.ask("GET", DAY)) for _ in range(4)]
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
        wait_until(lambda: len(far.gated.query(waiting)) == 4, what="all of them wait at the gate")
        vanish()
        for request in requests:
            answer, seconds = request.result(60)
            assert answer.status == 503 and seconds < 20, worker.text()
    come_back()
    far.gated.open()
    wait_until(lambda: worker.ask("GET", DAY).body == BILLING, 15)


@pytest.fixture(scope="module")
def near(cluster):
    """The second host: its database has the name of the one with the gate, and no gate."""
    database = cluster.database("gated")
    database.script(DATA)
    yield database
    database.drop()


@pytest.mark.slow
@pytest.mark.parametrize("options, limit", [("", 15), (QUICK, 8)])
def test_requests_in_flight_of_a_vanished_host_are_answered_by_the_next(options, limit, far, near, vanishing, start):
    """Nothing of the answers was sent yet. What waits for rows has the timeouts of the operator."""
    vanish, _ = vanishing
    far.gated.close()
    hosts = f"host={far.host.address},{near.cluster.folder.path} port=5432,{near.cluster.port}"
    worker = far.worker(start, f"{hosts} dbname=gated user=callstats_worker {options}", CALLSTATS_DB_CONNECTIONS="16")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        requests = [threads.submit(timed, lambda: worker.ask("GET", DAY)) for _ in range(4)]
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
        wait_until(lambda: len(far.gated.query(waiting)) == 4, what="all of them wait at the gate")
        vanish()
        for request in requests:
            answer, seconds = request.result(60)
            assert answer.body == BILLING and seconds < limit, worker.text()
    assert worker.ask("GET", DAY).body == BILLING, worker.text()


def test_link_local_address_is_reached_by_its_interface(far, start):
    """By the worker in every spelling; a command explains that it cannot."""
    url = f"host={far.host.link_local}%near1 dbname=calls user=callstats_worker connect_timeout=2"
    worker = far.worker(start, url)
    wait_until(lambda: worker.ask("GET", DAY).status == 200, what="the interface has its own address")
    by_hostaddr = url.replace("host=", "hostaddr=")
    in_uri = f"postgresql://callstats_worker@[{far.host.link_local}%25near1]/calls"
    with far.network.entered():
        for spelling in (url, by_hostaddr, in_uri):
            assert cgi(spelling, worker.folder, DAY)[1] == BILLING
            _, text = check({**worker.environment, "DATABASE_URL": spelling})
            command = [CALLSTATS, "tenant", "list", "--database", spelling.replace("callstats_worker", "owner")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, **as_user())
            assert done.returncode == 1
            for explained in (text, done.stderr):
                assert "is a link-local address, which only the worker can use" in explained, explained
                assert "give this command another address of the database server" in explained
