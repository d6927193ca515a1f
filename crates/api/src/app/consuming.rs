//! What a permit takes on every replica alike: a budget and new labels, in the transaction that records it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_core::{
    ApprovalState, DecisionId, DecisionRecord, Facts, Label, Revision, Spending, TaskId, TenantId,
    Tool, Verdict,
};
use remit_engine::Snapshot;
use remit_log::{Receipt, Shared, Takes};

use super::{App, using};
use crate::auth::Caller;
use crate::facts;
use crate::metrics::Stage;
use crate::problem::{Kind, Problem};
use crate::revisions::{self, Until, Wait};

/// How often it is looked for reservations whose time is over.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// How long after it was made a permit is given without a second look.
const MOMENT: Duration = Duration::from_millis(500);

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
    /// Whether the question presents what is to become an approval, and is not answered yet.
    pub(super) pending: bool,
}

/// By which labels of its tasks a permit is looked at once more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Labels {
    /// Those that they had when it was decided: its answer is on its way still.
    Then,
    /// Those that they have now, but for what it brought itself.
    Now,
}

// === impl App ===

impl App {
    /// Takes what a permit consumes, and records it with that; a permit that takes nothing, and a deny, are left as they are.
    ///
    /// Where the database has not enough left, or a task or an approval is over there, it is decided once more, with that
    /// among its facts. This ends when every live replica decides by the labels that the permit brings, whether it raised them or
    /// another did a moment ago: no answer is out that another replica does not know of.
    ///
    /// # Errors
    ///
    /// `store-unavailable` and `labels-not-reached`: then it may be taken and recorded, and is not answered.
    pub(super) async fn take(
        &self,
        snapshot: &Arc<Snapshot>,
        caller: &Caller,
        record: DecisionRecord,
        (began, name): (Instant, Option<&str>),
    ) -> Result<Made, Problem> {
        let mut made = Made {
            began,
            record,
            receipt: None,
            moved: None,
            snapshot: Arc::clone(snapshot),
            pending: false,
        };
        if let Some(revision) = brought(snapshot, &made.record) {
            self.labelled(made.record.tenant, revision).await?;
        }
        let Some(takes) = takes(&made.record, self.options.reserved, name) else {
            return Ok(made);
        };
        // What uses an approval is paid for where the approval is used.
        if takes.approval.is_none() && self.pays_from_escrow(made.record.tenant, &takes).await {
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
            Shared::Approval(state) => using::turn(&mut made.record, state),
            Shared::Named(decision) => {
                let question = &made.record.question;
                // Boxed: it is seldom, and large.
                let same = Box::pin(self.decided(snapshot, caller, question, decision));
                if let Some(same) = same.await? {
                    return Ok(same);
                }
                using::turn(&mut made.record, ApprovalState::Used);
            }
        }
        // Under an id of its own: the database may yet record the permit that it was asked for.
        made.record.id = DecisionId::from_uuid(self.clock.id());
        made.record.at = self.clock.now();
        made.record.decision = Self::again(snapshot, &made.record);
        if made.record.decision.verdict == Verdict::Permit {
            let cause = "a task that may take no more was permitted all the same";
            return Err(Problem::caused(Kind::INTERNAL, cause));
        }
        Ok(made)
    }

    /// Checks that what was permitted a while ago is permitted still, by what is in force now but for the labels that came
    /// since: an answer that had to wait does not outlive a kill, the end of its task, or a policy that forbids it.
    ///
    /// # Errors
    ///
    /// `stale-policy` where it is denied by now; it stays recorded as what was decided.
    pub(super) fn holds_still(&self, caller: &Caller, made: &Made) -> Result<(), Problem> {
        let record = &made.record;
        if record.decision.verdict != Verdict::Permit || made.began.elapsed() < MOMENT {
            return Ok(());
        }
        self.confirmed(caller.tenant)?;
        if self.permits_still(caller, record, Labels::Then)? {
            return Ok(());
        }
        let detail = "what was permitted when this was asked is denied by now; ask again";
        Err(Problem::new(Kind::STALE_POLICY, detail))
    }

