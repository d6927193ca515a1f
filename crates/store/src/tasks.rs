//! Tasks: what was declared, how each stands, and what a replica has not read of them yet.
//!
//! A declaration never changes. Whatever else of a task decides (its state, its labels, what trusted tools returned) notes
//! the tenant's next revision on the row, so that a replica finds it. A row may be newer than the revision that is asked
//! for, and never older: what is read twice is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use remit_core::{
    ContentHash, DecisionId, Declaration, EntityUid, Label, PrincipalName, Revision, Task, TaskId,
    TaskState, TenantId, Timestamp, canonical_json,
};
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{number, revision};

pub(crate) mod changes;
pub(crate) mod ending;
pub(crate) mod labels;
pub(crate) mod templates;

pub use changes::{TaskChanges, TaskCursor};
pub use ending::{Due, Ending};
pub use labels::{MOST_LABELS, MOST_TRUSTED};
pub use templates::StoredTemplate;

/// The most live children of one task.
pub const MOST_CHILDREN: i64 = 1_000;
/// The most live tasks below one that nobody handed on.
const MOST_BELOW: i64 = 10_000;
/// The most hops between a task and the one that nobody handed on.
pub const MOST_DEPTH: u16 = 8;
/// The most tasks that one call returns.
const MOST: usize = 10_001;

/// A task that is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct NewTask<'a> {
    /// Its id.
    pub id: TaskId,
    /// What is declared; it was checked, and is within its parent's.
    pub declaration: &'a Declaration,
    /// The decision that permitted it, where it was asked.
    pub decision: Option<DecisionId>,
    /// For how long nothing may be asked in it.
    pub idle_timeout: Duration,
    /// Who opens it.
    pub opened_by: &'a PrincipalName,
    /// The agents that open it by themselves: it begins with the labels of everything that they have not finished, or that
    /// lately ended, so that a new task escapes no history.
    pub opening_agents: &'a [EntityUid],
    /// The task that it replaces, whose labels, and what trusted tools returned in it, it begins with.
    pub replaces: Option<TaskId>,
    /// The revision by which it was checked, since which nothing of the tenant may have changed; none where that is no
    /// matter.
    pub checked: Option<Revision>,
}

/// A task as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// What decides.
    pub task: Task,
    /// The decision that permitted it.
    pub decision: Option<DecisionId>,
    /// When something was last asked in it, to about a minute.
    pub last_active: Timestamp,
    /// For how long nothing may be asked in it.
    pub idle_timeout: Duration,
    /// When it ended, if it did.
    pub ended_at: Option<Timestamp>,
    /// Who ended it; none where its time was over.
    pub ended_by: Option<String>,
    /// Why.
    pub ended_why: Option<String>,
    /// The revision that made it what it is.
    pub revision: Revision,
}

/// Which tasks are wanted: those that fit every member given.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of this agent.
    pub agent: Option<EntityUid>,
    /// In this state.
    pub state: Option<TaskState>,
    /// Children of this task.
    pub parent: Option<TaskId>,
    /// Of this purpose.
    pub purpose: Option<String>,
    /// By the time it is, where a state is wanted: one whose time is over is `Expired` before anybody has noted it.
    pub at: Option<Timestamp>,
}

