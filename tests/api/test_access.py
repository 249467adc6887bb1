"""Who may read what, and where tokens must not turn up."""
import collections
import glob
import itertools
import json
import pathlib
import urllib.parse

import pytest

from ..support import fastcgi
from ..support.webservers import Apache, Nginx
from ..support.worker import Worker

# As `callstats token add` creates them: 32 letters and digits.
ROOT_TOKEN = "r00tr00tr00tr00tr00tr00tr00tr00t"
TOKENS = {name: (name * 8 + "0123456789" * 3)[:32] for name in ("own", "other", "old", "revoked")}


@pytest.fixture
def tenants(sample_database):
    for name, token in [("acme", TOKENS["old"]), ("acme", TOKENS["own"]), ("Übersee & Söhne", TOKENS["other"]),
                        ("tokenless", TOKENS["revoked"]), ("tokenless", None)]:
        sample_database.query(
            "update callstats.company set token_sha256 = sha256(%s) where short_name = %s", token, name
        )
    return sample_database


# What a client shows -> options of the query, headers, and whose it is: None nobody's, "bad" no way to tell.
SHOWN = {
    "none": ([], None, None),
    "empty": ([("token", "")], None, None),
    "root": ([("token", ROOT_TOKEN)], None, "root"),
    "root as bearer": ([], f"Bearer {ROOT_TOKEN}", "root"),
    "own": ([("token", TOKENS["own"])], None, "own"),
    "own as bearer": ([], f"Bearer {TOKENS['own']}", "own"),
    "own in both places": ([("token", TOKENS["own"])], f"Bearer {TOKENS['own']}", "own"),
    "other": ([("token", TOKENS["other"])], None, "other"),
    "revoked": ([("token", TOKENS["revoked"])], None, None),
    "rotated away": ([("token", TOKENS["old"])], None, None),
    "right prefix": ([("token", TOKENS["own"][:-1])], None, None),
    "right and more": ([("token", TOKENS["own"] + "x")], None, None),
    "prefix of root": ([("token", ROOT_TOKEN[:-1])], None, None),
    "different case": ([("token", TOKENS["own"].upper())], None, None),
    "root in another case": ([("token", ROOT_TOKEN.upper())], None, None),
    "with a space": ([("token", TOKENS["own"] + " ")], None, None),
    "root with a space": ([("token", " " + ROOT_TOKEN)], None, None),
    "a digest": ([("token", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")], None, None),
    "twice": ([("token", TOKENS["own"]), ("token", TOKENS["own"])], None, "bad"),
    "two that differ": ([("token", TOKENS["own"])], f"Bearer {ROOT_TOKEN}", "bad"),
    "as basic": ([], f"Basic {TOKENS['own']}", None),
}

# Path -> what it is for: the company's name, and the status for who may ask for that company.
PATHS = {
    "/stats/acme/support": ("own", 200),
    "/stats/acme/support/Sales": ("own", 200),
    "/stats/acme/nothing": ("own", 404),
    "/stats/acme/support/nothing": ("own", 404),
    "/stats/%C3%9Cbersee%20%26%20S%C3%B6hne/support": ("other", 200),
    "/stats/tokenless/support": ("tokenless", 200),
    "/stats/nobody/support": ("nobody", 404),
    "/stats/nobody/support/Sales": ("nobody", 404),
    "/stats/acme": ("form", 404),
    "/stats/acme/support/Sales/x": ("form", 404),
    "/stats/acme/%zz": ("bad", 400),
    f"/stats/acme/{TOKENS['own']}": ("own", 404),
    f"/stats/acme/support&token={TOKENS['other']}": ("own", 404),
}


def expected(method, shown, path, by_web_server):
    """The contract's error table, from top to bottom."""
    (company, status), (_, _, whose) = PATHS[path], SHOWN[shown]
    if by_web_server and company == "bad":
        return 400  # web servers read the path before they pass on a method
    if method == "POST":
        return 405
    if whose == "bad" or company == "bad":
        return 400
    if company == "form":
        return 404
    if whose is None:
        return 401
    if whose not in ("root", company):
        return 403
    return status


def ask_all(ask, by_web_server):
    """Every combination; returns the answers by status and method."""
    answers = collections.defaultdict(set)
    for shown, path, method in itertools.product(SHOWN, PATHS, ("GET", "HEAD", "POST")):
        options, header, _ = SHOWN[shown]
        uri = f"{path}?{urllib.parse.urlencode([*options, ('daterange', '20260303')])}"
        status, headers, body = ask(method, uri, [("Authorization", header)] if header else [])
        assert status == expected(method, shown, path, by_web_server), (method, shown, path)
        kept = {
            name: value
            for name, value in headers.items()
            if name not in ("date", "server", "connection", "content-length", "transfer-encoding", "keep-alive")
        }
        answers[status, method].add((json.dumps(kept, sort_keys=True), body))
    return answers


def tokens_in(text):
    return [token for token in [ROOT_TOKEN, *TOKENS.values()] if token.lower() in text.lower()]


def command_lines():
    lines = []
    for file in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            lines.append(pathlib.Path(file).read_text(errors="replace"))
        except OSError:
            pass
    return "\n".join(lines)


def over_fastcgi(worker, start):
    def ask(method, uri, headers):
        answer = fastcgi.ask(worker.socket, method, uri, headers)
        return answer.status, answer.headers, answer.body
    return ask, None


def over(server):
    sources = itertools.count(1)
    clients = []

    def ask(method, uri, headers):
        # So many requests are too many for one address.
        if next(sources) % 500 == 1:
            clients.append(server.client(source=f"127.0.0.{len(clients) + 1}"))
        clients[-1].request(method, uri, headers=dict(headers))
        response = clients[-1].getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    return ask, server


def over_nginx(worker, start):
    return over(start(Nginx, worker.socket))


def over_apache(worker, start):
    return over(start(Apache, worker.socket))


@pytest.mark.parametrize("way", [over_fastcgi, over_nginx, over_apache])
def test_token_matrix_over_each_transport(way, tenants, start):
    worker = start(Worker, tenants.url, root_token=ROOT_TOKEN)
    ask, server = way(worker, start)
    answers = ask_all(ask, by_web_server=server is not None)
    for status in (401, 403):
        for method in ("GET", "HEAD"):
            assert len(answers[status, method]) == 1, "the same bytes, whatever the path names"
    assert tokens_in(command_lines()) == []
    assert tokens_in(worker.text()) == []
    assert tokens_in(repr([answer for answer in answers.values()])) == []
    if server:
        text = server.logs()
        assert "/stats/acme/support" in text and tokens_in_logs(text) == []
    print(f"{way.__name__}: {len(SHOWN) * len(PATHS) * 3} requests")


def tokens_in_logs(text):
    """A token that a client wrote into the path itself is in the web server's log, which leaves out only the query."""
    lines = [line for line in text.splitlines() if not any(path in line for path in PATHS if tokens_in(path))]
    return tokens_in("\n".join(lines))


@pytest.mark.parametrize("server", [Nginx, Apache])
def test_no_token_is_logged_by_a_web_server_whose_worker_is_unavailable(server, start):
    server = start(server, "/nowhere/socket")
    for uri in (f"/stats/acme/support?token={ROOT_TOKEN}", f"/stats/acme/%zz?token={ROOT_TOKEN}"):
        status, headers, body = server.ask("GET", uri, [("Authorization", f"Bearer {TOKENS['own']}")])
        assert status in (503, 400) and json.loads(body)["error"]
        assert headers["content-type"] == "text/html; charset=utf-8" and headers["x-content-type-options"] == "nosniff"
    assert tokens_in(server.logs()) == []
