//! The figures for monitoring: counted by [`Metrics`], written by [`response()`] as JSON or in the text format of
//! Prometheus. All of them are of this process. Pure but for the lock of the counters.

use crate::answer::{Completion, Outcome};
use crate::api::cgi::CgiParams;
use crate::api::response;
use crate::database::PoolState;
use crate::version;
use chrono::{DateTime, SecondsFormat, Utc};
use fastcgi::Incident;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use url::form_urlencoded;

/// The statuses of the API, which are exposed to Prometheus from the start.
const STATUSES: [u16; 8] = [200, 400, 401, 403, 404, 405, 500, 503];

/// Why a connection was closed as soon as it was accepted.
const REFUSED: [(&str, Incident); 3] =
    [("address", Incident::PeerRefused), ("thread", Incident::NoThread), ("setup", Incident::SetupError)];

/// Why a connection was closed later.
const CLOSED: [(&str, Incident); 5] = [
    ("params", Incident::ParamsLimit),
    ("request_timeout", Incident::RequestTimeout),
    ("send_timeout", Incident::SendTimeout),
    ("idle_timeout", Incident::IdleTimeout),
    ("panic", Incident::HandlerPanic),
];

/// Why connections had to wait before they were accepted.
const PAUSES: [(&str, Incident); 2] =
    [("max_connections", Incident::ConnectionLimit), ("error", Incident::AcceptError)];

/// The upper bounds of the buckets of the latency for Prometheus, in seconds: they add up over processes.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// Counters since the start of the process, and those of its connections.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<Counters>,
    transport: Arc<fastcgi::Counters>,
}

#[derive(Debug)]
struct Counters {
    requests: BTreeMap<u16, u64>,
    truncated: u64,
    disconnected: u64,
    /// Microseconds up to ten minutes, to two digits.
    latency: Histogram<u32>,
    latency_sum: Duration,
}

impl Default for Counters {
    fn default() -> Self {
        let latency = Histogram::new_with_max(600_000_000, 2);
        let latency = latency.unwrap_or_else(|_| unreachable!("ten minutes and two digits are within its limits"));
        Self { requests: BTreeMap::new(), truncated: 0, disconnected: 0, latency, latency_sum: Duration::ZERO }
    }
}

impl Metrics {
    /// With the counters of the server that the requests come from.
    pub fn new(transport: Arc<fastcgi::Counters>) -> Self {
        Self { counters: Mutex::default(), transport }
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request.
    pub fn count(&self, outcome: &Outcome) {
        let mut counters = self.counters();
        *counters.requests.entry(outcome.status).or_default() += 1;
        match outcome.completion {
            Completion::Complete => (),
            Completion::Truncated => counters.truncated += 1,
            Completion::ClientDisconnected => counters.disconnected += 1,
        }
        counters.latency.saturating_record(u64::try_from(outcome.elapsed.as_micros()).unwrap_or(u64::MAX));
        counters.latency_sum += outcome.elapsed;
    }
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    commit: &'static str,
    uptime_seconds: f64,
    requests: BTreeMap<u16, u64>,
    truncated: u64,
    client_disconnected: u64,
    connections_refused: u64,
    connections_closed: u64,
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
    busy: u64,
    last_answer: Option<String>,
}

/// The CGI response to a probe. As JSON, for load balancers: 200, or 503 if the database is unavailable. With the query
/// parameter `format=prometheus` in the text format 0.0.4 of Prometheus, always 200: it drops what comes with another.
pub fn response(params: &CgiParams, metrics: &Metrics, pool: PoolState, uptime: Duration) -> Vec<u8> {
    let is_prometheus =
        form_urlencoded::parse(params.raw_query()).any(|pair| pair == ("format".into(), "prometheus".into()));
    let (content_type, body) = {
        let counters = metrics.counters();
        if is_prometheus {
            (
                "text/plain; version=0.0.4; charset=utf-8",
                prometheus(&counters, &metrics.transport, pool, uptime).into_bytes(),
            )
        } else {
            let mut body = Vec::new();
            response::write_json(&mut body, &report(&counters, &metrics.transport, pool, uptime));
            ("application/json", body)
        }
    };
    let mut out = response::headers(if pool.is_up || is_prometheus { 200 } else { 503 }, content_type, None);
    if !params.is_head() {
        out.extend_from_slice(&body);
    }
    out
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

fn report(counters: &Counters, transport: &fastcgi::Counters, pool: PoolState, uptime: Duration) -> Report {
    let quantile = |quantile| seconds(counters.latency.value_at_quantile(quantile));
    let sum = |incidents: &[(&str, Incident)]| incidents.iter().map(|(_, incident)| transport.count(*incident)).sum();
    let last_answer = pool.last_reply.map(|at| DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true));
    Report {
        version: version::VERSION,
        commit: version::COMMIT,
        uptime_seconds: uptime.as_secs_f64(),
        requests: counters.requests.clone(),
        truncated: counters.truncated,
        client_disconnected: counters.disconnected,
        connections_refused: sum(&REFUSED),
        connections_closed: sum(&CLOSED),
        latency_seconds: Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: seconds(counters.latency.max()),
        },
        database: Database {
            up: pool.is_up,
            connections: pool.connections,
            idle_connections: pool.idle,
            busy: pool.busy + pool.share_taken,
            last_answer,
        },
    }
}

