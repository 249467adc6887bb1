"""Every command that the documents print is typed here as it stands, or named with the test that types it."""
import ast
import json
import os
import re
import shlex
import subprocess

import pytest

from ..support.documents import blocks, kind, printed, section
from ..support.overlay import Booted, Machine
from ..support.processes import CALLSTATS, PROJECT, wait_until
from ..support.worker import ROOT_TOKEN
from .conftest import SUITES, checkout

CONTAINERS = "tests/deploy/test_container.py::test_image_serves_and_stops_as_printed"
[MULTIWATCH] = [command for block in section("docs/operations.md", "Install by hand") for command in block.commands()
                if command.startswith("spawn-fcgi")]

# Typed by another test, or by a test below with values in the place of "..." or of an example's.
ELSEWHERE = {
    "sudo mkdir -p /usr/share/callstats":
        "tests/page/test_page_webservers.py::test_files_have_their_types_and_headers",
    "sudo cp -rLT deploy/page /usr/share/callstats/page":
        "tests/page/test_page_webservers.py::test_files_have_their_types_and_headers",
    MULTIWATCH: "tests/deploy/test_service_files.py::test_multiwatch_restarts_the_worker_without_a_busy_loop",
    "sudo -u callstats_worker -g www-data DATABASE_URL='host=/var/run/postgresql dbname=calls' \\\n"
    "callstats --listen /run/callstats/callstats.sock --listen-mode 0660":
        "tests/deploy/test_service_files.py::test_socket_of_its_own_has_the_printed_mode_and_group",
    "deploy/build-package": "tests/deploy/test_build.py::test_package_has_the_same_bytes_from_another_folder",
    "deploy/try": "tests/deploy/test_try.py::test_ctrl_c_leaves_nothing_behind",
    'curl -s -H "Authorization: Bearer demo-acme" '
    '"http://127.0.0.1:35409/stats/acme/support/Billing?daterange=20260303"':
        "tests/deploy/test_try.py::test_once_checks_its_answers_and_exits",
    "tests/replay/replay http://stats.example my.replay --set token=...":
        "tests/deploy/test_readme.py::test_replay_examples_run_with_values",
    "tests/replay/replay fcgi:/run/callstats/callstats.sock my.replay --set token=...":
        "tests/deploy/test_readme.py::test_replay_examples_run_with_values",
    "select callstats.add_shard('one', 'host=... dbname=... user=callstats_worker password=...');":
        "tests/database/test_more_machines.py::test_shards_answer_as_one_server",
    **{command: CONTAINERS for block in section("docs/operations.md", "Containers") for command in block.commands()},
    "select callstats.assign_organization(1, 'one');":
        "tests/database/test_more_machines.py::test_shards_answer_as_one_server",
}

LOADING = "tests/database/test_load_document.py::test_printed_commands_and_mappings_work"
ELSEWHERE |= {command: LOADING for block in blocks("docs/loading.md") for command in block.commands()
              if kind(command) == "command"}

# Typed by no test, and why.
NOT_TYPED = {
    "cargo install --locked cargo-deb cargo-auditable": "downloads; tests/run does it if it is missing",
    "tests/run": "runs this test",
    "tests/run -m 'not slow'": "runs this test",
    "tests/run -k replay": "runs this test",
    "tests/run -n 0 -k replay": "runs this test",
    "cargo test": "tests/run does it before this test",
    ".ci/debian-changelog >deploy/debian/changelog": "writes into the checkout; test_build.py compares its output",
    ".ci/run": "runs this test",
    "set citus.enable_unsafe_triggers = on;": "Citus is not tested, as the document says",
    "select create_distributed_table('callstats.call', 'organization_id');":
        "Citus is not tested, as the document says",
}

# Typed outside of the machine, which has no network and no Rust.
BUILDS = ("cargo build --release --locked", "cargo auditable deb --locked")

