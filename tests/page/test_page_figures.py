"""The figures of the page, in its totals, charts, tables and files, against the calls themselves."""

import csv
import datetime
import io
import re

import pytest

from tests.support.browser import Page
from tests.support.stats_stub import StatsStub, Sums, guarded, today

from . import expected
from .conftest import FOLDERS, TOKEN

ACME = {"company": "acme", "organization": "support"}


def assert_figures(page, calls, first, last, interval):
    assert page.value("calls") == len(calls)
    assert page.value("duration") == sum(call.duration_ms for call in calls)
    assert page.value("average") == expected.average(calls)
    over_time = expected.over_time(calls, first, last, interval)
    labels, series = page.chart("calls")
    assert len(labels) == len(over_time)
    assert [sum(values) for values in zip(*series.values())] == [len(found) for found in over_time]
    for name, values in series.items():
        if not name.endswith(" other folders"):
            assert values == [sum(call.folder == name for call in found) for found in over_time], name
    labels, series = page.chart("average")
    assert series == {"Average duration": [found and expected.average(found) / 1000 or None for found in over_time]}
    for table, key, nameless in (
        ("folders", lambda call: call.folder, None),
        ("agents", lambda call: call.agent, "no agent"),
    ):
        shown = {row["name"]: (row["calls"], row["ms"], row["average"]) for row in page.table(table)}
        assert shown == {name or nameless: row for name, row in expected.rows(calls, key).items()}


@pytest.mark.parametrize("interval", ["day", "week", "month", "total"])
def test_intervals_have_the_figures_of_their_calls(page, calls, interval):
    last = today("UTC") - datetime.timedelta(days=3)
    first = last - datetime.timedelta(days=99)
    page.open(TOKEN, **ACME, range=expected.own(first, last), interval=interval).figures()
    assert_figures(page, expected.within(calls, first, last), first, last, interval)
    assert not page.messages()


@pytest.mark.parametrize("name", ["today", "7d", "28d", "month", "quarter", "year"])
def test_ranges_have_the_figures_of_their_days(page, calls, name):
    (first, last), before = expected.ranges(today("UTC"))[name]
    page.open(TOKEN, **ACME, range=name, interval="month", compare="1").figures()
    found = expected.within(calls, first, last)
    assert page.value("calls") == len(found)
    labels, series = page.chart("calls")
    previous = series.pop("Previous period")
    # The period before may have a month more, which the chart then shows without calls.
    assert sum(number or 0 for numbers in series.values() for number in numbers) == len(found)
    assert sum(number or 0 for number in previous) == len(expected.within(calls, *before))


def test_whole_months_are_compared_with_as_many_months(page, calls):
    last = today("UTC").replace(day=1) - datetime.timedelta(days=1)
    first = last.replace(day=1)
    before = first - datetime.timedelta(days=1)
    page.open(TOKEN, **ACME, range=expected.own(first, last), interval="day", compare="1").figures()
    labels, series = page.chart("calls")
    days = expected.over_time(
        expected.within(calls, before.replace(day=1), before), before.replace(day=1), before, "day"
    )
    assert [number for number in series["Previous period"] if number is not None] == [len(found) for found in days]
    earlier = expected.rows(expected.within(calls, before.replace(day=1), before), lambda call: call.folder)
    assert {row["name"]: row["before"] for row in page.table("folders")} == {name: earlier[name][0] for name in FOLDERS}


def test_days_without_calls_are_zero(page, calls):
    page.open(TOKEN, **ACME, range="28d", interval="day").figures()
    labels, series = page.chart("calls")
    assert len(labels) == 28
    last = today("UTC")
    sundays = [
        place for place in range(28) if (last - datetime.timedelta(days=27 - place)).isoweekday() == 7 and place != 27
    ]
    assert len(sundays) >= 3
    assert all(values[place] == 0 for values in series.values() for place in sundays)
    assert all(page.chart("average")[1]["Average duration"][place] is None for place in sundays)


def test_selected_folders_count_alone(page, calls, stub):
    first, last = today("UTC") - datetime.timedelta(days=60), today("UTC")
    for chosen in (["Sales/North"], ["Billing", "مبيعات"], ['a, "quoted"\r\nname']):
        page.open(TOKEN, **ACME, range=expected.own(first, last), interval="day", folder=chosen).figures()
        assert_figures(page, expected.within(calls, first, last, chosen), first, last, "day")
    assert any("/stats/acme/support/Sales%2FNorth?" in path for path, _ in stub.asked)


