//! Tools: what a call of one does, says of whom, and brings back.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{ContentHash, Label};

mod amount;
mod links;
mod said;
mod sink;

pub use amount::AmountError;
pub(crate) use links::each_link;
pub use links::{is_address, links};
pub use said::Said;
pub use sink::{MOST_SINKS, canonical_sink, sink_hash, sinks_of};

/// One tool of the catalogue.
///
/// The tool of a question is the entry of the name of its action, or, where the schema annotates the type of the resource
/// `@registered("tool")`, of the id of its resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The argument that says how much is paid, and the power of ten that makes a whole number of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AmountArgument>,
    /// The data classes of what it reads or writes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<SmolStr>,
    /// The data classes that may leave through it; `None` where nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearance: Option<BTreeSet<SmolStr>>,
    /// Whether what it returns is private.
    pub confidentiality: Confidentiality,
    /// What one call costs, in units of the tenant's own; 0 where nobody has said.
    #[serde(default)]
    pub cost: u64,
    /// The SHA-256 of the canonical JSON of its descriptor, as it was when somebody approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<ContentHash>,
    /// The business domain it belongs to, such as `email`; with the effect it makes an action group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<SmolStr>,
    /// What a call does at most.
    pub effect: Effects,
    /// Where its effects land, such as `production`; `None` where nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<SmolStr>,
    /// Whether outsiders can write into what it returns.
    pub integrity: Integrity,
    /// Whether a call can be undone by another.
    pub irreversible: bool,
    /// The least trust of an agent that calls it.
    #[serde(default)]
    pub min_trust: u8,
    /// The name.
    pub name: SmolStr,
    /// Who answers for it; `None` makes it unmanaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<SmolStr>,
    /// The roles of agents that may call it; `None` where it takes none in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<SmolStr>>,
    /// The arguments that say who or what is affected; a dot leads into an object, and a list stands for all its items.
    #[serde(default)]
    pub sinks: Vec<SmolStr>,
}

/// What a call of a tool does; each is an action group of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effects {
    /// It only reads.
    Read,
    /// It changes something of the tenant's own.
    Write,
    /// It sends something out.
    Egress,
    /// It moves money.
    Pay,
    /// It deletes.
    Destroy,
    /// It runs code.
    Exec,
    /// It changes or gives out a secret.
    Credential,
    /// It hands work to another agent.
    Delegate,
}

/// Who can write into a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// Only those whom the tenant trusts.
    Trusted,
    /// Anybody.
    Untrusted,
}

/// Whom a result may be shown to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidentiality {
    /// Anybody.
    Public,
    /// Not anybody.
    Private,
}

/// Where a tool finds the amount of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmountArgument {
    /// The argument, as in [`Tool::sinks`].
    pub argument: SmolStr,
    /// How many decimal places count: 2 makes 1050 of 10.5.
    pub scale: u8,
}

// === impl Effects ===

impl Effects {
    /// Every effect.
    pub const ALL: &'static [Self] = &[
        Self::Read,
        Self::Write,
        Self::Egress,
        Self::Pay,
        Self::Destroy,
        Self::Exec,
        Self::Credential,
        Self::Delegate,
    ];

    /// Returns the name, as it stands in requests and as the id of an action group.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Egress => "egress",
            Self::Pay => "pay",
            Self::Destroy => "destroy",
            Self::Exec => "exec",
            Self::Credential => "credential",
            Self::Delegate => "delegate",
        }
    }
}

// === impl Integrity ===

impl Integrity {
    /// Returns the name, as it stands in requests and in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
        }
    }
}

// === impl Confidentiality ===

impl Confidentiality {
    /// Returns the name, as it stands in requests and in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

// === impl Tool ===

impl Tool {
    /// Returns the labels that a permitted call brings onto its task.
    ///
    /// Tools that change something return content too, so every permitted call raises them.
    pub fn raises(&self) -> BTreeSet<Label> {
        let mut labels = BTreeSet::new();
        if self.integrity == Integrity::Untrusted {
            labels.insert(Label::untrusted());
        }
        if self.confidentiality == Confidentiality::Private {
            labels.insert(Label::private());
        }
        labels.extend(self.classes.iter().map(|class| Label::class(class)));
        labels
    }
}
