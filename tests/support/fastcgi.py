"""A FastCGI 1.0 client of the tests' own: it shares no line with the worker, so that an error in one is visible.

Touches sockets only.
"""
import contextlib
import dataclasses
import socket
import struct

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT, \
    UNKNOWN_TYPE = range(1, 12)
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3


def record(kind, content=b"", request_id=1, padding=0):
    return struct.pack("!BBHHBx", 1, kind, request_id, len(content), padding) + content + bytes(padding)


def stream(kind, content, request_id=1, size=65535):
    parts = [content[at:at + size] for at in range(0, len(content), size)]
    return b"".join(record(kind, part, request_id) for part in [*parts, b""])


def begin(role=RESPONDER, keep=False, request_id=1):
    return record(BEGIN_REQUEST, struct.pack("!HB5x", role, keep), request_id)


def length(number):
    return struct.pack("!B", number) if number < 128 else struct.pack("!I", number | 1 << 31)


def pairs(parameters):
    """Name-value pairs; a dict, or a list of pairs where the order counts."""
    items = parameters.items() if isinstance(parameters, dict) else parameters
    out = b""
    for name, value in items:
        name, value = (part if isinstance(part, bytes) else part.encode() for part in (name, value))
        out += length(len(name)) + length(len(value)) + name + value
    return out


def request(parameters, body=b"", **how):
    """All records of one request."""
    request_id = how.get("request_id", 1)
    return begin(**how) + stream(PARAMS, pairs(parameters), request_id) + stream(STDIN, body, request_id)


def parameters(method, uri, headers=(), body=b""):
    """The CGI parameters that a web server makes of a request, in the order of nginx.conf.example."""
    uri = uri if isinstance(uri, bytes) else uri.encode()
    sent = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers}
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": method,
        **sent,
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "QUERY_STRING": uri.partition(b"?")[2],
        "REQUEST_URI": uri,
    }


@dataclasses.dataclass
class Answer:
    """A CGI response. `app_status` is None where the connection ended before END_REQUEST."""
    status: int
    headers: dict
    body: bytes
    app_status: int | None = None
    stderr: bytes = b""


def cgi_response(out):
    head, _, body = out.partition(b"\r\n\r\n")
    fields = [line.split(": ", 1) for line in head.decode().split("\r\n") if line]
    headers = {name.lower(): value for name, value in fields}
    return int(headers.pop("status", "0").split()[0]), headers, body


class Records:
    """The records that arrive on a socket."""

    def __init__(self, connected):
        self.socket, self.buffer = connected, b""

    def read(self, count):
        while len(self.buffer) < count:
            chunk = self.socket.recv(262144)
            if not chunk:
                raise EOFError
            self.buffer += chunk
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_record(self):
        version, kind, request_id, size, padding = struct.unpack("!BBHHBx", self.read(8))
        assert version == 1
        content = self.read(size)
        self.read(padding)
        return kind, request_id, content


class Connection(Records):
    """One connection to a worker: a path, or (host, port)."""

    def __init__(self, address, timeout=20):
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        super().__init__(socket.socket(family, socket.SOCK_STREAM))
        self.socket.settimeout(timeout)
        self.socket.connect(address)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, request_id=1):
        """The answer to a request that was sent."""
        out, err, app_status = self.receive_streams(request_id)
        return Answer(*cgi_response(out), app_status, err)

    def receive_streams(self, request_id=1):
        """All that comes up to the end of a request or of the connection."""
        out, err, app_status = b"", b"", None
        with contextlib.suppress(EOFError, ConnectionResetError):
            while app_status is None:
                kind, answered_id, content = self.read_record()
                assert answered_id in (request_id, 0)
                if kind == STDOUT:
                    out += content
                elif kind == STDERR:
                    err += content
                elif kind == END_REQUEST:
                    app_status, self.protocol_status = struct.unpack("!IB3x", content)
        return out, err, app_status

    def ask(self, method, uri, headers=(), body=b"", keep=False):
        self.send(request(parameters(method, uri, headers, body), body, keep=keep))
        return self.receive()

    def is_closed(self):
        """Whether the worker ends the connection; waits for it."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def ask(address, method, uri, headers=(), body=b""):
    """One request over a connection of its own."""
    with Connection(address) as connection:
        return connection.ask(method, uri, headers, body)
