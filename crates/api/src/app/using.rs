//! What a permit uses of an approval, and the same question asked again under its name.

use std::sync::Arc;
use std::time::Instant;

use remit_core::{
    ApprovalState, ContentHash, DecisionId, DecisionRecord, PrincipalName, Question, Timestamp,
    canonical_json,
};
use remit_engine::Snapshot;
use remit_log::{DecisionLog, UsedApproval};
use remit_store::RequestState;

use super::App;
use super::consuming::Made;
use crate::auth::Caller;
use crate::problem::{Kind, Problem};

/// The name under which a caller's use of an approval is kept: nobody meets the names of another.
pub(super) fn name_of(by: &PrincipalName, key: &str) -> String {
    ContentHash::of(format!("{by}\0{key}").as_bytes()).to_string()
}

/// Returns what a permit uses of an approval; `None` where it needs none.
pub(super) fn used(record: &DecisionRecord, name: Option<&str>) -> Option<UsedApproval> {
    let call = record.facts.call.as_ref();
    record.decision.approval.map(|id| UsedApproval {
        amount: call
            .and_then(|call| call.charges)
            .map(|charges| charges.amount),
        id,
        name: name.map_or_else(|| record.id.to_string(), str::to_owned),
    })
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
    pub(super) async fn named(
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
        let same = |question: &Question| canonical_json(question).ok();
        if same(question) != same(&stored.record.question) {
            return Err(Kind::IDEMPOTENCY_KEY_REUSED.into());
        }
        if !self.stands(caller, &stored.record).await? {
            return Ok(None);
        }
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

    /// Whether what was permitted by an approval is permitted still: the approval was not withdrawn and is not over, and
    /// nothing else forbids it by now.
    async fn stands(&self, caller: &Caller, record: &DecisionRecord) -> Result<bool, Problem> {
        let Some(approval) = record.decision.approval else {
            return Ok(false);
        };
        let request = self.store.request(caller.tenant, approval).await?;
        let now = self.store.time().await?;
        let approved = request.is_some_and(|request| {
            let until = request.grant.map(|grant| grant.until);
            request.state == RequestState::Approved && until > Some(now)
        });
        Ok(approved && self.permits_still(caller, record)?)
    }

    /// Waits for an approval that the database has and this replica has not heard of yet; tells whether the request that it
    /// would answer is pending.
    ///
    /// # Errors
    ///
    /// `store-unavailable`; `revision-not-reached`.
    pub(super) async fn bring_approval(
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