fn prometheus(counters: &Counters, transport: &fastcgi::Counters, pool: PoolState, uptime: Duration) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP callstats_{name} {help}\n# TYPE callstats_{name} {kind}");
        for (suffix, value) in samples {
            let _ = writeln!(out, "callstats_{name}{suffix} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    let version = format!("{{version=\"{}\"}}", version::VERSION);
    metric("info", "gauge", "Version of the worker.", &[(version, 1.0)]);
    metric("uptime_seconds", "gauge", "Time since the worker started.", &one(uptime.as_secs_f64()));
    let mut requests: BTreeMap<u16, u64> = STATUSES.map(|status| (status, 0)).into();
    requests.extend(&counters.requests);
    let requests: Vec<_> =
        requests.iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), *count as f64)).collect();
    metric("requests_total", "counter", "Requests, by status.", &requests);
    let help = "Responses that failed after their first byte.";
    metric("responses_truncated_total", "counter", help, &one(counters.truncated as f64));
    let help = "Requests whose client disconnected before the end of the response.";
    metric("clients_disconnected_total", "counter", help, &one(counters.disconnected as f64));
    let reasons = |incidents: &[(&str, Incident)]| -> Vec<_> {
        incidents.iter().map(|(reason, incident)| (reason_label(reason), transport.count(*incident) as f64)).collect()
    };
    metric("connections", "gauge", "Open connections from web servers.", &one(transport.open_connections() as f64));
    let help = "Connections that were closed as soon as they were accepted.";
    metric("connections_refused_total", "counter", help, &reasons(&REFUSED));
    let help = "Connections that were closed because of a limit or an internal error.";
    metric("connections_closed_total", "counter", help, &reasons(&CLOSED));
    let help = "Moments in which no connection was accepted.";
    metric("accept_pauses_total", "counter", help, &reasons(&PAUSES));
    let help = "Time from the request to the end of its response.";
    metric("request_duration_seconds", "histogram", help, &histogram(counters));
    metric("database_up", "gauge", "Whether the database can be reached.", &one(f64::from(u8::from(pool.is_up))));
    let connections = [
        ("{state=\"idle\"}".to_owned(), f64::from(pool.idle)),
        ("{state=\"busy\"}".to_owned(), f64::from(pool.connections.saturating_sub(pool.idle))),
    ];
    metric("database_connections", "gauge", "Connections to the database.", &connections);
    let busy = [(reason_label("connections"), pool.busy as f64), (reason_label("share"), pool.share_taken as f64)];
    let help = "Requests that got no connection in time: all were busy, or those of the company's share were.";
    metric("database_busy_total", "counter", help, &busy);
    if let Some(since) = pool.last_reply.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        let help = "When the database replied last, in Unix time.";
        metric("database_last_answer_timestamp_seconds", "gauge", help, &one(since.as_secs_f64()));
    }
    out
}

