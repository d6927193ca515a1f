//! Budgets: what a task may use, reserved when a call is permitted, and spent or given back when its outcome is known.
//!
//! What must be exact on every replica is consumed here, in the transaction that writes the record of the decision: the
//! budgets of a chain of tasks, all or none of them, and the labels that a permit brings onto it.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    ApprovalState, Budget, DecisionId, Dimension, Label, Revision, Spending, TaskId, TaskState,
    TenantId,
};
use uuid::Uuid;

use crate::approvals::{ApprovalUse, using};
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::shipping::{DecisionRow, SharedRecord, insert_shared};
use crate::store::Store;
use crate::tasks;

pub(crate) mod escrow;
mod row;
pub(crate) mod settling;

pub use escrow::Escrow;

use row::{BudgetRow, Row};

/// The most that a budget may be, or a call may charge, in any dimension: every whole number up to it is exact in JSON.
pub const MOST_CHARGED: u64 = (1 << 53) - 1;
/// How often a call that met a broken connection is made: what was consumed is not consumed again.
const TRIES: usize = 3;

/// What a permitted call consumes, and the record of its decision.
#[derive(Debug, Clone, Copy)]
pub struct Consumption<'a> {
    /// What it uses of an approval, where it needs one.
    pub approval: Option<ApprovalUse<'a>>,
    /// The task of the question and those above it, nearest first; nothing outside a task, where an approval is used.
    pub chain: &'a [TaskId],
    /// How much of every budget in the chain it uses.
    pub charges: Spending,
    /// How long what is reserved waits for an outcome; then it counts as spent.
    pub hold: Duration,
    /// The labels that it brings onto every task of the chain.
    pub labels: &'a BTreeSet<Label>,
    /// The record, which is written with it.
    pub record: &'a SharedRecord,
}

/// What came of a [`Consumption`]; in every case but the first nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumed {
    /// It is consumed and recorded.
    Done {
        /// The revision by which every task has the labels, where any are to be raised: whoever decides by an older one
        /// may not know of them, be they new or not.
        revision: Option<Revision>,
    },
    /// A budget has not enough left.
    Exhausted {
        /// Whose budget.
        task: TaskId,
        /// In which dimension.
        dimension: Dimension,
    },
    /// A task of the chain does not work.
    Ended {
        /// Which one.
        task: TaskId,
        /// How it stands.
        state: TaskState,
    },
    /// The approval cannot be used.
    Approval(ApprovalState),
    /// The approval was used under this name, by this decision.
    Named(DecisionId),
}

/// A budget and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredBudget {
    /// How much may be used.
    pub allowed: Budget,
    /// How much is reserved for calls whose outcome is not known.
    pub reserved: Spending,
    /// How much was used.
    pub spent: Spending,
}

/// One step of a [`Consumption`], as the database did it.
pub(crate) enum Step {
    Done,
    /// The decision is recorded already: an earlier try of the same.
    Again,
    Exhausted(TaskId, Dimension),
    Ended(TaskId, TaskState),
    Approval(ApprovalState),
    Named(DecisionId),
}

pub(crate) mod sql {
    statements! {
        /// Opens the budget of a task.
        OPEN_BUDGET = "INSERT INTO task_budgets (tenant, task, calls_allowed, cost_allowed, amount_allowed, \
            bytes_allowed, irreversible_allowed) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        /// Finds the budget of a task.
        BUDGET = "SELECT calls_allowed, cost_allowed, amount_allowed, bytes_allowed, irreversible_allowed, \
            calls_reserved, cost_reserved, amount_reserved, bytes_reserved, irreversible_reserved, \
            calls_spent, cost_spent, amount_spent, bytes_spent, irreversible_spent \
            FROM task_budgets WHERE tenant = $1 AND task = $2";
        /// Hands what a task has reserved and spent on to the one that replaces it.
        HAND_ON_BUDGET = "UPDATE task_budgets AS b SET \
            calls_spent = b.calls_spent + o.calls_reserved + o.calls_spent, \
            cost_spent = b.cost_spent + o.cost_reserved + o.cost_spent, \
            amount_spent = b.amount_spent + o.amount_reserved + o.amount_spent, \
            bytes_spent = b.bytes_spent + o.bytes_reserved + o.bytes_spent, \
            irreversible_spent = b.irreversible_spent + o.irreversible_reserved + o.irreversible_spent \
            FROM task_budgets AS o WHERE b.tenant = $1 AND b.task = $2 AND o.tenant = $1 AND o.task = $3";
        /// Reserves in one budget.
        RESERVE = "UPDATE task_budgets SET calls_reserved = calls_reserved + $3, cost_reserved = cost_reserved + $4, \
            amount_reserved = amount_reserved + $5, bytes_reserved = bytes_reserved + $6, \
            irreversible_reserved = irreversible_reserved + $7 WHERE tenant = $1 AND task = $2";
        /// Notes what is reserved.
        INSERT_RESERVATION = "INSERT INTO reservations (tenant, decision, task, calls, cost, amount, bytes, irreversible, \
            expires_at, replica, kind) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        /// Finds how a task stands by itself.
        TASK_STANDS = "SELECT state, expires_at FROM tasks WHERE tenant = $1 AND id = $2";
        /// Tells whether a decision is recorded.
        IS_RECORDED = "SELECT count(*) FROM decisions WHERE tenant = $1 AND id = $2";
        /// Tells whether there is a tenant that was not deleted.
        IS_TENANT = "SELECT count(*) FROM tenants WHERE id = $1 AND deleted_at IS NULL";
    }
}

