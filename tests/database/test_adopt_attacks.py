"""Nobody gains a privilege by `callstats adopt`: what a table brings along runs as callstats_worker, or is refused."""
import subprocess

import psycopg2
import pytest

from ..support.processes import CALLSTATS, PROJECT, as_user
from ..support.worker import ROOT_TOKEN, Worker
from .test_privileges import TRAPS, logged_in, prepare, roles  # noqa: F401  (a fixture)

# What an attacker's function does: it gives itself a way out, fails the command if it runs as anybody worth it, and
# puts itself into the functions of its role that the command may call again.
SPRING = """
    grant usage on schema mallory to public;
    create sequence mallory.sprung; grant usage on sequence mallory.sprung to public;
    create function mallory.spring() returns boolean language plpgsql as $$
    declare way pg_catalog.text; own pg_catalog.regprocedure;
    begin
        perform pg_catalog.set_config('search_path', 'pg_catalog', false); -- its own operators are not to be traps
        foreach way in array array['reset role', 'set role none', 'set session authorization default',
                                   'reset session authorization', 'set role owner', 'set role plain'] loop
            begin
                execute way;
            exception when others then null;
            end;
        end loop;
        if current_user not in ('mallory', 'callstats_worker') then
            begin
                perform nextval('mallory.sprung'); -- stays when all else is rolled back
            exception when others then null;
            end;
            raise exception 'sprung as %', current_user;
        end if;
        begin
            for own in
                select oid from pg_proc where pronamespace = pg_my_temp_schema() and pg_has_role(proowner, 'member')
            loop
                execute replace(replace(pg_get_functiondef(own), 'SECURITY DEFINER', ''),
                                'begin', 'begin perform mallory.spring();');
            end loop;
        exception when others then null;
        end;
        perform set_config('search_path', 'mallory, public, pg_catalog', false);
        perform set_config('standard_conforming_strings', 'off', false);
        begin
            perform set_config('session_replication_role', 'replica', false);
        exception when insufficient_privilege then null;
        end;
        return true;
    end $$;
    create function mallory.f(int) returns int immutable parallel safe language plpgsql as $$
        begin perform mallory.spring(); return 1; end $$;
    create function mallory.t(anyelement) returns boolean immutable parallel safe language plpgsql as $$
        begin perform mallory.spring(); return true; end $$;
    create function mallory.trap() returns trigger language plpgsql as $$
        begin perform mallory.spring(); return new; end $$;
    create table mallory.calls (company text, organization text, folder text, agent text, started timestamptz,
        seconds int);
    insert into mallory.calls values ('acme', 'support', 'Sales', 'anna', now() - interval '1 hour', 10);
"""
# Ways of a table or a view to run code when it is read or planned.
WAYS = {
    "view": """alter table mallory.calls rename to rows;
        create view mallory.calls as select * from mallory.rows where mallory.spring()""",
    "types": """alter table mallory.calls rename to rows;
        create view mallory.calls as select * from mallory.rows where mallory.spring();
        create domain mallory.json as json check (mallory.t(value));
        create domain mallory.text as text check (mallory.t(value))""",
    "barrier": """alter table mallory.calls rename to rows;
        create view mallory.calls with (security_barrier) as select * from mallory.rows where mallory.spring()""",
    "view over a view": """alter table mallory.calls rename to rows;
        create view mallory.inner as select *, mallory.f(1) as one from mallory.rows;
        create view mallory.calls as select * from mallory.inner where one = 1""",
    "constant": """alter table mallory.calls rename to rows;
        create view mallory.calls as select * from mallory.rows where mallory.f(1) = 1""",
    "sub-select": """alter table mallory.calls rename to rows; create view mallory.calls as
        select company, organization, (select 'x' where mallory.spring()) as folder, agent, started, seconds
        from mallory.rows""",
    "rule": """alter table mallory.calls rename to rows; create table mallory.calls (like mallory.rows);
        create rule "_RETURN" as on select to mallory.calls do instead
            select * from mallory.rows where mallory.spring()""",
    "index": "create index on mallory.calls (started) where mallory.f(1) = 1",
    "index expression": """create index on mallory.calls (started, mallory.f(seconds));
        create index on mallory.calls (mallory.f(2))""",
    "policy": """alter table mallory.calls enable row level security;
        alter table mallory.calls force row level security;
        create policy p on mallory.calls using (mallory.spring())""",
    "cast": """create type mallory.color as enum ('red');
        create function mallory.name(mallory.color) returns text language plpgsql as $$
            begin perform mallory.spring(); return 'x'; end $$;
        create cast (mallory.color as text) with function mallory.name(mallory.color) as implicit;
        alter table mallory.calls alter column folder type mallory.color using 'red'""",
    "domain": """create domain mallory.d as text check (mallory.t(value));
        alter table mallory.calls alter column folder type mallory.d""",
    "check of a partition": """alter table mallory.calls rename to rows;
        create table mallory.calls (like mallory.rows) partition by list (company);
        alter table mallory.rows add check (mallory.f(1) = 1 and company is not null);
        alter table mallory.calls attach partition mallory.rows default""",
    "partition key": """alter table mallory.calls rename to rows;
        create table mallory.calls (like mallory.rows) partition by list (mallory.f(seconds));
        alter table mallory.calls attach partition mallory.rows default""",
    "statistics": "create statistics mallory.s on (mallory.f(seconds)), started from mallory.calls",
    "generated": "alter table mallory.calls add column g int generated always as (mallory.f(seconds)) stored",
    "trigger": "create trigger t before insert on mallory.calls for each row execute function mallory.trap()",
}
# Ways that not all versions of PostgreSQL have: the first and the last of them, and how the others refuse it.
VERSIONS_WITH = {
    "statistics": (14, 99, psycopg2.errors.FeatureNotSupported),
    "rule": (13, 15, psycopg2.errors.WrongObjectType),
}
MAPPING = ("--preset", "flat", "--relation", "mallory.calls", "--time_zone", "UTC")


