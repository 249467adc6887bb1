"""External ids of calls: unique in the organization, whatever the table is made of."""
import contextlib
import threading

import psycopg2
import pytest

from ..support.processes import PROJECT, wait_until

DEPLOY = PROJECT / "deploy"
CALL = """insert into callstats.call (organization_id, folder_id, started_at, duration_ms, external_id)
    values ({organization}, {organization}, '{start}', 1000, {id})"""
TENANTS = """
    insert into callstats.company (id, short_name) values (1, 'acme');
    insert into callstats.organization (id, company_id, short_name) values (1, 1, 'a'), (2, 1, 'b');
    insert into callstats.folder (id, organization_id, name) values (1, 1, 'x'), (2, 2, 'x')"""


def call(database, id, start="2026-03-03 10:00", organization=1):
    database.query(CALL.format(id=f"'{id}'" if id is not None else "null", start=start, organization=organization))


def keys(database):
    return database.query("select organization_id, external_id, call_id from callstats.call_key order by 1, 2")


# Keys without their call, and calls without their key.
DIFFERENCES = """select organization_id, external_id, k.call_id, c.id
    from callstats.call_key k
    full join (select * from callstats.call where external_id is not null) c using (organization_id, external_id)
    where k.call_id is distinct from c.id"""
MANY = """insert into callstats.call (organization_id, folder_id, started_at, duration_ms, external_id)
    select 1, 1, timestamp '2026-03-03', 1, 'id' || n from generate_series(1, {}) n"""


def later(database):
    """A day that has another partition."""
    return database.value("select (now() + interval '40 days')::date::text")


@pytest.fixture(params=["plain", "partitions"])
def calls(request, database):
    database.query(TENANTS)
    if request.param == "partitions":
        database.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) "
                       "values (1, 1, '2025-01-01', 1)")
        database.script(DEPLOY / "partitions.sql")
        database.query("delete from callstats.call")
    return database


def test_external_id_is_unique_in_its_organization(calls):
    call(calls, "x")
    call(calls, "x", organization=2)
    call(calls, None)
    call(calls, None)
    for start in ("2026-03-03 11:00", later(calls)):  # in another partition
        with pytest.raises(psycopg2.errors.UniqueViolation, match='external id "x"'):
            call(calls, "x", start)
    call(calls, "y", later(calls))
    with pytest.raises(psycopg2.errors.UniqueViolation):
        calls.query("update callstats.call set external_id = 'x' where external_id = 'y'")
    with pytest.raises(psycopg2.errors.CheckViolation):
        call(calls, "")


@pytest.mark.parametrize("rows", [3, 3000])
def test_many_calls_at_once_have_ids_that_are_unique(rows, calls):
    calls.query(MANY.format(rows))
    assert len(keys(calls)) == rows and calls.query(DIFFERENCES) == []
    for statement in (MANY.format(rows + 2), MANY.format(rows).replace("'id' || n", "'new'"),
                      MANY.format(rows).replace("'id' || n", "'other' || n % 2")):
        with pytest.raises(psycopg2.errors.UniqueViolation, match='external id "(id1|new|other[01])" already'):
            calls.query(statement)
    with pytest.raises(psycopg2.errors.UniqueViolation, match='external id "id1"'):
        calls.copy("callstats.call (organization_id, folder_id, started_at, duration_ms, external_id)",
                   [f"1\t1\t2026-03-03\t1\tid{n}\n" for n in range(1, rows)])
    calls.query(MANY.format(rows).replace("'id'", "'new'") + " on conflict do nothing")
    assert len(keys(calls)) == 2 * rows and calls.query(DIFFERENCES) == []


def test_keys_follow_changes_of_calls(calls):
    call(calls, "x")
    call(calls, "y")
    calls.query("update callstats.call set external_id = 'z' where external_id = 'y'")
    calls.query(f"update callstats.call set started_at = '{later(calls)}' where external_id = 'x'")
    ids = dict(calls.query("select external_id, id from callstats.call"))
    assert keys(calls) == [(1, "x", ids["x"]), (1, "z", ids["z"])]
    calls.query("update callstats.call set external_id = case external_id when 'x' then 'z' else 'x' end")
    assert keys(calls) == [(1, "x", ids["z"]), (1, "z", ids["x"])]
    calls.query("update callstats.call set organization_id = 2, folder_id = 2 where external_id = 'z'")
    assert keys(calls) == [(1, "x", ids["z"]), (2, "z", ids["x"])]
    calls.query("update callstats.call set external_id = null where external_id = 'z'")
    calls.query("update callstats.call set duration_ms = duration_ms + 1")
    calls.query("update callstats.call set id = id + 1000 where external_id = 'x'")
    assert keys(calls) == [(1, "x", ids["z"] + 1000)]
    calls.query("delete from callstats.call where external_id = 'x'")
    assert keys(calls) == []
    call(calls, "x")


