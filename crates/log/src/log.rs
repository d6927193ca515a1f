//! The handle through which decisions are recorded.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use remit_core::controls::{Protection, holds};
use remit_core::{Clock, DecisionRecord, ReplicaId, canonical_json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::disk::{Disk, RealDisk};
use crate::folder::{self, Lock};
use crate::frame::{Encoded, MAX_BODY_BYTES};
use crate::queue::Pending;
use crate::recover::recover;
use crate::spool::Spool;
use crate::{Error, Receipt, Status};
use crate::{unproven, writer};

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
///
/// A clone is the same log. Dropping the last one closes it without shipping; [`DecisionLog::close`] is the orderly way.
#[derive(Debug, Clone)]
pub struct DecisionLog {
    writer: Arc<Writer>,
}

/// The handle of the writing thread.
#[derive(Debug)]
struct Writer {
    spool: Arc<Spool>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
    /// It blocks while it reads what is left to be shipped, at most `max_unshipped_bytes` and one segment.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] while another process has the folder, [`Error::Corrupt`] for damage to what was recorded,
    /// [`Error::Io`] when the disk refuses.
    pub fn open(options: Options, clock: Clock) -> Result<Self, Error> {
        Self::open_on(options, clock, Arc::new(RealDisk))
    }

    pub(crate) fn open_on(
        options: Options,
        clock: Clock,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, Error> {
        let dir = &options.dir;
        folder::make(dir, disk.as_ref())?;
        let lock = Lock::take(dir)?;
        let recovered = recover(dir, disk.as_ref())?;
        let spool = Arc::new(Spool::new(options, clock, disk, lock, recovered));
        let thread = Mutex::new(Some(writer::start(&spool)?));
        Ok(Self {
            writer: Arc::new(Writer { spool, thread }),
        })
    }

    /// Records decisions: when this returns, they are on the disk, all of them or none.
    ///
    /// A batch stands together, in the order given. Once this was polled the records are written even if it is dropped
    /// before it is done. After an error they may have been written or not.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Full`], [`Error::Poisoned`], [`Error::Deadline`] and [`Error::Closed`] for reasons that
    /// lie with the log; [`Error::TooLarge`], [`Error::TooMany`] and [`Error::Encode`] for reasons that lie with the
    /// records.
    pub async fn append(&self, records: &[DecisionRecord]) -> Result<Vec<Receipt>, Error> {
        if holds(Protection::RecordBeforeAnswer) && holds(Protection::RefuseUnrecorded) {
            return self.record(records).await;
        }
        unproven::append(self, records).await
    }

    pub(crate) async fn record(&self, records: &[DecisionRecord]) -> Result<Vec<Receipt>, Error> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let records = records.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let (done, receipts) = oneshot::channel();
        self.spool().queue.push(Pending { records, done })?;
        let deadline = self.spool().options.deadline;
        match timeout(deadline, receipts).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::Deadline(deadline)),
        }
    }

    /// Waits until everything recorded so far is in the store; says whether it came to that within `deadline`.
    pub async fn caught_up(&self, deadline: Duration) -> bool {
        let spool = self.spool();
        let target = spool.committed();
        let wait = async {
            loop {
                // Registered before looking, so that no progress falls between the two.
                let progress = spool.progress.notified();
                if spool.passed() >= target {
                    return;
                }
                spool.wanted.notify_one();
                progress.await;
            }
        };
        timeout(deadline, wait).await.is_ok()
    }

    /// Returns how the log is doing.
    pub fn status(&self) -> Status {
        self.spool().status()
    }

    /// Returns the id under which this process records; new at every start.
    pub fn replica(&self) -> ReplicaId {
        self.spool().replica
    }

    /// Closes the log: writes what is queued, ships what it can within the grace, and releases the folder.
    ///
    /// Records that are not shipped by then stay in the folder, and the next process that opens it ships them. To have
    /// them shipped now, end [`DecisionLog::ship`] after this and not before.
    pub async fn close(&self) {
        let spool = self.spool();
        let grace = spool.options.grace;
        spool.queue.close();
        let thread = lock(&self.writer.thread).take();
        let joined = async {
            if let Some(thread) = thread {
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        };
        let written = timeout(grace, joined).await.is_ok();
        if spool.shipping.try_lock().is_err() && !self.caught_up(grace).await {
            tracing::warn!(
                records = spool.committed() - spool.passed(),
                "closed the decision log with records to ship; the next start ships them"
            );
        }
        spool.stop.send_replace(true);
        let shipped = timeout(grace, spool.shipping.lock()).await.is_ok();
        // Whoever still writes or ships keeps the folder until the process ends.
        if written && shipped {
            lock(&spool.lock).take();
        }
    }

    pub(crate) fn spool(&self) -> &Arc<Spool> {
        &self.writer.spool
    }
}

// === impl Writer ===

impl Drop for Writer {
    fn drop(&mut self) {
        self.spool.queue.close();
    }
}

fn encode(record: &DecisionRecord) -> Result<Encoded, Error> {
    Ok(Encoded::new(record.id, body_of(record)?))
}

/// Writes a record as canonical JSON.
pub(crate) fn body_of(record: &DecisionRecord) -> Result<Vec<u8>, Error> {
    let id = record.id;
    let body = canonical_json(record).map_err(|source| Error::Encode { id, source })?;
    if body.len() > MAX_BODY_BYTES {
        return Err(Error::TooLarge {
            bytes: body.len(),
            limit: MAX_BODY_BYTES,
        });
    }
    Ok(body)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
