//! The whole job: CGI parameters in, a CGI response out, in the order of `docs/api.md`. Start reading here.
//!
//! Both ways of being started, FastCGI and CGI, call [`answer`], and so do the fuzz targets. All that it needs of the
//! world comes in as values and through three ports: [`crate::store`], [`crate::scratch`] and [`crate::client`].

use crate::api::access::{self, Access};
use crate::api::cgi::{CgiParams, PathSource};
use crate::api::date_range::{self, OpenRange};
use crate::api::error::ApiError;
use crate::api::request::{self, StatsRequest};
use crate::api::{redact, response};
use crate::client::Client;
use crate::report::{self, Folders, Report};
use crate::response_writer::ResponseWriter;
use crate::scratch::ScratchSpace;
use crate::store::{DatabaseErrorKind, FOLDERS_IN_ROW, ScopeQuery, Session, Store, StreamError};
use std::io;
use std::time::{Duration, Instant};

/// What an answer depends on besides the request.
pub struct Context<'a> {
    /// The path before the company; empty: none.
    pub prefix: &'a str,
    /// Where the path of a request is looked for.
    pub path_source: PathSource,
    /// How a date range without its start or end is read.
    pub open_range: OpenRange,
    /// The root token, if there is one now.
    pub root_token: Option<String>,
    pub store: &'a dyn Store,
    pub scratch: &'a dyn ScratchSpace,
}

/// Characters of a token's name that are logged.
const LOGGED_NAME_CHARS: usize = 100;

/// What became of a request, for the log, the metrics and the transport.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The method, without tokens.
    pub method: String,
    /// The path, without tokens.
    pub path: String,
    /// The HTTP status that was sent.
    pub status: u16,
    /// How many entries were sent, also of a response that was truncated.
    pub entries: u64,
    /// What an operator should know.
    pub error: Option<String>,
    /// The token that was presented, if it is one.
    pub token: Option<KnownToken>,
    pub completion: Completion,
    pub elapsed: Duration,
}

/// A token, without its value.
#[derive(Debug, PartialEq, Eq)]
pub enum KnownToken {
    Root,
    /// What a company's operator calls it.
    Named(String),
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// All of it was sent.
    Complete,
    /// It failed after its first byte: the transport must let the client see that.
    Truncated,
    /// The client disconnected. The transport must close the connection.
    ClientDisconnected,
}

impl Outcome {
    /// A warning if an operator should look at it.
    pub fn log_level(&self) -> log::Level {
        if self.error.is_some() && self.completion != Completion::ClientDisconnected {
            log::Level::Warn
        } else {
            log::Level::Info
        }
    }

    /// Method, path, status, entries, milliseconds, the token's name, and what an operator should know.
    pub fn log_line(&self) -> String {
        let Self { method, path, status, entries, .. } = self;
        let milliseconds = self.elapsed.as_secs_f64() * 1000.0;
        let token = match &self.token {
            None => String::new(),
            Some(KnownToken::Root) => " token root".into(),
            Some(KnownToken::Named(name)) => format!(" token {name:?}"), // quoted, control characters escaped
        };
        let completion = match self.completion {
            Completion::Complete => "",
            Completion::Truncated => " truncated",
            Completion::ClientDisconnected => " client disconnected",
        };
        let error = self.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        format!("{method} {path} {status} {entries} entries {milliseconds:.1} ms{token}{completion}{error}")
    }
}

/// Answers one request.
pub fn answer(context: &Context<'_>, params: &CgiParams, client: &mut dyn Client) -> Outcome {
    let started = Instant::now();
    let params = &*params.with_path_from(context.path_source);
    let mut secrets = params.presented_tokens();
    secrets.extend(context.root_token.clone());
    let secrets = redact::secrets(secrets);
    let mut outcome = Outcome {
        method: redact::for_log(params.request_method.as_deref().unwrap_or(b"-"), &secrets),
        path: redact::for_log(&params.raw_path(), &secrets),
        status: 200,
        entries: 0,
        error: None,
        token: None,
        completion: Completion::Complete,
        elapsed: Duration::ZERO,
    };
    let mut out = ResponseWriter::new(client, context.scratch, params.is_head());
    match respond(context, params, &mut outcome, &mut out) {
        Ok(()) => (),
        Err(Failure::ClientDisconnected) => outcome.completion = Completion::ClientDisconnected,
        Err(Failure::Error(error)) => {
            outcome.error = error.log_detail();
            if out.has_started() {
                outcome.completion = Completion::Truncated;
            } else {
                outcome.status = error.status();
                outcome.entries = 0;
                if send_error(&error, context, &secrets, &mut out).is_err() {
                    outcome.completion = Completion::ClientDisconnected;
                }
            }
        }
    }
    if let Some(KnownToken::Named(name)) = &mut outcome.token {
        // An operator may have named it by its value.
        *name = redact::truncate(&redact::text(name, &secrets), LOGGED_NAME_CHARS);
    }
    outcome.elapsed = started.elapsed();
    outcome
}

