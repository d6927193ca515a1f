//! What a permit uses of an approval, and the same question asked again under its name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_core::{
    ApprovalScope, ApprovalState, Bound, ContentHash, DecisionId, DecisionRecord, Question, Reason,
    Timestamp, call_digest, canonical_json,
};
use remit_engine::Snapshot;
use remit_log::{DecisionLog, UsedApproval};
use remit_store::RequestState;

use super::App;
use super::consuming::{Labels, Made};
use crate::auth::Caller;
use crate::facts;
use crate::problem::{Kind, Problem};

/// An approval by which something was permitted.
struct Approved {
    bound: Bound,
    scope: ApprovalScope,
}

/// What came of looking a question up that presents an approval.
pub(super) enum Looked {
    /// It was answered under its name before.
    Before(Made),
    /// It is decided, by what the database has too; whether what it presents is a request that is pending.
    Made(DecisionRecord, bool),
}

/// The name under which a caller's use of an approval is kept: nobody meets the names of another, or of another environment.
pub(super) fn name_of(caller: &Caller, key: &str) -> String {
    let (by, environment) = (&caller.principal.name, &caller.environment);
    ContentHash::of(format!("{by}\0{environment}\0{key}").as_bytes()).to_string()
}

/// Returns what a permit uses of an approval; `None` where it needs none.
pub(super) fn used(record: &DecisionRecord, name: Option<&str>) -> Option<UsedApproval> {
    record.decision.approval.map(|id| UsedApproval {
        amount: amount_of(record),
        id,
        name: name.map_or_else(|| record.id.to_string(), str::to_owned),
    })
}

/// Returns how much money a call moves; `None` where nobody knows: what is limited to an amount is not used for that.
fn amount_of(record: &DecisionRecord) -> Option<u64> {
    let tool = record.facts.tool.as_ref();
    let tool = tool.filter(|tool| tool.amount.is_some())?;
    tool.amount_of(&record.question.action.properties).ok()
}

/// Whether the approval that a question presents matters to it: it is denied for want of one.
pub(super) fn wants_one(record: &DecisionRecord) -> bool {
    record.question.approval().is_some() && record.decision.reason == Reason::ApprovalRequired
}

/// Whether a question is the one that was recorded, whose call had this digest. A record rounds whole numbers that a double
/// cannot hold; the digest has every digit of them.
fn is_same(
    (asked, by_id): (&Question, &Question),
    (recorded, digest): (&Question, Option<ContentHash>),
) -> Result<bool, Problem> {
    let text = |question: &Question| {
        canonical_json(question).map_err(|error| Problem::caused(Kind::INTERNAL, error))
    };
    let exact = digest.is_none_or(|digest| digest == call_digest(by_id));
    Ok(exact && text(asked)? == text(recorded)?)
}

/// Whether the time is over for which something was permitted, where a policy says how long.
fn is_over(record: &DecisionRecord, now: Timestamp) -> bool {
    let decision = &record.decision;
    let lasts = decision.lease.into_iter().chain(decision.ttl).min();
    lasts.is_some_and(|seconds| record.facts.now.plus(Duration::from_secs(seconds.into())) <= now)
}

/// Notes among the facts of a question how the database says that its approval stands.
pub(super) fn turn(record: &mut DecisionRecord, state: ApprovalState) {
    record.facts.approved = false;
    if let Some(approval) = &mut record.facts.approval {
        approval.approvers.clear();
        approval.violations.clear();
        approval.state = state;
    }
}

// === impl App ===

impl App {
    /// Returns the decision that a question of this name was answered with, where it used an approval and holds still.
    ///
    /// # Errors
    ///
    /// `idempotency-key-reused` where another question has the name; `store-unavailable`.
    async fn named(
        &self,
        snapshot: &Arc<Snapshot>,
        caller: &Caller,
        question: &Question,
        name: &str,
    ) -> Result<Option<Made>, Problem> {
        let Some(approval) = question.approval() else {
            return Ok(None);
        };
        match self.store.use_of(caller.tenant, approval, name).await? {
            Some(decision) => self.decided(snapshot, caller, question, decision).await,
            None => Ok(None),
        }
    }

    /// Returns a decision that is recorded, for whoever asks the same once more; `None` where it would be denied by now.
    pub(super) async fn decided(
        &self,
        snapshot: &Arc<Snapshot>,
        caller: &Caller,
        question: &Question,
        decision: DecisionId,
    ) -> Result<Option<Made>, Problem> {
        let began = Instant::now();
        let stored = self.store.decision(caller.tenant, decision).await?;
        // It was written in one transaction with the name.
        let missing = || Problem::caused(Kind::INTERNAL, "a decision with a name is not recorded");
        let stored = stored.ok_or_else(missing)?;
        let record = &stored.record;
        if record.facts.environment != caller.environment {
            return Ok(None);
        }
        let call = record.facts.call.as_ref().and_then(|call| call.digest);
        let (_, by_id) = facts::by_its_id(snapshot, question);
        if !is_same((question, &by_id), (&record.question, call))? {
            return Err(Kind::IDEMPOTENCY_KEY_REUSED.into());
        }
        let Some(approved) = self.stands(caller, record).await? else {
            return Ok(None);
        };
        // One that is good for a single call has every digit of it, catalogued or not.
        let exact = approved.bound.digest == snapshot.approval_digest(question);
        if approved.scope == ApprovalScope::Once && !exact {
            return Err(Kind::IDEMPOTENCY_KEY_REUSED.into());
        }
        self.labelled_by(record).await?;
        let receipt = DecisionLog::proof_of(&stored)
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        Ok(Some(Made {
            began,
            record: stored.record,
            receipt: Some(receipt),
            moved: None,
            snapshot: Arc::clone(snapshot),
            pending: false,
        }))
    }

