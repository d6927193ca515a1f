//! What waits for the writer: bounded, and never waited for.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::frame::Encoded;
use crate::{Error, Receipt};

/// The records of one append, and who waits for their receipts.
///
/// When the caller has gone away the records are written all the same.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) records: Vec<Encoded>,
    pub(crate) done: oneshot::Sender<Result<Vec<Receipt>, Error>>,
}

/// The way from many callers to the one writer.
#[derive(Debug)]
pub(crate) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    filled: Condvar,
    /// Bytes that wait for the writer, are being written, or wait to be shipped.
    owed: AtomicU64,
    refused: Refused,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) owed: u64,
}

/// Records that were turned away, by why.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) busy: AtomicU64,
    pub(crate) full: AtomicU64,
    pub(crate) poisoned: AtomicU64,
}

/// What the writer finds.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Everything that waited.
    Records(Vec<Pending>),
    /// Nothing, for as long as it was ready to wait.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    records: usize,
    bytes: usize,
    gate: Gate,
    /// Whether the writer sleeps: waking it costs a system call, so nobody does in vain.
    idle: bool,
}

#[derive(Debug, Default)]
enum Gate {
    #[default]
    Open,
    Failing(Arc<str>),
    Closed,
}

// === impl Pending ===

impl Pending {
    /// Returns the size of its frames.
    pub(crate) fn bytes(&self) -> usize {
        self.records.iter().map(Encoded::size).sum()
    }
}

// === impl Queue ===

impl Queue {
    pub(crate) fn new(limits: Limits, owed: u64) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            filled: Condvar::new(),
            owed: owed.into(),
            refused: Refused::default(),
        }
    }

    /// Hands records to the writer.
    ///
    /// # Errors
    ///
    /// At once, when they cannot be taken: [`Error::Busy`], [`Error::Full`], [`Error::Poisoned`], [`Error::Closed`],
    /// and [`Error::TooMany`] or [`Error::TooLarge`] for a batch that never can.
    pub(crate) fn push(&self, pending: Pending) -> Result<(), Error> {
        let (records, bytes) = (pending.records.len(), pending.bytes());
        let limits = &self.limits;
        if records > limits.records {
            return Err(Error::TooMany {
                records,
                limit: limits.records,
            });
        }
        if bytes > limits.bytes {
            return Err(Error::TooLarge {
                bytes,
                limit: limits.bytes,
            });
        }
        let refused = |counter: &AtomicU64, error| {
            counter.fetch_add(records as u64, Ordering::Relaxed);
            Err(error)
        };
        let mut state = self.lock();
        match &state.gate {
            Gate::Open => {}
            Gate::Failing(problem) => {
                let problem = Arc::clone(problem);
                return refused(&self.refused.poisoned, Error::Poisoned { problem });
            }
            Gate::Closed => return Err(Error::Closed),
        }
        if state.records + records > limits.records || state.bytes + bytes > limits.bytes {
            let queued = state.records;
            return refused(&self.refused.busy, Error::Busy { queued });
        }
        let owed = self.owed.load(Ordering::Relaxed) + bytes as u64;
        if owed > limits.owed {
            return refused(&self.refused.full, Error::Full { bytes: owed });
        }
        self.owed.fetch_add(bytes as u64, Ordering::Relaxed);
        state.records += records;
        state.bytes += bytes;
        state.pending.push(pending);
        let wake = mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes everything that waits; waits for something, at most for `patience` where one is given.
    pub(crate) fn take(&self, patience: Option<Duration>) -> Taken {
        let mut state = self.lock();
        if let (true, Some(patience)) = (state.is_waiting(), patience) {
            state.idle = true;
            state = self
                .filled
                .wait_timeout_while(state, patience, |state| state.is_waiting())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        while patience.is_none() && state.is_waiting() {
            state.idle = true;
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        if !state.pending.is_empty() {
            state.records = 0;
            state.bytes = 0;
            return Taken::Records(mem::take(&mut state.pending));
        }
        match state.gate {
            Gate::Closed => Taken::Closed,
            Gate::Open | Gate::Failing(_) => Taken::Nothing,
        }
    }

    /// Says that bytes are no longer owed: they are in the store, or were never written.
    pub(crate) fn release(&self, bytes: u64) {
        self.owed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Turns everything away until [`Queue::heal`].
    pub(crate) fn fail(&self, problem: Arc<str>) {
        let mut state = self.lock();
        if !matches!(state.gate, Gate::Closed) {
            state.gate = Gate::Failing(problem);
        }
    }

    /// Takes records again.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        if matches!(state.gate, Gate::Failing(_)) {
            state.gate = Gate::Open;
        }
    }

    /// Takes nothing more; the writer still gets what waits.
    pub(crate) fn close(&self) {
        self.lock().gate = Gate::Closed;
        self.filled.notify_one();
    }

    /// Drops what waits: nobody is left to write it, and its callers are told by the dropped channel.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.gate = Gate::Closed;
        state.pending.clear();
    }

    /// Returns how many records and bytes wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.records, state.bytes)
    }

    pub(crate) fn is_failing(&self) -> bool {
        matches!(self.lock().gate, Gate::Failing(_))
    }

    pub(crate) fn refused(&self) -> &Refused {
        &self.refused
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_waiting(&self) -> bool {
        self.pending.is_empty() && !matches!(self.gate, Gate::Closed)
    }
}
