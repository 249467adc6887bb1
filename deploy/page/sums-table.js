// The columns and rows of the tables of folders and of agents.

import * as format from "./format.js";
import { average } from "./records.js";
import { fileSeconds } from "./table.js";

const measured = (row, before, all) => ({
    ...row,
    average: average(row.calls, row.ms),
    part: all ? row.calls / all : null,
    before,
});

/** Rows of now, and those that only the period before had, with no calls. */
export function sumRows(now, before, all) {
    if (!before) return now.map(row => measured(row, null, all));
    const earlier = new Map(before.map(row => [row.name, row.calls]));
    const known = new Set(now.map(({ name }) => name));
    const gone = before.filter(({ name }) => !known.has(name));
    return [
        ...now.map(row => measured(row, earlier.get(row.name) ?? 0, all)),
        ...gone.map(({ name, calls }) => measured({ name, calls: 0, ms: 0, folders: 0 }, calls, all)),
    ];
}

const column = (key, label, value, show, more = {}) => ({ key, label, numeric: true, value, show, ...more });

/** `first` is the column of names; a period before takes the room of less important columns. */
export function sumColumns(first, compare, agents) {
    const { count, duration, seconds, share, change } = format;
    const shares = column(
        "share",
        "Share",
        row => row.part,
        row => share(row.part),
    );
    const folders = column(
        "folders",
        "Folders",
        row => row.folders,
        row => count(row.folders),
        {
            csv: [["folders", row => row.folders]],
        },
    );
    const before = column(
        "before",
        "Before",
        row => row.before,
        row => count(row.before),
        {
            csv: [["previous_calls", row => row.before]],
        },
    );
    const changes = column(
        "change",
        "Change",
        row => (row.before ? (row.calls - row.before) / Math.abs(row.before) : null),
        row => change(row.calls, row.before),
    );
    return [
        first,
        column(
            "calls",
            "Calls",
            row => row.calls,
            row => count(row.calls),
            {
                bar: true,
                csv: [["calls", row => row.calls]],
            },
        ),
        ...(compare ? [before, changes] : [shares]),
        column(
            "ms",
            "Duration",
            row => row.ms,
            row => duration(row.ms),
            {
                title: row => seconds(row.ms),
                csv: [["duration_seconds", row => fileSeconds(row.ms)]],
            },
        ),
        column(
            "average",
            "Average",
            row => row.average,
            row => duration(row.average),
            {
                bar: true,
                title: row => seconds(row.average),
                csv: [["avg_duration_seconds", row => fileSeconds(row.average)]],
            },
        ),
        ...(agents && !compare ? [folders] : []),
    ];
}
