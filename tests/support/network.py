"""Hosts with a network of their own that vanish without closing a connection, and return. Needs root."""

import contextlib
import ctypes
import subprocess

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(namespace):
    """Moves this thread, and what it starts from now on, into a network namespace."""
    if LIBC.setns(namespace.fileno(), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """A network namespace with its loopback interface up. It lives as long as its process."""

    def __init__(self):
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout.readline() == b"up\n"

    @property
    def pid(self):
        return self.holder.pid

    @contextlib.contextmanager
    def entered(self):
        """What is started meanwhile lives in this namespace."""
        with open("/proc/thread-self/ns/net") as outside, open(f"/proc/{self.pid}/ns/net") as inside:
            enter(inside)
            try:
                yield self
            finally:
                enter(outside)

    def ip(self, *words):
        subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", *map(str, words)], check=True, capture_output=True
        )

    def stop(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class Network:
    """A namespace for clients, and hosts that it reaches, each behind a link of its own."""

    def __init__(self):
        self.clients, self.hosts = Namespace(), []

    def host(self):
        host = Host(self.clients, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def entered(self):
        return self.clients.entered()

    def stop(self):
        for namespace in (*self.hosts, self.clients):
            namespace.stop()


class Host(Namespace):
    """Reached by an address. The other side keeps the hardware address, so that nothing reports that the host is gone:
    its packets are swallowed, as behind a router."""

    def __init__(self, clients, number):
        super().__init__()
        self.address = f"10.203.{number}.2"
        self.link_local = f"fe80::ff:fe00:{number:x}"  # of its hardware address
        near, far = f"near{number}", f"far{number}"
        hardware = f"02:00:00:00:00:{number:02x}"
        clients.ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.pid)
        clients.ip("addr", "add", f"10.203.{number}.1/24", "dev", near)
        clients.ip("link", "set", near, "up")
        self.far = far
        self.ip("link", "set", far, "address", hardware)
        self.ip("link", "set", far, "up")
        clients.ip("neigh", "replace", self.address, "lladdr", hardware, "dev", near, "nud", "permanent")
        self.returns()

    def vanishes(self):
        self.ip("addr", "del", f"{self.address}/24", "dev", self.far)

    def returns(self):
        self.ip("addr", "add", f"{self.address}/24", "dev", self.far)


