"""`callstats check`: a line for each thing that must be right, and a fix for each that is not."""
import json
import os
import socket

import pytest

from ..support.processes import Folder
from ..support.worker import ROOT_TOKEN, check


class Checked:
    """Runs the check as the worker's user would."""

    def __init__(self, database):
        self.folder = Folder("check")
        self.root_token_file = self.folder.write("root-token", ROOT_TOKEN)
        self.environment = {"DATABASE_URL": database.url, "CALLSTATS_ROOT_TOKEN_FILE": str(self.root_token_file)}

    def run(self, *arguments, **changes):
        return check(self.environment | changes, *arguments)

    def stop(self):
        self.folder.remove()


@pytest.fixture
def checked(sample_database, start):
    return start(Checked, sample_database)


def test_check_passes_on_a_complete_installation(checked):
    code, out = checked.run(CALLSTATS_SOCKET=str(checked.folder / "socket"))
    assert code == 0, out
    assert [line[7:24].strip() for line in out.splitlines()] == [
        "database", "connection", "schema", "privileges", "index", "time zones", "root token file", "socket"]
    # PostgreSQL lets everybody create temporary tables and large objects.
    marks = {line[7:24].strip(): line[:5].strip() for line in out.splitlines()}
    assert marks.pop("privileges") == "WARN" and set(marks.values()) == {"ok"} and "\x1b" not in out
    assert "revoke temporary on database" in out
    code, out = checked.run("--json")
    assert code == 0 and json.loads(out)["ok"] is True and json.loads(out)["checks"][0]["name"] == "database"


def wrong(checked, name, **changes):
    """What is wrong, which must be this one thing alone."""
    code, out = checked.run(**changes)
    lines = [line for line in out.splitlines() if line.startswith("FAIL   ")]
    assert code == 1 and len(lines) == 1 and lines[0][7:].startswith(name), out
    code, out = checked.run("--json", **changes)
    assert code == 1 and [check["name"] for check in json.loads(out)["checks"] if not check["ok"]] == [name]
    return lines[0]


def test_check_fails_on_an_unavailable_database(checked):
    assert "DATABASE_URL is correct" in wrong(checked, "database", DATABASE_URL="host=/nowhere user=x")


def test_check_fails_on_an_invalid_configuration(checked):
    code, out = checked.run(DATABASE_URL="", CALLSTATS_DB_CONNECTIONS="0")
    assert code == 1 and out.count("FAIL   configuration") == 2


def test_check_fails_on_an_older_schema(checked, database):
    database.query("update callstats.schema_version set version = 0")
    assert "schema.sql" in wrong(checked, "schema")
    database.query("update callstats.schema_version set version = 1")
    code, out = checked.run()
    assert code == 0 and "WARN   schema           version 1 is older than 2. Fix: callstats schema install" in out
    database.query("update callstats.schema_version set version = 99")
    assert "upgrade" in wrong(checked, "schema")


def test_check_fails_without_a_schema(cluster, start):
    database = cluster.database(with_schema=False)
    code, out = start(Checked, database).run()
    assert code == 1 and "the schema callstats does not exist" in out
    database.drop()


@pytest.mark.parametrize("statement, fix", [
    ("revoke select on callstats.folder from callstats_worker", "grant select on callstats.folder to callstats_worker"),
    ("grant insert on callstats.call to callstats_worker", "revoke all on callstats.call from callstats_worker"),
    ("grant select on callstats.call to callstats_worker", "revoke all on callstats.call from callstats_worker"),
])
def test_check_names_the_grant_that_fixes_privileges(statement, fix, checked, database):
    database.query(statement)
    assert fix in wrong(checked, "privileges")
    database.query(fix if "grant" in fix else f"{fix}; grant select on callstats.call_source to callstats_worker")
    assert checked.run()[0] == 0


def test_check_fails_without_an_index_in_group_order(checked, database):
    database.query("drop index callstats.call_group")
    assert "create index" in wrong(checked, "index")
    database.query("create index on callstats.call (organization_id, call_date)")
    assert "create index" in wrong(checked, "index")
    database.query(
        "create index on callstats.call (organization_id, call_date, folder_id, agent_id) include (duration_ms)"
    )
    assert checked.run()[0] == 0


def test_check_fails_on_a_time_zone_unknown_to_the_server(checked, database):
    database.query("""alter table callstats.organization disable trigger organization_time_zone;
        update callstats.organization set time_zone = 'Mars/Olympus' where id = 1""")
    assert "acme/support has Mars/Olympus" in wrong(checked, "time zones")


