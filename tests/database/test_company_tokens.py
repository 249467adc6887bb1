"""Several tokens of a company, side by side; and the one token of version 1 of the schema, carried over."""
import re

import psycopg2
import pytest

from tests.support.processes import PROJECT
from tests.support.worker import ROOT_TOKEN, Worker

SCHEMA = PROJECT / "deploy" / "schema.sql"
VERSION_1 = PROJECT / "tests" / "database" / "version1"
URI = "/stats/acme/support"
TENANTS = """
    insert into callstats.company (id, short_name, token_sha256) values
        (1, 'acme', sha256('first')), (2, 'other', sha256('second')), (3, 'none', null);
    insert into callstats.organization (id, company_id, short_name, time_zone) values
        (1, 1, 'support', 'Europe/Berlin'), (2, 2, 'support', 'UTC');
    insert into callstats.folder (id, organization_id, name) values (1, 1, 'Sales'), (2, 2, 'Sales');
"""
CALLS = """
    insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
    select 1 + n % 2, 1 + n % 2, 'agent ' || n % 3, timestamp '2026-03-01' + n * interval '1 hour', n * 1000
    from generate_series(1, 100) n
"""
TOKENS = "select company_id, name, token_sha256 = sha256(%s) from callstats.company_token order by 1, 2"


@pytest.fixture
def tenants(database):
    database.query(TENANTS)
    return database


@pytest.fixture
def version_1(cluster):
    database = cluster.database(with_schema=False)
    database.script(VERSION_1 / "schema.sql")
    database.query(TENANTS + ";" + CALLS)
    yield database
    database.drop()


def statuses(worker, *tokens):
    return [worker.get(URI, token).status for token in tokens]


@pytest.mark.parametrize("script", [None, "rollup.sql", "partitions.sql"])
def test_version_1_becomes_version_2_with_its_tokens_and_calls(script, version_1, start):
    if script:
        version_1.script(VERSION_1 / script)
    sums = "select organization_id, call_date, folder_id, agent_id, sum(calls), sum(duration_ms) " \
           "from callstats.call_source group by 1, 2, 3, 4 order by 1, 2, 3, 4"
    before = version_1.query(sums)
    for _ in range(2):
        version_1.script(SCHEMA)
        assert version_1.query(TOKENS, "first") == [(1, "default", True), (2, "default", False)]
        assert version_1.query(sums) == before and len(before) > 10
        assert version_1.value("select max(version) from callstats.schema_version") == 2
    worker = start(Worker, version_1.url)
    assert statuses(worker, "first", "second", ROOT_TOKEN, "third") == [200, 403, 200, 401]


def test_worker_serves_version_1_and_switches_to_version_2(version_1, start):
    worker = start(Worker, version_1.url, CALLSTATS_DB_CONNECTIONS="2")
    assert statuses(worker, "first", "second", ROOT_TOKEN, "x") == [200, 403, 200, 401]
    version_1.query("update callstats.company set token_sha256 = sha256('rotated') where id = 1")
    assert statuses(worker, "first", "rotated") == [401, 200]
    version_1.script(SCHEMA)
    version_1.query("insert into callstats.company_token values (1, sha256('new'), 'new')")
    assert statuses(worker, "rotated", "new", "first") == [200, 200, 401]
    assert "WARN" not in worker.text() and "ERROR" not in worker.text()


def test_tokens_are_valid_side_by_side_until_they_expire_or_are_revoked(tenants, start):
    worker = start(Worker, tenants.url)
    tenants.query("""insert into callstats.company_token (company_id, name, token_sha256, expires_at) values
        (1, 'new', sha256('new'), now() + interval '1 hour'), (1, 'past', sha256('past'), now()),
        (1, 'ever', sha256('ever'), 'infinity')""")
    assert statuses(worker, "first", "new", "past", "ever", "second") == [200, 200, 401, 200, 403]
    tenants.query("update callstats.company_token set expires_at = now() where name = 'new'")
    tenants.query("delete from callstats.company_token where name = 'default' and company_id = 1")
    assert statuses(worker, "first", "new", "ever") == [401, 401, 200]
    assert tenants.value("select token_sha256 from callstats.company where id = 1") is None


def test_column_of_version_1_is_the_default_token(tenants):
    assert tenants.query(TOKENS, "first") == [(1, "default", True), (2, "default", False)]
    tenants.query("update callstats.company set token_sha256 = sha256('x') where id = 3")
    tenants.query("update callstats.company set token_sha256 = sha256('y') where id = 1")
    assert tenants.query(TOKENS, "y") == [(1, "default", True), (2, "default", False), (3, "default", False)]
    tenants.query("update callstats.company set token_sha256 = null")
    assert tenants.query(TOKENS, "") == []


