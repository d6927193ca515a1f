//! Renewing a permit that has a lease: its question is decided again, on what is known now.

use std::sync::Arc;
use std::time::Instant;

use remit_core::{ApprovalState, DecisionId, DecisionRecord, Facts, Verdict};
use remit_engine::Snapshot;
use remit_store::RequestState;

use super::consuming::Made;
use super::using::turn;
use super::{Answer, App};
use crate::auth::Caller;
use crate::facts;
use crate::finishing::Finishing;
use crate::metrics::Stage;
use crate::problem::{Kind, Problem};

// === impl App ===

impl App {
    /// Decides the question of a recorded permit again and records that: nothing that the permit took is taken again, and a
    /// deny ends its lease for good.
    ///
    /// # Errors
    ///
    /// As [`App::decide`]; `store-unavailable` where it is not known how an approval stands, or a lease cannot be ended.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        caller: &Caller,
        root: DecisionRecord,
    ) -> Result<Answer, Problem> {
        let snapshot = self.snapshot(caller).await?;
        let (app, caller) = (Arc::clone(self), caller.clone());
        Finishing::new(async move { app.renew_by(snapshot, &caller, root).await }).await
    }

    async fn renew_by(
        &self,
        snapshot: Arc<Snapshot>,
        caller: &Caller,
        root: DecisionRecord,
    ) -> Result<Answer, Problem> {
        let began = Instant::now();
        let plain = Facts {
            lease: Some(root.id),
            ..self.facts(caller)
        };
        // Obligations may have been turned off since.
        let question = self.options.drafts.heed(root.question.clone());
        let facts = facts::gather(&snapshot, plain, &caller.principal.name, &question);
        self.activity.note(caller.tenant, &facts);
        let mut record = DecisionRecord {
            id: DecisionId::from_uuid(self.clock.id()),
            at: self.clock.now(),
            caller: caller.recorded(),
            facts,
            question,
            ..root.clone()
        };
        self.hold_approval(&snapshot, &root, &mut record).await?;
        let deciding = Instant::now();
        record.decision = Self::again(&snapshot, &record);
        let took = deciding.elapsed();
        self.metrics.stage(Stage::Evaluate, took);
        record.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if record.decision.verdict == Verdict::Deny {
            // Before it is answered: whoever is told of the end finds nobody who renews it.
            let at = (record.facts.now, self.options.longest_lease);
            self.store.end_lease(caller.tenant, root.id, at).await?;
        }
        let made = Made {
            began,
            record,
            receipt: None,
            moved: None,
            pending: false,
            snapshot,
        };
        let mut answers = self.finish(caller, vec![Ok(made)]).await?;
        answers.pop().unwrap_or_else(|| Err(Kind::INTERNAL.into()))
    }

    /// Holds the approval that a permit used against now: it is used up by that permit, and good for its renewals until it
    /// is over, withdrawn or the policies are others. One that the permit did not use is not used by a renewal.
    async fn hold_approval(
        &self,
        snapshot: &Snapshot,
        root: &DecisionRecord,
        record: &mut DecisionRecord,
    ) -> Result<(), Problem> {
        let used = root.facts.approval.clone().filter(|approval| {
            root.decision.approval == Some(approval.id) && approval.state == ApprovalState::Valid
        });
        let Some(used) = used else {
            if record
                .facts
                .approval
                .as_ref()
                .is_some_and(|approval| approval.state == ApprovalState::Valid)
            {
                turn(record, ApprovalState::Used);
            }
            record.facts.approved = false;
            return Ok(());
        };
        // After the snapshot was taken: what was withdrawn by its revision is found to be.
        let request = self.store.request(record.tenant, used.id).await?;
        let request = request.filter(|request| request.state == RequestState::Approved);
        let state = match request {
            None => ApprovalState::Unknown,
            Some(request) if request.is_over(record.facts.now) => ApprovalState::Expired,
            Some(_) if root.facts.environment != record.facts.environment => {
                ApprovalState::OutOfScope
            }
            Some(_) if root.decision.bundle != snapshot.content_hash() => {
                ApprovalState::OtherPolicy
            }
            Some(_) => ApprovalState::Valid,
        };
        record.facts.approval = Some(used);
        record.facts.approved = true;
        if state != ApprovalState::Valid {
            turn(record, state);
        }
        Ok(())
    }
}