type Row = (
    Uuid,
    String,
    String,
    i64,
    String,
    Option<Uuid>,
    i64,
    String,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    i64,
);
pub(crate) mod sql {
    statements! {
        /// Adds a task.
        INSERT_TASK = "INSERT INTO tasks (tenant, id, revision, digest, body, agent_type, agent_id, purpose, parent, \
            depth, state, decision, opened_at, opened_by, last_active, idle_timeout, expires_at, root) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'active', $11, $12, $13, $12, $14, $15, $16)";
        /// Lists a task and everything above it, nearest first.
        CHAIN = "WITH RECURSIVE above (id, parent, depth, state, expires_at) AS ( \
            SELECT t.id, t.parent, t.depth, t.state, t.expires_at FROM tasks AS t WHERE t.tenant = $1 AND t.id = $2 \
            UNION ALL SELECT t.id, t.parent, t.depth, t.state, t.expires_at FROM tasks AS t \
            JOIN above AS a ON t.id = a.parent WHERE t.tenant = $1) \
            SELECT id, depth, state, expires_at FROM above ORDER BY depth DESC";
        /// Counts the live children of a task.
        LIVE_CHILDREN = "SELECT count(*) FROM tasks WHERE tenant = $1 AND parent = $2 \
            AND state IN ('active', 'suspended') AND expires_at > $3";
        /// Counts the live tasks below one that nobody handed on, and no further than there may be.
        LIVE_BELOW = "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE tenant = $1 AND root = $2 AND ended_at IS NULL \
            LIMIT 10000) AS one";
        /// Counts the children of a task, ended ones included.
        CHILDREN = "SELECT count(*) FROM tasks WHERE tenant = $1 AND parent = $2";
        /// Finds a task.
        TASK = "SELECT id, digest, body, depth, state, decision, opened_at, opened_by, last_active, idle_timeout, \
            ended_at, ended_by, ended_why, revision FROM tasks WHERE tenant = $1 AND id = $2";
        /// Lists tasks, newest first.
        TASKS = "SELECT id, digest, body, depth, state, decision, opened_at, opened_by, last_active, idle_timeout, \
            ended_at, ended_by, ended_why, revision FROM tasks WHERE tenant = $1 AND id < $2 \
            AND (agent_type = $3 OR $3 IS NULL) AND (agent_id = $4 OR $4 IS NULL) AND (parent = $6 OR $6 IS NULL) \
            AND (purpose = $7 OR $7 IS NULL) \
            AND (CASE WHEN ended_at IS NULL AND expires_at <= $9 THEN 'expired' ELSE state END = $5 OR $5 IS NULL) \
            ORDER BY id DESC LIMIT $8";
    }
}

// === impl Store ===

impl Store {
    /// Opens a task; it is in force at the revision that is returned.
    ///
    /// A child begins with its parent's labels. What it replaces ends, with everything below.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when its parent is over, suspended or too deep, or has too many live children, or what it replaces
    /// is not active or waits for an outcome; [`Error::Moved`] when the tenant changed since `checked`;
    /// [`Error::NotFound`] when there is no such parent; [`Error::Withdrawn`].
    pub async fn insert_task(
        &self,
        tenant: TenantId,
        new: NewTask<'_>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        let body = canonical_json(new.declaration)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Error::invalid("task", "cannot be written as JSON"))?;
        self.within("open a task", async {
            let (mut conn, next) = self.begin_change_since(tenant, new.checked).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            if let Some(replaced) = new.replaces {
                let by = new.opened_by.as_str();
                if let Err(error) =
                    ending::replace(&mut conn, tenant, replaced, by, next, now).await?
                {
                    conn.rollback().await?;
                    return Err(error.into());
                }
            }
            let (depth, root) = match new.declaration.parent {
                None => (0, None),
                Some(parent) => match room_below(&mut conn, tenant, parent, now).await? {
                    Ok((depth, root)) => (depth, Some(root)),
                    Err(error) => {
                        conn.rollback().await?;
                        return Err(error.into());
                    }
                },
            };
            self.accompany(&mut conn, tenant, next, change).await?;
            insert(&mut conn, tenant, next, now, (depth, root), &body, &new).await?;
            labels::inherit(&mut conn, tenant, now, &new).await?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Returns one task, with its labels and without what trusted tools returned in it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn task(&self, tenant: TenantId, id: TaskId) -> Result<Option<StoredTask>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a task", |raw| sqlx::query_as(sql::TASK)
            .bind(tenant.uuid())
            .bind(id.uuid())
            .fetch_optional(raw))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut stored = StoredTask::read(row)?;
        stored.task.labels = self.labels_of(tenant, id).await?;
        Ok(Some(stored))
    }

    /// Counts the children of a task that live.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn live_children_of(&self, tenant: TenantId, id: TaskId) -> Result<u64, Error> {
        self.within("count the live children of a task", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let live = live_children(&mut conn, tenant, id, now).await?;
            conn.end().await?;
            Ok(u64::try_from(live).unwrap_or_default())
        })
        .await
    }

    /// Counts the children of a task that live, and all of them.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn children_of(&self, tenant: TenantId, id: TaskId) -> Result<(u64, u64), Error> {
        self.within("count the children of a task", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let live = live_children(&mut conn, tenant, id, now).await?;
            let all: i64 = on!(conn, |raw| sqlx::query_scalar(sql::CHILDREN)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_one(raw)
                .await)?;
            conn.end().await?;
            let count = |number: i64| u64::try_from(number).unwrap_or_default();
            Ok((count(live), count(all)))
        })
        .await
    }

    /// Lists tasks, newest first and without their labels: those older than `before`, at most `limit` and never more than
    /// 10,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn tasks(
        &self,
        tenant: TenantId,
        filter: &TaskFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<StoredTask>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list tasks", |raw| sqlx::query_as(sql::TASKS)
            .bind(tenant.uuid())
            .bind(before.map_or(Uuid::max(), TaskId::uuid))
            .bind(filter.agent.as_ref().map(|agent| agent.kind.as_str()))
            .bind(filter.agent.as_ref().map(|agent| agent.id.as_str()))
            .bind(filter.state.map(state_text))
            .bind(filter.parent.map(TaskId::uuid))
            .bind(filter.purpose.as_deref())
            .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
            .bind(filter.at.map(Timestamp::micros))
            .fetch_all(raw))?;
        rows.into_iter().map(StoredTask::read).collect()
    }
}

