"""DATABASE_URL, option by option, against psql in the same surroundings: the same verdict."""

import dataclasses
import re
import subprocess

import pytest

from ..support.postgres import Cluster, Database
from ..support.processes import CALLSTATS, PROJECT, Folder, as_user, free_port
from ..support.sample import DATA
from ..support.worker import ROOT_TOKEN, check


@dataclasses.dataclass
class Server:
    cluster: Cluster
    database: Database
    home: Folder


@pytest.fixture(scope="module")
def server():
    """A port with passwords and a socket without; service and password files in a home folder."""
    cluster = Cluster(["listen_addresses=127.0.0.1,::1"], port=free_port())
    database = cluster.database()
    database.script(DATA)
    cluster.execute("set password_encryption = 'scram-sha-256'; alter role callstats_worker password 'p''s x'")
    (cluster.data / "pg_hba.conf").write_text(
        "local all all trust\nhost all owner all trust\nhost all all all scram-sha-256\n"
    )
    cluster.execute("select pg_reload_conf()")
    home = Folder("home")
    home.write("token", ROOT_TOKEN)
    home.write(
        ".pg_service.conf",
        f"# ours\n[good]\nhost=127.0.0.1\nport={cluster.port}\ndbname={database.name}\nuser=callstats_worker\n"
        "password=p's x\n[bad]\nhost=127.0.0.1\nport=1\n[nested]\nservice=good\n"
        f"[spaced]  # ours \n\t host=127.0.0.1 \r\nport={cluster.port}\n\nport=1\n[around]\nhost = 127.0.0.1\n"
        .encode()
        + b"# f\xfcr [Latin1]\n[translated]\nrequiressl=0\n",
    )
    (home / "system").mkdir(mode=0o755)
    home.write("system/pg_service.conf", (home / ".pg_service.conf").read_bytes(), 0o644)
    home.write(
        "colons",
        f"*:*:*:*\n::1:{cluster.port}:*:callstats_worker:p\\'s x:y\n127.0.0.1:*:*:*:\n*:*:*:*:p's x\n".encode()
        + b"# f\xfcr\n",
    )
    home.write("passwords", f"# x\nelsewhere:*:*:*:no\n127.0.0.1:{cluster.port}:*:callstats_worker:p's x\n")
    home.write("open", "*:*:*:*:p's x\n", 0o644)
    yield Server(cluster, database, home)
    home.remove()
    cluster.remove()


TCP = "host=127.0.0.1 port={port} dbname={db} user=callstats_worker"
GOOD = TCP + r" password='p\'s x'"
SOCKET = "host={socket} port={port} dbname={db} user=callstats_worker"

