"""A machine of its own for a test: the files of this very machine, or of a folder with a Debian, under an overlay, with
private namespaces. What is written there is gone with it, port 80 is free, and the documented paths can be used as they
are printed. Needs root."""
import atexit
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from .processes import wait_until

# Mounts the overlay on DIR/root with a tmpfs above it, and what a root file system needs. The folders of the tests in
# /tmp are the machine's as well, so that it reaches their sockets; a machine with systemd has a /tmp of its own.
SETUP = r"""
set -e
dir=$1 init=$2 disk=$3 system=$4
if [ -n "$disk" ]; then mount --bind "$disk" "$dir"; else mount -t tmpfs -o size=2g,mode=755 tmpfs "$dir"; fi
mkdir -p "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay overlay -o lowerdir="$system",upperdir="$dir/upper",workdir="$dir/work" "$dir/root"
cd "$dir/root"
ip link set lo up
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lock
if [ "$init" = none ]; then
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount --bind /tmp tmp
    mkdir -p run/lighttpd run/callstats
    chown www-data:www-data run/lighttpd
    mkdir -p .old
    pivot_root . .old
    umount -l /.old
    echo ready
    # A process 1 that waits for whatever is left to it.
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 bash -c "while :; do sleep 1000000 & wait; done"
fi
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p "$dir/cgroup"
mount -t cgroup2 cgroup2 "$dir/cgroup"
mkdir -p "$dir/cgroup/$init"
echo $$ >"$dir/cgroup/$init/cgroup.procs"
exec unshare --cgroup --mount --propagation private bash -c '
    set -e
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs dev
    mkdir dev/pts dev/shm
    chmod 1777 dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
    ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin
    ln -s fd/1 dev/stdout
    ln -s fd/2 dev/stderr
    rm -f etc/machine-id
    : >etc/machine-id
    mkdir -p .old
    pivot_root . .old
    umount -l /.old
    # As a container manager leaves it: services see what systemd mounts for them, such as credentials.
    mount --make-rshared /
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target \
        --log-target=journal --show-status=false'
"""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
               "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}


class Machine:
    """Namespaces and an overlay: by itself without any service; `Booted` has a systemd as process 1."""
    init = "none"

    def __init__(self, disk="", system="/"):
        """
        Of the files of the folder `system`. What is written goes to the folder `disk`, for the next machine that is
        given it, or to memory.
        """
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="callstats-machine-"))
        self.log = open(f"{self.folder}.log", "w+")  # it lives as long as the machine
        command = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--propagation",
                   "private", "bash", "-c", SETUP, "machine", str(self.folder), self.init, str(disk), str(system)]
        self.outer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                      start_new_session=True)
        atexit.register(self.stop)
        self.relays = []
        try:
            self.leader = wait_until(self.find_leader, 30, "the machine is set up")
        except BaseException:
            self.stop()
            raise

    def find_leader(self):
        """The id of the machine's process 1, once it is what it is to become."""
        assert self.outer.poll() is None, self.console()
        with contextlib.suppress(OSError, IndexError):
            pid = int(pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()[0])
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "systemd" or "ready" in self.console():
                return pid
        return None

    def console(self):
        return pathlib.Path(self.log.name).read_text()

    def path(self, inside):
        """A file of the machine, as a path out here."""
        return pathlib.Path(f"/proc/{self.leader}/root{inside}")

    def entering(self, command):
        """The command that runs a command in the machine."""
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return ["nsenter", f"--target={self.leader}", "--all", "env", "-i", *variables, *map(str, command)]

    def try_run(self, command, timeout=120, **options):
        """Runs a command, or a line for the shell as it is printed; returns what it did."""
        words = ["bash", "-c", command] if isinstance(command, str) else command
        options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
        return subprocess.run(self.entering(words), capture_output=True, text=True, timeout=timeout, **options)

    def run(self, command, timeout=120, **options):
        """The same for what must succeed; returns its output."""
        done = self.try_run(command, timeout, **options)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def install(self, source, destination, mode=0o644):
        """Copies a file, byte for byte."""
        target = self.path(destination)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        target.chmod(mode)

    def write(self, destination, text, mode=0o644):
        self.path(destination).parent.mkdir(parents=True, exist_ok=True)
        self.path(destination).write_text(text)
        self.path(destination).chmod(mode)

    def connect(self, port=80, source="127.0.0.1", timeout=60, host="127.0.0.1"):
        """A TCP connection in the machine. A thread of its own enters the network; the socket stays there."""
        made = []

        def enter():
            with open(f"/proc/{self.leader}/ns/net") as namespace:
                enter_namespace(namespace.fileno())
            try:
                made.append(socket.create_connection((host, port), timeout, (source, 0)))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def accepts(self, port=80):
        with contextlib.suppress(OSError):
            self.connect(port).close()
            return True
        return False

    def relay(self, port=80):
        """A port out here that leads to one in the machine, for programs that can't enter it."""
        self.relays.append(Relay(self, port))
        return self.relays[-1].port

    def stop(self):
        atexit.unregister(self.stop)
        for relay in self.relays:
            relay.stop()
        # The end of process 1 is the end of all others; the mounts go with the namespace.
        if self.outer.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
                os.kill(int(children[0]), signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.outer.wait(10)
            self.outer.kill()
            self.outer.wait()
        self.log.close()
        pathlib.Path(self.log.name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


class Booted(Machine):
    """With a real systemd as process 1."""

    def __init__(self, disk="", system="/"):
        self.init = f"callstats-test-{os.getpid()}-{id(self):x}"
        super().__init__(disk, system)
        self.state = wait_until(self.boot_state, 60, "systemd is up")

    def boot_state(self):
        state = self.try_run(["systemctl", "is-system-running"]).stdout.strip()
        return state if state in ("running", "degraded") else None

    def stop(self):
        super().stop()
        # The control group is the kernel's, not the namespace's: remove it and those below.
        script = ('mount -t cgroup2 cgroup2 "$1" && find "$1/$2" -depth -type d -exec rmdir {} +; umount "$1"')
        with tempfile.TemporaryDirectory() as folder:
            command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "clean", folder,
                       self.init]
            subprocess.run(command, capture_output=True)


class Relay:
    """Passes bytes between a port of this machine and one of another, ends and resets included."""

    def __init__(self, machine, port):
        self.machine, self.inner_port = machine, port
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = self.machine.connect(self.inner_port)
            except OSError:
                client.close()
                continue
            client.settimeout(None)
            server.settimeout(None)
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(source, target), daemon=True).start()

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def enter_namespace(descriptor):
    """setns(2) for the calling thread: os.setns came with Python 3.12."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def printed(file, prefix="#     "):
    """The commands that a shipped file's header prints for its operator, as they stand."""
    lines = []
    for line in pathlib.Path(file).read_text().splitlines():
        if not line.startswith("#"):
            break
        if line.startswith(prefix):
            lines.append(line.removeprefix(prefix))
    assert lines, f"{file} prints no commands"
    return lines
