"""The limits of the transport, and what the worker does when each is reached: everybody else is served."""
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import threading
import time

import pytest

from ..support import fastcgi
from ..support.processes import CALLSTATS, Folder, Process, as_user, wait_until
from ..support.sample import BILLING, DAY, YEAR, fill_year
from ..support.worker import TcpWorker, Worker

REQUEST = fastcgi.request(fastcgi.parameters("GET", DAY))


def lines(worker, words):
    return [line for line in worker.text().splitlines() if words in line]


def test_connections_beyond_the_limit_wait(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_MAX_CONNECTIONS="4")
    wait_until(lambda: worker.descriptors() and worker.ask("GET", DAY).body == BILLING)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        first, *_ = [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(4)]
        waiting = stack.enter_context(fastcgi.Connection(worker.socket))
        waiting.send(REQUEST)
        wait_until(lambda: lines(worker, "connection limit reached (4)"))
        assert first.ask("GET", DAY, keep=True).body == BILLING, "who is connected is served"
        first.close()
        assert waiting.receive().body == BILLING
    assert len(lines(worker, "connection limit reached")) <= 1 + time.monotonic() - began
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.record(fastcgi.GET_VALUES, fastcgi.pairs({"FCGI_MAX_CONNS": ""}), request_id=0))
        assert connection.read_record()[2] == fastcgi.pairs({"FCGI_MAX_CONNS": "4"})


def test_sigterm_works_at_the_limit_of_connections(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_MAX_CONNECTIONS="1")
    with fastcgi.Connection(worker.socket), fastcgi.Connection(worker.socket):
        wait_until(lambda: lines(worker, "connection limit reached"))
        worker.process.kill()
        assert worker.process.wait(3) == 0


def test_parameters_beyond_the_limit_end_the_connection(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_MAX_PARAMS_BYTES="2000")
    for length, is_answered in ((1500, True), (2000, False)):
        with fastcgi.Connection(worker.socket) as connection:
            connection.send(fastcgi.request([("X", "x" * length), *fastcgi.parameters("GET", DAY).items()]))
            if is_answered:
                assert connection.receive().body == BILLING
            else:
                assert connection.receive_streams() == (b"", b"", None)
    assert len(lines(worker, "more than 2000 bytes of parameters")) == 1


@pytest.mark.parametrize("sent", [1, 8, 20, len(REQUEST) - 30])
def test_incomplete_request_ends_its_connection(sent, replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_REQUEST_TIMEOUT_MS="300")
    with fastcgi.Connection(worker.socket) as slow, fastcgi.Connection(worker.socket) as idle:
        slow.send(REQUEST[:sent])
        began = time.monotonic()
        assert slow.is_closed()
        assert 0.2 < time.monotonic() - began < 2
        assert idle.ask("GET", DAY).body == BILLING, "an idle connection is no late request"
    assert len(lines(worker, "did not arrive within 300 ms")) == 1


def test_incomplete_body_ends_its_connection(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_REQUEST_TIMEOUT_MS="300")
    with fastcgi.Connection(worker.socket) as connection:
        parameters = fastcgi.pairs(fastcgi.parameters("POST", DAY, body=bytes(100)))
        connection.send(
            fastcgi.begin() + fastcgi.stream(fastcgi.PARAMS, parameters) + fastcgi.record(fastcgi.STDIN, bytes(50))
        )
        assert connection.is_closed()


@pytest.fixture
def a_large_answer(database):
    fill_year(database, folders=20, agents=5)
    return database


def test_peer_that_reads_nothing_is_disconnected(a_large_answer, start):
    worker = start(Worker, a_large_answer.url, CALLSTATS_SEND_TIMEOUT_MS="300")
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", YEAR), keep=True))
        wait_until(lambda: lines(worker, "read nothing of an answer for 300 ms"))
        assert connection.receive().app_status is None
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", YEAR)))
        answer = connection.receive()
    assert answer.app_status == 0 and len(json.loads(answer.body)) == 366 * 20


def test_idle_connections_end_if_so_configured(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_IDLE_TIMEOUT_MS="300")
    with fastcgi.Connection(worker.socket) as fresh, fastcgi.Connection(worker.socket) as kept:
        assert kept.ask("GET", DAY, keep=True).body == BILLING
        assert fresh.is_closed() and kept.is_closed()
    assert lines(worker, "an idle connection is closed")