/// Makes sure that a task may have one more child, and returns the depth of that and the task at the top.
async fn room_below(
    conn: &mut Conn,
    tenant: TenantId,
    parent: TaskId,
    now: Timestamp,
) -> Result<Result<(u16, Uuid), Error>, Failure> {
    let chain: Vec<(Uuid, i64, String, i64)> = on!(conn, |raw| sqlx::query_as(sql::CHAIN)
        .bind(tenant.uuid())
        .bind(parent.uuid())
        .fetch_all(raw)
        .await)?;
    let (Some((_, depth, ..)), Some((root, ..))) = (chain.first(), chain.last()) else {
        let what = "parent task";
        return Ok(Err(Error::NotFound { what }));
    };
    let depth = u16::try_from(*depth).unwrap_or(u16::MAX).saturating_add(1);
    let over = chain.iter().find_map(|(_, _, state, expires_at)| {
        let over = *expires_at <= now.micros();
        match state.as_str() {
            "active" if over => Some("expired"),
            "active" => None,
            other => Some(other),
        }
    });
    let unfit = |problem: String| Ok(Err(Error::Unfit { problem }));
    if let Some(state) = over {
        return unfit(format!("the parent task, or one above it, is {state}"));
    }
    if depth > MOST_DEPTH {
        return unfit(format!("a task is at most {MOST_DEPTH} hops deep"));
    }
    if live_children(conn, tenant, parent, now).await? >= MOST_CHILDREN {
        return unfit(format!(
            "a task has at most {MOST_CHILDREN} children that live"
        ));
    }
    let below: i64 = on!(conn, |raw| sqlx::query_scalar(sql::LIVE_BELOW)
        .bind(tenant.uuid())
        .bind(*root)
        .fetch_one(raw)
        .await)?;
    if below >= MOST_BELOW {
        return unfit(format!(
            "at most {MOST_BELOW} tasks live below one that nobody handed on"
        ));
    }
    Ok(Ok((depth, *root)))
}

async fn live_children(
    conn: &mut Conn,
    tenant: TenantId,
    parent: TaskId,
    now: Timestamp,
) -> Result<i64, Failure> {
    Ok(on!(conn, |raw| sqlx::query_scalar(sql::LIVE_CHILDREN)
        .bind(tenant.uuid())
        .bind(parent.uuid())
        .bind(now.micros())
        .fetch_one(raw)
        .await)?)
}

