//! Facts: what Remit itself verified or counted.

use serde::{Deserialize, Serialize};

use crate::{
    AgentFacts, ApprovalFacts, ApprovalState, CallFacts, DecisionId, ExceptionFacts, Hop, KeyId,
    Kill, TaskFacts, Timestamp, Tool,
};

/// What Remit knows about one question of its own knowledge, never what the caller claims.
///
/// A policy reads them as `context.facts` where its action declares `facts: Remit::Facts`. The same facts are recorded,
/// so that a decision can be made again later and come out the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The agent that asks, where the schema says that subjects of its type are registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentFacts>,
    /// The approval that the question presents (`context.approval`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalFacts>,
    /// Whether a person has approved exactly this call: the approval that is presented is valid.
    pub approved: bool,
    /// The call, where it is one of a tool or in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallFacts>,
    /// Which enforcement point asks: the id of its API key.
    pub caller: KeyId,
    /// The environment that key belongs to, such as `live` or `dev`.
    pub environment: String,
    /// The exceptions in whose scope the question is, sorted by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<ExceptionFacts>,
    /// Whether who is asked is somebody of a chain, on whose authority another acts; never recorded, since a record is of
    /// who acts.
    #[serde(skip)]
    pub hop: bool,
    /// Everybody on whose authority the subject acts, nearest first; each must be allowed the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
    /// The kill that stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Kill>,
    /// The permit that is renewed, where a lease is: nothing is used a second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<DecisionId>,
    /// When the question arrived.
    pub now: Timestamp,
    /// Whether the key that asks is an agent's own, and the subject is another than that agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subject_not_yours: bool,
    /// The task in which it is asked (`context.task`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskFacts>,
    /// The tool that is called, where the catalogue has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
}

// === impl Facts ===

impl Facts {
    /// Whether a person has approved exactly this call, and the approval can be used at the moment of the question.
    pub fn is_approved(&self) -> bool {
        let usable = |approval: &ApprovalFacts| {
            approval.state == ApprovalState::Valid
                && approval.until.is_none_or(|until| self.now < until)
        };
        self.approved && self.approval.as_ref().is_none_or(usable)
    }

    /// Returns what is known where there is no task and nothing registered: who asks, from where, and when.
    pub fn plain(caller: KeyId, environment: impl Into<String>, now: Timestamp) -> Self {
        Self {
            agent: None,
            approval: None,
            approved: false,
            call: None,
            caller,
            environment: environment.into(),
            exceptions: Vec::new(),
            hop: false,
            hops: Vec::new(),
            kill: None,
            lease: None,
            now,
            subject_not_yours: false,
            task: None,
            tool: None,
        }
    }
}
