"""Scripts and functions beside writers and beside each other: nobody is aborted, nobody waits long, sums stay exact."""
import concurrent.futures
import contextlib
import itertools
import random
import threading
import time

import psycopg2
import pytest

from ..support import torture
from ..support.processes import PROJECT, wait_until
from ..support.sample import months_until

DEPLOY = PROJECT / "deploy"
INSERT = "insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "


class Writers:
    """Write calls in transactions of `seconds`, and note how long a statement waited and what aborted it."""

    def __init__(self, database, count=4, seconds=0.05):
        self.database, self.seconds = database, seconds
        self.longest, self.transactions, self.errors, self.over = 0, 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(random.Random(n),)) for n in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.transactions > 4)
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def write(self, choice):
        with contextlib.closing(self.database.cluster.connect(self.database.name)) as connection:
            connection.autocommit = False
            while not self.over.is_set():
                try:
                    with connection.cursor() as cursor:
                        for _ in range(2):
                            began = time.monotonic()
                            cursor.execute(INSERT + torture.row(choice))
                            self.longest = max(self.longest, time.monotonic() - began)
                            self.over.wait(self.seconds / 2)
                    connection.commit()
                    self.transactions += 1
                except psycopg2.Error as error:
                    self.errors.append(repr(error))
                    connection.rollback()

    def were_undisturbed(self):
        print(f"{self.transactions} transactions, the longest wait {self.longest:.2f} s")
        assert self.errors == [] and self.longest < 2


@pytest.mark.slow
def test_rollup_script_beside_writers_aborts_no_transaction(a_thousand_calls):
    a_thousand_calls.script(DEPLOY / "rollup.sql")
    with Writers(a_thousand_calls) as writers:
        for _ in range(50):
            a_thousand_calls.script(DEPLOY / "rollup.sql")
    writers.were_undisturbed()
    assert a_thousand_calls.query(torture.DIFFERENCES) == []


def test_every_script_beside_writers_aborts_no_transaction(a_thousand_calls):
    with Writers(a_thousand_calls) as writers:
        for name in (
            "schema",
            "rollup",
            "rollup-remove",
            "rollup",
            "partitions",
            "partitions",
            "rollup-remove",
            "rollup",
            "schema",
        ):
            a_thousand_calls.script(DEPLOY / f"{name}.sql")
        a_thousand_calls.query("select callstats.create_month_partitions(9)")
        a_thousand_calls.query("call callstats.compact()")
    writers.were_undisturbed()
    assert a_thousand_calls.query(torture.DIFFERENCES) == []


def test_partitions_are_attached_without_blocking_a_long_transaction(a_thousand_calls):
    a_thousand_calls.script(DEPLOY / "partitions.sql")
    with (
        contextlib.closing(a_thousand_calls.cluster.connect(a_thousand_calls.name)) as writer,
        writer.cursor() as cursor,
    ):
        writer.autocommit = False
        cursor.execute(INSERT + torture.row(random.Random(1)))
        a_thousand_calls.query("select callstats.create_month_partitions(5)")  # returns while that one is open
        cursor.execute(INSERT + torture.row(random.Random(2)))
        writer.commit()
    months = a_thousand_calls.value("select count(*) from callstats.month_partitions()")
    assert months == months_until(a_thousand_calls, 5)


def test_validation_before_the_conversion_needs_no_scan_under_the_lock(a_thousand_calls):
    before = len(a_thousand_calls.cluster.process.text())
    a_thousand_calls.query(f"alter database {a_thousand_calls.name} set log_min_messages = debug1")
    a_thousand_calls.script(DEPLOY / "partitions.sql")
    log = a_thousand_calls.cluster.process.text()[before:]
    assert 'partition constraint for table "call_before" is implied by existing constraints' in log


