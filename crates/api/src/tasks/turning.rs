//! How a task ends, stops for a while and goes on; and how a person vouches for what it has touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use remit_core::{AdminAction, Label, Revision, TaskId, TaskState};
use remit_store::{Change, Ending};
use serde::Deserialize;
use serde_json::json;

use super::opening::is_principal_of;
use super::{Shown, absent};
use crate::admin::{Act, Action, principals};
use crate::app::App;
use crate::auth::Caller;
use crate::layers::Told;
use crate::preconditions::Preconditions;
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::registry::line;
use crate::revisions::{Until, Wait, settle};
use crate::wire::{Body, Json, Raw, Wire, absent_if_null, check_content_type, decode};

/// The most labels of one endorsement.
const MOST_LABELS: usize = 64;
/// The longest reason, in bytes.
const REASON_BYTES: usize = 1_024;

/// Why a task is ended or turned.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Because {
    #[serde(default, deserialize_with = "absent_if_null")]
    reason: Option<String>,
}

/// What a person vouches for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndorseBody {
    labels: BTreeSet<Label>,
    reason: String,
}

/// Ends a task as done.
pub(crate) async fn complete(
    state: State<Arc<App>>,
    caller: Caller,
    id: Segments<TaskId>,
    key: IdempotencyKey,
    until: Query<Until>,
    headers: HeaderMap,
    body: Raw<Because>,
) -> Result<Response, Problem> {
    turn(
        Action::CompleteTask,
        state,
        caller,
        id,
        key,
        until,
        (headers, body),
    )
    .await
}

/// Ends a task.
pub(crate) async fn revoke(
    state: State<Arc<App>>,
    caller: Caller,
    id: Segments<TaskId>,
    key: IdempotencyKey,
    until: Query<Until>,
    headers: HeaderMap,
    body: Raw<Because>,
) -> Result<Response, Problem> {
    turn(
        Action::RevokeTask,
        state,
        caller,
        id,
        key,
        until,
        (headers, body),
    )
    .await
}

/// Stops a task for a while.
pub(crate) async fn suspend(
    state: State<Arc<App>>,
    caller: Caller,
    id: Segments<TaskId>,
    key: IdempotencyKey,
    until: Query<Until>,
    headers: HeaderMap,
    body: Raw<Because>,
) -> Result<Response, Problem> {
    turn(
        Action::SuspendTask,
        state,
        caller,
        id,
        key,
        until,
        (headers, body),
    )
    .await
}

/// Lets a task go on.
pub(crate) async fn resume(
    state: State<Arc<App>>,
    caller: Caller,
    id: Segments<TaskId>,
    key: IdempotencyKey,
    until: Query<Until>,
    headers: HeaderMap,
    body: Raw<Because>,
) -> Result<Response, Problem> {
    turn(
        Action::ResumeTask,
        state,
        caller,
        id,
        key,
        until,
        (headers, body),
    )
    .await
}

async fn turn(
    action: Action,
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TaskId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    (headers, body): (HeaderMap, Raw<Because>),
) -> Result<Response, Problem> {
    let Because { reason } = because(&headers, &body.bytes)?;
    if let Some(reason) = &reason {
        line("reason", reason, REASON_BYTES)?;
    }
    let asks =
        json!({ "caller": caller.key, "action": action.name(), "task": id, "reason": reason });
    let named = Named::of(&key, move || asks).await?;
    let make = turn_once(&app, &caller, action, id, reason.as_deref(), named.as_ref());
    let (revision, ()) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    answer(&app, &caller, id, revision, until).await
}

/// Reads a body that may be left out.
fn because(headers: &HeaderMap, body: &[u8]) -> Result<Because, Problem> {
    if body.is_empty() {
        return Ok(Because::default());
    }
    check_content_type(headers)?;
    decode(body)
}

