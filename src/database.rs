//! PostgreSQL: connections, statements, limits of time, and what its errors mean. Touches the network.

use crate::access::{Found, Organization, Scope};
use crate::answer::{GroupsError, Question, Session, Store};
use crate::config::Config;
use crate::date_range::Days;
use crate::error::DatabaseError;
use crate::report::Group;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Row, Statement};
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres_rustls::MakeRustlsConnect;

const SCOPE: &str = include_str!("sql/scope.sql");
const ORGANIZATION_DAYS: &str = include_str!("sql/organization_days.sql");
const FOLDER_DAYS: &str = include_str!("sql/folder_days.sql");

/// How soon a lost database is tried again, at the latest.
const RECONNECT: Duration = Duration::from_millis(250);

/// How often a database that stays away is worth a line in the log.
const REMINDER: Duration = Duration::from_secs(60);

/// Opens connections as this service needs them.
#[derive(Clone)]
pub struct Connector {
    config: postgres::Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// What the operator configured, with what every session of ours needs. Fails where certificates cannot be read.
    pub fn new(config: &Config) -> Result<Self, String> {
        let tls = config.database.tls.connector()?;
        let mut database = config.database.config.clone();
        if database.get_hosts().is_empty() && database.get_hostaddrs().is_empty() {
            database.host_path("/var/run/postgresql"); // where Debian's PostgreSQL listens
        }
        if database.get_application_name().is_none() {
            database.application_name("callstats");
        }
        if database.get_connect_timeout().is_none() {
            database.connect_timeout(config.db_wait);
        }
        // Planning costs more than a day's query, compiling it far more; and nothing here may ever write.
        let settings = format!(
            "{} -c plan_cache_mode=force_generic_plan -c jit=off -c default_transaction_read_only=on \
             -c statement_timeout={}",
            database.get_options().unwrap_or_default(),
            config.statement_timeout.as_millis()
        );
        database.options(settings.trim_start());
        // A host that is gone without a word is noticed in about a minute rather than in hours.
        database.keepalives_idle(Duration::from_secs(30));
        database.keepalives_interval(Duration::from_secs(10));
        database.keepalives_retries(3);
        database.tcp_user_timeout(Duration::from_secs(60));
        Ok(Self { config: database, tls })
    }

    /// One new connection.
    pub fn connect(&self) -> Result<Connection, DatabaseError> {
        let client = match &self.tls {
            None => self.config.connect(NoTls),
            Some(tls) => self.config.connect(tls.clone()),
        };
        Ok(Connection {
            client: client.map_err(|error| unreachable(&error))?,
            tls: self.tls.clone(),
            scope: None,
            organization_days: None,
            folder_days: None,
            is_spent: false,
        })
    }
}

/// For a process that answers one request: a connection for each session.
impl Store for Connector {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        Ok(Box::new(self.connect()?))
    }
}

/// A connection with its prepared statements.
pub struct Connection {
    client: Client,
    /// For the connection that cancels a statement of this one.
    tls: Option<MakeRustlsConnect>,
    scope: Option<Statement>,
    organization_days: Option<Statement>,
    folder_days: Option<Statement>,
    /// It was left in the middle of an answer and is of no more use.
    is_spent: bool,
}

impl Connection {
    /// Prepares all statements and runs each once with nothing to find, so that no request pays for planning.
    fn warm_up(&mut self) -> Result<(), DatabaseError> {
        let question = Question { token_sha256: [0; 32], is_root: false, company: "", organization: "", folder: None };
        self.find(&question)?;
        let day = chrono::NaiveDate::default();
        for only_folder in [None, Some(0)] {
            let scope = Scope { organization: Organization { id: 0, today: day }, only_folder, folders: Vec::new() };
            match self.groups(&scope, Days { first: day, last: day }, &mut |_| Ok(())) {
                Err(GroupsError::Database(error)) => return Err(error),
                Err(GroupsError::Client(_)) | Ok(()) => (),
            }
        }
        Ok(())
    }

    /// Whether the server has closed the connection, as far as can be told without asking it.
    fn is_dead(&mut self) -> bool {
        self.is_spent || self.client.notifications().iter().next().is_err() || self.client.is_closed()
    }
}

impl Session for Connection {
    fn find(&mut self, question: &Question<'_>) -> Result<Found, DatabaseError> {
        let statement = prepared(&mut self.client, &mut self.scope, SCOPE)?;
        let token = &question.token_sha256[..];
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&token, &question.is_root, &question.company, &question.organization, &question.folder];
        let row = self.client.query_one(&statement, &parameters).map_err(|error| meaning(&error))?;
        found(&row).map_err(|error| meaning(&error))
    }

    fn groups(
        &mut self,
        scope: &Scope,
        days: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError> {
        let organization = scope.organization.id;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&organization, &days.first, &days.last];
        let statement = match &scope.only_folder {
            None => prepared(&mut self.client, &mut self.organization_days, ORGANIZATION_DAYS)?,
            Some(folder) => {
                parameters.push(folder);
                prepared(&mut self.client, &mut self.folder_days, FOLDER_DAYS)?
            }
        };
        let canceller = self.client.cancel_token();
        let mut rows = self.client.query_raw(&statement, parameters).map_err(|error| meaning(&error))?;
        while let Some(row) = rows.next().map_err(|error| meaning(&error))? {
            if let Err(gone) = each(group(&row).map_err(|error| meaning(&error))?) {
                self.is_spent = true;
                let cancelled = match &self.tls {
                    None => canceller.cancel_query(NoTls),
                    Some(tls) => canceller.cancel_query(tls.clone()),
                };
                if let Err(error) = cancelled {
                    log::warn!("cannot cancel a statement whose client is gone: {}", explained(&error));
                }
                return Err(GroupsError::Client(gone));
            }
        }
        Ok(())
    }
}

