//! Groups to JSON entries, as they come. Pure.
//!
//! Groups arrive in the order of day, folder id, agent id. A day's entries are held until the day is over, because
//! they leave in the order of the folders' names; nothing else is held, however long the range.

use crate::response::write_json;
use chrono::NaiveDate;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::ops::Range;

/// The calls of one agent (or of none) in one folder on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// The day.
    pub date: NaiveDate,
    /// The folder.
    pub folder_id: i32,
    /// The agent; none, or an empty id: calls without one.
    pub agent_id: Option<&'a str>,
    /// How many calls; corrections may bring it to 0, and then the group does not exist.
    pub calls: i64,
    /// The sum of their durations, in milliseconds.
    pub duration_ms: i64,
}

/// The JSON array of an answer in the making.
#[derive(Debug)]
pub struct Report {
    /// Folder id -> the place of its name in byte order, and the name.
    folders: HashMap<i32, (usize, String)>,
    /// The day and the folder whose groups are coming in.
    current: Option<(NaiveDate, i32)>,
    total: Sum,
    without_agent: Sum,
    /// The agents of that folder as JSON objects with commas between them.
    agents: Vec<u8>,
    /// The entries of that day as JSON, and for each its folder's place.
    day: Vec<u8>,
    day_entries: Vec<(usize, Range<usize>)>,
    entries: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    calls: i128,
    duration_ms: i128,
}

impl Sum {
    fn add(&mut self, calls: i128, duration_ms: i128) {
        self.calls += calls;
        self.duration_ms += duration_ms;
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    date: String,
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

impl Report {
    /// A report over the folders of this id and name; groups of other folders are passed over.
    pub fn new(mut folders: Vec<(i32, String)>) -> Self {
        folders.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
        let folders = folders.into_iter().enumerate().map(|(place, (id, name))| (id, (place, name))).collect();
        Self {
            folders,
            current: None,
            total: Sum::default(),
            without_agent: Sum::default(),
            agents: Vec::new(),
            day: Vec::new(),
            day_entries: Vec::new(),
            entries: 0,
        }
    }

    /// Takes a group in and appends to `out` what it completes.
    pub fn push(&mut self, group: Group<'_>, out: &mut Vec<u8>) {
        let key = (group.date, group.folder_id);
        if self.current != Some(key) {
            self.end_folder();
            if self.current.is_some_and(|(date, _)| date != group.date) {
                self.end_day(out);
            }
            self.current = Some(key);
        }
        let (calls, duration_ms) = (i128::from(group.calls), i128::from(group.duration_ms));
        match group.agent_id {
            None | Some("") => self.without_agent.add(calls, duration_ms),
            Some(_) if calls == 0 => (),
            Some(agent_id) => {
                self.total.add(calls, duration_ms);
                if !self.agents.is_empty() {
                    self.agents.push(b',');
                }
                let avg_duration_seconds = Seconds::average(duration_ms, calls);
                write_json(&mut self.agents, &Agent { agent_id, calls, avg_duration_seconds });
            }
        }
    }

    /// Appends the rest and the end of the array; returns how many entries there are.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u64 {
        self.end_folder();
        self.end_day(out);
        out.extend_from_slice(if self.entries == 0 { b"[]" } else { b"]" });
        self.entries
    }

    fn end_folder(&mut self) {
        let without_agent = std::mem::take(&mut self.without_agent);
        let mut total = std::mem::take(&mut self.total);
        if without_agent.calls != 0 {
            total.add(without_agent.calls, without_agent.duration_ms);
        }
        let folder = self.current.and_then(|(date, id)| Some((date, self.folders.get(&id)?)));
        if let (Some((date, (place, folder))), true) = (folder, total.calls != 0) {
            let start = self.day.len();
            let entry = Entry {
                date: date.format("%Y%m%d").to_string(),
                folder,
                calls: total.calls,
                avg_duration_seconds: Seconds::average(total.duration_ms, total.calls),
            };
            write_json(&mut self.day, &entry);
            if !self.agents.is_empty() {
                self.day.pop(); // the brace that closes the entry
                self.day.extend_from_slice(b",\"agents\":[");
                self.day.append(&mut self.agents);
                self.day.extend_from_slice(b"]}");
            }
            self.day_entries.push((*place, start..self.day.len()));
        }
        self.agents.clear();
    }

    fn end_day(&mut self, out: &mut Vec<u8>) {
        self.day_entries.sort_unstable_by_key(|(place, _)| *place);
        for (_, range) in self.day_entries.drain(..) {
            out.push(if self.entries == 0 { b'[' } else { b',' });
            out.extend_from_slice(&self.day[range]);
            self.entries += 1;
        }
        self.day.clear();
    }
}

/// A duration in whole milliseconds, written as a JSON number of seconds with no more digits than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seconds {
    milliseconds: i128,
}

