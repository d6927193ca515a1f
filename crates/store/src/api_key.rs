//! The text of an API key, and the secret that keys its hash.
//!
//! `remit_<environment>_<id>_<secret>_<checksum>`: the prefix lets a secret scanner find a leaked key, the checksum lets
//! it and a client tell a real key from a truncated one without asking.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use remit_core::KeyId;
use sha2::Sha256;
use uuid::Uuid;

use crate::error::Error;

/// What every API key begins with.
const PREFIX: &str = "remit_";
/// The fewest bytes of a pepper.
const PEPPER_BYTES: usize = 32;
/// The longest name of an environment, in bytes.
const ENVIRONMENT_BYTES: usize = 16;

/// One API key with its secret, as its holder presents it.
///
/// Neither `Debug` nor `Display` shows the secret; [`ApiKey::reveal`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Everything before the checksum: what is hashed, so that no part can be exchanged.
    signed: String,
    /// Where the environment ends in it.
    environment: usize,
    id: KeyId,
}

/// Why a text is not an API key. The text is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// It does not begin with `remit_`.
    #[error("an API key begins with `remit_`")]
    Prefix,
    /// It does not have the five parts.
    #[error("an API key is `remit_<environment>_<id>_<secret>_<checksum>`")]
    Parts,
    /// The environment is not 1 to 16 of `a-z0-9`.
    #[error("the environment of an API key is 1 to 16 of `a-z0-9`")]
    Environment,
    /// The id is not 32 lower-case hexadecimal digits.
    #[error("the id of an API key is 32 lower-case hexadecimal digits")]
    Id,
    /// The secret is not 64 lower-case hexadecimal digits.
    #[error("the secret of an API key is 64 lower-case hexadecimal digits")]
    Secret,
    /// The checksum does not fit: the key was mistyped or cut.
    #[error("the checksum of the API key does not fit: it was mistyped or cut")]
    Checksum,
}

/// The secret of this installation that keys the hashes of API keys, so that a stolen database opens nothing.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

/// The keyed hash of an API key.
#[derive(Clone, Copy)]
pub(crate) struct KeyMac(pub(crate) [u8; 32]);

// === impl ApiKey ===

impl ApiKey {
    /// Makes a key with a new secret of 32 bytes from the system.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an environment that is not 1 to 16 of `a-z0-9`; [`Error::Random`] when the system gives no
    /// random bytes.
    pub fn generate(environment: &str, id: KeyId) -> Result<Self, Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| Error::Random {
            source: error.to_string().into(),
        })?;
        Self::from_secret(environment, id, secret)
    }

    /// Makes the key of a secret that is given: for a fixed key in development and in tests.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an environment that is not 1 to 16 of `a-z0-9`.
    pub fn from_secret(environment: &str, id: KeyId, secret: [u8; 32]) -> Result<Self, Error> {
        check_environment(environment)
            .map_err(|error| Error::invalid("environment", format!("is wrong: {error}")))?;
        let mut signed = format!("{PREFIX}{environment}_{}_", id.uuid().simple());
        for byte in secret {
            for digit in [byte >> 4, byte & 15] {
                signed.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        Ok(Self {
            signed,
            environment: PREFIX.len() + environment.len(),
            id,
        })
    }

    /// Reads a key, taking exactly the one spelling that [`ApiKey::reveal`] writes.
    ///
    /// # Errors
    ///
    /// [`ParseKeyError`] says which part is wrong, and never repeats the text.
    pub fn parse(text: &str) -> Result<Self, ParseKeyError> {
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(ParseKeyError::Prefix);
        };
        let mut parts = rest.split('_');
        let (Some(environment), Some(id), Some(secret), Some(checksum), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(ParseKeyError::Parts);
        };
        check_environment(environment)?;
        if !is_hex(id, 32) {
            return Err(ParseKeyError::Id);
        }
        if !is_hex(secret, 64) {
            return Err(ParseKeyError::Secret);
        }
        let id = Uuid::try_parse(id).map_err(|_| ParseKeyError::Id)?;
        let signed = text.rsplit_once('_').map_or("", |(signed, _)| signed);
        let key = Self {
            signed: signed.to_owned(),
            environment: PREFIX.len() + environment.len(),
            id: KeyId::from_uuid(id),
        };
        if key.checksum() == checksum {
            Ok(key)
        } else {
            Err(ParseKeyError::Checksum)
        }
    }

    /// Returns the whole text, secret included: to hand to its holder, once, and never to a log.
    pub fn reveal(&self) -> String {
        format!("{}_{}", self.signed, self.checksum())
    }

    /// Returns the public id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the environment it says it is for.
    pub fn environment(&self) -> &str {
        self.signed
            .get(PREFIX.len()..self.environment)
            .unwrap_or_default()
    }

    fn checksum(&self) -> String {
        format!("{:08x}", crc32c::crc32c(self.signed.as_bytes()))
    }
}

/// Checks the name of an environment.
pub(crate) fn check_environment(environment: &str) -> Result<(), ParseKeyError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (1..=ENVIRONMENT_BYTES).contains(&environment.len()) && environment.bytes().all(allowed) {
        Ok(())
    } else {
        Err(ParseKeyError::Environment)
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}_{}_…",
            self.environment(),
            self.id.uuid().simple()
        )
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({self})")
    }
}

// === impl Pepper ===

impl Pepper {
    /// Takes at least 32 bytes as the pepper.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for fewer.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        let short = || Error::invalid("pepper", format!("is shorter than {PEPPER_BYTES} bytes"));
        if bytes.len() < PEPPER_BYTES {
            return Err(short());
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| short())
    }

    /// Derives a key for another purpose than API keys; the same on every replica that has the same pepper.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        // A presented key begins with `remit_`, so no purpose can be taken for one.
        let hash = self.0.clone().chain_update("derive/").chain_update(purpose);
        hash.finalize().into_bytes().into()
    }

    /// Hashes a key: HMAC-SHA-256 over everything before its checksum.
    pub(crate) fn mac(&self, key: &ApiKey) -> KeyMac {
        let hash = self.0.clone().chain_update(&key.signed);
        KeyMac(hash.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

// === impl KeyMac ===

impl fmt::Debug for KeyMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMac(…)")
    }
}
