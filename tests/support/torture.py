"""Writers, compaction and kills against the rollup, while readers compare it to the calls in one snapshot."""
import collections
import contextlib
import datetime
import random
import threading
import time

import psycopg2

from .processes import PROJECT

# All groups in which the two differ, seen by one snapshot. The calls are read first: TRUNCATE waits for whoever has.
DIFFERENCES = """
    select organization_id, call_date, folder_id, agent_id, sum(calls), sum(duration_ms)
    from (select organization_id, call_date, folder_id, agent_id, count(*) as calls, sum(duration_ms) as duration_ms
          from callstats.call group by 1, 2, 3, 4
          union all
          select organization_id, call_date, folder_id, agent_id, -sum(calls), -sum(duration_ms)
          from callstats.call_source group by 1, 2, 3, 4) both_sides
    group by 1, 2, 3, 4 having sum(calls) <> 0 or sum(duration_ms) <> 0"""

# The same if partitions were detached, whose sums are kept only in the rollup.
DIFFERENCES_SINCE = f"""select * from ({DIFFERENCES}) differences
    where call_date >= coalesce((select calls_kept_since from callstats.rollup_state), '-infinity')"""

TENANTS = """
    insert into callstats.company (id, short_name) values (1, 'acme');
    insert into callstats.organization (id, company_id, short_name) values (1, 1, 'a'), (2, 1, 'b');
    insert into callstats.folder (id, organization_id, name)
        select n, 1 + n / 4, 'folder ' || n from generate_series(1, 7) n"""


def place(choice):
    folder = choice.randint(1, 7)
    return 1 + folder // 4, folder


def row(choice, first_day="2026-03-01"):
    organization, folder = place(choice)
    agent = choice.choice(["null", "''", "'a'", "'b'", "'ä'"])
    start = f"timestamp '{first_day} {choice.randrange(24):02}:00' + {choice.randrange(9)} * interval '1 day'"
    return f"({organization}, {folder}, {agent}, {start}, {choice.randrange(10**6)})"


def statement(choice, first_day, table, upserted):
    """A random statement of a writer, over `table`; an upsert needs one with a unique id."""
    some = f"id % {choice.randint(2, 50)} = 0 and folder_id = {choice.randint(1, 7)}"
    organization, folder = place(choice)
    return choice.choices([
        lambda: "insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "
                + ", ".join(row(choice, first_day) for _ in range(choice.randint(1, 40))),
        lambda: f"update {table} set duration_ms = duration_ms + {choice.randrange(1000)} where {some}",
        lambda: f"update {table} set organization_id = {organization}, folder_id = {folder} where {some}",
        lambda: f"update {table} set agent_id = nullif(agent_id || 'x', 'axxx') where {some}",
        lambda: f"update {table} set started_at = started_at + interval '{choice.randint(-2, 2)} days' where {some}",
        lambda: f"delete from {table} where {some}",
        lambda: f"insert into {upserted} (id, organization_id, folder_id, started_at, duration_ms) "
                f"select id, organization_id, folder_id, started_at, duration_ms from {upserted} where {some}"
                " limit 20 on conflict (organization_id, id)"
                " do update set duration_ms = excluded.duration_ms + 1, agent_id = 'upsert'",
        lambda: "truncate callstats.call",
        lambda: f"truncate {table}",  # may be a single partition
    ], weights=[40, 10, 10, 10, 10, 15, 10, 1, 2])[0]()


def in_partitions(database):
    """Partitions the calls. Returns what Torture has to know: the tables, and days around the end of one."""
    database.script(PROJECT / "deploy" / "partitions.sql")
    database.query("truncate callstats.call; select callstats.create_month_partitions(4)")
    months = database.query("select name::text, ends from callstats.month_partitions() order by ends desc limit 3")
    return {"tables": ["callstats.call", months[1][0], months[2][0]], "first_day": months[2][1] - datetime.timedelta(4),
            "detached_before": months[2][1]}


