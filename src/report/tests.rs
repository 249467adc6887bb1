//! The stages of the report together, against sums made the plain way.

use super::seconds::Seconds;
use super::*;
use crate::scratch::InMemory;
use chrono::{Datelike, NaiveDate};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Agent id, calls and average as they are written.
type AgentFigures = (String, i128, String);

const FOLDERS: [(i32, &str); 4] = [(4, "=1+1"), (2, "Billing"), (1, "Sales"), (3, "é<")];

fn day(month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, month, day).unwrap()
}

fn total(date: NaiveDate, folder_id: i32, agent_id: Option<&str>, calls: i64, duration_ms: i64) -> DailyTotal<'_> {
    DailyTotal { date, folder_id, agent_id, calls, duration_ms }
}

fn march(date: u32, folder_id: i32, agent_id: Option<&str>, calls: i64, duration_ms: i64) -> DailyTotal<'_> {
    total(day(3, date), folder_id, agent_id, calls, duration_ms)
}

fn report(interval: Interval, format: Format, totals: &[DailyTotal<'_>]) -> String {
    let mut folders = Folders::new(InMemory.create());
    for (id, name) in FOLDERS {
        folders.add(id, name).unwrap();
    }
    let days = DateRange { first: day(1, 2), last: day(12, 31) };
    let mut report = Report::new(folders, days, interval, format, &InMemory);
    let mut out = Vec::new();
    for total in totals {
        report.push(*total, &mut out).unwrap();
    }
    report.finish(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn daily_json(totals: &[DailyTotal<'_>]) -> String {
    report(Interval::Day, Format::Json, totals)
}

#[test]
fn the_example_of_the_documentation_is_written() {
    let totals = [march(3, 1, Some("007"), 2, 361_000), march(3, 1, None, 1, 285_000)];
    assert_eq!(
        daily_json(&totals),
        concat!(
            r#"[{"date":"20260303","folder":"Sales","calls":3,"avg_duration_seconds":215.333,"#,
            r#""agents":[{"agent_id":"007","calls":2,"avg_duration_seconds":180.5}]}]"#
        )
    );
    assert_eq!(
        report(Interval::Day, Format::Csv, &totals),
        "\u{feff}date,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n\
         2026-03-03,Sales,,1,285,285\r\n\
         2026-03-03,Sales,007,2,361,180.5\r\n"
    );
}

#[test]
fn folders_are_sorted_by_name_within_their_day() {
    let written = daily_json(&[
        march(3, 1, None, 1, 1000),
        march(3, 2, None, 1, 1000),
        march(3, 3, None, 1, 1000),
        march(4, 2, None, 1, 1000),
    ]);
    let entries: serde_json::Value = serde_json::from_str(&written).unwrap();
    let order: Vec<_> = entries.as_array().unwrap().iter().map(|e| (e["date"].clone(), e["folder"].clone())).collect();
    let expected = [("20260303", "Billing"), ("20260303", "Sales"), ("20260303", "é<"), ("20260304", "Billing")];
    assert_eq!(order, expected.map(|(date, folder)| (date.into(), folder.into())));
    assert!(written.contains(r#""folder":"é\u003c","calls":1,"avg_duration_seconds":1}"#));
}

#[test]
fn groups_without_calls_are_left_out() {
    for interval in [Interval::Day, Interval::Month] {
        let report = |totals: &[DailyTotal<'_>]| {
            report(interval, Format::Json, totals).replace("20260301", "20260303") // the 1st of the month
        };
        assert_eq!(report(&[]), "[]");
        assert_eq!(report(&[march(3, 1, Some("a"), 0, 5)]), "[]");
        assert_eq!(report(&[march(3, 1, Some(""), 1, 5), march(3, 1, None, -1, -5)]), "[]");
        assert_eq!(report(&[march(3, 1, Some("a"), 1, 5), march(3, 1, None, -1, -5)]), "[]");
        assert_eq!(report(&[march(3, 9, Some("a"), 1, 5)]), "[]");
        let one = r#"[{"date":"20260303","folder":"Sales","calls":1,"avg_duration_seconds":1}]"#;
        assert_eq!(report(&[march(3, 1, Some("a"), 0, 5), march(3, 1, None, 1, 1000)]), one);
        assert_eq!(report(&[march(3, 1, Some(""), 1, 1000), march(3, 2, None, 0, 7)]), one);
    }
}

#[test]
fn sums_cover_the_whole_interval() {
    let cancelled = [march(3, 1, Some("a"), 2, 9), march(4, 1, Some("a"), -2, 0), march(5, 1, None, 1, 1000)];
    let one = r#"[{"date":"20260301","folder":"Sales","calls":1,"avg_duration_seconds":1}]"#;
    assert_eq!(report(Interval::Month, Format::Json, &cancelled), one);
    // A day without calls adds its duration to a month that has some.
    let corrected = [march(3, 1, Some("a"), 2, 1000), march(4, 1, Some("a"), 0, 2000)];
    let expected = concat!(
        r#"[{"date":"20260301","folder":"Sales","calls":2,"avg_duration_seconds":1.5,"#,
        r#""agents":[{"agent_id":"a","calls":2,"avg_duration_seconds":1.5}]}]"#
    );
    assert_eq!(report(Interval::Month, Format::Json, &corrected), expected);
}

#[test]
fn an_entry_has_the_first_day_of_its_interval() {
    let totals = [
        total(day(1, 2), 1, None, 1, 0),
        total(day(1, 4), 1, None, 1, 0),
        total(day(1, 5), 1, None, 1, 0),
        total(day(2, 1), 1, None, 1, 0),
    ];
    for (interval, dates) in [
        (Interval::Day, &["20260102", "20260104", "20260105", "20260201"][..]),
        (Interval::Week, &["20251229", "20260105", "20260126"]),
        (Interval::Month, &["20260101", "20260201"]),
        (Interval::Total, &["20260102"]),
    ] {
        let written = report(interval, Format::Json, &totals);
        let found: Vec<&str> = written.split("\"date\":\"").skip(1).map(|rest| &rest[..8]).collect();
        assert_eq!(found, dates);
    }
}

#[test]
fn an_answer_without_entries_is_the_same_with_and_without_days() {
    for (format, body) in [
        (Format::Json, "[]"),
        (Format::Csv, "\u{feff}date,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n"),
    ] {
        let mut empty = Vec::new();
        write_empty(format, &mut empty).unwrap();
        assert_eq!(String::from_utf8(empty).unwrap(), body);
        for interval in [Interval::Day, Interval::Week, Interval::Month, Interval::Total] {
            assert_eq!(report(interval, format, &[]), body);
        }
    }
}

#[test]
fn an_interval_is_sent_when_it_is_over() {
    struct Pieces(Vec<usize>, usize);
    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.push(self.1);
            Ok(())
        }
    }
    let mut folders = Folders::new(InMemory.create());
    folders.add(1, "Sales").unwrap();
    let days = DateRange { first: day(1, 1), last: day(12, 31) };
    let mut report = Report::new(folders, days, Interval::Month, Format::Json, &InMemory);
    let mut out = Pieces(Vec::new(), 0);
    for month in 1..=12 {
        report.push(total(day(month, 1), 1, None, 1, 0), &mut out).unwrap();
        assert_eq!(out.0.len(), month as usize - 1);
    }
    assert!(out.0[0] > 0 && out.0.is_sorted_by(|a, b| a < b));
}

type Sums = BTreeMap<(NaiveDate, &'static str, String), Sum>;

/// The sums by first day, folder and agent.
fn plain_sums(interval: Interval, totals: &[DailyTotal<'_>]) -> Sums {
    let mut sums = Sums::new();
    for total in totals {
        let Some((_, folder)) = FOLDERS.iter().find(|(id, _)| *id == total.folder_id) else { continue };
        let first = match interval {
            Interval::Day => total.date,
            Interval::Week => total.date.week(chrono::Weekday::Mon).first_day(),
            Interval::Month => NaiveDate::from_ymd_opt(total.date.year(), total.date.month(), 1).unwrap(),
            Interval::Total => day(1, 2),
        };
        let key = (first, *folder, total.agent_id.unwrap_or_default().to_owned());
        sums.entry(key).or_default().add(Total::from(*total).sum);
    }
    sums.retain(|_, sum| sum.calls != 0);
    let mut entries: BTreeMap<_, i128> = BTreeMap::new();
    for ((first, folder, _), sum) in &sums {
        *entries.entry((*first, *folder)).or_default() += sum.calls;
    }
    sums.retain(|(first, folder, _), _| entries[&(*first, *folder)] != 0);
    sums
}

fn csv_sums(text: &str) -> Vec<((String, String, String), String, String)> {
    let mut reader = ::csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let records = reader.records().map(Result::unwrap);
    let row =
        |r: ::csv::StringRecord| ((r[0].into(), r[1].into(), r[2].into()), r[3].into(), format!("{} {}", &r[4], &r[5]));
    records.map(row).collect()
}

proptest! {
    #[test]
    fn every_interval_and_format_has_the_plain_sums(
        rows in prop::collection::btree_map(
            (0..90_u64, 1..6_i32, prop_oneof![
                Just(String::new()),
                "[abé]{0,2}(same first bytes){0,2}[a-c\u{1}]{0,20}",
            ]),
            (prop_oneof![-1..3_i64, any::<i64>()], prop_oneof![0..5000_i64, any::<i64>()]),
            0..60,
        ),
    ) {
        let totals: Vec<_> = rows.iter().map(|((date, folder_id, agent_id), (calls, duration_ms))| {
            let date = day(1, 2) + chrono::Days::new(*date);
            let agent_id = Some(agent_id.as_str()).filter(|agent_id| !agent_id.is_empty());
            total(date, *folder_id, agent_id, *calls, *duration_ms)
        }).collect();
        for interval in [Interval::Day, Interval::Week, Interval::Month, Interval::Total] {
            let sums = plain_sums(interval, &totals);
            let quoted = |name: &str| if name.starts_with('=') { format!("'{name}") } else { name.to_owned() };
            let expected: Vec<_> = sums.iter().map(|((first, folder, agent_id), sum)| {
                let seconds = [Seconds::from_milliseconds(sum.duration_ms), Seconds::average(*sum)];
                let key = (first.format("%Y-%m-%d").to_string(), quoted(folder), agent_id.clone());
                (key, sum.calls.to_string(), format!("{} {}", seconds[0], seconds[1]))
            }).collect();
            prop_assert_eq!(csv_sums(&report(interval, Format::Csv, &totals)), expected);

            let mut entries: BTreeMap<_, (Sum, Vec<AgentFigures>)> = BTreeMap::new();
            for ((first, folder, agent_id), sum) in &sums {
                let key = (first.format("%Y%m%d").to_string(), (*folder).to_owned());
                let (all, agents) = entries.entry(key).or_default();
                all.add(*sum);
                if !agent_id.is_empty() {
                    agents.push((agent_id.clone(), sum.calls, Seconds::average(*sum).to_string()));
                }
            }
            let written = report(interval, Format::Json, &totals);
            let json: Vec<serde_json::Value> = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(json.len(), entries.len());
            for (entry, ((date, folder), (all, agents))) in json.iter().zip(entries) {
                prop_assert_eq!(entry["date"].as_str(), Some(&*date));
                prop_assert_eq!(entry["folder"].as_str(), Some(&*folder));
                prop_assert_eq!(entry["agents"].as_array().map_or(0, Vec::len), agents.len());
                prop_assert_eq!(entry.get("agents").is_some(), !agents.is_empty());
                let average = Seconds::average(all);
                let figures = format!(r#""calls":{},"avg_duration_seconds":{average}"#, all.calls);
                prop_assert!(written.contains(&figures));
                let written_agents = entry["agents"].as_array().into_iter().flatten();
                for (agent, (agent_id, calls, average)) in written_agents.zip(agents) {
                    prop_assert_eq!(agent["agent_id"].as_str(), Some(&*agent_id));
                    let figures = format!(r#""calls":{calls},"avg_duration_seconds":{average}"#);
                    prop_assert!(written.contains(&figures));
                }
            }
        }
    }
}
