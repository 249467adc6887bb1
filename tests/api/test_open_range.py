"""CALLSTATS_OPEN_RANGE: what a range without its start or its end stands for."""
import datetime
import json
import re
import subprocess
import zoneinfo

import pytest

from ..support.processes import CALLSTATS, as_user
from ..support.worker import ROOT_TOKEN, Worker

# Days from today on, in the order of the table in docs/api.md; None: the range has no days.
TODAY, EARLIER, LATER = [0], [-400, -2, -1], [1, 2, 400]
TABLE = {
    None: (TODAY, TODAY),
    "": (TODAY, TODAY),
    "-": (TODAY, [*EARLIER, 0]),
    "{-2}": ([-2], [-2]),
    "{-2}-": ([-2], [-2, -1, 0]),
    "{0}-": (TODAY, TODAY),
    "{1}-": ([1], None),
    "-{-2}": (None, [-400, -2]),
    "-{0}": (TODAY, [*EARLIER, 0]),
    "-{2}": ([0, 1, 2], [*EARLIER, 0, 1, 2]),
    "{-1}-{1}": ([-1, 0, 1], [-1, 0, 1]),
    "{1}-{-1}": (None, None),
    "--": (None, None),
    "{-2}--": (None, None),
    "{-2}000000-": (None, None),
    "{-2}000000-{2}235959": (None, None),
    "-{2}235959": (None, None),
    "x-": (None, None),
    "-x": (None, None),
}


@pytest.mark.parametrize("open_range, column", [("day", 0), ("", 0), ("unbounded", 1)])
def test_each_row_of_the_table_is_answered(replay_database, start, open_range, column):
    # The organization "today" is in this time zone, and has a call today and one the day after tomorrow.
    zone = zoneinfo.ZoneInfo("Pacific/Kiritimati")
    worker = start(Worker, replay_database.url, CALLSTATS_OPEN_RANGE=open_range)

    def date(today, days):
        return f"{today + datetime.timedelta(int(days)):%Y%m%d}"

    def answer(today, parameter):
        dates = re.sub(r"{(-?\d+)}", lambda days: date(today, days[1]), parameter or "")
        query = "" if parameter is None else f"&daterange={dates}"
        found = worker.ask("GET", f"/stats/acme/today?token={ROOT_TOKEN}{query}")
        assert found.status == 200
        return [entry["date"] for entry in json.loads(found.body)]

    for parameter, columns in TABLE.items():
        while True:
            today = datetime.datetime.now(zone).date()
            found = answer(today, parameter)
            if today == datetime.datetime.now(zone).date():
                break
        expected = [date(today, day) for day in (0, 2) if day in (columns[column] or [])]
        assert found == expected, (parameter, open_range)


def test_everything_up_to_a_day_starts_with_the_first_call(one_folder, start):
    one_folder.query("""create view callstats.call_source as
        select 1 as organization_id, call_date, 1 as folder_id, null::text as agent_id, 1 as calls, 1000 as duration_ms
        from (values (date '0001-01-01'), ('1899-12-31'), ('1900-01-01'), ('2020-02-29')) as days (call_date);
        grant select on callstats.call_source to callstats_worker""")
    worker = start(Worker, one_folder.url, CALLSTATS_OPEN_RANGE="unbounded")

    def answer(query):
        found = worker.ask("GET", f"/stats/acme/support?token={ROOT_TOKEN}&{query}")
        return [(entry["date"], entry["calls"]) for entry in json.loads(found.body)]
    assert answer("daterange=-20200228") == [("00010101", 1), ("18991231", 1), ("19000101", 1)]
    assert answer("daterange=-&interval=total") == [("00010101", 4)]
    assert answer("daterange=-&interval=month") == [("00010101", 1), ("18991201", 1), ("19000101", 1), ("20200201", 1)]
    assert answer("daterange=19000101-&interval=total") == [("19000101", 2)]


def test_invalid_value_is_reported_with_the_other_errors():
    for value in ("open", "DAY", "Unbounded", "day,unbounded", "1"):
        done = subprocess.run([CALLSTATS, "--listen", "/nowhere/x"], capture_output=True, text=True,
                              **as_user(DATABASE_URL="host=/nowhere", CALLSTATS_OPEN_RANGE=value,
                                        CALLSTATS_DB_CONNECTIONS="0"))
        assert done.returncode == 78
        assert f'CALLSTATS_OPEN_RANGE is "{value}". Hint: use day or unbounded' in done.stderr
        assert "CALLSTATS_DB_CONNECTIONS" in done.stderr
