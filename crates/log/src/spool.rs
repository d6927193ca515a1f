//! What the writer and the shipper know together: which segments there are, and how far each has come.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remit_core::{Clock, ReplicaId, Timestamp};
use tokio::sync::{Notify, watch};

use crate::disk::Disk;
use crate::folder::{Lock, Name};
use crate::frame::HEADER_BYTES;
use crate::queue::{Limits, Queue};
use crate::recover::Recovered;
use crate::{Options, Status, scan};

/// Ages are told to this many microseconds, so that an outage does not fill memory with one mark a commit.
const MARK_MICROS: i64 = 1_000_000;

/// Everything that one open log shares between its threads.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) replica: ReplicaId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) queue: Queue,
    /// Wakes the shipper.
    pub(crate) appended: Notify,
    /// Tells the shipper that somebody waits for it.
    pub(crate) wanted: Notify,
    /// Wakes those who wait for the shipper.
    pub(crate) progress: Notify,
    /// Held by whoever ships: one at a time.
    pub(crate) shipping: tokio::sync::Mutex<()>,
    /// Tells the shipper to end.
    pub(crate) stop: watch::Sender<bool>,
    /// The lock of the folder, until the log is closed.
    pub(crate) lock: Mutex<Option<Lock>>,
    pub(crate) counters: Counters,
    /// How many records were written to the database with what they consume, and in no segment.
    pub(crate) shared: AtomicI64,
    state: Mutex<State>,
}

/// What only grows.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
    pub(crate) sync_micros_last: AtomicU64,
    pub(crate) poisoned: AtomicU64,
    pub(crate) shipped: AtomicU64,
    pub(crate) ship_errors: AtomicU64,
}

/// One segment that may hold something to ship.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: Name,
    /// The sequence of its first record.
    pub(crate) first: u64,
    /// The sequence of its last durable record; one less than `first` when it has none.
    pub(crate) last: u64,
    /// Where its durable records end, in bytes.
    pub(crate) end: u64,
    /// Whether nothing more will be written to it.
    pub(crate) closed: bool,
    /// Up to where its records are in the store, in bytes.
    pub(crate) passed: u64,
    /// The sequence of the last record in the store; one less than `first` when it has none.
    pub(crate) passed_sequence: u64,
}

#[derive(Debug, Default)]
struct State {
    segments: VecDeque<Segment>,
    /// Made durable, those recovered at start included.
    committed: Count,
    /// Known to be in the store.
    passed: Count,
    /// Of `committed`, what was there at start.
    recovered: Count,
    sequence: u64,
    /// When the record after so many committed ones became durable.
    marks: VecDeque<(u64, Timestamp)>,
    disk_error: Option<String>,
    ship_error: Option<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    records: u64,
    bytes: u64,
}

// === impl Segment ===

impl Segment {
    /// Makes what recovery found into something to ship; `None` when it holds no record.
    pub(crate) fn closed(found: &scan::Segment) -> Option<Self> {
        let first = found.frames.first()?.sequence;
        Some(Self {
            name: found.name.clone(),
            first,
            last: found.frames.last()?.sequence,
            end: found.end as u64,
            closed: true,
            passed: HEADER_BYTES as u64,
            passed_sequence: first - 1,
        })
    }

    fn unshipped(&self) -> Count {
        Count {
            records: self.last - self.passed_sequence,
            bytes: self.end - self.passed,
        }
    }
}

// === impl Spool ===

impl Spool {
    pub(crate) fn new(
        options: Options,
        clock: Clock,
        disk: Arc<dyn Disk>,
        lock: Lock,
        recovered: Recovered,
    ) -> Self {
        let mut state = State::default();
        for segment in &recovered.segments {
            state.committed.add(segment.unshipped());
        }
        state.recovered = state.committed;
        state.marks.extend(recovered.since.map(|since| (0, since)));
        state.segments = recovered.segments.into();
        let limits = Limits {
            records: options.queue,
            bytes: options.queue_bytes,
            owed: options.max_unshipped_bytes,
        };
        Self {
            replica: ReplicaId::from_uuid(clock.id()),
            queue: Queue::new(limits, state.committed.bytes),
            options,
            clock,
            disk,
            appended: Notify::new(),
            wanted: Notify::new(),
            progress: Notify::new(),
            shipping: tokio::sync::Mutex::new(()),
            stop: watch::Sender::new(false),
            lock: Mutex::new(Some(lock)),
            counters: Counters::default(),
            shared: AtomicI64::new(0),
            state: Mutex::new(state),
        }
    }

    /// Adds the segment that is written to from now on.
    pub(crate) fn begin(&self, name: Name, first: u64) {
        self.state().segments.push_back(Segment {
            name,
            first,
            last: first - 1,
            end: HEADER_BYTES as u64,
            closed: false,
            passed: HEADER_BYTES as u64,
            passed_sequence: first - 1,
        });
    }

