//! CGI parameters to a response, with a store and a client that do whatever the input wants.

#![no_main]

use arbitrary::Arbitrary;
use callstats::answer::{Completion, Context, answer};
use callstats::api::cgi::{CgiParams, PathSource};
use callstats::api::date_range::OpenRange;
use callstats::client::{Client, Unwatched, Watch};
use callstats::scratch::InMemory;
use callstats::store::{
    Asker, DailyTotal, DatabaseError, DatabaseErrorKind, DateRange, Organization, Scope, ScopeQuery, ScopeRow, Session,
    Store, StreamError, Turn,
};
use chrono::NaiveDate;
use libfuzzer_sys::fuzz_target;
use std::io::{self, Write};

#[derive(Debug, Arbitrary)]
struct Input {
    method: Method,
    request_uri: Option<Vec<u8>>,
    /// Put before the path, so that most inputs get past it.
    with_prefix: bool,
    script_name: Option<Vec<u8>>,
    path_info: Option<Vec<u8>>,
    query_string: Option<Vec<u8>>,
    /// Put before the query, so that most inputs have values that exist.
    interval: Option<u8>,
    format: Option<u8>,
    authorization: Option<Vec<u8>>,
    root_token: Option<String>,
    is_unbounded: bool,
    store: Fake,
    client: Fickle,
}

#[derive(Debug, Arbitrary)]
enum Method {
    Get,
    Head,
    Missing,
    Other(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Fake {
    is_known: bool,
    is_visible: bool,
    organization: bool,
    today: u16,
    folder_id: Option<i32>,
    folders: Vec<(i32, String)>,
    rows: Vec<(u8, i32, Option<String>, i64, i64)>,
    has_turn: bool,
    failures: [Option<Failure>; 4],
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Failure {
    Unavailable,
    OutOfFileDescriptors,
    ConnectionLost,
    NotReady,
    Timeout,
    Internal,
}

impl Fake {
    fn fail(&self, at: usize) -> Result<(), DatabaseError> {
        let kind = match self.failures[at] {
            None => return Ok(()),
            Some(Failure::Unavailable) => DatabaseErrorKind::Unavailable,
            Some(Failure::OutOfFileDescriptors) => DatabaseErrorKind::OutOfFileDescriptors,
            Some(Failure::ConnectionLost) => DatabaseErrorKind::ConnectionLost,
            Some(Failure::NotReady) => DatabaseErrorKind::NotReady,
            Some(Failure::Timeout) => DatabaseErrorKind::Timeout,
            Some(Failure::Internal) => DatabaseErrorKind::Internal,
        };
        Err(DatabaseError::new(kind, "internal-cause", "internal-hint"))
    }
}

fn day(number: u16) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(700_000 + i32::from(number)).unwrap()
}

impl Store for Fake {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        self.fail(0)?;
        Ok(Box::new(self))
    }

    fn try_turn(&self, _: Asker) -> Option<Box<dyn Turn + '_>> {
        self.has_turn.then(|| Box::new(()) as Box<dyn Turn>)
    }

    fn turn(&self, _: Asker) -> Result<Box<dyn Turn + '_>, DatabaseError> {
        self.fail(3)?;
        Ok(Box::new(()))
    }
}

impl Session for &Fake {
    fn look_up(&mut self, _: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        self.fail(1)?;
        Ok(ScopeRow {
            token_name: None,
            token_company_id: self.is_known.then_some(1),
            company_is_visible: self.is_visible,
            organization: self.organization.then(|| Organization { id: 1, today: day(self.today) }),
            folder_id: self.folder_id,
            folders: self.folders.clone(),
        })
    }

    fn folder_names(
        &mut self,
        _: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        for (id, name) in &self.folders {
            each(*id, name).map_err(StreamError::Receiver)?;
        }
        Ok(())
    }

    fn daily_totals(
        &mut self,
        _: Scope,
        _: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        for (date, folder_id, agent_id, calls, duration_ms) in &self.rows {
            let total = DailyTotal {
                date: day((*date).into()),
                folder_id: *folder_id,
                agent_id: agent_id.as_deref(),
                calls: *calls,
                duration_ms: *duration_ms,
            };
            each(total).map_err(StreamError::Receiver)?;
        }
        Ok(self.fail(2)?)
    }

