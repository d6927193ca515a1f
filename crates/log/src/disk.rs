//! Every change to the file system that the log makes, in one place, so that a test can make each of them fail.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use remit_core::controls::{Protection, holds};

/// Changes files; the methods as they stand do so on the real file system.
///
/// Records hold what people and agents did, so folders and files are readable by their owner only.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Makes a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    /// Writes all of `bytes` at `offset`.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        heed(file.write_all_at(bytes, offset))
    }

    /// Waits until what was written is on the disk (fdatasync, which also settles the file's length).
    fn sync(&self, file: &File) -> io::Result<()> {
        if !holds(Protection::SyncSpool) {
            return Ok(());
        }
        heed(file.sync_data())
    }

    /// Cuts a file to `length` and waits until that is on the disk.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Waits until the names in a folder are on the disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The real file system.
#[derive(Debug)]
pub(crate) struct RealDisk;

// === impl RealDisk ===

impl Disk for RealDisk {}

/// Returns what the disk said about a write.
fn heed(said: io::Result<()>) -> io::Result<()> {
    if holds(Protection::HeedDiskErrors) {
        said
    } else {
        Ok(())
    }
}
