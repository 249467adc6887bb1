"""The package under a real systemd: its socket outlives every failure of the worker."""
import concurrent.futures
import tempfile
import threading
import time

import pytest

from ..support import fastcgi
from ..support.overlay import Booted, printed
from ..support.processes import PROJECT, wait_until
from ..support.sample import DAY_WITHOUT_TOKEN
from .conftest import install

SOCKET = "/run/callstats/callstats.sock"


def ask(machine, uri=DAY_WITHOUT_TOKEN, timeout=20):
    """Straight to the socket, with the root token of the package."""
    token = machine.path("/etc/callstats/root-token").read_text().strip()
    with fastcgi.Connection(str(machine.path(SOCKET)), timeout) as connection:
        headers = [("Authorization", f"Bearer {token}")]
        connection.send(fastcgi.request(fastcgi.parameters("GET", uri, headers)))
        return connection.receive()


def show(machine, unit, name):
    return machine.run(["systemctl", "show", "-P", name, unit]).strip()


def timed(machine, command):
    began = time.monotonic()
    machine.run(command)
    return time.monotonic() - began


def journal(machine, *options):
    """The messages of the service, and nothing else of their lines."""
    return machine.run(["journalctl", "--unit=callstats.service", "--output=cat", "--no-pager", *options])


def configure(machine, line):
    """Adds a line to callstats.env, where the last one that names a variable counts."""
    machine.run(["sh", "-c", 'echo "$1" >>/etc/callstats/callstats.env', "add", line])


def socket_age(machine):
    return show(machine, "callstats.socket", "ActiveEnterTimestampMonotonic")


def test_service_answers_after_start_reload_and_restart(installed):
    since = socket_age(installed)
    answer = ask(installed)
    assert answer.status == 200 and answer.body.startswith(b'[{"date":"20260303"')
    assert show(installed, "callstats.service", "Type") == "notify"
    pid = show(installed, "callstats.service", "MainPID")
    lines = journal(installed).count("reloaded the root token file")
    seconds = [timed(installed, "systemctl reload callstats")]
    wait_until(lambda: journal(installed).count("reloaded the root token file") == lines + 1, what="SIGHUP is logged")
    assert show(installed, "callstats.service", "MainPID") == pid
    wait_until(lambda: show(installed, "callstats.service", "ActiveState") == "active", what="the reload is over")
    seconds.append(timed(installed, "systemctl restart callstats"))
    print(f"reload {seconds[0]:.2f} s, restart {seconds[1]:.2f} s")
    assert max(seconds) < 1
    # It is ready as soon as that command returns.
    assert show(installed, "callstats.service", "SubState") == "running"
    assert ask(installed).status == 200
    assert socket_age(installed) == since


def test_check_passes_beside_the_service(installed):
    """Its socket is the web server's, and systemd's."""
    env = installed.path("/etc/callstats/callstats.env")
    right = env.read_text()
    configure(installed, f"CALLSTATS_SOCKET={SOCKET}")
    for moment in ("start", "stop"):
        installed.run(f"systemctl {moment} callstats.service")
        out = installed.run("runuser -u callstats_worker -- callstats check")
        assert f"ok     socket           a process listens on {SOCKET};" in out
    as_root = installed.try_run("callstats check").stdout
    assert "Fix: run this as the worker's user: sudo -u callstats_worker callstats check; if" in as_root
    installed.run("systemctl stop callstats.socket")
    out = installed.try_run("runuser -u callstats_worker -- callstats check").stdout
    assert "FAIL   socket" in out and "Fix: systemctl enable --now callstats.socket" in out
    installed.run("systemctl enable --now callstats.socket")
    installed.run("runuser -u callstats_worker -- callstats check")
    env.write_text(right)


def test_restart_returns_when_connections_are_accepted(installed):
    for _ in range(3):
        installed.run("systemctl restart callstats")
        pid = show(installed, "callstats.service", "MainPID")
        assert installed.path(f"/proc/{pid}/comm").read_text() == "callstats\n"
        assert f"{version(installed)} serves /stats/" in journal(installed, f"_PID={pid}")


