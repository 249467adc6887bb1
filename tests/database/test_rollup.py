"""The rollup: the same answers as from the calls, at every moment."""
import contextlib
import random
import threading
import time

import pytest

from ..support import torture
from ..support.processes import PROJECT, wait_until
from ..support.worker import ROOT_TOKEN, Worker

ROLLUP, REMOVE = PROJECT / "deploy" / "rollup.sql", PROJECT / "deploy" / "rollup-remove.sql"


def answers(worker):
    days = ["20260301-20260309", "20260305", "20260101-20261231"]
    return [worker.ask("GET", f"/stats/acme/{path}?token={ROOT_TOKEN}&daterange={day}").body
            for path in ("a", "b", "a/folder%201", "b/folder%207") for day in days]


def test_rollup_is_installed_and_removed_under_a_running_worker(a_thousand_calls, start):
    worker = start(Worker, a_thousand_calls.url)
    before = answers(worker)
    for _ in range(2):
        a_thousand_calls.script(ROLLUP)
        assert answers(worker) == before
        assert a_thousand_calls.query(torture.DIFFERENCES) == []
    assert "call_daily" in a_thousand_calls.value("select pg_get_viewdef('callstats.call_source'::regclass)")
    a_thousand_calls.query("delete from callstats.call where id % 3 = 0")
    a_thousand_calls.query(
        "update callstats.call set started_at = started_at - interval '1 day', duration_ms = 1 where id % 5 = 0"
    )
    a_thousand_calls.query("call callstats.compact()")
    changed = answers(worker)
    assert changed != before and a_thousand_calls.query(torture.DIFFERENCES) == []
    a_thousand_calls.script(REMOVE)
    assert answers(worker) == changed
    assert a_thousand_calls.value("select to_regclass('callstats.call_daily')") is None
    a_thousand_calls.script(PROJECT / "deploy" / "schema.sql")
    a_thousand_calls.script(ROLLUP)
    assert answers(worker) == changed
    assert " 500 " not in worker.text() and " 503 " not in worker.text()


def test_installing_waits_for_a_long_answer(a_thousand_calls):
    """And lets others through meanwhile."""
    with (
        contextlib.closing(a_thousand_calls.cluster.connect(a_thousand_calls.name)) as reader,
        reader.cursor() as cursor,
    ):
        reader.autocommit = False
        cursor.execute("select * from callstats.call_source limit 1")
        install = threading.Thread(target=a_thousand_calls.script, args=(ROLLUP,))
        install.start()
        wait_until(
            lambda: a_thousand_calls.query(
                "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'drop view'"
            )
        )
        assert len(a_thousand_calls.query("select * from callstats.call_source limit 1")) == 1
        assert install.is_alive()
        reader.rollback()
        install.join()
    assert "call_daily" in a_thousand_calls.value("select pg_get_viewdef('callstats.call_source'::regclass)")


def test_compaction_leaves_one_row_for_each_group(a_thousand_calls):
    a_thousand_calls.script(ROLLUP)
    for _ in range(30):
        a_thousand_calls.query("update callstats.call set duration_ms = duration_ms + 1 where folder_id = 1")
    a_thousand_calls.query("delete from callstats.call where folder_id = 2")
    a_thousand_calls.query("call callstats.compact(7)")
    assert a_thousand_calls.query("select 1 from callstats.call_daily where is_delta") == []
    assert (
        a_thousand_calls.query(
            "select count(*) from callstats.call_daily group by organization_id, call_date, folder_id, agent_id "
            "having count(*) > 1"
        )
        == []
    )
    assert a_thousand_calls.query("select 1 from callstats.call_daily where folder_id = 2") == []
    assert a_thousand_calls.query(torture.DIFFERENCES) == []


def test_missed_sums_are_corrected(a_thousand_calls):
    a_thousand_calls.script(ROLLUP)
    a_thousand_calls.query(
        "alter table callstats.call disable trigger user; delete from callstats.call where id % 2 = 0; "
        "alter table callstats.call enable trigger user"
    )
    assert a_thousand_calls.query(torture.DIFFERENCES) != []
    a_thousand_calls.script(ROLLUP)
    assert a_thousand_calls.query(torture.DIFFERENCES) == []


def test_truncate_clears_the_sums(a_thousand_calls, start):
    a_thousand_calls.script(ROLLUP)
    worker = start(Worker, a_thousand_calls.url)
    a_thousand_calls.query("truncate callstats.call")
    assert set(answers(worker)) == {b"[]"}


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [lambda database: {}, torture.in_partitions], ids=["one table", "partitions"])
def test_torture_finds_no_difference(prepare, a_thousand_calls):
    """Five minutes of it: tests/bench/torture 300, and with --partitions."""
    a_thousand_calls.script(ROLLUP)
    seed = random.randrange(1_000_000)
    tortured = torture.Torture(a_thousand_calls, seed, **prepare(a_thousand_calls))
    tortured.run(20)
    print(f"seed {seed}: {dict(tortured.counts)}")
    assert tortured.problems == []
    assert tortured.left() == []
    assert tortured.counts["detached"] == (tortured.detached_before is not None)
    assert tortured.counts["deadlocks over the rollup"] == 0
    assert tortured.counts["comparisons"] > 20 and tortured.counts["compactions"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("long", [1, 2.5])
def test_installing_under_writes_blocks_no_writer_for_long(long, a_thousand_calls):
    """Writers that go on, one of them in long transactions; how long the longest single insert took."""
    longest, over = [], threading.Event()

    def write(hold):
        connection = a_thousand_calls.cluster.connect(a_thousand_calls.name)
        connection.autocommit = False
        worst, choice = 0, random.Random(hold)
        with connection.cursor() as cursor:
            while not over.is_set():
                began = time.monotonic()
                cursor.execute(
                    "insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "
                    + torture.row(choice)
                )
                worst = max(worst, time.monotonic() - began)
                over.wait(hold)
                connection.commit()
        connection.close()
        longest.append(worst)

    writers = [threading.Thread(target=write, args=(hold,)) for hold in (0, 0, 0.01, long)]
    for writer in writers:
        writer.start()
    try:
        a_thousand_calls.script(ROLLUP)
    finally:
        over.set()
        for writer in writers:
            writer.join()
    print(f"the longest that an insert was blocked: {max(longest):.2f} s")
    assert a_thousand_calls.query(torture.DIFFERENCES) == []
    assert max(longest) < 2
