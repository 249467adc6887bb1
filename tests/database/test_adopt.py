"""Tables that sites have already, adopted in place: answers are those of the oracle, and nothing of ours pins them."""
import datetime
import subprocess
import zoneinfo

import pytest

from ..support.oracle import Call, Days, answer
from ..support.processes import CALLSTATS, PROJECT, as_user
from ..support.worker import ROOT_TOKEN, Worker, check

UTC = datetime.UTC
# Among them: gaps at midnight (Sao Paulo, Beirut, Cairo, Tehran), half an hour (Lord Howe), and a date that never was
# (Apia).
ZONES = ["Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/St_Johns", "Australia/Lord_Howe",
         "Pacific/Apia", "Asia/Beirut", "Africa/Cairo", "Asia/Tehran"]
FLAT = "create table public.calls (company text, organization text, folder text, agent text, started {}, seconds {})"


def adopt(database, *arguments, ok=True):
    """Output of `callstats adopt` as the owner of the database."""
    url = database.url.replace("user=callstats_worker", "user=owner")
    done = subprocess.run([CALLSTATS, "adopt", *arguments, "--database", url], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **as_user())
    assert (done.returncode == 0) == ok, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def body(worker, path, days):
    found = worker.ask("GET", f"/stats/{path}?token={ROOT_TOKEN}&daterange={days}")
    assert found.status == 200, (path, found.body, worker.text()[-500:])
    return found.body.decode()


def changes(zone):
    """The dates of the changes of clocks of a zone, 2005 to 2025, and the days around them."""
    info, found = zoneinfo.ZoneInfo(zone), set()
    moment = datetime.datetime(2005, 1, 1, tzinfo=UTC)
    while moment.year < 2026:
        later = moment + datetime.timedelta(hours=6)
        if moment.astimezone(info).utcoffset() != later.astimezone(info).utcoffset():
            found |= {moment.astimezone(info).date() + datetime.timedelta(days=days) for days in (-1, 0, 1)}
        moment = later
    return sorted(found)


def instants_around(day, zone):
    """Moments at and around each midnight and each hour near it, with a second before and after."""
    info = zoneinfo.ZoneInfo(zone)
    middle = datetime.datetime.combine(day, datetime.time(0), info).astimezone(UTC)
    for minutes in (-150, -90, -61, -60, -59, -31, -30, -1, 0, 1, 29, 30, 59, 60, 61, 90, 150, 720):
        for seconds in (-1, 0, 1):
            yield middle + datetime.timedelta(minutes=minutes, seconds=seconds)