def test_many_idle_connections_cost_little(replay_database, start):
    """2,000 that nothing was asked on yet."""
    count = 2000
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    worker = start(Worker, replay_database.url)
    assert worker.ask("GET", DAY).body == BILLING
    memory, threads = worker.status("VmRSS"), worker.threads()
    with contextlib.ExitStack() as stack:
        for number in range(count):
            stack.enter_context(fastcgi.Connection(worker.socket))
            if number % 100 == 99:
                wait_until(lambda number=number: worker.threads() > number)
        wait_until(lambda: worker.threads() >= count)
        each = (worker.status("VmRSS") - memory) / count
        print(f"{each:.1f} kB for each idle connection")
        assert each < 16
        assert worker.ask("GET", DAY).body == BILLING
    wait_until(lambda: worker.threads() <= threads)


def few_threads():
    """A hundred more than the user of the tests has now."""
    threads = 0
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            threads += int(fields["Threads"]) if int(fields["Uid"].split()[0]) == os.getuid() else 0
    resource.setrlimit(resource.RLIMIT_NPROC, (threads + 100, threads + 100))


def test_silent_peer_blocks_no_other_when_threads_run_out(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_DB_CONNECTIONS="1", before=few_threads)
    assert worker.ask("GET", DAY).body == BILLING
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(300)]
        wait_until(lambda: lines(worker, "cannot start a thread for a connection"))
        last = stack.enter_context(fastcgi.Connection(worker.socket))
        assert last.is_closed(), "closed at once, while its peer stays"
        crowd[0].send(REQUEST)
        assert crowd[0].receive().body == BILLING, "who is connected is served"
        for connection in crowd[:50]:
            connection.close()
        wait_until(lambda: answered(worker) == BILLING, what="served again, while refused peers stay")
        assert len(lines(worker, "cannot start a thread")) <= 1 + time.monotonic() - began
        worker.process.kill()
        assert worker.process.wait(8) == 0
    assert not lines(worker, "internal error")


def answered(worker):
    with contextlib.suppress(ConnectionError, ValueError, IndexError):
        return worker.ask("GET", DAY).body


def test_listening_socket_made_blocking_does_no_harm(replay_worker, start):
    """systemd starts ExecReload with the same socket as standard input, and makes it blocking for that."""
    folder = Folder("blocking")
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(folder / "socket"))
        os.chmod(folder / "socket", 0o666)
        listener.listen(100)
        worker = Process([CALLSTATS], folder / "log", stdin=listener, **replay_worker.environment)
        wait_until(lambda: "serves" in worker.text())
        for _ in range(5):
            listener.setblocking(True)
            worker.kill(signal.SIGHUP)
            listener.setblocking(True)
            assert fastcgi.ask(str(folder / "socket"), "GET", DAY).body == BILLING
        wait_until(lambda: "reloaded the root token file" in worker.text())
        listener.setblocking(True)
        began = time.monotonic()
        worker.kill()
        assert worker.wait() == 0 and time.monotonic() - began < 3
    finally:
        worker.stop()
        listener.close()
        folder.remove()


@pytest.mark.parametrize(
    "allowed, host, is_served",
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.1, 127.0.0.1", "127.0.0.1", True),
        (" 127.0.0.1 ,::1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "::1", False),
        ("::1", "127.0.0.1", False),
        ("", "127.0.0.1", True),
    ],
)
def test_web_server_addresses_limit_the_peers(allowed, host, is_served, replay_database, start):
    """FastCGI 1.0, section 3.2. A refused peer is closed at once, and blocks nobody."""
    worker = start(TcpWorker, replay_database.url, host=host, FCGI_WEB_SERVER_ADDRS=allowed)
    with fastcgi.Connection(worker.socket) as silent, fastcgi.Connection(worker.socket) as connection:
        if is_served:
            assert connection.ask("GET", DAY).body == BILLING
        else:
            assert silent.is_closed() and connection.is_closed()
            assert len(lines(worker, f"a peer with the address {host} is not in FCGI_WEB_SERVER_ADDRS")) == 1
        worker.process.kill()
        assert worker.process.wait(5) == 0