/// Opens the budget of a task, in the transaction that opens the task; one that limits nothing is not kept.
///
/// # Errors
///
/// [`Error::Invalid`] for a member above [`MOST_CHARGED`].
pub(crate) async fn open_budget(
    conn: &mut Conn,
    tenant: TenantId,
    task: TaskId,
    budget: &Budget,
) -> Result<(), Failure> {
    if budget.is_unlimited() {
        return Ok(());
    }
    let allowed = |member, value: Option<u64>| {
        let column = value.map(|value| charged(value).ok_or(value)).transpose();
        column.map_err(|value| {
            Error::invalid(member, format!("is {value}, more than {MOST_CHARGED}"))
        })
    };
    on!(conn, |raw| sqlx::query(sql::OPEN_BUDGET)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .bind(allowed("budget.calls", budget.calls)?)
        .bind(allowed("budget.cost", budget.cost)?)
        .bind(allowed("budget.amount", budget.amount)?)
        .bind(allowed("budget.bytes", budget.bytes)?)
        .bind(allowed("budget.irreversible", budget.irreversible)?)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Hands what a task has used on to the one that replaces it; what is reserved counts as spent there.
pub(crate) async fn hand_on_budget(
    conn: &mut Conn,
    tenant: TenantId,
    from: TaskId,
    to: TaskId,
) -> Result<(), Failure> {
    on!(conn, |raw| sqlx::query(sql::HAND_ON_BUDGET)
        .bind(tenant.uuid())
        .bind(to.uuid())
        .bind(from.uuid())
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

// === impl Store ===

impl Store {
    /// Returns the budget of a task and what was used of it; `None` where it limits nothing.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn budget(
        &self,
        tenant: TenantId,
        task: TaskId,
    ) -> Result<Option<StoredBudget>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a budget", |raw| sqlx::query_as(
            sql::BUDGET
        )
        .bind(tenant.uuid())
        .bind(task.uuid())
        .fetch_optional(raw))?;
        Ok(row.map(|row| BudgetRow::of(row).stored()))
    }

    /// Consumes what a permitted call uses and records its decision, all of it or nothing.
    ///
    /// Every task of the chain must work, as the database has it, and have enough left. Tried again with the same record,
    /// it consumes nothing again. On Postgres, and where no label is raised, this is one round trip.
    ///
    /// # Errors
    ///
    /// Those of the database; then it may have been consumed and recorded, and must not be answered.
    pub async fn consume(
        &self,
        tenant: TenantId,
        consumption: &Consumption<'_>,
    ) -> Result<Consumed, Error> {
        let nearest = match consumption.chain.first().copied() {
            Some(nearest) => nearest,
            None if consumption.approval.is_some() => TaskId::NIL,
            None => return Err(Error::invalid("chain", "is empty")),
        };
        let charges = match charges_of(&consumption.charges) {
            Ok(charges) => charges,
            Err(dimension) => {
                return Ok(Consumed::Exhausted {
                    task: nearest,
                    dimension,
                });
            }
        };
        self.within("consume a budget", async {
            let mut tries = 1;
            loop {
                let consumed = if consumption.labels.is_empty() {
                    let first = tries == 1;
                    self.consume_budgets(tenant, consumption, charges, first)
                        .await
                } else {
                    self.consume_with_labels(tenant, consumption, charges).await
                };
                match consumed {
                    Err(failure) if failure.is_outage() && tries < TRIES => tries += 1,
                    done => return done,
                }
            }
        })
        .await
    }

    async fn consume_budgets(
        &self,
        tenant: TenantId,
        consumption: &Consumption<'_>,
        charges: [i64; 5],
        first: bool,
    ) -> Result<Consumed, Failure> {
        if self.kind() == "postgres" {
            // The function is a transaction of its own.
            let mut conn = if first {
                self.connect_at_once().await?
            } else {
                self.connect().await?
            };
            let step = dialect::consuming::consume(&mut conn, tenant, consumption, charges).await?;
            conn.release();
            return Ok(step.consumed(None));
        }
        let mut conn = self.begin(tenant).await?;
        let step = consume_by_statements(self, &mut conn, tenant, consumption, charges).await?;
        match step {
            Step::Done => conn.commit().await?,
            _ => conn.rollback().await?,
        }
        Ok(step.consumed(None))
    }

    /// Consumes, and raises labels under the tenant's next revision where a task does not have all of them.
    async fn consume_with_labels(
        &self,
        tenant: TenantId,
        consumption: &Consumption<'_>,
        charges: [i64; 5],
    ) -> Result<Consumed, Failure> {
        let (mut conn, head) = match self.begin_aside(tenant).await {
            Err(Failure::Ours(Error::NotFound { .. })) => {
                let task = consumption.chain.first().copied().unwrap_or(TaskId::NIL);
                return Ok(Step::Ended(task, TaskState::Unknown).consumed(None));
            }
            begun => begun?,
        };
        // The tasks first, which whoever raises labels locks before any budget.
        let next = Revision::new(head.number().saturating_add(1));
        let (chain, labels) = (consumption.chain, consumption.labels);
        let decision = consumption.record.head.id;
        let raised =
            tasks::labels::raise_labels(&mut conn, tenant, chain, labels, decision, next).await;
        let grown = match raised {
            // It has touched more kinds of things than a task remembers: it touches no other.
            Err(Failure::Ours(Error::Unfit { .. })) => {
                conn.rollback().await?;
                let task = chain.first().copied().unwrap_or(TaskId::NIL);
                return Ok(Step::Exhausted(task, Dimension::DataClasses).consumed(None));
            }
            raised => raised?,
        };
        let step = if self.kind() == "postgres" {
            dialect::consuming::consume(&mut conn, tenant, consumption, charges).await?
        } else {
            consume_by_statements(self, &mut conn, tenant, consumption, charges).await?
        };
        match step {
            Step::Done => {
                if grown {
                    self.move_on(&mut conn, tenant).await?;
                }
                conn.commit().await?;
                // Where all of them were there, who raised them may be waiting still.
                Ok(step.consumed(Some(if grown { next } else { head })))
            }
            // Whatever the earlier try raised is in force by the newest revision.
            Step::Again => {
                conn.rollback().await?;
                Ok(step.consumed(Some(head)))
            }
            Step::Exhausted(..) | Step::Ended(..) | Step::Approval(_) | Step::Named(_) => {
                conn.rollback().await?;
                Ok(step.consumed(None))
            }
        }
    }
}

