"""The operator's commands: tenants, tokens and the schema. What they print, refuse, and leave unchanged."""
import json
import os
import pathlib
import pty
import re
import signal
import subprocess

import pytest

from tests.support.processes import CALLSTATS, PROJECT, Folder, as_user, wait_until
from tests.support.worker import ROOT_TOKEN, Worker

CALL = "insert into callstats.call (organization_id, folder_id, started_at, duration_ms) " \
       "select organization_id, id, now()::timestamp, 1000 from callstats.folder"


class Operator:
    """Runs commands as psql's variables say where to."""

    def __init__(self, database):
        self.database = database
        self.environment = {"PGHOST": str(database.cluster.folder.path), "PGPORT": str(database.cluster.port),
                            "PGDATABASE": database.name, "PGUSER": "owner"}

    def run(self, *words, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run([CALLSTATS, *words], text=True, **options, **as_user(**self.environment))

    def done(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words, code=1, **options):
        done = self.run(*words, **options)
        assert done.returncode == code and not done.stdout, (done.stdout, done.stderr)
        assert done.stderr.startswith("callstats: "), done.stderr
        return done.stderr


@pytest.fixture
def operator(database):
    return Operator(database)


@pytest.fixture
def acme(operator):
    operator.done("tenant", "add", "acme", "support", "Sales", "--time-zone", "Europe/Berlin")
    return operator


def token(operator, *words):
    value = operator.done("token", "add", *words).removesuffix("\n")
    assert re.fullmatch("[A-Za-z0-9]{32}", value)
    return value


def test_tenants_and_tokens_are_created_from_nothing(operator, database, start):
    worker = start(Worker, database.url)
    names = ["O'Brien & Co", "support", '50% "off" \\ $(date)']
    out = operator.done("tenant", "add", *names, "--time-zone", "Asia/Tokyo")
    assert out.splitlines()[0] == 'company "O\'Brien & Co" added' and "time zone Asia/Tokyo" in out
    assert "added" not in operator.done("tenant", "add", *names)
    first, second = token(operator, names[0], "--name", "a"), token(operator, names[0], "--name", "b b")
    uri = "/stats/O'Brien%20%26%20Co/support/50%25%20%22off%22%20%5C%20$(date)"
    assert [worker.get(uri, value).status for value in (first, second)] == [200, 200]
    operator.done("token", "revoke", names[0], "a")
    assert [worker.get(uri, value).status for value in (first, second)] == [401, 200]
    assert 'token "b b"' in worker.text() and second not in worker.text()
    assert second not in operator.done("token", "list") + operator.done("tenant", "list")
    assert second not in repr(database.query("select * from callstats.company_token"))


def test_lists_are_tables_or_json(acme):
    acme.done("tenant", "add", "empty")
    acme.done("tenant", "add", "acme", "other")
    token(acme, "acme", "--name", "n", "--expires", "2999-01-01")
    table = acme.done("tenant", "list").splitlines()
    assert [re.split("  +", line) for line in table] == [
        ["COMPANY", "TOKENS", "ORGANIZATION", "TIME ZONE", "FOLDER"], ["acme", "1", "other", "UTC", "-"],
        ["acme", "1", "support", "Europe/Berlin", "Sales"], ["empty", "0", "-", "-", "-"]]
    assert json.loads(acme.done("tenant", "list", "--json")) == [
        {"company": "acme", "tokens": 1, "organizations": [
            {"organization": "other", "time_zone": "UTC", "folders": []},
            {"organization": "support", "time_zone": "Europe/Berlin", "folders": ["Sales"]}]},
        {"company": "empty", "tokens": 0, "organizations": []}]
    listed = json.loads(acme.done("token", "list", "--json"))
    assert listed == json.loads(acme.done("token", "list", "acme", "--json"))
    assert listed[0].pop("created_at") and listed == [
        {"company": "acme", "name": "n", "expires_at": "2999-01-01T00:00:00Z", "expired": False}]
    assert acme.done("token", "list", "empty", "--json") == "[]\n"


def test_changes_are_reported_as_json(acme):
    added = json.loads(acme.done("tenant", "add", "acme", "support", "New", "--time-zone", "UTC", "--json"))
    assert [(change["kind"], change["result"]) for change in added["changes"]] == [
        ("company", "exists"), ("organization", "changed"), ("folder", "added")]
    assert added["changes"][1]["time_zone"] == "UTC" and added["changes"][2]["name"] == ["acme", "support", "New"]
    created = json.loads(acme.done("token", "add", "acme", "--name", "n", "--json"))
    assert len(created.pop("token")) == 32 and created == {"company": "acme", "name": "n", "expires_at": None}


@pytest.mark.parametrize("words, why", [
    (["tenant", "add", ""], "is empty"), (["tenant", "add", "x" * 1001], "longer than 1000"),
    (["tenant", "add", "a\nb"], "control character, U+000A"), (["tenant", "add", " a"], "white space"),
    (["tenant", "add", ".."], "path"), (["tenant", "add", "acme", "a "], "white space"),
    (["tenant", "add", "acme", "x", "\u200b"], "U+200B"), (["tenant", "add", "acme", "\ufeffx"], "U+FEFF"),
    (["tenant", "add", "acme", "x\u00a0"], "U+00A0"), (["tenant", "add", "acme", "x", "\u202ex"], "control character"),
    (["tenant", "add", "acme", "x", "--time-zone", "Mars/Olympus"], "Mars/Olympus"),
    (["tenant", "add", "acme", "x", "--time-zone", ""], "time zone"),
    (["tenant", "rename", "nobody", "--to", "x"], 'no company "nobody"'),
    (["tenant", "rename", "acme", "x", "--to", "y"], 'no organization "x" in company "acme"'),
    (["tenant", "rename", "acme", "support", "x", "--to", "y"], 'no folder "x" in organization "support"'),
    (["tenant", "rename", "acme", "--to", "taken"], 'already a company "taken"'),
    (["tenant", "rename", "acme", "--to", "."], "path"), (["tenant", "delete", "nobody"], "no company"),
    (["token", "add", "nobody", "--name", "x"], "no company"), (["token", "add", "acme", "--name", ""], "is empty"),
    (["token", "add", "acme", "--name", "a\x1b"], "control character"),
    (["token", "add", "acme", "--name", "x", "--expires", "2020-01-01"], "in the past"),
    (["token", "add", "acme", "--name", "x", "--expires", "01.02.2030"], "not a date"),
    (["token", "add", "acme", "--name", "n"], 'already has a token "n"'),
    (["token", "revoke", "acme", "x"], 'has no token "x"'), (["token", "revoke", "nobody", "x"], "no company"),
    (["token", "list", "nobody"], "no company"),
])
def test_refusal_has_a_reason_and_a_hint_and_changes_nothing(words, why, acme, database):
    acme.done("tenant", "add", "taken")
    token(acme, "acme", "--name", "n")
    state = "select c.short_name, o.*, f.*, t.* from callstats.company c left join callstats.organization o on true " \
            "left join callstats.folder f on true left join callstats.company_token t on true order by 1, 2, 3"
    before = database.query(state)
    stderr = acme.refused(*words)
    assert why in stderr and ". Hint: " in stderr and stderr.count("\n") == 1
    assert database.query(state) == before


@pytest.mark.parametrize("redirection", [">&-", ">/dev/null", ">/dev/full"])
def test_token_that_nobody_would_see_is_not_added(redirection, acme, database):
    done = subprocess.run(f"'{CALLSTATS}' token add acme --name n {redirection}", shell=True, env=acme.environment,
                          capture_output=True, text=True)
    assert done.returncode == 1 and "standard output" in done.stderr and "Hint: " in done.stderr, done.stderr
    assert database.query("select * from callstats.company_token") == []


@pytest.mark.parametrize("words", [
    ["tenant"], ["tenant", "add"], ["tenant", "frobnicate"], ["token", "add", "a"], ["token", "revoke", "a"],
    ["schema", "install", "x"], ["tenant", "add", "a", "--time-zone", "UTC"], ["completions", "cmd.exe"],
    ["tenant", "rename", "a"],
])
def test_wrong_arguments_show_the_usage_and_exit_2(words, operator):
    done = operator.run(*words)
    assert done.returncode == 2 and "usage: callstats" in done.stderr.lower() and not done.stdout


def test_name_that_is_not_composed_is_accepted_with_a_suggestion(acme):
    done = acme.run("tenant", "add", "acme", "support", "Mu\u0308nchen")
    assert done.returncode == 0 and "NFC" in done.stderr and '"München"' in done.stderr


def test_token_that_cannot_be_shown_does_not_exist(acme, database):
    with open("/dev/full", "w") as full:
        done = acme.run("token", "add", "acme", "--name", "n", stdout=full)
    assert done.returncode == 1 and "standard output" in done.stderr
    assert database.query("select * from callstats.company_token") == []


def test_token_is_in_no_command_line_and_not_in_the_servers_log(acme, database):
    database.cluster.execute("alter role owner set log_statement = 'all'")
    try:
        value = token(acme, "acme", "--name", "logged-name")
    finally:
        database.cluster.execute("alter role owner reset log_statement")
    log = database.cluster.process.text()
    assert "company_token" in log and "logged-name" in log and value not in log


def test_renaming_keeps_calls_and_tokens(acme, database, start):
    value = token(acme, "acme", "--name", "n")
    database.query(CALL)
    assert acme.done("tenant", "rename", "acme", "--to", "acme-eu") == 'company "acme" renamed to "acme-eu"\n'
    acme.done("tenant", "rename", "acme-eu", "support", "--to", "help")
    acme.done("tenant", "rename", "acme-eu", "help", "Sales", "--to", "Sales/EU")
    worker = start(Worker, database.url)
    answer = worker.get("/stats/acme-eu/help/Sales%2FEU", value)
    assert answer.status == 200 and json.loads(answer.body)[0]["calls"] == 1


@pytest.mark.parametrize("rollup", [False, True])
@pytest.mark.parametrize("names", [["acme"], ["acme", "support"], ["acme", "support", "Sales"]])
def test_deleting_is_refused_while_there_are_calls(names, rollup, acme, database):
    acme.done("tenant", "add", "acme", "support", "Empty")
    acme.done("tenant", "add", "other", "support", "Sales")
    token(acme, "acme", "--name", "n")
    if rollup:
        acme.done("schema", "install", "rollup")
    database.query(CALL + " where name <> 'Empty'")
    assert "--with-calls" in acme.refused("tenant", "delete", *names)
    assert "not a terminal" in acme.refused("tenant", "delete", *names, "--with-calls")
    assert "deleted" in acme.done("tenant", "delete", "acme", "support", "Empty")
    assert database.value("select count(*) from callstats.call") == 2
    assert "deleted, with 1 calls" in acme.done("tenant", "delete", *names, "--with-calls", "--yes")
    assert database.value("select sum(calls) from callstats.call_source") == 1
    left = database.query("""
        select c.short_name, o.short_name, f.name from callstats.company c
        left join callstats.organization o on o.company_id = c.id
        left join callstats.folder f on f.organization_id = o.id order by 1""")
    assert left[-1] == ("other", "support", "Sales")
    assert all(row[len(names) - 1] is None for row in left[:-1])


@pytest.mark.parametrize("answer, is_deleted", [("yes", True), ("no", False), ("", False)])
def test_deleting_calls_asks_on_a_terminal(answer, is_deleted, acme, database):
    database.query(CALL)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = acme.run("tenant", "delete", "acme", "--with-calls", stdin=theirs)
    os.close(ours), os.close(theirs)
    assert (done.returncode == 0) is is_deleted and 'Delete company "acme"' in done.stderr
    assert database.value("select count(*) from callstats.call") == (0 if is_deleted else 1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["it asks", "it waits", "it runs"])
def test_a_deletion_that_is_interrupted_has_changed_nothing_and_says_so(moment, how, acme, database, tmp_path):
    database.query(CALL)
    ours, theirs = pty.openpty()
    words = [CALLSTATS, "tenant", "delete", "acme", "--with-calls", *([] if moment == "it asks" else ["--yes"])]
    if moment == "it waits":
        database.query("begin; lock table callstats.call")
    elif moment == "it runs":  # its calls are deleted, and then
        database.query("create function public.slow() returns trigger language plpgsql as "
                       "$$ begin perform pg_sleep(60); return old; end $$; create trigger slow before delete "
                       "on callstats.folder for each row execute function public.slow()")
    printed = tmp_path / "printed"
    with open(printed, "w") as errors:
        process = subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=errors, text=True,
                                   **as_user(**acme.environment))
    os.close(theirs)
    if moment == "it asks":
        wait_until(lambda: "Type yes" in printed.read_text())
    elif moment == "it waits":
        wait_until(lambda: database.value("select count(*) from pg_locks where not granted") == 1)
    else:
        wait_until(lambda: database.value("select count(*) from pg_stat_activity where datname = current_database() "
                                          "and wait_event = 'PgSleep'") == 1)
    process.send_signal(how)
    assert process.communicate(timeout=10)[0] == "" and process.returncode == -how
    assert "callstats: interrupted; nothing was changed" in printed.read_text()
    os.close(ours)
    if moment == "it waits":
        database.query("rollback")
    # The server notices within two seconds that nobody waits for the rest.
    wait_until(lambda: database.value("select count(*) from pg_stat_activity where datname = current_database() "
                                      "and backend_type = 'client backend'") == 1)
    assert database.query("select (select count(*) from callstats.call), (select count(*) from callstats.folder)") == [
        (1, 1)]