@pytest.mark.parametrize("column, unit", [
    ("timestamptz", None),
    *(pytest.param(*column, marks=pytest.mark.slow)
      for column in (("bigint", "s"), ("bigint", "ms"), ("numeric", "s"), ("double precision", "ms"))),
])
@pytest.mark.parametrize("zone", ZONES)
def test_each_instant_around_each_change_of_clocks_is_on_its_local_day(database, start, zone, column, unit):
    database.query(FLAT.format(column, "int"))
    moments = sorted({moment for day in changes(zone) for moment in instants_around(day, zone)})
    value = {None: lambda moment: moment.isoformat(), "s": lambda moment: str(int(moment.timestamp())),
             "ms": lambda moment: str(int(moment.timestamp()) * 1000)}[unit]
    database.copy("public.calls", [f"acme\tsupport\tSales\t\\N\t{value(moment)}\t10\n" for moment in moments])
    adopt(database, "on", "--preset", "flat", "--time_zone", zone, *(["--start_unit", unit] if unit else []))
    worker = start(Worker, database.url)
    local = [moment.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    calls = [Call("acme", "support", "Sales", None, moment, 10000) for moment in local]
    for days in ("20000101-20301231", f"{local[0]:%Y%m%d}", f"{local[-1]:%Y%m%d}", "20111229-20111231"):
        assert body(worker, "acme/support", days) == answer(calls, "acme", "support", None, Days(days, "UTC")), days


@pytest.mark.parametrize("zone", ZONES)
def test_wall_clock_time_is_on_its_own_day(database, start, zone):
    """In the zone of the organization, whatever the zone of the session is; hours that a clock skipped included."""
    database.query(FLAT.format("timestamp", "int"))
    times = sorted({datetime.datetime.combine(day, datetime.time(hour, minute)) for day in changes(zone)
                    for hour, minute in ((0, 0), (0, 30), (1, 30), (2, 30), (12, 0), (23, 1), (23, 59))})
    database.copy("public.calls", [f"acme\tsupport\tSales\t\\N\t{time.isoformat()}\t10\n" for time in times])
    calls = [Call("acme", "support", "Sales", None, time, 10000) for time in times]
    expected = answer(calls, "acme", "support", None, Days("20000101-20301231", "UTC"))
    worker = start(Worker, f"{database.url} options='-c TimeZone=Asia/Tokyo -c DateStyle=German'")
    adopt(database, "on", "--preset", "flat", "--time_zone", zone)
    assert body(worker, "acme/support", "20000101-20301231") == expected
    adopt(database, "on", "--preset", "flat", "--time_zone", "")
    assert body(worker, "acme/support", "20000101-20301231") == expected


def test_wall_clock_time_of_another_zone_is_on_the_day_of_the_organization(database, start):
    database.query(FLAT.format("timestamp", "int"))
    times = [datetime.datetime(2026, 3, 1) + datetime.timedelta(minutes=30 * n) for n in range(48 * 30)]
    times = [time for time in times if (time.day, time.hour) != (29, 2)]  # skipped in Berlin
    database.copy("public.calls", [f"acme\tsupport\tSales\t\\N\t{time.isoformat()}\t10\n" for time in times])
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    database.query("update callstats.organization set time_zone = 'America/St_Johns'")
    adopt(database, "sync")
    local = [time.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).astimezone(zoneinfo.ZoneInfo("America/St_Johns"))
             for time in times]
    calls = [Call("acme", "support", "Sales", None, time.replace(tzinfo=None), 10000) for time in local]
    worker = start(Worker, database.url)
    assert body(worker, "acme/support", "20260201-20260430") == answer(calls, "acme", "support", None,
                                                                      Days("20260201-20260430", "UTC"))


@pytest.mark.parametrize("column, value, unit, seconds", [
    ("int", "125", "s", "125"), ("numeric", "1.2345", "s", "1.235"), ("interval", "00:02:05.5", None, "125.5"),
    ("text", "1:02:05", "hms", "3725"),
    *(pytest.param(*duration, marks=pytest.mark.slow) for duration in (
        ("bigint", "125000", "ms", "125"), ("real", "1.5", "s", "1.5"), ("double precision", "0.25", "s", "0.25"),
        ("time", "00:02:05", None, "125"), ("text", "02:05", "hms", "125"), ("text", " 125 ", "s", "125"),
        ("numeric", "0.001655093", "days", "143"))),
])
def test_duration_is_read_by_its_type_and_unit(database, start, column, value, unit, seconds):
    database.query(FLAT.format("timestamptz", column))
    database.query("insert into public.calls values ('acme', 'support', 'Sales', null, '2026-03-04 12:00Z', %s)", value)
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", "--unit", unit or "")
    worker = start(Worker, database.url)
    assert body(worker, "acme/support", "20260304") == (
        f'[{{"date":"20260304","folder":"Sales","calls":1,"avg_duration_seconds":{seconds}}}]')


