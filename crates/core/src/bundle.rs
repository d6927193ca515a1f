//! A bundle: what decides, as one value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::{Case, Entity, EntityUid, ParseIdError, PolicyId, canonical_json};

/// Policies, schema, static entities and their cases: everything that decides but the live entities and facts.
///
/// It travels, is stored and is replaced as a whole, so that a rule is never in force without the rest of its set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The schema files, joined in the order of their names; none is a compile error.
    pub schema: Vec<Source>,
    /// The policy files.
    pub policies: Vec<Source>,
    /// Links of the templates in those files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Entities that belong to the policies; a stored entity may not have the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// The files of policies that say who may administer, beside those that are built in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<Source>,
    /// The tests of the policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, relative to the bundle's folder: `payments.cedar`.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// One use of a policy template: the slots filled in, under an id of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The id of the linked policy, unique among all policies.
    pub id: PolicyId,
    /// The `@id` of the template.
    pub template: PolicyId,
    /// The entity for each slot, by the slot's name: `?principal`, `?resource`.
    pub slots: BTreeMap<String, EntityUid>,
}

/// The SHA-256 of a bundle's canonical JSON, written as `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

// === impl Bundle ===

impl Bundle {
    /// Returns the hash of everything in the bundle.
    ///
    /// Files are hashed in the order of their names, links and entities in the order of theirs: the order in which a
    /// bundle was assembled is not content.
    pub fn content_hash(&self) -> ContentHash {
        let mut sorted = self.clone();
        sorted.schema.sort_by(|a, b| a.file.cmp(&b.file));
        sorted.policies.sort_by(|a, b| a.file.cmp(&b.file));
        sorted.admin.sort_by(|a, b| a.file.cmp(&b.file));
        sorted.links.sort_by(|a, b| a.id.cmp(&b.id));
        sorted.entities.sort_by(|a, b| a.uid.cmp(&b.uid));
        // A bundle is JSON by construction: its maps have text keys and its numbers come from JSON.
        ContentHash::of(&canonical_json(&sorted).unwrap_or_default())
    }
}

// === impl ContentHash ===

impl ContentHash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // In one piece: every record has one, and a formatted write for each byte is much ado.
        let digit =
            |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?'));
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in self.0 {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 0xf));
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError {
            text: text.chars().take(80).collect(),
            expected: "content hash, `sha256:` and 64 lower-case hexadecimal digits",
        };
        let digits = text.strip_prefix("sha256:").ok_or_else(error)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(error());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return Err(error()),
                };
                *byte = *byte << 4 | value;
            }
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