@pytest.mark.parametrize("how", ["--database", "--database NAME", "DATABASE_URL", "PG"])
def test_each_way_to_connect_works(how, operator, database):
    url = f"host={database.cluster.folder.path} port={database.cluster.port} dbname={database.name} user=owner"
    words = []
    if how == "--database NAME":
        operator.environment["PGDATABASE"] = "of another name"
        words = ["--database", database.name]
    elif how != "PG":
        operator.environment = {"PGHOST": "/nowhere"}
    if how == "DATABASE_URL":
        operator.environment["DATABASE_URL"] = url
    if how == "--database":
        operator.environment["DATABASE_URL"] = "host=/nowhere"
        words = ["--database", url]
    assert operator.done("tenant", "list", *words).startswith("COMPANY")
    assert operator.done(*words, "tenant", "list").startswith("COMPANY")


def test_database_that_is_unavailable_is_reported_without_the_password(operator):
    stderr = operator.refused("--database", "postgresql://u:pa55word@127.0.0.1:1/x", "tenant", "list")
    assert "cannot connect" in stderr and "by --database" in stderr and "pa55word" not in stderr
    stderr = operator.refused("--database", "postgresql://u:pa55word@h/x?bogus=1", "tenant", "list")
    assert "--database" in stderr and "pa55word" not in stderr
    for option in ("bogus=1", "require_auth=none", "sslmode=x"):
        stderr = operator.refused("--database", f"host=h {option}", "tenant", "list")
        assert stderr.startswith("callstats: cannot use --database to connect: ") and stderr.count("Hint: ") == 1


