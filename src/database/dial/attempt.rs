//! One attempt at one address: the transport with its encryption, the login, and whether the session is of the wanted
//! kind. Touches the network and what [`super::super::tls`] touches.

use crate::database::client::Client;
use crate::database::dial::{Address, Dialler, Route};
use crate::database::error::{classify_connect_error, describe, out_of_file_descriptors};
use crate::database::socket::{Socket, SocketStream};
use crate::database::tls;
use crate::database::transport::{Negotiated, Transport};
use crate::database::url::{Host, SslMode, TargetSession, TcpOptions};
use crate::store::DatabaseError;
use crate::store::DatabaseErrorKind::Unavailable;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

/// When a TCP connection counts as lost.
pub struct Limits {
    /// Idle time and interval; none: no keepalives.
    pub keepalive: Option<[Duration; 2]>,
    pub count: u32,
    /// None: that of the system.
    pub user_timeout: Option<Duration>,
}

impl Limits {
    /// The operator's, or ours.
    pub fn of(options: &TcpOptions) -> Self {
        let seconds = |value: Option<u32>, ours: u32| Duration::from_secs(value.unwrap_or(ours).into());
        let times = [
            seconds(options.keepalives_idle, KEEPALIVE_IDLE),
            seconds(options.keepalives_interval, KEEPALIVE_INTERVAL),
        ];
        let user_timeout = options.user_timeout.unwrap_or(TCP_USER_TIMEOUT_MS);
        Self {
            keepalive: (options.keepalives != Some(false)).then_some(times),
            count: options.keepalives_count.unwrap_or(KEEPALIVE_COUNT),
            user_timeout: (user_timeout > 0).then(|| Duration::from_millis(user_timeout.into())),
        }
    }
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
        let config = self.login(password);
        let (transport, socket) = self.open(route, mode, deadline)?;
        let mut login = pin!(config.connect_raw(transport, Negotiated));
        let connected = socket.run(Some(deadline), |context| login.as_mut().poll(context));
        let (inner, connection) = connected.ok_or_else(|| self.late(&host))?.map_err(|error| {
            let classified = classify_connect_error(&error);
            let message = match error.code() {
                Some(_) => format!("{} (at {host})", classified.message),
                None => cannot_connect(&host, &describe(&error)).message,
            };
            let next = if error.code().is_some() { Next::OtherMode } else { Next::Address };
            FailedAttempt { error: DatabaseError { message, ..classified }, next }
        })?;
        let mut client = Client::new(inner, connection, socket);
        self.check_session(target, &mut client, &host, deadline)?;
        Ok(client)
    }

    fn late(&self, host: &Host) -> FailedAttempt {
        let text = format!("it did not reply within {} ms", self.limit.as_millis());
        FailedAttempt { error: cannot_connect(host, &text), next: Next::Address }
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

    /// A transport to the address of a route, and its socket; notes in the route whether it is encrypted.
    fn open(
        &self,
        route: &mut Route,
        mode: SslMode,
        deadline: Instant,
    ) -> Result<(Transport, Arc<Socket>), FailedAttempt> {
        let host = route.host.clone();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut if error.raw_os_error().is_none() => self.late(&host),
            _ => FailedAttempt { error: cannot_connect_io(&host, &error), next: Next::Address },
        };
        let socket = match &route.address {
            Address::Unix(path) => Socket::connect_unix(path, deadline),
            Address::Ip(address) => Socket::connect_tcp(*address, deadline),
        };
        let socket = Arc::new(socket.map_err(failed)?);
        let mut stream = SocketStream(socket.clone());
        match &route.address {
            Address::Unix(_) => self
                .check_peer(&socket)
                .map_err(|text| FailedAttempt { error: cannot_connect(&host, &text), next: Next::Nothing })?,
            Address::Ip(_) => self.set_options(&socket).map_err(failed)?,
        }
        if !route.is_encrypted {
            return Ok((Transport::Plain(stream), socket));
        }
        // Certificates are read only now, because a server that encrypts nothing needs none.
        if !self.url.tls.is_direct {
            let reply = socket.run(Some(deadline), ask_for_encryption(&mut stream)).ok_or_else(|| self.late(&host))?;
            match reply.map_err(failed)? {
                Some(b'S') => (),
                Some(_) if mode == SslMode::Prefer => {
                    route.is_encrypted = false;
                    return Ok((Transport::Plain(stream), socket));
                }
                Some(b'N' | b'E') => {
                    let error = cannot_connect(&host, "the server does not support TLS, but sslmode requires it");
                    return Err(FailedAttempt { error, next: Next::Address });
                }
                Some(_) => return Err(failed(io::Error::other("it sent an invalid reply to the request for TLS"))),
                None => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        let unusable = |text: String| {
            let next = if mode == SslMode::Prefer { Next::OtherMode } else { Next::Address };
            FailedAttempt { error: cannot_connect(&host, &text), next }
        };
        // A file that cannot be used stops libpq, unless it may connect without encryption.
        let connector = tls::connector(&self.url.tls, &host).map_err(|text| {
            let next = if mode == SslMode::Prefer { Next::OtherMode } else { Next::Nothing };
            FailedAttempt { error: cannot_connect(&host, &text), next }
        })?;
        let mut handshake = pin!(connector.connect(stream));
        let encrypted = socket.run(Some(deadline), |context| handshake.as_mut().poll(context));
        let encrypted = encrypted.ok_or_else(|| self.late(&host))?;
        let encrypted = encrypted.map_err(|error| unusable(tls::describe(&*error)))?;
        Ok((Transport::Tls(Box::new(encrypted)), socket))
    }

    fn set_options(&self, socket: &Socket) -> io::Result<()> {
        let limits = Limits::of(&self.url.tcp);
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        if let Some([idle, interval]) = limits.keepalive {
            let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(limits.count);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        socket.set_tcp_user_timeout(limits.user_timeout)
    }

    /// `requirepeer`.
    fn check_peer(&self, socket: &Socket) -> Result<(), String> {
        let Some(wanted) = &self.url.require_peer else { return Ok(()) };
        let peer = socket_peercred(socket).map_err(|error| error.to_string())?;
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(peer.uid.as_raw())).ok().flatten();
        if user.is_some_and(|user| user.name == *wanted) {
            Ok(())
        } else {
            Err(format!("the server runs as user id {}, not as requirepeer has it", peer.uid.as_raw()))
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
        let deadline = Instant::now() + self.limit;
        let (transport, socket) = self.open(&mut route, SslMode::Require, deadline).map_err(|attempt| attempt.error)?;
        let mut sending = pin!(token.cancel_query_raw(transport, Negotiated));
        let sent = socket.run(Some(deadline), |context| sending.as_mut().poll(context));
        sent.ok_or_else(|| self.late(&host).error)?.map_err(|error| classify_connect_error(&error))
    }
}

/// Sends the request for encryption; the byte of the reply, unless the server closes the connection.
fn ask_for_encryption(
    stream: &mut SocketStream,
) -> impl FnMut(&mut std::task::Context<'_>) -> Poll<io::Result<Option<u8>>> {
    let mut sent = 0;
    move |context| {
        while sent < SSL_REQUEST.len() {
            sent += ready!(Pin::new(&mut *stream).poll_write(context, &SSL_REQUEST[sent..]))?;
        }
        let mut byte = [0];
        let mut reply = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut reply))?;
        Poll::Ready(Ok(reply.filled().first().copied()))
    }
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
