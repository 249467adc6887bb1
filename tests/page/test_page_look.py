"""For everybody's eyes and hands: axe-core finds nothing, a phone's width and paper are enough; with pictures."""

import base64
import json

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.processes import PROJECT, wait_until
from tests.support.stats_stub import Refused

from .conftest import TOKEN
from .test_page_speed import year_of

ACME = {"company": "acme", "organization": "support"}
PICTURES = PROJECT / "target" / "screenshots"
PHONE = {"width": 390, "height": 844}


def findings(page, axe):
    page.run(axe)
    page.driver.set_script_timeout(60)
    found = page.driver.execute_async_script("""const done = arguments[arguments.length - 1];
        axe.run(document, {resultTypes: ['violations'], runOnly: [
            'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',
            'best-practice']}).then(result => done(JSON.stringify(result.violations.map(one =>
                [one.id, one.help, one.nodes.map(node => node.html.slice(0, 200))]))))""")
    return json.loads(found)


STATES = {
    "welcome": lambda page, stub: page.open(),
    "figures": lambda page, stub: page.open(TOKEN, **ACME, range="28d").figures(),
    "everything": lambda page, stub: (
        page.open(TOKEN, **ACME, range="quarter", compare="1", agent="007").figures(),
        page.run("document.querySelectorAll('details').forEach(one => { one.open = true })"),
    ),
    "own dates": lambda page, stub: page.open(TOKEN, **ACME, range="20260101-20260228", interval="total").figures(),
    "empty": lambda page, stub: page.open(TOKEN, **ACME, range="20200101-20200102").figures(),
    "loading": lambda page, stub: (
        stub.gate.clear(),
        page.open(TOKEN, **ACME, range="20260101-20260228"),
        wait_until(lambda: "rows" in page.text("#progress-text")),
    ),
    "error": lambda page, stub: (
        setattr(stub, "refuse", Refused(503, "The statistics are unavailable.", "Ask again.")),
        page.open(TOKEN, **ACME),
        page.refused(),
    ),
    "new token": lambda page, stub: (page.open("expired", **ACME), page.refused()),
}


# Each state, each scheme and each size without the slow ones, too.
LOOKS = [pytest.param("light", {}, id="light-desk"), pytest.param("dark", PHONE, id="dark-phone"),
         pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.slow),
         pytest.param("dark", {}, id="dark-desk", marks=pytest.mark.slow)]


@pytest.mark.parametrize("scheme, size", LOOKS)
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation(page, stub, axe, state, scheme, size):
    page.browser.look(scheme, **size)
    STATES[state](page, stub)
    assert findings(page, axe) == []
    page.picture(PICTURES / f"{state.replace(' ', '-')}-{scheme}{'-phone' if size else ''}.png", whole=True)


def test_axe_finds_a_violation_if_there_is_one(page, axe):
    page.open()
    page.run("document.body.append(document.createElement('img')); document.querySelector('label').remove()")
    assert {"image-alt", "label"} <= {name for name, _, _ in findings(page, axe)}


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("state", ["welcome", "everything", "error"])
def test_nothing_is_wider_than_the_window(page, stub, state, width):
    page.browser.look(width=width, height=800)
    STATES[state](page, stub)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_colours_follow_the_system(page):
    page.browser.look("light")
    page.open(TOKEN, **ACME, range="7d").figures()
    ground = "return getComputedStyle(document.body).backgroundColor"
    tick = "return Chart.getChart(document.getElementById('calls-chart')).options.scales.x.ticks.color"
    light = page.run(ground), page.run(tick)
    page.browser.look("dark")
    wait_until(lambda: page.run(ground) != light[0] and page.run(tick) != light[1], what="the chart follows")


