"""Every range with every interval, in both formats and by both methods: the same figures, each as documented."""
import csv
import io
import itertools
import json

import pytest

from ..support.worker import ROOT_TOKEN, Worker
from .test_openapi import check

RANGES = [
    None, "", "-", "20260303", "20260303-", "-20260303", "20260301-20260331", "20260303-20260303", "20260309-20260303",
    "20260101-20261231", "00010101-99991231", "20300101-", "-20300101", "20260306-20260308", "20260230", "x", "--",
    "20260303000000-20260303235959", "20260303120000", "20260303000000-", "-20260303235959", "20260303-20260303120000",
]
INTERVALS = [None, "day", "week", "month", "total"]
COLUMNS = ["date", "folder", "agent_id", "calls", "duration_seconds", "avg_duration_seconds"]


def rows_of(entries):
    """What CSV has of the entries of JSON, but for durations: they are in CSV alone."""
    for entry in entries:
        date = "-".join((entry["date"][:4], entry["date"][4:6], entry["date"][6:]))
        agents = entry.get("agents", [])
        without = entry["calls"] - sum(agent["calls"] for agent in agents)
        if without:
            yield [date, entry["folder"], "", str(without)]
        for agent in agents:
            yield [date, entry["folder"], agent["agent_id"], str(agent["calls"])]


def totals(rows):
    """Calls and milliseconds of each folder and agent."""
    found = {}
    for _, folder, agent, calls, duration, _ in rows:
        sums = found.setdefault((folder, agent), [0, 0])
        sums[0] += int(calls)
        sums[1] += round(float(duration) * 1000)
    return found


@pytest.mark.parametrize("open_range", ["day", "unbounded"])
@pytest.mark.parametrize("path", ["acme/support", "acme/support/Sales", "acme/empty"])
def test_formats_intervals_and_methods_agree(replay_database, start, open_range, path):
    worker = start(Worker, replay_database.url, CALLSTATS_OPEN_RANGE=open_range)
    seen, filled = set(), 0

    def ask(method, daterange, interval, form):
        options = {"token": ROOT_TOKEN, "daterange": daterange, "interval": interval, "format": form}
        query = "&".join(f"{name}={value}" for name, value in options.items() if value is not None)
        answer = worker.ask(method, f"/stats/{path}?{query}")
        assert answer.status == 200, query
        check(method, f"/stats/{path}?{query}", answer, seen)
        return answer

    for daterange in RANGES:
        sums = []
        for interval in INTERVALS:
            answers = {}
            for method, form in itertools.product(("GET", "HEAD"), (None, "json", "csv")):
                answers[method, form] = ask(method, daterange, interval, form)
            for form in (None, "json", "csv"):
                assert answers["HEAD", form].headers == answers["GET", form].headers
                assert answers["HEAD", form].body == b""
            assert answers["GET", None].body == answers["GET", "json"].body
            header, *rows = csv.reader(io.StringIO(answers["GET", "csv"].body.decode("utf-8-sig"), newline=""))
            assert header == COLUMNS
            assert [row[:4] for row in rows] == list(rows_of(json.loads(answers["GET", "json"].body)))
            for row in rows:
                assert float(row[5]) == int(float(row[4]) * 1000 / int(row[3]) + 0.5) / 1000
            sums.append(totals(rows))
        # Whatever the interval, the same calls.
        assert all(one == sums[0] for one in sums), daterange
        filled += bool(sums[0])
    assert filled == (0 if path == "acme/empty" else {"day": 6, "unbounded": 9}[open_range])
    assert {status for _, status, _ in seen} == {200}
