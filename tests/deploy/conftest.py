"""Fixtures: the package, and a machine with a real systemd on which it is installed as README says."""
import re
import shutil
import subprocess

import pytest

from ..support import documents
from ..support.overlay import Booted
from ..support.postgres import programs
from ..support.processes import PROJECT
from ..support.sample import DATA


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deb")
    command = ["cargo", "deb", "--no-build", "--locked", "--output", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    return next(folder.glob("*.deb"))


@pytest.fixture(scope="session")
def newer_package(package, tmp_path_factory):
    """The same with a higher version."""
    folder = tmp_path_factory.mktemp("newer-deb") / "x"
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(re.sub("(?m)^Version: .*", "Version: 9.0.0-1", control.read_text()))
    newer = folder.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", folder, newer], check=True, capture_output=True)
    return newer


# Clean Debian systems, and the package with the oldest Rust there that builds the project.
SUITES = {"Debian 12": "bookworm", "Debian 13": "trixie"}
CARGO = {"bookworm": "cargo-web", "trixie": "cargo"}


def clean_debian(suite):
    """The folder of a clean Debian that has downloaded what the documents and deploy/try install."""
    [tried] = re.findall(r"^deploy/install-missing (.*)$", (PROJECT / "deploy" / "try").read_text(), re.M)
    packages = {*documents.packages(), *tried.split(), CARGO[suite]}
    command = [PROJECT / "tests" / "support" / "clean-debian", suite, *sorted(packages)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="module")
def debian(request):
    return clean_debian(SUITES[request.param])


def checkout(machine, built=()):
    """The files of the project in a machine that has its name, and those that were built."""
    machine.run("echo 127.0.0.1 localhost $(hostname) >/etc/hosts")
    folder = machine.path("/srv/callstats")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True)
    for name in filter(None, done.stdout.decode().split("\0")):
        if (PROJECT / name).is_symlink() or (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name, follow_symlinks=False)
    for file in built:
        target = folder / file.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    return "/srv/callstats"


def debian_postgresql(machine):
    """Debian's own cluster, new, with the database `calls` and the tenants of the replay files."""
    version = programs().split("/")[4]
    if machine.try_run(f"pg_lsclusters -h | grep -q '^{version} *main '").returncode == 0:
        machine.run(["pg_dropcluster", "--stop", version, "main"])
    machine.run(["pg_createcluster", version, "main", "--", "--no-sync"])
    machine.run(f"echo fsync=off >>/etc/postgresql/{version}/main/postgresql.conf")
    machine.run(["pg_ctlcluster", version, "main", "start"])
    machine.run("runuser -u postgres -- createdb calls")
    for script in (PROJECT / "deploy" / "schema.sql", DATA):
        machine.run(f"runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -d calls <'{script}'")


def install(machine, package):
    """The package, with its socket and Debian's PostgreSQL."""
    # Not Debian's: what keeps services from starting where tests are run. And no index of manual pages, which takes
    # longer than all the rest.
    machine.run("rm -f /usr/sbin/policy-rc.d /var/lib/man-db/auto-update")
    machine.install(package, "/root/callstats.deb")
    machine.run("dpkg -i /root/callstats.deb")
    debian_postgresql(machine)
    machine.run("systemctl enable --now callstats.socket")


@pytest.fixture(scope="module")
def installed(package):
    machine = Booted()
    try:
        install(machine, package)
        yield machine
    finally:
        machine.stop()
