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


def answer(calls, company, organization, folder, days):
    """The body for the days that `days` contains."""
    groups = {}
    for call in calls:
        day = call.started_at.date()
        if (call.company, call.organization) == (company, organization) and folder in (None, call.folder) and day in days:
            groups.setdefault((day, call.folder), []).append(call)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1].encode()))
    return "[" + ",".join(entry(day, name, found) for (day, name), found in ordered) + "]"


class Days:
    """The days of an option daterange."""

    def __init__(self, option, time_zone):
        today = datetime.datetime.now(zoneinfo.ZoneInfo(time_zone)).date()
        self.first, self.last = self.read(option or "-", today)

    @staticmethod
    def read(option, today):
        never = (datetime.date.max, datetime.date.min)
        if option == "-":
            return today, today
        start, hyphen, end = option.partition("-")
        try:
            first = Days.date(start) if start else today
            return first, Days.date(end) if end else first
        except ValueError:
            return never

    @staticmethod
    def date(digits):
        if len(digits) != 8 or set(digits) - set("0123456789"):
            raise ValueError(digits)
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))

    def __contains__(self, day):
        return self.first <= day <= self.last
