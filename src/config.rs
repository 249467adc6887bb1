//! The environment as a configuration; all that is wrong with it at once. Pure: variables come in through a function.

use crate::database_url::DatabaseUrl;
use crate::fastcgi::{AllowedPeers, Options};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What a worker needs to know. The variables are those of the contract, section 5.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`.
    pub database: DatabaseUrl,
    /// `CALLSTATS_DATABASE_PASSWORD_FILE`: read for each new connection.
    pub database_password_file: Option<PathBuf>,
    /// `CALLSTATS_ROOT_TOKEN_FILE`.
    pub root_token_file: PathBuf,
    /// `CALLSTATS_SOCKET`: where the worker listens, for `callstats check` alone.
    pub socket: Option<PathBuf>,
    /// `CALLSTATS_PREFIX`, without a slash at the end; empty for `/`.
    pub prefix: String,
    /// `CALLSTATS_DB_CONNECTIONS`: at most so many at once.
    pub db_connections: u32,
    /// `CALLSTATS_DB_WAIT_MS`: how long a request waits for a connection.
    pub db_wait: Duration,
    /// `CALLSTATS_STATEMENT_TIMEOUT_MS`.
    pub statement_timeout: Duration,
    /// `CALLSTATS_DRAIN_MS`: how long requests that were begun may take after SIGTERM.
    pub drain: Duration,
    /// `CALLSTATS_MAX_CONNECTIONS`, `CALLSTATS_MAX_PARAMS_BYTES`, `CALLSTATS_REQUEST_TIMEOUT_MS`,
    /// `CALLSTATS_SEND_TIMEOUT_MS`, `CALLSTATS_IDLE_TIMEOUT_MS` (0: no limit) and `FCGI_WEB_SERVER_ADDRS`.
    pub transport: Options,
}

/// Where a V-Spark installation keeps its root token.
const DEFAULT_ROOT_TOKEN_FILE: &str = "/opt/voci/state/vspark/apitoken";

impl Config {
    /// Reads the variables; an empty one counts as not set. The errors are sentences for the operator and hold no value
    /// that could be a secret.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let mut reader = Reader { variable, errors: &mut errors };
        let config = Self {
            database: reader.database(),
            database_password_file: reader.path("CALLSTATS_DATABASE_PASSWORD_FILE"),
            root_token_file: reader
                .path("CALLSTATS_ROOT_TOKEN_FILE")
                .unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT_TOKEN_FILE)),
            socket: reader.path("CALLSTATS_SOCKET"),
            prefix: reader.prefix(),
            db_connections: reader.number("CALLSTATS_DB_CONNECTIONS", 8, 1, 1000),
            db_wait: reader.milliseconds("CALLSTATS_DB_WAIT_MS", 2000, 1),
            statement_timeout: reader.milliseconds("CALLSTATS_STATEMENT_TIMEOUT_MS", 30_000, 1),
            drain: reader.milliseconds("CALLSTATS_DRAIN_MS", 5000, 0),
            transport: reader.transport(),
        };
        reader.log_filter();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }
}

struct Reader<'a, F> {
    variable: F,
    errors: &'a mut Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<'_, F> {
    fn text(&mut self, name: &str) -> Option<String> {
        match (self.variable)(name)?.into_string() {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(text),
            Err(_) => {
                self.errors.push(format!("{name} is not UTF-8: write it as UTF-8"));
                None
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn number(&mut self, name: &str, default: u32, least: u32, most: u32) -> u32 {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.errors.push(format!("{name} is {text:?}: give a whole number from {least} to {most}"));
                default
            }
        }
    }

    fn milliseconds(&mut self, name: &str, default: u32, least: u32) -> Duration {
        // PostgreSQL takes its timeouts as 32-bit numbers.
        Duration::from_millis(self.number(name, default, least, i32::MAX as u32).into())
    }

    fn transport(&mut self) -> Options {
        let idle = self.milliseconds("CALLSTATS_IDLE_TIMEOUT_MS", 0, 0);
        Options {
            max_connections: self.number("CALLSTATS_MAX_CONNECTIONS", 10_000, 1, 1_000_000) as usize,
            max_params_bytes: self.number("CALLSTATS_MAX_PARAMS_BYTES", 1024 * 1024, 1024, 1 << 30) as usize,
            request_timeout: self.milliseconds("CALLSTATS_REQUEST_TIMEOUT_MS", 30_000, 1),
            send_timeout: self.milliseconds("CALLSTATS_SEND_TIMEOUT_MS", 60_000, 1),
            idle_timeout: Some(idle).filter(|idle| !idle.is_zero()),
            allowed_peers: self.allowed_peers(),
            ..Options::default()
        }
    }

    fn allowed_peers(&mut self) -> AllowedPeers {
        let text = self.text("FCGI_WEB_SERVER_ADDRS").unwrap_or_default();
        text.parse().unwrap_or_else(|error: <AllowedPeers as std::str::FromStr>::Err| {
            self.errors.push(error.to_string());
            AllowedPeers::all()
        })
    }

    fn prefix(&mut self) -> String {
        let prefix = self.text("CALLSTATS_PREFIX").unwrap_or_else(|| "/stats".into());
        if prefix == "/" {
            return String::new();
        }
        let is_path = prefix.starts_with('/') && !prefix.split('/').skip(1).any(str::is_empty);
        if !is_path || prefix.contains(['?', '#', '%']) || prefix.contains(char::is_control) {
            self.errors.push(format!(
                "CALLSTATS_PREFIX is {prefix:?}: give a path that starts with a slash and does not end in one, \
                 not percent-encoded, such as /stats"
            ));
        }
        prefix
    }

    fn database(&mut self) -> DatabaseUrl {
        let Some(url) = self.text("DATABASE_URL") else {
            self.errors.push(
                "DATABASE_URL is not set: give a libpq URI or key=value pairs, such as \
                 postgresql://callstats_worker@db.example/calls"
                    .into(),
            );
            return DatabaseUrl::default();
        };
        url.parse().unwrap_or_else(|error| {
            self.errors.push(format!("DATABASE_URL cannot be read: {error}"));
            DatabaseUrl::default()
        })
    }

    fn log_filter(&mut self) {
        if let Some(Err(error)) =
            self.text("RUST_LOG").map(|text| env_filter::Builder::new().try_parse(&text).map(|_| ()))
        {
            self.errors.push(format!("RUST_LOG cannot be read: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        Config::from_env(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = config(&[("DATABASE_URL", "host=/run/postgresql"), ("CALLSTATS_DRAIN_MS", "")]).unwrap();
        assert_eq!(config.root_token_file.to_str(), Some("/opt/voci/state/vspark/apitoken"));
        assert_eq!((config.prefix.as_str(), config.db_connections), ("/stats", 8));
        assert_eq!((config.db_wait.as_millis(), config.statement_timeout.as_millis()), (2000, 30_000));
        assert_eq!(config.drain.as_millis(), 5000);
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
            ("CALLSTATS_DB_CONNECTIONS", "0"),
            ("CALLSTATS_DB_WAIT_MS", "2s"),
            ("CALLSTATS_STATEMENT_TIMEOUT_MS", "-1"),
            ("CALLSTATS_MAX_CONNECTIONS", "0"),
            ("CALLSTATS_MAX_PARAMS_BYTES", "1M"),
            ("CALLSTATS_REQUEST_TIMEOUT_MS", "0"),
            ("CALLSTATS_SEND_TIMEOUT_MS", "0"),
            ("CALLSTATS_IDLE_TIMEOUT_MS", "never"),
            ("FCGI_WEB_SERVER_ADDRS", "127.0.0.1, localhost"),
            ("RUST_LOG", "callstats=loud"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 12, "{errors:?}");
        assert!(!errors.concat().contains("pa55word"));
        assert!(config(&[]).unwrap_err()[0].starts_with("DATABASE_URL is not set"));
    }

    #[test]
    fn a_prefix_is_a_path() {
        for (text, prefix) in [("/", Some("")), ("/a/b", Some("/a/b")), ("/a/", None), ("//", None), ("/a?b", None)] {
            let read = config(&[("DATABASE_URL", "host=x"), ("CALLSTATS_PREFIX", text)]);
            assert_eq!(read.ok().map(|config| config.prefix).as_deref(), prefix, "{text}");
        }
    }
}