@pytest.mark.parametrize("tables", ["callstats.call", "callstats.call, callstats.call_key",
                                    "callstats.call_key, callstats.call"])
def test_truncate_frees_the_ids(tables, calls):
    call(calls, "x")
    call(calls, "y", later(calls))
    calls.query(f"truncate {tables}")
    assert keys(calls) == []
    call(calls, "x")
    calls.query("begin; declare c cursor for select * from callstats.call_key; fetch c; "
                "truncate callstats.call; commit")
    assert keys(calls) == []


def test_statements_that_name_a_partition_keep_its_keys(database):
    database.query(TENANTS)
    database.script(DEPLOY / "partitions.sql")
    day = later(database)
    month = database.value("select name::text from callstats.month_partitions() where ends > %s order by ends", day)
    call(database, "x")
    for partition, start in (("callstats.call_before", "2026-03-03"), (month, day)):
        insert = CALL.replace("callstats.call ", f"{partition} ")
        with pytest.raises(psycopg2.errors.UniqueViolation, match='external id "x"'):
            database.query(insert.format(id="'x'", start=start, organization=1))
        for id in "abc":
            database.query(insert.format(id=f"'{id}{start}'", start=start, organization=1))
        database.query(f"update {partition} set external_id = external_id || '!' where external_id like 'a%'")
        database.query(f"delete from {partition} where external_id like 'b%'")
        assert database.query(DIFFERENCES) == []
    assert len(keys(database)) == 5
    database.query(f"truncate {month}")
    assert database.query(DIFFERENCES) == [] and len(keys(database)) == 3
    call(database, "x2", day)
    database.query(f"alter table callstats.call detach partition {month}")
    call(database, "y")  # in another one
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="for callstats.call and its partitions"):
        database.query(f"delete from {month}")
    database.query("select callstats.detach_partitions_before('2100-01-01')")
    assert [key for _, key, _ in keys(database)] == ["x2"]
    database.query("delete from callstats.call_before; truncate callstats.call_before")


@pytest.mark.parametrize("rows", [3, 3000])
def test_the_id_of_a_call_that_left_is_free(rows, calls):
    """Calls can leave without a trigger, with a partition that is detached by hand."""
    calls.query(MANY.format(rows))
    calls.query("alter table callstats.call disable trigger user; delete from callstats.call; "
                "alter table callstats.call enable trigger user")
    if calls.value("select relkind from pg_class where oid = 'callstats.call'::regclass") == "p":
        calls.query("delete from callstats.call")
    calls.query("insert into callstats.call_key select 1, 'id' || n, n from generate_series(1, 2) n "
                "on conflict do nothing")
    with pytest.raises(psycopg2.errors.UniqueViolation, match='external id "id1"'):
        calls.query(MANY.format(rows).replace("'id' || n", "'id1'"))
    calls.query(MANY.format(rows))
    assert calls.query(DIFFERENCES) == [] and len(keys(calls)) == rows


