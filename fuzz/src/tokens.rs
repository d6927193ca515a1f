//! Paging tokens: a token opens for its own query and key and says what was sealed; any other text opens for none.

use arbitrary::{Arbitrary, Unstructured};
use remit_api::fuzzing::{open, seal};
use remit_core::{DecisionId, EntityUid};
use serde_json::Value;
use uuid::Uuid;

/// What is done to a sealed token on its way.
#[derive(Debug, Arbitrary)]
enum Change {
    /// A byte becomes another.
    Set(u16, u8),
    /// A byte is put in.
    Insert(u16, u8),
    /// A byte is left out.
    Remove(u16),
    /// The rest is left out.
    Cut(u16),
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    key: [u8; 4],
    other_key: [u8; 4],
    query: &'a [u8],
    other_query: &'a [u8],
    decision: [u8; 16],
    kind: &'a str,
    id: &'a str,
    changes: Vec<Change>,
    text: &'a str,
}

/// Seals cursors, changes the tokens, and opens what came of them.
pub fn tokens(data: &[u8]) {
    // Whatever it is, it was not sealed here.
    if let Ok(text) = std::str::from_utf8(data) {
        forged(text, b"");
    }
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    forged(input.text, input.query);
    let decision = DecisionId::from_uuid(Uuid::from_bytes(input.decision));
    let entity = EntityUid::new(input.kind, input.id);
    let (own, other) = (key(input.key), key(input.other_key));
    let one = seal(own, input.query, &decision).unwrap();
    let two = seal(own, input.query, &entity).unwrap();
    assert_eq!(open(own, input.query, &one), Some(decision));
    if two.len() <= 4_096 {
        assert_eq!(open(own, input.query, &two), Some(entity));
    }
    assert!(one.bytes().all(is_unreserved) && two.bytes().all(is_unreserved));
    for token in [one, two] {
        if input.query != input.other_query {
            assert_eq!(open::<Value>(own, input.other_query, &token), None);
        }
        if own != other {
            assert_eq!(open::<Value>(other, input.query, &token), None);
        }
        let changed = changed(&token, &input.changes);
        if changed != token {
            assert_eq!(
                open::<Value>(own, input.query, &changed),
                None,
                "{token} {changed}"
            );
        }
    }
}

fn forged(text: &str, query: &[u8]) {
    assert_eq!(open::<Value>(key([7; 4]), query, text), None);
}

fn key(short: [u8; 4]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&short);
    key
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn changed(token: &str, changes: &[Change]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for change in changes.iter().take(8) {
        let at = |index: u16| usize::from(index) % bytes.len().max(1);
        match *change {
            Change::Set(index, byte) => {
                let at = at(index);
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = byte & 0x7f;
                }
            }
            Change::Insert(index, byte) => bytes.insert(at(index), byte & 0x7f),
            Change::Remove(index) if !bytes.is_empty() => {
                bytes.remove(at(index));
            }
            Change::Cut(index) => bytes.truncate(at(index)),
            Change::Remove(_) => {}
        }
    }
    String::from_utf8(bytes).unwrap()
}
