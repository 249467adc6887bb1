"""deploy/apache as it is, in Debian's stock Apache, beside its default site and another one."""
import os
import socket

import pytest

from ..support.processes import Folder, wait_until
from ..support.sample import BILLING, DAY
from ..support.webservers import Apache, ApacheCgid, ApacheFcgid
from ..support.worker import ROOT_TOKEN, Worker
from . import errors
from .errors import PATIENCE, REFUSED, TOKEN, UNREADABLE, check_form, parse

OTHER_SITE = """
<VirtualHost *:80>
    ServerName other.example
    DocumentRoot /srv/other
    <Directory /srv/other>
        Require all granted
    </Directory>
    Alias /callstats-probe /srv/other/probe
</VirtualHost>
"""
PATHS = {"/": "index.html", "/stats/": "stats/index.html", "/stats.html": "stats.html", "/callstats-probe": "probe",
         "/statsboard/": "statsboard/index.html", "/stats//acme": "stats/acme"}


class Beside:
    """Debian's default site stays, and another site has a /stats of its own."""

    def prepare(self):
        super().prepare()
        self.machine.write("/etc/apache2/sites-available/other.conf", OTHER_SITE)
        for name in PATHS.values():
            self.machine.write(f"/srv/other/{name}", f"other's {name}")
        self.machine.run("a2ensite 000-default other")


def kinds(*mixins):
    return [type(f"{kind.__name__}", (*mixins, kind), {}) for kind in (Apache, ApacheFcgid, ApacheCgid)]


def start_kind(kind, worker):
    return kind(worker.socket if issubclass(kind, Apache) else worker.environment)


@pytest.fixture(scope="module", params=kinds(), ids=lambda kind: kind.__name__)
def apache(request, replay_worker):
    server = start_kind(request.param, replay_worker)
    yield server
    server.stop()


def test_refused_requests_get_the_documented_form(apache):
    expected = {"TRACE": (405, errors.METHOD), "long URL": (414, errors.TOO_LARGE),
                "path with a broken escape": (400, errors.MALFORMED), "bad header": (400, errors.MALFORMED),
                "bad length": (400, errors.MALFORMED)}
    for name, request in REFUSED.items():
        answer = apache.raw(request.encode("latin-1"), PATIENCE.get(name, 10))
        if name.startswith("CONNECT"):  # no path of ours, and methods of Apache's choice
            assert answer.startswith(b"HTTP/1.1 4") and b'{"error":' in answer
        elif answer.startswith(b"HTTP/"):
            status, headers, body = parse(answer)
            error = check_form(status, headers, body)
            assert status >= 400, name
            if name in expected:
                assert (status, error) == expected.pop(name), name
        else:
            # An old version has no header; a body that Apache passes on is waited for.
            assert name in ("HTTP/3.0", "large body"), name
    assert expected == {}, "each of these was answered"
    for request in UNREADABLE.values():
        answer = apache.raw(request.encode())
        if answer.startswith(b"HTTP/"):
            check_form(*parse(answer))
    apache.ask("GET", "/callstats-probe", [("Referer", f"http://x/?token={TOKEN}")])
    wait_until(lambda: '"[token]" 401' in apache.logs(), what="the access log is written")
    assert TOKEN not in apache.logs()


def test_escaped_slash_belongs_to_a_name(apache):
    status, _, body = apache.ask("GET", f"/stats/acme/support/no%2Fsuch?token={ROOT_TOKEN}")
    assert status == 404 and b"no/such" in body
    bearer = [("Authorization", f"Bearer {ROOT_TOKEN}")]
    status, headers, _ = apache.ask("GET", "/stats/acme/support?daterange=20260303", bearer)
    assert status == 200 and headers["content-security-policy"] == "default-src 'none'"


