//! What an answer tells beside what was decided: how to ask for an approval, what must be done, until when it holds.

use std::time::Duration;

use remit_core::{
    ApprovalFacts, ApprovalId, ApprovalState, Decision, DecisionId, DecisionRecord, Duty,
    ExceptionId, Facts, Kill, PolicyId, Reason, Timestamp, Verdict,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::app::{Answer, Options};

/// The annotation that says what would cure a denial.
const CURE: &str = "cure";
/// What such a cure begins with where a person is it.
const APPROVAL: &str = "approval";
/// What whoever waits for an answer does next.
const RETRY: &str = "retry";
/// When it may be asked again whether somebody has answered, in seconds.
pub(crate) const ASK_AGAIN: u32 = 5;

/// What is kept of a record for its answer.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    /// When it was asked.
    pub(crate) at: Timestamp,
    /// The approval that the question presents.
    pub(crate) approval: Option<ApprovalFacts>,
    /// The kill that stopped it.
    pub(crate) kill: Option<Kill>,
    /// Whether the approval that the question presents is a request that nobody has answered yet.
    pending: bool,
    /// The name of the action.
    action: String,
    /// The exceptions without which it would be forbidden.
    exceptions: Vec<ExceptionBody>,
    /// The decision whose lease it renews.
    lease: Option<DecisionId>,
    /// The moment when something on which it rests is over.
    until: Option<Timestamp>,
}

/// The members of an answer that tell what to do about it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ToldBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_request: Option<AccessRequestBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    obligations: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exceptions: Vec<ExceptionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modify: Option<ModifyBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// How an approval of what was denied is asked for (Access Request and Approval Profile, Draft 1).
#[derive(Debug, Serialize)]
struct AccessRequestBody {
    endpoint: String,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    display: Value,
}

/// How the approval that was presented stands.
#[derive(Debug, Serialize)]
struct ApprovalBody {
    id: ApprovalId,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// A control that did not count.
#[derive(Debug, Clone, Serialize)]
struct ExceptionBody {
    id: ExceptionId,
    policy: PolicyId,
    until: Timestamp,
}

/// The narrower call that would be permitted.
#[derive(Debug, Serialize)]
struct ModifyBody {
    narrowings: Vec<String>,
    action: NarrowerBody,
}

#[derive(Debug, Serialize)]
struct NarrowerBody {
    name: String,
    properties: Map<String, Value>,
}

/// For how long a permit holds before it must be renewed.
#[derive(Debug, Serialize)]
struct LeaseBody {
    id: DecisionId,
    expires_at: Timestamp,
}

// === impl Telling ===

impl Telling {
    /// Keeps what an answer tells of a record.
    pub(crate) fn of(record: &DecisionRecord, pending: bool) -> Self {
        let (facts, decision) = (&record.facts, &record.decision);
        let counted = facts.exceptions.iter();
        let counted = counted.filter(|one| decision.exceptions.contains(&one.id));
        let exceptions: Vec<ExceptionBody> = counted
            .map(|one| ExceptionBody {
                id: one.id,
                policy: one.policy.clone(),
                until: one.until,
            })
            .collect();
        let approved = facts.approval.as_ref();
        let approved = approved.filter(|_| decision.approval.is_some());
        let bounds = tasks_until(facts)
            .chain(approved.and_then(|approval| approval.until))
            .chain(exceptions.iter().map(|one| one.until));
        Self {
            at: facts.now,
            approval: facts.approval.clone(),
            kill: facts.kill.clone(),
            pending,
            action: record.question.action.name.clone(),
            lease: facts.lease,
            until: bounds.min(),
            exceptions,
        }
    }

    /// Returns until when may be acted by the answer: as long as a policy says, and no longer than what it rests on; without a
    /// policy that says it, where it rests on an approval or an exception.
    fn expires_at(&self, decision: &Decision) -> Option<Timestamp> {
        let rests = decision.approval.is_some() || !self.exceptions.is_empty();
        match decision.ttl {
            Some(seconds) => Some(self.in_seconds(seconds)),
            None => self.until.filter(|_| rests),
        }
    }

    /// Returns when something is over that lasts so many seconds, or what it rests on before.
    fn in_seconds(&self, seconds: u32) -> Timestamp {
        let end = later(self.at, Duration::from_secs(seconds.into()));
        self.until.map_or(end, |until| until.min(end))
    }
}

/// Returns when the tasks of a chain are over.
fn tasks_until(facts: &Facts) -> impl Iterator<Item = Timestamp> {
    let above = facts.hops.iter().filter_map(|hop| hop.task.as_ref());
    let tasks = facts.task.iter().chain(above);
    tasks.filter_map(|task| Some(task.declaration.as_ref()?.expires_at))
}

/// Returns when a denial can be asked about no more.
pub(crate) fn requestable_until(denied: Timestamp, ttl: Duration) -> Timestamp {
    later(denied, ttl)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_add(by))
}

