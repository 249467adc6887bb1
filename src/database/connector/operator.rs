//! Connections of the operator's commands, which a worker never opens. Touches the network.

use crate::database::connector::{Connector, Settings};
use crate::database::dial::{Address, Limits};
use crate::database::error::classify_connect_error;
use crate::database::tls;
use crate::database::url::{DatabaseUrl, SslMode};
use crate::store::DatabaseError;
use crate::store::DatabaseErrorKind::Unavailable;
use postgres::NoTls;
use postgres::config::{ChannelBinding, SslMode as SslModeOfCrate};
use postgres::error::Severity;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

/// How long a command of the operator waits for a connection.
const OPERATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Connector {
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

    /// A connection of the crate `postgres` without anything around it, for the operator's commands.
    pub fn client(&self) -> Result<postgres::Client, DatabaseError> {
        let password = self.password()?;
        let (_, route) = self.shared.dialler.dial(password.as_deref())?; // which host, and how
        let url = self.shared.dialler.url();
        let mut config = postgres::Config::new();
        config
            .user(&url.user)
            .dbname(&url.dbname)
            .channel_binding(url.channel_binding.unwrap_or(ChannelBinding::Prefer))
            .port(route.host.port);
        config.application_name(url.application_name.as_deref().unwrap_or("callstats"));
        config.notice_callback(|notice| {
            if notice.parsed_severity() == Some(Severity::Warning) {
                // Code of a site's table can raise it with whatever a terminal or a journal obeys.
                let message = notice.message().replace(char::is_control, " ");
                // If nobody reads it, the command still does its work.
                let _ = writeln!(std::io::stderr(), "callstats: warning: {message}");
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
            // The crate `postgres` drops the interface of an address.
            Address::Ip(SocketAddr::V6(address)) if address.scope_id() != 0 => {
                return Err(DatabaseError::new(
                    Unavailable,
                    format!("{} is a link-local address, which only the worker can use", address.ip()),
                    "give this command another address of the database server",
                ));
            }
            Address::Ip(address) => config.host(&address.ip().to_string()).hostaddr(address.ip()),
        };
        let limits = Limits::of(&url.tcp);
        config.keepalives(limits.keepalive.is_some()).keepalives_retries(limits.count);
        if let Some([idle, interval]) = limits.keepalive {
            config.keepalives_idle(idle).keepalives_interval(interval);
        }
        // None means none for the crate as well.
        if let Some(limit) = limits.user_timeout {
            config.tcp_user_timeout(limit);
        }
        let maker = tls::MakeConnector { options: url.tls.clone(), host: route.host.clone() };
        config.ssl_mode(if route.is_encrypted { SslModeOfCrate::Require } else { SslModeOfCrate::Disable });
        if url.tls.is_direct {
            config.ssl_negotiation(postgres::config::SslNegotiation::Direct);
        }
        let encrypts = route.is_encrypted;
        let connected =
            within(
                self.shared.dialler.limit(),
                move || {
                    if encrypts { config.connect(maker) } else { config.connect(NoTls) }
                },
            );
        let connected = connected.ok_or_else(|| {
            DatabaseError::new(
                Unavailable,
                format!("the database at {} did not reply in time", route.host),
                "check that PostgreSQL is running, and that a firewall lets the connection through",
            )
        })?;
        connected.map_err(|error| classify_connect_error(&error))
    }

    /// What an operator should know of the way to the database, and how to fix it if it is not as it should be.
    pub fn describe_connection(&self) -> Result<(String, Option<String>), DatabaseError> {
        let mut connection = self.connect()?;
        let is_direct = connection.find_out_whether_direct()?;
        let route = connection.route();
        let encryption = match (&route.address, route.is_encrypted) {
            (Address::Unix(_), _) => "over a Unix socket",
            (Address::Ip(_), true) => "encrypted",
            (Address::Ip(_), false) => "unencrypted",
        };
        let url = self.shared.dialler.url();
        let is_local = match &route.address {
            Address::Unix(_) => true,
            Address::Ip(address) => address.ip().is_loopback(),
        };
        let is_verified = route.is_encrypted && tls::verifies(&url.tls) && url.tls.mode >= SslMode::VerifyFull;
        let pooler = if is_direct { "directly" } else { "through a pooler, so settings are set for each transaction" };
        let message = format!("{} {pooler}, {encryption}", route.host);
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
