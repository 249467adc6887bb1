"""The indexes that `callstats adopt` advises: what is printed works letter for letter, and is used."""
import pytest

from ..support.worker import Worker, check
from .test_adopt import FLAT, adopt, body

FLAT_PRESET = ("--preset", "flat", "--time_zone", "UTC")


def advised(report):
    """The statements of a report, without what each is good for."""
    return [line.split(maxsplit=1)[1].partition(": ")[0] for line in report.splitlines() if line.startswith("index")]


def fill(database, rows=20000):
    database.query(f"""insert into public.calls select 'acme', 'site ' || n % 10, 'Queue ' || n % 3, 'a' || n % 5,
        timestamptz '2026-01-01Z' + n * interval '10 minutes', n % 100 from generate_series(1, {rows}) n;
        analyze public.calls""")


def day(report):
    return next(line for line in report.splitlines() if line.startswith("a day"))


@pytest.mark.parametrize("names, columns", [
    ("company text, organization text", "(company, organization, started) include (agent, folder, seconds)"),
    ('company varchar(20) collate "POSIX", organization char(20) collate "de-x-icu"',
     "(company, organization, started) include (agent, folder, seconds)")])
def test_indexes_on_the_names_and_on_the_start_are_advised_and_used(database, start, names, columns):
    database.query(f"create table public.calls ({names}, folder text, agent text, started timestamptz, seconds int)")
    fill(database)
    led = f"create index concurrently on public.calls {columns}"
    alone = "create index concurrently on public.calls (started)"
    assert advised(adopt(database, "try", *FLAT_PRESET)) == [led, alone]
    assert advised(adopt(database, "on", *FLAT_PRESET)) == [led, alone]
    worker = start(Worker, database.url)
    expected = body(worker, "acme/site%203", "20260101-20260131")
    code, text = check(worker.environment)
    assert code == 0 and "WARN   adopted tables" in text and led in text and alone in text, text
    database.query(alone)
    assert advised(adopt(database, "try", *FLAT_PRESET)) == [led]
    adopt(database, "sync", "--full")
    code, text = check(worker.environment)
    assert "ok     adopted tables" in text and f"faster with: {led}" in text, text
    database.query(led)
    database.query("vacuum analyze public.calls")
    report = adopt(database, "try", *FLAT_PRESET)
    assert advised(report) == [] and "calls_company_organization_started" in day(report), report
    adopt(database, "sync", "--full")
    assert "faster" not in check(worker.environment)[1]
    assert body(worker, "acme/site%203", "20260101-20260131") == expected


def test_index_is_advised_on_the_expressions_of_the_mapping(database):
    database.query(FLAT.format("bigint", "int"))
    database.query("""insert into public.calls select 'acme', 'site ' || n % 10, 'Queue ' || n % 3, 'a' || n % 5,
        1772625600 + n * 600, n % 100 from generate_series(1, 20000) n""")
    mapping = ("--preset", "flat", "--time_zone", "UTC", "--start_unit", "s", "--company", "'acme'",
               "--organization", "coalesce(nullif(organization, ''), 'default')", "--start", "started + 0")
    found = advised(adopt(database, "try", *mapping))
    assert found == [
        "create index concurrently on public.calls ((coalesce(nullif(organization, ''), 'default')), (started + 0))",
        "create index concurrently on public.calls ((started + 0))"]
    database.query(found[0])
    database.query("analyze public.calls")
    report = adopt(database, "try", *mapping)
    assert advised(report) == [] and "Seq Scan" not in day(report), report


def test_an_index_that_would_not_serve_is_not_advised(database):
    """An organization of another type is compared as text, and an expression that is not immutable has no index."""
    database.query("""create type site as enum ('one', 'two');
        create table public.calls
            (company text, organization site, folder text, agent text, started timestamptz, seconds int);
        insert into public.calls select 'acme', (array['one', 'two'])[n % 2 + 1]::site, 'Queue', null,
            timestamptz '2026-01-01Z' + n * interval '10 minutes', n % 100 from generate_series(1, 20000) n""")
    assert advised(adopt(database, "try", *FLAT_PRESET)) == ["create index concurrently on public.calls (started)"]
    assert advised(adopt(database, "try", *FLAT_PRESET, "--start", "started::text::timestamptz")) == []
