//! PostgreSQL: connections, statements, limits of time, and what its errors mean. Touches the network.

use crate::access::{Found, Organization, Scope};
use crate::answer::{GroupsError, Question, Session, Store};
use crate::config::Config;
use crate::date_range::Days;
use crate::error::DatabaseError;
use crate::report::Group;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{Client, NoTls, Row, RowIter, Statement};
use rustix::io::Errno;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_postgres_rustls::MakeRustlsConnect;

const SCOPE: &str = include_str!("sql/scope.sql");
pub(crate) const ORGANIZATION_DAYS: &str = include_str!("sql/organization_days.sql");
const FOLDER_DAYS: &str = include_str!("sql/folder_days.sql");

/// Opens connections as this service needs them.
#[derive(Clone)]
pub struct Connector {
    config: postgres::Config,
    password_file: Option<PathBuf>,
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
        // Planning costs more than a day's query, compiling it far more: unless the operator's options say otherwise. And
        // nothing here may ever write.
        let settings = format!(
            "-c plan_cache_mode=force_generic_plan -c jit=off {} -c default_transaction_read_only=on \
             -c statement_timeout={}",
            database.get_options().unwrap_or_default(),
            config.statement_timeout.as_millis()
        );
        database.options(&settings);
        // A host that is gone without a word is noticed in about a minute rather than in hours.
        database.keepalives_idle(Duration::from_secs(30));
        database.keepalives_interval(Duration::from_secs(10));
        database.keepalives_retries(3);
        database.tcp_user_timeout(Duration::from_secs(60));
        Ok(Self { config: database, password_file: config.database_password_file.clone(), tls })
    }

    /// One new connection, bare.
    pub fn client(&self) -> Result<Client, DatabaseError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let password = std::fs::read_to_string(path).map_err(|error| {
                let name = path.display();
                DatabaseError::Unavailable(format!(
                    "cannot read the password file {name}: {error}: correct CALLSTATS_DATABASE_PASSWORD_FILE"
                ))
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        // Without a descriptor for its runtime the crate panics. In a thread of the pool that would cost a connection for
        // good: the pool would wait for it for ever.
        let client = catch_unwind(AssertUnwindSafe(|| match &self.tls {
            None => config.connect(NoTls),
            Some(tls) => config.connect(tls.clone()),
        }));
        let client = client.map_err(|_| no_descriptor())?;
        client.map_err(|error| unreachable(&error))
    }

    /// One new connection, for one request unless it is warmed up.
    pub fn connect(&self) -> Result<Connection, DatabaseError> {
        Ok(Connection {
            client: self.client()?,
            tls: self.tls.clone(),
            statements: None,
            last_used: Instant::now(),
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
    /// Where it is there for many requests.
    statements: Option<Statements>,
    last_used: Instant,
    is_spent: bool,
}

#[derive(Default)]
struct Statements {
    scope: Option<Statement>,
    organization_days: Option<Statement>,
    folder_days: Option<Statement>,
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Connection {
    /// Prepares all statements and runs each once with nothing to find, so that no request pays for planning.
    pub fn warm_up(&mut self) -> Result<(), DatabaseError> {
        self.statements = Some(Statements::default());
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

    /// Whether it was left in the middle of an answer, or closed, and is of no more use.
    pub fn is_spent(&self) -> bool {
        self.is_spent || self.client.is_closed()
    }

    /// When it last did its work.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Asks the server for a sign of life. One round trip.
    pub fn verify(&mut self, limit: Duration) -> Result<(), DatabaseError> {
        let verified = self.client.is_valid(limit);
        self.is_spent |= verified.is_err();
        self.last_used = Instant::now();
        verified.map_err(|error| DatabaseError::Lost(format!("the database does not answer: {}", explained(&error))))
    }

    fn find_once(&mut self, question: &Question<'_>) -> Result<Found, DatabaseError> {
        let token = &question.token_sha256[..];
        let parameters: [Parameter<'_>; 5] = [
            (&token, Type::BYTEA),
            (&question.is_root, Type::BOOL),
            (&question.company, Type::TEXT),
            (&question.organization, Type::TEXT),
            (&question.folder, Type::TEXT),
        ];
        let kept = self.statements.as_mut().map(|kept| &mut kept.scope);
        let mut rows = rows(&mut self.client, kept, SCOPE, &parameters)?;
        let row = rows.next().map_err(|error| meaning(&error))?;
        let row = row.ok_or_else(|| DatabaseError::Fault("the statement scope.sql gave no row".into()))?;
        found(&row).map_err(|error| meaning(&error))
    }

    fn groups_once(
        &mut self,
        scope: &Scope,
        days: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError> {
        let organization = scope.organization.id;
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&organization, Type::INT4), (&days.first, Type::DATE), (&days.last, Type::DATE)];
        let kept = self.statements.as_mut();
        let (kept, text) = match &scope.only_folder {
            None => (kept.map(|kept| &mut kept.organization_days), ORGANIZATION_DAYS),
            Some(folder) => {
                parameters.push((folder, Type::INT4));
                (kept.map(|kept| &mut kept.folder_days), FOLDER_DAYS)
            }
        };
        let canceller = self.client.cancel_token();
        let mut rows = rows(&mut self.client, kept, text, &parameters)?;
        while let Some(row) = rows.next().map_err(|error| meaning(&error))? {
            if let Err(gone) = each(group(&row).map_err(|error| meaning(&error))?) {
                self.is_spent = true; // rows of no use are still to come
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

impl Session for Connection {
    fn find(&mut self, question: &Question<'_>) -> Result<Found, DatabaseError> {
        let result = self.find_once(question);
        self.is_spent |= matches!(result, Err(DatabaseError::Lost(_)));
        self.last_used = Instant::now();
        result
    }

    fn groups(
        &mut self,
        scope: &Scope,
        days: Days,
        each: &mut dyn FnMut(Group<'_>) -> io::Result<()>,
    ) -> Result<(), GroupsError> {
        let result = self.groups_once(scope, days, each);
        self.is_spent |= matches!(result, Err(GroupsError::Database(DatabaseError::Lost(_))));
        self.last_used = Instant::now();
        result
    }
}

/// Runs a statement that returns rows as they come: one round trip, and where it is kept but not prepared yet, another.
fn rows<'a>(
    client: &'a mut Client,
    kept: Option<&mut Option<Statement>>,
    text: &str,
    parameters: &[Parameter<'_>],
) -> Result<RowIter<'a>, DatabaseError> {
    let rows = match kept {
        None => client.query_typed_raw(text, parameters.iter().cloned()),
        Some(kept) => {
            let statement = match kept {
                Some(statement) => statement,
                None => kept.insert(client.prepare(text).map_err(|error| meaning(&error))?),
            };
            client.query_raw(&*statement, parameters.iter().map(|(value, _)| *value))
        }
    };
    rows.map_err(|error| meaning(&error))
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
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if matches!(cause.and_then(Errno::from_io_error), Some(Errno::MFILE | Errno::NFILE)) {
        return no_descriptor();
    }
    match meaning(error) {
        DatabaseError::Fault(_) | DatabaseError::Lost(_) if error.code().is_none() => cannot_be_reached(error),
        DatabaseError::Lost(text) => DatabaseError::Unavailable(text),
        other => other,
    }
}

fn no_descriptor() -> DatabaseError {
    DatabaseError::NoDescriptor("no descriptor is left for a connection: raise the limit of open files".into())
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
