//! Carries durable records to the store, each exactly once, and removes what is there.
//!
//! The store moves the replica's position in the transaction that writes the records, so whatever happens between the
//! two of us, asking it for the position tells where to go on. It is asked at the start of every replica and after
//! every failure: a failed call may have been committed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remit_core::ReplicaId;
use remit_core::controls::{Protection, holds};
use remit_store::{ShippedRecord, SpoolPosition, Store};
use tokio::time::{sleep, timeout};

use crate::DecisionLog;
use crate::frame::{Frame, HEAD_BYTES, MAX_BODY_BYTES};
use crate::spool::{Segment, Spool};

/// The most records in one transaction.
const BATCH_RECORDS: usize = 1_000;
/// How much of a segment is read at once: any one record, or a few thousand of the usual size.
const BATCH_BYTES: u64 = (HEAD_BYTES + MAX_BODY_BYTES) as u64;
/// How long records gather before they are shipped, unless somebody waits for them: few transactions, each of many
/// records, cost the database a fraction of what many small ones do.
const LINGER: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One run of [`DecisionLog::ship`].
struct Shipper {
    spool: Arc<Spool>,
    store: Store,
    /// The last record that the store has of a replica, as it said itself.
    known: Option<(ReplicaId, u64)>,
    /// Segments that are wholly in the store and still in the folder, oldest first.
    spent: VecDeque<PathBuf>,
}

enum Step {
    /// Something was done, and there is more.
    More,
    /// Everything that was durable is in the store; how much came since is not worth a transaction yet.
    Drained,
    /// Everything durable is in the store.
    Idle,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the store does not take decision records")]
    Store(#[from] remit_store::Error),
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        path: PathBuf,
        offset: u64,
        what: String,
    },
}

/// Some records of one segment, in order.
struct Batch {
    rows: Vec<ShippedRecord>,
    /// The sequence of the last frame read, shipped before or not.
    last: u64,
    /// Where it ends.
    end: u64,
}

// === impl DecisionLog ===

impl DecisionLog {
    /// Ships records to the store until `shutdown` completes or the log is closed; run it in a task of its own.
    ///
    /// It ships what earlier runs left first. It never gives up: while the store fails, it tries again after a pause
    /// that doubles up to five seconds. When it is told to end it ships what is there once more, within the grace,
    /// unless the store fails. A second call waits for the first to end.
    pub async fn ship(&self, store: Store, shutdown: impl Future<Output = ()>) {
        let spool = Arc::clone(self.spool());
        let _one_at_a_time = spool.shipping.lock().await;
        let mut stop = spool.stop.subscribe();
        if *stop.borrow() {
            return;
        }
        let mut shipper = Shipper {
            spool: Arc::clone(&spool),
            store,
            known: None,
            spent: VecDeque::new(),
        };
        let ended = async {
            tokio::select! {
                () = shutdown => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        };
        let mut ended = pin!(ended);
        if shipper.run(ended.as_mut()).await {
            // Told to end while the store took records: what came meanwhile is shipped too.
            let last = async { while !matches!(shipper.step().await, Ok(Step::Idle) | Err(_)) {} };
            let _ = timeout(spool.options.grace, last).await;
        }
    }
}

// === impl Shipper ===

impl Shipper {
    /// Ships until `ended` completes; returns whether the store took records then.
    async fn run(&mut self, mut ended: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let worked = self.step().await;
            if let Err(error) = &worked {
                self.report(error);
            }
            let wait = async {
                match &worked {
                    Ok(Step::More) => tokio::task::yield_now().await,
                    Ok(Step::Drained) => self.linger().await,
                    Ok(Step::Idle) => {
                        self.spool.appended.notified().await;
                        self.linger().await;
                    }
                    Err(_) => sleep(pause).await,
                }
            };
            tokio::select! {
                biased;
                () = ended.as_mut() => return worked.is_ok(),
                () = wait => {}
            }
            pause = match worked {
                Ok(_) => FIRST_PAUSE,
                Err(_) => (pause * 2).min(LONGEST_PAUSE),
            };
        }
    }

    /// Lets records gather, until somebody wants them in the store.
    async fn linger(&self) {
        let _ = timeout(LINGER, self.spool.wanted.notified()).await;
    }

    /// Says once when shipping fails, until it works again.
    fn report(&mut self, error: &Failure) {
        if holds(Protection::ExactlyOnceShipping) {
            self.known = None;
        }
        let counters = &self.spool.counters;
        counters.ship_errors.fetch_add(1, Ordering::Relaxed);
        let text = whole(error);
        if self.spool.set_ship_error(Some(text.clone())) {
            tracing::warn!(error = %text, "decision records cannot be shipped; they stay in the spool");
        }
    }

    /// Says that records are in the store; whoever waits for that finds shipping well again.
    fn pass(&self, sequence: u64, offset: u64) {
        if self.spool.set_ship_error(None) {
            tracing::info!("decision records are shipped again");
        }
        self.spool.pass(sequence, offset);
    }

