//! What became of tasks since a revision, for a replica that catches up.

use std::collections::BTreeMap;

use remit_core::{DecisionId, Revision, Task, TaskId, TaskState, TenantId};
use uuid::Uuid;

use super::{MOST, read_label, read_state, read_task};
use crate::error::Error;
use crate::store::Store;
use crate::tenants::{number, revision};

/// One page of what became of the tasks since a revision: each as it is now.
#[derive(Debug, Clone, Default)]
pub struct TaskChanges {
    /// Tasks that are not over.
    pub live: Vec<Task>,
    /// Tasks that ended.
    pub ended: Vec<(TaskId, TaskState)>,
    /// Tasks that ended so long ago that they are not told from those that never were.
    pub forgotten: Vec<TaskId>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<TaskCursor>,
}

/// Where a page of [`TaskChanges`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskCursor {
    revision: Revision,
    id: TaskId,
}

type ChangedRow = (
    Uuid,
    i64,
    String,
    String,
    i64,
    String,
    i64,
    String,
    bool,
    Option<String>,
    Option<Uuid>,
    Option<i64>,
);

pub(crate) mod sql {
    statements! {
        // The labels in the same statement: a task without those that it had at its revision would permit too much.
        /// Lists the tasks that changed after a revision, in the order of the changes, each once for each of its labels.
        CHANGED_TASKS = "SELECT t.id, t.revision, t.digest, t.body, t.depth, t.state, t.opened_at, t.opened_by, \
            t.forgotten_at IS NOT NULL, l.label, l.decision, l.revision FROM (SELECT * FROM tasks \
            WHERE tenant = $1 AND (revision, id) > ($2, $3) ORDER BY revision, id LIMIT $4) AS t \
            LEFT JOIN task_labels AS l ON l.tenant = $1 AND l.task = t.id ORDER BY t.revision, t.id";
        /// Lists as CHANGED_TASKS for whoever has read none yet, without those that are forgotten.
        REMEMBERED_TASKS = "SELECT t.id, t.revision, t.digest, t.body, t.depth, t.state, t.opened_at, t.opened_by, \
            t.forgotten_at IS NOT NULL, l.label, l.decision, l.revision FROM (SELECT * FROM tasks \
            WHERE tenant = $1 AND (revision, id) > ($2, $3) AND forgotten_at IS NULL ORDER BY revision, id LIMIT $4) \
            AS t LEFT JOIN task_labels AS l ON l.tenant = $1 AND l.task = t.id ORDER BY t.revision, t.id";
        /// Lists what trusted tools returned in the live tasks that changed between two revisions, both included.
        CHANGED_SINKS = "SELECT s.task, s.hash FROM task_sinks AS s \
            JOIN tasks AS t ON t.tenant = s.tenant AND t.id = s.task \
            WHERE t.tenant = $1 AND t.revision >= $2 AND t.revision <= $3 AND t.ended_at IS NULL ORDER BY s.task, s.hash";
    }
}

// === impl Store ===

impl Store {
    /// Returns one page of the tasks that changed after a revision, each as it is now, which may be later than any
    /// revision that the caller knows of.
    ///
    /// After revision 0, tasks that are forgotten are left out. Call again with `next` until there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn tasks_changed(
        &self,
        tenant: TenantId,
        after: Revision,
        from: Option<TaskCursor>,
        limit: usize,
    ) -> Result<TaskChanges, Error> {
        let limit = limit.clamp(1, MOST);
        let text = match after.number() {
            0 => sql::REMEMBERED_TASKS,
            _ => sql::CHANGED_TASKS,
        };
        // No id is larger than the largest, so nothing of the revision `after` is read again.
        let (seen, id) = from.map_or((after, Uuid::max()), |at| (at.revision, at.id.uuid()));
        let rows: Vec<ChangedRow> = read!(self, tenant, "read the changes of tasks", |raw| {
            sqlx::query_as(text)
                .bind(tenant.uuid())
                .bind(number(seen))
                .bind(id)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        let mut read = Changed::default();
        for row in rows {
            read.add(row)?;
        }
        let mut changes = read.finish(limit);
        if let (Some(first), Some(last)) = (read.first, read.last)
            && !changes.live.is_empty()
        {
            self.put_sinks(tenant, (first, last.revision), &mut changes)
                .await?;
        }
        Ok(changes)
    }

    async fn put_sinks(
        &self,
        tenant: TenantId,
        (first, last): (Revision, Revision),
        changes: &mut TaskChanges,
    ) -> Result<(), Error> {
        let rows: Vec<(Uuid, Uuid)> =
            read!(self, tenant, "read what trusted tools returned", |raw| {
                sqlx::query_as(sql::CHANGED_SINKS)
                    .bind(tenant.uuid())
                    .bind(number(first))
                    .bind(number(last))
                    .fetch_all(raw)
            })?;
        let mut of: BTreeMap<TaskId, Vec<[u8; 16]>> = BTreeMap::new();
        for (task, hash) in rows {
            let hashes = of.entry(TaskId::from_uuid(task)).or_default();
            hashes.push(*hash.as_bytes());
        }
        for task in &mut changes.live {
            task.trusted = of.remove(&task.id).unwrap_or_default();
            task.trusted.sort_unstable();
        }
        Ok(())
    }
}

/// What [`Store::tasks_changed`] has read so far.
#[derive(Default)]
struct Changed {
    changes: TaskChanges,
    first: Option<Revision>,
    last: Option<TaskCursor>,
    count: usize,
}

// === impl Changed ===

impl Changed {
    fn add(
        &mut self,
        (
            id,
            at,
            digest,
            body,
            depth,
            state,
            opened_at,
            opened_by,
            forgotten,
            label,
            decision,
            labelled,
        ): ChangedRow,
    ) -> Result<(), Error> {
        let id = TaskId::from_uuid(id);
        let at = TaskCursor {
            revision: revision(at)?,
            id,
        };
        if self.last != Some(at) {
            self.first.get_or_insert(at.revision);
            self.last = Some(at);
            self.count += 1;
            match read_state(&state)? {
                _ if forgotten => self.changes.forgotten.push(id),
                state @ (TaskState::Active | TaskState::Suspended) => {
                    let columns = (digest, body, depth, state, opened_at, opened_by);
                    self.changes.live.push(read_task(id, columns)?);
                }
                ended => self.changes.ended.push((id, ended)),
            }
        }
        if let (Some(label), Some(task)) = (label, self.changes.live.last_mut())
            && task.id == id
        {
            let decision = DecisionId::from_uuid(decision.unwrap_or_default());
            task.labels.insert(read_label(&label)?, decision);
            let labelled = revision(labelled.unwrap_or_default())?;
            task.labelled_at = task.labelled_at.max(labelled);
        }
        Ok(())
    }

    fn finish(&mut self, limit: usize) -> TaskChanges {
        let mut changes = std::mem::take(&mut self.changes);
        changes.next = self.last.filter(|_| self.count >= limit);
        changes
    }
}
