//! Listens: accepts connections within limits, gives each a thread, and stops on request, after what is in flight.
//! Touches the listening socket and starts threads.

use crate::connection::Connection;
use crate::notices::{Counters, Incident, Notices};
use crate::peers::AllowedPeers;
use crate::request::Request;
use crate::socket::{Family, Socket, wait};
use crate::watch::Watcher;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, sockopt};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long nothing is accepted after an error that only time fixes.
const PAUSE: Duration = Duration::from_millis(100);
/// How many connections are accepted before wakers are looked at.
const ACCEPTED_AT_ONCE: usize = 64;
/// Any process that shares the listening socket can make it blocking at any moment: this bounds the wait.
const ACCEPT_LIMIT: Duration = Duration::from_secs(1);
/// How long no request may start before a drain is over: a connection can be accepted while its request is still on
/// its way through the socket.
const QUIET: Duration = Duration::from_millis(50);

/// The limits of a server. Whenever one is reached, a line of the log says so, up to one a second for each.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections, and so threads, at one time: 10,000. Others wait in the listen queue.
    pub max_connections: usize,
    /// Bytes of the parameters of a request: 1 MiB. Beyond it the connection ends.
    pub max_params_bytes: usize,
    /// How long a request may take to arrive, from its first byte to its last parameter, and how long each piece of
    /// its input may take: 30 s. Then the connection ends.
    pub request_timeout: Duration,
    /// How long a web server may take none of an answer: 60 s. Then the connection ends.
    pub send_timeout: Duration,
    /// How long a connection may be without a request: no limit. A web server that uses a kept connection at the very
    /// moment of its end has to try again, and not all do; set it longer than the web server keeps connections.
    pub idle_timeout: Option<Duration>,
    /// Stack of a connection's thread: 1 MiB. The kernel provides only what is used of it.
    pub stack_bytes: usize,
    /// Who may connect over TCP: everybody.
    pub allowed_peers: AllowedPeers,
    /// Where a server counts; one of its own.
    pub counters: Arc<Counters>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_params_bytes: 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(60),
            idle_timeout: None,
            stack_bytes: 1024 * 1024,
            allowed_peers: AllowedPeers::all(),
            counters: Arc::default(),
        }
    }
}

/// Serves requests from listening sockets.
pub struct Server {
    shared: Arc<Shared>,
    handler: Arc<dyn Fn(Request) + Send + Sync>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// What the threads of a server share.
pub(crate) struct Shared {
    options: Options,
    pub(crate) notices: Notices,
    pub(crate) watcher: Watcher,
    connections: Mutex<Connections>,
    in_flight: Mutex<InFlight>,
    changed: Condvar,
    is_draining: AtomicBool,
}

#[derive(Default)]
struct Connections {
    sockets: HashMap<u64, Weak<Socket>>,
    last_id: u64,
}

#[derive(Default)]
struct InFlight {
    requests: usize,
    last_change: Option<Instant>,
}

/// Why a connection was not accepted.
enum NotAccepted {
    /// There is none, or it is gone already.
    Nobody,
    /// Only time fixes it.
    Pause,
    /// Nothing fixes it.
    Fatal(io::Error),
}

impl Server {
    /// Calls `handler` for each request, in the thread of its connection. A panic of the handler is logged and closes
    /// the connection.
    pub fn new(options: Options, handler: impl Fn(Request) + Send + Sync + 'static) -> Self {
        let shared = Shared {
            notices: Notices::new(options.counters.clone()),
            options,
            watcher: Watcher::default(),
            connections: Mutex::default(),
            in_flight: Mutex::default(),
            changed: Condvar::new(),
            is_draining: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), handler: Arc::new(handler) }
    }

