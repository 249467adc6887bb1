"""`callstats load` on excerpts of public record formats: those that have a preset by the commands that it prints, the
others by a mapping alone, tests/records/NAME/map.toml."""
import datetime
import re
import shutil
import subprocess

import pytest

from ..support.oracle import Call, Days, answer
from ..support.processes import CALLSTATS, PROJECT, Folder, as_user
from ..support.record_formats import (
    RECORDS,
    amazon_connect,
    asterisk,
    avaya,
    bank,
    call_centre,
    call_centre_excel,
    cucm,
    custom,
    export,
    freeswitch,
    fritzbox,
    genesys,
    german_sheet,
    json_lines,
    local,
    master,
    metadata,
    three_cx,
    transcripts,
    twelve_hours,
    twilio,
    two_columns,
)
from ..support.worker import Worker
from .test_adopt import adopt, body
from .test_adopt_presets import CDR

PRESETS = PROJECT / "src" / "admin" / "load" / "presets"
DAYS = "19990101-20301231"
ACME = "callstats load --company acme --organization support"


@pytest.fixture
def site(database, start):
    """A database with acme/support in Berlin, and a worker."""
    database.query("""insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name, time_zone)
        values (1, 1, 'support', 'Europe/Berlin')""")
    database.worker = start(Worker, database.url)
    return database


@pytest.fixture
def records():
    """The excerpts where an unprivileged user can read them."""
    folder = Folder("records")
    shutil.copytree(RECORDS, folder.path, dirs_exist_ok=True)
    yield folder.path
    folder.remove()