// === impl ToldBody ===

impl ToldBody {
    /// Writes what an answer tells.
    pub(crate) fn of(options: &Options, answer: &Answer) -> Self {
        let (decision, telling) = (answer.decision(), answer.telling());
        let permits = decision.verdict == Verdict::Permit;
        let access_request = AccessRequestBody::of(options, answer);
        let duties = (!decision.duties.is_empty()).then_some(&decision.duties);
        let lease = decision.lease.filter(|_| permits);
        let requestable = access_request.is_some();
        let next_action = next_action(answer, requestable);
        Self {
            evaluated_at: requestable.then_some(telling.at),
            approval: ApprovalBody::of(answer, requestable),
            retry_after: next_action.filter(|next| *next == RETRY).map(|_| ASK_AGAIN),
            next_action,
            access_request,
            obligations: duties
                .filter(|_| options.drafts.obligations)
                .map(|duties| duties.iter().map(written).collect()),
            exceptions: telling.exceptions.clone(),
            modify: decision.modify.as_ref().map(|modify| ModifyBody {
                narrowings: modify.narrowings.clone(),
                action: NarrowerBody {
                    name: telling.action.clone(),
                    properties: modify.properties.clone(),
                },
            }),
            lease: lease.map(|seconds| LeaseBody {
                id: telling.lease.unwrap_or_else(|| answer.id()),
                expires_at: telling.in_seconds(seconds),
            }),
            expires_at: telling.expires_at(decision).filter(|_| permits),
        }
    }

    /// Whether it tells to do something by the id of the decision.
    pub(crate) fn is_named(&self) -> bool {
        self.access_request.is_some() || self.lease.is_some()
    }
}

/// Writes what must be done as the profile has it: its members beside `id` and `type`.
fn written(duty: &Duty) -> Value {
    let mut members = duty.members.clone();
    members.insert("id".to_owned(), json!(duty.id));
    members.insert("type".to_owned(), json!(duty.kind));
    Value::Object(members)
}

// === impl AccessRequestBody ===

impl AccessRequestBody {
    /// Tells how to ask for an approval, where a person's is all that lacks.
    fn of(options: &Options, answer: &Answer) -> Option<Self> {
        let decision = answer.decision();
        let lacks = decision.reason == Reason::ApprovalRequired;
        if !options.drafts.access_requests || !lacks {
            return None;
        }
        let cures = decision.obligations.iter();
        let cures = cures.filter_map(|one| one.annotations.get(CURE));
        let mut cures: Vec<&str> = cures
            .map(String::as_str)
            .filter(|cure| cure.split(':').next() == Some(APPROVAL))
            .collect();
        cures.sort_unstable();
        cures.dedup();
        Some(Self {
            endpoint: endpoint(options),
            expires_at: requestable_until(answer.telling().at, options.approvals.denial_ttl),
            template: (!cures.is_empty()).then(|| cures.join(" ")),
            display: json!({
                "title": "Approval required",
                "description": "A person must approve exactly this call before it is permitted.",
            }),
        })
    }
}

/// Returns where access requests are made.
pub(crate) fn endpoint(options: &Options) -> String {
    let base = options.public_url.trim_end_matches('/');
    format!("{base}/access/v1/requests")
}

// === impl ApprovalBody ===

impl ApprovalBody {
    fn of(answer: &Answer, requestable: bool) -> Option<Self> {
        let telling = answer.telling();
        let facts = telling.approval.as_ref()?;
        let permits = answer.permits();
        let used = answer.decision().approval.is_some();
        (used || !permits).then(|| Self {
            id: facts.id,
            approved_until: facts.until.filter(|_| permits),
            reason: (!permits).then(|| {
                if telling.pending {
                    "approval_pending"
                } else {
                    reason(facts.state, requestable)
                }
            }),
        })
    }
}

/// Says what to do next about a denial of a question that presents an approval (Access Request and Approval Profile, Draft 1,
/// Approval and Re-evaluation): `request` is never there without `access_request`.
fn next_action(answer: &Answer, requestable: bool) -> Option<&'static str> {
    let telling = answer.telling();
    let presented = telling.approval.is_some() && !answer.permits();
    let next = match (telling.pending, requestable) {
        (true, _) => RETRY,
        (false, true) => "request",
        (false, false) => "none",
    };
    presented.then_some(next)
}

/// Says why an approval did not help: by the codes of the profile where it has one, by our own otherwise.
fn reason(state: ApprovalState, requestable: bool) -> &'static str {
    match state {
        ApprovalState::Valid if requestable => "not_covered",
        ApprovalState::Valid => "policy_denied",
        ApprovalState::Unknown => "approval_unverifiable",
        ApprovalState::Expired => "approval_expired",
        ApprovalState::Used => "approval_used",
        ApprovalState::OutOfScope => "out_of_scope",
        ApprovalState::OtherPolicy => "approval_superseded",
    }
}
