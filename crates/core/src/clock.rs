//! Where time and ids come from (INV-9).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use uuid::{Builder, Uuid};

use crate::Timestamp;
use crate::controls::{Protection, holds};

/// Tells the time and makes ids; the only thing in Remit that may.
///
/// A test holds a manual clock, so that its times and ids are the same at every run.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Manual>>);

#[derive(Debug)]
struct Manual {
    start: i64,
    now: AtomicI64,
    ids: AtomicU64,
}

// === impl Clock ===

impl Clock {
    /// Makes a clock that follows the system's.
    pub fn system() -> Self {
        Self(None)
    }

    /// Makes a clock that stands at `start` until [`Clock::advance`] moves it, and counts its ids from one.
    pub fn manual(start: Timestamp) -> Self {
        let start = start.micros();
        Self(Some(Arc::new(Manual {
            start,
            now: start.into(),
            ids: 0.into(),
        })))
    }

    /// Moves a manual clock forward; a system clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            manual.now.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// Returns the wall-clock time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock (INV-9)")]
    pub fn now(&self) -> Timestamp {
        let micros = match &self.0 {
            Some(manual) => manual.now.load(Ordering::SeqCst),
            // Before 1970 or after the year 294,000 the machine's clock is broken; the epoch then expires everything.
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_micros()).ok())
                .unwrap_or(0),
        };
        Timestamp::from_micros(micros)
    }

    /// Returns the time since boot, counting suspend: what staleness and leases are measured in.
    ///
    /// It never goes back, whatever happens to the wall clock.
    pub fn boot(&self) -> Duration {
        match &self.0 {
            Some(manual) => {
                let elapsed = manual
                    .now
                    .load(Ordering::SeqCst)
                    .saturating_sub(manual.start);
                Duration::from_micros(u64::try_from(elapsed).unwrap_or(0))
            }
            None if !holds(Protection::BootTime) => {
                Duration::from_micros(u64::try_from(self.now().micros()).unwrap_or(0))
            }
            None => {
                let time = clock_gettime(ClockId::Boottime);
                Duration::new(
                    u64::try_from(time.tv_sec).unwrap_or(0),
                    u32::try_from(time.tv_nsec).unwrap_or(0),
                )
            }
        }
    }

    /// Makes a UUIDv7 (RFC 9562 §5.7); wrap it in the id type of the noun it names.
    ///
    /// Ids made in one process increase, also within one millisecond.
    #[expect(clippy::disallowed_methods, reason = "this is the clock (INV-9)")]
    pub fn id(&self) -> Uuid {
        match &self.0 {
            None => Uuid::now_v7(),
            Some(manual) => {
                let count = manual.ids.fetch_add(1, Ordering::SeqCst) + 1;
                let mut random = [0; 10];
                if let Some(tail) = random.last_chunk_mut::<8>() {
                    *tail = count.to_be_bytes();
                }
                let millis = u64::try_from(self.now().millis()).unwrap_or(0);
                Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
            }
        }
    }
}