def test_print_is_white_and_has_no_controls(page):
    page.browser.look("dark")
    page.open(TOKEN, **ACME, range="28d").figures()
    pdf = base64.b64decode(page.browser.command("Page.printToPDF", printBackground=False)["data"])
    (PICTURES / "print.pdf").parent.mkdir(parents=True, exist_ok=True)
    (PICTURES / "print.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF")
    assert page.run("return 'print' in document.documentElement.dataset") is False
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("return getComputedStyle(document.documentElement).getPropertyValue('--card')") == "#ffffff"
    assert (
        page.run("return Chart.getChart(document.getElementById('calls-chart')).options.scales.x.ticks.color")
        == "#5a607a"
    )
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("return getComputedStyle(document.documentElement).getPropertyValue('--card')") != "#ffffff"
    page.browser.command("Emulation.setEmulatedMedia", media="print")
    for selector in ("#controls", "#forget", "#csv", "#folders-table-filter", "#agents-table-csv"):
        assert not page.shows(selector), selector
    for selector in ("#shown", "#calls-chart", "#average-chart", "#folders-table", "#agents-table"):
        assert page.shows(selector), selector


def test_print_says_which_part_of_the_figures_it_has(page):
    page.open(TOKEN, **ACME, range="28d", folder=["z9", "مبيعات"], **{"agents-filter": "00"}).figures()
    assert page.text("#shown-note").endswith(". Only folders z9, مبيعات")
    page.browser.command("Emulation.setEmulatedMedia", media="print")
    for selector in ("#shown-note", "#agents-table-count"):
        assert page.shows(selector), selector
    assert page.text("#agents-table-count") == "1 of 4 agents"
    after = "return getComputedStyle(document.querySelector('#agents-table-count'), '::after').content"
    assert "00" in page.run(after)
    page.open(TOKEN, **ACME, range="28d", folder="z9").figures()
    assert page.text("#shown-note").endswith(". Only folder z9")


def test_print_says_that_a_table_has_more_rows(page, stub):
    stub.body = year_of(60, 120, days=1)
    page.open(TOKEN, **ACME, range="20250101-20250101").figures()
    page.browser.command("Emulation.setEmulatedMedia", media="print")
    for table, text in (("folders", "Page 1 of 2"), ("agents", "Page 1 of 3")):
        assert page.shows(f"#{table}-table-page") and page.text(f"#{table}-table-page") == text


def test_every_control_is_reached_by_keyboard(page):
    page.open(TOKEN, **ACME, range="28d", agent="007").figures()
    page.run("document.body.focus()")
    reached = []
    for _ in range(400):
        page.keys(Keys.TAB)
        at = page.run("""const at = document.activeElement; if (at === document.body) return null;
            return [at.id || at.dataset.column || at.textContent.trim().slice(0, 30),
            at.matches(':focus-visible')]""")
        if at is None or reached and at == reached[0]:
            break
        reached.append(at)
    assert all(visible for _, visible in reached)
    names = [name for name, _ in reached]
    for wanted in (
        "Skip to the figures",
        "company",
        "organization",
        "token",
        "range",
        "interval",
        "compare",
        "show",
        "forget",
        "csv",
        "print",
        "agent-close",
        "folders-table-filter",
        "agents-table-filter",
        "folders-table-csv",
        "calls",
        "average",
        "007",
        "Figures of this chart",
    ):
        assert wanted in names, wanted


def test_chart_is_described_and_has_its_table(page):
    page.open(TOKEN, **ACME, range="7d", agent="007").figures()
    for name in ("calls", "average", "agent-calls", "agent-average"):
        canvas = page.find(f"#{name}-chart")
        assert canvas.get_attribute("role") == "img"
        assert "A table below has the figures." in canvas.get_attribute("aria-label")
        assert not page.shows(f"#{name}-chart-table")
        page.run(
            "document.getElementById(arguments[0]).closest('section').querySelector('summary').click()", f"{name}-chart"
        )
        assert page.shows(f"#{name}-chart-table")


def test_changes_are_announced(page, stub):
    page.open(TOKEN, **ACME, range="7d").figures()
    assert page.find("#status").get_attribute("role") == "status"
    assert page.text("#status").startswith(f"{page.text('#total-calls')} calls, ")
    assert page.find("#error").get_attribute("role") == "alert"
