// Asks for all that a state of the page needs: the calls of its range, and of the period before if that is wanted.

import { AskError, askForNames, askForRows, canAskFor } from "./api.js";
import { automaticInterval, browserToday, intervalStarts, isOwn, previousRange, rangeOf } from "./days.js";
import { Records } from "./records.js";

/** Reads one range into records; `report` gets how much of it arrived: `part` is 0 to 1, or null while unknown. */
async function read(what, token, signal, report) {
    const records = new Records(what.range, what.interval);
    const days = what.range.last - what.range.first + 1;
    const doubtful = await askForRows(what, token, {
        signal,
        onRow: (...row) => records.add(...row),
        onProgress: (characters, rows, day) =>
            report({
                characters,
                rows,
                day,
                part: day === null || what.interval === "total" ? null : (day - what.range.first) / days,
            }),
    });
    if (doubtful) records.rename(await askForNames(what, token, { signal }));
    return records;
}

/**
 * Today in the organization's time zone: the date of its calls of today. Without such calls it is this browser's date,
 * which may be a day apart.
 */
async function organizationToday(what, token, signal) {
    let today = null;
    await askForRows({ ...what, range: null, interval: "total" }, token, {
        signal,
        onRow: day => {
            today = day;
            return true;
        },
    });
    return today ?? browserToday();
}

/** The folder to ask for; several, or one that has no address in a browser, are picked from the answer for all. */
export const folderOf = ({ folders }) => (folders.length === 1 && canAskFor(folders[0]) ? folders[0] : null);

/** Asks for all that the state shows. */
export async function load(state, token, signal, report) {
    const what = { company: state.company, organization: state.organization, folder: folderOf(state) };
    const today = isOwn(state.range) ? browserToday() : await organizationToday(what, token, signal);
    const range = rangeOf(state.range, today);
    if (!range) throw new AskError("The dates are no range.", "Give two dates, the last one not before the first.");
    const interval = state.interval === "auto" ? automaticInterval(range) : state.interval;
    const before = state.compare ? previousRange(state.range, range) : null;
    if (!intervalStarts(range, interval)) {
        throw new AskError("The range has too many intervals to draw.", "Choose longer intervals or a shorter range.");
    }
    const progress = [null, null];
    const told = place => one => {
        progress[place] = one;
        const known = progress.filter(Boolean);
        const parts = before ? 2 : 1;
        report({
            characters: known.reduce((sum, { characters }) => sum + characters, 0),
            rows: known.reduce((sum, { rows }) => sum + rows, 0),
            day: progress[0]?.day ?? null,
            part: known.some(({ part }) => part === null)
                ? null
                : known.reduce((sum, { part }) => sum + part, 0) / parts,
        });
    };
    const [records, earlier] = await Promise.all([
        read({ ...what, range, interval }, token, signal, told(0)),
        before ? read({ ...what, range: before, interval }, token, signal, told(1)) : null,
    ]);
    return {
        company: state.company,
        organization: state.organization,
        folder: what.folder,
        range,
        before,
        records,
        earlier,
    };
}