/// Does what the function `remit_consume` of Postgres does, inside a transaction, one statement after the other.
///
/// For SQLite, which has one writer: nothing that is read here changes before the transaction ends.
async fn consume_by_statements(
    store: &Store,
    conn: &mut Conn,
    tenant: TenantId,
    consumption: &Consumption<'_>,
    charges: [i64; 5],
) -> Result<Step, Failure> {
    let record = DecisionRow::of_shared(consumption.record, consumption.chain.first().copied())?;
    let decision = record.head.id.uuid();
    if count(conn, sql::IS_RECORDED, &[tenant.uuid(), decision]).await? > 0 {
        return Ok(Step::Again);
    }
    let nearest = consumption.chain.first().copied().unwrap_or(TaskId::NIL);
    if count(conn, sql::IS_TENANT, &[tenant.uuid()]).await? == 0 {
        return Ok(Step::Ended(nearest, TaskState::Unknown));
    }
    let now = dialect::time(conn, store.clock()).await?.micros();
    if let Some(wanted) = &consumption.approval
        && let Some(refused) = using::refused(conn, tenant, wanted, now).await?
    {
        return Ok(refused);
    }
    for task in consumption.chain {
        let stands: Option<(String, i64)> = on!(conn, |raw| sqlx::query_as(sql::TASK_STANDS)
            .bind(tenant.uuid())
            .bind(task.uuid())
            .fetch_optional(raw)
            .await)?;
        match stands {
            Some((state, expires_at)) if state == "active" && expires_at > now => {}
            Some((state, _)) if state == "active" => {
                return Ok(Step::Ended(*task, TaskState::Expired));
            }
            Some((state, _)) => return Ok(Step::Ended(*task, state_of(&state)?)),
            None => return Ok(Step::Ended(*task, TaskState::Unknown)),
        }
    }
    let mut limited = Vec::new();
    for task in consumption.chain {
        if let Some(row) = budget_row(conn, tenant, *task).await? {
            if let Some(dimension) = row.exhausted_by(charges) {
                return Ok(Step::Exhausted(*task, dimension));
            }
            limited.push(*task);
        }
    }
    if let Some(wanted) = &consumption.approval {
        using::take(conn, tenant, wanted, (decision, now)).await?;
    }
    let expires_at = now.saturating_add(micros(consumption.hold));
    for task in limited {
        reserve(conn, tenant, task, charges).await?;
        let held = Held {
            id: decision,
            task,
            charges,
            expires_at,
            replica: record.replica,
            kind: "call",
        };
        hold(conn, tenant, &held).await?;
    }
    insert_shared(conn, record).await?;
    Ok(Step::Done)
}

