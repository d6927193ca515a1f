//! What was decided, and everything that explains it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ContentHash, PolicyId, Reason, Revision};

/// The answer to a question: permit or deny, and why.
///
/// The same question, facts and snapshot always give an equal value (INV-4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// May it.
    pub verdict: Verdict,
    /// Why, as a stable code.
    pub reason: Reason,
    /// The policies that settled it, sorted: satisfied forbids, forbids that errored, or satisfied permits.
    ///
    /// Empty when no policy matched.
    pub determining: Vec<PolicyId>,
    /// Every enforced policy that could not be evaluated, sorted by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<PolicyError>,
    /// What the enforcement point must do with the answer, from the annotations of the determining policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
    /// What policies in shadow mode would have done, sorted by id; never part of the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Shadow>,
    /// What was left out of the question or found odd in it while it was shaped by the schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The state of the tenant that decided.
    pub revision: Revision,
    /// The content of the bundle that decided.
    pub bundle: ContentHash,
}

/// Permit or deny; there is nothing between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may.
    Permit,
    /// It may not.
    Deny,
}

/// What a policy does when its conditions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It permits.
    Permit,
    /// It forbids.
    Forbid,
}

/// One policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyError {
    /// Which policy.
    pub policy: PolicyId,
    /// What it would have done: an erroring forbid denies, an erroring permit is not given.
    pub effect: Effect,
    /// Cedar's message.
    pub message: String,
}

/// Something the enforcement point must do, named by an annotation of a determining policy.
///
/// The annotations `@obligation`, `@advice`, `@severity` and `@control` are carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// The policy that demands it.
    pub policy: PolicyId,
    /// The annotations that say what, by key.
    pub annotations: BTreeMap<String, String>,
}

/// What one policy annotated `@mode("shadow")` would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Which policy.
    pub policy: PolicyId,
    /// What it would have done.
    pub effect: Effect,
    /// Cedar's message when it could not be evaluated; absent when it was satisfied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One remark on how the question was shaped by the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The schema does not declare this member, so no policy saw it.
    Undeclared {
        /// The member, such as `context.ip`.
        member: String,
    },
    /// The schema declares this member but no caller may assert it, so the stored value stands.
    NotAssertable {
        /// The member, such as `subject.properties.role`.
        member: String,
    },
    /// This member has the wrong type or form.
    Mistyped {
        /// The member, such as `context.amount`.
        member: String,
        /// What the schema declares.
        expected: String,
    },
    /// The schema requires this member and it is missing.
    Missing {
        /// The member.
        member: String,
    },
    /// The subject or resource is not stored; it has no attributes but those asserted.
    NotStored {
        /// The entity, as `Type::"id"`.
        entity: String,
    },
}
