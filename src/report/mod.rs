//! Daily totals to the JSON entries of an answer, as they arrive (docs/api.md, "Answer"). Pure.
//!
//! Totals arrive in the order of date, folder id, agent id. The entries of a day are held back until the day is over,
//! because they are sent in the order of the folders' names, and each starts with the sums of its agents. They are held
//! in scratch storage; nothing else is, however long the range.

mod folders;

pub use folders::Folders;

use crate::api::response::write_json;
use crate::scratch::Scratch;
use crate::store::DailyTotal;
use chrono::NaiveDate;
use folders::Folder;
use serde::{Serialize, Serializer};
use std::io::{self, Write};
use std::ops::Range;

/// What is copied from scratch storage at once.
const COPY_BYTES: u64 = 64 * 1024;

/// Writes the JSON array of an answer.
pub struct StatsWriter {
    folders: Folders,
    /// The day and the folder whose totals arrive.
    current: Option<(NaiveDate, i32)>,
    with_agent: Sum,
    without_agent: Sum,
    /// The agents of the entries of that day: JSON objects with commas between them.
    agents: Box<dyn Scratch>,
    /// Where those of that folder start.
    agents_start: u64,
    day: Vec<DayEntry>,
    /// The object in the making; kept for its memory.
    json: Vec<u8>,
    entries: u64,
}

/// An entry that is held back until its day is over.
struct DayEntry {
    folder: Folder,
    sum: Sum,
    agents: Range<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    calls: i128,
    duration_ms: i128,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.duration_ms += other.duration_ms;
    }
}

/// An entry without its agents.
#[derive(Serialize)]
struct Entry<'a> {
    date: &'a str,
    folder: &'a str,
    calls: i128,
    avg_duration_seconds: Seconds,
}

#[derive(Serialize)]
struct Agent<'a> {
    agent_id: &'a str,
    calls: i128,
    avg_duration_seconds: Seconds,
}

impl StatsWriter {
    /// A report over these folders; totals of others are ignored. `agents` holds a day's agents.
    pub fn new(folders: Folders, agents: Box<dyn Scratch>) -> Self {
        Self {
            folders,
            current: None,
            with_agent: Sum::default(),
            without_agent: Sum::default(),
            agents,
            agents_start: 0,
            day: Vec::new(),
            json: Vec::new(),
            entries: 0,
        }
    }

    /// How many entries were written so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Takes a total in, and writes the entries that it completes.
    pub fn push(&mut self, total: DailyTotal<'_>, out: &mut impl Write) -> io::Result<()> {
        let key = (total.date, total.folder_id);
        if self.current != Some(key) {
            self.end_folder();
            if self.current.is_some_and(|(date, _)| date != total.date) {
                self.end_day(out)?;
            }
            self.current = Some(key);
        }
        let sum = Sum { calls: total.calls.into(), duration_ms: total.duration_ms.into() };
        match total.agent_id {
            None | Some("") => self.without_agent.add(sum),
            Some(_) if sum.calls == 0 => (),
            Some(agent_id) => {
                self.with_agent.add(sum);
                self.json.clear();
                if self.agents.len() > self.agents_start {
                    self.json.push(b',');
                }
                let avg_duration_seconds = Seconds::average(sum);
                write_json(&mut self.json, &Agent { agent_id, calls: sum.calls, avg_duration_seconds });
                self.agents.append(&self.json)?;
            }
        }
        Ok(())
    }

    /// Writes the rest and the end of the array; returns the number of entries.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<u64> {
        self.end_folder();
        self.end_day(out)?;
        out.write_all(if self.entries == 0 { b"[]" } else { b"]" })?;
        Ok(self.entries)
    }

    fn end_folder(&mut self) {
        let without_agent = std::mem::take(&mut self.without_agent);
        let mut sum = std::mem::take(&mut self.with_agent);
        if without_agent.calls != 0 {
            sum.add(without_agent);
        }
        let agents = self.agents_start..self.agents.len();
        self.agents_start = self.agents.len();
        let folder = self.current.and_then(|(_, id)| self.folders.get(id));
        if let (Some(folder), true) = (folder, sum.calls != 0) {
            self.day.push(DayEntry { folder: folder.clone(), sum, agents });
        }
    }

    fn end_day(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some((date, _)) = self.current else { return Ok(()) };
        let date = date.format("%Y%m%d").to_string();
        let mut day = std::mem::take(&mut self.day);
        day.sort_unstable_by_key(|entry| entry.folder.rank);
        for entry in day.drain(..) {
            out.write_all(if self.entries == 0 { b"[" } else { b"," })?;
            self.write_entry(&date, &entry, out)?;
            self.entries += 1;
        }
        self.day = day; // its memory serves the next day
        self.agents.clear();
        self.agents_start = 0;
        Ok(())
    }

    fn write_entry(&mut self, date: &str, entry: &DayEntry, out: &mut impl Write) -> io::Result<()> {
        let folder = self.folders.name(&entry.folder)?;
        let avg_duration_seconds = Seconds::average(entry.sum);
        self.json.clear();
        write_json(&mut self.json, &Entry { date, folder: &folder, calls: entry.sum.calls, avg_duration_seconds });
        if entry.agents.is_empty() {
            return out.write_all(&self.json);
        }
        // The agents are JSON already: they go in before the brace that closes the entry.
        self.json.pop();
        self.json.extend_from_slice(b",\"agents\":[");
        out.write_all(&self.json)?;
        self.copy_agents(entry.agents.clone(), out)?;
        out.write_all(b"]}")
    }

    fn copy_agents(&mut self, mut range: Range<u64>, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = Vec::new();
        while !range.is_empty() {
            let length = COPY_BYTES.min(range.end - range.start);
            buffer.resize(usize::try_from(length).unwrap_or_default(), 0);
            self.agents.read_exact_at(range.start, &mut buffer)?;
            out.write_all(&buffer)?;
            range.start += length;
        }
        Ok(())
    }
}

