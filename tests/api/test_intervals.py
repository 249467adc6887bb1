"""Weeks, months and whole ranges: what is summed up, what is refused, and when it is sent."""
import itertools
import json

import pytest

from ..support import fastcgi
from ..support.processes import wait_until
from ..support.worker import ROOT_TOKEN, Worker

STATS = f"/stats/acme/support?token={ROOT_TOKEN}"


def totals(database, *rows):
    """Lets call_source have these rows: date, agent, calls, milliseconds."""
    values = ", ".join(["(%s::date, %s::text, %s::int, %s::int)"] * len(rows))
    database.query(f"""create view callstats.call_source as
        select 1 as organization_id, call_date, 1 as folder_id, agent_id, calls, duration_ms
        from (values {values}) as totals (call_date, agent_id, calls, duration_ms);
        grant select on callstats.call_source to callstats_worker""", *itertools.chain(*rows))


def entries(worker, query):
    answer = worker.ask("GET", f"{STATS}&{query}")
    assert answer.status == 200
    return json.loads(answer.body)


@pytest.mark.parametrize("value", ["year", "DAY", "day ", "%20day", "days", "1", "-", "day,week", "w%C3%A9ek", "0"])
@pytest.mark.parametrize("name, values", [("interval", "day, week, month or total"), ("format", "json or csv")])
def test_invalid_value_is_refused_by_name(replay_worker, name, values, value):
    # The request comes before the token and before all that it names.
    for token in (ROOT_TOKEN, "nobody's"):
        answer = replay_worker.ask("GET", f"/stats/nowhere/x?token={token}&{name}={value}")
        assert answer.status == 400
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert json.loads(answer.body) == {"error": f'Invalid value of the query parameter "{name}".',
                                           "hint": f"Use {values}."}
    assert replay_worker.ask("HEAD", f"{STATS}&{name}={value}").status == 400


@pytest.mark.parametrize("name", ["interval", "format"])
def test_parameter_given_twice_is_refused(replay_worker, name):
    value = {"interval": "day", "format": "json"}[name]
    for query in (f"{name}={value}&{name}={value}", f"{name}=&{name}={value}", f"{name}=&{name}="):
        answer = replay_worker.ask("GET", f"{STATS}&{query}")
        assert (answer.status, json.loads(answer.body)["error"]) == (400, f'Duplicate query parameter "{name}".')


def test_corrections_count_over_the_interval(one_folder, start):
    totals(one_folder,
           ("2026-03-02", "cancelled", 2, 9000), ("2026-03-03", "cancelled", -2, -8000),
           ("2026-03-02", "corrected", 2, 1000), ("2026-03-03", "corrected", 0, 2000),
           ("2026-03-02", "earlier", -1, -500), ("2026-03-04", "earlier", 2, 2500),
           ("2026-03-02", None, 1, 1000), ("2026-03-02", "", 1, 2000), ("2026-03-08", None, -1, -1000))
    worker = start(Worker, one_folder.url)
    agents = [{"agent_id": "corrected", "calls": 2, "avg_duration_seconds": 1.5},
              {"agent_id": "earlier", "calls": 1, "avg_duration_seconds": 2}]
    for interval, date in (("week", "20260302"), ("month", "20260301"), ("total", "20260228")):
        assert entries(worker, f"daterange=20260228-20260401&interval={interval}") == [
            {"date": date, "folder": "Billing", "calls": 4, "avg_duration_seconds": 1.75, "agents": agents}]
    # A day alone has what that day has.
    days = entries(worker, "daterange=20260228-20260401&interval=day")
    assert [(entry["date"], entry["calls"]) for entry in days] == \
        [("20260302", 5), ("20260303", -2), ("20260304", 2), ("20260308", -1)]


def test_folder_whose_calls_sum_to_zero_does_not_exist(one_folder, start):
    totals(one_folder, ("2026-03-02", "a", 1, 1000), ("2026-03-30", None, -1, -1000))
    worker = start(Worker, one_folder.url)
    for interval, dates in (("day", ["20260302", "20260330"]), ("week", ["20260302", "20260330"]), ("month", []),
                            ("total", [])):
        found = entries(worker, f"daterange=20260301-20260331&interval={interval}")
        assert [entry["date"] for entry in found] == dates
    header = "\ufeffdate,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n"
    month = worker.ask("GET", f"{STATS}&daterange=20260301-20260331&interval=month&format=csv")
    assert month.body.decode() == header


def test_sums_are_exact_beyond_doubles_and_64_bits(one_folder, start):
    one_folder.query("""create view callstats.call_source as
        select 1 as organization_id, date '2026-03-01' + day as call_date, 1 as folder_id, 'a' as agent_id,
               4611686018427387904 as calls, 9223372036854774784 as duration_ms from generate_series(0, 2) day;
        grant select on callstats.call_source to callstats_worker""")
    worker = start(Worker, one_folder.url)
    month = worker.ask("GET", f"{STATS}&daterange=20260301-20260331&interval=month&format=csv")
    assert month.body.decode().split("\r\n")[1:] == [
        "2026-03-01,Billing,a,13835058055282163712,27670116110564324.352,0.002", ""]
    month = worker.ask("GET", f"{STATS}&daterange=20260301-20260331&interval=month")
    assert b'"calls":13835058055282163712,"avg_duration_seconds":0.002,' in month.body


@pytest.mark.parametrize("format", ["json", "csv"])
def test_first_month_is_sent_when_it_is_over(database, start, format):
    """The statement is held up in March: by then January has been sent."""
    database.query(f"""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) values (1, 1, 'Billing');
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
            select 1, 1, 'agent ' || agent, date '2026-01-01' + day, 1000
            from generate_series(0, 89) day, generate_series(1, 20) agent;
        create function callstats.gate() returns int stable language plpgsql as
            $$ begin perform pg_advisory_lock_shared(1); perform pg_advisory_unlock_shared(1); return 1; end $$;
        drop view callstats.call_source;
        create view callstats.call_source as
            select organization_id, call_date, folder_id, agent_id, duration_ms,
                   case when call_date < '2026-03-01' then 1 else callstats.gate() end as calls
            from callstats.call;
        grant select on callstats.call_source to callstats_worker;
        alter database {database.name} set enable_sort = off; -- or so few rows are read at once
        alter database {database.name} set enable_hashagg = off;
        select pg_advisory_lock(1)""")
    worker = start(Worker, database.url)
    with fastcgi.Connection(worker.socket) as connection:
        uri = f"{STATS}&daterange=20260101-20261231&interval=month&format={format}"
        connection.send(fastcgi.request(fastcgi.parameters("GET", uri)))
        kind, _, content = connection.read_record()
        assert kind == fastcgi.STDOUT
        first = {"json": b'"date":"20260101"', "csv": b"\n2026-01-01,"}[format]
        assert first in content and b"2026-02" not in content
        wait_until(lambda: database.query("select 1 from pg_locks where locktype = 'advisory' and not granted"),
                   what="the statement waits in March")
        database.query("select pg_advisory_unlock(1)")
        rest, _, app_status = connection.receive_streams()
    assert app_status == 0
    whole = worker.ask("GET", uri)
    assert fastcgi.cgi_response(content + rest)[2] == whole.body


def test_day_stays_the_default(replay_worker):
    uri = "/stats/acme/support?token=acme-token&daterange=20260301-20260331"
    plain = replay_worker.ask("GET", uri)
    assert json.loads(plain.body)
    for query in ("interval=", "interval=day", "format=", "format=json", "interval=&format=", "Interval=week"):
        assert replay_worker.ask("GET", f"{uri}&{query}") == plain
