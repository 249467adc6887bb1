//! The environment as a configuration, or all of its errors at once. Variables come in through a function. Touches the
//! service file of libpq and the names of users, through [`DatabaseUrl`].
//!
//! [`VARIABLES`] is the one list of variables: `--help` prints it, and a test compares the manual page, the env file
//! and the documentation with it.

pub mod listen;

use crate::api::cgi::PathSource;
use crate::api::date_range::OpenRange;
use crate::database::{DatabaseUrl, Settings};
use fastcgi::{AllowedPeers, InvalidPeers, Options};
use listen::SocketAccess;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A variable of the environment.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    pub name: &'static str,
    /// Empty: none.
    pub default: &'static str,
    pub summary: &'static str,
}

const fn variable(name: &'static str, default: &'static str, summary: &'static str) -> Variable {
    Variable { name, default, summary }
}

/// All variables, in the order in which an operator meets them.
pub const VARIABLES: &[Variable] = &[
    variable("DATABASE_URL", "", "libpq URI or key=value pairs"),
    variable("CALLSTATS_DATABASE_PASSWORD_FILE", "", "file with the database password"),
    variable("CALLSTATS_ROOT_TOKEN_FILE", "/opt/voci/state/vspark/apitoken", "file with the root token"),
    variable("CALLSTATS_PREFIX", "/stats", "path before the company"),
    variable("CALLSTATS_PATH_SOURCE", "request-uri", "where the path is: request-uri, or path-info if rewritten"),
    variable("CALLSTATS_OPEN_RANGE", "day", "open end of a date range: day or unbounded"),
    variable("CALLSTATS_DB_CONNECTIONS", "8", "limit of database connections"),
    variable("CALLSTATS_DB_WAIT_MS", "2000", "how long a request waits for a database connection"),
    variable("CALLSTATS_STATEMENT_TIMEOUT_MS", "30000", "statement timeout in milliseconds"),
    variable("CALLSTATS_DB_LIFETIME_MS", "1800000", "when a database connection is replaced"),
    variable("CALLSTATS_DRAIN_MS", "5000", "grace period for requests in flight after SIGTERM"),
    variable("CALLSTATS_MAX_CONNECTIONS", "10000", "limit of connections from web servers, each with a thread"),
    variable("CALLSTATS_MAX_PARAMS_BYTES", "1048576", "limit of the parameters of a request"),
    variable("CALLSTATS_REQUEST_TIMEOUT_MS", "30000", "how long a request may take to arrive"),
    variable("CALLSTATS_SEND_TIMEOUT_MS", "60000", "how long a web server may read nothing of a response"),
    variable("CALLSTATS_IDLE_TIMEOUT_MS", "0", "how long a kept connection may be idle; 0: no limit"),
    variable("FCGI_WEB_SERVER_ADDRS", "", "addresses that may connect over TCP; empty: all"),
    variable("CALLSTATS_SPOOL_DIR", "/var/tmp", "folder for responses that wait for slow clients"),
    variable("CALLSTATS_SPOOL_MAX_BYTES", "1073741824", "limit of all of them together"),
    variable("CALLSTATS_LISTEN_MODE", "0660", "mode of the socket of `callstats --listen /path`"),
    variable("CALLSTATS_LISTEN_GROUP", "", "its group; empty: that of the worker"),
    variable("CALLSTATS_SOCKET", "", "where the worker listens; used by `callstats check` only"),
    variable("RUST_LOG", "info", "log filter; warn omits requests that succeeded"),
];

/// The name that is most like a misspelled one.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> &'static str {
    known.min_by_key(|known| edit_distance(name, known)).unwrap_or_default()
}

/// The variable whose name is most like this one.
pub fn nearest_variable(name: &str) -> &'static str {
    nearest(name, VARIABLES.iter().map(|variable| variable.name))
}