async fn turn_once(
    app: &Arc<App>,
    caller: &Caller,
    action: Action,
    id: TaskId,
    why: Option<&str>,
    named: Option<&Named>,
) -> Result<(Revision, ()), Problem> {
    let tenant = caller.tenant;
    let stored = app.store.task(tenant, id).await?.ok_or_else(absent)?;
    let agent = &stored.task.declaration.agent;
    let snapshot = app.engine.snapshot(tenant);
    let name = &caller.principal.name;
    let own = snapshot.is_some_and(|snapshot| is_principal_of(&snapshot, name, agent));
    let act = Act::on(action, &id)
        .own(own)
        .with("agent", json!(agent))
        .with("purpose", json!(stored.task.declaration.purpose));
    let act = match why {
        Some(why) => act.with("reason", json!(why)),
        None => act,
    };
    let record = app.permit(caller, act).await?;
    let answer = Answer::of(named, &())?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let ending = |state| Ending {
        state,
        by: name.as_str(),
        why,
    };
    let revision = match action {
        Action::CompleteTask => {
            let ending = ending(TaskState::Completed);
            app.store.end_task(tenant, id, ending, change).await?
        }
        Action::RevokeTask => {
            let ending = ending(TaskState::Revoked);
            app.store.end_task(tenant, id, ending, change).await?
        }
        other => {
            let suspend = other == Action::SuspendTask;
            app.store.suspend_task(tenant, id, suspend, change).await?
        }
    };
    principals::log(caller, &record, revision);
    Ok((revision, ()))
}

/// Takes labels off a suspended task, because a person vouches for what it has touched.
///
/// Every live replica must know of the suspension first. In a task that goes on, a replica that still has the label would
/// permit a read that leaves none, and what was read after the person looked would count as vouched for.
pub(crate) async fn endorse(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TaskId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    preconditions: Preconditions,
    Body(EndorseBody { labels, reason }): Body<EndorseBody>,
) -> Result<Response, Problem> {
    if labels.is_empty() || labels.len() > MOST_LABELS {
        let detail = format!("`labels` must name 1 to {MOST_LABELS}");
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    line("reason", &reason, REASON_BYTES)?;
    let asks = json!({
        "caller": caller.key, "action": Action::EndorseTask.name(), "task": id, "labels": labels, "reason": reason,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let stored = app.store.task(tenant, id).await?.ok_or_else(absent)?;
        let lineage: Vec<_> = stored
            .task
            .labels
            .iter()
            .filter(|(label, _)| labels.contains(*label))
            .collect();
        let act = Act::on(Action::EndorseTask, &id)
            .with("labels", json!(labels))
            .with("lineage", json!(lineage))
            .with("reason", json!(reason));
        let record: AdminAction = app.permit(&caller, act).await?;
        match stored.task.state {
            TaskState::Suspended => {}
            TaskState::Active => {
                let detail = "the task goes on: suspend it, look at what it has read, endorse it, and resume it";
                return Err(Problem::new(Kind::CONFLICT, detail));
            }
            state => return Err(super::over(state)),
        }
        let read = stored.revision;
        preconditions.check(Some(read))?;
        let fleet = Until {
            wait: Some(Wait::Fleet),
        };
        settle(&app, tenant, read, fleet).await?;
        let answer = Answer::of(named.as_ref(), &())?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let revision = app
            .store
            .endorse_task(tenant, (id, read), &labels, change)
            .await?;
        principals::log(&caller, &record, revision);
        Ok((revision, ()))
    };
    let (revision, ()) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    answer(&app, &caller, id, revision, until).await
}

/// Answers with the task, once the change is in force.
async fn answer(
    app: &App,
    caller: &Caller,
    id: TaskId,
    revision: Revision,
    until: Until,
) -> Result<Response, Problem> {
    settle(app, caller.tenant, revision, until).await?;
    let stored = app.store.task(caller.tenant, id).await?;
    let shown = Shown::of(stored.ok_or_else(absent)?, app.now());
    let mut response = Json(shown).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

impl Wire for Because {}

impl Wire for EndorseBody {}
