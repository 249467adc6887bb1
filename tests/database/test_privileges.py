"""Nobody gains a privilege by what callstats installs: neither by its functions nor by whoever runs its scripts."""
import contextlib

import psycopg2
import pytest

from ..support import torture
from ..support.processes import PROJECT
from ..support.worker import check
from .test_adopt import adopt

DEPLOY = PROJECT / "deploy"
ALL = ("schema", "rollup", "partitions", "rollup-remove", "rollup", "schema")
# May be executed by the worker, as itself, for `callstats check`.
OF_THE_WORKER = {"month_partitions", "partition_bounds", "time_zone_problem"}
# May be executed by the worker for its answers from adopted tables. Without a search path of their own: a function with
# one is not inlined, so no index of an adopted table would serve. The sessions of the worker and of `callstats adopt`
# have the search path that the others set.
INLINED = {"calls_between", "adopted_name", "has_type"}

# Operators, functions and tables that win over those of pg_catalog and callstats if they are looked up by name. Each
# notes who called it.
TRAPS = """
    create table public.sprung (who name, what text);
    grant insert on public.sprung to public;
    create function public.spring(what text) returns void language plpgsql set search_path = pg_catalog as $$ begin
        if current_user not in ('mallory', 'callstats_worker', 'loader') then
            insert into public.sprung values (current_user, what);
        end if;
    end $$;
    do $do$
    declare
        types text[][] := '{{numeric,int},{numeric,bigint},{int,bigint},{bigint,int},{date,text},{text,text},
            {name,text},{oid,oid},{"char","char"},{regclass,regclass},{date,date},{text,name},{name,name},
            {oid,regclass},{regclass,oid}}';
        l text; r text; op text; n int := 0;
    begin
        for i in 1..array_length(types, 1) loop
            l := types[i][1]; r := types[i][2];
            foreach op in array array['=', '<>', '<', '<=', '>', '>=', '~', '!~', '-', '+', '*'] loop
                begin
                    n := n + 1;
                    execute format('create function public.trap%s(%s, %s) returns boolean language plpgsql as $f$ begin
                        perform public.spring(%L); return true; end $f$', n, l, r, op || l || r);
                    execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.trap%s)',
                        op, l, r, n);
                end;
            end loop;
        end loop;
    end $do$;
    create function public.format(text, regclass) returns text language plpgsql as $$ begin
        perform public.spring('format'); return pg_catalog.format($1, $2); end $$;
    create function public.to_regclass(varchar) returns regclass language plpgsql as $$ begin
        perform public.spring('to_regclass'); return pg_catalog.to_regclass($1::text); end $$;
    create function public.set_config(varchar, varchar, boolean) returns text language plpgsql as $$ begin
        perform public.spring('set_config'); return 'x'; end $$;
    create function public.sum(bigint, int) returns bigint language plpgsql as $$ begin return 0; end $$;
    create function public.roll_up() returns trigger language plpgsql as $$ begin
        perform public.spring('roll_up'); return null; end $$;
    create table public.pg_trigger (tgname name); create table public.pg_class (oid oid);
    create type public.regclass as enum ('a'); create type public.date as enum ('a');
"""


@contextlib.contextmanager
def logged_in(database, role):
    with contextlib.closing(database.cluster.connect(database.name, role)) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def roles(cluster):
    """A database that belongs to a plain role, with a loader and somebody who may only log in."""
    for role in ("plain", "loader", "mallory"):
        cluster.execute(f"drop role if exists {role}; create role {role} login")
    database = cluster.database(with_schema=False, owner="plain")
    database.query("grant create on schema public to public")
    yield database
    database.drop()
    for role in ("plain", "loader", "mallory"):
        cluster.execute(f"drop role {role}")


def prepare(database, user):
    database.script(DEPLOY / "schema.sql", user=user)
    database.query(torture.TENANTS)
    # Those have numbers of their own: names that adoption creates get the next ones.
    for table in ("company", "organization", "folder"):
        database.query(f"alter table callstats.{table} alter column id restart with 100")
    database.query("""grant usage on schema callstats to loader, mallory; grant insert on callstats.call to loader;
        insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select 1, 1, timestamp '2026-03-01' + n * interval '1 hour', n from generate_series(1, 500) n""")


