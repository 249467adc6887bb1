"""Months of calls: the same answers before and after, and sums that outlive the calls."""
import random
import subprocess

import psycopg2
import pytest

from .support import torture
from .support.processes import CALLSTATS, PROJECT, as_user
from .support.worker import ROOT_TOKEN, Worker

PARTITIONS, ROLLUP = PROJECT / "deploy" / "partitions.sql", PROJECT / "deploy" / "rollup.sql"
ALL = f"/stats/acme/a?token={ROOT_TOKEN}&daterange=20200101-20991231"


@pytest.fixture
def filled(database):
    database.query(torture.TENANTS)
    choice = random.Random(1)
    for _ in range(10):
        database.query("insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "
                       + ", ".join(torture.row(choice) for _ in range(100)))
    return database


def partitions(database):
    return [name for (name,) in database.query("select name::text from callstats.month_partitions()")]


@pytest.mark.parametrize("with_rollup", [False, True])
def test_converting_under_a_worker(with_rollup, filled, start):
    worker = start(Worker, filled.url)
    if with_rollup:
        filled.script(ROLLUP)
    before = worker.ask("GET", ALL).body
    for _ in range(2):
        filled.script(PARTITIONS)
        assert worker.ask("GET", ALL).body == before != b"[]"
    assert partitions(filled)[0] == "callstats.call_before" and len(partitions(filled)) == 4
    # What the database keeps right it still keeps right, in a month to come as well.
    last = filled.value("select ends - 10 from callstats.month_partitions() order by ends desc limit 1")
    for day in ("2026-03-05", last):
        assert filled.query("""insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
            values (1, 1, '', %s, 1000) returning call_date = started_at::date, agent_id""", day) == [(True, None)]
    with pytest.raises(psycopg2.errors.CheckViolation, match="no partition"):
        filled.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 1, '2099-01-01', 1)")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        filled.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 7, %s, 1)", last)
    with pytest.raises(psycopg2.errors.CheckViolation):
        filled.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 1, %s, -1)", last)
    filled.query("update callstats.call set started_at = %s where id = 1", last)  # into another partition
    assert filled.query(torture.DIFFERENCES) == []
    assert len(set(filled.query("select id from callstats.call"))) == filled.value("select count(*) from callstats.call")
    assert worker.ask("GET", ALL).status == 200 and worker.ask("GET", ALL).body != before
    filled.script(PROJECT / "deploy" / "schema.sql")
    check = subprocess.run([CALLSTATS, "check"], capture_output=True, text=True, stdin=subprocess.DEVNULL, **as_user(**worker.environment))
    assert check.returncode == 0, check.stdout


def test_sums_outlive_their_calls(filled, start):
    filled.script(ROLLUP)
    filled.script(PARTITIONS)
    last = filled.value("select ends - 10 from callstats.month_partitions() order by ends desc limit 1")
    filled.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) values (1, 1, %s, 1)", last)
    worker = start(Worker, filled.url)
    before = worker.ask("GET", ALL).body
    ends = filled.value("select min(ends) from callstats.month_partitions()")
    assert filled.value("select callstats.detach_before(%s)", ends) == 1
    filled.query("drop table callstats.call_before")
    assert filled.value("select since from callstats.raw_calls") == ends
    assert worker.ask("GET", ALL).body == before
    filled.script(ROLLUP)  # does not take what is not there for a difference
    assert worker.ask("GET", ALL).body == before
    with pytest.raises(subprocess.CalledProcessError):
        filled.script(PROJECT / "deploy" / "rollup-remove.sql")
    filled.query("truncate callstats.call")
    assert worker.ask("GET", ALL).body == before.rpartition(b",{")[0] + b"]"


def test_months_that_nobody_made_are_made_up_for(filled):
    filled.script(PARTITIONS)
    for name in partitions(filled)[1:]:
        filled.query(f"drop table {name}")
    filled.query("select callstats.make_months(1)")
    assert len(partitions(filled)) == 2
    filled.query("select callstats.make_months(5)")
    assert len(partitions(filled)) == 6