@pytest.mark.parametrize("kind", kinds(Beside), ids=lambda kind: kind.__name__)
def test_other_sites_stay_as_they_are(kind, replay_worker, start):
    server = start(start_kind, kind, replay_worker)
    host = [("Host", "stats.example")]
    assert server.ask("GET", DAY, host)[0] == 200
    assert server.ask("GET", "/callstats-probe", host)[0] == 200
    for name, request in REFUSED.items():
        server.raw(request.encode("latin-1"), PATIENCE.get(name, 10))
    for path, name in PATHS.items():
        status, headers, body = server.ask("GET", path, [("Host", "other.example")])
        assert (status, body) == (200, f"other's {name}".encode()), path
        assert not {"content-security-policy", "cache-control", "x-content-type-options"} & set(headers)
    for path in ("/none", "/stats/a%2Fb"):
        status, headers, body = server.ask("GET", path, [("Host", "other.example")])
        assert status == 404 and b"<h1>Not Found</h1>" in body
        assert headers["content-type"] == "text/html; charset=iso-8859-1"
    status, headers, body = server.ask("GET", "/stats/acme/support", [("Host", "x.example")])
    assert status == 404 and b"<h1>Not Found</h1>" in body, "the default site has no such path"
    logs = server.logs()
    assert ROOT_TOKEN not in logs
    quoting = [line for line in logs.splitlines() if TOKEN in line]
    # Only what has no readable request line, or two hosts, is the default site's.
    assert all(" 400 " in line or "Invalid" in line or " 414 " in line or " 505 " in line for line in quoting), quoting


# Sites with an older address of the API, as Apache's users write them.
OLD_PROXIES = {
    "rewritten to a proxy": r"""RewriteEngine On
        RewriteRule "^/api/v1/(.*)$" "unix:/run/callstats/callstats.sock|fcgi://callstats/stats/$1" [P]""",
    "rewritten and passed through": r"""RewriteEngine On
        RewriteRule "^/api/v1/(.*)$" "/stats/$1" [PT]
        ProxyPass "/stats" "unix:/run/callstats/callstats.sock|fcgi://callstats/stats" """,
    "mapped": """ProxyPass "/api/v1" "unix:/run/callstats/callstats.sock|fcgi://callstats/stats" mapping=encoded""",
    "matched": """ProxyPassMatch "^/api/v1/(.*)$" "unix:/run/callstats/callstats.sock|fcgi://callstats/stats/$1" """,
    "with a handler": r"""RewriteEngine On
        RewriteRule "^/api/v1/(.*)$" "/stats/$1" [PT]
        <Location "/stats">
            SetHandler "proxy:unix:/run/callstats/callstats.sock|fcgi://callstats/"
        </Location>""",
}
OLD_EXECUTABLES = {
    kind: rf"""RewriteEngine On
        RewriteRule "^/api/v1/(.*)$" "/stats/$1" [PT]
        ScriptAlias "/stats" "/usr/bin/callstats"
        <Location "/stats">
            SetHandler {handler}
            Require all granted
        </Location>
        {variable} DATABASE_URL "host=/var/run/postgresql dbname=calls user=callstats_worker"
        {variable} CALLSTATS_ROOT_TOKEN_FILE /etc/callstats/root-token
        {variable} CALLSTATS_PATH_SOURCE path-info"""
    for kind, handler, variable in (
        (ApacheFcgid, "fcgid-script", "FcgidInitialEnv"), (ApacheCgid, "cgi-script", "SetEnv"))
}


class Rewriting:
    """Beside the shipped site."""

    old = ""

    def prepare(self):
        super().prepare()
        site = f"<VirtualHost *:80>\n    ServerName old.example\n    {self.old}\n</VirtualHost>\n"
        self.machine.write("/etc/apache2/sites-available/old.conf", site)
        self.machine.run("a2enmod rewrite && a2ensite old")


def assert_answered_by_the_new_path(server):
    old = [("Host", "old.example")]
    for path in (DAY, DAY.replace("Billing", "B%69lling")):
        status, _, body = server.ask("GET", path.replace("/stats/", "/api/v1/"), old)
        assert (status, body) == (200, BILLING), path
    status, _, body = server.ask("GET", f"/api/v1/acme/support/no%20such%25?token={ROOT_TOKEN}", old)
    assert status == 404 and b"no such%" in body


