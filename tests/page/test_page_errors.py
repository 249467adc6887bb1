"""Each failure is described in words, and nothing incomplete is ever shown."""

import datetime

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.processes import wait_until
from tests.support.stats_stub import Refused, csv

from . import expected
from .conftest import OTHER_TOKEN, TOKEN

ACME = {"company": "acme", "organization": "support"}
WEEK = {**ACME, "range": "20260302-20260308"}


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (400, "Invalid request"),
        (403, "Access denied"),
        (404, "Not found"),
        (405, "No figures"),
        (429, "Too many requests"),
        (500, "Internal error"),
        (503, "Temporarily unavailable"),
    ],
)
def test_errors_of_the_api_are_shown_with_their_hint(page, stub, status, title):
    stub.refuse = Refused(status, f"<b>What</b> went wrong with {status}.", "What to do about it.")
    page.open(TOKEN, **WEEK)
    assert page.refused() == (title, f"<b>What</b> went wrong with {status}.", "What to do about it.")
    assert page.focused() == "error"
    stub.refuse = Refused(status, "Without a hint.")
    page.press("#again")
    wait_until(lambda: page.text("#error-text") == "Without a hint.")
    assert not page.shows("#error-hint")
    stub.refuse = None
    page.press("#again")
    page.figures()


def test_error_of_another_origin_is_described(page, stub):
    stub.refuse = b"<html>502 Bad Gateway</html>".decode()
    page.open(TOKEN, **WEEK)
    assert page.refused() == (
        "No figures",
        "The web server answered with status 502 and without an explanation.",
        "Try again; if it stays, ask the operator.",
    )


def test_unreachable_server_is_described(page, stub):
    page.open(TOKEN, **WEEK).figures()
    stub.gone = True
    page.press("#show")
    assert page.refused() == ("No figures", "The server cannot be reached.", "Check the network, then try again.")


def test_stub_refuses_as_the_service_does(page, stub):
    for token, state, status in (
        (OTHER_TOKEN, WEEK, "Access denied"),
        (TOKEN, {**WEEK, "organization": "Support"}, "Not found"),
    ):
        page.open(token, **state)
        assert page.refused()[0] == status


def test_names_that_a_browser_cannot_request_are_described(page, stub):
    page.open(TOKEN, company="..", organization="support")
    assert page.refused()[1] == 'A browser cannot ask for the name "..".'
    assert not stub.asked


@pytest.mark.parametrize("token", ["tökén", "two words", "line\u2028break"])
def test_token_that_no_header_can_carry_is_described(page, stub, token):
    page.open()
    for name, value in (("company", "acme"), ("organization", "support"), ("token", token)):
        page.enter(name, value)
    page.press("#show")
    assert page.refused()[:2] == ("Token invalid or expired", "The token has characters that no token has.")
    assert not stub.asked


def test_token_revoked_meanwhile_is_asked_for_again(page, stub, calls):
    state = {
        **ACME,
        "range": "28d",
        "interval": "week",
        "compare": "1",
        "folder": ["Billing", "z9"],
        "agents-filter": "0",
    }
    page.open(TOKEN, **state).figures()
    before = page.value("calls"), page.query
    del stub.tokens[TOKEN]
    page.press("#show")
    title, text, hint = page.refused()
    assert title == "Token invalid or expired" and text == "The token is missing or invalid."
    assert hint == "Send a valid token. Enter a token that is valid, then press Show: all else stays as it is."
    assert page.focused() == "token" and page.find("#token").get_attribute("aria-invalid") == "true"
    assert page.run("return sessionStorage.length") == 0
    assert page.query == before[1]
    stub.tokens["a-new-token"] = "acme"
    page.keys("a-new-token", Keys.ENTER)
    page.figures()
    assert (page.value("calls"), page.query) == before
    assert not page.find("#token").get_attribute("aria-invalid")


def rows_of_csv(stub):
    first, last = datetime.date(2026, 3, 2), datetime.date(2026, 3, 8)
    return [row.encode() for row in csv(stub.sums.select("acme", "support", None, first, last, "day"))]


