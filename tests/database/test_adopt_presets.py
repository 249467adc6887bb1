"""The presets of `callstats adopt` on the public schemas of Asterisk, FusionPBX and FreeSWITCH."""
import json

from ..support.worker import Worker
from .test_adopt import adopt, body

CDR = """create table public.cdr ({start}, clid varchar(80) not null default '',
    src varchar(80) not null default '', dst varchar(80) not null default '', dcontext varchar(80) not null default '',
    channel varchar(80) not null default '', dstchannel varchar(80) not null default '',
    lastapp varchar(80) not null default '', lastdata varchar(80) not null default '', duration int not null default 0,
    billsec int not null default 0, disposition varchar(45) not null default '', amaflags int not null default 0,
    accountcode varchar(20) not null default '', uniqueid varchar(150) not null default '',
    linkedid varchar(150) not null default '', userfield varchar(255) not null default '')"""


def rows(database, start, values):
    columns = "src, dst, dcontext, channel, dstchannel, lastapp, billsec, disposition, uniqueid, linkedid"
    for row in values:
        database.query(f"insert into public.cdr ({start}, {columns}) values ({', '.join(['%s'] * 11)})", *row)


def entries(worker, path, days):
    """Folder, calls and agents of each entry."""
    return [(entry["folder"], entry["calls"], entry["avg_duration_seconds"],
             {agent["agent_id"]: agent["calls"] for agent in entry.get("agents", [])})
            for entry in json.loads(body(worker, path, days))]


def test_asterisk_counts_a_call_once_and_credits_who_talked(database, start):
    database.query(CDR.format(start="calldate timestamp not null"))
    day = "2026-03-03 10:00:0"
    rows(database, "calldate", [
        # A ring group over a Local channel: three answered rows.
        (f"{day}0", "0100", "300", "delay", "Local/ch1@delay-00000006;2", "SIP/301-00000012", "Dial",
         0, "ANSWERED", "1.52", "1.50"),
        (f"{day}0", "0100", "300", "incoming", "SIP/t-00000011", "Local/ch1@delay-00000006;1",
         "Dial", 0, "ANSWERED", "1.50", "1.50"),
        (f"{day}6", "0100", "300", "incoming", "SIP/t-00000011", "SIP/301-00000012", "Dial", 17,
         "ANSWERED", "1.50", "1.50"),
        # A queue: the caller's row and the agent's.
        (f"{day}0", "0200", "600", "ext-queues", "PJSIP/trunk-00000001",
         "Local/101@from-queue-00000001;1", "Queue", 60, "ANSWERED", "2.1", "2.1"),
        (f"{day}1", "0200", "101", "from-queue", "Local/101@from-queue-00000001;2",
         "PJSIP/101-00000002", "Dial", 50, "ANSWERED", "2.3", "2.1"),
        # Outbound: of the extension.
        (f"{day}0", "301", "0301234567", "from-internal", "SIP/301-00000021",
         "SIP/provider-00000022", "Dial", 30, "ANSWERED", "3.1", "3.1"),
        # Only an IVR, only a voicemail, and nobody.
        (f"{day}0", "0300", "s", "ivr-1", "SIP/t-00000031", "", "BackGround", 20, "ANSWERED", "4.1", "4.1"),
        (f"{day}0", "0300", "301", "incoming", "SIP/t-00000032", "SIP/301-00000033", "VoiceMail", 20,
         "ANSWERED", "5.1", "5.1"),
        (f"{day}0", "0300", "301", "incoming", "SIP/t-00000034", "SIP/301-00000035", "Dial", 0,
         "NO ANSWER", "6.1", "6.1")])
    # Names of channels: each is the agent of a call of its own.
    channels = {"IAX2/office-8412": "office", "Dongle/dongle0-0100000000": "dongle0", "SIP/anna-000000010": "anna",
                "SIP/bob-0000001A": "bob", "DAHDI/1-1": "1", "PJSIP/anna-bob-00000044": "anna-bob"}
    rows(database, "calldate", [
        (f"{day}0", "0400", "x", "names", "SIP/t-00000041", channel, "Dial", 5, "ANSWERED", f"9.{n}", f"9.{n}")
        for n, channel in enumerate(channels)])
    report = adopt(database, "try", "--preset", "asterisk", "--time_zone", "Europe/Berlin")
    assert "linkedid" in report and "calls               9\n" in report, report
    adopt(database, "on", "--preset", "asterisk", "--time_zone", "Europe/Berlin")
    worker = start(Worker, database.url)
    assert entries(worker, "pbx/default", "20260303") == [
        ("ext-queues", 1, 50, {"101": 1}), ("from-internal", 1, 30, {"301": 1}), ("incoming", 1, 17, {"301": 1}),
        ("names", 6, 5, dict.fromkeys(sorted(channels.values()), 1))]


