"""Real web servers that send the page as docs/page.md describes, and pass /stats on to another web server."""

import re
import shutil
import subprocess

from .processes import PROJECT, Folder, Process, accepts, free_port, wait_until

INSTALLED = "/usr/share/callstats/page"


def documented(language):
    """The configuration that docs/page.md prints for a web server."""
    found = re.findall(
        rf"^```{language}\n(.*?)^```$", (PROJECT / "docs" / "page.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(found) == 1
    return found[0]


class PageSite:
    """nginx, on a free port of this machine."""

    language = "nginx"

    def __init__(self, stats_url="http://127.0.0.1:9"):
        self.folder, self.port, self.stats_url = Folder("page"), free_port(), stats_url
        shutil.copytree(PROJECT / "deploy" / "page", self.folder / "installed", symlinks=True)
        self.page = documented(self.language)
        assert INSTALLED in self.page
        self.page = self.page.replace(INSTALLED, str(self.folder / "installed"))
        self.process = Process(self.command(), self.folder / "stderr.log")
        wait_until(lambda: accepts(self.port), what="the web server accepts")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def command(self):
        temporary = "\n".join(
            f"{kind}_temp_path {self.folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.folder.write(
            "nginx.conf",
            f"""
            daemon off; pid {self.folder / "pid"}; error_log {self.folder / "error.log"}; events {{ }}
            http {{ {temporary} access_log off; server {{
                listen 127.0.0.1:{self.port};
                location /stats/ {{
                    proxy_pass {self.stats_url}; proxy_http_version 1.1; proxy_buffering off;
                    proxy_set_header Connection "";
                }}
                {self.page}
            }} }}""",
        )
        return ["nginx", "-p", self.folder.path, "-e", self.folder / "error.log", "-c", self.folder / "nginx.conf"]

    def stop(self):
        self.process.stop()
        self.folder.remove()


class ApacheSite(PageSite):
    language = "apache"

    def command(self):
        built_in = subprocess.run(["/usr/sbin/apache2", "-l"], capture_output=True, text=True, check=True).stdout
        modules = ["mpm_event", "authz_core", "unixd", "alias", "dir", "headers", "mime"]
        loads = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
            for name in modules
            if f"mod_{name}.c" not in built_in
        )
        self.folder.write(
            "apache.conf",
            f"""
            ServerRoot {self.folder.path}
            ServerName stats.example
            Listen 127.0.0.1:{self.port}
            {loads}
            PidFile {self.folder / "pid"}
            DefaultRuntimeDir {self.folder.path}
            Mutex file:{self.folder.path} default
            ErrorLog {self.folder / "error.log"}
            TypesConfig /dev/null
            <Directory />
                Require all denied
            </Directory>
            {self.page}""",
        )
        return ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", self.folder / "apache.conf"]


class LighttpdSite(PageSite):
    language = "lighttpd"

    def command(self):
        self.folder.write(
            "lighttpd.conf",
            f"""
            server.document-root = "{self.folder.path}"
            server.bind = "127.0.0.1"
            server.port = {self.port}
            server.errorlog = "{self.folder / "error.log"}"
            {self.page}""",
        )
        return ["/usr/sbin/lighttpd", "-D", "-f", self.folder / "lighttpd.conf"]