async fn insert(
    conn: &mut Conn,
    tenant: TenantId,
    next: Revision,
    now: Timestamp,
    (depth, root): (u16, Option<Uuid>),
    body: &str,
    new: &NewTask<'_>,
) -> Result<(), Failure> {
    let declared = new.declaration;
    let digest = declared.digest().to_string();
    let idle = i64::try_from(new.idle_timeout.as_micros()).unwrap_or(i64::MAX);
    on!(conn, |raw| sqlx::query(sql::INSERT_TASK)
        .bind(tenant.uuid())
        .bind(new.id.uuid())
        .bind(number(next))
        .bind(digest.as_str())
        .bind(body)
        .bind(declared.agent.kind.as_str())
        .bind(declared.agent.id.as_str())
        .bind(declared.purpose.as_str())
        .bind(declared.parent.map(TaskId::uuid))
        .bind(i64::from(depth))
        .bind(new.decision.map(DecisionId::uuid))
        .bind(now.micros())
        .bind(new.opened_by.as_str())
        .bind(idle)
        .bind(declared.expires_at.micros())
        .bind(root)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Returns the name of a state, as it stands in its column.
pub(crate) fn state_text(state: TaskState) -> &'static str {
    match state {
        TaskState::Active => "active",
        TaskState::Suspended => "suspended",
        TaskState::Completed => "completed",
        TaskState::Revoked => "revoked",
        TaskState::Expired => "expired",
        TaskState::Unknown => "unknown",
        TaskState::NotYours => "not_yours",
    }
}

fn read_state(text: &str) -> Result<TaskState, Error> {
    Ok(match text {
        "active" => TaskState::Active,
        "suspended" => TaskState::Suspended,
        "completed" => TaskState::Completed,
        "revoked" => TaskState::Revoked,
        "expired" => TaskState::Expired,
        other => {
            let other: String = other.chars().take(80).collect();
            return Err(Error::corrupt("tasks", format!("the state `{other}`")));
        }
    })
}

fn read_label(label: &str) -> Result<Label, Error> {
    label
        .parse()
        .map_err(|error: remit_core::ParseIdError| Error::corrupt("task_labels", error.to_string()))
}

fn read_task(
    id: TaskId,
    (digest, body, depth, state, opened_at, opened_by): (
        String,
        String,
        i64,
        TaskState,
        i64,
        String,
    ),
) -> Result<Task, Error> {
    let corrupt = |what: String| Error::corrupt("tasks", format!("`{id}`: {what}"));
    let declaration: Declaration =
        serde_json::from_str(&body).map_err(|error| corrupt(error.to_string()))?;
    let kept: ContentHash = digest
        .parse()
        .map_err(|_| corrupt("its digest is none".to_owned()))?;
    if ContentHash::of(body.as_bytes()) != kept {
        return Err(corrupt(
            "its declaration is not the declared one".to_owned(),
        ));
    }
    Ok(Task {
        declaration,
        depth: u16::try_from(depth).map_err(|_| corrupt(format!("the depth {depth}")))?,
        digest: kept,
        id,
        labelled_at: Revision::default(),
        labels: BTreeMap::new(),
        opened_at: Timestamp::from_micros(opened_at),
        opened_by: opened_by
            .parse()
            .map_err(|_| corrupt("who opened it is nobody".to_owned()))?,
        state,
        trusted: Vec::new(),
    })
}

// === impl StoredTask ===

impl StoredTask {
    fn read(row: Row) -> Result<Self, Error> {
        let (id, digest, body, depth, state, decision, opened_at, opened_by, active, idle, ..) =
            &row;
        let state = read_state(state)?;
        let columns = (
            digest.clone(),
            body.clone(),
            *depth,
            state,
            *opened_at,
            opened_by.clone(),
        );
        Ok(Self {
            task: read_task(TaskId::from_uuid(*id), columns)?,
            decision: decision.map(DecisionId::from_uuid),
            last_active: Timestamp::from_micros(*active),
            idle_timeout: Duration::from_micros(u64::try_from(*idle).unwrap_or_default()),
            ended_at: row.10.map(Timestamp::from_micros),
            ended_by: row.11,
            ended_why: row.12,
            revision: revision(row.13)?,
        })
    }
}
