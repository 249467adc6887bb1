//! The connections of a worker: opened when they are needed, kept, and replaced when they die. Touches what
//! [`super::connector`] touches, and the log.

use crate::database::availability::Availability;
use crate::database::connection::Connection;
use crate::database::connector::{Connector, Settings};
use crate::database::fairness::Turns;
use crate::store::DatabaseErrorKind::{
    ConnectionLost, Internal, NotReady, OutOfFileDescriptors, Refused, Timeout, Unavailable,
};
use crate::store::{
    self, Asker, DailyTotal, DatabaseError, DateRange, Scope, ScopeQuery, ScopeRow, Session, Store, StreamError,
};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The longest time until a lost database is tried again.
const RECONNECT: Duration = Duration::from_millis(250);

/// How long a probe takes at most.
const PROBE: Duration = Duration::from_millis(900);

/// A pool of up to CALLSTATS_DB_CONNECTIONS connections.
pub struct Pool {
    pool: r2d2::Pool<Manager>,
    turns: Turns,
    availability: Arc<Availability>,
    wait: Duration,
    busy: AtomicU64,
    share_taken: AtomicU64,
    /// The hosts of the database, for messages.
    hosts: String,
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
    /// Requests that got no connection in time because all were busy, since the start.
    pub busy: u64,
    /// Requests that got no turn in time because their company had all of its share, since the start.
    pub share_taken: u64,
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
            .max_lifetime(Some(settings.lifetime))
            .connection_timeout(RECONNECT * 2) // r2d2 makes half of it the longest pause between two tries
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager {
                connector,
                availability: availability.clone(),
                wait: settings.wait,
                lifetime: settings.lifetime,
                random: RandomState::new(),
            });
        let hosts: Vec<_> = settings.url.hosts.iter().map(ToString::to_string).collect();
        let turns = Turns::new(settings.connections);
        Self {
            pool,
            turns,
            availability,
            wait: settings.wait,
            busy: AtomicU64::default(),
            share_taken: AtomicU64::default(),
            hosts: hosts.join(" or "),
        }
    }

    /// Asks the database for a sign of life, twice if a connection has died while it was idle.
    pub fn state(&self) -> PoolState {
        let deadline = Instant::now() + PROBE.min(self.wait * 2);
        let is_up = self.ping(deadline).or_else(|_| self.ping(deadline)).is_ok();
        let state = self.pool.state();
        PoolState {
            is_up,
            connections: state.connections,
            idle: state.idle_connections,
            last_reply: self.availability.last_reply(),
            busy: self.busy.load(Ordering::Relaxed),
            share_taken: self.share_taken.load(Ordering::Relaxed),
        }
    }

    fn ping(&self, deadline: Instant) -> Result<(), DatabaseError> {
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let connection = {
            let _waiting = self.availability.waiting();
            self.pool.get_timeout(left())
        };
        match connection {
            Ok(mut connection) => {
                let verified = connection.connection.verify(left());
                self.availability.record_reply(verified.as_ref().err());
                verified
            }
            // Either all are busy with a database that is there, or it is not.
            Err(_) if self.availability.open_connections() == 0 => Err(self.unavailable()),
            Err(_) => Ok(()),
        }
    }

    fn connection(&self) -> Result<r2d2::PooledConnection<Manager>, DatabaseError> {
        if let Some(connection) = self.pool.try_get() {
            return Ok(connection);
        }
        let _waiting = self.availability.waiting();
        self.pool.get_timeout(self.wait).map_err(|_| self.unavailable())
    }

    /// Why there is no connection.
    fn unavailable(&self) -> DatabaseError {
        let (size, wait) = (self.pool.max_size(), self.wait.as_millis());
        if let Some(problem) = self.availability.problem() {
            problem
        } else if self.availability.open_connections() < size {
            DatabaseError::new(
                Unavailable,
                format!("no connection to the database at {} was opened within {wait} ms", self.hosts),
                "check that the host and PostgreSQL are running, and that a firewall lets the connection through",
            )
        } else {
            self.busy.fetch_add(1, Ordering::Relaxed);
            DatabaseError::new(
                Unavailable,
                format!("all {size} database connections were busy for {wait} ms"),
                "raise CALLSTATS_DB_CONNECTIONS, or find out why the queries are slow",
            )
        }
    }
}

