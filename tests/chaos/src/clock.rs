//! A wall clock that jumps: `libfaketime` preloaded into one process, told the time by a file.

use std::fs;
use std::path::{Path, PathBuf};

/// The wall clock of the processes it is given to; boot time and monotonic time stay true.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

// === impl FakeClock ===

impl FakeClock {
    /// Makes a clock that tells the true time, kept in `folder`.
    ///
    /// Returns `None`, and says what to install, where there is no `libfaketime`.
    ///
    /// # Panics
    ///
    /// Under `CI=true` where there is none.
    pub fn new(folder: &Path) -> Option<Self> {
        let found = library();
        assert!(
            found.is_some() || !remit_tests::ci(),
            "there is no libfaketime; `apt-get install faketime`"
        );
        let Some(library) = found else {
            eprintln!(
                "SKIPPED: there is no libfaketime; `apt-get install faketime` to run this test"
            );
            return None;
        };
        let clock = Self {
            library,
            file: folder.join("time"),
        };
        clock.jump(0);
        Some(clock)
    }

    /// Sets the wall clock to `seconds` after the true time, or before it; no other clock moves.
    pub fn jump(&self, seconds: i64) {
        // Renamed into place: the process must never read half a number.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// Returns the environment that puts a process under this clock.
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Read the file at every look, instead of every ten seconds.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Where Debian keeps the library: in a folder named after the architecture.
fn library() -> Option<PathBuf> {
    fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketime.so.1")))
        .find(|path| path.is_file())
}
