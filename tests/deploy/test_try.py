"""The first command of the README, as somebody new runs it."""
import fcntl
import os
import pathlib
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios

import pytest

from ..support.overlay import Machine
from ..support.processes import PROJECT, wait_until
from .conftest import checkout

TRY = PROJECT / "deploy" / "try"


@pytest.fixture
def tmp_path():
    """A short one, for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="try-") as folder:
        yield pathlib.Path(folder)


def environment(tmp_path):
    tmp_path.chmod(0o755)
    return os.environ | {"TMPDIR": str(tmp_path)}


def left_over(tmp_path):
    """Processes that were started in a folder, and files in it."""
    running = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout.split()
    return running + os.listdir(tmp_path)


def test_once_checks_its_answers_and_exits(tmp_path):
    done = subprocess.run(
        [PROJECT / "deploy" / "try", "--once"], capture_output=True, text=True, env=environment(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all answers were right" in done.stdout and "\x1b" not in done.stdout
    assert left_over(tmp_path) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [PROJECT / "deploy" / "try"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(tmp_path),
        start_new_session=True,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        base = re.search(r"It is up at (http://\S+)/\.", "".join(lines))[1]
        done = subprocess.run(
            ["curl", "-s", f"{base}/acme/support?token=demo-acme&daterange=20260303"], capture_output=True
        )
        assert done.stdout.startswith(b'[{"date":"20260303"')
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
    wait_until(lambda: left_over(tmp_path) == [], what="nothing is left over")


def test_unknown_arguments_print_usage():
    done = subprocess.run([PROJECT / "deploy" / "try", "--twice"], capture_output=True, text=True)
    assert done.returncode == 2 and "deploy/try --once" in done.stdout


CURLRC = "include\nuser-agent = odd\n"


@pytest.mark.parametrize("name", [
    "proxy", "umask", *(pytest.param(name, marks=pytest.mark.slow) for name in ("libpq", "curlrc", "blank", "cargo")),
])
def test_settings_of_the_caller_change_nothing(name, tmp_path):
    variables, options = environment(tmp_path), {}
    if name == "proxy":
        nowhere = "http://127.0.0.1:9"
        variables |= {"http_proxy": nowhere, "HTTP_PROXY": nowhere, "all_proxy": nowhere}
    elif name == "libpq":
        variables |= {"PGHOST": "/nowhere", "PGPORT": "9", "PGDATABASE": "other", "PGUSER": "mallory",
                      "PGOPTIONS": "-c x", "PGSERVICE": "nothing", "PGSSLMODE": "require"}
    elif name == "curlrc":
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / ".curlrc").write_text(CURLRC)
        variables |= {"CURL_HOME": str(tmp_path / "home")}
    elif name == "umask":
        options["umask"] = 0o077
    elif name == "blank":
        (tmp_path / "with a blank").mkdir()
        variables |= {"TMPDIR": str(tmp_path / "with a blank")}
    elif name == "cargo":
        variables |= {"CARGO_TARGET_DIR": str(tmp_path / "target"), "CARGO_BUILD_TARGET": "none-such"}
    done = subprocess.run([TRY, "--once"], capture_output=True, text=True, env=variables, **options)
    assert done.returncode == 0 and "all answers were right" in done.stdout, done.stdout + done.stderr


def test_terminal_without_a_size_needs_no_key(tmp_path):
    """As `docker run -t` and expect have it: a pager would wait for one."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    process = subprocess.Popen([TRY, "--once"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(tmp_path),
                               start_new_session=True)
    os.close(theirs)
    text = b""
    try:
        while select.select([ours], [], [], 60)[0] and (part := os.read(ours, 65536)):
            text += part
    except OSError:  # nobody has the terminal open any more
        pass
    finally:
        os.close(ours)
        if process.poll() is None and not text.rstrip().endswith(b"\x1b[0m"):
            os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(20) == 0 and b"all answers were right" in text, text.decode()


@pytest.mark.parametrize("folder, words", [
    ("x" * 80, "too long for a Unix socket in it. Give another one: TMPDIR=/tmp"),
    (None, "is not a folder that can be written. Give another one: TMPDIR=/tmp"),
], ids=["too long", "missing"])
def test_unusable_temporary_folder_is_reported_at_once(folder, words, tmp_path):
    if folder:
        (tmp_path / folder).mkdir()
    variables = os.environ | {"TMPDIR": str(tmp_path / (folder or "missing"))}
    done = subprocess.run([TRY, "--once"], capture_output=True, text=True, env=variables)
    assert done.returncode == 1 and words in done.stderr and done.stdout == ""


# A debug build in all but name, which takes minutes less, of the crates that this machine has.
CARGO = '[net]\noffline = true\n[profile.release]\nopt-level = 0\nlto = "off"\ncodegen-units = 16\n'
REGISTRY = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")) / "registry"


@pytest.fixture
def without_rust(debian):
    """A clean Debian with a checkout, and with no cargo."""
    with tempfile.TemporaryDirectory(prefix="callstats-disk-", dir="/dev/shm") as disk:
        machine = Machine(disk, system=debian)
        try:
            checkout(machine)
            for name in ("cache", "index"):
                shutil.copytree(REGISTRY / name, machine.path(f"/root/.cargo/registry/{name}"))
            machine.write("/root/.cargo/config.toml", CARGO)
            assert machine.try_run("type cargo").returncode != 0
            yield machine
        finally:
            machine.stop()


@pytest.mark.slow
@pytest.mark.parametrize("debian", ["Debian 12"], indirect=True)
def test_rust_of_the_distribution_is_installed_and_builds_it(without_rust):
    out = without_rust.run("cd /srv/callstats && deploy/try --once 2>&1", timeout=900)
    print("\n".join(line for line in out.splitlines() if line.startswith(("==", "installing"))))
    assert out.index("== Rust: of the distribution") < out.index("installing cargo-web\n") < out.index("== packages:")
    assert out.index("Compiling callstats v") < out.index("all answers were right")


@pytest.mark.slow
@pytest.mark.parametrize("debian", ["Debian 13"], indirect=True)
def test_build_starts_with_the_rust_of_the_distribution(without_rust):
    """The image of Containerfile is built by the same one to the end."""
    without_rust.write("/root/log", "")
    command = without_rust.entering(["sh", "-c", "cd /srv/callstats && deploy/try --once >/root/log 2>&1"])
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    log = without_rust.path("/root/log")
    wait_until(lambda: "   Compiling " in log.read_text() or process.poll() is not None, 300, "the build has started")
    text = log.read_text()
    without_rust.stop()
    process.wait(20)
    assert text.index("== Rust: of the distribution") < text.index("installing cargo\n") < text.index("== packages:")
    assert "   Compiling " in text, text


def test_missing_rust_names_the_package_of_the_distribution(tmp_path):
    """By somebody who may not install it."""
    machine = Machine()
    try:
        machine.run(["ln", "-s", PROJECT, "/srv/callstats"])
        text = machine.run("cd /srv/callstats && setpriv --reuid=nobody --clear-groups env -i PATH=/usr/bin:/bin "
                           "deploy/try --once 2>&1 || true")
        assert "Rust: of the distribution, because there is no cargo 1.85 or newer here" in text
        hint = r"missing here: (cargo(?:-web)?)\. Install .*:\n *sudo deploy/install-missing \1\n"
        assert re.search(hint, text), text
    finally:
        machine.stop()
