// The figures on the page: heading, totals, charts and tables, made of records. Never asks the network.

import { TimeChart } from "./charts.js";
import { csvFile } from "./csv.js";
import { isoDay } from "./days.js";
import { byId, download, element, nameText } from "./dom.js";
import * as format from "./format.js";
import { average } from "./records.js";
import { sumColumns, sumRows } from "./sums-table.js";
import { DataTable, fileSeconds } from "./table.js";
import { colours, timeline } from "./timeline.js";

const MOST_NAMED = 8;
const COLUMNS = ["date", "folder", "agent_id", "calls", "duration_seconds", "avg_duration_seconds"];

const button = (id, className, textContent, act, label = null) => {
    const made = element("button", { type: "button", id, className, textContent, "aria-label": label });
    made.addEventListener("click", act);
    return made;
};

export class View {
    /** `events`: `onFolder(name)`, `onAgent(name or null)`, `onTable()` when a table was sorted or filtered. */
    constructor(events) {
        this.events = events;
        this.heading = element("h2", { id: "shown" });
        this.note = element("p", { className: "note", id: "shown-note" });
        this.all = button("csv", "", "Download CSV", () => this.#downloadAll());
        this.print = button("print", "quiet", "Print", () => window.print());
        this.empty = element("p", { className: "card message", id: "empty" });
        this.totals = element("dl", { className: "totals" });
        this.calls = this.#chart("calls", "Calls over time by folder");
        this.average = this.#chart("average", "Average duration over time");
        this.#buildAgent();
        this.folders = this.#table("folders", "Folders");
        this.agents = this.#table("agents", "Agents");
        const card = (title, table) =>
            element(
                "section",
                { className: "card", "aria-label": title },
                element("h3", { textContent: title }),
                table.element,
            );
        this.figures = element(
            "div",
            { className: "figures-of-all" },
            this.totals,
            element("div", { className: "pair" }, this.calls.element, this.average.element),
            this.agent,
            element("div", { className: "pair tables" }, card("Folders", this.folders), card("Agents", this.agents)),
        );
        byId("results").append(
            element(
                "div",
                { className: "heading" },
                element("div", {}, this.heading, this.note),
                element("div", { className: "buttons" }, this.print, this.all),
            ),
            this.empty,
            this.figures,
        );
        this.#followScreenAndPaper();
    }

    /** The name of a file with these figures. */
    #file(content) {
        const { company, organization, range } = this.model;
        return [company, organization, content, isoDay(range.first), isoDay(range.last)].join("-");
    }

    #chart(id, title) {
        const kind = id.replace("agent-", "");
        return new TimeChart({ id: `${id}-chart`, title, kind, noun: "intervals", file: () => this.#file(id) });
    }

    #table(id, caption) {
        const onChange = this.events.onTable;
        return new DataTable({ id: `${id}-table`, caption, noun: id, file: () => this.#file(id), onChange });
    }

    #buildAgent() {
        this.agentHeading = element("h2", { id: "agent-heading", tabIndex: -1 });
        this.agentNote = element("p", { className: "note" });
        const close = () => this.events.onAgent(null);
        this.agentCalls = this.#chart("agent-calls", "Calls of this agent over time by folder");
        this.agentAverage = this.#chart("agent-average", "Average duration of this agent over time");
        this.agent = element(
            "section",
            { id: "agent", className: "agent", "aria-labelledby": "agent-heading", hidden: true },
            element(
                "div",
                { className: "heading" },
                element("div", {}, this.agentHeading, this.agentNote),
                button("agent-close", "quiet", "Close", close, "Close this agent"),
            ),
            element("div", { className: "pair" }, this.agentCalls.element, this.agentAverage.element),
        );
        this.agent.addEventListener("keydown", event => {
            if (event.key === "Escape") close();
        });
    }

    /** Draws the charts anew when the colours change. Paper is white whatever the screen is. */
    #followScreenAndPaper() {
        const redraw = () => {
            const charts = [this.calls, this.average, this.agentCalls, this.agentAverage];
            for (const chart of charts) chart.redraw();
        };
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
        addEventListener("beforeprint", () => {
            document.documentElement.dataset.print = "";
            redraw();
        });
        addEventListener("afterprint", () => {
            delete document.documentElement.dataset.print;
            redraw();
        });
    }

    /**
     * Shows the state's part of `model`: company, organization, range, before (a range or null), records, earlier
     * (records or null). Returns the sums.
     */
    update(model, state) {
        this.model = model;
        this.state = state;
        this.chosen = state.folders.length ? state.folders : null;
        const now = model.records.sums(this.chosen);
        const before = model.earlier?.sums(this.chosen) ?? null;
        const none = now.folders.length === 0 && !before?.folders.length;
        this.#showHeading(none);
        if (none) return now;
        this.colours = colours(now.folders);
        this.#showTotals(now, before);
        this.calls.update(timeline("calls", model, now, before, this.colours));
        this.average.update(timeline("average", model, now, before, this.colours));
        this.#showAgent();
        this.#showTables(now, before);
        return now;
    }