DEFINERS = {"roll_up", "company_token_from_column", "company_token_to_column", "company_token_is_new", "keep_call_key",
            "delete_source_days", "follow_time_zone"}


def test_functions_have_a_fixed_search_path_and_no_other_owner(database):
    for name in ("rollup", "partitions", "rollup-remove", "shards"):
        database.script(DEPLOY / f"{name}.sql")
    database.query("drop view callstats.call_source")
    database.query("create table public.calls (company text, organization text, folder text, agent text, "
                   "started timestamptz, seconds numeric)")
    database.script(DEPLOY / "rollup.sql")
    adopt(database, "on", "--preset", "flat", "--time-zone", "UTC")
    functions = database.query("""
        select proname, prokind, prosecdef, coalesce(proconfig::text, ''), prosrc,
               exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0),
               has_function_privilege('callstats_worker', oid, 'execute')
        from pg_proc where pronamespace = 'callstats'::regnamespace""")
    assert {"roll_up", "compact", "create_month_partitions", "make_months", "detach_partitions_before", "detach_before",
            "install_rollup_triggers", "roll_up_from", "assign_organization", "place", "add_shard", "fill_zone_days",
            "check_time_zone", "complete_call", "retry_on_lock"} | INLINED <= {row[0] for row in functions}
    for name, kind, is_definer, settings, source, is_public, is_workers in functions:
        assert not is_public, name
        assert is_workers == (name in OF_THE_WORKER | INLINED), name
        assert is_definer == (name in DEFINERS), name
        if kind == "p":  # a procedure that commits cannot have settings
            reset = "perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);"
            assert source.split("begin", 1)[1].lstrip().startswith(reset), name
            assert all(part.lstrip().startswith(reset) for part in source.split("commit;")[1:]), name
        else:
            assert ('"search_path=pg_catalog, pg_temp"' in settings) == (name not in INLINED), name


@pytest.mark.parametrize("attacker", ["callstats_worker", "loader", "mallory"])
def test_rollup_trigger_function_cannot_be_used_on_own_tables(attacker, roles):
    prepare(roles, "owner")
    for name in ("rollup", "adopt"):
        roles.script(DEPLOY / f"{name}.sql")
    sums = roles.query("select sum(calls), sum(duration_ms) from callstats.call_source")
    with logged_in(roles, attacker) as cursor:
        cursor.execute("""create temp table t (organization_id int, call_date date, folder_id int, agent_id text,
            duration_ms int)""")
        for function in sorted(DEFINERS | {"complete_call", "check_time_zone"}):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(
                    f"create trigger f after truncate on t for each statement execute function callstats.{function}()"
                )
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("call callstats.compact()")
        for call in ("retry_on_lock('select 1')", "install_rollup_triggers('t')", "give_to_owner()"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(f"select callstats.{call}")
    # The second line of defence: also whoever was granted to execute it cannot.
    roles.query(f"grant execute on function callstats.roll_up() to {attacker}")
    with logged_in(roles, attacker) as cursor:
        cursor.execute("""create temp table t (organization_id int, call_date date, folder_id int, agent_id text,
            duration_ms int); insert into t values (1, '2026-03-01', 1, null, 1)""")
        for event, transition, statement in (
            ("insert", "referencing new table as added", "insert into t select * from t"),
            ("delete", "referencing old table as removed", "delete from t"),
            ("truncate", "", "truncate t"),
        ):
            cursor.execute(f"create trigger f_{event} after {event} on t {transition} "
                           "for each statement execute function callstats.roll_up()")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="for callstats.call and its partitions"):
                cursor.execute(statement)
    assert roles.query("select sum(calls), sum(duration_ms) from callstats.call_source") == sums


