// The figures on the page: heading, totals, charts and tables, from records that were read. Asks nothing of the network.

import { COLOURS, TimeChart } from "./charts.js";
import { csvFile } from "./csv.js";
import { intervalDays, isoDay } from "./days.js";
import { byId, download, element, nameText } from "./dom.js";
import * as format from "./format.js";
import { average } from "./records.js";
import { DataTable, fileSeconds } from "./table.js";

const NAMELESS = "no agent";

const calls = "calls", averageKey = "average";
/** A row of sums with what its columns need. */
const measured = (row, before, all) => ({
    ...row, average: average(row.calls, row.ms), part: all ? row.calls / all : null, before,
});

/** Rows of now, and those that only the period before had, with no calls. */
function compared(now, before, all) {
    if (!before) return now.map(row => measured(row, null, all));
    const earlier = new Map(before.map(row => [row.name, row.calls]));
    const rows = now.map(row => measured(row, earlier.get(row.name) ?? 0, all));
    const known = new Set(now.map(({ name }) => name));
    const gone = before.filter(({ name }) => !known.has(name));
    return [...rows, ...gone.map(({ name, calls: was }) => measured({ name, calls: 0, ms: 0, folders: 0 }, was, all))];
}

function columns(first, compare, agents) {
    const change = row => row.before ? (row.calls - row.before) / row.before : null;
    return [
        first,
        { key: "calls", label: "Calls", numeric: true, bar: true, value: row => row.calls,
          show: row => format.count(row.calls), csv: [["calls", row => row.calls]] },
        { key: "share", label: "Share", numeric: true, value: row => row.part, show: row => format.share(row.part, 1) },
        { key: "ms", label: "Duration", numeric: true, value: row => row.ms, show: row => format.duration(row.ms),
          title: row => format.seconds(row.ms), csv: [["duration_seconds", row => fileSeconds(row.ms)]] },
        { key: "average", label: "Average", numeric: true, bar: true, value: row => row.average,
          show: row => format.duration(row.average), title: row => format.seconds(row.average),
          csv: [["avg_duration_seconds", row => fileSeconds(row.average)]] },
        ...(agents ? [{ key: "folders", label: "Folders", numeric: true, value: row => row.folders,
                        show: row => format.count(row.folders), csv: [["folders", row => row.folders]] }] : []),
        ...(compare ? [
            { key: "before", label: "Calls before", numeric: true, value: row => row.before, show: row => format.count(row.before),
              csv: [["previous_calls", row => row.before]] },
            { key: "change", label: "Change", numeric: true, value: change, show: row => format.change(row.calls, row.before) },
        ] : []),
    ];
}

export class View {
    /** `events`: `onFolder(name)`, `onAgent(name or null)`, `onTable()` when a table was sorted or filtered. */
    constructor(events) {
        this.events = events;
        const file = what => () => [this.model.company, this.model.organization, what,
            isoDay(this.model.range.first), isoDay(this.model.range.last)].join("-");
        const chart = (id, title, kind) => new TimeChart({ id, title, kind, noun: "intervals", file: file(id) });

        this.heading = element("h2", { id: "shown" });
        this.note = element("p", { className: "note", id: "shown-note" });
        this.all = element("button", { type: "button", id: "csv", textContent: "Download CSV" });
        this.all.addEventListener("click", () => this.#downloadAll(file("calls")()));
        this.print = element("button", { type: "button", className: "quiet", textContent: "Print" });
        this.print.addEventListener("click", () => window.print());
        this.empty = element("p", { className: "card message", id: "empty" });
        this.totals = element("dl", { className: "totals" });
        this.calls = chart("calls-chart", "Calls over time by folder", calls);
        this.average = chart("average-chart", "Average duration over time", averageKey);
        this.agentHeading = element("h2", { id: "agent-heading", tabIndex: -1 });
        this.agentNote = element("p", { className: "note" });
        this.agentClose = element("button", { type: "button", className: "quiet", textContent: "Close", "aria-label": "Close this agent" });
        this.agentClose.addEventListener("click", () => events.onAgent(null));
        this.agentCalls = chart("agent-calls-chart", "Calls of this agent over time by folder", calls);
        this.agentAverage = chart("agent-average-chart", "Average duration of this agent over time", averageKey);
        this.agent = element("section", { id: "agent", className: "agent", "aria-labelledby": "agent-heading", hidden: true },
            element("div", { className: "heading" }, element("div", {}, this.agentHeading, this.agentNote), this.agentClose),
            element("div", { className: "pair" }, this.agentCalls.element, this.agentAverage.element));
        this.agent.addEventListener("keydown", event => {
            if (event.key === "Escape") events.onAgent(null);
        });
        this.folders = new DataTable({ id: "folders-table", caption: "Folders", noun: "folders", file: file("folders"),
                                       onChange: events.onTable });
        this.agents = new DataTable({ id: "agents-table", caption: "Agents", noun: "agents", file: file("agents"),
                                      onChange: events.onTable });
        const tableCard = (title, table) => element("section", { className: "card", "aria-label": title },
            element("h3", { textContent: title }), table.element);
        this.figures = element("div", { className: "figures-of-all" }, this.totals,
            element("div", { className: "pair" }, this.calls.element, this.average.element), this.agent,
            element("div", { className: "pair tables" }, tableCard("Folders", this.folders), tableCard("Agents", this.agents)));
        byId("results").append(
            element("div", { className: "heading" }, element("div", {}, this.heading, this.note),
                element("div", { className: "buttons" }, this.print, this.all)),
            this.empty, this.figures);

        const redraw = () => this.#charts.forEach(one => one.redraw());
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
        // Paper is white whatever the screen is.
        addEventListener("beforeprint", () => { document.documentElement.dataset.print = ""; redraw(); });
        addEventListener("afterprint", () => { delete document.documentElement.dataset.print; redraw(); });
    }

    get #charts() {
        return [this.calls, this.average, ...(this.agent.hidden ? [] : [this.agentCalls, this.agentAverage])];
    }

