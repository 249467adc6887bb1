"""Fixtures: one private PostgreSQL for all tests, a database and a worker for each."""
import os
import random
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.support import torture  # noqa: E402
from tests.support.postgres import Cluster  # noqa: E402
from tests.support.processes import PROJECT  # noqa: E402
from tests.support.worker import Worker  # noqa: E402


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def database(cluster):
    database = cluster.database()
    yield database
    database.drop()


@pytest.fixture(scope="session")
def replay_database(cluster):
    """With the tenants of the replay files; no test changes it. Its name is the one in the shipped files."""
    database = cluster.database("calls")
    database.script(PROJECT / "tests" / "replay" / "data.sql")
    yield database
    database.drop()


@pytest.fixture(scope="session")
def replay_worker(replay_database):
    """Serves that database; no test stops it."""
    worker = Worker(replay_database.url)
    yield worker
    worker.stop()


@pytest.fixture
def start(request):
    """Starts workers, web servers and the like, and stops them when the test is over."""
    def started(kind, *arguments, **options):
        thing = kind(*arguments, **options)
        request.addfinalizer(thing.stop)
        return thing
    return started


@pytest.fixture
def one_folder(database):
    """With the folder acme/support/Billing, and no call_source: the test makes its own."""
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) values (1, 1, 'Billing');
        drop view callstats.call_source""")
    return database


@pytest.fixture
def gated(one_folder):
    """An answer waits for an advisory lock, which is taken; `open` gives it back."""
    database = one_folder
    database.query("""
        create function callstats.gate() returns int language plpgsql as
            $$ begin perform pg_advisory_lock_shared(1); perform pg_advisory_unlock_shared(1); return 1; end $$;
        create view callstats.call_source as select 1 as organization_id, date '2026-03-03' as call_date, 1 as folder_id,
            null::text as agent_id, callstats.gate() as calls, 1000 as duration_ms;
        grant select on callstats.call_source to callstats_worker;
        select pg_advisory_lock(1)""")
    database.open = lambda: database.query("select pg_advisory_unlock(1)")
    return database


@pytest.fixture
def a_thousand_calls(database):
    """In two organizations and seven folders, in the first days of March 2026."""
    database.query(torture.TENANTS)
    choice = random.Random(1)
    for _ in range(10):
        database.query("insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "
                       + ", ".join(torture.row(choice) for _ in range(100)))
    return database
