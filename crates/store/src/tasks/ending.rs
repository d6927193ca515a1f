//! How tasks end, and stop for a while.
//!
//! What ends a task ends everything below it: at once, since whoever decides looks at the tasks above, and row by row as
//! far as one transaction reaches; `end_due` does the rest.

use std::time::Duration;

use remit_core::{Revision, TaskId, TaskState, TenantId, Timestamp};
use serde_json::json;

use super::state_text;
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect::{self, Rows};
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::number;
use crate::versions::{MESSAGE_BYTES, check_line};

/// How long an ended task is told from one that never was.
const REMEMBERED: Duration = Duration::from_hours(24);

/// What ends a task.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// `Completed` or `Revoked`.
    pub state: TaskState,
    /// Who ends it.
    pub by: &'a str,
    /// Why: one line.
    pub why: Option<&'a str>,
}

/// What came of looking for tasks whose time is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// How many ended.
    pub ended: u64,
    /// How many were forgotten, a day after they ended.
    pub forgotten: u64,
    /// The revision that it brought, where there was any.
    pub revision: Option<Revision>,
}

pub(crate) mod sql {
    statements! {
        /// Ends a task that is not over, by its time either.
        END_TASK = "UPDATE tasks SET state = $3, revision = $4, ended_at = $5, ended_by = $6, ended_why = $7 \
            WHERE tenant = $1 AND id = $2 AND ended_at IS NULL AND expires_at > $5";
        /// Ends what is below a task and not over, ten thousand at a time.
        END_BELOW = "WITH RECURSIVE below (id) AS ( \
            SELECT t.id FROM tasks AS t WHERE t.tenant = $1 AND t.parent = $2 AND t.ended_at IS NULL \
            UNION ALL SELECT t.id FROM tasks AS t JOIN below AS b ON t.parent = b.id \
            WHERE t.tenant = $1 AND t.ended_at IS NULL) UPDATE tasks SET state = $3, revision = $4, ended_at = $5, ended_by = $6, ended_why = $7 \
            WHERE tenant = $1 AND ended_at IS NULL AND id IN (SELECT b.id FROM below AS b JOIN tasks AS t \
            ON t.tenant = $1 AND t.id = b.id WHERE t.ended_at IS NULL LIMIT 10000)";
        /// Stops a task, or lets it go on.
        TURN_TASK = "UPDATE tasks SET state = $3, revision = $4 WHERE tenant = $1 AND id = $2 AND state = $5 \
            AND expires_at > $6";
        /// Lets a task that goes on, and what is below it, be idle from now on.
        WAKE_TASK = "WITH RECURSIVE woken (id) AS ( \
            SELECT t.id FROM tasks AS t WHERE t.tenant = $1 AND t.id = $2 \
            UNION ALL SELECT t.id FROM tasks AS t JOIN woken AS w ON t.parent = w.id \
            WHERE t.tenant = $1 AND t.ended_at IS NULL) \
            UPDATE tasks SET last_active = $3 WHERE tenant = $1 AND id IN (SELECT w.id FROM woken AS w)";
        /// Finds how a task stands by itself and by the time.
        TASK_STATE = "SELECT CASE WHEN ended_at IS NULL AND expires_at <= $3 THEN 'expired' ELSE state END \
            FROM tasks WHERE tenant = $1 AND id = $2";
        /// Tells whether a call of a task, or a part of its budget that a replica holds, waits for its end.
        IS_RESERVED = "SELECT count(*) FROM (SELECT 1 FROM reservations WHERE tenant = $1 AND task = $2 \
            AND expires_at > $3 LIMIT 1) AS one";
        /// Tells whether there is a task to end or to forget.
        ANY_DUE = "WITH RECURSIVE stopped (id) AS ( \
            SELECT s.id FROM tasks AS s WHERE s.tenant = $1 AND s.state = 'suspended' AND s.ended_at IS NULL \
            UNION SELECT c.id FROM tasks AS c JOIN stopped AS s ON c.parent = s.id \
            WHERE c.tenant = $1 AND c.ended_at IS NULL) \
            SELECT (SELECT count(*) FROM (SELECT 1 FROM tasks WHERE tenant = $1 AND ended_at IS NULL \
            AND (expires_at <= $2 OR (state = 'active' AND last_active + idle_timeout <= $3 \
            AND id NOT IN (SELECT s.id FROM stopped AS s))) LIMIT 1) AS one) \
            + (SELECT count(*) FROM (SELECT 1 FROM tasks AS c JOIN tasks AS p ON p.tenant = c.tenant AND p.id = c.parent \
            WHERE c.tenant = $1 AND c.ended_at IS NULL AND p.ended_at IS NOT NULL LIMIT 1) AS two) \
            + (SELECT count(*) FROM (SELECT 1 FROM tasks WHERE tenant = $1 AND ended_at <= $4 \
            AND forgotten_at IS NULL LIMIT 1) AS three)";
        /// Ends the tasks whose time is over, or in which nothing was asked for too long; what stands below one that is
        /// suspended is not idle.
        END_DUE = "WITH RECURSIVE stopped (id) AS ( \
            SELECT s.id FROM tasks AS s WHERE s.tenant = $1 AND s.state = 'suspended' AND s.ended_at IS NULL \
            UNION SELECT c.id FROM tasks AS c JOIN stopped AS s ON c.parent = s.id \
            WHERE c.tenant = $1 AND c.ended_at IS NULL) \
            UPDATE tasks SET state = 'expired', revision = $2, ended_at = $3, ended_why = CASE \
            WHEN expires_at <= $3 THEN 'its time was over' ELSE 'nothing was asked in it' END \
            WHERE tenant = $1 AND id IN (SELECT t.id FROM tasks AS t WHERE t.tenant = $1 AND t.ended_at IS NULL \
            AND (t.expires_at <= $3 OR (t.state = 'active' AND t.last_active + t.idle_timeout <= $4 \
            AND t.id NOT IN (SELECT s.id FROM stopped AS s))) LIMIT 10000)";
        /// Ends the tasks that are not over and stand right below one that is.
        END_ORPHANS = "UPDATE tasks SET revision = $2, ended_at = $3, ended_why = 'the task above it ended', \
            state = (SELECT p.state FROM tasks AS p WHERE p.tenant = $1 AND p.id = tasks.parent) \
            WHERE tenant = $1 AND id IN (SELECT c.id FROM tasks AS c JOIN tasks AS p ON p.tenant = c.tenant \
            AND p.id = c.parent WHERE c.tenant = $1 AND c.ended_at IS NULL AND p.ended_at IS NOT NULL LIMIT 10000)";
        /// Forgets the tasks that ended long ago.
        FORGET_TASKS = "UPDATE tasks SET revision = $2, forgotten_at = $3 WHERE tenant = $1 AND id IN ( \
            SELECT t.id FROM tasks AS t WHERE t.tenant = $1 AND t.ended_at <= $4 AND t.forgotten_at IS NULL LIMIT 10000)";
        /// Notes that something was asked in tasks.
        TOUCH_TASKS = "UPDATE tasks SET last_active = $3 WHERE tenant = $1 AND state = 'active' AND last_active < $3 \
            AND id IN (SELECT unhex(made.value ->> 'id') FROM json_each($2) AS made)";
    }
}

