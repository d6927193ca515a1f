//! The folder of a log: which files are segments, and who may write there.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use remit_core::ReplicaId;
use remit_core::controls::{Protection, holds};

use crate::Error;
use crate::disk::Disk;

/// The file whose lock says that a process has the folder open; it stays when the process has gone.
const LOCK: &str = "lock";
const SUFFIX: &str = ".seg";

/// The name of one segment file: `<replica>-<number, six digits or more>.seg`.
///
/// Sorted, the oldest comes first: replica ids begin with their time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) replica: ReplicaId,
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
}

/// The lock of a folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(pub(crate) File);

// === impl Name ===

impl Name {
    pub(crate) fn new(dir: &Path, replica: ReplicaId, number: u32) -> Self {
        let path = dir.join(format!("{replica}-{number:06}{SUFFIX}"));
        Self {
            replica,
            number,
            path,
        }
    }

    fn parse(dir: &Path, name: &str) -> Option<Self> {
        let (replica, number) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
        let parsed = Self::new(dir, replica.parse().ok()?, number.parse().ok()?);
        // One spelling only: whatever else looks like a segment is none.
        (parsed.path.file_name()?.to_str()? == name).then_some(parsed)
    }
}

/// Makes the folder where it is missing, so that it is still there after a power cut.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be made.
pub(crate) fn make(dir: &Path, disk: &dyn Disk) -> Result<(), Error> {
    let missing = !dir.exists();
    disk.create_dir(dir).map_err(Error::io("create", dir))?;
    for (level, above) in dir.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        let synced = disk.sync_dir(above).map_err(Error::io("sync", above));
        // Whoever made the folders above may not have synced them; one that we may not open is none of ours.
        if missing && level == 0 {
            synced?;
        }
    }
    Ok(())
}

/// Lists the segments in `dir`, oldest first.
///
/// # Errors
///
/// [`Error::Io`] when the folder cannot be read.
pub(crate) fn list(dir: &Path) -> Result<Vec<Name>, Error> {
    let read = || -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| Name::parse(dir, name)),
            );
        }
        names.sort();
        Ok(names)
    };
    read().map_err(Error::io("read the folder", dir))
}

// === impl Lock ===

impl Lock {
    /// Takes the lock of the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process (or another log of this one) has it, [`Error::Io`] for anything else.
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(LOCK);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(_) if !holds(Protection::SpoolLock) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.into() }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", path)(source)),
        }
    }
}

impl Drop for Lock {
    /// Unlocks, which is more than to close: a process that this one is starting has the file open as well, until its
    /// `exec`, and the lock is of all who have it open (flock(2)).
    fn drop(&mut self) {
        // Where that fails, it is free when the last of them has closed it.
        let _ = self.0.unlock();
    }
}
