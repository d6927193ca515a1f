//! Labels of tasks, and what trusted tools returned in them: both only grow, but for an endorsement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remit_core::{DecisionId, Label, Revision, TaskId, TenantId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{NewTask, read_label};
use crate::admin_actions::Change;
use crate::budgets::{hand_on_budget, open_budget};
use crate::db::Conn;
use crate::dialect::{self, Rows};
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::number;

/// The most labels of one task that are raised on it.
pub const MOST_LABELS: i64 = 1_024;
/// The most values of trusted tools that one task remembers.
pub const MOST_TRUSTED: usize = 4_096;
/// How long what an agent has worked on, and what is over, still counts for a task that it opens by itself.
const ENDED_LATELY: Duration = Duration::from_hours(24);

pub(crate) mod sql {
    statements! {
        /// Lists the labels of a task.
        LABELS = "SELECT label, decision FROM task_labels WHERE tenant = $1 AND task = $2 ORDER BY label";
        /// Counts the labels of a task.
        COUNT_LABELS = "SELECT count(*) FROM task_labels WHERE tenant = $1 AND task = $2";
        /// Adds labels to tasks, each where it is not there yet.
        RAISE_LABELS = "INSERT INTO task_labels (tenant, task, label, decision, revision) \
            SELECT t.tenant, t.id, made.value ->> 'label', unhex(made.value ->> 'decision'), \
            CAST(made.value ->> 'revision' AS BIGINT) FROM json_each($2) AS made \
            JOIN tasks AS t ON t.id = unhex(made.value ->> 'task') WHERE t.tenant = $1 ON CONFLICT DO NOTHING";
        /// Notes the revision on the tasks that got a label at it.
        LABELLED = "UPDATE tasks SET revision = $2 WHERE tenant = $1 AND id IN ( \
            SELECT l.task FROM task_labels AS l WHERE l.tenant = $1 AND l.revision = $2)";
        /// Gives a task the labels of another.
        INHERIT = "INSERT INTO task_labels (tenant, task, label, decision, revision) \
            SELECT t.tenant, t.id, l.label, l.decision, t.revision FROM tasks AS t \
            JOIN task_labels AS l ON l.tenant = t.tenant AND l.task = $3 \
            WHERE t.tenant = $1 AND t.id = $2 ON CONFLICT DO NOTHING";
        /// Gives a task what trusted tools returned in another.
        INHERIT_SINKS = "INSERT INTO task_sinks (tenant, task, hash) \
            SELECT t.tenant, t.id, s.hash FROM tasks AS t JOIN task_sinks AS s ON s.tenant = t.tenant AND s.task = $3 \
            WHERE t.tenant = $1 AND t.id = $2 ON CONFLICT DO NOTHING";
        /// Gives a task the labels of everything that an agent has not finished, or that ended lately, however it did.
        INHERIT_ALL = "INSERT INTO task_labels (tenant, task, label, decision, revision) \
            SELECT t.tenant, t.id, l.label, l.decision, t.revision FROM tasks AS t \
            JOIN tasks AS o ON o.tenant = t.tenant AND o.agent_type = $4 AND o.agent_id = $5 \
            AND (o.ended_at IS NULL OR o.ended_at > $3) \
            JOIN task_labels AS l ON l.tenant = o.tenant AND l.task = o.id \
            WHERE t.tenant = $1 AND t.id = $2 AND o.id <> t.id ON CONFLICT DO NOTHING";
        /// Takes a label off a task.
        REMOVE_LABEL = "DELETE FROM task_labels WHERE tenant = $1 AND task = $2 AND label = $3";
        /// Locks a task that is suspended and is as it was read.
        VOUCHED = "UPDATE tasks SET revision = $4 WHERE tenant = $1 AND id = $2 AND revision = $3 \
            AND state = 'suspended' AND expires_at > $5";
        /// Notes that a task changed, unless it is over.
        MOVE_TASK = "UPDATE tasks SET revision = $3 WHERE tenant = $1 AND id = $2 AND ended_at IS NULL";
        /// Counts what trusted tools returned in a task.
        COUNT_SINKS = "SELECT count(*) FROM task_sinks WHERE tenant = $1 AND task = $2";
        /// Adds what a trusted tool returned in a task and is not there yet, at most so many.
        INSERT_SINKS = "INSERT INTO task_sinks (tenant, task, hash) \
            SELECT t.tenant, t.id, unhex(made.value ->> 'hash') FROM json_each($3) AS made \
            JOIN tasks AS t ON t.id = $2 WHERE t.tenant = $1 AND NOT EXISTS (SELECT 1 FROM task_sinks AS s \
            WHERE s.tenant = $1 AND s.task = $2 AND s.hash = unhex(made.value ->> 'hash')) \
            LIMIT $4 ON CONFLICT DO NOTHING";
    }
}