    /** Shows `model`: company, organization, range, before (a range or null), records, earlier (records or null). */
    update(model, state) {
        this.model = model;
        this.state = state;
        const chosen = state.folders.length ? state.folders : null;
        const now = model.records.sums(chosen);
        const before = model.earlier?.sums(chosen) ?? null;
        this.chosen = chosen;
        this.heading.replaceChildren(element("bdi", { textContent: model.company }), " / ",
            element("bdi", { textContent: model.organization }));
        this.note.textContent = format.rangeText(model.range)
            + (model.before ? `, compared with ${format.rangeText(model.before)}` : "");
        const none = now.folders.length === 0 && !before?.folders.length;
        this.empty.hidden = !none;
        this.figures.hidden = none;
        this.all.disabled = none;
        this.print.hidden = none;
        if (none) {
            const when = format.rangeText(model.range);
            this.empty.textContent = model.records.length
                ? `No calls in the chosen folders: ${when}. Other folders have calls.` : `No calls: ${when}.`;
            return { calls: 0 };
        }
        this.#showTotals(now, before);
        this.#rankFolders(now, before);
        this.#showChart(this.calls, now, before, "calls");
        this.#showChart(this.average, now, before, "average");
        this.showAgent();
        this.#showTables(now, before);
        return now;
    }

