//! Escrow: a part of the budgets of a busy chain, reserved by one replica at once and spent without asking again.
//!
//! What is in escrow is reserved like a call, under an id of its own, so that no replica can permit beyond what is allowed.
//! Of a replica that is gone, all of it counts as spent in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use remit_core::{ReplicaId, Spending, TaskId, TaskState, TenantId};
use uuid::Uuid;

use super::row::{BudgetRow, Row};
use super::settling::{Settled, settle_all, take_rows};
use super::{Held, charges_of, hold, micros, reserve, state_of};
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::store::Store;

/// Which part of what is left is taken at most: what others may need is left to them.
const PART: i64 = 16;

/// A part of the budgets of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escrow {
    /// Its id.
    pub id: Uuid,
    /// How much is left of it in each dimension (calls, cost, amount, bytes, irreversible); `None` where no budget of the
    /// chain limits that.
    pub left: [Option<i64>; 5],
}

pub(crate) mod sql {
    statements! {
        /// Locks a budget and reads it.
        LOCK_BUDGET = "UPDATE task_budgets SET calls_reserved = calls_reserved WHERE tenant = $1 AND task = $2 \
            RETURNING calls_allowed, cost_allowed, amount_allowed, bytes_allowed, irreversible_allowed, \
            calls_reserved, cost_reserved, amount_reserved, bytes_reserved, irreversible_reserved, \
            calls_spent, cost_spent, amount_spent, bytes_spent, irreversible_spent";
    }
}

// === impl Store ===

impl Store {
    /// Takes a part of what is left of the budgets of a chain, enough for `least` and for many calls like it.
    ///
    /// `None` where a task does not work, where less is left than would be worth it, and where bytes are limited: how
    /// many a call moves is known only afterwards, by the budget itself.
    ///
    /// # Errors
    ///
    /// Those of the database; then a part may be reserved that nobody spends, and counts as spent in the end.
    pub async fn take_escrow(
        &self,
        tenant: TenantId,
        chain: &[TaskId],
        least: &Spending,
        (replica, reserved): (ReplicaId, Duration),
    ) -> Result<Option<Escrow>, Error> {
        let Ok(least) = charges_of(least) else {
            return Ok(None);
        };
        self.within("reserve a part of a budget", async {
            let mut conn = self.begin(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?.micros();
            let mut tasks = chain.to_vec();
            tasks.sort_unstable();
            let mut limited = Vec::new();
            let mut left = [None; 5];
            for task in tasks {
                let row: Option<Row> = on!(conn, |raw| sqlx::query_as(sql::LOCK_BUDGET)
                    .bind(tenant.uuid())
                    .bind(task.uuid())
                    .fetch_optional(raw)
                    .await)?;
                if let Some(row) = row.map(BudgetRow::of) {
                    limited.push(task);
                    left = least_of(left, row.left());
                }
            }
            // Only now: what ends a task, or puts another in its place, may have held its budget until here.
            let works = all_work(&mut conn, tenant, chain, now).await?;
            let part = part_of(left, least).filter(|_| works && !limited.is_empty());
            let Some(part) = part else {
                conn.rollback().await?;
                return Ok(None);
            };
            let amounts = part.map(Option::unwrap_or_default);
            let id = self.clock().id();
            for task in limited {
                reserve(&mut conn, tenant, task, amounts).await?;
                let held = Held {
                    id,
                    task,
                    charges: amounts,
                    expires_at: now.saturating_add(micros(reserved)),
                    replica: replica.uuid(),
                    kind: "escrow",
                };
                hold(&mut conn, tenant, &held).await?;
            }
            conn.commit().await?;
            Ok(Some(Escrow { id, left: part }))
        })
        .await
    }

    /// Ends an escrow: what was used of it is spent, the rest is nobody's again. Once: a second time changes nothing.
    ///
    /// # Errors
    ///
    /// Those of the database; then it may have ended or not, and may be ended again.
    pub async fn end_escrow(
        &self,
        tenant: TenantId,
        id: Uuid,
        used: [i64; 5],
    ) -> Result<(), Error> {
        self.within("give a part of a budget back", async {
            let mut conn = self.begin(tenant).await?;
            let reserved = take_rows(&mut conn, tenant, id).await?;
            let budgets: BTreeMap<TaskId, Settled> = reserved
                .into_iter()
                .map(|(task, released)| {
                    (
                        task,
                        Settled {
                            released,
                            spent: used,
                        },
                    )
                })
                .collect();
            settle_all(&mut conn, tenant, &budgets).await?;
            conn.commit().await
        })
        .await
    }
}

/// Whether every task of a chain works, as the database has it.
async fn all_work(
    conn: &mut Conn,
    tenant: TenantId,
    chain: &[TaskId],
    now: i64,
) -> Result<bool, Failure> {
    for task in chain {
        let stands: Option<(String, i64)> =
            on!(conn, |raw| sqlx::query_as(super::sql::TASK_STANDS)
                .bind(tenant.uuid())
                .bind(task.uuid())
                .fetch_optional(raw)
                .await)?;
        let works = match stands {
            Some((state, expires_at)) => state_of(&state)? == TaskState::Active && expires_at > now,
            None => false,
        };
        if !works {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The less of two in each dimension.
fn least_of(one: [Option<i64>; 5], other: [Option<i64>; 5]) -> [Option<i64>; 5] {
    let mut least = one;
    for (least, other) in least.iter_mut().zip(other) {
        *least = match (*least, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    least
}

/// What is taken of what is left; `None` where that is not enough for as many calls as the part is small.
fn part_of(left: [Option<i64>; 5], least: [i64; 5]) -> Option<[Option<i64>; 5]> {
    let [_, _, _, bytes, _] = left;
    if bytes.is_some() {
        return None;
    }
    let mut part = [None; 5];
    for ((part, left), least) in part.iter_mut().zip(left).zip(least) {
        if let Some(left) = left {
            let some = left / PART;
            if some < least.saturating_mul(2) {
                return None;
            }
            *part = Some(some);
        }
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_taken_only_where_it_is_worth_it() {
        let calls = |left: i64| [Some(left), None, None, None, None];
        assert_eq!(part_of(calls(320), [1, 9, 9, 0, 0]), Some(calls(20)));
        assert_eq!(part_of(calls(32), [1, 0, 0, 0, 0]), Some(calls(2)));
        assert_eq!(part_of(calls(31), [1, 0, 0, 0, 0]), None);
        assert_eq!(part_of(calls(-5), [1, 0, 0, 0, 0]), None);
        let bytes = [Some(320), None, None, Some(1_000_000), None];
        assert_eq!(part_of(bytes, [1, 0, 0, 0, 0]), None);
        let both = least_of(calls(7), [Some(9), Some(3), None, None, None]);
        assert_eq!(both, [Some(7), Some(3), None, None, None]);
    }
}
