"""Answers leave as their rows arrive, and leave nothing behind in the worker's memory."""
import json

import pytest

from .support import fastcgi
from .support.processes import wait_until
from .support.worker import ROOT_TOKEN, Worker

GROUPS = 300_000
YEAR = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20240101-20241231"


@pytest.fixture(scope="module")
def worker(cluster):
    """Serves a year with one call for each of more than GROUPS groups."""
    database = cluster.database()
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) select n, 1, 'folder ' || n from generate_series(1, 20) n;
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
        select 1, folder, 'agent ' || agent, date '2024-01-01' + day, date '2024-01-01' + day, 1000
        from generate_series(0, 365) day, generate_series(1, 20) folder, generate_series(1, 41) agent;
        """)
    worker = Worker(database.url)
    worker.database = database
    yield worker
    worker.stop()
    database.drop()


def test_memory_does_not_grow_with_the_answer(worker):
    entries = json.loads(worker.ask("GET", YEAR).body)
    groups = sum(len(entry["agents"]) for entry in entries)
    peak = worker.status("VmHWM")
    print(f"{groups} groups, {len(entries)} entries: peak {peak} kB")
    assert groups >= GROUPS
    assert peak < 32 * 1024


def test_the_first_byte_leaves_before_the_last_row_was_read(worker):
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", YEAR)))
        kind, _, content = connection.read_record()
        assert kind == fastcgi.STDOUT and content.startswith(b"Status: 200 OK\r\n")
        # The rest stays unread here, so the worker has to stop reading rows: PostgreSQL waits to get rid of them.
        wait_until(lambda: worker.database.query("""select 1 from pg_stat_activity
            where usename = 'callstats_worker' and state = 'active' and wait_event = 'ClientWrite'
              and datname = current_database()"""), what="PostgreSQL waits in the middle of the answer")
        rest, _, app_status = connection.receive_streams()
    assert app_status == 0
    _, _, body = fastcgi.cgi_response(content + rest)
    assert json.loads(body)[-1]["date"] == "20241231"