TYPED_HERE = [("README.md", "Install"), ("docs/operations.md", "Install by hand"), ("docs/operations.md", "Check"),
              ("docs/page.md", "Serve it"),
              ("docs/operations.md", "Tenants, tokens and calls"), ("docs/operations.md", "Upgrade"),
              ("docs/operations.md", "Uninstall"), ("docs/scaling.md", "Rollup"), ("docs/scaling.md", "Partitions")]

CITUS = "alter table callstats.call drop constraint call_"


def test_every_printed_line_is_known():
    unknown = [(block.document, command) for block, command in printed() if kind(command) is None]
    assert unknown == []
    assert sum(kind(command) == "command" for _, command in printed()) >= 40


def test_every_printed_command_is_typed_by_a_test():
    for block, command in printed():
        if kind(command) == "output" or (block.document, block.heading) in TYPED_HERE or command.startswith(CITUS):
            continue
        assert command in ELSEWHERE or command in NOT_TYPED, f"{block.document}: {command}"


def test_exceptions_name_commands_that_are_printed():
    everything = {command for _, command in printed()}
    assert {*ELSEWHERE, *NOT_TYPED} <= everything, {*ELSEWHERE, *NOT_TYPED} - everything


@pytest.mark.parametrize("node", sorted(set(ELSEWHERE.values())))
def test_named_tests_exist(node):
    file, name = node.split("::")
    tree = ast.parse((PROJECT / file).read_text())
    assert name in {function.name for function in tree.body if isinstance(function, ast.FunctionDef)}


def test_minimum_rust_is_that_of_the_package():
    [minimum] = re.findall(r'^rust-version = "([\d.]+)"$', (PROJECT / "Cargo.toml").read_text(), re.M)
    assert f"Rust {minimum} or newer" in re.sub(r"\s+", " ", (PROJECT / "README.md").read_text())


# What is typed on a machine of its own.


class Operator:
    """Types blocks in a checkout, on a machine of its own."""

    def __init__(self, machine, folder):
        self.machine, self.folder = machine, folder
        self.last = ""

    def type(self, block):
        for command in block.commands():
            if kind(command) != "command" or command in NOT_TYPED or command in (*BUILDS, MULTIWATCH):
                continue
            print(f"{block.document}: {command}")
            if command.startswith("curl "):  # a web server has loaded its configuration some moments after `reload`
                wait_until(lambda command=command: self.run(command).stdout.startswith("["), 20, command)
            done = self.run(command)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            self.last = done.stdout

    def run(self, command):
        return self.machine.try_run(f"cd {shlex.quote(str(self.folder))}\n{command}", input="y\n")  # what apt asks


@pytest.fixture(scope="module")
def built():
    """What `cargo build` and `cargo deb` make."""
    for command in BUILDS:
        subprocess.run(["bash", "-c", command], cwd=PROJECT, check=True, capture_output=True)
    return [PROJECT / "target" / "release" / "callstats", *(PROJECT / "target" / "debian").glob("callstats_*.deb")]


def answer_of(blocks):
    """The answer that the last of these blocks shows."""
    return json.loads(blocks[-1].text)


@pytest.mark.slow
@pytest.mark.parametrize("debian", SUITES, indirect=True)
def test_package_lifecycle_works_as_printed(debian, built, start):
    machine = start(Booted, system=debian)
    operator = Operator(machine, checkout(machine, built))
    steps = section("README.md", "Install")
    for block in steps[:-1]:
        operator.type(block)
    assert json.loads(operator.last) == answer_of(steps)
    for document, heading in [("docs/operations.md", "Check"), ("docs/scaling.md", "Rollup"),
                              ("docs/scaling.md", "Partitions"), ("docs/operations.md", "Upgrade")]:
        for block in section(document, heading):
            operator.type(block)
    operator.type(steps[-2])
    assert json.loads(operator.last) == answer_of(steps)  # from the rollup
    for block in section("docs/operations.md", "Uninstall"):
        operator.type(block)
    assert not machine.path("/usr/bin/callstats").exists()
    roles = machine.run("sudo -u postgres psql -Atd calls -c 'select rolname from pg_roles'")
    assert "postgres" in roles and "callstats" not in roles