@pytest.mark.parametrize("column", ["numeric", "double precision"])
def test_rows_that_cannot_be_counted_are_left_out_and_counted_by_reason(database, start, column):
    database.query(FLAT.format("timestamptz", column))
    now = datetime.datetime.now(UTC).isoformat()
    has_infinity = column != "numeric" or database.cluster.version >= 14
    infinity = "Infinity" if has_infinity else "1e1000"
    rows = [(now, "10"), (now, "NaN"), (now, infinity), (now, "-1"), (now, None), (now, "1e300"), (None, "1"),
            ("infinity", "1"), ("-infinity", "1")]
    for started, seconds in rows:
        database.query("insert into public.calls values ('acme', 'support', 'Sales', null, %s, %s)", started, seconds)
    report = adopt(database, "try", "--preset", "flat", "--time_zone", "UTC")
    for line in ("3: duration is not a number, infinite or above 24 days", "1: negative duration", "1: no start",
                 "1: no duration, or text that is none", "2: start before 1970 or after 2100, or infinite"):
        assert f"left out          {line}\n" in report, report
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    assert '"calls":1,"avg_duration_seconds":10' in body(worker, "acme/support", "20200101-20501231")
    assert "1 rows: negative duration" in check(worker.environment)[1]


def test_missing_names_are_none_and_other_types_are_text(database, start):
    database.query("""
        create type queue as enum ('Sales', 'Billing');
        create collation case_blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table public.calls (company varchar(20) collate "POSIX", organization char(20), folder queue, agent int,
                                   started timestamptz, seconds int, team text collate case_blind);
        insert into public.calls select 'acme', o, f::queue, a, timestamptz '2026-03-04 12:00Z', 10, t from (values
            ('support', 'Sales', 7, 'Red'), ('support', null, 8, 'red'), (null, 'Billing', null, 'x'),
            ('', 'Billing', 9, 'x'))
            as rows (o, f, a, t)""")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    day = datetime.datetime(2026, 3, 4)
    calls = [Call("acme", "support", "Sales", "7", day, 10000), Call("acme", "support", "(none)", "8", day, 10000),
             Call("acme", "(none)", "Billing", None, day, 10000), Call("acme", "(none)", "Billing", "9", day, 10000)]
    for organization in ("support", "(none)"):
        assert body(worker, f"acme/{organization}", "20260304") == answer(calls, "acme", organization, None,
                                                                          Days("20260304", "UTC"))
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", "--organization", "team", "--folder", "agent")
    assert '"folder":"7"' in body(worker, "acme/Red", "20260304")
    assert '"folder":"8"' in body(worker, "acme/red", "20260304")


def test_names_that_cannot_be_stored_as_they_are_still_count(database, start):
    database.query(FLAT.format("timestamptz", "int"))
    for folder in ("a\tb", "x" * 1001, "Sales"):
        database.query(
            "insert into public.calls values ('acme', 'support', %s, 'anna', '2026-03-04 12:00Z', 10)", folder)
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    found = body(worker, "acme/support", "20260304")
    assert found.count('"folder"') == 3 and '"folder":"a?b"' in found


def test_nothing_pins_the_adopted_table(database, start):
    """Each change of the site works; answers follow it, or are 503 with the reason in the log and in check."""
    database.query(FLAT.format("timestamptz", "int"))
    row = "insert into public.calls (company, organization, folder, started, seconds) values " \
          "('acme', 'support', 'Sales', '2026-03-04 12:00Z', 10)"
    database.query(row)
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    expected = body(worker, "acme/support", "20260304")
    assert expected != "[]"
    for change in ("alter table public.calls alter column seconds type numeric",
                   "alter table public.calls alter column agent type varchar(40)",
                   "alter table public.calls add column more int"):
        database.query(change)
        assert body(worker, "acme/support", "20260304") == expected, change
    # A view, and a partitioned table, in its place.
    for change in ("alter table public.calls rename to calls_old;"
                   "create view public.calls as select * from public.calls_old",
                   "drop view public.calls; " + FLAT.format("timestamptz", "int") + " partition by range (started);"
                   "create table public.calls_1 partition of public.calls default;" + row):
        database.query(change)
        adopt(database, "sync")
        assert body(worker, "acme/support", "20260304") == expected, change
    database.query("truncate public.calls")
    assert body(worker, "acme/support", "20260304") == "[]"
    for change, reason in (("alter table public.calls drop column agent", 'column "agent" does not exist'),
                           ("drop table public.calls", 'relation "public.calls" does not exist')):
        database.query(change)
        assert worker.get("/stats/acme/support?daterange=20260304").status == 503
        assert reason in worker.text()
        code, out = check(worker.environment)
        assert code == 1 and reason in out, out
        assert reason in adopt(database, "status", ok=False)
    adopt(database, "off")
    assert body(worker, "acme/support", "20260304") == "[]"


