"""What a site added is carried over, or a script stops before any change and names it."""
import contextlib

import psycopg2
import pytest

from ..support import torture
from ..support.postgres import Cluster
from ..support.processes import PROJECT, wait_until
from ..support.sample import months_until

DEPLOY = PROJECT / "deploy"
OWN_VIEW = """drop view callstats.call_source;
    create view callstats.call_source as select organization_id, call_date, folder_id, agent_id, 1 as calls, duration_ms
    from callstats.call {}"""


def state(database):
    """All definitions in the schema."""
    return database.query("""
        select oid::regclass::text, relkind::text, case relkind when 'v' then pg_get_viewdef(oid) end, relacl::text
        from pg_class where relnamespace = 'callstats'::regnamespace
        union all select oid::regprocedure::text, 'f', prosrc, proacl::text from pg_proc
        where pronamespace = 'callstats'::regnamespace
        union all select tgname || tgrelid::regclass, 't', '', '' from pg_trigger where not tgisinternal
        order by 1, 2""")


@pytest.mark.parametrize(
    "definition",
    [
        OWN_VIEW.format("where duration_ms > 0"),
        OWN_VIEW.format("union all select 1, '2026-03-03', 1, 'x', 1, 1"),
        """drop view callstats.call_source; create view callstats.call_source(organization_id, call_date, folder_id,
       agent_id, calls, duration_ms) as values (1, date '2026-03-03', 1, 'a'::text, 3, 3000)""",
        """drop view callstats.call_source; create materialized view callstats.call_source as
       select organization_id, call_date, folder_id, agent_id, 1 as calls, duration_ms from callstats.call""",
    ],
    ids=["filter", "union", "values", "materialized"],
)
@pytest.mark.parametrize("script", ["rollup", "rollup-remove", "shards"])
def test_call_source_of_a_site_is_not_replaced(script, definition, a_thousand_calls):
    if script == "rollup-remove":
        a_thousand_calls.script(DEPLOY / "rollup.sql")
    a_thousand_calls.query(definition)
    before = state(a_thousand_calls)
    output = a_thousand_calls.refused(DEPLOY / f"{script}.sql")
    assert "would replace callstats.call_source, which is a view of your own" in output and "HINT" in output
    assert state(a_thousand_calls) == before


@pytest.fixture
def reporter(cluster, database):
    cluster.execute("drop role if exists reporter; create role reporter login")
    yield "reporter"
    database.query("drop owned by reporter")
    cluster.execute("drop role reporter")


def test_privileges_on_call_source_outlive_its_replacement(a_thousand_calls, reporter):
    a_thousand_calls.query("""grant select on callstats.call_source to reporter with grant option;
        grant select (calls) on callstats.call_source to public; comment on view callstats.call_source is 'ours'""")
    privileges = """select (select array_agg(distinct a::text order by a::text) from unnest(relacl) a),
        obj_description(oid),
        (select attacl::text from pg_attribute where attrelid = c.oid and attname = 'calls')
        from pg_class c where oid = 'callstats.call_source'::regclass"""
    before = a_thousand_calls.query(privileges)
    for name in ("rollup", "partitions", "rollup-remove"):
        a_thousand_calls.script(DEPLOY / f"{name}.sql")
        assert a_thousand_calls.query(privileges) == before, name


def test_view_over_call_source_stops_what_would_change_its_types(a_thousand_calls):
    a_thousand_calls.query("create view public.report as select sum(calls) from callstats.call_source")
    before = state(a_thousand_calls)
    assert "on which view report depends" in a_thousand_calls.refused(DEPLOY / "rollup.sql").replace("public.", "")
    assert state(a_thousand_calls) == before
    a_thousand_calls.script(DEPLOY / "partitions.sql")
    assert a_thousand_calls.query("select * from public.report") == [(1000,)]