@pytest.mark.parametrize("is_stale", [False, True], ids=["new", "free"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("rows", [1, 2000])
def test_of_two_calls_with_the_same_id_at_the_same_time_one_is_there(rows, end, is_stale, calls):
    if is_stale:
        calls.query("insert into callstats.call_key values (1, 'id1', 77)")
    outcome = []
    with contextlib.closing(calls.cluster.connect(calls.name)) as other, other.cursor() as cursor:
        def insert():
            try:
                cursor.execute(MANY.format(rows))
                outcome.append("inserted")
            except psycopg2.errors.UniqueViolation as error:
                outcome.append(str(error))
        calls.query("begin")
        call(calls, "id1")
        thread = threading.Thread(target=insert)
        thread.start()
        wait_until(lambda: calls.value("select count(*) from pg_locks where not granted") == 1)
        calls.query(end)
        thread.join()
    if end == "commit":
        assert len(outcome) == 1 and 'has a call with the external id "id1" already' in outcome[0]
    else:
        assert outcome == ["inserted"]
    assert calls.query(DIFFERENCES) == []
    assert calls.value("select count(*) from callstats.call") == (1 if end == "commit" else rows)


def test_a_plan_for_one_call_does_not_serve_a_million(calls):
    """The plans of a session are kept: what is quadratic with the plan for one call would take hours."""
    call(calls, "x")
    calls.query("update callstats.call set duration_ms = 2; update callstats.call set external_id = 'y'; "
                "delete from callstats.call")
    calls.query(MANY.format(30000))
    calls.query("set statement_timeout = '20s'")
    calls.query("update callstats.call set duration_ms = 2")
    calls.query("update callstats.call set external_id = external_id || 'x'")
    calls.query("delete from callstats.call")
    assert keys(calls) == []


def test_the_way_up_replaces_triggers_for_each_row(calls):
    calls.script(PROJECT / "tests" / "database" / "version2" / "row_triggers.sql")
    call(calls, "x")
    for _ in range(2):
        calls.script(DEPLOY / "schema.sql")
        assert calls.query("select tgname from pg_trigger where tgname like 'call_key%' and tgtype & 1 = 1") == [
            ("call_key_is_new",)]
        with pytest.raises(psycopg2.errors.UniqueViolation):
            call(calls, "x")
    tables = calls.value("select count(distinct tgrelid) from pg_trigger where tgname = 'call_key_on_insert'")
    assert tables == 1 + calls.value("select count(*) from pg_inherits where inhparent = 'callstats.call'::regclass")
    call(calls, "y", later(calls))
    calls.query(f"update callstats.call set started_at = '{later(calls)}'")
    assert calls.query(DIFFERENCES) == [] and len(keys(calls)) == 2


def test_ids_stay_unique_when_the_table_is_partitioned(database):
    database.query(TENANTS)
    call(database, "x")
    database.script(DEPLOY / "partitions.sql")
    for start in ("2026-03-03", later(database)):
        with pytest.raises(psycopg2.errors.UniqueViolation):
            call(database, "x", start)
    assert database.query(DIFFERENCES) == [] and len(keys(database)) == 1


def test_the_script_says_that_partitions_are_created_as_of_before(database):
    database.script(DEPLOY / "partitions.sql")
    assert "older" not in database.psql(input=(DEPLOY / "schema.sql").read_text())[1]
    database.query("""create or replace function callstats.create_month_partitions(ahead int default 3) returns void
        language sql as ''""")
    code, printed = database.psql(input=(DEPLOY / "schema.sql").read_text())
    assert code == 0 and "create_month_partitions is older than this file" in printed and "partitions.sql" in printed


def test_upgrade_adds_external_ids_to_the_first_version(cluster):
    database = cluster.database(with_schema=False)
    try:
        for name in ("schema", "rollup", "partitions"):
            database.script(PROJECT / "tests" / "database" / "version1" / f"{name}.sql")
        database.query(TENANTS)
        database.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms) "
                       "values (1, 1, now(), 1); insert into callstats.loaded_file (sha256, name, calls) "
                       "values (sha256('x'), 'x.csv', 1)")
        for _ in range(2):
            database.script(DEPLOY / "schema.sql")
            database.script(DEPLOY / "partitions.sql")
        start = database.value("select now()::date::text")
        call(database, "x", start)
        with pytest.raises(psycopg2.errors.UniqueViolation):
            call(database, "x", later(database))
        assert database.value("select count(*) from callstats.loaded_file where bytes is null") == 1
    finally:
        database.drop()


def test_loader_needs_no_privilege_on_the_keys(calls):
    calls.cluster.execute("drop role if exists key_loader; create role key_loader login")
    try:
        calls.query("grant usage on schema callstats to key_loader; grant insert on callstats.call to key_loader; "
                    "grant usage on all sequences in schema callstats to key_loader")
        with calls.cluster.connect(calls.name, "key_loader") as connection, connection.cursor() as cursor:
            cursor.execute(CALL.format(id="'x'", start="2026-03-03 10:00", organization=1))
        connection.close()
        assert [key for _, key, _ in keys(calls)] == ["x"]
    finally:
        calls.query("drop owned by key_loader")
        calls.cluster.execute("drop role key_loader")


def test_data_of_a_dump_can_be_restored(calls):
    call(calls, "x")
    rows = calls.query("select * from callstats.call_key")
    calls.query("insert into callstats.call_key select * from callstats.call_key")
    assert calls.query("select * from callstats.call_key") == rows
