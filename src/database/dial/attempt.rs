//! One attempt at one address: the transport with its encryption, the login, and whether the session is of the wanted
//! kind. Touches the network and what [`super::super::tls`] touches.

use crate::database::client::Client;
use crate::database::dial::{Address, Dialler, Route};
use crate::database::error::{classify_connect_error, describe, out_of_file_descriptors};
use crate::database::tls;
use crate::database::transport::{Negotiated, Stream, Transport};
use crate::database::url::{Host, SslMode, TargetSession};
use crate::store::DatabaseError;
use crate::store::DatabaseErrorKind::Unavailable;
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout_at;
use tokio_postgres::config::{ChannelBinding, SslMode as Negotiation, SslNegotiation};
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{CancelToken, Config};

/// With these defaults a vanished host is noticed within ten seconds.
const KEEPALIVE_IDLE: u32 = 4;
const KEEPALIVE_INTERVAL: u32 = 2;
const KEEPALIVE_COUNT: u32 = 3;
const TCP_USER_TIMEOUT_MS: u32 = 10_000;

/// The request for encryption in PostgreSQL's protocol: its length and its code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Why an attempt failed, and what is tried next.
pub struct FailedAttempt {
    pub error: DatabaseError,
    pub next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The host has the other kind of session than is wanted.
    Host,
    Address,
    /// The same address without encryption, or with it, is worth a try: the server refused the login.
    OtherMode,
    Nothing,
}

impl Dialler {
    pub fn attempt(
        &self,
        route: &mut Route,
        mode: SslMode,
        target: TargetSession,
        password: Option<&str>,
        deadline: Instant,
    ) -> Result<Client, FailedAttempt> {
        let host = route.host.clone();
        let failed = |next: Next| {
            let host = &host;
            move |error: io::Error| FailedAttempt { error: cannot_connect_io(host, &error), next }
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
                        None => cannot_connect(&host, &describe(&error)).message,
                    };
                    let next = if error.code().is_some() { Next::OtherMode } else { Next::Address };
                    FailedAttempt { error: DatabaseError { message, ..classified }, next }
                });
                connected.map(|(client, connection)| (client, connection, silence))
            })
            .await
        });
        let late = |_| {
            let text = format!("it did not reply within {} ms", self.limit.as_millis());
            FailedAttempt { error: cannot_connect(&host, &text), next: Next::Address }
        };
        let (inner, connection, silence) = connected.map_err(late)??;
        let mut client = Client::new(runtime, inner, connection, silence);
        self.check_session(target, &mut client, &host, deadline)?;
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
    async fn open(&self, route: &mut Route, mode: SslMode) -> Result<Transport, FailedAttempt> {
        let host = route.host.clone();
        let failed = |error: io::Error| FailedAttempt { error: cannot_connect_io(&host, &error), next: Next::Address };
        let mut stream = match &route.address {
            Address::Unix(path) => {
                let stream = if let Some(name) = path.to_str().and_then(|path| path.strip_prefix('@')) {
                    UnixStream::connect(format!("\0{name}")).await
                } else {
                    UnixStream::connect(path).await
                };
                let stream = stream.map_err(failed)?;
                self.check_peer(&stream)
                    .map_err(|text| FailedAttempt { error: cannot_connect(&host, &text), next: Next::Nothing })?;
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
                    return Err(FailedAttempt { error, next: Next::Address });
                }
                _ => return Err(failed(io::Error::other("it sent an invalid reply to the request for TLS"))),
            }
        }
        let unusable = |text: String| {
            let next = if mode == SslMode::Prefer { Next::OtherMode } else { Next::Address };
            FailedAttempt { error: cannot_connect(&host, &text), next }
        };
        // A file that cannot be used stops libpq whatever the mode is.
        let connector = tls::connector(&self.url.tls, &host)
            .map_err(|text| FailedAttempt { error: cannot_connect(&host, &text), next: Next::Nothing })?;
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
    fn check_peer(&self, stream: &UnixStream) -> Result<(), String> {
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
    fn check_session(
        &self,
        target: TargetSession,
        client: &mut Client,
        host: &Host,
        deadline: Instant,
    ) -> Result<(), FailedAttempt> {
        if target == TargetSession::Any {
            return Ok(());
        }
        let question = "select pg_catalog.pg_is_in_recovery(), \
                        pg_catalog.current_setting('default_transaction_read_only') = 'on'";
        let left = deadline.saturating_duration_since(Instant::now());
        let columns = client.text_row(question, left);
        let columns = columns.map_err(|error| {
            let text = error.map_or_else(|| "it did not reply in time".into(), |error| describe(&error));
            FailedAttempt { error: cannot_connect(host, &text), next: Next::Address }
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
        if fits { Ok(()) } else { Err(FailedAttempt { error: cannot_connect(host, found), next: Next::Host }) }
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

/// For one connection, in the thread that uses it.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub fn cannot_connect(host: &Host, text: &str) -> DatabaseError {
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
