"""Values that must not be there: refused on write, or left out of answers and named by the statements of the check."""
import contextlib
import datetime
import json
import zoneinfo

import psycopg2
import pytest

from ..support import torture
from ..support.processes import PROJECT
from ..support.worker import ROOT_TOKEN, Worker
from .test_adopt import FLAT, adopt

SQL = PROJECT / "src" / "admin" / "sql"


@pytest.fixture
def one_organization(database):
    database.query("""insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name) values (1, 1, 'Billing')""")
    return database


@pytest.mark.slow
def test_every_accepted_time_zone_agrees_with_a_second_source(one_organization):
    """Each name that PostgreSQL lists, at moments from 1970 to 2037, against Python's own reading of IANA's data."""
    moments = [datetime.datetime(1970, 1, 1, 0, 30, tzinfo=datetime.UTC) + datetime.timedelta(days=29 * n)
               for n in range(68 * 365 // 29)]
    # The names of organizations are not looked up in files, once for each of 1,000 names.
    one_organization.query("""alter table callstats.organization disable trigger organization_time_zone;
        insert into callstats.organization (id, company_id, short_name, time_zone)
        select 99 + row_number() over (), 1, name, name from pg_timezone_names""")
    accepted, refused = [], set()
    for name, problem in one_organization.query("""select time_zone, callstats.time_zone_problem(time_zone)
            from callstats.organization where id <> 1 order by 1"""):
        if problem is None:
            accepted.append(name)
        else:
            refused.add(name)
    assert {"Europe/Berlin", "America/New_York", "EST5EDT", "UTC", "GMT", "Asia/Kathmandu"} <= set(accepted)
    assert {"CET", "MET", "EET", "WET"} <= refused
    assert not {"posixrules", "localtime", "Factory"} & set(accepted)
    differing = set()
    for name in accepted:
        zone = zoneinfo.ZoneInfo(name)
        found = one_organization.query(
            "select array(select (at at time zone %s)::timestamp from unnest(%s) with ordinality m(at, n) order by n)",
            name,
            moments,
        )[0][0]
        if found != [moment.astimezone(zone).replace(tzinfo=None) for moment in moments]:
            differing.add(name)
    assert differing == set()
    # None is refused without need: what is refused has a fixed offset here, and changes there.
    for name in refused - {"posixrules", "localtime", "Factory"}:
        assert len({moment.astimezone(zoneinfo.ZoneInfo(name)).utcoffset() for moment in moments}) > 1, name


@pytest.mark.parametrize(
    "zone, hint",
    [
        ("CET", "Europe/Brussels"),
        ("MET", "Europe/Brussels"),
        ("EET", "Europe/Athens"),
        ("WET", "Europe/Lisbon"),
        ("localtime", "Europe/Berlin"),
    ],
)
def test_time_zone_without_summer_time_is_refused_with_a_hint(zone, hint, one_organization):
    # Also if an older organization has it.
    one_organization.query("""alter table callstats.organization disable trigger organization_time_zone;
        insert into callstats.organization (id, company_id, short_name, time_zone) values (2, 1, 'old', %s);
        alter table callstats.organization enable trigger organization_time_zone""", zone)
    for session_zone in ("UTC", zone if zone != "localtime" else "Europe/Berlin"):
        one_organization.query("select set_config('timezone', %s, false)", session_zone)
        with pytest.raises(psycopg2.errors.InvalidParameterValue) as caught:
            one_organization.query("update callstats.organization set time_zone = %s where id = 1", zone)
        assert hint in caught.value.diag.message_hint
        assert one_organization.value("show timezone") == session_zone
    with contextlib.closing(one_organization.cluster.connect(one_organization.name, "callstats_worker")) as connection:
        with connection.cursor() as cursor:
            cursor.execute((SQL / "time_zones.sql").read_text())
            assert [row[:3] for row in cursor.fetchall()] == [("acme", "old", zone)]


@pytest.mark.parametrize("character", ["\x01", "\t", "\n", "\r", "\x1f", "\x7f", "\x80", "\x9f"])
def test_control_characters_are_refused_on_write(character, one_organization):
    for statement in ("insert into callstats.folder (organization_id, name) values (1, %s)",
                      "update callstats.folder set name = %s",
                      "insert into callstats.call (organization_id, folder_id, started_at, duration_ms, agent_id) "
                      "values (1, 1, '2026-03-03', 1, %s)"):
        for value in (character, f"a{character}", f"{character}b", f"a{character}b"):
            with pytest.raises(psycopg2.errors.CheckViolation, match="has_no_control_character"):
                one_organization.query(statement, value)


@pytest.mark.parametrize("name", [" ", "ä", "\u00a0", "電話", "\u2028", "\U0001f4de", "~"])
def test_other_characters_are_not_refused(name, one_organization):
    one_organization.query("insert into callstats.folder (id, organization_id, name) values (99, 1, %s)", name)
    one_organization.query("insert into callstats.call (organization_id, folder_id, started_at, duration_ms, agent_id) "
                           "values (1, 1, '2026-03-03', 1, %s)", name)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252"])
def test_letters_of_other_encodings_are_not_refused(encoding, cluster):
    database = cluster.database(with_schema=False, template="template0", encoding=f"'{encoding}'", locale="'C'")
    database.script(PROJECT / "deploy" / "schema.sql")
    database.query(torture.TENANTS)
    letter = {"LATIN1": b"\xe9", "SQL_ASCII": b"\xc3\x80", "WIN1252": b"\x80"}[encoding]
    database.query(f"set client_encoding = sql_ascii; insert into callstats.folder (id, organization_id, name) "
                   f"values (99, 1, convert_from(%s, '{encoding}'))", letter)
    database.drop()


VIEW = """drop view callstats.call_source;
    create view callstats.call_source (organization_id, call_date, folder_id, agent_id, calls, duration_ms) as
    select 1, date '2026-03-03', folder_id::{folder}, agent_id, calls::{calls}, duration_ms::{duration}
    from (values {rows}) v (folder_id, agent_id, calls, duration_ms);
    grant select on callstats.call_source to callstats_worker"""
GOOD = "(1, 'good', 2, '3000')"


@pytest.mark.parametrize("is_beside_a_mapping", [False, True], ids=["alone", "beside an adopted table"])
@pytest.mark.parametrize("duration, bad", [
    ("double precision", ["NaN", "Infinity", "-Infinity", "1e19", "-1e300", "9223372036854775808"]),
    ("real", ["NaN", "Infinity", "1e30"]),
    ("numeric", ["NaN", "1e19", "-1e40", "9223372036854775808"]),
    ("bigint", []), ("int", []),
])
def test_rows_that_cannot_be_counted_are_left_out_and_named(duration, bad, is_beside_a_mapping, one_organization,
                                                            start):
    if is_beside_a_mapping:
        one_organization.query(FLAT.format("timestamptz", "int"))
        adopt(one_organization, "on", "--preset", "flat", "--time-zone", "UTC")
    worker = start(Worker, one_organization.url)
    rows = [GOOD, "(null, 'no folder', 1, '1')", "(1, 'no calls', null, '1')", "(1, 'no duration', 1, null)",
            *(f"(1, 'bad', 1, '{value}')" for value in bad)]
    if duration == "double precision":
        rows += ["(1, 'good', 0, '0.4')", "(1, 'sums', 1, '9e18')", "(1, 'sums', 1, '9e18')"]
    if duration in ("bigint", "numeric"):
        rows += ["(1, 'sums', 1, '9000000000000000000')"] * 2
    for calls in ("int", "bigint", "numeric"):
        one_organization.query(
            VIEW.format(
                folder="bigint" if calls == "bigint" else "int", calls=calls, duration=duration, rows=", ".join(rows)
            )
        )
        expected = [{"date": "20260303", "folder": "Billing", "calls": 2, "avg_duration_seconds": 1.5,
                     "agents": [{"agent_id": "good", "calls": 2, "avg_duration_seconds": 1.5}]}]
        for path in ("support", "support/Billing"):
            for _ in range(2):  # the first one may meet a plan of the view before
                answer = worker.ask("GET", f"/stats/acme/{path}?token={ROOT_TOKEN}&daterange=20260303")
            assert (answer.status, json.loads(answer.body)) == (200, expected), (path, calls)
        found = one_organization.query((SQL / "left_out_rows.sql").read_text())
        assert sum(row[2] for row in found) == 3 + len(bad)
        assert {row[1] for row in found} >= {"no folder_id", "no calls", "no duration_ms"}
        worker.stop()
        worker = start(Worker, one_organization.url)


def test_groups_of_a_rollup_may_have_more_calls_than_an_int(one_organization, start):
    one_organization.script(PROJECT / "deploy" / "rollup.sql")
    one_organization.query(
        "insert into callstats.call_daily values (1, '2026-03-03', 1, 'x', 3000000000, 3000000000000, false)"
    )
    worker = start(Worker, one_organization.url)
    answer = worker.ask("GET", f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260303")
    assert json.loads(answer.body)[0]["calls"] == 3000000000


def test_privileges_that_are_left_are_named(one_organization):
    one_organization.script(PROJECT / "deploy" / "rollup.sql")
    text = (SQL / "remaining_privileges.sql").read_text()

    def found():
        with contextlib.closing(
            one_organization.cluster.connect(one_organization.name, "callstats_worker")
        ) as connection:
            with connection.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall()

    assert [(row[0], row[2]) for row in found()] == [
        ("may create temporary tables", True),
        ("may create large objects", True),
    ]
    one_organization.query("grant execute on function callstats.roll_up() to callstats_worker; "
                           "grant create on schema callstats to callstats_worker")
    failed = [row for row in found() if not row[2]]
    assert len(failed) == 2
    for _, fix, is_warning in found():
        if not is_warning or "temporary" in fix:
            one_organization.query(fix.split(": ")[-1])
    assert [row[0] for row in found()] == ["may create large objects"]
