//! FastCGI requests to answers: serves a listening socket, then waits for what is in flight. Touches the sockets of the
//! crate `fastcgi`, which does the work, the descriptors of the signals, and the service manager.

use crate::api::cgi::CgiParams;
use crate::client::{Client, Unwatched, Watch};
use crate::server::manager::ServiceManager;
use crate::server::signals::Signals;
use fastcgi::{DisconnectGuard, Options, Request, Role, Server};
use std::io::{self, BufRead, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A response that is shorter than this is sent in one piece with the end of the request, whoever flushes before.
const SHORT_BYTES: usize = 16 * 1024;

/// Answers one request; returns whether the response is complete. If it is not, the connection is closed without the
/// record that ends a request (FastCGI 1.0, section 5.5), so that web servers and caches see it.
pub trait Handler: Fn(&CgiParams, &mut dyn Client) -> bool + Send + Sync + 'static {}
impl<F: Fn(&CgiParams, &mut dyn Client) -> bool + Send + Sync + 'static> Handler for F {}

/// Serves requests from a listening socket until a signal stops it, then finishes those in flight, for up to `drain`.
pub fn serve(
    listener: BorrowedFd<'_>,
    signals: &Signals,
    manager: &ServiceManager,
    options: Options,
    drain: Duration,
    reload: impl Fn(),
    handler: impl Handler,
) -> io::Result<()> {
    let body_limit = options.request_timeout;
    let roles = RoleNotices::default();
    let server = Server::new(options, move |request| handle(request, body_limit, &roles, &handler));
    let mut wakers = vec![signals.stop.as_fd(), signals.reload.as_fd()];
    wakers.extend(manager.timer());
    let mut reload_error = None;
    server.serve(listener, &wakers, |index| {
        match index {
            0 => return ControlFlow::Break(()),
            1 => (),
            _ => {
                manager.tick();
                return ControlFlow::Continue(());
            }
        }
        match (&signals.reload).read_exact(&mut [0]) {
            Ok(()) => {
                manager.reloading(&reload);
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
    manager.stopping();
    let unfinished = server.shut_down(listener, drain);
    if unfinished > 0 {
        let limit = drain.as_millis();
        log::warn!("shutdown timeout: dropped {unfinished} unfinished requests after {limit} ms (CALLSTATS_DRAIN_MS)");
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
        Err(_) => request.is_aborted(), // the web server wants no response
    };
    if is_complete { request.exit(0) } else { request.close() }
}

/// A body has no meaning here, but some web servers want it read before they read the response.
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
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            log::error!("refused a request for the role {role:?}. Hint: configure the web server for a responder");
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

impl Client for Response<'_> {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.request.stdout().try_write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.written = self.written.saturating_add(sent);
        Ok(sent)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.request.stdout().try_flush().map(|_| ())
    }

    fn on_disconnect(&self, action: Box<dyn FnOnce() + Send>) -> Box<dyn Watch> {
        let is_disconnected = Arc::new(AtomicBool::new(false));
        let disconnected = is_disconnected.clone();
        let guard = self.request.on_disconnect(Box::new(move || {
            disconnected.store(true, Ordering::SeqCst);
            action();
        }));
        match guard {
            Some(guard) => Box::new(Watched { _guard: guard, is_disconnected }),
            None => Box::new(Unwatched),
        }
    }
}

struct Watched {
    _guard: DisconnectGuard,
    is_disconnected: Arc<AtomicBool>,
}

impl Watch for Watched {
    fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Ordering::SeqCst)
    }
}
