//! The bundles carried in the binary.

use remit_core::Bundle;

use crate::bundle_dir;
use crate::error::Error;

/// The files of a pack, by name.
type Files = &'static [(&'static str, &'static str)];

/// The files of `policies/starter`, listed by `build.rs`.
const STARTER: Files = include!(concat!(env!("OUT_DIR"), "/starter.rs"));
/// The files of `policies/agent-baseline`.
const BASELINE: Files = include!(concat!(env!("OUT_DIR"), "/agent-baseline.rs"));

/// Reads the starter bundle.
///
/// # Errors
///
/// [`Error::Invalid`] when a file of it is malformed, which its tests rule out.
pub(crate) fn bundle() -> Result<Bundle, Error> {
    read(STARTER)
}

/// Reads the baseline of controls for agents.
///
/// # Errors
///
/// As [`bundle`].
pub(crate) fn baseline() -> Result<Bundle, Error> {
    read(BASELINE)
}

fn read(files: Files) -> Result<Bundle, Error> {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    bundle_dir::assemble(&files.collect())
}
