//! The proof that a decision was recorded.

use remit_core::{DecisionId, ReplicaId};

/// The SHA-256 of one frame, which the next frame of the same replica carries (see `frame`).
pub type FrameHash = [u8; 32];

/// Proves that the record of one decision is on this host's disk, or was committed to the database with what it consumes.
///
/// Only the log makes one, after the record was made durable; an answer cannot be made without it (INV-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    id: DecisionId,
    replica: ReplicaId,
    sequence: i64,
    hash: FrameHash,
}

// === impl Receipt ===

impl Receipt {
    pub(crate) fn new(id: DecisionId, replica: ReplicaId, sequence: i64, hash: FrameHash) -> Self {
        Self {
            id,
            replica,
            sequence,
            hash,
        }
    }

    /// Returns the decision that was recorded.
    pub fn id(&self) -> DecisionId {
        self.id
    }

    /// Returns the replica that recorded it.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Returns its place among the records of that replica: in the spool counted from 1 without gaps, in the database
    /// counted down from -1.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// Returns the hash of its frame, which commits to this record and to every one before it; for one that was in no
    /// spool, the SHA-256 of the record alone.
    pub fn hash(&self) -> &FrameHash {
        &self.hash
    }
}
