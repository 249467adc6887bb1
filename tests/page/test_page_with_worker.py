"""The page in front of the real worker behind nginx: the same figures, the same errors, and its speed."""

import dataclasses
import datetime
import json
import urllib.error
import urllib.request

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Page
from tests.support.processes import wait_until
from tests.support.webservers import Nginx, WithPage
from tests.support.worker import ROOT_TOKEN, Worker

from . import expected
from .conftest import FOLDERS
from .test_page_figures import assert_figures, read
from .test_page_speed import fastest_of_three

ACME = {"company": "acme", "organization": "support"}


def literal(text):
    return (
        "\\N"
        if text is None
        else text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    )


class PageSite(WithPage, Nginx):
    """nginx.conf.example, with the page."""


# A control character in a name is refused by newer schemas.
NAMES = {name: name.replace("\r\n", " ") for name in FOLDERS}


@pytest.fixture(scope="module")
def served(calls):
    """The calls of all tests of the page, with the names that the worker's database has."""
    return [dataclasses.replace(call, folder=NAMES.get(call.folder, call.folder)) for call in calls]


@pytest.fixture(scope="module")
def worker(cluster, calls):
    """With the calls of all tests of the page."""
    database = cluster.database()
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name, time_zone) values (1, 1, 'support', 'UTC')""")
    for number, name in enumerate(FOLDERS, 1):
        database.query(
            "insert into callstats.folder (id, organization_id, name) values (%s, 1, %s)", number, NAMES[name]
        )
    places = {name: number for number, name in enumerate(FOLDERS, 1)}
    database.copy(
        "callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)",
        [
            "\t".join(
                (
                    "1",
                    str(places[call.folder]),
                    literal(call.agent),
                    str(call.started_at),
                    str(call.started_at.date()),
                    str(call.duration_ms),
                )
            )
            + "\n"
            for call in calls
            if call.company == "acme"
        ],
    )
    database.query("analyze callstats.call")
    worker = Worker(database.url)
    yield worker
    worker.stop()
    database.drop()


@pytest.fixture
def site(worker, start):
    return start(PageSite, worker.socket)


@pytest.fixture
def page(browser, site):
    browser.look()
    return Page(browser, site.url)


@pytest.mark.parametrize("interval", ["day", "week", "month", "total"])
def test_intervals_have_the_figures_of_their_calls(page, served, interval):
    last = expected.today_in("UTC") - datetime.timedelta(days=3)
    first = last - datetime.timedelta(days=99)
    page.open(ROOT_TOKEN, **ACME, range=expected.own(first, last), interval=interval).figures()
    assert_figures(page, expected.within(served, first, last), first, last, interval)
    assert not page.messages()


@pytest.mark.parametrize("name", ["today", "7d", "28d", "month", "quarter", "year"])
def test_ranges_have_the_figures_of_their_days(page, served, name):
    (first, last), before = expected.ranges(expected.today_in("UTC"))[name]
    page.open(ROOT_TOKEN, **ACME, range=name, compare="1").figures()
    assert page.value("calls") == len(expected.within(served, first, last))
    previous = page.chart("calls")[1]["Previous period"]
    assert sum(number or 0 for number in previous) == len(expected.within(served, *before))


def test_folder_is_requested_by_its_name(page, served):
    first, last = expected.ranges(expected.today_in("UTC"))["28d"][0]
    for name in sorted({call.folder for call in served if call.company == "acme"}):
        page.open(ROOT_TOKEN, **ACME, range=expected.own(first, last), folder=name).figures()
        assert page.value("calls") == len(expected.within(served, first, last, [name])), name
        assert page.text("#folders-table .name") == name


def test_file_is_that_of_the_api(page, site):
    first, last = expected.ranges(expected.today_in("UTC"))["28d"][0]
    page.open(ROOT_TOKEN, **ACME, range=expected.own(first, last), interval="week").figures()
    request = urllib.request.Request(
        f"{site.url}/stats/acme/support?daterange={expected.own(first, last)}&interval=week&format=csv",
        headers={"Authorization": f"Bearer {ROOT_TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        served = read(response.read())
    shown = read(page.download("#csv")[1])
    assert len(shown) == len(served) > 100
    assert shown == served


def test_errors_are_those_of_the_api(page, site):
    for token, path in (
        (ROOT_TOKEN, "nobody/support"),
        (ROOT_TOKEN, "acme/Support"),
        (ROOT_TOKEN, "acme/support/<b>none"),
        ("not-a-token", "acme/support"),
    ):
        company, organization, *folder = path.split("/")
        page.open(token, company=company, organization=organization, folder=folder, range="20260302-20260308")
        title, text, hint = page.refused()
        request = urllib.request.Request(
            site.url + "/stats/" + path.replace("<", "%3C").replace(">", "%3E"),
            headers={"Authorization": f"Bearer {token}"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        answer = json.load(refused.value)
        assert text == answer["error"] and answer.get("hint", "") in hint


def test_token_revoked_meanwhile_is_asked_for_again(browser, database, start):
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support')""")
    worker = start(Worker, database.url)
    page = Page(browser, start(PageSite, worker.socket).url)
    page.open(ROOT_TOKEN, **ACME, range="20260302-20260308").figures()
    worker.root_token_file.write_text("another-root-token\n")
    wait_until(lambda: worker.get("/stats/acme/support").status == 401, what="the token ended")
    page.press("#show")
    assert page.refused()[0] == "Token invalid or expired"
    page.keys("another-root-token", Keys.ENTER)
    page.figures()
    assert page.query["range"] == ["20260302-20260308"]


