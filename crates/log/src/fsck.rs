//! Checks the folder of a decision log without changing anything.

use std::path::{Path, PathBuf};

use remit_core::ReplicaId;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::entries::by_replica;
use crate::folder;
use crate::scan::{Scan, Tail};

/// What [`fsck`] found in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Segment files read.
    pub segments: u64,
    /// Whole records in them, those of superseded tails left out.
    pub records: u64,
    /// The size of the files, in bytes.
    pub bytes: u64,
    /// Bytes after the last whole batch of a run: a write that was cut short and never confirmed.
    pub torn_tail_bytes: u64,
    /// Bytes that a failed disk left behind and that the next segment holds again.
    pub superseded_bytes: u64,
    /// What each run of a process left, oldest first.
    pub replicas: Vec<ReplicaReport>,
    /// Everything that should not be; empty when the log is sound.
    pub problems: Vec<Problem>,
}

/// What one run of a process left in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// The run.
    pub replica: ReplicaId,
    /// Its segment files.
    pub segments: u64,
    /// Its whole records.
    pub records: u64,
    /// The sequence of its first record still in the folder; earlier ones have been shipped.
    pub first_sequence: u64,
    /// The sequence of its last record; both are 0 when it has none left.
    ///
    /// What the store has shipped of this replica, taken from this, is what is still unshipped.
    pub last_sequence: u64,
}

/// One thing that should not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The segment.
    pub file: PathBuf,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// Reads every segment in `dir` and checks checksums, sequences, and the hash chain within and across segments.
///
/// Read-only. Beside a running process it may see a commit half-written, and reports that as a torn tail.
///
/// # Errors
///
/// [`Error::Io`] when the folder or a file in it cannot be read. Damage is no error but a [`Problem`] in the report.
pub fn fsck(dir: &Path) -> Result<Report, Error> {
    let mut report = Report::default();
    for names in by_replica(&folder::list(dir)?) {
        let scan = Scan::read(&names, |_, _| ())?;
        report.add(&scan);
    }
    Ok(report)
}

// === impl Report ===

impl Report {
    /// Says whether nothing is wrong.
    ///
    /// A torn or superseded tail is not wrong: nothing in it was ever confirmed.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, scan: &Scan) {
        let Some(first) = scan.segments.first() else {
            return;
        };
        let mut replica = ReplicaReport {
            replica: first.name.replica,
            segments: 0,
            records: 0,
            first_sequence: 0,
            last_sequence: 0,
        };
        for segment in &scan.segments {
            replica.segments += 1;
            replica.records += segment.frames.len() as u64;
            if let (0, Some(found)) = (replica.first_sequence, segment.frames.first()) {
                replica.first_sequence = found.sequence;
            }
            if let Some(found) = segment.frames.last() {
                replica.last_sequence = found.sequence;
            }
            self.bytes += segment.length as u64;
            match segment.tail {
                Tail::None => {}
                Tail::Torn => self.torn_tail_bytes += segment.tail_bytes(),
                Tail::Superseded => self.superseded_bytes += segment.tail_bytes(),
            }
            self.problems
                .extend(segment.damage.iter().map(|damage| Problem {
                    file: segment.name.path.clone(),
                    offset: damage.offset as u64,
                    what: damage.what.clone(),
                }));
        }
        self.segments += replica.segments;
        self.records += replica.records;
        self.replicas.push(replica);
    }
}
