//! What monitoring is told: counted by [`Monitor`], written by [`answer`]. Pure but for the lock of the counts.

use crate::request::CgiParams;
use crate::response;
use chrono::{DateTime, SecondsFormat, Utc};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use url::form_urlencoded;

/// Counts of a process since its start.
#[derive(Debug, Default)]
pub struct Monitor(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    requests: BTreeMap<u16, u64>,
    /// Microseconds up to ten minutes, to two digits.
    latency: Histogram<u32>,
    latency_sum: Duration,
}

impl Default for Counts {
    fn default() -> Self {
        let latency = Histogram::new_with_max(600_000_000, 2);
        let latency = latency.unwrap_or_else(|_| unreachable!("ten minutes and two digits are within its limits"));
        Self { requests: BTreeMap::new(), latency, latency_sum: Duration::ZERO }
    }
}

/// What the database is like just now.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabaseState {
    /// It can be reached.
    pub is_up: bool,
    /// Connections there are.
    pub connections: u32,
    /// Those of them that wait for a request.
    pub idle: u32,
    /// When it answered last.
    pub last_answer: Option<SystemTime>,
}

impl Monitor {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that was answered.
    pub fn count(&self, status: u16, elapsed: Duration) {
        let mut counts = self.counts();
        *counts.requests.entry(status).or_default() += 1;
        counts.latency.saturating_record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        counts.latency_sum += elapsed;
    }
}

/// All that is told.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    uptime_seconds: f64,
    requests: BTreeMap<u16, u64>,
    latency_seconds: Latency,
    database: Database,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Database {
    up: bool,
    connections: u32,
    idle_connections: u32,
    last_answer: Option<String>,
}

/// The CGI response to a probe: 200, or 503 while the database is away. As JSON, or with the option
/// `format=prometheus` in the Prometheus text format 0.0.4.
pub fn answer(params: &CgiParams, monitor: &Monitor, database: DatabaseState, uptime: Duration) -> Vec<u8> {
    let is_prometheus =
        form_urlencoded::parse(params.raw_query()).any(|pair| pair == ("format".into(), "prometheus".into()));
    let (content_type, body) = {
        let counts = monitor.counts();
        if is_prometheus {
            ("text/plain; version=0.0.4; charset=utf-8", prometheus(&counts, database, uptime).into_bytes())
        } else {
            let mut body = Vec::new();
            response::write_json(&mut body, &report(&counts, database, uptime));
            ("application/json", body)
        }
    };
    let mut out = response::head_typed(if database.is_up { 200 } else { 503 }, content_type, None);
    if !params.is_head() {
        out.extend_from_slice(&body);
    }
    out
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

fn report(counts: &Counts, database: DatabaseState, uptime: Duration) -> Report {
    let quantile = |quantile| seconds(counts.latency.value_at_quantile(quantile));
    let last_answer =
        database.last_answer.map(|at| DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true));
    Report {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: uptime.as_secs_f64(),
        requests: counts.requests.clone(),
        latency_seconds: Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: seconds(counts.latency.max()),
        },
        database: Database {
            up: database.is_up,
            connections: database.connections,
            idle_connections: database.idle,
            last_answer,
        },
    }
}

fn prometheus(counts: &Counts, database: DatabaseState, uptime: Duration) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // Writing to a string has no way to fail.
        let _ = writeln!(out, "# HELP callstats_{name} {help}\n# TYPE callstats_{name} {kind}");
        for (suffix, value) in samples {
            let _ = writeln!(out, "callstats_{name}{suffix} {value}");
        }
    };
    let one = |value| [(String::new(), value)];
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    metric("info", "gauge", "Version of the worker.", &[(version, 1.0)]);
    metric("uptime_seconds", "gauge", "Time since the worker started.", &one(uptime.as_secs_f64()));
    let requests: Vec<_> =
        counts.requests.iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), *count as f64)).collect();
    metric("requests_total", "counter", "Requests that were answered, by status.", &requests);
    let mut latency: Vec<_> = [0.5, 0.9, 0.99]
        .map(|quantile| (format!("{{quantile=\"{quantile}\"}}"), seconds(counts.latency.value_at_quantile(quantile))))
        .to_vec();
    latency.push(("_sum".into(), counts.latency_sum.as_secs_f64()));
    latency.push(("_count".into(), counts.requests.values().sum::<u64>() as f64));
    metric("request_duration_seconds", "summary", "Time from the request to the end of its answer.", &latency);
    metric("database_up", "gauge", "Whether the database can be reached.", &one(f64::from(u8::from(database.is_up))));
    let connections = [
        ("{state=\"idle\"}".to_owned(), f64::from(database.idle)),
        ("{state=\"busy\"}".to_owned(), f64::from(database.connections - database.idle.min(database.connections))),
    ];
    metric("database_connections", "gauge", "Connections to the database.", &connections);
    if let Some(since) = database.last_answer.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        let help = "When the database answered last, in Unix time.";
        metric("database_last_answer_timestamp_seconds", "gauge", help, &one(since.as_secs_f64()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(query: &str, database: DatabaseState) -> (String, String) {
        let monitor = Monitor::default();
        monitor.count(200, Duration::from_millis(5));
        monitor.count(200, Duration::from_millis(7));
        monitor.count(401, Duration::from_millis(1));
        let params = CgiParams { query_string: Some(query.into()), ..CgiParams::default() };
        let out = String::from_utf8(answer(&params, &monitor, database, Duration::from_secs(60))).unwrap();
        let (head, body) = out.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn as_json() {
        let up = DatabaseState { is_up: true, connections: 3, idle: 2, last_answer: Some(SystemTime::UNIX_EPOCH) };
        let (head, body) = body("", up);
        assert!(head.starts_with("Status: 200 OK\r\nContent-Type: application/json\r\n"));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["requests"], serde_json::json!({"200": 2, "401": 1}));
        assert_eq!(json["database"]["last_answer"], "1970-01-01T00:00:00.000Z");
        assert!((json["latency_seconds"]["p50"].as_f64().unwrap() - 0.005).abs() < 0.0001, "{json}");
    }

    #[test]
    fn as_prometheus_has_it() {
        let (head, body) = body("x=1&format=prometheus", DatabaseState::default());
        assert!(head.starts_with("Status: 503 "));
        for line in
            ["callstats_requests_total{status=\"200\"} 2", "callstats_database_up 0", "callstats_uptime_seconds 60"]
        {
            assert!(body.lines().any(|found| found == line), "{line}");
        }
        assert!(body.ends_with('\n'));
    }
}
