"""The data model: its rules are the database's, and its script is safe to run again."""
import re

import psycopg2
import pytest

from ..support.processes import PROJECT

SCHEMA = PROJECT / "deploy" / "schema.sql"
TENANTS = """
    insert into callstats.company (id, short_name) values (1, 'acme'), (2, 'other');
    insert into callstats.organization (id, company_id, short_name, time_zone) values
        (1, 1, 'support', 'Europe/Berlin'), (2, 2, 'support', 'UTC');
    insert into callstats.folder (id, organization_id, name) values (1, 1, 'Sales'), (2, 2, 'Sales');
"""


@pytest.fixture
def tenants(database):
    database.query(TENANTS)
    return database


def add_call(database, **columns):
    columns = {
        "organization_id": 1,
        "folder_id": 1,
        "started_at": "2026-03-03 23:59:59.999",
        "duration_ms": 1000,
        **columns,
    }
    names, values = ", ".join(columns), ", ".join(["%s"] * len(columns))
    return database.query(f"insert into callstats.call ({names}) values ({values}) returning call_date::text, agent_id",
                          *columns.values())[0]


def test_script_is_safe_to_run_again(tenants):
    add_call(tenants)
    before = tenants.query("select * from callstats.call, callstats.company, callstats.schema_version")
    tenants.script(SCHEMA)
    assert tenants.query("select * from callstats.call, callstats.company, callstats.schema_version") == before


def test_view_of_the_site_is_kept(tenants):
    tenants.query("""drop view callstats.call_source;
        create view callstats.call_source as select 1 as organization_id, date '2026-03-03' as call_date,
               1 as folder_id, 'x'::text as agent_id, 5::bigint as calls, 7::bigint as duration_ms""")
    tenants.script(SCHEMA)
    assert tenants.query("select calls from callstats.call_source") == [(5,)]


def test_script_is_applied_whole_or_not_at_all(cluster):
    database = cluster.database(with_schema=False)
    database.query("create schema callstats; create table callstats.call (id int)")
    database.refused(SCHEMA)
    assert database.value("select to_regclass('callstats.company')") is None
    database.drop()


def test_date_is_filled_in_or_refused(tenants):
    assert add_call(tenants) == ("2026-03-03", None)
    assert add_call(tenants, call_date="2026-03-03") == ("2026-03-03", None)
    with pytest.raises(psycopg2.errors.CheckViolation):
        add_call(tenants, call_date="2026-03-04")
    tenants.query("update callstats.call set started_at = '2026-03-05 00:00'")
    assert tenants.query("select distinct call_date::text from callstats.call") == [("2026-03-05",)]
    tenants.query("update callstats.call set started_at = '2026-03-06 00:00', call_date = '2026-03-06'")
    with pytest.raises(psycopg2.errors.CheckViolation):
        tenants.query("update callstats.call set call_date = '2026-03-07'")


def test_empty_agent_becomes_null(tenants):
    assert add_call(tenants, agent_id="")[1] is None
    assert add_call(tenants, agent_id="", call_date="2026-03-03")[1] is None
    assert add_call(tenants, agent_id=" ")[1] == " "
    tenants.query("update callstats.call set agent_id = ''")
    assert tenants.query("select distinct agent_id from callstats.call") == [(None,)]


@pytest.mark.parametrize("columns, error", [
    ({"duration_ms": -1}, psycopg2.errors.CheckViolation),
    ({"duration_ms": None}, psycopg2.errors.NotNullViolation),
    ({"started_at": None}, psycopg2.errors.NotNullViolation),
    ({"started_at": "infinity"}, psycopg2.errors.CheckViolation),
    ({"folder_id": 2}, psycopg2.errors.ForeignKeyViolation),
    ({"folder_id": 99}, psycopg2.errors.ForeignKeyViolation),
])
def test_invalid_calls_are_refused(columns, error, tenants):
    with pytest.raises(error):
        add_call(tenants, **columns)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe/Berlin2", "UTC+3", "PST", "europe/berlin", "", "'"])
def test_invalid_time_zones_are_refused(zone, tenants):
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match="is not known to this server"):
        tenants.query("update callstats.organization set time_zone = %s", zone)
    tenants.query("update callstats.organization set time_zone = 'Asia/Kathmandu'")


@pytest.mark.parametrize(
    "statement, error",
    [
        ("insert into callstats.company (short_name) values ('acme')", psycopg2.errors.UniqueViolation),
        ("insert into callstats.company (short_name) values ('')", psycopg2.errors.CheckViolation),
        (
            "insert into callstats.organization (company_id, short_name) values (1, 'support')",
            psycopg2.errors.UniqueViolation,
        ),
        ("insert into callstats.folder (organization_id, name) values (1, 'Sales')", psycopg2.errors.UniqueViolation),
        ("update callstats.company set token_sha256 = 'clear text'", psycopg2.errors.CheckViolation),
        ("update callstats.company set token_sha256 = sha256('x')", psycopg2.errors.UniqueViolation),
    ],
)
def test_invalid_tenants_are_refused(statement, error, tenants):
    with pytest.raises(error):
        tenants.query(statement)


def test_names_differ_by_case_and_accent(tenants):
    tenants.query(
        "insert into callstats.folder (id, organization_id, name) "
        "values (3, 1, 'sales'), (4, 1, 'Sales '), (5, 1, 'Säles')"
    )
    assert tenants.value("select count(*) from callstats.folder where organization_id = 1") == 4


def explain(database, file, *parameters):
    """The plan of a statement of the worker, with its settings."""
    statement = (PROJECT / "src" / "database" / "sql" / file).read_text()
    database.query("set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off")
    database.query(f"prepare s as {statement}")
    plan = database.query(f"explain (costs off) execute s ({', '.join(parameters)})")
    return "\n".join(line for (line,) in plan)


@pytest.mark.parametrize("file, parameters, columns", [
    ("organization_days.sql", ["1", "'2026-01-01'", "'2026-12-31'"], "call_date"),
    ("folder_days.sql", ["1", "'2026-01-01'", "'2026-12-31'", "1"], "folder_id"),
])
def test_groups_are_read_in_the_order_of_the_index(file, parameters, columns, tenants):
    plan = explain(tenants, file, *parameters)
    assert "GroupAggregate" in plan and "Index Only Scan using call_group" in plan
    assert "Sort" not in plan and "Hash" not in plan
    condition = re.search(r"Index Cond: (.*)", plan)[1]
    assert "organization_id" in condition and columns in condition