def test_detaching_while_the_rollup_is_filled_keeps_sums(a_thousand_calls):
    for name in ("rollup", "partitions"):
        a_thousand_calls.script(DEPLOY / f"{name}.sql")
    before = a_thousand_calls.query("select sum(calls), sum(duration_ms) from callstats.call_source")
    with contextlib.closing(a_thousand_calls.cluster.connect(a_thousand_calls.name)) as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("select callstats.detach_partitions_before(min(ends)) from callstats.month_partitions()")
        rollup = threading.Thread(target=a_thousand_calls.script, args=(DEPLOY / "rollup.sql",))
        rollup.start()
        wait_until(lambda: a_thousand_calls.query("select 1 from pg_stat_activity where wait_event_type = 'Lock'"))
        other.commit()
        rollup.join()
    assert a_thousand_calls.query("select sum(calls), sum(duration_ms) from callstats.call_source") == before


@pytest.mark.parametrize("kept_since", [None, "2026-01-01"])
@pytest.mark.parametrize("truncated", ["callstats.call_before", "callstats.call"])
def test_truncating_while_merging_leaves_no_sums(truncated, kept_since, a_thousand_calls):
    for name in ("rollup", "partitions"):
        a_thousand_calls.script(DEPLOY / f"{name}.sql")
    a_thousand_calls.query("update callstats.rollup_state set calls_kept_since = %s", kept_since)
    a_thousand_calls.query("""insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
        select 1, 1, n::text, timestamp '2026-03-01' + n * interval '1 minute', n from generate_series(1, 6000) n""")

    def compact():
        with (
            contextlib.closing(a_thousand_calls.cluster.connect(a_thousand_calls.name)) as merging,
            merging.cursor() as cursor,
        ):
            cursor.execute("call callstats.compact(50)")

    thread = threading.Thread(target=compact)
    thread.start()
    wait_until(lambda: a_thousand_calls.query("select 1 from callstats.call_daily where not is_delta limit 1"))
    assert thread.is_alive()
    a_thousand_calls.query(f"truncate {truncated}")
    assert a_thousand_calls.query(torture.DIFFERENCES) == []
    thread.join()
    a_thousand_calls.query("call callstats.compact()")
    assert a_thousand_calls.query("select * from callstats.call_source") == []


def test_truncate_of_a_partition_in_an_old_snapshot_is_refused(a_thousand_calls):
    for name in ("rollup", "partitions"):
        a_thousand_calls.script(DEPLOY / f"{name}.sql")
    with pytest.raises(psycopg2.errors.FeatureNotSupported, match="cannot follow TRUNCATE"):
        a_thousand_calls.query("begin isolation level repeatable read; truncate callstats.call_before")
    a_thousand_calls.query("rollback")
    a_thousand_calls.query("set datestyle = 'SQL, DMY'; truncate callstats.call_before")
    assert a_thousand_calls.query("select sum(calls), sum(duration_ms) from callstats.call_source") == [(0, 0)]


def at_once(database, *scripts):
    """Runs files or statements at the same time; returns exit codes and what they printed."""
    results = {}

    def run(number, script):
        words = {"input": script.read_text()} if hasattr(script, "read_text") else {"input": script}
        results[number] = database.psql(**words)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(scripts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(scripts))]


def test_concurrent_first_installations_succeed(cluster):
    for _ in range(3):
        database = cluster.database(with_schema=False)
        for name in ("schema", "rollup", "partitions"):
            for code, output in at_once(database, *[DEPLOY / f"{name}.sql"] * 3):
                assert code == 0, f"{name}: {output}"
        months = database.value("select count(*) from callstats.month_partitions()")
        assert months == months_until(database, 3)
        database.drop()


ACTIONS = {
    "schema": DEPLOY / "schema.sql",
    "rollup": DEPLOY / "rollup.sql",
    "rollup-remove": DEPLOY / "rollup-remove.sql",
    "partitions": DEPLOY / "partitions.sql",
    "create_month_partitions": "select callstats.create_month_partitions(6)",
    "detach_partitions_before":
        "select callstats.detach_partitions_before((select min(ends) from callstats.month_partitions()))",
    "compact": "call callstats.compact(3)",
    "truncate": "truncate callstats.call_2027_01",
    "load": INSERT
    + "(1, 1, 'l', '2026-03-05', 5), (1, 1, 'l', '2027-01-05', 6); "
    + INSERT
    + "(1, 2, 'm', '2027-01-06', 7)",
}
# Errors that one of a pair may report because of the other; it changed nothing then.
EXPECTED = (
    "are only in the rollup",
    "callstats.compact(integer) does not exist",
    'relation "callstats.call_daily" does not exist',
    'no partition of relation "call" found for row',
)
CALLS_AND_DETACHED = """
    select coalesce(sum(calls), 0), coalesce(sum(duration_ms), 0) from (
        select count(*) as calls, sum(duration_ms) as duration_ms from callstats.call
        union all
        select count(*), sum(duration_ms) from callstats.call_before
        where (select relispartition from pg_class where oid = 'callstats.call_before'::regclass) is false
          and to_regclass('callstats.call_daily') is not null) both_of_them"""


