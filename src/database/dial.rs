//! Opens a connection to one of the hosts of `DATABASE_URL`, as libpq chooses it, with a deadline for each address that
//! covers name, TCP, TLS and login. Touches the network and what [`super::tls`] touches.

use crate::database::client::Client;
use crate::database::error::{classify_connect_error, out_of_file_descriptors};
use crate::database::resolve::Resolver;
use crate::database::tls;
use crate::database::transport::{Negotiated, Stream, Transport};
use crate::database::url::{DatabaseUrl, Host, SslMode, TargetSession};
use crate::store::DatabaseErrorKind::{OutOfFileDescriptors, Unavailable};
use crate::store::{DatabaseError, DatabaseErrorKind};
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout_at;
use tokio_postgres::config::{ChannelBinding, SslMode as Negotiation, SslNegotiation};
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{CancelToken, Config};

/// A host that hung is tried behind the others for so long.
const SUSPICION: Duration = Duration::from_secs(30);

/// A vanished host is noticed within these ten seconds, unless the operator says otherwise.
const KEEPALIVE_IDLE: u32 = 4;
const KEEPALIVE_INTERVAL: u32 = 2;
const KEEPALIVE_COUNT: u32 = 3;
const TCP_USER_TIMEOUT_MS: u32 = 10_000;

/// The request for encryption in PostgreSQL's protocol: its length and its code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

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

