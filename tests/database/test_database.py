"""What the worker asks of PostgreSQL: few statements, prepared, with few privileges."""
import psycopg2
import pytest

from ..support.processes import wait_until
from ..support.sample import ORGANIZATION_DAY
from ..support.worker import ROOT_TOKEN, Worker

FOLDER = f"/stats/acme/support/Sales?token={ROOT_TOKEN}&daterange=20260303"


def test_request_takes_two_round_trips_and_no_planning(cluster, sample_database, start):
    sample_database.query(f"alter database {sample_database.name} set log_statement = 'all'")
    sample_database.query(f"alter database {sample_database.name} set log_planner_stats = on")
    worker = start(Worker, sample_database.url, CALLSTATS_DB_CONNECTIONS="1")
    assert worker.ask("GET", "/stats/acme/support?token=guess").status == 401  # by now it is connected
    for uri, statements in [(ORGANIZATION_DAY, 2), (FOLDER, 2), (FOLDER + "0", 1), (FOLDER.replace("acme", "x"), 1)]:
        before = len(cluster.process.text())
        worker.ask("GET", uri)
        log = cluster.process.text()[before:]
        assert log.count("LOG:  execute ") == statements, uri
        assert "PLANNER STATISTICS" not in log and "LOG:  statement: " not in log, uri


def test_request_without_need_of_data_executes_no_statement(cluster, sample_database, start):
    sample_database.query(f"alter database {sample_database.name} set log_statement = 'all'")
    worker = start(Worker, sample_database.url, CALLSTATS_DB_CONNECTIONS="1")
    worker.ask("GET", FOLDER)
    before = len(cluster.process.text())
    for method, uri in [
        ("POST", FOLDER),
        ("GET", "/stats"),
        ("GET", "/stats/acme/support"),
        ("GET", FOLDER + "&token=x"),
    ]:
        assert worker.ask(method, uri).status in (400, 401, 404, 405)
    assert "execute" not in cluster.process.text()[before:]


def test_token_changes_apply_immediately(sample_database, start):
    worker = start(Worker, sample_database.url)

    def status(token):
        return worker.ask("GET", "/stats/acme/support", [("Authorization", f"Bearer {token}")]).status

    assert status("acme-token") == 200
    sample_database.query("update callstats.company set token_sha256 = sha256('rotated') where short_name = 'acme'")
    assert (status("acme-token"), status("rotated")) == (401, 200)
    sample_database.query("update callstats.company set token_sha256 = null where short_name = 'acme'")
    assert status("rotated") == 401
    assert status(ROOT_TOKEN) == 200
    worker.folder.write("root-token", "  another root token\n\n")
    wait_until(lambda: (status(ROOT_TOKEN), status("another root token")) == (401, 200), 2)


def test_view_can_be_replaced_under_a_running_worker(sample_database, start):
    worker = start(Worker, sample_database.url)
    before = worker.ask("GET", ORGANIZATION_DAY).body
    sample_database.query("""begin; drop view callstats.call_source;
        create view callstats.call_source as select organization_id, call_date, folder_id, agent_id,
               1::bigint as calls, duration_ms::bigint from callstats.call;
        grant select on callstats.call_source to callstats_worker; commit""")
    assert worker.ask("GET", ORGANIZATION_DAY).body == before


def test_corrections_are_summed(sample_database, start):
    """call_source may hold several rows for a group, negative ones among them."""
    worker = start(Worker, sample_database.url)
    sample_database.query("""begin; drop view callstats.call_source;
        create view callstats.call_source(organization_id, call_date, folder_id, agent_id, calls, duration_ms) as values
            (1, date '2026-03-03', 1, 'a'::text, 3, 3000), (1, '2026-03-03', 1, 'a', -1, -1000),
            (1, '2026-03-03', 1, 'gone', 2, 500), (1, '2026-03-03', 1, 'gone', -2, -500),
            (1, '2026-03-03', 2, 'b', 1, 10), (1, '2026-03-03', 2, 'b', -1, -10);
        grant select on callstats.call_source to callstats_worker; commit""")
    assert worker.ask("GET", ORGANIZATION_DAY).body == (
        b'[{"date":"20260303","folder":"Sales","calls":2,"avg_duration_seconds":1,'
        b'"agents":[{"agent_id":"a","calls":2,"avg_duration_seconds":1}]}]')


# No right to it, or not a thing that can be written at all, such as a column of a view.
REFUSED = (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.WrongObjectType, psycopg2.errors.FeatureNotSupported,
           psycopg2.errors.ObjectNotInPrerequisiteState)


def relations(database):
    return [name for (name,) in database.query("""select c.oid::regclass::text from pg_class c
        where relnamespace = 'callstats'::regnamespace and relkind in ('r', 'v', 'm', 'p', 'S') order by 1""")]


def test_role_reads_what_it_needs_and_writes_nothing(sample_database, cluster):
    connection = cluster.connect(sample_database.name, "callstats_worker")
    readable = set()
    for relation in relations(sample_database):
        for statement in ["insert into {} default values", "delete from {}", "truncate {}", "drop table {}",
                          "alter table {} add x int", "create trigger t after insert on {} "
                          "for each statement execute function suppress_redundant_updates_trigger()"]:
            with pytest.raises(REFUSED), connection.cursor() as cursor:
                cursor.execute(statement.format(relation))
        columns = sample_database.query(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", relation
        )
        for (column,) in columns:
            with pytest.raises(REFUSED), connection.cursor() as cursor:
                cursor.execute(f"update {relation} set {column} = {column}")
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"select * from {relation}")
                readable.add(relation)
                assert b"acme-token" not in repr(cursor.fetchall()).encode()
        except psycopg2.errors.InsufficientPrivilege:
            pass
    for statement in [
        "create table callstats.x ()",
        "create schema x",
        "create function callstats.f() returns int language sql as 'select 1'",
    ]:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), connection.cursor() as cursor:
            cursor.execute(statement)
    connection.close()
    assert readable == {
        f"callstats.{name}"
        for name in ("company", "company_token", "organization", "folder", "call_source", "schema_version")
    }
