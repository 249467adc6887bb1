"""One company does not get all database connections, and waiting for the own share disturbs nobody else."""
import contextlib
import statistics
import time

import pytest

from ..support import fastcgi
from ..support.processes import wait_until
from ..support.worker import ROOT_TOKEN, Worker

YEAR = "daterange=20260101-20261231"


@pytest.fixture
def two_companies(database):
    """Every statement for the calls of acme waits for an advisory lock, which is taken; `nippon` answers at once."""
    database.query("""
        insert into callstats.company (id, short_name, token_sha256) values
            (1, 'acme', sha256('acme-token')), (2, 'nippon', sha256('nippon-token'));
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support'), (2, 2, 'support');
        insert into callstats.folder (id, organization_id, name) values (1, 1, 'Sales'), (2, 2, 'Sales');
        drop view callstats.call_source;
        create function callstats.gate(organization_id int) returns int language plpgsql as
            $$ begin
                if organization_id = 1 then
                    perform pg_advisory_lock_shared(1); perform pg_advisory_unlock_shared(1);
                end if;
                return 1;
            end $$;
        create view callstats.call_source as
            select o.id as organization_id, date '2026-03-03' as call_date, o.id as folder_id, null::text as agent_id,
                   callstats.gate(o.id) as calls, 1000 as duration_ms
            from callstats.organization o;
        grant select on callstats.call_source to callstats_worker;
        select pg_advisory_lock(1)""")
    return database


def waiting_statements(database):
    return database.value("select count(*) from pg_locks where locktype = 'advisory' and not granted")


@pytest.mark.parametrize("token", ["acme-token", ROOT_TOKEN], ids=["a company", "root"])
@pytest.mark.parametrize("connections, share", [(8, 4), (3, 1)])
def test_company_gets_half_of_the_connections(token, connections, share, two_companies, start):
    worker = start(Worker, two_companies.url, CALLSTATS_DB_CONNECTIONS=str(connections))
    slow, other = f"/stats/acme/support?token={token}&{YEAR}", f"/stats/nippon/support?token=nippon-token&{YEAR}"
    quiet = statistics.median(seconds_of(worker, other) for _ in range(20))
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(fastcgi.Connection(worker.socket)) for _ in range(64)]
        for reader in readers:
            reader.send(fastcgi.request(fastcgi.parameters("GET", slow)))
        wait_until(lambda: waiting_statements(two_companies) == share)
        busy = statistics.median(seconds_of(worker, other) for _ in range(50))
        print(f"another company's median: {quiet * 1000:.1f} ms when quiet, {busy * 1000:.1f} ms beside 64 requests")
        assert waiting_statements(two_companies) == share
        # Those that got no turn within CALLSTATS_DB_WAIT_MS say so; those that have one are answered.
        wait_until(lambda: worker.text().count(" 503 ") == 64 - share)
        assert seconds_of(worker, other) < 60
        two_companies.query("select pg_advisory_unlock(1)")
        assert sorted(reader.receive().status for reader in readers) == [200] * share + [503] * (64 - share)
    assert "its share of the connections" in worker.text()
    assert worker.text().count(" 503 ") == 64 - share
    assert worker.ask("GET", slow).status == 200


def seconds_of(worker, uri):
    began = time.monotonic()
    assert worker.ask("GET", uri).status == 200
    return time.monotonic() - began


def test_head_reads_no_calls(two_companies, start):
    """Its status does not depend on them."""
    worker = start(Worker, two_companies.url)
    answer = worker.ask("HEAD", f"/stats/acme/support?token=acme-token&{YEAR}")
    assert (answer.status, answer.body) == (200, b"")
    two_companies.query("select pg_advisory_unlock(1)")
    assert answer.headers == worker.ask("GET", f"/stats/acme/support?token=acme-token&{YEAR}").headers


def test_replaced_view_is_prepared_again(two_companies, start):
    """PostgreSQL refuses a prepared statement whose result has another type now; the worker prepares it again."""
    two_companies.query("""select pg_advisory_unlock(1);
        create or replace view callstats.call_source as
            select 1 as organization_id, date '2026-03-03' as call_date, 1 as folder_id, null::text as agent_id,
                   1 as calls, 1000 as duration_ms""")
    worker = start(Worker, two_companies.url)
    uri = f"/stats/acme/support?token=acme-token&{YEAR}"
    right = worker.ask("GET", uri)
    assert right.status == 200 and b'"calls":1' in right.body
    for column_type in ("bigint", "smallint", "numeric", "int"):
        two_companies.query(f"""drop view callstats.call_source;
            create view callstats.call_source as
                select 1 as organization_id, date '2026-03-03' as call_date, 1::{column_type} as folder_id,
                       null::varchar as agent_id, 1::{column_type} as calls, 1000::{column_type} as duration_ms;
            grant select on callstats.call_source to callstats_worker""")
        for _ in range(10):
            assert worker.ask("GET", uri).body == right.body