/// A duration in whole milliseconds, written as a JSON number of seconds with no more digits than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seconds {
    milliseconds: i128,
}

impl Seconds {
    /// The average, rounded half up to the millisecond, in integers. The number of calls is not 0.
    fn average(Sum { calls, duration_ms }: Sum) -> Self {
        let (duration_ms, calls) = if calls < 0 { (-duration_ms, -calls) } else { (duration_ms, calls) };
        Self { milliseconds: (2 * duration_ms + calls).div_euclid(2 * calls) }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.milliseconds % 1000 == 0 {
            serializer.serialize_i128(self.milliseconds / 1000)
        } else {
            // Nearer to the decimal number than to any other of three digits, so it is written as those digits.
            serializer.serialize_f64(self.milliseconds as f64 / 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::{InMemory, ScratchSpace};
    use proptest::prelude::*;

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 3, day).unwrap()
    }

    fn total(date: u32, folder_id: i32, agent_id: Option<&str>, calls: i64, duration_ms: i64) -> DailyTotal<'_> {
        DailyTotal { date: day(date), folder_id, agent_id, calls, duration_ms }
    }

    fn report(totals: &[DailyTotal<'_>]) -> String {
        let mut folders = Folders::new(InMemory.create());
        for (id, name) in [(2, "Billing"), (1, "Sales"), (3, "é<")] {
            folders.add(id, name).unwrap();
        }
        let mut report = StatsWriter::new(folders, InMemory.create());
        let mut out = Vec::new();
        for total in totals {
            report.push(*total, &mut out).unwrap();
        }
        report.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_example_of_the_documentation_is_written() {
        assert_eq!(
            report(&[total(3, 1, Some("007"), 2, 361_000), total(3, 1, None, 1, 285_000)]),
            concat!(
                r#"[{"date":"20260303","folder":"Sales","calls":3,"avg_duration_seconds":215.333,"#,
                r#""agents":[{"agent_id":"007","calls":2,"avg_duration_seconds":180.5}]}]"#
            )
        );
    }

    #[test]
    fn folders_are_sorted_by_name_within_their_day() {
        let written = report(&[
            total(3, 1, None, 1, 1000),
            total(3, 2, None, 1, 1000),
            total(3, 3, None, 1, 1000),
            total(4, 2, None, 1, 1000),
        ]);
        let entries: serde_json::Value = serde_json::from_str(&written).unwrap();
        let order: Vec<_> =
            entries.as_array().unwrap().iter().map(|e| (e["date"].clone(), e["folder"].clone())).collect();
        let expected = [("20260303", "Billing"), ("20260303", "Sales"), ("20260303", "é<"), ("20260304", "Billing")];
        assert_eq!(order, expected.map(|(date, folder)| (date.into(), folder.into())));
        assert!(written.contains(r#""folder":"é\u003c","calls":1,"avg_duration_seconds":1}"#));
    }

    #[test]
    fn groups_without_calls_are_left_out() {
        assert_eq!(report(&[]), "[]");
        assert_eq!(report(&[total(3, 1, Some("a"), 0, 5)]), "[]");
        assert_eq!(report(&[total(3, 1, Some(""), 1, 5), total(3, 1, None, -1, -5)]), "[]");
        assert_eq!(report(&[total(3, 1, Some("a"), 1, 5), total(3, 1, None, -1, -5)]), "[]");
        assert_eq!(report(&[total(3, 9, Some("a"), 1, 5)]), "[]");
        let one = r#"[{"date":"20260303","folder":"Sales","calls":1,"avg_duration_seconds":1}]"#;
        assert_eq!(report(&[total(3, 1, Some("a"), 0, 5), total(3, 1, None, 1, 1000)]), one);
        assert_eq!(report(&[total(3, 1, Some(""), 1, 1000), total(3, 2, None, 0, 7)]), one);
    }

    proptest! {
        #[test]
        fn an_average_is_rounded_half_up(duration_ms in 0..i64::MAX, calls in 1..i64::MAX) {
            let average = Seconds::average(Sum { calls: calls.into(), duration_ms: duration_ms.into() }).milliseconds;
            let (duration_ms, calls) = (i128::from(duration_ms), i128::from(calls));
            // average - 1/2 <= duration / calls < average + 1/2
            prop_assert!((2 * average - 1) * calls <= 2 * duration_ms);
            prop_assert!(2 * duration_ms < (2 * average + 1) * calls);
        }

        #[test]
        fn seconds_are_written_with_the_digits_they_need(milliseconds in 0..10_000_000_000_i64) {
            let mut out = Vec::new();
            write_json(&mut out, &Seconds { milliseconds: milliseconds.into() });
            let padded = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            let expected = padded.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