    /// Whether a permit would be one by what is in force now, with the approval and the lease that it had, and these labels.
    pub(super) fn permits_still(
        &self,
        caller: &Caller,
        record: &DecisionRecord,
        labels: Labels,
    ) -> Result<bool, Problem> {
        let snapshot = self.engine.snapshot(caller.tenant).ok_or(Kind::NOT_READY)?;
        // Who approved it saw other policies.
        if record.decision.approval.is_some() && record.decision.bundle != snapshot.content_hash() {
            return Ok(false);
        }
        let plain = self.facts(caller);
        let mut facts = facts::gather(&snapshot, plain, &caller.principal.name, &record.question);
        // It is used by this very permit, so that it may be gone.
        facts.approval.clone_from(&record.facts.approval);
        facts.approved = record.facts.approved;
        facts.lease = record.facts.lease;
        let had = record.facts.hops.iter().map(|hop| hop.task.as_ref());
        let has = facts.hops.iter_mut().map(|hop| hop.task.as_mut());
        let hops = has.zip(had);
        for (has, had) in hops.chain([(facts.task.as_mut(), record.facts.task.as_ref())]) {
            let (Some(has), Some(had)) = (has, had) else {
                continue;
            };
            match labels {
                Labels::Then => has.labels.clone_from(&had.labels),
                Labels::Now => {
                    // What this very permit brought is no reason against it.
                    let task = snapshot.live().task(has.id);
                    let set_by = |label: &Label| task?.labels.get(label).copied();
                    has.labels.retain(|label| {
                        had.labels.contains(label) || set_by(label) != Some(record.id)
                    });
                }
            }
        }
        let now = DecisionRecord {
            facts,
            ..record.clone()
        };
        Ok(Self::again(&snapshot, &now).verdict == Verdict::Permit)
    }

    /// Waits until every live replica decides by the labels that a recorded permit brought, where it brought any: whoever
    /// made it may be waiting still for the other replicas, or have died.
    pub(super) async fn labelled_by(&self, record: &DecisionRecord) -> Result<(), Problem> {
        let call = record.facts.call.as_ref();
        if call.is_none_or(|call| call.raises.is_empty()) {
            return Ok(());
        }
        let heads = self.store.heads().await?;
        let head = heads.iter().find(|head| head.tenant == record.tenant);
        let head = head.ok_or(Kind::NOT_FOUND)?.revision;
        self.labelled(record.tenant, head).await
    }

    /// Waits until every live replica decides by the labels that a permit brings.
    async fn labelled(&self, tenant: TenantId, revision: Revision) -> Result<(), Problem> {
        let standing = self.progress.standing(tenant);
        if standing.is_some_and(|standing| standing.everywhere() >= revision) {
            return Ok(());
        }
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

/// Returns the revision that brought the labels of a chain in which a permit would raise some, new or not; `None` where it
/// raises none.
///
/// Who raised them may be waiting still for the other replicas, or have given up.
fn brought(snapshot: &Snapshot, record: &DecisionRecord) -> Option<Revision> {
    let facts = &record.facts;
    let permits = record.decision.verdict == Verdict::Permit;
    // Only what is a call in a task is charged with anything.
    let call = facts.call.as_ref().filter(|_| permits)?;
    call.charges?;
    let raises = facts.tool.as_ref().map_or_else(Label::worst, Tool::raises);
    if raises.is_empty() {
        return None;
    }
    let tasks = chain(facts).into_iter();
    let labelled = tasks.filter_map(|id| Some(snapshot.live().task(id)?.labelled_at));
    labelled.max()
}

/// Returns what a decision takes; `None` for what is recorded on this host alone.
fn takes(record: &DecisionRecord, hold: Duration, name: Option<&str>) -> Option<Takes> {
    let facts = &record.facts;
    // What a lease renews was taken when it was given.
    if record.decision.verdict != Verdict::Permit || facts.lease.is_some() {
        return None;
    }
    let approval = using::used(record, name);
    let call = facts.call.as_ref().filter(|_| facts.task.is_some());
    let labels = call.map(|call| call.raises.clone()).unwrap_or_default();
    let charges = charges(facts);
    let anything = approval.is_some() || charges.is_some() || !labels.is_empty();
    anything.then(|| Takes {
        approval,
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
