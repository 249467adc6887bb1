//! Names of hosts to addresses, within a limit. The system's resolver has none, so it runs in a thread of its own: one
//! for each name, however often and by whomever the name is asked for meanwhile. Touches the network.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Looks names up.
#[derive(Debug, Default)]
pub struct Resolver(Mutex<HashMap<String, Arc<LookUp>>>);

#[derive(Debug, Default)]
struct LookUp {
    /// The error as text, because several may wait for it.
    addresses: Mutex<Option<Result<Vec<IpAddr>, String>>>,
    is_done: Condvar,
}

impl Resolver {
    pub fn resolve(&self, name: &str, limit: Duration) -> Result<Vec<IpAddr>, String> {
        let deadline = Instant::now() + limit;
        let look_up = self.look_up(name).map_err(|error| format!("cannot start a thread: {error}"))?;
        let mut addresses = look_up.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        while addresses.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("the name server did not reply within {} ms", limit.as_millis()));
            }
            addresses = look_up.is_done.wait_timeout(addresses, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let result = addresses.clone().unwrap_or_else(|| Ok(Vec::new()));
        drop(addresses);
        let mut look_ups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if look_ups.get(name).is_some_and(|current| Arc::ptr_eq(current, &look_up)) {
            look_ups.remove(name);
        }
        result
    }

    /// The look-up of this name that runs, or a new one.
    fn look_up(&self, name: &str) -> io::Result<Arc<LookUp>> {
        let mut look_ups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = look_ups.get(name) {
            return Ok(running.clone());
        }
        let look_up = Arc::<LookUp>::default();
        let (for_thread, host) = (look_up.clone(), name.to_owned());
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let addresses = (host.as_str(), 0).to_socket_addrs();
            let addresses = addresses.map(|addresses| addresses.map(|address| address.ip()).collect());
            *for_thread.addresses.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(addresses.map_err(|error| error.to_string()));
            for_thread.is_done.notify_all();
        })?;
        look_ups.insert(name.to_owned(), look_up.clone());
        Ok(look_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_addresses_or_an_error() {
        let resolver = Resolver::default();
        assert!(resolver.resolve("localhost", Duration::from_secs(5)).unwrap().iter().any(IpAddr::is_loopback));
        assert!(resolver.resolve("no such host", Duration::from_secs(5)).is_err());
        assert!(resolver.0.lock().unwrap().is_empty());
    }
}