    /// Accepts connections until `on_wake` breaks; it is called with the index of a descriptor in `wakers` whenever
    /// that is readable. An error means that the listening socket is none, or not any more.
    pub fn serve(
        &self,
        listener: BorrowedFd<'_>,
        wakers: &[BorrowedFd<'_>],
        mut on_wake: impl FnMut(usize) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let family = Family::of(listener)?;
        sockopt::set_socket_timeout(listener, sockopt::Timeout::Recv, Some(ACCEPT_LIMIT))?;
        let mut is_paused = false;
        loop {
            let mut ready: Vec<_> = wakers.iter().map(|waker| PollFd::new(waker, PollFlags::IN)).collect();
            if !is_paused {
                ready.push(PollFd::new(&listener, PollFlags::IN));
            }
            wait(&mut ready, is_paused.then_some(PAUSE))?;
            is_paused = false;
            let is_ready = |(index, ready): (usize, &PollFd<'_>)| (!ready.revents().is_empty()).then_some(index);
            for index in ready.iter().enumerate().filter_map(is_ready) {
                if index < wakers.len() {
                    if on_wake(index).is_break() {
                        return Ok(());
                    }
                    continue;
                }
                // Many waiting connections are accepted in portions, so that wakers are heard.
                for _ in 0..ACCEPTED_AT_ONCE {
                    match self.accept(listener, family) {
                        Ok(()) => continue,
                        Err(NotAccepted::Nobody) => (),
                        Err(NotAccepted::Pause) => is_paused = true,
                        Err(NotAccepted::Fatal(error)) => return Err(error),
                    }
                    break;
                }
            }
        }
    }

    /// Accepts what waits in the listen queue, ends each connection after its request, and waits for requests in
    /// flight, up to `limit`; returns how many are not finished. Then all connections end.
    pub fn shut_down(&self, listener: BorrowedFd<'_>, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        self.shared.is_draining.store(true, Ordering::SeqCst);
        if let Ok(family) = Family::of(listener) {
            while self.accept(listener, family).is_ok() && Instant::now() < deadline {}
        }
        let unfinished = self.shared.drained(deadline);
        for socket in self.shared.connections().sockets.values().filter_map(Weak::upgrade) {
            socket.shut_down();
        }
        unfinished
    }

    fn accept(&self, listener: BorrowedFd<'_>, family: Family) -> Result<(), NotAccepted> {
        let (shared, options) = (&self.shared, &self.shared.options);
        if shared.connections().sockets.len() >= options.max_connections.max(1) {
            shared.notices.log(Incident::ConnectionLimit, log::Level::Warn, || {
                let count = options.max_connections;
                format!("connection limit reached ({count}); new connections wait in the listen queue")
            });
            return Err(NotAccepted::Pause);
        }
        // Before each, because the flag is shared with whoever has the same socket open.
        rustix::io::ioctl_fionbio(listener, true).map_err(|error| NotAccepted::Fatal(error.into()))?;
        let (descriptor, address) = match acceptfrom_with(listener, SocketFlags::CLOEXEC) {
            Ok(accepted) => accepted,
            Err(error) => return Err(self.not_accepted(error)),
        };
        if family == Family::Tcp {
            let address = address.and_then(|address| SocketAddr::try_from(address).ok());
            if !address.is_some_and(|address| options.allowed_peers.allow(address.ip())) {
                shared.notices.log(Incident::PeerRefused, log::Level::Warn, || {
                    let address = address.map_or("unknown".into(), |address| address.ip().to_string());
                    format!("a peer with the address {address} is not in FCGI_WEB_SERVER_ADDRS: it is refused")
                });
                return Ok(());
            }
        }
        self.start(descriptor, family);
        Ok(())
    }

    fn not_accepted(&self, error: Errno) -> NotAccepted {
        match error {
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => return NotAccepted::Fatal(error.into()),
            // The peer left before it was accepted, or another worker was faster.
            Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PROTO => return NotAccepted::Nobody,
            _ => (),
        }
        let hint = match error {
            Errno::MFILE | Errno::NFILE => ". Hint: raise the limit of open files",
            _ => "",
        };
        let line = || format!("cannot accept a connection: {}{hint}", io::Error::from(error));
        self.shared.notices.log(Incident::AcceptError, log::Level::Error, line);
        NotAccepted::Pause
    }

    /// Gives a connection its thread. Where that fails, it is closed at once.
    fn start(&self, descriptor: OwnedFd, family: Family) {
        let shared = &self.shared;
        let socket = match Socket::new(descriptor, family, shared.options.idle_timeout) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                // Such as a TCP peer that has left already.
                let line = || format!("cannot set the options of a connection: {error}");
                return shared.notices.log(Incident::SetupError, log::Level::Info, line);
            }
        };
        let registered = Registered::new(shared, &socket);
        let handler = self.handler.clone();
        let run = move || {
            let shared = registered.shared.clone();
            Connection::new(shared, socket).run(&*handler);
        };
        if let Err(error) = std::thread::Builder::new().stack_size(shared.options.stack_bytes).spawn(run) {
            shared.notices.log(Incident::NoThread, log::Level::Error, || {
                format!(
                    "cannot start a thread for a connection, which is closed: {error}. \
                     Hint: raise the limit of processes, or allow fewer connections"
                )
            });
        }
    }
}

/// The place of a connection among those that are counted.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
}

impl Registered {
    fn new(shared: &Arc<Shared>, socket: &Arc<Socket>) -> Self {
        let mut connections = shared.connections();
        connections.last_id += 1;
        let id = connections.last_id;
        connections.sockets.insert(id, Arc::downgrade(socket));
        shared.notices.counters.open.fetch_add(1, Ordering::Relaxed);
        Self { shared: shared.clone(), id }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.connections().sockets.remove(&self.id);
        self.shared.notices.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(&self) -> RequestInFlight<'_> {
        self.change(|requests| *requests += 1);
        RequestInFlight(self)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        let mut in_flight = self.in_flight();
        change(&mut in_flight.requests);
        in_flight.last_change = Some(Instant::now());
        drop(in_flight);
        // Nobody waits before that, and a notification is a system call all the same.
        if self.is_draining() {
            self.changed.notify_all();
        }
    }

    /// Waits until nothing is in flight and nothing new begins; returns how many requests are still in flight.
    fn drained(&self, deadline: Instant) -> usize {
        let started = Instant::now();
        let mut in_flight = self.in_flight();
        loop {
            let now = Instant::now();
            let quiet_at = in_flight.last_change.unwrap_or(started).max(started) + QUIET;
            let until = if in_flight.requests > 0 { deadline } else { quiet_at.min(deadline) };
            if now >= until {
                return in_flight.requests;
            }
            in_flight = self.changed.wait_timeout(in_flight, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

pub(crate) struct RequestInFlight<'a>(&'a Shared);

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        self.0.change(|requests| *requests -= 1);
    }
}
