//! CGI parameters to an answer, with a store that says and does whatever the input wants.

#![no_main]

use arbitrary::Arbitrary;
use callstats::access::{Found, Organization, Scope};
use callstats::answer::{Ending, GroupsError, Question, Service, Session, Store, answer};
use callstats::date_range::Days;
use callstats::error::DatabaseError;
use callstats::report::Group;
use callstats::request::CgiParams;
use chrono::NaiveDate;
use libfuzzer_sys::fuzz_target;
use std::io;

#[derive(Debug, Arbitrary)]
struct Input {
    method: Method,
    request_uri: Option<Vec<u8>>,
    /// Put before the path, so that most inputs get past it.
    with_prefix: bool,
    script_name: Option<Vec<u8>>,
    path_info: Option<Vec<u8>>,
    query_string: Option<Vec<u8>>,
    authorization: Option<Vec<u8>>,
    root_token: Option<String>,
    store: Fake,
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
    is_found: bool,
    organization: bool,
    today: u16,
    folder_id: Option<i32>,
    folders: Vec<(i32, String)>,
    rows: Vec<(u8, i32, Option<String>, i64, i64)>,
    failures: [Option<Failure>; 3],
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Failure {
    Unavailable,
    Lost,
    NotReady,
    Timeout,
    Fault,
}

impl Fake {
    fn fail(&self, at: usize) -> Result<(), DatabaseError> {
        let cause = String::from("cause-of-ours");
        Err(match self.failures[at] {
            None => return Ok(()),
            Some(Failure::Unavailable) => DatabaseError::Unavailable(cause),
            Some(Failure::Lost) => DatabaseError::Lost(cause),
            Some(Failure::NotReady) => DatabaseError::NotReady(cause),
            Some(Failure::Timeout) => DatabaseError::Timeout(cause),
            Some(Failure::Fault) => DatabaseError::Fault(cause),
        })
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
}

impl Session for &Fake {
    fn find(&mut self, _: &Question<'_>) -> Result<Found, DatabaseError> {
        self.fail(1)?;
        Ok(Found {
            token_is_known: self.is_known,
            company_is_found: self.is_found,
            organization: self.organization.then(|| Organization { id: 1, today: day(self.today) }),
            folder_id: self.folder_id,
            folders: self.folders.clone(),
        })
    }

    fn groups(
        &mut self,
        _: &Scope,
        _: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError> {
        for (date, folder_id, agent_id, calls, duration_ms) in &self.rows {
            let group = Group {
                date: day((*date).into()),
                folder_id: *folder_id,
                agent_id: agent_id.as_deref(),
                calls: *calls,
                duration_ms: *duration_ms,
            };
            each(group).map_err(GroupsError::Client)?;
        }
        Ok(self.fail(2)?)
    }
}

fuzz_target!(|input: Input| {
    let request_uri = input.request_uri.map(|uri| if input.with_prefix { [b"/stats/a/", &uri[..]].concat() } else { uri });
    let params = CgiParams {
        request_method: match input.method {
            Method::Get => Some(b"GET".to_vec()),
            Method::Head => Some(b"HEAD".to_vec()),
            Method::Missing => None,
            Method::Other(bytes) => Some(bytes),
        },
        request_uri,
        script_name: input.script_name,
        path_info: input.path_info,
        query_string: input.query_string,
        authorization: input.authorization,
        is_probe: false,
    };
    let service = Service { prefix: "/stats", root_token: input.root_token, store: &input.store };
    let mut out = Vec::new();
    let outcome = answer(&service, &params, &mut out);
    let line = outcome.log_line(std::time::Duration::ZERO);
    assert!(!line.contains(char::is_control), "{line:?}");

    let out = String::from_utf8(out).unwrap();
    let (head, body) = out.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("Status: {} ", outcome.status)));
    assert!(!body.contains(['<', '>', '&']) && !body.contains("cause-of-ours"));
    if params.is_head() {
        assert_eq!(body, "");
    } else if outcome.ending == Ending::Whole {
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json.is_array(), outcome.status == 200);
        assert_eq!(json.as_array().map_or(0, Vec::len) as u64, outcome.entries);
    } else {
        assert!(serde_json::from_str::<serde_json::Value>(body).is_err(), "a broken answer must not parse");
    }
});
