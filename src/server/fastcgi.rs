//! The FastCGI worker's life: start, serve, drain (FastCGI 1.0). Touches sockets, threads and the panic hook.
//!
//! The only file that names the crate `fastcgi`, and the one that contains its faults:
//!
//! - It has one way out of its accept loop, a panic. The listening socket is made non-blocking, so that the crate
//!   accepts what is waiting and panics at `EAGAIN`; between two such runs this module waits, looks for signals, and
//!   pauses where descriptors ran out.
//! - It panics, in the thread of a connection, when the web server closes that connection or breaks the protocol. The
//!   thread ends and frees what it held, as it should; the panic hook keeps quiet about it.
//! - It reads parameters by recursion: [`widen_stacks`] makes room.
//! - It closes a kept connection only where the handler unwinds: see [`Worker::handle`].

use crate::api::cgi::CgiParams;
use crate::client::{Client, Unwatched, Watch};
use crate::server::signals::Signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::any::Any;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Stack of each connection's thread; the kernel hands out only what is touched. 16 MiB bear 40,000 parameters in one
/// request, several times what a web server passes on.
const STACK_BYTES: &str = "16777216";

/// How long to wait before accepting again after an error that only time mends.
const PAUSE: Duration = Duration::from_millis(100);

/// How long nothing may have begun before a drain is taken for done: a connection can be accepted and its request
/// still be on its way through the socket.
const QUIET: Duration = Duration::from_millis(50);

/// Sets the stack size of threads to come. Call it first of all, while there is one thread.
#[allow(unsafe_code)]
pub fn widen_stacks() {
    if std::env::var_os("RUST_MIN_STACK").is_none() {
        // SAFETY: the caller has started no thread yet, so nobody reads the environment at the same time.
        unsafe { std::env::set_var("RUST_MIN_STACK", STACK_BYTES) };
    }
}

/// Answers one request; returns whether the answer is whole. What is not gets its connection broken off.
pub trait Handler: Fn(&CgiParams, &mut dyn Client) -> bool + Send + Sync + 'static {}
impl<F: Fn(&CgiParams, &mut dyn Client) -> bool + Send + Sync + 'static> Handler for F {}

/// Serves requests from a listening socket until it is told to stop, then finishes what was begun, for `drain` at the
/// longest.
pub fn serve(
    listener: BorrowedFd<'_>,
    signals: &Signals,
    drain: Duration,
    reload: impl Fn(),
    handler: impl Handler,
) -> io::Result<()> {
    let (stop, reloads) = (signals.stop.as_fd(), signals.reload.as_fd());
    rustix::io::ioctl_fionbio(listener, true)?;
    quiet_crate_panics();
    let worker = Arc::new(Worker {
        handler,
        begun: Mutex::new(Begun::default()),
        changed: Condvar::new(),
        is_draining: AtomicBool::new(false),
    });
    let mut last_complaint: Option<Instant> = None;
    loop {
        let mut ready = [&stop, &reloads, &listener].map(|descriptor| PollFd::new(descriptor, PollFlags::IN));
        wait(&mut ready, None)?;
        if !ready[0].revents().is_empty() {
            break;
        }
        if !ready[1].revents().is_empty() {
            (&signals.reload).read_exact(&mut [0])?;
            reload();
        }
        if let Err(error) = accept_waiting(&worker, listener) {
            if last_complaint.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                log::error!("cannot accept a connection: {error}: raise the limit of open files or of processes");
                last_complaint = Some(Instant::now());
            }
            wait(&mut [PollFd::new(&stop, PollFlags::IN)], Some(PAUSE))?;
        }
    }
    worker.is_draining.store(true, Ordering::SeqCst);
    // Where nobody else holds the socket, who is in its queue would be turned away.
    let _ = accept_waiting(&worker, listener);
    let unfinished = worker.drained(Instant::now() + drain);
    if unfinished > 0 {
        log::warn!("{unfinished} requests were not finished after {} ms: raise CALLSTATS_DRAIN_MS", drain.as_millis());
    }
    Ok(())
}