class Torture:
    """Of callstats.call, or of that and of its partitions: as `tables` names them."""

    def __init__(self, database, seed, writers=8, readers=2, first_day="2026-03-01", tables=("callstats.call",),
                 detached_before=None):
        self.first_day, self.tables, self.detached_before = first_day, tables, detached_before
        self.database, self.counts = database, collections.Counter()
        self.problems, self.over, self.spared = [], threading.Event(), threading.Event()
        jobs = [self.write] * writers + [self.read] * readers + [self.compact] * 2 + [self.kill]
        jobs += [self.detach] * (detached_before is not None)
        self.threads = [threading.Thread(target=self.guarded, args=(job, random.Random(seed + number)))
                        for number, job in enumerate(jobs)]

    def run(self, seconds):
        self.detached_at = time.monotonic() + seconds * 0.7
        for thread in self.threads:
            thread.start()
        self.over.wait(seconds)
        # Each try to detach can be killed or find the partition in use: spared of both, it succeeds beside the rest.
        self.spared.set()
        while self.detached_before and not self.counts["detached"] and not self.over.wait(0.05):
            assert time.monotonic() < self.detached_at + seconds + 120, "detaching did not end within two minutes"
        self.over.set()
        for thread in self.threads:
            thread.join()

    def guarded(self, work, choice):
        while not self.over.is_set():
            try:
                with contextlib.closing(self.database.cluster.connect(self.database.name)) as connection:
                    work(connection, choice)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                # Killed, as intended. Writers also deadlock over rows of calls, as they would without a rollup; never
                # over the rollup.
                if "deadlock" not in str(error):
                    self.counts["killed"] += 1
                elif "call_daily" in str(error):
                    self.counts["deadlocks over the rollup"] += 1
                else:
                    self.counts["deadlocks over calls"] += 1
            except (psycopg2.errors.UniqueViolation, psycopg2.errors.CheckViolation,
                    psycopg2.errors.NotNullViolation) as error:
                # A call that has the id of another, or would leave the month that was named, or goes into one that was
                # detached, which fills in no dates; never a row of the rollup.
                self.counts["refused"] += 1
                if error.diag.table_name in (None, "call_daily"):
                    self.problems.append(repr(error))
                    self.over.set()
            except Exception as error:
                self.problems.append(repr(error))
                self.over.set()

    def write(self, connection, choice):
        connection.autocommit = False
        with connection.cursor() as cursor:
            while not self.over.is_set():
                tables = self.tables[:-1] if self.spared.is_set() and len(self.tables) > 1 else self.tables
                for _ in range(choice.randint(1, 3)):
                    cursor.execute(statement(choice, self.first_day, choice.choice(tables), tables[-1]))
                    self.counts["statements"] += 1
                if choice.random() < 0.2:
                    connection.rollback()
                    self.counts["rolled back"] += 1
                else:
                    connection.commit()

    def read(self, connection, choice):
        connection.set_session("REPEATABLE READ", readonly=True, autocommit=False)
        with connection.cursor() as cursor:
            while not self.over.is_set():
                # Before the snapshot: it does not see TRUNCATE, but reads what that left.
                cursor.execute("lock table callstats.call in access share mode")
                cursor.execute(DIFFERENCES_SINCE)
                self.problems += cursor.fetchall()
                cursor.execute("select count(*) from callstats.call")
                connection.rollback()
                self.counts["comparisons"] += 1

    def compact(self, connection, choice):
        with connection.cursor() as cursor:
            while not self.over.is_set():
                cursor.execute("call callstats.compact(%s)", [choice.choice([1, 10, 5000])])
                self.counts["compactions"] += 1

    def detach(self, connection, choice):
        """Once, beside all of it. What the month had then is noted by the same transaction."""
        if self.counts["detached"]:
            self.over.wait()
        elif not self.over.wait(max(self.detached_at - time.monotonic(), 0)):
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute("select callstats.detach_partitions_before(%s)", [self.detached_before])
                cursor.execute(f"""create table if not exists public.detached as
                    select organization_id, call_date, folder_id, agent_id, count(*) as calls,
                           sum(duration_ms) as duration_ms
                    from {self.tables[-1]} group by 1, 2, 3, 4""")
            connection.commit()
            self.counts["detached"] += 1

    def left(self):
        """Differences in the end, those of the month that was detached included."""
        detached = "" if not self.counts["detached"] else """
            union all select organization_id, call_date, folder_id, agent_id, calls, duration_ms from public.detached"""
        return self.database.query(DIFFERENCES.replace("union all", detached + " union all", 1))

    def kill(self, connection, choice):
        with connection.cursor() as cursor:
            while not self.over.wait(choice.uniform(0.01, 0.2)):
                spared = "(both_sides|detach)" if self.spared.is_set() else "both_sides"
                cursor.execute("""select pg_terminate_backend(pid) from (select pid from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
                      and query !~ %s order by random() limit 1) victim""", [spared])
