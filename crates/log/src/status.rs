//! How the log is doing, in numbers.

use std::time::Duration;

use remit_core::ReplicaId;

/// How the decision log is doing at one moment, for readiness and metrics.
///
/// Fields that end in `_total` only grow while the process lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The id under which this process records.
    pub replica: ReplicaId,
    /// The sequence of the last durable record of this process; 0 before the first.
    pub sequence: u64,
    /// Records that wait for the writer.
    pub queued_records: usize,
    /// Bytes that wait for the writer.
    pub queued_bytes: usize,
    /// Segment files in the folder.
    pub segments: usize,
    /// Durable records that are not known to be in the store.
    pub unshipped_records: u64,
    /// Their size on disk.
    pub unshipped_bytes: u64,
    /// How long the oldest of them has been waiting, to about a second; `None` when nothing waits.
    pub oldest_unshipped: Option<Duration>,
    /// Whether the disk refuses, so that every append is refused too.
    pub poisoned: bool,
    /// What the disk said last when it refused; kept after it recovered.
    pub disk_error: Option<String>,
    /// What keeps records from being shipped now; `None` when shipping works.
    pub ship_error: Option<String>,
    /// Records made durable.
    pub records_total: u64,
    /// Bytes made durable.
    pub bytes_total: u64,
    /// Group commits: one write and one sync each.
    pub syncs_total: u64,
    /// Time spent in group commits, in microseconds.
    pub sync_micros_total: u64,
    /// Time spent in the last group commit, in microseconds.
    pub sync_micros_last: u64,
    /// Segments given up after a write or sync failed.
    pub poisoned_total: u64,
    /// Records refused because the queue was full.
    pub refused_busy_total: u64,
    /// Records refused because the spool was full.
    pub refused_full_total: u64,
    /// Records refused because the disk failed.
    pub refused_poisoned_total: u64,
    /// Records shipped to the store by this process.
    pub shipped_total: u64,
    /// Failed attempts to ship a batch.
    pub ship_errors_total: u64,
}
