//! The whole job: CGI parameters in, a CGI response out. Reads like sections 1 to 3 of the contract.
//!
//! What it needs of the world comes in as values and as the two traits here; FastCGI, CGI and the tests all meet in
//! [`answer`].

use crate::access::{self, Found, Scope};
use crate::date_range::{self, Days};
use crate::error::{ApiError, DatabaseError};
use crate::redact;
use crate::report::{Group, Report};
use crate::request::{self, CgiParams, StatsRequest};
use crate::response;
use std::io::{self, Write};
use std::time::Duration;

/// One write, and one record of the transport, for each of these many bytes.
const BUFFER_BYTES: usize = 32 * 1024;

/// Where the statistics are.
pub trait Store {
    /// A session that is ready for statements; waits for one only so long.
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError>;
}

/// A connection for the time of one request. Each call is one round trip.
pub trait Session {
    /// What is known of a token and a path: the statement `scope.sql`.
    fn find(&mut self, question: &Question<'_>) -> Result<Found, DatabaseError>;

    /// Hands over the groups of some days as they arrive, in the order of day, folder id, agent id. Where `each`
    /// fails, the statement is cancelled.
    fn groups(
        &mut self,
        scope: &Scope,
        days: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError>;
}

/// The parameters of `scope.sql`.
#[derive(Debug)]
pub struct Question<'a> {
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
    /// It is the root token.
    pub is_root: bool,
    /// The company's short name.
    pub company: &'a str,
    /// The organization's short name.
    pub organization: &'a str,
    /// The folder's name; none: all folders.
    pub folder: Option<&'a str>,
}

/// Why groups stopped coming.
#[derive(Debug)]
pub enum GroupsError {
    /// The database failed.
    Database(DatabaseError),
    /// The client went away.
    Client(io::Error),
}

impl From<DatabaseError> for GroupsError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

/// What an answer depends on besides the request.
pub struct Service<'a> {
    /// The path before the company; empty: none.
    pub prefix: &'a str,
    /// The root token, where there is one now.
    pub root_token: Option<String>,
    /// The statistics.
    pub store: &'a dyn Store,
}

/// What became of a request, for the log and for the transport.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The method, as it may be logged.
    pub method: String,
    /// The path, as it may be logged.
    pub path: String,
    /// The HTTP status that was sent.
    pub status: u16,
    /// How many entries were sent.
    pub entries: u64,
    /// What an operator should know.
    pub cause: Option<String>,
    /// Whether all of it was sent.
    pub ending: Ending,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All of it was sent.
    Whole,
    /// It failed in the middle: the transport must break the connection off.
    BrokenOff,
    /// The client went away. The transport must do the same, and nobody need worry.
    ClientGone,
}

impl Outcome {
    /// Whether an operator should look at it.
    pub fn log_level(&self) -> log::Level {
        if self.cause.is_some() && self.ending != Ending::ClientGone { log::Level::Warn } else { log::Level::Info }
    }

    /// Method, path, status, entries, milliseconds, and what an operator should know.
    pub fn log_line(&self, elapsed: Duration) -> String {
        let Self { method, path, status, entries, .. } = self;
        let milliseconds = elapsed.as_secs_f64() * 1000.0;
        let cause = self.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
        format!("{method} {path} {status} {entries} entries {milliseconds:.1} ms{cause}")
    }
}