def adopt(database, *arguments, user="owner"):
    """Exit code and output of `callstats adopt` as a role."""
    url = database.url.replace("user=callstats_worker", f"user={user}")
    done = subprocess.run([CALLSTATS, "adopt", *arguments, "--database", url], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **as_user())
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def hostile(roles):  # noqa: F811
    """A database with the roles, the schema of its plain owner, and the schema of an attacker."""
    roles.query("""do $$ begin create role callstats_worker login; exception when duplicate_object then null; end $$;
        create schema mallory authorization mallory""")
    prepare(roles, "plain")
    with logged_in(roles, "mallory") as cursor:
        cursor.execute(TRAPS)
        cursor.execute(SPRING)
    return roles


def hold(database, user, *arguments):
    code, output = adopt(database, *arguments, user=user)
    assert "sprung" not in output, (arguments, output)
    assert not database.value("select is_called from mallory.sprung"), (arguments, output)
    assert "panic" not in output and (code == 0 or "Hint: " in output), (arguments, output)
    return code, output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("user", [pytest.param("owner", marks=pytest.mark.slow), "plain"])
def test_code_that_a_table_brings_runs_as_nobody_else(user, way, hostile):
    with logged_in(hostile, "mallory") as cursor:
        first, last, error = VERSIONS_WITH.get(way, (13, 99, None))
        if not first <= hostile.cluster.version <= last:
            with pytest.raises(error):
                cursor.execute(WAYS[way])
            return
        cursor.execute(WAYS[way])
    if user == "plain":
        hostile.query("grant usage on schema mallory to plain; grant select on all tables in schema mallory to plain, "
                      "callstats_worker")
    code, output = hold(hostile, user, "try", *MAPPING)
    if user == "owner":
        assert code == 0, output
    for arguments in (("on", *MAPPING), ("sync",), ("sync", "--full"), ("status",), ("off",)):
        done, output = hold(hostile, user, *arguments)
        assert done == 0 or arguments[0] == "on" and user == "plain", (arguments, output)
    assert hostile.query("select * from public.sprung") == []
    assert hostile.query("select rolname from pg_roles where rolname in ('mallory', 'plain') and rolsuper") == []


@pytest.mark.parametrize("with_temporary", [True, False])
def test_owner_who_may_act_as_the_worker_reads_tables_of_others(with_temporary, hostile):
    """Also where nobody but the owner may create temporary tables."""
    if not with_temporary:
        hostile.query(f"revoke temporary on database {hostile.name} from public")
    with logged_in(hostile, "mallory") as cursor:
        cursor.execute(WAYS["view"] + "; grant select on mallory.calls, mallory.rows to callstats_worker, plain")
    code, output = hold(hostile, "plain", "on", *MAPPING)
    assert code == 1 and "grant callstats_worker to plain" in output and "of mallory" in output, output
    hostile.query("grant callstats_worker to plain")
    for arguments in (("try", *MAPPING), ("on", *MAPPING), ("sync", "--full"), ("status",), ("off",)):
        code, output = hold(hostile, "plain", *arguments)
        assert code == 0, output
        assert arguments[0] != "try" or "view mallory.calls of mallory; its owner can have anything run" in output
    privileges = "select has_database_privilege('callstats_worker', current_database(), 'temporary')"
    assert hostile.value(privileges) is with_temporary


@pytest.mark.parametrize("way", ["view", "index", "policy", "cast"])
def test_table_that_turns_hostile_after_adoption_runs_as_nobody_else(way, hostile, start):
    code, output = hold(hostile, "owner", "on", *MAPPING)
    assert code == 0, output
    with logged_in(hostile, "mallory") as cursor:
        cursor.execute(WAYS[way])
    for arguments in (("sync",), ("sync", "--full"), ("status",)):
        assert hold(hostile, "owner", *arguments)[0] == 0
    with logged_in(hostile, "mallory") as cursor:
        cursor.execute("insert into mallory.calls values ('acme', 'new', null, 'anna', now() - interval '1 hour', 10)"
                       if way in ("index", "cast") else "select")
    assert hold(hostile, "owner", "sync")[0] == 0
    worker = start(Worker, hostile.url)
    assert worker.get("/stats/acme/support?daterange=-").status in (200, 503)
    assert hold(hostile, "owner", "off")[0] == 0