def load(site, command, folder, ok=True):
    """Types a command as the owner of the database, in a folder; returns all that it printed."""
    url = site.url.replace("user=callstats_worker", "user=owner")
    user = as_user(DATABASE_URL=url, PATH=f"{CALLSTATS.parent}:/usr/bin:/bin")
    done = subprocess.run(["bash", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          **user)
    assert (done.returncode == 0) == ok, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


def holds(site, calls):
    expected = [Call("acme", "support", folder, agent or None, started, round(seconds * 1000))
                for folder, agent, started, seconds in calls]
    assert expected
    wanted = answer(expected, "acme", "support", None, Days(DAYS, "UTC"))
    assert body(site.worker, "acme/support", DAYS) == wanted, "\n".join(["", *map(str, calls)])


FS, CHINA, GERMAN = "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M"
PRINTED = {
    ("asterisk", "Master.csv"): lambda path: asterisk(master(path / "Master.csv")),
    ("asterisk-custom", "Master.csv"): lambda path: asterisk(custom(path / "Master.csv")),
    ("asterisk-export", "cdr.csv"): lambda path: asterisk(export(path / "cdr.csv")),
    ("freeswitch", "Master.csv"): lambda path: freeswitch(path / "Master.csv", FS),
    ("freeswitch", "saved-by-excel.csv"): lambda path: freeswitch(path / "saved-by-excel.csv", CHINA),
    ("avaya-ipo", "smdr.log"): lambda path: avaya(path / "smdr.log"),
    ("3cx", "cdr.log"): lambda path: three_cx(path / "cdr.log"),
    ("vspark-metadata", "Sales/*"): lambda path: metadata(path / "Sales", None),
    ("vspark-metadata-utc", "Sales/*"): lambda path: metadata(path / "Sales", datetime.UTC),
    ("vspark-transcript", "Sales/*.json"): lambda path: transcripts(path / "Sales"),
    ("excel", "calls.csv"): lambda path: german_sheet(path / "calls.csv", "utf-8-sig", ";"),
}


def printed():
    """Preset and command of each command that a preset prints."""
    return [(path.stem, line[1:].strip()) for path in sorted(PRESETS.glob("*.toml"))
            for line in path.read_text().splitlines() if line.startswith("#     callstats ")]


def test_every_preset_prints_a_command():
    names = {path.stem for path in PRESETS.glob("*.toml")} - {"plain"}
    assert names == {name for name, _ in printed()} and len(printed()) == len(PRINTED)


@pytest.mark.parametrize("preset, command", printed())
def test_printed_command_loads_the_excerpt_of_its_format(site, records, preset, command):
    folder = records / ("vspark-metadata" if preset == "vspark-metadata-utc" else preset)
    calls = list(PRINTED[preset, command.split()[-1]](folder))
    load(site, command, folder)
    holds(site, calls)
    load(site, command, folder)  # a call has an identity: nothing changes
    holds(site, calls)


@pytest.mark.parametrize("folder, options, calls", [
    ("asterisk", "--preset asterisk older.csv", lambda path: asterisk(master(path / "older.csv"))),
    ("asterisk-custom", "--preset asterisk-custom with-linkedid.csv",
     lambda path: asterisk(custom(path / "with-linkedid.csv"))),
    ("freeswitch", "--preset freeswitch saved-by-german-excel.csv",
     lambda path: freeswitch(path / "saved-by-german-excel.csv", GERMAN, ";")),
    ("vspark-metadata", "--preset vspark-metadata Billing/*", lambda path: metadata(path / "Billing", None)),
    ("excel", "--preset excel unicode-text.txt", lambda path: german_sheet(path / "unicode-text.txt", "utf-16", "\t")),
    ("excel", "--preset excel without-mark.txt",
     lambda path: german_sheet(path / "without-mark.txt", "utf-16-le", "\t")),
    ("excel", "--preset excel --encoding windows-1252 windows-1252.csv",
     lambda path: german_sheet(path / "windows-1252.csv", "cp1252", ";")),
    ("excel", "--preset excel --folder Calls two-columns.csv", lambda path: two_columns(path / "two-columns.csv")),
    ("excel", "--preset excel --unit days --start-pattern '%m/%d/%Y %I:%M:%S %p' twelve-hours.csv",
     lambda path: twelve_hours(path / "twelve-hours.csv")),
])
def test_preset_takes_other_files_of_its_format(site, records, folder, options, calls):
    load(site, f"{ACME} {options}", records / folder)
    holds(site, list(calls(records / folder)))


def test_asterisk_times_in_utc_are_those_of_the_organization(site, records):
    calls = [(folder, agent, local(started.replace(tzinfo=datetime.UTC)), seconds)
             for folder, agent, started, seconds in asterisk(master(RECORDS / "asterisk" / "Master.csv"))]
    load(site, f"{ACME} --preset asterisk --time-zone UTC Master.csv", records / "asterisk")
    holds(site, calls)


def test_asterisk_loaded_and_adopted_give_the_same_answer(site, records):
    load(site, f"{ACME} --preset asterisk Master.csv", records / "asterisk")
    loaded = body(site.worker, "acme/support", DAYS)
    site.query(CDR.format(start="calldate timestamp not null"))
    columns = "src, dst, dcontext, channel, dstchannel, lastapp, calldate, billsec, disposition, uniqueid, linkedid"
    for row in master(RECORDS / "asterisk" / "Master.csv"):
        site.query(f"insert into public.cdr ({columns}) values ({', '.join(['%s'] * 11)})", *row)
    adopt(site, "on", "--preset", "asterisk", "--time_zone", "Europe/Berlin")
    assert body(site.worker, "pbx/default", DAYS) == loaded != "[]"


@pytest.mark.parametrize("name, file, calls", [
    ("call-centre", "calls.csv", call_centre), ("call-centre-excel", "calls.csv", call_centre_excel),
    ("bank-1999", "january.txt", bank), ("json-lines", "cdr.ndjson", json_lines),
    ("fritzbox", "callmonitor.txt", fritzbox),
    ("amazon-connect", "records.json", amazon_connect), ("genesys", "conversations.json", genesys),
    ("twilio", "calls.json", twilio), ("cucm", "cdr_StandAloneCluster_01_202603031200_1", cucm)])
def test_mapping_alone_loads_a_format_without_a_preset(site, records, name, file, calls):
    for _ in range(2):
        load(site, f"callstats load --map map.toml {file}", records / name)
        holds(site, list(calls(RECORDS / name / file)))


@pytest.mark.parametrize("name, file, value", [
    ("end-before-start", "call_history.csv", "2026-03-03 10:57:39"), ("negative-duration", "calls.csv", "-1772528400")])
def test_negative_duration_is_refused_with_its_line(site, records, name, file, value):
    report = load(site, f"callstats load --map map.toml {file}", records / name, ok=False)
    assert re.search(rf"{re.escape(file)}[^\n]*\bline 3\b", report) and value in report, report
    assert site.value("select count(*) from callstats.call") == 0
