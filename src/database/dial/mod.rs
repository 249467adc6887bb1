//! Chooses the server of a new connection as libpq does: hosts of `DATABASE_URL` in their order, addresses of a host,
//! encrypted or not. Each address has a deadline that covers name, TCP, TLS and login. Touches the network.

mod attempt;

use crate::database::client::Client;
use crate::database::resolve::Resolver;
use crate::database::url::{DatabaseUrl, Host, SslMode, TargetSession};
use crate::store::DatabaseErrorKind::{OutOfFileDescriptors, Unavailable};
use crate::store::{DatabaseError, DatabaseErrorKind};
pub use attempt::Limits;
use attempt::{FailedAttempt, Next, cannot_connect};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A host that hung is tried behind the others for so long.
const SUSPICION: Duration = Duration::from_secs(30);

/// Opens connections.
#[derive(Debug)]
pub struct Dialler {
    url: DatabaseUrl,
    /// For each address.
    limit: Duration,
    resolver: Resolver,
    /// When a host hung.
    suspects: Mutex<HashMap<String, Instant>>,
}

/// The way to the server of a connection, for another one to the same server.
#[derive(Debug, Clone)]
pub struct Route {
    pub host: Host,
    pub address: Address,
    pub is_encrypted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl Dialler {
    /// `wait` is how long a request waits for a connection: all hosts are to be tried by then.
    pub fn new(url: DatabaseUrl, wait: Duration) -> Self {
        let hosts = u32::try_from(url.hosts.len()).unwrap_or(u32::MAX).max(1);
        let shared = (wait / hosts).max(Duration::from_millis(500)).min(wait);
        let limit = url.connect_timeout.unwrap_or(shared);
        Self { url, limit, resolver: Resolver::default(), suspects: Mutex::default() }
    }

    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// A connection to the first host that will do. `password` takes the place of the operator's.
    pub fn dial(&self, password: Option<&str>) -> Result<(Client, Route), DatabaseError> {
        let targets: &[TargetSession] = match self.url.target_session {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            ref other => std::slice::from_ref(other),
        };
        let mut errors: Vec<DatabaseError> = Vec::new();
        for target in targets {
            for host in self.hosts() {
                match self.dial_host(&host, *target, password) {
                    Ok(connected) => return Ok(connected),
                    Err(FailedAttempt { error, next }) => {
                        if !errors.contains(&error) {
                            errors.push(error);
                        }
                        if next == Next::Nothing {
                            return Err(join(errors));
                        }
                    }
                }
            }
        }
        Err(join(errors))
    }

    /// The hosts in the order in which they are tried.
    fn hosts(&self) -> Vec<Host> {
        let mut hosts = self.url.hosts.clone();
        if self.url.balances_load {
            shuffle(&mut hosts);
        }
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.sort_by_key(|host| suspects.get(&host.to_string()).is_some_and(|since| since.elapsed() < SUSPICION));
        hosts
    }

    fn dial_host(
        &self,
        host: &Host,
        target: TargetSession,
        password: Option<&str>,
    ) -> Result<(Client, Route), FailedAttempt> {
        let failed = |text: String| FailedAttempt { error: cannot_connect(host, &text), next: Next::Host };
        let suspect = |is_suspect: bool| {
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            if is_suspect {
                suspects.insert(host.to_string(), Instant::now());
            } else {
                suspects.remove(&host.to_string());
            }
        };
        let started = Instant::now();
        let known: Option<IpAddr> = host.address.as_ref().and_then(|address| address.parse().ok());
        let addresses = match known {
            Some(address) => vec![Address::Ip((address, host.port).into())],
            None if host.is_unix_socket() => vec![Address::Unix(unix_path(host))],
            None => {
                // An address that the resolver reads by itself, or a name.
                let name = host.address.as_ref().unwrap_or(&host.name);
                let mut found = self.resolver.resolve(name, self.limit).map_err(|error| {
                    suspect(started.elapsed() >= self.limit);
                    let mut attempt = failed(error);
                    attempt.error.hint = "check the host in DATABASE_URL, and the name servers in /etc/resolv.conf";
                    attempt
                })?;
                if self.url.balances_load {
                    shuffle(&mut found);
                }
                found.iter_mut().for_each(|address| address.set_port(host.port));
                found.into_iter().map(Address::Ip).collect()
            }
        };
        let password = password.map(str::to_owned).or_else(|| self.url.password_for(host));
        let mut last = failed("its name has no address".into());
        let mut deadline = started + self.limit;
        for address in addresses {
            match self.dial_address(host, &address, target, password.as_deref(), deadline) {
                Ok(connected) => {
                    suspect(false);
                    return Ok(connected);
                }
                Err(attempt) => last = attempt,
            }
            suspect(Instant::now() >= deadline);
            if last.next != Next::Address {
                break;
            }
            deadline = Instant::now() + self.limit;
        }
        Err(last)
    }

    /// Tries an address, encrypted or not or both, as `sslmode` has it.
    fn dial_address(
        &self,
        host: &Host,
        address: &Address,
        target: TargetSession,
        password: Option<&str>,
        deadline: Instant,
    ) -> Result<(Client, Route), FailedAttempt> {
        let mode = match address {
            Address::Unix(_) => SslMode::Disable,
            Address::Ip(_) => self.url.tls.mode,
        };
        let ways: &[bool] = match mode {
            SslMode::Disable => &[false],
            SslMode::Allow => &[false, true],
            SslMode::Prefer => &[true, false],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
        };
        let mut first: Option<FailedAttempt> = None;
        for wants_encryption in ways {
            let mut route = Route { host: host.clone(), address: address.clone(), is_encrypted: *wants_encryption };
            match self.attempt(&mut route, mode, target, password, deadline) {
                Ok(client) => return Ok((client, route)),
                Err(attempt) if attempt.next == Next::OtherMode => {
                    first = Some(match first {
                        None => attempt,
                        Some(first) => FailedAttempt { error: join(vec![first.error, attempt.error]), ..attempt },
                    });
                    if route.is_encrypted != *wants_encryption {
                        break; // the server does not encrypt, so the other way was this one
                    }
                }
                Err(attempt) => return Err(attempt),
            }
        }
        let attempt = first.unwrap_or_else(|| FailedAttempt { error: cannot_connect(host, ""), next: Next::Address });
        let is_refused = is_refused(&attempt.error);
        Err(FailedAttempt { next: if is_refused { Next::Nothing } else { Next::Address }, ..attempt })
    }
}

/// A refused login, or a database that does not exist: no other host is asked then, as in libpq.
fn is_refused(error: &DatabaseError) -> bool {
    error.kind == DatabaseErrorKind::Refused
}

fn unix_path(host: &Host) -> PathBuf {
    PathBuf::from(&host.name).join(format!(".s.PGSQL.{}", host.port))
}

/// The errors of all hosts as one.
fn join(errors: Vec<DatabaseError>) -> DatabaseError {
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    let message = messages.join("; ");
    let worst = errors.iter().find(|error| error.kind == OutOfFileDescriptors).or(errors.last());
    worst.map_or_else(|| DatabaseError::new(Unavailable, "", ""), |worst| DatabaseError { message, ..worst.clone() })
}

/// Puts things in random order (Fisher and Yates).
fn shuffle<T>(things: &mut [T]) {
    let random = RandomState::new();
    for last in (1..things.len()).rev() {
        let other = random.hash_one(last) % (last as u64 + 1);
        things.swap(last, usize::try_from(other).unwrap_or(0));
    }
}
