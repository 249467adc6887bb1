// The API's answer, held in columns, and the sums that the page shows. Pure. Durations are whole milliseconds and
// are only added up; averages are made of sums, never of averages.

import { unguarded } from "./csv.js";
import { intervalStart, intervalStarts } from "./days.js";

/** The position of each name, in the order of their first appearance. */
class Names {
    list = [];
    #places = new Map();

    place(name) {
        let place = this.#places.get(name);
        if (place === undefined) {
            place = this.list.length;
            this.#places.set(name, place);
            this.list.push(name);
        }
        return place;
    }

    find(name) {
        return this.#places.get(name) ?? -1;
    }
}

/** Average in milliseconds, rounded half up; null without calls. */
export const average = (calls, ms) => (calls ? Math.floor((2 * ms + calls) / (2 * calls)) : null);

export class Records {
    folders = new Names();
    /** Calls without an agent have the agent "". */
    agents = new Names();
    interval = [];
    folder = [];
    agent = [];
    calls = [];
    ms = [];
    #lastDay = null;
    #lastPlace = 0;

    constructor(range, interval) {
        this.range = range;
        this.kind = interval;
        this.starts = intervalStarts(range, interval);
        this.places = new Map(this.starts.map((start, place) => [start, place]));
    }

    get length() {
        return this.calls.length;
    }

    /** Adds a row of the answer; false if its day lies out of the range. */
    add(day, folder, agent, calls, ms) {
        if (day !== this.#lastDay) {
            const place = this.places.get(intervalStart(day, this.kind, this.range));
            if (place === undefined) return false;
            this.#lastDay = day;
            this.#lastPlace = place;
        }
        this.interval.push(this.#lastPlace);
        this.folder.push(this.folders.place(folder));
        this.agent.push(this.agents.place(agent));
        this.calls.push(calls);
        this.ms.push(ms);
        return true;
    }

    /**
     * Gives rows their exact names. CSV writes the names `=1` and `'=1` alike, JSON does not; both have the same order.
     * Leaves the names as they are if the two answers differ, as they do if calls were added in between.
     */
    rename(names) {
        const same = (name, row, of) => unguarded(name) === this[`${of}s`].list[this[of][row]];
        if (
            names.length !== this.length ||
            !names.every(([folder, agent], row) => same(folder, row, "folder") && same(agent, row, "agent"))
        )
            return;
        this.folders = new Names();
        this.agents = new Names();
        names.forEach(([folder, agent], row) => {
            this.folder[row] = this.folders.place(folder);
            this.agent[row] = this.agents.place(agent);
        });
    }

    /** A function that returns whether a row belongs to one of the folders (null: all) and to the agent (null: all). */
    #chosen(folders, agent) {
        const wanted = folders && new Set(folders.map(name => this.folders.find(name)));
        const place = agent === null ? null : this.agents.find(agent);
        return row => (!wanted || wanted.has(this.folder[row])) && (place === null || this.agent[row] === place);
    }

    /** Sums over the rows of these folders (null: all) and this agent (null: all). */
    sums(folderNames = null, agentName = null) {
        const intervals = this.starts.length;
        const numbers = size => new Float64Array(size);
        const folders = this.folders.list;
        const agents = this.agents.list;
        const total = { calls: 0, ms: 0 };
        const byInterval = { calls: numbers(intervals), ms: numbers(intervals) };
        const ofFolder = { rows: numbers(folders.length), calls: numbers(folders.length), ms: numbers(folders.length) };
        const ofAgent = { rows: numbers(agents.length), calls: numbers(agents.length), ms: numbers(agents.length) };
        const folderIntervals = numbers(folders.length * intervals);
        const pairs = new Uint8Array(folders.length * agents.length);
        const foldersOf = numbers(agents.length);
        const chosen = this.#chosen(folderNames, agentName);
        for (let row = 0; row < this.length; row += 1) {
            if (!chosen(row)) continue;
            const calls = this.calls[row];
            const ms = this.ms[row];
            const interval = this.interval[row];
            const folder = this.folder[row];
            const agent = this.agent[row];
            total.calls += calls;
            total.ms += ms;
            byInterval.calls[interval] += calls;
            byInterval.ms[interval] += ms;
            ofFolder.rows[folder] += 1;
            ofFolder.calls[folder] += calls;
            ofFolder.ms[folder] += ms;
            folderIntervals[folder * intervals + interval] += calls;
            ofAgent.rows[agent] += 1;
            ofAgent.calls[agent] += calls;
            ofAgent.ms[agent] += ms;
            const pair = agent * folders.length + folder;
            foldersOf[agent] += 1 - pairs[pair];
            pairs[pair] = 1;
        }
        /** Those that have rows, each with its name, its sums, and more. */
        const found = (names, { rows, calls, ms }, more) =>
            names.flatMap((name, place) =>
                rows[place] ? [{ name, calls: calls[place], ms: ms[place], ...more(place) }] : [],
            );
        return {
            ...total,
            byInterval,
            folders: found(folders, ofFolder, place => ({
                byInterval: folderIntervals.subarray(place * intervals, (place + 1) * intervals),
            })),
            agents: found(agents, ofAgent, place => ({ folders: foldersOf[place] })),
        };
    }

    /** The chosen rows, as `[first day of the interval, folder, agent, calls, milliseconds]`. */
    *rows(folders = null, agent = null) {
        const chosen = this.#chosen(folders, agent);
        for (let row = 0; row < this.length; row += 1) {
            if (chosen(row)) {
                yield [
                    this.starts[this.interval[row]],
                    this.folders.list[this.folder[row]],
                    this.agents.list[this.agent[row]],
                    this.calls[row],
                    this.ms[row],
                ];
            }
        }
    }
}
