//! `/v1/approver-delegations`: who answers in the place of whom, until a moment.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{PrincipalKind, PrincipalName, Revision, Role, Timestamp};
use remit_store::{Change, StoredDelegation};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::{Act, Action, lockout::head, principals};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Page, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::registry::line;
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire};

/// For how long a part can be handed on at most.
const LONGEST: Duration = Duration::from_hours(90 * 24);

/// A delegation to be made or replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelegationBody {
    to: PrincipalName,
    until: Timestamp,
    reason: String,
}

/// A delegation as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    from: PrincipalName,
    to: PrincipalName,
    until: Timestamp,
    reason: String,
    made_by: PrincipalName,
    at: Timestamp,
    /// Whether it counts.
    in_force: bool,
}

/// Lists the delegations by whose part it is, those that are over included.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "approver_delegations", "tenant": caller.tenant });
    let paging = Paging::<PrincipalName>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .approver_delegations(caller.tenant, paging.after.as_ref(), paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.from.clone())?;
    let now = app.exact_time().await?;
    let shown: Vec<_> = found.into_iter().map(|one| Shown::of(one, now)).collect();
    Ok(paging::answer(&uri, "delegations", &shown, next.as_deref()))
}

/// Answers with the delegation of one principal, be it over.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(from): Segments<String>,
) -> Result<Response, Problem> {
    let from = named(&from)?;
    let found = app.store.approver_delegation(caller.tenant, &from).await?;
    let found = found.ok_or_else(|| absent(&from))?;
    let revision = found.revision;
    let now = app.exact_time().await?;
    let mut response = Json(Shown::of(found, now)).into_response();
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Hands the part of somebody on, in place of whoever had it.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(from): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<DelegationBody>,
) -> Result<Response, Problem> {
    let from = named(&from)?;
    line("reason", &body.reason, 1_024)?;
    let asks = json!({
        "caller": caller.key, "action": Action::PutApproverDelegation.name(), "from": from, "delegation": body,
    });
    let request = Named::of(&key, move || asks).await?;
    let make = put_once(
        &app,
        &caller,
        (&from, &body),
        &preconditions,
        request.as_ref(),
    );
    let (revision, shown) = once(&app, caller.tenant, request.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = Json(shown).into_response();
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn put_once(
    app: &App,
    caller: &Caller,
    (from, body): (&PrincipalName, &DelegationBody),
    preconditions: &Preconditions,
    request: Option<&Named>,
) -> Result<(Revision, Shown), Problem> {
    let tenant = caller.tenant;
    let by = &caller.principal.name;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let before = app.store.approver_delegation(tenant, from).await?;
        preconditions.check(before.as_ref().map(|stored| stored.revision))?;
        let at = app.exact_time().await?;
        let mine = app.store.mandates(tenant, by, at).await?.own;
        let act = Act::on(Action::PutApproverDelegation, from.as_str())
            .own(from == by)
            .loosens(mine.contains(&body.to))
            .with("to", json!(body.to))
            .with("until", json!(body.until))
            .with("reason", json!(body.reason));
        let record = app.permit(caller, act).await?;
        check(app, caller, (from, body), at).await?;
        let new = StoredDelegation {
            from: from.clone(),
            to: body.to.clone(),
            until: body.until,
            reason: body.reason.clone(),
            made_by: by.clone(),
            at,
            revision: Revision::default(),
        };
        let shown = Shown::of(new.clone(), at);
        let answer = Answer::of(request, &shown)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let written = app
            .store
            .put_approver_delegation(tenant, Some(checked), &new, change)
            .await;
        match Attempt::of(written)? {
            Attempt::Written(revision) => {
                principals::log(caller, &record, revision);
                return Ok((revision, shown));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Takes the part of somebody back at once.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(from): Segments<String>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let from = named(&from)?;
    let asks = json!({ "caller": caller.key, "action": Action::DeleteApproverDelegation.name(), "from": from });
    let request = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let before = app.store.approver_delegation(tenant, &from).await?;
            let before = before.ok_or_else(|| absent(&from))?;
            let act = Act::on(Action::DeleteApproverDelegation, from.as_str())
                .own(from == caller.principal.name)
                .with("to", json!(before.to));
            let record = app.permit(&caller, act).await?;
            let answer = Answer::of(request.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written = app
                .store
                .delete_approver_delegation(tenant, Some(checked), &from, change)
                .await;
            match Attempt::of(written)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, ()));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, ()): (Revision, ()) =
        once(&app, caller.tenant, request.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Makes sure that both are enabled persons with the role, and that it ends.
async fn check(
    app: &App,
    caller: &Caller,
    (from, body): (&PrincipalName, &DelegationBody),
    at: Timestamp,
) -> Result<(), Problem> {
    let wrong = |detail: String| Err(Problem::new(Kind::INVALID_REQUEST, detail));
    if *from == body.to {
        return wrong("`to` must be somebody else".to_owned());
    }
    let longest = i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX);
    let last = at.micros().saturating_add(longest);
    if body.until <= at || body.until.micros() > last {
        return wrong("`until` must be in the future, and at most 90 days ahead".to_owned());
    }
    for (member, name) in [("from", from), ("to", &body.to)] {
        let found = app.store.principal(caller.tenant, name).await?;
        let fits = found.is_some_and(|found| {
            found.disabled_at.is_none()
                && found.principal.kind == PrincipalKind::Person
                && found.principal.roles.contains(&Role::Approver)
        });
        if !fits {
            return wrong(format!(
                "`{member}`: `{name}` must be an enabled person with the role `approver`"
            ));
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<PrincipalName, Problem> {
    name.parse()
        .map_err(|error| Problem::new(Kind::INVALID_REQUEST, format!("`name`: {error}")))
}

fn absent(from: &PrincipalName) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("`{from}` has handed nothing on"))
}

// === impl Shown ===

impl Shown {
    fn of(stored: StoredDelegation, now: Timestamp) -> Self {
        Self {
            in_force: now < stored.until,
            from: stored.from,
            to: stored.to,
            until: stored.until,
            reason: stored.reason,
            made_by: stored.made_by,
            at: stored.at,
        }
    }
}

impl Wire for DelegationBody {}
