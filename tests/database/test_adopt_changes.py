"""What a site does to its table, its organizations and its rows while a mapping is on; and what adoption warns of."""
import subprocess

import pytest

from ..support.processes import CALLSTATS, as_user, free_port, wait_until
from ..support.worker import Worker, check
from .test_adopt import FLAT, HORIZON, adopt, body, fill_days, year

ALTER = "alter table public.calls alter column {} type {} using {}"
BERLIN = ("--time-zone", "Europe/Berlin")
CHANGES = {
    "timestamp to timestamptz": (
        ("timestamp", "int"), "2026-03-04 00:30", "125", BERLIN,
        ALTER.format("started", "timestamptz", "started at time zone 'Europe/Berlin'"), "start was read as timestamp"),
    "timestamp to date": (
        ("timestamp", "int"), "2026-03-04 12:30", "125", BERLIN,
        ALTER.format("started", "date", "started::date"), "start was read as timestamp"),
    "timestamptz to timestamp": (
        ("timestamptz", "int"), "2026-03-04 12:30Z", "125", BERLIN,
        ALTER.format("started", "timestamp", "started at time zone 'UTC'"), "start was read as timestamptz"),
    "text to timestamp": (
        ("text", "int"), "04.03.2026 12:30:00", "125", (*BERLIN, "--start-pattern", "DD.MM.YYYY HH24:MI:SS"),
        ALTER.format("started", "timestamp", "to_timestamp(started, 'DD.MM.YYYY HH24:MI:SS')::timestamp"),
        "start was read as text"),
    "text to epoch": (
        ("text", "int"), "2026-03-04 12:30:00", "125", (*BERLIN, "--start-pattern", "YYYY-MM-DD HH24:MI:SS"),
        ALTER.format("started", "bigint", "extract(epoch from started::timestamp)"), "start is a number, and"),
    "seconds to text": (
        ("timestamptz", "int"), "2026-03-04 12:30Z", "125", (*BERLIN, "--unit", "s"),
        ALTER.format("seconds", "text", "seconds"), "duration was read as a number, and is text now"),
    "text to seconds": (
        ("timestamptz", "text"), "2026-03-04 12:30Z", "0:02:05", (*BERLIN, "--unit", "hms"),
        ALTER.format("seconds", "interval", "seconds::interval"), "duration was read as text"),
}


def asked(worker):
    return worker.get("/stats/acme/support?daterange=20260303-20260305")


def adopted(database, columns, start, seconds, *arguments):
    database.query(FLAT.format(*columns))
    database.query("insert into public.calls values ('acme', 'support', 'Sales', 'anna', %s, %s)", start, seconds)
    adopt(database, "on", "--preset", "flat", *arguments)


@pytest.mark.parametrize("columns, started, seconds, arguments, change, reason", CHANGES.values(), ids=CHANGES)
def test_type_that_changes_under_a_mapping_is_503(database, start, columns, started, seconds, arguments, change,
                                                  reason):
    adopted(database, columns, started, seconds, *arguments)
    worker = start(Worker, database.url)
    right = asked(worker)
    assert right.status == 200 and b'"calls":1' in right.body
    database.query(change)
    assert asked(worker).status == 503
    assert "an adopted table no longer fits its mapping: " in worker.text()
    assert "Hint: run `callstats adopt status`" in worker.text()
    code, text = check(worker.environment)
    assert code == 1 and "an adopted table no longer fits its mapping" in text
    status = adopt(database, "status", ok=False)
    assert f"FAIL              {reason}" in status, status


def test_table_is_read_by_its_new_types_after_sync(database, start):
    columns, started, seconds, arguments, change, _ = CHANGES["timestamp to timestamptz"]
    adopted(database, columns, started, seconds, *arguments)
    worker = start(Worker, database.url)
    right = asked(worker).body
    database.query(change)
    assert "callstats adopt sync reads it by its new types" in adopt(database, "status", ok=False)
    adopt(database, "sync")
    assert asked(worker).body == right
    assert "FAIL" not in adopt(database, "status")


@pytest.mark.parametrize("change", [
    ALTER.format("seconds", "bigint", "seconds"), ALTER.format("seconds", "numeric", "seconds"),
    ALTER.format("seconds", "real", "seconds"), ALTER.format("company", "varchar(20)", "company"),
    "create domain public.moment as timestamptz not null; " + ALTER.format("started", "public.moment", "started")])
def test_types_that_are_read_alike_may_change(change, database, start):
    adopted(database, ("timestamptz", "int"), "2026-03-04 12:30Z", "125", *BERLIN)
    worker = start(Worker, database.url)
    right = asked(worker).body
    database.query(change)
    assert asked(worker).body == right and asked(worker).status == 200
    assert "FAIL" not in adopt(database, "status")