// === impl Store ===

impl Store {
    /// Returns the labels of a task, each with the decision that set it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn labels_of(
        &self,
        tenant: TenantId,
        task: TaskId,
    ) -> Result<BTreeMap<Label, DecisionId>, Error> {
        let rows: Vec<(String, Uuid)> = read!(self, tenant, "read the labels of a task", |raw| {
            sqlx::query_as(sql::LABELS)
                .bind(tenant.uuid())
                .bind(task.uuid())
                .fetch_all(raw)
        })?;
        rows.into_iter()
            .map(|(label, decision)| Ok((read_label(&label)?, DecisionId::from_uuid(decision))))
            .collect()
    }

    /// Takes labels off a suspended task, because a person vouches for what it has touched; what is not on it is no error.
    ///
    /// `read` is the revision at which it was looked at, which every live replica must have reached: none of them permits
    /// anything in it, so that no call finds a label there that is about to go and leaves none itself.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it is not suspended, or is not as it was read; [`Error::Withdrawn`].
    pub async fn endorse_task(
        &self,
        tenant: TenantId,
        (task, read): (TaskId, Revision),
        labels: &BTreeSet<Label>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("endorse a task", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let as_read = on!(conn, |raw| sqlx::query(sql::VOUCHED)
                .bind(tenant.uuid())
                .bind(task.uuid())
                .bind(number(read))
                .bind(number(next))
                .bind(now.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if as_read == 0 {
                conn.rollback().await?;
                let problem =
                    "the task is not suspended, or was changed since it was read".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            for label in labels {
                on!(conn, |raw| sqlx::query(sql::REMOVE_LABEL)
                    .bind(tenant.uuid())
                    .bind(task.uuid())
                    .bind(label.as_str())
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Puts labels on a task and everything above it by themselves, at the revision that is returned.
    ///
    /// For what no decision raises: tests, and what somebody finds out later.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when a task has too many.
    pub async fn label_tasks(
        &self,
        tenant: TenantId,
        chain: &[TaskId],
        labels: &BTreeSet<Label>,
        decision: DecisionId,
    ) -> Result<Revision, Error> {
        self.within("label a task", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            raise_labels(&mut conn, tenant, chain, labels, decision, next).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }
}

/// Puts labels on the tasks of a chain, and notes the revision on those that did not have all of them; returns whether any.
///
/// Within a transaction that has moved the tenant's revision on to `revision`.
///
/// # Errors
///
/// [`Error::Unfit`] when a task would have too many; then the transaction must not be committed.
pub(crate) async fn raise_labels(
    conn: &mut Conn,
    tenant: TenantId,
    chain: &[TaskId],
    labels: &BTreeSet<Label>,
    decision: DecisionId,
    revision: Revision,
) -> Result<bool, Failure> {
    let decision = decision.uuid().simple().to_string();
    let pairs = chain
        .iter()
        .flat_map(|task| labels.iter().map(move |label| (task, label)));
    let rows = Rows::of(pairs.map(|(task, label)| {
        json!({
            "task": task.uuid().simple().to_string(), "label": label, "decision": decision,
            "revision": number(revision),
        })
    }))?;
    let raised = on!(conn, |raw| sqlx::query(sql::RAISE_LABELS)
        .bind(tenant.uuid())
        .bind(&rows)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    if raised == 0 {
        return Ok(false);
    }
    on!(conn, |raw| sqlx::query(sql::LABELLED)
        .bind(tenant.uuid())
        .bind(number(revision))
        .execute(raw)
        .await
        .map(drop))?;
    for task in chain {
        let count: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_LABELS)
            .bind(tenant.uuid())
            .bind(task.uuid())
            .fetch_one(raw)
            .await)?;
        if count > MOST_LABELS {
            let problem = format!("a task has at most {MOST_LABELS} labels");
            return Err(Error::Unfit { problem }.into());
        }
    }
    Ok(true)
}

/// Adds the [hashes](remit_core::sink_hash) of what a trusted tool returned in a task, and notes the revision on it where
/// any is new; returns whether any is. What is beyond the limit is not trusted.
///
/// Within a transaction that has moved the tenant's revision on to `revision`.
pub(crate) async fn add_trusted(
    conn: &mut Conn,
    tenant: TenantId,
    task: TaskId,
    hashes: &BTreeSet<[u8; 16]>,
    revision: Revision,
) -> Result<bool, Failure> {
    let count: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_SINKS)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .fetch_one(raw)
        .await)?;
    let most = i64::try_from(MOST_TRUSTED).unwrap_or(i64::MAX);
    let room = most.saturating_sub(count).max(0);
    let rows = Rows::of(
        hashes
            .iter()
            .map(|hash| json!({ "hash": Uuid::from_bytes(*hash).simple().to_string() })),
    )?;
    let added = on!(conn, |raw| sqlx::query(sql::INSERT_SINKS)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .bind(&rows)
        .bind(room)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    if added > 0 {
        move_task(conn, tenant, task, revision).await?;
    }
    Ok(added > 0)
}

/// Gives a new task what it begins with.
pub(super) async fn inherit(
    conn: &mut Conn,
    tenant: TenantId,
    now: Timestamp,
    new: &NewTask<'_>,
) -> Result<(), Failure> {
    open_budget(conn, tenant, new.id, &new.declaration.budget).await?;
    if let Some(replaced) = new.replaces {
        hand_on_budget(conn, tenant, replaced, new.id).await?;
    }
    let from = [
        new.declaration.parent.map(|parent| (sql::INHERIT, parent)),
        new.replaces.map(|replaced| (sql::INHERIT, replaced)),
        new.replaces.map(|replaced| (sql::INHERIT_SINKS, replaced)),
    ];
    for (text, other) in from.into_iter().flatten() {
        on!(conn, |raw| sqlx::query(text)
            .bind(tenant.uuid())
            .bind(new.id.uuid())
            .bind(other.uuid())
            .execute(raw)
            .await
            .map(drop))?;
    }
    for agent in new.opening_agents {
        let lately = i64::try_from(ENDED_LATELY.as_micros()).unwrap_or(i64::MAX);
        on!(conn, |raw| sqlx::query(sql::INHERIT_ALL)
            .bind(tenant.uuid())
            .bind(new.id.uuid())
            .bind(now.micros().saturating_sub(lately))
            .bind(agent.kind.as_str())
            .bind(agent.id.as_str())
            .execute(raw)
            .await
            .map(drop))?;
    }
    Ok(())
}

async fn move_task(
    conn: &mut Conn,
    tenant: TenantId,
    task: TaskId,
    revision: Revision,
) -> Result<u64, Failure> {
    Ok(on!(conn, |raw| sqlx::query(sql::MOVE_TASK)
        .bind(tenant.uuid())
        .bind(task.uuid())
        .bind(number(revision))
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?)
}
