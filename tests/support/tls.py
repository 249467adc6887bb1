"""Certificates that people have: both recipes of PostgreSQL's manual, Debian's snakeoil and others, with lists of
revoked ones; servers that present them; and how psql and callstats get in."""

import subprocess

from .postgres import Cluster
from .processes import Folder, as_user, free_port
from .sample import DATA
from .worker import ROOT_TOKEN, check

# What `openssl ca` needs to revoke a certificate.
AUTHORITY = """
[ca]
default_ca = root
[root]
database = index.txt
certificate = root.crt
private_key = root.key
default_md = sha256
default_crl_days = 30
"""


class Certificates:
    """NAME.crt with NAME.key, in a folder of the unprivileged user."""

    def __init__(self):
        self.folder = Folder("tls")
        # "18.9.5. Creating Certificates": a self-signed one, and one of a root of one's own (X.509 version 1).
        self.self_signed("self", "-text")
        self.request("root", "root.example")
        extensions = "-extfile /etc/ssl/openssl.cnf -extensions v3_ca"
        self.openssl(f"x509 -req -in root.csr -text -days 3650 {extensions} -signkey root.key -out root.crt")
        self.request("signed", "localhost")
        self.sign("signed")
        # As make-ssl-cert writes Debian's /etc/ssl/certs/ssl-cert-snakeoil.pem.
        self.self_signed("snakeoil", "-addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE")
        for name, subject, alternative, words in [
            ("address", "other.example", "IP:127.0.0.1", ""),
            ("address_as_name", "127.0.0.1", "DNS:other.example", ""),
            ("wildcard", "x", "DNS:*.localhost", ""),
            ("elsewhere", "localhost", "DNS:other.example", ""),
            ("pss", "localhost", "DNS:localhost", "-sigopt rsa_padding_mode:pss"),
        ]:
            self.request(name, subject)
            self.folder.write(f"{name}.extension", f"subjectAltName={alternative}\n")
            self.sign(name, f"-extfile {name}.extension {words}")
        self.request("client", "callstats_worker")
        self.sign("client")
        self.revoke()
        for path in [path for path in self.folder.path.rglob("*") if path.is_file()]:
            self.folder.write(path.relative_to(self.folder.path), path.read_bytes())

    def __truediv__(self, name):
        return self.folder / name

    def openssl(self, words):
        subprocess.run(["openssl", *words.split()], check=True, capture_output=True, cwd=self.folder.path)

    def self_signed(self, name, words):
        pair = f"-nodes -out {name}.crt -keyout {name}.key"
        self.openssl(f"req -new -x509 -days 365 {pair} -subj /CN=localhost {words}")

    def request(self, name, subject):
        self.openssl(f"req -new -nodes -text -out {name}.csr -keyout {name}.key -subj /CN={subject}")

    def sign(self, name, words=""):
        by_root = "-CA root.crt -CAkey root.key -CAcreateserial"
        self.openssl(f"x509 -req -in {name}.csr -text -days 365 {by_root} {words} -out {name}.crt")

    def revoke(self):
        """Lists of the root, as files and as folders: `none` is empty, `all` has the certificate `signed`."""
        self.folder.write("ca.cnf", AUTHORITY)
        self.folder.write("index.txt", "")
        for name in ("none", "all"):
            self.openssl(f"ca -config ca.cnf -gencrl -out {name}.crl")
            (self.folder / name).mkdir()
            (self.folder / name / "root.crl").write_bytes((self.folder / f"{name}.crl").read_bytes())
            self.openssl(f"rehash {name}")
            if name == "none":
                self.openssl("ca -config ca.cnf -revoke signed.crt")
        (self.folder / "void").mkdir()


class TlsServer:
    """Speaks TLS with any of the certificates, and plainly too."""

    def __init__(self, certificates, version=None):
        self.certificates = certificates
        own = ["listen_addresses=localhost", "ssl=on", f"ssl_ca_file={certificates / 'root.crt'}"]
        self.cluster = Cluster([*own, *self.pair("self")], port=free_port(), version=version)
        database = self.cluster.database()
        database.script(DATA)
        self.url = f"port={self.cluster.port} dbname={database.name} user=callstats_worker"
        self.pair_at = len(self.cluster.settings) - 4

    def pair(self, name):
        return [f"ssl_cert_file={self.certificates / name}.crt", f"ssl_key_file={self.certificates / name}.key"]

    def present(self, name, rules="host all all localhost trust"):
        """Restarts with another certificate."""
        self.cluster.stop()
        self.cluster.settings[self.pair_at :] = [word for setting in self.pair(name) for word in ("-c", setting)]
        (self.cluster.data / "pg_hba.conf").write_text(f"local all all trust\n{rules}\n")
        self.cluster.start()

    def stop(self):
        self.cluster.remove()


def psql(url, **environment):
    """Whether psql gets in, and whether encrypted; else what it printed."""
    done = subprocess.run(
        ["psql", "-X", "-At", "-d", url, "-c", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"],
        capture_output=True,
        text=True,
        timeout=20,
        **as_user(**environment),
    )
    return (done.stdout.strip() if done.returncode == 0 else "refused"), done.stderr


def callstats(url, folder, **environment):
    """The same of callstats, by `callstats check`."""
    token = folder.write("root-token", ROOT_TOKEN)
    _, text = check({"DATABASE_URL": url, "CALLSTATS_ROOT_TOKEN_FILE": str(token), **environment})
    if "FAIL   configuration" in text or "FAIL   database" in text:
        return "refused", text
    return ("f" if "unencrypted" in text or "over a Unix socket" in text else "t"), text


def same(url, certificates, library=(), **environment):
    """Asserts that callstats and psql end alike; returns how. `library` has the variables that choose psql's libpq."""
    found, text = callstats(url, certificates.folder, **environment)
    expected, error = psql(url, **environment, **dict(library))
    assert found == expected, f"{url}\n{text}\npsql: {error}"
    return found
