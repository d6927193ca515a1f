//! What a permit takes on every replica alike: a budget and new labels, in the transaction that records it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_core::{DecisionRecord, Facts, Revision, Spending, TaskId, TenantId, Verdict};
use remit_engine::Snapshot;
use remit_log::{Receipt, Shared, Takes};

use super::App;
use crate::metrics::Stage;
use crate::problem::{Kind, Problem};
use crate::revisions::{self, Until, Wait};

/// How often it is looked for reservations whose time is over.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// One decision on its way to an answer.
pub(super) struct Made {
    /// When the question was taken up.
    pub(super) began: Instant,
    /// The record.
    pub(super) record: DecisionRecord,
    /// The proof, where it is recorded already with what it takes; the others are recorded together.
    pub(super) receipt: Option<Receipt>,
    /// The revision that it brings, by which the next one must be decided.
    pub(super) moved: Option<Revision>,
    /// What decided.
    pub(super) snapshot: Arc<Snapshot>,
}

// === impl App ===

impl App {
    /// Takes what a permit consumes, and records it with that; a permit that takes nothing, and a deny, are left as they are.
    ///
    /// Where the database has not enough left, or a task is over there, it is decided once more, with that among its
    /// facts. Where labels are new, this ends when every live replica decides by them: no answer is out that another
    /// replica does not know of.
    ///
    /// # Errors
    ///
    /// `store-unavailable` and `labels-not-reached`: then it may be taken and recorded, and is not answered.
    pub(super) async fn take(
        &self,
        snapshot: &Arc<Snapshot>,
        record: DecisionRecord,
        began: Instant,
    ) -> Result<Made, Problem> {
        let mut made = Made {
            began,
            record,
            receipt: None,
            moved: None,
            snapshot: Arc::clone(snapshot),
        };
        let Some(takes) = takes(&made.record, self.options.reserved) else {
            return Ok(made);
        };
        if self.pays_from_escrow(made.record.tenant, &takes).await {
            return Ok(made);
        }
        let asked = Instant::now();
        let shared = self.log.share(&self.store, &made.record, &takes).await;
        self.metrics.stage(Stage::Audit, asked.elapsed());
        let shared = shared.map_err(|error| {
            self.metrics.recorded(1, false);
            refused(error)
        })?;
        let facts = made.record.facts.task.as_mut();
        match shared {
            Shared::Done { receipt, revision } => {
                self.metrics.recorded(1, true);
                self.metrics.decided(&made.record, began.elapsed());
                if let Some(revision) = revision {
                    self.labelled(made.record.tenant, revision).await?;
                }
                made.receipt = Some(receipt);
                made.moved = revision;
                return Ok(made);
            }
            Shared::Exhausted(dimension) => {
                if let Some(task) = facts {
                    task.exhausted = Some(dimension);
                }
            }
            Shared::Ended(state) => {
                self.progress.nudge();
                if let Some(task) = facts {
                    task.state = state;
                }
            }
        }
        made.record.decision = Self::again(snapshot, &made.record);
        if made.record.decision.verdict == Verdict::Permit {
            let cause = "a task that may take no more was permitted all the same";
            return Err(Problem::caused(Kind::INTERNAL, cause));
        }
        Ok(made)
    }

    /// Waits until every live replica decides by the labels that a permit brought.
    async fn labelled(&self, tenant: TenantId, revision: Revision) -> Result<(), Problem> {
        let fleet = Until {
            wait: Some(Wait::Fleet),
        };
        let settled = revisions::settle(self, tenant, revision, fleet).await;
        settled
            .map(drop)
            .map_err(|problem| Problem::new(Kind::LABELS_NOT_REACHED, problem.chain()))
    }
}

/// Ends again and again what was reserved for too long: its call may have been made, so that it counts as spent.
///
/// Every replica does this; each reservation is ended once.
pub(crate) async fn keep_expiring(app: Arc<App>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        match app.store.ahead().expire_reservations().await {
            Ok(0) => failing = false,
            Ok(ended) => {
                failing = false;
                tracing::debug!(ended, "reservations without an outcome count as spent");
            }
            // Once when it begins: what the database lacks is said elsewhere, too.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "reservations whose time is over are not ended");
                }
            }
        }
    }
}

/// Returns the task of a question and those above it, nearest first; nothing outside a task.
pub(crate) fn chain(facts: &Facts) -> Vec<TaskId> {
    let above = facts.hops.iter().filter_map(|hop| hop.task.as_ref());
    facts.task.iter().chain(above).map(|task| task.id).collect()
}

/// Returns what a call uses of budgets, where a task of its chain has one.
pub(crate) fn charges(facts: &Facts) -> Option<Spending> {
    let above = facts.hops.iter().filter_map(|hop| hop.task.as_ref());
    let limited = facts.task.iter().chain(above).any(|task| {
        let declared = task.declaration.as_ref();
        declared.is_some_and(|declared| !declared.budget.is_unlimited())
    });
    let call = facts.call.as_ref().filter(|_| limited)?;
    call.charges
}

/// Returns what a decision takes; `None` for what is recorded on this host alone.
fn takes(record: &DecisionRecord, hold: Duration) -> Option<Takes> {
    let facts = &record.facts;
    if record.decision.verdict != Verdict::Permit || facts.task.is_none() {
        return None;
    }
    let labels = facts.call.as_ref().map(|call| call.raises.clone());
    let labels = labels.unwrap_or_default();
    let charges = charges(facts);
    (charges.is_some() || !labels.is_empty()).then(|| Takes {
        chain: chain(facts),
        charges: charges.unwrap_or_default(),
        hold,
        labels,
    })
}

fn refused(error: remit_log::Error) -> Problem {
    match error {
        remit_log::Error::Store(error) => error.into(),
        remit_log::Error::TooLarge { .. } => Problem::new(
            Kind::TOO_LARGE,
            "the question is larger than the decision log records",
        ),
        error => Problem::caused(Kind::LOG_UNAVAILABLE, error),
    }
}