// === impl Store ===

impl Store {
    /// Ends a task and everything below it, for good, at the revision that is returned.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Unfit`] when it is over already; [`Error::Withdrawn`].
    pub async fn end_task(
        &self,
        tenant: TenantId,
        id: TaskId,
        ending: Ending<'_>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        check_line("reason", ending.why, MESSAGE_BYTES)?;
        self.within("end a task", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            if let Err(error) = end(&mut conn, tenant, id, ending, next, now).await? {
                conn.rollback().await?;
                return Err(error.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Suspends a task, or lets one go on that is suspended, at the revision that is returned.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Unfit`] when it is not in the state for this; [`Error::Withdrawn`].
    pub async fn suspend_task(
        &self,
        tenant: TenantId,
        id: TaskId,
        suspend: bool,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        let (from, to) = if suspend {
            (TaskState::Active, TaskState::Suspended)
        } else {
            (TaskState::Suspended, TaskState::Active)
        };
        self.within("suspend or resume a task", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let turned = on!(conn, |raw| sqlx::query(sql::TURN_TASK)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(state_text(to))
                .bind(number(next))
                .bind(state_text(from))
                .bind(now.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if turned == 0 {
                let error = unfit(&mut conn, tenant, id, now).await?;
                conn.rollback().await?;
                return Err(error.into());
            }
            on!(conn, |raw| sqlx::query(sql::WAKE_TASK)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(now.micros())
                .execute(raw)
                .await
                .map(drop))?;
            self.accompany(&mut conn, tenant, next, change).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Ends the tasks of a tenant whose time is over, by the database's time; forgets those that ended a day ago.
    ///
    /// A task counts as idle only `slack` after its idle time-out, so that what replicas have not told yet is in time.
    /// Call again while something comes of it: one call does ten thousand of each.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn end_due(&self, tenant: TenantId, slack: Duration) -> Result<Due, Error> {
        self.within("end the tasks whose time is over", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let idle = earlier(now, slack);
            let old = earlier(now, REMEMBERED);
            let any: i64 = on!(conn, |raw| sqlx::query_scalar(sql::ANY_DUE)
                .bind(tenant.uuid())
                .bind(now.micros())
                .bind(idle.micros())
                .bind(old.micros())
                .fetch_one(raw)
                .await)?;
            conn.end().await?;
            if any == 0 {
                return Ok(Due::default());
            }
            let (mut conn, next) = self.begin_change(tenant).await?;
            let mut counts = [0; 3];
            // What is ended holds its budgets until the commit, and is ended last.
            let steps = [
                (sql::FORGET_TASKS, Some(old)),
                (sql::END_DUE, Some(idle)),
                (sql::END_ORPHANS, None),
            ];
            for (count, (text, since)) in counts.iter_mut().zip(steps) {
                *count = on!(conn, |raw| {
                    let query = sqlx::query(text)
                        .bind(tenant.uuid())
                        .bind(number(next))
                        .bind(now.micros());
                    let query = match since {
                        Some(since) => query.bind(since.micros()),
                        None => query,
                    };
                    query.execute(raw).await.map(|done| done.rows_affected())
                })?;
            }
            let [forgotten, due, orphans] = counts;
            if due + orphans + forgotten == 0 {
                // Another replica was faster.
                conn.rollback().await?;
                return Ok(Due::default());
            }
            conn.commit().await?;
            Ok(Due {
                ended: due + orphans,
                forgotten,
                revision: Some(next),
            })
        })
        .await
    }

    /// Notes that something was asked in these tasks just now; those that are not active are left alone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn touch_tasks(&self, tenant: TenantId, tasks: &[TaskId]) -> Result<(), Error> {
        let ids = tasks.iter();
        let rows = Rows::of(ids.map(|id| json!({ "id": id.uuid().simple().to_string() })))?;
        self.within("note that tasks are in use", async {
            // One at a time, so that two replicas do not wait for each other's rows.
            let (mut conn, _) = self.begin_aside(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            on!(conn, |raw| sqlx::query(sql::TOUCH_TASKS)
                .bind(tenant.uuid())
                .bind(&rows)
                .bind(now.micros())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await
    }
}

/// Suspends a task that works; one that does not is left as it is.
pub(crate) async fn suspend(
    conn: &mut Conn,
    tenant: TenantId,
    task: TaskId,
    (next, now): (Revision, Timestamp),
) -> Result<(), Failure> {
    on!(conn, |raw| sqlx::query(sql::TURN_TASK)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .bind(state_text(TaskState::Suspended))
        .bind(number(next))
        .bind(state_text(TaskState::Active))
        .bind(now.micros())
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Ends a task and what is below it, within a transaction that has moved the tenant's revision on to `next`.
///
/// What it fails with is of the task: then the transaction must not be committed.
pub(super) async fn end(
    conn: &mut Conn,
    tenant: TenantId,
    id: TaskId,
    ending: Ending<'_>,
    next: Revision,
    now: Timestamp,
) -> Result<Result<(), Error>, Failure> {
    let mut ended = 0;
    for text in [sql::END_TASK, sql::END_BELOW] {
        let rows = on!(conn, |raw| sqlx::query(text)
            .bind(tenant.uuid())
            .bind(id.uuid())
            .bind(state_text(ending.state))
            .bind(number(next))
            .bind(now.micros())
            .bind(ending.by)
            .bind(ending.why)
            .execute(raw)
            .await
            .map(|done| done.rows_affected()))?;
        if rows == 0 && ended == 0 {
            return Ok(Err(unfit(conn, tenant, id, now).await?));
        }
        ended += rows;
    }
    Ok(Ok(()))
}

/// Ends a task because another stands in its place, within a transaction that has moved the tenant's revision on to `next`:
/// one that is active, and of which no call waits for its outcome, which would be counted where nobody looks any more.
///
/// What it fails with is of the task: then the transaction must not be committed.
pub(super) async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    id: TaskId,
    by: &str,
    next: Revision,
    now: Timestamp,
) -> Result<Result<(), Error>, Failure> {
    if state_of(conn, tenant, id, now).await?.as_deref() != Some(state_text(TaskState::Active)) {
        return Ok(Err(unfit(conn, tenant, id, now).await?));
    }
    let ending = Ending {
        state: TaskState::Completed,
        by,
        why: Some("a narrower task stands in its place"),
    };
    if let Err(error) = end(conn, tenant, id, ending, next, now).await? {
        return Ok(Err(error));
    }
    // After the task is locked: no call of it is permitted from here on.
    let reserved: i64 = on!(conn, |raw| sqlx::query_scalar(sql::IS_RESERVED)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(now.micros())
        .fetch_one(raw)
        .await)?;
    Ok(if reserved == 0 {
        Ok(())
    } else {
        let problem = "calls of the task wait for their outcomes; tell those first".to_owned();
        Err(Error::Unfit { problem })
    })
}

/// Says why a task cannot be ended or turned.
async fn unfit(
    conn: &mut Conn,
    tenant: TenantId,
    id: TaskId,
    now: Timestamp,
) -> Result<Error, Failure> {
    Ok(match state_of(conn, tenant, id, now).await? {
        Some(state) => Error::Unfit {
            problem: format!("the task is {state}"),
        },
        None => Error::NotFound { what: "task" },
    })
}

/// Finds how a task stands by itself and by the time.
async fn state_of(
    conn: &mut Conn,
    tenant: TenantId,
    id: TaskId,
    now: Timestamp,
) -> Result<Option<String>, Failure> {
    Ok(on!(conn, |raw| sqlx::query_scalar(sql::TASK_STATE)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(now.micros())
        .fetch_optional(raw)
        .await)?)
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(by))
}
