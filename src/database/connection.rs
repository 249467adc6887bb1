//! Connections and the statements that run on them. Touches the network and the password file.

use crate::database::error::{classify, classify_connect_error, describe, out_of_file_descriptors};
use crate::database::url::DatabaseUrl;
use crate::store::DatabaseErrorKind::{ConnectionLost, Internal, Unavailable};
use crate::store::{
    self, Asker, DailyTotal, DatabaseError, DateRange, Organization, Scope, ScopeQuery, ScopeRow, Session, Store,
    StreamError,
};
use postgres::error::{Severity, SqlState};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{CancelToken, Client, NoTls, Row, RowIter, Statement};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres_rustls::MakeRustlsConnect;

const SCOPE: &str = include_str!("sql/scope.sql");
/// The same for version 1 of the schema.
const SCOPE_1: &str = include_str!("sql/scope_1.sql");
const FOLDER_NAMES: &str = include_str!("sql/folder_names.sql");
/// The daily totals of all folders of an organization.
pub const ORGANIZATION_DAYS: &str = include_str!("sql/organization_days.sql");
const FOLDER_DAYS: &str = include_str!("sql/folder_days.sql");

/// How long a command of the operator waits for a connection.
const OPERATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the operator says about the database.
#[derive(Debug, Clone)]
pub struct Settings {
    pub url: DatabaseUrl,
    /// Holds the password; read for each new connection.
    pub password_file: Option<PathBuf>,
    /// The limit of the pool.
    pub connections: u32,
    /// How long a request waits for a connection.
    pub wait: Duration,
    pub statement_timeout: Duration,
}

/// Opens connections as this service needs them.
#[derive(Clone)]
pub struct Connector {
    config: postgres::Config,
    password_file: Option<PathBuf>,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// The operator's settings, with those of every session of ours. Fails if certificates cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let tls = settings.url.tls.connector()?;
        let mut config = settings.url.config.clone();
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path("/var/run/postgresql"); // where Debian's PostgreSQL listens
        }
        if config.get_application_name().is_none() {
            config.application_name("callstats");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(settings.wait);
        }
        // Planning costs more than a day's query, and compiling it far more; the operator's options win over that. And
        // nothing here may ever write.
        let options = format!(
            "-c plan_cache_mode=force_generic_plan -c jit=off {} -c default_transaction_read_only=on \
             -c statement_timeout={}",
            config.get_options().unwrap_or_default(),
            settings.statement_timeout.as_millis()
        );
        config.options(&options);
        // A host that vanishes without a word is noticed in about a minute rather than in hours.
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(10));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(60));
        Ok(Self { config, password_file: settings.password_file.clone(), tls })
    }

    /// For a command of the operator, who may write, and whose settings are the role's own. Fails if certificates cannot
    /// be read.
    pub fn for_operator(url: &DatabaseUrl) -> Result<Self, String> {
        let tls = url.tls.connector()?;
        let mut config = url.config.clone();
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path("/var/run/postgresql");
        }
        if config.get_application_name().is_none() {
            config.application_name("callstats");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(OPERATOR_CONNECT_TIMEOUT);
        }
        config.notice_callback(|notice| {
            if notice.parsed_severity() == Some(Severity::Warning) {
                log::warn!("{}", notice.message());
            }
        });
        Ok(Self { config, password_file: None, tls })
    }

    /// A new connection without anything around it.
    pub fn client(&self) -> Result<Client, DatabaseError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let password = std::fs::read_to_string(path).map_err(|error| {
                DatabaseError::new(
                    Unavailable,
                    format!("cannot read the password file {}: {error}", path.display()),
                    "correct CALLSTATS_DATABASE_PASSWORD_FILE, or let the worker's user read the file",
                )
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        // Without a file descriptor for its runtime the crate panics. In a thread of the pool that would cost a
        // connection for good, because the pool would wait for it forever.
        let client = catch_unwind(AssertUnwindSafe(|| match &self.tls {
            None => config.connect(NoTls),
            Some(tls) => config.connect(tls.clone()),
        }));
        let client = client.map_err(|_| out_of_file_descriptors())?;
        client.map_err(|error| classify_connect_error(&error))
    }

    /// A new connection. It is good for one request unless it is warmed up.
    pub fn connect(&self) -> Result<Connection, DatabaseError> {
        Ok(Connection {
            client: self.client()?,
            tls: self.tls.clone(),
            statements: None,
            has_schema_1: false,
            last_used: Instant::now(),
            is_broken: false,
            was_cancelled: Arc::default(),
        })
    }
}

