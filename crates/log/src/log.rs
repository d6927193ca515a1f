//! The handle through which decisions are recorded.

use std::path::PathBuf;
use std::time::Duration;

use remit_core::{Clock, DecisionRecord, ReplicaId};

use crate::{Error, Receipt, Status};

/// Where the log lives and how much it may hold.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the spool; made when it is missing. One process at a time.
    pub dir: PathBuf,
    /// The size at which a segment is closed and a new one begun, in bytes.
    pub segment_bytes: u64,
    /// How many records may wait for the writer; more are refused with [`Error::Busy`].
    pub queue: usize,
    /// How many bytes may wait for the writer; more are refused with [`Error::Busy`].
    pub queue_bytes: usize,
    /// How many bytes may wait to be shipped; more are refused with [`Error::Full`].
    pub max_unshipped_bytes: u64,
    /// How long an append waits for the disk before it gives up with [`Error::Deadline`].
    pub deadline: Duration,
    /// How long after a disk failure the next segment is tried.
    pub retry: Duration,
    /// How long [`DecisionLog::close`] goes on shipping.
    pub grace: Duration,
}

/// Records decisions on this host's disk before they are answered.
#[derive(Debug, Clone)]
pub struct DecisionLog {
    replica: ReplicaId,
}

// === impl Options ===

impl Options {
    /// Returns the defaults for a log in `dir`: 64 MiB segments, 4,096 records queued, 1 GiB unshipped.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            queue: 4_096,
            queue_bytes: 64 << 20,
            max_unshipped_bytes: 1 << 30,
            deadline: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            grace: Duration::from_secs(5),
        }
    }
}

// === impl DecisionLog ===

impl DecisionLog {
    /// Opens the log in a folder: locks it, recovers what earlier runs left, and begins a segment of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`], [`Error::Corrupt`], [`Error::Io`].
    pub fn open(options: Options, clock: Clock) -> Result<Self, Error> {
        drop(options);
        Ok(Self {
            replica: ReplicaId::from_uuid(clock.id()),
        })
    }

    /// Records decisions: when this returns, they are on the disk.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    #[expect(clippy::unused_async, reason = "the signature stands before the body")]
    pub async fn append(&self, records: Vec<DecisionRecord>) -> Result<Vec<Receipt>, Error> {
        drop(records);
        Err(Error::Closed)
    }

    /// Waits until everything appended so far is in the store; says whether it came to that within `deadline`.
    #[expect(clippy::unused_async, reason = "the signature stands before the body")]
    pub async fn caught_up(&self, deadline: Duration) -> bool {
        deadline.is_zero()
    }

    /// Returns how the log is doing.
    pub fn status(&self) -> Status {
        Status {
            replica: self.replica,
            sequence: 0,
            queued_records: 0,
            queued_bytes: 0,
            segments: 0,
            unshipped_records: 0,
            unshipped_bytes: 0,
            oldest_unshipped: None,
            poisoned: false,
            disk_error: None,
            ship_error: None,
            records_total: 0,
            bytes_total: 0,
            syncs_total: 0,
            sync_micros_total: 0,
            sync_micros_last: 0,
            poisoned_total: 0,
            refused_busy_total: 0,
            refused_full_total: 0,
            refused_poisoned_total: 0,
            shipped_total: 0,
            ship_errors_total: 0,
        }
    }

    /// Returns the id under which this process records; new at every start.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Closes the log: writes what is queued, ships what it can within the grace, and releases the folder.
    #[expect(clippy::unused_async, reason = "the signature stands before the body")]
    pub async fn close(&self) {}
}
