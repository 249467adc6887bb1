"""How many parameters web servers pass on at their widest settings: fewer than the worker takes."""
import socket
import threading

import pytest

from ..support import fastcgi
from ..support.processes import Folder
from ..support.webservers import InFrontOfWorker, WebServer
from ..support.worker import ROOT_TOKEN

# The shortest parameters of all here have 12 bytes, lengths included.
TAKEN = 1024 * 1024 // 12


class Counter:
    """A FastCGI responder that answers with the number of parameters that came."""

    def __init__(self):
        self.folder = Folder("counter")
        self.socket = str(self.folder / "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        (self.folder / "socket").chmod(0o666)
        self.listener.listen(16)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                reader, data = fastcgi.Records(connection), b""
                try:
                    while True:
                        kind, request_id, content = reader.read_record()
                        data += content if kind == fastcgi.PARAMS else b""
                        if kind == fastcgi.STDIN and not content:
                            break
                except (EOFError, ConnectionResetError):
                    continue
                answer = f"Content-Type: text/plain\r\n\r\n{self.count(data)}".encode()
                connection.sendall(fastcgi.stream(fastcgi.STDOUT, answer, request_id)
                                   + fastcgi.record(fastcgi.END_REQUEST, bytes(8), request_id))

    @staticmethod
    def count(data):
        count = at = 0
        while at < len(data):
            sizes = []
            for _ in range(2):
                wide = data[at] >> 7
                sizes.append(int.from_bytes(data[at:at + 4], "big") & 0x7FFFFFFF if wide else data[at])
                at += 4 if wide else 1
            at += sum(sizes)
            count += 1
        return count

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.folder.remove()


def names():
    """The shortest names of headers that there are, none alike."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    for first in letters[:26]:
        for second in letters:
            for third in letters:
                for fourth in letters:
                    yield f"{first}{second}{third}{fourth}"


def ask(server, count):
    """How many parameters arrive of a request with so many headers; 0 where the web server refuses it."""
    lines = [f"{name}:x" for name, _ in zip(names(), range(count))]
    request = "\r\n".join(["GET /stats/a/b HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""])
    with server.connect(timeout=30) as connection:
        try:
            connection.sendall(request.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            return 0
    head, _, body = answer.partition(b"\r\n\r\n")
    number = body.split(b"\r\n")[1] if b"chunked" in head else body
    return int(number) if head.startswith(b"HTTP/1.1 200") and number.isdigit() else 0


class Wide(InFrontOfWorker, WebServer):
    """A web server with the widest limits that it has, in a configuration that is no file of ours."""
    path, text, command = "", "", ""

    def prepare(self):
        super().prepare()
        self.machine.run("rm -f /etc/nginx/sites-enabled/default /etc/apache2/sites-enabled/000-default.conf")
        self.machine.write(self.path, self.text)

    def start(self):
        self.machine.run(self.command)


class WideNginx(Wide):
    path, command = "/etc/nginx/conf.d/wide.conf", "nginx"
    text = """server {
        listen 80;
        large_client_header_buffers 512 64k;
        location / { fastcgi_pass unix:/run/callstats/callstats.sock; }
    }"""


class WideApache(Wide):
    """At the widest that is a limit; 0 means none."""
    fields, path = 32767, "/etc/apache2/sites-enabled/wide.conf"
    command = "a2enmod proxy_fcgi && apache2ctl start"

    @property
    def text(self):
        return f"""LimitRequestFields {self.fields}
            <VirtualHost *:80>
                ProxyPass "/stats" "unix:/run/callstats/callstats.sock|fcgi://callstats/stats"
            </VirtualHost>"""


class UnlimitedApache(WideApache):
    fields = 0


class WideLighttpd(Wide):
    path, command = "/etc/lighttpd/conf-enabled/90-wide.conf", "lighttpd -f /etc/lighttpd/lighttpd.conf"
    text = """server.modules += ( "mod_fastcgi" )
        server.max-request-field-size = 65535
        fastcgi.server = ( "/stats" => (( "socket" => "/run/callstats/callstats.sock", "check-local" => "disable" )))
        """


COUNTS = (10, 100, 500, 900, 1000, 2000, 4000, 5000, 8000, 16_000, 32_000, 60_000)


def most_that_arrive(server):
    most, sent = max((ask(server, count), count) for count in COUNTS)
    print(f"{type(server).__name__}: {most} parameters of {sent} headers are the most that arrive")
    return most


@pytest.mark.parametrize("server", [WideNginx, WideApache, UnlimitedApache, WideLighttpd])
def test_web_servers_pass_on_fewer_parameters_than_the_worker_accepts(server, start):
    counter = start(Counter)
    assert 100 < most_that_arrive(start(server, counter.socket)) < TAKEN


def test_request_of_an_unlimited_apache_is_answered(replay_worker, start):
    server = start(UnlimitedApache, replay_worker.socket)
    headers = [(name, "x") for name, _ in zip(names(), range(COUNTS[-1]))]
    status, _, body = server.ask("GET", f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20260303", headers)
    assert status == 200 and body.startswith(b"[{")
