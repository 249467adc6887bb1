"""The package under a real systemd: its socket outlives whatever happens to the worker."""
import time

from ..support import fastcgi
from ..support.overlay import printed
from ..support.processes import PROJECT, wait_until

SOCKET = "/run/callstats/callstats.sock"
DAY = "/stats/acme/support/Billing?daterange=20260303"


def ask(machine, uri=DAY, timeout=20):
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


def socket_age(machine):
    return show(machine, "callstats.socket", "ActiveEnterTimestampMonotonic")


def test_first_answer_reload_and_restart(installed):
    since = socket_age(installed)
    answer = ask(installed)
    assert answer.status == 200 and answer.body.startswith(b'[{"date":"20260303"')
    pid = show(installed, "callstats.service", "MainPID")
    seconds = [timed(installed, "systemctl reload callstats")]
    wait_until(lambda: "reloaded the root token file" in installed.run("journalctl -u callstats"), what="SIGHUP is logged")
    assert show(installed, "callstats.service", "MainPID") == pid
    seconds.append(timed(installed, "systemctl restart callstats"))
    print(f"reload {seconds[0]:.2f} s, restart {seconds[1]:.2f} s")
    assert max(seconds) < 1
    assert ask(installed).status == 200
    assert socket_age(installed) == since


def test_it_survives_a_kill(installed):
    since = socket_age(installed)
    for _ in range(7):  # more often than a start limit would allow
        assert ask(installed).status == 200
        pid = show(installed, "callstats.service", "MainPID")
        installed.run(["kill", "-9", pid])
        wait_until(lambda: show(installed, "callstats.service", "MainPID") not in (pid, "0"), 20)
    assert ask(installed).status == 200
    assert socket_age(installed) == since


def test_a_wrong_setting_leaves_the_socket_alone(installed):
    since = socket_age(installed)
    assert ask(installed).status == 200
    env = installed.path("/etc/callstats/callstats.env")
    right = env.read_text()
    env.write_text(right + "CALLSTATS_DB_CONNECTIONS=many\n")
    installed.try_run("systemctl restart callstats")
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


def test_an_upgrade_keeps_the_socket(installed, newer_package):
    since = socket_age(installed)
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    installed.install(newer_package, "/root/newer.deb")
    installed.run("dpkg -i /root/newer.deb")
    assert socket_age(installed) == since
    assert show(installed, "callstats.service", "MainPID") != pid, "the new executable runs"
    assert ask(installed).status == 200


def test_credentials_as_the_file_says(installed):
    commands = printed(PROJECT / "deploy" / "systemd" / "credentials.conf")
    installed.run(["ln", "-s", PROJECT, "/root/checkout"])
    installed.run("chown root:root /etc/callstats/root-token && chmod 600 /etc/callstats/root-token")
    installed.write("/etc/callstats/database-password", "secret\n", 0o600)
    installed.run("""runuser -u postgres -- psql -X -q -d calls -c "alter role callstats_worker password 'secret'" """)
    # Over TCP, so that the password counts.
    env = installed.path("/etc/callstats/callstats.env")
    env.write_text(env.read_text().replace("host=/var/run/postgresql", "host=127.0.0.1"))
    for command in commands:
        installed.run(f"cd /root/checkout && {command}")
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    assert installed.path(f"/proc/{pid}/cmdline").read_bytes() == b"/usr/bin/callstats\0"
    token = installed.path("/etc/callstats/root-token").read_text().strip()
    assert token not in installed.run("journalctl")


def test_its_limits(installed):
    assert ask(installed).status == 200
    pid = show(installed, "callstats.service", "MainPID")
    limits = installed.path(f"/proc/{pid}/limits").read_text().splitlines()
    found = {line[:25].strip(): line[25:].split()[0] for line in limits}
    assert found["Max core file size"] == "0"
    assert int(found["Max open files"]) < int(show(installed, "callstats.service", "TasksMax"))
    assert int(show(installed, "callstats.service", "MemoryMax")) == 2**30


def test_remove_and_purge(installed):
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