def test_asterisk_call_over_midnight_is_on_the_day_of_its_start(database, start):
    database.query(CDR.format(start='"start" timestamptz, answer timestamptz, "end" timestamptz'))
    rows(database, '"start"', [
        ("2026-03-03 23:59:50+01", "0100", "300", "incoming", "SIP/t-00000011",
         "Local/1@q-00000001;1", "Dial", 40, "ANSWERED", "1.1", "1.1"),
        ("2026-03-04 00:00:10+01", "0100", "300", "q", "Local/1@q-00000001;2", "SIP/301-00000012",
         "Dial", 20, "ANSWERED", "1.3", "1.1")])
    adopt(database, "on", "--preset", "asterisk-start", "--time_zone", "Europe/Berlin")
    worker = start(Worker, database.url)
    assert entries(worker, "pbx/default", "20260303") == [("incoming", 1, 20, {"301": 1})]
    assert entries(worker, "pbx/default", "20260304") == []
    assert body(worker, "pbx/default", "20260301-20260331") == body(worker, "pbx/default", "20260303")


def test_fusionpbx_counts_legs_a_outside_of_the_agents(database, start):
    database.query("""
        create table public.v_xml_cdr (xml_cdr_uuid uuid, domain_name text, extension_uuid uuid, direction text,
            start_epoch numeric, start_stamp timestamptz, answer_stamp timestamptz, billsec numeric, leg char(1),
            cc_side text, cc_queue text, cc_agent text, originating_leg_uuid uuid, voicemail_message boolean);
        insert into public.v_xml_cdr
            (domain_name, start_stamp, billsec, leg, cc_side, cc_queue, cc_agent, originating_leg_uuid) values
        ('a.example', '2026-03-04 10:00Z', 60, 'a', 'member', 'sales@a.example', '101@a.example', null),
        ('a.example', '2026-03-04 10:00Z', 50, 'a', 'agent', 'sales@a.example', '101@a.example', null),
        ('a.example', '2026-03-04 10:00Z', 50, 'b', null, null, null, null),
        ('a.example', '2026-03-04 11:00Z', 20, 'a', null, null, null, null),
        ('a.example', '2026-03-04 11:00Z', 20, 'a', null, null, null, gen_random_uuid()),
        ('a.example', '2026-03-04 12:00Z', 0, 'a', null, null, null, null)""")
    adopt(database, "on", "--preset", "fusionpbx", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    assert entries(worker, "fusionpbx/a.example", "20260304") == [
        ("(none)", 1, 20, {}), ("sales@a.example", 1, 60, {"101@a.example": 1})]


def test_freeswitch_joins_the_legs_of_a_call(database, start):
    one, two = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
    database.query("""create table public.cdr (id serial primary key, caller_id_number varchar,
        destination_number varchar not null, context varchar not null, start_stamp timestamptz not null,
        answer_stamp timestamptz, end_stamp timestamptz not null, duration int not null, billsec int not null,
        hangup_cause varchar not null, uuid uuid not null, bleg_uuid uuid, accountcode varchar)""")
    legs = ((one, two, 0, "public"), (two, one, 2, "default"), (two[:-1] + "3", None, 0, "ivr"))
    for uuid, other, second, context in legs:
        database.query("""
            insert into public.cdr (destination_number, context, start_stamp, answer_stamp, end_stamp, duration,
                billsec, hangup_cause, uuid, bleg_uuid)
            values ('1001', %s, timestamptz '2026-03-04 10:00Z' + %s * interval '1 second', '2026-03-04 10:00:03Z',
                '2026-03-04 10:00:33Z', 33, 30, 'NORMAL_CLEARING', %s, %s)""", context, second, uuid, other)
    adopt(database, "on", "--preset", "freeswitch", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    assert entries(worker, "freeswitch/default", "20260304") == [("public", 1, 30, {"1001": 1})]


def test_normalized_schema_is_a_join(database, start):
    database.query("""
        create table public.clients (id int primary key, code text unique);
        create table public.queues (id int primary key, client_id int references public.clients, title text, site text);
        create table public.people (id int primary key, login text);
        create table public.calls (id bigint primary key, queue_id int references public.queues, person_id int,
                                   began timestamptz, ended timestamptz);
        insert into public.clients values (1, 'acme'); insert into public.queues values (1, 1, 'Sales', 'support');
        insert into public.people values (7, 'anna');
        insert into public.calls values
            (1, 1, 7, '2026-03-04 10:00Z', '2026-03-04 10:01Z'),
            (2, 1, null, '2026-03-04 11:00Z', '2026-03-04 11:00:30Z'), (3, 1, null, '2026-03-04 11:00Z', null)""")
    mapping = ("--relation", "public.calls k join public.queues q on q.id = k.queue_id "
               "join public.clients c on c.id = q.client_id left join public.people p on p.id = k.person_id",
               "--company", "c.code", "--organization", "q.site", "--folder", "q.title", "--agent", "p.login",
               "--start", "k.began", "--duration", "k.ended - k.began", "--time_zone", "UTC")
    adopt(database, "on", *mapping)
    worker = start(Worker, database.url)
    assert entries(worker, "acme/support", "20260304") == [("Sales", 2, 45, {"anna": 1})]
