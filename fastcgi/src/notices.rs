//! Lines for the operator about limits that were reached: up to one a second of each kind. Touches the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Accept,
    Connections,
    Threads,
    Refused,
    Params,
    RequestTime,
    SendTime,
    IdleTime,
    Setup,
    Panic,
}

/// When each kind was logged last.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    last: Mutex<Vec<(Kind, Instant)>>,
}

impl Notices {
    /// Logs a line unless one of its kind was logged a moment ago.
    pub(crate) fn log(&self, kind: Kind, level: log::Level, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.iter_mut().find(|(found, _)| *found == kind) {
            Some((_, at)) if now.duration_since(*at) < INTERVAL => return,
            Some((_, at)) => *at = now,
            None => last.push((kind, now)),
        }
        drop(last);
        log::log!(level, "{}", text());
    }
}
