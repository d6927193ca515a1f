//! Settling: what was reserved is spent or given back once, by an outcome or because its time is over.

use std::collections::BTreeMap;

use remit_core::{DecisionId, TaskId, TenantId};
use uuid::Uuid;

use super::micros;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::reach::Across;
use crate::store::Store;

/// How many reservations are ended in one transaction.
const BATCH: i64 = 500;

/// What a budget is charged with, each in the order calls, cost, amount, bytes, irreversible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// How much is no longer reserved.
    pub(crate) released: [i64; 5],
    /// How much more is spent; below zero for what is given back.
    pub(crate) spent: [i64; 5],
}

type Row = (Uuid, i64, i64, i64, i64, i64);

pub(crate) mod sql {
    statements! {
        /// Takes away what one call has reserved, so that nobody settles it a second time.
        TAKE_RESERVATIONS = "DELETE FROM reservations WHERE tenant = $1 AND decision = $2 \
            RETURNING task, calls, cost, amount, bytes, irreversible";
        /// Takes away some of what was reserved for too long.
        TAKE_EXPIRED = "DELETE FROM reservations WHERE tenant = $1 AND expires_at <= $2 AND (decision, task) IN \
            (SELECT r.decision, r.task FROM reservations AS r WHERE r.tenant = $1 AND r.expires_at <= $2 \
            ORDER BY r.expires_at LIMIT $3) RETURNING task, calls, cost, amount, bytes, irreversible";
        /// Lists the tenants in which something was reserved for too long.
        EXPIRED_TENANTS = "SELECT DISTINCT tenant FROM reservations WHERE expires_at <= $1";
        /// Moves one budget. What is spent stops counting far above every budget, where it would not fit its column.
        SETTLE = "UPDATE task_budgets SET \
            calls_reserved = calls_reserved - $3, cost_reserved = cost_reserved - $4, \
            amount_reserved = amount_reserved - $5, bytes_reserved = bytes_reserved - $6, \
            irreversible_reserved = irreversible_reserved - $7, \
            calls_spent = CASE WHEN calls_spent > 4611686018427387904 THEN calls_spent ELSE calls_spent + $8 END, \
            cost_spent = CASE WHEN cost_spent > 4611686018427387904 THEN cost_spent ELSE cost_spent + $9 END, \
            amount_spent = CASE WHEN amount_spent > 4611686018427387904 THEN amount_spent ELSE amount_spent + $10 END, \
            bytes_spent = CASE WHEN bytes_spent > 4611686018427387904 THEN bytes_spent ELSE bytes_spent + $11 END, \
            irreversible_spent = CASE WHEN irreversible_spent > 4611686018427387904 THEN irreversible_spent \
            ELSE irreversible_spent + $12 END WHERE tenant = $1 AND task = $2";
    }
}

// === impl Store ===

impl Store {
    /// Counts as spent what was reserved for calls of which no outcome was told in time: they may have been made.
    ///
    /// Several replicas may do this at once; each reservation is ended by one of them. Returns how many ended here.
    ///
    /// # Errors
    ///
    /// Those of the database; what was ended by then stays so.
    pub async fn expire_reservations(&self) -> Result<u64, Error> {
        let tenants: Vec<Uuid> = self
            .within("find what was reserved for too long", async {
                let mut conn = self.connect_to_read(Across::Reservations).await?;
                let now = dialect::time(&mut conn, self.clock()).await?;
                let found = on!(conn, |raw| sqlx::query_scalar(sql::EXPIRED_TENANTS)
                    .bind(now.micros())
                    .fetch_all(raw)
                    .await)?;
                conn.end().await?;
                Ok(found)
            })
            .await?;
        let mut ended = 0;
        for tenant in tenants {
            let tenant = TenantId::from_uuid(tenant);
            loop {
                let batch = self.expire_some(tenant).await?;
                ended += batch;
                if batch == 0 {
                    break;
                }
            }
        }
        Ok(ended)
    }

    async fn expire_some(&self, tenant: TenantId) -> Result<u64, Error> {
        self.within("end what was reserved for too long", async {
            let mut conn = self.begin(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let rows: Vec<Row> = on!(conn, |raw| sqlx::query_as(sql::TAKE_EXPIRED)
                .bind(tenant.uuid())
                .bind(now.micros())
                .bind(BATCH)
                .fetch_all(raw)
                .await)?;
            let ended = rows.len() as u64;
            let mut budgets: BTreeMap<TaskId, Settled> = BTreeMap::new();
            for (task, charges) in rows.into_iter().map(read) {
                let settled = budgets.entry(task).or_default();
                settled.released = sum(settled.released, charges);
                settled.spent = settled.released;
            }
            settle_all(&mut conn, tenant, &budgets).await?;
            conn.commit().await?;
            Ok(ended)
        })
        .await
    }
}

/// Takes away what one call has reserved and returns it, by task; nothing where that was settled or never reserved.
pub(crate) async fn take(
    conn: &mut Conn,
    tenant: TenantId,
    decision: DecisionId,
) -> Result<BTreeMap<TaskId, [i64; 5]>, Failure> {
    take_rows(conn, tenant, decision.uuid()).await
}

/// Takes away what is reserved under an id.
pub(super) async fn take_rows(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
) -> Result<BTreeMap<TaskId, [i64; 5]>, Failure> {
    let rows: Vec<Row> = on!(conn, |raw| sqlx::query_as(sql::TAKE_RESERVATIONS)
        .bind(tenant.uuid())
        .bind(id)
        .fetch_all(raw)
        .await)?;
    Ok(rows.into_iter().map(read).collect())
}

/// Moves budgets, in the order in which everybody locks them.
pub(crate) async fn settle_all(
    conn: &mut Conn,
    tenant: TenantId,
    budgets: &BTreeMap<TaskId, Settled>,
) -> Result<(), Failure> {
    for (task, settled) in budgets {
        on!(conn, |raw| {
            let query = sqlx::query(sql::SETTLE)
                .bind(tenant.uuid())
                .bind(task.uuid());
            let numbers = settled.released.iter().chain(&settled.spent);
            let query = numbers.fold(query, |query, number| query.bind(*number));
            query.execute(raw).await.map(drop)
        })?;
    }
    Ok(())
}

fn read((task, calls, cost, amount, bytes, irreversible): Row) -> (TaskId, [i64; 5]) {
    let charges = [calls, cost, amount, bytes, irreversible];
    (TaskId::from_uuid(task), charges)
}

fn sum(one: [i64; 5], other: [i64; 5]) -> [i64; 5] {
    let mut sum = one;
    for (into, more) in sum.iter_mut().zip(other) {
        *into = into.saturating_add(more);
    }
    sum
}

/// How long ago something may have been made that is still given back.
pub(crate) fn is_recent(
    made: remit_core::Timestamp,
    now: remit_core::Timestamp,
    hold: std::time::Duration,
) -> bool {
    now.micros().saturating_sub(made.micros()) < micros(hold)
}
