//! The one thread that writes: it takes everything that waits, writes it once, syncs it once, and then tells everyone.
//!
//! After a write or sync failed, nobody can say what the file holds or will hold, and asking again would be told
//! "fine": the kernel reports a failed write-back once and then forgets it. So the segment is given up, and what was
//! not confirmed is written to a new one, with the same sequences and hashes. The new header names the last confirmed
//! record, which tells every reader where the old segment ends (see `scan`).
//!
//! For the same reason nothing is written to a segment once its successor has been attempted: a header that seemed to
//! fail may be on the disk, and would hide what came after.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::folder::Name;
use crate::frame::{HEADER_BYTES, Header, NO_HASH, Place};
use crate::queue::{Pending, Taken};
use crate::spool::Spool;
use crate::{Error, FrameHash, Receipt};

/// A buffer that grew beyond this for one large commit is given back.
const KEEP_BYTES: usize = 4 << 20;

/// The state of the writing thread.
struct Writer {
    spool: Arc<Spool>,
    /// What is written to; `None` while the disk refuses.
    active: Option<Active>,
    /// The number of the last segment attempted.
    number: u32,
    /// The last durable record, and its hash.
    sequence: u64,
    hash: FrameHash,
    buffer: Vec<u8>,
    problem: Arc<str>,
}

struct Active {
    file: File,
    /// Up to where it is durable, in bytes.
    end: u64,
}

/// What one commit has written.
struct Written {
    receipts: Vec<Vec<Receipt>>,
    sequence: u64,
    hash: FrameHash,
}

/// Tells every caller that still waits, however the thread ends.
struct AtEnd(Arc<Spool>);

/// Begins the first segment and starts the thread.
///
/// # Errors
///
/// [`Error::Io`] when the segment cannot be made or the thread not be started.
pub(crate) fn start(spool: &Arc<Spool>) -> Result<JoinHandle<()>, Error> {
    let mut writer = Writer {
        spool: Arc::clone(spool),
        active: None,
        number: 0,
        sequence: 0,
        hash: NO_HASH,
        buffer: Vec::new(),
        problem: "".into(),
    };
    let dir = &spool.options.dir;
    writer
        .begin()
        .map_err(Error::io("begin a segment in", dir))?;
    let at_end = AtEnd(Arc::clone(spool));
    thread::Builder::new()
        .name("remit-log".to_owned())
        .spawn(move || {
            let _at_end = at_end;
            writer.run();
        })
        .map_err(Error::io("start the writer of", dir))
}

// === impl Writer ===

impl Writer {
    fn run(&mut self) {
        loop {
            let patience = self.active.is_none().then_some(self.spool.options.retry);
            match self.spool.queue.take(patience) {
                Taken::Records(batches) => self.commit(batches),
                Taken::Nothing => self.heal(),
                Taken::Closed => break,
            }
        }
        self.retire();
    }