/// Why an attempt failed, and what is tried next.
struct Attempt {
    error: DatabaseError,
    next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The host has the other kind of session than is wanted.
    Host,
    Address,
    /// The same address without encryption, or with it, is worth a try: the server refused the login.
    OtherMode,
    Nothing,
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
                    Err(Attempt { error, next }) => {
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
    ) -> Result<(Client, Route), Attempt> {
        let failed = |text: String| Attempt { error: cannot_connect(host, &text), next: Next::Host };
        let suspect = |is_suspect: bool| {
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            if is_suspect {
                suspects.insert(host.to_string(), Instant::now());
            } else {
                suspects.remove(&host.to_string());
            }
        };
        let started = Instant::now();
        let addresses = match host.address {
            Some(address) => vec![Address::Ip((address, host.port).into())],
            None if host.is_unix_socket() => vec![Address::Unix(unix_path(host))],
            None => {
                let mut found = self.resolver.resolve(&host.name, self.limit).map_err(|error| {
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
    ) -> Result<(Client, Route), Attempt> {
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
        let mut first: Option<Attempt> = None;
        for wants_encryption in ways {
            let mut route = Route { host: host.clone(), address: address.clone(), is_encrypted: *wants_encryption };
            match self.attempt(&mut route, mode, target, password, deadline) {
                Ok(client) => return Ok((client, route)),
                Err(attempt) if attempt.next == Next::OtherMode => {
                    first = Some(match first {
                        None => attempt,
                        Some(first) => Attempt { error: join(vec![first.error, attempt.error]), ..attempt },
                    });
                    if route.is_encrypted != *wants_encryption {
                        break; // the server does not encrypt, so the other way was this one
                    }
                }
                Err(attempt) => return Err(attempt),
            }
        }
        let attempt = first.unwrap_or_else(|| Attempt { error: cannot_connect(host, ""), next: Next::Address });
        let is_refused = is_refused(&attempt.error);
        Err(Attempt { next: if is_refused { Next::Nothing } else { Next::Address }, ..attempt })
    }

    fn attempt(
        &self,
        route: &mut Route,
        mode: SslMode,
        target: TargetSession,
        password: Option<&str>,
        deadline: Instant,
    ) -> Result<Client, Attempt> {
        let host = route.host.clone();
        let failed = |next: Next| {
            let host = &host;
            move |error: io::Error| Attempt { error: cannot_connect_io(host, &error), next }
        };
        let runtime = runtime().map_err(failed(Next::Nothing))?;
        let config = self.login(password);
        let connected = runtime.block_on(async {
            timeout_at(deadline.into(), async {
                let transport = self.open(route, mode).await?;
                let silence = transport.silence();
                let connected = config.connect_raw(transport, Negotiated).await.map_err(|error| {
                    let classified = classify_connect_error(&error);
                    let message = match error.code() {
                        Some(_) => format!("{} (at {host})", classified.message),
                        None => cannot_connect(&host, &super::error::describe(&error)).message,
                    };
                    let next = if error.code().is_some() { Next::OtherMode } else { Next::Address };
                    Attempt { error: DatabaseError { message, ..classified }, next }
                });
                connected.map(|(client, connection)| (client, connection, silence))
            })
            .await
        });
        let late = |_| {
            let text = format!("it did not reply within {} ms", self.limit.as_millis());
            Attempt { error: cannot_connect(&host, &text), next: Next::Address }
        };
        let (inner, connection, silence) = connected.map_err(late)??;
        let mut client = Client::new(runtime, inner, connection, silence);
        self.hold_to(target, &mut client, &host, deadline)?;
        Ok(client)
    }

    /// What the server needs to know at login. Without `options` of its own, which poolers refuse.
    fn login(&self, password: Option<&str>) -> Config {
        let url = &self.url;
        let mut config = Config::new();
        config
            .user(&url.user)
            .dbname(&url.dbname)
            .channel_binding(url.channel_binding.unwrap_or(ChannelBinding::Prefer));
        config.application_name(url.application_name.as_deref().unwrap_or("callstats"));
        if let Some(password) = password {
            config.password(password);
        }
        if let Some(options) = &url.options {
            config.options(options);
        }
        // The transport is encrypted already, or is not to be.
        config.ssl_mode(Negotiation::Require).ssl_negotiation(SslNegotiation::Direct);
        config
    }

    /// A transport to the address of a route; notes in the route whether it is encrypted.
    async fn open(&self, route: &mut Route, mode: SslMode) -> Result<Transport, Attempt> {
        let host = route.host.clone();
        let failed = |error: io::Error| Attempt { error: cannot_connect_io(&host, &error), next: Next::Address };
        let mut stream = match &route.address {
            Address::Unix(path) => {
                let stream = if let Some(name) = path.to_str().and_then(|path| path.strip_prefix('@')) {
                    UnixStream::connect(format!("\0{name}")).await
                } else {
                    UnixStream::connect(path).await
                };
                let stream = stream.map_err(failed)?;
                self.hold_to_peer(&stream)
                    .map_err(|text| Attempt { error: cannot_connect(&host, &text), next: Next::Nothing })?;
                return Ok(Transport::new(Stream::Unix(stream)));
            }
            Address::Ip(address) => TcpStream::connect(address).await.map_err(failed)?,
        };
        self.set_options(&stream).map_err(failed)?;
        if !route.is_encrypted {
            return Ok(Transport::new(Stream::Tcp(stream)));
        }
        // Certificates are read only now, because a server that encrypts nothing needs none.
        if !self.url.tls.is_direct {
            stream.write_all(&SSL_REQUEST).await.map_err(failed)?;
            match stream.read_u8().await.map_err(failed)? {
                b'S' => (),
                _ if mode == SslMode::Prefer => {
                    route.is_encrypted = false;
                    return Ok(Transport::new(Stream::Tcp(stream)));
                }
                b'N' | b'E' => {
                    let error = cannot_connect(&host, "the server does not support TLS, but sslmode requires it");
                    return Err(Attempt { error, next: Next::Address });
                }
                _ => return Err(failed(io::Error::other("it sent an invalid reply to the request for TLS"))),
            }
        }
        let unusable = |text: String| {
            let next = if mode == SslMode::Prefer { Next::OtherMode } else { Next::Address };
            Attempt { error: cannot_connect(&host, &text), next }
        };
        // A file that cannot be used stops libpq whatever the mode is.
        let connector = tls::connector(&self.url.tls, &host)
            .map_err(|text| Attempt { error: cannot_connect(&host, &text), next: Next::Nothing })?;
        let stream = connector.connect(stream).await.map_err(|error| unusable(tls::describe(&*error)))?;
        Ok(Transport::new(Stream::Tls(Box::new(stream))))
    }

    fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        let options = &self.url.tcp;
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        if options.keepalives != Some(false) {
            let seconds = |value: Option<u32>, ours: u32| Duration::from_secs(value.unwrap_or(ours).into());
            let keepalive = TcpKeepalive::new()
                .with_time(seconds(options.keepalives_idle, KEEPALIVE_IDLE))
                .with_interval(seconds(options.keepalives_interval, KEEPALIVE_INTERVAL))
                .with_retries(options.keepalives_count.unwrap_or(KEEPALIVE_COUNT));
            socket.set_tcp_keepalive(&keepalive)?;
        }
        let user_timeout = options.user_timeout.unwrap_or(TCP_USER_TIMEOUT_MS);
        socket.set_tcp_user_timeout((user_timeout > 0).then(|| Duration::from_millis(user_timeout.into())))
    }

    /// `requirepeer`.
    fn hold_to_peer(&self, stream: &UnixStream) -> Result<(), String> {
        let Some(wanted) = &self.url.require_peer else { return Ok(()) };
        let peer = stream.peer_cred().map_err(|error| error.to_string())?;
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(peer.uid())).ok().flatten();
        if user.is_some_and(|user| user.name == *wanted) {
            Ok(())
        } else {
            Err(format!("the server runs as user id {}, not as requirepeer has it", peer.uid()))
        }
    }

    /// `target_session_attrs`.
    fn hold_to(
        &self,
        target: TargetSession,
        client: &mut Client,
        host: &Host,
        deadline: Instant,
    ) -> Result<(), Attempt> {
        if target == TargetSession::Any {
            return Ok(());
        }
        let question = "select pg_catalog.pg_is_in_recovery(), \
                        pg_catalog.current_setting('default_transaction_read_only') = 'on'";
        let left = deadline.saturating_duration_since(Instant::now());
        let columns = client.text_row(question, left);
        let columns = columns.map_err(|error| {
            let text = error.map_or_else(|| "it did not reply in time".into(), |error| super::error::describe(&error));
            Attempt { error: cannot_connect(host, &text), next: Next::Address }
        })?;
        let is = |at: usize| columns.get(at).is_some_and(|column| column.as_deref() == Some("t"));
        let (is_standby, is_read_only) = (is(0), is(0) || is(1));
        let (fits, found) = match target {
            TargetSession::Any | TargetSession::PreferStandby => (true, ""),
            TargetSession::ReadWrite => (!is_read_only, "the session is read-only"),
            TargetSession::ReadOnly => (is_read_only, "the session is not read-only"),
            TargetSession::Primary => (!is_standby, "the server is in hot standby mode"),
            TargetSession::Standby => (is_standby, "the server is not in hot standby mode"),
        };
        if fits { Ok(()) } else { Err(Attempt { error: cannot_connect(host, found), next: Next::Host }) }
    }

    /// Asks the server of a connection to cancel its statement.
    pub fn cancel(&self, route: &Route, token: &CancelToken) -> Result<(), DatabaseError> {
        let mut route = route.clone();
        let host = route.host.clone();
        let runtime = runtime().map_err(|error| cannot_connect_io(&host, &error))?;
        let cancelled = runtime.block_on(async {
            tokio::time::timeout(self.limit, async {
                let transport = self.open(&mut route, SslMode::Require).await.map_err(|attempt| attempt.error)?;
                let sent = token.cancel_query_raw(transport, Negotiated).await;
                sent.map_err(|error| classify_connect_error(&error))
            })
            .await
        });
        cancelled.unwrap_or_else(|_| Err(cannot_connect(&host, "it did not reply in time")))
    }
}

/// A refused login, or a database that does not exist: no other host is asked then, as in libpq.
fn is_refused(error: &DatabaseError) -> bool {
    error.kind == DatabaseErrorKind::Refused
}

/// For one connection, in the thread that uses it.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn unix_path(host: &Host) -> PathBuf {
    PathBuf::from(&host.name).join(format!(".s.PGSQL.{}", host.port))
}

fn cannot_connect(host: &Host, text: &str) -> DatabaseError {
    DatabaseError::new(
        Unavailable,
        format!("cannot connect to the database at {host}: {text}"),
        "check that PostgreSQL is running and that DATABASE_URL is correct",
    )
}

fn cannot_connect_io(host: &Host, error: &io::Error) -> DatabaseError {
    if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) {
        return out_of_file_descriptors();
    }
    cannot_connect(host, &error.to_string())
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
