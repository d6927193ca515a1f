//! `/v1/decisions`: what was decided.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Uri;
use remit_core::{DecisionId, DecisionRecord, EntityUid, PolicyId, Reason, Timestamp, Verdict};
use remit_store::{DecisionFilter, EntityPattern};
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::paging::{self, LONGEST, Paging};
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

pub(crate) mod case;
pub(crate) mod leases;
pub(crate) mod outcomes;
pub(crate) mod revocations;

/// How long whatever tells of decisions waits for what this replica has answered to be where it looks.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(2);

/// Which decisions are wanted, and which page of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    decision: Option<Verdict>,
    reason: Option<Reason>,
    subject: Option<String>,
    agent: Option<String>,
    action: Option<String>,
    resource: Option<String>,
    policy: Option<PolicyId>,
    after: Option<DecisionId>,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// Lists decisions, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let bound = json!({
        "list": "decisions", "tenant": caller.tenant, "from": wanted.from, "until": wanted.until,
        "decision": wanted.decision, "reason": wanted.reason, "subject": wanted.subject, "agent": wanted.agent,
        "action": wanted.action, "resource": wanted.resource, "policy": wanted.policy, "after": wanted.after,
    });
    let paging = Paging::<DecisionId>::of(&app, &bound, wanted.limit, wanted.cursor.as_deref())?;
    let filter = wanted.filter()?;
    // Whoever asks what was decided means what they were answered, too. Past the wait they get what there is.
    app.log.caught_up(CATCH_UP).await;
    let mut found = app
        .store
        .decisions(caller.tenant, &filter, paging.after, paging.limit + 1)
        .await?;
    // One more than the page tells whether there is another; the store gives no more than the longest page at once.
    // Shorter pages must not ask twice: where readers queue for connections, whoever queues twice is served too late.
    if paging.limit == LONGEST
        && found.len() == LONGEST
        && let Some(last) = found.last().map(|stored| stored.record.id)
    {
        found.extend(
            app.store
                .decisions(caller.tenant, &filter, Some(last), 1)
                .await?,
        );
    }
    let (found, next) = paging.cut(&app, found, |last| last.record.id)?;
    let decisions: Vec<_> = found.into_iter().map(|stored| stored.record).collect();
    Ok(paging::answer(
        &uri,
        "decisions",
        &decisions,
        next.as_deref(),
    ))
}

/// Answers with one record.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DecisionId>,
) -> Result<Response, Problem> {
    Ok(Json(find(&app, &caller, id).await?).into_response())
}

/// Reads one record of the caller's tenant.
pub(crate) async fn find(
    app: &App,
    caller: &Caller,
    id: DecisionId,
) -> Result<DecisionRecord, Problem> {
    if let Some(stored) = app.store.decision(caller.tenant, id).await? {
        return Ok(stored.record);
    }
    // Perhaps it was answered a moment ago and is on its way.
    app.log.caught_up(CATCH_UP).await;
    let stored = app.store.decision(caller.tenant, id).await?;
    stored
        .map(|stored| stored.record)
        .ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such decision"))
}

// === impl Wanted ===

impl Wanted {
    pub(crate) fn filter(&self) -> Result<DecisionFilter, Problem> {
        let subject = match (&self.subject, &self.agent) {
            (Some(_), Some(_)) => return Err(invalid("send `subject` or `agent`, not both")),
            (Some(text), None) => {
                let uid = text
                    .parse()
                    .map_err(|_| invalid("`subject` must be written `Type::\"id\"`"))?;
                exactly(&uid)
            }
            (None, Some(id)) => EntityPattern {
                kind: None,
                id: Some(id.clone()),
            },
            (None, None) => EntityPattern::default(),
        };
        let resource = match &self.resource {
            None => EntityPattern::default(),
            Some(text) => text.parse().map_or_else(
                |_| EntityPattern {
                    kind: None,
                    id: Some(text.clone()),
                },
                |uid| exactly(&uid),
            ),
        };
        Ok(DecisionFilter {
            from: self.from,
            until: self.until,
            newer_than: self.after,
            verdict: self.decision,
            reason: self.reason,
            subject,
            action: self.action.clone(),
            resource,
            policy: self.policy.clone(),
        })
    }
}

fn exactly(uid: &EntityUid) -> EntityPattern {
    EntityPattern {
        kind: Some(uid.kind.to_string()),
        id: Some(uid.id.to_string()),
    }
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}
