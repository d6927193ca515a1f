//! Outcomes: what an enforcement point says happened after a permit, once each; and the permits of which nobody said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remit_core::{
    ContentHash, DecisionId, Outcome, OutcomeResult, Revision, Spending, TaskId, TenantId,
    Timestamp, Verdict, canonical_json,
};
use uuid::Uuid;

use crate::budgets::settling::{Settled, is_recent, settle_all, take};
use crate::budgets::{MOST_CHARGED, charges_of};
use crate::db::Conn;
use crate::decisions::{Row as DecisionRow, StoredDecision};
use crate::dialect;
use crate::error::{Error, Failure};
use crate::shipping::indexed;
use crate::store::Store;
use crate::tasks::labels::{add_trusted, raise_labels};
use crate::tenants::{number, revision};

/// The most entries of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;

/// An outcome on its way in, and what it settles.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What happened; `at` is filled in.
    pub outcome: &'a Outcome,
    /// The hash of what was sent: the same may be sent again.
    pub request: ContentHash,
    /// The task of the decision and those above it, nearest first; empty outside a task.
    pub chain: &'a [TaskId],
    /// What the decision was charged with, in a chain that has a budget.
    pub charges: Option<Spending>,
    /// When the decision was made.
    pub made: Timestamp,
    /// Whether the call was paid for out of what the replica had reserved before (an escrow).
    pub escrowed: bool,
    /// Within which time what was not used is given back.
    pub hold: Duration,
    /// The hashes of what the tool returned, where it is a trusted one.
    pub trusted: &'a BTreeSet<[u8; 16]>,
}

/// What came of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// It is kept and settled.
    New {
        /// The outcome as it is kept.
        outcome: Outcome,
        /// The revision of the tenant with it.
        revision: Revision,
        /// Whether the task has something by it that decides: that revision is new.
        changed: bool,
    },
    /// The same was reported before.
    Same {
        /// The outcome as it was kept.
        outcome: Outcome,
        /// The revision of the tenant with it.
        revision: Revision,
    },
    /// Another outcome was reported before; nothing is written.
    Other,
}

/// Which outcomes are wanted: those that fit every member given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeFilter {
    /// In this task.
    pub task: Option<TaskId>,
    /// Of data that went there.
    pub destination: Option<String>,
    /// With this result.
    pub result: Option<OutcomeResult>,
}

/// One list, like that of decisions: `$and` has the member that leads to few rows by an index.
macro_rules! list {
    ($and:literal) => {
        concat!(
            "SELECT o.body FROM outcomes AS o WHERE o.tenant = $1 AND o.decision < $2",
            $and,
            " AND (o.task = $3 OR $3 IS NULL) AND (o.destination = $4 OR $4 IS NULL)",
            " AND (o.result = $5 OR $5 IS NULL) ORDER BY o.decision DESC LIMIT $6"
        )
    };
}

pub(crate) mod sql {
    statements! {
        /// Keeps an outcome, unless there is one of the decision.
        INSERT_OUTCOME = "INSERT INTO outcomes (tenant, decision, task, at, result, bytes, source, destination, request, \
            revision, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (tenant, decision) DO NOTHING";
        /// Notes the revision that an outcome brought.
        OUTCOME_AT = "UPDATE outcomes SET revision = $3 WHERE tenant = $1 AND decision = $2";
        /// Finds an outcome.
        OUTCOME = "SELECT request, revision, body FROM outcomes WHERE tenant = $1 AND decision = $2";
        /// Finds a tenant that was not deleted, and its revision.
        HEAD = "SELECT revision FROM tenants WHERE id = $1 AND deleted_at IS NULL";
        /// Lists outcomes, whatever they are.
        OUTCOMES = list!("");
        /// Lists outcomes in one task.
        OUTCOMES_OF_TASK = list!(" AND o.task = $3");
        /// Lists outcomes of data that went to one place.
        OUTCOMES_TO = list!(" AND o.destination = $4");
        /// Lists permits in tasks that were made before a time, renew nothing and have no outcome, newest first.
        ORPHANS = "SELECT d.id, d.replica, d.sequence, d.body FROM decisions AS d WHERE d.tenant = $1 AND d.id < $2 \
            AND d.task IS NOT NULL AND d.verdict = $3 AND d.at < $4 AND (d.task = $5 OR $5 IS NULL) AND d.renews IS NULL \
            AND NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.tenant = $1 AND o.decision = d.id) \
            ORDER BY d.id DESC LIMIT $6";
        /// Tells whether a decision has an outcome.
        HAS_OUTCOME = "SELECT count(*) FROM outcomes WHERE tenant = $1 AND decision = $2";
    }
}

// === impl Store ===