def test_truncated_stream_is_never_shown(browser, database, start):
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name)
            select n, 1, 'folder ' || n from generate_series(1, 20) n;
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
        select 1, folder, 'agent ' || agent, date '2025-01-01' + day, date '2025-01-01' + day, 1000
        from generate_series(0, 364) day, generate_series(1, 20) folder, generate_series(1, 20) agent;
        analyze callstats.call""")
    worker = start(Worker, database.url)
    page = Page(browser, start(PageSite, worker.socket).url)
    state = {**ACME, "range": "20250101-20251231", "interval": "day"}
    page.open(ROOT_TOKEN, **state).figures()
    # The last calls of the year cannot be read any more: the answer ends after its first months went out.
    database.query("""
        create or replace view callstats.call_source as
        select organization_id, call_date, folder_id, agent_id, 1 as calls,
               duration_ms / case when call_date < '2025-12-01' then 1 else 0 end as duration_ms
        from callstats.call""")
    page.press("#show")
    assert page.refused()[1] == "The answer was truncated: the connection ended before it was complete."
    assert not page.shows("#calls-chart")


def test_today_is_that_of_the_organization(browser, database, start):
    zone, here = "Pacific/Kiritimati", "Pacific/Pago_Pago"
    database.query(f"""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name, time_zone) values (1, 1, 'support', '{zone}');
        insert into callstats.folder (id, organization_id, name) values (1, 1, 'A');
        insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select 1, 1, (now() at time zone '{zone}')::date - back, 1000 from unnest(array[0, 0, 6, 7]) back""")
    worker = start(Worker, database.url)
    page = Page(browser, start(PageSite, worker.socket).url)
    browser.command("Emulation.setTimezoneOverride", timezoneId=here)
    try:
        for name, calls in (("today", 2), ("7d", 3)):
            page.open(ROOT_TOKEN, **ACME, range=name).figures()
            assert page.value("calls") == calls
    finally:
        browser.command("Emulation.setTimezoneOverride", timezoneId="")


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["day", "week", "month"])
def test_year_is_shown_within_two_seconds(browser, database, start, interval):
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support');
        insert into callstats.folder (id, organization_id, name)
            select n, 1, 'folder ' || n from generate_series(0, 19) n;
        insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
        select 1, case when n % 2 = 0 then agent % 20 else (agent + 7) % 20 end,
               case when n % 10 < 9 then 'agent ' || agent end, day, day::date, 1000 + n * agent
        from generate_series(timestamp '2025-01-01', timestamp '2025-12-31', '1 day') day,
             generate_series(1, 50) agent, generate_series(0, 9) n;
        analyze callstats.call""")
    worker = start(Worker, database.url)
    page = Page(browser, start(PageSite, worker.socket).url)
    state = {"range": "20250101-20251231", "interval": interval}
    took = fastest_of_three(page, ROOT_TOKEN, **state)
    print(f"a year of 182,500 calls, 20 folders and 50 agents, by {interval}: {took:.0f} ms")
    assert page.value("calls") == 182_500
    assert took < 2000