    fn commit(&mut self, batches: Vec<Pending>) {
        let began = self.spool.clock.boot();
        match self.write_somewhere(&batches) {
            Ok(written) => {
                self.sequence = written.sequence;
                self.hash = written.hash;
                self.measure(began);
                let end = self.active.as_ref().map_or(0, |active| active.end);
                self.spool.commit(written.sequence, end);
                for (batch, receipts) in batches.into_iter().zip(written.receipts) {
                    // Nobody may be waiting any more; the record stands all the same.
                    let _ = batch.done.send(Ok(receipts));
                }
            }
            Err(problem) => {
                for batch in batches {
                    self.spool.queue.release(batch.bytes() as u64);
                    let problem = Arc::clone(&problem);
                    let _ = batch.done.send(Err(Error::Poisoned { problem }));
                }
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BYTES);
    }

    fn measure(&self, began: Duration) {
        let counters = &self.spool.counters;
        let took = self.spool.clock.boot().saturating_sub(began).as_micros();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters.sync_micros.fetch_add(took, Ordering::Relaxed);
        counters.sync_micros_last.store(took, Ordering::Relaxed);
    }

    /// Writes to this segment, or to the next when this one is full or fails; when that fails too, gives up.
    fn write_somewhere(&mut self, batches: &[Pending]) -> Result<Written, Arc<str>> {
        let Some(active) = &self.active else {
            return Err(Arc::clone(&self.problem));
        };
        if active.end >= self.spool.options.segment_bytes {
            self.retire();
            self.begin().map_err(|error| self.fail(&error))?;
        }
        self.write(batches).or_else(|error| {
            self.poison(&error);
            self.begin()
                .and_then(|()| self.write(batches))
                .map_err(|error| {
                    self.poison(&error);
                    self.fail(&error)
                })
        })
    }

    /// Writes and syncs; only then is anything of it true.
    fn write(&mut self, batches: &[Pending]) -> io::Result<Written> {
        let replica = self.spool.replica;
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("no segment is open"));
        };
        let mut written = Written {
            receipts: Vec::with_capacity(batches.len()),
            sequence: self.sequence,
            hash: self.hash,
        };
        self.buffer.clear();
        for batch in batches {
            let mut receipts = Vec::with_capacity(batch.records.len());
            let mut more = u32::try_from(batch.records.len()).unwrap_or(u32::MAX);
            for record in &batch.records {
                more = more.saturating_sub(1);
                written.sequence += 1;
                let place = Place {
                    sequence: written.sequence,
                    commit: active.end,
                    more,
                    previous: written.hash,
                };
                written.hash = record.place(&place, &mut self.buffer);
                receipts.push(Receipt::new(
                    record.id,
                    replica,
                    i64::try_from(written.sequence).unwrap_or(i64::MAX),
                    written.hash,
                ));
            }
            written.receipts.push(receipts);
        }
        let disk = &self.spool.disk;
        disk.write(&active.file, &self.buffer, active.end)?;
        disk.sync(&active.file)?;
        active.end += self.buffer.len() as u64;
        Ok(written)
    }

    /// Begins the next segment.
    fn begin(&mut self) -> io::Result<()> {
        self.number = self.number.saturating_add(1);
        let spool = &self.spool;
        let name = Name::new(&spool.options.dir, spool.replica, self.number);
        let header = Header {
            replica: spool.replica,
            number: self.number,
            first: self.sequence + 1,
            previous: self.hash,
        };
        let disk = &spool.disk;
        let create = || {
            let file = disk.create(&name.path)?;
            disk.write(&file, &header.bytes(), 0)?;
            disk.sync(&file)?;
            disk.sync_dir(&spool.options.dir)?;
            Ok(file)
        };
        match create() {
            Ok(file) => {
                spool.begin(name, header.first);
                self.active = Some(Active {
                    file,
                    end: HEADER_BYTES as u64,
                });
                Ok(())
            }
            Err(error) => {
                // What is left of it holds no record; at the next start it is removed.
                let _ = disk.remove(&name.path);
                Err(error)
            }
        }
    }

    /// Writes nothing more to this segment.
    fn retire(&mut self) {
        self.active = None;
        if let Some(empty) = self.spool.retire() {
            let _ = self.spool.disk.remove(&empty.path);
        }
    }

    fn poison(&mut self, error: &io::Error) {
        if self.active.is_some() {
            self.spool.counters.poisoned.fetch_add(1, Ordering::Relaxed);
            self.spool.set_disk_error(&error.to_string());
            tracing::error!(%error, segment = self.number, "gave up a decision log segment after a failed write");
            self.retire();
        }
    }

    /// Refuses everything until the disk takes a new segment; returns why.
    fn fail(&mut self, error: &io::Error) -> Arc<str> {
        let problem: Arc<str> = error.to_string().into();
        self.spool.set_disk_error(&problem);
        self.spool.queue.fail(Arc::clone(&problem));
        self.problem = Arc::clone(&problem);
        tracing::error!(%error, "the decision log cannot write and refuses every decision");
        problem
    }

    /// Tries a new segment, when there is none, and takes records again when that works.
    fn heal(&mut self) {
        if self.active.is_some() {
            return;
        }
        match self.begin() {
            Ok(()) => {
                self.spool.queue.heal();
                tracing::info!(segment = self.number, "the decision log writes again");
            }
            Err(error) => self.spool.set_disk_error(&error.to_string()),
        }
    }
}

// === impl AtEnd ===

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}