def version(machine):
    return machine.run("callstats --version").strip()


def test_journal_has_priorities(installed):
    assert ask(installed).status == 200
    # A token file that cannot be read is a warning or an error.
    token = installed.path("/etc/callstats/root-token")
    right = token.read_text()
    token.write_text("")
    installed.run("systemctl reload callstats")
    wait_until(lambda: "root token" in journal(installed, "--priority=warning"), what="the warning is in the journal")
    token.write_text(right)
    installed.run("systemctl reload callstats")
    wait_until(lambda: ask(installed).status == 200)
    warnings, everything = journal(installed, "--priority=warning"), journal(installed)
    assert "GET /stats/acme" in everything and "GET /stats/acme" not in warnings
    assert "reloaded the root token file" not in warnings
    # systemd has the time and the level of each line, so they are not in its text.
    for line in everything.splitlines():
        assert not any(level in line for level in ("INFO", "WARN", "ERROR")) and not line.startswith(("[", "<")), line


@pytest.mark.slow
def test_hung_worker_is_restarted(installed):
    installed.write("/etc/systemd/system/callstats.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    installed.run("systemctl daemon-reload && systemctl restart callstats")
    try:
        since = socket_age(installed)
        pid = show(installed, "callstats.service", "MainPID")
        assert ask(installed).status == 200
        # It lives as long as it is well.
        fed = show(installed, "callstats.service", "WatchdogTimestampMonotonic")
        wait_until(lambda: int(show(installed, "callstats.service", "WatchdogTimestampMonotonic"))
                   > int(fed) + 3_000_000, 20, "the watchdog is fed")
        assert show(installed, "callstats.service", "MainPID") == pid
        installed.run(["kill", "-STOP", pid])
        answer = ask(installed, timeout=40)  # it waits at the socket, and loses nothing
        assert answer.status == 200
        assert show(installed, "callstats.service", "MainPID") != pid
        assert "Watchdog timeout" in installed.run("journalctl --no-pager -u callstats.service")
        assert socket_age(installed) == since
    finally:
        installed.path("/etc/systemd/system/callstats.service.d/watchdog.conf").unlink()
        installed.run("systemctl daemon-reload && systemctl restart callstats")


@pytest.mark.slow
def test_idle_worker_uses_no_cpu(installed):
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    assert show(installed, "callstats.service", "WatchdogUSec") == "1min"

    def switches():
        tasks = installed.path(f"/proc/{pid}/task").iterdir()
        lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    state = {"last": switches(), "at": time.monotonic()}

    def rested():
        if switches() > state["last"] + 1:
            state.update(last=switches(), at=time.monotonic())
        return time.monotonic() - state["at"] >= 10
    wait_until(rested, 60, "ten seconds with a single wake-up")


@pytest.mark.slow
def test_killed_worker_is_restarted(installed):
    since = socket_age(installed)
    for _ in range(7):  # more often than a start limit would allow
        assert ask(installed).status == 200
        pid = show(installed, "callstats.service", "MainPID")
        installed.run(["kill", "-9", pid])
        wait_until(lambda pid=pid: show(installed, "callstats.service", "MainPID") not in (pid, "0"), 20)
    assert ask(installed).status == 200
    assert socket_age(installed) == since


def test_invalid_setting_leaves_the_socket_open(installed):
    since = socket_age(installed)
    assert ask(installed).status == 200
    env = installed.path("/etc/callstats/callstats.env")
    right = env.read_text()
    configure(installed, "CALLSTATS_DB_CONNECTIONS=many")
    began = time.monotonic()
    done = installed.try_run("systemctl restart callstats")
    print(f"a restart with a wrong setting failed after {time.monotonic() - began:.2f} s")
    assert done.returncode != 0 and "callstats.service failed" in done.stderr
    assert time.monotonic() - began < 3
    status = installed.try_run("systemctl status callstats").stdout
    assert "CALLSTATS_DB_CONNECTIONS" in status and "78" in status
    assert "CALLSTATS_DB_CONNECTIONS" in journal(installed, "--priority=err")
    # Clients wait, and each start fails.
    waiting = [fastcgi.Connection(str(installed.path(SOCKET))) for _ in range(20)]
    ends = "journalctl -u callstats | grep -c 'status=78'"
    wait_until(lambda: int(installed.try_run(ends).stdout) >= 3, 30)
    began = time.monotonic()
    before = int(installed.try_run(ends).stdout)
    wait_until(lambda: int(installed.try_run(ends).stdout) >= before + 2, 30)
    assert time.monotonic() - began > 1, "it does not spin"
    assert "CALLSTATS_DB_CONNECTIONS" in installed.run("journalctl -u callstats")
    assert show(installed, "callstats.socket", "ActiveState") == "active"
    env.write_text(right)
    began = time.monotonic()
    assert ask(installed).status == 200
    print(f"corrected, it answered after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < 5
    for connection in waiting:
        connection.socket.close()
    assert socket_age(installed) == since


class Load:
    """Requests without a pause, until `stop`: four at a time, each by a connection of its own."""

    def __init__(self, machine):
        self.machine, self.ended, self.statuses = machine, threading.Event(), []
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.tasks = [self.pool.submit(self.run) for _ in range(4)]

    def run(self):
        while not self.ended.is_set():
            self.statuses.append(ask(self.machine).status)

    def stop(self):
        """All statuses; an error of a connection is raised."""
        self.ended.set()
        for task in self.tasks:
            task.result()
        return self.statuses


def test_upgrade_under_load_loses_no_request(installed, newer_package):
    since = socket_age(installed)
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    installed.install(newer_package, "/root/newer.deb")
    load = Load(installed)
    wait_until(lambda: len(load.statuses) > 20)
    installed.run("dpkg -i /root/newer.deb")
    assert show(installed, "callstats.service", "MainPID") != pid, "the new executable runs"
    seen = len(load.statuses)
    wait_until(lambda: len(load.statuses) > seen + 20)
    statuses = load.stop()
    print(f"an upgrade during {len(statuses)} requests")
    assert set(statuses) == {200}
    assert socket_age(installed) == since


def test_restarts_under_load_lose_no_request(installed):
    load = Load(installed)
    for _ in range(3):
        seen = len(load.statuses)
        wait_until(lambda seen=seen: len(load.statuses) > seen + 20)
        installed.run("systemctl reload callstats")
        installed.run("systemctl restart callstats")
    assert set(load.stop()) == {200}


def test_timers_run_their_services(installed):
    for timer in ("callstats-compact", "callstats-partitions"):
        installed.run(f"systemctl enable --now {timer}.timer")
        assert show(installed, f"{timer}.timer", "ActiveState") == "active"
        assert show(installed, f"{timer}.timer", "NextElapseUSecRealtime")
    for script in ("partitions", "rollup"):
        installed.run(f"runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -d calls "
                      f"-f /usr/share/callstats/{script}.sql")
    for unit in ("callstats-compact", "callstats-partitions"):
        installed.run(f"systemctl start {unit}.service")
        assert show(installed, f"{unit}.service", "Result") == "success"
    assert ask(installed).status == 200


@pytest.mark.parametrize("name", ["compact", "partitions"])
def test_timers_run_without_a_local_user_postgres(installed, name):
    """With the drop-in that the unit prints."""
    lines = (PROJECT / "deploy" / "systemd" / f"callstats-{name}.service").read_text().splitlines()
    drop_in = "".join(line.removeprefix("#     ") + "\n" for line in lines if line.startswith("#     "))
    assert "PGHOST=db.example" in drop_in
    installed.run("grep -q db.example /etc/hosts || echo 127.0.0.1 db.example >>/etc/hosts")
    installed.run("""runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -d calls
        -c "drop role if exists callstats_owner"
        -c "create role callstats_owner login superuser password 'secret'"
    """.replace("\n", " "))
    installed.write("/etc/callstats/pgpass", "*:*:*:*:secret\n", 0o600)
    installed.run("chown callstats_worker /etc/callstats/pgpass")
    file = f"/etc/systemd/system/callstats-{name}.service.d/override.conf"
    installed.write(file, drop_in)
    installed.run("systemctl daemon-reload")
    try:
        installed.run(f"systemctl start callstats-{name}.service")
        assert show(installed, f"callstats-{name}.service", "User") == "callstats_worker"
        assert show(installed, f"callstats-{name}.service", "Result") == "success"
    finally:
        installed.path(file).unlink()
        installed.run("systemctl daemon-reload")


def test_credentials_work_as_documented_in_the_unit(installed):
    commands = printed(PROJECT / "deploy" / "systemd" / "credentials.conf")
    installed.run(["ln", "-s", PROJECT, "/root/checkout"])
    installed.run("chown root:root /etc/callstats/root-token && chmod 600 /etc/callstats/root-token")
    installed.write("/etc/callstats/database-password", "secret\n", 0o600)
    installed.run("""runuser -u postgres -- psql -X -q -d calls -c "alter role callstats_worker password 'secret'" """)
    # Over TCP, so that the password counts.
    configure(installed, 'DATABASE_URL="host=127.0.0.1 dbname=calls user=callstats_worker"')
    for command in commands:
        installed.run(f"cd /root/checkout/deploy/systemd && {command}")
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    assert installed.path(f"/proc/{pid}/cmdline").read_bytes() == b"/usr/bin/callstats\0"
    token = installed.path("/etc/callstats/root-token").read_text().strip()
    assert token not in installed.run("journalctl")
    # With nothing to read but credentials it needs no user that owns files.
    shipped = (PROJECT / "deploy" / "systemd" / "credentials.conf").read_text().splitlines()
    commands = [line.removeprefix("#     ") for line in shipped if "#dynamic#" in line and line.startswith("#     ")]
    for command in [*commands, "systemctl daemon-reload", "systemctl restart callstats"]:
        installed.run(command)
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    uid = installed.run(f"stat -c %u /proc/{pid}").strip()
    assert 61184 <= int(uid) <= 65519, "one that systemd chose: see systemd.exec(5)"


@pytest.mark.slow
def test_service_comes_back_after_a_reboot_and_waits_for_its_database(package, start):
    with tempfile.TemporaryDirectory(prefix="callstats-disk-", dir="/dev/shm") as disk:
        machine = start(Booted, disk)
        install(machine, package)
        assert ask(machine).status == 200
        machine.stop()
        machine = start(Booted, disk)  # up to basic.target: PostgreSQL is not started
        assert show(machine, "callstats.socket", "ActiveState") == "active"
        began = time.monotonic()
        answer = ask(machine)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        print(f"without its database it answered after {time.monotonic() - began:.2f} s")
        pid = show(machine, "callstats.service", "MainPID")
        assert "cannot connect to the database" in journal(machine, "--priority=warning")
        machine.run("systemctl start postgresql")
        wait_until(lambda: ask(machine).status == 200, what="the database is used")
        assert show(machine, "callstats.service", "MainPID") == pid != "0"
        assert show(machine, "callstats.service", "NRestarts") == "0"
        machine.stop()


def test_limits_of_the_service_hold(installed):
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    limits = installed.path(f"/proc/{pid}/limits").read_text().splitlines()
    found = {line[:25].strip(): line[25:].split()[0] for line in limits}
    assert found["Max core file size"] == "0"
    assert int(found["Max open files"]) < int(show(installed, "callstats.service", "TasksMax"))
    assert int(show(installed, "callstats.service", "MemoryMax")) == 2**30


def test_remove_keeps_settings_and_purge_deletes_them(installed):
    assert ask(installed).status == 200
    installed.run("dpkg --remove callstats")
    assert not installed.path(SOCKET).exists()
    for unit in ("callstats.service", "callstats.socket"):
        assert show(installed, unit, "ActiveState") == "inactive"
    assert installed.path("/etc/callstats/root-token").exists()
    installed.run("dpkg --purge callstats")
    assert not installed.path("/etc/callstats").exists() and not installed.path("/run/callstats").exists()
    assert installed.try_run("getent passwd callstats_worker").returncode == 2
    assert "callstats" not in installed.run("systemctl list-units --all --plain --no-legend 'callstats*'")
