// The control that chooses folders: a list of boxes that can be searched, and to which a name can be added.

import { byId, element } from "./dom.js";
import { byName, count, folded } from "./format.js";

const MOST = 300;

export class FolderPicker {
    #known = new Set();
    #chosen = [];

    constructor(onChange) {
        this.onChange = onChange;
        this.details = byId("folders");
        this.search = byId("folders-search");
        this.search.addEventListener("input", () => this.#draw());
        this.search.addEventListener("keydown", event => {
            if (event.key !== "Enter") return;
            event.preventDefault();
            const found = this.#found();
            const name = this.#known.has(this.search.value) || found.length !== 1 ? this.search.value : found[0];
            if (name) this.#choose([...new Set([...this.#chosen, name])]);
            this.search.value = "";
            this.#draw();
        });
        byId("folders-all").addEventListener("click", () => this.#choose([]));
        const panel = this.details.querySelector(".picker-panel");
        this.details.addEventListener("toggle", () => {
            panel.classList.remove("at-end");
            panel.classList.toggle("at-end", panel.getBoundingClientRect().right > innerWidth);
        });
        this.details.addEventListener("keydown", event => {
            if (event.key === "Escape" && this.details.open) {
                this.details.open = false;
                this.details.querySelector("summary").focus();
            }
        });
        document.addEventListener("pointerdown", event => {
            if (!this.details.contains(event.target)) this.details.open = false;
        });
    }

    update(chosen, known) {
        this.#chosen = chosen;
        this.#known = new Set([...known, ...chosen]);
        this.#draw();
    }

    #choose(names) {
        this.#chosen = names;
        for (const name of names) this.#known.add(name);
        this.#draw();
        this.onChange(names);
    }

    #found() {
        const wanted = folded(this.search.value);
        return [...this.#known].filter(name => folded(name).includes(wanted)).sort(byName);
    }

    #draw() {
        const shown = byId("folders-chosen");
        if (this.#chosen.length === 1) shown.replaceChildren(element("bdi", { textContent: this.#chosen[0] }));
        else shown.textContent = this.#chosen.length ? `${count(this.#chosen.length)} folders` : "All folders";
        const found = this.#found();
        const list = byId("folders-list");
        const focused = list.contains(document.activeElement) ? document.activeElement.value : null;
        list.replaceChildren(
            ...found.slice(0, MOST).map(name => {
                const box = element("input", { type: "checkbox", value: name, checked: this.#chosen.includes(name) });
                box.addEventListener("change", () =>
                    this.#choose(box.checked ? [...this.#chosen, name] : this.#chosen.filter(other => other !== name)),
                );
                if (name === focused) queueMicrotask(() => box.focus());
                return element("label", { className: "check" }, box, element("bdi", { textContent: name }));
            }),
        );
        if (found.length > MOST)
            list.append(element("p", { className: "note", textContent: `${count(found.length - MOST)} more: search` }));
        if (!found.length) {
            list.append(
                element("p", {
                    className: "note",
                    textContent: this.search.value
                        ? "Enter adds this name."
                        : "Names appear here once calls are shown.",
                }),
            );
        }
    }
}