/// One row of `reservations`.
pub(crate) struct Held<'a> {
    pub(crate) id: Uuid,
    pub(crate) task: TaskId,
    pub(crate) charges: [i64; 5],
    pub(crate) expires_at: i64,
    pub(crate) replica: Uuid,
    pub(crate) kind: &'a str,
}

/// Notes what is reserved.
pub(crate) async fn hold(
    conn: &mut Conn,
    tenant: TenantId,
    held: &Held<'_>,
) -> Result<(), Failure> {
    let [calls, cost, amount, bytes, irreversible] = held.charges;
    on!(conn, |raw| sqlx::query(sql::INSERT_RESERVATION)
        .bind(tenant.uuid())
        .bind(held.id)
        .bind(held.task.uuid())
        .bind(calls)
        .bind(cost)
        .bind(amount)
        .bind(bytes)
        .bind(irreversible)
        .bind(held.expires_at)
        .bind(held.replica)
        .bind(held.kind)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Adds to what is reserved of one budget, or takes from it.
pub(crate) async fn reserve(
    conn: &mut Conn,
    tenant: TenantId,
    task: TaskId,
    charges: [i64; 5],
) -> Result<(), Failure> {
    let [calls, cost, amount, bytes, irreversible] = charges;
    on!(conn, |raw| sqlx::query(sql::RESERVE)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .bind(calls)
        .bind(cost)
        .bind(amount)
        .bind(bytes)
        .bind(irreversible)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

async fn budget_row(
    conn: &mut Conn,
    tenant: TenantId,
    task: TaskId,
) -> Result<Option<BudgetRow>, Failure> {
    let row: Option<Row> = on!(conn, |raw| sqlx::query_as(sql::BUDGET)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .fetch_optional(raw)
        .await)?;
    Ok(row.map(BudgetRow::of))
}

async fn count(conn: &mut Conn, text: &'static str, ids: &[Uuid]) -> Result<i64, Failure> {
    Ok(on!(conn, |raw| {
        let query = sqlx::query_scalar(text);
        let query = ids.iter().fold(query, |query, id| query.bind(*id));
        query.fetch_one(raw).await
    })?)
}

/// Writes what is used for its columns, in their order, or names the dimension that no budget has so much of.
pub(crate) fn charges_of(spending: &Spending) -> Result<[i64; 5], Dimension> {
    Ok([
        charged(spending.calls).ok_or(Dimension::Calls)?,
        charged(spending.cost).ok_or(Dimension::Cost)?,
        charged(spending.amount).ok_or(Dimension::Amount)?,
        charged(spending.bytes).ok_or(Dimension::Bytes)?,
        charged(spending.irreversible).ok_or(Dimension::Irreversible)?,
    ])
}

fn charged(value: u64) -> Option<i64> {
    let value = (value <= MOST_CHARGED).then_some(value)?;
    i64::try_from(value).ok()
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Reads the state of a task from its column.
pub(crate) fn state_of(text: &str) -> Result<TaskState, Error> {
    match text {
        "active" => Ok(TaskState::Active),
        "suspended" => Ok(TaskState::Suspended),
        "completed" => Ok(TaskState::Completed),
        "revoked" => Ok(TaskState::Revoked),
        "expired" => Ok(TaskState::Expired),
        "unknown" => Ok(TaskState::Unknown),
        other => Err(Error::corrupt("tasks", format!("the state is `{other}`"))),
    }
}

/// Reads the dimension of a budget as the function of Postgres writes it.
pub(crate) fn dimension_of(text: &str) -> Result<Dimension, Error> {
    match text {
        "calls" => Ok(Dimension::Calls),
        "cost" => Ok(Dimension::Cost),
        "amount" => Ok(Dimension::Amount),
        "bytes" => Ok(Dimension::Bytes),
        "irreversible" => Ok(Dimension::Irreversible),
        other => Err(Error::corrupt(
            "task_budgets",
            format!("a dimension is `{other}`"),
        )),
    }
}

// === impl Step ===

impl Step {
    fn consumed(&self, revision: Option<Revision>) -> Consumed {
        match *self {
            Self::Done | Self::Again => Consumed::Done { revision },
            Self::Exhausted(task, dimension) => Consumed::Exhausted { task, dimension },
            Self::Ended(task, state) => Consumed::Ended { task, state },
            Self::Approval(state) => Consumed::Approval(state),
            Self::Named(decision) => Consumed::Named(decision),
        }
    }
}
