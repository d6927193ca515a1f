//! The harness that breaks things: the real binary, and everything around it that can fail.
//!
//! Everything is on loopback, bounded in number and time, and ended by its own process id. A test makes a [`Row`] first,
//! which holds the start value of its random choices and prints the row of the table when it is done:
//!
//! ```text
//! F2 seed=2 result=passed control=failed-as-it-must
//! ```
//!
//! By default the runs are short and start from fixed values. `REMIT_CHAOS=full` runs the long forms from a new start
//! value each time, and `REMIT_TEST_SEED` repeats one.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "a harness fails a test by panicking, and tells why on the terminal"
)]

pub mod clock;
pub mod disk;
pub mod front;
pub mod ledger;
pub mod load;
pub mod pdp;
pub mod proxy;
pub mod row;
pub mod strace;
pub mod tool;

pub use clock::FakeClock;
pub use disk::Disk;
pub use front::{Front, Make, Manner};
pub use ledger::{Entry, Ledger, Totals};
pub use load::{Call, Load, Outcome};
pub use pdp::{Pdp, Plan};
pub use proxy::{Fate, Proxy};
pub use remit_tests::postgres::Postgres as Pg;
pub use row::{Row, full};
pub use strace::Strace;
pub use tool::Tool;