def test_default_token_is_the_column_of_version_1(tenants):
    column = "select id from callstats.company where token_sha256 = sha256(%s)"
    tenants.query("insert into callstats.company_token (company_id, name, token_sha256, expires_at) "
                  "values (3, 'default', sha256('z'), '2030-01-01')")
    assert tenants.query(column, "z") == [(3,)]
    expires = "select expires_at::date::text from callstats.company_token where company_id = 3"
    assert tenants.value(expires) == "2030-01-01"
    tenants.query("update callstats.company_token set token_sha256 = sha256('w') where company_id = 3")
    assert (tenants.query(column, "w"), tenants.query(column, "z")) == ([(3,)], [])
    tenants.query("update callstats.company_token set name = 'named' where company_id = 3")
    assert tenants.query(column, "w") == []
    assert tenants.query(TOKENS, "w") == [(1, "default", False), (2, "default", False), (3, "named", True)]


def test_running_the_schema_again_keeps_dates_and_revives_nothing(tenants):
    tenants.query("update callstats.company_token set created_at = '2020-01-01', expires_at = '2030-01-01'")
    tenants.query("delete from callstats.company_token where company_id = 2")
    before = tenants.query("select * from callstats.company_token")
    tenants.script(SCHEMA)
    tenants.query("update callstats.company set token_sha256 = token_sha256")
    assert tenants.query("select * from callstats.company_token") == before and len(before) == 1


@pytest.mark.parametrize("statement, error", [
    ("insert into callstats.company_token values (3, sha256('first'), 'x')", psycopg2.errors.UniqueViolation),
    ("insert into callstats.company_token values (1, sha256('other'), 'default')", psycopg2.errors.UniqueViolation),
    ("insert into callstats.company_token values (3, 'clear text', 'x')", psycopg2.errors.CheckViolation),
    ("insert into callstats.company_token values (3, sha256('a'), '')", psycopg2.errors.CheckViolation),
    ("insert into callstats.company_token values (9, sha256('a'), 'x')", psycopg2.errors.ForeignKeyViolation),
    ("insert into callstats.company_token values (2, sha256('named'), 'x');"
     "update callstats.company set token_sha256 = sha256('named') where id = 1", psycopg2.errors.UniqueViolation),
])
def test_token_belongs_to_one_company_and_name_to_one_token(statement, error, tenants):
    with pytest.raises(error):
        tenants.query(statement)


def test_company_is_deleted_with_its_tokens(tenants):
    tenants.query("delete from callstats.company where id = 3; "
                  "insert into callstats.company values (3, 'none', sha256('n')); "
                  "delete from callstats.company where id = 3")
    assert len(tenants.query("select * from callstats.company_token")) == 2


def test_data_alone_can_be_restored(tenants):
    """In the order of a dump: a company, then its tokens with their dates."""
    tenants.query("delete from callstats.company where id = 3; "
                  "insert into callstats.company values (3, 'none', sha256('n'))")
    tenants.query("insert into callstats.company_token values (3, sha256('n'), 'default', '2020-01-01', '2030-01-01')")
    dates = "select created_at::date::text, expires_at::date::text from callstats.company_token where company_id = 3"
    assert tenants.query(dates) == [("2020-01-01", "2030-01-01")]


def test_role_with_a_privilege_on_the_column_alone_still_sets_a_token(tenants, cluster):
    cluster.execute("create role token_setter login")
    tenants.query("grant usage on schema callstats to token_setter; "
                  "grant select, update (token_sha256) on callstats.company to token_setter")
    tenants.query("set role token_setter; "
                  "update callstats.company set token_sha256 = sha256('s') where id = 1; reset role")
    assert tenants.query(TOKENS, "s")[0] == (1, "default", True)
    tenants.query("drop owned by token_setter")
    cluster.execute("drop role token_setter")


def test_log_names_the_token_that_was_used(tenants, start):
    worker = start(Worker, tenants.url)
    tenants.query("insert into callstats.company_token values (1, sha256('s3cret-value'), E'a \"b\"\\n\\u200b'), "
                  "(1, sha256('named-by-its-value'), 'named-by-its-value')")
    for token in ("first", ROOT_TOKEN, "s3cret-value", "named-by-its-value", "second", "unknown"):
        worker.get(URI, token)
    lines = [re.sub(r"^\[.*?\] ", "", line) for line in worker.text().splitlines() if " entries " in line]
    ends = [re.fullmatch(r"GET /stats/acme/support (\d+) 0 entries \d+\.\d ms(.*)", line).groups() for line in lines]
    assert ends == [("200", ' token "default"'), ("200", " token root"), ("200", r' token "a \"b\"\n\u{200b}"'),
                    ("200", ' token "[token]"'), ("403", ' token "default"'), ("401", "")]
    assert "s3cret-value" not in worker.text() and "named-by-its-value" not in worker.text()
