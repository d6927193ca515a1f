//! Principals: who administers, a person or a machine, and in which roles.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use smol_str::SmolStr;

use crate::{KeyId, ParseIdError, is_nfc};

/// The longest name of a principal, in bytes.
const NAME_BYTES: usize = 128;
/// What the names begin with that Remit gives: a key that is bound to nobody acts under one.
const OF_KEYS: &str = "key:";
/// The name under which Remit itself acts.
const ITSELF: &str = "remit";

/// What a principal is called: 1 to 128 bytes in Unicode NFC, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PrincipalName(SmolStr);

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A human being.
    Person,
    /// A program.
    Machine,
}

macro_rules! roles {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)*) => {
        /// What a principal is trusted with in the administration; a closed set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Role {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)*
        }

        impl Role {
            /// Every role.
            pub const ALL: &'static [Role] = &[$(Role::$name),*];

            /// Returns the name, as it stands in requests, columns and policies.
            pub const fn as_str(self) -> &'static str {
                match self { $(Role::$name => $text),* }
            }
        }
    };
}

roles! {
    /// Reads what decides and what was decided.
    Reader = "reader";
    /// Writes drafts.
    Author = "author";
    /// Brings policies and entities into force.
    Publisher = "publisher";
    /// Answers for what others want to bring into force.
    Approver = "approver";
    /// Looks after principals, keys and settings.
    Admin = "admin";
    /// Reads who did what.
    Auditor = "auditor";
    /// Opens and ends tasks, and stops things.
    Operator = "operator";
}

/// Somebody who administers a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// A person or a machine.
    pub kind: PrincipalKind,
    /// What it is called, unique in its tenant.
    pub name: PrincipalName,
    /// What it is trusted with.
    pub roles: BTreeSet<Role>,
}

// === impl PrincipalName ===

impl PrincipalName {
    /// Names what a key acts as that is bound to nobody: `key:` and its id.
    pub fn of_key(key: KeyId) -> Self {
        Self(SmolStr::new(format!("{OF_KEYS}{key}")))
    }

    /// Names Remit itself.
    pub fn itself() -> Self {
        Self(SmolStr::new_static(ITSELF))
    }

    /// Whether Remit gives this name, so that nobody else may have it.
    pub fn is_reserved(&self) -> bool {
        self.0 == ITSELF || self.0.starts_with(OF_KEYS)
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PrincipalName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fits = (1..=NAME_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) && is_nfc(text) {
            return Ok(Self(SmolStr::new(text)));
        }
        Err(ParseIdError {
            text: text
                .chars()
                .filter(|one| !one.is_control())
                .take(80)
                .collect(),
            expected: "name of a principal, 1 to 128 bytes in Unicode NFC without control characters",
        })
    }
}

impl<'de> Deserialize<'de> for PrincipalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

// === impl PrincipalKind ===

impl PrincipalKind {
    /// Returns the name, as it stands in requests and columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PrincipalKind {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text {
            "person" => Ok(Self::Person),
            "machine" => Ok(Self::Machine),
            _ => Err(ParseIdError {
                text: text.chars().take(80).collect(),
                expected: "kind of principal: `person` or `machine`",
            }),
        }
    }
}

// === impl Role ===

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let found = Self::ALL.iter().find(|role| role.as_str() == text);
        found.copied().ok_or_else(|| ParseIdError {
            text: text.chars().take(80).collect(),
            expected: "role: `reader`, `author`, `publisher`, `approver`, `admin`, `auditor` or `operator`",
        })
    }
}
