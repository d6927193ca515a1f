//! `/v1/break-glass`: more roles for one person, for minutes, once another person has agreed.
//!
//! It is loud: asking, agreeing, each use and the end are warnings in the log. What is done with it is decided as
//! everything is, by the policies of the administration ([`footing`](super::footing)).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{
    AdminAction, BreakGlassId, PrincipalKind, PrincipalName, Revision, Role, TenantId, Timestamp,
};
use remit_store::{Change, NewBreakGlass, StoredBreakGlass};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::footing::grantable;
use super::second_person::{accounts, still_may};
use super::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::paging::{self, Page, Paging};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::wire::{Body, Json, Wire, absent_if_null};

/// How long what was asked waits for another person.
const PATIENCE: Duration = Duration::from_hours(1);
/// How long a grant lasts where nobody says.
const USUAL_MINUTES: u8 = 15;

/// A grant to be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestBody {
    #[serde(default, deserialize_with = "absent_if_null")]
    principal: Option<PrincipalName>,
    #[serde(default, deserialize_with = "absent_if_null")]
    roles: Option<BTreeSet<Role>>,
    #[serde(default, deserialize_with = "absent_if_null")]
    minutes: Option<u8>,
    reason: String,
}

/// What has become of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// It waits for another person.
    Pending,
    /// It counts.
    Active,
    /// It is over: its time came, somebody ended it or took it back, or nobody agreed.
    Ended,
}

/// A grant as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: BreakGlassId,
    state: Phase,
    principal: PrincipalName,
    roles: BTreeSet<Role>,
    minutes: u8,
    reason: String,
    requested_by: PrincipalName,
    requested_at: Timestamp,
    /// Until when it can be approved.
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved_by: Option<PrincipalName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved_at: Option<Timestamp>,
    /// The first moment at which it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by: Option<PrincipalName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

