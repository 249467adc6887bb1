"""The token stays out of addresses, names stay text, nothing of the page comes from elsewhere."""

import datetime
import re

import pytest

from tests.support.browser import Page
from tests.support.stats_stub import PAGE, StatsStub, Sums

from .conftest import TOKEN

ACME = {"company": "acme", "organization": "support"}


def test_token_is_in_no_address_and_no_persistent_storage(page, stub):
    page.open()
    for name, value in (("company", "acme"), ("organization", "support"), ("token", TOKEN)):
        page.enter(name, value)
    page.press("#show")
    page.figures()
    page.choose("interval", "week")
    page.figures()
    assert TOKEN not in page.driver.current_url and all(TOKEN not in path for path, _ in stub.asked)
    assert page.run("return JSON.stringify([localStorage, document.cookie, history.state])") == '[{},"",null]'
    assert page.run("return JSON.stringify(sessionStorage)") == f'{{"callstats-token":"{TOKEN}"}}'
    assert TOKEN not in page.run("return document.documentElement.outerHTML")
    assert stub.asked and all("Referer" not in headers for _, headers in stub.asked)
    assert page.find("#token").get_attribute("type") == "password" and not page.find("#token").get_attribute("name")


def test_token_in_the_address_is_removed_and_not_used(page, stub):
    page.open(None, **ACME, token=TOKEN)
    assert TOKEN not in page.driver.current_url and page.shows("#welcome") and not stub.asked


def test_token_is_forgotten_on_request(page, stub):
    page.open(TOKEN, **ACME, range="7d").figures()
    page.press("#forget")
    assert page.run("return sessionStorage.length") == 0 and page.find("#token").get_attribute("value") == ""
    assert not page.shows("#results")
    page.driver.refresh()
    assert page.shows("#welcome")


def test_new_tab_has_no_token(page):
    page.open(TOKEN, **ACME, range="7d").figures()
    address, first = page.driver.current_url, page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        page.driver.get(address)
        assert page.shows("#welcome") and page.find("#company").get_attribute("value") == "acme"
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)


AWKWARD = [
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "&lt;",
    "</td></table>",
    "\u202eevil",
    "نورا حداد",
    "שלום <b>",
    "javascript:alert(1)",
    "a" * 300,
    "__proto__",
    "constructor",
    " ",
    "\u2028",
    "%2F",
    "..",
    "?x=1#y",
    "C++",
    "+",
]


@pytest.mark.parametrize("company", [pytest.param("acme", marks=pytest.mark.slow), "<b>&amp; Söhne/1?#"])
def test_names_are_text_everywhere(browser, start, company):
    sums, day = Sums(), datetime.date(2026, 3, 3)
    for number, name in enumerate(AWKWARD):
        sums.add(company, "<i>o</i>", day, name, name, 100 - number, 1000)
    stub = start(StatsStub, sums, {TOKEN: None})
    page = Page(browser, stub.url)
    state = {"company": company, "organization": "<i>o</i>", "range": "20260303-20260303"}
    page.open(TOKEN, **state, compare="1").figures()
    for table in ("folders", "agents"):
        assert {row["name"]: row["calls"] for row in page.table(table)} == {
            name: 100 - number for number, name in enumerate(AWKWARD)
        }
    assert page.text("#shown") == f"{company} / <i>o</i>"
    assert list(page.chart("calls")[1])[:7] == AWKWARD[:7]
    assert page.run("return document.querySelectorAll('#results script, #results img, #results b').length") == 0
    for name in AWKWARD:
        page.open(TOKEN, **state, folder=name, agent=name).figures()
        assert page.value("calls") == 100 - AWKWARD.index(name)
        assert page.text("#agent-heading") == f"Agent {name}" and page.text("#folders-chosen") == name
        assert page.driver.title == f"{company} / <i>o</i> – Call statistics"
    assert not page.messages()


def test_everything_comes_from_the_same_origin(page, stub):
    page.open(TOKEN, **ACME, range="28d", agent="007").figures()
    loaded = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 10 and all(name.startswith(stub.url + "/") for name in loaded)
    assert not page.messages()


def test_policy_of_the_page_blocks_what_is_inline(page):
    page.open()
    page.run("""const made = document.createElement('script'); made.textContent = "document.title = 'run'";
        document.head.append(made); const button = document.createElement('button');
        button.setAttribute('onclick', "document.title = 'run'"); document.body.append(button); button.click()""")
    assert page.driver.title == "Call statistics"
    assert any("Content Security Policy" in message for message in page.messages())


def test_files_name_no_other_server():
    for path in PAGE.iterdir():
        if not path.is_symlink():
            found = re.findall(r"https?://[^\s\"'<>]+", path.read_text())
            assert set(found) <= {"http://www.w3.org/2000/svg"}, path.name


def test_chart_library_is_that_of_the_distribution():
    assert (PAGE / "chart.min.js").is_symlink()
    assert str((PAGE / "chart.min.js").readlink()) == "/usr/share/javascript/chart.js/chart.min.js"
    assert "Chart.js v" in (PAGE / "chart.min.js").read_text()[:200]