def test_ipv4_address_is_recognized_on_a_dual_stack_socket(replay_database, start):
    worker = start(TcpWorker, replay_database.url, host="::", FCGI_WEB_SERVER_ADDRS="127.0.0.1")
    assert fastcgi.ask(("127.0.0.1", worker.port), "GET", DAY).body == BILLING
    with fastcgi.Connection(("::1", worker.port)) as refused:
        assert refused.is_closed()


def test_web_server_addresses_are_ignored_on_a_unix_socket(replay_database, start):
    worker = start(Worker, replay_database.url, FCGI_WEB_SERVER_ADDRS="10.0.0.1")
    assert worker.ask("GET", DAY).body == BILLING


@pytest.mark.parametrize(
    "name, value",
    [
        ("FCGI_WEB_SERVER_ADDRS", "127.0.0.1,localhost"),
        ("CALLSTATS_MAX_CONNECTIONS", "0"),
        ("CALLSTATS_MAX_PARAMS_BYTES", "1M"),
        ("CALLSTATS_REQUEST_TIMEOUT_MS", "0"),
        ("CALLSTATS_SEND_TIMEOUT_MS", "-1"),
        ("CALLSTATS_IDLE_TIMEOUT_MS", "never"),
    ],
)
def test_invalid_limits_are_reported_at_the_start(name, value, replay_worker):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        done = subprocess.run([CALLSTATS], stdin=listener, capture_output=True, text=True, timeout=20,
                              **as_user(**{**replay_worker.environment, name: value}))
    assert done.returncode == 78 and name in done.stderr


def test_tcp_costs_no_more_than_twice_a_unix_socket(replay_database, start):
    """Medians of kept connections, the best of three: small writes that wait for each other took 40 ms."""
    workers = start(Worker, replay_database.url), start(TcpWorker, replay_database.url)

    def median(worker):
        durations = []
        with fastcgi.Connection(worker.socket) as connection:
            for _ in range(150):
                began = time.perf_counter()
                assert connection.ask("GET", DAY, keep=True).body == BILLING
                durations.append(time.perf_counter() - began)
        return statistics.median(durations)
    ratios = []
    for _ in range(3):
        unix, tcp = map(median, workers)
        ratios.append(tcp / unix)
    print(f"TCP by Unix socket: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert min(ratios) < 2


def test_lost_hosts_are_noticed_over_tcp(replay_database, start):
    worker = start(TcpWorker, replay_database.url)
    with fastcgi.Connection(worker.socket) as connection:
        assert connection.ask("GET", DAY, keep=True).body == BILLING
        shown = subprocess.run(
            ["ss", "-tnoH", "sport", "=", f":{worker.port}"], capture_output=True, text=True, check=True
        )
    assert "timer:(keepalive" in shown.stdout


def test_port_that_another_program_opened_has_the_same_options(replay_worker):
    """As of spawn-fcgi or systemd."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        process = subprocess.Popen([CALLSTATS], stdin=listener, stderr=subprocess.DEVNULL,
                                   **as_user(**replay_worker.environment))
        try:
            with fastcgi.Connection(listener.getsockname()) as connection:
                assert connection.ask("GET", DAY, keep=True).body == BILLING
                shown = subprocess.run(["ss", "-tnoH", "sport", "=", f":{listener.getsockname()[1]}"],
                                       capture_output=True, text=True, check=True)
                assert "timer:(keepalive" in shown.stdout
                durations = []
                for _ in range(50):
                    began = time.perf_counter()
                    connection.ask("GET", DAY, keep=True)
                    durations.append(time.perf_counter() - began)
                assert statistics.median(durations) < 0.03, "44 ms with Nagle's algorithm"
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_slow_reader_is_not_disconnected(a_large_answer, start):
    """The limit counts time without progress."""
    worker = start(Worker, a_large_answer.url, CALLSTATS_SEND_TIMEOUT_MS="1000")
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", YEAR)))
        began, pause = time.monotonic(), threading.Event()
        received = b""
        while part := connection.socket.recv(16384):
            received += part
            pause.wait(0.02)
    assert time.monotonic() - began > 1.5 and len(received) > 1_000_000
    assert received[-16:-15] == b"\x01" and received[-15] == fastcgi.END_REQUEST
