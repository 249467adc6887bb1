//! One connection, and how a statement runs on it: prepared or not, straight to the server or through a pooler. Touches
//! the network.

mod session;
pub mod statements;

use crate::database::client::{Client, Parameter, Query, RowsError};
use crate::database::dial::{Dialler, Route};
use crate::database::error::{classify, describe, is_lost_statement, is_outdated_statement};
use crate::store::DatabaseErrorKind::{ConnectionLost, Unavailable};
use crate::store::{DatabaseError, DateRange, Scope, ScopeQuery, Session, StreamError};
use postgres::{Row, Statement};
use statements::{SessionStatement, Statements};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the connections of a process have in common.
pub struct Shared {
    pub dialler: Dialler,
    /// Sets what each session needs.
    pub for_session: String,
    /// The same for one transaction that only reads, which it starts.
    pub for_transaction: String,
    /// Prepared statements do not last: found out once, for all connections.
    pub loses_statements: AtomicBool,
    /// Tables are adopted, as the last `scope.sql` saw it, on whatever connection.
    pub is_adopted: AtomicBool,
    /// How long the server may be silent before it answers who may ask what, and before it sends rows.
    pub patience: [Option<Duration>; 2],
}

/// A connection with its prepared statements.
pub struct Connection {
    client: Client,
    /// For the connection that cancels a statement of this one.
    route: Route,
    shared: Arc<Shared>,
    /// Only of a connection for many requests.
    statements: Option<Statements>,
    /// The schema had version 1 when it was looked at last.
    has_schema_1: bool,
    /// Nothing is between us and the server, so what is set for the session stays. A pooler may hand each transaction
    /// to another server: all is set for the transaction then.
    is_direct: bool,
    last_used: Instant,
    is_broken: bool,
    /// A cancel request was sent. It may arrive late and hit whatever runs then.
    was_cancelled: Arc<AtomicBool>,
}

impl Connection {
    pub fn new(client: Client, route: Route, shared: Arc<Shared>) -> Self {
        client.limit_silence(shared.patience[0]);
        Self {
            client,
            route,
            shared,
            statements: None,
            has_schema_1: false,
            is_direct: false,
            last_used: Instant::now(),
            is_broken: false,
            was_cancelled: Arc::default(),
        }
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Finds out what is between us and the server, prepares the statements and runs each once on an organization that
    /// does not exist, so that no request pays for planning.
    pub fn warm_up(&mut self) -> Result<(), DatabaseError> {
        if self.find_out_whether_direct()? {
            self.client.batch(&self.shared.for_session).map_err(|error| classify(&error))?;
        }
        self.statements = Some(Statements::default());
        let query = ScopeQuery { token_sha256: [0; 32], is_root: false, company: "", organization: "", folder: None };
        self.look_up(&query)?;
        let day = chrono::NaiveDate::default();
        for folder_id in [None, Some(0)] {
            let scope = Scope { organization_id: 0, folder_id };
            match self.daily_totals(scope, DateRange { first: day, last: day }, &mut |_| Ok(())) {
                Err(StreamError::Database(error)) => return Err(error),
                Err(StreamError::Receiver(_)) | Ok(()) => (),
            }
        }
        Ok(())
    }

    /// A server names its own process at login; a pooler names a number of its own.
    pub fn find_out_whether_direct(&mut self) -> Result<bool, DatabaseError> {
        let named = self.client.process_id().map(|id| id.to_string());
        self.client.limit_silence(None); // the limit is that of connecting
        let row = self.client.text_row("select pg_catalog.pg_backend_pid()", self.shared.dialler.limit());
        self.client.limit_silence(self.shared.patience[0]);
        let row = row.map_err(|error| {
            error.map_or_else(
                || {
                    let message = format!("the database at {} does not reply", self.route.host);
                    let hint = "look for a pooler without a free server connection, or for a server that hangs";
                    DatabaseError::new(Unavailable, message, hint)
                },
                |error| classify(&error),
            )
        })?;
        self.is_direct = named.is_some() && row.first() == Some(&named);
        Ok(self.is_direct)
    }

    /// Whether it was left in the middle of a statement, or is closed, and must not be used again.
    pub fn is_broken(&self) -> bool {
        self.is_broken || self.was_cancelled.load(Ordering::SeqCst) || self.client.is_closed()
    }

    /// When its last statement ended.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Asks the server for a sign of life. One round trip.
    pub fn verify(&mut self, limit: Duration) -> Result<(), DatabaseError> {
        let text = match self.client.verify(limit) {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(describe(&error)),
            None => Some(format!("nothing within {} ms", limit.as_millis())),
        };
        self.last_used = Instant::now();
        self.is_broken |= text.is_some();
        text.map_or(Ok(()), |text| {
            Err(DatabaseError::new(ConnectionLost, format!("the database does not reply: {text}"), ""))
        })
    }

    /// Runs a statement, again without a name if a pooler has lost the prepared one.
    fn rows<E>(
        &mut self,
        which: SessionStatement,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), RowsError<E>> {
        let is_scope = matches!(which, SessionStatement::Scope | SessionStatement::Scope1);
        self.client.limit_silence(self.shared.patience[usize::from(!is_scope)]);
        let result = self.rows_of(which, parameters, each);
        self.client.limit_silence(self.shared.patience[0]);
        result
    }

    fn rows_of<E>(
        &mut self,
        which: SessionStatement,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), RowsError<E>> {
        let begin = (!self.is_direct).then_some(self.shared.for_transaction.as_str());
        let loses_statements = &self.shared.loses_statements;
        if let (Some(statements), false) = (&mut self.statements, loses_statements.load(Ordering::Relaxed)) {
            let is_first = Cell::new(true);
            let mut each = |row| {
                is_first.set(false);
                each(row)
            };
            let mut result = run_prepared(&mut self.client, statements, which, begin, parameters, &mut each);
            if is_first.get() && matches!(&result, Err(RowsError::Database(error)) if is_outdated_statement(error)) {
                statements[which as usize] = None;
                result = run_prepared(&mut self.client, statements, which, begin, parameters, &mut each);
            }
            match result {
                Err(RowsError::Database(error)) if begin.is_some() && is_lost_statement(&error) => {
                    note_lost_statements(loses_statements, &error);
                }
                result => return result,
            }
        }
        self.client.rows(begin, Query::Text(which.text()), parameters, each)
    }
}

/// Runs the prepared statement, prepared now if it is not yet.
fn run_prepared<E>(
    client: &mut Client,
    statements: &mut Statements,
    which: SessionStatement,
    begin: Option<&str>,
    parameters: &[Parameter<'_>],
    each: &mut dyn FnMut(Row) -> Result<(), E>,
) -> Result<(), RowsError<E>> {
    let statement = prepared(client, statements, which).map_err(RowsError::Database)?;
    client.rows(begin, Query::Prepared(&statement), parameters, each)
}

/// The prepared statement. One round trip if it is not prepared yet.
fn prepared(
    client: &mut Client,
    statements: &mut Statements,
    which: SessionStatement,
) -> Result<Statement, postgres::Error> {
    let prepared = &mut statements[which as usize];
    if let Some(statement) = prepared {
        return Ok(statement.clone());
    }
    let statement = client.prepare(which.text())?;
    Ok(prepared.insert(statement).clone())
}

fn note_lost_statements(loses_statements: &AtomicBool, error: &postgres::Error) {
    if !loses_statements.swap(true, Ordering::Relaxed) {
        log::info!(
            "prepared statements do not last behind the pooler of the database, so they are used without names from \
             now on: {}",
            describe(error)
        );
    }
}
