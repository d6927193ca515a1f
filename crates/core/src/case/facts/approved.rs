//! What a case supposes of approvals and exceptions.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Named;
use crate::{
    ApprovalFacts, ApprovalId, ApprovalState, ExceptionFacts, ExceptionId, PolicyId, PrincipalName,
    Question, Timestamp,
};

/// How long a supposed approval or exception is good for.
const HOUR: Duration = Duration::from_hours(1);

/// An approval that a case supposes; with one that is valid, the call counts as approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseApproval {
    /// Who approved it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub approvers: BTreeSet<PrincipalName>,
    /// Its id; that of `context.approval`, or the nil id, where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ApprovalId>,
    /// How it stands: `valid` where left out.
    pub state: ApprovalState,
    /// Until when it can be used: an hour after the question where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The policies that whoever approved was shown: all that forbid the call where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<BTreeSet<PolicyId>>,
}

/// An exception that a case supposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseException {
    /// The policy that does not count.
    pub policy: PolicyId,
    /// The agent that it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Named>,
    /// Its id; one of its own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ExceptionId>,
    /// Until when it is made: an hour after the question where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

// === impl CaseApproval ===

impl Default for CaseApproval {
    fn default() -> Self {
        Self {
            approvers: BTreeSet::new(),
            id: None,
            state: ApprovalState::Valid,
            until: None,
            violations: None,
        }
    }
}

impl CaseApproval {
    /// Returns the facts; policies that were left out are not among them.
    pub(super) fn facts(&self, question: &Question, now: Timestamp) -> ApprovalFacts {
        ApprovalFacts {
            approvers: self.approvers.clone(),
            id: self
                .id
                .or_else(|| question.approval())
                .unwrap_or(ApprovalId::NIL),
            state: self.state,
            until: Some(self.until.unwrap_or_else(|| now.plus(HOUR))),
            violations: self.violations.clone().unwrap_or_default(),
        }
    }
}

impl From<ApprovalFacts> for CaseApproval {
    fn from(facts: ApprovalFacts) -> Self {
        Self {
            approvers: facts.approvers,
            id: Some(facts.id),
            state: facts.state,
            until: facts.until,
            violations: Some(facts.violations),
        }
    }
}

// === impl CaseException ===

impl CaseException {
    /// Returns the facts of the one at this place among those of its case.
    pub(super) fn facts(&self, place: usize, now: Timestamp) -> ExceptionFacts {
        let number = u128::try_from(place).unwrap_or(u128::MAX).saturating_add(1);
        ExceptionFacts {
            agent: self.agent.as_ref().map(|agent| agent.0.clone()),
            id: self
                .id
                .unwrap_or_else(|| ExceptionId::from_uuid(Uuid::from_u128(number))),
            policy: self.policy.clone(),
            until: self.until.unwrap_or_else(|| now.plus(HOUR)),
        }
    }
}

impl From<ExceptionFacts> for CaseException {
    fn from(facts: ExceptionFacts) -> Self {
        Self {
            policy: facts.policy,
            agent: facts.agent.map(Named),
            id: Some(facts.id),
            until: Some(facts.until),
        }
    }
}