/// The number of letters to insert, delete or replace (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// What a worker needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL` and the variables for its connections.
    pub database: Settings,
    /// `CALLSTATS_ROOT_TOKEN_FILE`.
    pub root_token_file: PathBuf,
    /// `CALLSTATS_LISTEN_MODE` and `CALLSTATS_LISTEN_GROUP`.
    pub socket_access: SocketAccess,
    /// `CALLSTATS_SOCKET`.
    pub socket: Option<PathBuf>,
    /// `CALLSTATS_PREFIX`, without a slash at the end; empty for `/`.
    pub prefix: String,
    /// `CALLSTATS_PATH_SOURCE`.
    pub path_source: PathSource,
    /// `CALLSTATS_OPEN_RANGE`.
    pub open_range: OpenRange,
    /// `CALLSTATS_DRAIN_MS`.
    pub drain: Duration,
    /// `CALLSTATS_MAX_CONNECTIONS`, `CALLSTATS_MAX_PARAMS_BYTES`, `CALLSTATS_REQUEST_TIMEOUT_MS`,
    /// `CALLSTATS_SEND_TIMEOUT_MS`, `CALLSTATS_IDLE_TIMEOUT_MS` and `FCGI_WEB_SERVER_ADDRS`.
    pub transport: Options,
    /// `CALLSTATS_SPOOL_DIR`.
    pub spool_dir: PathBuf,
    /// `CALLSTATS_SPOOL_MAX_BYTES`.
    pub spool_max_bytes: u64,
}

impl Config {
    /// Reads the variables; an empty one counts as not set. The errors are sentences for the operator and contain no
    /// value that could be a secret.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let mut env = Env { variable, errors: &mut errors };
        let config = Self {
            database: Settings {
                url: env.database(),
                password_file: env.path("CALLSTATS_DATABASE_PASSWORD_FILE"),
                connections: env.number("CALLSTATS_DB_CONNECTIONS", 1, 1000),
                wait: env.milliseconds("CALLSTATS_DB_WAIT_MS", 1),
                statement_timeout: env.milliseconds("CALLSTATS_STATEMENT_TIMEOUT_MS", 1),
                lifetime: env.milliseconds("CALLSTATS_DB_LIFETIME_MS", 1),
            },
            root_token_file: env.path_or_default("CALLSTATS_ROOT_TOKEN_FILE"),
            socket_access: env.socket_access(),
            socket: env.path("CALLSTATS_SOCKET"),
            prefix: env.prefix(),
            path_source: env.path_source(),
            open_range: env.open_range(),
            drain: env.milliseconds("CALLSTATS_DRAIN_MS", 0),
            transport: env.transport(),
            spool_dir: env.path_or_default("CALLSTATS_SPOOL_DIR"),
            spool_max_bytes: env.number("CALLSTATS_SPOOL_MAX_BYTES", 0, u64::MAX),
        };
        env.log_filter();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }
}

/// The default of a variable.
fn default_of(name: &str) -> &'static str {
    VARIABLES.iter().find(|variable| variable.name == name).map_or("", |variable| variable.default)
}

