//! Exceptions: a control that does not count for a while, in one scope, because somebody answers for that.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{EntityUid, ExceptionId, PolicyId, PrincipalName, TaskId, Timestamp};

/// An exception in force: a documented, expiring relaxation of one forbidding policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// What is done instead.
    pub compensating: String,
    /// The second person, who agreed to it.
    pub confirmed_by: PrincipalName,
    /// Its id.
    pub id: ExceptionId,
    /// Who answers for it.
    pub owner: PrincipalName,
    /// The control: the policy that does not count.
    pub policy: PolicyId,
    /// Why.
    pub reason: String,
    /// Where it does not count.
    pub scope: ExceptionScope,
    /// The moment from which it counts again.
    pub until: Timestamp,
}

/// Which questions an exception is for: those that match every member; at least one is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExceptionScope {
    /// The id of the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<SmolStr>,
    /// Who acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<EntityUid>,
    /// The environment of the key that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<SmolStr>,
    /// What is acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<EntityUid>,
    /// The task in which it is asked, or one above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
}

/// What a question is told of an exception whose scope it is in, at the moment it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionFacts {
    /// The agent that it is limited to; for nobody else behind the question does it count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<EntityUid>,
    /// Which.
    pub id: ExceptionId,
    /// The policy that does not count.
    pub policy: PolicyId,
    /// The moment from which it counts again, later than the question.
    pub until: Timestamp,
}

// === impl ExceptionScope ===

impl ExceptionScope {
    /// Whether it limits nothing, which no exception may.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
