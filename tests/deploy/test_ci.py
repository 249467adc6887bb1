"""What `.ci/run` and `tests/run` do without a tool that they need: the step that needs it fails, and so do they."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import pytest

from ..support import no_skips
from ..support.overlay import Machine
from ..support.processes import PROJECT

CI = PROJECT / ".ci" / "run"
LINES = [line for line in CI.read_text().replace("\\\n", "").splitlines() if line and not line.startswith("#")]

# What is removed, and a test that needs it and none of the others.
NEEDED_BY = {
    "apache2": "tests/api/test_replay.py::test_replay_files_pass[apache]",
    "caddy": "tests/deploy/test_haproxy_and_caddy.py::test_probe_is_served[Caddy]",
    "cargo-deb": "tests/deploy/test_package.py::test_lintian_has_no_errors",
    "chromedriver": "tests/page/test_page_controls.py::test_first_visit_asks_for_the_missing_inputs",
    "chromium": "tests/api/test_browser.py::test_names_are_text",
    "fcgiwrap": "tests/api/test_replay.py::test_replay_files_pass[fcgiwrap]",
    "haproxy": "tests/deploy/test_haproxy_and_caddy.py::test_probe_is_served[HAProxy]",
    "lighttpd": "tests/api/test_replay.py::test_replay_files_pass[lighttpd]",
    "logrotate": "tests/deploy/test_service_files.py::test_log_of_the_sysv_script_is_rotated",
    "man": "tests/deploy/test_variables.py::test_man_page_is_formatted_without_warnings",
    "mariadbd": "tests/database/test_adopt_mysql.py::test_asterisk_in_mariadb_is_asked_for_the_days_alone",
    "multiwatch": "tests/deploy/test_service_files.py::test_multiwatch_restarts_the_worker_without_a_busy_loop",
    "nginx": "tests/api/test_replay.py::test_replay_files_pass[nginx]",
    "openssl": "tests/database/test_tls.py::test_scram_is_bound_to_the_channel",
    "pgbouncer": "tests/database/test_pooler.py::test_answers_come_through_a_pooler[Debian 12-session]",
    "podman": "tests/deploy/test_container.py::test_image_has_the_commit_and_little_else",
    "promtool": "tests/deploy/test_monitoring.py::test_rules_and_their_cases_pass",
    "soffice": "tests/api/test_csv.py::test_spreadsheet_has_the_same_figures_and_runs_nothing[names as they come]",
    "systemd-analyze": "tests/deploy/test_service_files.py::test_units_pass_systemd_analyze",
}
FOLDERS = [*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"]


def places(tool):
    return [path for folder in FOLDERS if (path := pathlib.Path(folder) / tool).exists()]


def stub(folder, name, script="exit 0"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def dry(tmp_path):
    """A folder in which `.ci/run` runs, where all that it calls notes its name, and fails if it is the named one."""
    note = 'echo "${0##*/} $*" >>"$LOG"; [ "$(wc -l <"$LOG")" != "$FAIL" ]'
    names = set(re.findall(r"(?:^| )((?:deploy|fuzz|tests|\.ci)/[a-z-]+)(?= |$)", "\n".join(LINES), re.M))
    assert {"deploy/install-missing", "fuzz/run", "tests/run", ".ci/minimum-rust", ".ci/vendored"} <= names
    for name in [*names, *(f"bin/{name}" for name in ("cargo", "shellcheck", "python3"))]:
        stub(tmp_path, name, note)
    [version] = re.findall(r"^ruff=(\S+)$", CI.read_text(), re.M)
    stub(tmp_path, f"{version}/bin/ruff", note)
    stub(tmp_path / "bin", "git", "printf '%s\\n' deploy/try")
    shutil.copy(CI, tmp_path / ".ci" / "run")

    def run(fail=0, path="bin"):
        log = tmp_path / "log"
        log.write_text("")
        done = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, cwd=tmp_path, env={
            "PATH": f"{tmp_path / path}:/usr/bin:/bin", "LOG": str(log), "FAIL": str(fail)})
        return done.returncode, log.read_text().splitlines()
    return run


def test_ci_ends_with_the_first_step_that_fails(dry):
    code, steps = dry()
    assert code == 0 and len(steps) >= 12, steps
    for number in range(1, len(steps) + 1):
        code, done = dry(fail=number)
        assert code != 0 and done == steps[:number], steps[number - 1]


def test_python_is_not_passed_over_without_ruff(dry, tmp_path):
    """And without an index to install it from: its folder stays empty."""
    [ruff] = tmp_path.rglob("ruff")
    ruff.unlink()
    code, steps = dry()
    assert code != 0 and steps[-1].startswith("python3 -m venv ")


def test_tests_that_ci_leaves_out_exist():
    named = re.findall(r"--deselect (\S+)", CI.read_text()) + re.findall(r"tests/\w+/test_\w+\.py",
                                                                          (PROJECT / "tests" / "run").read_text())
    assert len(named) > 10 and [name for name in named if not (PROJECT / name).is_file()] == []


@pytest.fixture(scope="module")
def bare():
    """A machine without a network and without those tools, which its package manager takes for installed."""
    machine = Machine()
    try:
        tools = [*NEEDED_BY, "shellcheck", "debootstrap"]
        found = {tool: places(tool) for tool in tools}
        assert all(found.values()), found
        machine.run(["rm", "-f", *(path for paths in found.values() for path in paths)])
        yield machine
    finally:
        machine.stop()


def in_checkout(machine, command, **variables):
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    home = {name: os.environ[name] for name in ("HOME", "CARGO_HOME", "RUSTUP_HOME") if name in os.environ}
    words = [f"{name}={value}" for name, value in ({"PATH": path} | home | variables).items()]
    return machine.try_run(["env", "-C", PROJECT, *words, *command], 300)


@pytest.mark.slow
def test_each_test_fails_without_its_tool(bare, tmp_path):
    report = tmp_path / "report.xml"
    with tempfile.TemporaryDirectory(prefix="ci-") as folder:  # a short one, for what those tests leave behind
        os.chmod(folder, 0o755)
        done = in_checkout(bare, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-n", "0",
                                  f"--junitxml={report}", *NEEDED_BY.values()], TMPDIR=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        node = f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}"
        outcomes[node] = {child.tag: child.get("message", "") + (child.text or "") for child in case
                          if child.tag in ("failure", "error", "skipped")}
    assert set(outcomes) == set(NEEDED_BY.values())
    for tool, node in NEEDED_BY.items():
        texts = outcomes[node]
        assert texts and "skipped" not in texts, f"{tool}: {node}"
        assert any(tool in text for text in texts.values()), f"{tool}: {texts}"


def step(word):
    """The lines of `.ci/run` that have to do with it."""
    found = [line for line in LINES if word in line]
    assert found, word
    return ["bash", "-euo", "pipefail", "-c", "\n".join(found)]


def test_scripts_are_not_passed_over_without_shellcheck(bare):
    done = in_checkout(bare, step("xargs shellcheck"))
    assert done.returncode != 0 and "shellcheck" in done.stderr


@pytest.mark.parametrize("missing, words", [
    ("cargo", "Install one: rustup toolchain install nightly"),
    ("nightly", "Install one: rustup toolchain install nightly"),
    ("cargo-fuzz", "cargo-fuzz is not to be had"),
    ("a target", "no such target"),
])
def test_fuzzing_is_not_passed_over(missing, words, tmp_path):
    script = {
        "nightly": 'exit 1',
        "cargo-fuzz": '[ "$*" = "+nightly --version" ] || { echo cargo-fuzz is not to be had >&2; exit 101; }',
        "a target": 'case "$3" in --version) ;; run) echo "error: no such target"; exit 1 ;; esac',
    }
    if missing in script:
        stub(tmp_path / "bin", "cargo", script[missing])
    for target in ("answer", "fastcgi", "records", "report"):
        (tmp_path / "fuzz" / "corpus" / target).mkdir(parents=True)
    shutil.copy(PROJECT / "fuzz" / "run", tmp_path / "fuzz" / "run")
    done = subprocess.run([tmp_path / "fuzz" / "run", "1"], capture_output=True, text=True,
                          env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    assert done.returncode != 0 and words in done.stdout + done.stderr


SKIPPED = [
    "def test_it():\n    pytest.skip('not here')\n",
    "def test_it():\n    pytest.importorskip('no_such_module')\n",
    "def test_it():\n    pytest.xfail('known')\n",
    "@pytest.mark.skipif(True, reason='not here')\ndef test_it():\n    pass\n",
    "@pytest.mark.xfail\ndef test_it():\n    assert False\n",
    "@pytest.fixture\ndef thing():\n    pytest.skip('not here')\n\n\ndef test_it(thing):\n    pass\n",
    "pytest.importorskip('no_such_module')\n\n\ndef test_it():\n    pass\n",
    "pytest.skip('not here', allow_module_level=True)\n\n\ndef test_it():\n    pass\n",
]


def test_skipped_tests_are_failures(tmp_path):
    for number, text in enumerate(SKIPPED):
        (tmp_path / f"test_number_{number}.py").write_text(f"import pytest\n\n\n{text}")
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conftest", "-q",
                           "-n", "0", "--continue-on-collection-errors", f"--rootdir={tmp_path}", tmp_path],
                          cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.count(no_skips.REASON) == len(SKIPPED), done.stdout + done.stderr
    ended = re.fullmatch(r"(\d+) failed, (\d+) errors in \S+", done.stdout.splitlines()[-1])
    assert int(ended[1]) + int(ended[2]) == len(SKIPPED), done.stdout
