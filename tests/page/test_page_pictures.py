"""Pictures of the page with a year of a plausible service desk, for docs/ and for people to look at."""

import datetime
import math
import random

import pytest

from tests.support.browser import Page
from tests.support.processes import PROJECT
from tests.support.stats_stub import StatsStub, Sums

PICTURES = PROJECT / "target" / "screenshots"
FOLDERS = {
    "Billing": 10,
    "Technical support": 9,
    "New orders": 7,
    "Returns": 5,
    "Outbound": 4,
    "VIP": 3,
    "Complaints": 2.5,
    "Onboarding": 1.5,
    "القسم التجاري": 2,
    "Rückfragen": 1.2,
}
AGENTS = [
    "Amara Okafor",
    "Ben Carter",
    "Chloé Dubois",
    "Daniel Meyer",
    "Elena Rossi",
    "Farid Haddad",
    "Grace Lee",
    "Hiro Tanaka",
    "Ines Costa",
    "Jonas Berg",
    "نورا حداد",
    "Katya Orlova",
    "Liam Walsh",
    "Mei Chen",
    "Noah Silva",
    "Olga Novak",
]
WEEK = [1, 0.95, 0.9, 0.92, 1.05, 0.4, 0.1]
SEASONS = [0.9, 0.85, 1, 1.05, 1.1, 1, 0.8, 0.75, 1.05, 1.15, 1.3, 1.35]


@pytest.fixture(scope="module")
def service_desk():
    choice, sums = random.Random(8), Sums()
    day = datetime.date(2026, 1, 1)
    while day < datetime.date(2027, 1, 1):
        for place, (folder, weight) in enumerate(FOLDERS.items()):
            for number, agent in enumerate([*AGENTS, ""]):
                if (number + place) % 3 == 0:
                    share = WEEK[day.weekday()] * SEASONS[day.month - 1] * (0.6 + number % 5 / 5)
                    calls = max(0, round(choice.gauss(weight * share, 0.9)))
                    if calls:
                        season = 28_000 * math.sin(day.timetuple().tm_yday / 40 + number) + 20_000 * (day.weekday() > 4)
                        length = 190_000 + 9_000 * place + 5_000 * (number % 7) + season + choice.gauss(0, 25_000)
                        sums.add("acme", "support", day, folder, agent, calls, round(calls * length))
        day += datetime.timedelta(days=1)
    return sums


@pytest.mark.parametrize(
    ("name", "scheme", "size", "state"),
    [
        ("page-light", "light", (1280, 1000), {"range": "20261001-20261031", "compare": "1"}),
        ("page-dark", "dark", (1280, 1000), {"range": "20260101-20261231", "interval": "week", "agent": "Elena Rossi"}),
        ("page-phone", "light", (390, 1240), {"range": "20261005-20261011"}),
    ],
)
def test_pictures_of_the_documentation_can_be_taken(browser, start, service_desk, name, scheme, size, state):
    page = Page(browser, start(StatsStub, service_desk, {"demo": "acme"}).url)
    browser.look(scheme, *size)
    page.open("demo", company="acme", organization="support", **state).figures()
    if "agent" in state:
        page.run("document.getElementById('agent').scrollIntoView()")
    page.picture(PICTURES / f"{name}.png")
    first, last = (datetime.datetime.strptime(day, "%Y%m%d").date() for day in state["range"].split("-"))
    found = service_desk.select("acme", "support", None, first, last, "total")
    assert page.value("calls") == sum(calls for _, (calls, _) in found)
    assert 10_000 < (PICTURES / f"{name}.png").stat().st_size < 200_000


def test_pictures_of_the_documentation_exist():
    for name in ("page-light", "page-dark", "page-phone"):
        assert (PROJECT / "docs" / f"{name}.png").stat().st_size < 200_000
