"""What monitoring counts: each limit that is reached, once."""
import re
import socket

from ..support import fastcgi
from ..support.processes import wait_until
from ..support.sample import BILLING, DAY
from ..support.worker import TcpWorker, Worker


def count(worker, metric):
    """The value of a metric, as it is written with its labels."""
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request({"REQUEST_METHOD": "GET", "CALLSTATS_PROBE": "1",
                                         "QUERY_STRING": "format=prometheus"}))
        text = connection.receive().body.decode()
    [value] = re.findall(rf"^{re.escape(metric)} (\d+)$", text, re.M)
    return int(value)


def test_refused_peers_are_counted(replay_database, start):
    worker = start(TcpWorker, replay_database.url, FCGI_WEB_SERVER_ADDRS="127.0.0.1")
    metric = 'callstats_connections_refused_total{reason="address"}'
    assert count(worker, metric) == 0
    for _ in range(3):
        with socket.create_connection(worker.socket, 20, ("127.0.0.2", 0)) as refused:
            assert refused.recv(1) == b""
    assert count(worker, metric) == 3


def test_connections_closed_by_a_limit_are_counted(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_MAX_PARAMS_BYTES="2000", CALLSTATS_REQUEST_TIMEOUT_MS="300")
    metrics = {reason: f'callstats_connections_closed_total{{reason="{reason}"}}'
               for reason in ("params", "request_timeout")}
    assert {count(worker, metric) for metric in metrics.values()} == {0}
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request([("X", "x" * 3000)]))
        assert connection.receive_streams() == (b"", b"", None)
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.begin())
        assert connection.is_closed()
    assert {count(worker, metric) for metric in metrics.values()} == {1}


def test_open_connections_and_pauses_are_counted(replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_MAX_CONNECTIONS="2")
    pauses = 'callstats_accept_pauses_total{reason="max_connections"}'
    with fastcgi.Connection(worker.socket) as first:
        assert first.ask("GET", DAY, keep=True).body == BILLING
        wait_until(lambda: count(worker, "callstats_connections") == 2)  # and that of the probe
        before = count(worker, pauses)
        with fastcgi.Connection(worker.socket) as second:
            assert second.ask("GET", DAY, keep=True).body == BILLING
            with fastcgi.Connection(worker.socket):
                wait_until(lambda: "connection limit reached" in worker.text())
    wait_until(lambda: count(worker, "callstats_connections") == 1)
    assert count(worker, pauses) > before


def busy(gated, start, connections, reason):
    """A request takes the only connection, or the only turn; another one waits for it in vain."""
    worker = start(Worker, gated.url, CALLSTATS_DB_CONNECTIONS=str(connections), CALLSTATS_DB_WAIT_MS="300")
    metric = f'callstats_database_busy_total{{reason="{reason}"}}'
    assert count(worker, metric) == 0
    with fastcgi.Connection(worker.socket) as first:
        first.send(fastcgi.request(fastcgi.parameters("GET", DAY)))
        gated.wait_for_statement()
        assert worker.ask("GET", DAY).status == 503
        gated.open()
        assert first.receive().status == 200
    assert count(worker, metric) == 1


def test_requests_without_a_connection_are_counted(gated, start):
    busy(gated, start, 1, "connections")


def test_requests_without_a_turn_are_counted(gated, start):
    busy(gated, start, 2, "share")