def test_agent_is_shown_over_time(page, calls):
    first, last = today("UTC") - datetime.timedelta(days=60), today("UTC")
    for name, agent in (("007", "007"), ("نورا", "نورا"), ("no agent", None)):
        page.open(TOKEN, **ACME, range=expected.own(first, last), interval="week").figures()
        page.run(
            """[...document.querySelectorAll('#agents-table .name')].find(
            button => button.textContent === arguments[0]).click()""",
            name,
        )
        over_time = expected.over_time(expected.within(calls, first, last, agent=agent), first, last, "week")
        labels, series = page.chart("agent-calls")
        assert [sum(values) for values in zip(*series.values())] == [len(found) for found in over_time]
        labels, series = page.chart("agent-average")
        assert series["Average duration"] == [found and expected.average(found) / 1000 or None for found in over_time]
        assert page.query["agent"] == [agent or ""]


def test_charts_have_a_table_with_their_figures(page, calls):
    first, last = today("UTC") - datetime.timedelta(days=60), today("UTC")
    page.open(TOKEN, **ACME, range=expected.own(first, last), interval="week", compare="1", agent="007").figures()
    for name in ("calls", "average", "agent-calls", "agent-average"):
        labels, series = page.chart(name)
        rows = page.table(f"{name}-chart")
        heads = page.run(
            "return [...document.getElementById(arguments[0]).tHead.rows[0].cells].map(cell => cell.textContent)",
            f"{name}-chart-table",
        )
        assert len(rows) == len(labels)
        for label, values in series.items():
            column = f"series-{heads.index(label) - 1}"
            factor = 1 if "calls" in name else 1000
            assert [row[column] for row in rows] == [
                "–" if value is None else round(value * factor) for value in values
            ]
        if "calls" in name:
            column = f"series-{heads.index('All folders') - 1}"
            assert sum(row[column] for row in rows) == sum(
                sum(values) for label, values in series.items() if label != "Previous period"
            )


def read(content):
    assert content.startswith(b"\xef\xbb\xbf")
    text = content.decode("utf-8-sig")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_has_what_is_shown(page, calls):
    first, last = today("UTC") - datetime.timedelta(days=40), today("UTC")
    page.open(TOKEN, **ACME, range=expected.own(first, last), interval="week").figures()
    chosen = ["Billing", "=Outbound", 'a, "quoted"\r\nname']
    page.open(TOKEN, **ACME, range=expected.own(first, last), interval="week", folder=chosen).figures()
    name, content = page.download("#csv")
    assert name == f"acme-support-calls-{first}-{last}.csv"
    found = expected.within(calls, first, last, chosen)
    rows = read(content)

    def week(call):
        return call.started_at.date() - datetime.timedelta(days=call.started_at.weekday())

    sums = expected.rows(found, lambda call: (str(week(call)), guarded(call.folder), guarded(call.agent or "")))
    assert {
        (row["date"], row["folder"], row["agent_id"]): (
            row["calls"],
            row["duration_seconds"],
            row["avg_duration_seconds"],
        )
        for row in rows
    } == {
        key: (
            str(count),
            f"{total / 1000:.3f}".rstrip("0").rstrip("."),
            f"{average / 1000:.3f}".rstrip("0").rstrip("."),
        )
        for key, (count, total, average) in sums.items()
    }


def test_csv_of_a_table_follows_its_filter_and_order(page, calls):
    page.open(TOKEN, **ACME, range="28d", **{"folders-filter": "O", "folders-sort": "average"}).figures()
    name, content = page.download("#folders-table-csv")
    first, last = expected.ranges(today("UTC"))["28d"][0]
    found = expected.rows(expected.within(calls, first, last), lambda call: call.folder)
    kept = sorted((row[2], guarded(name), row[0]) for name, row in found.items() if "o" in name.lower())
    assert [(row["folder"], row["calls"]) for row in read(content)] == [(name, str(count)) for _, name, count in kept]
    for chart in ("calls", "average"):
        name, content = page.download(f"#{chart}-chart-table-csv")
        assert [row["first_day"] for row in read(content)] == [
            str(first + datetime.timedelta(days=n)) for n in range(28)
        ]


