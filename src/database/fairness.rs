//! Turns: no asker runs more than its share of the statements at once, so that the others always find a connection.
//! Pure but for its lock.

use crate::store::{self, Asker};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts the turns that are taken.
#[derive(Debug)]
pub struct Turns {
    limit: usize,
    taken: Mutex<BTreeMap<Asker, usize>>,
    given_back: Condvar,
}

impl Turns {
    /// Each asker gets half of the connections, and at least one.
    pub fn new(connections: u32) -> Self {
        let limit = usize::try_from(connections / 2).unwrap_or(usize::MAX).max(1);
        Self { limit, taken: Mutex::default(), given_back: Condvar::new() }
    }

    /// How many turns an asker can have at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A turn of this asker, if one is free.
    pub fn try_take(&self, asker: Asker) -> Option<Turn<'_>> {
        self.take_within(asker, Duration::ZERO)
    }

    /// A turn of this asker; waits for one up to `wait`.
    pub fn take_within(&self, asker: Asker, wait: Duration) -> Option<Turn<'_>> {
        let deadline = Instant::now() + wait;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let turns = taken.entry(asker).or_default();
            if *turns < self.limit {
                *turns += 1;
                return Some(Turn { turns: self, asker });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            taken = self.given_back.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    asker: Asker,
}

impl store::Turn for Turn<'_> {}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = taken.get(&self.asker).is_some_and(|turns| *turns >= self.turns.limit);
        match taken.get_mut(&self.asker) {
            Some(turns) if *turns > 1 => *turns -= 1,
            _ => _ = taken.remove(&self.asker),
        }
        drop(taken);
        // Only an asker whose turns are all taken can have somebody waiting, and telling nobody is a system call too.
        if was_full {
            self.turns.given_back.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asker_gets_half_and_the_others_theirs() {
        for (connections, share) in [(8, 4), (3, 1), (2, 1), (1, 1)] {
            let turns = Turns::new(connections);
            let held: Vec<_> = (0..share).map(|_| turns.try_take(Asker::Company(1)).unwrap()).collect();
            assert!(turns.try_take(Asker::Company(1)).is_none());
            assert!(turns.try_take(Asker::Company(2)).is_some() && turns.try_take(Asker::Root).is_some());
            drop(held);
            assert!(turns.try_take(Asker::Company(1)).is_some());
            assert!(turns.taken.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn a_turn_that_is_given_back_wakes_who_waits() {
        let turns = Turns::new(1);
        let held = turns.try_take(Asker::Root);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.take_within(Asker::Root, Duration::from_secs(60)).is_some());
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }
}