@pytest.mark.parametrize("attacker", ["callstats_worker", "loader", "mallory"])
def test_trigger_functions_with_privileges_look_which_table_they_are_called_for(attacker, roles):
    """The second line of defence of each of them: also whoever was granted to execute it can do nothing with it."""
    prepare(roles, "owner")
    for name in ("rollup", "adopt"):
        roles.script(DEPLOY / f"{name}.sql")
    definers = [name for (name,) in roles.query("""select proname from pg_proc where prosecdef
        and pronamespace = 'callstats'::regnamespace and prorettype = 'trigger'::regtype""")]
    assert set(definers) == DEFINERS  # no other function runs as its owner
    roles.query("update callstats.company set token_sha256 = sha256('x')")
    tokens = "select name, token_sha256, created_at, expires_at from callstats.company_token"
    before = roles.query(tokens)
    columns = """id int, company_id int, name text, token_sha256 bytea, created_at timestamptz, expires_at timestamptz,
        organization_id int, call_date date, folder_id int, agent_id text, duration_ms int"""
    row = "values (1, 1, 'default', sha256('mine'), now(), null, 1, '2026-03-01', 1, null, 1)"
    for name in definers:
        roles.query(f"grant execute on function callstats.{name}() to {attacker}")
        for level in ("row", "statement"):
            for moment in ("before", "after"):
                for event in ("insert", "update", "delete", "truncate"):
                    if (level, event) == ("row", "truncate"):
                        continue
                    with logged_in(roles, attacker) as cursor:
                        cursor.execute(f"create temp table t ({columns}); insert into t {row}")
                        cursor.execute(f"create trigger f {moment} {event} on t for each {level} "
                                       f"execute function callstats.{name}()")
                        statement = {"insert": f"insert into t {row}", "update": "update t set id = id",
                                     "delete": "delete from t", "truncate": "truncate t"}[event]
                        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match=f"callstats.{name} is for"):
                            cursor.execute(statement)
    # Nor on the tables themselves, for another event than its own.
    roles.query("grant trigger, select, update on callstats.company, callstats.company_token, callstats.folder, "
                f"callstats.organization to {attacker}")
    for name in sorted(DEFINERS - {"roll_up"}):
        table = {"company_token_from_column": "company", "delete_source_days": "folder",
                 "follow_time_zone": "organization"}.get(name, "company_token")
        with logged_in(roles, attacker) as cursor:
            cursor.execute(f"create trigger f before update on callstats.{table} for each statement "
                           f"execute function callstats.{name}()")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege, match=f"callstats.{name} is for"):
                cursor.execute("update callstats.company_token set expires_at = now()" if table == "company_token"
                               else f"update callstats.{table} set id = id")
        roles.query(f"drop trigger f on callstats.{table}")
    assert roles.query(tokens) == before


@pytest.mark.parametrize("runner", ["owner", "plain"])
def test_traps_of_other_roles_are_not_sprung(runner, roles):
    prepare(roles, runner)
    with logged_in(roles, "mallory") as cursor:
        cursor.execute(TRAPS)
    roles.query("set search_path = pg_catalog")
    expected = roles.query("select count(*), sum(duration_ms) from callstats.call")
    for name in ALL:
        roles.script(DEPLOY / f"{name}.sql", user=runner)
        with logged_in(roles, "loader") as cursor:
            cursor.execute("""insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
                values (1, 2, '2026-03-09', 7)""")
        expected = [(expected[0][0] + 1, expected[0][1] + 7)]
        if name == "rollup":
            for word in ("set search_path = public, pg_catalog", "reset search_path"):
                code, output = roles.psql("-c", word, "-c", "call callstats.compact()", user=runner)
                assert code == 0, output
    for statement in ("select callstats.make_months(4)", "select callstats.detach_before('2020-01-01')"):
        code, output = roles.psql("-c", statement, user=runner)
        assert code == 0, output
    assert roles.query("select * from public.sprung") == []
    assert roles.query("select sum(calls), sum(duration_ms) from callstats.call_source") == expected
    assert roles.query(torture.DIFFERENCES) == []
    # The traps work: this is what would have been seen.
    roles.query("set search_path = public; select 1::numeric <> 1")
    assert roles.query("select what from public.sprung") == [("<>numericint",)]


