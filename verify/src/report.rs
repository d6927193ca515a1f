//! What was proved, and what was not.

use remit_core::{Effect, PolicyId};
use serde::Serialize;

/// What is known of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many combinations of principal type, action and resource type were looked at.
    pub environments: usize,
    /// Every enforced policy, by id.
    pub policies: Vec<PolicyReport>,
    /// What differs from the bundle before; `None` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// What is known of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    /// Which.
    pub policy: PolicyId,
    /// What it does when it is satisfied.
    pub effect: Effect,
    /// That it never fails.
    pub never_errors: Proof,
    /// Whether any question satisfies it.
    pub matches: Matches,
}

/// What is known of a statement about all questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Proof {
    /// It holds.
    Proved,
    /// It does not.
    Refuted {
        /// A question, and entities, for which it does not hold.
        example: String,
    },
    /// Neither could be shown.
    Unknown {
        /// Why not.
        because: String,
    },
}

/// Whether any question satisfies a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matches {
    /// Some question does.
    Somewhere,
    /// None does.
    Never,
    /// Neither could be shown.
    Unknown,
}

/// How two bundles compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// That the new one permits nothing which the old one does not.
    pub permits_no_more: Proof,
    /// That the new one permits everything which the old one does.
    pub permits_no_less: Proof,
}

// === impl Report ===

impl Report {
    /// Whether everything is proved: no policy fails, each can match, and the new bundle permits no more.
    pub fn holds(&self) -> bool {
        let policies = self.policies.iter();
        policies.into_iter().all(PolicyReport::holds)
            && self
                .comparison
                .as_ref()
                .is_none_or(|comparison| comparison.permits_no_more == Proof::Proved)
    }
}

// === impl PolicyReport ===

impl PolicyReport {
    /// Whether it never fails and can match.
    pub fn holds(&self) -> bool {
        self.never_errors == Proof::Proved && self.matches == Matches::Somewhere
    }
}
