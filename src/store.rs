//! The port to the database: the questions that the service asks, the values that come back, and the ways to fail.
//! Pure values and two traits; [`crate::database`] implements them, and so do the fuzz targets.

use chrono::NaiveDate;
use std::fmt;
use std::io;

/// Hands out sessions.
pub trait Store {
    /// A session that is ready for statements. Waits for one, up to a limit of the implementation's own.
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError>;

    /// The asker's turn to run the statement of an answer, if one is free: no asker runs more of them at once than its
    /// share of the sessions.
    fn try_turn(&self, asker: Asker) -> Option<Box<dyn Turn + '_>>;

    /// The same; waits for one, up to a limit of the implementation's own. Who waits should hold no session.
    fn turn(&self, asker: Asker) -> Result<Box<dyn Turn + '_>, DatabaseError>;
}

/// Ends when it is dropped.
pub trait Turn {}

/// For a store without shares.
impl Turn for () {}

/// A database connection for one request. Each method is one round trip.
pub trait Session {
    /// Runs `scope.sql`.
    fn look_up(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError>;

    /// Runs `folder_names.sql`: id and name of each folder of an organization, in byte order of the names.
    fn folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError>;

    /// Streams the totals of some days in the order of date, folder id, agent id. If `each` fails, the statement is
    /// cancelled.
    fn daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError>;

    /// Cancels the statement that runs in this session, from another thread. The session is of no use afterwards.
    fn canceller(&self) -> Box<dyn FnOnce() + Send>;
}

/// The parameters of `scope.sql`.
#[derive(Debug)]
pub struct ScopeQuery<'a> {
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
    /// Whether the token is the root token.
    pub is_root: bool,
    pub company: &'a str,
    pub organization: &'a str,
    /// None: all folders.
    pub folder: Option<&'a str>,
}

/// The row of `scope.sql`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeRow {
    /// The company whose token it is.
    pub token_company_id: Option<i32>,
    /// What its operator calls the token.
    pub token_name: Option<String>,
    /// The company of the path exists, and the token may ask for it.
    pub company_is_visible: bool,
    pub organization: Option<Organization>,
    /// The folder of the path, if the path has one.
    pub folder_id: Option<i32>,
    /// If the path has no folder: id and name of the folders of the organization, in byte order of the names, up to
    /// one more than [`FOLDERS_IN_ROW`].
    pub folders: Vec<(i32, String)>,
}

/// An organization with more folders than this has them read by a statement of their own, row by row: `scope.sql` has
/// the same number, plus one.
pub const FOLDERS_IN_ROW: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Organization {
    pub id: i32,
    /// The current date in the organization's time zone.
    pub today: NaiveDate,
}

/// Who asks, as the token has proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    Root,
    /// The id of a company.
    Company(i32),
}

/// The part of the calls that an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    pub organization_id: i32,
    /// None: all folders.
    pub folder_id: Option<i32>,
}

/// Days from `first` to `last`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    pub first: NaiveDate,
    /// Not before `first`.
    pub last: NaiveDate,
}

/// The calls of one agent (or of none) in one folder on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyTotal<'a> {
    pub date: NaiveDate,
    pub folder_id: i32,
    /// None or empty: calls without an agent.
    pub agent_id: Option<&'a str>,
    /// Corrections may bring it to 0; then the agent has no calls on that day.
    pub calls: i64,
    /// The sum of the durations, in milliseconds.
    pub duration_ms: i64,
}

/// Why a stream of rows ended early.
#[derive(Debug)]
pub enum StreamError {
    Database(DatabaseError),
    /// The receiver of the rows failed.
    Receiver(io::Error),
}

impl From<DatabaseError> for StreamError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

/// Why the database gave no answer, for the log: a message and a hint, neither with a value of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseError {
    pub kind: DatabaseErrorKind,
    pub message: String,
    /// How to fix it; empty if there is nothing to say.
    pub hint: &'static str,
}

/// What an error of the database means for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseErrorKind {
    /// 503 with `Retry-After`: not reachable, restarting, or all connections busy.
    Unavailable,
    /// 503 with `Retry-After`: user, password or database were refused. Trying again soon could lock an account.
    Refused,
    /// 503 with `Retry-After`: out of file descriptors. The accept loop logs it.
    OutOfFileDescriptors,
    /// 503 with `Retry-After`: the connection was lost in the middle of a statement. Another one may do.
    ConnectionLost,
    /// 503 with `Retry-After`: reachable, but not set up for the worker.
    NotReady,
    /// 503 without `Retry-After`: a timeout of the server ended the statement.
    Timeout,
    /// 500: anything else.
    Internal,
}

impl DatabaseError {
    pub fn new(kind: DatabaseErrorKind, message: impl Into<String>, hint: &'static str) -> Self {
        Self { kind, message: message.into(), hint }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, ". Hint: {}", self.hint) }
    }
}

impl std::error::Error for DatabaseError {}
