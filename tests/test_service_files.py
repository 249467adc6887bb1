"""What starts the worker: systemd's units, the sysv script; and what a running worker has no need of."""
import os
import pathlib
import re
import subprocess

import pytest

from .support import fastcgi
from .support.processes import CALLSTATS, GROUP, PROJECT, USER, Folder, wait_until
from .support.worker import ROOT_TOKEN

UNITS = PROJECT / "deploy" / "systemd"
DAY = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20260303"


@pytest.fixture
def units(tmp_path):
    """The units, with a user and an executable that exist here."""
    for unit in UNITS.glob("callstats*"):
        text = re.sub(r"=callstats_worker$", "=daemon", unit.read_text(), flags=re.M).replace("/usr/bin/callstats", str(CALLSTATS))
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_the_units_are_sound(units):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(units.iterdir())], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_denied_what_it_does_not_need(units):
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", units / "callstats.service"],
                          capture_output=True, text=True)
    exposure = float(re.search(r"Overall exposure level .*: ([\d.]+)", done.stdout)[1])
    print(f"exposure {exposure}")
    assert exposure <= 2.0


def test_a_worker_listens_on_nothing_else(replay_worker):
    inodes = {os.readlink(f"/proc/{replay_worker.pid}/fd/{number}") for number in os.listdir(f"/proc/{replay_worker.pid}/fd")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" or table.startswith("udp"):
                assert f"socket:[{fields[9]}]" not in inodes
    assert replay_worker.status("Uid") != 0


@pytest.mark.skipif(os.getuid() != 0, reason="an init script is run by root")
def test_the_sysv_script(replay_worker):
    folder = Folder("sysv")
    env = folder.write("callstats.env", "".join(f"{name}='{value}'\n" for name, value in replay_worker.environment.items()))
    defaults = folder.write("defaults", f"DAEMON={CALLSTATS}\nENVIRONMENT={env}\nSOCKET={folder.path}/run/socket\nPIDFILE={folder.path}/pid\n"
                                        f"LOG={folder.path}/log\nWORKER_USER={USER}\nWEB_GROUP={GROUP}\n")
    address = f"{folder.path}/run/socket"

    def script(word):
        done = subprocess.run([PROJECT / "deploy" / "sysv" / "callstats", word], capture_output=True, text=True,
                              env={"CALLSTATS_DEFAULTS": str(defaults)})
        return done.returncode

    try:
        assert script("status") == 3
        assert script("start") == 0 and script("start") == 0 and script("status") == 0
        assert fastcgi.ask(address, "GET", DAY).status == 200
        assert script("reload") == 0
        wait_until(lambda: "reloaded the root token file" in (folder / "log").read_text())
        pid = (folder / "pid").read_text()
        assert script("restart") == 0 and (folder / "pid").read_text() != pid
        assert fastcgi.ask(address, "GET", DAY).status == 200
        assert script("stop") == 0 and script("status") == 3 and script("stop") == 0
        assert script("frobnicate") == 2
        assert not os.path.exists(address)
    finally:
        script("stop")
        folder.remove()
