//! What a case supposes of the registries: short for its author, whole for the engine.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use crate::{
    AmountArgument, Budget, Confidentiality, ContentHash, Dimension, Effects, EntityUid, Integrity,
    KillTarget, Label, Spending, Standing, TaskId, TaskState, Timestamp, Window,
};

mod approved;
mod suppose;

use approved::{CaseApproval, CaseException};

/// What a case supposes that Remit has registered, counted or verified.
///
/// Of an agent and a tool, what is left out is the worst: no trust, no roles, a tool that anybody writes into, private and
/// irreversible. Of a task, what is left out limits nothing. What can be computed is: sinks and links from the arguments,
/// trusted sinks from the declaration, labels that a permit raises from the tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseFacts {
    /// The agent that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<CaseAgent>,
    /// The task in which it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<CaseTask>,
    /// The tool that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<CaseTool>,
    /// The call; what is left out is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<CaseCall>,
    /// Everybody on whose authority the subject acts, nearest first; the person of the task's `on_behalf_of` is added
    /// where the last one is not that person.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<CaseHop>,
    /// The approval that the question presents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<CaseApproval>,
    /// The exceptions in whose scope the question is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<CaseException>,
    /// What a kill in force stops that the question is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill: Option<KillTarget>,
    /// Whether the subject is asked as somebody of a chain, on whose authority another acts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hop: bool,
    /// Whether the key that asks is the own one of another agent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub subject_not_yours: bool,
}

/// An agent that a case supposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseAgent {
    /// How it stands: `active` where left out.
    pub standing: Standing,
    /// How well it proves what it is, 0 to 3.
    pub trust: u8,
    /// Its roles.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<SmolStr>,
    /// Where it runs.
    pub environment: SmolStr,
    /// The model that drives it.
    pub model: SmolStr,
    /// Who answers for it.
    pub owner: SmolStr,
    /// What it is for.
    pub purpose: SmolStr,
    /// What it was registered to be built of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<ContentHash>,
    /// What it proves to be built of; `context.build` where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented_build: Option<SmolStr>,
}

/// A task that a case supposes; the members of its declaration are those of [`Declaration`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseTask {
    /// How it stands: `active` where left out.
    pub state: TaskState,
    /// What it is for; an ended or unknown task without one has no declaration that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<SmolStr>,
    /// The actions and groups it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<SmolStr>>,
    /// Whose it is; the asking subject's, or the hop's, where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Named>,
    /// How much it may use.
    #[serde(skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
    /// The data classes it may touch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_classes: Option<BTreeSet<SmolStr>>,
    /// How many hops it is from the one that nobody handed on; as many as tasks above it where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// The dimension of a budget that this call would exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<Dimension>,
    /// When it ends: a day after the question where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Its id; that of `context.task`, or the nil id, where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// The words in which it was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub intent: String,
    /// What it has touched.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<Label>,
    /// Whether its agent may open children of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_delegate: bool,
    /// For whom it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Named>,
    /// The task that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// What it may act on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeSet<Named>>,
    /// Whom it may affect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinks: Option<BTreeSet<SmolStr>>,
    /// The template that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<SmolStr>,
    /// Those of the call's sinks and links that it trusts; computed from `sinks` and `intent` where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_sinks: Option<BTreeSet<SmolStr>>,
    /// When it may act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// A tool that a case supposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseTool {
    /// What a call does.
    pub effect: Effects,
    /// Its name: that of the action where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// The argument that says how much is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<AmountArgument>,
    /// The data classes it reads or writes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<SmolStr>,
    /// The data classes that may leave through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearance: Option<BTreeSet<SmolStr>>,
    /// Whether what it returns is private: `private` where left out.
    #[serde(default = "private")]
    pub confidentiality: Confidentiality,
    /// What one call costs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cost: u64,
    /// The hash of its approved descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<ContentHash>,
    /// The business domain it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<SmolStr>,
    /// Where its effects land.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<SmolStr>,
    /// Who can write into what it returns: `untrusted` where left out.
    #[serde(default = "untrusted")]
    pub integrity: Integrity,
    /// Whether a call cannot be undone: it cannot where left out.
    #[serde(default = "yes")]
    pub irreversible: bool,
    /// The least trust of an agent that calls it.
    #[serde(default)]
    pub min_trust: u8,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<SmolStr>,
    /// The roles of agents that may call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<SmolStr>>,
    /// The arguments that say who or what is affected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SmolStr>,
}

/// What a case supposes of the call; what is left out is computed from the question, the tool and the task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseCall {
    /// Whom and what it affects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinks: Option<BTreeSet<SmolStr>>,
    /// The links and addresses in its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<BTreeSet<SmolStr>>,
    /// The hash of the descriptor that the caller sees; `context.tool_hash` where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented_tool: Option<SmolStr>,
    /// What it uses of the budgets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charges: Option<Spending>,
}

/// One principal behind the one that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseHop {
    /// Who.
    pub principal: Named,
    /// What is known of it, where it is an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<CaseAgent>,
    /// The task that it handed on, where it is an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<CaseTask>,
}

/// The name of an entity, written as `Type::"id"` or as `{type, id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named(pub EntityUid);

fn private() -> Confidentiality {
    Confidentiality::Private
}

fn untrusted() -> Integrity {
    Integrity::Untrusted
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

// === impl Named ===

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a name such as `Agent::\"a\"`, or an object of `type` and `id`, was expected"
        )]
        enum Written {
            Text(String),
            Members(EntityUid),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map(Self).map_err(de::Error::custom),
            Written::Members(uid) => Ok(Self(uid)),
        }
    }
}

// === impl CaseAgent ===

impl Default for CaseAgent {
    fn default() -> Self {
        Self {
            standing: Standing::Active,
            trust: 0,
            roles: BTreeSet::new(),
            environment: SmolStr::new_static("dev"),
            model: SmolStr::default(),
            owner: SmolStr::new_static("owner"),
            purpose: SmolStr::default(),
            build: None,
            presented_build: None,
        }
    }
}

// === impl CaseTask ===

impl Default for CaseTask {
    fn default() -> Self {
        Self {
            state: TaskState::Active,
            purpose: None,
            actions: None,
            agent: None,
            budget: Budget::default(),
            data_classes: None,
            depth: None,
            exhausted: None,
            expires_at: None,
            id: None,
            intent: String::new(),
            labels: BTreeSet::new(),
            may_delegate: false,
            on_behalf_of: None,
            parent: None,
            resources: None,
            sinks: None,
            template: None,
            trusted_sinks: None,
            window: None,
        }
    }
}