@pytest.mark.parametrize(
    "place",
    ["before the first byte", "in the first row", "in the middle of a row", "after a row", "after the last row"],
)
def test_truncated_response_is_never_shown(page, stub, place):
    rows = rows_of_csv(stub)
    half = len(b"".join(rows[: len(rows) // 2]))
    stub.cut_after = {
        "before the first byte": 0,
        "in the first row": 9,
        "in the middle of a row": half + 5,
        "after a row": half,
        "after the last row": len(b"".join(rows)),
    }[place]
    page.open(TOKEN, **WEEK)
    assert page.refused()[1:] == (
        "The answer was truncated: the connection ended before it was complete.",
        "Nothing of it is shown. Try again, or choose fewer days.",
    )
    stub.cut_after = None
    page.press("#again")
    page.figures()


def test_figures_are_cleared_by_a_truncated_response(page, stub):
    page.open(TOKEN, **WEEK).figures()
    stub.cut_after = 300
    page.choose("interval", "week")
    page.refused()
    assert not page.shows("#calls-chart")


HEAD = "date,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "The answer was truncated"),
        (HEAD + "2026-03-03,A,a,1,1", "The answer was truncated"),
        (HEAD + '2026-03-03,"A\r\n', "The answer was truncated"),
        (HEAD + '2026-03-03,"A"x,a,1,1,1\r\n', "The answer cannot be read"),
        ("<html>\r\n", "The answer cannot be read"),
        (HEAD + "2026-03-03,A,a,many,1,1\r\n", "The answer cannot be read"),
        (HEAD + "2026-03-03,A,a,1\r\n", "The answer cannot be read"),
        (HEAD + "2026-02-30,A,a,1,1,1\r\n", "The answer cannot be read"),
        (HEAD + "2026-04-01,A,a,1,1,1\r\n", "The answer cannot be read"),
    ],
)
def test_response_of_another_form_is_never_shown(page, stub, body, text):
    stub.body = body
    page.open(TOKEN, **WEEK)
    assert page.refused()[1].startswith(text)


def test_progress_is_shown_while_a_response_arrives(page, stub, calls):
    first, last = datetime.date(2026, 1, 1), datetime.date(2026, 10, 27)
    stub.gate.clear()
    page.open(TOKEN, **ACME, range=expected.own(first, last), interval="day")
    wait_until(lambda: "up to" in page.text("#progress-text"), what="half of the answer arrived")
    assert not page.shows("#results")
    assert 0.3 < float(page.find("#progress").get_attribute("value")) < 0.7
    assert "rows" in page.text("#progress-text")
    stub.gate.set()
    page.figures()
    assert page.value("calls") == len(expected.within(calls, first, last))


def test_request_can_be_cancelled(page, stub):
    stub.gate.clear()
    page.open(TOKEN, **WEEK)
    wait_until(lambda: page.shows("#cancel"))
    page.press("#cancel")
    assert page.refused()[:2] == ("Cancelled", "You cancelled the request.")
    stub.gate.set()
    page.press("#again")
    page.figures()


def test_only_the_last_request_counts(page, stub, calls):
    stub.gate.clear()
    page.open(TOKEN, **ACME, range="20260101-20260331")
    wait_until(lambda: page.shows("#loading") and stub.asked)
    page.enter_day("last-day", "2026-01-31")
    stub.gate.set()
    first, last = datetime.date(2026, 1, 1), datetime.date(2026, 1, 31)
    page.figures()
    wait_until(lambda: page.value("calls") == len(expected.within(calls, first, last)))


def test_missing_chart_library_leaves_the_tables(page, browser):
    browser.command("Network.enable")
    browser.command("Network.setBlockedURLs", urls=["*chart.min.js"])
    try:
        page.open(TOKEN, **WEEK).figures()
        assert page.shows("#folders-table") and not page.shows("#calls-chart")
        assert "The chart library is not installed on this server." in page.find("#results").text
    finally:
        browser.command("Network.setBlockedURLs", urls=[])
