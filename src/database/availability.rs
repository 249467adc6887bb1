//! Whether the database can be reached, and whether it is worth another try. Touches the log, and nothing else.

use crate::store::DatabaseError;
use crate::store::DatabaseErrorKind::{ConnectionLost, OutOfFileDescriptors, Refused};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often a database that stays unavailable is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// The pause after the first refused login. Each one after it doubles the pause, so that no account is locked.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a try that nobody needs is put off at once.
const NOBODY_WAITS: Duration = Duration::from_secs(1);

/// What is known of the database. Logged once when that changes, and now and then while it cannot be reached.
#[derive(Debug, Default)]
pub struct Availability {
    state: Mutex<State>,
    somebody_waits: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Why no connection can be opened.
    problem: Option<DatabaseError>,
    /// What was logged of that last, and when.
    last_logged: Option<(DatabaseError, Instant)>,
    /// When a connection died last.
    lost_at: Option<Instant>,
    /// When the database replied to a statement last, be it with an error.
    last_reply: Option<SystemTime>,
    /// Logins were refused.
    refusal: Option<Refusal>,
    /// Open connections.
    open: u32,
    /// Requests that wait for a connection.
    waiting: u32,
}

#[derive(Debug)]
struct Refusal {
    /// A digest of what was refused.
    credentials: u64,
    pause: Duration,
    until: Instant,
}

impl Availability {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to try to connect now. If not, the last error. Waits a while for somebody to need the connection.
    pub fn may_connect(&self, credentials: u64) -> Result<(), DatabaseError> {
        let mut state = self.state();
        if state.problem.is_some() && state.open > 0 && state.waiting == 0 {
            let waited = self.somebody_waits.wait_timeout(state, NOBODY_WAITS);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let Some(problem) = state.problem.clone() else { return Ok(()) };
        if state.open > 0 && state.waiting == 0 {
            return Err(problem);
        }
        match &mut state.refusal {
            Some(refusal) if refusal.credentials == credentials && Instant::now() < refusal.until => Err(problem),
            Some(refusal) => {
                refusal.until = Instant::now() + refusal.pause; // the others keep their pause meanwhile
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes how a try to connect ended.
    pub fn record_connect(&self, credentials: u64, error: Option<&DatabaseError>) {
        let mut state = self.state();
        let Some(error) = error else {
            state.open += 1;
            state.problem = None;
            state.refusal = None;
            if state.last_logged.take().is_some() {
                log::info!("the database is available again");
            }
            return;
        };
        state.problem = Some(error.clone());
        if error.kind == Refused {
            let pause = state.refusal.as_ref().map_or(FIRST_PAUSE, |refusal| (refusal.pause * 2).min(LONGEST_PAUSE));
            state.refusal = Some(Refusal { credentials, pause, until: Instant::now() + pause });
        } else {
            state.refusal = None;
        }
        if error.kind == OutOfFileDescriptors {
            return; // the accept loop logs that, once a second
        }
        // A server that stops or starts has several errors in turns.
        let pause = match &state.last_logged {
            None => Duration::ZERO,
            Some((last, _)) if last == error => REMINDER,
            Some(_) => Duration::from_secs(1),
        };
        if state.last_logged.as_ref().is_none_or(|(_, at)| at.elapsed() >= pause) {
            log::error!("{}; retrying. Hint: {}", error.message, error.hint);
            state.last_logged = Some((error.clone(), Instant::now()));
        }
    }

    /// Notes that a connection was closed.
    pub fn record_close(&self) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
    }

    /// Notes that a request waits for a connection, until the result is dropped.
    pub fn waiting(&self) -> Waiting<'_> {
        self.state().waiting += 1;
        self.somebody_waits.notify_all();
        Waiting(self)
    }

    pub fn problem(&self) -> Option<DatabaseError> {
        self.state().problem.clone()
    }

    pub fn open_connections(&self) -> u32 {
        self.state().open
    }

    pub fn last_reply(&self) -> Option<SystemTime> {
        self.state().last_reply
    }

    /// Notes how a statement ended.
    pub fn record_reply(&self, error: Option<&DatabaseError>) {
        match error {
            Some(error) if error.kind == ConnectionLost => self.state().lost_at = Some(Instant::now()),
            _ => self.state().last_reply = Some(SystemTime::now()),
        }
    }

    pub fn has_lost_since(&self, instant: Instant) -> bool {
        self.state().lost_at.is_some_and(|lost_at| lost_at >= instant)
    }
}

/// A request that waits for a connection.
pub struct Waiting<'a>(&'a Availability);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseErrorKind::Unavailable;

    fn error(kind: crate::store::DatabaseErrorKind) -> DatabaseError {
        DatabaseError::new(kind, "x", "y")
    }

    #[test]
    fn refused_logins_have_growing_pauses() {
        let availability = Availability::default();
        let pause = || availability.state().refusal.as_ref().map(|refusal| refusal.pause.as_secs());
        assert_eq!(availability.may_connect(1), Ok(()));
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            availability.record_connect(1, Some(&error(Refused)));
            assert_eq!(pause(), Some(expected));
            assert!(availability.may_connect(1).is_err());
        }
        assert_eq!(availability.may_connect(2), Ok(()), "another password is worth a try at once");
        availability.record_connect(2, None);
        assert_eq!((pause(), availability.may_connect(1)), (None, Ok(())));
        availability.record_connect(1, Some(&error(Unavailable)));
        availability.record_close();
        assert_eq!(availability.may_connect(1), Ok(()), "other errors have no pause");
    }

    #[test]
    fn nobody_connects_in_vain_while_connections_are_open() {
        let availability = Availability::default();
        availability.record_connect(1, None);
        availability.record_connect(1, Some(&error(Unavailable)));
        assert!(availability.may_connect(1).is_err());
        let waiting = availability.waiting();
        assert_eq!(availability.may_connect(1), Ok(()));
        drop(waiting);
        availability.record_close();
        assert_eq!(availability.may_connect(1), Ok(()));
    }
}
