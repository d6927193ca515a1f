//! The records in a folder, one by one.

use std::collections::VecDeque;
use std::path::Path;

use remit_core::{DecisionId, DecisionRecord, ReplicaId};

use crate::folder::{self, Name};
use crate::frame::Frame;
use crate::scan::{Scan, Segment};
use crate::{Error, FrameHash};

/// One record as it stands in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The run that recorded it.
    pub replica: ReplicaId,
    /// The number of its segment.
    pub segment: u32,
    /// Where in the segment its frame begins, in bytes.
    pub offset: u64,
    /// Its place among the records of that run, from 1.
    pub sequence: u64,
    /// The decision.
    pub id: DecisionId,
    /// The hash of its frame.
    pub hash: FrameHash,
    /// The record as canonical JSON.
    pub body: Vec<u8>,
}

/// Reads every whole record in `dir`, oldest run first, one replica in memory at a time.
///
/// Damage is passed over here; [`fsck`](crate::fsck) reports it.
///
/// # Errors
///
/// [`Error::Io`] when the folder cannot be read; the iterator yields it for a file that cannot.
pub fn entries(dir: &Path) -> Result<impl Iterator<Item = Result<Entry, Error>>, Error> {
    let mut replicas: VecDeque<Vec<Name>> = by_replica(&folder::list(dir)?).into();
    let mut ready = VecDeque::new();
    Ok(std::iter::from_fn(move || {
        while ready.is_empty() {
            let names = replicas.pop_front()?;
            let read = Scan::read(&names, |segment, bytes| {
                ready.extend(in_segment(segment, bytes).map(Ok));
            });
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
        ready.pop_front()
    }))
}

/// Groups segment names, which are sorted, by replica.
pub(crate) fn by_replica(names: &[Name]) -> Vec<Vec<Name>> {
    names
        .chunk_by(|one, other| one.replica == other.replica)
        .map(<[Name]>::to_vec)
        .collect()
}

fn in_segment<'a>(segment: &'a Segment, bytes: &'a [u8]) -> impl Iterator<Item = Entry> + 'a {
    segment.frames.iter().filter_map(|found| {
        let frame = Frame::read(bytes.get(found.offset..)?).ok()?;
        Some(Entry {
            replica: segment.name.replica,
            segment: segment.name.number,
            offset: found.offset as u64,
            sequence: found.sequence,
            id: frame.id,
            hash: found.hash,
            body: frame.body.to_vec(),
        })
    })
}

// === impl Entry ===

impl Entry {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// When the body is no record, as after a change of its form.
    pub fn record(&self) -> Result<DecisionRecord, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}