impl Store {
    /// Keeps an outcome and does what follows from it, in one transaction: what was reserved is spent or given back, the
    /// labels are raised on every task of the chain, and what a trusted tool returned is noted on the task.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant; [`Error::Invalid`] for a number that no budget can be;
    /// [`Error::Unfit`] when a task would have too many labels. Those of the database: then it may have been kept, and
    /// may be sent again.
    pub async fn report(&self, tenant: TenantId, report: &Report<'_>) -> Result<Reported, Error> {
        for (member, value) in [
            ("bytes", report.outcome.bytes),
            ("cost", report.outcome.cost),
        ] {
            if value.is_some_and(|value| value > MOST_CHARGED) {
                return Err(Error::invalid(
                    member,
                    format!("is more than {MOST_CHARGED}"),
                ));
            }
        }
        self.within("keep an outcome", async {
            // What can change what decides is one at a time with every other change.
            let moves = !report.outcome.labels.is_empty() || !report.trusted.is_empty();
            let mut conn = if moves {
                self.begin_aside(tenant).await?.0
            } else {
                self.begin(tenant).await?
            };
            let now = dialect::time(&mut conn, self.clock()).await?;
            let outcome = Outcome {
                at: now,
                ..report.outcome.clone()
            };
            let inserted = insert(&mut conn, tenant, report, &outcome).await?;
            // The row refers to the tenant's, so whoever deletes it waits for this, or has done so by now.
            let head: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::HEAD)
                .bind(tenant.uuid())
                .fetch_optional(raw)
                .await)?;
            let Some(head) = head else {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "tenant" }.into());
            };
            if !inserted {
                let before = before(&mut conn, tenant, report).await?;
                conn.rollback().await?;
                return Ok(before);
            }
            let next = Revision::new(revision(head)?.number().saturating_add(1));
            let changed = moves && raise(&mut conn, tenant, report, next).await?;
            settle(&mut conn, tenant, report, now).await?;
            let at = if changed { next } else { revision(head)? };
            on!(conn, |raw| sqlx::query(sql::OUTCOME_AT)
                .bind(tenant.uuid())
                .bind(outcome.decision.uuid())
                .bind(number(at))
                .execute(raw)
                .await
                .map(drop))?;
            if changed {
                self.move_on(&mut conn, tenant).await?;
            }
            conn.commit().await?;
            Ok(Reported::New {
                outcome,
                revision: at,
                changed,
            })
        })
        .await
    }

    /// Lists outcomes that fit `filter`, those of the newest decisions first: those of decisions before `before`, at most
    /// `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn outcomes(
        &self,
        tenant: TenantId,
        filter: &OutcomeFilter,
        before: Option<DecisionId>,
        limit: usize,
    ) -> Result<Vec<Outcome>, Error> {
        let text = if filter.task.is_some() {
            sql::OUTCOMES_OF_TASK
        } else if filter.destination.is_some() {
            sql::OUTCOMES_TO
        } else {
            sql::OUTCOMES
        };
        let destination = filter.destination.as_deref().map(indexed);
        let rows: Vec<String> = read!(self, tenant, "list outcomes", |raw| {
            sqlx::query_scalar(text)
                .bind(tenant.uuid())
                .bind(before.map_or(Uuid::max(), DecisionId::uuid))
                .bind(filter.task.map(TaskId::uuid))
                .bind(destination.as_deref())
                .bind(filter.result.map(OutcomeResult::as_str))
                .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        rows.iter().map(|body| of_body(body)).collect()
    }

    /// Tells whether an outcome of a decision was told.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn has_outcome(&self, tenant: TenantId, decision: DecisionId) -> Result<bool, Error> {
        let told: i64 = read!(self, tenant, "ask whether an outcome was told", |raw| {
            sqlx::query_scalar(sql::HAS_OUTCOME)
                .bind(tenant.uuid())
                .bind(decision.uuid())
                .fetch_one(raw)
        })?;
        Ok(told > 0)
    }

    /// Lists permits in tasks that are older than `waits` and of which no outcome was told, newest first: those before
    /// `before`, at most `limit` and never more than 1,001. Renewals are none: the outcome is that of what they renew.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn orphans(
        &self,
        tenant: TenantId,
        (task, waits): (Option<TaskId>, Duration),
        before: Option<DecisionId>,
        limit: usize,
    ) -> Result<Vec<StoredDecision>, Error> {
        let waits = i64::try_from(waits.as_micros()).unwrap_or(i64::MAX);
        let rows: Vec<DecisionRow> = self
            .within("list permits without an outcome", async {
                let mut conn = self.connect_to_read(tenant).await?;
                let now = dialect::time(&mut conn, self.clock()).await?;
                let rows = on!(conn, |raw| sqlx::query_as(sql::ORPHANS)
                    .bind(tenant.uuid())
                    .bind(before.map_or(Uuid::max(), DecisionId::uuid))
                    .bind(crate::shipping::verdict(Verdict::Permit))
                    .bind(now.micros().saturating_sub(waits))
                    .bind(task.map(TaskId::uuid))
                    .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                    .fetch_all(raw)
                    .await)?;
                conn.end().await?;
                Ok(rows)
            })
            .await?;
        rows.into_iter()
            .map(|row| StoredDecision::read(tenant, row))
            .collect()
    }
}

