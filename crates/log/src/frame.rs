//! The bytes of a segment: one header, then frames.
//!
//! All numbers are little-endian. A segment file begins with this header of 76 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `REMITLOG` |
//! | 8..12 | version of the format, 1 |
//! | 12..16 | number of the segment within its replica, from 1; numbers may be left out |
//! | 16..32 | replica id |
//! | 32..40 | sequence of the first frame |
//! | 40..72 | hash of the frame before the first one; zeros where there is none |
//! | 72..76 | CRC-32C of bytes 0..72 |
//!
//! and each frame is a head of 76 bytes and a body:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | length of the body |
//! | 4..8 | CRC-32C of bytes 0..4 and of everything from byte 8 on |
//! | 8..16 | sequence, from 1 within its replica, without gaps |
//! | 16..24 | where in the file the write began that wrote this frame: everything before it had been synced |
//! | 24..28 | how many frames of the same batch follow |
//! | 28..44 | decision id |
//! | 44..76 | hash of the frame before |
//! | 76.. | the record as canonical JSON (RFC 8785) |
//!
//! The hash of a frame is SHA-256 over its sequence, decision id, previous hash and the SHA-256 of its body: over what
//! was recorded and in which order, not over how it lies in files. A record that had to be written again, to another
//! segment, keeps its hash; and a body can be proved or erased by its own hash.

use remit_core::{DecisionId, ReplicaId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::FrameHash;

/// The size of a segment's header.
pub(crate) const HEADER_BYTES: usize = 76;
/// The size of a frame without its body.
pub(crate) const HEAD_BYTES: usize = 76;
/// The largest record that is taken.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// The hash before the first frame of a replica.
pub(crate) const NO_HASH: FrameHash = [0; 32];

const MAGIC: &[u8; 8] = b"REMITLOG";
const VERSION: u32 = 1;

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) replica: ReplicaId,
    pub(crate) number: u32,
    /// The sequence of the first frame.
    pub(crate) first: u64,
    /// The hash of the frame before the first.
    pub(crate) previous: FrameHash,
}

/// A record made ready by the caller of `append`, so that the writer only has to place it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) id: DecisionId,
    pub(crate) body: Vec<u8>,
    pub(crate) body_hash: FrameHash,
}

/// Where a frame is placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    /// Where in the file the write begins that this frame is part of.
    pub(crate) commit: u64,
    /// How many frames of the same batch follow.
    pub(crate) more: u32,
    pub(crate) previous: FrameHash,
}

/// One frame, read and found whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) place: Place,
    pub(crate) id: DecisionId,
    pub(crate) body: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The file ends within the frame.
    Short,
    /// The length is more than a record may have.
    Length,
    /// The checksum does not match.
    Checksum,
}

// === impl Header ===

impl Header {
    /// Writes the header.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(self.replica.uuid().as_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`, or says what is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let head = bytes.get(..HEADER_BYTES).ok_or("the header is cut short")?;
        let (said, crc) = head.split_at(HEADER_BYTES - 4);
        if !said.starts_with(MAGIC) {
            return Err("the header does not begin with `REMITLOG`");
        }
        if number(crc, 0) != Some(crc32c::crc32c(said)) {
            return Err("the header's checksum does not match");
        }
        if number(said, 8) != Some(VERSION) {
            return Err("the segment has a version this program does not know");
        }
        let read = || {
            Some(Self {
                number: number(said, 12)?,
                replica: ReplicaId::from_uuid(Uuid::from_bytes(array(said, 16)?)),
                first: long(said, 32)?,
                previous: array(said, 40)?,
            })
        };
        read().ok_or("the header is cut short")
    }
}

// === impl Encoded ===

impl Encoded {
    pub(crate) fn new(id: DecisionId, body: Vec<u8>) -> Self {
        let body_hash = Sha256::digest(&body).into();
        Self {
            id,
            body,
            body_hash,
        }
    }

    /// Returns the size of its frame.
    pub(crate) fn size(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }

    /// Appends its frame to `out` and returns the frame's hash.
    pub(crate) fn place(&self, place: &Place, out: &mut Vec<u8>) -> FrameHash {
        // A body is never longer than MAX_BODY_BYTES: `append` checked.
        let length = u32::try_from(self.body.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes();
        let id = self.id.uuid();
        let mut head = [0; HEAD_BYTES];
        let fields: [&[u8]; 7] = [
            &length,
            &[0; 4],
            &place.sequence.to_le_bytes(),
            &place.commit.to_le_bytes(),
            &place.more.to_le_bytes(),
            id.as_bytes(),
            &place.previous,
        ];
        let mut rest = head.as_mut_slice();
        for field in fields {
            let (here, after) = rest.split_at_mut(field.len());
            here.copy_from_slice(field);
            rest = after;
        }
        let crc = checksum(&head, &self.body);
        if let Some(slot) = head.get_mut(4..8) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.body);
        chain(place, self.id, &self.body_hash)
    }
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// Reads the frame at the start of `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let head = bytes.get(..HEAD_BYTES).ok_or(Fault::Short)?;
        let length = number(head, 0).ok_or(Fault::Short)?;
        let length = usize::try_from(length).map_err(|_| Fault::Length)?;
        if length > MAX_BODY_BYTES {
            return Err(Fault::Length);
        }
        let body = bytes
            .get(HEAD_BYTES..HEAD_BYTES + length)
            .ok_or(Fault::Short)?;
        if number(head, 4) != Some(checksum(head, body)) {
            return Err(Fault::Checksum);
        }
        let read = || {
            Some(Self {
                place: Place {
                    sequence: long(head, 8)?,
                    commit: long(head, 16)?,
                    more: number(head, 24)?,
                    previous: array(head, 44)?,
                },
                id: DecisionId::from_uuid(Uuid::from_bytes(array(head, 28)?)),
                body,
            })
        };
        read().ok_or(Fault::Short)
    }

    /// Reads the sequence and commit that `bytes` would have as a frame, without checking anything.
    pub(crate) fn guess(bytes: &[u8]) -> Option<(u64, u64)> {
        Some((long(bytes, 8)?, long(bytes, 16)?))
    }

    pub(crate) fn hash(&self) -> FrameHash {
        chain(&self.place, self.id, &Sha256::digest(self.body).into())
    }

    /// Returns the size on disk.
    pub(crate) fn size(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }
}

// === impl Fault ===

impl Fault {
    /// Says in words what is wrong.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Short => "the file ends within a record",
            Self::Length => "a record is longer than any record may be",
            Self::Checksum => "the checksum of a record does not match",
        }
    }
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let length = crc32c::crc32c(head.get(..4).unwrap_or_default());
    let head = crc32c::crc32c_append(length, head.get(8..).unwrap_or_default());
    crc32c::crc32c_append(head, body)
}

fn chain(place: &Place, id: DecisionId, body: &FrameHash) -> FrameHash {
    let mut hash = Sha256::new();
    hash.update(place.sequence.to_le_bytes());
    hash.update(id.uuid().as_bytes());
    hash.update(place.previous);
    hash.update(body);
    hash.finalize().into()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