CASES = [
    (GOOD, {}),
    (TCP, {}),
    (TCP + " password=x", {}),
    (SOCKET, {}),
    ("postgresql://callstats_worker:p%27s%20x@127.0.0.1:{port}/{db}", {}),
    ("postgres://callstats_worker:p%27s%20x@[::1]:{port}/{db}?connect_timeout=5", {}),
    ("postgresql://callstats_worker@/{db}?host={socket}&port={port}", {}),
    ("postgresql://callstats_worker:p%27s+x@127.0.0.1:{port}/{db}", {}),
    ("postgresql:///?service=good", {}),
    ("service=good", {}),
    ("service=none", {}),
    ("service=nested", {}),
    ("service=spaced dbname={db} user=callstats_worker password='p\\'s x'", {}),
    ("service=around dbname={db} user=callstats_worker password='p\\'s x'", {}),
    ("service=bad port={port}", {}),
    ("service=bad", {}),
    ("application_name=x", {"PGSERVICE": "good"}),
    ("user=callstats_worker", {"PGHOST": "127.0.0.1", "PGPORT": "{port}", "PGDATABASE": "{db}", "PGPASSWORD": "p's x"}),
    ("dbname={db}", {"PGHOST": "{socket}", "PGPORT": "{port}", "PGUSER": "callstats_worker"}),
    (TCP + " passfile={home}/passwords", {}),
    (TCP + " passfile={home}/open", {}),
    (TCP + " passfile={home}/colons", {}),
    ("postgresql://callstats_worker@[::1]:{port}/{db}?passfile={home}/colons", {}),
    ("postgresql://callstats_worker@[::1],127.0.0.1:{port}/{db}?passfile={home}/colons", {}),
    (TCP, {"PGPASSFILE": "{home}/passwords"}),
    (TCP + " passfile={home}/nowhere", {}),
    (SOCKET + " hostaddr=127.0.0.1", {}),
    ("hostaddr=127.0.0.1 port={port} dbname={db} user=callstats_worker password='p\\'s x'", {}),
    (GOOD + " hostaddr=x", {}),
    (GOOD + " hostaddr=127.0.0.1,::1", {}),
    (GOOD.replace("127.0.0.1", "127.0.0.1,::1"), {}),
    (GOOD.replace("port={port}", "port=1,{port}"), {}),
    (GOOD.replace("127.0.0.1 port={port}", "/nowhere,127.0.0.1 port={port}"), {}),
    (GOOD.replace("port={port}", "port=0"), {}),
    (GOOD.replace("port={port}", "port=x"), {}),
    *(
        (GOOD + " " + option, {})
        for option in [
            "connect_timeout=5",
            "connect_timeout=0",
            "connect_timeout=-1",
            "connect_timeout=x",
            "client_encoding=UTF8",
            "client_encoding=LATIN1",
            "options='-c work_mem=1MB'",
            "options='-c bogus=1'",
            "options=''",
            "application_name=x",
            "fallback_application_name=x",
            "keepalives=0",
            "keepalives=1",
            "keepalives=x",
            "keepalives=''",
            "keepalives_idle=1",
            "keepalives_interval=1",
            "keepalives_count=2",
            "keepalives_count=x",
            "tcp_user_timeout=1000",
            "tcp_user_timeout=0",
            "tcp_user_timeout=x",
            "replication=off",
            "gssencmode=disable",
            "gssencmode=prefer",
            "gssencmode=bogus",
            "gssencmode=''",
            "replication=''",
            "replication=False",
            "replication=OFF",
            "replication=n",
            "replication=bogus",
            "requiressl=0",
            "requiressl=1",
            "sslmode=''",
            "sslmode=disable requiressl=1",
            "requiressl=1 sslmode=disable",
            "sslmode=disable",
            "sslmode=prefer",
            "sslmode=allow",
            "sslmode=require",
            "sslmode=bogus",
            "sslcompression=0",
            "sslcompression=1",
            "sslcompression=x",
            "sslcompression=''",
            "sslcert=/nowhere",
            "sslkey=/nowhere",
            "sslpassword=x",
            "sslrootcert=/nowhere",
            "sslcrl=/nowhere",
            "sslcrldir=/nowhere",
            "sslsni=0",
            "sslsni=1",
            "sslsni=x",
            "sslsni=''",
            "ssl_min_protocol_version=TLSv1.3",
            "ssl_min_protocol_version=bogus",
            "ssl_min_protocol_version=tlsv1.2",
            "ssl_max_protocol_version=tlsv1.3",
            "ssl_max_protocol_version=''",
            "hostaddr=127.1",
            "hostaddr=0x7f.1",
            "hostaddr=2130706433",
            "hostaddr=::1%lo",
            "hostaddr=::1%nowhere",
            "hostaddr=127.0.0.1%lo",
            "hostaddr=1.2.3.4.5",
            "hostaddr=localhost",
            "hostaddr=''",
            "ssl_max_protocol_version=TLSv1.2",
            "krbsrvname=x",
            "gsslib=gssapi",
            "target_session_attrs=any",
            "target_session_attrs=bogus",
            "target_session_attrs=read-write",
            "target_session_attrs=standby",
            "channel_binding=disable",
            "channel_binding=prefer",
            "channel_binding=require",
            "channel_binding=bogus",
            "bogus=1",
            "password",
            "password='x",
        ]
    ),
    (SOCKET + " requirepeer={user}", {}),
    (SOCKET + " requirepeer=somebody", {}),
    (SOCKET + " sslmode=require", {}),
    (SOCKET + " sslmode=verify-full", {}),
    # Options of TCP alone.
    *(
        (f"{SOCKET} {name}={value}", {})
        for name in ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
        for value in ("x", "''", "1.5")
    ),
    (SOCKET + " connect_timeout=x", {}),
    # An empty variable is an empty value.
    *(
        (GOOD, {variable: value})
        for variable in (
            "PGCHANNELBINDING",
            "PGCONNECT_TIMEOUT",
            "PGGSSENCMODE",
            "PGHOST",
            "PGHOSTADDR",
            "PGOPTIONS",
            "PGPASSWORD",
            "PGPORT",
            "PGREQUIREPEER",
            "PGREQUIRESSL",
            "PGSERVICE",
            "PGSSLCOMPRESSION",
            "PGSSLMODE",
            "PGSSLSNI",
            "PGTARGETSESSIONATTRS",
            "PGUSER",
        )
        for value in ("", "bogus")
    ),
    (TCP, {"PGPASSWORD": "p's x"}),
    (TCP + " password=''", {"PGPASSWORD": "p's x"}),
    (TCP, {"PGPASSWORD": "", "PGPASSFILE": "{home}/passwords"}),
    (GOOD, {"PGREQUIRESSL": "1"}),
    (GOOD, {"PGREQUIRESSL": "1", "PGSSLMODE": "disable"}),
    # Where services are looked for.
    ("service=good", {"PGSERVICEFILE": "{home}/nowhere"}),
    ("service=good", {"PGSERVICEFILE": "{home}/nowhere", "PGSYSCONFDIR": "{home}/system"}),
    ("service=good", {"PGSERVICEFILE": "{home}/token", "PGSYSCONFDIR": "{home}/system"}),
    ("service=good", {"HOME": "/nowhere", "PGSYSCONFDIR": "{home}/system"}),
    ("service=good", {"HOME": "/nowhere", "PGSYSCONFDIR": "/nowhere"}),
    ("service=good", {"PGHOST": "/nowhere", "PGPORT": "1", "PGPASSWORD": "x"}),
    ("service=good host=/nowhere", {}),
    ("service=translated", {}),
    (GOOD.replace("{db}", "none"), {}),
    (GOOD.replace("callstats_worker", "nobody_knows"), {}),
]


