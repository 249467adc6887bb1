"""Months of calls: the same answers before and after, and sums that outlive the calls."""
import datetime
import re

import psycopg2
import pytest

from ..support import torture
from ..support.processes import PROJECT
from ..support.sample import months_until
from ..support.worker import ROOT_TOKEN, Worker, check

PARTITIONS, ROLLUP = PROJECT / "deploy" / "partitions.sql", PROJECT / "deploy" / "rollup.sql"
ALL = f"/stats/acme/a?token={ROOT_TOKEN}&daterange=20200101-20991231"


def partitions(database):
    return [name for (name,) in database.query("select name::text from callstats.month_partitions()")]


def checked(worker, expected):
    code, out = check(worker.environment)
    assert code == expected, out
    return out


@pytest.mark.parametrize("with_rollup", [False, True])
def test_conversion_under_a_worker_keeps_answers(with_rollup, a_thousand_calls, start):
    worker = start(Worker, a_thousand_calls.url)
    if with_rollup:
        a_thousand_calls.script(ROLLUP)
    before = worker.ask("GET", ALL).body
    for _ in range(2):
        a_thousand_calls.script(PARTITIONS)
        assert worker.ask("GET", ALL).body == before != b"[]"
    names = partitions(a_thousand_calls)
    assert names[0] == "callstats.call_before" and len(names) == months_until(a_thousand_calls, 3)
    # What the database keeps right it still keeps right, in a month to come as well.
    last = a_thousand_calls.value("select ends - 10 from callstats.month_partitions() order by ends desc limit 1")
    for day in ("2026-03-05", last):
        assert a_thousand_calls.query(
            """insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
            values (1, 1, '', %s, 1000) returning call_date = started_at::date, agent_id""",
            day,
        ) == [(True, None)]
    with pytest.raises(psycopg2.errors.CheckViolation, match="no partition"):
        a_thousand_calls.query(
            "insert into callstats.call (organization_id, folder_id, started_at, duration_ms) "
            "values (1, 1, '2099-01-01', 1)"
        )
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        a_thousand_calls.query(
            "insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 7, %s, 1)",
            last,
        )
    with pytest.raises(psycopg2.errors.CheckViolation):
        a_thousand_calls.query(
            "insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 1, %s, -1)",
            last,
        )
    a_thousand_calls.query("update callstats.call set started_at = %s where id = 1", last)  # into another partition
    assert a_thousand_calls.query(torture.DIFFERENCES) == []
    assert len(set(a_thousand_calls.query("select id from callstats.call"))) == a_thousand_calls.value(
        "select count(*) from callstats.call"
    )
    assert worker.ask("GET", ALL).status == 200 and worker.ask("GET", ALL).body != before
    a_thousand_calls.script(PROJECT / "deploy" / "schema.sql")
    assert re.search(r"^ok     partitions       exist until 20\d\d-\d\d-01$", checked(worker, 0), re.M)
    if with_rollup:
        with_partitions = worker.ask("GET", ALL).body
        a_thousand_calls.script(PROJECT / "deploy" / "rollup-remove.sql")
        assert worker.ask("GET", ALL).body == with_partitions
        assert a_thousand_calls.query("select 1 from pg_trigger where tgname ~ 'roll_up'") == []
        a_thousand_calls.query("select callstats.create_month_partitions(6)")