@pytest.mark.parametrize("schema_owner", ["owner", "plain"])
def test_traps_of_others_are_not_sprung_by_shards(schema_owner, roles, database):
    """`database` is the shard. shards.sql is for superusers; what it creates serves the owner of the schema, too."""
    database.query(torture.TENANTS)
    database.query("""insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select 1, 1, timestamp '2026-03-01' + n * interval '1 hour', n from generate_series(1, 500) n""")
    prepare(roles, schema_owner)
    roles.query(f"truncate callstats.call; grant create, temporary on database {roles.name} to mallory")
    with logged_in(roles, "mallory") as cursor:
        cursor.execute(TRAPS)
        cursor.execute("""create function public.pg_options_to_table(text[])
            returns table (option_name text, option_value text) language plpgsql as $$
            begin perform public.spring('options'); end $$;
            create function public.regexp_matches(text, varchar, varchar) returns setof text[] language plpgsql as
                $$ begin perform public.spring('regexp_matches'); end $$;
            create function public.pg_get_userbyid(regclass) returns name language plpgsql as
                $$ begin perform public.spring('pg_get_userbyid'); return 'mallory'; end $$;
            create view public.pg_user_mappings as
                select 'callstats_x'::name as srvname, 0 as umuser, null::text[] as umoptions;
            create table public.call_sharded (id int); create table public.call_of_1 (id int);
            create table public.call_of_1_incoming (id int)""")
    connection = f"host={roles.cluster.folder.path} port={roles.cluster.port} dbname={database.name} " \
                 "user=callstats_worker"
    for path in ("public, pg_catalog", "pg_catalog"):
        roles.query(f"alter role owner in database {roles.name} set search_path = {path}")
        for _ in range(2):
            roles.script(DEPLOY / "shards.sql")
        name = f"it's \"{path}\""
        quoted = name.replace("'", "''")
        for statement in (f"select callstats.add_shard('{quoted}', '{connection}')",
                          "select 1" if schema_owner == "owner" else  # this cluster asks for no passwords
                          """alter user mapping for plain server "callstats_{}" options (add password_required 'false')
                          """.format(name.replace('"', '""')),
                          f"select callstats.assign_organization(1, '{quoted}')",
                          f"select callstats.place(2, '{quoted}')"):
            code, output = roles.psql("-c", statement)
            assert code == 0, output
        roles.script(DEPLOY / "schema.sql")
        assert roles.query("select * from public.sprung") == []
        with logged_in(roles, "callstats_worker") as cursor:
            cursor.execute("select sum(calls), sum(duration_ms) from callstats.call_source "
                           "where organization_id = 1")
            assert cursor.fetchall() == [(500, 125250)]
    assert {row[0] for row in roles.query("""select distinct pg_get_userbyid(relowner) from pg_class
        where relnamespace = 'callstats'::regnamespace union select pg_get_userbyid(proowner) from pg_proc
        where pronamespace = 'callstats'::regnamespace""")} == {schema_owner}
    with logged_in(roles, "mallory") as cursor:
        for call in (
            f"add_shard('x', '{connection}')", "assign_organization(1, 'x')", "place(1, 'x')", "shard_users()"
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(f"select callstats.{call}")
        cursor.execute("select umoptions from pg_user_mappings where umoptions is not null")
        assert cursor.fetchall() == []


@pytest.mark.parametrize("trap", [
    "create schema callstats",
    "create schema callstats; create table callstats.call_daily (id int)",
    "create schema callstats; create function callstats.roll_up_from(text) returns void language sql as 'select 1'",
])
def test_schema_of_another_role_is_refused(trap, roles):
    roles.query(f"grant create on database {roles.name} to mallory")
    with logged_in(roles, "mallory") as cursor:
        cursor.execute(trap)
    for runner in ("owner", "plain"):
        output = roles.refused(DEPLOY / "schema.sql", user=runner)
        assert "does not trust the owner of" in output and "mallory" in output
    assert roles.value("select to_regclass('callstats.company')") is None


@pytest.mark.parametrize("script", ["schema", "rollup", "rollup-remove", "partitions", "shards", "adopt"])
def test_object_of_another_role_is_refused(script, roles):
    prepare(roles, "plain")
    roles.query("grant create on schema callstats to mallory")
    with logged_in(roles, "mallory") as cursor:
        cursor.execute("create function callstats.retry_on_lock(text) returns void language sql as ''")
    assert "retry_on_lock(text): mallory" in roles.refused(DEPLOY / f"{script}.sql")


def test_plain_owner_keeps_what_a_superuser_installs(roles):
    prepare(roles, "plain")
    for name in ("rollup", "partitions"):
        roles.script(DEPLOY / f"{name}.sql", user="owner")
    owners = roles.query("""select distinct pg_get_userbyid(owner) from (
        select relowner as owner from pg_class where relnamespace = 'callstats'::regnamespace union all
        select proowner from pg_proc where pronamespace = 'callstats'::regnamespace) all_of_them""")
    assert owners == [("plain",)]
    for statement in ("select callstats.create_month_partitions(5)", "call callstats.compact()",
                      "select callstats.detach_partitions_before('2100-01-01')"):
        code, output = roles.psql("-c", statement, user="plain")
        assert code == 0, output


def test_worker_role_has_a_connection_limit_that_is_kept(database):
    limit = "select rolconnlimit from pg_roles where rolname = 'callstats_worker'"
    before = database.value(limit)
    database.query("alter role callstats_worker connection limit -1")
    try:
        database.script(DEPLOY / "schema.sql")
        assert database.value(limit) == 20
        database.query("alter role callstats_worker connection limit 33")
        database.script(DEPLOY / "schema.sql")
        assert database.value(limit) == 33
    finally:
        database.query(f"alter role callstats_worker connection limit {before}")


LIMITS = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}


