//! Decisions recorded before they are given.
//!
//! [`DecisionLog::append`] returns when the records are on this host's disk (the `local` durability class): one writer
//! thread takes everything that waits, writes it once, syncs it once, and hands out a [`Receipt`] each.
//! [`DecisionLog::ship`] carries them to the store, exactly once, in the background. [`fsck`] checks a folder offline.
//! [`DecisionLog::share`] writes a record to the store in the transaction of what it consumes (the `shared` class).
//!
//! Invariants: no receipt before the record is synced; the records of one run are numbered from 1 without gaps and
//! chained by SHA-256; nothing is removed before the store has it; a full or failing disk refuses, and never drops.
//!
//! Deliberately absent: Cedar, SQL, and the per-tenant Merkle log, whose leaves will be commitments to the bodies that
//! are shipped from here, taken in the order in which the store receives them.

mod disk;
mod entries;
mod error;
mod folder;
mod frame;
mod fsck;
mod log;
mod queue;
mod receipt;
mod recover;
mod scan;
mod shared;
mod ship;
mod spool;
mod status;
mod unproven;
mod writer;

pub use entries::{Entry, entries};
pub use error::Error;
pub use fsck::{Problem, ReplicaReport, Report, fsck};
pub use log::{DecisionLog, Options};
pub use receipt::{FrameHash, Receipt};
pub use shared::{Shared, Takes, UsedApproval};
pub use status::Status;

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends where something is not as expected"
)]
mod tests;
