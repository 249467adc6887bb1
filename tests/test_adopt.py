"""Tables that sites have already, behind call_source: answers are those of the oracle."""
import datetime
import random
import zoneinfo

from .support.oracle import Call, Days, answer
from .support.processes import PROJECT
from .support.worker import ROOT_TOKEN, Worker, check

ADOPT = PROJECT / "deploy" / "adopt"
ZONES = {("acme", "support"): "Europe/Berlin", ("acme", "sales"): "America/New_York", ("other", "support"): "Asia/Tokyo"}


def assert_answers(worker, calls, scopes):
    for company, organization, folder in scopes:
        for option in ("20260301-20260310", "20260305", "20260329", "19990101-20991231", "20260401-20260331"):
            uri = "/".join(["/stats", company, organization] + ([folder] if folder else []))
            found = worker.ask("GET", f"{uri}?token={ROOT_TOKEN}&daterange={option}")
            expected = answer(calls, company, organization, folder, Days(option, "UTC"))
            assert (found.status, found.body.decode()) == (200, expected), (uri, option)


def assert_check_tells_of_the_index(worker):
    _, out = check(worker.environment)
    wrong = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert len(wrong) == 1 and "no index matches the grouping order" in wrong[0], out


def test_a_flat_table(database, start):
    database.query("""create table public.calls (company text, organization text, folder text, agent text, started timestamptz,
        seconds numeric)""")
    choice, calls = random.Random(7), []
    for _ in range(3000):
        (company, organization), zone = choice.choice(list(ZONES.items()))
        # Hours around midnight and the switch to summer time, told by UTC.
        started = datetime.datetime(2026, 3, choice.choice([1, 4, 5, 6, 28, 29, 30]), choice.randrange(24), choice.randrange(60),
                                    tzinfo=datetime.timezone.utc)
        local = started.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)
        agent = choice.choice([None, "", "anna", "Bob", "ä"])
        milliseconds = choice.choice([0, 1, 1500, choice.randrange(10**7)])
        folder = choice.choice(["A", "b", "C c"])
        calls.append(Call(company, organization, folder, agent, local, milliseconds))
        database.query("insert into public.calls values (%s, %s, %s, %s, %s, %s / 1000.0)", company, organization, folder, agent,
                       started, milliseconds)
    for _ in range(2):
        database.script(ADOPT / "flat.sql")
    for (company, organization), zone in ZONES.items():
        database.query("""update callstats.organization set time_zone = %s where short_name = %s
            and company_id = (select id from callstats.company where short_name = %s)""", zone, organization, company)
    worker = start(Worker, database.url)
    scopes = [(company, organization, folder) for company, organization in ZONES for folder in (None, "A")]
    assert_answers(worker, calls, scopes)
    assert_check_tells_of_the_index(worker)
    database.query("insert into public.calls values ('acme', 'support', 'new', null, '2026-03-05 12:00+00', 1)")
    database.query("select callstats.adopt_names()")
    assert_answers(worker, [*calls, Call("acme", "support", "new", None, datetime.datetime(2026, 3, 5, 13), 1000)],
                   [("acme", "support", None)])


def test_asterisk(database, start):
    database.query("""create table public.cdr (calldate timestamp not null, clid varchar(80) not null default '',
        src varchar(80) not null default '', dst varchar(80) not null default '', dcontext varchar(80) not null default '',
        channel varchar(80) not null default '', dstchannel varchar(80) not null default '', lastapp varchar(80) not null default '',
        lastdata varchar(80) not null default '', duration int not null default 0, billsec int not null default 0,
        disposition varchar(45) not null default '', amaflags int not null default 0, accountcode varchar(20) not null default '',
        uniqueid varchar(150) not null default '', userfield varchar(255) not null default '')""")
    choice, calls = random.Random(8), []
    channels = {"SIP/anna-0000a1b2": "anna", "PJSIP/bob-00000001": "bob", "Local/22@agents-0000000c;1": "22@agents", "": None,
                "DAHDI/i1/5551234-1f": "i1/5551234-1f"}
    for _ in range(2000):
        started = datetime.datetime(2026, 3, choice.choice([1, 4, 5, 29]), choice.randrange(24), choice.randrange(60))
        account, context = choice.choice(["support", "sales", ""]), choice.choice(["queue-a", "queue-b", ""])
        channel, seconds = choice.choice(list(channels)), choice.randrange(4000)
        disposition = choice.choice(["ANSWERED", "ANSWERED", "NO ANSWER", "BUSY", "FAILED"])
        database.query("""insert into public.cdr (calldate, dcontext, dstchannel, duration, billsec, disposition, accountcode)
            values (%s, %s, %s, %s, %s, %s, %s)""", started, context, channel, seconds + 5, seconds, disposition, account)
        if disposition == "ANSWERED":
            calls.append(Call("pbx", account or "default", context or "default", channels[channel], started, seconds * 1000))
    for _ in range(2):
        database.script(ADOPT / "asterisk-cdr.sql")
    worker = start(Worker, database.url)
    assert_answers(worker, calls, [("pbx", organization, folder) for organization in ("support", "sales", "default")
                                   for folder in (None, "queue-a", "default")])
    assert_check_tells_of_the_index(worker)
