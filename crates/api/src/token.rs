//! Sealed cursors: opaque page tokens that nobody else can make or alter.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

/// How many bytes of the HMAC a token carries.
const TAG: usize = 16;
/// Longer than any token that is made here.
const LONGEST: usize = 4_096;

/// The key that page tokens are authenticated with; every replica has the same.
pub(crate) struct Seal([u8; 32]);

// === impl Seal ===

impl Seal {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Writes `cursor` as a token that is only valid for `query`.
    ///
    /// `None` only when `cursor` cannot be written as JSON.
    pub(crate) fn seal(&self, query: &[u8], cursor: &impl Serialize) -> Option<String> {
        let payload = serde_json::to_vec(cursor).ok()?;
        let mut bytes = self.tag(query, &payload)?.to_vec();
        bytes.extend(payload);
        Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token made by [`Seal::seal`] for the same `query`; `None` for any other text.
    pub(crate) fn open<T: DeserializeOwned>(&self, query: &[u8], token: &str) -> Option<T> {
        if token.len() > LONGEST {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, payload) = bytes.split_at_checked(TAG)?;
        let mut mac = self.mac(query)?;
        mac.update(payload);
        mac.verify_truncated_left(tag).ok()?;
        serde_json::from_slice(payload).ok()
    }

    fn tag(&self, query: &[u8], payload: &[u8]) -> Option<[u8; TAG]> {
        let mut mac = self.mac(query)?;
        mac.update(payload);
        mac.finalize().into_bytes().first_chunk().copied()
    }

    fn mac(&self, query: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        // With its length, so that no query and payload can be split differently.
        mac.update(&u64::try_from(query.len()).ok()?.to_be_bytes());
        mac.update(query);
        Some(mac)
    }
}