/// Writes the outcome; false where the decision has one.
async fn insert(
    conn: &mut Conn,
    tenant: TenantId,
    report: &Report<'_>,
    outcome: &Outcome,
) -> Result<bool, Failure> {
    let body = canonical_json(outcome)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("outcome", "cannot be written as JSON"))?;
    let bytes = outcome.bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let inserted = on!(conn, |raw| sqlx::query(sql::INSERT_OUTCOME)
        .bind(tenant.uuid())
        .bind(outcome.decision.uuid())
        .bind(outcome.task.map(TaskId::uuid))
        .bind(outcome.at.micros())
        .bind(outcome.result.as_str())
        .bind(bytes)
        .bind(outcome.source.as_deref().map(indexed))
        .bind(outcome.destination.as_deref().map(indexed))
        .bind(report.request.to_string())
        .bind(0_i64)
        .bind(body)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(inserted == 1)
}

/// Returns what was reported before.
async fn before(
    conn: &mut Conn,
    tenant: TenantId,
    report: &Report<'_>,
) -> Result<Reported, Failure> {
    let (request, at, body): (String, i64, String) = on!(conn, |raw| sqlx::query_as(sql::OUTCOME)
        .bind(tenant.uuid())
        .bind(report.outcome.decision.uuid())
        .fetch_one(raw)
        .await)?;
    if request != report.request.to_string() {
        return Ok(Reported::Other);
    }
    Ok(Reported::Same {
        outcome: of_body(&body)?,
        revision: revision(at)?,
    })
}

/// Raises the labels and notes what is trusted; returns whether anything of that is new.
async fn raise(
    conn: &mut Conn,
    tenant: TenantId,
    report: &Report<'_>,
    next: Revision,
) -> Result<bool, Failure> {
    let outcome = report.outcome;
    let grown = !outcome.labels.is_empty()
        && raise_labels(
            conn,
            tenant,
            report.chain,
            &outcome.labels,
            outcome.decision,
            next,
        )
        .await?;
    // On every task of the chain: each is asked whether the call is within it.
    let mut trusts = false;
    if !report.trusted.is_empty() {
        for task in report.chain {
            trusts |= add_trusted(conn, tenant, *task, report.trusted, next).await?;
        }
    }
    Ok(grown || trusts)
}

/// Spends what was reserved, or gives it back.
///
/// A call that was not made, or failed, uses nothing but what the outcome itself tells. What was reserved for too long
/// counts as spent and stays so.
async fn settle(
    conn: &mut Conn,
    tenant: TenantId,
    report: &Report<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let Some(charges) = report.charges else {
        return Ok(());
    };
    let made = report.outcome.result == OutcomeResult::Succeeded;
    let told = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    let (cost, bytes) = (told(report.outcome.cost), told(report.outcome.bytes));
    // What the call used in the end, of what it was charged with.
    let used = |[calls, charged_cost, amount, charged_bytes, irreversible]: [i64; 5]| {
        let (cost, bytes) = (cost.unwrap_or(0), bytes.unwrap_or(0));
        if made {
            let (cost, bytes) = (cost.max(charged_cost), bytes.max(charged_bytes));
            [calls, cost, amount, bytes, irreversible]
        } else {
            [0, cost, 0, bytes, 0]
        }
    };
    let reserved = take(conn, tenant, report.outcome.decision).await?;
    let mut budgets: BTreeMap<TaskId, Settled> = BTreeMap::new();
    for (task, released) in &reserved {
        let settled = Settled {
            released: *released,
            spent: used(*released),
        };
        budgets.insert(*task, settled);
    }
    if reserved.is_empty() {
        // It is counted as spent already, in the end or by the replica that had it reserved.
        let before = charges_of(&charges).unwrap_or_default();
        let gives_back = report.escrowed && is_recent(report.made, now, report.hold);
        let used = if made || gives_back {
            used(before)
        } else {
            let [calls, charged_cost, amount, _, irreversible] = before;
            let cost = cost.unwrap_or(0).max(charged_cost);
            [calls, cost, amount, bytes.unwrap_or(0), irreversible]
        };
        let mut spent = used;
        for (spent, before) in spent.iter_mut().zip(before) {
            *spent = spent.saturating_sub(before);
        }
        for task in report.chain {
            let settled = Settled {
                released: [0; 5],
                spent,
            };
            budgets.insert(*task, settled);
        }
    }
    settle_all(conn, tenant, &budgets).await
}

fn of_body(body: &str) -> Result<Outcome, Error> {
    serde_json::from_str(body).map_err(|error| Error::corrupt("outcomes", error.to_string()))
}
