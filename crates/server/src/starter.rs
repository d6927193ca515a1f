//! The starter bundle, carried in the binary.

use remit_core::Bundle;

use crate::bundle_dir;
use crate::error::Error;

/// The files of `policies/starter`, by name; listed by `build.rs`.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/starter.rs"));

/// Reads the starter bundle.
///
/// # Errors
///
/// [`Error::Invalid`] when a file of it is malformed, which its tests rule out.
pub(crate) fn bundle() -> Result<Bundle, Error> {
    let files = FILES
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    bundle_dir::assemble(&files.collect())
}