def test_sums_outlive_their_calls(a_thousand_calls, start):
    a_thousand_calls.script(ROLLUP)
    a_thousand_calls.script(PARTITIONS)
    last = a_thousand_calls.value("select ends - 10 from callstats.month_partitions() order by ends desc limit 1")
    a_thousand_calls.query(
        "insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 1, %s, 1)", last
    )
    worker = start(Worker, a_thousand_calls.url)
    before = worker.ask("GET", ALL).body
    ends = a_thousand_calls.value("select min(ends) from callstats.month_partitions()")
    assert a_thousand_calls.value("select callstats.detach_partitions_before(%s)", ends) == 1
    a_thousand_calls.query("drop table callstats.call_before")
    assert a_thousand_calls.value("select since from callstats.raw_calls") == ends
    assert worker.ask("GET", ALL).body == before
    a_thousand_calls.script(ROLLUP)  # does not take what is not there for a difference
    assert worker.ask("GET", ALL).body == before
    assert "are only in the rollup" in a_thousand_calls.refused(PROJECT / "deploy" / "rollup-remove.sql")
    a_thousand_calls.query("truncate callstats.call")
    assert worker.ask("GET", ALL).body == before.rpartition(b",{")[0] + b"]"


@pytest.mark.parametrize(
    "order", [(ROLLUP, PARTITIONS), (PARTITIONS, ROLLUP)], ids=["rollup first", "partitions first"]
)
def test_writes_to_a_partition_keep_sums(order, a_thousand_calls):
    """Loaders that name a partition, and what is detached, which is no longer of the answers."""
    for script in order:
        a_thousand_calls.script(script)
    a_thousand_calls.query("select callstats.create_month_partitions(5)")
    last, ends = a_thousand_calls.query(
        "select name::text, ends from callstats.month_partitions() order by ends desc limit 1"
    )[0]
    for month, day in (("callstats.call_before", datetime.date(2026, 3, 5)), (last, ends - datetime.timedelta(10))):
        a_thousand_calls.copy(
            f"{month} (organization_id, folder_id, agent_id, started_at, duration_ms)",
            [f"1\t1\tx\t{day}\t{n}\n" for n in range(99)],
        )
        a_thousand_calls.query(f"update {month} set duration_ms = duration_ms + 1, agent_id = 'y' where id % 2 = 0")
        a_thousand_calls.query(f"delete from {month} where id % 7 = 0")
        assert a_thousand_calls.query(torture.DIFFERENCES) == []
        assert (
            a_thousand_calls.value(
                "select sum(calls) from callstats.call_source where call_date = %s and agent_id in ('x', 'y')", day
            )
            > 80
        )
    a_thousand_calls.query(f"truncate {last}")
    assert a_thousand_calls.query(torture.DIFFERENCES) == []
    assert a_thousand_calls.value("select sum(calls) from callstats.call_source") > 900

    kept = a_thousand_calls.query("select * from callstats.call_source order by 1, 2, 3, 4")
    a_thousand_calls.query("select callstats.detach_partitions_before(max(ends)) from callstats.month_partitions()")
    a_thousand_calls.query("delete from callstats.call_before where id % 2 = 0; truncate callstats.call_before")
    assert a_thousand_calls.query("select * from callstats.call_source order by 1, 2, 3, 4") == kept
    a_thousand_calls.query("truncate callstats.call")
    assert a_thousand_calls.query("select * from callstats.call_source order by 1, 2, 3, 4") == kept


def test_missing_partitions_are_created_later(a_thousand_calls, start):
    a_thousand_calls.script(PARTITIONS)
    for name in partitions(a_thousand_calls)[1:]:
        a_thousand_calls.query(f"drop table {name}")
    # On the last day of a month the first partition holds the next one as well.
    end = a_thousand_calls.value("select (date_trunc('month', now()) + interval '1 month')::date")
    a_thousand_calls.query("alter table callstats.call detach partition callstats.call_before")
    a_thousand_calls.query(
        "alter table callstats.call attach partition callstats.call_before for values from (minvalue) to (%s)", end
    )
    worker = start(Worker, a_thousand_calls.url)
    assert re.search(r"^FAIL   partitions       no partition exists from 20\d\d-\d\d-01 on", checked(worker, 1), re.M)
    a_thousand_calls.query("select callstats.create_month_partitions(1)")
    assert len(partitions(a_thousand_calls)) == 2
    a_thousand_calls.query("select callstats.create_month_partitions(5)")
    assert len(partitions(a_thousand_calls)) == 6
