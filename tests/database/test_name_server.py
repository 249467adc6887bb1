"""A name server that does not answer: what waits for it ends in time, and knows why."""

import contextlib
import dataclasses
import time

import pytest

from ..support import fastcgi
from ..support.names import MuteNameServer
from ..support.postgres import Cluster, Database
from ..support.processes import Folder, wait_until
from ..support.sample import BILLING, DATA, DAY
from ..support.worker import Worker, cgi, check

REASON = "cannot connect to the database at db.example port 5432: the name server did not reply within"


@dataclasses.dataclass
class Named:
    """A database behind a name, which its worker asks of the name server."""

    names: MuteNameServer
    database: Database

    def url(self, options=""):
        return f"host=db.example dbname=calls user=callstats_worker {options}"

    def worker(self, start, url, **environment):
        return self.names.run(lambda: start(Worker, url, **environment))


@pytest.fixture
def named():
    folder = Folder("names")
    folder.path.chmod(0o755)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(folder.remove)
        names = MuteNameServer(folder)
        cleanup.callback(names.stop)
        cluster = names.run(lambda: Cluster(["listen_addresses=127.0.0.1"], name="named"))
        cleanup.callback(cluster.remove)
        database = cluster.database("calls")
        database.script(DATA)
        yield Named(names, database)


def timed(function):
    began = time.monotonic()
    return function(), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("options, limit", [("", 2000), ("connect_timeout=1", 1000)])
def test_name_server_that_does_not_answer_is_named_in_time(options, limit, named, start):
    worker = named.worker(start, named.url(options))
    for _ in range(4):
        answer, seconds = timed(lambda: worker.ask("GET", DAY))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1") and seconds < 3
    wait_until(lambda: f"{REASON} {limit} ms" in worker.text())
    assert "were busy" not in worker.text()
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request({"REQUEST_METHOD": "GET", "CALLSTATS_PROBE": "1"}))
        answer, seconds = timed(connection.receive)
    assert answer.status == 503 and seconds < 1.5
    (status, _, log), seconds = timed(lambda: named.names.run(lambda: cgi(named.url(options), worker.folder, DAY)))
    assert status == 503 and f"{REASON} {limit} ms" in log and seconds < 4, log
    (code, text), seconds = timed(lambda: named.names.run(lambda: check(worker.environment)))
    assert code == 1 and f"{REASON} {limit} ms" in text and seconds < 4, text


@pytest.mark.slow
def test_name_is_known_soon_after_the_name_server_recovered(named, start):
    """Not only when the resolver of the system asks again, five seconds later."""
    worker = named.worker(start, named.url())
    threads = worker.threads()
    began = time.monotonic()
    most = 0
    while time.monotonic() - began < 11.5:  # the resolver of the system gave up after ten seconds, and has asked again
        assert worker.ask("GET", DAY).status == 503
        most = max(most, worker.threads())
    assert most <= threads + 9, "a bound for those that wait for the name server"
    named.names.speaks.set()
    _, seconds = timed(lambda: wait_until(lambda: worker.ask("GET", DAY).status == 200, 15))
    assert seconds < 2, worker.text()
    assert worker.ask("GET", DAY).body == BILLING
    wait_until(lambda: worker.threads() <= threads + 1, 30, "those that waited in vain end")


@pytest.mark.slow
def test_next_host_answers_while_the_name_server_does_not(named, start):
    cluster = named.database.cluster
    url = f"host=db.example,{cluster.folder.path} dbname=calls user=callstats_worker"
    worker = named.worker(start, url)
    _, seconds = timed(lambda: wait_until(lambda: worker.ask("GET", DAY).status == 200))
    assert seconds < 3
    for _ in range(20):
        answer, seconds = timed(lambda: worker.ask("GET", DAY))
        assert answer.body == BILLING and seconds < 1.5
    (status, body, log), seconds = timed(lambda: named.names.run(lambda: cgi(url, worker.folder, DAY)))
    assert (status, body) == (200, BILLING) and seconds < 3, log
    (_, text), seconds = timed(lambda: named.names.run(lambda: check(worker.environment)))
    assert "ok     database" in text and seconds < 4, text


@pytest.mark.slow
def test_worker_ends_while_the_name_server_does_not_answer(named, start):
    worker = named.worker(start, named.url())
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", DAY)))
        wait_until(lambda: "name server did not reply" in worker.text())
        code, seconds = timed(lambda: worker.process.stop())
        assert code == 0 and seconds < 4, worker.text()
        assert connection.receive().status == 503


def test_address_spares_the_name_server(named, start):
    worker = named.worker(start, named.url("hostaddr=127.0.0.1"))
    assert worker.ask("GET", DAY).body == BILLING
