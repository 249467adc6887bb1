//! `DATABASE_URL` as libpq of PostgreSQL 18 reads it: options, what the environment and the service file add, and
//! defaults. Touches the service file, and the password file for each connection. `docs/database-url.md` has the table.

pub mod conninfo;
mod files;
mod options;

use conninfo::Pairs;
use options::{OPTIONS, Use};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::config::ChannelBinding;

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
    /// Spares the look-up of the name.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Host {
    pub fn is_unix_socket(&self) -> bool {
        self.address.is_none() && self.name.starts_with(['/', '@'])
    }

    /// The host that a line of the password file names.
    fn in_password_file(&self) -> String {
        match self.address {
            Some(address) if self.name.is_empty() => address.to_string(),
            _ if self.name == DEFAULT_SOCKET_FOLDER => "localhost".into(),
            _ => self.name.clone(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
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

/// The values of all options, after what adds to the connection string.
struct Values<'a> {
    pairs: Pairs,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Values<'a> {
    fn read(text: &str, environment: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut values = Self { pairs: Vec::new(), environment };
        for (name, value) in conninfo::parse(text)? {
            values.set(name, value)?;
        }
        let env = |name: &str| environment(name).filter(|value| !value.is_empty());
        if let Some(service) = values.get("service").map(str::to_owned).or_else(|| env("PGSERVICE")) {
            let given = values.get("servicefile").map(str::to_owned).or_else(|| env("PGSERVICEFILE"));
            let of_user = given.map(PathBuf::from).or_else(|| values.in_home(".pg_service.conf"));
            let folder = env("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".into());
            let files: Vec<_> = of_user.into_iter().chain([PathBuf::from(folder).join("pg_service.conf")]).collect();
            for (name, value) in files::service(&service, &files)? {
                if values.get(&name).is_none() {
                    values.set(name, value)?;
                }
            }
        }
        for option in OPTIONS.iter().filter(|option| !option.variable.is_empty()) {
            if let (None, Some(value)) = (values.get(option.name), env(option.variable)) {
                values.set(option.name.into(), value).map_err(|error| format!("{}: {error}", option.variable))?;
            }
        }
        if values.get("sslmode").is_none() && env("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
            values.set("sslmode".into(), "require".into())?;
        }
        Ok(values)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value, unless it is empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    fn set(&mut self, name: String, value: String) -> Result<(), String> {
        let option = OPTIONS.iter().find(|option| option.name == name);
        let option = option.ok_or_else(|| format!("{} is no option of libpq", options::shown(&name)))?;
        match option.usage {
            Use::Refused(is_harmless, reason) if !is_harmless(&value) => {
                return Err(format!("{name} is not supported: {reason}"));
            }
            _ => (),
        }
        self.pairs.retain(|(key, _)| *key != name);
        self.pairs.push((name, value));
        Ok(())
    }

    fn in_home(&self, name: &str) -> Option<PathBuf> {
        let home = (self.environment)("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let home =
            home.or_else(|| nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir));
        home.map(|home| home.join(name))
    }

    /// The path of an option, or the one that libpq looks for in the home folder.
    fn file(&self, name: &str, in_home: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from).or_else(|| self.in_home(in_home))
    }

    fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let chosen = choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen);
        let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        chosen.map(Some).ok_or_else(|| format!("{name} is none of {}", names.join(", ")))
    }

    fn integer(&self, name: &str) -> Result<Option<i32>, String> {
        let number = self.get(name).map(|value| value.trim().parse::<i32>());
        number.transpose().map_err(|_| format!("{name} is not a whole number"))
    }

    /// Zero and less: the default.
    fn positive(&self, name: &str) -> Result<Option<u32>, String> {
        Ok(self.integer(name)?.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
    }

    fn database_url(&self) -> Result<DatabaseUrl, String> {
        let tls = self.tls()?;
        let user = match self.text("user") {
            Some(user) => user.to_owned(),
            None => {
                let uid = nix::unistd::geteuid();
                let user = nix::unistd::User::from_uid(uid).ok().flatten();
                user.ok_or_else(|| format!("it has no user, and user id {uid} has no name. Hint: give user="))?.name
            }
        };
        self.choice("sslcompression", &[("0", ()), ("1", ())])?;
        self.choice("gssencmode", &[("disable", ()), ("prefer", ()), ("require", ())])?;
        self.choice("gssdelegation", &[("0", ()), ("1", ())])?;
        let channel_binding = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        let target_session = [
            ("any", TargetSession::Any),
            ("read-write", TargetSession::ReadWrite),
            ("read-only", TargetSession::ReadOnly),
            ("primary", TargetSession::Primary),
            ("standby", TargetSession::Standby),
            ("prefer-standby", TargetSession::PreferStandby),
        ];
        Ok(DatabaseUrl {
            hosts: self.hosts()?,
            dbname: self.text("dbname").unwrap_or(&user).to_owned(),
            user,
            password: self.text("password").map(|password| Secret(password.to_owned())),
            passfile: self.file("passfile", ".pgpass"),
            options: self.text("options").map(str::to_owned),
            application_name: self
                .text("application_name")
                .or_else(|| self.text("fallback_application_name"))
                .map(str::to_owned),
            connect_timeout: self.positive("connect_timeout")?.map(|seconds| Duration::from_secs(seconds.into())),
            tcp: TcpOptions {
                keepalives: self.integer("keepalives")?.map(|number| number != 0),
                keepalives_idle: self.positive("keepalives_idle")?,
                keepalives_interval: self.positive("keepalives_interval")?,
                keepalives_count: self.positive("keepalives_count")?,
                // Unlike the others, 0 is a value of the operator's: the system's own timeout.
                user_timeout: self.integer("tcp_user_timeout")?.map(|number| u32::try_from(number).unwrap_or(0)),
            },
            target_session: self.choice("target_session_attrs", &target_session)?.unwrap_or_default(),
            balances_load: self
                .choice("load_balance_hosts", &[("disable", false), ("random", true)])?
                .unwrap_or_default(),
            channel_binding: self.choice("channel_binding", &channel_binding)?,
            require_peer: self.text("requirepeer").map(str::to_owned),
            tls,
        })
    }

    fn hosts(&self) -> Result<Vec<Host>, String> {
        let list = |name: &str| self.text(name).map(|text| text.split(',').collect::<Vec<_>>());
        let names = list("host");
        let addresses = list("hostaddr");
        let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
        if names.as_ref().is_some_and(|names| names.len() != count) {
            return Err("host and hostaddr have different numbers of entries".into());
        }
        let ports = list("port").unwrap_or_else(|| vec![""]);
        if ports.len() > 1 && ports.len() != count {
            return Err("port has neither one entry nor one for each host".into());
        }
        (0..count)
            .map(|at| {
                let name = names.as_ref().map_or("", |names| names[at]);
                let address = addresses.as_ref().map(|addresses| addresses[at]).filter(|address| !address.is_empty());
                let address = address
                    .map(|address| address.parse().map_err(|_| "hostaddr has an entry that is no IP address"))
                    .transpose()?;
                let port = ports.get(at).unwrap_or(&ports[0]);
                let port: u16 = if port.is_empty() { 5432 } else { port.trim().parse().unwrap_or(0) };
                if port == 0 {
                    return Err("port is not a number from 1 to 65535".into());
                }
                let name = if name.is_empty() && address.is_none() { DEFAULT_SOCKET_FOLDER } else { name };
                Ok(Host { name: name.to_owned(), address, port })
            })
            .collect()
    }

    fn tls(&self) -> Result<TlsOptions, String> {
        let modes = [
            ("disable", SslMode::Disable),
            ("allow", SslMode::Allow),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ];
        let versions = [
            ("", None),
            ("TLSv1", Some("TLSv1")),
            ("TLSv1.1", Some("TLSv1.1")),
            ("TLSv1.2", Some("TLSv1.2")),
            ("TLSv1.3", Some("TLSv1.3")),
        ];
        let is_system = self.get("sslrootcert") == Some("system");
        let mode = self.choice("sslmode", &modes)?;
        if is_system && mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
            return Err("sslrootcert=system needs sslmode=verify-full: with a weaker one, anybody's certificate \
                        would do"
                .into());
        }
        let mode = mode.unwrap_or(if is_system { SslMode::VerifyFull } else { SslMode::default() });
        let is_direct = self.choice("sslnegotiation", &[("postgres", false), ("direct", true)])?.unwrap_or(false);
        if is_direct && mode < SslMode::Require {
            return Err("sslnegotiation=direct needs sslmode=require or more".into());
        }
        let (min_version, max_version) = (
            self.choice("ssl_min_protocol_version", &versions)?.unwrap_or(Some("TLSv1.2")),
            self.choice("ssl_max_protocol_version", &versions)?.flatten(),
        );
        if max_version.is_some_and(|max| min_version.is_some_and(|min| min > max)) {
            return Err("ssl_min_protocol_version is above ssl_max_protocol_version".into());
        }
        let has_certificate = self.choice("sslcertmode", &[("disable", false), ("allow", true)])?.unwrap_or(true);
        let root = match self.file("sslrootcert", ".postgresql/root.crt") {
            _ if is_system => RootCertificates::System,
            Some(path) => RootCertificates::File(path),
            None => RootCertificates::None,
        };
        Ok(TlsOptions {
            mode,
            is_direct,
            root,
            certificate: self.file("sslcert", ".postgresql/postgresql.crt").filter(|_| has_certificate),
            key: self.file("sslkey", ".postgresql/postgresql.key"),
            key_password: self.text("sslpassword").map(|password| Secret(password.to_owned())),
            revoked: match self.text("sslcrldir") {
                Some(_) => self.text("sslcrl").map(PathBuf::from),
                None => self.file("sslcrl", ".postgresql/root.crl"),
            },
            revoked_folder: self.text("sslcrldir").map(PathBuf::from),
            without_sni: self.choice("sslsni", &[("1", false), ("0", true)])?.unwrap_or(false),
            min_version,
            max_version,
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
