"""Fixtures: the package, and a machine with a real systemd on which it is installed as README says."""
import subprocess

import pytest

from ..support import documents
from ..support.overlay import Booted
from ..support.postgres import programs
from ..support.processes import PROJECT
from ..support.sample import DATA


def build(folder, *options):
    command = ["cargo", "deb", "--no-build", "--locked", "--output", str(folder), *options]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    return next(folder.glob("*.deb"))


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def newer_package(tmp_path_factory):
    return build(tmp_path_factory.mktemp("newer-deb"), "--deb-version", "9.0.0-1")


def clean_debian(suite):
    """The folder of a clean Debian that has downloaded what the documents install."""
    command = [PROJECT / "tests" / "support" / "clean-debian", suite, *documents.packages()]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


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
    # Not Debian's: what keeps services from starting where tests are run.
    machine.run("rm -f /usr/sbin/policy-rc.d")
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