    /// Returns the approval by which something was permitted, where it is permitted still: the approval was not withdrawn
    /// and is not over, the policies are those that it was asked under, and nothing else forbids it by now. An answer whose
    /// outcome was told was not lost, and what it permitted for a time, or for a lease that ended, it permits no more.
    async fn stands(
        &self,
        caller: &Caller,
        record: &DecisionRecord,
    ) -> Result<Option<Approved>, Problem> {
        let Some(approval) = record.decision.approval else {
            return Ok(None);
        };
        let request = self.store.request(caller.tenant, approval).await?;
        let now = self.store.time().await?;
        let request = request
            .filter(|request| request.state == RequestState::Approved && !request.is_over(now));
        let approved = request.and_then(|request| {
            Some(Approved {
                scope: request.grant?.scope,
                bound: request.bound,
            })
        });
        if approved.is_none() || is_over(record, now) {
            return Ok(None);
        }
        let (tenant, id) = (caller.tenant, record.id);
        let told = self.store.has_outcome(tenant, id).await?;
        let leased = record.decision.lease.is_some();
        let ended = leased && self.store.lease_ended(tenant, id).await?;
        if told || ended || !self.permits_still(caller, record, Labels::Now)? {
            return Ok(None);
        }
        Ok(approved)
    }

    /// Looks a question up in the database that is denied for want of the approval that it presents: it may have used that
    /// one before, under this name, or this replica has not heard of it yet.
    ///
    /// What is permitted without an approval, or denied whatever is approved, asks the database nothing.
    ///
    /// # Errors
    ///
    /// As [`App::named`] and [`App::bring_approval`].
    pub(super) async fn look_up(
        &self,
        snapshot: &mut Arc<Snapshot>,
        caller: &Caller,
        record: DecisionRecord,
        name: Option<&str>,
    ) -> Result<Looked, Problem> {
        if let Some(name) = name
            && let Some(made) = self.named(snapshot, caller, &record.question, name).await?
        {
            return Ok(Looked::Before(made));
        }
        let before = snapshot.revision();
        let pending = self
            .bring_approval(snapshot, caller, &record.question)
            .await?;
        if snapshot.revision() == before {
            return Ok(Looked::Made(record, pending));
        }
        let record = self.evaluate(snapshot, caller, record.question);
        Ok(Looked::Made(record, pending))
    }

    /// Waits for an approval that the database has and this replica has not heard of yet; tells whether the request that it
    /// would answer is pending.
    ///
    /// # Errors
    ///
    /// `store-unavailable`; `revision-not-reached`.
    async fn bring_approval(
        &self,
        snapshot: &mut Arc<Snapshot>,
        caller: &Caller,
        question: &Question,
    ) -> Result<bool, Problem> {
        let Some(id) = question.approval() else {
            return Ok(false);
        };
        if snapshot.live().approval(id).is_some() {
            return Ok(false);
        }
        let Some(request) = self.store.request(caller.tenant, id).await? else {
            return Ok(false);
        };
        if request.approval().is_some() && request.revision > snapshot.revision() {
            *snapshot = self.snapshot_at(caller, Some(request.revision)).await?;
        }
        let now: Timestamp = self.now();
        Ok(request.state == RequestState::Pending && request.expires_at > now)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use remit_core::{Question, call_digest};
    use serde_json::json;

    use super::is_same;

    /// What is recorded is rounded; a neighbour of the number that was approved is another call all the same.
    #[test]
    fn a_neighbour_of_a_great_number_is_not_the_same() {
        let of = |amount: u64| -> Question {
            serde_json::from_value(json!({
                "subject": { "type": "Agent", "id": "a" }, "resource": { "type": "Payee", "id": "acme" },
                "action": { "name": "pay", "properties": { "amount": amount } },
            }))
            .unwrap()
        };
        let (made, rounded) = (of(9_007_199_254_740_993), of(9_007_199_254_740_992));
        let digest = Some(call_digest(&made));
        assert!(is_same((&made, &made), (&rounded, digest)).unwrap());
        assert!(!is_same((&rounded, &rounded), (&rounded, digest)).unwrap());
        assert!(!is_same((&of(1), &of(1)), (&rounded, None)).unwrap());
    }
}
