// A table in pages, sortable and filterable. Only the rows of one page are in the document, so thousands cost nothing.

import { csvFile } from "./csv.js";
import { NAMELESS, download, element } from "./dom.js";
import { byName, count, folded } from "./format.js";

const PAGE = 50;

/**
 * A table of rows with a `name`. A column has `key`, `label`, `value(row)` (a number, a name or null; sorts the rows)
 * and `show(row)` (text or a node); optionally `numeric`, `bar` (in proportion to the largest value), `title(row)`, and
 * `csv`, pairs of a name and a value in a file.
 */
export class DataTable {
    #columns = [];
    #rows = [];
    #page = 0;
    #shown = [];
    #ranks = null;

    constructor({ id, caption, noun, file, sortable = true, onChange = () => {} }) {
        this.id = id;
        this.noun = noun;
        this.file = file;
        this.onChange = onChange;
        this.sortable = sortable;
        this.view = { sort: null, descending: false, filter: "" };

        this.filter = element("input", {
            type: "search",
            id: `${id}-filter`,
            dir: "auto",
            placeholder: "Filter",
            autocomplete: "off",
            "aria-label": `Filter ${noun}`,
            spellcheck: false,
        });
        this.filter.addEventListener("input", () => this.#change({ filter: this.filter.value }));
        this.count = element("span", { id: `${id}-count`, className: "count", role: "status" });
        this.csvButton = element("button", {
            type: "button",
            className: "quiet",
            id: `${id}-csv`,
            textContent: "CSV",
            "aria-label": `Download as CSV: ${caption}`,
        });
        this.csvButton.addEventListener("click", () => this.#download());
        this.head = element("thead");
        this.body = element("tbody");
        this.before = this.#pager("Previous", -1);
        this.after = this.#pager("Next", 1);
        this.place = element("span", { id: `${id}-page` });
        this.pages = element(
            "nav",
            { className: "pages", "aria-label": `Pages: ${caption}` },
            this.before,
            this.place,
            this.after,
        );
        this.scroller = element(
            "div",
            { className: "scroller", tabIndex: 0, role: "group", "aria-label": caption },
            element(
                "table",
                { id },
                element("caption", { className: "unseen", textContent: caption }),
                this.head,
                this.body,
            ),
        );
        this.element = element(
            "div",
            { className: "data-table" },
            element("div", { className: "tools" }, sortable ? this.filter : null, this.count, this.csvButton),
            this.scroller,
            this.pages,
        );
    }

    #pager(label, step) {
        const button = element("button", { type: "button", className: "quiet", textContent: label });
        button.addEventListener("click", () => {
            this.#page += step;
            this.#draw();
            this.scroller.scrollTop = 0;
        });
        return button;
    }

    #change(changes) {
        Object.assign(this.view, changes);
        this.#page = 0;
        this.#arrange();
        this.onChange();
    }

    /** Shows these rows; a view that is an object is kept up to date, so that its owner can write it down. */
    update(columns, rows, view = this.view) {
        this.view = view;
        this.#columns = columns;
        this.#rows = rows;
        this.#ranks = null;
        if (this.filter.value !== view.filter) this.filter.value = view.filter;
        const pages = this.#page;
        this.#arrange(pages);
    }

    /** All rows that pass the filter, in the order of the table. */
    get shown() {
        return this.#shown;
    }

