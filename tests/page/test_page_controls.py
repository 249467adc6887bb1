"""Each control of the page: by hand, by keyboard, and as its address has it."""

import datetime

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser, Page
from tests.support.processes import wait_until
from tests.support.stats_stub import StatsStub, Sums, today

from . import expected
from .conftest import FOLDERS, OTHER_TOKEN, TOKEN

ACME = {"company": "acme", "organization": "support"}


def fill_in(page, company="acme", organization="support", token=TOKEN):
    for name, value in (("company", company), ("organization", organization), ("token", token)):
        page.enter(name, value)


def test_first_visit_asks_for_the_missing_inputs(page, stub):
    page.open()
    assert page.shows("#welcome") and not stub.asked
    page.press("#show")
    assert page.focused() == "company"
    page.keys("acme", Keys.TAB, "support", Keys.ENTER)
    assert page.focused() == "token" and not stub.asked
    page.keys(TOKEN, Keys.ENTER)
    page.figures()
    assert page.query == {"company": ["acme"], "organization": ["support"], "range": ["28d"]}
    assert page.text("#shown") == "acme / support"
    assert {headers["Authorization"] for _, headers in stub.asked} == {f"Bearer {TOKEN}"}


def test_range_and_interval_apply_immediately(page, calls, stub):
    page.open()
    fill_in(page)
    page.press("#show")
    page.figures()
    for name, ((first, last), _) in expected.ranges(today("UTC")).items():
        page.choose("range", name)
        page.figures()
        assert page.value("calls") == len(expected.within(calls, first, last)), name
        assert page.query["range"] == [name]
    first, last = expected.ranges(today("UTC"))["year"][0]
    for interval in ("day", "week", "month", "total"):
        page.choose("interval", interval)
        page.figures()
        assert page.query["interval"] == [interval]
        assert len(page.chart("calls")[0]) == len(expected.starts(first, last, interval))
        assert f"interval={interval}" in stub.asked[-1][0]


def test_own_dates_start_at_those_shown(page, calls):
    page.open(TOKEN, **ACME, range="7d").figures()
    assert not page.shows("#first-day")
    page.choose("range", "own")
    last = today("UTC")
    page.figures()
    assert page.find("#first-day").get_attribute("value") == str(last - datetime.timedelta(days=6))
    page.enter_day("first-day", str(last - datetime.timedelta(days=30)))
    page.figures()
    page.enter_day("last-day", str(last - datetime.timedelta(days=10)))
    page.figures()
    days = last - datetime.timedelta(days=30), last - datetime.timedelta(days=10)
    assert page.value("calls") == len(expected.within(calls, *days))
    assert page.query["range"] == [expected.own(*days)]


def test_own_dates_in_the_wrong_order_are_refused_with_a_message(page, stub):
    page.open(TOKEN, **ACME, range="20260309-20260303")
    assert page.refused()[1:] == ("The dates are no range.", "Give two dates, the last one not before the first.")
    assert not stub.asked
    page.open(TOKEN, **ACME, range="20260230-20260303")
    assert page.refused()[1] == "The dates are no range."
    page.open(TOKEN, **ACME, range="20260101-20260103").figures()
    page.enter_day("last-day", "")
    page.press("#show")
    assert page.refused()[1:] == ("The dates are not complete.", "Give a first and a last day.")


def test_more_intervals_than_can_be_drawn_are_refused_with_a_message(page):
    page.open(TOKEN, **ACME, range="00010101-99991231", interval="day")
    assert page.refused()[1:] == (
        "The range has too many intervals to draw.",
        "Choose longer intervals or a shorter range.",
    )
    page.choose("interval", "auto")
    page.figures()
    assert len(page.chart("calls")[0]) == 1


def test_previous_period_is_shown_on_request(page, calls):
    page.open(TOKEN, **ACME, range="7d").figures()
    assert list(page.chart("average")[1]) == ["Average duration"]
    page.press("#compare")
    page.figures()
    assert "Previous period" in page.chart("calls")[1] and "Previous period" in page.chart("average")[1]
    assert page.query["compare"] == ["1"]
    (first, last), before = expected.ranges(today("UTC"))["7d"]
    earlier = expected.rows(expected.within(calls, *before), lambda call: call.folder)
    assert {row["name"]: row["before"] for row in page.table("folders") if row["before"]} == {
        name: row[0] for name, row in earlier.items()
    }
    page.press("#compare")
    page.figures()
    assert "Previous period" not in page.chart("calls")[1]