def test_types_cost_nothing_while_rows_are_read(database):
    adopted(database, ("timestamptz", "int"), "2026-03-04 12:30Z", "125", *BERLIN)
    assert "callstats.has_type(" in database.value("select prosrc from pg_proc where proname = 'calls_between'")
    plan = database.query("explain (verbose) select * from callstats.calls_between(1, '2026-03-04', '2026-03-04')")
    assert "public.calls" in str(plan) and "has_type" not in str(plan)


@pytest.mark.parametrize("change", [
    "drop table public.calls", "alter table public.calls rename column seconds to duration",
    "revoke select on public.calls from callstats_worker; "
    "revoke select (started) on public.calls from callstats_worker",
    "insert into public.calls values ('acme', 'support', 'Sales', 'anna', '2026-03-04 13:00Z', 'unknown')"])
def test_table_that_cannot_be_read_is_not_taken_for_a_missing_schema(change, database, start):
    adopted(database, ("timestamptz", "text"), "2026-03-04 12:30Z", "125", *BERLIN, "--duration", "seconds::int")
    worker = start(Worker, database.url)
    assert asked(worker).status == 200
    database.query(change)
    assert asked(worker).status == 503
    assert "an adopted table no longer fits its mapping: " in worker.text()
    assert "Hint: run `callstats adopt status`" in worker.text() and "schema.sql" not in worker.text()


FILE = """relation = "public.calls"\ncompany = "company"\norganization = "organization"\nfolder = "folder"
agent = "agent"\nstart = "started"\nduration = "seconds"\nunit = "s"\nname = "again"\n"""


def test_table_under_two_mappings_is_warned_of(database, start, tmp_path):
    adopted(database, ("timestamptz", "int"), "2026-03-04 12:30Z", "125", *BERLIN)
    assert "WARNING" not in adopt(database, "status")
    options = [part for line in FILE.splitlines() for part in ("--" + line.split(" = ")[0], line.split('"')[1])]
    warning = "WARNING           the mapping {} reads public.calls too, so its rows count twice"
    assert warning.format("flat").replace("     ", "       ", 1) in adopt(database, "try", *options, *BERLIN)
    assert warning.format("flat").replace("     ", "       ", 1) in adopt(database, "on", *options, *BERLIN)
    adopt(database, "sync")
    status = adopt(database, "status")
    assert warning.format("flat") in status and warning.format("again") in status
    environment = start(Worker, database.url).environment
    code, text = check(environment)
    assert code == 0 and "again: the mapping flat reads public.calls too, so its rows count twice" in text
    adopt(database, "on", *options, *BERLIN, "--filter", "agent = 'anna'")
    adopt(database, "on", "--preset", "flat", *BERLIN, "--filter", "agent <> 'anna'")
    adopt(database, "sync")
    assert "WARNING" not in adopt(database, "status")
    assert "count twice" not in check(environment)[1]


