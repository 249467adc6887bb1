//! A client may disconnect while it waits for a response: one thread watches all requests that asked for it. Touches
//! their sockets and starts threads.
//!
//! A request that never registers costs nothing, and one that is over within [`GRACE`] costs no system call as long as
//! others are in flight: its socket is looked at only when it has been registered for that long.

use crate::parser::AbortScan;
use crate::socket::{Family, Socket, wait};
use rustix::event::{PollFd, PollFlags};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests that are over within this are never looked at.
const GRACE: Duration = Duration::from_millis(100);
/// How often new requests are taken in.
const TICK: Duration = Duration::from_millis(250);
/// The bytes of unread input in which an abort is looked for.
const PEEK_BYTES: usize = 64 * 1024;

type Action = Box<dyn FnOnce() + Send>;

/// The registered requests of a server.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<u64, Arc<Entry>>,
    last_id: u64,
    has_thread: bool,
    is_asleep: bool,
    is_over: bool,
    /// Something was registered since the thread looked last, so more is likely.
    is_busy: bool,
}

struct Entry {
    id: u64,
    socket: Arc<Socket>,
    since: Instant,
    scan: AbortScan,
    /// How often the socket had been read at that time.
    reads: u64,
    /// Unread input is waiting: polling for more would report it again and again.
    has_input: AtomicBool,
    action: Mutex<Option<Action>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Entry").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Lets an action run when the peer disconnects, until it is dropped. After that, the action has either run to its end
/// or never will.
#[derive(Debug)]
#[must_use = "the action is forgotten when this is dropped"]
pub struct DisconnectGuard {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        self.shared.lock().entries.remove(&self.entry.id);
        // Waits for an action that runs.
        self.entry.action.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Watcher {
    pub(crate) fn register(
        &self,
        socket: &Arc<Socket>,
        scan: AbortScan,
        is_aborted: bool,
        action: Action,
    ) -> DisconnectGuard {
        let mut state = self.shared.lock();
        state.last_id += 1;
        let entry = Arc::new(Entry {
            id: state.last_id,
            socket: socket.clone(),
            since: Instant::now(),
            scan,
            reads: socket.reads(),
            has_input: AtomicBool::new(false),
            action: Mutex::new(Some(action)),
        });
        if is_aborted {
            drop(state);
            fire(&entry);
            return DisconnectGuard { shared: self.shared.clone(), entry };
        }
        state.entries.insert(entry.id, entry.clone());
        state.is_busy = true;
        if !state.has_thread {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || shared.run());
            state.has_thread = started.is_ok();
            if let Err(error) = started {
                log::warn!("cannot start the thread that watches for clients that leave: {error}");
            }
        }
        if std::mem::take(&mut state.is_asleep) {
            self.shared.wake.notify_one();
        }
        DisconnectGuard { shared: self.shared.clone(), entry }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut peeked = Vec::new();
        let mut state = self.lock();
        while !state.is_over {
            let was_busy = std::mem::take(&mut state.is_busy);
            let due: Vec<_> = state.entries.values().filter(|entry| entry.since.elapsed() >= GRACE).cloned().collect();
            if !due.is_empty() {
                drop(state);
                for entry in look(&due, &mut peeked) {
                    self.lock().entries.remove(&entry.id);
                    fire(entry);
                }
                state = self.lock();
            } else if was_busy || !state.entries.is_empty() {
                state = self.wake.wait_timeout(state, GRACE).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state.is_asleep = true;
                while state.is_asleep && !state.is_over {
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Waits for a moment; returns whose peer has gone or aborted.
fn look<'a>(entries: &'a [Arc<Entry>], peeked: &mut Vec<u8>) -> Vec<&'a Arc<Entry>> {
    let mut ready: Vec<_> = entries.iter().map(|entry| PollFd::new(&*entry.socket, entry.interest())).collect();
    if wait(&mut ready, Some(TICK)).is_err() {
        std::thread::sleep(TICK); // not reached with valid descriptors
        return Vec::new();
    }
    let gone = entries.iter().zip(&ready).filter(|(entry, ready)| entry.is_gone(ready.revents(), peeked));
    gone.map(|(entry, _)| entry).collect()
}

impl Entry {
    fn interest(&self) -> PollFlags {
        let is_quiet = self.has_input.load(Ordering::Relaxed);
        let input = if is_quiet { PollFlags::empty() } else { PollFlags::IN };
        // A peer that closes a TCP connection looks like one that has nothing more to send, and web servers do only the
        // former. On a Unix socket the two differ: closing is POLLHUP, which is always reported.
        if self.socket.family() == Family::Tcp { input | PollFlags::RDHUP } else { input }
    }

    fn is_gone(&self, ready: PollFlags, peeked: &mut Vec<u8>) -> bool {
        if ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP) {
            return true;
        }
        let had_input = self.has_input.load(Ordering::Relaxed);
        if !had_input && !ready.contains(PollFlags::IN) {
            return false;
        }
        self.has_input.store(true, Ordering::Relaxed);
        peeked.reserve_exact(PEEK_BYTES);
        let count = self.socket.peek(peeked).unwrap_or(0);
        // Who reads the input meanwhile meets the abort there.
        self.socket.reads() == self.reads && self.scan.clone().finds_abort(peeked.get(..count).unwrap_or_default())
    }
}

/// Runs the action in a thread of its own: one that takes long must not delay others.
fn fire(entry: &Arc<Entry>) {
    let run = |entry: &Entry| {
        let mut action = entry.action.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(action) = action.take() {
            action();
        }
    };
    let own = entry.clone();
    if std::thread::Builder::new().spawn(move || run(&own)).is_err() {
        run(entry);
    }
}