/// Asks for a grant, which another person has to approve.
pub(crate) async fn request(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<RequestBody>,
) -> Result<Response, Problem> {
    let principal = body.principal.as_ref().unwrap_or(&caller.principal.name);
    let roles = grantable(body.roles)?;
    let minutes = body.minutes.unwrap_or(USUAL_MINUTES);
    if !(1..=60).contains(&minutes) {
        let detail = "`minutes`: 1 to 60 was expected";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    if body.reason.trim().is_empty() {
        let detail = "`reason`: one line that says what it is for was expected";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    let asks = json!({
        "caller": caller.key, "action": Action::RequestBreakGlass.name(), "principal": principal, "roles": roles,
        "minutes": minutes, "reason": body.reason,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let act = Act::of(Action::RequestBreakGlass)
            .with("principal", json!(principal))
            .with("roles", json!(roles))
            .with("minutes", json!(minutes))
            .with("reason", json!(body.reason));
        let id = BreakGlassId::from_uuid(app.clock.id());
        let record = app
            .permit(&caller, act.with("break_glass", json!(id)))
            .await?;
        live_person(&app, caller.tenant, principal).await?;
        let at = app.exact_time().await?;
        let shown = Shown {
            id,
            state: Phase::Pending,
            principal: principal.clone(),
            roles: roles.clone(),
            minutes,
            reason: body.reason.clone(),
            requested_by: caller.principal.name.clone(),
            requested_at: at,
            expires_at: later(at, PATIENCE),
            approved_by: None,
            approved_at: None,
            ends_at: None,
            ended_by: None,
            ended_at: None,
        };
        let answer = Answer::of(named.as_ref(), &shown)?;
        let new = NewBreakGlass {
            id,
            principal,
            roles: &roles,
            minutes,
            reason: &body.reason,
            requested_by: &shown.requested_by,
            requester_key: caller.key,
            requested_at: at,
            expires_at: shown.expires_at,
        };
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        app.store
            .request_break_glass(caller.tenant, new, change)
            .await?;
        tell(&caller, &record, &shown, "break-glass requested");
        Ok((Revision::default(), shown))
    };
    let (_, shown) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    let location = format!("/v1/break-glass/{}", shown.id);
    let mut response = (StatusCode::CREATED, Json(shown)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Lists grants, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "break_glass", "tenant": caller.tenant });
    let paging = Paging::<BreakGlassId>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .break_glasses(caller.tenant, paging.after, paging.limit + 1)
        .await?;
    let at = app.exact_time().await?;
    let (found, next) = paging.cut(&app, found, |last| last.id)?;
    let grants: Vec<_> = found.into_iter().map(|one| Shown::of(one, at)).collect();
    Ok(paging::answer(&uri, "grants", &grants, next.as_deref()))
}

/// Answers with one grant.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<BreakGlassId>,
) -> Result<Response, Problem> {
    let found = find(&app, caller.tenant, id).await?;
    let at = app.exact_time().await?;
    Ok(Json(Shown::of(found, at)).into_response())
}

/// Agrees to a grant, which is active from now on.
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<BreakGlassId>,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let asks =
        json!({ "caller": caller.key, "action": Action::ApproveBreakGlass.name(), "grant": id });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let found = find(&app, tenant, id).await?;
        let record = app
            .permit(
                &caller,
                about(&app, Action::ApproveBreakGlass, &caller, &found).await?,
            )
            .await?;
        let at = app.exact_time().await?;
        if !found.waits(at) {
            let detail = "it does not wait for approval: that has been given, or it is over";
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
        let asked = Act::of(Action::RequestBreakGlass);
        let (by, with) = (&found.requested_by, found.requester_key);
        if !still_may(&app, tenant, by, with, &asked).await? {
            let detail = format!("`{by}` asked for it, and may not any more");
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
        live_person(&app, tenant, &found.principal).await?;
        let ends_at = later(at, Duration::from_mins(found.minutes.into()));
        let approver = caller.principal.name.clone();
        let shown = Shown {
            state: Phase::Active,
            approved_by: Some(approver.clone()),
            approved_at: Some(at),
            ends_at: Some(ends_at),
            ..Shown::of(found, at)
        };
        let answer = Answer::of(named.as_ref(), &shown)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        app.store
            .approve_break_glass(tenant, id, (&approver, caller.key), (at, ends_at), change)
            .await?;
        app.glass.keep(id, ends_at);
        tell(&caller, &record, &shown, "break-glass approved");
        Ok((Revision::default(), shown))
    };
    let (_, shown) = once(&app, tenant, named.as_ref(), Box::pin(make)).await?;
    Ok(Json(shown).into_response())
}

/// Ends a grant, or takes back what was asked.
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<BreakGlassId>,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let asks = json!({ "caller": caller.key, "action": Action::EndBreakGlass.name(), "grant": id });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let found = find(&app, tenant, id).await?;
        let record = app
            .permit(
                &caller,
                about(&app, Action::EndBreakGlass, &caller, &found).await?,
            )
            .await?;
        let at = app.exact_time().await?;
        let answer = Answer::of(named.as_ref(), &())?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        app.store
            .end_break_glass(tenant, id, &caller.principal.name, at, change)
            .await?;
        app.glass.forget(id);
        tell(&caller, &record, &Shown::of(found, at), "break-glass ended");
        Ok((Revision::default(), ()))
    };
    let (_, ()) = once(&app, tenant, named.as_ref(), Box::pin(make)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Says what is done to a grant, and whether by whoever asked for it or is to have it.
async fn about(
    app: &App,
    action: Action,
    caller: &Caller,
    grant: &StoredBreakGlass,
) -> Result<Act, Problem> {
    let accounts = accounts(app, caller.tenant, &caller.principal.name).await?;
    let own = accounts.contains(&grant.requested_by) || accounts.contains(&grant.principal);
    Ok(Act::on(action, &grant.id)
        .own(own)
        .with("principal", json!(grant.principal))
        .with("requested_by", json!(grant.requested_by))
        .with("roles", json!(grant.roles))
        .with("minutes", json!(grant.minutes))
        .with("reason", json!(grant.reason)))
}

async fn find(app: &App, tenant: TenantId, id: BreakGlassId) -> Result<StoredBreakGlass, Problem> {
    let found = app.store.break_glass(tenant, id).await?;
    found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such break-glass grant"))
}

/// Makes sure that whoever is to have a grant is a person, and enabled.
async fn live_person(app: &App, tenant: TenantId, name: &PrincipalName) -> Result<(), Problem> {
    let found = app.store.principal(tenant, name).await?;
    let live = found.is_some_and(|found| {
        found.disabled_at.is_none() && found.principal.kind == PrincipalKind::Person
    });
    if live {
        return Ok(());
    }
    let detail = format!("`{name}` is no person who is enabled; only such a one has break-glass");
    Err(Problem::new(Kind::CONFLICT, detail))
}

/// Writes the line of a change, which is a warning.
fn tell(caller: &Caller, record: &AdminAction, grant: &Shown, what: &str) {
    tracing::warn!(
        target: "remit::admin", action = record.action, tenant = %caller.tenant, key = %caller.key,
        principal = %record.principal, request_id = caller.request_id, break_glass = %grant.id,
        grantee = %grant.principal, minutes = grant.minutes, "{what}"
    );
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_add(by))
}

// === impl Shown ===

impl Shown {
    fn of(stored: StoredBreakGlass, at: Timestamp) -> Self {
        let state = if stored.waits(at) {
            Phase::Pending
        } else if stored.is_active(at) {
            Phase::Active
        } else {
            Phase::Ended
        };
        let by_itself = stored.ends_at.unwrap_or(stored.expires_at);
        let ended_at = (state == Phase::Ended).then(|| stored.ended_at.unwrap_or(by_itself));
        let (approved_by, approved_at) = stored.approved.unzip();
        Self {
            id: stored.id,
            state,
            principal: stored.principal,
            roles: stored.roles,
            minutes: stored.minutes,
            reason: stored.reason,
            requested_by: stored.requested_by,
            requested_at: stored.requested_at,
            expires_at: stored.expires_at,
            approved_by,
            approved_at,
            ends_at: stored.ends_at,
            ended_by: stored.ended_by,
            ended_at,
        }
    }
}

impl Wire for RequestBody {}
