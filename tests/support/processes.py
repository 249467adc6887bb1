"""Private processes of the tests: unprivileged, in folders of their own, stopped when a test is over."""
import atexit
import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]

# Root drops to this user; anybody else stays who they are.
USER = "nobody" if os.getuid() == 0 else None
GROUP = "nogroup" if os.getuid() == 0 else None

PORTS = itertools.count()


def installed(executable):
    """A copy that the unprivileged user can run, whatever the folders above the project allow."""
    folder = tempfile.mkdtemp(prefix="callstats-bin-")
    os.chmod(folder, 0o755)
    atexit.register(shutil.rmtree, folder)
    return pathlib.Path(shutil.copy(executable, folder))


# Another build than that of `cargo build --release`, for .ci/vendored.
CALLSTATS = installed(os.environ.get("CALLSTATS_TEST_EXECUTABLE") or PROJECT / "target" / "release" / "callstats")


def wait_until(state, seconds=15, what=None):
    """Polls for a state; returns the first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = state()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what or getattr(state, '__name__', state)}")
        time.sleep(0.01)


def as_user(**changes):
    """Arguments of subprocess for an unprivileged process with a clean environment."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", **changes}
    return {"user": USER, "group": GROUP, "extra_groups": [] if USER else None, "env": environment}


class Folder:
    """A folder that the unprivileged user owns; short, because socket paths must be."""

    def __init__(self, name):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"callstats-{name}-"))
        if USER:
            shutil.chown(self.path, USER, GROUP)

    def __truediv__(self, name):
        return self.path / name

    def write(self, name, text, mode=0o600):
        path = self.path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        if USER:
            shutil.chown(path, USER, GROUP)
        return path

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Process:
    """A process in the foreground, with its standard error in a file."""

    def __init__(self, command, log, stdin=subprocess.DEVNULL, before=None, **environment):
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as stderr:
            self.popen = subprocess.Popen([str(word) for word in command], stdin=stdin, stdout=stderr, stderr=stderr,
                                          start_new_session=True, preexec_fn=before, **as_user(**environment))

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self, number=signal.SIGTERM):
        os.kill(self.pid, number)

    def wait(self, seconds=15):
        return self.popen.wait(seconds)

    def stop(self, number=signal.SIGTERM):
        """Ends it and all that it started."""
        if self.popen.poll() is None:
            self.kill(number)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.popen.wait()


def free_port():
    """A port that nobody uses: each process that runs tests has numbers of its own, below those of connections."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 10_000 + process % 20 * 1000
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", first + port % 1000))
            return first + port % 1000


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
