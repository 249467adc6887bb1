//! Rows to the report, in the order of the statement, against sums made the plain way.

#![no_main]

use callstats::report::{Group, Report};
use chrono::NaiveDate;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

type Row = (u8, u8, Option<String>, i64, i64);

fuzz_target!(|input: (Vec<(u8, String)>, Vec<Row>)| {
    let (folders, mut rows) = input;
    let names: BTreeMap<u8, String> = folders.into_iter().collect();
    rows.sort_by(|a, b| (a.0, a.1, a.2.is_none(), &a.2).cmp(&(b.0, b.1, b.2.is_none(), &b.2)));
    rows.dedup_by(|a, b| (a.0, a.1, &a.2) == (b.0, b.1, &b.2));

    let mut report = Report::new(names.iter().map(|(id, name)| (i32::from(*id), name.clone())).collect());
    let mut out = Vec::new();
    for (date, folder_id, agent_id, calls, duration_ms) in &rows {
        let group = Group {
            date: NaiveDate::from_num_days_from_ce_opt(700_000 + i32::from(*date)).unwrap(),
            folder_id: i32::from(*folder_id),
            agent_id: agent_id.as_deref(),
            calls: *calls,
            duration_ms: *duration_ms,
        };
        report.push(group, &mut out);
    }
    let entries = report.finish(&mut out);

    let out = String::from_utf8(out).unwrap();
    assert!(!out.contains(['<', '>', '&']));
    let json: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(json.len() as u64, entries);

    let mut sums: BTreeMap<(u8, u8), i128> = BTreeMap::new();
    for (date, folder_id, _, calls, _) in rows.iter().filter(|row| names.contains_key(&row.1)) {
        *sums.entry((*date, *folder_id)).or_default() += i128::from(*calls);
    }
    sums.retain(|_, calls| *calls != 0);
    assert_eq!(sums.len(), json.len());
    let order: Vec<(String, String)> =
        json.iter().map(|e| (e["date"].as_str().unwrap().into(), e["folder"].as_str().unwrap().into())).collect();
    assert!(order.is_sorted());
    for entry in &json {
        let agents: Vec<&str> = entry["agents"]
            .as_array()
            .map(|agents| agents.iter().map(|agent| agent["agent_id"].as_str().unwrap()).collect())
            .unwrap_or_default();
        assert!(agents.is_sorted() && !agents.contains(&""));
    }
});
