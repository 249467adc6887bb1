// Numbers, durations and dates in the language of the browser. Pure but for asking which language that is.

const DAY = 86_400_000;
const languages = [...navigator.languages];
const wholeNumber = new Intl.NumberFormat(languages, { maximumFractionDigits: 0 });
const changeNumber = new Intl.NumberFormat(languages, {
    style: "percent",
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
    signDisplay: "exceptZero",
});
const shareNumber = new Intl.NumberFormat(languages, {
    style: "percent",
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
});
const secondsNumber = new Intl.NumberFormat(languages, { style: "unit", unit: "second", maximumFractionDigits: 3 });
const two = new Intl.NumberFormat(languages, { minimumIntegerDigits: 2, useGrouping: false });
const dates = options => new Intl.DateTimeFormat(languages, { ...options, timeZone: "UTC" });
const shortDay = dates({ day: "numeric", month: "short" });
const weekDay = dates({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
const longDay = dates({ day: "numeric", month: "short", year: "numeric" });
const shortMonth = dates({ month: "short", year: "2-digit" });
const longMonth = dates({ month: "long", year: "numeric" });

export const NOTHING = "–";

export const count = value => (value === null ? NOTHING : wholeNumber.format(value));

/** A size in MB or kB. */
export const size = characters =>
    new Intl.NumberFormat(
        languages,
        characters < 1e6
            ? { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 }
            : { style: "unit", unit: "megabyte", maximumFractionDigits: 1 },
    ).format(characters / (characters < 1e6 ? 1e3 : 1e6));

/** How much now is more than before, in percent; nothing if there was nothing before. */
export const change = (now, before) =>
    before && now !== null ? changeNumber.format((now - before) / Math.abs(before)) : NOTHING;

export const share = part => (part === null ? NOTHING : shareNumber.format(part));

/** Milliseconds as m:ss or h:mm:ss. */
export function duration(ms) {
    if (ms === null) return NOTHING;
    const seconds = Math.round(Math.abs(ms) / 1000);
    const sign = ms < 0 && seconds ? "−" : "";
    const hours = Math.floor(seconds / 3600),
        minutes = Math.floor(seconds / 60) % 60;
    const rest = two.format(seconds % 60);
    return (
        sign +
        (hours
            ? `${wholeNumber.format(hours)}:${two.format(minutes)}:${rest}`
            : `${wholeNumber.format(minutes)}:${rest}`)
    );
}

/** Milliseconds as seconds, to the millisecond. */
export const seconds = ms => (ms === null ? NOTHING : secondsNumber.format(ms / 1000));

export const rangeText = ({ first, last }) =>
    first === last ? weekDay.format(first * DAY) : longDay.formatRange(first * DAY, last * DAY);

/** The interval as a chart's axis names it, and as a table does. */
export const axisText = ({ first, last }, kind) =>
    kind === "month"
        ? shortMonth.format(first * DAY)
        : kind === "total"
          ? rangeText({ first, last })
          : shortDay.format(first * DAY);
export const intervalText = ({ first, last }, kind, whole) =>
    kind === "month" && whole ? longMonth.format(first * DAY) : rangeText({ first, last });

const collator = new Intl.Collator(languages, { numeric: true });
/** Order of names as a person expects it; those that it holds equal are ordered by their characters. */
export const byName = (a, b) => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
export const folded = text => text.normalize("NFKC").toLocaleLowerCase(languages);
