//! The stream of a database connection: TCP, a Unix socket or TLS, open already, with a limit on the server's silence.
//! Touches the network.

use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// A connection that is open and encrypted already, if it is to be.
pub struct Transport {
    stream: Stream,
    silence: Silence,
    /// Of the silence that is going on.
    timer: Option<Pin<Box<Sleep>>>,
}

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<postgres_openssl::TlsStream<TcpStream>>),
}

/// How long the server may send nothing, and since when it does.
#[derive(Clone, Default)]
pub struct Silence(Arc<Mutex<Option<(Duration, Instant)>>>);

/// The error of a server that was silent for too long.
#[derive(Debug)]
pub struct Silent(pub Duration);

impl std::fmt::Display for Silent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "no reply within {} ms", self.0.as_millis())
    }
}

impl std::error::Error for Silent {}

impl Silence {
    pub fn limit(&self, limit: Option<Duration>) {
        *self.state() = limit.map(|limit| (limit, Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, Option<(Duration, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) {
        if let Some((_, since)) = &mut *self.state() {
            *since = Instant::now();
        }
    }
}

impl Transport {
    pub fn new(stream: Stream) -> Self {
        Self { stream, silence: Silence::default(), timer: None }
    }

    pub fn silence(&self) -> Silence {
        self.silence.clone()
    }

    /// Fails once the server was silent for too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((limit, since)) = *self.silence.state() else { return Poll::Pending };
        // A limit beyond what the clock can count is none.
        let Some(end) = since.checked_add(limit).map(tokio::time::Instant::from_std) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Silent(limit)))),
            Poll::Pending => Poll::Pending,
        }
    }
}

macro_rules! delegate {
    ($stream:expr, $pinned:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($pinned) => {
                let $pinned = Pin::new($pinned);
                $call
            }
            Stream::Unix($pinned) => {
                let $pinned = Pin::new($pinned);
                $call
            }
            Stream::Tls($pinned) => {
                let $pinned = Pin::new(&mut **$pinned);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match delegate!(&mut this.stream, stream => stream.poll_read(cx, buffer)) {
            Poll::Ready(result) => {
                this.silence.is_over();
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_patience(cx),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(&mut self.get_mut().stream, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(&mut self.get_mut().stream, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(&mut self.get_mut().stream, stream => stream.poll_shutdown(cx))
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.stream {
            Stream::Tls(stream) => stream.channel_binding(),
            Stream::Tcp(_) | Stream::Unix(_) => ChannelBinding::none(),
        }
    }
}

/// Hands a [`Transport`] to the crate as if the crate had negotiated it.
pub struct Negotiated;

impl TlsConnect<Transport> for Negotiated {
    type Stream = Transport;
    type Error = std::convert::Infallible;
    type Future = future::Ready<Result<Transport, Self::Error>>;

    fn connect(self, stream: Transport) -> Self::Future {
        future::ready(Ok(stream))
    }
}
