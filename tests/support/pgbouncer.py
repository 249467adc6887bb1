"""A private PgBouncer, configured as Debian ships it: only addresses and paths are the test's."""

import contextlib
import pathlib
import socket

import psycopg2

from .processes import Folder, Process, accepts, free_port, wait_until

DEBIAN = pathlib.Path("/etc/pgbouncer/pgbouncer.ini")


class PgBouncer:
    """In front of one database; listens on a port and a Unix socket. Settings come behind Debian's."""

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
        configuration = self.folder.write(
            "pgbouncer.ini",
            f"""%include {self.folder / "debian.ini"}
[databases]
{self.name} = host={cluster.folder.path} port={cluster.port} dbname={self.name}
[pgbouncer]
{lines}""",
        )
        self.folder.write("debian.ini", DEBIAN.read_bytes())
        self.process = Process(["pgbouncer", configuration], self.folder / "log")
        wait_until(lambda: accepts(self.port) and self.accepts_locally(), what="PgBouncer accepts")

    @property
    def url(self):
        return f"host={self.folder.path} port={self.port} dbname={self.name} user=callstats_worker"

    @property
    def tcp_url(self):
        return f"host=127.0.0.1 port={self.port} dbname={self.name} user=callstats_worker"

    def accepts_locally(self):
        """The socket has a name before it accepts."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.folder / f".s.PGSQL.{self.port}")) == 0

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
