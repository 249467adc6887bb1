// Asks the API of the page's own origin and reads its answer while it arrives. Knows nothing of the page.

import { CsvReader, unguarded } from "./csv.js";
import { compactDay, parseDay } from "./days.js";

const COLUMNS = "date,folder,agent_id,calls,duration_seconds,avg_duration_seconds";

/** An error in words for the person at the page, with the status of the answer or 0. */
export class AskError extends Error {
    constructor(message, hint = "", status = 0) {
        super(message);
        this.hint = hint;
        this.status = status;
    }
}

const prefix = () => document.querySelector('meta[name="callstats-prefix"]').content.replace(/\/$/, "");

/** Whether a browser can ask for this name: it takes `.` and `..` for steps in a path, percent-encoded or not. */
export const canAskFor = name => name !== "." && name !== "..";

function address({ company, organization, folder, range, interval }, format) {
    for (const name of [company, organization]) {
        if (!canAskFor(name)) throw new AskError(`A browser cannot ask for the name "${name}".`);
    }
    const names = folder === null ? [company, organization] : [company, organization, folder];
    const query = new URLSearchParams();
    if (range) query.set("daterange", `${compactDay(range.first)}-${compactDay(range.last)}`);
    query.set("interval", interval);
    if (format === "csv") query.set("format", "csv");
    return `${prefix()}/${names.map(encodeURIComponent).join("/")}?${query}`;
}

/** The error as the API describes it, or as this page does if something else answered. */
async function refusal(response) {
    const { status } = response;
    let body = null;
    try {
        body = JSON.parse(await response.text());
    } catch (error) {
        if (error.name === "AbortError") throw error;
    }
    if (typeof body?.error === "string") {
        return new AskError(body.error, typeof body.hint === "string" ? body.hint : "", status);
    }
    return new AskError(
        `The web server answered with status ${status} and without an explanation.`,
        status === 404 ? "The API may have another path on this server." : "Try again; if it stays, ask the operator.",
        status,
    );
}

const unreadable = () =>
    new AskError("The answer cannot be read.", "This page and the service may be of different versions.");
const truncated = () =>
    new AskError(
        "The answer was truncated: the connection ended before it was complete.",
        "Nothing of it is shown. Try again, or choose fewer days.",
    );

async function send(url, token, signal) {
    if (!/^[\x21-\x7e]+$/.test(token)) {
        throw new AskError(
            token ? "The token has characters that no token has." : "Enter a token.",
            "Copy it again, without spaces.",
            401,
        );
    }
    let response;
    try {
        response = await fetch(url, {
            headers: { Authorization: `Bearer ${token}` },
            cache: "no-store",
            redirect: "error",
            signal,
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new AskError("The server cannot be reached.", "Check the network, then try again.");
    }
    if (response.status !== 200) throw await refusal(response);
    return response;
}

/** The pieces of text of a body; throws where the connection ends early. */
async function* pieces(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream("utf-8", { fatal: true })).getReader();
    for (;;) {
        let piece;
        try {
            piece = await reader.read();
        } catch (error) {
            throw error.name === "AbortError" ? error : truncated();
        }
        if (piece.done) return;
        yield piece.value;
    }
}

function number(text) {
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) throw unreadable();
    return value;
}

/**
 * Asks for sums: company, organization, folder (null: all), range (null: today) and interval. Calls
 * `onRow(day, folder, agent, calls, milliseconds)` for each row, `onProgress(characters, rows, day)` for each piece.
 * Returns whether names need a second look: CSV puts an apostrophe before some, and a name can start with one.
 */
export async function askForRows(what, token, { signal, onRow, onProgress }) {
    const response = await send(address(what, "csv"), token, signal);
    if (!response.headers.get("Content-Type")?.startsWith("text/csv")) throw unreadable();
    const csv = new CsvReader();
    let characters = 0,
        rows = -1,
        day = null,
        dayText = null,
        doubtful = false;
    const record = fields => {
        rows += 1;
        if (rows === 0) {
            if (fields.join(",") !== COLUMNS) throw unreadable();
            return;
        }
        if (fields.length !== 6) throw unreadable();
        if (fields[0] !== dayText) {
            dayText = fields[0];
            day = parseDay(dayText);
            if (day === null) throw unreadable();
        }
        const folder = unguarded(fields[1]),
            agent = unguarded(fields[2]);
        doubtful ||= folder !== fields[1] || agent !== fields[2];
        if (!onRow(day, folder, agent, number(fields[3]), Math.round(number(fields[4]) * 1000))) throw unreadable();
    };
    for await (const piece of pieces(response)) {
        characters += piece.length;
        try {
            csv.push(piece, record);
        } catch (error) {
            throw error instanceof SyntaxError ? unreadable() : error;
        }
        onProgress?.(characters, Math.max(rows, 0), day);
    }
    if (!csv.complete || rows < 0) throw truncated();
    return doubtful;
}

/** The exact names of the rows of the same question, `[folder, agent]`, "" for calls without an agent. */
export async function askForNames(what, token, { signal }) {
    const response = await send(address(what, "json"), token, signal);
    let text = "";
    for await (const piece of pieces(response)) text += piece;
    let entries;
    try {
        entries = JSON.parse(text);
    } catch {
        throw truncated();
    }
    return entries.flatMap(entry => {
        const agents = entry.agents ?? [];
        const counted = agents.reduce((sum, agent) => sum + agent.calls, 0);
        return [
            ...(counted === entry.calls ? [] : [[entry.folder, ""]]),
            ...agents.map(agent => [entry.folder, agent.agent_id]),
        ];
    });
}