    fn canceller(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| ())
    }
}

/// Takes what it takes, and may disconnect.
#[derive(Debug, Arbitrary)]
struct Fickle {
    takes: Vec<u16>,
    disconnects_after: Option<u16>,
    #[arbitrary(default)]
    received: Vec<u8>,
}

impl Write for Fickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.disconnects_after.is_some_and(|after| self.received.len() >= after.into()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.received.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Client for Fickle {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = usize::from(self.takes.pop().unwrap_or(u16::MAX)).min(bytes.len());
        self.write(&bytes[..taken])
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.flush()
    }

    fn on_disconnect(&self, _: Box<dyn FnOnce() + Send>) -> Box<dyn Watch> {
        Box::new(Unwatched)
    }
}

/// The query that is sent: the input's, with an interval and a format before it.
fn query(input: &mut Input) -> Option<Vec<u8>> {
    let parameter = |name: &str, values: [&str; 4], choice: Option<u8>| {
        choice.map_or(String::new(), |choice| format!("{name}={}&", values[usize::from(choice % 4)]))
    };
    let interval = parameter("interval", ["day", "week", "month", "total"], input.interval);
    let format = parameter("format", ["json", "csv", "", "csv"], input.format);
    let query = input.query_string.take();
    if interval.is_empty() && format.is_empty() {
        return query;
    }
    Some([interval.as_bytes(), format.as_bytes(), &query.unwrap_or_default()].concat())
}

fuzz_target!(|input: Input| {
    let mut input = input;
    let query_string = query(&mut input);
    let prefixed = |uri: Vec<u8>| if input.with_prefix { [b"/stats/a/", &uri[..]].concat() } else { uri };
    let params = CgiParams {
        request_method: match input.method {
            Method::Get => Some(b"GET".to_vec()),
            Method::Head => Some(b"HEAD".to_vec()),
            Method::Missing => None,
            Method::Other(bytes) => Some(bytes),
        },
        request_uri: input.request_uri.map(prefixed),
        script_name: input.script_name,
        path_info: input.path_info,
        proxied_path: None,
        query_string,
        authorization: input.authorization,
        is_probe: false,
    };
    let context = Context {
        prefix: "/stats",
        path_source: PathSource::default(),
        open_range: if input.is_unbounded { OpenRange::Unbounded } else { OpenRange::Day },
        root_token: input.root_token,
        store: &input.store,
        scratch: &InMemory,
    };
    let mut client = input.client;
    let outcome = answer(&context, &params, &mut client);
    let line = outcome.log_line();
    assert!(!line.contains(char::is_control), "{line:?}");
    if outcome.completion == Completion::ClientDisconnected {
        assert!(client.disconnects_after.is_some());
        return;
    }

    let out = String::from_utf8_lossy(&client.received);
    if outcome.completion == Completion::Truncated {
        let body = out.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let is_whole = out.contains("\r\nContent-Type: text/html")
            && serde_json::from_str::<serde_json::Value>(body).is_ok();
        assert!(!is_whole, "a truncated response must not parse");
        return;
    }
    let (head, body) = out.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("Status: {} ", outcome.status)));
    assert!(head.split("\r\n").all(|line| line.contains(": ") && !line.contains(char::is_control)));
    assert!(!out.contains("internal-"));
    if params.is_head() {
        assert_eq!(body, "");
    } else if head.contains("\r\nContent-Type: text/csv") {
        assert_eq!(outcome.status, 200);
        assert!(head.contains("\r\nContent-Disposition: attachment; filename=\""));
        let mut reader = csv::Reader::from_reader(body.strip_prefix('\u{feff}').unwrap().as_bytes());
        assert_eq!(reader.headers().unwrap().len(), 6);
        let rows = reader.records().map(Result::unwrap).count() as u64;
        assert!(rows >= outcome.entries);
    } else {
        assert!(!body.contains(['<', '>', '&']));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json.is_array(), outcome.status == 200);
        assert_eq!(json.as_array().map_or(0, Vec::len) as u64, outcome.entries);
    }
});
