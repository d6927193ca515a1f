//! What is compiled of the policies of the administration, kept within bounds.

use std::collections::HashMap;
use std::sync::Arc;

use remit_core::ContentHash;
use remit_engine::Snapshot;

/// How many tenants' compiled policies are kept; with more, those that were asked longest ago are compiled again.
const MOST: usize = 256;
/// How much text they may have been compiled from, in bytes.
const BYTES: usize = 64 << 20;

/// Compiled policies by the hash of what a tenant adds; the least recently asked goes first, and one at a time.
#[derive(Debug, Default)]
pub(super) struct Kept {
    found: HashMap<ContentHash, One>,
    /// The text that all of them were compiled from.
    bytes: usize,
    /// Counts what was asked.
    asked: u64,
}

#[derive(Debug)]
struct One {
    snapshot: Arc<Snapshot>,
    bytes: usize,
    /// When it was asked last, in the count of what was asked.
    last: u64,
}

// === impl Kept ===

impl Kept {
    /// Returns what is kept under `hash`.
    pub(super) fn get(&mut self, hash: ContentHash) -> Option<Arc<Snapshot>> {
        self.asked += 1;
        let one = self.found.get_mut(&hash)?;
        one.last = self.asked;
        Some(Arc::clone(&one.snapshot))
    }

    /// Keeps what was compiled from `bytes` of text; what is larger than everything together may be is not kept.
    pub(super) fn keep(&mut self, hash: ContentHash, snapshot: Arc<Snapshot>, bytes: usize) {
        if bytes > BYTES || self.found.contains_key(&hash) {
            return;
        }
        while self.found.len() >= MOST || self.bytes + bytes > BYTES {
            let oldest = self.found.iter().min_by_key(|(_, one)| one.last);
            let Some(oldest) = oldest.map(|(hash, _)| *hash) else {
                break;
            };
            if let Some(gone) = self.found.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(gone.bytes);
            }
        }
        self.asked += 1;
        let last = self.asked;
        self.bytes += bytes;
        self.found.insert(
            hash,
            One {
                snapshot,
                bytes,
                last,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::built_in;
    use super::*;

    #[test]
    fn the_least_recently_asked_goes_alone() {
        let one = built_in().unwrap();
        let hash = |number: usize| ContentHash::of(&number.to_be_bytes());
        let mut kept = Kept::default();
        for number in 0..MOST {
            kept.keep(hash(number), Arc::clone(&one), 10);
        }
        assert!(kept.get(hash(0)).is_some(), "asked again");
        kept.keep(hash(MOST), Arc::clone(&one), 10);
        assert!(kept.get(hash(1)).is_none(), "the oldest");
        for number in [0, 2, MOST - 1, MOST] {
            assert!(kept.get(hash(number)).is_some(), "{number}");
        }
        assert_eq!((kept.found.len(), kept.bytes), (MOST, MOST * 10));
    }

    #[test]
    fn there_is_a_bound_of_text() {
        let one = built_in().unwrap();
        let hash = |number: usize| ContentHash::of(&number.to_be_bytes());
        let mut kept = Kept::default();
        kept.keep(hash(0), Arc::clone(&one), BYTES / 2);
        kept.keep(hash(1), Arc::clone(&one), BYTES / 2);
        kept.keep(hash(2), Arc::clone(&one), BYTES + 1);
        assert!(kept.get(hash(2)).is_none(), "larger than all may be");
        assert!(kept.get(hash(0)).is_some() && kept.get(hash(1)).is_some());
        kept.keep(hash(3), Arc::clone(&one), 1);
        assert!(kept.get(hash(0)).is_none(), "it made way");
        assert!(kept.get(hash(1)).is_some() && kept.get(hash(3)).is_some());
        assert_eq!(kept.bytes, BYTES / 2 + 1);
    }
}