def test_folders_are_chosen_from_a_list(page, calls, stub):
    page.open(TOKEN, **ACME, range="28d").figures()
    first, last = expected.ranges(today("UTC"))["28d"][0]
    asked = len(stub.asked)
    page.press("#folders summary")
    boxes = page.run("return [...document.querySelectorAll('#folders-list label')].map(label => label.textContent)")
    assert sorted(boxes) == sorted(FOLDERS)
    assert boxes.index("z9") < boxes.index("z10"), "numbers in names are in their own order"
    page.enter("folders-search", "über")
    page.press("#folders-list input")
    assert page.value("calls") == len(expected.within(calls, first, last, ["Überfall"]))
    page.enter("folders-search", "z1")
    page.keys(Keys.ENTER)
    assert page.value("calls") == len(expected.within(calls, first, last, ["Überfall", "z10"]))
    assert page.query["folder"] == ["Überfall", "z10"] and page.text("#folders-chosen") == "2 folders"
    page.press("#folders-all")
    assert page.value("calls") == len(expected.within(calls, first, last))
    assert len(stub.asked) == asked, "all of it was there"
    page.keys(Keys.ESCAPE)
    assert not page.shows("#folders-list") and "All folders" in page.focused()


def test_folder_can_be_named_before_the_first_request(page, calls, stub):
    page.open()
    page.press("#folders summary")
    page.enter("folders-search", "z9")
    page.keys(Keys.ENTER)
    page.keys(Keys.ESCAPE)
    assert page.query["folder"] == ["z9"]
    page.open(TOKEN, **ACME, folder="nobody")
    assert page.refused() == ("Not found", 'There is no folder "nobody".', "Check its spelling: case matters.")


def test_folder_of_the_table_is_shown_alone_and_back(page, calls):
    page.open(TOKEN, **ACME, range="28d").figures()
    all_calls = page.value("calls")
    name = page.text("#folders-table .name")
    page.press("#folders-table .name")
    assert page.value("calls") < all_calls and page.query["folder"] == [name]
    page.driver.back()
    wait_until(lambda: page.value("calls") == all_calls, what="the state before")
    page.driver.forward()
    wait_until(lambda: page.value("calls") < all_calls, what="the state after")
    page.press("#folders-table .name")
    assert page.value("calls") == all_calls and "folder" not in page.query


def test_another_organization_resets_folders_and_agent(page, stub):
    page.open(TOKEN, **ACME, folder="z9", agent="007", range="7d").figures()
    fill_in(page, "globex", "sales", OTHER_TOKEN)
    page.press("#show")
    page.figures()
    assert page.query == {"company": ["globex"], "organization": ["sales"], "range": ["7d"]}
    assert page.value("calls") == 1


