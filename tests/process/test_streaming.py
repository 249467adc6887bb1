"""Answers leave as their rows arrive, and leave nothing behind in the worker's memory."""
import json

import pytest

from ..support import fastcgi
from ..support.sample import YEAR, fill_year, plan_as_for_a_large_table
from ..support.worker import Worker

GROUPS = 300_000


@pytest.fixture(scope="module")
def worker(cluster):
    """Serves a year with one call for each of more than GROUPS groups."""
    database = cluster.database()
    fill_year(database, folders=20, agents=41)
    worker = Worker(database.url)
    yield worker
    worker.stop()
    database.drop()


@pytest.mark.slow
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
    plan_as_for_a_large_table(gated)
    worker = start(Worker, gated.url)
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", YEAR)))
        kind, _, content = connection.read_record()
        assert kind == fastcgi.STDOUT and content.startswith(b"Status: 200 OK\r\n")
        gated.wait_for_statement()  # for its third day
        gated.open()
        rest, _, app_status = connection.receive_streams()
    assert app_status == 0
    _, _, body = fastcgi.cgi_response(content + rest)
    assert [entry["calls"] for entry in json.loads(body)] == [1000, 1000, 1000]