fn send_error(
    error: &ApiError,
    context: &Context<'_>,
    secrets: &[String],
    out: &mut ResponseWriter<'_>,
) -> io::Result<()> {
    let (headers, body) = response::error(error, &error.describe(context.prefix, secrets));
    out.headers(&headers);
    io::Write::write_all(out, &body)?;
    out.finish()
}

/// Why a response was not completed.
enum Failure {
    Error(ApiError),
    ClientDisconnected,
}

impl<E: Into<ApiError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Failure {
    /// An error of a write to `out`.
    fn of_write(error: &io::Error, out: &ResponseWriter<'_>) -> Self {
        if out.client_failed() {
            Self::ClientDisconnected
        } else {
            Self::Error(ApiError::Internal(format!(
                "cannot store a response while it is made: {error}. Hint: make room in CALLSTATS_SPOOL_DIR"
            )))
        }
    }

    fn of_stream(error: StreamError, out: &ResponseWriter<'_>) -> Self {
        match error {
            StreamError::Database(error) => error.into(),
            StreamError::Receiver(error) => Self::of_write(&error, out),
        }
    }
}

/// Parse, authenticate, authorize, query, respond.
fn respond(
    context: &Context<'_>,
    params: &CgiParams,
    outcome: &mut Outcome,
    out: &mut ResponseWriter<'_>,
) -> Result<(), Failure> {
    let request = request::parse(params, context.prefix)?;
    let token = request.token.as_deref().ok_or(ApiError::Unauthorized)?;
    let token_sha256 = access::digest(token);
    let query = ScopeQuery {
        token_sha256,
        is_root: access::is_root(&token_sha256, context.root_token.as_deref()),
        company: &request.company,
        organization: &request.organization,
        folder: request.folder.as_deref(),
    };
    match try_once(context, &request, &query, params.is_head(), outcome, out) {
        // A connection may die between two requests. As long as nothing was sent, another one makes up for it.
        Err(Failure::Error(ApiError::Database(error)))
            if error.kind == DatabaseErrorKind::ConnectionLost && !out.has_started() =>
        {
            try_once(context, &request, &query, params.is_head(), outcome, out)
        }
        result => result,
    }
}

fn try_once(
    context: &Context<'_>,
    request: &StatsRequest,
    query: &ScopeQuery<'_>,
    is_head: bool,
    outcome: &mut Outcome,
    out: &mut ResponseWriter<'_>,
) -> Result<(), Failure> {
    let mut session = context.store.session()?;
    let watch = out.client().on_disconnect(session.canceller());
    let row = session.look_up(query);
    if watch.is_disconnected() {
        return Err(Failure::ClientDisconnected);
    }
    let row = row?;
    outcome.token = if query.is_root { Some(KnownToken::Root) } else { row.token_name.clone().map(KnownToken::Named) };
    let access = access::authorize(request, query.is_root, row)?;
    drop(watch);

    let days = date_range::resolve(request.daterange.as_deref(), access.today, context.open_range);
    out.headers(&response::report_headers(request, days));
    if let (Some(days), false) = (days, is_head) {
        let turn = match context.store.try_turn(access.asker) {
            Some(turn) => turn,
            None => {
                drop(session); // or those who wait for their turn would hold all sessions
                let turn = context.store.turn(access.asker)?;
                session = context.store.session()?;
                turn
            }
        };
        let watch = out.client().on_disconnect(session.canceller());
        let folders = folders(context, &mut *session, &access)?;
        let mut report = Report::new(folders, days, request.interval, request.format, context.scratch);
        let streamed = session.daily_totals(access.scope, days, &mut |total| report.push(total, out));
        outcome.entries = report.entries();
        if watch.is_disconnected() {
            return Err(Failure::ClientDisconnected);
        }
        streamed.map_err(|error| Failure::of_stream(error, out))?;
        drop(watch);
        drop((session, turn)); // others can use them while the client reads the rest
        outcome.entries = report.finish(out).map_err(|error| Failure::of_write(&error, out))?;
    } else {
        drop(session);
        report::write_empty(request.format, out).map_err(|error| Failure::of_write(&error, out))?;
    }
    out.finish().map_err(|error| Failure::of_write(&error, out))
}

/// The folders that can be in the answer. Those of a large organization are read one by one.
fn folders(context: &Context<'_>, session: &mut dyn Session, access: &Access) -> Result<Folders, Failure> {
    let internal = |error: io::Error| Failure::Error(ApiError::Internal(format!("cannot store folder names: {error}")));
    let mut folders = Folders::new(context.scratch.create());
    if access.folders.len() > FOLDERS_IN_ROW {
        session.folder_names(access.scope.organization_id, &mut |id, name| folders.add(id, name)).map_err(|error| {
            match error {
                StreamError::Database(error) => error.into(),
                StreamError::Receiver(error) => internal(error),
            }
        })?;
    } else {
        for (id, name) in &access.folders {
            folders.add(*id, name).map_err(internal)?;
        }
    }
    Ok(folders)
}
