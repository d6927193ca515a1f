//! Tasks: what an agent was asked to do, for whom, and how far it may go.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

mod attenuation;
mod call;
mod label;
mod limits;
mod outcome;
mod trust;

pub use attenuation::{MOST_DEPTH, World};
pub use call::call_digest;
pub(crate) use call::exact_integers;
pub use label::Label;
pub use outcome::{Outcome, OutcomeResult};
pub use trust::trusted_sinks;

use crate::{
    ContentHash, DecisionId, EntityUid, PrincipalName, Reason, Revision, TaskId, Timestamp,
    canonical_json,
};

/// What a task may do, as it was declared: immutable, and named by its [digest](Declaration::digest).
///
/// A member that is left out limits nothing; a child's must be within its parent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// The actions it may take: names of actions, and of groups that stand for all their members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<SmolStr>>,
    /// Who works on it.
    pub agent: EntityUid,
    /// How much it may use.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
    /// The data classes that it may touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_classes: Option<BTreeSet<SmolStr>>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// The words in which it was given, at most 16 KiB; who is named in them counts as declared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub intent: String,
    /// Whether its agent may open children of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_delegate: bool,
    /// The person for whom it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<EntityUid>,
    /// The task that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// What it is for.
    pub purpose: SmolStr,
    /// What it may act on: these and everything below them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeSet<EntityUid>>,
    /// Whom and what it may affect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<BTreeSet<SmolStr>>,
    /// The template that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<SmolStr>,
    /// When it may act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// How much a task may use; `None` is no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Money, in the smallest unit of its currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// Bytes moved, as outcomes tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Permitted calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Cost, in units of the tenant's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// Calls that cannot be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<u64>,
}

/// How much one call uses, or a task has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spending {
    /// Money, in the smallest unit of its currency.
    #[serde(default)]
    pub amount: u64,
    /// Bytes moved.
    #[serde(default)]
    pub bytes: u64,
    /// Calls.
    #[serde(default)]
    pub calls: u64,
    /// Cost.
    #[serde(default)]
    pub cost: u64,
    /// Calls that cannot be undone.
    #[serde(default)]
    pub irreversible: u64,
}

/// When a task may act, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days: 1 for Monday to 7 for Sunday.
    pub days: BTreeSet<u8>,
    /// The first minute of the day, 0 to 1439.
    pub from: u16,
    /// The minute of the day before which it ends, 1 to 1440, after `from`.
    pub until: u16,
}

/// A dimension in which a task is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The actions.
    Actions,
    /// The resources.
    Resources,
    /// Whom and what it affects.
    Sinks,
    /// The data classes.
    DataClasses,
    /// Permitted calls.
    Calls,
    /// Cost.
    Cost,
    /// Money.
    Amount,
    /// Bytes.
    Bytes,
    /// Calls that cannot be undone.
    Irreversible,
    /// When it may act.
    Window,
    /// When it ends.
    Expiry,
    /// Whether it may be handed on.
    MayDelegate,
    /// How many hops it is from the task that nobody handed on.
    Depth,
    /// How many children a task has.
    FanOut,
    /// For whom it is done.
    OnBehalfOf,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It works.
    Active,
    /// It is stopped for now.
    Suspended,
    /// It was ended as done; final.
    Completed,
    /// Somebody ended it; final.
    Revoked,
    /// Its time is over, or nothing was asked in it for too long; final.
    Expired,
    /// Remit has opened none of this id in this tenant, or it ended long ago.
    Unknown,
    /// It is another agent's.
    NotYours,
}

/// One task with everything that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What was declared.
    pub declaration: Declaration,
    /// How many hops it is from the task that nobody handed on, which has 0.
    pub depth: u16,
    /// The hash of the declaration.
    pub digest: ContentHash,
    /// Its id.
    pub id: TaskId,
    /// The newest revision that brought one of its labels; 0 where it has none.
    pub labelled_at: Revision,
    /// What it has touched, each with the decision that set it, be it in a task whose labels it began with.
    pub labels: BTreeMap<Label, DecisionId>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Who opened it.
    pub opened_by: PrincipalName,
    /// How it stands by itself; its ancestors and the time may end it all the same.
    pub state: TaskState,
    /// The [hashes](crate::sink_hash) of what trusted tools returned in it, sorted.
    pub trusted: Vec<[u8; 16]>,
}

