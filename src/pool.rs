//! The connections of a worker: opened as they are needed, kept, and replaced when they die. Touches what
//! [`crate::database`] touches, and the log.

use crate::access::{Found, Scope};
use crate::answer::{GroupsError, Question, Session, Store};
use crate::config::Config;
use crate::database::{Connection, Connector};
use crate::date_range::Days;
use crate::error::DatabaseError;
use crate::probe::DatabaseState;
use crate::report::Group;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How soon a lost database is tried again, at the latest.
const RECONNECT: Duration = Duration::from_millis(250);

/// How often a database that stays away is worth a line in the log.
const REMINDER: Duration = Duration::from_secs(60);

/// At most so many connections as the operator allows.
pub struct Pool {
    pool: r2d2::Pool<Manager>,
    health: Arc<Health>,
    wait: Duration,
}

impl Pool {
    /// Begins to connect in the background: a database that is down does not stop the start.
    pub fn new(config: &Config, connector: Connector) -> Self {
        let health = Arc::new(Health::default());
        let pool = r2d2::Pool::builder()
            .max_size(config.db_connections)
            .min_idle(Some(1))
            .test_on_check_out(true)
            .idle_timeout(None)
            .max_lifetime(None)
            .connection_timeout(RECONNECT * 2) // of which r2d2 makes half the longest pause between two tries
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager { connector, health: health.clone(), wait: config.db_wait });
        Self { pool, health, wait: config.db_wait }
    }

    /// Asks the database for a sign of life, twice where a connection has died while it was idle.
    pub fn probe(&self) -> DatabaseState {
        let is_up = self.answers().or_else(|_| self.answers()).is_ok();
        let state = self.pool.state();
        DatabaseState {
            is_up,
            connections: state.connections,
            idle: state.idle_connections,
            last_answer: self.health.state().last_answer,
        }
    }

    fn answers(&self) -> Result<(), DatabaseError> {
        match self.pool.get_timeout(self.wait) {
            Ok(mut connection) => {
                let verified = connection.verify(self.wait);
                self.health.note_answer(verified.as_ref().err());
                verified
            }
            // All are busy, with a database that is there, or there is none.
            Err(_) => self.health.problem().map_or(Ok(()), Err),
        }
    }
}

impl Store for Pool {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        match self.pool.get_timeout(self.wait) {
            Ok(connection) => Ok(Box::new(Pooled { connection, health: &self.health })),
            Err(_) => Err(self.health.problem().unwrap_or_else(|| {
                DatabaseError::Unavailable(format!(
                    "all {} database connections were busy for {} ms: raise CALLSTATS_DB_CONNECTIONS, or find what \
                     makes the queries slow",
                    self.pool.max_size(),
                    self.wait.as_millis()
                ))
            })),
        }
    }
}

struct Pooled<'a> {
    connection: r2d2::PooledConnection<Manager>,
    health: &'a Health,
}

impl Session for Pooled<'_> {
    fn find(&mut self, question: &Question<'_>) -> Result<Found, DatabaseError> {
        let result = self.connection.find(question);
        self.health.note_answer(result.as_ref().err());
        result
    }

    fn groups(
        &mut self,
        scope: &Scope,
        days: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError> {
        let result = self.connection.groups(scope, days, each);
        self.health.note_answer(match &result {
            Err(GroupsError::Database(error)) => Some(error),
            Err(GroupsError::Client(_)) | Ok(()) => None,
        });
        result
    }
}

struct Manager {
    connector: Connector,
    health: Arc<Health>,
    wait: Duration,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Connection;
    type Error = DatabaseError;

    fn connect(&self) -> Result<Connection, DatabaseError> {
        let connected = self.connector.connect().and_then(|mut connection| match connection.warm_up() {
            // What is wrong with the schema is said to, and by, the request that needs it.
            Err(DatabaseError::NotReady(_) | DatabaseError::Timeout(_) | DatabaseError::Fault(_)) | Ok(()) => {
                Ok(connection)
            }
            Err(no_descriptor @ DatabaseError::NoDescriptor(_)) => Err(no_descriptor),
            Err(error) => Err(DatabaseError::Unavailable(error.to_string())),
        });
        self.health.note_connect(connected.as_ref().err());
        connected
    }

    /// A connection that was idle when another one died may be dead as well: only then it is worth a round trip.
    fn is_valid(&self, connection: &mut Connection) -> Result<(), DatabaseError> {
        if self.health.has_lost_since(connection.last_used()) { connection.verify(self.wait) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_spent()
    }
}

/// Whether the database can be reached: one line in the log when that changes, and now and then while it is away.
#[derive(Debug, Default)]
struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why no connection can be made.
    problem: Option<DatabaseError>,
    /// What the log said of that last, and when.
    said: Option<(DatabaseError, Instant)>,
    /// When a connection died last.
    lost_at: Option<Instant>,
    /// When it answered a statement last, be it with an error.
    last_answer: Option<SystemTime>,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_connect(&self, error: Option<&DatabaseError>) {
        let mut state = self.state();
        let Some(error) = error else {
            state.problem = None;
            if state.said.take().is_some() {
                log::info!("the database is back");
            }
            return;
        };
        state.problem = Some(error.clone());
        if matches!(error, DatabaseError::NoDescriptor(_)) {
            return; // the accept loop says so, once a second
        }
        // A server that goes down or comes up has several errors, in turns.
        let pause = match &state.said {
            None => Duration::ZERO,
            Some((said, _)) if said == error => REMINDER,
            Some(_) => Duration::from_secs(1),
        };
        if state.said.as_ref().is_none_or(|(_, at)| at.elapsed() >= pause) {
            log::error!("{error}; trying again until it is back");
            state.said = Some((error.clone(), Instant::now()));
        }
    }

    fn problem(&self) -> Option<DatabaseError> {
        self.state().problem.clone()
    }

    fn note_answer(&self, error: Option<&DatabaseError>) {
        match error {
            Some(DatabaseError::Lost(_)) => self.state().lost_at = Some(Instant::now()),
            _ => self.state().last_answer = Some(SystemTime::now()),
        }
    }

    fn has_lost_since(&self, instant: Instant) -> bool {
        self.state().lost_at.is_some_and(|lost_at| lost_at >= instant)
    }
}