@pytest.mark.parametrize("variable", ["PGUSER", "PGDATABASE"])
def test_unknown_role_or_database_has_a_hint_that_connects(variable, operator):
    """As root after the installation, who is no role of PostgreSQL."""
    del operator.environment[variable]
    stderr = operator.refused("tenant", "list")
    assert "does not exist" in stderr and "Hint: connect as the owner of the schema: sudo -u postgres env " in stderr
    assert "(connected by the PG variables of the environment). Hint: " in stderr
    operator.environment = {"PGHOST": "/nowhere"}
    stderr = operator.refused("tenant", "list")
    assert "(connected by the PG variables of the environment). Hint: check host and port" in stderr


def test_workers_role_is_refused_with_a_hint(acme, database):
    stderr = acme.refused("tenant", "add", "x", "--database", database.url)
    assert "permission denied" in stderr and "Hint: connect as the owner" in stderr


def test_search_path_of_the_role_makes_no_difference(acme, database):
    database.query("create schema evil; "
                   "create operator evil.= (leftarg = text, rightarg = text, function = pg_catalog.textne)")
    acme.environment["PGOPTIONS"] = "-c search_path=evil,pg_catalog"
    assert "there is no company" in acme.refused("tenant", "rename", "nobody", "--to", "x")


@pytest.mark.parametrize("script", ["schema", "rollup", "rollup-remove", "partitions", "shards"])
def test_print_is_the_file_and_install_does_what_psql_does(script, cluster):
    path = PROJECT / "deploy" / f"{script}.sql"
    before = ["schema", "rollup"] if script == "rollup-remove" else ["schema"] if script != "schema" else []
    described = []
    for way in ("install", "psql"):
        database = cluster.database(with_schema=False)
        for name in before:
            database.script(PROJECT / "deploy" / f"{name}.sql")
        operator = Operator(database)
        for _ in range(1 if script == "rollup-remove" else 2):
            if way == "psql":
                database.script(path)
            else:
                assert operator.run("schema", "print", script).stdout == path.read_text()
                assert "installed; the schema has version 2" in operator.done("schema", "install", script)
        described.append(database.query("""
            select 'relation', relname::text, relkind::text, coalesce(relacl::text, '') from pg_class
            where relnamespace = 'callstats'::regnamespace union all
            select 'function', proname::text, md5(prosrc), coalesce(proacl::text, '') from pg_proc
            where pronamespace = 'callstats'::regnamespace union all
            select 'trigger', tgname::text, tgrelid::regclass::text, '' from pg_trigger
            where not tgisinternal order by 1, 2, 3"""))
        database.drop()
    assert described[0] == described[1] and len(described[0]) > 10


