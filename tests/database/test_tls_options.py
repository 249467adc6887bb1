"""Lists of revoked certificates, the system's roots and TLS from the first byte on, against real servers, beside psql
with the libpq of PostgreSQL 18."""

import pytest

from ..support.postgres import fetched
from ..support.processes import Folder
from ..support.sample import BILLING, DAY
from ..support.tls import TlsServer, callstats, same
from ..support.worker import Worker

NEWEST = 18
VERIFYING = ["require", "verify-ca", "verify-full"]


@pytest.fixture(scope="module")
def newest_server(certificates):
    server = TlsServer(certificates, NEWEST)
    server.present("signed")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def library():
    return {"LD_LIBRARY_PATH": str(fetched(NEWEST) / "lib")}


@pytest.mark.slow
def test_revoked_certificates_are_refused_as_in_psql(tls_server, certificates, library):
    files = [f"sslcrl={certificates / name}.crl" for name in ("none", "all", "nowhere")]
    folders = [f"sslcrldir={certificates / name}" for name in ("none", "all", "nowhere", "void")]
    both = [f"{file} {folder}" for file in files for folder in folders]
    unusual = [f"sslcrl={certificates / name}" for name in ("root.key", "root.crt", "all")]
    unusual += [f"sslcrldir={certificates / 'all.crl'}"]
    cases = [("verify-full", options, {}) for options in ["", *files, *folders, *both, *unusual]]
    cases += [(mode, options, {}) for mode in ("prefer", "require", "verify-ca") for options in ["", *files]]
    home = Folder("home")
    (home / ".postgresql").mkdir(mode=0o755)
    home.write(".postgresql/root.crl", (certificates / "all.crl").read_bytes())
    for environment in (
        {"HOME": str(home.path)},
        {"PGSSLCRL": str(certificates / "all.crl")},
        {"PGSSLCRLDIR": str(certificates / "all")},
    ):
        cases += [("verify-full", options, environment) for options in ("", files[0], folders[0])]
    found = set()
    for mode, options, environment in cases:
        url = f"host=localhost {tls_server.url} sslmode={mode} sslrootcert={certificates / 'root.crt'} {options}"
        found.add(same(url, certificates, library, **environment))
    assert found == {"t", "f", "refused"}, "prefer continues unencrypted"
    url = f"host=localhost {tls_server.url} sslmode=require sslcrl={certificates / 'all.crl'}"
    assert same(url, certificates, library) == "t", "without a root nothing is verified"
    home.remove()


def test_revocation_counts_for_new_connections(tls_server, certificates, start):
    crl = certificates.folder.write("changing.crl", (certificates / "none.crl").read_bytes())
    root = certificates / "root.crt"
    worker = start(
        Worker,
        f"host=localhost {tls_server.url} sslmode=verify-full sslrootcert={root} sslcrl={crl}",
        CALLSTATS_DB_LIFETIME_MS="100",
        CALLSTATS_DB_WAIT_MS="500",
    )
    assert worker.ask("GET", DAY).body == BILLING
    certificates.folder.write("changing.crl", (certificates / "all.crl").read_bytes())
    answer = None
    while answer is None or answer.status == 200:
        answer = worker.ask("GET", DAY)
    assert answer.status == 503 and "certificate revoked" in worker.text()


def test_roots_of_the_system_are_used_as_in_psql(tls_server, certificates, library):
    ours = {"SSL_CERT_FILE": str(certificates / "root.crt")}
    url = f"host=localhost {tls_server.url} sslrootcert=system"
    assert same(url, certificates, library, **ours) == "t"
    assert same(url, certificates, library) == "refused"
    assert same(f"host=127.0.0.1 {tls_server.url} sslrootcert=system", certificates, library, **ours) == "refused"
    for mode in ("prefer", "require", "verify-ca"):
        assert same(f"{url} sslmode={mode}", certificates, library, **ours) == "refused"
    assert same(f"{url} sslmode=verify-full", certificates, library, **ours) == "t"
    url = f"host=localhost {tls_server.url}"
    assert same(url, certificates, library, PGSSLROOTCERT="system", **ours) == "t"
    assert same(url, certificates, library, PGSSLROOTCERT="system") == "refused"


@pytest.mark.parametrize("mode", [*(pytest.param(mode, marks=pytest.mark.slow) for mode in ("disable", "allow")),
                                  "prefer", *VERIFYING])
def test_direct_negotiation_ends_as_in_psql(mode, tls_server, newest_server, certificates, library):
    """Only PostgreSQL 17 and newer take TLS without being asked for it."""
    for server in (tls_server, newest_server):
        for host in ("localhost", "127.0.0.1", server.cluster.folder.path):
            for root in ("", f"sslrootcert={certificates / 'root.crt'}"):
                url = f"host={host} {server.url} sslmode={mode} {root} sslnegotiation=direct"
                found = same(url, certificates, library)
                if server is newest_server and host == "localhost" and (mode, bool(root)) == ("verify-full", True):
                    assert found == "t"


def test_direct_negotiation_binds_the_login_to_the_channel(newest_server, certificates, library, start):
    newest_server.present("signed", "hostssl all all localhost scram-sha-256")
    newest_server.cluster.execute(
        "set password_encryption = 'scram-sha-256'; alter role callstats_worker password 'p'"
    )
    url = f"host=localhost {newest_server.url} sslnegotiation=direct sslmode=verify-full channel_binding=require"
    url = f"{url} sslrootcert={certificates / 'root.crt'}"
    assert same(f"{url} password=p", certificates, library) == "t"
    assert same(f"{url} password=x", certificates, library) == "refused"
    assert start(Worker, f"{url} password=p").ask("GET", DAY).body == BILLING
    newest_server.present("signed")


@pytest.mark.parametrize("version", ["TLSv1.1", "TLSv1.2", "TLSv1.3"])
def test_protocol_versions_are_held_to_as_in_psql(version, tls_server, certificates, library):
    for option in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        for low, high in (("", "TLSv1.2"), ("TLSv1.3", "")):
            tls_server.cluster.execute(f"alter system set ssl_min_protocol_version = '{low or 'TLSv1.2'}'")
            tls_server.cluster.execute(f"alter system set ssl_max_protocol_version = '{high}'")
            tls_server.cluster.execute("select pg_reload_conf()")
            url = f"host=localhost {tls_server.url} sslmode=require {option}={version}"
            same(url, certificates, library)
    tls_server.cluster.execute("alter system reset all")
    tls_server.cluster.execute("select pg_reload_conf()")
    assert callstats(f"host=localhost {tls_server.url} sslmode=require", certificates.folder)[0] == "t"
