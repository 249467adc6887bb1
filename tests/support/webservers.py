"""Real web servers in front of the worker, with the configurations that the project ships, unchanged but for paths."""
import contextlib
import http.client
import re
import subprocess

from .processes import CALLSTATS, GROUP, PROJECT, USER, Folder, Process, accepts, as_user, free_port, wait_until


def changed(text, *changes):
    """The text with each of the changes, all of which must apply."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, str(new))
    return text


class WebServer:
    """A web server on a free port; subclasses write its configuration and name its command."""

    def __init__(self):
        self.folder = Folder(type(self).__name__.lower())
        for _ in range(5):  # somebody else can take the port first
            self.port = free_port()
            self.process = Process(self.command(), self.folder / "stderr.log")
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: accepts(self.port) or self.process.popen.poll() is not None, 15)
                if self.process.popen.poll() is None:
                    return
        raise RuntimeError(self.logs())

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def logs(self):
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.path.rglob("*.log")))

    def ask(self, method, uri, headers=(), body=b"", timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.putrequest(method, uri, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def stop(self):
        self.process.stop()
        self.folder.remove()


class Nginx(WebServer):
    """nginx with nginx.conf.example."""

    def __init__(self, socket, changes=()):
        self.socket, self.changes = socket, changes
        super().__init__()

    def site(self):
        return changed(
            (PROJECT / "nginx.conf.example").read_text(),
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("unix:/run/callstats/callstats.sock", f"unix:{self.socket}"),
            ("/var/log/nginx", self.folder.path),
            *self.changes,
        )

    def command(self):
        temporary = "\n".join(f"{kind}_temp_path {self.folder / kind};"
                              for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "cache").mkdir(exist_ok=True)
        (self.folder / "cache").chmod(0o777)
        self.folder.write("site.conf", self.site())
        self.folder.write("nginx.conf", f"""
            daemon off; pid {self.folder / 'pid'}; error_log {self.folder / 'error.log'};
            worker_processes 2;
            events {{ worker_connections 1024; }}
            http {{ {temporary} access_log off; include {self.folder / 'site.conf'}; }}
        """)
        command = ["nginx", "-p", self.folder.path, "-c", self.folder / "nginx.conf"]
        subprocess.run([str(word) for word in [*command, "-t"]], check=True, capture_output=True, **as_user())
        return command


class NginxCgi(Nginx):
    """nginx in front of fcgiwrap, which starts the executable for each request as plain CGI."""

    def __init__(self, environment):
        self.wrap_folder = Folder("fcgiwrap")
        self.wrap_socket = str(self.wrap_folder / "socket")
        self.wrap = Process(["spawn-fcgi", "-n", "-s", self.wrap_socket, "--", "/usr/sbin/fcgiwrap", "-f", "-c", "4"],
                            self.wrap_folder / "cgi.log", **environment)
        script = ("fastcgi_param REQUEST_METHOD     $request_method;",
                  f"fastcgi_param SCRIPT_FILENAME {CALLSTATS};\n        fastcgi_param REQUEST_METHOD     $request_method;")
        super().__init__(self.wrap_socket, [script])

    def logs(self):
        return super().logs() + self.wrap.text()

    def stop(self):
        super().stop()
        self.wrap.stop()
        self.wrap_folder.remove()


class Apache(WebServer):
    """Apache with one of the files in deploy/apache; a worker of its own listens."""
    modules, site_file = ["env", "authz_host", "proxy", "proxy_fcgi"], "callstats-proxy.conf"

    def __init__(self, socket):
        self.socket = socket
        super().__init__()

    def site_changes(self):
        return [("/run/callstats/callstats.sock", self.socket)]

    def command(self):
        built_in = subprocess.run(["/usr/sbin/apache2", "-l"], capture_output=True, text=True).stdout
        modules = ["mpm_event", "authz_core", "unixd", "headers", "log_config", "mime", *self.modules]
        loads = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
                          for name in modules if f"mod_{name}.c" not in built_in)
        self.copy("callstats-common.conf", ("/var/log/apache2", self.folder.path))
        self.copy(self.site_file, ("conf-available/", f"{self.folder.path}/"), *self.site_changes())
        who = f"User {USER}\nGroup {GROUP}" if USER else ""
        self.folder.write("apache.conf", f"""
            ServerRoot {self.folder.path}
            ServerName stats.example
            Listen 127.0.0.1:{self.port}
            {loads}
            {who}
            PidFile {self.folder / 'pid'}
            DefaultRuntimeDir {self.folder.path}
            Mutex file:{self.folder.path} default
            ErrorLog {self.folder / 'error.log'}
            DocumentRoot {self.folder.path}
            TypesConfig /dev/null
            <IfModule fcgid_module>
                FcgidIPCDir {self.folder.path}
                FcgidProcessTableFile {self.folder / 'fcgid_shm'}
            </IfModule>
            <IfModule cgid_module>
                ScriptSock {self.folder / 'cgid'}
            </IfModule>
            Include {self.folder / self.site_file}
        """)
        return ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", self.folder / "apache.conf"]

    def copy(self, name, *changes):
        text = (PROJECT / "deploy" / "apache" / name).read_text()
        self.folder.write(name, changed(re.sub(r"  +# CHANGE.*", "", text), *changes))


class StartedByWebServer:
    """What the files change in which the web server starts the executable."""

    def __init__(self, environment):
        self.environment = environment
        super().__init__("")

    def site_changes(self):
        return [("/usr/local/bin/callstats", CALLSTATS),
                ("host=/var/run/postgresql dbname=calls user=callstats_worker", self.environment["DATABASE_URL"]),
                ("/etc/callstats/root-token", self.environment["CALLSTATS_ROOT_TOKEN_FILE"])]


class ApacheFcgid(StartedByWebServer, Apache):
    """mod_fcgid."""
    modules, site_file = ["env", "authz_host", "alias", "fcgid"], "callstats-fcgid.conf"


class ApacheCgid(StartedByWebServer, Apache):
    """mod_cgid."""
    modules, site_file = ["env", "authz_host", "alias", "cgid"], "callstats-cgid.conf"


class LighttpdProxy(WebServer):
    """lighttpd in front of something that listens already: for what its own file does not do."""

    def __init__(self, socket, changes=()):
        self.socket, self.changes = socket, changes
        super().__init__()

    def site_changes(self):
        return [('"bin-path" => "/usr/local/bin/callstats",', ""), ("/run/lighttpd/callstats.sock", self.socket)]

    def command(self):
        text = (PROJECT / "deploy" / "lighttpd" / "callstats.conf").read_text()
        text = re.sub(r"  +# CHANGE.*", "", text)
        self.folder.write("site.conf", changed(text, ("/var/log/lighttpd", self.folder.path), *self.site_changes()))
        self.folder.write("lighttpd.conf", f"""
            server.document-root = "{self.folder.path}"
            server.bind = "127.0.0.1"
            server.port = {self.port}
            server.upload-dirs = ( "{self.folder.path}" )
            server.errorlog = "{self.folder / 'error.log'}"
            include "{self.folder / 'site.conf'}"
        """)
        return ["/usr/sbin/lighttpd", "-D", "-f", self.folder / "lighttpd.conf"]


class Lighttpd(StartedByWebServer, LighttpdProxy):
    """lighttpd with deploy/lighttpd/callstats.conf, which starts the worker."""

    def site_changes(self):
        return [("/run/lighttpd/callstats.sock", self.folder / "socket"), *super().site_changes()]
