"""Figures of calls, worked out again from the calls themselves."""

import datetime
import zoneinfo

from tests.support.stats_stub import interval_start


def average(calls):
    """In milliseconds, rounded half up; None without calls."""
    total, count = sum(call.duration_ms for call in calls), len(calls)
    return (2 * total + count) // (2 * count) if count else None


def within(calls, first, last, folders=None, agent=any, company="acme"):
    """The calls of these days (and folders, and agent, None for calls without one)."""
    return [
        call
        for call in calls
        if call.company == company
        and first <= call.started_at.date() <= last
        and (folders is None or call.folder in folders)
        and (agent is any or call.agent == agent)
    ]


def by(calls, key):
    groups = {}
    for call in calls:
        groups.setdefault(key(call), []).append(call)
    return groups


def starts(first, last, interval):
    """The first days of all intervals of a range."""
    days = [first + datetime.timedelta(days=number) for number in range((last - first).days + 1)]
    return sorted({interval_start(day, interval, first) for day in days})


def over_time(calls, first, last, interval):
    """The calls of each interval, in order; empty lists included."""
    groups = by(calls, lambda call: interval_start(call.started_at.date(), interval, first))
    return [groups.get(start, []) for start in starts(first, last, interval)]


def rows(calls, key):
    """Name, calls, milliseconds and average, as the tables have them."""
    return {
        name: (len(found), sum(call.duration_ms for call in found), average(found))
        for name, found in by(calls, key).items()
    }


def own(first, last):
    """Own dates as the address of the page has them."""
    return f"{first:%Y%m%d}-{last:%Y%m%d}"


def ranges(today):
    """The named ranges, and the periods before them."""
    day = datetime.timedelta(days=1)
    month, year = today.replace(day=1), today.replace(month=1, day=1)
    quarter = today.replace(month=today.month - (today.month - 1) % 3, day=1)

    def months_before(start, months):
        number = start.year * 12 + start.month - 1 - months
        return start.replace(year=number // 12, month=number % 12 + 1)

    def to_date(start, months):
        before = months_before(start, months)
        return (start, today), (before, min(before + (today - start), start - day))

    return {
        "today": ((today, today), (today - day, today - day)),
        "7d": ((today - 6 * day, today), (today - 13 * day, today - 7 * day)),
        "28d": ((today - 27 * day, today), (today - 55 * day, today - 28 * day)),
        "month": to_date(month, 1),
        "quarter": to_date(quarter, 3),
        "year": to_date(year, 12),
    }


def today_in(zone):
    return datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date()
