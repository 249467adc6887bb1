// The state of the page as a query string, and back. The token is no part of it: writing the state removes one.

export const TABLES = {
    folders: ["name", "calls", "share", "ms", "average", "before", "change"],
    agents: ["name", "calls", "share", "ms", "average", "folders", "before", "change"],
};
const RANGES = ["today", "7d", "28d", "month", "quarter", "year"];
const INTERVALS = ["auto", "day", "week", "month", "total"];

/** The state that a query string describes; a parameter that it cannot mean stays at its default. */
export function readAddress(search) {
    const query = new URLSearchParams(search);
    const range = query.get("range") ?? "";
    const interval = query.get("interval") ?? "";
    const state = {
        company: query.get("company") ?? "",
        organization: query.get("organization") ?? "",
        folders: [...new Set(query.getAll("folder"))],
        range: RANGES.includes(range) || /^\d{8}-\d{8}$/.test(range) ? range : "28d",
        interval: INTERVALS.includes(interval) ? interval : "auto",
        compare: query.get("compare") === "1",
        agent: query.get("agent"),
        tables: {},
    };
    for (const [table, columns] of Object.entries(TABLES)) {
        const sort = query.get(`${table}-sort`) ?? "";
        const column = sort.replace(/^-/, "");
        state.tables[table] = {
            sort: columns.includes(column) ? column : "calls",
            descending: columns.includes(column) ? sort.startsWith("-") : true,
            filter: query.get(`${table}-filter`) ?? "",
        };
    }
    return state;
}

/** The query string of a state; parameters at their defaults are left out. */
export function writeAddress(state) {
    const query = new URLSearchParams();
    if (state.company) query.set("company", state.company);
    if (state.organization) query.set("organization", state.organization);
    for (const folder of state.folders) query.append("folder", folder);
    query.set("range", state.range);
    if (state.interval !== "auto") query.set("interval", state.interval);
    if (state.compare) query.set("compare", "1");
    if (state.agent !== null) query.set("agent", state.agent);
    for (const [table, { sort, descending, filter }] of Object.entries(state.tables)) {
        if (sort !== "calls" || !descending) query.set(`${table}-sort`, (descending ? "-" : "") + sort);
        if (filter) query.set(`${table}-filter`, filter);
    }
    return `?${query}`;
}