struct Env<'a, F> {
    variable: F,
    errors: &'a mut Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Env<'_, F> {
    /// The value, or the default.
    fn text(&mut self, name: &str) -> String {
        match (self.variable)(name).map(OsString::into_string) {
            Some(Ok(text)) if !text.is_empty() => text,
            Some(Err(_)) => {
                self.errors.push(format!("{name} is not UTF-8. Hint: write it in UTF-8"));
                default_of(name).to_owned()
            }
            _ => default_of(name).to_owned(),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn path_or_default(&self, name: &str) -> PathBuf {
        self.path(name).unwrap_or_else(|| PathBuf::from(default_of(name)))
    }

    fn number<N: TryFrom<u64> + Default>(&mut self, name: &str, least: u64, most: u64) -> N {
        let text = self.text(name);
        let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
        number.and_then(|number| N::try_from(number).ok()).unwrap_or_else(|| {
            self.errors.push(format!("{name} is {text:?}. Hint: use a whole number from {least} to {most}"));
            N::default()
        })
    }

    fn milliseconds(&mut self, name: &str, least: u64) -> Duration {
        // PostgreSQL takes its timeouts as signed 32-bit numbers.
        Duration::from_millis(self.number(name, least, i32::MAX.unsigned_abs().into()))
    }

    fn transport(&mut self) -> Options {
        let idle = self.milliseconds("CALLSTATS_IDLE_TIMEOUT_MS", 0);
        Options {
            max_connections: self.number("CALLSTATS_MAX_CONNECTIONS", 1, 1_000_000),
            max_params_bytes: self.number("CALLSTATS_MAX_PARAMS_BYTES", 1024, 1 << 30),
            request_timeout: self.milliseconds("CALLSTATS_REQUEST_TIMEOUT_MS", 1),
            send_timeout: self.milliseconds("CALLSTATS_SEND_TIMEOUT_MS", 1),
            idle_timeout: Some(idle).filter(|idle| !idle.is_zero()),
            allowed_peers: self.allowed_peers(),
            ..Options::default()
        }
    }

    fn allowed_peers(&mut self) -> AllowedPeers {
        self.text("FCGI_WEB_SERVER_ADDRS").parse().unwrap_or_else(|error: InvalidPeers| {
            self.errors.push(error.to_string());
            AllowedPeers::all()
        })
    }

    fn socket_access(&mut self) -> SocketAccess {
        let text = self.text("CALLSTATS_LISTEN_MODE");
        let mode = listen::parse_mode(&text);
        if mode.is_none() {
            self.errors.push(format!("CALLSTATS_LISTEN_MODE is {text:?}. Hint: use an octal mode such as 0660"));
        }
        let group = Some(self.text("CALLSTATS_LISTEN_GROUP")).filter(|group| !group.is_empty());
        SocketAccess { mode, group }
    }

    fn prefix(&mut self) -> String {
        let prefix = self.text("CALLSTATS_PREFIX");
        if prefix == "/" {
            return String::new();
        }
        let is_path = prefix.starts_with('/') && !prefix.split('/').skip(1).any(str::is_empty);
        if !is_path || prefix.contains(['?', '#', '%']) || prefix.contains(char::is_control) {
            self.errors.push(format!(
                "CALLSTATS_PREFIX is {prefix:?}. Hint: use a path that starts with a slash and does not end in one, \
                 not percent-encoded, such as /stats"
            ));
        }
        prefix
    }

    fn path_source(&mut self) -> PathSource {
        let text = self.text("CALLSTATS_PATH_SOURCE");
        PathSource::parse(&text).unwrap_or_else(|| {
            self.errors.push(format!("CALLSTATS_PATH_SOURCE is {text:?}. Hint: use request-uri or path-info"));
            PathSource::default()
        })
    }

    fn open_range(&mut self) -> OpenRange {
        let text = self.text("CALLSTATS_OPEN_RANGE");
        OpenRange::parse(&text).unwrap_or_else(|| {
            self.errors.push(format!("CALLSTATS_OPEN_RANGE is {text:?}. Hint: use day or unbounded"));
            OpenRange::default()
        })
    }

    fn database(&mut self) -> DatabaseUrl {
        let url = self.text("DATABASE_URL");
        if url.is_empty() {
            self.errors.push(
                "DATABASE_URL is not set. Hint: use a libpq URI or key=value pairs, such as \
                 postgresql://callstats_worker@db.example/calls"
                    .into(),
            );
            return DatabaseUrl::default();
        }
        let read = DatabaseUrl::read(&url, &|name| (self.variable)(name).and_then(|value| value.into_string().ok()));
        read.unwrap_or_else(|error| {
            self.errors.push(format!("DATABASE_URL is invalid: {error}"));
            DatabaseUrl::default()
        })
    }

    fn log_filter(&mut self) {
        let filter = self.text("RUST_LOG");
        self.errors.extend(check_log_filter(&filter).err());
    }
}

/// Whether a value of `RUST_LOG` can be used: it hides no error.
pub fn check_log_filter(filter: &str) -> Result<(), String> {
    let parsed = env_filter::Builder::new().try_parse(filter).map(env_filter::Builder::build);
    let parsed = parsed.map_err(|error| format!("RUST_LOG is invalid: {error}"))?;
    let (directives, pattern) = filter.split_once('/').unwrap_or((filter, ""));
    let is_off = |directive: &str| {
        let (target, level) = directive.split_once('=').unwrap_or(("", directive));
        let is_ours = ["", "callstats", "fastcgi"].contains(&target.trim().split("::").next().unwrap_or_default());
        is_ours && level.trim().eq_ignore_ascii_case("off")
    };
    // A word that is no level is taken for the name of a module, and all others fall silent.
    if !pattern.is_empty() || directives.split(',').any(is_off) || !shows_errors(&parsed) {
        return Err("RUST_LOG would hide errors. Hint: use error, warn, info, debug or trace".into());
    }
    Ok(())
}

/// Whether errors of callstats are logged.
fn shows_errors(filter: &env_filter::Filter) -> bool {
    ["callstats", "callstats::database::pool"]
        .iter()
        .all(|target| filter.enabled(&log::Metadata::builder().target(target).level(log::Level::Error).build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        Config::from_env(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = config(&[("DATABASE_URL", "host=/run/postgresql"), ("CALLSTATS_DRAIN_MS", "")]).unwrap();
        assert_eq!(config.root_token_file.to_str(), Some("/opt/voci/state/vspark/apitoken"));
        assert_eq!((config.prefix.as_str(), config.database.connections), ("/stats", 8));
        assert_eq!((config.database.wait.as_millis(), config.database.statement_timeout.as_millis()), (2000, 30_000));
        assert_eq!(config.drain.as_millis(), 5000);
        assert_eq!(config.open_range, OpenRange::Day);
        let transport = config.transport;
        assert_eq!((transport.max_connections, transport.max_params_bytes), (10_000, 1_048_576));
        assert_eq!((transport.request_timeout.as_secs(), transport.send_timeout.as_secs()), (30, 60));
        assert_eq!(transport.idle_timeout, None);
    }

    #[test]
    fn an_idle_timeout_of_zero_is_none() {
        for (text, timeout) in [("0", None), ("1500", Some(Duration::from_millis(1500)))] {
            let read = config(&[("DATABASE_URL", "host=x"), ("CALLSTATS_IDLE_TIMEOUT_MS", text)]);
            assert_eq!(read.unwrap().transport.idle_timeout, timeout);
        }
    }

    #[test]
    fn all_wrong_values_are_reported_together() {
        let errors = config(&[
            ("DATABASE_URL", "postgresql://u:pa55word@h/db?bogus=1"),
            ("CALLSTATS_PREFIX", "stats/"),
            ("CALLSTATS_PATH_SOURCE", "uri"),
            ("CALLSTATS_OPEN_RANGE", "open"),
            ("CALLSTATS_DB_CONNECTIONS", "0"),
            ("CALLSTATS_DB_WAIT_MS", "2s"),
            ("CALLSTATS_STATEMENT_TIMEOUT_MS", "-1"),
            ("CALLSTATS_MAX_CONNECTIONS", "0"),
            ("CALLSTATS_MAX_PARAMS_BYTES", "1M"),
            ("CALLSTATS_REQUEST_TIMEOUT_MS", "0"),
            ("CALLSTATS_SEND_TIMEOUT_MS", "0"),
            ("CALLSTATS_IDLE_TIMEOUT_MS", "never"),
            ("FCGI_WEB_SERVER_ADDRS", "127.0.0.1, localhost"),
            ("CALLSTATS_LISTEN_MODE", "rw"),
            ("RUST_LOG", "callstats=loud"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 15, "{errors:?}");
        assert!(!errors.concat().contains("pa55word"));
        assert!(config(&[]).unwrap_err()[0].starts_with("DATABASE_URL is not set"));
    }

    #[test]
    fn a_filter_shows_errors() {
        for (filter, is_good) in [
            ("info", true),
            ("error", true),
            ("callstats=warn", true),
            ("verbose", false),
            ("2", false),
            ("off", false),
            ("postgres=debug", false),
            ("info,callstats=off", false),
            ("info,callstats::server::worker=OFF", false),
            ("info, fastcgi = off", false),
            ("info,postgres=off", true),
            ("info/pattern", false),
        ] {
            let read = config(&[("DATABASE_URL", "host=x user=y"), ("RUST_LOG", filter)]);
            assert_eq!(read.is_ok(), is_good, "{filter}");
        }
    }

    #[test]
    fn a_misspelled_variable_has_a_nearest_one() {
        assert_eq!(nearest_variable("CALLSTATS_DB_CONECTIONS"), "CALLSTATS_DB_CONNECTIONS");
        assert_eq!(nearest_variable("CALLSTATS_PREFFIX"), "CALLSTATS_PREFIX");
    }

    #[test]
    fn a_prefix_is_a_path() {
        for (text, prefix) in [("/", Some("")), ("/a/b", Some("/a/b")), ("/a/", None), ("//", None), ("/a?b", None)] {
            let read = config(&[("DATABASE_URL", "host=x"), ("CALLSTATS_PREFIX", text)]);
            assert_eq!(read.ok().map(|config| config.prefix).as_deref(), prefix, "{text}");
        }
    }
}