fn prepared(client: &mut Client, kept: &mut Option<Statement>, text: &str) -> Result<Statement, DatabaseError> {
    if let Some(statement) = kept {
        return Ok(statement.clone());
    }
    let statement = client.prepare(text).map_err(|error| meaning(&error))?;
    Ok(kept.insert(statement).clone())
}

fn found(row: &Row) -> Result<Found, postgres::Error> {
    let organization: Option<i32> = row.try_get("organization_id")?;
    let today = row.try_get::<_, Option<_>>("today")?;
    let ids: Option<Vec<i32>> = row.try_get("folder_ids")?;
    let names: Option<Vec<String>> = row.try_get("folder_names")?;
    Ok(Found {
        token_is_known: row.try_get("token_is_known")?,
        company_is_found: row.try_get("company_is_found")?,
        organization: organization.zip(today).map(|(id, today)| Organization { id, today }),
        folder_id: row.try_get("folder_id")?,
        folders: ids.unwrap_or_default().into_iter().zip(names.unwrap_or_default()).collect(),
    })
}

fn group(row: &Row) -> Result<Group<'_>, postgres::Error> {
    Ok(Group {
        date: row.try_get(0)?,
        folder_id: row.try_get(1)?,
        agent_id: row.try_get(2)?,
        calls: row.try_get(3)?,
        duration_ms: row.try_get(4)?,
    })
}

/// The connections of a worker: opened as they are needed, kept, and replaced when they die.
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
            .build_unchecked(Manager { connector, health: health.clone() });
        Self { pool, health, wait: config.db_wait }
    }
}

impl Store for Pool {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        match self.pool.get_timeout(self.wait) {
            Ok(connection) => Ok(Box::new(Pooled(connection))),
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

struct Pooled(r2d2::PooledConnection<Manager>);

impl Session for Pooled {
    fn find(&mut self, question: &Question<'_>) -> Result<Found, DatabaseError> {
        self.0.find(question)
    }

    fn groups(
        &mut self,
        scope: &Scope,
        days: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError> {
        self.0.groups(scope, days, each)
    }
}

struct Manager {
    connector: Connector,
    health: Arc<Health>,
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
            Err(error) => Err(error),
        });
        self.health.note(connected.as_ref().err());
        connected
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), DatabaseError> {
        if connection.is_dead() {
            return Err(DatabaseError::Lost("the database closed an idle connection".into()));
        }
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_spent || connection.client.is_closed()
    }
}

/// Whether the database can be reached: one line in the log when that changes, and now and then while it is away.
#[derive(Debug, Default)]
struct Health {
    problem: Mutex<Option<(DatabaseError, Instant)>>,
}

impl Health {
    fn note(&self, error: Option<&DatabaseError>) {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, &*problem) {
            (None, None) => (),
            (None, Some(_)) => {
                log::info!("the database is back");
                *problem = None;
            }
            (Some(error), Some((known, said))) if error == known && said.elapsed() < REMINDER => (),
            (Some(error), _) => {
                log::error!("{error}; trying again until it is back");
                *problem = Some((error.clone(), Instant::now()));
            }
        }
    }

    fn problem(&self) -> Option<DatabaseError> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.as_ref().map(|(error, _)| error.clone())
    }
}

/// An error with its causes; of the server's, message and code without what could be a client's value.
pub fn explained(error: &postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What a failed connection means: nothing was begun that could be begun again.
fn unreachable(error: &postgres::Error) -> DatabaseError {
    match meaning(error) {
        DatabaseError::Fault(_) | DatabaseError::Lost(_) if error.code().is_none() => cannot_be_reached(error),
        DatabaseError::Lost(text) => DatabaseError::Unavailable(text),
        other => other,
    }
}

fn cannot_be_reached(error: &postgres::Error) -> DatabaseError {
    let text = explained(error);
    DatabaseError::Unavailable(format!("the database cannot be reached: {text}: start it, or correct DATABASE_URL"))
}

/// What an error of PostgreSQL means for an answer; by its code, never by its message.
fn meaning(error: &postgres::Error) -> DatabaseError {
    let text = explained(error);
    let Some(code) = error.code() else {
        return if error.is_closed() || error.source().is_some_and(|cause| cause.is::<io::Error>()) {
            DatabaseError::Lost(format!("the connection to the database broke: {text}: look into its log"))
        } else {
            DatabaseError::Fault(format!("the database gave an answer that cannot be used: {text}"))
        };
    };
    let is_setup = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ]
    .contains(code);
    if is_setup {
        return DatabaseError::NotReady(format!(
            "the database is not set up for callstats: {text}: run deploy/schema.sql in it"
        ));
    }
    if *code == SqlState::QUERY_CANCELED {
        return DatabaseError::Timeout(format!(
            "{text}: ask for fewer days, raise CALLSTATS_STATEMENT_TIMEOUT_MS, or look for what holds a lock on the \
             calls"
        ));
    }
    match &code.code()[..2] {
        // Connection, operator intervention (shutdown, start), recovery conflict: another connection may do.
        "08" | "57" | "40" => DatabaseError::Lost(format!("the database broke off: {text}: look into its log")),
        // Resources, and what refuses a login.
        "53" | "28" | "3D" => DatabaseError::Unavailable(format!(
            "the database refuses: {text}: correct its settings or \
            DATABASE_URL"
        )),
        _ => DatabaseError::Fault(format!("the database failed: {text}: look into its log")),
    }
}