    #showTotals(now, before) {
        const agents = sums => sums.agents.filter(({ name }) => name !== "").length;
        const item = (id, label, value, text, was, title) => element("div", { className: "card total" },
            element("dt", { textContent: label }),
            Object.assign(element("dd", { id, textContent: text, title: title ?? "" }), {}),
            before ? element("dd", { className: "change", textContent: `${format.change(value, was)} vs. before` }) : null);
        const averages = [now, before].map(sums => sums && average(sums.calls, sums.ms));
        this.totals.replaceChildren(
            item("total-calls", "Calls", now.calls, format.count(now.calls), before?.calls),
            item("total-average", "Average duration", averages[0], format.duration(averages[0]), averages[1], format.seconds(averages[0])),
            item("total-duration", "Total duration", now.ms, format.duration(now.ms), before?.ms, format.seconds(now.ms)),
            item("total-folders", "Folders", now.folders.length, format.count(now.folders.length), before?.folders.length),
            item("total-agents", "Agents", agents(now), format.count(agents(now)), before && agents(before)));
        byId("total-calls").dataset.value = now.calls;
        byId("total-average").dataset.value = averages[0] ?? "";
        byId("total-duration").dataset.value = now.ms;
    }

    /** Gives the folders with most calls a colour each, which they keep in the charts of agents. */
    #rankFolders(now, before) {
        const names = [...now.folders].sort((a, b) => b.calls - a.calls || format.byName(a.name, b.name)).map(({ name }) => name);
        this.colours = new Map(names.slice(0, names.length <= COLOURS ? COLOURS : COLOURS - 1)
            .map((name, place) => [name, `series-${place + 1}`]));
    }

    #showChart(chart, now, before, kind) {
        const { records, earlier, range } = this.model;
        const { starts } = records;
        const longest = Math.max(starts.length, earlier?.starts.length ?? 0);
        const places = Array.from({ length: longest }, (_, place) => place);
        const days = (of, place) => place < of.starts.length ? intervalDays(of.starts[place], of.kind, of.range) : null;
        const title = (of, place) => {
            const found = days(of, place);
            if (!found) return format.NOTHING;
            const whole = intervalDays(of.starts[place], of.kind, { first: -Infinity, last: Infinity });
            return format.intervalText(found, of.kind, whole.first === found.first && whole.last === found.last);
        };
        const at = (values, place) => place < values.length ? values[place] : null;
        const seconds = (sums, place) => {
            const value = place < sums.byInterval.calls.length
                ? average(sums.byInterval.calls[place], sums.byInterval.ms[place]) : null;
            return value;
        };
        const series = kind === "calls" ? this.#callSeries(now, places)
            : [{ name: "Average duration", colour: "series-1", values: places.map(place => seconds(now, place)) }];
        if (before) {
            series.push({ name: "Previous period", dashed: true, always: true,
                values: places.map(place => kind === "calls" ? at(before.byInterval.calls, place) : seconds(before, place)) });
        }
        const text = kind === "calls" ? format.count : format.duration;
        const value = kind === "calls" ? number => number : fileSeconds;
        const titles = places.map(place => title(records, place));
        const beforeTitles = earlier && places.map(place => title(earlier, place));
        const tableSeries = kind === "calls"
            ? [...series.filter(({ dashed }) => !dashed), { name: "All folders", values: places.map(place => at(now.byInterval.calls, place)) },
               ...series.filter(({ dashed }) => dashed)]
            : series;
        const sumText = kind === "calls" ? `${format.count(now.calls)} calls`
            : `on average ${format.duration(average(now.calls, now.ms))}`;
        chart.update({
            labels: places.map(place => place < starts.length ? format.axisText(days(records, place), records.kind) : ""),
            titles: titles.map((now_, place) => beforeTitles ? [now_, `before: ${beforeTitles[place]}`] : now_),
            // Durations are drawn in seconds, in which the axis has its steps.
            series: kind === "calls" ? series : series.map(one => ({ ...one, values: one.values.map(ms => ms === null ? null : ms / 1000) })),
            text: kind === "calls" ? format.count : number => format.duration(number === null ? null : number * 1000),
            summary: `${chart.heading.textContent}, ${format.rangeText(range)}: ${sumText}. The table below has the figures.`,
            columns: [
                { key: "name", label: "Interval", value: row => row.name, show: row => row.name,
                  csv: [["first_day", row => row.first], ["last_day", row => row.last]] },
                ...tableSeries.map((one, place) => ({
                    key: `series-${place}`, label: element("bdi", { textContent: one.name }), numeric: true,
                    value: row => at(one.values, row.place), show: row => text(at(one.values, row.place)),
                    csv: [[one.name, row => value(at(one.values, row.place))]],
                })),
            ],
            rows: places.map(place => {
                const found = days(records, place);
                return { place, name: titles[place], first: found ? isoDay(found.first) : "", last: found ? isoDay(found.last) : "" };
            }),
        });
    }

    #callSeries(now, places) {
        const own = [], others = [];
        for (const folder of now.folders) (this.colours.has(folder.name) ? own : others).push(folder);
        const order = [...this.colours.keys()];
        own.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
        const series = own.map(({ name, byInterval }) => ({ name, colour: this.colours.get(name),
            values: places.map(place => place < byInterval.length ? byInterval[place] : null) }));
        if (others.length) {
            series.push({ name: `${format.count(others.length)} other folders`, colour: "series-other",
                values: places.map(place => place < now.byInterval.calls.length
                    ? others.reduce((sum, { byInterval }) => sum + byInterval[place], 0) : null) });
        }
        return series;
    }

    /** Shows the agent of the state over time, or hides that part. */
    showAgent() {
        const { agent } = this.state;
        this.agent.hidden = agent === null;
        if (agent === null) return;
        const now = this.model.records.sums(this.chosen, agent);
        const before = this.model.earlier?.sums(this.chosen, agent) ?? null;
        this.agentHeading.replaceChildren(...(agent === "" ? ["Calls without an agent"] : ["Agent ", nameText(agent, NAMELESS)]));
        this.agentNote.textContent = now.calls
            ? `${format.count(now.calls)} calls, on average ${format.duration(average(now.calls, now.ms))}`
            : "No calls in this range.";
        this.#showChart(this.agentCalls, now, before, "calls");
        this.#showChart(this.agentAverage, now, before, "average");
    }

    #showTables(now, before) {
        const compare = before !== null;
        const choice = (className, label, row, act) => {
            const button = element("button", { type: "button", className, title: label }, nameText(row.name, NAMELESS));
            button.addEventListener("click", () => act(row.name));
            return button;
        };
        const folder = { key: "name", label: "Folder", value: row => row.name, csv: [["folder", row => row.name]],
            show: row => choice("name", "Only this folder", row, this.events.onFolder) };
        const agent = { key: "name", label: "Agent", value: row => row.name, csv: [["agent_id", row => row.name]],
            show: row => choice("name", "Over time", row, this.events.onAgent) };
        const rows = compared(now.agents, before?.agents, now.calls);
        for (const row of rows) row.selected = row.name === this.state.agent;
        this.folders.update(columns(folder, compare, false), compared(now.folders, before?.folders, now.calls), this.state.tables.folders);
        this.agents.update(columns(agent, compare, true), rows, this.state.tables.agents);
    }

    #downloadAll(name) {
        const rows = [];
        for (const [day, folder, agent, number, ms] of this.model.records.rows(this.chosen)) {
            rows.push([isoDay(day), folder, agent, number, fileSeconds(ms), fileSeconds(average(number, ms))]);
        }
        download(name, csvFile(["date", "folder", "agent_id", "calls", "duration_seconds", "avg_duration_seconds"], rows));
    }
}
