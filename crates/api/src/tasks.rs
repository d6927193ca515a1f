//! `/v1/tasks`: what agents are asked to do, how each task stands, and what it has touched.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{
    Budget, ContentHash, DecisionId, Declaration, EntityUid, Label, PrincipalName, Spending,
    TaskId, TaskState, Timestamp,
};
use remit_store::{StoredTask, TaskFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::layers::Told;
use crate::paging::{self, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

pub(crate) mod declaring;
pub(crate) mod keeping;
pub(crate) mod opening;
pub(crate) mod templates;
pub(crate) mod turning;

/// Which tasks are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    agent_type: Option<String>,
    agent_id: Option<String>,
    state: Option<TaskState>,
    parent: Option<TaskId>,
    purpose: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A task as it is told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shown {
    id: TaskId,
    digest: ContentHash,
    state: TaskState,
    declaration: Declaration,
    depth: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<Touched>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<Children>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<Used>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionId>,
    opened_at: Timestamp,
    opened_by: PrincipalName,
    last_active: Timestamp,
    idle_timeout: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_why: Option<String>,
}

/// A label, and the decision that set it.
#[derive(Debug, Clone, Serialize)]
struct Touched {
    label: Label,
    decision: DecisionId,
}

/// How many children a task has.
#[derive(Debug, Clone, Copy, Serialize)]
struct Children {
    live: u64,
    all: u64,
}

/// What of a task's own budget is used.
#[derive(Debug, Clone, Copy, Serialize)]
struct Used {
    allowed: Budget,
    reserved: Spending,
    spent: Spending,
}

/// Lists tasks, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let agent = match (wanted.agent_type, wanted.agent_id) {
        (Some(kind), Some(id)) => Some(EntityUid::new(kind, id)),
        (None, None) => None,
        _ => {
            let detail = "`agent_type` and `agent_id` go together";
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
    };
    if let Some(TaskState::Unknown | TaskState::NotYours) = wanted.state {
        let detail = "`state` must be `active`, `suspended`, `completed`, `revoked` or `expired`";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    let filter = json!({
        "list": "tasks", "tenant": caller.tenant, "agent": agent, "state": wanted.state, "parent": wanted.parent,
        "purpose": wanted.purpose,
    });
    let paging = Paging::<TaskId>::of(&app, &filter, wanted.limit, wanted.cursor.as_deref())?;
    let filter = TaskFilter {
        agent,
        state: wanted.state,
        parent: wanted.parent,
        purpose: wanted.purpose,
        at: Some(app.now()),
    };
    let found = app
        .store
        .tasks(caller.tenant, &filter, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.task.id)?;
    let now = app.now();
    let tasks: Vec<_> = found
        .into_iter()
        .map(|stored| Shown {
            labels: None,
            ..Shown::of(stored, now)
        })
        .collect();
    Ok(paging::answer(&uri, "tasks", &tasks, next.as_deref()))
}

/// Answers with one task, its labels and what it has used.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TaskId>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let stored = app.store.task(tenant, id).await?.ok_or_else(absent)?;
    let revision = stored.revision;
    let mut response = if preconditions.unchanged(revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let (live, all) = app.store.children_of(tenant, id).await?;
        let used = app.store.budget(tenant, id).await?.map(|budget| Used {
            allowed: budget.allowed,
            reserved: budget.reserved,
            spent: budget.spent,
        });
        let shown = Shown {
            children: Some(Children { live, all }),
            used,
            ..Shown::of(stored, app.now())
        };
        Json(shown).into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Returns the name of a state, as it stands in requests and answers.
pub(crate) fn state_name(state: TaskState) -> &'static str {
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

fn absent() -> Problem {
    Problem::new(Kind::NOT_FOUND, "there is no such task")
}

/// Says that a task is not in the state for something.
fn over(state: TaskState) -> Problem {
    let state = state_name(state);
    let detail = format!("the task, or one above it, is {state}");
    Problem::new(Kind::CONFLICT, detail).with("state", json!(state))
}

// === impl Shown ===

impl Shown {
    /// Tells a task as it stands by itself at `now`: one whose time is over is so before anybody has noted it.
    fn of(stored: StoredTask, now: Timestamp) -> Self {
        let task = stored.task;
        let over = now >= task.declaration.expires_at;
        let state = match task.state {
            TaskState::Active | TaskState::Suspended if over => TaskState::Expired,
            state => state,
        };
        let labels = task.labels.into_iter();
        Self {
            id: task.id,
            digest: task.digest,
            state,
            declaration: task.declaration,
            depth: task.depth,
            labels: Some(
                labels
                    .map(|(label, decision)| Touched { label, decision })
                    .collect(),
            ),
            children: None,
            used: None,
            decision: stored.decision,
            opened_at: task.opened_at,
            opened_by: task.opened_by,
            last_active: stored.last_active,
            idle_timeout: stored.idle_timeout.as_secs(),
            ended_at: stored.ended_at,
            ended_by: stored.ended_by,
            ended_why: stored.ended_why,
        }
    }
}