def test_dropped_column_is_never_read_from_elsewhere(database, start):
    """Neither from the calendar of days nor from a parameter, which have names, too."""
    database.query("""
        create table public.calls (company text, organization text, folder text, starts timestamptz, ends int);
        insert into public.calls values ('acme', 'support', 'Sales', '2026-03-04 12:00Z', 10)""")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", "--agent", "", "--start", "starts",
          "--duration", "ends")
    worker = start(Worker, database.url)
    assert body(worker, "acme/support", "20260304") != "[]"
    database.query("alter table public.calls drop column starts")
    assert worker.get("/stats/acme/support?daterange=20260304").status == 503


def test_new_name_is_in_the_answers_after_a_sync(database, start):
    database.query(FLAT.format("timestamptz", "int"))
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    worker = start(Worker, database.url)
    database.query("insert into public.calls values ('new', 'team', 'Queue', 'anna', now(), 10)")
    assert worker.get("/stats/new/team").status == 404
    adopt(database, "sync")
    assert '"folder":"Queue","calls":1' in body(worker, "new/team", "")
    assert database.value("select time_zone from callstats.organization where short_name = 'team'") == "Europe/Berlin"
    assert adopt(database, "sync") == ""


def test_sources_add_up_in_whatever_order_they_come(database, start):
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""create table public.more (at timestamptz, seconds int);
        insert into public.calls values ('acme', 'support', 'Sales', 'anna', '2026-03-04 12:00Z', 10);
        insert into public.more values ('2026-03-04 13:00Z', 30)""")
    worker = start(Worker, database.url)
    second = ("--name", "more", "--relation", "more", "--company", "'acme'", "--organization", "'support'",
              "--folder", "'Sales'", "--start", "at", "--duration", "seconds", "--unit", "s", "--time_zone", "UTC")

    def count():
        found = body(worker, "acme/support", "20260304")
        return int(found.partition('"calls":')[2].partition(",")[0]) if found != "[]" else 0

    for _ in range(2):
        adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
        assert count() == 1
    database.query("""insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select organization_id, id, '2026-03-04 10:00', 1000 from callstats.folder""")
    assert count() == 2
    database.script(PROJECT / "deploy" / "rollup.sql")
    assert count() == 2
    adopt(database, "on", *second)
    assert count() == 3
    database.script(PROJECT / "deploy" / "rollup-remove.sql")
    assert count() == 3
    database.script(PROJECT / "deploy" / "schema.sql")
    adopt(database, "sync")
    assert count() == 3
    status = adopt(database, "status")
    assert "public.calls" in status and "public.more" in status and "callstats.call" in status
    adopt(database, "off", "flat")
    assert count() == 2
    database.script(PROJECT / "deploy" / "rollup.sql")
    adopt(database, "off")
    assert count() == 1
    assert "select" not in database.value("select coalesce(string_agg(privilege_type, ' '), '') from "
                                          "information_schema.column_privileges where grantee = 'callstats_worker' "
                                          "and table_schema = 'public'").lower()


def test_try_changes_nothing_and_measures(database):
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""insert into public.calls select 'acme', 'support', 'Sales', 'a' || n % 5,
        timestamptz '2026-01-01Z' + n * interval '10 minutes', n % 100 from generate_series(1, 20000) n""")
    tables = ("select string_agg(relname, ' ' order by relname) from pg_class "
              "where relnamespace = 'callstats'::regnamespace")
    before = database.value(tables)
    report = adopt(database, "try", "--preset", "flat", "--time_zone", "UTC")
    assert database.value(tables) == before and database.value("select count(*) from callstats.company") == 0
    assert "calls               20000\n" in report and "create index concurrently on public.calls (started)" in report
    database.query("create index concurrently on public.calls (started)")
    database.query("analyze public.calls")
    report = adopt(database, "try", "--preset", "flat", "--time_zone", "UTC")
    day = next(line for line in report.splitlines() if line.startswith("a day"))
    assert "calls_started_idx" in day and "create index" not in report, report


