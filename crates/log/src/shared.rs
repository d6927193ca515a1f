//! Records that are durable by a transaction of the database: that in which a decision consumes a budget or a label.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remit_core::{
    ApprovalId, ApprovalState, DecisionId, DecisionRecord, Dimension, Label, Revision, Spending,
    TaskId, TaskState,
};
use remit_store::{ApprovalUse, Consumed, Consumption, SharedRecord, Store, StoredDecision};
use sha2::{Digest, Sha256};

use crate::log::body_of;
use crate::{DecisionLog, Error, Receipt};

/// What a permit takes on every replica alike.
#[derive(Debug, Clone)]
pub struct Takes {
    /// What it uses of an approval, and what the use is called.
    pub approval: Option<UsedApproval>,
    /// The task of the question and those above it, nearest first.
    pub chain: Vec<TaskId>,
    /// How much of every budget in the chain it uses.
    pub charges: Spending,
    /// How long what is reserved waits for an outcome.
    pub hold: Duration,
    /// The labels that it brings onto every task of the chain.
    pub labels: BTreeSet<Label>,
}

/// What a permit uses of an approval.
#[derive(Debug, Clone)]
pub struct UsedApproval {
    /// The money that the call moves, where that is known.
    pub amount: Option<u64>,
    /// Which approval.
    pub id: ApprovalId,
    /// What the use is called: the same name is the same decision.
    pub name: String,
}

/// What came of recording a decision with what it takes.
#[derive(Debug)]
pub enum Shared {
    /// It is taken and recorded.
    Done {
        /// The proof.
        receipt: Receipt,
        /// The revision that brings the labels, where they are new to a task.
        revision: Option<Revision>,
    },
    /// A budget has not enough left; nothing was recorded.
    Exhausted(Dimension),
    /// The task, or one above it, does not work; nothing was recorded.
    Ended(TaskState),
    /// The approval cannot be used; nothing was recorded.
    Approval(ApprovalState),
    /// The approval was used under this name by an earlier decision; nothing was recorded.
    Named(DecisionId),
}

// === impl DecisionLog ===

impl DecisionLog {
    /// Records a decision in the database, in the transaction that takes what it consumes: both, or neither.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] and [`Error::Encode`] for reasons that lie with the record; [`Error::Store`] when the database
    /// fails. Then it may have been recorded and taken all the same, and must not be answered.
    pub async fn share(
        &self,
        store: &Store,
        record: &DecisionRecord,
        takes: &Takes,
    ) -> Result<Shared, Error> {
        let id = record.id;
        let encode = |source| Error::Encode { id, source };
        let body = body_of(record)?;
        let hash = Sha256::digest(&body).into();
        let body = String::from_utf8(body)
            .map_err(|error| encode(serde::ser::Error::custom(error.utf8_error())))?;
        // Below zero, where no record of a spool is.
        let before = self.spool().shared.fetch_sub(1, Ordering::Relaxed);
        let shared = SharedRecord {
            replica: self.replica(),
            sequence: before.saturating_sub(1),
            head: serde_json::from_str(&body).map_err(encode)?,
            body,
        };
        let used = takes.approval.as_ref();
        let consumption = Consumption {
            approval: used.map(|used| ApprovalUse {
                amount: used.amount,
                id: used.id,
                name: &used.name,
            }),
            chain: &takes.chain,
            charges: takes.charges,
            hold: takes.hold,
            labels: &takes.labels,
            record: &shared,
        };
        Ok(match store.consume(record.tenant, &consumption).await? {
            Consumed::Done { revision } => Shared::Done {
                receipt: Receipt::new(id, shared.replica, shared.sequence, hash),
                revision,
            },
            Consumed::Exhausted { dimension, .. } => Shared::Exhausted(dimension),
            Consumed::Ended { state, .. } => Shared::Ended(state),
            Consumed::Approval(state) => Shared::Approval(state),
            Consumed::Named(decision) => Shared::Named(decision),
        })
    }

    /// Returns the proof of a decision that the database has: that of one that used an approval, asked for again.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] and [`Error::Encode`] for reasons that lie with the record.
    pub fn proof_of(stored: &StoredDecision) -> Result<Receipt, Error> {
        let hash = Sha256::digest(body_of(&stored.record)?).into();
        let id = stored.record.id;
        Ok(Receipt::new(id, stored.replica, stored.sequence, hash))
    }
}
