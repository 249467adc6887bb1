//! The values of all options together, from the connection string, the environment, the service file and defaults, and
//! what they mean. Touches the service file, and the names of users.

use crate::database::url::conninfo::{self, Pairs};
use crate::database::url::files;
use crate::database::url::options::{self, OPTIONS, Use};
use crate::database::url::{
    DEFAULT_SOCKET_FOLDER, DatabaseUrl, Host, RootCertificates, Secret, SslMode, TargetSession, TcpOptions, TlsOptions,
};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::config::ChannelBinding;

/// The values of all options.
pub struct Values<'a> {
    pairs: Pairs,
    /// The variables that values were taken from, for messages.
    variables: Vec<&'static str>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Values<'a> {
    pub fn read(text: &str, environment: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut values = Self { pairs: Vec::new(), variables: Vec::new(), environment };
        for (name, value) in conninfo::parse(text)? {
            // libpq translates it for strings of earlier versions, but not in a service file.
            if name == "requiressl" {
                let mode = if value.starts_with('1') { "require" } else { "prefer" };
                values.set("sslmode".into(), mode.into())?;
            } else {
                values.set(name, value)?;
            }
        }
        // As in libpq, an empty variable is an empty value, and not none.
        if let Some(service) = values.get("service").map(str::to_owned).or_else(|| environment("PGSERVICE")) {
            let given = values.get("servicefile").map(str::to_owned).or_else(|| environment("PGSERVICEFILE"));
            let given = given.map(PathBuf::from);
            if let Some(path) = given.as_ref().filter(|path| !path.exists()) {
                return Err(format!("the service file {} does not exist. Hint: correct PGSERVICEFILE", path.display()));
            }
            let of_user = given.or_else(|| values.in_home(".pg_service.conf"));
            let folder = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".into());
            let files: Vec<_> = of_user.into_iter().chain([PathBuf::from(folder).join("pg_service.conf")]).collect();
            for (name, value) in files::service(&service, &files)? {
                if name == "requiressl" {
                    return Err(
                        "its service has requiressl, which is no option there. Hint: use sslmode=require".into()
                    );
                }
                if values.get(&name).is_none() {
                    values.set(name, value)?;
                }
            }
        }
        for option in OPTIONS.iter().filter(|option| !option.variable.is_empty()) {
            if let (None, Some(value)) = (values.get(option.name), environment(option.variable)) {
                values.set(option.name.into(), value).map_err(|error| format!("{}: {error}", option.variable))?;
                values.variables.push(option.variable);
            }
        }
        if values.get("sslmode").is_none() && environment("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
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

    /// An option in a message, with the variable that its value is from.
    fn shown(&self, name: &str) -> String {
        let variable = OPTIONS.iter().find(|option| option.name == name).map_or("", |option| option.variable);
        if self.variables.contains(&variable) { format!("{name} (of {variable})") } else { name.to_owned() }
    }

    fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let chosen = choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen);
        let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        chosen.map(Some).ok_or_else(|| format!("{} is none of {}", self.shown(name), names.join(", ")))
    }

    fn integer(&self, name: &str) -> Result<Option<i32>, String> {
        let number = self.get(name).map(|value| value.trim().parse::<i32>());
        number.transpose().map_err(|_| format!("{} is not a whole number", self.shown(name)))
    }

    /// Zero and less: the default.
    fn positive(&self, name: &str) -> Result<Option<u32>, String> {
        Ok(self.integer(name)?.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
    }

    pub fn database_url(&self) -> Result<DatabaseUrl, String> {
        let tls = self.tls()?;
        let user = match self.text("user") {
            Some(user) => user.to_owned(),
            None => {
                let uid = nix::unistd::geteuid();
                let user = nix::unistd::User::from_uid(uid).ok().flatten();
                user.ok_or_else(|| format!("it has no user, and user id {uid} has no name. Hint: give user="))?.name
            }
        };
        self.choice("gssencmode", &[("disable", ()), ("prefer", ()), ("require", ())])?;
        let hosts = self.hosts()?;
        // As in libpq, they may be anything if no connection has them.
        let tcp = if hosts.iter().all(Host::is_unix_socket) { TcpOptions::default() } else { self.tcp()? };
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
            hosts,
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
            tcp,
            target_session: self.choice("target_session_attrs", &target_session)?.unwrap_or_default(),
            balances_load: self
                .choice("load_balance_hosts", &[("disable", false), ("random", true)])?
                .unwrap_or_default(),
            channel_binding: self.choice("channel_binding", &channel_binding)?,
            require_peer: self.text("requirepeer").map(str::to_owned),
            tls,
        })
    }

    fn tcp(&self) -> Result<TcpOptions, String> {
        Ok(TcpOptions {
            keepalives: self.integer("keepalives")?.map(|number| number != 0),
            keepalives_idle: self.positive("keepalives_idle")?,
            keepalives_interval: self.positive("keepalives_interval")?,
            keepalives_count: self.positive("keepalives_count")?,
            // Unlike the others, 0 is a value of the operator's: the system's own timeout.
            user_timeout: self.integer("tcp_user_timeout")?.map(|number| u32::try_from(number).unwrap_or(0)),
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
                if address.is_some_and(|address| !is_numeric(address)) {
                    return Err("hostaddr has an entry that is no IP address".into());
                }
                let port = ports.get(at).unwrap_or(&ports[0]);
                let port: u16 = if port.is_empty() { 5432 } else { port.trim().parse().unwrap_or(0) };
                if port == 0 {
                    return Err("port is not a number from 1 to 65535".into());
                }
                let name = if name.is_empty() && address.is_none() { DEFAULT_SOCKET_FOLDER } else { name };
                Ok(Host { name: name.to_owned(), address: address.map(str::to_owned), port })
            })
            .collect()
    }

    /// A version of TLS, in lower case or not. Empty: no limit.
    fn tls_version(&self, name: &str, default: Option<&'static str>) -> Result<Option<&'static str>, String> {
        let versions = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        match self.get(name) {
            None => Ok(default),
            Some("") => Ok(None),
            Some(value) => {
                let known = versions.into_iter().find(|version| version.eq_ignore_ascii_case(value));
                known.map(Some).ok_or_else(|| format!("{} is none of {}", self.shown(name), versions.join(", ")))
            }
        }
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
            self.tls_version("ssl_min_protocol_version", Some("TLSv1.2"))?,
            self.tls_version("ssl_max_protocol_version", None)?,
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
            without_sni: self.get("sslsni").is_some_and(|value| !value.starts_with('1')),
            min_version,
            max_version,
        })
    }
}

/// Whether an address needs no look-up: of IPv6 perhaps with its interface, of IPv4 in any spelling (`127.1`) that the
/// system's resolver reads.
fn is_numeric(address: &str) -> bool {
    let (unscoped, scope) = address.split_once('%').map_or((address, None), |(left, scope)| (left, Some(scope)));
    match unscoped.parse::<IpAddr>() {
        Ok(parsed) => scope.is_none_or(|scope| parsed.is_ipv6() && !scope.is_empty()),
        Err(_) => {
            let is_number = |part: &str| {
                let (digits, radix) = part.strip_prefix("0x").map_or((part, 10), |digits| (digits, 16));
                u32::from_str_radix(digits, radix).is_ok()
            };
            scope.is_none() && address.split('.').count() <= 4 && address.split('.').all(is_number)
        }
    }
}
