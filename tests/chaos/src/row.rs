//! One row of the table of failures: its start value, its random choices, and the line that says how it went.

use remit_core::Clock;

/// One failure under test.
///
/// It prints its line when [`Row::passed`] is called, or when it is dropped by a test that fails.
#[derive(Debug)]
pub struct Row {
    name: &'static str,
    start: u64,
    state: u64,
    passed: Option<String>,
}

/// Whether the long forms are wanted.
pub fn full() -> bool {
    std::env::var_os("REMIT_CHAOS").is_some_and(|value| value == "full")
}

// === impl Row ===

impl Row {
    /// Begins a row, and says how to repeat it.
    ///
    /// # Panics
    ///
    /// When `REMIT_TEST_SEED` is no number.
    pub fn new(name: &'static str) -> Self {
        let start = match std::env::var("REMIT_TEST_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) if full() => u64::try_from(Clock::system().now().micros()).unwrap(),
            // The number of the row: fixed, and another one in every row.
            Err(_) => name
                .trim_start_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .unwrap_or(1),
        };
        println!("{name} starts from {start}; set REMIT_TEST_SEED to it to repeat");
        Self {
            name,
            start,
            // Mixed, because neighbouring numbers must not give neighbouring choices; never zero, where it would stay.
            state: (start ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1,
            passed: None,
        }
    }

    /// Returns the start value.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Chooses a number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % limit
    }

    /// Says that the row held, what was measured, and what became of its negative control.
    pub fn passed(mut self, result: &str, control: &str) {
        self.passed = Some(format!("result=passed ({result}) control={control}"));
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let line = self
            .passed
            .as_deref()
            .unwrap_or("result=FAILED control=not-reached");
        println!("{} seed={} {line}", self.name, self.start);
    }
}