    /// Says that the segment written to is durable up to record `last`, which ends at byte `end`.
    pub(crate) fn commit(&self, last: u64, end: u64) {
        let now = self.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        let before = state.committed.records;
        if let Some(active) = state.segments.back_mut() {
            state.committed.add(Count {
                records: last - active.last,
                bytes: end - active.end,
            });
            active.last = last;
            active.end = end;
        }
        state.sequence = last;
        let old = |mark: &(u64, Timestamp)| now.micros() - mark.1.micros() >= MARK_MICROS;
        if state.passed.records == before || state.marks.back().is_none_or(old) {
            state.marks.push_back((before, now));
        }
        state.drop_old_marks();
        drop(guard);
        self.appended.notify_one();
    }

    /// Says that nothing more will be written to the last segment; returns its name if it holds no record.
    pub(crate) fn retire(&self) -> Option<Name> {
        let mut state = self.state();
        let active = state.segments.back_mut().filter(|active| !active.closed)?;
        active.closed = true;
        let empty = active.last < active.first;
        let name = active.name.clone();
        if empty {
            state.segments.pop_back();
        }
        drop(state);
        self.appended.notify_one();
        empty.then_some(name)
    }

    /// Returns the oldest segment that is not wholly shipped or may still grow.
    pub(crate) fn oldest(&self) -> Option<Segment> {
        self.state().segments.front().cloned()
    }

    /// Says that the oldest segment is in the store up to record `sequence`, which ends at byte `offset`.
    pub(crate) fn pass(&self, sequence: u64, offset: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(oldest) = state.segments.front_mut() else {
            return;
        };
        let passed = Count {
            records: sequence - oldest.passed_sequence,
            bytes: offset - oldest.passed,
        };
        oldest.passed_sequence = sequence;
        oldest.passed = offset;
        state.passed.add(passed);
        state.drop_old_marks();
        drop(guard);
        self.queue.release(passed.bytes);
        self.progress.notify_waiters();
    }

    /// Forgets the oldest segment, which is wholly shipped and closed.
    pub(crate) fn forget_oldest(&self) {
        self.state().segments.pop_front();
    }

    /// Returns how many records have been made durable, those found at start included.
    pub(crate) fn committed(&self) -> u64 {
        self.state().committed.records
    }

    /// Returns how many of those are known to be in the store.
    pub(crate) fn passed(&self) -> u64 {
        self.state().passed.records
    }

    pub(crate) fn set_disk_error(&self, error: &str) {
        self.state().disk_error = Some(error.to_owned());
    }

    /// Notes why shipping fails, or that it works; returns whether that is news.
    pub(crate) fn set_ship_error(&self, error: Option<String>) -> bool {
        let mut state = self.state();
        let news = state.ship_error.is_some() != error.is_some();
        state.ship_error = error;
        news
    }

    pub(crate) fn status(&self) -> Status {
        let (queued_records, queued_bytes) = self.queue.waiting();
        let poisoned = self.queue.is_failing();
        let refused = self.queue.refused();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = self.state();
        let waiting = state.committed.records > state.passed.records;
        let oldest = state.marks.front().filter(|_| waiting).map(|mark| {
            let micros = self.clock.now().micros() - mark.1.micros();
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        });
        Status {
            replica: self.replica,
            sequence: state.sequence,
            queued_records,
            queued_bytes,
            segments: state.segments.len(),
            unshipped_records: state.committed.records - state.passed.records,
            unshipped_bytes: state.committed.bytes - state.passed.bytes,
            oldest_unshipped: oldest,
            poisoned,
            disk_error: state.disk_error.clone(),
            ship_error: state.ship_error.clone(),
            records_total: state.committed.records - state.recovered.records,
            bytes_total: state.committed.bytes - state.recovered.bytes,
            syncs_total: read(&self.counters.syncs),
            sync_micros_total: read(&self.counters.sync_micros),
            sync_micros_last: read(&self.counters.sync_micros_last),
            poisoned_total: read(&self.counters.poisoned),
            refused_busy_total: read(&refused.busy),
            refused_full_total: read(&refused.full),
            refused_poisoned_total: read(&refused.poisoned),
            shipped_total: read(&self.counters.shipped),
            ship_errors_total: read(&self.counters.ship_errors),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Drops the marks of records that are all in the store.
    fn drop_old_marks(&mut self) {
        let known = self.passed.records;
        while self.marks.get(1).is_some_and(|mark| mark.0 <= known) {
            self.marks.pop_front();
        }
    }
}

// === impl Count ===

impl Count {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}