def test_table_is_converted_with_all_that_it_had(a_thousand_calls, reporter):
    a_thousand_calls.query("""
        grant usage on schema callstats to reporter;
        grant insert, select on callstats.call to reporter;
        grant update (duration_ms) on callstats.call to callstats_worker with grant option;
        comment on table callstats.call is 'the calls';
        alter table callstats.call alter column agent_id set statistics 777;
        alter table callstats.call replica identity full;
        alter table callstats.call set (autovacuum_vacuum_scale_factor = 0.01);
        alter table callstats.call add column note text default 'none';
        alter table callstats.call add constraint note_is_short check (length(note) < 9);
        create index note_index on callstats.call (note);
        create table public.audit (id bigint);
        create function public.noted() returns trigger language plpgsql as
            $$ begin insert into public.audit values (new.id); return new; end $$;
        grant insert on public.audit to reporter;
        create trigger noted after insert on callstats.call for each row execute function public.noted();
        create trigger silent after insert on callstats.call for each row execute function public.noted();
        alter table callstats.call disable trigger silent;
        select setval('callstats.call_id_seq', 70000)""")
    a_thousand_calls.script(DEPLOY / "partitions.sql")
    kept = a_thousand_calls.query("""select relacl::text, obj_description(oid), relreplident,
        (select attacl::text from pg_attribute where attrelid = c.oid and attname = 'duration_ms'),
        (select attstattarget from pg_attribute where attrelid = c.oid and attname = 'agent_id')
        from pg_class c where oid = 'callstats.call'::regclass""")[0]
    assert (
        "reporter=ar/" in kept[0]
        and kept[1:3] == ("the calls", "f")
        and "callstats_worker=w*/" in kept[3]
        and kept[4] == 777
    )
    assert a_thousand_calls.query("""select distinct relreplident, reloptions from pg_class
        where oid in (select name from callstats.month_partitions())""") == [
        ("f", ["autovacuum_vacuum_scale_factor=0.01"])
    ]
    indexes = "select count(*) from pg_inherits where inhparent = 'callstats.note_index'::regclass"
    assert a_thousand_calls.value(indexes) == months_until(a_thousand_calls, 3)
    with contextlib.closing(a_thousand_calls.cluster.connect(a_thousand_calls.name, "reporter")) as connection:
        with connection.cursor() as cursor:
            insert = """insert into callstats.call (organization_id, folder_id, started_at, duration_ms, note)
                        values (1, 1, '2026-03-03', 1, %s) returning id"""
            cursor.execute(insert, ["x"])
            assert cursor.fetchone() == (70001,)
            with pytest.raises(psycopg2.errors.CheckViolation, match="note_is_short"):
                cursor.execute(insert, ["much too long"])
    assert a_thousand_calls.query("select * from public.audit") == [(70001,)]


def test_insert_granted_later_works_after_the_next_partitions(a_thousand_calls, reporter):
    a_thousand_calls.script(DEPLOY / "partitions.sql")
    a_thousand_calls.query("grant insert on callstats.call to reporter; grant usage on schema callstats to reporter; "
                           "select callstats.create_month_partitions(3)")
    code, output = a_thousand_calls.psql("-c", "insert into callstats.call (organization_id, folder_id, started_at, "
                                         "duration_ms) values (1, 1, '2026-03-03', 1)", user="reporter")
    assert code == 0, output


@pytest.mark.parametrize("thing, named", [
    ("create view public.report as select * from callstats.call", "view report"),
    ("create materialized view public.report as select id from callstats.call", "view report"),
    ("create publication of_calls for table callstats.call", "publication of_calls"),
    ("create policy p on callstats.call using (true)", "policy p"),
    ("alter table callstats.call enable row level security", "row level security"),
    ("create rule r as on delete to callstats.call do nothing", "rule r"),
    ("create unique index mine on callstats.call (id)", "index callstats.mine"),
    ("alter table callstats.call add constraint mine unique (id)", "index callstats.mine"),
    ("create table public.note (o int, i bigint, foreign key (o, i) references callstats.call)", "foreign key"),
    ("create table public.child () inherits (callstats.call)", "table child"),
    (OWN_VIEW.format("where duration_ms > 0"), "view callstats.call_source"),
])
def test_object_that_cannot_be_carried_over_stops_the_conversion(thing, named, a_thousand_calls):
    a_thousand_calls.query(thing)
    before = state(a_thousand_calls)
    output = a_thousand_calls.refused(DEPLOY / "partitions.sql").replace("public.", "")
    assert "partitions.sql cannot carry over" in output and named in output
    assert state(a_thousand_calls) == before


def test_first_version_is_upgraded_whole(cluster):
    """Schema, rollup and partitions as the first version created them, with names that are refused today."""
    old = PROJECT / "tests" / "database" / "version1"
    database = cluster.database(with_schema=False)
    database.script(old / "schema.sql")
    database.query(torture.TENANTS)
    database.query("""insert into callstats.folder (id, organization_id, name) values (99, 1, E'a\\tb');
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
        select 1, 99, E'x\\x01', timestamp '2026-03-01' + n * interval '1 hour', n from generate_series(1, 500) n""")
    for name in ("rollup.sql", "partitions.sql"):
        database.script(old / name)
    database.query("update callstats.raw_calls set since = '2026-03-05'")
    before = database.query("select sum(calls), sum(duration_ms) from callstats.call_source")
    for name in ("schema", "rollup", "partitions", "schema"):
        database.script(DEPLOY / f"{name}.sql")
        assert database.query("select sum(calls), sum(duration_ms) from callstats.call_source") == before, name
    assert str(database.value("select since from callstats.raw_calls")) == "2026-03-05"
    database.query("update callstats.raw_calls set since = null")
    assert database.value("select calls_kept_since from callstats.rollup_state") is None
    assert database.value("select pg_get_viewdef('callstats.call_source'::regclass)").count("integer") == 0
    insert = ("insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) "
              "values (1, 1, %s, %s, 1)")
    database.query(insert, "y", "2026-03-09")
    with pytest.raises(psycopg2.errors.CheckViolation, match="control_character"):
        database.query(insert, "y\x1f", "2026-03-09")
    assert database.query(torture.DIFFERENCES) == []
    assert database.query("""select distinct has_function_privilege('public', oid, 'execute') from pg_proc
        where pronamespace = 'callstats'::regnamespace""") == [(False,)]
    database.drop()


