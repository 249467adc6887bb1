"""What starts the worker: systemd's units, the init script, multiwatch; and what a running worker has no need of."""
import os
import pathlib
import re
import stat
import time

import pytest

from ..support import fastcgi
from ..support.documents import section
from ..support.overlay import Booted, Machine, printed
from ..support.processes import CALLSTATS, PROJECT, wait_until
from ..support.sample import DAY
from ..support.worker import ROOT_TOKEN

UNITS = PROJECT / "deploy" / "systemd"
SOCKET = "/run/callstats/callstats.sock"


def prepare(machine):
    """What README's steps by hand do: the executable, the user, the configuration."""
    machine.install(CALLSTATS, "/usr/local/bin/callstats", 0o755)
    machine.run("getent passwd callstats_worker || useradd --system --shell /usr/sbin/nologin callstats_worker")
    machine.run("install -d -m 750 -g callstats_worker /etc/callstats")
    machine.install(PROJECT / "deploy" / "callstats.env", "/etc/callstats/callstats.env", 0o640)
    machine.install(PROJECT / "deploy" / "sysv" / "callstats", "/etc/init.d/callstats", 0o755)
    machine.write("/etc/callstats/root-token", ROOT_TOKEN)
    machine.run("chgrp callstats_worker /etc/callstats/*; chmod 640 /etc/callstats/*")


@pytest.fixture
def machine(replay_worker):
    """With the database `calls` where Debian's PostgreSQL has its socket."""
    machine = Machine()
    prepare(machine)
    folder = re.search(r"host=(\S+)", replay_worker.environment["DATABASE_URL"])[1]
    os.chmod(folder, 0o755)
    machine.run(["ln", "-s", folder, "/run/postgresql"])
    yield machine
    machine.stop()


@pytest.fixture(scope="module")
def units():
    """A machine with the units in their place."""
    machine = Machine()
    prepare(machine)
    machine.install(CALLSTATS, "/usr/bin/callstats", 0o755)
    for unit in UNITS.glob("callstats*"):
        machine.install(unit, f"/usr/lib/systemd/system/{unit.name}")
    yield machine
    machine.stop()


def test_units_pass_systemd_analyze(units):
    done = units.try_run("systemd-analyze verify --man=no /usr/lib/systemd/system/callstats*")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_service_is_denied_unneeded_privileges(units):
    out = units.try_run("systemd-analyze security --offline=yes --no-pager callstats.service").stdout
    exposure = float(re.search(r"Overall exposure level .*: ([\d.]+)", out)[1])
    print(f"exposure {exposure}")
    assert exposure <= 2.0


def test_worker_listens_on_nothing_else(replay_worker):
    folder = f"/proc/{replay_worker.pid}/fd"
    inodes = {os.readlink(f"{folder}/{number}") for number in os.listdir(folder)}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" or table.startswith("udp"):
                assert f"socket:[{fields[9]}]" not in inodes
    assert replay_worker.status("Uid") != 0


def answers(machine):
    return fastcgi.ask(str(machine.path(SOCKET)), "GET", DAY).status == 200


@pytest.mark.parametrize("executable", ["/usr/bin/callstats", "/usr/local/bin/callstats"])
def test_sysv_script_starts_the_installed_program(machine, executable):
    machine.run("rm -f /usr/local/bin/callstats")
    script = "/etc/init.d/callstats"
    assert machine.try_run(f"{script} start").returncode == 5
    machine.install(CALLSTATS, executable, 0o755)
    assert machine.try_run(f"{script} status").returncode == 3
    for word in ("start", "start", "status"):
        machine.run(f"{script} {word}")
    assert answers(machine)
    status = machine.run("stat -c '%U %G %a' /run/callstats/callstats.sock").split()
    assert status == ["callstats_worker", "www-data", "660"]
    pid = machine.run("cat /run/callstats/callstats.pid")
    machine.run(f"{script} reload")
    log = machine.path("/var/log/callstats.log")
    wait_until(lambda: "reloaded the root token file" in log.read_text())
    machine.run(f"{script} restart")
    assert machine.run("cat /run/callstats/callstats.pid") != pid
    assert answers(machine)
    for word, code in (("stop", 0), ("status", 3), ("stop", 0), ("frobnicate", 2)):
        assert machine.try_run(f"{script} {word}").returncode == code
    assert not machine.path(SOCKET).exists()


def test_sysv_script_reports_an_invalid_setting(machine):
    machine.run("echo CALLSTATS_DB_CONNECTIONS=many >>/etc/callstats/callstats.env")
    done = machine.try_run("/etc/init.d/callstats start")
    assert done.returncode == 1 and "see /var/log/callstats.log" in done.stderr
    assert "CALLSTATS_DB_CONNECTIONS" in machine.path("/var/log/callstats.log").read_text()


def test_log_of_the_sysv_script_is_rotated(machine):
    machine.run(["ln", "-s", PROJECT, "/root/checkout"])
    for command in printed(PROJECT / "deploy" / "logrotate" / "callstats"):
        machine.run(f"cd /root/checkout/deploy/logrotate && {command}")
    machine.run("/etc/init.d/callstats start")
    assert answers(machine)
    log = machine.path("/var/log/callstats.log")
    wait_until(lambda: "Billing 200" in log.read_text())
    machine.run("logrotate --force /etc/logrotate.d/callstats")
    assert "Billing 200" in machine.path("/var/log/callstats.log.1").read_text()
    assert log.read_bytes() == b""
    assert answers(machine)
    wait_until(lambda: "Billing 200" in log.read_text(), what="the worker logs on, in the emptied file")
    machine.run("/etc/init.d/callstats stop")


