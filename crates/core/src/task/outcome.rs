//! Outcomes: what an enforcement point says happened after a permit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{DecisionId, KeyId, Label, TaskId, Timestamp};

/// The outcome of one permitted call: also the record of the data that it moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// When it was reported.
    pub at: Timestamp,
    /// Bytes that were moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The key of the enforcement point.
    pub caller: KeyId,
    /// What it cost in the end, in units of the tenant's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// The decision.
    pub decision: DecisionId,
    /// Where data went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<SmolStr>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Labels of what came back, beside those of the catalogue.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<Label>,
    /// How it went.
    pub result: OutcomeResult,
    /// Where data came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SmolStr>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
}

/// How a permitted call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    /// It was made, and did what it does.
    Succeeded,
    /// It was made, and failed; what was reserved for it is given back.
    Failed,
    /// It was not made; what was reserved for it is given back.
    NotMade,
}

// === impl OutcomeResult ===

impl OutcomeResult {
    /// Returns the name, as it stands in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::NotMade => "not_made",
        }
    }
}
