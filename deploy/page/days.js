// Days, ranges and intervals as plain numbers. Pure: knows neither the page nor the network.
// A day is the number of days since 1 January 1970.

const DAY = 86_400_000;
export const MOST_INTERVALS = 4000;

const asDate = day => new Date(day * DAY);

/** The day of a year, month (1 to 12) and day of the month; those out of range carry over. */
export function dayOf(year, month, day) {
    const date = new Date(0);
    date.setUTCFullYear(year, month - 1, day);
    return date.getTime() / DAY;
}

/** The day that YYYYMMDD or YYYY-MM-DD names, or null. */
export function parseDay(text) {
    const found = /^(\d{4})(-?)(\d\d)\2(\d\d)$/.exec(text);
    if (!found) return null;
    const day = dayOf(Number(found[1]), Number(found[3]), Number(found[4]));
    return isoDay(day).replaceAll("-", "") === text.replaceAll("-", "") ? day : null;
}

/** YYYY-MM-DD. */
export function isoDay(day) {
    return asDate(day).toISOString().slice(0, 10);
}

/** YYYYMMDD, as the API has it. */
export const compactDay = day => isoDay(day).replaceAll("-", "");

/** Today in the time zone of this browser. */
export function browserToday() {
    const now = new Date();
    return dayOf(now.getFullYear(), now.getMonth() + 1, now.getDate());
}

function parts(day) {
    const date = asDate(day);
    return { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() };
}

const addMonths = (day, months) => {
    const at = parts(day);
    return dayOf(at.year, at.month + months, 1);
};

/** Whether a range is one of own dates. */
export const isOwn = name => name.includes("-");

/** The range of a name such as `7d`, or of own dates such as `20260301-20260331`; null if it is none. */
export function rangeOf(name, today) {
    const { year, month } = parts(today);
    switch (name) {
        case "today":
            return { first: today, last: today };
        case "7d":
            return { first: today - 6, last: today };
        case "28d":
            return { first: today - 27, last: today };
        case "month":
            return { first: dayOf(year, month, 1), last: today };
        case "quarter":
            return { first: dayOf(year, month - ((month - 1) % 3), 1), last: today };
        case "year":
            return { first: dayOf(year, 1, 1), last: today };
    }
    const [start, end, more] = name.split("-");
    const first = parseDay(start),
        last = parseDay(end ?? "");
    return first === null || last === null || more !== undefined || first > last ? null : { first, last };
}

/**
 * The period before: for a month, quarter or year to date, the same days of the one before; for whole months, as many
 * months; else as many days.
 */
export function previousRange(name, { first, last }) {
    const months = { month: 1, quarter: 3, year: 12 }[name];
    if (months) {
        const start = addMonths(first, -months);
        return { first: start, last: Math.min(start + last - first, first - 1) };
    }
    const from = parts(first),
        next = parts(last + 1);
    if (from.day === 1 && next.day === 1) {
        const count = (next.year - from.year) * 12 + next.month - from.month;
        return { first: addMonths(first, -count), last: first - 1 };
    }
    return { first: first - (last - first + 1), last: first - 1 };
}

/** The interval that suits a range if none was chosen. */
export function automaticInterval({ first, last }) {
    const days = last - first + 1;
    if (days <= 92) return "day";
    if (days <= 366) return "week";
    return days <= 30 * MOST_INTERVALS ? "month" : "total";
}

/** The first day of the interval of a day. */
export function intervalStart(day, interval, range) {
    switch (interval) {
        case "week":
            return day - ((((day + 3) % 7) + 7) % 7); // 1 January 1970 was a Thursday
        case "month":
            return day - parts(day).day + 1;
        case "total":
            return range.first;
        default:
            return day;
    }
}

/** The first days of all intervals of a range, or null if there are too many to show. */
export function intervalStarts(range, interval) {
    const starts = [];
    let start = intervalStart(range.first, interval, range);
    while (start <= range.last) {
        if (starts.length === MOST_INTERVALS) return null;
        starts.push(start);
        if (interval === "total") break;
        start = interval === "month" ? addMonths(start, 1) : start + (interval === "week" ? 7 : 1);
    }
    return starts;
}

/** The days of an interval that lie in the range. */
export function intervalDays(start, interval, range) {
    const end = { day: start, week: start + 6, month: addMonths(start, 1) - 1, total: range.last }[interval];
    return { first: Math.max(start, range.first), last: Math.min(end, range.last) };
}
