//! Disks that fail when and how a test says.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::disk::{Disk, RealDisk};

/// A disk that does not wait for the platter: for tests that open a log a thousand times.
#[derive(Debug)]
pub(super) struct QuickDisk;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing happened.
    Failed,
    /// It happened, and the answer says that it did not.
    FailedButDone,
    /// A write stopped halfway; a sync lost what was written since the last one. Other calls do nothing.
    Half,
}

/// A disk that fails `count` calls from the `from`-th on.
#[derive(Debug, Clone)]
pub(super) struct FaultyDisk {
    pub(super) mode: Mode,
    pub(super) error: i32,
    pub(super) from: usize,
    pub(super) count: usize,
    pub(super) calls: Arc<AtomicUsize>,
    /// The length that the file synced last had then.
    pub(super) synced: Arc<Mutex<u64>>,
}

/// A disk whose syncs wait until the gate is open.
#[derive(Debug, Clone, Default)]
pub(super) struct GatedDisk {
    shut: Arc<(Mutex<bool>, Condvar)>,
    /// Whether a sync is waiting.
    waiting: Arc<AtomicBool>,
}

/// A disk that refuses to remove files, so many times.
#[derive(Debug, Clone)]
pub(super) struct StickyDisk {
    pub(super) refusals: Arc<AtomicUsize>,
}

/// No space left on device.
pub(super) const ENOSPC: i32 = 28;
/// Input/output error.
pub(super) const EIO: i32 = 5;

// === impl QuickDisk ===

impl Disk for QuickDisk {
    fn sync(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

// === impl FaultyDisk ===

impl FaultyDisk {
    pub(super) fn new(mode: Mode, from: usize, count: usize) -> Self {
        Self {
            mode,
            error: EIO,
            from,
            count,
            calls: Arc::default(),
            synced: Arc::default(),
        }
    }

    /// Says whether the disk ever came to fail.
    pub(super) fn failed(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.from
    }

    fn call<T>(
        &self,
        works: impl FnOnce() -> io::Result<T>,
        half: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<T> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call < self.from || call >= self.from + self.count {
            return works();
        }
        match self.mode {
            Mode::Failed => {}
            Mode::FailedButDone => drop(works()?),
            Mode::Half => half()?,
        }
        Err(io::Error::from_raw_os_error(self.error))
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call(|| RealDisk.create(path), || Ok(()))
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.call(
            || RealDisk.write(file, bytes, offset),
            || RealDisk.write(file, &bytes[..bytes.len() / 2], offset),
        )
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let synced = || {
            *self.synced.lock().unwrap() = file.metadata()?.len();
            Ok(())
        };
        let lost = || file.set_len((*self.synced.lock().unwrap()).min(file.metadata()?.len()));
        self.call(synced, lost)
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.call(|| RealDisk.truncate(path, length), || Ok(()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| RealDisk.remove(path), || Ok(()))
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        self.call(|| Ok(()), || Ok(()))
    }
}

// === impl StickyDisk ===

impl Disk for StickyDisk {
    fn remove(&self, path: &Path) -> io::Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        match self
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
        {
            Ok(_) => Err(io::Error::from_raw_os_error(EIO)),
            Err(_) => RealDisk.remove(path),
        }
    }
}

// === impl GatedDisk ===

impl GatedDisk {
    pub(super) fn shut(&self) {
        *self.shut.0.lock().unwrap() = true;
    }

    pub(super) fn open(&self) {
        *self.shut.0.lock().unwrap() = false;
        self.shut.1.notify_all();
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }
}

impl Disk for GatedDisk {
    fn sync(&self, _file: &File) -> io::Result<()> {
        let mut shut = self.shut.0.lock().unwrap();
        while *shut {
            self.waiting.store(true, Ordering::SeqCst);
            shut = self.shut.1.wait(shut).unwrap();
        }
        self.waiting.store(false, Ordering::SeqCst);
        Ok(())
    }
}