@pytest.fixture(scope="module")
def partitioned(cluster):
    """A database to copy, with the rollup, partitions and calls, some of them not merged."""
    database = cluster.database()
    database.query(torture.TENANTS)
    for name in ("rollup", "partitions"):
        database.script(DEPLOY / f"{name}.sql")
    database.query("select callstats.create_month_partitions(4)")
    choice = random.Random(3)
    for day in ("2026-03-01", "2027-01-02"):
        database.query(INSERT + ", ".join(torture.row(choice, day) for _ in range(200)))
    database.connection.close()
    yield database.name
    cluster.execute(f"drop database {database.name} with (force)")


@pytest.mark.parametrize("pair", itertools.combinations_with_replacement(ACTIONS, 2), ids=" and ".join)
def test_concurrent_pairs_keep_sums_exact(pair, cluster, partitioned):
    """Both are held up by a transaction that has locks on all that they need, and released at the same moment."""
    database = cluster.database(with_schema=False, template=partitioned)
    with contextlib.closing(cluster.connect(database.name)) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("lock table callstats.call, callstats.call_daily, callstats.folder in row exclusive mode; "
                       "lock table callstats.call_2027_01 in row exclusive mode")
        results = []
        both = threading.Thread(target=lambda: results.extend(at_once(database, *(ACTIONS[name] for name in pair))))
        both.start()
        with contextlib.suppress(TimeoutError):  # those that such locks do not hold up are over by then
            wait_until(
                lambda: (
                    results
                    or len(
                        database.query(
                            "select 1 from pg_stat_activity "
                            "where datname = current_database() and wait_event_type = 'Lock'"
                        )
                    )
                    == 2
                ),
                0.4,
            )
        blocker.commit()
        both.join()
    for name, (code, output) in zip(pair, results):
        assert code == 0 or any(text in output for text in EXPECTED), f"{name}: {output}"
    assert database.query("select sum(calls), sum(duration_ms) from callstats.call_source") == database.query(
        CALLS_AND_DETACHED
    )
    if "detach_partitions_before" not in pair:
        assert database.query(torture.DIFFERENCES) == []
    database.drop()


def test_detaching_several_partitions_gives_up_all_locks_while_it_waits(a_thousand_calls):
    """A writer of the second of them holds it, and would wait for the table that the first one needed."""
    database = a_thousand_calls
    database.script(DEPLOY / "partitions.sql")
    [first], [second] = database.query("select name::text from callstats.month_partitions() order by ends limit 2")
    day = database.value("select max(ends) from (select ends from callstats.month_partitions() order by 1 limit 2) e")
    with contextlib.closing(database.cluster.connect(database.name)) as writer, \
            contextlib.closing(database.cluster.connect(database.name)) as detacher:
        writer.autocommit = False
        held = writer.cursor()
        held.execute(f"update {second} set duration_ms = duration_ms")
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            detached = thread.submit(lambda: detacher.cursor().execute(
                "set client_min_messages = error; select callstats.detach_partitions_before(%s)", (day,)))
            wait_until(lambda: database.value("select count(*) from pg_stat_activity where wait_event = 'PgSleep' "
                                              "and datname = current_database()") == 1)
            assert database.value("select count(*) from pg_locks where relation = %s::regclass "
                                  "and mode = 'AccessExclusiveLock'", "callstats.call") == 0
            held.execute("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) "
                         "select organization_id, folder_id, now(), 1 from callstats.call limit 1")
            writer.commit()
            detached.result(60)
    left = [name for (name,) in database.query("select name::text from callstats.month_partitions()")]
    assert first not in left and second not in left
