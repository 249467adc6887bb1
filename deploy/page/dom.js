// Elements from plain values. Text is only ever set as text, so no name can bring markup.

/** An element; `properties` are set on it, those with a hyphen and `role` as attributes. */
export function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (value === null || value === undefined) continue;
        if (name.includes("-") || name === "role" || name === "scope") made.setAttribute(name, value);
        else made[name] = value;
    }
    made.append(...children.filter(child => child !== null));
    return made;
}

export const byId = id => document.getElementById(id);

/** Stands for the agent of calls without one. */
export const NAMELESS = "no agent";

/** A name of a folder or agent, which may run from right to left. */
export const nameText = name =>
    name === "" ? element("i", { textContent: NAMELESS }) : element("bdi", { textContent: name });

/** Hands a file to the browser's downloads. */
export function download(name, text) {
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    const link = element("a", { href: url, download: `${name.replace(/[^\p{L}\p{N}._-]+/gu, "_")}.csv` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
