// Charts over time, drawn by Chart.js; each comes with a table of the same figures for those who cannot see it.

import { element } from "./dom.js";
import { DataTable } from "./table.js";

const MOST_BARS = 400;

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
/** Keeps a name that runs from right to left apart from the text around it. */
const isolated = text => `\u2068${text}\u2069`;
const dashed = text => element("span", { className: "swatch dashed" });

function swatch(series) {
    return series.dashed ? dashed() : element("span", { className: `swatch ${series.colour}` });
}

/** A step of the axis of durations, in seconds, that people count in. */
function durationStep(largest) {
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    return steps.find(step => largest / step <= 6) ?? Math.ceil(largest / 6 / 3600) * 3600;
}

export class TimeChart {
    #data = null;
    #chart = null;

    /** `kind`: `calls` are stacked bars, `average` is a line of durations in seconds. */
    constructor({ id, title, kind, noun, file }) {
        this.id = id;
        this.kind = kind;
        this.canvas = element("canvas", { id, role: "img" });
        this.legend = element("ul", { className: "legend" });
        this.missing = element("p", {
            className: "note",
            hidden: true,
            textContent: "The chart library is not installed on this server. The figures are in the table below.",
        });
        this.table = new DataTable({ id: `${id}-table`, caption: title, noun, file, sortable: false });
        this.heading = element("h3", { textContent: title });
        this.element = element(
            "section",
            { className: "card chart", "aria-label": title },
            this.heading,
            this.legend,
            element("div", { className: "canvas" }, this.canvas),
            this.missing,
            element(
                "details",
                { className: "figures" },
                element("summary", { textContent: "Figures of this chart" }),
                this.table.element,
            ),
        );
    }

    /**
     * Draws `series` (`name`, `values` with null for none, `colour` or `dashed`) over intervals with `labels` for the
     * axis and `titles`; `text(value)` formats a value, `summary` describes the chart in a sentence. `columns` and
     * `rows` are those of the table.
     */
    update(data) {
        this.#data = data;
        this.canvas.setAttribute("aria-label", `${this.heading.textContent}, ${data.summary}`);
        this.legend.replaceChildren(
            ...data.series.map(series =>
                element("li", {}, swatch(series), element("bdi", { textContent: series.name })),
            ),
        );
        this.table.update(data.columns, data.rows);
        this.redraw();
    }

    redraw() {
        this.#chart?.destroy();
        this.#chart = null;
        const { Chart } = window;
        this.missing.hidden = Boolean(Chart);
        this.canvas.parentElement.hidden = !Chart;
        if (!Chart || !this.#data) return;
        const { labels, titles, series, text } = this.#data;
        const bars = this.kind === "calls" && labels.length <= MOST_BARS;
        const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
        const largest = Math.max(0, ...series.flatMap(({ values }) => values));
        const ticks = { color: colour("muted"), font, maxRotation: 0 };
        this.#chart = new Chart(this.canvas, {
            type: bars ? "bar" : "line",
            data: { labels, datasets: series.map((one, place) => this.#dataset(one, place, bars)) },
            options: {
                animation: false,
                responsive: true,
                maintainAspectRatio: false,
                normalized: true,
                interaction: { mode: "index", intersect: false },
                datasets: {
                    bar: { categoryPercentage: labels.length > 60 ? 1 : 0.82, barPercentage: 1, maxBarThickness: 72 },
                },
                scales: {
                    x: {
                        stacked: this.kind === "calls",
                        offset: bars || labels.length === 1,
                        grid: { display: false },
                        border: { color: colour("line") },
                        ticks: { ...ticks, autoSkipPadding: 18 },
                    },
                    y: {
                        stacked: this.kind === "calls",
                        beginAtZero: true,
                        grace: this.kind === "calls" ? 0 : "8%",
                        border: { display: false },
                        grid: { color: colour("line"), drawBorder: false, drawTicks: false },
                        ticks: {
                            ...ticks,
                            padding: 8,
                            callback: value => text(value),
                            maxTicksLimit: 8,
                            ...(this.kind === "calls" ? { precision: 0 } : { stepSize: durationStep(largest) }),
                        },
                    },
                },
                plugins: {
                    legend: { display: false },
                    tooltip: {
                        backgroundColor: colour("tooltip"),
                        titleColor: colour("tooltip-text"),
                        bodyColor: colour("tooltip-text"),
                        footerColor: colour("tooltip-text"),
                        padding: 12,
                        cornerRadius: 8,
                        boxPadding: 5,
                        usePointStyle: true,
                        titleFont: { ...font, weight: "600" },
                        bodyFont: font,
                        footerFont: { ...font, weight: "600" },
                        filter: item => item.parsed.y !== 0 || series[item.datasetIndex].dashed,
                        callbacks: {
                            title: items => (items.length ? titles[items[0].dataIndex] : ""),
                            label: item => ` ${isolated(item.dataset.label)}  ${text(item.parsed.y)}`,
                            footer: items => this.#total(items),
                        },
                    },
                },
            },
        });
    }

    /** What a stack adds up to, if it has several parts. */
    #total(items) {
        const { series, text } = this.#data;
        const parts = items.filter(item => !series[item.datasetIndex].dashed);
        if (this.kind !== "calls" || parts.length < 2) return "";
        return `All folders  ${text(parts.reduce((sum, item) => sum + item.parsed.y, 0))}`;
    }

    #dataset(series, place, bars) {
        const main = colour(series.colour ?? "muted");
        const common = { label: series.name, data: series.values, borderColor: main, order: place + 1 };
        const { values } = series;
        // A value without neighbours is on no line, so it needs a point.
        const alone = values.map(
            (value, at) => value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null,
        );
        if (series.dashed) {
            return {
                ...common,
                type: "line",
                stack: "before",
                order: 0,
                borderDash: [5, 4],
                borderWidth: 2,
                pointRadius: alone.map(is => (is ? 4 : 0)),
                pointHitRadius: 8,
                pointHoverRadius: 4,
                backgroundColor: main,
                pointStyle: "line",
                fill: false,
            };
        }
        if (this.kind === "calls") {
            return {
                ...common,
                stack: "now",
                backgroundColor: main,
                borderWidth: 0,
                borderRadius: 2,
                pointRadius: 0,
                pointStyle: "rectRounded",
                fill: bars ? undefined : "stack",
            };
        }
        return {
            ...common,
            borderWidth: 2.5,
            tension: 0.25,
            cubicInterpolationMode: "monotone",
            pointStyle: "circle",
            pointRadius: values.length <= 45 ? 3 : alone.map(is => (is ? 3 : 0)),
            pointHoverRadius: 5,
            pointBackgroundColor: main,
            backgroundColor: `${main}1a`,
            fill: "origin",
        };
    }
}
