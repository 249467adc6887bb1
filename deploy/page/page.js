// The page: its controls, its address, its token, and the turn from one state to the next.

import { readAddress, writeAddress } from "./address.js";
import { AskError } from "./api.js";
import { compactDay, isOwn, isoDay, parseDay } from "./days.js";
import { byId } from "./dom.js";
import { FolderPicker } from "./folders.js";
import { count, rangeText, size } from "./format.js";
import { folderOf, load } from "./load.js";
import { View } from "./view.js";

const TOKEN = "callstats-token";

let state = readAddress(location.search);
let asking = null;
/** The answer on the screen, and the key of its question; null while there is none. */
let shown = null;

const keyOf = of => JSON.stringify([of.company, of.organization, of.range, of.interval, of.compare]);
const fields = ["company", "organization"];

const view = new View({ onFolder: chooseFolder, onAgent: chooseAgent, onTable: () => keepAddress() });
const picker = new FolderPicker(chooseFolders);

function keepAddress(push = false) {
    const address = writeAddress(state);
    if (address === location.search) return;
    history[push ? "pushState" : "replaceState"](null, "", address);
}

function fillControls() {
    for (const name of fields) byId(name).value = state[name];
    const own = isOwn(state.range);
    byId("range").value = own ? "own" : state.range;
    if (own) {
        const [first, last] = state.range.split("-").map(parseDay);
        if (first !== null) byId("first-day").value = isoDay(first);
        if (last !== null) byId("last-day").value = isoDay(last);
    }
    byId("interval").value = state.interval;
    byId("compare").checked = state.compare;
    showOwnDates();
    picker.update(state.folders, knownFolders());
}

function showOwnDates() {
    const own = byId("range").value === "own";
    for (const field of document.querySelectorAll(".field.own")) field.hidden = !own;
}

const knownFolders = () =>
    shown ? [...shown.model.records.folders.list, ...(shown.model.earlier?.folders.list ?? [])] : [];

/** The range as the controls have it; null if own dates are not complete. */
function chosenRange() {
    const range = byId("range").value;
    if (range !== "own") return range;
    const first = parseDay(byId("first-day").value),
        last = parseDay(byId("last-day").value);
    return first === null || last === null ? null : `${compactDay(first)}-${compactDay(last)}`;
}

function readControls() {
    const next = { ...state, interval: byId("interval").value, compare: byId("compare").checked, range: chosenRange() };
    for (const name of fields) next[name] = byId(name).value;
    if (fields.some(name => next[name] !== state[name])) {
        next.folders = [];
        next.agent = null;
    }
    return next;
}

const token = () => byId("token").value.trim();

function showOnly(id) {
    for (const one of ["loading", "error", "welcome"]) byId(one).hidden = one !== id;
    byId("results").hidden = !["results", "loading"].includes(id) || !shown;
    byId("results").toggleAttribute("inert", id === "loading");
    byId("forget").hidden = !sessionStorage.getItem(TOKEN);
}

const announce = text => {
    byId("status").textContent = text;
};

function showError(error, title) {
    shown = null;
    byId("error-title").textContent = title;
    byId("error-text").textContent = error.message;
    byId("error-hint").textContent = error.hint ?? "";
    byId("error-hint").hidden = !error.hint;
    showOnly("error");
    document.title = `${title} – Call statistics`;
}

function refused(error) {
    const expired = error.status === 401;
    byId("token").toggleAttribute("aria-invalid", expired);
    if (expired) {
        byId("token").setAttribute("aria-invalid", "true");
        sessionStorage.removeItem(TOKEN);
        showError(
            {
                message: error.message,
                hint: [error.hint, "Enter a token that is valid, then press Show: all else stays as it is."]
                    .filter(Boolean)
                    .join(" "),
            },
            "Token invalid or expired",
        );
        byId("token").focus();
        byId("token").select();
        return;
    }
    const titles = {
        400: "Invalid request",
        403: "Access denied",
        404: "Not found",
        429: "Too many requests",
        500: "Internal error",
        503: "Temporarily unavailable",
    };
    showError(error, titles[error.status] ?? "No figures");
    byId("error").focus();
}

function showProgress({ characters, rows, day, part }) {
    const bar = byId("progress");
    if (part === null) bar.removeAttribute("value");
    else bar.value = part;
    byId("progress-text").textContent =
        `${count(rows)} rows, ${size(characters)}` +
        (day === null ? "" : `, up to ${rangeText({ first: day, last: day })}`);
}

