//! Canonical JSON: one spelling for every value, so that a hash of it means something.

use serde::Serialize;

/// Writes `value` as canonical JSON (RFC 8785).
///
/// # Errors
///
/// When `value` is not JSON: a map with keys that are not text, or a number that is not finite.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value)
}
