"""SIGTERM, SIGHUP, and restarts that lose nothing."""
import collections
import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from ..support import fastcgi
from ..support.processes import CALLSTATS, Folder, Process, wait_until
from ..support.sample import BILLING, DAY
from ..support.webservers import Nginx
from ..support.worker import Worker

RESTARTS = 50


@pytest.fixture
def slow(gated, start):
    return start(Worker, gated.url)


def test_requests_in_flight_are_finished(gated, slow):
    with fastcgi.Connection(slow.socket) as connection, fastcgi.Connection(slow.socket) as idle:
        assert idle.ask("GET", "/stats", keep=True).status == 404
        connection.send(fastcgi.request(fastcgi.parameters("GET", DAY), keep=True))
        gated.wait_for_statement()
        slow.process.kill()
        gated.open()
        answer = connection.receive()
        assert (answer.status, answer.body, answer.app_status) == (200, BILLING, 0)
        assert connection.is_closed() and idle.is_closed()
    assert slow.process.wait() == 0
    assert "stopped" in slow.text()


def test_drain_ends_at_its_timeout(gated, start):
    hasty = start(Worker, gated.url, CALLSTATS_DRAIN_MS="100")
    with fastcgi.Connection(hasty.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", DAY)))
        gated.wait_for_statement()
        hasty.process.kill()
        assert hasty.process.wait() == 0
        assert connection.receive_streams()[2] is None
    assert "dropped 1 unfinished requests after 100 ms" in hasty.text()


def test_second_sigterm_ends_immediately(gated, slow):
    with fastcgi.Connection(slow.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", DAY)))
        gated.wait_for_statement()
        slow.process.kill()
        with fastcgi.Connection(slow.socket) as idle:  # served while it drains, or not accepted any more
            idle.close()
        wait_until(lambda: slow.process.kill() or slow.process.popen.poll() is not None, 1)
        assert slow.process.wait() == 1


def test_sighup_rereads_the_root_token_file(replay_database, start):
    worker = start(Worker, replay_database.url)
    worker.folder.write("root-token", "another")
    worker.process.kill(signal.SIGHUP)
    wait_until(lambda: "reloaded the root token file" in worker.text())
    assert worker.get(DAY, "another").status == 400  # the old one is still in the query
    worker.root_token_file.unlink()
    for times in (1, 2):
        worker.process.kill(signal.SIGHUP)
        wait_until(lambda times=times: worker.text().count("cannot read the root token file") == times)
    assert worker.ask("GET", DAY).status == 401


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_sigint_and_sigusr1_stop_the_worker(number, replay_database, start):
    """SIGUSR1 is what multiwatch and others send."""
    worker = start(Worker, replay_database.url)
    worker.process.kill(number)
    assert worker.process.wait() == 0


def test_sigpipe_does_not_kill(replay_database, start):
    worker = start(Worker, replay_database.url)
    worker.process.kill(signal.SIGPIPE)
    assert worker.ask("GET", DAY).body == BILLING


class Parent:
    """Holds the listening socket and starts the worker again whenever it ends, as systemd does."""

    def __init__(self, environment):
        self.folder = Folder("parent")
        self.socket, self.log = str(self.folder / "socket"), self.folder / "log"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        os.chmod(self.socket, 0o666)
        self.listener.listen(512)
        self.environment, self.codes = environment, []
        self.worker = self.spawn()

    def spawn(self):
        return Process([CALLSTATS], self.log, stdin=self.listener, **self.environment)

    def restart(self):
        self.worker.kill()
        self.codes.append(self.worker.wait())
        self.worker = self.spawn()

    def text(self):
        return self.log.read_text()

    def stop(self):
        self.worker.stop()
        self.listener.close()
        self.folder.remove()


class Multiwatch(Parent):
    """multiwatch under spawn-fcgi, as operations teams without systemd have it."""

    def __init__(self, environment):
        self.folder = Folder("multiwatch")
        self.socket, self.log = str(self.folder / "socket"), self.folder / "log"
        self.codes = []
        command = [
            "spawn-fcgi",
            "-n",
            "-s",
            self.socket,
            "--",
            "/usr/bin/multiwatch",
            "-f",
            "1",
            "-r",
            "1000",
            "--",
            CALLSTATS,
        ]
        self.process = Process(command, self.log, **environment)
        wait_until(self.child)

    def child(self):
        done = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        return int(done.stdout) if done.stdout.strip() and "serves" in self.text() else None

    def restart(self):
        old, served = self.child(), self.text().count("serves")
        os.kill(old, signal.SIGTERM)
        wait_until(lambda: self.text().count("serves") > served)

    def stop(self):
        self.process.stop()
        self.folder.remove()


def written(number):
    """The path of DAY in a spelling of its own: each letter percent-encoded or not, as the bits of a number say."""
    path, _, query = DAY.partition("?")
    letters = iter(range(len(path)))
    spelled = (letter if letter == "/" or not number >> next(letters) & 1 else f"%{ord(letter):02X}" for letter in path)
    return f"{''.join(spelled)}?{query}"


class Load:
    """Requests over 8 kept connections to a web server, each in a spelling of its own."""

    def __init__(self, server):
        self.server, self.answers = server, collections.Counter()
        self.numbers = iter(itertools.count(1))
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def run(self):
        # nginx slows down whoever asks too often: each client is many addresses, in turns.
        while not self.stopped.is_set():
            number = next(self.numbers)
            connection = self.server.client(30, f"127.{number // 65536 + 1}.{number // 256 % 256}.{number % 256}")
            with contextlib.closing(connection):
                for _ in range(500):
                    if self.stopped.is_set():
                        break
                    connection.request("GET", written(next(self.numbers)))
                    response = connection.getresponse()
                    self.answers[response.status, response.read()] += 1

    def count(self):
        return sum(self.answers.values())

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Parent, Multiwatch])
def test_restarts_lose_no_request(kind, replay_worker, start):
    parent = start(kind, replay_worker.environment)
    server = start(Nginx, parent.socket)
    load = Load(server)
    try:
        for _ in range(RESTARTS):
            before = load.count()
            wait_until(lambda before=before: load.count() > before + 100)
            parent.restart()
    finally:
        load.stop()
    logged = collections.Counter(re.findall(r"GET (\S+) 200 1 entries", parent.text()))
    print(f"{kind.__name__}: {RESTARTS} restarts under {load.count()} requests")
    assert dict(load.answers) == {(200, BILLING): load.count()}
    assert len(logged) == load.count() and set(logged.values()) == {1}
    assert set(parent.codes) <= {0}
    assert " WARN " not in parent.text() and " ERROR " not in parent.text()