# As systemd.exec(5) and its reader of environment files have it; each is one value that a test gives to both.
# The blanks at the ends of lines belong to it.
# ruff: noqa: W291
AWKWARD = r"""
# a comment with a \
continued line
; another comment
PLAIN=plain value with blanks   
  INDENTED=  both ends   
DOUBLE="a  b # no comment; $HOME `id` \$HOME \`id\` \" \\ \n & | > x"
SINGLE='$HOME `id` "double" \ & # '
URI=postgresql://u:p%20w@h/db?sslmode=require&connect_timeout=2
HASH=a#b ; c # d
QUOTE_INSIDE=it's "one" value
PARTS="a"'b'c
ESCAPED=a\ b\#\$c\\d
CONTINUED=one \
two
DOUBLE_CONTINUED="one \
two"
MULTI="first
second"
EMPTY=
EMPTY_QUOTED=""
COMMAND=$(touch /root/executed)
BACKTICKS=`touch /root/executed`
SEMICOLON=x; touch /root/executed
NEWLINE_TRICK='x'; touch /root/executed
NO_ASSIGNMENT
BAD-NAME=x
1BAD=x
UMLAUT=Grüße
TRAILING_BACKSLASH=end\\
export EXPORTED=x
CRLF="value"
""" + "CR_AFTER=crlf\r\nLAST=no newline at the end"


def test_sysv_script_reads_the_environment_as_systemd_does():
    machine = Booted()
    try:
        prepare(machine)
        # Both start this instead of the worker.
        machine.write("/usr/local/bin/callstats", "#!/bin/sh\nenv -0 >/tmp/environment\nexec sleep 60\n", 0o755)
        machine.run("chmod 1777 /tmp")
        found = {}
        for text in (AWKWARD, (PROJECT / "deploy" / "callstats.env").read_text()):
            machine.path("/etc/callstats/callstats.env").write_bytes(text.encode())
            for how, command in (
                    ("systemd", "systemd-run -q --wait --pipe -p EnvironmentFile=/etc/callstats/callstats.env "
                                "/usr/bin/env -0 >/tmp/environment"),
                    ("script", "/etc/init.d/callstats start && /etc/init.d/callstats stop")):
                machine.run("rm -f /tmp/environment")
                machine.run(command)
                lines = machine.path("/tmp/environment").read_bytes().split(b"\0")
                found[how] = dict(line.split(b"=", 1) for line in lines if line)
            for name in set(found["systemd"]) | set(found["script"]):
                if not name.startswith(
                    (
                        b"SYSTEMD",
                        b"INVOCATION",
                        b"JOURNAL",
                        b"LANG",
                        b"LC_",
                        b"PWD",
                        b"PATH",
                        b"HOME",
                        b"USER",
                        b"LOGNAME",
                        b"SHELL",
                        b"SHLVL",
                        b"_",
                        b"DEBIAN",
                        b"OLDPWD",
                        b"FCGI",
                        b"TERM",
                    )
                ):
                    assert found["script"].get(name) == found["systemd"].get(name), name
            assert found["script"].get(b"DATABASE_URL") in (
                None, b"host=/var/run/postgresql dbname=calls user=callstats_worker")
        assert not machine.path("/root/executed").exists()
        assert b"CALLSTATS_ROOT_TOKEN_FILE" in found["script"]
    finally:
        machine.stop()


@pytest.mark.slow
def test_multiwatch_restarts_the_worker_without_a_busy_loop(machine):
    [line] = [command for block in section("docs/operations.md", "Install by hand") for command in block.commands()
              if "multiwatch -r" in command]
    machine.run("install -d -o callstats_worker -g www-data -m 750 /run/callstats")
    machine.run(f"set -a; DATABASE_URL='host=/var/run/postgresql dbname=calls user=callstats_worker' "
                f"CALLSTATS_ROOT_TOKEN_FILE=/etc/callstats/root-token; set +a; ({line}) >/root/log 2>&1 & sleep 0.1")
    wait_until(lambda: machine.path(SOCKET).exists())
    assert answers(machine)
    machine.run("kill -9 $(pidof callstats)")
    assert answers(machine)
    # An executable that ends at once is started about once a second.
    machine.write("/root/ends", "#!/bin/sh\necho start >>/run/callstats/starts\nexit 1\n", 0o755)
    machine.run("mv /root/ends /usr/local/bin/callstats && kill -9 $(pidof callstats)")
    starts = machine.path("/run/callstats/starts")
    wait_until(starts.exists)
    began = time.monotonic()
    wait_until(lambda: starts.read_text().count("start") >= 3)
    assert time.monotonic() - began > 1
    assert machine.path("/root/log").stat().st_size < 20_000


def test_socket_of_its_own_has_the_printed_mode_and_group(machine):
    blocks = section("docs/operations.md", "The socket is trusted")
    [line] = [command for block in blocks for command in block.commands() if "--listen-mode" in command]
    machine.run("install -d -o callstats_worker -g www-data -m 750 /run/callstats")
    machine.run(f"({line}) >/root/log 2>&1 & sleep 0.1")
    socket = machine.path(SOCKET)
    wait_until(lambda: socket.exists() and stat.S_IMODE(socket.stat().st_mode) == 0o660)
    assert machine.run(f"stat -c '%U %G' {SOCKET}").split() == ["callstats_worker", "www-data"]
