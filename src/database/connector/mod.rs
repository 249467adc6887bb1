//! Opens connections with the operator's settings. Touches the network, the password file and certificates.

mod operator;

use crate::database::connection::{Connection, Shared};
use crate::database::dial::Dialler;
use crate::database::tls;
use crate::database::url::{DatabaseUrl, SslMode};
use crate::store::DatabaseErrorKind::Unavailable;
use crate::store::{self, Asker, DatabaseError, Session, Store};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The least time that a server has for the statement that looks up who may ask what, which takes a millisecond.
const SCOPE_PATIENCE: Duration = Duration::from_secs(1);
/// The time that a server has, beyond the statement timeout, to report that it kept to it.
const ROWS_PATIENCE: Duration = Duration::from_secs(5);

/// The operator's settings for the database.
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
pub struct Connector {
    shared: Arc<Shared>,
    password_file: Option<PathBuf>,
    /// The key of a digest.
    random: RandomState,
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
        let shared = Shared {
            dialler: Dialler::new(url.clone(), settings.wait),
            for_session: format!("select {read_only}, {session}"),
            for_transaction: format!("begin read only; select {}", set_config(url, settings.statement_timeout, true)),
            loses_statements: AtomicBool::new(false),
            is_adopted: AtomicBool::new(false),
            patience: [
                Some(settings.wait.max(SCOPE_PATIENCE)),
                // The server keeps to the timeout, and answers that it did.
                (!settings.statement_timeout.is_zero()).then(|| settings.statement_timeout + ROWS_PATIENCE),
            ],
        };
        Ok(Self { shared: Arc::new(shared), password_file: settings.password_file.clone(), random: RandomState::new() })
    }

    /// The password that a new connection is opened with, if CALLSTATS_DATABASE_PASSWORD_FILE is set.
    fn password(&self) -> Result<Option<String>, DatabaseError> {
        let Some(path) = &self.password_file else { return Ok(None) };
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
        let files = [&self.password_file, &self.shared.dialler.url().passfile];
        let contents = files.map(|file| file.as_ref().and_then(|path| std::fs::read(path).ok()));
        self.random.hash_one(contents)
    }

    /// A new connection. It is good for one request unless it is warmed up.
    pub fn connect(&self) -> Result<Connection, DatabaseError> {
        let (client, route) = self.shared.dialler.dial(self.password()?.as_deref())?;
        Ok(Connection::new(client, route, self.shared.clone()))
    }
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