/// What is known of the task of a question, at the moment it is asked.
///
/// The declaration's members as declared; see [`Declaration`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFacts {
    /// What was declared; `None` where there is no such task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<Declaration>,
    /// How many hops it is from the task that nobody handed on.
    #[serde(default)]
    pub depth: u16,
    /// The hash of the declaration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ContentHash>,
    /// The dimension of a budget, its own or that of a task above it, that this call would exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<Dimension>,
    /// Its id.
    pub id: TaskId,
    /// What it has touched.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<Label>,
    /// How it stands, its ancestors and the time considered.
    pub state: TaskState,
    /// Those of the call's sinks and links that are declared, stand in the intent, or came from a trusted tool.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trusted_sinks: BTreeSet<SmolStr>,
}

/// What is known of the call that a question is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// What the call uses of the budgets; nothing outside a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charges: Option<Spending>,
    /// The SHA-256 of the canonical JSON of agent, task, action, resource and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ContentHash>,
    /// The links and addresses in the arguments, wherever they stand: web addresses, e-mail addresses, account numbers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub links: BTreeSet<SmolStr>,
    /// The hash of the tool's descriptor that the caller sees (`context.tool_hash`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presented_tool: Option<SmolStr>,
    /// The labels that a permit brings onto the task and that it does not have yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub raises: BTreeSet<Label>,
    /// Whom and what the call affects, by the catalogue.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sinks: BTreeSet<SmolStr>,
}

/// One principal behind the one that asks, who must be allowed the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// What is known of it, where it is an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<crate::AgentFacts>,
    /// Who.
    pub principal: EntityUid,
    /// The task that it handed on, where it is an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskFacts>,
}

/// Which limit a denial met, where the reason alone does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The dimension of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<Dimension>,
    /// Which hop of the chain, from 1 for the one who handed the task to the one that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<u16>,
    /// Who is denied at that hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<EntityUid>,
    /// Why it is denied at that hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

// === impl Limit ===

impl Limit {
    /// Says only which dimension it is in.
    pub fn of(dimension: Dimension) -> Self {
        Self {
            dimension: Some(dimension),
            hop: None,
            principal: None,
            reason: None,
        }
    }
}

impl std::fmt::Display for Limit {
    /// Writes it as the end of a sentence: `hop 2, User::"ann": no_permit; actions`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hop = self.hop.map(|hop| format!("hop {hop}"));
        let principal = self.principal.as_ref().map(ToString::to_string);
        let who: Vec<String> = hop.into_iter().chain(principal).collect();
        f.write_str(&who.join(", "))?;
        if let Some(reason) = self.reason {
            write!(f, ": {reason}")?;
        }
        match self.dimension {
            Some(dimension) if who.is_empty() && self.reason.is_none() => {
                f.write_str(dimension.as_str())
            }
            Some(dimension) => write!(f, "; {}", dimension.as_str()),
            None => Ok(()),
        }
    }
}

// === impl Dimension ===

impl Dimension {
    /// Every dimension.
    pub const ALL: &'static [Self] = &[
        Self::Actions,
        Self::Resources,
        Self::Sinks,
        Self::DataClasses,
        Self::Calls,
        Self::Cost,
        Self::Amount,
        Self::Bytes,
        Self::Irreversible,
        Self::Window,
        Self::Expiry,
        Self::MayDelegate,
        Self::Depth,
        Self::FanOut,
        Self::OnBehalfOf,
    ];

    /// Returns the name, as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Actions => "actions",
            Self::Resources => "resources",
            Self::Sinks => "sinks",
            Self::DataClasses => "data_classes",
            Self::Calls => "calls",
            Self::Cost => "cost",
            Self::Amount => "amount",
            Self::Bytes => "bytes",
            Self::Irreversible => "irreversible",
            Self::Window => "window",
            Self::Expiry => "expiry",
            Self::MayDelegate => "may_delegate",
            Self::Depth => "depth",
            Self::FanOut => "fan_out",
            Self::OnBehalfOf => "on_behalf_of",
        }
    }
}

// === impl TaskState ===

impl TaskState {
    /// Every state.
    pub const ALL: &'static [Self] = &[
        Self::Active,
        Self::Suspended,
        Self::Completed,
        Self::Revoked,
        Self::Expired,
        Self::Unknown,
        Self::NotYours,
    ];

    /// Returns the name, as it stands in answers and in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Completed => "completed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::NotYours => "not_yours",
        }
    }
}

// === impl Declaration ===

impl Declaration {
    /// Returns the SHA-256 of its canonical JSON (RFC 8785).
    pub fn digest(&self) -> ContentHash {
        // It is JSON by construction: its maps have text keys and it has no fractions.
        ContentHash::of(&canonical_json(self).unwrap_or_default())
    }
}

// === impl Budget ===

impl Budget {
    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}
