//! Entries as CSV (RFC 4180; docs/api.md, "CSV"): a row for the calls without an agent, if there are any, and one for
//! each agent. Pure.

use super::entries::{Agent, Entry, EntryFormat};
use super::seconds::Seconds;
use super::sum::Sum;
use chrono::NaiveDate;
use csv::{Terminator, WriterBuilder};
use std::borrow::Cow;

/// By this mark spreadsheets know that the file is UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Names that fit here are written without another allocation.
const ROW_BYTES: usize = 256;

pub struct Csv;

impl EntryFormat for Csv {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(BYTE_ORDER_MARK.as_bytes());
        write_record(out, ["date", "folder", "agent_id", "calls", "duration_seconds", "avg_duration_seconds"]);
    }

    fn separate(&mut self, _: &mut Vec<u8>) {}

    fn start_entry(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        if entry.without_agent.calls != 0 {
            write_row(out, entry.date, entry.folder, "", entry.without_agent);
        }
    }

    fn agent(&mut self, agent: &Agent<'_>, out: &mut Vec<u8>) {
        write_row(out, agent.date, agent.folder, agent.agent_id, agent.sum);
    }

    fn end_entry(&mut self, _: &Entry<'_>, _: &mut Vec<u8>) {}

    fn end(&mut self, _: &mut Vec<u8>) {}
}

fn write_row(out: &mut Vec<u8>, date: NaiveDate, folder: &str, agent_id: &str, sum: Sum) {
    write_record(
        out,
        [
            &*date.format("%Y-%m-%d").to_string(),
            &*as_text(folder),
            &*as_text(agent_id),
            &*sum.calls.to_string(),
            &*Seconds::from_milliseconds(sum.duration_ms).to_string(),
            &*Seconds::average(sum).to_string(),
        ],
    );
}

fn write_record(out: &mut Vec<u8>, fields: [&str; 6]) {
    let mut builder = WriterBuilder::new();
    let mut writer = builder.terminator(Terminator::CRLF).buffer_capacity(ROW_BYTES).from_writer(out);
    // Writing to a vector has no way to fail, nor has the flush when the writer is dropped.
    let _ = writer.write_record(fields);
}

/// A name with an apostrophe in front if a spreadsheet would take it for a formula (OWASP, "CSV Injection").
fn as_text(name: &str) -> Cow<'_, str> {
    if name.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{name}").into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(folder: &str, agent_id: &str, calls: i128, duration_ms: i128) -> String {
        let mut out = Vec::new();
        let date = NaiveDate::from_ymd_opt(2026, 3, 3).unwrap();
        write_row(&mut out, date, folder, agent_id, Sum { calls, duration_ms });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_has_dates_names_and_exact_sums() {
        assert_eq!(row("Sales", "007", 2, 361_000), "2026-03-03,Sales,007,2,361,180.5\r\n");
        assert_eq!(row("Sales", "", 3, 646_001), "2026-03-03,Sales,,3,646.001,215.334\r\n");
        assert_eq!(row("a", "b", 1, i64::MAX.into()), "2026-03-03,a,b,1,9223372036854775.807,9223372036854775.807\r\n");
    }

    #[test]
    fn names_are_quoted_if_they_need_it() {
        assert_eq!(row("a,b", "c\"d", 1, 0), "2026-03-03,\"a,b\",\"c\"\"d\",1,0,0\r\n");
        assert_eq!(row("a\r\nb", " c ", 1, 0), "2026-03-03,\"a\r\nb\", c ,1,0,0\r\n");
    }

    #[test]
    fn nothing_is_a_formula() {
        for (name, field) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-", "'-"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("'=1", "'=1"),
            ("a=1", "a=1"),
        ] {
            assert_eq!(row(name, name, 1, 0), format!("2026-03-03,{field},{field},1,0,0\r\n"));
        }
        assert_eq!(row("\r=1", "=\"a\"", 1, 0), "2026-03-03,\"'\r=1\",\"'=\"\"a\"\"\",1,0,0\r\n");
    }

    proptest! {
        #[test]
        fn every_row_is_read_back(folder in any::<String>(), agent_id in any::<String>(), calls in 1..i64::MAX) {
            let text = row(&folder, &agent_id, calls.into(), 0);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
            let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(records.len(), 1);
            let calls = calls.to_string();
            let expected = ["2026-03-03", &*as_text(&folder), &*as_text(&agent_id), &*calls, "0", "0"];
            prop_assert_eq!(records[0].iter().collect::<Vec<_>>(), expected);
        }
    }
}
