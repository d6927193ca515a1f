//! A case: one question with the answer its author expects.

use serde::{Deserialize, Serialize};

use crate::{PolicyId, Question, Reason, Timestamp, Verdict};

/// One test of a bundle, kept beside its policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows, in words; unique within its file.
    pub name: String,
    /// What is asked.
    pub question: Question,
    /// When it is asked; 2026-01-05T10:00:00Z, a Monday morning, where the case does not care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The environment of the asking key; `dev` where the case does not care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether a person has approved this call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// What must come out.
    pub expect: Expectation,
}

/// What a case expects; members left out are not checked, the verdict always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Permit or deny.
    pub decision: Verdict,
    /// The reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Exactly these determining policies, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Vec<PolicyId>>,
    /// Exactly these policies errored, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<PolicyId>>,
    /// Exactly these policies in shadow mode were satisfied or errored, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Vec<PolicyId>>,
}