    #showHeading(none) {
        const { company, organization, range, before, records } = this.model;
        this.heading.replaceChildren(
            element("bdi", { textContent: company }),
            " / ",
            element("bdi", { textContent: organization }),
        );
        const when = format.rangeText(range);
        this.note.replaceChildren(
            before ? `${when}, compared with ${format.rangeText(before)}` : when,
            ...this.#chosenText(),
        );
        this.empty.hidden = !none;
        this.figures.hidden = none;
        this.all.disabled = none;
        this.print.hidden = none;
        this.empty.textContent = records.length
            ? `No calls in the chosen folders: ${when}. Other folders have calls.`
            : `No calls: ${when}.`;
    }

    /** The chosen folders, which paper would not have otherwise. */
    #chosenText() {
        if (!this.chosen) return [];
        const names = this.chosen.slice(0, MOST_NAMED);
        const more = this.chosen.length - names.length;
        const listed = names.flatMap((name, place) => [place ? ", " : "", element("bdi", { textContent: name })]);
        return [
            this.chosen.length === 1 ? ". Only folder " : ". Only folders ",
            ...listed,
            more ? ` and ${format.count(more)} more` : "",
        ];
    }

    #showTotals(now, before) {
        const total = (id, label, of, show, exact = null) => {
            const [value, was] = [of(now), before && of(before)];
            const shown = element("dd", { id: `total-${id}`, textContent: show(value), title: exact?.(value) });
            shown.dataset.value = value ?? "";
            const change =
                before &&
                element("dd", {
                    className: "change",
                    textContent: was ? `${format.change(value, was)} vs. before` : "none before",
                });
            return element("div", { className: "card total" }, element("dt", { textContent: label }), shown, change);
        };
        const { count, duration, seconds } = format;
        this.totals.replaceChildren(
            total("calls", "Calls", sums => sums.calls, count),
            total("average", "Average duration", sums => average(sums.calls, sums.ms), duration, seconds),
            total("duration", "Total duration", sums => sums.ms, duration, seconds),
            total("folders", "Folders", sums => sums.folders.length, count),
            total("agents", "Agents", sums => sums.agents.filter(({ name }) => name !== "").length, count),
        );
    }

    /** Shows the agent of the state over time, or hides that part. */
    #showAgent() {
        const { agent } = this.state;
        this.agent.hidden = agent === null;
        if (agent === null) return;
        const now = this.model.records.sums(this.chosen, agent);
        const before = this.model.earlier?.sums(this.chosen, agent) ?? null;
        const name = agent === "" ? ["Calls without an agent"] : ["Agent ", nameText(agent)];
        this.agentHeading.replaceChildren(...name);
        this.agentNote.textContent = now.calls
            ? `${format.count(now.calls)} calls, on average ${format.duration(average(now.calls, now.ms))}`
            : "No calls in this range.";
        this.agentCalls.update(timeline("calls", this.model, now, before, this.colours));
        this.agentAverage.update(timeline("average", this.model, now, before, this.colours));
    }

    #showTables(now, before) {
        const names = (label, title, field, act) => ({
            key: "name",
            label,
            value: row => row.name,
            csv: [[field, row => row.name]],
            show: row => {
                const made = element("button", { type: "button", className: "name", title }, nameText(row.name));
                made.addEventListener("click", () => act(row.name));
                return made;
            },
        });
        const folder = names("Folder", "Only this folder", "folder", this.events.onFolder);
        const agent = names("Agent", "Over time", "agent_id", this.events.onAgent);
        const { folders, agents } = this.state.tables;
        const agentRows = sumRows(now.agents, before?.agents, now.calls);
        for (const row of agentRows) row.selected = row.name === this.state.agent;
        const compare = before !== null;
        this.folders.update(
            sumColumns(folder, compare, false),
            sumRows(now.folders, before?.folders, now.calls),
            folders,
        );
        this.agents.update(sumColumns(agent, compare, true), agentRows, agents);
    }

    /** The rows of the answer that are shown, in the form of the API's CSV. */
    #downloadAll() {
        const rows = [];
        for (const [day, folder, agent, calls, ms] of this.model.records.rows(this.chosen)) {
            rows.push([isoDay(day), folder, agent, calls, fileSeconds(ms), fileSeconds(average(calls, ms))]);
        }
        download(this.#file("calls"), csvFile(COLUMNS, rows));
    }
}
