"""`callstats load` on excerpts of public record formats: the presets, by the commands that they print, and formats that
have none, by a mapping alone. What is expected is computed apart from the raw records; names and numbers are made up."""
import csv
import datetime
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree
import zoneinfo
from email.utils import parsedate_to_datetime

import pytest

from ..support.oracle import Call, Days, answer
from ..support.processes import CALLSTATS, PROJECT, Folder, as_user
from ..support.worker import Worker
from .test_adopt import adopt, body
from .test_adopt_presets import CDR

RECORDS = PROJECT / "tests" / "records"
PRESETS = PROJECT / "src" / "admin" / "load" / "presets"
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAYS = "19990101-20301231"
ACME = "callstats load --company acme --organization support"


@pytest.fixture
def site(database, start):
    """A database with acme/support in Berlin, and a worker."""
    database.query("""insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name, time_zone) values (1, 1, 'support', 'Europe/Berlin')""")
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
    done = subprocess.run(["bash", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, **user)
    assert (done.returncode == 0) == ok, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


def holds(site, calls):
    expected = [Call("acme", "support", folder, agent or None, started, round(seconds * 1000))
                for folder, agent, started, seconds in calls]
    assert expected
    found, wanted = body(site.worker, "acme/support", DAYS), answer(expected, "acme", "support", None, Days(DAYS, "UTC"))
    assert found == wanted, "\n".join(["", *map(str, calls)])


def moment(text, form="%Y-%m-%d %H:%M:%S"):
    return datetime.datetime.strptime(text, form)


def local(instant):
    """An instant as the wall clock of Berlin."""
    return instant.astimezone(BERLIN).replace(tzinfo=None)


def clock(text):
    """Seconds of h:m:s, or of a number."""
    seconds = 0.0
    for part in text.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def rows(path, encoding="utf-8", **form):
    with open(path, encoding=encoding, newline="") as lines:
        return [row for row in csv.reader(lines, **form) if row]


# What the presets make of the excerpts: (folder, agent, start, seconds) of each call.


def asterisk(records, has_linkedid=True):
    """Records are (src, dst, context, channel, other, app, start, seconds, disposition, uniqueid, linkedid)."""
    def peer(channel):
        found = re.fullmatch(r"[^/]+/(.+?)(-[0-9A-Fa-f]+)?(;[12])?", channel)
        return found[1] if found and not channel.startswith("Local/") else None

    def agent(src, dst, channel, other):
        dialler, answerer = peer(channel), peer(other)
        is_extension = re.compile("[0-9]{2,6}").fullmatch
        goes_out = answerer and not is_extension(answerer) and answerer != dst
        return dialler if dialler and goes_out and (is_extension(dialler) or dialler == src) else answerer

    calls = {}
    for number, record in enumerate(records):
        src, dst, context, channel, other, app, start, seconds, disposition, unique, linked = record
        if disposition == "ANSWERED" and other and app.lower() != "voicemail":
            leg = (context, agent(src, dst, channel, other), moment(start), int(seconds), bool(linked) and unique == linked, channel)
            calls.setdefault(linked or unique or number, []).append(leg)
    for legs in calls.values():
        context = min(legs, key=lambda leg: (not leg[4], leg[5].startswith("Local/"), leg[2]))[0]
        longest = max(legs, key=lambda leg: (leg[1] is not None, leg[3]))
        yield context, longest[1], min(leg[2] for leg in legs), longest[3]


def master(path):
    """The rows of cdr_csv."""
    for row in rows(path, "latin-1"):
        unique, linked = (row[16] if len(row) > 16 else ""), (row[19] if len(row) > 19 else "")
        is_identifier = re.compile(r"(.+-)?[0-9]{9,}\.[0-9]+").fullmatch
        yield row[1], row[2], row[3], row[5], row[6], row[7], row[9], row[13], row[14], unique if is_identifier(unique) else "", linked


def custom(path):
    """The rows of cdr_custom."""
    for row in rows(path):
        yield row[1], row[2], row[3], row[4], row[5], row[6], row[8], row[12], row[13], row[16], row[19] if len(row) > 19 else ""


def freeswitch(path, form, delimiter=","):
    calls = {}
    for row in rows(path, delimiter=delimiter):
        if row[5]:
            calls.setdefault(row[11] or row[10], []).append(row)
    for legs in calls.values():
        first = next((leg for leg in legs if leg[11]), legs[0])
        number = re.compile("[0-9]{2,6}").fullmatch
        agent = first[2] if number(first[2]) else first[1] if number(first[1]) else None
        yield first[3], agent, min(moment(leg[4], form) for leg in legs), int(first[8])


def avaya(path):
    calls = {}
    for row in rows(path):
        voicemail = row[12].startswith("VM Channel") or row[14].startswith("VM Channel")
        if row[0].startswith("2026") and clock(row[1]) > 0 and not voicemail:
            calls.setdefault((row[0], row[9]), []).append(row)
    for (start, _), legs in calls.items():
        longest = max(legs, key=lambda leg: clock(leg[1]))
        devices = [longest[13], longest[11]] if longest[8] == "1" else [longest[11], longest[13]]
        first = legs[0]
        folder = first[5] if first[4] == "I" else "internal" if first[8] == "1" else "outgoing"
        yield (folder, next((device[1:] for device in devices if device.startswith("E")), None),
               moment(start, "%Y/%m/%d %H:%M:%S" if start.count(":") == 2 else "%Y/%m/%d %H:%M"), sum(clock(leg[1]) for leg in legs))


def three_cx(path):
    calls = {}
    for row in rows(path):
        row += [""] * (27 - len(row))
        if row[4] and "VoiceMail" not in (row[21], row[22]):
            calls.setdefault(row[1], []).append(row)
    for legs in calls.values():
        first, longest = min(legs, key=lambda leg: leg[3]), max(legs, key=lambda leg: clock(leg[2]))
        folder = (first[24] if first[21] == "Queue" else "direct" if first[20] != "Extension"
                  else "internal" if first[21] == "Extension" else "outgoing")
        agent = longest[14] if longest[22] == "Extension" else longest[10] if longest[21] == "Extension" else longest[9]
        yield folder, agent, moment(first[3], "%Y/%m/%d %H:%M:%S"), clock(longest[2])


def metadata(folder, zone):
    def objects(path):
        if path.suffix == ".xml":
            yield {child.tag: child.text for child in xml.etree.ElementTree.fromstring(path.read_bytes()) if not len(child)}
            return
        text, at = path.read_text("utf-8-sig"), 0
        while at < len(text):
            found, at = json.JSONDecoder().raw_decode(text, at)
            yield found["metadata"]
            at += len(text[at:]) - len(text[at:].lstrip())
    for path in sorted(folder.glob("*")):
        for found in objects(path):
            field = {name.lower(): str(value) for name, value in found.items()}
            start = datetime.datetime.fromisoformat(field["datetime"])
            if zone and not start.tzinfo:
                start = start.replace(tzinfo=zone)
            duration = field.get("duration") or field.get("audio_duration") or field["audiosecs"]
            yield folder.name, field["agentid"], local(start) if start.tzinfo else start, clock(duration)


def transcripts(folder):
    for path in sorted(folder.glob("*.json")):
        text = path.read_text()
        found = [json.loads(line) for line in text.splitlines()] if path.name == "more.json" else json.loads(text)
        for transcript in found if isinstance(found, list) else [found]:
            client, app = transcript["client_data"], transcript.get("app_data", {})
            client = client.get("metadata", client)
            duration = transcript.get("audiosecs") or client["audio_duration"]
            yield (client.get("folder", folder.name), client.get("agentid") or app.get("agentid"),
                   moment(client.get("datetime") or app["datetime"]), duration)


def german_sheet(path, encoding, delimiter):
    found = [row for row in rows(path, encoding, delimiter=delimiter) if row[0] not in ("sep=", "Anruf-ID")]
    for number, company, organization, queue, agent, start, duration, _ in found:
        assert (company, organization) == ("acme", "support")
        if re.fullmatch("[0-9,]+", start):
            started = datetime.datetime(1899, 12, 30) + datetime.timedelta(seconds=round(float(start.replace(",", ".")) * 86400))
        else:
            form = {"3": "2026-%m-%d %H:%M", "5": "%Y-%m-%d %H:%M", "4": "%d.%m.%y %H:%M", "1": "%d.%m.%Y %H:%M:%S"}
            started = moment(start, form.get(number, "%d.%m.%Y %H:%M"))
        yield queue, agent, started, clock(duration)


def two_columns(path):
    for agent, date, time, _, duration in rows(path)[1:]:
        seconds = clock(time) if ":" in time else round(float(time) * 86400)
        yield "Calls", agent, moment(date, "%d.%m.%Y") + datetime.timedelta(seconds=seconds), clock(duration)


def twelve_hours(path):
    for queue, agent, start, fraction in rows(path)[1:]:
        yield queue, agent, moment(start, "%m/%d/%Y %I:%M:%S %p"), round(float(fraction) * 86400)


FS, CHINA, GERMAN = "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M"
PRINTED = {
    ("asterisk", "Master.csv"): lambda path: asterisk(master(path / "Master.csv")),
    ("asterisk-custom", "Master.csv"): lambda path: asterisk(custom(path / "Master.csv")),
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
def test_a_printed_command_loads_the_excerpt_of_its_format(site, records, preset, command):
    folder = records / ("vspark-metadata" if preset == "vspark-metadata-utc" else preset)
    calls = list(PRINTED[preset, command.split()[-1]](folder))
    load(site, command, folder)
    holds(site, calls)
    load(site, command, folder)  # a call has an identity: nothing changes
    holds(site, calls)


@pytest.mark.parametrize("folder, options, calls", [
    ("asterisk", "--preset asterisk older.csv", lambda path: asterisk(master(path / "older.csv"))),
    ("asterisk-custom", "--preset asterisk-custom with-linkedid.csv", lambda path: asterisk(custom(path / "with-linkedid.csv"))),
    ("freeswitch", "--preset freeswitch saved-by-german-excel.csv",
     lambda path: freeswitch(path / "saved-by-german-excel.csv", GERMAN, ";")),
    ("vspark-metadata", "--preset vspark-metadata Billing/*", lambda path: metadata(path / "Billing", None)),
    ("excel", "--preset excel unicode-text.txt", lambda path: german_sheet(path / "unicode-text.txt", "utf-16", "\t")),
    ("excel", "--preset excel without-mark.txt", lambda path: german_sheet(path / "without-mark.txt", "utf-16-le", "\t")),
    ("excel", "--preset excel --encoding windows-1252 windows-1252.csv",
     lambda path: german_sheet(path / "windows-1252.csv", "cp1252", ";")),
    ("excel", "--preset excel --folder Calls two-columns.csv", lambda path: two_columns(path / "two-columns.csv")),
    ("excel", "--preset excel --unit days --start-pattern '%m/%d/%Y %I:%M:%S %p' twelve-hours.csv",
     lambda path: twelve_hours(path / "twelve-hours.csv")),
])
def test_a_preset_takes_other_files_of_its_format(site, records, folder, options, calls):
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


# Formats without a preset, each with a mapping of its own: tests/records/NAME/map.toml.


def call_centre(path):
    for row in rows(path)[1:]:
        if row[5] == "Y":
            yield row[4], row[1], moment(f"{row[2]} {row[3]}", "%m-%d-%Y %H:%M:%S"), int(row[8])


def call_centre_excel(path):
    for row in rows(path)[1:]:
        if row[5] == "Y":
            time = datetime.timedelta(seconds=round(float(row[3]) * 86400))
            yield row[4], row[1], moment(row[2], "%d/%m/%Y") + time, round(float(row[8]) * 86400)


def bank(path):
    for row in rows(path, delimiter="\t")[1:]:
        if row[12] == "AGENT":
            yield {"PS": "Regular", "PE": "English"}[row[4]], row[16], moment(f"{row[5]} {row[6]}", "%y%m%d %H:%M:%S"), int(row[15])


def json_lines(path):
    for found in map(json.loads, path.read_text().splitlines()):
        started = datetime.datetime.fromisoformat(found["started_at"][:26] + "Z")
        yield found["route"]["name"] or "(none)", found["agent"], local(started), found["duration_ms"] / 1000


def fritzbox(path):
    for row in rows(path, delimiter=";"):
        if row[1] == "DISCONNECT" and row[3] != "0":
            yield "telephone", None, moment(row[0], "%d.%m.%y %H:%M:%S") - datetime.timedelta(seconds=int(row[3])), int(row[3])


def amazon_connect(path):
    latest = {}
    for found in json.loads("[" + path.read_text().replace("}{", "},{") + "]"):
        if found["Channel"] == "VOICE" and found["Agent"]:
            latest[found["ContactId"]] = found
    for found in latest.values():
        yield ((found["Queue"] or {}).get("Name", "(none)"), found["Agent"]["Username"],
               local(datetime.datetime.fromisoformat(found["ConnectedToSystemTimestamp"])), found["Agent"]["AgentInteractionDuration"])


def genesys(path):
    for found in json.loads(path.read_text())["conversations"]:
        of = {part["purpose"]: part for part in found["participants"]}
        if "agent" in of:
            metrics = {metric["name"]: metric["value"] for metric in of["agent"]["sessions"][0]["metrics"]}
            yield ("Sales" if "acd" in of else "(none)", of["agent"]["userId"],
                   local(datetime.datetime.fromisoformat(found["conversationStart"])), metrics["tTalk"] / 1000)


def twilio(path):
    found = {call["sid"]: call for call in json.loads(path.read_text())["calls"] if call["status"] == "completed"}
    for sid, call in found.items():
        if not call["parent_call_sid"]:
            leg = next((leg for leg in found.values() if leg["parent_call_sid"] == sid), None)
            yield ({"+49305550100": "Sales", "+49305550200": "Billing"}[call["to"]], leg and leg["to"].removeprefix("client:"),
                   local(parsedate_to_datetime(call["start_time"])), int((leg or call)["duration"]))


def cucm(path):
    calls = {}
    for row in rows(path)[2:]:
        if row[0] == "1" and row[11] != "0":
            calls.setdefault(row[2], []).append(row)
    for legs in calls.values():
        longest = max(legs, key=lambda leg: int(leg[11]))
        yield (legs[0][13] or legs[0][6], longest[8], local(datetime.datetime.fromtimestamp(int(legs[0][9]), datetime.UTC)),
               sum(int(leg[11]) for leg in legs))


@pytest.mark.parametrize("name, file, calls", [
    ("call-centre", "calls.csv", call_centre), ("call-centre-excel", "calls.csv", call_centre_excel),
    ("bank-1999", "january.txt", bank), ("json-lines", "cdr.ndjson", json_lines), ("fritzbox", "callmonitor.txt", fritzbox),
    ("amazon-connect", "records.json", amazon_connect), ("genesys", "conversations.json", genesys),
    ("twilio", "calls.json", twilio), ("cucm", "cdr_StandAloneCluster_01_202603031200_1", cucm)])
def test_a_mapping_alone_loads_a_format_without_a_preset(site, records, name, file, calls):
    for _ in range(2):
        load(site, f"callstats load --map map.toml {file}", records / name)
        holds(site, list(calls(RECORDS / name / file)))


@pytest.mark.parametrize("name, file, value", [
    ("end-before-start", "call_history.csv", "2026-03-03 10:57:39"), ("negative-duration", "calls.csv", "-1772528400")])
def test_a_negative_duration_is_refused_with_its_line(site, records, name, file, value):
    report = load(site, f"callstats load --map map.toml {file}", records / name, ok=False)
    assert re.search(rf"{re.escape(file)}[^\n]*\bline 3\b", report) and value in report, report
    assert site.value("select count(*) from callstats.call") == 0
