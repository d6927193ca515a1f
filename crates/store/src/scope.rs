//! What an API key may do.

use std::fmt;
use std::str::FromStr;

use remit_core::{ParseIdError, Role};
use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)*) => {
        /// One thing an API key may do; a closed set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)*
        }

        impl Scope {
            /// Every scope there is.
            pub const EVERY: &'static [Scope] = &[$(Scope::$name),*];

            /// Returns the name, as it stands in requests and columns.
            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$name => $text),* }
            }
        }
    };
}

scopes! {
    /// Ask for decisions.
    Evaluate = "evaluate";
    /// Search for subjects, resources and actions.
    Search = "search";
    /// Read the bundle, entities and decisions.
    Read = "read";
    /// Change the bundle and entities.
    Write = "write";
    /// Create, list and revoke API keys.
    Keys = "keys";
    /// Open and end tasks, and stop agents, tools and models.
    Tasks = "tasks";
    /// Answer access requests, and see what waits for an answer.
    Approve = "approve";
    /// Create, suspend, export and delete tenants; in none of the others, and only who has it can give it.
    Tenants = "tenants";
}

// === impl Scope ===

impl Scope {
    /// Every scope that concerns the key's own tenant: what `all` stands for.
    pub const ALL: &'static [Scope] = &[
        Scope::Evaluate,
        Scope::Search,
        Scope::Read,
        Scope::Write,
        Scope::Keys,
        Scope::Tasks,
        Scope::Approve,
    ];
}

impl Scope {
    /// Returns the roles that a key has by this scope which is bound to no principal.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Evaluate | Self::Search => &[],
            Self::Read => &[Role::Reader, Role::Auditor],
            Self::Write => &[Role::Author, Role::Publisher],
            Self::Keys | Self::Tenants => &[Role::Admin],
            Self::Tasks => &[Role::Operator],
            Self::Approve => &[Role::Approver],
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::EVERY
            .iter()
            .copied()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(80).collect(),
                expected: "scope: `evaluate`, `search`, `read`, `write`, `keys`, `tasks`, `approve` or `tenants`",
            })
    }
}
