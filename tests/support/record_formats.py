"""What `callstats load` is to make of the excerpts in tests/records, computed apart from the raw records: a folder, an
agent, a start and seconds for each call. Names and numbers are made up."""
import csv
import datetime
import json
import re
import xml.etree.ElementTree
import zoneinfo
from email.utils import parsedate_to_datetime

from .processes import PROJECT

RECORDS = PROJECT / "tests" / "records"
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


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


def asterisk(records):
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
            is_first = bool(linked) and unique == linked
            leg = (context, agent(src, dst, channel, other), moment(start), int(seconds), is_first, channel)
            calls.setdefault(linked or unique or number, []).append(leg)
    for legs in calls.values():
        context = min(legs, key=lambda leg: (not leg[4], leg[5].startswith("Local/"), leg[2]))[0]
        longest = max(legs, key=lambda leg: (leg[1] is not None, leg[3]))
        yield context, longest[1], min(leg[2] for leg in legs), longest[3]


def master(path):
    """The rows of cdr_csv."""
    for row in rows(path, "latin-1"):
        row += [""] * (21 - len(row))
        unique = row[16] if re.fullmatch(r"(.+-)?[0-9]{9,}\.[0-9]+", row[16]) else ""
        yield *row[1:4], *row[5:8], row[9], row[13], row[14], unique, row[19]


def custom(path):
    """The rows of cdr_custom."""
    for row in rows(path):
        row += [""] * (20 - len(row))
        yield *row[1:7], row[8], row[12], row[13], row[16], row[19]


def export(path):
    """The rows of a table cdr."""
    with open(path, newline="") as lines:
        for row in csv.DictReader(lines):
            names = "src dst dcontext channel dstchannel lastapp calldate billsec disposition uniqueid linkedid"
            yield tuple(row[name] for name in names.split())


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
        first, agent = legs[0], None
        for leg in sorted(legs, key=lambda leg: clock(leg[1])):  # the last one that has an extension is the longest
            devices = [leg[13], leg[11]] if leg[8] == "1" else [leg[11], leg[13]]
            agent = next((device[1:] for device in devices if device.startswith("E")), agent)
        folder = first[5] if first[4] == "I" else "internal" if first[8] == "1" else "outgoing"
        form = "%Y/%m/%d %H:%M:%S" if start.count(":") == 2 else "%Y/%m/%d %H:%M"
        yield folder, agent, moment(start, form), sum(clock(leg[1]) for leg in legs)


def three_cx(path):
    calls = {}
    for row in rows(path):
        row += [""] * (27 - len(row))
        if row[4] and "VoiceMail" not in (row[21], row[22]):
            calls.setdefault(row[1], []).append(row)
    for legs in calls.values():
        first, longest = min(legs, key=lambda leg: leg[3]), max(legs, key=lambda leg: clock(leg[2]))
        dials, answers, end = first[7].startswith("Ext."), first[8].startswith("Ext."), longest[13].startswith("Ext.")
        is_group = first[21] == "Queue" or not first[21] and first[13] and first[13] != first[8]
        folder = ("internal" if dials and answers else "outgoing" if dials else
                  (first[24] or first[10]) if is_group else "direct")
        is_last = end and longest[22] in ("", "Extension")
        agent = longest[14] if is_last else longest[10] if longest[8].startswith("Ext.") else longest[9]
        yield folder, agent, moment(first[3], "%Y/%m/%d %H:%M:%S"), clock(longest[2])


def metadata(folder, zone):
    def objects(path):
        if path.suffix == ".xml":
            root = xml.etree.ElementTree.fromstring(path.read_bytes())
            yield {child.tag: child.text for child in root if not len(child)}
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
            seconds = round(float(start.replace(",", ".")) * 86400)
            started = datetime.datetime(1899, 12, 30) + datetime.timedelta(seconds=seconds)
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


# Formats without a preset.


def call_centre(path):
    for row in rows(path)[1:]:
        if row[5] == "Y":
            date = row[2].replace("/", "-")
            yield row[4], row[1], moment(f"{date} {row[3]}", "%m-%d-%Y %H:%M:%S"), int(row[8])


def call_centre_excel(path):
    for row in rows(path)[1:]:
        if row[5] == "Y":
            time = datetime.timedelta(seconds=round(float(row[3]) * 86400))
            yield row[4], row[1], moment(row[2], "%d/%m/%Y") + time, round(float(row[8]) * 86400)


def bank(path):
    for row in rows(path, delimiter="\t")[1:]:
        if row[12] == "AGENT":
            folder = {"PS": "Regular", "PE": "English"}[row[4]]
            yield folder, row[16], moment(f"{row[5]} {row[6]}", "%y%m%d %H:%M:%S"), int(row[15])


def json_lines(path):
    for found in map(json.loads, path.read_text().splitlines()):
        started = datetime.datetime.fromisoformat(found["started_at"][:26] + "Z")
        yield found["route"]["name"] or "(none)", found["agent"], local(started), found["duration_ms"] / 1000


def fritzbox(path):
    for row in rows(path, delimiter=";"):
        if row[1] == "DISCONNECT" and row[3] != "0":
            seconds = int(row[3])
            yield "telephone", None, moment(row[0], "%d.%m.%y %H:%M:%S") - datetime.timedelta(seconds=seconds), seconds


def amazon_connect(path):
    latest = {}
    for found in json.loads("[" + path.read_text().replace("}{", "},{") + "]"):
        if found["Channel"] == "VOICE" and found["Agent"]:
            latest[found["ContactId"]] = found
    for found in latest.values():
        queue, agent = (found["Queue"] or {}).get("Name", "(none)"), found["Agent"]
        started = datetime.datetime.fromisoformat(found["ConnectedToSystemTimestamp"])
        yield queue, agent["Username"], local(started), agent["AgentInteractionDuration"]


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
            folder = {"+49305550100": "Sales", "+49305550200": "Billing"}[call["to"]]
            started = local(parsedate_to_datetime(call["start_time"]))
            yield folder, leg and leg["to"].removeprefix("client:"), started, int((leg or call)["duration"])


def cucm(path):
    calls = {}
    for row in rows(path)[2:]:
        if row[0] == "1" and row[11] != "0":
            calls.setdefault(row[2], []).append(row)
    for legs in calls.values():
        longest = max(legs, key=lambda leg: int(leg[11]))
        started = datetime.datetime.fromtimestamp(int(legs[0][9]), datetime.UTC)
        yield legs[0][13] or legs[0][6], longest[8], local(started), sum(int(leg[11]) for leg in legs)
