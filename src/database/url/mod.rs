//! `DATABASE_URL` as libpq of PostgreSQL 18 reads it: options, what the environment and the service file add, and
//! defaults. Touches the service file, and the password file for each connection. `docs/database-url.md` has the table.

mod conninfo;
mod files;
mod options;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::config::ChannelBinding;
use values::Values;

/// Where Debian's PostgreSQL listens.
const DEFAULT_SOCKET_FOLDER: &str = "/var/run/postgresql";

/// Where the database is and how to get there.
#[derive(Debug, Clone, Default)]
pub struct DatabaseUrl {
    /// In the order of the connection string.
    pub hosts: Vec<Host>,
    pub user: String,
    pub dbname: String,
    pub password: Option<Secret>,
    /// The password file.
    pub passfile: Option<PathBuf>,
    /// Sent to the server as they are.
    pub options: Option<String>,
    pub application_name: Option<String>,
    /// None: not given, or no limit.
    pub connect_timeout: Option<Duration>,
    pub tcp: TcpOptions,
    pub target_session: TargetSession,
    /// Try hosts and their addresses in random order.
    pub balances_load: bool,
    /// None: `prefer`.
    pub channel_binding: Option<ChannelBinding>,
    /// The user that a server behind a Unix socket must run as.
    pub require_peer: Option<String>,
    pub tls: TlsOptions,
}

/// Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A server: the name to resolve and to verify, or the folder of a Unix socket; with its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Empty if only the address is given.
    pub name: String,
    /// Spares the look-up of the name: a numeric address, perhaps with an interface.
    pub address: Option<String>,
    pub port: u16,
}

impl Host {
    pub fn is_unix_socket(&self) -> bool {
        self.address.is_none() && self.name.starts_with(['/', '@'])
    }

    /// The host that a line of the password file names.
    fn in_password_file(&self) -> String {
        match &self.address {
            Some(address) if self.name.is_empty() => address.clone(),
            _ if self.name == DEFAULT_SOCKET_FOLDER => "localhost".into(),
            _ => self.name.clone(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            _ if self.is_unix_socket() => write!(f, "{}/.s.PGSQL.{}", self.name, self.port),
            Some(address) if self.name.is_empty() => write!(f, "{address} port {}", self.port),
            _ => write!(f, "{} port {}", self.name, self.port),
        }
    }
}

/// Options of TCP connections; None: ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpOptions {
    pub keepalives: Option<bool>,
    pub keepalives_idle: Option<u32>,
    pub keepalives_interval: Option<u32>,
    pub keepalives_count: Option<u32>,
    /// In milliseconds.
    pub user_timeout: Option<u32>,
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TargetSession {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Options of TLS. The files are read for each connection, so a replaced one counts from the next connection on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    pub mode: SslMode,
    /// TLS from the first byte on, without asking the server for it.
    pub is_direct: bool,
    pub root: RootCertificates,
    /// None with `sslcertmode=disable`.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<Secret>,
    pub revoked: Option<PathBuf>,
    pub revoked_folder: Option<PathBuf>,
    /// Do not send the name of the host.
    pub without_sni: bool,
    /// As libpq spells them; None: TLS 1.2, and no maximum.
    pub min_version: Option<&'static str>,
    pub max_version: Option<&'static str>,
}

/// `sslrootcert`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RootCertificates {
    /// Neither given nor in the home folder.
    #[default]
    None,
    /// Those of OpenSSL, which on Debian are those of the package ca-certificates.
    System,
    File(PathBuf),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    /// With what the environment of this process adds.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, &|name| std::env::var(name).ok())
    }
}

impl DatabaseUrl {
    /// Reads a connection string. The errors name options and hold no values.
    pub fn read(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        Values::read(text, environment)?.database_url()
    }

    /// The password for a host: that of the connection string, or the one of the password file.
    pub fn password_for(&self, host: &Host) -> Option<String> {
        match (&self.password, &self.passfile) {
            (Some(Secret(password)), _) if !password.is_empty() => Some(password.clone()),
            (_, Some(path)) => files::password(path, &host.in_password_file(), host.port, &self.dbname, &self.user),
            _ => None,
        }
    }

    /// Whether the operator's `options` set this parameter of the server.
    pub fn sets(&self, parameter: &str) -> bool {
        let words = self.options.iter().flat_map(|options| options.split_whitespace());
        words.map(|word| word.trim_start_matches("-c").trim_start_matches("--")).any(|word| {
            word.split_once('=').is_some_and(|(name, _)| name.replace('-', "_").eq_ignore_ascii_case(parameter))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DatabaseUrl, String> {
        DatabaseUrl::read(text, &|name| (name == "HOME").then(|| "/home/x".into()))
    }

    fn hosts(text: &str) -> Result<String, String> {
        Ok(read(text)?.hosts.iter().map(|host| format!("{host}; ")).collect())
    }

    #[test]
    fn hosts_are_lists() {
        for (text, expected) in [
            ("", "/var/run/postgresql/.s.PGSQL.5432; "),
            ("host=a,b port=1", "a port 1; b port 1; "),
            ("host=a,/b port=1,", "a port 1; /b/.s.PGSQL.5432; "),
            ("hostaddr=::1,127.0.0.1", "::1 port 5432; 127.0.0.1 port 5432; "),
            ("host=a hostaddr=::1", "a port 5432; "),
            ("postgresql://%2Frun:6432/db", "/run/.s.PGSQL.6432; "),
        ] {
            assert_eq!(hosts(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["host=a,b hostaddr=::1", "host=a port=1,2", "port=0", "port=65536", "port=x", "hostaddr=a"] {
            assert!(hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_adds_what_is_missing() {
        let environment = |name: &str| {
            let values =
                [("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "u"), ("PGSSLMODE", "require"), ("PGOPTIONS", "")];
            values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let url = DatabaseUrl::read("port=2", &environment).unwrap();
        assert_eq!((url.hosts[0].to_string().as_str(), url.user.as_str()), ("h port 2", "u"));
        assert_eq!((url.dbname.as_str(), url.tls.mode, url.options), ("u", SslMode::Require, None));
    }

    #[test]
    fn tls_is_as_libpq_has_it() {
        for (text, mode) in [
            ("", Some(SslMode::Prefer)),
            ("sslmode=verify-ca", Some(SslMode::VerifyCa)),
            ("sslrootcert=system", Some(SslMode::VerifyFull)),
            ("sslrootcert=system sslmode=require", None),
            ("sslnegotiation=direct", None),
            ("sslnegotiation=direct sslmode=require", Some(SslMode::Require)),
            ("sslmode=''", None),
            ("ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", None),
            ("gssencmode=require", None),
            ("gssencmode=prefer", Some(SslMode::Prefer)),
            ("replication=database", None),
            ("replication=off", Some(SslMode::Prefer)),
        ] {
            assert_eq!(read(text).ok().map(|url| url.tls.mode), mode, "{text}");
        }
    }

    #[test]
    fn invalid_options_are_named_without_their_value() {
        for text in [
            "host=x sslmode=s3cret",
            "connect_timeout=s3cret",
            "postgresql://h/db?bogus=s3cret",
            "require_auth=s3cret",
            "=s3cret",
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(!format!("{:?}", read("password=s3cret sslpassword=s3cret")).contains("s3cret"));
    }

    #[test]
    fn the_options_of_the_operator_are_known() {
        let url = read("options='-c jit=on --plan-cache-mode=auto -cwork_mem=1MB'").unwrap();
        assert!(url.sets("jit") && url.sets("plan_cache_mode") && url.sets("work_mem") && !url.sets("search_path"));
    }
}
