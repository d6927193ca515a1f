//! Protections that a build for negative controls can switch off, so that every checker can be shown to fail.
//!
//! Without the feature `controls` all of this is one constant `true`. The feature is in no default, and only the program
//! `remit-controls` (`crates/server/src/controls.rs`) switches anything off.

#[cfg(feature = "controls")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What keeps one promise of Remit.
///
/// Each is there for a negative control: a test that must be red when it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Protection {
    /// A decision is on the disk before it is answered.
    RecordBeforeAnswer,
    /// A record that the log refuses is not answered.
    RefuseUnrecorded,
    /// What the disk says about a write is believed.
    HeedDiskErrors,
    /// What was written is synced.
    SyncSpool,
    /// One process at a time has the spool.
    SpoolLock,
    /// A batch whose answer was lost is not stored a second time.
    ExactlyOnceShipping,
    /// Policies unconfirmed for too long decide nothing.
    Staleness,
    /// Staleness is measured in boot time, which nobody can set.
    BootTime,
    /// A forbid that errors denies.
    ErroringForbidDenies,
    /// A panic in the engine is a recorded deny.
    CatchPanic,
    /// A call to the database ends at its deadline.
    DatabaseDeadline,
    /// The process starts while the database is away.
    StartWithoutDatabase,
    /// A tenant whose revision went backwards decides nothing more.
    SetBack,
    /// What expires does so by a time that nobody on this host can set.
    ExpiryTime,
    /// A process that is asked to stop first answers what is in flight, and ships its spool.
    Drain,
    /// A row that cannot be read is the trouble of its tenant alone.
    TenantsApart,
    /// Reading what is new and shipping do not queue behind requests for a connection.
    Ahead,
}

#[cfg(feature = "controls")]
static OFF: AtomicU64 = AtomicU64::new(0);

/// The subject whose question panics in the engine, in a build for negative controls.
#[cfg(feature = "controls")]
pub const PANIC: &str = "remit-controls-panic";

// === impl Protection ===

impl Protection {
    /// All of them.
    #[cfg(feature = "controls")]
    pub const ALL: [Self; 17] = [
        Self::RecordBeforeAnswer,
        Self::RefuseUnrecorded,
        Self::HeedDiskErrors,
        Self::SyncSpool,
        Self::SpoolLock,
        Self::ExactlyOnceShipping,
        Self::Staleness,
        Self::BootTime,
        Self::ErroringForbidDenies,
        Self::CatchPanic,
        Self::DatabaseDeadline,
        Self::StartWithoutDatabase,
        Self::SetBack,
        Self::ExpiryTime,
        Self::Drain,
        Self::TenantsApart,
        Self::Ahead,
    ];

    #[cfg(feature = "controls")]
    fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// Whether a protection is in force; always, in a build without the feature.
#[cfg(not(feature = "controls"))]
#[inline]
pub const fn holds(_: Protection) -> bool {
    true
}

/// Whether a protection is in force: unless [`switch_off`] named it.
#[cfg(feature = "controls")]
pub fn holds(protection: Protection) -> bool {
    OFF.load(Ordering::Relaxed) & protection.bit() == 0
}

/// Switches protections off for the whole process, by their names and separated by commas; `None` for an unknown name.
#[cfg(feature = "controls")]
pub fn switch_off(names: &str) -> Option<Vec<Protection>> {
    let named = |name: &str| {
        let mut all = Protection::ALL.into_iter();
        all.find(|protection| format!("{protection:?}") == name)
    };
    let off: Option<Vec<Protection>> = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(named)
        .collect();
    for protection in off.iter().flatten() {
        OFF.fetch_or(protection.bit(), Ordering::Relaxed);
    }
    off
}

/// Does nothing: there is no way to make the engine of a shipped build panic.
#[cfg(not(feature = "controls"))]
#[inline]
pub const fn provoke(_: &str) {}

/// Panics for the one subject that asks for it, so that what a panic leads to can be seen from outside.
#[cfg(feature = "controls")]
pub fn provoke(subject: &str) {
    if subject == PANIC {
        std::panic::panic_any("a question asked for this panic");
    }
}
