//! Answers that wait for the end of an access request: few at once, so that they take no room from decisions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use remit_core::{PrincipalName, TenantId};

/// How many answers wait at once.
const MOST: usize = 128;
/// How many of one principal.
const MOST_OF_ONE: usize = 16;

/// Who waits, with the tenant that they are of.
type Who = (TenantId, PrincipalName);

/// The answers that wait now.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<BTreeMap<Who, usize>>);

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    who: Who,
}

// === impl Waiting ===

impl Waiting {
    /// Takes a place; `None` where as many wait as may.
    pub(crate) fn place(&self, who: Who) -> Option<Place<'_>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&who).copied().unwrap_or_default();
        if own >= MOST_OF_ONE || counts.values().sum::<usize>() >= MOST {
            return None;
        }
        counts.insert(who.clone(), own + 1);
        Some(Place { waiting: self, who })
    }
}

// === impl Place ===

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let counts = self.waiting.0.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.who) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use remit_core::TenantId;

    use super::{MOST, MOST_OF_ONE, Waiting};

    #[test]
    fn few_wait_and_fewer_of_one() {
        let waiting = Waiting::default();
        let who = |number: usize| (TenantId::NIL, format!("pep-{number}").parse().unwrap());
        let mut places = Vec::new();
        for number in 0..MOST / MOST_OF_ONE {
            for _ in 0..MOST_OF_ONE {
                places.push(waiting.place(who(number)).unwrap());
            }
            assert!(waiting.place(who(number)).is_none());
        }
        assert!(waiting.place(who(1_000)).is_none());
        drop(places.pop());
        assert!(waiting.place(who(0)).is_none());
        let last = waiting.place(who(1_000)).unwrap();
        assert!(waiting.place(who(1_001)).is_none());
        drop((places, last));
        assert!(waiting.0.lock().unwrap().is_empty());
    }
}
