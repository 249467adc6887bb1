"""The daily sums of adopted tables follow the folders and mappings that they are of."""
import contextlib
import threading

import psycopg2
import pytest

from ..support.processes import PROJECT, wait_until
from .test_adopt import FLAT, adopt


def groups_of_sums(database):
    return database.value("select count(*) from callstats.source_day")


@pytest.fixture
def summed(database):
    """Two folders, and an organization of its own with one, each with sums of 90 days."""
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""insert into public.calls
        select 'acme', organization, folder, 'anna', now() - n * interval '1 day', 10
        from generate_series(10, 99) n,
             (values ('support', 'Sales'), ('support', 'Service'), ('other', 'Sales')) as n2 (organization, folder)""")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", "--horizon", "7 days")
    adopt(database, "sync")
    assert groups_of_sums(database) == 270
    return database


LEAVE = {
    "delete from callstats.folder where name = 'Service'": 180,
    "delete from callstats.folder where organization_id = (select id from callstats.organization "
    "where short_name = 'other'); delete from callstats.organization where short_name = 'other'": 180,
    "delete from callstats.folder": 0,
    "delete from callstats.source": 0,
    "truncate callstats.company cascade": 0,
    "truncate callstats.source cascade": 0,
}


@pytest.mark.parametrize("has_old_keys", [False, True], ids=["installed now", "installed with foreign keys"])
@pytest.mark.parametrize("statement, left", LEAVE.items(), ids=map(str, range(len(LEAVE))))
def test_sums_go_with_their_folder_and_mapping(statement, left, has_old_keys, summed):
    if has_old_keys:
        summed.script(PROJECT / "tests" / "database" / "version2" / "source_day_keys.sql")
        summed.script(PROJECT / "deploy" / "adopt.sql")
    assert summed.value("select count(*) from pg_constraint where contype = 'f' "
                        "and conrelid = 'callstats.source_day'::regclass") == 0
    summed.query(statement)
    assert groups_of_sums(summed) == left


def test_who_may_delete_a_folder_needs_no_privilege_on_sums(summed):
    summed.query("""drop role if exists keeper; create role keeper; grant usage on schema callstats to keeper;
        grant select, delete on callstats.folder to keeper; set role keeper;
        delete from callstats.folder where name = 'Sales'; reset role; drop owned by keeper; drop role keeper""")
    assert groups_of_sums(summed) == 90


def test_a_folder_that_is_deleted_while_its_days_are_summed_leaves_no_sums(summed):
    """The one who deletes waits for the sums, and takes them along."""
    adopt(summed, "off")
    adopt(summed, "on", "--preset", "flat", "--time_zone", "UTC", "--horizon", "7 days")
    with contextlib.closing(summed.cluster.connect(summed.name)) as holder, holder.cursor() as cursor:
        # Keeps the command from its last statement of a chunk, after the folders are locked.
        cursor.execute("begin; lock table callstats.source_checked in share mode")
        syncing = threading.Thread(target=adopt, args=(summed, "sync"))
        syncing.start()
        waiting = "select count(*) from pg_locks where not granted and relation = 'callstats.{}'::regclass"
        wait_until(lambda: summed.value(waiting.format("source_checked")) == 1)
        with contextlib.closing(summed.cluster.connect(summed.name)) as other, other.cursor() as deleter:
            deleter.execute("set lock_timeout = '50ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                deleter.execute("delete from callstats.folder where name = 'Service'")
        holder.rollback()
    syncing.join()
    summed.query("delete from callstats.folder where name = 'Service'")
    assert groups_of_sums(summed) == 180
