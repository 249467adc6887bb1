"""What a hostile amount of data costs the worker in memory: names lie in scratch storage, not in memory."""
import pytest

from ..support import fastcgi
from ..support.worker import ROOT_TOKEN, Worker

LIMIT_KB = 64 * 1024
NAME = "'same beginning, ' || repeat('x', 976) || to_char(n, 'FM00000000')"  # 1,000 bytes


def peak(start, database, query, least_bytes):
    """The peak memory of a worker, in kB, after one answer of at least so many bytes."""
    worker = start(Worker, database.url, CALLSTATS_STATEMENT_TIMEOUT_MS="300000")
    before = worker.status("VmHWM")
    uri = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260101-20261231&{query}"
    with fastcgi.Connection(worker.socket, timeout=120) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", uri)))
        kind, _, content = connection.read_record()
        assert kind == fastcgi.STDOUT and content.startswith(b"Status: 200 ")
        sent = len(content)
        while kind != fastcgi.END_REQUEST:
            kind, _, content = connection.read_record()
            sent += len(content)
        assert content[:4] == bytes(4) and sent >= least_bytes
    used = worker.status("VmHWM")
    print(f"{query}: {sent / 1e6:.0f} MB sent, peak {used} kB, {before} kB before")
    return used


@pytest.mark.slow
@pytest.mark.parametrize("query", ["interval=day", "interval=day&format=csv", "interval=month",
                                   "interval=total&format=csv"])
def test_100_000_agents_of_1_000_bytes_stay_below_64_mb(one_folder, start, query):
    one_folder.query(f"""create table agents as select {NAME} as agent_id from generate_series(1, 100000) n;
        create view callstats.call_source as
            select 1 as organization_id, date '2026-03-03' as call_date, 1 as folder_id, agent_id, 1 as calls,
                   1000 as duration_ms from agents;
        grant select on callstats.call_source to callstats_worker""")
    assert peak(start, one_folder, query, 100_000_000) < LIMIT_KB


@pytest.mark.slow
@pytest.mark.parametrize("query", ["interval=day", "interval=day&format=csv", "interval=week"])
def test_50_000_folders_of_1_000_bytes_stay_below_64_mb(database, start, query):
    database.query(f"""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) select n, 1, {NAME} from generate_series(1, 50000) n;
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
            select 1, n, 'agent', '2026-03-03', 1000 from generate_series(1, 50000) n""")
    assert peak(start, database, query, 50_000_000) < LIMIT_KB


@pytest.mark.slow
def test_memory_does_not_grow_with_days(one_folder, start):
    """A year of the same agents, summed up, costs what a month of them does."""
    one_folder.query("""create view callstats.call_source as
            select 1 as organization_id, date '2026-01-01' + day as call_date, 1 as folder_id,
                   'agent ' || n as agent_id, 1 as calls, 1000 as duration_ms
            from generate_series(0, 364) day, generate_series(1, 2000) n;
        grant select on callstats.call_source to callstats_worker""")
    by_month = peak(start, one_folder, "interval=month", 12 * 2000 * 40)
    whole = peak(start, one_folder, "interval=total", 2000 * 40)
    assert whole < by_month + 1024
    assert by_month < 16 * 1024
