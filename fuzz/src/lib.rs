//! Fuzz targets: one function for everything that reads bytes from outside, with what must hold of all it accepts.
//!
//! `cargo fuzz run <target>` calls a target with bytes of its own making; `cargo test` calls it with the corpus
//! ([`TARGETS`]). A target returns quietly or panics: a refusal is no failure, a broken law is.
//!
//! Deliberately absent: randomness, sockets, databases, and any knowledge of how a parser works inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::allow_attributes,
    reason = "a target fails by panicking, and the message is what the finder reads"
)]

mod entities;
mod policy;
mod query;
mod question;
mod record;
mod schema;
mod spool;
mod strict;
#[cfg(test)]
mod tests;
mod tokens;
mod world;

pub use entities::entities;
pub use policy::policy;
pub use query::query;
pub use question::question;
pub use record::record;
pub use schema::schema;
pub use spool::spool;
pub use tokens::tokens;

/// What one input is given to.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("entities", entities),
    ("policy", policy),
    ("query", query),
    ("question", question),
    ("record", record),
    ("schema", schema),
    ("spool", spool),
    ("tokens", tokens),
];
