//! Daily totals to the body of an answer, in each interval and format, against sums made the plain way.

#![no_main]

use arbitrary::Arbitrary;
use callstats::api::format::Format;
use callstats::api::interval::Interval;
use callstats::report::{Folders, Report};
use callstats::scratch::{InMemory, ScratchSpace};
use callstats::store::{DailyTotal, DateRange};
use chrono::NaiveDate;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

type Row = (u8, u8, Option<String>, i64, i64);

#[derive(Debug, Arbitrary)]
struct Input {
    folders: Vec<(u8, String)>,
    rows: Vec<Row>,
    interval: u8,
}

/// The first day of an interval, the folder's name and the agent; empty: none.
type Key = (NaiveDate, String, String);

fn day(number: u8) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(700_000 + i32::from(number)).unwrap()
}

fuzz_target!(|input: Input| {
    let Input { folders, mut rows, interval } = input;
    let interval = [Interval::Day, Interval::Week, Interval::Month, Interval::Total][usize::from(interval % 4)];
    // In the database, names of an organization are unique and neither names nor agent ids hold a NUL.
    let mut names: BTreeMap<String, u8> = folders.into_iter().map(|(id, name)| (name, id)).collect();
    let mut ids = Vec::new();
    names.retain(|_, id| !ids.contains(id) && { ids.push(*id); true });
    rows.retain(|row| row.2.as_ref().is_none_or(|agent_id| !agent_id.contains('\0')));
    rows.sort_by(|a, b| (a.0, a.1, a.2.is_none(), &a.2).cmp(&(b.0, b.1, b.2.is_none(), &b.2)));
    rows.dedup_by(|a, b| (a.0, a.1, &a.2) == (b.0, b.1, &b.2));

    let write = |format| {
        let mut folders = Folders::new(InMemory.create());
        for (name, id) in &names {
            folders.add((*id).into(), name).unwrap();
        }
        let days = DateRange { first: day(0), last: day(255) };
        let mut report = Report::new(folders, days, interval, format, &InMemory);
        let mut out = Vec::new();
        for (date, folder_id, agent_id, calls, duration_ms) in &rows {
            let total = DailyTotal {
                date: day(*date),
                folder_id: (*folder_id).into(),
                agent_id: agent_id.as_deref(),
                calls: *calls,
                duration_ms: *duration_ms,
            };
            report.push(total, &mut out).unwrap();
        }
        let entries = report.finish(&mut out).unwrap();
        (String::from_utf8(out).unwrap(), entries)
    };

    let mut sums: BTreeMap<Key, i128> = BTreeMap::new();
    for (date, folder_id, agent_id, calls, _) in &rows {
        let Some((name, _)) = names.iter().find(|(_, id)| *id == folder_id) else { continue };
        let key = (interval.start(day(*date), day(0)), name.clone(), agent_id.clone().unwrap_or_default());
        *sums.entry(key).or_default() += i128::from(*calls);
    }
    sums.retain(|_, calls| *calls != 0);
    let mut expected: BTreeMap<(NaiveDate, String), i128> = BTreeMap::new();
    for ((date, folder, _), calls) in &sums {
        *expected.entry((*date, folder.clone())).or_default() += calls;
    }
    expected.retain(|_, calls| *calls != 0);
    sums.retain(|(date, folder, _), _| expected.contains_key(&(*date, folder.clone())));

    let (out, entries) = write(Format::Json);
    assert!(!out.contains(['<', '>', '&']));
    let json: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!((json.len(), json.len() as u64), (expected.len(), entries));
    for (entry, (date, folder)) in json.iter().zip(expected.keys()) {
        assert_eq!(entry["date"], *date.format("%Y%m%d").to_string());
        assert_eq!(entry["folder"], **folder);
        let agents = entry["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found: Vec<&str> = agents.iter().map(|agent| agent["agent_id"].as_str().unwrap()).collect();
        let is_of_entry = |key: &&Key| key.0 == *date && key.1 == *folder && !key.2.is_empty();
        let wanted: Vec<&str> = sums.keys().filter(is_of_entry).map(|key| key.2.as_str()).collect();
        assert_eq!(found, wanted);
    }

    let (out, csv_entries) = write(Format::Csv);
    assert_eq!(csv_entries, entries);
    let mut reader = csv::Reader::from_reader(out.strip_prefix('\u{feff}').unwrap().as_bytes());
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), sums.len());
    for (record, ((date, folder, agent_id), calls)) in records.iter().zip(&sums) {
        assert_eq!(record[0], date.format("%Y-%m-%d").to_string());
        for (field, name) in [(&record[1], folder), (&record[2], agent_id)] {
            assert!(field == name || field.strip_prefix('\'') == Some(name));
            assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']));
        }
        assert_eq!(record[3], calls.to_string());
    }
});
