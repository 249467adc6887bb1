"""A private PostgreSQL cluster, and a database of its own for each test."""
import contextlib
import glob
import io
import itertools
import os
import pathlib
import re
import signal
import subprocess

import psycopg2

from .processes import PROJECT, Folder, Process, as_user, wait_until

MAX_CONNECTIONS = 200
TEMPLATE = "with_schema"
WORKER_CONNECTIONS = 150


def programs():
    """The folder of the server that `tests/run --postgres` chose, or of the newest one that is installed."""
    if chosen := os.environ.get("CALLSTATS_TEST_POSTGRES"):
        return chosen
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    newest = max(found, key=lambda path: int(re.search(r"/(\d+)/", path)[1]))
    return newest.removesuffix("/initdb")


def fetched(version):
    """The folder of a version of PostgreSQL that Debian does not have, with `bin` and `lib`."""
    command = [PROJECT / "tests" / "support" / "fetch-postgres", str(version)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(done.stdout.strip()).parent


class Cluster:
    """Listens on a Unix socket in its folder, and nowhere else by default."""

    def __init__(self, settings=(), name="pg", port=5432, version=None):
        self.folder, self.port = Folder(name), port
        self.programs = f"{fetched(version)}/bin" if version else programs()
        self.data = self.folder / "data"
        self.numbers = itertools.count(1)
        self.has_template = self.has_schema = False
        self.process = None
        self.make()
        self.settings = [
            "-c",
            "fsync=off",
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={self.folder.path}",
            "-c",
            f"max_connections={MAX_CONNECTIONS}",
            "-c",
            f"port={port}",
            *itertools.chain(*(("-c", setting) for setting in settings)),
        ]
        self.start()

    def make(self):
        self.run("initdb", "-D", self.data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")

    def run(self, program, *arguments):
        command = [f"{self.programs}/{program}", *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **as_user())

    def start(self):
        self.process = Process([f"{self.programs}/postgres", "-D", self.data, *self.settings], self.folder / "log")
        wait_until(self.answers, 60, "PostgreSQL answers")

    def stop(self, how=signal.SIGINT):
        """SIGINT is a fast shutdown: clients are cut off."""
        self.process.stop(how)

    def remove(self):
        self.stop(signal.SIGQUIT)
        self.folder.remove()

    def answers(self):
        try:
            self.connect("postgres").close()
            return True
        except psycopg2.OperationalError:
            return False

    def connect(self, database, user="owner"):
        connection = psycopg2.connect(host=str(self.folder.path), port=self.port, dbname=database, user=user)
        connection.autocommit = True
        return connection

    def execute(self, statement):
        """A statement outside of the tests' databases."""
        with contextlib.closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    @property
    def version(self):
        """The major one."""
        with contextlib.closing(self.connect("postgres")) as connection:
            return connection.server_version // 10000

    def database(self, name=None, with_schema=True, kind=None, **options):
        """A new, empty database; `kind` is a subclass of Database."""
        name = name or f"test{next(self.numbers)}"
        copied = with_schema and self.has_schema and not options
        if copied:
            self.make_template()
            options = {"template": TEMPLATE}
        words = " ".join(f"{key} {value}" for key, value in options.items())
        self.execute(f"create database {name} {words}")
        database = (kind or Database)(self, name)
        if with_schema and not copied:
            database.script(PROJECT / "deploy" / "schema.sql")
            self.has_schema = True
        if with_schema:
            # Workers of several tests share the role: those that stay keep none of the others from connecting.
            self.execute(f"alter role callstats_worker connection limit {WORKER_CONNECTIONS}")
        return database

    def make_template(self):
        """A database with the schema, which is copied ten times as fast as it is created."""
        if not self.has_template:
            self.execute(f"create database {TEMPLATE}")
            template = Database(self, TEMPLATE)
            template.script(PROJECT / "deploy" / "schema.sql")
            template.connection.close()
            self.execute(f"alter database {TEMPLATE} allow_connections false")
            self.has_template = True


class Replica(Cluster):
    """Streams from another cluster."""

    def __init__(self, primary):
        self.primary = primary
        super().__init__(name="replica")

    def make(self):
        self.run(
            "pg_basebackup",
            "-D",
            self.data,
            "-h",
            self.primary.folder.path,
            "-p",
            self.primary.port,
            "-U",
            "owner",
            "-R",
            "--checkpoint=fast",
            "--no-sync",
        )


class Database:
    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.connection = cluster.connect(name)

    @property
    def url(self):
        """DATABASE_URL for the worker."""
        return f"host={self.cluster.folder.path} port={self.cluster.port} dbname={self.name} user=callstats_worker"

    def query(self, statement, *parameters):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else None

    def value(self, statement, *parameters):
        return self.query(statement, *parameters)[0][0]

    def psql(self, *arguments, user="owner", **options):
        """Runs psql as an operator does; returns its exit code and all that it printed."""
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.cluster.folder.path,
                   "-p", self.cluster.port, "-U", user, "-d", self.name, *arguments]
        done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, **options)
        return done.returncode, done.stdout

    def script(self, path, user="owner"):
        """Runs a file that must succeed."""
        code, output = self.psql(user=user, input=path.read_text())
        assert code == 0, f"{path.name}: {output}"

    def refused(self, path, user="owner"):
        """Runs a file that must stop; returns what it printed."""
        code, output = self.psql(user=user, input=path.read_text())
        assert code == 3, f"{path.name}: {output}"
        return output

    def copy(self, table_and_columns, lines):
        """COPY of text lines."""
        with self.connection.cursor() as cursor:
            cursor.copy_expert(f"copy {table_and_columns} from stdin", io.StringIO("".join(lines)))

    def drop(self):
        self.connection.close()
        self.cluster.execute(f"drop database {self.name} with (force)")
