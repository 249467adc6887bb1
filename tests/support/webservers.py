"""Real web servers in front of the worker, each on a machine of its own in Debian's stock layout, with the files that
the project ships, byte for byte, installed by the commands that they print."""
import contextlib
import http.client
import os
import pathlib
import pwd
import re

from .overlay import Machine, printed
from .processes import CALLSTATS, PROJECT, wait_until

WEB_USER = "www-data"


class WebServer:
    """A web server on port 80 of a machine of its own: the port's only site, so that any host name leads to it."""
    logs_folder = None

    def __init__(self):
        self.machine = Machine()
        try:
            self.machine.run("echo 127.0.0.1 stats.example >>/etc/hosts")
            # Where the documented commands are typed: in a checkout.
            self.machine.run(["ln", "-s", PROJECT, "/root/checkout"])
            self.prepare()
            self.start()
            wait_until(self.machine.accepts, 30, "the web server accepts")
        except BaseException:
            # For whoever has to find out why.
            print(self.machine.try_run(f"ps -ef; tail -n 50 /var/log/{self.logs_folder}/*; ss -ltn", 20).stdout)
            self.machine.stop()
            raise
        self.relay_port = None

    def prepare(self):
        """All that an operator does before the web server is started."""

    def start(self):
        """Starts it, or reloads its configuration."""
        raise NotImplementedError

    def type(self, *commands, place=PROJECT):
        """Types commands as they are printed, in a checkout or one of its folders."""
        for command in commands:
            self.machine.run(f"cd /root/checkout/{place.relative_to(PROJECT)} && {command}")

    def install(self, file):
        """As the shipped file prints it."""
        self.type(*commands(file), place=file.parent)

    # Where programs outside of the machine find it.

    @property
    def port(self):
        """A port of this machine that leads to it."""
        if self.relay_port is None:
            self.relay_port = self.machine.relay()
        return self.relay_port

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout=60, source="127.0.0.1"):
        """A connection straight to it, from an address of its own if need be: limits count addresses."""
        return self.machine.connect(80, source, timeout)

    def entering(self, command):
        """The command that runs another one where it is http://stats.example."""
        return self.machine.entering(command)

    def client(self, timeout=60, source="127.0.0.1"):
        """An HTTP client that is connected straight to it."""
        client = http.client.HTTPConnection("stats.example", timeout=timeout)
        client._create_connection = lambda *_, **__: self.connect(timeout, source)
        return client

    def ask(self, method, uri, headers=(), body=b"", timeout=60, source="127.0.0.1"):
        connection = self.client(timeout, source)
        with contextlib.closing(connection):
            connection.putrequest(method, uri, skip_accept_encoding=True, skip_host="Host" in dict(headers))
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def raw(self, request, timeout=10):
        """Sends bytes; returns what comes back until the connection ends."""
        with self.connect(timeout) as connection:
            answer = b""
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            with contextlib.suppress(ConnectionError, TimeoutError):
                while data := connection.recv(65536):
                    answer += data
            return answer

    def logs(self):
        """All that the web server has logged, in all of its files."""
        files = sorted(self.machine.path(f"/var/log/{self.logs_folder}").rglob("*"))
        return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())

    def stop(self):
        self.machine.stop()


class WithPage:
    """The page is installed as docs/page.md says, but for the package that tests/run has installed."""

    def prepare(self):
        super().prepare()
        text = (PROJECT / "docs" / "page.md").read_text()
        lines = re.findall(r"^    (sudo .*)$", text, re.MULTILINE)
        assert [line.split()[1] for line in lines] == ["apt", "mkdir", "cp"]
        self.type(*lines[1:])


class InFrontOfWorker:
    """A worker runs by itself: its socket is at the documented path, and in the web server's group."""

    def __init__(self, worker_socket):
        self.socket = str(worker_socket)
        super().__init__()

    def prepare(self):
        super().prepare()
        group = pwd.getpwnam(WEB_USER).pw_gid
        for path, mode in ((pathlib.Path(self.socket).parent, 0o750), (pathlib.Path(self.socket), 0o660)):
            if path.exists() and str(path).startswith("/tmp/"):
                os.chown(path, -1, group)
                path.chmod(mode | path.stat().st_mode)
        self.machine.run(["ln", "-s", self.socket, "/run/callstats/callstats.sock"])


class StartsWorker:
    """The web server starts the executable: what its file names is where it says, and the database as well."""

    def __init__(self, environment):
        self.environment = environment
        super().__init__()

    def prepare(self):
        super().prepare()
        parts = dict(part.split("=", 1) for part in self.environment["DATABASE_URL"].split())
        assert parts["dbname"] == "calls" and parts["port"] == "5432", "as the files have it"
        self.machine.install(CALLSTATS, "/usr/bin/callstats", 0o755)
        self.machine.install(CALLSTATS, "/usr/local/bin/callstats", 0o755)
        self.machine.run(["ln", "-s", parts["host"], "/run/postgresql"])
        self.machine.run("getent group callstats_worker >/dev/null || groupadd --system callstats_worker")
        self.machine.run("install -d -m 750 -g callstats_worker /etc/callstats")
        self.machine.install(self.environment["CALLSTATS_ROOT_TOKEN_FILE"], "/etc/callstats/root-token", 0o640)
        self.machine.run("chgrp callstats_worker /etc/callstats/root-token")
        os.chmod(parts["host"], 0o755)


