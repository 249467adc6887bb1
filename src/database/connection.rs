//! Connections and the statements that run on them. Touches the network and the password file.

use crate::database::client::{Client, Parameter, Query, RowsError};
use crate::database::dial::{Address, Dialler, Route};
use crate::database::error::{classify, classify_connect_error, describe, is_lost_statement, is_unencodable};
use crate::database::tls;
use crate::database::url::{DatabaseUrl, SslMode};
use crate::store::DatabaseErrorKind::{ConnectionLost, Internal, Unavailable};
use crate::store::{
    self, Asker, DailyTotal, DatabaseError, DateRange, Organization, Scope, ScopeQuery, ScopeRow, Session, Store,
    StreamError,
};
use postgres::config::{ChannelBinding, SslMode as SslModeOfCrate};
use postgres::error::{Severity, SqlState};
use postgres::types::Type;
use postgres::{NoTls, Row, Statement};
use std::convert::Infallible;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const SCOPE: &str = include_str!("sql/scope.sql");
/// The same for version 1 of the schema.
const SCOPE_1: &str = include_str!("sql/scope_1.sql");
const FOLDER_NAMES: &str = include_str!("sql/folder_names.sql");
/// The daily totals of all folders of an organization.
pub const ORGANIZATION_DAYS: &str = include_str!("sql/organization_days.sql");
const FOLDER_DAYS: &str = include_str!("sql/folder_days.sql");
/// The same over callstats.calls_between(), which exists while a mapping of `callstats adopt` is on.
pub const ADOPTED_ORGANIZATION_DAYS: &str = include_str!("sql/adopted_organization_days.sql");
const ADOPTED_FOLDER_DAYS: &str = include_str!("sql/adopted_folder_days.sql");
const IS_ADOPTED: &str = "select to_regprocedure('callstats.calls_between(integer, date, date)') is not null";

/// No name has this character: schema.sql refuses it.
const NO_NAME: &str = "\u{1}";

/// How long a command of the operator waits for a connection.
const OPERATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The least time that a server has for the statement that looks up who may ask what, which takes a millisecond.
const SCOPE_PATIENCE: Duration = Duration::from_secs(1);
/// The time that a server has, beyond the statement timeout, to report that it kept to it.
const ROWS_PATIENCE: Duration = Duration::from_secs(5);

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
    /// When a connection is replaced.
    pub lifetime: Duration,
}

/// Opens connections as this service needs them.
#[derive(Clone)]
pub struct Connector(Arc<Shared>);

/// What the connections of a process have in common.
struct Shared {
    dialler: Dialler,
    password_file: Option<PathBuf>,
    /// Sets what each session needs.
    for_session: String,
    /// The same for one transaction that only reads, which it starts.
    for_transaction: String,
    /// Prepared statements do not last: found out once, for all connections.
    loses_statements: AtomicBool,
    /// Tables are adopted, as the last `scope.sql` saw it, on whatever connection.
    is_adopted: AtomicBool,
    random: RandomState,
    /// How long the server may be silent before it answers who may ask what, and before it sends rows.
    patience: [Option<Duration>; 2],
}

