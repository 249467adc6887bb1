"""sslmode and certificates as libpq has them: what psql accepts is accepted, what it refuses is refused."""

import pytest

from ..support.processes import Folder
from ..support.sample import DAY
from ..support.tls import same
from ..support.worker import Worker

MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@pytest.mark.parametrize(
    "name, root",
    [
        ("signed", "root"),
        ("address", "root"),
        ("elsewhere", "root"),
        ("signed", "self"),
        *(pytest.param(name, root, marks=pytest.mark.slow) for name, root in (
            ("self", "self"), ("snakeoil", "snakeoil"), ("address_as_name", "root"), ("wildcard", "root"),
            ("pss", "root"))),
    ],
)
def test_certificates_are_verified_as_psql_verifies_them(name, root, tls_server, certificates):
    tls_server.present(name)
    for host in ("host=localhost", "host=127.0.0.1", "host=db.localhost hostaddr=127.0.0.1"):
        for mode in ("prefer", "require", "verify-ca", "verify-full"):
            url = f"{host} {tls_server.url} sslmode={mode} sslrootcert={certificates / f'{root}.crt'}"
            same(url, certificates)


@pytest.mark.parametrize("rules", [
    "host all all localhost trust",
    *(pytest.param(f"{kind} all all localhost trust", marks=pytest.mark.slow) for kind in ("hostssl", "hostnossl")),
])
def test_every_sslmode_ends_as_in_psql(rules, tls_server, certificates):
    tls_server.present("snakeoil", rules)
    for mode in MODES:
        for root in (
            "",
            f" sslrootcert={certificates / 'snakeoil.crt'}",
            f" sslrootcert={certificates / 'nowhere.crt'}",
        ):
            for host in ("localhost", tls_server.cluster.folder.path):
                url = f"host={host} {tls_server.url} sslmode={mode}{root}"
                same(url, certificates)


def test_client_certificates_are_presented(tls_server, certificates):
    tls_server.present("signed", "hostssl all all localhost cert")
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
        url = f"host=localhost {tls_server.url} {options}"
        same(url, certificates, **environment)
    home.remove()


def test_unusable_root_certificate_ends_as_in_psql(tls_server, certificates):
    """`prefer` continues without encryption; the others end."""
    tls_server.present("signed", "host all all localhost trust")
    root = (certificates / "root.crt").read_bytes()
    files = {"junk.pem": b"junk\n", "empty.pem": b"", "commented.pem": b"# ours\n" + root}
    for name, content in files.items():
        certificates.folder.write(name, content, 0o644)
    certificates.folder.write("closed.pem", root, 0o000)
    certificates.folder.write("open-client.key", (certificates / "client.key").read_bytes(), 0o644)
    options = [f"sslrootcert={certificates / name}" for name in (*files, "closed.pem", "void")]
    options += [f"sslcert={certificates / 'client.crt'} sslkey={certificates / 'open-client.key'}"]
    found = {mode: {same(f"host=localhost {tls_server.url} sslmode={mode} {option}", certificates)
                    for option in options} for mode in MODES}
    assert found["prefer"] == {"f", "t"} and found["require"] == {"refused", "t"}


def test_replaced_root_certificate_applies_to_new_connections(tls_server, certificates, start):
    tls_server.present("snakeoil")
    root = certificates.folder.write("changing.crt", (certificates / "self.crt").read_bytes())
    worker = start(
        Worker, f"host=localhost {tls_server.url} sslmode=verify-full sslrootcert={root}", CALLSTATS_DB_WAIT_MS="500"
    )
    assert worker.ask("GET", DAY).status == 503
    assert "certificate verify failed" in worker.text()
    certificates.folder.write("changing.crt", (certificates / "snakeoil.crt").read_bytes())
    answers = {worker.ask("GET", DAY).status for _ in range(4)}
    assert 200 in answers


def test_scram_is_bound_to_the_channel(tls_server, certificates):
    tls_server.present("signed", "host all all localhost scram-sha-256")
    tls_server.cluster.execute("set password_encryption = 'scram-sha-256'; alter role callstats_worker password 'p'")
    for options in (
        "password=p channel_binding=require",
        "password=p channel_binding=require sslmode=disable",
        "password=p",
        "password=p channel_binding=disable",
        "password=x",
        "",
    ):
        url = f"host=localhost {tls_server.url} {options}"
        same(url, certificates)
