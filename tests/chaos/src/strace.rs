//! System calls that fail when a test says so: `strace` and its tampering.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::pdp::{PATIENCE, Pdp};

/// A running server of which some system calls are watched, or fail.
#[derive(Debug)]
pub struct Strace {
    tracer: Child,
    trace: PathBuf,
}

/// Whether there is an `strace` that may attach to another process.
///
/// # Panics
///
/// Under `CI=true` where there is none.
pub fn available() -> bool {
    let mut sleeper = Command::new("sleep").arg("20").spawn().unwrap();
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-p", &sleeper.id().to_string()])
        .stderr(Stdio::null())
        .spawn();
    let works = tried.is_ok_and(|mut tracer| {
        let works = traced(sleeper.id(), sleeper.id(), Duration::from_secs(5));
        let _ = tracer.kill();
        let _ = tracer.wait();
        works
    });
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    let missing = "there is no strace that may attach to a process; `apt-get install strace`";
    assert!(works || !remit_tests::ci(), "{missing}");
    if !works {
        eprintln!("SKIPPED: {missing} and be root to run this test");
    }
    works
}

/// Returns what starts a server of which every call of `tampering` that touches one of `paths` fails from the start.
///
/// `tampering` is what `strace -e inject=` takes, such as `fsync:error=EIO:when=1`. Without paths every call counts.
pub fn failing(tampering: &str, paths: &[PathBuf], trace: &Path) -> Vec<String> {
    let (call, _) = tampering.split_once(':').unwrap();
    let shown = trace.to_str().unwrap();
    // -D: the server is the process that is started, and the tracer its child. The kernel stops it at no other call.
    let mut words = vec!["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", shown];
    for path in paths {
        words.extend(["-P", path.to_str().unwrap()]);
    }
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    words.extend(["-e".to_owned(), format!("trace={call}")]);
    words.extend(["-e".to_owned(), format!("inject={tampering}")]);
    words
}

/// Returns how many calls a trace says were made to fail.
pub fn injected(trace: &Path) -> usize {
    let text = fs::read_to_string(trace).unwrap_or_default();
    text.matches("(INJECTED)").count()
}

// === impl Strace ===

impl Strace {
    /// Watches the calls of one thread of a server, named as the kernel lists it; without a name, of all its threads.
    ///
    /// `what` is how `-e` takes it, such as `trace=fdatasync` or `inject=pwrite64:error=EIO:when=2`. Calls are counted for
    /// each thread, from now on.
    ///
    /// # Panics
    ///
    /// When there is no such thread, or it cannot be attached to.
    pub fn attach(pdp: &Pdp, thread: Option<&str>, what: &[&str], trace: &Path) -> Self {
        let process = pdp.pid();
        let task = thread.map_or(process, |name| task(process, name));
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", trace.to_str().unwrap()]);
        for what in what {
            command.args(["-e", what]);
        }
        if thread.is_none() {
            command.arg("-f");
        }
        let tracer = command
            .args(["-p", &task.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tracing = Self {
            tracer,
            trace: trace.to_owned(),
        };
        assert!(traced(process, task, PATIENCE), "strace does not attach");
        tracing
    }

    /// Waits until so many calls were made to fail.
    ///
    /// # Panics
    ///
    /// When that does not happen in time.
    pub async fn until_injected(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while injected(&self.trace) < count {
            assert!(Instant::now() < until, "no call was made that could fail");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets go of the server, which runs on, and returns what was traced.
    pub fn detach(mut self) -> String {
        self.end();
        fs::read_to_string(&self.trace).unwrap()
    }

    fn end(&mut self) {
        if self.tracer.try_wait().unwrap().is_none() {
            // Asked, and not killed: it takes its hands off first.
            let pid = self.tracer.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = self.tracer.wait();
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the id of a thread of a process.
fn task(process: u32, name: &str) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut found = tasks.filter_map(|entry| {
        let path = entry.unwrap().path();
        let called = fs::read_to_string(path.join("comm")).unwrap_or_default();
        (called.trim() == name).then(|| path.file_name().unwrap().to_str().unwrap().parse())
    });
    found
        .next()
        .unwrap_or_else(|| panic!("the server has no thread `{name}`"))
        .unwrap()
}

/// Waits until a thread is traced; false when time is up.
fn traced(process: u32, task: u32, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        let status = fs::read_to_string(format!("/proc/{process}/task/{task}/status"));
        let status = status.unwrap_or_default();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_some_and(|pid| pid.trim() != "0") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