def test_every_sql_file_of_a_schema_is_in_the_executable(operator):
    names = {path.stem for path in (PROJECT / "deploy").glob("*.sql")} - {"sample"}
    offered = re.search(r"possible values: ([^\]]*)", operator.run("schema", "print", "x").stderr)[1]
    assert set(offered.split(", ")) == names


def test_failing_install_changes_nothing_and_names_the_line(cluster):
    database = cluster.database(with_schema=False)
    database.query("create schema callstats; create table callstats.call (id int)")
    stderr = Operator(database).refused("schema", "install")
    assert re.search(r"schema\.sql, line \d+: ", stderr)
    assert database.value("select to_regclass('callstats.company')") is None
    database.drop()


def test_version_of_the_schema_is_reported(cluster):
    database = cluster.database(with_schema=False)
    operator = Operator(database)
    assert "Hint: callstats schema install" in operator.refused("schema", "version")
    database.script(PROJECT / "tests" / "database" / "version1" / "schema.sql")
    done = operator.run("schema", "version")
    assert done.returncode == 1 and done.stdout.startswith("version 1;") and "schema install" in done.stderr
    assert "version 2" in operator.done("schema", "install")
    operator.done("schema", "install", "rollup")
    assert operator.done("schema", "version") == "version 2, with rollup; this executable has version 2\n"
    assert json.loads(operator.done("schema", "version", "--json")) == {
        "version": 2, "available": 2, "rollup": True, "partitions": False, "shards": False, "adopt": False}
    database.drop()