fn wait(ready: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(ready, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets the crate accept all connections that wait. Each gets a thread of its own.
fn accept_waiting<H: Handler>(worker: &Arc<Worker<H>>, listener: BorrowedFd<'_>) -> Result<(), String> {
    let descriptor = listener.as_raw_fd();
    let worker = worker.clone();
    let run = AssertUnwindSafe(|| fastcgi::run_raw(move |request| worker.handle(request), descriptor));
    let accepted = catch_unwind(run);
    let Err(panic) = accepted else { return Ok(()) };
    let error = panic_text(&*panic);
    let passes = [rustix::io::Errno::AGAIN, rustix::io::Errno::INTR, rustix::io::Errno::CONNABORTED];
    if passes.iter().any(|errno| io::Error::from(*errno).to_string() == error) { Ok(()) } else { Err(error) }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

/// Panics of this crate are its way to end a thread, and one of `postgres` is caught where it can happen, and said
/// there; any other is a fault of ours and goes to the log.
fn quiet_crate_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let is_known =
            |file: &str| file.contains("/fastcgi-1.") || file.contains("/postgres-0.") && file.ends_with("/config.rs");
        if !panic.location().is_some_and(|location| is_known(location.file())) {
            log::error!("a fault in callstats, please report it: {panic}");
        }
    }));
}

struct Stdout<'a>(&'a mut fastcgi::Request);

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Client for Stdout<'_> {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn on_disconnect(&self, _: Box<dyn FnOnce() + Send>) -> Box<dyn Watch> {
        Box::new(Unwatched)
    }
}

struct Worker<H> {
    handler: H,
    begun: Mutex<Begun>,
    changed: Condvar,
    is_draining: AtomicBool,
}

#[derive(Default)]
struct Begun {
    requests: usize,
    last_change: Option<Instant>,
}

impl<H: Handler> Worker<H> {
    /// The crate's handler: one request, in the thread of its connection.
    fn handle(&self, mut request: fastcgi::Request) {
        let in_work = InWork::begin(self);
        // A panic in the handler must not run into the crate's own unwinding, which reports success.
        let is_whole = catch_unwind(AssertUnwindSafe(|| self.respond(&mut request))).unwrap_or(false);
        request.exit(if is_whole { 0 } else { 1 });
        drop(in_work);
        if !is_whole || self.is_draining.load(Ordering::SeqCst) {
            // Runs no hook, ends this thread, and with it the connection.
            resume_unwind(Box::new("the connection ends here"));
        }
    }

    fn respond(&self, request: &mut fastcgi::Request) -> bool {
        if request.is_aborted() {
            return true; // the web server wants no answer, just its end
        }
        if !matches!(request.role(), fastcgi::Role::Responder) {
            log::error!("the web server asks for a role other than responder: correct its configuration");
            return false;
        }
        // A body has no meaning here. Read to its end it cannot pile up in the crate's memory later.
        let length = request.param("CONTENT_LENGTH").and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
        if length > 0 && io::copy(&mut request.stdin().take(length), &mut io::sink()).is_err() {
            return true; // aborted, or gone
        }
        let params = CgiParams::collect(|name| request.param(name).map(String::into_bytes));
        (self.handler)(&params, &mut Stdout(request))
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        let mut begun = self.begun();
        change(&mut begun.requests);
        begun.last_change = Some(Instant::now());
        drop(begun);
        // Nobody waits before that, and telling nobody is a system call all the same.
        if self.is_draining.load(Ordering::SeqCst) {
            self.changed.notify_all();
        }
    }

    /// Waits until nothing is in work and nothing new begins; returns how many requests are still in work.
    fn drained(&self, deadline: Instant) -> usize {
        let started = Instant::now();
        let mut begun = self.begun();
        loop {
            let now = Instant::now();
            let quiet_at = begun.last_change.unwrap_or(started).max(started) + QUIET;
            let until = if begun.requests > 0 { deadline } else { quiet_at.min(deadline) };
            if now >= until {
                return begun.requests;
            }
            begun = self.changed.wait_timeout(begun, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Counts a request from its begin to the last byte of its answer.
struct InWork<'a, H: Handler>(&'a Worker<H>);

impl<'a, H: Handler> InWork<'a, H> {
    fn begin(worker: &'a Worker<H>) -> Self {
        worker.change(|requests| *requests += 1);
        Self(worker)
    }
}

impl<H: Handler> Drop for InWork<'_, H> {
    fn drop(&mut self) {
        self.0.change(|requests| *requests -= 1);
    }
}