def accepts(server, url, environment):
    """Whether psql and callstats get in, and what callstats reports."""
    names = {
        "port": server.cluster.port,
        "db": server.database.name,
        "socket": server.cluster.folder.path,
        "home": server.home.path,
        "user": as_user()["user"] or "",
    }
    names["user"] = (
        names["user"] or subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    )
    url = url.format(**names)
    environment = {
        "HOME": str(server.home.path),
        **{name: value.format(**names) for name, value in environment.items()},
    }
    shown = subprocess.run(
        ["psql", "-X", "-w", "-At", "-d", url, "-c", "select 1"],
        capture_output=True,
        text=True,
        timeout=20,
        **as_user(**environment),
    )
    _, text = check({"DATABASE_URL": url, "CALLSTATS_ROOT_TOKEN_FILE": f"{server.home.path}/token", **environment})
    return (
        url,
        shown.returncode == 0,
        not re.search("^FAIL +(configuration|database)", text, re.MULTILINE),
        text + shown.stderr,
    )


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 6))])
def test_option_is_read_as_psql_reads_it(part, server):
    for url, environment in CASES[part::6]:
        url, by_psql, by_us, text = accepts(server, url, environment)
        assert by_us == by_psql, f"{url} {environment}\n{text}"


def options():
    """The options of the code, with what becomes of them."""
    text = (PROJECT / "src" / "database" / "url" / "options.rs").read_text()
    text = re.sub(r"\s+", " ", text[text.index("pub const OPTIONS") :])
    return re.findall(r'option\( ?"(\w+)", "(\w*)", (\w+)', text)


def test_table_has_every_option():
    rows = re.findall(
        r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (\w+)", (PROJECT / "docs" / "database-url.md").read_text(), re.MULTILINE
    )
    meaning = {"honoured": "Honoured", "accepted": "NoDifference", "refused": "Refused", "partly": "Refused"}
    assert [(name, variable, meaning[word]) for name, variable, word in rows] == options()
    assert len(rows) > 45


def test_refused_option_is_named_with_the_reason(server):
    for option in (
        "require_auth=scram-sha-256",
        "require_auth=''",
        "gssencmode=require",
        "sslkeylogfile=/tmp/keys",
        "scram_client_key=s3cret",
        "oauth_issuer=https://x",
        "min_protocol_version=3.2",
        "sslcertmode=require",
        "replication=database",
        "bogus=s3cret",
    ):
        name = option.partition("=")[0]
        code, text = check({"DATABASE_URL": f"host=/nowhere user=x {option}", "HOME": "/"})
        assert code == 1 and name in text and "s3cret" not in text, text
        assert name == "bogus" or "not supported" in text


def test_value_of_a_variable_is_refused_with_its_name(server):
    for variable, option in (("PGSSLMODE", "sslmode"), ("PGCONNECT_TIMEOUT", "connect_timeout")):
        for value in ("", "s3cret"):
            code, text = check({"DATABASE_URL": "host=/nowhere user=x", variable: value, "HOME": "/"})
            assert code == 1 and f"{option} (of {variable}) is " in text and "s3cret" not in text, text


def test_user_id_without_a_name_is_refused_with_a_hint():
    command = [CALLSTATS, "check"]
    ours = as_user(DATABASE_URL="host=/nowhere", HOME="/")
    ours.update(user=23456, group=23456)
    done = subprocess.run(command, capture_output=True, text=True, **ours)
    assert done.returncode == 1 and "user id 23456 has no name. Fix: give user=" in done.stdout
