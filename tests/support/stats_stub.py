"""A server that gives the answers of docs/api.md from calls in memory, and serves the page beside them. It can also do
what a real service does rarely: fail, pause in the middle of an answer, or cut it."""

import datetime
import http.server
import io
import json
import pathlib
import socketserver
import threading
import urllib.parse
import zoneinfo

from . import oracle
from .processes import PROJECT

PAGE = PROJECT / "deploy" / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def interval_start(day, interval, first):
    """The first day of the interval that holds the day."""
    return {
        "day": day,
        "week": day - datetime.timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "total": first,
    }[interval]


def guarded(text):
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text


def field(text):
    quoted = guarded(text)
    return '"' + quoted.replace('"', '""') + '"' if any(sign in quoted for sign in '",\r\n') else quoted


def seconds(milliseconds):
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".")


def average(calls, milliseconds):
    return seconds((2 * milliseconds + calls) // (2 * calls))


class Sums:
    """Calls and milliseconds by company, organization, day, folder and agent ("" for none)."""

    def __init__(self, calls=()):
        self.days = {}
        for call in calls:
            self.add(
                call.company,
                call.organization,
                call.started_at.date(),
                call.folder,
                call.agent or "",
                1,
                call.duration_ms,
            )

    def add(self, company, organization, day, folder, agent, calls, milliseconds):
        found = self.days.setdefault((company, organization), {}).setdefault((day, folder, agent), [0, 0])
        found[0] += calls
        found[1] += milliseconds

    def select(self, company, organization, folder, first, last, interval):
        """[(start, folder, agent), (calls, milliseconds)] in the order of the answer."""
        sums = {}
        for (day, name, agent), (calls, milliseconds) in self.days[company, organization].items():
            if first <= day <= last and folder in (None, name):
                found = sums.setdefault((interval_start(day, interval, first), name, agent), [0, 0])
                found[0] += calls
                found[1] += milliseconds
        return sorted(sums.items(), key=lambda item: (item[0][0], item[0][1].encode(), item[0][2].encode()))


def csv(rows):
    yield "\ufeffdate,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n"
    for (day, folder, agent), (calls, milliseconds) in rows:
        yield f"{day},{field(folder)},{field(agent)},{calls},{seconds(milliseconds)},{average(calls, milliseconds)}\r\n"


def entries(rows):
    groups = {}
    for (day, folder, agent), sums in rows:
        groups.setdefault((day, folder), []).append((agent, *sums))
    yield "["
    for number, ((day, folder), agents) in enumerate(groups.items()):
        calls, milliseconds = sum(row[1] for row in agents), sum(row[2] for row in agents)
        written = ",".join(
            f'{{"agent_id":{oracle.text(agent)},"calls":{n},"avg_duration_seconds":{average(n, ms)}}}'
            for agent, n, ms in agents
            if agent
        )
        listed = f',"agents":[{written}]' if written else ""
        yield (
            f'{"," if number else ""}{{"date":"{day:%Y%m%d}","folder":{oracle.text(folder)},"calls":{calls},'
            f'"avg_duration_seconds":{average(calls, milliseconds)}{listed}}}'
        )
    yield "]"


class Refused(Exception):
    def __init__(self, status, error, hint=None, headers=()):
        self.status, self.headers = status, dict(headers)
        self.body = {"error": error, **({"hint": hint} if hint else {})}


class StatsStub:
    """Listens on a free port of this machine. What a test changes counts from the next request on."""

    def __init__(self, sums, tokens, zone="UTC"):
        self.sums, self.tokens, self.zone = sums, tokens, zone
        self.asked = []  # (path with query, headers) of all requests to the API
        self.refuse = None  # a Refused, or bytes of an answer that is not the API's
        self.gone = False  # whether connections end without an answer
        self.body = None  # CSV to answer with, whatever the question
        self.cut_after = None  # bytes of a body after which the connection ends
        self.gate = threading.Event()  # while it is not set, a body pauses after its first half
        self.gate.set()
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                stub.handle(self)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads, request_queue_size = True, 64

            def handle_error(self, *_):
                """The browser has disconnected, which is no error."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def stop(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(15)

    def handle(self, request):
        path, _, query = request.path.partition("?")
        if path.startswith("/stats"):
            self.asked.append((request.path, dict(request.headers)))
            if self.gone:
                request.close_connection = True
                return
            try:
                self.answer(request, path, dict(urllib.parse.parse_qsl(query, keep_blank_values=True)))
            except Refused as refused:
                self.send(
                    request,
                    refused.status,
                    {"Content-Type": "text/html; charset=utf-8", **refused.headers},
                    [json.dumps(refused.body)],
                )
        elif path.startswith("/callstats/"):
            self.page(request, urllib.parse.unquote(path.removeprefix("/callstats/")) or "index.html")
        else:
            self.send(request, 404, {"Content-Type": "text/plain"}, ["not here"])

    def page(self, request, name):
        file = PAGE / pathlib.PurePosixPath(name).name
        if not file.is_file():
            self.send(request, 404, {"Content-Type": "text/plain"}, ["not here"])
            return
        self.send(request, 200, {"Content-Type": TYPES[file.suffix], **PAGE_HEADERS}, [file.read_bytes().decode()])

    def answer(self, request, path, query):
        if self.refuse:
            if isinstance(self.refuse, Refused):
                raise self.refuse
            self.send(request, 502, {"Content-Type": "text/html"}, [self.refuse])
            return
        names = [urllib.parse.unquote(name) for name in path.split("/")[2:]]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refused(
                401,
                "The token is missing or invalid.",
                "Send a valid token.",
                {"WWW-Authenticate": 'Bearer realm="stats"'},
            )
        if self.tokens[token] not in (None, names[0]):
            raise Refused(403, "This token is for another company.", "Use the token of the company in the path.")
        if tuple(names[:2]) not in self.sums.days:
            raise Refused(404, f'There is no organization "{names[1]}".', "Check its spelling: case matters.")
        folder = names[2] if len(names) > 2 else None
        if folder is not None and folder not in {name for _, name, _ in self.sums.days[tuple(names[:2])]}:
            raise Refused(404, f'There is no folder "{folder}".', "Check its spelling: case matters.")
        if self.body is not None:
            self.send(request, 200, {"Content-Type": "text/csv; charset=utf-8; header=present"}, [self.body])
            return
        days = oracle.Days(query.get("daterange"), self.zone)
        interval = query.get("interval") or "day"
        rows = self.sums.select(*names[:2], folder, days.first, days.last, interval)
        if query.get("format") == "csv":
            kind, written = "text/csv; charset=utf-8; header=present", csv(rows)
        else:
            kind, written = "text/html; charset=utf-8", entries(rows)
        self.send(request, 200, {"Content-Type": kind}, written)

    def send(self, request, status, headers, texts):
        body = io.BytesIO()
        for text in texts:
            body.write(text.encode())
        content = body.getvalue()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        is_api = request.path.startswith("/stats")
        if is_api and self.cut_after is not None:
            self.chunk(request, content[: self.cut_after])
            request.close_connection = True
            return
        middle = len(content) // 2 if is_api else 0
        self.chunk(request, content[:middle])
        if is_api:
            self.gate.wait()
        self.chunk(request, content[middle:])
        request.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def chunk(request, content):
        if content:
            request.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            request.wfile.flush()


def today(zone):
    return datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date()