@pytest.mark.parametrize("change, words", [
    (lambda file: file.chmod(0o644), "chmod o-rwx"),
    (lambda file: file.write_text(""), "is empty"),
    (lambda file: file.unlink(), "cannot read"),
])
def test_check_fails_on_an_unsuitable_root_token_file(change, words, checked):
    change(checked.root_token_file)
    assert words in wrong(checked, "root token file")


def test_check_fails_on_a_socket_that_cannot_be_created(checked):
    assert "/proc/nowhere/socket" in wrong(checked, "socket", CALLSTATS_SOCKET="/proc/nowhere/socket")


@pytest.fixture
def listener(checked):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(checked.folder / "socket"))
        listener.listen(1)
        yield listener


def test_check_passes_on_a_socket_that_only_the_web_server_may_use(checked, listener):
    """As systemd creates it; the worker's user need not be able to connect."""
    path = checked.folder / "socket"
    path.chmod(0)
    os.chown(path, 0, 0)
    checked.folder.path.chmod(0o555)
    code, out = checked.run(CALLSTATS_SOCKET=str(path))
    listens = "ok     socket           a process listens on {}; it is for user root and group root (mode 0000)\n"
    assert code == 0 and listens.format(path) in out
    other = checked.folder.path.with_name(f"{checked.folder.path.name}-link")
    other.symlink_to(checked.folder.path)
    code, out = checked.run(CALLSTATS_SOCKET=str(other / "socket"))
    other.unlink()
    assert code == 0 and listens.format(other / "socket") in out
    path.chmod(0o666)
    code, out = checked.run(CALLSTATS_SOCKET=str(path))
    assert code == 0 and f"ok     socket           a process listens on {path}\n" in out
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):  # a connection would start the worker
        listener.accept()


def test_check_explains_a_socket_that_the_web_server_may_not_open(checked, listener):
    """The web server's user cannot read the root token."""
    path = checked.folder / "socket"
    os.chown(checked.root_token_file, 0, 0)
    checked.root_token_file.chmod(0o640)
    path.chmod(0o666)
    assert f"a process listens on {path}\n" in checked.run(CALLSTATS_SOCKET=str(path))[1]
    path.chmod(0o640)
    os.chown(path, 0, 0)
    _, out = checked.run(CALLSTATS_SOCKET=str(path))
    [found] = [line for line in out.splitlines() if line.startswith("FAIL   socket")]
    assert f"user nobody may not open {path}: Permission denied" in found
    assert "it is for user root and group root (mode 0640)" in found and "SocketGroup=" in out
    inner = checked.folder / "inner"
    inner.mkdir(mode=0o700)
    _, out = checked.run(CALLSTATS_SOCKET=str(inner / "socket"))
    assert "Permission denied" in out and "let user nobody enter the folders above it" in out


def test_check_explains_a_socket_that_nobody_listens_on(checked, listener):
    path = checked.folder / "socket"
    path.chmod(0o666)
    listener.close()
    code, out = checked.run(CALLSTATS_SOCKET=str(path))
    assert code == 0 and "WARN   socket" in out and "no process listens on" in out
    assert "which can be created" in out and "start the worker" in out
    checked.folder.path.chmod(0o555)
    assert "no process listens on" in wrong(checked, "socket", CALLSTATS_SOCKET=str(path))
    checked.folder.path.chmod(0o755)
    path.unlink()
    path.write_text("x")
    assert "is not a socket" in wrong(checked, "socket", CALLSTATS_SOCKET=str(path))
    path.unlink()
    code, out = checked.run(CALLSTATS_SOCKET=str(path))
    assert code == 0 and "which can be created" in out
    checked.folder.path.chmod(0o555)
    found = wrong(checked, "socket", CALLSTATS_SOCKET=str(path))
    assert "user nobody cannot create it" in found and "create its folder" in found


def test_check_reads_the_environment_file_that_is_named(checked):
    lines = [f'{name}="{value}"' for name, value in checked.environment.items()]
    file = checked.folder.write("callstats.env", "# as systemd reads it\n" + "\n".join(lines) + "\n")
    code, out = check({}, "--env-file", str(file))
    assert code == 0 and "ok     database" in out, out
    code, out = check({}, "--env-file", "/nowhere/callstats.env")
    assert code == 1 and "/nowhere/callstats.env" in out and "--env-file" in out


def test_check_names_the_variable_that_a_misspelled_one_may_be(checked):
    code, out = checked.run("--json", CALLSTATS_DB_CONECTIONS="3")
    [found] = [check for check in json.loads(out)["checks"] if check["name"] == "environment"]
    assert code == 0
    assert found == {"name": "environment", "ok": True, "fix": "did you mean CALLSTATS_DB_CONNECTIONS?",
                     "message": "CALLSTATS_DB_CONECTIONS is not a variable of callstats"}
