//! A small disk of its own that a test can fill up: a tmpfs, mounted over a folder and gone when it is dropped.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that takes the room.
const BALLAST: &str = "ballast";
/// `ENOSPC`: no space left on the device.
const FULL: i32 = 28;

/// A tmpfs mounted over a folder.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

// === impl Disk ===

impl Disk {
    /// Mounts a disk of so many KiB over `folder`, which is made where it is missing.
    ///
    /// Returns `None`, and says why, where mounting is not permitted.
    ///
    /// # Panics
    ///
    /// Under `CI=true` where mounting is not permitted.
    pub fn mount(folder: &Path, kibibytes: u32) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={kibibytes}k,mode=0700"))
            .arg("remit-chaos")
            .arg(folder)
            .output();
        let refused = match mounted {
            Ok(done) if done.status.success() => {
                return Some(Self {
                    folder: folder.to_owned(),
                });
            }
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            !remit_tests::ci(),
            "a disk cannot be mounted, which takes root: {refused}"
        );
        eprintln!(
            "SKIPPED: a disk cannot be mounted, which takes root to run this test: {refused}"
        );
        None
    }

    /// Takes all the room that is left; again and again, where somebody frees some.
    pub fn fill(&self) {
        let mut ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(BALLAST))
            .unwrap();
        loop {
            match ballast.write(&[0x5A; 4_096]) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(FULL) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Gives the room back.
    pub fn empty(&self) {
        match fs::remove_file(self.folder.join(BALLAST)) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Detached at once where a process is still at home there; it is gone when that ends.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.folder.display());
        }
    }
}