    /// Ships one batch, or removes one segment that is shipped.
    async fn step(&mut self) -> Result<Step, Failure> {
        let Some(segment) = self.spool.oldest() else {
            return Ok(Step::Idle);
        };
        if segment.passed_sequence == segment.last {
            if !segment.closed {
                return Ok(Step::Idle);
            }
            self.remove(&segment).await;
            return Ok(Step::More);
        }
        let known = self.known(segment.name.replica).await?;
        if segment.last <= known {
            self.pass(segment.last, segment.end);
            return Ok(Step::More);
        }
        let batch = read(segment.clone(), known).await?;
        if !batch.rows.is_empty() {
            let position = SpoolPosition {
                replica: segment.name.replica,
                segment: segment.name.number.into(),
                offset: batch.end,
                sequence: batch.last,
            };
            self.store.ship(&position, &batch.rows).await?;
            self.known = Some((segment.name.replica, batch.last));
            let counters = &self.spool.counters;
            counters
                .shipped
                .fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
        }
        self.pass(batch.last, batch.end);
        let drained = batch.last == segment.last && !segment.closed;
        Ok(if drained { Step::Drained } else { Step::More })
    }

    /// Returns the sequence of the last record of a replica that the store has; 0 when it has none.
    async fn known(&mut self, replica: ReplicaId) -> Result<u64, Failure> {
        if let Some((of, sequence)) = self.known
            && of == replica
        {
            return Ok(sequence);
        }
        let position = self.store.shipped(replica).await?;
        let sequence = position.map_or(0, |position| position.sequence);
        self.known = Some((replica, sequence));
        Ok(sequence)
    }

    /// Removes a segment that is wholly in the store, and first those that could not be removed earlier.
    ///
    /// In order, because the ones that stay must be neighbours: one left behind by those after it is a gap, and the next
    /// start would refuse the folder for it.
    async fn remove(&mut self, segment: &Segment) {
        self.spent.push_back(segment.name.path.clone());
        while let Some(path) = self.spent.front().cloned() {
            let spool = Arc::clone(&self.spool);
            let file = path.display().to_string();
            let removed = tokio::task::spawn_blocking(move || {
                match spool.disk.remove(&path) {
                    // The sync after it may have failed.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => spool.disk.sync_dir(&spool.options.dir),
                }
            });
            let error = match removed.await {
                Ok(Ok(())) => {
                    self.spent.pop_front();
                    continue;
                }
                Ok(Err(error)) => error,
                Err(ended) => io::Error::other(ended),
            };
            // It is tried again with the next one, or by the next start, which learns from the store that it is shipped.
            tracing::warn!(%error, %file, "cannot remove a shipped decision log segment");
            break;
        }
        self.spool.forget_oldest();
    }
}

/// Reads the next records of a segment, away from the threads that answer.
async fn read(segment: Segment, known: u64) -> Result<Batch, Failure> {
    let path = segment.name.path.clone();
    match tokio::task::spawn_blocking(move || Batch::read(&segment, known)).await {
        Ok(batch) => batch,
        Err(ended) => Err(Failure::Read {
            path,
            source: io::Error::other(ended),
        }),
    }
}

fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

// === impl Batch ===

impl Batch {
    /// Reads what follows what is passed, never beyond what is durable, and leaves out what the store knows.
    fn read(segment: &Segment, known: u64) -> Result<Self, Failure> {
        let length = (segment.end - segment.passed).min(BATCH_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        File::open(&segment.name.path)
            .and_then(|file| file.read_exact_at(&mut bytes, segment.passed))
            .map_err(|source| Failure::Read {
                path: segment.name.path.clone(),
                source,
            })?;
        let mut batch = Self {
            rows: Vec::new(),
            last: segment.passed_sequence,
            end: segment.passed,
        };
        let mut rest = bytes.as_slice();
        while batch.rows.len() < BATCH_RECORDS && !rest.is_empty() {
            match batch.take(rest, segment.name.replica, known) {
                Ok(size) => rest = rest.get(size..).unwrap_or_default(),
                // What was read whole is shipped first. Read again from here, it is the end of what was read at once,
                // or it is damage.
                Err(_) if batch.last > segment.passed_sequence => break,
                Err(what) => {
                    return Err(Failure::Damaged {
                        path: segment.name.path.clone(),
                        offset: batch.end,
                        what,
                    });
                }
            }
        }
        Ok(batch)
    }

    /// Takes the frame at the start of `bytes` and returns its size, or says what is wrong with it.
    fn take(&mut self, bytes: &[u8], replica: ReplicaId, known: u64) -> Result<usize, String> {
        let frame = Frame::read(bytes).map_err(|fault| fault.what().to_owned())?;
        let sequence = frame.place.sequence;
        if sequence != self.last + 1 {
            return Err(format!("found record {sequence} out of order"));
        }
        if sequence > known {
            self.rows.push(row(replica, &frame)?);
        }
        self.last = sequence;
        self.end += frame.size() as u64;
        Ok(frame.size())
    }
}

fn row(replica: ReplicaId, frame: &Frame<'_>) -> Result<ShippedRecord, String> {
    let body = str::from_utf8(frame.body).map_err(|error| error.to_string())?;
    let head = serde_json::from_str(body).map_err(|error| error.to_string())?;
    Ok(ShippedRecord {
        replica,
        sequence: frame.place.sequence,
        head,
        body: body.to_owned(),
    })
}
