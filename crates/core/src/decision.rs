//! What was decided, and everything that explains it.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{ApprovalId, ContentHash, ExceptionId, Limit, PolicyId, Reason, Revision};

/// The answer to a question: permit or deny, and why.
///
/// The same question, facts and snapshot always give an equal value (INV-4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The approval without which it would be a deny; nothing where a permit needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// The content of the bundle that decided.
    pub bundle: ContentHash,
    /// The policies that settled it, sorted: satisfied forbids, forbids that errored, or satisfied permits.
    ///
    /// Empty when no policy matched.
    pub determining: Vec<PolicyId>,
    /// What the enforcement point must do with the answer, typed (AuthZEN Obligations Profile, Draft 1); it denies what it
    /// cannot do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duties: Vec<Duty>,
    /// Every enforced policy that could not be evaluated, sorted by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<PolicyError>,
    /// The exceptions because of which a policy that is satisfied does not count, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<ExceptionId>,
    /// For how long the permit holds, in seconds, before it must be renewed, where a policy says so (`@lease`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u32>,
    /// Which limit was met, where the reason is one of a task or a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The narrower call that would be permitted, where a policy that forbids this one names how to narrow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modify: Option<Modify>,
    /// What was left out of the question or found odd in it while it was shaped by the schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// What the determining policies say of themselves by their annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
    /// Why, as a stable code.
    pub reason: Reason,
    /// The state of the tenant that decided.
    pub revision: Revision,
    /// What policies in shadow mode would have done, sorted by id; never part of the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Shadow>,
    /// For how long the enforcement point may act by the permit, in seconds, where a policy says so (`@ttl`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// May it.
    pub verdict: Verdict,
}

/// Permit or deny; there is nothing between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// What it would have done: an erroring forbid denies, an erroring permit is not given.
    pub effect: Effect,
    /// Cedar's message.
    pub message: String,
    /// Which policy.
    pub policy: PolicyId,
}

/// Something the enforcement point must do, with the answer or beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// Names it within its decision.
    pub id: String,
    /// The members that its type has beside `id` and `type`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub members: Map<String, Value>,
    /// The policy that demands it.
    pub policy: PolicyId,
    /// Its type: `step-up`, `notification`, `session_termination` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A narrower call in the place of one that is denied; it decides nothing until it is asked itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modify {
    /// The narrowings that make it, as the policies name them, sorted.
    pub narrowings: Vec<String>,
    /// Its arguments: the properties of its action.
    pub properties: Map<String, Value>,
}

/// What a determining policy says of itself.
///
/// The annotations `@obligation`, `@advice`, `@severity`, `@control`, `@controls` and `@cure` are carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// The annotations that say what, by key.
    pub annotations: BTreeMap<String, String>,
    /// The policy that demands it.
    pub policy: PolicyId,
}

/// What one policy annotated `@mode("shadow")` would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// What it would have done.
    pub effect: Effect,
    /// Cedar's message when it could not be evaluated; absent when it was satisfied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which policy.
    pub policy: PolicyId,
}

/// One remark on how the question was shaped by the schema.
///
/// In JSON an object whose member `note` says which, in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

// === impl Note ===

/// By hand, because a derived tag comes first and members out of order cost a record the time to sort them.
impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Note", 3)?;
        let note = match self {
            Self::Undeclared { member } => {
                object.serialize_field("member", member)?;
                "undeclared"
            }
            Self::NotAssertable { member } => {
                object.serialize_field("member", member)?;
                "not_assertable"
            }
            Self::Mistyped { member, expected } => {
                object.serialize_field("expected", expected)?;
                object.serialize_field("member", member)?;
                "mistyped"
            }
            Self::Missing { member } => {
                object.serialize_field("member", member)?;
                "missing"
            }
            Self::NotStored { entity } => {
                object.serialize_field("entity", entity)?;
                "not_stored"
            }
        };
        object.serialize_field("note", note)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let member = || "context.ip".to_owned();
        for note in [
            Note::Undeclared { member: member() },
            Note::NotAssertable { member: member() },
            Note::Mistyped {
                member: member(),
                expected: "String".to_owned(),
            },
            Note::Missing { member: member() },
            Note::NotStored {
                entity: r#"Agent::"a""#.to_owned(),
            },
        ] {
            let text = serde_json::to_string(&note).unwrap_or_default();
            assert_eq!(serde_json::from_str(&text).ok(), Some(note), "{text}");
        }
    }
}
