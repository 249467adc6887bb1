//! The connections of a worker: opened when they are needed, kept, and replaced when they die. Touches what
//! [`super::connection`] touches, and the log.

use crate::database::connection::{Connection, Connector, Settings};
use crate::database::fairness::Turns;
use crate::store::DatabaseErrorKind::{ConnectionLost, Internal, NotReady, OutOfFileDescriptors, Timeout, Unavailable};
use crate::store::{
    self, Asker, DailyTotal, DatabaseError, DateRange, Scope, ScopeQuery, ScopeRow, Session, Store, StreamError,
};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The longest time until a lost database is tried again.
const RECONNECT: Duration = Duration::from_millis(250);

/// How often a database that stays unavailable is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// A pool of up to CALLSTATS_DB_CONNECTIONS connections.
pub struct Pool {
    pool: r2d2::Pool<Manager>,
    turns: Turns,
    availability: Arc<Availability>,
    wait: Duration,
}

/// What the pool is like just now.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolState {
    /// The database can be reached.
    pub is_up: bool,
    /// Open connections.
    pub connections: u32,
    /// Those of them that wait for a request.
    pub idle: u32,
    /// When the database replied last.
    pub last_reply: Option<SystemTime>,
}

impl Pool {
    /// Starts to connect in the background: a database that is down does not keep the worker from starting.
    pub fn new(settings: &Settings, connector: Connector) -> Self {
        let availability = Arc::new(Availability::default());
        let pool = r2d2::Pool::builder()
            .max_size(settings.connections)
            .min_idle(Some(1))
            .test_on_check_out(true)
            .idle_timeout(None)
            .max_lifetime(None)
            .connection_timeout(RECONNECT * 2) // r2d2 makes half of it the longest pause between two tries
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager { connector, availability: availability.clone(), wait: settings.wait });
        Self { pool, turns: Turns::new(settings.connections), availability, wait: settings.wait }
    }

    /// Asks the database for a sign of life, twice if a connection has died while it was idle.
    pub fn state(&self) -> PoolState {
        let is_up = self.ping().or_else(|_| self.ping()).is_ok();
        let state = self.pool.state();
        PoolState {
            is_up,
            connections: state.connections,
            idle: state.idle_connections,
            last_reply: self.availability.state().last_reply,
        }
    }

    fn ping(&self) -> Result<(), DatabaseError> {
        match self.pool.get_timeout(self.wait) {
            Ok(mut connection) => {
                let verified = connection.verify(self.wait);
                self.availability.record_reply(verified.as_ref().err());
                verified
            }
            // Either all are busy with a database that is there, or it is not.
            Err(_) => self.availability.problem().map_or(Ok(()), Err),
        }
    }

    fn connection(&self) -> Result<r2d2::PooledConnection<Manager>, DatabaseError> {
        self.pool.get_timeout(self.wait).map_err(|_| {
            self.availability.problem().unwrap_or_else(|| {
                let (size, wait) = (self.pool.max_size(), self.wait.as_millis());
                DatabaseError::new(
                    Unavailable,
                    format!("all {size} database connections were busy for {wait} ms"),
                    "raise CALLSTATS_DB_CONNECTIONS, or find out why the queries are slow",
                )
            })
        })
    }
}

impl Store for Pool {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        Ok(Box::new(Pooled { connection: self.connection()?, availability: &self.availability }))
    }

    fn try_turn(&self, asker: Asker) -> Option<Box<dyn store::Turn + '_>> {
        Some(Box::new(self.turns.try_take(asker)?))
    }

    fn turn(&self, asker: Asker) -> Result<Box<dyn store::Turn + '_>, DatabaseError> {
        match self.turns.take_within(asker, self.wait) {
            Some(turn) => Ok(Box::new(turn)),
            None => Err(DatabaseError::new(
                Unavailable,
                format!(
                    "the token's company already ran {} queries, its share of the connections, for {} ms",
                    self.turns.limit(),
                    self.wait.as_millis()
                ),
                "raise CALLSTATS_DB_CONNECTIONS, or find out why its queries are slow",
            )),
        }
    }
}

