"""Answers leave as their rows arrive, and leave nothing behind in the worker's memory."""
import json

import pytest

from ..support import fastcgi
from ..support.processes import wait_until
from ..support.worker import ROOT_TOKEN, Worker

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


def test_first_byte_is_sent_before_the_last_row_is_read(gated, start):
    """The second day waits for a lock; the first one, which is larger than a piece that is sent, does not."""
    gated.query("""
        drop view callstats.call_source;
        create function callstats.read_day(is_last int) returns int stable language plpgsql as
            $$ begin return case when is_last = 1 then callstats.gate() else 1 end; end $$;
        create table callstats.day (
            organization_id int, call_date date, folder_id int, agent_id text collate "C", is_last int);
        insert into callstats.day
            select 1, date '2024-01-01' + n / 1000, 1, 'agent ' || n, n / 2000 from generate_series(0, 2999) n;
        create index on callstats.day (organization_id, call_date, folder_id, agent_id) include (is_last);
        analyze callstats.day;
        create view callstats.call_source as select organization_id, call_date, folder_id, agent_id,
            callstats.read_day(is_last) as calls, 1000 as duration_ms from callstats.day;
        grant select on callstats.call_source to callstats_worker""")
    for option in ("hashagg", "seqscan", "bitmapscan"):  # as the planner decides for a large table
        gated.query(f"alter database {gated.name} set enable_{option} = off")
    worker = start(Worker, gated.url)
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", YEAR)))
        kind, _, content = connection.read_record()
        assert kind == fastcgi.STDOUT and content.startswith(b"Status: 200 OK\r\n")
        wait_until(lambda: gated.query("select 1 from pg_locks where locktype = 'advisory' and not granted"),
                   what="the statement waits for its third day")
        gated.open()
        rest, _, app_status = connection.receive_streams()
    assert app_status == 0
    _, _, body = fastcgi.cgi_response(content + rest)
    assert [entry["calls"] for entry in json.loads(body)] == [1000, 1000, 1000]
