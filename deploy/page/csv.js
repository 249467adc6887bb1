// CSV as RFC 4180 defines it: read while it arrives, and written for spreadsheets. Pure.

/** Reads records from pieces of text; a record may be spread over several pieces. */
export class CsvReader {
    #rest = "";

    /** Calls `onRecord(fields)` for each record that is complete by now. */
    push(text, onRecord) {
        const all = this.#rest + text;
        let at = 0;
        for (;;) {
            const end = all.indexOf("\r\n", at);
            if (end < 0) break;
            const line = all.slice(at, end);
            if (!line.includes('"')) {
                onRecord(line.split(","));
                at = end + 2;
                continue;
            }
            const record = quotedRecord(all, at);
            if (!record) break;
            onRecord(record.fields);
            at = record.next;
        }
        this.#rest = all.slice(at);
    }

    /** Whether all that arrived belonged to complete records. */
    get complete() {
        return this.#rest === "";
    }
}

/** The record at this place, some fields of which are quoted; null if its end has not arrived yet. */
function quotedRecord(text, at) {
    const fields = [];
    for (;;) {
        let field = "";
        if (text[at] === '"') {
            at += 1;
            for (;;) {
                const quote = text.indexOf('"', at);
                if (quote < 0 || quote + 1 === text.length) return null;
                field += text.slice(at, quote);
                at = quote + 1;
                if (text[at] !== '"') break;
                field += '"';
                at += 1;
            }
        } else {
            const comma = text.indexOf(",", at),
                line = text.indexOf("\r\n", at);
            if (line < 0) return null;
            const end = comma < 0 ? line : Math.min(comma, line);
            field = text.slice(at, end);
            at = end;
        }
        fields.push(field);
        if (text.startsWith("\r\n", at)) return { fields, next: at + 2 };
        if (text[at] === ",") at += 1;
        else if (at + 1 < text.length) throw new SyntaxError("a quoted field is followed by text");
        else return null;
    }
}

/** A text that a spreadsheet would run gets an apostrophe in front, as in the API. */
export const guarded = text => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);

/** The text before `guarded`. */
export const unguarded = text => (/^'[=+\-@\t\r]/.test(text) ? text.slice(1) : text);

function written(value) {
    if (typeof value === "number") return String(value);
    const text = guarded(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A CSV file, with the byte order mark that makes Excel read names as UTF-8. */
export function csvFile(header, rows) {
    return "\ufeff" + [header, ...rows].map(row => row.map(written).join(",") + "\r\n").join("");
}