struct Pooled<'a> {
    connection: r2d2::PooledConnection<Manager>,
    availability: &'a Availability,
}

impl Pooled<'_> {
    fn record_stream(&self, result: &Result<(), StreamError>) {
        self.availability.record_reply(match result {
            Err(StreamError::Database(error)) => Some(error),
            Err(StreamError::Receiver(_)) | Ok(()) => None,
        });
    }
}

impl Session for Pooled<'_> {
    fn look_up(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        let result = self.connection.look_up(query);
        self.availability.record_reply(result.as_ref().err());
        result
    }

    fn folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.connection.folder_names(organization_id, each);
        self.record_stream(&result);
        result
    }

    fn daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.connection.daily_totals(scope, days, each);
        self.record_stream(&result);
        result
    }

    fn canceller(&self) -> Box<dyn FnOnce() + Send> {
        self.connection.canceller()
    }
}

struct Manager {
    connector: Connector,
    availability: Arc<Availability>,
    wait: Duration,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Connection;
    type Error = DatabaseError;

    fn connect(&self) -> Result<Connection, DatabaseError> {
        let connected = self.connector.connect().and_then(|mut connection| match connection.warm_up() {
            Ok(()) => Ok(connection),
            Err(error) => match error.kind {
                // The request that meets such an error reports it.
                NotReady | Timeout | Internal => Ok(connection),
                OutOfFileDescriptors => Err(error),
                Unavailable | ConnectionLost => Err(DatabaseError { kind: Unavailable, ..error }),
            },
        });
        self.availability.record_connect(connected.as_ref().err());
        connected
    }

    /// A connection that was idle when another one died may be dead as well: only then a round trip is worth it.
    fn is_valid(&self, connection: &mut Connection) -> Result<(), DatabaseError> {
        if self.availability.has_lost_since(connection.last_used()) { connection.verify(self.wait) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_broken()
    }
}

/// Whether the database can be reached. Logged once when that changes, and now and then while it cannot.
#[derive(Debug, Default)]
struct Availability(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why no connection can be opened.
    problem: Option<DatabaseError>,
    /// What was logged of that last, and when.
    last_logged: Option<(DatabaseError, Instant)>,
    /// When a connection died last.
    lost_at: Option<Instant>,
    /// When the database replied to a statement last, be it with an error.
    last_reply: Option<SystemTime>,
}

impl Availability {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_connect(&self, error: Option<&DatabaseError>) {
        let mut state = self.state();
        let Some(error) = error else {
            state.problem = None;
            if state.last_logged.take().is_some() {
                log::info!("the database is available again");
            }
            return;
        };
        state.problem = Some(error.clone());
        if error.kind == OutOfFileDescriptors {
            return; // the accept loop logs that, once a second
        }
        // A server that stops or starts has several errors in turns.
        let pause = match &state.last_logged {
            None => Duration::ZERO,
            Some((last, _)) if last == error => REMINDER,
            Some(_) => Duration::from_secs(1),
        };
        if state.last_logged.as_ref().is_none_or(|(_, at)| at.elapsed() >= pause) {
            log::error!("{}; retrying. Hint: {}", error.message, error.hint);
            state.last_logged = Some((error.clone(), Instant::now()));
        }
    }

    fn problem(&self) -> Option<DatabaseError> {
        self.state().problem.clone()
    }

    fn record_reply(&self, error: Option<&DatabaseError>) {
        match error {
            Some(error) if error.kind == ConnectionLost => self.state().lost_at = Some(Instant::now()),
            _ => self.state().last_reply = Some(SystemTime::now()),
        }
    }

    fn has_lost_since(&self, instant: Instant) -> bool {
        self.state().lost_at.is_some_and(|lost_at| lost_at >= instant)
    }
}