def commands(file):
    """The commands that a shipped file prints, but for those about services and PostgreSQL, of which none runs here."""
    return [line for line in printed(file) if not line.startswith("systemctl ") and "postgresql" not in line]


class Nginx(InFrontOfWorker, WebServer):
    """nginx with nginx.conf.example."""
    logs_folder, file = "nginx", PROJECT / "nginx.conf.example"

    def prepare(self):
        super().prepare()
        self.machine.run("rm /etc/nginx/sites-enabled/default && nginx")  # it runs, and listens on no port yet

    def start(self):
        self.install(self.file)

    def switch_on_cache(self):
        """As the file says."""
        before = self.machine.run("pgrep -P $(cat /run/nginx.pid)").split()
        lines = (line.strip() for line in self.file.read_text().splitlines() if line.startswith("        #     "))
        self.type(*(line.removeprefix("#     ") for line in lines))
        wait_until(lambda: not set(before) & set(self.machine.run("pgrep -P $(cat /run/nginx.pid)").split()), 15,
                   "the old processes are gone")


class NginxCgi(StartsWorker, WebServer):
    """nginx in front of fcgiwrap, which starts the executable for each request as plain CGI."""
    logs_folder = "nginx"

    def prepare(self):
        super().prepare()
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        self.machine.run(["chmod", "o+rx", "/etc/callstats"])
        self.machine.run(["chmod", "o+r", "/etc/callstats/root-token"])
        self.machine.run(["env", *variables, "CALLSTATS_ROOT_TOKEN_FILE=/etc/callstats/root-token",
                          "spawn-fcgi", "-s", "/run/callstats/callstats.sock", "-U", WEB_USER, "-u", WEB_USER,
                          "-g", WEB_USER, "-P", "/run/fcgiwrap.pid", "--", "/usr/sbin/fcgiwrap", "-c", "4"])
        self.machine.run("rm /etc/nginx/sites-enabled/default && nginx")

    def start(self):
        self.install(Nginx.file)


class Apache(InFrontOfWorker, WebServer):
    """Apache with one of the files in deploy/apache; a worker of its own listens."""
    logs_folder, file = "apache2", PROJECT / "deploy" / "apache" / "callstats-proxy.conf"

    def prepare(self):
        super().prepare()
        self.type("a2dissite 000-default")
        self.install(self.file)

    def start(self):
        self.machine.run("apache2ctl start")


class ApacheFcgid(StartsWorker, WebServer):
    """mod_fcgid."""
    logs_folder, file = "apache2", PROJECT / "deploy" / "apache" / "callstats-fcgid.conf"

    def prepare(self):
        super().prepare()
        self.type("a2dissite 000-default")
        self.install(self.file)

    start = Apache.start


class ApacheCgid(ApacheFcgid):
    """mod_cgid."""
    file = PROJECT / "deploy" / "apache" / "callstats-cgid.conf"


class Lighttpd(StartsWorker, WebServer):
    """lighttpd with deploy/lighttpd/callstats.conf, which starts the worker, and nothing else."""
    logs_folder, file = "lighttpd", PROJECT / "deploy" / "lighttpd" / "callstats.conf"

    def prepare(self):
        super().prepare()
        self.install(self.file)

    def start(self):
        self.machine.run("lighttpd -f /etc/lighttpd/lighttpd.conf")


SYSLOG = """import os, socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
while True: print(log.recv(65536).decode(errors="replace"), flush=True)"""


class HAProxy(InFrontOfWorker, WebServer):
    """With the folder of the socket instead of a link: the chroot sees no link's target outside of it."""
    logs_folder, file = "haproxy", PROJECT / "deploy" / "haproxy" / "callstats.cfg"

    def prepare(self):
        super().prepare()
        folder, name = os.path.split(self.socket)
        if os.path.isdir(folder):
            self.machine.run(["mount", "--bind", folder, "/run/callstats"])
            self.machine.run(["ln", "-sf", name, "/run/callstats/callstats.sock"])
        self.install(self.file)

    def start(self):
        # Without rsyslog, whose socket in the chroot Debian's package configures.
        self.machine.run("mkdir -p /var/lib/haproxy/dev /var/log/haproxy")
        self.machine.run(f"python3 -c '{SYSLOG}' /var/lib/haproxy/dev/log >/var/log/haproxy/haproxy.log 2>&1 &")
        wait_until(self.machine.path("/var/lib/haproxy/dev/log").exists, what="the system log listens")
        options = self.machine.run(". /etc/default/haproxy; echo $EXTRAOPTS").split()
        self.machine.run("mkdir -p /run/haproxy")
        self.machine.run(["haproxy", "-D", "-f", "/etc/haproxy/haproxy.cfg", *options])


class Caddy(InFrontOfWorker, WebServer):
    logs_folder, file = "caddy", PROJECT / "deploy" / "caddy" / "Caddyfile"

    def prepare(self):
        super().prepare()
        self.install(self.file)

    def start(self):
        self.machine.run("mkdir -p /var/log/caddy && chown caddy /var/log/caddy")
        self.machine.run("sysctl -q -w net.ipv4.ip_unprivileged_port_start=0")
        self.machine.run("runuser -u caddy -- sh -c 'HOME=/var/lib/caddy exec caddy run --config /etc/caddy/Caddyfile "
                         "--adapter caddyfile' >/var/log/caddy/caddy.log 2>&1 &")