@pytest.mark.slow
@pytest.mark.parametrize("debian", SUITES, indirect=True)
def test_install_by_hand_serves_as_printed(debian, built, start):
    machine = start(Machine, system=debian)
    operator = Operator(machine, checkout(machine, built))
    steps = section("docs/operations.md", "Install by hand")
    answer = next(n for n, block in enumerate(steps) if kind(block.text) == "output")
    operator.type(steps[0])
    machine.run("service postgresql start && service nginx start")  # without systemd, no package starts anything
    for block in steps[1:answer]:
        operator.type(block)
    assert json.loads(operator.last) == json.loads(steps[answer].text)
    for block in section("docs/page.md", "Serve it"):
        operator.type(block)
    assert machine.path("/usr/share/callstats/page/index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("debian", ["Debian 12"], indirect=True)
def test_missing_packages_are_installed_without_a_cluster_or_a_service(debian, start):
    machine = start(Booted, system=debian)
    folder = checkout(machine)
    print(machine.run(f"cd {folder} && deploy/install-missing postgresql nginx curl"))
    assert machine.run("pg_lsclusters -h") == ""
    assert machine.try_run("systemctl is-active nginx").stdout == "inactive\n"
    assert machine.try_run("systemctl is-enabled nginx postgresql").stdout.split() == ["disabled", "disabled"]
    assert machine.try_run("ls /usr/sbin/policy-rc.d /etc/postgresql-common/createcluster.d").stdout == ""
    assert machine.run(f"{folder}/deploy/install-missing postgresql nginx curl") == ""


# What is typed as an operator with a database.


def test_tenants_and_calls_are_managed_as_printed(database, tmp_path):
    (tmp_path / "calls.csv").write_text("company,organization,folder,agent,start,seconds\n"
                                        "acme,support,Sales,007,2026-03-03 08:00,12.5\n")
    place = {"PGHOST": str(database.cluster.folder.path), "PGDATABASE": database.name, "PGUSER": "owner",
             "PATH": f"{CALLSTATS.parent}:{os.environ['PATH']}"}
    [block] = section("docs/operations.md", "Tenants, tokens and calls")
    done = subprocess.run(["bash", "-euc", block.text], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[A-Za-z0-9]{32}$", done.stdout, re.M)
    assert "calls.csv: 1 new, 0 unchanged" in done.stdout
    assert database.value("select count(*) from callstats.call") == 1


def test_calls_can_be_distributed_by_organization_as_printed(database):
    """As far as PostgreSQL alone goes: Citus refuses a key without the column, and a reference to other nodes."""
    statements = [command for block in section("docs/scaling.md", "Several servers") for command in block.commands()
                  if command.startswith(CITUS)]
    assert len(statements) == 2
    for statement in statements:
        database.query(statement)
    keys = database.query("select conname::text, conkey from pg_constraint "
                          "where conrelid = 'callstats.call'::regclass and contype in ('p', 'f')")
    assert keys == [("call_pkey", [2, 1])]


@pytest.mark.parametrize("target", ["http://stats.example", "fcgi:/run/callstats/callstats.sock"])
def test_replay_examples_run_with_values(target, replay_worker, replay_database, start, tmp_path):
    from ..support.webservers import Nginx
    [command] = [command for _, command in printed() if command.startswith(f"tests/replay/replay {target}")]
    real = start(Nginx, replay_worker.socket).url if target.startswith("http") else f"fcgi:{replay_worker.socket}"
    (tmp_path / "tests").symlink_to(PROJECT / "tests")
    exchange = "# Mine\n> GET /stats/acme/empty\n> Authorization: Bearer ${token}\n< 200\n[]\n"
    (tmp_path / "my.replay").write_text(exchange)
    command = command.replace(target, real).replace("token=...", f"token={ROOT_TOKEN}")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "1 passed, 0 failed\n", done.stdout + done.stderr
