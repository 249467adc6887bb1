"""The sample that most tests use, requests for it with their answers, and databases that wait or fail on demand.

Touches PostgreSQL only.
"""
from .postgres import Database
from .processes import PROJECT, wait_until
from .worker import ROOT_TOKEN

DATA = PROJECT / "tests" / "replay" / "data.sql"

# The folder Billing has one call, which is of 3 March 2026.
DAY_WITHOUT_TOKEN = "/stats/acme/support/Billing?daterange=20260303"
DAY = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20260303"
BILLING = b'[{"date":"20260303","folder":"Billing","calls":1,"avg_duration_seconds":1}]'

# The same day in all folders of the organization.
ORGANIZATION_DAY = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260303"

# The tenants of DAY alone. A test creates its own call_source, or uses the one of the schema.
ONE_FOLDER = """
    insert into callstats.company (id, short_name, token_sha256) values (1, 'acme', sha256('acme-token'));
    insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
    insert into callstats.folder (id, organization_id, name) values (1, 1, 'Billing')"""

# All days of a database that fill_year has filled.
YEAR = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20240101-20241231"


def fill_year(database, folders, agents):
    """2024 with one call a day of each agent in each folder."""
    database.query("""
        insert into callstats.company (id, short_name, token_sha256) values (1, 'acme', sha256('acme-token'));
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support')""")
    database.query("insert into callstats.folder (id, organization_id, name) "
                   "select n, 1, 'folder ' || n from generate_series(1, %s) n", folders)
    database.query("""
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
        select 1, folder, 'agent ' || agent, date '2024-01-01' + day, date '2024-01-01' + day, 1000
        from generate_series(0, 365) day, generate_series(1, %s) folder, generate_series(1, %s) agent""",
                   folders, agents)


class Gated(Database):
    """A request for DAY waits for an advisory lock, which is taken, and is then answered with BILLING."""

    def install(self):
        self.query(ONE_FOLDER)
        self.query("""
            create function callstats.gate() returns int language plpgsql as
                $$ begin perform pg_advisory_lock_shared(1); perform pg_advisory_unlock_shared(1); return 1; end $$;
            drop view callstats.call_source;
            create view callstats.call_source as select 1 as organization_id, date '2026-03-03' as call_date,
                1 as folder_id, null::text as agent_id, callstats.gate() as calls, 1000 as duration_ms;
            grant select on callstats.call_source to callstats_worker;
            select pg_advisory_lock(1)""")

    def open(self):
        self.query("select pg_advisory_unlock(1)")

    def close(self):
        """Again, and nobody waits: not for a client that has vanished either."""
        self.query("""select pg_advisory_unlock_all(), pg_advisory_lock(1)""")
        self.query("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted")
        wait_until(lambda: not self.query("select 1 from pg_locks where locktype = 'advisory' and not granted"))

    def wait_for_statement(self):
        """Waits until a statement waits at the gate."""
        wait_until(lambda: self.query("select 1 from pg_locks where locktype = 'advisory' and not granted"),
                   what="a statement waits for the lock")


# All days of Failing.
ALL_DAYS = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20000101-21001231"


class Failing(Database):
    """Rows stream in the order of an index, one a day from 2000 on, and end in an error after some days, as a bad
    sector of a disk makes them."""

    def install(self, days):
        self.query(ONE_FOLDER)
        self.query("""
            create table callstats.day
                (organization_id int, call_date date, folder_id int, agent_id text collate "C", n int);
            insert into callstats.day select 1, date '2000-01-01' + n, 1, null, n from generate_series(0, 50000) n;
            create index on callstats.day (organization_id, call_date, folder_id, agent_id) include (n);
            analyze callstats.day;
            create table callstats.fault (after int);
            insert into callstats.fault values (%s);
            create function callstats.read_day(n int) returns int language plpgsql stable security definer as $$
            begin
                if n >= (select after from callstats.fault) then
                    raise exception 'could not read block 7 in file "base/1/2": secret detail'
                        using errcode = 'io_error';
                end if;
                return 1000;
            end $$;
            drop view callstats.call_source;
            create view callstats.call_source as select organization_id, call_date, folder_id, agent_id, 1 as calls,
                callstats.read_day(n) as duration_ms from callstats.day;
            grant select on callstats.call_source to callstats_worker""", days)
        plan_as_for_a_large_table(self)

    def fail_after(self, days):
        self.query("update callstats.fault set after = %s", days)


def plan_as_for_a_large_table(database):
    """Rows stream only if nothing sorts or hashes them, which is what the planner decides for many rows."""
    for option in ("hashagg", "seqscan", "bitmapscan"):
        database.query(f"alter database {database.name} set enable_{option} = off")


def months_until(database, ahead):
    """The number of partitions from callstats.call_before, which ends with the month of tomorrow, to that of so many
    months from now."""
    return database.value(
        """select 1 + %s - (date_trunc('month', now() + interval '1 day') > date_trunc('month', now()))::int""", ahead
    )
