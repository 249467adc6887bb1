//! Limits that were reached: counted, and logged up to once a second for each kind. Touches the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// What happened to a connection, or kept it from being accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// Nothing was accepted for a moment because of an error, such as too many open files.
    AcceptError,
    /// Nothing was accepted for a moment because of [`Options::max_connections`](crate::Options::max_connections).
    ConnectionLimit,
    /// Closed at once: there was no thread for it.
    NoThread,
    /// Closed at once: its peer is not in [`Options::allowed_peers`](crate::Options::allowed_peers).
    PeerRefused,
    /// Closed at once: its options could not be set, usually because the peer had left.
    SetupError,
    /// Closed because of [`Options::max_params_bytes`](crate::Options::max_params_bytes).
    ParamsLimit,
    /// Closed because of [`Options::request_timeout`](crate::Options::request_timeout).
    RequestTimeout,
    /// Closed because of [`Options::send_timeout`](crate::Options::send_timeout).
    SendTimeout,
    /// Closed because of [`Options::idle_timeout`](crate::Options::idle_timeout).
    IdleTimeout,
    /// Closed because the handler panicked.
    HandlerPanic,
}

/// What happened since the start, for monitoring: a clone of [`Options::counters`](crate::Options::counters) sees what
/// its server counts.
#[derive(Debug, Default)]
pub struct Counters {
    incidents: [AtomicU64; Incident::HandlerPanic as usize + 1],
    pub(crate) open: AtomicU64,
}

impl Counters {
    /// How often this happened.
    pub fn count(&self, incident: Incident) -> u64 {
        self.incidents.get(incident as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

/// The counters, and when each kind was logged last.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    pub(crate) counters: Arc<Counters>,
    last: Mutex<Vec<(Incident, Instant)>>,
}

impl Notices {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, last: Mutex::default() }
    }

    /// Counts an incident, and logs a line unless one of its kind was logged a moment ago.
    pub(crate) fn log(&self, incident: Incident, level: log::Level, text: impl FnOnce() -> String) {
        if let Some(count) = self.counters.incidents.get(incident as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.iter_mut().find(|(found, _)| *found == incident) {
            Some((_, at)) if now.duration_since(*at) < INTERVAL => return,
            Some((_, at)) => *at = now,
            None => last.push((incident, now)),
        }
        drop(last);
        log::log!(level, "{}", text());
    }
}