/** Asks for the figures of the state, and shows them. */
async function show({ push = true } = {}) {
    asking?.abort();
    asking = null;
    keepAddress(push);
    if (!state.company || !state.organization || !token()) {
        shown = null;
        showOnly("welcome");
        byId(!state.company ? "company" : !state.organization ? "organization" : "token").focus();
        return;
    }
    const mine = new AbortController();
    asking = mine;
    byId("progress").removeAttribute("value");
    byId("progress-text").textContent = "Asking…";
    announce("Loading");
    sessionStorage.setItem(TOKEN, token());
    showOnly("loading");
    try {
        const model = await load(state, token(), mine.signal, showProgress);
        if (asking !== mine) return;
        asking = null;
        byId("token").removeAttribute("aria-invalid");
        shown = { key: keyOf(state), model };
        draw();
    } catch (error) {
        if (asking !== mine) return;
        asking = null;
        mine.abort(); // the period before may still be on its way
        if (error.name === "AbortError") return;
        if (!(error instanceof AskError)) console.error(error);
        refused(error instanceof AskError ? error : new AskError("This page has an internal error.", String(error)));
    }
}

/** Draws the answer, as far as the state's folders go. */
function draw() {
    showOnly("results");
    const sums = view.update(shown.model, state);
    picker.update(state.folders, knownFolders());
    document.title = `${state.company} / ${state.organization} – Call statistics`;
    announce(sums.calls ? `${count(sums.calls)} calls, ${rangeText(shown.model.range)}` : byId("empty").textContent);
    byId("results").dataset.ready = String(performance.now());
}

/** Draws the state from the last answer if that has all of it, else asks. */
function showState(push) {
    const enough =
        shown && shown.key === keyOf(state) && (shown.model.folder === null || shown.model.folder === folderOf(state));
    if (!enough) {
        show({ push });
        return;
    }
    keepAddress(push);
    draw();
}

function chooseFolders(names) {
    state = { ...state, folders: names };
    if (shown) showState(true);
    else keepAddress();
}

function chooseFolder(name) {
    chooseFolders(state.folders.length === 1 && state.folders[0] === name ? [] : [name]);
}

function chooseAgent(name) {
    const closed = state.agent;
    state = { ...state, agent: name };
    showState(true);
    if (name !== null) {
        byId("agent-heading").focus({ preventScroll: true });
        byId("agent").scrollIntoView({ block: "start" });
    } else if (closed !== null) byId("agents-table").closest(".scroller").focus();
}

byId("controls").addEventListener("submit", event => {
    event.preventDefault();
    const next = readControls();
    if (next.range === null) {
        refused(new AskError("The dates are not complete.", "Give a first and a last day."));
        return;
    }
    state = next;
    show();
});
for (const id of ["range", "interval", "compare", "first-day", "last-day"]) {
    byId(id).addEventListener("change", () => {
        if (id === "range" && byId("range").value === "own" && shown) {
            byId("first-day").value = isoDay(shown.model.range.first);
            byId("last-day").value = isoDay(shown.model.range.last);
        }
        showOwnDates();
        const next = readControls();
        if (next.range === null || keyOf(next) === keyOf(state)) return;
        if (fields.some(name => next[name] !== state[name])) return; // a new name waits for Show
        state = next;
        if (shown || asking || !byId("error").hidden) show();
        else keepAddress();
    });
}
byId("cancel").addEventListener("click", () => {
    asking?.abort();
    asking = null;
    showError({ message: "You cancelled the request.", hint: "" }, "Cancelled");
    byId("again").focus();
});
byId("again").addEventListener("click", () => show({ push: false }));
byId("forget").addEventListener("click", () => {
    asking?.abort();
    asking = null;
    sessionStorage.removeItem(TOKEN);
    byId("token").value = "";
    shown = null;
    announce("The token is forgotten");
    showOnly("welcome");
    byId("token").focus();
});
addEventListener("popstate", () => {
    state = readAddress(location.search);
    fillControls();
    showState(false);
});

fillControls();
byId("token").value = sessionStorage.getItem(TOKEN) ?? "";
keepAddress(); // removes all that does not belong there, a token above all
if (location.search && state.company && state.organization && token()) show({ push: false });
else showOnly("welcome");
