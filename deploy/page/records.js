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

    /** A function that tells whether a row belongs to one of the folders (null: all) and to the agent (null: all). */
    #chosen(folders, agent) {
        const wanted = folders && new Set(folders.map(name => this.folders.find(name)));
        const place = agent === null ? null : this.agents.find(agent);
        return row => (!wanted || wanted.has(this.folder[row])) && (place === null || this.agent[row] === place);
    }

    /** Sums over the rows of these folders (null: all) and this agent (null: all). */
    sums(folders = null, agent = null) {
        const intervals = this.starts.length;
        const numbers = size => new Float64Array(size);
        const total = { calls: 0, ms: 0 };
        const byInterval = { calls: numbers(intervals), ms: numbers(intervals) };
        const folderCalls = numbers(this.folders.list.length),
            folderMs = numbers(this.folders.list.length);
        const folderIntervals = numbers(this.folders.list.length * intervals);
        const agentCalls = numbers(this.agents.list.length),
            agentMs = numbers(this.agents.list.length);
        const seenFolders = new Set(),
            seenAgents = new Set(),
            pairs = new Set();
        const chosen = this.#chosen(folders, agent);
        for (let row = 0; row < this.length; row += 1) {
            if (!chosen(row)) continue;
            const calls = this.calls[row],
                ms = this.ms[row];
            const interval = this.interval[row],
                inFolder = this.folder[row],
                ofAgent = this.agent[row];
            total.calls += calls;
            total.ms += ms;
            byInterval.calls[interval] += calls;
            byInterval.ms[interval] += ms;
            folderCalls[inFolder] += calls;
            folderMs[inFolder] += ms;
            folderIntervals[inFolder * intervals + interval] += calls;
            agentCalls[ofAgent] += calls;
            agentMs[ofAgent] += ms;
            seenFolders.add(inFolder);
            seenAgents.add(ofAgent);
            pairs.add(ofAgent * this.folders.list.length + inFolder);
        }
        const foldersOf = numbers(this.agents.list.length);
        for (const pair of pairs) foldersOf[Math.floor(pair / this.folders.list.length)] += 1;
        return {
            ...total,
            byInterval,
            folders: [...seenFolders].map(place => ({
                name: this.folders.list[place],
                calls: folderCalls[place],
                ms: folderMs[place],
                byInterval: folderIntervals.subarray(place * intervals, (place + 1) * intervals),
            })),
            agents: [...seenAgents].map(place => ({
                name: this.agents.list[place],
                calls: agentCalls[place],
                ms: agentMs[place],
                folders: foldersOf[place],
            })),
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
