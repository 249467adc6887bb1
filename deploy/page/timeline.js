// Sums over time as a chart and its table take them. Pure.

import { intervalDays, isoDay } from "./days.js";
import { element } from "./dom.js";
import * as format from "./format.js";
import { average } from "./records.js";
import { fileSeconds } from "./table.js";

/** Folders that get a colour of their own; the others are drawn as one. */
const COLOURS = 8;

const at = (values, place) => (place < values.length ? values[place] : null);

/** The folders with most calls, each with a colour, which it keeps in the charts of agents. */
export function colours(folders) {
    const names = [...folders]
        .sort((a, b) => b.calls - a.calls || format.byName(a.name, b.name))
        .map(({ name }) => name);
    const own = names.slice(0, names.length <= COLOURS ? COLOURS : COLOURS - 1);
    return new Map(own.map((name, place) => [name, `series-${place + 1}`]));
}

/** The days of an interval of these records, and their name in full; null past the last one. */
function interval(records, place) {
    if (place >= records.starts.length) return null;
    const days = intervalDays(records.starts[place], records.kind, records.range);
    const all = intervalDays(records.starts[place], records.kind, { first: -Infinity, last: Infinity });
    const whole = all.first === days.first && all.last === days.last;
    return { ...days, title: format.intervalText(days, records.kind, whole) };
}

function callSeries(sums, places, colourOf) {
    const order = [...colourOf.keys()];
    const own = sums.folders.filter(({ name }) => colourOf.has(name));
    const others = sums.folders.filter(({ name }) => !colourOf.has(name));
    own.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
    const series = own.map(({ name, byInterval }) => ({
        name,
        colour: colourOf.get(name),
        values: places.map(place => at(byInterval, place)),
    }));
    if (others.length) {
        const together = places.map(place => {
            const calls = others.map(({ byInterval }) => at(byInterval, place));
            return calls.includes(null) ? null : calls.reduce((sum, one) => sum + one, 0);
        });
        const name = others.length === 1 ? others[0].name : `${format.count(others.length)} other folders`;
        series.push({ name, colour: "series-other", values: together });
    }
    return series;
}

/** Averages in milliseconds; null for an interval without calls, which has none. */
const averages = ({ byInterval }, places) =>
    places.map(place =>
        place < byInterval.calls.length ? average(byInterval.calls[place], byInterval.ms[place]) : null,
    );

/**
 * Calls by folder, or average durations, over the intervals of `records`; beside it those of the period before, if
 * `before` has its sums and `earlier` its records.
 */
export function timeline(kind, { records, earlier }, now, before, colourOf) {
    const isCalls = kind === "calls";
    const length = Math.max(records.starts.length, before ? earlier.starts.length : 0);
    const places = Array.from({ length }, (_, place) => place);
    const intervals = places.map(place => interval(records, place));
    const titles = intervals.map(found => found?.title ?? format.NOTHING);
    const series = isCalls
        ? callSeries(now, places, colourOf)
        : [{ name: "Average duration", colour: "series-2", values: averages(now, places) }];
    const sum = isCalls ? [{ name: "All folders", values: places.map(place => at(now.byInterval.calls, place)) }] : [];
    const previous = before
        ? [
              {
                  name: "Previous period",
                  dashed: true,
                  values: isCalls ? places.map(place => at(before.byInterval.calls, place)) : averages(before, places),
              },
          ]
        : [];
    const text = isCalls ? format.count : format.duration;
    const column = ({ name, values }, place) => ({
        key: `series-${place}`,
        label: element("bdi", { textContent: name }),
        numeric: true,
        value: row => values[row.place],
        show: row => text(values[row.place]),
        csv: [[name, row => (isCalls ? values[row.place] : fileSeconds(values[row.place]))]],
    });
    const name = {
        key: "name",
        label: "Interval",
        value: row => row.name,
        show: row => row.name,
        csv: [
            ["first_day", row => row.first],
            ["last_day", row => row.last],
        ],
    };
    const measure = isCalls
        ? `${format.count(now.calls)} calls`
        : `on average ${format.duration(average(now.calls, now.ms))}`;
    // Durations are drawn in seconds, in which the axis has its steps.
    const drawn = one => ({ ...one, values: one.values.map(ms => (ms === null ? null : ms / 1000)) });
    return {
        labels: intervals.map(found => (found ? format.axisText(found, records.kind) : "")),
        titles: before
            ? titles.map((title, place) => [title, `before: ${interval(earlier, place)?.title ?? format.NOTHING}`])
            : titles,
        series: isCalls ? [...series, ...previous] : [...series, ...previous].map(drawn),
        text: isCalls ? format.count : number => format.duration(number === null ? null : number * 1000),
        summary: `${format.rangeText(records.range)}: ${measure}. A table below has the figures.`,
        columns: [name, ...[...series, ...sum, ...previous].map(column)],
        rows: intervals.map((found, place) => ({
            place,
            name: titles[place],
            first: found ? isoDay(found.first) : "",
            last: found ? isoDay(found.last) : "",
        })),
    };
}
