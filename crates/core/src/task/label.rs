//! Labels: what a task has touched.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use smol_str::SmolStr;

use crate::{ParseIdError, is_nfc};

/// The longest label, in bytes.
const LABEL_BYTES: usize = 64;
/// What the label of a data class begins with.
const CLASS: &str = "class:";

/// Something that a task has touched: `untrusted`, `private`, or `class:` and a data class.
///
/// Labels are a join-semilattice under union: a task's set only grows, but for a recorded endorsement by a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(SmolStr);

// === impl Label ===

impl Label {
    /// Outsiders may have written what the task has read.
    pub fn untrusted() -> Self {
        Self(SmolStr::new_static("untrusted"))
    }

    /// The task has read what not everybody may see.
    pub fn private() -> Self {
        Self(SmolStr::new_static("private"))
    }

    /// The task has touched data of this class.
    pub fn class(class: &str) -> Self {
        Self(smol_str::format_smolstr!("{CLASS}{class}"))
    }

    /// What the result of something brings that nobody has labelled: it is taken to be both.
    pub fn worst() -> BTreeSet<Self> {
        BTreeSet::from([Self::untrusted(), Self::private()])
    }

    /// Returns the label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the data class, where it is the label of one.
    pub fn as_class(&self) -> Option<&str> {
        self.0.strip_prefix(CLASS)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fits = text.len() <= LABEL_BYTES && is_nfc(text) && !text.chars().any(char::is_control);
        let known = text == "untrusted"
            || text == "private"
            || text
                .strip_prefix(CLASS)
                .is_some_and(|class| !class.is_empty());
        if fits && known {
            return Ok(Self(SmolStr::new(text)));
        }
        Err(ParseIdError {
            text: text.chars().take(80).collect(),
            expected: "Label: `untrusted`, `private`, or `class:` and a data class, at most 64 bytes in NFC",
        })
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SmolStr::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