@pytest.mark.parametrize("user", ["owner", "plain"])
def test_traps_of_others_are_not_sprung_by_adoption(user, hostile):
    """Neither by adopt.sql nor by the commands, whatever the search path of the role is."""
    hostile.query("create table public.calls (like mallory.calls)")
    hostile.query("insert into public.calls select * from mallory.calls")
    hostile.query(f"alter table public.calls owner to {user}; grant select on public.calls to callstats_worker")
    hostile.query(f"alter role {user} in database {hostile.name} set search_path = public, pg_catalog")
    hostile.script(PROJECT / "deploy" / "adopt.sql", user=user)
    mapping = ("--preset", "flat", "--time_zone", "UTC")
    for arguments in (("try", *mapping), ("on", *mapping), ("sync", "--full"), ("status",)):
        code, output = hold(hostile, user, *arguments)
        assert code == 0, output
    for name in ("schema", "rollup", "partitions", "rollup-remove", "schema", "adopt"):
        hostile.script(PROJECT / "deploy" / f"{name}.sql", user=user)
        assert hold(hostile, user, "sync")[0] == 0
    assert hold(hostile, user, "off")[0] == 0
    hostile.query("set search_path = pg_catalog")
    assert hostile.query("select * from public.sprung") == []


def test_scripts_that_run_again_keep_adopted_tables_in_the_answers(database, start):
    """With what the worker may read, and nobody else."""
    database.query("""create table public.calls (company text, organization text, folder text, agent text,
            started timestamptz, seconds int);
        insert into public.calls values ('acme', 'support', 'Sales', 'anna', '2026-03-04 12:00Z', 10);
        create table public.other (like public.calls)""")
    assert adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")[0] == 0
    database.query("""insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select organization_id, id, '2026-03-04 12:00', 30000 from callstats.folder""")
    privileges = """select relname, relacl::text from pg_class where relnamespace = 'callstats'::regnamespace
        and relname in ('zone_day', 'source') union all select proname, proacl::text from pg_proc
        where pronamespace = 'callstats'::regnamespace and proname in ('calls_between', 'adopted_name') order by 1"""
    before = database.query(privileges)
    for name in ("schema", "rollup", "partitions", "schema", "rollup", "rollup-remove", "adopt", "schema", "shards"):
        database.script(PROJECT / "deploy" / f"{name}.sql")
        assert database.query(privileges) == before, name
        if name != "shards":  # after it, callstats.call is in no answer
            worker = Worker(database.url)
            answer = worker.ask("GET", f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260304")
            worker.stop()
            assert b'"folder":"Sales","calls":2,"avg_duration_seconds":20' in answer.body, (name, answer.body)
    with logged_in(database, "callstats_worker") as cursor:
        cursor.execute("select has_table_privilege('callstats.zone_day', 'insert, update, delete, truncate'), "
                       "has_table_privilege('callstats.source', 'insert, update, delete, truncate'), "
                       "has_table_privilege('public.other', 'select')")
        assert cursor.fetchall() == [(False, False, False)]
        cursor.execute("select * from callstats.calls_between(1, '2026-03-04', '2026-03-04')")
    assert database.value("select prosecdef from pg_proc where proname = 'calls_between'") is False


def test_names_of_any_spelling_are_data(database):
    """Anywhere: no quote ends a literal, and no control character reaches a terminal."""
    relation = '''"we""ird' $callstats$"."ca\x1b[31mlls'; --"'''
    database.query(f"""create schema "we""ird' $callstats$";
        create table {relation} ("o'""r\\g" text, started timestamptz, seconds int);
        create index "i\x1b[31m" on {relation} (started)""")
    names = ["'; drop schema callstats cascade; --", '"$callstats$', "\\'", "$$", "\x1b[2J", "a\nb", "%s %n", ":x",
             "a" * 2000]
    for name in names:
        database.query(f"insert into {relation.replace('%', '%%')} values (%s, now() - interval '1 hour', 10)", name)
    name = '''"o'""r\\g"'''
    mapping = ("--relation", relation, "--company", "'ac''me'", "--organization", name, "--folder", name, "--start",
               "started", "--duration", "seconds", "--unit", "s", "--time_zone", "UTC")
    for arguments in (("try", *mapping), ("on", *mapping), ("sync", "--full"), ("status",), ("off",)):
        code, output = adopt(database, *arguments)
        assert code == 0, output
        assert not any(character < " " and character != "\n" or "\x7f" <= character < "\xa0" for character in output)
    assert database.value("select count(*) from callstats.folder") == len(names)
    database.query(f"alter table {relation} rename column started to x")
    nope = ['"\x1b[31mnope"' if word == "started" else word for word in mapping]
    code, output = adopt(database, "on", *nope)
    assert code == 1 and "\x1b" not in output, output