def test_names_that_csv_writes_alike_stay_distinct(browser, start):
    sums, day = Sums(), datetime.date(2026, 3, 3)
    names = ["=1", "'=1", "''=1", "'1", "'", "-", "@", "+1"]
    for place, name in enumerate(names):
        for agent, calls in (("", place + 1), (name, 10 * (place + 1))):
            sums.add("acme", "support", day, name, agent, calls, calls * 1000 + place)
    page = Page(browser, start(StatsStub, sums, {TOKEN: None}).url)
    page.open(TOKEN, **ACME, range="20260303-20260303").figures()
    assert {row["name"]: row["calls"] for row in page.table("folders")} == {
        name: 11 * (place + 1) for place, name in enumerate(names)
    }
    assert {row["name"]: row["calls"] for row in page.table("agents")} == {
        **{name: 10 * (place + 1) for place, name in enumerate(names)},
        "no agent": 36,
    }
    page.press("#folders-table .name")
    page.figures()
    assert page.query["folder"] == ["+1"]


def test_averages_are_computed_from_sums(browser, start):
    sums = Sums()
    # Averages of 0.333 and 0.667 s; made from those, that of all would be 0.4 s and not 0.399 s.
    for number in range(50):
        sums.add("acme", "support", datetime.date(2026, 3, 1 + number % 28), "A", f"a{number}", 3, 999)
        sums.add("acme", "support", datetime.date(2026, 3, 1 + number % 28), "B", f"b{number}", 7, 2796)
    page = Page(browser, start(StatsStub, sums, {TOKEN: None}).url)
    page.open(TOKEN, **ACME, range="20260301-20260331", interval="day").figures()
    assert page.value("duration") == 50 * (999 + 2796)
    assert page.value("average") == (2 * 50 * 3795 + 500) // 1000


def test_a_single_interval_shows_its_previous_period(page):
    page.open(TOKEN, **ACME, range="7d", interval="total", compare="1").figures()
    for name in ("calls", "average"):
        radius, middle, at = page.run(
            """const chart = Chart.getChart(document.getElementById(arguments[0]));
            const place = chart.data.datasets.findIndex(({label}) => label === 'Previous period');
            const point = chart.getDatasetMeta(place).data[0];
            return [point.options.radius, (chart.chartArea.left + chart.chartArea.right) / 2, point.x]""",
            f"{name}-chart",
        )
        assert radius > 0 and abs(at - middle) < 2, name


def test_tooltip_adds_up_the_folders(page):
    page.open(TOKEN, **ACME, range="28d", compare="1").figures()
    labels, series = page.chart("calls")
    del series["Previous period"]
    texts = page.run("""const chart = Chart.getChart(document.getElementById('calls-chart'));
        return chart.data.labels.map((_, index) => {
            const active = chart.data.datasets.map((_, datasetIndex) => ({datasetIndex, index}));
            chart.tooltip.setActiveElements(active, {x: 0, y: 0});
            chart.tooltip.update(true);
            return chart.tooltip.footer.join();
        })""")
    for place, text in enumerate(texts):
        parts = [values[place] for values in series.values() if values[place]]
        assert text == (f"All folders  {sum(parts)}" if len(parts) > 1 else "")
    assert any(texts)


def test_percentages_have_one_decimal_each(page):
    page.open(TOKEN, **ACME, range="28d").figures()
    shares = page.run("return [...document.querySelectorAll('td[data-column=share]')].map(cell => cell.textContent)")
    assert shares and all(re.fullmatch(r"\d+\.\d%", text) for text in shares), shares
    page.open(TOKEN, **ACME, range="28d", compare="1").figures()
    texts = page.run("""return [...document.querySelectorAll('td[data-column=change], .change')]
        .map(cell => cell.textContent.replace(' vs. before', ''))""")
    assert texts and all(re.fullmatch(r"[+-]?[\d,]+\.\d%", text) for text in texts), texts


def test_nothing_before_is_said_in_words(page):
    page.open(TOKEN, **ACME, range=expected.own(datetime.date(2020, 1, 1), today("UTC")), interval="total",
              compare="1").figures()
    assert {page.text(f"#total-{name} + .change") for name in ("calls", "average", "agents")} == {"none before"}
