//! The harness of the integration tests: the tree, the external vectors, servers and databases.

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

use std::path::{Path, PathBuf};

pub mod app;
pub mod bundles;
<<<<<<< HEAD
pub mod postgres;
=======
pub mod contract;
pub mod schema;
>>>>>>> a845cdd (Explain decisions over HTTP, and hold every answer of the tests against the OpenAPI document)
pub mod server;
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
/// They are read from `REMIT_VECTORS`, by default `../shared/vectors` beside the checkout, and never copied into the
/// repository.
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
    assert!(
        !ci(),
        "the vectors `{}` are missing; set REMIT_VECTORS",
        found.display()
    );
    eprintln!(
        "SKIPPED: no vectors at {}; set REMIT_VECTORS to run this test",
        found.display()
    );
    None
}

/// Compares `text` with the golden file `tests/golden/<name>`.
///
/// With `REMIT_GOLDEN=write` in the environment the file is written instead; read the difference before you commit it.
///
/// # Panics
///
/// When they differ.
pub fn golden(name: &str, text: &str) {
    let path = root().join("tests/golden").join(name);
    if std::env::var_os("REMIT_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let same = kept
        .lines()
        .zip(text.lines())
        .take_while(|(kept, new)| kept == new)
        .count();
    assert!(
        kept == text,
        "{} differs from line {}: kept {:?}, now {:?}; REMIT_GOLDEN=write writes it",
        path.display(),
        same + 1,
        kept.lines().nth(same),
        text.lines().nth(same),
    );
}

/// Whether the tests run where nothing may be skipped.
pub fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