def test_missing_and_misspelled_settings_are_named(database):
    database.query(FLAT.format("bigint", "int"))
    assert "no start_unit" in adopt(database, "try", "--preset", "flat", ok=False)
    assert "Hint: a similar argument exists: '--organization'" in adopt(database, "on", "--organisation", "x", ok=False)
    assert "no preset" in adopt(database, "on", "--preset", "askterisk", ok=False)
    database.query("insert into public.calls values ('acme', 'support', 'Sales', 'anna', 1772625600, 10)")
    assert "no time_zone" in adopt(database, "on", "--preset", "flat", "--start_unit", "s", ok=False)
    assert 'column "nope" does not exist' in adopt(database, "on", "--preset", "flat", "--agent", "nope", ok=False)


def test_text_starts_are_read_by_their_pattern(database, start):
    database.query(FLAT.format("text", "int"))
    for text in ("04.03.2026 23:59:59", "30.02.2026 10:00:00", "4.3.2026 10:00:00", "", "04.03.2026 24:00:00"):
        database.query("insert into public.calls values ('acme', 'support', 'Sales', 'anna', %s, 10)", text)
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin",
          "--start_pattern", "DD.MM.YYYY HH24:MI:SS")
    worker = start(Worker, database.url)
    assert body(worker, "acme/support", "20260101-20261231").count('"calls":1') == 2  # the folder's and the agent's


HORIZON = ("--preset", "flat", "--time_zone", "Europe/Berlin", "--horizon", "7 days")


def fill_days(database, days, rows_a_day=20):
    database.query(FLAT.format("timestamptz", "int"))
    database.query(f"""insert into public.calls
        select 'acme', 'support', 'Queue ' || n % 3, case when n % 5 > 0 then 'agent ' || n % 4 end,
               now() - d * interval '1 day' - n * interval '37 minutes', n
        from generate_series(0, {days - 1}) d, generate_series(1, {rows_a_day}) n;
        create index on public.calls (started)""")


def year(worker):
    today = datetime.date.today()
    return body(worker, "acme/support", f"{today - datetime.timedelta(days=500):%Y%m%d}-{today:%Y%m%d}")


def summed(database):
    return database.query("select summed_from, summed_until from callstats.source")[0]


def test_sums_behind_a_horizon_answer_as_the_rows_do(database, start):
    fill_days(database, 200)
    worker = start(Worker, database.url)
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    live = year(worker)
    adopt(database, "on", *HORIZON)
    assert summed(database) == (None, None) and year(worker) == live
    out = adopt(database, "sync")
    assert " days summed" in out and summed(database)[1] is not None
    assert year(worker) == live
    assert " summed " in adopt(database, "status")
    assert "the oldest of them compared 0 hours ago" in check(worker.environment)[1]
    database.query("update callstats.source set compared_since = now() - interval '100 hours'")
    code, text = check(worker.environment)
    assert code == 1 and "were last compared with their rows 100 hours ago" in text
    # Proof that they answer: the rows behind the horizon are gone, and not yet compared.
    database.query("delete from public.calls where started < now() - interval '20 days'")
    assert year(worker) == live
    out = adopt(database, "sync", "--full")
    assert int(out.split(" sums corrected")[0].split()[-1]) > 1000
    assert len(year(worker)) < len(live) / 5
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    gone = year(worker)
    adopt(database, "on", *HORIZON)
    adopt(database, "sync")
    assert year(worker) == gone
    adopt(database, "off")
    assert year(worker) == "[]"
    assert database.value("select count(*) from callstats.source_day") == 0


