"""DATABASE_URL beside the libpq of PostgreSQL 18: it has no option that callstats does not know, and what psql makes of
those that older versions lack."""

import json
import re
import subprocess
import sys

import pytest

from ..support.postgres import Cluster, fetched
from ..support.processes import as_user, wait_until
from ..support.sample import BILLING, DATA, DAY
from ..support.tls import callstats, psql
from ..support.worker import Worker
from .test_database_url import options

NEWEST = 18
# Options of the table that this libpq does not list: one that it translates, and one of the next version.
OTHERS = {"requiressl", "servicefile"}

LIST = """
import ctypes, json
class Option(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in "keyword variable compiled value label kind".split()]
    _fields_.append(("size", ctypes.c_int))
library = ctypes.CDLL("libpq.so.5")
library.PQconndefaults.restype = ctypes.POINTER(Option)
found, at = library.PQconndefaults(), 0
names = {}
while found[at].keyword:
    names[found[at].keyword.decode()] = (found[at].variable or b"").decode()
    at += 1
print(json.dumps([library.PQlibVersion(), names]))
"""


@pytest.fixture(scope="module")
def library():
    return {"LD_LIBRARY_PATH": str(fetched(NEWEST) / "lib")}


def test_every_option_of_libpq_is_known_with_its_variable(library):
    done = subprocess.run([sys.executable, "-c", LIST], check=True, capture_output=True, **as_user(**library))
    version, names = json.loads(done.stdout)
    assert version // 10000 == NEWEST
    assert {name: variable for name, variable, _ in options() if name not in OTHERS} == names


CASES = [
    (f"{name}={value}", {})
    for name, values in {
        "sslnegotiation": ["postgres", "direct", "bogus", "''"],
        "load_balance_hosts": ["disable", "random", "bogus", "''"],
        "sslcertmode": ["disable", "allow", "bogus", "''"],
        "gssdelegation": ["0", "1", "bogus", "''"],
        "min_protocol_version": ["3.0", "bogus", "''"],
        "max_protocol_version": ["3.0", "3.2", "latest", "bogus", "''"],
        "sslrootcert": ["system"],
        "oauth_issuer": ["''"],
        "oauth_client_id": ["''"],
        "oauth_client_secret": ["''"],
        "oauth_scope": ["''"],
        "scram_client_key": ["''"],
        "scram_server_key": ["''"],
        "sslkeylogfile": ["''"],
    }.items()
    for value in values
] + [
    ("", {variable: value})
    for variable, value in [
        ("PGSSLNEGOTIATION", "postgres"),
        ("PGSSLNEGOTIATION", "bogus"),
        ("PGLOADBALANCEHOSTS", "random"),
        ("PGLOADBALANCEHOSTS", "bogus"),
        ("PGSSLCERTMODE", "bogus"),
        ("PGMAXPROTOCOLVERSION", "latest"),
        ("PGMINPROTOCOLVERSION", "bogus"),
        ("PGGSSDELEGATION", "1"),
        ("PGGSSDELEGATION", "bogus"),
        ("PGSSLNEGOTIATION", ""),
        ("PGLOADBALANCEHOSTS", ""),
        ("PGSSLCERTMODE", ""),
        ("PGMINPROTOCOLVERSION", ""),
        ("PGMAXPROTOCOLVERSION", ""),
    ]
]


