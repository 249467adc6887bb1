"""The image of Containerfile: built from a Debian of the tests' own, run as docs/operations.md prints it."""
import os
import subprocess

import pytest

from ..support import fastcgi
from ..support.documents import section
from ..support.overlay import Booted
from ..support.processes import PROJECT, wait_until
from ..support.sample import DAY_WITHOUT_TOKEN
from .conftest import debian_postgresql

SOCKET = "/run/callstats/callstats.sock"
BUILD, *PREPARE_AND_RUN = [command for block in section("docs/operations.md", "Containers")
                           for command in block.commands()]
PREPARE, (RUN, CHECK, LOGS, STOP) = PREPARE_AND_RUN[:-4], PREPARE_AND_RUN[-4:]

# The build is a debug one in all but name, which takes minutes less, and its crates are those of this machine.
CARGO = '[net]\noffline = true\n[profile.release]\nopt-level = 0\nlto = "off"\ncodegen-units = 16\n'

# No container can raise its limits here or have a control group, and there is no network but that of the machine.
CONFIGURATION = """
[containers]
netns = "host"
cgroups = "disabled"
default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


def storage(folder):
    return f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n'


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An archive of the image, made by the printed command over a Debian under the name of the base image."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "storage.conf").write_text(storage(folder))
    (folder / "containers.conf").write_text(CONFIGURATION)
    (folder / "cargo" / "root" / ".cargo").mkdir(parents=True)
    (folder / "cargo" / "root" / ".cargo" / "config.toml").write_text(CARGO)
    environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
                                "CONTAINERS_CONF": str(folder / "containers.conf"), "BUILDAH_ISOLATION": "chroot"}

    def run(line):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=PROJECT, env=environment,
                              capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
        return done.stdout

    try:
        debian = run("tests/support/debian-13").strip()
        run("cargo fetch --locked")
        run(f"tar -C {debian} --exclude=./callstats --exclude=./cargo -c . -C {folder}/cargo ./root/.cargo "
            "-C ${CARGO_HOME:-$HOME/.cargo} --transform 's,^registry,./root/.cargo/registry,' registry/index "
            "registry/cache | "
            "podman import - docker.io/library/debian:trixie-slim")
        run(BUILD)
        run(f"podman save --output {folder}/callstats.tar callstats")
        yield folder / "callstats.tar"
    finally:
        run("podman rmi --all --force")


@pytest.fixture(scope="module")
def machine(image):
    machine = Booted()
    try:
        machine.write("/etc/containers/storage.conf", storage("/tmp/containers"))
        machine.write("/etc/containers/containers.conf", CONFIGURATION)
        debian_postgresql(machine)
        password = "alter role callstats_worker password 'secret'"
        machine.run(["runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-d", "calls", "-c", password])
        machine.run("echo 127.0.0.1 db.example >>/etc/hosts")
        machine.install(image, "/root/callstats.tar")
        machine.run("podman load --input /root/callstats.tar && podman tag localhost/callstats callstats")
        yield machine
    finally:
        machine.stop()


@pytest.mark.slow
def test_image_serves_and_stops_as_printed(machine):
    for command in PREPARE:
        machine.run(command)
    machine.run("echo secret | install -m 640 -g 10001 /dev/stdin /etc/callstats/database-password")
    machine.run(RUN)
    wait_until(machine.path(SOCKET).exists, 20, "the worker listens")
    assert machine.run(f"stat -c '%u %G %a' {SOCKET}").split() == ["10001", "www-data", "660"]
    token = machine.path("/etc/callstats/root-token").read_text().strip()
    headers = [("Authorization", f"Bearer {token}")]
    answer = fastcgi.ask(str(machine.path(SOCKET)), "GET", DAY_WITHOUT_TOKEN, headers)
    assert answer.status == 200 and answer.body.startswith(b'[{"date":"20260303"')
    print(machine.run(CHECK))
    # Neither root, nor able to become it, nor able to write.
    pid = machine.run("podman inspect --format '{{.State.Pid}}' callstats").strip()
    status = dict(line.split(":\t", 1) for line in machine.path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == {"10001"} and int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert machine.path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/usr/bin/callstats\0--listen\0")
    assert machine.try_run("podman exec callstats /bin/sh -c true").returncode != 0
    machine.run("podman kill --signal HUP callstats")
    wait_until(lambda: "reloaded the root token file" in log(machine), 20, "SIGHUP is logged")
    assert "Billing 200" in log(machine) and token not in log(machine)
    machine.run(STOP)
    assert machine.run("podman inspect --format '{{.State.ExitCode}}' callstats").strip() == "0"
    assert "stopped" in log(machine)
    machine.run("podman rm callstats")


def log(machine):
    done = machine.try_run(LOGS)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_image_has_the_commit_and_little_else(machine):
    version = machine.run("podman run --rm callstats --version")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert f"(commit {head[:12]})" in version
    size = int(machine.run("podman image inspect --format '{{.Size}}' callstats"))
    print(f"{size / 1e6:.0f} MB")
    assert size < 100e6