fn reason_label(reason: &str) -> String {
    format!("{{reason=\"{reason}\"}}")
}

/// The samples of the latency: cumulative buckets, sum and count.
fn histogram(counters: &Counters) -> Vec<(String, f64)> {
    let up_to = |bound: f64| counters.latency.count_between(0, (bound * 1e6) as u64) as f64;
    let count = counters.latency.len() as f64;
    let mut samples: Vec<_> =
        BUCKETS.iter().map(|bound| (format!("_bucket{{le=\"{bound}\"}}"), up_to(*bound))).collect();
    samples.push(("_bucket{le=\"+Inf\"}".into(), count));
    samples.push(("_sum".into(), counters.latency_sum.as_secs_f64()));
    samples.push(("_count".into(), count));
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, milliseconds: u64, completion: Completion) -> Outcome {
        Outcome {
            method: "GET".into(),
            path: "/".into(),
            status,
            entries: 0,
            error: None,
            token: None,
            completion,
            elapsed: Duration::from_millis(milliseconds),
        }
    }

    fn body(query: &str, pool: PoolState) -> (String, String) {
        let metrics = Metrics::default();
        metrics.count(&outcome(200, 5, Completion::Complete));
        metrics.count(&outcome(200, 7, Completion::Truncated));
        metrics.count(&outcome(401, 1, Completion::Complete));
        let params = CgiParams { query_string: Some(query.into()), ..CgiParams::default() };
        let out = String::from_utf8(response(&params, &metrics, pool, Duration::from_secs(60))).unwrap();
        let (headers, body) = out.split_once("\r\n\r\n").unwrap();
        (headers.to_owned(), body.to_owned())
    }

    #[test]
    fn json_has_the_counters_and_the_database() {
        let up = PoolState {
            is_up: true,
            connections: 3,
            idle: 2,
            last_reply: Some(SystemTime::UNIX_EPOCH),
            busy: 1,
            share_taken: 2,
        };
        let (headers, body) = body("", up);
        assert!(headers.starts_with("Status: 200 OK\r\nContent-Type: application/json\r\n"));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["requests"], serde_json::json!({"200": 2, "401": 1}));
        assert_eq!(json["truncated"], 1);
        assert_eq!(json["database"]["busy"], 3);
        assert_eq!(json["database"]["last_answer"], "1970-01-01T00:00:00.000Z");
        assert!((json["latency_seconds"]["p50"].as_f64().unwrap() - 0.005).abs() < 0.0001, "{json}");
    }

    #[test]
    fn prometheus_has_every_counter_from_the_start() {
        let (headers, body) = body("x=1&format=prometheus", PoolState::default());
        assert!(headers.starts_with("Status: 200 "), "Prometheus drops what comes with another status");
        for line in [
            "callstats_requests_total{status=\"200\"} 2",
            "callstats_requests_total{status=\"503\"} 0",
            "callstats_responses_truncated_total 1",
            "callstats_request_duration_seconds_bucket{le=\"0.001\"} 1",
            "callstats_request_duration_seconds_bucket{le=\"0.01\"} 3",
            "callstats_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "callstats_request_duration_seconds_count 3",
            "callstats_connections_refused_total{reason=\"address\"} 0",
            "callstats_connections_closed_total{reason=\"params\"} 0",
            "callstats_accept_pauses_total{reason=\"max_connections\"} 0",
            "callstats_database_busy_total{reason=\"connections\"} 0",
            "callstats_database_busy_total{reason=\"share\"} 0",
            "callstats_database_up 0",
            "callstats_uptime_seconds 60",
        ] {
            assert!(body.lines().any(|found| found == line), "{line}");
        }
        assert!(body.ends_with('\n'));
    }
}
