"""A second, plain implementation of the answer: all calls in memory, nothing shared with the worker or its SQL."""
import dataclasses
import datetime
import json
import zoneinfo


@dataclasses.dataclass(frozen=True)
class Call:
    company: str
    organization: str
    folder: str
    agent: str | None
    started_at: datetime.datetime
    duration_ms: int


def text(value):
    quoted = json.dumps(value, ensure_ascii=False)
    return quoted.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def seconds(durations):
    """Average of milliseconds, rounded half up, as seconds without needless digits."""
    milliseconds = (2 * sum(durations) + len(durations)) // (2 * len(durations))
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}".rstrip("0").rstrip(".")


def figures(durations):
    return f'"calls":{len(durations)},"avg_duration_seconds":{seconds(durations)}'


def entry(day, folder, calls):
    agents = sorted({call.agent for call in calls if call.agent}, key=str.encode)
    written = ",".join(
        f'{{"agent_id":{text(agent)},{figures([call.duration_ms for call in calls if call.agent == agent])}}}'
        for agent in agents)
    ending = f',"agents":[{written}]' if agents else ""
    return (f'{{"date":"{day.year:04}{day:%m%d}","folder":{text(folder)},'
            f'{figures([call.duration_ms for call in calls])}{ending}}}')


def field(value):
    """A field of CSV that no spreadsheet runs."""
    value = f"'{value}" if value[:1] in tuple("=+-@\t\r") else value
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"\r\n') else value


def rows(day, folder, calls):
    """A row for each agent, the calls of none first."""
    for agent in sorted({call.agent or "" for call in calls}, key=str.encode):
        durations = [call.duration_ms for call in calls if (call.agent or "") == agent]
        # A single "call" with the whole duration has the exact sum for its average.
        figures = [str(len(durations)), seconds([sum(durations)]), seconds(durations)]
        yield ",".join([f"{day.year:04}-{day:%m-%d}", field(folder), field(agent), *figures]) + "\r\n"


def start_of(day, interval, days):
    """The first day of the interval that has this day."""
    return {"day": day, "week": day - datetime.timedelta(day.isoweekday() - 1), "month": day.replace(day=1),
            "total": days.first}[interval]


def answer(calls, company, organization, folder, days, interval="day", format="json"):
    """The body for the days that `days` contains."""
    groups = {}
    for call in calls:
        day = call.started_at.date()
        is_asked_for = (call.company, call.organization) == (company, organization) and folder in (None, call.folder)
        if is_asked_for and day in days:
            groups.setdefault((start_of(day, interval, days), call.folder), []).append(call)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1].encode()))
    if format == "csv":
        header = "\ufeffdate,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n"
        return header + "".join(row for (day, name), found in ordered for row in rows(day, name, found))
    return "[" + ",".join(entry(day, name, found) for (day, name), found in ordered) + "]"


class Days:
    """The days of a query parameter daterange."""

    def __init__(self, parameter, time_zone, open_range="day"):
        today = datetime.datetime.now(zoneinfo.ZoneInfo(time_zone)).date()
        self.first, self.last = self.read(parameter, today, open_range)

    @staticmethod
    def read(parameter, today, open_range):
        never = (datetime.date.max, datetime.date.min)
        if not parameter or parameter == "-" and open_range == "day":
            return today, today
        start, hyphen, end = parameter.partition("-")
        try:
            if not hyphen:
                return Days.date(start), Days.date(start)
            if open_range == "day":
                return Days.date(start) if start else today, Days.date(end or start)
            return Days.date(start) if start else datetime.date.min, Days.date(end) if end else today
        except ValueError:
            return never

    @staticmethod
    def date(digits):
        if len(digits) != 8 or set(digits) - set("0123456789"):
            raise ValueError(digits)
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))

    def __contains__(self, day):
        return self.first <= day <= self.last
