"""sslmode and certificates as libpq has them: what psql accepts is accepted, what it refuses is refused."""

import dataclasses
import subprocess

import pytest

from ..support.postgres import Cluster
from ..support.processes import Folder, as_user, free_port
from ..support.sample import DATA, DAY
from ..support.worker import ROOT_TOKEN, Worker, check


class Certificates:
    """Those that people have: both recipes of PostgreSQL's manual, Debian's snakeoil and others."""

    def __init__(self):
        self.folder = folder = Folder("tls")

        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder.path)

        def request(name, subject, *words):
            openssl(
                "req",
                "-new",
                "-nodes",
                "-text",
                "-out",
                f"{name}.csr",
                "-keyout",
                f"{name}.key",
                "-subj",
                f"/CN={subject}",
                *words,
            )

        # "18.9.5. Creating Certificates": a self-signed one, and one of a root of one's own (X.509 version 1).
        openssl(
            "req",
            "-new",
            "-x509",
            "-days",
            "365",
            "-nodes",
            "-text",
            "-out",
            "self.crt",
            "-keyout",
            "self.key",
            "-subj",
            "/CN=localhost",
        )
        request("root", "root.example")
        openssl(
            "x509",
            "-req",
            "-in",
            "root.csr",
            "-text",
            "-days",
            "3650",
            "-extfile",
            "/etc/ssl/openssl.cnf",
            "-extensions",
            "v3_ca",
            "-signkey",
            "root.key",
            "-out",
            "root.crt",
        )
        request("signed", "localhost")
        openssl(
            "x509",
            "-req",
            "-in",
            "signed.csr",
            "-text",
            "-days",
            "365",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-out",
            "signed.crt",
        )
        # As make-ssl-cert writes Debian's /etc/ssl/certs/ssl-cert-snakeoil.pem.
        openssl(
            "req",
            "-new",
            "-x509",
            "-days",
            "365",
            "-nodes",
            "-out",
            "snakeoil.crt",
            "-keyout",
            "snakeoil.key",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=CA:FALSE",
        )
        self.signed("address", "other.example", "subjectAltName=IP:127.0.0.1", openssl, request)
        self.signed("address_as_name", "127.0.0.1", "subjectAltName=DNS:other.example", openssl, request)
        self.signed("wildcard", "x", "subjectAltName=DNS:*.localhost", openssl, request)
        self.signed("elsewhere", "localhost", "subjectAltName=DNS:other.example", openssl, request)
        self.signed(
            "pss", "localhost", "subjectAltName=DNS:localhost", openssl, request, "-sigopt", "rsa_padding_mode:pss"
        )
        request("client", "callstats_worker")
        openssl(
            "x509",
            "-req",
            "-in",
            "client.csr",
            "-days",
            "365",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-out",
            "client.crt",
        )
        for path in list(folder.path.iterdir()):
            folder.write(path.name, path.read_bytes())

    def signed(self, name, subject, extension, openssl, request, *words):
        request(name, subject)
        self.folder.write("extension", extension + "\n")
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-days",
            "365",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-extfile",
            "extension",
            "-out",
            f"{name}.crt",
            *words,
        )

    def __truediv__(self, name):
        return self.folder / name


@pytest.fixture(scope="module")
def certificates():
    certificates = Certificates()
    yield certificates
    certificates.folder.remove()


@dataclasses.dataclass
class Server:
    cluster: Cluster
    url: str


@pytest.fixture(scope="module")
def server(certificates):
    """Speaks TLS with any of the certificates, and plainly too."""
    cluster = Cluster(
        [
            "listen_addresses=localhost",
            "ssl=on",
            f"ssl_cert_file={certificates / 'self.crt'}",
            f"ssl_key_file={certificates / 'self.key'}",
            f"ssl_ca_file={certificates / 'root.crt'}",
        ],
        port=free_port(),
    )
    database = cluster.database()
    database.script(DATA)
    yield Server(cluster, f"port={cluster.port} dbname={database.name} user=callstats_worker")
    cluster.remove()


def present(server, certificates, name, rules="host all all localhost trust"):
    """The server restarts with another certificate."""
    server.cluster.stop()
    wanted = [f"ssl_cert_file={certificates / f'{name}.crt'}", f"ssl_key_file={certificates / f'{name}.key'}"]
    kept = [word for word in server.cluster.settings if not word.startswith(("ssl_cert_file=", "ssl_key_file="))]
    kept = [word for at, word in enumerate(kept) if word != "-c" or (at + 1 < len(kept) and kept[at + 1] != "-c")]
    server.cluster.settings = [*kept, *(word for setting in wanted for word in ("-c", setting))]
    (server.cluster.data / "pg_hba.conf").write_text(f"local all all trust\n{rules}\n")
    server.cluster.start()


