//! `GET /v1/outcomes` and `GET /v1/orphans`: what happened after permits, and of which permits nobody said.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use remit_core::{DecisionId, DecisionRecord, EntityUid, OutcomeResult, TaskId, Timestamp};
use remit_store::OutcomeFilter;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::{App, chain};
use crate::auth::Caller;
use crate::decisions::CATCH_UP;
use crate::paging::{self, Paging};
use crate::problem::Problem;
use crate::query::Query;

/// Which outcomes are wanted, and which page of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    task: Option<TaskId>,
    destination: Option<String>,
    result: Option<OutcomeResult>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Which orphans are wanted, and which page of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedOrphans {
    task: Option<TaskId>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A permit without an outcome.
#[derive(Debug, Serialize)]
struct Orphan {
    decision: DecisionId,
    at: Timestamp,
    task: Option<TaskId>,
    subject: EntityUid,
    action: String,
    resource: EntityUid,
}

/// Lists outcomes, those of the newest decisions first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let bound = json!({
        "list": "outcomes", "tenant": caller.tenant, "task": wanted.task, "destination": wanted.destination,
        "result": wanted.result,
    });
    let paging = Paging::<DecisionId>::of(&app, &bound, wanted.limit, wanted.cursor.as_deref())?;
    let filter = OutcomeFilter {
        task: wanted.task,
        destination: wanted.destination,
        result: wanted.result,
    };
    let found = app
        .store
        .outcomes(caller.tenant, &filter, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.decision)?;
    Ok(paging::answer(&uri, "outcomes", &found, next.as_deref()))
}

/// Lists permits in tasks of which no outcome was told in time, newest first.
pub(crate) async fn orphans(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<WantedOrphans>,
) -> Result<Response, Problem> {
    let bound = json!({ "list": "orphans", "tenant": caller.tenant, "task": wanted.task });
    let paging = Paging::<DecisionId>::of(&app, &bound, wanted.limit, wanted.cursor.as_deref())?;
    // What this replica has permitted may not be in the database yet.
    app.log.caught_up(CATCH_UP).await;
    let which = (wanted.task, app.options.orphan_after);
    let found = app
        .store
        .orphans(caller.tenant, which, paging.after, paging.limit + 1)
        .await?;
    let found: Vec<Orphan> = found.into_iter().map(|one| one.record.into()).collect();
    let (found, next) = paging.cut(&app, found, |last| last.decision)?;
    Ok(paging::answer(&uri, "orphans", &found, next.as_deref()))
}

// === impl Orphan ===

impl From<DecisionRecord> for Orphan {
    fn from(record: DecisionRecord) -> Self {
        let question = record.question;
        Self {
            decision: record.id,
            at: record.at,
            task: chain(&record.facts).first().copied(),
            subject: EntityUid::new(question.subject.kind, question.subject.id),
            action: question.action.name,
            resource: EntityUid::new(question.resource.kind, question.resource.id),
        }
    }
}
