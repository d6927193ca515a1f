//! What is written before an answer leaves.

use serde::{Deserialize, Serialize};

use crate::{Decision, DecisionId, Facts, KeyId, Question, TenantId, Timestamp};

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