/// Answers one request into `out`.
pub fn answer(service: &Service<'_>, params: &CgiParams, out: &mut dyn Write) -> Outcome {
    let mut secrets = params.shown_tokens();
    secrets.extend(service.root_token.clone());
    let method = String::from_utf8_lossy(params.request_method.as_deref().unwrap_or(b"-"));
    let mut outcome = Outcome {
        method: redact::path(method.as_bytes(), &secrets),
        path: redact::path(&params.raw_path(), &secrets),
        status: 200,
        entries: 0,
        cause: None,
        ending: Ending::Whole,
    };
    let mut output = Output::new(out, params.is_head());
    match statistics(service, params, &mut output) {
        Ok(entries) => outcome.entries = entries,
        Err(Stopped::ByClient(error)) => {
            outcome.cause = Some(format!("the client went away: {error}"));
            outcome.ending = Ending::ClientGone;
        }
        Err(Stopped::ByError(error)) => {
            outcome.cause = error.cause().map(ToString::to_string);
            if output.has_sent {
                outcome.ending = Ending::BrokenOff;
            } else {
                outcome.status = error.status();
                let sentence = error.sentence(service.prefix, &secrets);
                if output.replace(response::error(&error, &sentence, !params.is_head())).is_err() {
                    outcome.ending = Ending::ClientGone;
                }
            }
        }
    }
    outcome
}

enum Stopped {
    ByError(ApiError),
    ByClient(io::Error),
}

impl<E: Into<ApiError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::ByError(error.into())
    }
}

/// Authenticate, parse, query, respond. Returns how many entries were sent.
fn statistics(service: &Service<'_>, params: &CgiParams, output: &mut Output<'_>) -> Result<u64, Stopped> {
    let request = request::parse(params, service.prefix)?;
    let token = request.token.as_deref().ok_or(ApiError::Unauthorized)?;
    let question = Question {
        token_sha256: access::digest(token),
        is_root: access::is_root(token, service.root_token.as_deref()),
        company: &request.company,
        organization: &request.organization,
        folder: request.folder.as_deref(),
    };
    match attempt(service.store, &request, &question, output) {
        // A connection can die between two requests; as long as nothing was sent, a new one makes up for it.
        Err(Stopped::ByError(ApiError::Database(DatabaseError::Lost(_)))) if !output.has_sent => {
            output.clear();
            attempt(service.store, &request, &question, output)
        }
        result => result,
    }
}

fn attempt(
    store: &dyn Store,
    request: &StatsRequest,
    question: &Question<'_>,
    output: &mut Output<'_>,
) -> Result<u64, Stopped> {
    let mut session = store.session()?;
    let found = session.find(question)?;
    let mut scope = access::scope(request, question.is_root, found)?;
    let mut report = Report::new(std::mem::take(&mut scope.folders));

    output.body.extend_from_slice(&response::head(200, None));
    output.head_ends();
    if let Some(days) = date_range::days(request.daterange.as_deref(), scope.organization.today) {
        let streamed = session.groups(&scope, days, &mut |group| {
            report.push(group, &mut output.body);
            output.send_if_full()
        });
        streamed.map_err(|error| match error {
            GroupsError::Database(error) => Stopped::ByError(error.into()),
            GroupsError::Client(error) => Stopped::ByClient(error),
        })?;
    }
    drop(session); // another request can use it while the rest is sent
    let entries = report.finish(&mut output.body);
    output.send().map_err(Stopped::ByClient)?;
    Ok(entries)
}

/// Bytes on their way out. For a HEAD request only the head leaves.
struct Output<'a> {
    out: &'a mut dyn Write,
    body: Vec<u8>,
    head_only: bool,
    head_bytes: usize,
    has_sent: bool,
}

impl<'a> Output<'a> {
    fn new(out: &'a mut dyn Write, head_only: bool) -> Self {
        Self { out, body: Vec::new(), head_only, head_bytes: 0, has_sent: false }
    }

    fn head_ends(&mut self) {
        self.head_bytes = self.body.len();
    }

    fn send_if_full(&mut self) -> io::Result<()> {
        if self.body.len() < BUFFER_BYTES { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.head_only {
            self.body.truncate(self.head_bytes);
        }
        self.head_bytes = 0;
        self.has_sent = true;
        self.out.write_all(&self.body)?;
        self.body.clear();
        self.out.flush()
    }

    fn replace(&mut self, response: Vec<u8>) -> io::Result<()> {
        self.clear();
        self.has_sent = true;
        self.out.write_all(&response)?;
        self.out.flush()
    }

    fn clear(&mut self) {
        self.body.clear();
        self.head_bytes = 0;
    }
}