/// For a process that answers one request: a connection for each session.
impl Store for Connector {
    fn session(&self) -> Result<Box<dyn Session + '_>, DatabaseError> {
        Ok(Box::new(self.connect()?))
    }

    fn try_turn(&self, _: Asker) -> Option<Box<dyn store::Turn + '_>> {
        Some(Box::new(()))
    }

    fn turn(&self, _: Asker) -> Result<Box<dyn store::Turn + '_>, DatabaseError> {
        Ok(Box::new(()))
    }
}

/// A connection with its prepared statements.
pub struct Connection {
    client: Client,
    /// For the connection that cancels a statement of this one.
    tls: Option<MakeRustlsConnect>,
    /// Only of a connection for many requests.
    statements: Option<Statements>,
    /// The schema had version 1 when it was looked at last.
    has_schema_1: bool,
    last_used: Instant,
    is_broken: bool,
    /// A cancel request was sent. It may arrive late and hit whatever runs then.
    was_cancelled: Arc<AtomicBool>,
}

#[derive(Default)]
struct Statements {
    scope: Option<Statement>,
    folder_names: Option<Statement>,
    organization_days: Option<Statement>,
    folder_days: Option<Statement>,
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Connection {
    /// Prepares the statements and runs each once on an organization that does not exist, so that no request pays for
    /// planning.
    pub fn warm_up(&mut self) -> Result<(), DatabaseError> {
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
        let verified = self.client.is_valid(limit);
        self.is_broken |= verified.is_err();
        self.last_used = Instant::now();
        verified.map_err(|error| {
            DatabaseError::new(ConnectionLost, format!("the database does not reply: {}", describe(&error)), "")
        })
    }

    /// One round trip, unless the version of the schema is not the one that this connection knows: it is found out by
    /// the statement that fits.
    fn try_look_up(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        let mut found = self.scope(query);
        let fits = match &found {
            Ok(Some((_, is_superseded))) => !is_superseded,
            Ok(None) => true,
            Err(error) => self.has_schema_1 || error.code() != Some(&SqlState::UNDEFINED_TABLE),
        };
        if !fits {
            self.has_schema_1 = !self.has_schema_1;
            if let Some(statements) = &mut self.statements {
                statements.scope = None;
            }
            found = self.scope(query);
        }
        let row = found.map_err(|error| classify(&error))?.map(|(row, _)| row);
        row.ok_or_else(|| DatabaseError::new(Internal, "scope.sql returned no row", ""))
    }

    /// The row, and whether it is for a version of the schema that is no longer there.
    fn scope(&mut self, query: &ScopeQuery<'_>) -> Result<Option<(ScopeRow, bool)>, postgres::Error> {
        let text = if self.has_schema_1 { SCOPE_1 } else { SCOPE };
        let token = &query.token_sha256[..];
        let parameters: [Parameter<'_>; 5] = [
            (&token, Type::BYTEA),
            (&query.is_root, Type::BOOL),
            (&query.company, Type::TEXT),
            (&query.organization, Type::TEXT),
            (&query.folder, Type::TEXT),
        ];
        let prepared = self.statements.as_mut().map(|statements| &mut statements.scope);
        let mut rows = rows(&mut self.client, prepared, text, &parameters)?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some((scope_row(&row)?, row.try_get("is_superseded")?)))
    }

