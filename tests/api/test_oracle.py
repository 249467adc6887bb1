"""Random calls and random requests, compared to the byte with a second implementation."""
import datetime
import hashlib
import random
import urllib.parse
import zoneinfo

import pytest

from ..support import fastcgi
from ..support.oracle import Call, Days, answer
from ..support.worker import ROOT_TOKEN, Worker

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago",
         "Australia/Lord_Howe", "America/Sao_Paulo"]
LETTERS = list("abcABC019 ._-+%/\\?#&=;:,'\"<>{}[]()|^~`@!$*éßÅ中語\u200f\u2028\U0001f4de\x01\x1f\x7f\ufeff\u0130")
INTERVALS = ["week", "month", "total"]
REQUESTS = 800
EMPTY = ("[]", "\ufeffdate,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n")


def name(random_source, most=8):
    return "".join(random_source.choices(LETTERS, k=random_source.randint(1, most)))


def names(random_source, count):
    found = {name(random_source) for _ in range(count)}
    return sorted(found | {next(iter(found)) + "x", next(iter(found)).swapcase()})


class World:
    """Tenants and calls in memory and in a database."""

    def __init__(self, seed, database):
        self.random = random.Random(seed)
        self.calls, self.zones, self.folders, self.tokens = [], {}, {}, {}
        for company in names(self.random, 3):
            self.tokens[company] = name(self.random, 20)
            digest = hashlib.sha256(self.tokens[company].encode()).digest()
            company_id = database.value(
                "insert into callstats.company (short_name, token_sha256) values (%s, %s) returning id", company, digest
            )
            for organization in names(self.random, 2):
                self.add_organization(database, company, company_id, organization)

    def add_organization(self, database, company, company_id, organization):
        zone = self.random.choice(ZONES)
        self.zones[company, organization] = zone
        organization_id = database.value(
            "insert into callstats.organization (company_id, short_name, time_zone) values (%s, %s, %s) returning id",
            company_id, organization, zone)
        self.folders[company, organization] = names(self.random, 5)
        agents = [None, "", *names(self.random, 6)]
        today = datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date()
        days = [today + datetime.timedelta(days) for days in range(-3, 3)]
        days += [today.replace(day=1) - datetime.timedelta(days) for days in (1, 2, 40, 365)]
        days += [
            datetime.date(2026, 3, 28),
            datetime.date(2026, 3, 29),
            datetime.date(2026, 10, 25),
            datetime.date(2024, 2, 29),
            datetime.date(1999, 12, 31),
            datetime.date(1, 1, 1),
            datetime.date(9999, 12, 31),
        ]
        times = [datetime.time(0), datetime.time(23, 59, 59, 999999), datetime.time(2, 30), datetime.time(12)]
        for folder in self.folders[company, organization]:
            folder_id = database.value(
                "insert into callstats.folder (organization_id, name) values (%s, %s) returning id",
                organization_id,
                folder,
            )
            for _ in range(self.random.choice([0, 1, 5, 60])):
                duration = self.random.choice([0, 1, 999, 1000, 86_400_000, 2**31 - 1, self.random.randrange(600_000)])
                call = Call(company, organization, folder, self.random.choice(agents),
                            datetime.datetime.combine(self.random.choice(days), self.random.choice(times)), duration)
                self.calls.append(call)
                database.query(
                    """insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
                    values (%s, %s, %s, %s, %s)""",
                    organization_id,
                    folder_id,
                    call.agent,
                    call.started_at,
                    call.duration_ms,
                )

    def daterange(self, zone):
        today = datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date()
        near = [f"{today + datetime.timedelta(days):%Y%m%d}" for days in range(-3, 4)]
        far = ["20260328", "20260329", "20261025", "20240229", "19991231", "00010101", "99991231", "20260230", "x",
               "2026033", "20260303000000", "00000101"]
        start, end = (self.random.choice([*near, *near, *far]) for _ in range(2))
        ordered = "-".join(sorted(self.random.choices(near, k=2)))
        return self.random.choice(
            [
                None,
                "",
                "-",
                start,
                f"{start}-",
                f"-{end}",
                f"{start}-{end}",
                f"{start}-{end}",
                ordered,
                ordered,
                ordered,
                ordered,
            ]
        )

    def escaped(self, text):
        """Percent-encoded where it must be, and at random elsewhere."""
        return "".join(
            urllib.parse.quote(letter, safe="")
            if self.random.random() < 0.5
            else urllib.parse.quote(letter, safe="~+:@!$'()*,")
            for letter in text
        )

    def request(self, open_range):
        (company, organization), zone = self.random.choice(list(self.zones.items()))
        folder = self.random.choice([None, *self.folders[company, organization]])
        intervals = [None, "", "day", *INTERVALS, *INTERVALS]
        known = {"daterange": self.daterange(zone), "interval": self.random.choice(intervals),
                 "format": self.random.choice([None, None, "", "json", "csv"])}
        token = self.random.choice([ROOT_TOKEN, self.tokens[company]])
        path = "/".join(["/stats", *(self.escaped(part) for part in (company, organization, folder) if part)])
        given = [("token", token), *((name, value) for name, value in known.items() if value is not None)]
        self.random.shuffle(given)
        uri = f"{path}?{urllib.parse.urlencode(given)}"
        return uri, lambda: answer(self.calls, company, organization, folder,
                                   Days(known["daterange"], zone, open_range), known["interval"] or "day",
                                   known["format"] or "json")


@pytest.mark.parametrize("open_range", ["day", "unbounded"])
def test_random_requests_agree_with_the_oracle(cluster, start, open_range):
    # The order of bytes must hold whatever the order of the database is: here it is that of a language, if a database
    # can have one that does not depend on the system's locales.
    order = {"locale_provider": "icu", "icu_locale": "'en-US'"} if cluster.version >= 15 else {}
    database = cluster.database(template="template0", **order)
    # Names as they were before control characters were refused.
    database.query("alter table callstats.folder drop constraint folder_name_has_no_control_character")
    database.query("alter table callstats.call drop constraint call_agent_id_has_no_control_character")
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    world = World(seed, database)
    worker = start(Worker, database.url, CALLSTATS_OPEN_RANGE=open_range)
    filled = 0
    with fastcgi.Connection(worker.socket) as connection:
        for _ in range(REQUESTS):
            uri, expected = world.request(open_range)
            found, wanted = connection.ask("GET", uri, keep=True), expected()
            if found.body.decode() != wanted:  # midnight can have passed somewhere in between
                found, wanted = connection.ask("GET", uri, keep=True), expected()
            assert (found.status, found.body.decode()) == (200, wanted), uri
            filled += wanted not in EMPTY
    print(f"{REQUESTS} requests compared, {filled} of them with entries")
    assert filled > REQUESTS / 4
    database.drop()
