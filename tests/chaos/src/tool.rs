//! Programs of the distribution that a test runs: where they are, and that none outlives its test.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where a distribution keeps servers; not everybody's `PATH` leads there.
const SERVERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A program that runs for a test; killed when it is dropped.
#[derive(Debug)]
pub struct Tool {
    child: Child,
    output: PathBuf,
}

/// Returns the path of a program, which the package of this name brings.
///
/// Returns `None`, and says what to install, where there is none.
///
/// # Panics
///
/// Under `CI=true` where there is none.
pub fn installed(program: &str, package: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders)
        .chain(SERVERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    let missing = format!("there is no {program}; `apt-get install {package}`");
    assert!(found.is_some() || !remit_tests::ci(), "{missing}");
    if found.is_none() {
        eprintln!("SKIPPED: {missing} to run this test");
    }
    found
}

// === impl Tool ===

impl Tool {
    /// Starts a program that writes into a file of `folder`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[&str], folder: &Path) -> Self {
        let output = folder.join("output");
        let file = File::create(&output).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns what it has written.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
