"""Where the web server starts the worker as www-data: what its file prints on PostgreSQL and the root token, typed as
it stands, with Debian's own PostgreSQL."""
import pytest

from ..support.overlay import printed
from ..support.processes import CALLSTATS
from ..support.sample import DAY_WITHOUT_TOKEN
from ..support.webservers import ApacheCgid, ApacheFcgid, Lighttpd
from ..support.worker import ROOT_TOKEN
from .conftest import debian_postgresql


class Stock:
    """No other PostgreSQL, and the users and files that the package makes."""

    def prepare(self):
        machine = self.machine
        machine.install(CALLSTATS, "/usr/bin/callstats", 0o755)
        machine.run("getent passwd callstats_worker || useradd --system --shell /usr/sbin/nologin callstats_worker")
        machine.run("install -d -m 750 -g callstats_worker /etc/callstats")
        machine.write("/etc/callstats/root-token", ROOT_TOKEN, 0o640)
        machine.run("chgrp callstats_worker /etc/callstats/root-token")
        debian_postgresql(machine)
        self.type("a2dissite 000-default" if "apache" in str(self.file) else "true")
        commands = (line for line in printed(self.file) if not line.startswith("systemctl"))
        self.type(*commands, place=self.file.parent)
        # What `systemctl reload postgresql` comes to.
        machine.run("pg_ctlcluster $(pg_lsclusters -h | awk '{print $1, $2}') reload")


@pytest.mark.parametrize("kind", [ApacheFcgid, ApacheCgid, Lighttpd], ids=lambda kind: kind.__name__)
def test_worker_of_the_web_server_reaches_database_and_token(kind, start):
    server = start(type(kind.__name__, (Stock, kind), {}), {})
    status, _, body = server.ask("GET", DAY_WITHOUT_TOKEN, [("Authorization", f"Bearer {ROOT_TOKEN}")])
    assert status == 200 and body.startswith(b'[{"date":"20260303"'), server.logs()