    fn try_folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let prepared = self.statements.as_mut().map(|statements| &mut statements.folder_names);
        let mut rows = rows(&mut self.client, prepared, FOLDER_NAMES, &[(&organization_id, Type::INT4)])
            .map_err(|error| classify(&error))?;
        while let Some(row) = rows.next().map_err(|error| classify(&error))? {
            let (id, name) = folder_name(&row).map_err(|error| classify(&error))?;
            each(id, name).map_err(StreamError::Receiver)?;
        }
        Ok(())
    }

    fn try_daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&scope.organization_id, Type::INT4), (&days.first, Type::DATE), (&days.last, Type::DATE)];
        let statements = self.statements.as_mut();
        let (prepared, text) = match &scope.folder_id {
            None => (statements.map(|statements| &mut statements.organization_days), ORGANIZATION_DAYS),
            Some(folder_id) => {
                parameters.push((folder_id, Type::INT4));
                (statements.map(|statements| &mut statements.folder_days), FOLDER_DAYS)
            }
        };
        let mut rows = rows(&mut self.client, prepared, text, &parameters).map_err(|error| classify(&error))?;
        while let Some(row) = rows.next().map_err(|error| classify(&error))? {
            each(daily_total(&row).map_err(|error| classify(&error))?).map_err(StreamError::Receiver)?;
        }
        Ok(())
    }

    /// Notes how a statement ended. Rows that nobody takes are still to come if the receiver failed.
    fn after<T>(&mut self, result: Result<T, StreamError>) -> Result<T, StreamError> {
        match &result {
            Err(StreamError::Database(error)) => self.is_broken |= error.kind == ConnectionLost,
            Err(StreamError::Receiver(_)) => {
                self.is_broken = true;
                (self.canceller())();
            }
            Ok(_) => (),
        }
        self.last_used = Instant::now();
        result
    }
}

impl Session for Connection {
    fn look_up(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        let result = self.try_look_up(query);
        self.is_broken |= matches!(&result, Err(error) if error.kind == ConnectionLost);
        self.last_used = Instant::now();
        result
    }

    fn folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.try_folder_names(organization_id, each);
        self.after(result)
    }

    fn daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.try_daily_totals(scope, days, each);
        self.after(result)
    }

    fn canceller(&self) -> Box<dyn FnOnce() + Send> {
        let (token, tls, was_cancelled) = (self.client.cancel_token(), self.tls.clone(), self.was_cancelled.clone());
        Box::new(move || {
            was_cancelled.store(true, Ordering::SeqCst);
            if let Err(error) = cancel(&token, tls) {
                log::warn!("cannot cancel the statement of a client that disconnected: {}", describe(&error));
            }
        })
    }
}

fn cancel(token: &CancelToken, tls: Option<MakeRustlsConnect>) -> Result<(), postgres::Error> {
    match tls {
        None => token.cancel_query(NoTls),
        Some(tls) => token.cancel_query(tls),
    }
}

/// Runs a statement whose rows are streamed: one round trip, and another one if it is to be prepared and is not yet.
fn rows<'a>(
    client: &'a mut Client,
    prepared: Option<&mut Option<Statement>>,
    text: &str,
    parameters: &[Parameter<'_>],
) -> Result<RowIter<'a>, postgres::Error> {
    match prepared {
        None => client.query_typed_raw(text, parameters.iter().cloned()),
        Some(prepared) => {
            let statement = match prepared {
                Some(statement) => statement,
                None => prepared.insert(client.prepare(text)?),
            };
            client.query_raw(&*statement, parameters.iter().map(|(value, _)| *value))
        }
    }
}

fn scope_row(row: &Row) -> Result<ScopeRow, postgres::Error> {
    let organization: Option<i32> = row.try_get("organization_id")?;
    let today = row.try_get::<_, Option<_>>("today")?;
    let ids: Option<Vec<i32>> = row.try_get("folder_ids")?;
    let names: Option<Vec<String>> = row.try_get("folder_names")?;
    Ok(ScopeRow {
        token_company_id: row.try_get("token_company_id")?,
        token_name: row.try_get("token_name")?,
        company_is_visible: row.try_get("company_is_visible")?,
        organization: organization.zip(today).map(|(id, today)| Organization { id, today }),
        folder_id: row.try_get("folder_id")?,
        folders: ids.unwrap_or_default().into_iter().zip(names.unwrap_or_default()).collect(),
    })
}

fn folder_name(row: &Row) -> Result<(i32, &str), postgres::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn daily_total(row: &Row) -> Result<DailyTotal<'_>, postgres::Error> {
    Ok(DailyTotal {
        date: row.try_get(0)?,
        folder_id: row.try_get(1)?,
        agent_id: row.try_get(2)?,
        calls: row.try_get(3)?,
        duration_ms: row.try_get(4)?,
    })
}
