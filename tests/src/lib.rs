//! The harness of the integration tests: the tree, the external vectors, servers and databases.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "a harness fails a test by panicking, and tells why on the terminal"
)]

use std::path::{Path, PathBuf};

pub mod app;
pub mod bundles;
pub mod contract;
pub mod golden;
pub mod ports;
pub mod postgres;
pub mod raw;
pub mod receiver;
pub mod replay;
pub mod schema;
pub mod server;
pub mod smuggling;
pub mod sql;

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the path of third-party vectors, such as `authzen/certification.json`, or `None` where they are missing.
///
/// They are read from `REMIT_VECTORS`, by default `../shared/vectors` beside the checkout, and never copied into here.
///
/// # Panics
///
/// Under `CI=true` when they are missing: there a skipped vector is a failure.
pub fn vectors(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("REMIT_VECTORS")
        .map_or_else(|| root().join("../shared/vectors"), PathBuf::from);
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(!ci(), "no vectors at `{found:?}`; set REMIT_VECTORS");
    eprintln!("SKIPPED: no vectors at {found:?}; set REMIT_VECTORS to run this test");
    None
}

/// Whether the tests run where nothing may be skipped.
pub fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
