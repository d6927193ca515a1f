//! Records: what is read from a body can be written canonically, and read again as the same.

use remit_core::{Bundle, DecisionRecord, Entity, canonical_json};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::strict::see;

/// Reads an input as a record, as a bundle and as an entity: everything that is kept as canonical JSON.
pub fn record(data: &[u8]) {
    again::<DecisionRecord>(data);
    again::<Bundle>(data);
    again::<Entity>(data);
}

fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else {
        return;
    };
    // A number that is not finite or not exact is refused, and then nothing is recorded.
    let Ok(first) = canonical_json(&value) else {
        return;
    };
    let read: T = serde_json::from_slice(&first).expect("canonical JSON can be read");
    let second = canonical_json(&read).expect("what was canonical can be written again");
    assert_eq!(
        String::from_utf8_lossy(&first),
        String::from_utf8_lossy(&second)
    );
    // The product unifies its numbers before; what has none to unify is equal, not only equal as text.
    if see(&first).is_some_and(|seen| !seen.fractions && !seen.inexact)
        && see(data).is_some_and(|seen| !seen.fractions && !seen.inexact)
    {
        assert_eq!(read, value);
    }
}