def test_row_level_security_is_warned_of(database, start):
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""alter table public.calls enable row level security;
        insert into public.calls values ('acme', 'support', 'Sales', 'anna', '2026-03-04 12:30Z', 125)""")
    warning = "row level security of public.calls applies to callstats_worker"
    for command in (("try", "--preset", "flat", *BERLIN), ("on", "--preset", "flat", *BERLIN), ("status",)):
        assert warning in adopt(database, *command), command
    assert warning in check(start(Worker, database.url).environment)[1]
    database.query("alter table public.calls disable row level security")
    adopt(database, "sync")
    assert warning not in adopt(database, "status")


@pytest.fixture
def changing(database):
    """A table of 200 days that says when its rows changed, summed."""
    fill_days(database, 200)
    database.query("alter table public.calls add updated timestamptz default now() - interval '1 day'")
    adopt(database, "on", *HORIZON, "--changed", "updated")
    adopt(database, "sync")
    return database


def compared(database):
    return dict(database.query("select call_date, checked_at from callstats.source_checked"))


def compared_again(database):
    """The days that the next run of sync compares."""
    before = compared(database)
    adopt(database, "sync")
    after = compared(database)
    return {day for day in after if after[day] != before.get(day)}


def test_changed_days_are_compared_once_and_not_all_in_one_transaction(changing):
    changing.query("update public.calls set seconds = seconds + 1, updated = now()")
    assert len(compared_again(changing)) > 180
    assert changing.value("select count(distinct checked_at) from callstats.source_checked") >= 6
    for _ in range(2):
        assert len(compared_again(changing)) == 1  # in turns
    changing.query("update public.calls set updated = now() where started > now() - interval '51 days' "
                   "and started < now() - interval '50 days'")
    assert 4 <= len(compared_again(changing)) <= 8


def test_row_that_changes_again_within_the_minute_is_seen(changing, start):
    worker = start(Worker, changing.url)
    for seconds in (1000, 2000, 3000):
        changing.query(f"update public.calls set seconds = {seconds}, updated = now() "
                       "where started < now() - interval '50 days'")
        adopt(changing, "sync")
        found = year(worker)
        assert f'"avg_duration_seconds":{seconds}' in found
    changing.query("delete from public.calls where started < now() - interval '150 days'")


def test_zones_of_others_are_not_read(changing):
    def scans():
        return changing.value("select sum(seq_scan + coalesce(idx_scan, 0)) from pg_stat_user_tables "
                              "where relname = 'calls'")

    for n, zone in enumerate(("Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "Asia/Tehran", "America/Havana",
                              "Asia/Tokyo", "Asia/Kolkata", "America/Nuuk", "Atlantic/Azores", "America/Lima")):
        changing.query("insert into callstats.organization (company_id, short_name, time_zone) "
                       f"select id, 'other {n}', '{zone}' from callstats.company")
    before = scans()
    adopt(changing, "sync")  # compares one day
    wait_until(lambda: scans() > before, what="the scans are counted")
    assert scans() - before < 20


def test_answers_follow_the_zone_of_an_organization_at_once(changing, start):
    worker = start(Worker, changing.url)
    before = year(worker)
    changing.query("update callstats.organization set time_zone = 'Pacific/Apia'")
    found = year(worker)
    assert found != before
    adopt(changing, "sync")
    assert year(worker) == found
    adopt(changing, "on", "--preset", "flat", "--time-zone", "Europe/Berlin")
    assert year(worker) == found


def test_sync_that_sums_while_a_zone_changes_leaves_no_sums_of_the_old_one(changing, start):
    worker = start(Worker, changing.url)
    url = changing.url.replace("user=callstats_worker", "user=owner")
    for zone in ("Pacific/Apia", "Europe/Berlin", "Asia/Tokyo"):
        sync = subprocess.Popen([CALLSTATS, "adopt", "sync", "--full", "--database", url], stdout=subprocess.DEVNULL,
                                stdin=subprocess.DEVNULL, **as_user())
        changing.query("update callstats.organization set time_zone = %s", zone)
        during = year(worker)
        assert sync.wait(60) == 0
        assert year(worker) == during
        adopt(changing, "sync")
        assert year(worker) == during


@pytest.mark.parametrize("zone", ["CET", "EET", "WET", "posixrules", "Factory", "Nowhere/City"])
def test_zone_that_tenant_add_refuses_is_refused(zone, database):
    database.query(FLAT.format("timestamp", "int"))
    for action in ("try", "on"):
        assert f'time zone "{zone}" ' in adopt(database, action, "--preset", "flat", "--time-zone", zone, ok=False)


@pytest.mark.parametrize("span", ["-1 hour", "0", "soon"])
def test_span_is_above_zero(span, database):
    database.query(FLAT.format("timestamp", "int"))
    found = adopt(database, "on", "--preset", "flat", *BERLIN, "--call", "agent", "--span", span, ok=False)
    assert f'span cannot be "{span}". Hint: give an interval above 0' in found


def test_text_of_seconds_is_a_start(database, start):
    adopted(database, ("text", "int"), "1772625600", "125", *BERLIN, "--start-unit", "s")
    database.query("insert into public.calls values ('acme', 'support', 'Sales', 'anna', 'unknown', 10)")
    assert '"date":"20260304","folder":"Sales","calls":1' in body(start(Worker, database.url), "acme/support",
                                                                "20260303-20260305")


def test_off_without_a_mapping_says_so(database):
    assert adopt(database, "off") == "No mapping is on.\n"
    adopted(database, ("timestamptz", "int"), "2026-03-04 12:30Z", "125", *BERLIN)
    adopt(database, "off")
    assert adopt(database, "off") == "No mapping is on.\n"
    assert adopt(database, "off", "flat") == "flat is not on.\n"


@pytest.mark.parametrize("columns, arguments, expected", [
    (("timestamptz", "int"), BERLIN, "an instant"), (("timestamp", "int"), BERLIN, "wall-clock time in Europe/Berlin"),
    (("bigint", "int"), (*BERLIN, "--start-unit", "ms"), "milliseconds since 1970"),
    (("date", "int"), BERLIN, "a day")])
def test_try_reports_how_a_start_is_read(columns, arguments, expected, database):
    database.query(FLAT.format(*columns))
    assert f"start               read as {expected}\n" in adopt(database, "try", "--preset", "flat", *arguments)


def test_failed_connection_names_its_source_and_what_to_check():
    done = subprocess.run([CALLSTATS, "tenant", "list"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          **as_user(PGHOST="127.0.0.1", PGPORT=str(free_port())))
    assert done.returncode == 1
    assert "(connected by the PG variables of the environment). Hint: check host and port" in done.stderr, done.stderr
