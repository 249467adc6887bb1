//! Names of hosts to addresses, within a limit. The system's resolver has none, so it runs in threads of its own, which
//! all share who ask for the same name meanwhile. Touches the network.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The system's resolver repeats a lost question after five seconds. If it takes longer than this, another look-up
/// starts beside it, so that a name server that has recovered is noticed soon.
const PATIENCE: Duration = Duration::from_secs(1);
/// Look-ups of a name that run at once.
const MOST: u32 = 8;

/// Looks names up.
#[derive(Debug, Default)]
pub struct Resolver(Mutex<HashMap<String, Arc<Name>>>);

#[derive(Debug, Default)]
struct Name {
    state: Mutex<State>,
    is_done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: u32,
    /// When the last look-up started.
    started: Option<Instant>,
    /// Look-ups that ended.
    done: u64,
    /// What the last of them found.
    last: Option<Found>,
}

#[derive(Debug, Clone)]
struct Found {
    /// Without a port; link-local ones with their interface. An error is kept as text, because several may wait for it.
    addresses: Result<Vec<SocketAddr>, String>,
    took: Duration,
}

impl Resolver {
    pub fn resolve(&self, host: &str, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        let deadline = Instant::now() + limit;
        let name = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(host.to_owned()).or_default().clone();
        let mut state = name.state();
        let done = state.done;
        while state.done == done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(no_reply(limit));
            }
            let is_slow = state.started.is_none_or(|started| started.elapsed() >= PATIENCE);
            if state.running == 0 || is_slow && state.running < MOST {
                match look_up(name.clone(), host.to_owned()) {
                    Ok(()) => {
                        state.running += 1;
                        state.started = Some(Instant::now());
                    }
                    Err(error) if state.running == 0 => return Err(format!("cannot start a thread: {error}")),
                    Err(_) => (), // those that run may answer
                }
            }
            state = name.is_done.wait_timeout(state, left.min(PATIENCE)).unwrap_or_else(PoisonError::into_inner).0;
        }
        match &state.last {
            Some(Found { addresses: Err(_), took }) if *took >= limit => Err(no_reply(limit)),
            Some(found) => found.addresses.clone(),
            None => Ok(Vec::new()),
        }
    }
}

impl Name {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_up(name: Arc<Name>, host: String) -> io::Result<()> {
    let work = move || {
        let started = Instant::now();
        let found = (host.as_str(), 0).to_socket_addrs();
        let addresses = found.map(Iterator::collect).map_err(|error| error.to_string());
        let mut state = name.state();
        state.running -= 1;
        state.done += 1;
        state.last = Some(Found { addresses, took: started.elapsed() });
        name.is_done.notify_all();
    };
    std::thread::Builder::new().name("resolver".into()).spawn(work).map(|_| ())
}

fn no_reply(limit: Duration) -> String {
    format!("the name server did not reply within {} ms", limit.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_addresses_or_an_error() {
        let resolver = Resolver::default();
        let found = resolver.resolve("localhost", Duration::from_secs(5)).unwrap();
        assert!(found.iter().any(|address| address.ip().is_loopback()));
        assert!(resolver.resolve("no such host", Duration::from_secs(5)).is_err());
        assert!(resolver.0.lock().unwrap().values().all(|name| name.state().running == 0));
    }
}
