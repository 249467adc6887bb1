"""A private PgBouncer, configured as Debian ships it: only addresses and paths are the test's."""

import contextlib
import functools
import pathlib
import socket
import subprocess

import psycopg2

from .processes import PROJECT, Folder, Process, accepts, free_port, wait_until


class PgBouncer:
    """In front of one database; listens on a port and a Unix socket. Settings come behind Debian's."""

    root = pathlib.Path("/")
    program = ("pgbouncer",)

    def __init__(self, database, mode="session", **settings):
        self.folder, self.port, self.name = Folder("pgb"), free_port(), database.name
        cluster = database.cluster
        users = self.folder.write("users", '"callstats_worker" ""\n"owner" ""\n')
        own = {
            "logfile": "",
            "pidfile": "",
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "auth_type": "trust",
            "unix_socket_dir": self.folder.path,
            "auth_file": users,
            "pool_mode": mode,
            "admin_users": "owner",
            **settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in own.items())
        self.configuration = self.folder.write(
            "pgbouncer.ini",
            f"""%include {self.folder / "debian.ini"}
[databases]
{self.name} = host={cluster.folder.path} port={cluster.port} dbname={self.name}
[pgbouncer]
{lines}""",
        )
        self.folder.write("debian.ini", (self.root / "etc/pgbouncer/pgbouncer.ini").read_bytes())
        self.start()

    def start(self):
        self.process = Process([*self.program, self.configuration], self.folder / "log")
        wait_until(lambda: accepts(self.port) and self.accepts(), what="PgBouncer accepts")

    def accepts(self):
        """On its Unix socket, whose file is there before that."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.folder / f".s.PGSQL.{self.port}"))
            return True
        return False

    @property
    def url(self):
        return f"host={self.folder.path} port={self.port} dbname={self.name} user=callstats_worker"

    @property
    def tcp_url(self):
        return f"host=127.0.0.1 port={self.port} dbname={self.name} user=callstats_worker"

    def admin(self, command):
        with contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=self.port, dbname="pgbouncer", user="owner")
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(command)

    def stop(self):
        self.process.stop()
        self.folder.remove()


@functools.cache
def newer():
    """The PgBouncer of Debian 13, run by its own loader and libraries."""
    command = [PROJECT / "tests" / "support" / "fetch-pgbouncer"]
    folder = pathlib.Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    loader, libraries = folder / "lib64/ld-linux-x86-64.so.2", folder / "usr/lib/x86_64-linux-gnu"
    program = (loader, "--library-path", libraries, folder / "usr/sbin/pgbouncer")
    return type("NewerPgBouncer", (PgBouncer,), {"root": folder, "program": program})