impl Store for Pool {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        Ok(Box::new(Pooled { member: self.connection()?, availability: &self.availability }))
    }

    fn try_turn(&self, asker: Asker) -> Option<Box<dyn store::Turn + '_>> {
        Some(Box::new(self.turns.try_take(asker)?))
    }

    fn turn(&self, asker: Asker) -> Result<Box<dyn store::Turn + '_>, DatabaseError> {
        match self.turns.take_within(asker, self.wait) {
            Some(turn) => Ok(Box::new(turn)),
            None => {
                self.share_taken.fetch_add(1, Ordering::Relaxed);
                Err(DatabaseError::new(
                    Unavailable,
                    format!(
                        "the token's company already ran {} queries, its share of the connections, for {} ms",
                        self.turns.limit(),
                        self.wait.as_millis()
                    ),
                    "raise CALLSTATS_DB_CONNECTIONS, or find out why its queries are slow",
                ))
            }
        }
    }
}

struct Pooled<'a> {
    member: r2d2::PooledConnection<Manager>,
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
        let result = self.member.connection.look_up(query);
        self.availability.record_reply(result.as_ref().err());
        result
    }

    fn folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.member.connection.folder_names(organization_id, each);
        self.record_stream(&result);
        result
    }

    fn daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.member.connection.daily_totals(scope, days, each);
        self.record_stream(&result);
        result
    }

    fn canceller(&self) -> Box<dyn FnOnce() + Send> {
        self.member.connection.canceller()
    }
}

struct Manager {
    connector: Connector,
    availability: Arc<Availability>,
    wait: Duration,
    lifetime: Duration,
    random: RandomState,
}

/// A connection of the pool.
struct Member {
    connection: Connection,
    /// Replaced from then on, so that load returns to a host that was unavailable.
    expires: Instant,
    availability: Arc<Availability>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.availability.record_close();
    }
}

impl Manager {
    /// Between 80 % and 100 % of the lifetime: connections that were opened together are not replaced together.
    fn expiry(&self) -> Instant {
        let now = Instant::now();
        let percent = 80 + u32::try_from(self.random.hash_one(now) % 21).unwrap_or(0);
        now + self.lifetime * percent / 100
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Member;
    type Error = DatabaseError;

    fn connect(&self) -> Result<Member, DatabaseError> {
        let credentials = self.connector.credentials();
        self.availability.may_connect(credentials)?;
        let connected = self.connector.connect().and_then(|mut connection| match connection.warm_up() {
            Ok(()) => Ok(connection),
            Err(error) => match error.kind {
                // The request that meets such an error reports it.
                NotReady | Timeout | Internal => Ok(connection),
                OutOfFileDescriptors => Err(error),
                Unavailable | Refused | ConnectionLost => Err(DatabaseError { kind: Unavailable, ..error }),
            },
        });
        self.availability.record_connect(credentials, connected.as_ref().err());
        connected.map(|connection| Member {
            connection,
            expires: self.expiry(),
            availability: self.availability.clone(),
        })
    }

    /// A connection that was idle when another one died may be dead as well: only then a round trip is worth it.
    fn is_valid(&self, member: &mut Member) -> Result<(), DatabaseError> {
        let connection = &mut member.connection;
        if self.availability.has_lost_since(connection.last_used()) { connection.verify(self.wait) } else { Ok(()) }
    }

    fn has_broken(&self, member: &mut Member) -> bool {
        member.connection.is_broken() || member.expires <= Instant::now()
    }
}