def psql(url, **environment):
    """Whether psql gets in, and whether encrypted."""
    done = subprocess.run(
        ["psql", "-X", "-At", "-d", url, "-c", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"],
        capture_output=True,
        text=True,
        timeout=20,
        **as_user(**environment),
    )
    return done.stdout.strip() if done.returncode == 0 else "refused"


def callstats(url, folder, **environment):
    """The same of callstats, by `callstats check`."""
    token = folder.write("root-token", ROOT_TOKEN)
    _, text = check({"DATABASE_URL": url, "CALLSTATS_ROOT_TOKEN_FILE": str(token), **environment})
    if "FAIL   configuration" in text or "FAIL   database" in text:
        return "refused", text
    return ("f" if "unencrypted" in text or "over a Unix socket" in text else "t"), text


MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@pytest.mark.parametrize(
    "name, root",
    [
        ("self", "self"),
        ("signed", "root"),
        ("snakeoil", "snakeoil"),
        ("address", "root"),
        ("address_as_name", "root"),
        ("wildcard", "root"),
        ("elsewhere", "root"),
        ("pss", "root"),
        ("signed", "self"),
    ],
)
def test_certificates_are_verified_as_psql_verifies_them(name, root, server, certificates):
    present(server, certificates, name)
    for host in ("host=localhost", "host=127.0.0.1", "host=db.localhost hostaddr=127.0.0.1"):
        for mode in ("prefer", "require", "verify-ca", "verify-full"):
            url = f"{host} {server.url} sslmode={mode} sslrootcert={certificates / f'{root}.crt'}"
            found, text = callstats(url, certificates.folder)
            assert found == psql(url), f"{url}\n{text}"


@pytest.mark.parametrize(
    "rules", ["hostssl all all localhost trust", "hostnossl all all localhost trust", "host all all localhost trust"]
)
def test_every_sslmode_ends_as_in_psql(rules, server, certificates):
    present(server, certificates, "snakeoil", rules)
    for mode in MODES:
        for root in (
            "",
            f" sslrootcert={certificates / 'snakeoil.crt'}",
            f" sslrootcert={certificates / 'nowhere.crt'}",
        ):
            for host in ("localhost", server.cluster.folder.path):
                url = f"host={host} {server.url} sslmode={mode}{root}"
                found, text = callstats(url, certificates.folder)
                assert found == psql(url), f"{url}\n{text}"


def test_client_certificates_are_presented(server, certificates):
    present(server, certificates, "signed", "hostssl all all localhost cert")
    good = f"sslcert={certificates / 'client.crt'} sslkey={certificates / 'client.key'}"
    certificates.folder.write("open.key", (certificates / "client.key").read_bytes(), 0o644)
    home = Folder("home")
    (home / ".postgresql").mkdir(mode=0o755)
    for source, target in [
        ("client.crt", "postgresql.crt"),
        ("client.key", "postgresql.key"),
        ("root.crt", "root.crt"),
    ]:
        home.write(f".postgresql/{target}", (certificates / source).read_bytes())
    for options, environment in [
        (good, {}),
        ("", {}),
        (f"sslcert={certificates / 'client.crt'} sslkey={certificates / 'nowhere.key'}", {}),
        (f"sslcert={certificates / 'client.crt'} sslkey={certificates / 'open.key'}", {}),
        (f"sslcert={certificates / 'nowhere.crt'}", {}),
        ("sslmode=verify-full", {"HOME": str(home.path)}),
        ("", {"PGSSLCERT": str(certificates / "client.crt"), "PGSSLKEY": str(certificates / "client.key")}),
    ]:
        url = f"host=localhost {server.url} {options}"
        found, text = callstats(url, certificates.folder, **environment)
        assert found == psql(url, **environment), f"{url}\n{text}"
    home.remove()


def test_replaced_root_certificate_applies_to_new_connections(server, certificates, start):
    present(server, certificates, "snakeoil")
    root = certificates.folder.write("changing.crt", (certificates / "self.crt").read_bytes())
    worker = start(
        Worker, f"host=localhost {server.url} sslmode=verify-full sslrootcert={root}", CALLSTATS_DB_WAIT_MS="500"
    )
    assert worker.ask("GET", DAY).status == 503
    assert "certificate verify failed" in worker.text()
    certificates.folder.write("changing.crt", (certificates / "snakeoil.crt").read_bytes())
    answers = {worker.ask("GET", DAY).status for _ in range(4)}
    assert 200 in answers


def test_scram_is_bound_to_the_channel(server, certificates):
    present(server, certificates, "signed", "host all all localhost scram-sha-256")
    server.cluster.execute("set password_encryption = 'scram-sha-256'; alter role callstats_worker password 'p'")
    for options in (
        "password=p channel_binding=require",
        "password=p channel_binding=require sslmode=disable",
        "password=p",
        "password=p channel_binding=disable",
        "password=x",
        "",
    ):
        url = f"host=localhost {server.url} {options}"
        found, text = callstats(url, certificates.folder)
        assert found == psql(url), f"{url}\n{text}"
