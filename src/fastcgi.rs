//! The FastCGI worker's life: start, serve, drain. The only file that names the crate `fastcgi`, which does the work;
//! touches its sockets and the signals' descriptors.

use crate::request::CgiParams;
use fastcgi::{Request, Role, Server};
use std::io::{self, BufRead, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use fastcgi::{AllowedPeers, DisconnectGuard, Options};

/// An answer that is shorter than this leaves in one piece with the end of the request, whoever flushes before.
const SHORT_BYTES: usize = 16 * 1024;

/// Where an answer goes, and the client that waits for it.
pub trait ResponseStream: Write {
    /// Writes without ever waiting: returns how many bytes were taken, or an error of the kind `WouldBlock`.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Runs an action, in a thread of its own, within a second after the client has left, unless the guard is dropped
    /// before. When the guard is dropped, the action has ended or will never run.
    fn on_disconnect(&self, action: Box<dyn FnOnce() + Send>) -> Option<DisconnectGuard>;
}

/// Answers one request; returns whether the answer is complete. One that is not ends with its connection, so that web
/// servers and caches know.
pub trait Handler: Fn(&CgiParams, &mut dyn ResponseStream) -> bool + Send + Sync + 'static {}
impl<F: Fn(&CgiParams, &mut dyn ResponseStream) -> bool + Send + Sync + 'static> Handler for F {}

/// What is asked of a worker from outside, as descriptors that become readable.
#[derive(Debug)]
pub struct Signals {
    /// Stop.
    pub stop: UnixStream,
    /// Read again what can be read again; one byte each time.
    pub reload: UnixStream,
}

/// Serves requests from a listening socket until it is told to stop, then finishes what is in flight, for `drain` at
/// the longest.
pub fn serve(
    listener: BorrowedFd<'_>,
    signals: &Signals,
    options: Options,
    drain: Duration,
    reload: impl Fn(),
    handler: impl Handler,
) -> io::Result<()> {
    let body_limit = options.request_timeout;
    let roles = RoleNotices::default();
    let server = Server::new(options, move |request| handle(request, body_limit, &roles, &handler));
    let wakers = [signals.stop.as_fd(), signals.reload.as_fd()];
    let mut reload_error = None;
    server.serve(listener, &wakers, |index| {
        if index == 0 {
            return ControlFlow::Break(());
        }
        match (&signals.reload).read_exact(&mut [0]) {
            Ok(()) => {
                reload();
                ControlFlow::Continue(())
            }
            Err(error) => {
                reload_error = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = reload_error {
        return Err(error);
    }
    let unfinished = server.shut_down(listener, drain);
    if unfinished > 0 {
        log::warn!("{unfinished} requests were not finished after {} ms: raise CALLSTATS_DRAIN_MS", drain.as_millis());
    }
    Ok(())
}

/// One request, in the thread of its connection.
fn handle(mut request: Request, body_limit: Duration, roles: &RoleNotices, handler: &impl Handler) {
    if request.role() != Role::Responder {
        roles.log(request.role());
        return request.refuse_role();
    }
    let params = CgiParams::collect(|name| request.parameters().get(name).map(<[u8]>::to_vec));
    let is_complete = match skip_body(&mut request, body_limit) {
        Ok(()) => handler(&params, &mut Response { request: &mut request, written: 0 }),
        Err(_) => request.is_aborted(), // the web server wants no answer
    };
    if is_complete { request.exit(0) } else { request.close() }
}

/// A body has no meaning here, but some web servers want it read before the answer.
fn skip_body(request: &mut Request, limit: Duration) -> io::Result<()> {
    let text = request.parameters().get("CONTENT_LENGTH").and_then(|bytes| std::str::from_utf8(bytes).ok());
    let mut left = text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let deadline = Instant::now() + limit;
    let mut stdin = request.stdin();
    while left > 0 {
        let count = stdin.fill_buf()?.len();
        if count == 0 || Instant::now() >= deadline {
            return Ok(());
        }
        stdin.consume(count);
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

/// A web server that is configured for another role asks again and again: one line a second is enough.
#[derive(Default)]
struct RoleNotices(Mutex<Option<Instant>>);

impl RoleNotices {
    fn log(&self, role: Role) {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            log::error!("a web server asks for the role {role:?}, a role other than responder: it is refused");
        }
    }
}

struct Response<'a> {
    request: &'a mut Request,
    written: usize,
}

impl Write for Response<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.request.stdout().write(bytes)?;
        self.written = self.written.saturating_add(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.written < SHORT_BYTES { Ok(()) } else { self.request.stdout().flush() }
    }
}

impl ResponseStream for Response<'_> {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.request.stdout().try_write(bytes)?;
        self.written = self.written.saturating_add(count);
        Ok(count)
    }

    fn on_disconnect(&self, action: Box<dyn FnOnce() + Send>) -> Option<DisconnectGuard> {
        self.request.on_disconnect(action)
    }
}