impl Connector {
    /// With the operator's settings. Fails if certificates cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let url = &settings.url;
        if url.tls.mode >= SslMode::VerifyCa || url.tls.mode == SslMode::Require {
            for host in url.hosts.iter().filter(|host| !host.is_unix_socket()) {
                tls::connector(&url.tls, host)?;
            }
        }
        let session = set_config(url, settings.statement_timeout, false);
        let read_only = "pg_catalog.set_config('default_transaction_read_only', 'on', false)";
        Ok(Self(Arc::new(Shared {
            dialler: Dialler::new(url.clone(), settings.wait),
            password_file: settings.password_file.clone(),
            for_session: format!("select {read_only}, {session}"),
            for_transaction: format!("begin read only; select {}", set_config(url, settings.statement_timeout, true)),
            loses_statements: AtomicBool::new(false),
            is_adopted: AtomicBool::new(false),
            random: RandomState::new(),
            patience: [
                Some(settings.wait.max(SCOPE_PATIENCE)),
                // The server keeps to the timeout, and answers that it did.
                (!settings.statement_timeout.is_zero()).then(|| settings.statement_timeout + ROWS_PATIENCE),
            ],
        })))
    }

    /// For a command of the operator, who may write, and whose settings are the role's own: see
    /// [`Connector::client`]. Fails if certificates cannot be read.
    pub fn for_operator(url: &DatabaseUrl) -> Result<Self, String> {
        Self::new(&Settings {
            url: url.clone(),
            password_file: None,
            connections: 1,
            wait: OPERATOR_CONNECT_TIMEOUT,
            statement_timeout: Duration::ZERO,
            lifetime: Duration::MAX,
        })
    }

    /// The password that a new connection is opened with, if CALLSTATS_DATABASE_PASSWORD_FILE is set.
    pub fn password(&self) -> Result<Option<String>, DatabaseError> {
        let Some(path) = &self.0.password_file else { return Ok(None) };
        let password = std::fs::read_to_string(path).map_err(|error| {
            DatabaseError::new(
                Unavailable,
                format!("cannot read the password file {}: {error}", path.display()),
                "correct CALLSTATS_DATABASE_PASSWORD_FILE, or let the worker's user read the file",
            )
        })?;
        Ok(Some(password.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// A digest of the files that hold passwords: another one may let a refused login succeed.
    pub fn credentials(&self) -> u64 {
        let files = [&self.0.password_file, &self.0.dialler.url().passfile];
        let contents = files.map(|file| file.as_ref().and_then(|path| std::fs::read(path).ok()));
        self.0.random.hash_one(contents)
    }

    /// A connection of the crate `postgres` without anything around it, for the operator's commands.
    pub fn client(&self) -> Result<postgres::Client, DatabaseError> {
        let password = self.password()?;
        let (_, route) = self.0.dialler.dial(password.as_deref())?; // which host, and how
        let url = self.0.dialler.url();
        let mut config = postgres::Config::new();
        config
            .user(&url.user)
            .dbname(&url.dbname)
            .channel_binding(url.channel_binding.unwrap_or(ChannelBinding::Prefer))
            .port(route.host.port);
        config.application_name(url.application_name.as_deref().unwrap_or("callstats"));
        config.notice_callback(|notice| {
            if notice.parsed_severity() == Some(Severity::Warning) {
                log::warn!("{}", notice.message());
            }
        });
        if let Some(options) = &url.options {
            config.options(options);
        }
        if let Some(password) = password.or_else(|| url.password_for(&route.host)) {
            config.password(password);
        }
        match &route.address {
            Address::Unix(_) => config.host_path(&route.host.name),
            Address::Ip(address) => config.host(&address.ip().to_string()).hostaddr(address.ip()),
        };
        let maker = tls::MakeConnector { options: url.tls.clone(), host: route.host.clone() };
        config.ssl_mode(if route.is_encrypted { SslModeOfCrate::Require } else { SslModeOfCrate::Disable });
        if url.tls.is_direct {
            config.ssl_negotiation(postgres::config::SslNegotiation::Direct);
        }
        let encrypts = route.is_encrypted;
        let connected =
            within(
                self.0.dialler.limit(),
                move || {
                    if encrypts { config.connect(maker) } else { config.connect(NoTls) }
                },
            );
        let connected = connected.ok_or_else(|| {
            DatabaseError::new(Unavailable, format!("the database at {} did not reply in time", route.host), "")
        })?;
        connected.map_err(|error| classify_connect_error(&error))
    }

    /// A new connection. It is good for one request unless it is warmed up.
    pub fn connect(&self) -> Result<Connection, DatabaseError> {
        let (client, route) = self.0.dialler.dial(self.password()?.as_deref())?;
        Ok(Connection {
            client,
            route,
            shared: self.0.clone(),
            statements: None,
            has_schema_1: false,
            is_direct: false,
            last_used: Instant::now(),
            is_broken: false,
            was_cancelled: Arc::default(),
        })
    }

    /// What an operator should know of the way to the database, and how to fix it if it is not as it should be.
    pub fn describe_connection(&self) -> Result<(String, Option<String>), DatabaseError> {
        let mut connection = self.connect()?;
        let encryption = match (&connection.route.address, connection.route.is_encrypted) {
            (Address::Unix(_), _) => "over a Unix socket",
            (Address::Ip(_), true) => "encrypted",
            (Address::Ip(_), false) => "unencrypted",
        };
        let url = self.0.dialler.url();
        let is_local = match &connection.route.address {
            Address::Unix(_) => true,
            Address::Ip(address) => address.ip().is_loopback(),
        };
        let is_verified =
            connection.route.is_encrypted && tls::verifies(&url.tls) && url.tls.mode >= SslMode::VerifyFull;
        connection.find_out_whether_direct()?;
        let pooler = if connection.is_direct {
            "directly"
        } else {
            "through a pooler, so settings are set for each transaction"
        };
        let message = format!("{} {pooler}, {encryption}", connection.route.host);
        let fix = "give sslmode=verify-full and sslrootcert in DATABASE_URL";
        Ok(if is_local || is_verified {
            (message, None)
        } else {
            (format!("{message}, and the server is not verified"), Some(fix.to_owned()))
        })
    }
}

/// Runs something that may hang in a thread, and waits for it up to a limit.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let started = std::thread::Builder::new().name("connect".into()).spawn(move || sender.send(work()));
    started.ok()?;
    receiver.recv_timeout(limit).ok()
}

/// The columns of a select that sets what the statements need. Planning costs more than a day's query, and
/// compiling it far more; who set plan_cache_mode did it for a reason. A transaction whose client vanished ends soon,
/// also if the role lacks the limit that schema.sql gives it. The operator's `options` win over all but the timeout.
fn set_config(url: &DatabaseUrl, statement_timeout: Duration, is_local: bool) -> String {
    let mut columns =
        format!("pg_catalog.set_config('statement_timeout', '{}', {is_local})", statement_timeout.as_millis());
    let unless_set = |name: &str, default: &str, ours: &str| {
        let current = format!("pg_catalog.current_setting('{name}')");
        format!("case {current} when '{default}' then '{ours}' else {current} end")
    };
    let plan_cache_mode = unless_set("plan_cache_mode", "auto", "force_generic_plan");
    let idle_in_transaction = unless_set("idle_in_transaction_session_timeout", "0", "60s");
    for (name, value) in [
        ("jit", "'off'"),
        ("search_path", "'pg_catalog, pg_temp'"),
        ("plan_cache_mode", &plan_cache_mode),
        ("idle_in_transaction_session_timeout", &idle_in_transaction),
    ] {
        if !url.sets(name) {
            // Writing to a string cannot fail.
            let _ = write!(columns, ", pg_catalog.set_config('{name}', {value}, {is_local})");
        }
    }
    columns
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

/// The statements of a session.
#[derive(Clone, Copy)]
enum Which {
    Scope,
    Scope1,
    FolderNames,
    OrganizationDays,
    FolderDays,
    AdoptedOrganizationDays,
    AdoptedFolderDays,
}

impl Which {
    /// They differ in the number of parameters, but for those of two versions of the schema. So a statement that meets
    /// another one of its name, prepared by another client of the same pooler, is an error and never a wrong answer.
    fn text(self) -> &'static str {
        match self {
            Self::Scope => SCOPE,
            Self::Scope1 => SCOPE_1,
            Self::FolderNames => FOLDER_NAMES,
            Self::OrganizationDays => ORGANIZATION_DAYS,
            Self::FolderDays => FOLDER_DAYS,
            Self::AdoptedOrganizationDays => ADOPTED_ORGANIZATION_DAYS,
            Self::AdoptedFolderDays => ADOPTED_FOLDER_DAYS,
        }
    }
}

/// A parameter of the adopted statements that only makes their number another one.
const UNUSED: Parameter<'static> = (&None::<i32>, Type::INT4);

/// Those that are prepared, by [`Which`].
type Statements = [Option<Statement>; 7];

impl Connection {
    /// Finds out what is between us and the server, prepares the statements and runs each once on an organization that
    /// does not exist, so that no request pays for planning.
    pub fn warm_up(&mut self) -> Result<(), DatabaseError> {
        self.find_out_whether_direct()?;
        if self.is_direct {
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
    fn find_out_whether_direct(&mut self) -> Result<(), DatabaseError> {
        let named = self.client.process_id().map(|id| id.to_string());
        let limit = self.shared.dialler.limit();
        let row = self.client.text_row("select pg_catalog.pg_backend_pid()", limit).map_err(|error| {
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
        which: Which,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), RowsError<E>> {
        let is_scope = matches!(which, Which::Scope | Which::Scope1);
        self.client.limit_silence(self.shared.patience[usize::from(!is_scope)]);
        let result = self.rows_of(which, parameters, each);
        self.client.limit_silence(None);
        result
    }

    fn rows_of<E>(
        &mut self,
        which: Which,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(Row) -> Result<(), E>,
    ) -> Result<(), RowsError<E>> {
        let begin = (!self.is_direct).then_some(self.shared.for_transaction.as_str());
        let loses_statements = &self.shared.loses_statements;
        if let (Some(statements), false) = (&mut self.statements, loses_statements.load(Ordering::Relaxed)) {
            match prepared(&mut self.client, statements, which) {
                Ok(statement) => {
                    let result = self.client.rows(begin, Query::Prepared(&statement), parameters, each);
                    match result {
                        Err(RowsError::Database(error)) if begin.is_some() && is_lost_statement(&error) => {
                            note_lost_statements(loses_statements, &error);
                        }
                        result => return result,
                    }
                }
                Err(error) if begin.is_some() && is_lost_statement(&error) => {
                    note_lost_statements(loses_statements, &error);
                }
                Err(error) => return Err(RowsError::Database(error)),
            }
        }
        self.client.rows(begin, Query::Text(which.text()), parameters, each)
    }

    /// The row of `scope.sql`. None: a name has a character that the encoding of the database lacks. One round trip,
    /// unless the schema has another version than this connection knows: the statement that fits shows it.
    fn try_look_up(&mut self, query: &ScopeQuery<'_>) -> Result<Option<ScopeRow>, DatabaseError> {
        let token = &query.token_sha256[..];
        let parameters: [Parameter<'_>; 5] = [
            (&token, Type::BYTEA),
            (&query.is_root, Type::BOOL),
            (&query.company, Type::TEXT),
            (&query.organization, Type::TEXT),
            (&query.folder, Type::TEXT),
        ];
        let mut found = None;
        let shared = self.shared.clone();
        let mut scope = |connection: &mut Self| {
            let which = if connection.has_schema_1 { Which::Scope1 } else { Which::Scope };
            connection.rows::<Infallible>(which, &parameters, &mut |row| {
                shared.is_adopted.store(row.try_get("is_adopted").unwrap_or(false), Ordering::Relaxed);
                found = Some((scope_row(&row), row.try_get("is_superseded").unwrap_or(false)));
                Ok(())
            })
        };
        let mut result = scope(self);
        let fits = match &result {
            Ok(()) => true,
            Err(RowsError::Database(error)) => self.has_schema_1 || error.code() != Some(&SqlState::UNDEFINED_TABLE),
            Err(RowsError::Receiver(never)) => match *never {},
        };
        if !fits {
            self.has_schema_1 = true;
            result = scope(self);
        }
        match result {
            Err(RowsError::Database(error)) if is_unencodable(&error) => return Ok(None),
            Err(RowsError::Database(error)) => return Err(classify(&error)),
            Err(RowsError::Receiver(never)) => match never {},
            Ok(()) => (),
        }
        let found = found.ok_or_else(|| DatabaseError::new(Internal, "scope.sql returned no row", ""))?;
        let (row, is_superseded) = found;
        if is_superseded && self.has_schema_1 {
            self.has_schema_1 = false;
            return self.try_look_up(query);
        }
        row.map(Some).map_err(|error| classify(&error))
    }

    /// A name, or one that does not exist if the encoding of the database lacks a character of it: nothing can have
    /// this name.
    fn encodable<'a>(&mut self, name: &'a str) -> Result<&'a str, DatabaseError> {
        let parameters: [Parameter<'_>; 1] = [(&name, Type::TEXT)];
        match self.client.rows::<Infallible>(None, Query::Text("select $1"), &parameters, &mut |_| Ok(())) {
            Err(RowsError::Database(error)) if is_unencodable(&error) => Ok(NO_NAME),
            Err(RowsError::Database(error)) => Err(classify(&error)),
            Err(RowsError::Receiver(never)) => match never {},
            Ok(()) => Ok(name),
        }
    }

    fn look_up_encodable(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        if let Some(row) = self.try_look_up(query)? {
            return Ok(row);
        }
        let query = ScopeQuery {
            token_sha256: query.token_sha256,
            is_root: query.is_root,
            company: self.encodable(query.company)?,
            organization: self.encodable(query.organization)?,
            folder: query.folder.map(|folder| self.encodable(folder)).transpose()?,
        };
        let row = self.try_look_up(&query)?;
        row.ok_or_else(|| DatabaseError::new(Internal, "the database cannot encode the names of a request", ""))
    }

    fn try_folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let parameters: [Parameter<'_>; 1] = [(&organization_id, Type::INT4)];
        let result = self.rows(Which::FolderNames, &parameters, &mut |row| {
            let (id, name) = folder_name(&row).map_err(|error| StreamError::Database(classify(&error)))?;
            each(id, name).map_err(StreamError::Receiver)
        });
        result.map_err(stream_error)
    }

    fn try_daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let is_adopted = self.shared.is_adopted.load(Ordering::Relaxed);
        let mut is_first = true;
        let result = self.daily_rows(is_adopted, scope, days, &mut |total| {
            is_first = false;
            each(total)
        });
        match result {
            // `adopt off` ran after scope.sql did.
            Err(RowsError::Database(error))
                if is_adopted
                    && is_first
                    && error.code() == Some(&SqlState::UNDEFINED_FUNCTION)
                    && !self.find_out_whether_adopted()? =>
            {
                self.daily_rows(false, scope, days, each).map_err(stream_error)
            }
            result => result.map_err(stream_error),
        }
    }

    fn daily_rows(
        &mut self,
        is_adopted: bool,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), RowsError<StreamError>> {
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&scope.organization_id, Type::INT4), (&days.first, Type::DATE), (&days.last, Type::DATE)];
        if let Some(folder_id) = &scope.folder_id {
            parameters.push((folder_id, Type::INT4));
        }
        if is_adopted {
            parameters.extend([UNUSED, UNUSED, UNUSED]);
        }
        let which = match (&scope.folder_id, is_adopted) {
            (None, false) => Which::OrganizationDays,
            (Some(_), false) => Which::FolderDays,
            (None, true) => Which::AdoptedOrganizationDays,
            (Some(_), true) => Which::AdoptedFolderDays,
        };
        self.rows(which, &parameters, &mut |row| {
            let total = daily_total(&row).map_err(|error| StreamError::Database(classify(&error)))?;
            each(total).map_err(StreamError::Receiver)
        })
    }

    fn find_out_whether_adopted(&mut self) -> Result<bool, DatabaseError> {
        let mut is_adopted = false;
        let result = self.client.rows::<Infallible>(None, Query::Text(IS_ADOPTED), &[], &mut |row| {
            is_adopted = row.try_get(0).unwrap_or(false);
            Ok(())
        });
        match result {
            Err(RowsError::Database(error)) => return Err(classify(&error)),
            Err(RowsError::Receiver(never)) => match never {},
            Ok(()) => (),
        }
        self.shared.is_adopted.store(is_adopted, Ordering::Relaxed);
        Ok(is_adopted)
    }

    /// Notes how a statement ended. Rows that nobody takes are still to come if the receiver failed.
    fn after<T>(&mut self, result: Result<T, StreamError>) -> Result<T, StreamError> {
        match &result {
            Err(StreamError::Database(error)) => {
                self.is_broken |= matches!(error.kind, ConnectionLost | Unavailable);
            }
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
        let result = self.look_up_encodable(query);
        self.is_broken |= matches!(&result, Err(error) if matches!(error.kind, ConnectionLost | Unavailable));
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
        let (token, was_cancelled) = (self.client.cancel_token(), self.was_cancelled.clone());
        let (shared, route) = (self.shared.clone(), self.route.clone());
        Box::new(move || {
            was_cancelled.store(true, Ordering::SeqCst);
            let cancelled = token.map_or(Ok(()), |token| shared.dialler.cancel(&route, &token));
            if let Err(error) = cancelled {
                log::warn!("cannot cancel the statement of a client that disconnected: {error}");
            }
        })
    }
}

/// The prepared statement. One round trip if it is not prepared yet.
fn prepared(client: &mut Client, statements: &mut Statements, which: Which) -> Result<Statement, postgres::Error> {
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

fn stream_error(error: RowsError<StreamError>) -> StreamError {
    match error {
        RowsError::Database(error) => classify(&error).into(),
        RowsError::Receiver(error) => error,
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
