"""What monitoring sees, through each web server."""
import json
import re
import time

import pytest

from ..support import fastcgi
from ..support.postgres import Cluster
from ..support.sample import DAY
from ..support.webservers import Apache, ApacheCgid, ApacheFcgid, Lighttpd, Nginx
from ..support.worker import ROOT_TOKEN, Worker


@pytest.mark.parametrize("server", [Nginx, Apache, ApacheFcgid, ApacheCgid, Lighttpd])
def test_probe_needs_no_token(server, replay_worker, start):
    server = start(server, replay_worker.socket if server in (Nginx, Apache) else replay_worker.environment)
    status, headers, body = server.ask("GET", "/callstats-probe")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["database"]["up"] is True
    status, headers, body = server.ask("GET", "/callstats-probe?format=prometheus")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\ncallstats_database_up 1\n" in body
    # No client can make a probe of its request.
    for headers in ([("CALLSTATS_PROBE", "1")], [("Callstats-Probe", "1")], [("Probe", "1")]):
        assert server.ask("GET", "/stats/acme/support?CALLSTATS_PROBE=1", headers)[0] == 401
    assert server.ask("GET", "/stats/")[0] == 404


def probe(worker, query=""):
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request({"REQUEST_METHOD": "GET", "CALLSTATS_PROBE": "1", "QUERY_STRING": query}))
        return connection.receive()


def test_probe_counts_requests(replay_database, start):
    worker = start(Worker, replay_database.url)
    for _ in range(3):
        worker.ask("GET", DAY)
    worker.ask("GET", "/stats")
    report = json.loads(probe(worker).body)
    assert report["requests"] == {"200": 3, "404": 1}
    assert re.fullmatch(r"\d+\.\d+\.\d+", report["version"]) and 0 < report["uptime_seconds"] < 60
    latency = report["latency_seconds"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["max"] < 1
    assert 1 <= report["database"]["idle_connections"] <= report["database"]["connections"] <= 8
    assert report["database"]["last_answer"].startswith("20")
    lines = probe(worker, "format=prometheus").body.decode().splitlines()
    assert 'callstats_requests_total{status="200"} 3' in lines and "callstats_request_duration_seconds_count 4" in lines
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) callstats_\w+ .+|callstats_\w+(\{\w+="[^"]*"\})? [0-9.e+-]+', line), line
    assert "callstats_probe" not in worker.text().lower()


def test_counters_are_zero_at_the_start(replay_database, start):
    lines = probe(start(Worker, replay_database.url), "format=prometheus").body.decode().splitlines()
    counters = {line.split()[2] for line in lines if line.startswith("# TYPE ") and line.endswith(" counter")}
    values = [line.rsplit(" ", 1) for line in lines if re.match(r"callstats_\w+_total\b", line)]
    assert {re.match(r"\w+", name)[0] for name, _ in values} == counters
    assert {value for _, value in values} == {"0"}
    statuses = {name.split('"')[1] for name, _ in values if name.startswith("callstats_requests_total")}
    assert statuses == {"200", "400", "401", "403", "404", "405", "500", "503"}
    assert "callstats_request_duration_seconds_count 0" in lines


def test_histogram_can_be_added_up(replay_database, start):
    """Each bucket has the requests of those below it, and the bounds are the same in every process."""
    bounds = []
    for requests in (3, 5):
        worker = start(Worker, replay_database.url)
        for _ in range(requests):
            worker.ask("GET", DAY)
        text = probe(worker, "format=prometheus").body.decode()
        found = re.findall(r'^callstats_request_duration_seconds_bucket\{le="(.*)"\} (\d+)$', text, re.M)
        counts = [int(count) for _, count in found]
        assert counts == sorted(counts) and counts[-1] == requests and found[-1][0] == "+Inf"
        assert f"callstats_request_duration_seconds_count {requests}\n" in text
        bounds.append([bound for bound, _ in found])
    assert bounds[0] == bounds[1] and len(bounds[0]) >= 10


def test_probe_reports_an_unavailable_database(start):
    cluster = Cluster()
    database = cluster.database()
    try:
        worker = start(Worker, database.url)
        assert probe(worker).status == 200
        database.connection.close()
        cluster.stop()
        began = time.monotonic()
        answer = probe(worker)
        assert answer.status == 503 and json.loads(answer.body)["database"]["up"] is False
        assert time.monotonic() - began < 1.5
        scraped = probe(worker, "format=prometheus")
        assert scraped.status == 200, "Prometheus drops what comes with another status"
        assert b"\ncallstats_database_up 0\n" in scraped.body
        cluster.start()
        assert probe(worker).status == 200
    finally:
        cluster.remove()


def test_cache_that_can_be_enabled_works(sample_database, start):
    """A wall of dashboards costs one query, and no token sees what another got."""
    worker = start(Worker, sample_database.url)
    server = start(Nginx, worker.socket)
    server.switch_on_cache()
    billing = server.ask("GET", DAY)
    assert billing[0] == 200
    sample_database.query("delete from callstats.call")
    assert server.ask("GET", DAY)[2] == billing[2] != b"[]", "kept"
    assert worker.text().count(" 200 ") == 1
    path = "/stats/acme/support/Billing?daterange=20260303"
    assert server.ask("GET", path)[0] == 401
    assert server.ask("GET", path, [("Authorization", "Bearer guess")])[0] == 401
    assert server.ask("GET", path, [("Authorization", f"Bearer {ROOT_TOKEN}")])[2] == b"[]"
    assert server.ask("GET", path + "&token=umlaut-token")[0] == 403
    assert server.ask("GET", path)[0] == 401
    assert server.ask("GET", DAY, [("Authorization", "Bearer umlaut-token")])[0] == 400
    assert server.ask("HEAD", DAY)[2] == b""