@pytest.mark.slow
def test_logical_replication_copies_calls_sums_and_partitions():
    """From one cluster to another, as a publication of all tables: answers, changes, merging, truncation."""
    with contextlib.ExitStack() as stack:
        clusters = [Cluster(["wal_level=logical"], name=name) for name in ("publisher", "subscriber")]
        for cluster in clusters:
            stack.callback(cluster.remove)
        publisher, subscriber = databases = [cluster.database() for cluster in clusters]
        for database in databases:
            for name in ("rollup", "partitions"):
                database.script(DEPLOY / f"{name}.sql")
        publisher.query(torture.TENANTS)
        publisher.query("""insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
            select 1, 1, n::text, timestamp '2026-03-01' + n * interval '1 hour', n from generate_series(1, 500) n""")
        publisher.query("create publication everything for all tables")
        subscriber.query("truncate callstats.rollup_state, callstats.schema_version")
        subscriber.query(
            f"create subscription here connection 'host={publisher.cluster.folder.path} dbname={publisher.name} "
            "user=owner' publication everything"
        )
        sums = "select call_date::text, agent_id, sum(calls), sum(duration_ms) from callstats.call_source " \
               "group by 1, 2 having sum(calls) <> 0 order by 1, 2"

        def assert_same():
            wait_until(
                lambda: (
                    subscriber.query(sums) == publisher.query(sums)
                    and subscriber.query("select * from callstats.call order by id")
                    == publisher.query("select * from callstats.call order by id")
                ),
                30,
            )
            assert subscriber.query(torture.DIFFERENCES) == []

        assert_same()
        for statement in (
            "update callstats.call set duration_ms = 5 where id % 3 = 0",
            "call callstats.compact()",
            "delete from callstats.call where id % 5 = 0",
            "call callstats.compact()",
            "update callstats.call set started_at = date_trunc('month', now()) + interval '70 days' where id % 7 = 0",
            "truncate callstats.call_before",
        ):
            publisher.query(statement)
            assert_same()
        assert publisher.value("select count(*) from callstats.call") > 0
        publisher.query("truncate callstats.call")
        assert_same()
        assert subscriber.query(sums) == []
        subscriber.query("drop subscription here")


@pytest.mark.parametrize("scripts", [("schema", "rollup", "partitions"), ("schema", "partitions", "rollup")])
def test_jobs_with_the_names_of_the_first_version_keep_working(scripts, database, cluster):
    """What pg_cron and timers of a site call: after the old files, between the new ones, after them; by nobody else."""
    old = DEPLOY.parent / "tests" / "database" / "version1"
    database.query("drop schema callstats cascade")
    for name in ("schema", "rollup", "partitions"):
        database.script(old / f"{name}.sql")
    database.query(torture.TENANTS)
    database.query("""insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select 1, 1, timestamp '2026-03-01' + n * interval '1 hour', n from generate_series(1, 2000) n""")

    def jobs(ahead):
        for statement in (f"select callstats.make_months({ahead})", "call callstats.compact()",
                          "select callstats.detach_before('2020-01-01')", "select since from callstats.raw_calls"):
            code, output = database.psql("-c", statement)
            assert code == 0, (statement, output)
        assert database.query(torture.DIFFERENCES) == []
        return database.value("select count(*) from callstats.month_partitions()")

    partitions = [jobs(4)]
    for ahead, script in enumerate(scripts, 5):
        database.script(DEPLOY / f"{script}.sql")
        partitions.append(jobs(ahead))
    assert partitions == [partitions[0] + n for n in range(4)]
    bounds = database.query("select name, ends from callstats.month_partitions() order by ends limit 1")
    assert database.value("select callstats.detach_before(%s)", bounds[0][1]) == 1
    assert database.value("select since from callstats.raw_calls") == bounds[0][1]
    with contextlib.closing(cluster.connect(database.name, "callstats_worker")) as connection:
        for statement in ("select callstats.make_months(9)", "select callstats.detach_before('2100-01-01')",
                          "call callstats.compact()", "select callstats.roll_up_from('callstats.call')"):
            with connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