@pytest.mark.parametrize("table", ["folders", "agents"])
def test_tables_are_sorted_by_each_column(page, table):
    page.open(TOKEN, **ACME, range="28d").figures()
    rows = page.table(table)
    assert [row["calls"] for row in rows] == sorted((row["calls"] for row in rows), reverse=True)
    heads = page.run(
        "return [...document.querySelectorAll(arguments[0])].map(button => button.dataset.column)",
        f"#{table}-table thead button",
    )
    assert heads == ["name", "calls", "share", "ms", "average"] + ["folders"] * (table == "agents")
    for column in heads[1:]:
        for _ in range(2):
            page.sort(table, column)
            direction = page.find(f"#{table}-table th[aria-sort]").get_attribute("aria-sort")
            values = [row[column] for row in page.table(table)]
            assert values == sorted(values, reverse=direction == "descending"), column
            assert page.query.get(f"{table}-sort", ["-calls"]) == [("-" if direction == "descending" else "") + column]
    page.sort(table, "name")
    assert page.find(f"#{table}-table th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert page.focused() != ""


def test_sort_buttons_keep_the_focus(page):
    page.open(TOKEN, **ACME, range="28d").figures()
    page.run("document.querySelector('#agents-table button[data-column=average]').focus()")
    page.keys(Keys.ENTER)
    assert page.run("return document.activeElement.dataset.column") == "average"
    page.keys(Keys.SPACE)
    assert page.find("#agents-table th[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_tables_are_filtered(page, calls):
    page.open(TOKEN, **ACME, range="28d").figures()
    page.enter("folders-table-filter", "<B>ret")
    assert [row["name"] for row in page.table("folders")] == ["<b>Returns</b>"]
    assert page.query["folders-filter"] == ["<B>ret"]
    assert "1 of 10 folders" in page.find("#folders-table-filter").find_element("xpath", "..").text
    page.enter("agents-table-filter", "No Agent")
    assert [row["name"] for row in page.table("agents")] == ["no agent"]
    page.enter("agents-table-filter", "nobody of this name")
    assert page.table("agents") == []
    page.driver.refresh()
    page.figures()
    assert [row["name"] for row in page.table("folders")] == ["<b>Returns</b>"]


def test_address_restores_the_whole_view(page, calls):
    state = {
        **ACME,
        "folder": ["Billing", "z9"],
        "range": "quarter",
        "interval": "week",
        "compare": "1",
        "agent": "+49151",
        "folders-sort": "name",
        "agents-sort": "-ms",
        "agents-filter": "4",
    }
    page.open(TOKEN, **state).figures()
    assert page.query == {name: value if isinstance(value, list) else [value] for name, value in state.items()}
    seen = page.value("calls"), page.table("folders"), page.table("agents"), page.chart("agent-calls")
    page.driver.refresh()
    page.figures()
    assert (page.value("calls"), page.table("folders"), page.table("agents"), page.chart("agent-calls")) == seen
    assert page.find("#interval").get_attribute("value") == "week" and page.find("#compare").is_selected()


def test_invalid_values_in_the_address_are_ignored(page):
    page.open(TOKEN, **ACME, range="forever", interval="minute", compare="yes", **{"folders-sort": "colour"}).figures()
    assert page.query == {"company": ["acme"], "organization": ["support"], "range": ["28d"]}


def test_agent_opens_and_closes_by_keyboard(page):
    page.open(TOKEN, **ACME, range="28d").figures()
    page.run("document.querySelector('#agents-table .name').focus()")
    page.keys(Keys.ENTER)
    assert page.focused() == "agent-heading" and page.shows("#agent-calls-chart")
    assert page.find("#agents-table tr[aria-current]")
    page.keys(Keys.ESCAPE)
    assert not page.shows("#agent") and "agent" not in page.query


def test_today_is_that_of_the_organization(browser, start):
    # 25 hours apart: never the same date.
    zone, here = "Pacific/Kiritimati", "Pacific/Pago_Pago"
    sums, day = Sums(), today(zone)
    sums.add("acme", "support", day, "A", "a", 7, 7000)
    sums.add("acme", "support", day - datetime.timedelta(days=6), "A", "a", 5, 5000)
    sums.add("acme", "support", day - datetime.timedelta(days=7), "A", "a", 3, 3000)
    page = Page(browser, start(StatsStub, sums, {TOKEN: "acme"}, zone).url)
    browser.command("Emulation.setTimezoneOverride", timezoneId=here)
    try:
        page.open(TOKEN, **ACME, range="today").figures()
        assert page.value("calls") == 7
        page.choose("range", "7d")
        page.figures()
        assert page.value("calls") == 12
    finally:
        browser.command("Emulation.setTimezoneOverride", timezoneId="")


def test_empty_range_is_reported(page):
    page.open(TOKEN, **ACME, range="20200101-20200107")
    wait_until(lambda: page.shows("#empty"), what="the page says that there is nothing")
    assert page.text("#empty") == "No calls: Jan 1 – 7, 2020."
    assert not page.shows("#calls-chart") and not page.find("#csv").is_enabled()
    page.open(TOKEN, **ACME, range="28d").figures()
    page.press("#folders summary")
    page.enter("folders-search", "unheard of")
    page.keys(Keys.ENTER)
    page.keys(Keys.ESCAPE)
    assert page.text("#empty").startswith("No calls in the chosen folders: ")
    assert page.text("#empty").endswith(" Other folders have calls.")


def test_pages_of_a_table_hold_all_rows(browser, start):
    sums, day = Sums(), datetime.date(2026, 3, 3)
    for number in range(120):
        sums.add("acme", "support", day, f"folder {number}", f"agent {number}", number + 1, 1000)
    page = Page(browser, start(StatsStub, sums, {TOKEN: None}).url)
    page.open(TOKEN, **ACME, range="20260303-20260303").figures()
    rows = page.table("folders", pages=3)
    assert [row["calls"] for row in rows] == list(range(120, 0, -1))
    assert len(page.table("agents")) == 50
    page.enter("folders-table-filter", "folder 1")
    assert len(page.table("folders")) == 31


def test_numbers_are_formatted_in_the_browsers_language(stub, start):
    for language, calls, week in (("de-DE", "1.234.567", "1.–7. Jan. 2026"), ("ar-EG", "١٬٢٣٤٬٥٦٧", "٢٠٢٦")):
        browser = start(Browser, language)
        stub.body = (
            "date,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n2026-01-01,A,a,1234567,7407402.5,6\r\n"
        )
        page = Page(browser, stub.url).open(TOKEN, **ACME, range="20260101-20260107").figures()
        assert page.text("#total-calls") == calls
        assert week in page.text("#shown-note").replace("\u2009", "")
        name, content = page.download("#folders-table-csv")
        assert content.decode("utf-8-sig").splitlines()[1] == "A,1234567,7407402.5,6"