@pytest.mark.parametrize("how", OLD_PROXIES)
def test_addresses_that_the_proxy_rewrites_are_answered_by_their_new_path(how, replay_database, start):
    worker = start(Worker, replay_database.url, CALLSTATS_PATH_SOURCE="path-info")
    server = start(type("RewritingProxy", (Rewriting, Apache), {"old": OLD_PROXIES[how]}), worker.socket)
    assert_answered_by_the_new_path(server)
    # The shipped site has no other addresses than before.
    host = [("Host", "stats.example")]
    assert server.ask("GET", DAY, host)[2] == BILLING
    for name, shown in (("no%20such%25", b"no such%"), ("no%2Fsuch", b"no/such")):
        status, _, body = server.ask("GET", f"/stats/acme/support/{name}?token={ROOT_TOKEN}", host)
        assert status == 404 and shown in body
    # Without the variable the path that the client sent counts.
    unaware = start(Worker, replay_database.url)
    server.machine.run(["ln", "-sf", unaware.socket, "/run/callstats/callstats.sock"])
    server.machine.run(["chmod", "o+x", os.path.dirname(unaware.socket)])
    server.machine.run(["chmod", "o+rw", unaware.socket])
    server.machine.run("apache2ctl restart")
    wait_until(lambda: server.ask("GET", DAY, host)[2] == BILLING)
    assert server.ask("GET", DAY.replace("/stats/", "/api/v1/"), [("Host", "old.example")])[0] == 404


@pytest.mark.parametrize("kind", OLD_EXECUTABLES, ids=lambda kind: kind.__name__)
def test_addresses_that_apache_rewrites_are_answered_by_their_new_path(kind, replay_worker, start):
    rewriting = type("RewritingScript", (Rewriting, kind), {"old": OLD_EXECUTABLES[kind]})
    server = start(rewriting, replay_worker.environment)
    assert_answered_by_the_new_path(server)


HTACCESS = r"""RewriteEngine On
RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteRule ^statistics/(.*)$ /stats/$1 [L]
"""


class Shared(Rewriting):
    """As on shared hosting: the header is passed on in a .htaccess file, whose rules redirect internally."""

    def prepare(self):
        self.machine.write("/srv/old/.htaccess", HTACCESS)
        super().prepare()


@pytest.mark.parametrize("kind", [Apache, *OLD_EXECUTABLES], ids=lambda kind: kind.__name__)
def test_header_that_a_redirect_renames_counts(kind, replay_worker, replay_database, start):
    if kind is Apache:
        started = start(Worker, replay_database.url, CALLSTATS_PATH_SOURCE="path-info").socket
        answering = OLD_PROXIES["rewritten and passed through"]
    else:
        started, answering = replay_worker.environment, OLD_EXECUTABLES[kind]
    folder = """DocumentRoot /srv/old
        <Directory /srv/old>
            AllowOverride All
            Require all granted
        </Directory>"""
    server = start(type("SharedHost", (Shared, kind), {"old": f"{answering}\n{folder}"}), started)
    path = DAY.replace("/stats/", "/statistics/").replace(f"token={ROOT_TOKEN}&", "")
    for token, expected in ((ROOT_TOKEN, 200), ("wrong", 401)):
        headers = [("Host", "old.example"), ("Authorization", f"Bearer {token}")]
        status, _, body = server.ask("GET", path, headers)
        assert status == expected and (status != 200 or body == BILLING), body
    assert server.ask("GET", path, [("Host", "old.example")])[0] == 401


@pytest.mark.parametrize("kind", ["missing", "denied", "silent"])
def test_unreachable_worker_is_503_and_explained(kind, replay_worker, start):
    folder = Folder("away")
    path = str(folder / "socket")
    listener = socket.socket(socket.AF_UNIX)
    if kind != "missing":
        listener.bind(path)
        listener.listen(1)
    server = start(Apache, path)
    if kind == "denied":
        os.chmod(path, 0o600)
    elif kind == "silent":
        listener.close()
    for _ in range(2):
        status, headers, body = server.ask("GET", f"/stats/acme/support?token={TOKEN}")
        assert status == 503 and headers["retry-after"] == "1"
        assert check_form(status, headers, body) == errors.UNAVAILABLE
    cause = {"missing": "(2)No such file or directory", "denied": "(13)Permission denied",
             "silent": "(111)Connection refused"}[kind]
    assert cause in server.logs() and "/run/callstats/callstats.sock" in server.logs()
    assert TOKEN not in server.logs()
    # It is served again as soon as the worker is there.
    server.machine.run(["ln", "-sf", replay_worker.socket, "/run/callstats/callstats.sock"])
    server.machine.run(["chmod", "o+x", os.path.dirname(replay_worker.socket)])
    server.machine.run(["chmod", "o+rw", replay_worker.socket])
    assert server.ask("GET", DAY)[0] == 200
    folder.remove()
