"""What the README and the man page tell people to type: run here, or in the test that is named."""
import os
import re
import subprocess

from .support.processes import CALLSTATS, PROJECT, as_user
from .support.worker import ROOT_TOKEN, Worker

TEXT = (PROJECT / "README.md").read_text()

# Commands that another test runs in this form or, where they would change the machine, in a folder or on a port of its
# own. What comes after the dash no test runs: it is the machine's package manager, service manager or the like.
ELSEWHERE = {
    r"deploy/try": "test_try.py", r"tests/run": "is what runs this",
    r"curl -s -H .*Authorization: Bearer demo-acme": "test_try.py",
    r"cargo install cargo-deb": "test_package.py", r"sudo apt (install|purge) ": "test_package.py, with dpkg",
    r"sudo -u postgres psql -X -v ON_ERROR_STOP=1 -d calls < deploy/schema.sql": "test_schema.py",
    r"sudo -u postgres psql -d calls -c 'drop schema": "test_the_schema_can_be_removed",
    r"sudo -u postgres createdb": "-", r"sudo systemctl": "-", r"cargo build": "tests/run",
    r"sudo (install|useradd|chown|chmod|cp|nginx)|\(umask 077": "-",
    r"sudo env DATABASE_URL|spawn-fcgi -n|-u callstats_worker": "test_service_files.py, test_stop_and_start.py",
    r"curl -H": "test_try.py", r"callstats check|callstats [(]8|ok |WRONG ": "test_check.py", r"deploy/(tenant|load-calls)": "below",
    r"tests/replay/replay": "below", r"(insert|update|select|from|where) ": "below", r"\[\{|\{\"agent_id|\[20": "an answer",
    r"alter table callstats.call drop constraint": "below", r"set citus|select create_distributed_table": "-",
}


def blocks():
    """The indented blocks of the README."""
    return [re.sub(r"^ {4,8}", "", block, flags=re.M).strip("\n") for block in re.findall(r"(?:^ {4,}\S.*\n(?:\n(?= {4}))?)+", TEXT, re.M)]


def test_every_command_is_run_somewhere():
    for block in blocks():
        for line in block.splitlines():
            command = line.removeprefix("$ ").strip()
            if command:
                assert any(re.match(pattern, command) for pattern in ELSEWHERE), command


def run(block, database, folder):
    """Runs a block as it stands, in the project's folder."""
    environment = os.environ | {"PGHOST": str(database.cluster.folder.path), "PGDATABASE": database.name, "PGUSER": "owner"}
    done = subprocess.run(["bash", "-euc", block], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_calls_can_be_distributed_by_organization(database):
    """As far as PostgreSQL alone goes: what Citus refuses is a key without the column, and a reference to what is elsewhere."""
    for statement in block_with("create_distributed_table").splitlines():
        if statement.startswith("alter"):
            database.query(statement)
    for _ in range(2):
        assert database.query("select conname::text, conkey from pg_constraint where conrelid = 'callstats.call'::regclass and contype <> 'c'") == [
            ("call_pkey", [2, 1])]
        database.query(re.search(r"`(alter table callstats.call drop constraint call_pkey[^`]*)`", TEXT)[1])


def block_with(words):
    return next(block for block in blocks() if words in block)


def test_the_scripts_of_operators(database, tmp_path):
    for name in ("deploy",):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / "calls.csv").write_text("company,organization,folder,agent,start,seconds\nacme,support,Sales,007,2026-03-03 08:00,12.5\n")
    out = run(block_with("deploy/tenant company acme"), database, tmp_path)
    assert re.search(r"^[A-Za-z0-9]{32}$", out, re.M)
    assert "loaded 1 calls" in run(block_with("deploy/load-calls"), database, tmp_path)


def test_the_sql(database, start):
    sql = block_with("insert into callstats.company")
    *before, rotate, revoke = [statement for statement in sql.split(";") if statement.strip()]
    worker = start(Worker, database.url)
    for statement in before:
        database.query(statement)
    assert worker.get("/stats/acme/support/Sales", "the token").body == b"[]"
    database.query(rotate)
    assert worker.get("/stats/acme/support/Sales", "a new token").status == 200
    database.query(revoke)
    assert worker.get("/stats/acme/support/Sales", "a new token").status == 401


def test_replaying_a_file_of_ones_own(replay_worker, tmp_path):
    (tmp_path / "tests").symlink_to(PROJECT / "tests")
    (tmp_path / "my.replay").write_text("# Mine\n> GET /stats/acme/empty\n> Authorization: Bearer ${token}\n< 200\n[]\n")
    command = block_with("tests/replay/replay fcgi:").splitlines()[1]
    command = command.replace("/run/callstats/callstats.sock", replay_worker.socket).replace("token=...", f"token={ROOT_TOKEN}")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "1 passed, 0 failed\n", done.stdout + done.stderr


def test_the_schema_can_be_removed(cluster):
    database = cluster.database()
    database.query("drop schema callstats cascade")
    database.script(PROJECT / "deploy" / "schema.sql")
    database.drop()


def test_the_man_page_names_every_variable():
    man = (PROJECT / "deploy" / "callstats.8").read_text().replace("\\-", "-")
    used = set(re.findall(r'"((?:CALLSTATS_|DATABASE_URL|RUST_LOG)\w*)"', (PROJECT / "src" / "config.rs").read_text()))
    help_text = subprocess.run([CALLSTATS, "--help"], capture_output=True, text=True, **as_user()).stdout
    for name in used:
        for text in (man, TEXT, help_text):
            assert name in text, name
    done = subprocess.run(["man", "--warnings", "-l", PROJECT / "deploy" / "callstats.8"], capture_output=True, text=True,
                          env=os.environ | {"MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr) == (0, "")
