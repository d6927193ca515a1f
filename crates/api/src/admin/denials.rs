//! How much of what is denied is recorded: each key has a burst of records and then one a second, and none is large.
//!
//! Anybody with a key can have something denied as often as they like, and a record is there for good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use remit_core::{AdminAction, EntityUid, KeyId};
use serde_json::{Value, json};

/// How many denials of a key are recorded at once; one more a second after that.
const BURST: u64 = 20;
/// How many keys are watched; with more, the one that was denied longest ago begins anew.
const KEYS: usize = 4_096;
/// The longest text of a record of a denial, in bytes; as long as what is indexed of a decision.
const TEXT_BYTES: usize = 1_024;

/// What each key has left.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<KeyId, Left>>);

/// What one key has left.
#[derive(Debug)]
struct Left {
    records: u64,
    /// From when on the next record is counted.
    since: Instant,
    /// How many denials were not recorded since the last that was.
    suppressed: u64,
}

/// Leave to write one record; given back unless it was written.
#[derive(Debug)]
pub(crate) struct Leave<'a> {
    of: &'a Denials,
    key: KeyId,
    /// How many denials were not recorded since the one before.
    suppressed: u64,
    written: bool,
}

// === impl Denials ===

impl Denials {
    /// Takes a record of what `key` has left at `now`; `None` where that is nothing, which is counted.
    pub(crate) fn take(&self, key: KeyId, now: Instant) -> Option<Leave<'_>> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS && !keys.contains_key(&key) {
            let oldest = keys.iter().min_by_key(|(_, left)| left.since);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                keys.remove(&oldest);
            }
        }
        let left = keys.entry(key).or_insert(Left {
            records: BURST,
            since: now,
            suppressed: 0,
        });
        let more = now.saturating_duration_since(left.since).as_secs();
        left.records = left.records.saturating_add(more).min(BURST);
        left.since += Duration::from_secs(more);
        if left.records == BURST {
            left.since = now;
        }
        let Some(rest) = left.records.checked_sub(1) else {
            left.suppressed = left.suppressed.saturating_add(1);
            return None;
        };
        left.records = rest;
        Some(Leave {
            of: self,
            key,
            suppressed: std::mem::take(&mut left.suppressed),
            written: false,
        })
    }
}

// === impl Leave ===

impl Leave<'_> {
    /// Makes the record as it is written: cut, and with how many there were before it that are not.
    pub(crate) fn of(&self, record: &AdminAction) -> AdminAction {
        let mut record = cut(record);
        if self.suppressed > 0 {
            let suppressed = json!(self.suppressed);
            record.details.insert("suppressed".to_owned(), suppressed);
        }
        record
    }

    /// Says that the record is there.
    pub(crate) fn written(mut self) {
        self.written = true;
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        let mut keys = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = keys.get_mut(&self.key) {
            left.suppressed = left.suppressed.saturating_add(self.suppressed);
        }
    }
}

/// Cuts every text that the request has given.
fn cut(record: &AdminAction) -> AdminAction {
    let resource = &record.resource;
    let details = record.details.iter();
    AdminAction {
        resource: EntityUid::new(text(resource.kind.as_str()), text(resource.id.as_str())),
        details: details
            .map(|(name, value)| (name.clone(), short(value)))
            .collect(),
        ..record.clone()
    }
}

fn short(value: &Value) -> Value {
    match value {
        Value::String(long) => Value::String(text(long)),
        Value::Array(items) => items.iter().map(short).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (text(name), short(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Cuts a text; a NUL character, which Postgres cannot hold, is replaced: no denial may be too odd to be recorded.
fn text(long: &str) -> String {
    let end = long.floor_char_boundary(TEXT_BYTES);
    let short = long.get(..end).unwrap_or_default();
    short.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use remit_core::Clock;

    use super::*;

    #[test]
    fn a_key_has_a_burst_and_then_one_a_second() {
        let (denials, clock) = (Denials::default(), Clock::system());
        let key = KeyId::from_uuid(clock.id());
        let other = KeyId::from_uuid(clock.id());
        let begin = Instant::now();
        let after = |millis: u64| begin + Duration::from_millis(millis);
        for _ in 0..BURST {
            let leave = denials.take(key, begin).unwrap();
            assert_eq!(leave.suppressed, 0);
            leave.written();
        }
        for at in [0, 500, 999] {
            assert!(denials.take(key, after(at)).is_none());
        }
        denials.take(other, begin).unwrap().written();
        // One that could not be written does not lose what it was to tell.
        assert_eq!(denials.take(key, after(1_000)).unwrap().suppressed, 3);
        assert!(denials.take(key, after(1_900)).is_none());
        let next = denials.take(key, after(2_000)).unwrap();
        assert_eq!(next.suppressed, 4);
        next.written();
        // However long it was quiet, it is one burst.
        let late = after(1_000_000);
        let taken = (0..100).filter(|_| match denials.take(key, late) {
            Some(leave) => {
                leave.written();
                true
            }
            None => false,
        });
        assert_eq!(taken.count(), 20);
    }

    #[test]
    fn the_keys_that_are_watched_are_bounded() {
        let (denials, clock) = (Denials::default(), Clock::system());
        let begin = Instant::now();
        let first = KeyId::from_uuid(clock.id());
        for _ in 0..=BURST {
            if let Some(leave) = denials.take(first, begin) {
                leave.written();
            }
        }
        for number in 0..KEYS {
            let now = begin + Duration::from_nanos(1 + number as u64);
            let key = KeyId::from_uuid(clock.id());
            denials.take(key, now).unwrap().written();
        }
        let keys = denials.0.lock().unwrap();
        assert_eq!(keys.len(), KEYS);
        assert!(!keys.contains_key(&first));
    }
}
