//! `/v1/admin/actions`: who changed what, and who was not allowed to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use remit_core::{AdminActionId, Verdict};
use remit_store::AdminActionFilter;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::paging::{self, Paging};
use crate::problem::{Kind, Problem};
use crate::query::Query;

/// Which records are wanted, and which page of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    principal: Option<String>,
    action: Option<String>,
    verdict: Option<Verdict>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Lists the records of administration, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let bound = json!({
        "list": "admin_actions", "tenant": caller.tenant, "principal": wanted.principal,
        "action": wanted.action, "verdict": wanted.verdict,
    });
    let paging = Paging::<AdminActionId>::of(&app, &bound, wanted.limit, wanted.cursor.as_deref())?;
    let principal = wanted.principal.map(|name| name.parse()).transpose();
    let filter = AdminActionFilter {
        principal: principal.map_err(|error| {
            Problem::new(Kind::INVALID_REQUEST, format!("`principal`: {error}"))
        })?,
        action: wanted.action,
        verdict: wanted.verdict,
    };
    let found = app
        .store
        .admin_actions(caller.tenant, &filter, paging.after, paging.limit + 1)
        .await?;
    let (actions, next) = paging.cut(&app, found, |last| last.id)?;
    Ok(paging::answer(&uri, "actions", &actions, next.as_deref()))
}
