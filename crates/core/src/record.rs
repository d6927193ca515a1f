//! What is written before an answer leaves.

use serde::{Deserialize, Serialize};

use crate::{
    Decision, DecisionId, Facts, KeyId, PolicyId, Question, Reason, Revision, TaskId, TenantId,
    Timestamp, Verdict,
};

/// The record of one decision: enough to explain it, to make it again, and to hold somebody to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// When it was made.
    pub at: Timestamp,
    /// Who asked.
    pub caller: Caller,
    /// What was decided.
    pub decision: Decision,
    /// How long shaping and evaluation took, in microseconds.
    pub duration_us: u64,
    /// What Remit knew.
    pub facts: Facts,
    /// The decision's id; also the key that makes shipping exactly-once.
    pub id: DecisionId,
    /// What was asked, as received.
    pub question: Question,
    /// Whose decision it is.
    pub tenant: TenantId,
}

/// Who asked a question, and how it is to be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The API key.
    pub key: KeyId,
    /// The caller's `X-Request-Id`, where it sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The W3C trace id, 32 hexadecimal digits, where the request was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// What a [`DecisionRecord`] is found by: a store has a column for each.
///
/// Reading these out of a record's JSON takes a small part of what reading all of it takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordHead {
    /// When it was made.
    pub at: Timestamp,
    /// Who asked.
    pub caller: CallerHead,
    /// What was decided.
    pub decision: DecisionHead,
    /// What Remit knew.
    #[serde(default)]
    pub facts: Option<FactsHead>,
    /// The decision's id.
    pub id: DecisionId,
    /// What was asked.
    pub question: QuestionHead,
    /// Whose decision it is.
    pub tenant: TenantId,
}

/// What a record is found by of its [`Facts`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FactsHead {
    /// The task in which it was asked.
    #[serde(default)]
    pub task: Option<TaskHead>,
    /// The permit that it renews.
    #[serde(default)]
    pub lease: Option<DecisionId>,
}

/// The name of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskHead {
    /// Its id.
    pub id: TaskId,
}

/// What a record is found by of its [`Caller`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CallerHead {
    /// The API key.
    pub key: KeyId,
}

/// What a record is found by of its [`Decision`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DecisionHead {
    /// The policies that settled it.
    pub determining: Vec<PolicyId>,
    /// Why.
    pub reason: Reason,
    /// At which revision.
    pub revision: Revision,
    /// Permit or deny.
    pub verdict: Verdict,
}

/// What a record is found by of its [`Question`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QuestionHead {
    /// The action.
    pub action: ActionHead,
    /// To what.
    pub resource: PartyHead,
    /// Who.
    pub subject: PartyHead,
}

/// The name of an action.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ActionHead {
    /// The name.
    pub name: String,
}

/// The name of a subject or a resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PartyHead {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}