def test_missing_schema_has_a_hint_that_installs_it(cluster):
    database = cluster.database(with_schema=False)
    operator = Operator(database)
    assert "Hint: callstats schema install" in operator.refused("tenant", "list")
    operator.done("schema", "install")
    operator.done("tenant", "list")
    database.drop()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_every_command(shell, operator):
    script = operator.done("completions", shell)
    assert all(word in script for word in ("tenant", "token", "schema", "check", "expires"))
    if shell == "bash":
        words = f"COMP_WORDS=(callstats token ''); COMP_CWORD=2; {script}\n" \
                "_callstats callstats '' token; echo \"${COMPREPLY[@]}\""
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
        assert {"add", "list", "revoke"} <= set(done.stdout.split()), done.stderr


def test_completions_of_the_package_are_those_that_the_executable_prints(operator):
    for shell, name in (("bash", "callstats"), ("zsh", "_callstats"), ("fish", "callstats.fish")):
        shipped = (PROJECT / "deploy" / "completions" / name).read_text()
        assert shipped == operator.done("completions", shell), \
            f"target/release/callstats completions {shell} > deploy/completions/{name}"


def test_manual_pages_are_those_of_the_help():
    folder = Folder("manual")
    done = subprocess.run([CALLSTATS, "manual", folder.path], capture_output=True, text=True, **as_user())
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text() for path in pathlib.Path(folder.path).iterdir()}
    shipped = {path.name: path.read_text() for path in (PROJECT / "deploy" / "man").iterdir()}
    folder.remove()
    assert made == shipped, "target/release/callstats manual deploy/man"
    assert {"callstats-tenant-add.8", "callstats-token.8", "callstats-schema-install.8"} <= set(made)
    for name in shipped:
        page = PROJECT / "deploy" / "man" / name
        done = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True,
                              env=os.environ | {"LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
        assert done.returncode == 0 and not done.stderr, (name, done.stderr)


def test_root_tokens_are_not_touched(acme, database, start):
    worker = start(Worker, database.url)
    assert worker.get("/stats/acme/support", ROOT_TOKEN).status == 200