def test_late_changes_behind_the_horizon_are_found(database, start):
    fill_days(database, 60)
    worker = start(Worker, database.url)
    database.query("alter table public.calls add updated timestamptz default now() - interval '1 day'")
    adopt(database, "on", *HORIZON, "--changed", "updated")
    adopt(database, "sync")
    database.query("""update public.calls set seconds = seconds + 1000, updated = now()
                      where started between now() - interval '31 days' and now() - interval '30 days';
                      insert into public.calls values
                          ('acme', 'support', 'Late', 'new', now() - interval '40 days', 5, now()),
                          ('acme', 'support', 'Late', 'new', now() - interval '400 days', 5, now())""")
    adopt(database, "sync")
    found = year(worker)
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    assert found == year(worker) and found.count('"folder":"Late"') == 2


def test_days_behind_the_horizon_are_compared_in_turns(database, start):
    fill_days(database, 30)
    worker = start(Worker, database.url)
    adopt(database, "on", *HORIZON)
    adopt(database, "sync")
    database.query("update public.calls set seconds = seconds + 1000")
    for _ in range(31):
        adopt(database, "sync")
    found = year(worker)
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    assert found == year(worker)


def test_sums_follow_the_zone_of_their_organization(database, start):
    fill_days(database, 30)
    worker = start(Worker, database.url)
    adopt(database, "on", *HORIZON)
    adopt(database, "sync")
    database.query("update callstats.organization set time_zone = 'Pacific/Apia'")
    adopt(database, "sync")
    found = year(worker)
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    assert found == year(worker)


def test_interrupted_summing_continues(database, start):
    fill_days(database, 300)
    worker = start(Worker, database.url)
    adopt(database, "on", "--preset", "flat", "--time_zone", "Europe/Berlin")
    live = year(worker)
    adopt(database, "on", *HORIZON)
    url = database.url.replace("user=callstats_worker", "user=owner")
    seen = set()
    while True:
        sync = subprocess.Popen([CALLSTATS, "adopt", "sync", "--database", url], stdout=subprocess.PIPE, text=True,
                                stdin=subprocess.DEVNULL, **as_user())
        before = summed(database)
        while summed(database) == before and sync.poll() is None:
            pass
        sync.kill()
        sync.communicate()
        assert year(worker) == live
        if sync.returncode == 0 and summed(database) == before:
            break
        seen.add(summed(database)[1])
    assert len(seen) > 2


@pytest.mark.parametrize("arguments, message", [
    (("--horizon", "soon"), "a number of days from 1 to 3650"),
    (("--horizon", "0 days"), "a number of days from 1 to 3650"),
    (("--changed", "started"), "changed has no use without a horizon"),
    (("--horizon", "7 days", "--changed", "seconds"), "changed is of type"),
])
def test_wrong_horizon_is_refused(database, arguments, message):
    database.query(FLAT.format("timestamptz", "int"))
    assert message in adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", *arguments, ok=False)


def test_names_are_created_where_a_site_has_chosen_ids_by_itself(database, start):
    """The next one of the sequence is in use."""
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""insert into callstats.company (id, short_name) values (1, 'other'), (7, 'more');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'other');
        insert into callstats.folder (id, organization_id, name) values (2, 1, 'other');
        insert into public.calls values ('acme', 'support', 'Sales', 'anna', '2026-03-04 12:00Z', 10)""")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    assert '"folder":"Sales","calls":1' in body(start(Worker, database.url), "acme/support", "20260304")
