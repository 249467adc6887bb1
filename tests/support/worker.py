"""The worker as operations teams start it."""
import os
import re
import signal
import socket
import subprocess

from . import fastcgi
from .processes import CALLSTATS, Folder, Process, as_user, free_port, wait_until

ROOT_TOKEN = "root-0123456789abcdef"


def check(environment, *arguments):
    """Exit code and output of `callstats check`, as the worker's user runs it."""
    done = subprocess.run(
        [CALLSTATS, "check", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **as_user(**environment),
    )
    return done.returncode, done.stdout


def cgi(url, folder, uri, **environment):
    """Status, body and log of a request that a process of its own answers."""
    token = folder.write("root-token", ROOT_TOKEN)
    done = subprocess.run(
        [CALLSTATS],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        **as_user(
            GATEWAY_INTERFACE="CGI/1.1",
            REQUEST_METHOD="GET",
            REQUEST_URI=uri,
            QUERY_STRING=uri.partition("?")[2],
            DATABASE_URL=url,
            CALLSTATS_ROOT_TOKEN_FILE=str(token),
            **environment,
        ),
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    log = done.stderr.decode()
    status = re.search(rb"^Status: (\d+)", head, re.MULTILINE)
    assert status, log
    return int(status[1]), body, log


class Worker:
    """A worker under spawn-fcgi (or started with --listen), on a Unix socket in a folder of its own."""

    def __init__(self, database_url, listen=False, before=None, root_token=ROOT_TOKEN, **environment):
        self.folder = Folder("worker")
        self.socket = str(self.folder / "socket")
        self.root_token_file = self.folder.write("root-token", f"{root_token}\n")
        self.log = self.folder / "log"
        self.environment = {"DATABASE_URL": database_url, "CALLSTATS_ROOT_TOKEN_FILE": str(self.root_token_file),
                            **environment}
        if listen:
            command = [CALLSTATS, "--listen", self.socket]
        else:
            command = ["spawn-fcgi", "-n", "-s", self.socket, "-M", "0660", "--", CALLSTATS]
        self.process = Process(command, self.log, before=before, **self.environment)
        wait_until(self.accepts, what="the worker accepts")

    def crash(self):
        self.process.kill(signal.SIGKILL)
        self.process.wait()

    def listen(self):
        """Starts it again on its socket."""
        self.process = Process([CALLSTATS, "--listen", self.socket], self.log, **self.environment)
        wait_until(self.accepts, what="the worker accepts")

    def accepts(self):
        """Whether it serves."""
        assert self.process.popen.poll() is None, self.text()
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket)
                return "serves" in self.text()
            except OSError:
                return False

    @property
    def pid(self):
        return self.process.pid

    def text(self):
        return self.process.text()

    def ask(self, method, uri, headers=(), body=b""):
        return fastcgi.ask(self.socket, method, uri, headers, body)

    def get(self, uri, token=ROOT_TOKEN):
        return self.ask("GET", uri, [("Authorization", f"Bearer {token}")] if token else ())

    def status(self, name):
        """A number of /proc/PID/status: kB or a count."""
        with open(f"/proc/{self.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def stop(self, number=signal.SIGTERM):
        code = self.process.stop(number)
        self.folder.remove()
        return code


class TcpWorker(Worker):
    """A worker that listens on a port of the loopback interface."""

    def __init__(self, database_url, host="127.0.0.1", **environment):
        self.folder = Folder("worker")
        self.root_token_file = self.folder.write("root-token", f"{ROOT_TOKEN}\n")
        self.log = self.folder / "log"
        self.environment = {"DATABASE_URL": database_url, "CALLSTATS_ROOT_TOKEN_FILE": str(self.root_token_file),
                            **environment}
        self.port = free_port()
        self.socket = (host, self.port)
        address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.process = Process([CALLSTATS, "--listen", address], self.log, **self.environment)
        wait_until(lambda: "serves" in self.text() or self.process.popen.poll() is not None, what="the worker serves")