impl Seconds {
    /// The average, rounded half up to the millisecond, in integers. `calls` is not 0.
    fn average(duration_ms: i128, calls: i128) -> Self {
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
    use proptest::prelude::*;

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 3, day).unwrap()
    }

    fn group(date: u32, folder_id: i32, agent_id: Option<&str>, calls: i64, duration_ms: i64) -> Group<'_> {
        Group { date: day(date), folder_id, agent_id, calls, duration_ms }
    }

    fn report(groups: &[Group<'_>]) -> String {
        let mut report = Report::new(vec![(1, "Sales".into()), (2, "Billing".into()), (3, "é<".into())]);
        let mut out = Vec::new();
        for group in groups {
            report.push(*group, &mut out);
        }
        report.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_example_of_the_contract() {
        assert_eq!(
            report(&[group(3, 1, Some("007"), 2, 361_000), group(3, 1, None, 1, 285_000)]),
            concat!(
                r#"[{"date":"20260303","folder":"Sales","calls":3,"avg_duration_seconds":215.333,"#,
                r#""agents":[{"agent_id":"007","calls":2,"avg_duration_seconds":180.5}]}]"#
            )
        );
    }

    #[test]
    fn folders_leave_by_name_within_their_day() {
        let written = report(&[
            group(3, 1, None, 1, 1000),
            group(3, 2, None, 1, 1000),
            group(3, 3, None, 1, 1000),
            group(4, 2, None, 1, 1000),
        ]);
        let entries: serde_json::Value = serde_json::from_str(&written).unwrap();
        let order: Vec<_> =
            entries.as_array().unwrap().iter().map(|e| (e["date"].clone(), e["folder"].clone())).collect();
        let expected = [("20260303", "Billing"), ("20260303", "Sales"), ("20260303", "é<"), ("20260304", "Billing")];
        assert_eq!(order, expected.map(|(date, folder)| (date.into(), folder.into())));
        assert!(written.contains(r#""folder":"é\u003c","calls":1,"avg_duration_seconds":1}"#));
    }

    #[test]
    fn what_sums_to_nothing_does_not_exist() {
        assert_eq!(report(&[]), "[]");
        assert_eq!(report(&[group(3, 1, Some("a"), 0, 5)]), "[]");
        assert_eq!(report(&[group(3, 1, Some(""), 1, 5), group(3, 1, None, -1, -5)]), "[]");
        assert_eq!(report(&[group(3, 1, Some("a"), 1, 5), group(3, 1, None, -1, -5)]), "[]");
        assert_eq!(report(&[group(3, 9, Some("a"), 1, 5)]), "[]");
        let one = r#"[{"date":"20260303","folder":"Sales","calls":1,"avg_duration_seconds":1}]"#;
        assert_eq!(report(&[group(3, 1, Some("a"), 0, 5), group(3, 1, None, 1, 1000)]), one);
        assert_eq!(report(&[group(3, 1, Some(""), 1, 1000), group(3, 2, None, 0, 7)]), one);
    }

    proptest! {
        #[test]
        fn an_average_is_rounded_half_up(duration_ms in 0..i64::MAX, calls in 1..i64::MAX) {
            let average = Seconds::average(duration_ms.into(), calls.into()).milliseconds;
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
