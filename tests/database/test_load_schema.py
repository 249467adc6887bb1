"""External ids of calls: unique in the organization, whatever the table is made of."""
import psycopg2
import pytest

from ..support.processes import PROJECT

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
    later = calls.value("select (now() + interval '40 days')::date::text")
    for start in ("2026-03-03 11:00", later):  # in another partition
        with pytest.raises(psycopg2.errors.UniqueViolation, match='external id "x"'):
            call(calls, "x", start)
    call(calls, "y", later)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        calls.query("update callstats.call set external_id = 'x' where external_id = 'y'")
    with pytest.raises(psycopg2.errors.CheckViolation):
        call(calls, "")


def test_keys_follow_changes_of_calls(calls):
    later = calls.value("select (now() + interval '40 days')::date::text")
    call(calls, "x")
    call(calls, "y")
    calls.query("update callstats.call set external_id = 'z' where external_id = 'y'")
    calls.query(f"update callstats.call set started_at = '{later}' where external_id = 'x'")
    ids = dict(calls.query("select external_id, id from callstats.call"))
    assert keys(calls) == [(1, "x", ids["x"]), (1, "z", ids["z"])]
    calls.query("delete from callstats.call where external_id = 'x'")
    assert [key for _, key, _ in keys(calls)] == ["z"]
    calls.query("truncate callstats.call")
    call(calls, "z")
    assert [key for _, key, _ in keys(calls)] == ["z"]


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
            call(database, "x", database.value("select (now() + interval '40 days')::date::text"))
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