    /** The place of each row in the order of names, which takes longer to compare than numbers. */
    #order() {
        this.#ranks ??= new Map([...this.#rows].sort((a, b) => byName(a.name, b.name)).map((row, rank) => [row, rank]));
        return this.#ranks;
    }

    #arrange(page = 0) {
        const { sort, descending, filter } = this.view;
        const wanted = folded(filter.trim());
        let rows = wanted
            ? this.#rows.filter(row => (row.folded ??= folded(row.name || NAMELESS)).includes(wanted))
            : [...this.#rows];
        const column = this.#columns.find(({ key }) => key === sort);
        if (this.sortable && column) {
            const sign = descending ? -1 : 1;
            const order = this.#order();
            const keyed = rows.map(row => ({ row, value: sort === "name" ? order.get(row) : column.value(row) }));
            // Rows without a value are last either way; equal ones are in the order of names.
            keyed.sort((a, b) => {
                const missing = (a.value === null) - (b.value === null);
                const difference = missing || (a.value === null ? 0 : sign * (a.value - b.value));
                return difference || order.get(a.row) - order.get(b.row);
            });
            rows = keyed.map(({ row }) => row);
        }
        this.#shown = rows;
        this.#page = Math.min(page, Math.max(0, Math.ceil(rows.length / PAGE) - 1));
        this.#drawHead();
        this.#draw();
    }

    #drawHead() {
        const { sort, descending } = this.view;
        const focused = document.activeElement?.dataset?.column;
        const inside = this.head.contains(document.activeElement);
        const cells = this.#columns.map(({ key, label, numeric }) => {
            const cell = element("th", { scope: "col", className: numeric ? "number" : "" });
            if (!this.sortable) {
                cell.append(typeof label === "string" ? label : label.cloneNode(true));
                return cell;
            }
            if (key === sort) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
            const button = element("button", { type: "button", textContent: label });
            button.dataset.column = key;
            button.addEventListener("click", () =>
                this.#change({
                    sort: key,
                    descending: key === sort ? !descending : key !== "name",
                }),
            );
            cell.append(button);
            return cell;
        });
        this.head.replaceChildren(element("tr", {}, ...cells));
        if (inside && focused) this.head.querySelector(`[data-column="${focused}"]`)?.focus();
    }

    #draw() {
        const first = this.#page * PAGE;
        const rows = this.#shown.slice(first, first + PAGE);
        const largest = new Map(
            this.#columns
                .filter(({ bar }) => bar)
                .map(column => [
                    column.key,
                    this.#shown.reduce((most, row) => Math.max(most, column.value(row) ?? 0), 0),
                ]),
        );
        this.body.replaceChildren(
            ...rows.map(row => {
                const line = element(
                    "tr",
                    {},
                    ...this.#columns.map((column, place) => this.#cell(column, row, place, largest)),
                );
                if (row.selected) line.setAttribute("aria-current", "true");
                return line;
            }),
        );
        // Calls without an agent are a row, but no agent.
        const named = rows => rows.reduce((sum, { name }) => sum + (name === "" ? 0 : 1), 0);
        const all = named(this.#rows);
        const found = this.#shown.length;
        const kept = found === this.#rows.length ? "" : `${count(named(this.#shown))} of `;
        this.count.textContent = `${kept}${count(all)} ${this.noun}`;
        this.count.dataset.filter = this.view.filter.trim();
        const pages = Math.ceil(found / PAGE);
        this.pages.hidden = pages < 2;
        this.place.textContent = `Page ${count(this.#page + 1)} of ${count(pages)}`;
        this.before.disabled = this.#page === 0;
        this.after.disabled = this.#page >= pages - 1;
    }

    #cell(column, row, place, largest) {
        const cell = element(
            place === 0 ? "th" : "td",
            { className: column.numeric ? "number" : "" },
            column.show(row),
        );
        if (place === 0) cell.scope = "row";
        const value = column.value(row);
        cell.dataset.column = column.key;
        if (column.numeric && value !== null) cell.dataset.value = value;
        if (column.title) cell.title = column.title(row);
        if (column.bar && largest.get(column.key) > 0) {
            const bar = element("span", { className: `bar ${column.key}` });
            bar.style.inlineSize = `${(100 * Math.max(0, value ?? 0)) / largest.get(column.key)}%`;
            cell.append(bar);
            cell.classList.add("has-bar");
        }
        return cell;
    }

    #download() {
        const columns = this.#columns.flatMap(({ csv }) => csv ?? []);
        download(
            this.file(),
            csvFile(
                columns.map(([name]) => name),
                this.#shown.map(row => columns.map(([, value]) => value(row) ?? "")),
            ),
        );
    }
}

/** Milliseconds as seconds for a file: to the millisecond, with a point whatever the language. */
export const fileSeconds = ms => (ms === null ? "" : ms / 1000);
