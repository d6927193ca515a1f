//! Typed ids: one newtype a noun, so that two ids cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

/// An id that is not in the form its type wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {expected}")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
    /// What was expected, in words.
    pub expected: &'static str,
}

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// A UUIDv7 (RFC 9562 §5.7), written in lower case with hyphens; it sorts by its time.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id that nothing has: all zeroes.
            pub const NIL: Self = Self(Uuid::nil());

            /// Wraps a UUID that came from [`Clock::id`](crate::Clock::id) or from storage.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the id of nothing, all zeros: for a place that must be filled where no real one exists.
            pub const fn nil() -> Self {
                Self(Uuid::nil())
            }

            /// Returns the UUID inside.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError {
                    text: text.chars().take(80).collect(),
                    expected: concat!(stringify!($name), ", a UUID"),
                })
            }
        }
    )*};
}

uuid_ids! {
    /// One isolated customer of an installation.
    TenantId;
    /// One decision, its record, and its receipt.
    DecisionId;
    /// The public half of an API key.
    KeyId;
    /// One act of administration, done or denied.
    AdminActionId;
    /// One running process that decides; new at every start.
    ReplicaId;
    /// More roles for one person, for minutes.
    BreakGlassId;
    /// What an agent was asked to do.
    TaskId;
    /// Something that must stop.
    KillId;
    /// What somebody asks a person to approve, and the approval that answers it.
    ApprovalId;
    /// A control that does not count for a while, in one scope.
    ExceptionId;
    /// Where Remit sends what happens.
    WebhookId;
    /// A bundle that somebody works on and that decides nothing yet.
    DraftId;
}

/// The id of a policy: the value of its `@id` annotation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyId(SmolStr);

impl PolicyId {
    /// Makes a policy id from the text of an `@id` annotation.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(SmolStr::new(text))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of one state of a tenant; strictly increasing in commit order, from 1.
///
/// Zero stands for a tenant that nothing has been written to yet.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// Wraps a revision number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        // `u64::from_str` takes a leading plus; a revision has one spelling.
        let canonical = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| canonical)
            .map(Self)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(80).collect(),
                expected: "Revision, a whole number",
            })
    }
}