@pytest.fixture
def limits(database):
    """What the role has, which is that of all databases of the server: afterwards as it was."""

    def of_role():
        settings = database.value("select rolconfig from pg_roles where rolname = 'callstats_worker'")
        return dict(setting.split("=", 1) for setting in settings or ())

    yield of_role
    for name, value in LIMITS.items():
        database.query(f"alter role callstats_worker set {name} = '{value}'")


def test_worker_role_has_timeouts_that_are_kept(database, limits):
    assert limits() == LIMITS
    database.query("alter role callstats_worker reset all")
    database.script(DEPLOY / "schema.sql")
    assert limits() == LIMITS
    database.query("alter role callstats_worker set statement_timeout = '2min'")
    database.query("alter role callstats_worker set idle_in_transaction_session_timeout = 0")
    database.script(DEPLOY / "schema.sql")
    assert limits() == {"statement_timeout": "2min", "idle_in_transaction_session_timeout": "0"}


def test_plain_owner_is_warned_of_limits_that_only_a_superuser_may_set(cluster, limits):
    """callstats check names them, and the commands of its fixes are enough."""
    cluster.execute("create role plain_owner login")
    database = cluster.database(with_schema=False, owner="plain_owner")
    before = database.value("select rolconnlimit from pg_roles where rolname = 'callstats_worker'")
    database.query("alter role callstats_worker reset all")
    database.query("alter role callstats_worker connection limit -1")
    try:
        code, output = database.psql(user="plain_owner", input=(DEPLOY / "schema.sql").read_text())
        assert code == 0 and output.count("WARNING") == 2, output
        assert "has no connection limit" in output and "has no statement_timeout" in output
        assert limits() == {}
        _, text = check({"DATABASE_URL": database.url, "CALLSTATS_ROOT_TOKEN_FILE": "/dev/null"})
        (line,) = (line for line in text.splitlines() if "privileges" in line)
        assert line.startswith("WARN"), line
        for missing in ("connection limit", *LIMITS):
            assert f"has no {missing}" in line
        fixes = [fix for fix in line.partition("Fix: ")[2].split("; ") if fix.startswith("alter role ")]
        assert len(fixes) == 3
        for fix in fixes:
            database.query(fix)
        assert limits() == LIMITS
        _, text = check({"DATABASE_URL": database.url, "CALLSTATS_ROOT_TOKEN_FILE": "/dev/null"})
        assert "has no" not in text
        code, output = database.psql(user="plain_owner", input=(DEPLOY / "schema.sql").read_text())
        assert (code, output) == (0, "")
    finally:
        cluster.execute(f"alter role callstats_worker connection limit {before}")
        database.drop()
        cluster.execute("drop role plain_owner")


def test_password_of_a_shard_is_for_the_worker_and_the_owner_only(database):
    mappings = "select usename from pg_user_mappings where srvname = 'callstats_one' order by 1"
    database.script(DEPLOY / "shards.sql")
    database.query("select callstats.add_shard('one', 'host=/nowhere dbname=x user=y password=secret')")
    assert database.query(mappings) == [("callstats_worker",), ("owner",)]
    # As the first version created it.
    database.query("""drop user mapping for callstats_worker server callstats_one;
        drop user mapping for owner server callstats_one;
        create user mapping for public server callstats_one options (user 'y', password 'secret')""")
    database.script(DEPLOY / "shards.sql")
    assert database.query(mappings) == [("callstats_worker",), ("owner",)]
    with logged_in(database, "callstats_worker") as cursor:
        cursor.execute("select umoptions from pg_user_mappings where umoptions is not null")
        assert cursor.fetchall() == []