@pytest.mark.parametrize("option, environment", CASES)
def test_newer_option_is_read_as_psql_reads_it(option, environment, replay_database, replay_worker, library):
    url = f"{replay_database.url} {option}"
    expected, error = psql(url, **environment, **library)
    found, text = callstats(url, replay_worker.folder, **environment)
    assert (found == "refused") == (expected == "refused"), f"{text}\npsql: {error}"


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://callstats_worker@{socket}:{port}/{db}",
        "postgresql:// callstats_worker @ {socket} : {port} / {db} ? connect_timeout = 5 ",
        "postgresql://callstats_worker@{socket}:{port}/{db}?application_name=a b",
        "postgresql://callstats_worker@{socket}:{port}/{db}?application_name=a%20b",
        "postgresql://callstats_worker@{socket}:{port}/{db}?",
        "postgresql://callstats_worker@{socket}:{port}/{db}?application_name=a&",
        "postgresql://callstats_worker@{socket}:{port}/{db}?application_name=a&&connect_timeout=5",
        "postgresql://callstats_worker@{socket}:{port}/{db}?&application_name=a",
        "postgresql://callstats_worker@{socket}:{port}/{db}?application%5Fname=a",
        "postgresql://callstats_worker@{socket}:1,{socket}:{port}/{db}",
        "postgresql://callstats_worker@{socket}%2C{socket}:1,{port}/{db}",
        "postgresql://callstats_worker@:1,:{port}/{db}?host=%2Fnowhere,{socket}",
        "postgresql://callstats_worker@[]:{port}/{db}?host={socket}",
        "postgresql://callstats_worker@/{db}?host={socket}&port={port}#x",
        " postgresql://callstats_worker@{socket}:{port}/{db}",
        "POSTGRESQL://callstats_worker@{socket}:{port}/{db}",
    ],
)
def test_uri_is_read_as_psql_reads_it(uri, replay_database, replay_worker, library):
    cluster = replay_database.cluster
    socket = str(cluster.folder.path).replace("/", "%2F")
    uri = uri.format(socket=socket, port=cluster.port, db=replay_database.name)
    expected, error = psql(uri, **library)
    found, text = callstats(uri, replay_worker.folder)
    assert (found == "refused") == (expected == "refused"), f"{text}\npsql: {error}"


def test_refused_option_is_one_that_psql_knows(replay_database, library):
    """A refusal says that it is not supported, never that there is no such option."""
    for option in ("require_auth=none", "sslkeylogfile=/dev/null", "oauth_scope=x", "replication=database"):
        _, error = psql(f"{replay_database.url} {option}", **library)
        assert "invalid connection option" not in error, option
    assert 'invalid connection option "bogus"' in psql(f"{replay_database.url} bogus=1", **library)[1]


@pytest.fixture
def two_servers(replay_database, cluster, start):
    """The same tenants twice, in two clusters."""

    other = Cluster(name="other")
    database = other.database(replay_database.name)
    database.script(DATA)
    yield cluster, other
    other.remove()


def test_load_is_balanced_as_in_psql(two_servers, replay_database, replay_worker, library, start):
    first, second = two_servers
    hosts = f"host={first.folder.path},{second.folder.path} port={first.port},{second.port}"
    url = f"{hosts} dbname={replay_database.name} user=callstats_worker application_name=balanced"

    def chosen_by_psql(url):
        done = subprocess.run(
            ["psql", "-X", "-At", "-d", url, "-c", r"\echo :HOST"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            **as_user(**library),
        )
        return done.stdout.strip()

    def chosen_by_us(url):
        _, text = callstats(url, replay_worker.folder)
        return re.search(r"connection +(\S+)/\.s\.PGSQL", text)[1]

    both = {str(first.folder.path), str(second.folder.path)}
    for chosen in (chosen_by_psql, chosen_by_us):
        seen = set()
        wait_until(
            lambda chosen=chosen, seen=seen: seen.add(chosen(f"{url} load_balance_hosts=random")) or seen == both
        )
        for option in ("", "load_balance_hosts=disable"):
            assert {chosen(f"{url} {option}") for _ in range(5)} == {str(first.folder.path)}

    # The connections of a worker, which are replaced all the time.
    worker = start(
        Worker, f"{url} load_balance_hosts=random", CALLSTATS_DB_LIFETIME_MS="50", CALLSTATS_DB_CONNECTIONS="2"
    )

    def is_on(cluster):
        assert worker.ask("GET", DAY).body == BILLING
        count = "select count(*) from pg_stat_activity where application_name = 'balanced'"
        connection = cluster.connect("postgres")
        try:
            with connection.cursor() as cursor:
                cursor.execute(count)
                return cursor.fetchone()[0] > 0
        finally:
            connection.close()

    wait_until(lambda: is_on(first))
    wait_until(lambda: is_on(second))
    second.stop()
    for _ in range(20):
        assert worker.ask("GET", DAY).body == BILLING, "one host is enough"
