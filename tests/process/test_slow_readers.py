"""A slow reader costs a buffer, not a database connection; a reader that left costs nothing."""
import contextlib
import json
import os
import time

import pytest

from ..support import fastcgi
from ..support.processes import Folder, wait_until
from ..support.sample import DAY, YEAR, fill_year
from ..support.webservers import Apache, Nginx
from ..support.worker import Worker

# Another asker: who has root's turns waits for root's alone.
OTHER_DAY = "/stats/acme/support?token=acme-token&daterange=20240103"


@pytest.fixture(scope="module")
def year(cluster):
    """A year of 3.8 MB."""
    database = cluster.database()
    fill_year(database, folders=10, agents=15)
    database.query("vacuum analyze callstats.call")
    yield database
    database.drop()


def busy_backends(database):
    return database.value("""select count(*) from pg_stat_activity where usename = 'callstats_worker'
        and datname = current_database() and state <> 'idle'""")


def send(worker, stack, uri=YEAR):
    connection = stack.enter_context(fastcgi.Connection(worker.socket))
    connection.send(fastcgi.request(fastcgi.parameters("GET", uri)))
    return connection


@pytest.mark.slow
def test_reader_that_reads_nothing_holds_no_database_connection(year, start):
    worker = start(Worker, year.url, CALLSTATS_DB_CONNECTIONS="1", CALLSTATS_DB_WAIT_MS="60000",
                   CALLSTATS_STATEMENT_TIMEOUT_MS="1500")
    whole = worker.ask("GET", YEAR).body
    with contextlib.ExitStack() as stack:
        readers = [send(worker, stack) for _ in range(24)]
        began = time.monotonic()
        wait_until(lambda: busy_backends(year) == 0 and worker.ask("GET", OTHER_DAY).status == 200, 60)
        # PostgreSQL's time counts for the statement timeout, the readers' time does not.
        wait_until(lambda: time.monotonic() > began + 2)
        assert worker.ask("GET", OTHER_DAY).status == 200
        print(f"peak memory with 24 readers of {len(whole) / 1e6:.1f} MB: {worker.status('VmHWM') / 1024:.0f} MB")
        assert worker.status("VmHWM") < 64 * 1024
        for reader in readers:
            answer = reader.receive()
            assert (answer.status, answer.app_status, answer.body == whole) == (200, 0, True)
    assert worker.ask("GET", OTHER_DAY).status == 200


def test_slow_readers_behind_apache_delay_no_other_request(year, start):
    worker = start(Worker, year.url)
    server = start(Apache, worker.socket)
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            connection = stack.enter_context(contextlib.closing(server.connect()))
            connection.sendall(f"GET {YEAR} HTTP/1.1\r\nHost: stats.example\r\n\r\n".encode())
        for _ in range(50):
            assert server.ask("GET", OTHER_DAY)[0] == 200
        wait_until(lambda: busy_backends(year) == 0, 60)
        assert server.ask("GET", OTHER_DAY)[0] == 200
    assert " 503 " not in "".join(line for line in worker.text().splitlines() if " 10 entries " in line)
    assert worker.status("VmHWM") < 64 * 1024


def test_spooled_files_have_no_name_and_end_with_their_reader(year, start):
    folder = Folder("spool")
    worker = start(Worker, year.url, CALLSTATS_SPOOL_DIR=str(folder.path))
    with contextlib.ExitStack() as stack:
        send(worker, stack)

        def open_files():
            links = []
            for name in os.listdir(f"/proc/{worker.pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    links.append(os.readlink(f"/proc/{worker.pid}/fd/{name}"))
            return [link for link in links if link.startswith(str(folder.path))]

        wait_until(open_files)
        assert os.listdir(folder.path) == []
    wait_until(lambda: not open_files())
    folder.remove()


@pytest.mark.parametrize("limit", ["0", "1000000"])
def test_full_spool_makes_the_worker_wait_for_its_reader(limit, year, start):
    worker = start(Worker, year.url, CALLSTATS_SPOOL_MAX_BYTES=limit)
    whole = worker.ask("GET", YEAR).body
    with contextlib.ExitStack() as stack:
        reader = send(worker, stack)
        wait_until(lambda: "cannot store a response for a slow client" in worker.text())
        assert "CALLSTATS_SPOOL_MAX_BYTES" in worker.text()
        assert worker.ask("GET", OTHER_DAY).status == 200
        answer = reader.receive()
        assert (answer.body, answer.app_status) == (whole, 0)


def test_missing_spool_folder_does_not_stop_answers(year, start):
    worker = start(Worker, year.url, CALLSTATS_SPOOL_DIR="/nowhere")
    assert json.loads(worker.ask("GET", YEAR).body)[-1]["date"] == "20241231"


@pytest.mark.parametrize("way", ["FastCGI", "nginx"])
def test_query_ends_with_its_client_before_its_first_row(way, gated, start):
    """The statement waits for a lock, so that no write can show that nobody listens any more."""
    worker = start(Worker, gated.url)
    if way == "nginx":
        connection = start(Nginx, worker.socket).connect()
        connection.sendall(f"GET {DAY} HTTP/1.1\r\nHost: stats.example\r\n\r\n".encode())
    else:
        connection = fastcgi.Connection(worker.socket)
        connection.send(fastcgi.request(fastcgi.parameters("GET", DAY)))
    wait_until(lambda: busy_backends(gated) == 1)
    connection.close()
    began = time.monotonic()
    wait_until(lambda: busy_backends(gated) == 0, 5)
    print(f"{way}: cancelled {time.monotonic() - began:.2f} s after its client left")
    wait_until(lambda: "client disconnected" in worker.text())
    assert " WARN " not in worker.text()
    # The connection whose statement was cancelled is not used again: a late cancellation hits nobody else.
    gated.open()
    for _ in range(20):
        assert worker.ask("GET", DAY).status == 200
