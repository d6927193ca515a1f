//! Clocks and statistics: CPU time of a thread or a process, medians and how far figures spread.

use std::fmt;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time one sample of an engine takes, so that no clock's grain shows in it.
const SAMPLE: Duration = Duration::from_millis(200);
/// The same under `--quick`.
const QUICK_SAMPLE: Duration = Duration::from_millis(20);

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Only prove that everything runs.
    pub quick: bool,
}

/// Some measurements of one thing.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<f64>);

// === impl Effort ===

impl Effort {
    /// Picks between the real size and one that only proves that it runs.
    pub fn pick<T>(self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }

    /// Returns the CPU time that one sample of an engine is to take at least.
    pub fn sample(self) -> Duration {
        self.pick(SAMPLE, QUICK_SAMPLE)
    }
}

// === impl Figures ===

impl Figures {
    /// Adds one measurement.
    pub fn push(&mut self, figure: f64) {
        let place = self.0.partition_point(|other| *other <= figure);
        self.0.insert(place, figure);
    }

    /// Takes measurements in any order.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// Returns how many there are.
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// Returns how many are above a bound.
    pub fn count_above(&self, bound: f64) -> usize {
        self.0.len() - self.0.partition_point(|figure| *figure <= bound)
    }

    /// Returns the figure below which that share of all lies.
    pub fn at(&self, share: f64) -> f64 {
        at(&self.0, share)
    }

    /// Returns the middle figure.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Returns the largest figure.
    pub fn most(&self) -> f64 {
        self.at(1.0)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median() < 100.0 { 1 } else { 0 };
        let text = format!(
            "{:.digits$} ({:.digits$}-{:.digits$})",
            self.median(),
            self.at(0.0),
            self.most()
        );
        f.pad(&text)
    }
}

/// Returns the value below which that share of sorted values lies; not a number where there are none.
pub fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (count(last) * share).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or(f64::NAN)
}

/// Runs `work` again and again until it has taken the CPU time of a sample, and returns the CPU time of one run in µs.
pub fn cpu_each(effort: Effort, mut work: impl FnMut(usize)) -> f64 {
    let start = thread_cpu();
    let mut runs = 0;
    loop {
        // Reading the clock costs a fraction of a microsecond: several runs share one reading.
        for _ in 0..16 {
            work(runs);
            runs += 1;
            if runs < 16 && thread_cpu() - start > effort.sample() {
                break;
            }
        }
        let took = thread_cpu() - start;
        if took >= effort.sample() {
            return took.as_secs_f64() * 1e6 / count(runs);
        }
    }
}

/// Returns the CPU time that this thread has taken.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Returns the CPU time that the threads of a process have taken.
pub fn process_cpu(pid: u32) -> Duration {
    threads_cpu(pid, |_| true)
}

/// Returns the CPU time that the threads of a process whose name is wanted have taken.
///
/// `/proc/PID/stat` counts in ticks of 10 ms; the scheduler's own account of each thread is exact.
pub fn threads_cpu(pid: u32, wanted: impl Fn(&str) -> bool) -> Duration {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        // A thread may end between the listing and the reading.
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if !wanted(name.trim_end()) {
            continue;
        }
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let first = text.split(' ').next().and_then(|text| text.parse().ok());
        total += first.unwrap_or(0_u64);
    }
    Duration::from_nanos(total)
}

/// Returns what a process has in memory, in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Makes a count a figure.
pub fn count(number: usize) -> f64 {
    number as f64
}
