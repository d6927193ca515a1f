//! Approvals: a person's answer to one exact call, and what is known of one when a question presents it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::task::exact_integers;
use crate::{
    ApprovalId, ContentHash, EntityUid, PolicyId, PrincipalName, Question, TaskId, Timestamp,
    call_digest, canonical_json,
};

/// An approval that can still be used, with everything that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Who approved it.
    pub approvers: BTreeSet<PrincipalName>,
    /// Until when it can be used.
    pub approved_until: Timestamp,
    /// What was approved.
    pub bound: Bound,
    /// Its id, which is that of the request that it answers.
    pub id: ApprovalId,
    /// For what.
    pub scope: ApprovalScope,
}

/// What an access request and the approval of it are bound to: another call, other policies or another control ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The name of the action, in its one spelling.
    pub action: String,
    /// The content of the bundle by which it was denied.
    pub bundle: ContentHash,
    /// What its arguments say as `currency`, as JSON, where the catalogue says that it moves money: the unit of amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The [digest](approval_digest) of the whole question.
    pub digest: ContentHash,
    /// The environment of the key that asked, such as `live`.
    pub environment: String,
    /// What is acted on.
    pub resource: EntityUid,
    /// Whom and what the call affects, by the catalogue.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sinks: BTreeSet<String>,
    /// Who acts.
    pub subject: EntityUid,
    /// The task in which it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The policies that forbade it, of the subject and of everybody behind it: all that the approver was shown.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub violations: BTreeSet<PolicyId>,
}

/// What an approval is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ApprovalScope {
    /// For exactly the call that was shown, once.
    Once,
    /// For calls of the same action on the same resource to no other sinks, in the same task and currency, as often as it
    /// says.
    Task {
        /// How much money all of them together may move, in the smallest unit of its currency.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<u64>,
        /// How often, 1 to 100.
        uses: u32,
    },
}

/// How an approval that a question presents stands to that question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It is for this call and can be used.
    Valid,
    /// This replica knows of none of this id that can be used.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was used as often as it may be.
    Used,
    /// It is for another call, another agent, another environment.
    OutOfScope,
    /// The policies are others than those it was asked under.
    OtherPolicy,
}

/// What is known of the approval that a question presents (`context.approval`), at the moment it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalFacts {
    /// Who approved it; of one that is not valid, nobody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub approvers: BTreeSet<PrincipalName>,
    /// Which.
    pub id: ApprovalId,
    /// How it stands.
    pub state: ApprovalState,
    /// Until when it can be used, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The policies that it covers: what was shown to whoever approved. Another one that forbids asks again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub violations: BTreeSet<PolicyId>,
}

/// What the digest of a question is made of; members in the order of canonical JSON.
#[derive(Serialize)]
struct Whole<'q> {
    call: ContentHash,
    context: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    integers: Vec<String>,
    resource: &'q Map<String, Value>,
    subject: Map<String, Value>,
}

/// Returns the SHA-256 of the canonical JSON of everything in a question that an approval is bound to.
///
/// That is its [call digest](call_digest), every property of subject and resource but the subject's `act`, and the members
/// of the context that are `relevant`, such as those that the schema declares; never the approval itself. Equal exactly for
/// questions that say the same ("exact-match baseline", AuthZEN Access Request and Approval Profile, Draft 1).
pub fn approval_digest(question: &Question, relevant: impl Fn(&str) -> bool) -> ContentHash {
    let mut context = question.context.clone();
    context.retain(|member, _| !Question::is_machinery(member) && relevant(member));
    let mut subject = question.subject.properties.clone();
    subject.remove("act");
    let mut integers = Vec::new();
    for part in [&context, &question.resource.properties, &subject] {
        integers.extend(exact_integers(part));
    }
    let whole = Whole {
        call: call_digest(question),
        context,
        integers,
        resource: &question.resource.properties,
        subject,
    };
    // It is JSON by construction: its maps have text keys, and JSON that was read has no infinite number.
    ContentHash::of(&canonical_json(&whole).unwrap_or_default())
}
