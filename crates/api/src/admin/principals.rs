//! `/v1/principals`: who administers, and in which roles.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use remit_core::{AdminAction, Principal, PrincipalKind, PrincipalName, Revision, Role, Timestamp};
use remit_store::{Behind, Change, StoredPrincipal};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lockout::{Roster, head};
use super::{Act, Action, system};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Page, Paging};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire};

/// What a principal is to be; its name is in the path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrincipalBody {
    kind: PrincipalKind,
    roles: BTreeSet<Role>,
    /// The natural person behind it; `""` for nobody but itself. Without it, whoever was.
    person: Option<String>,
}

/// A principal as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    #[serde(flatten)]
    principal: Principal,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<PrincipalName>,
}

/// Lists the principals by name, disabled ones included.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "principals", "tenant": caller.tenant });
    let paging = Paging::<PrincipalName>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .principals(caller.tenant, paging.after.as_ref(), paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.principal.name.clone())?;
    let principals: Vec<_> = found.into_iter().map(Shown::from).collect();
    Ok(paging::answer(
        &uri,
        "principals",
        &principals,
        next.as_deref(),
    ))
}

/// Answers with one principal.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Response, Problem> {
    let name = named(&name)?;
    let found = app.store.principal(caller.tenant, &name).await?;
    Ok(Json(Shown::from(found.ok_or_else(|| absent(&name))?)).into_response())
}

/// Makes a principal, or gives one other roles; either way it is enabled.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(PrincipalBody {
        kind,
        roles,
        person,
    }): Body<PrincipalBody>,
) -> Result<Response, Problem> {
    let principal = Principal {
        kind,
        name: named(&name)?,
        roles,
    };
    let asks = json!({
        "caller": caller.key, "action": Action::PutPrincipal.name(), "principal": principal, "person": person,
    });
    let request = Named::of(&key, move || asks).await?;
    let first: Option<PrincipalName> =
        match person.as_deref() {
            None | Some("") => None,
            Some(person) => Some(person.parse().map_err(|error| {
                Problem::new(Kind::INVALID_REQUEST, format!("`person`: {error}"))
            })?),
        };
    let behind = match (&person, &first) {
        (None, _) => Behind::AsItWas,
        (Some(_), None) => Behind::Itself,
        (Some(_), Some(first)) => Behind::Person(first),
    };
    let make = put_once(&app, &caller, (&principal, behind), request.as_ref());
    let (revision, shown) = once(&app, caller.tenant, request.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = Json(shown).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Disables a principal; again changes nothing.
pub(crate) async fn disable(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let name = named(&name)?;
    let asks =
        json!({ "caller": caller.key, "action": Action::DisablePrincipal.name(), "name": name });
    let request = Named::of(&key, move || asks).await?;
    let make = disable_once(&app, &caller, &name, request.as_ref());
    let (revision, ()) = once(&app, caller.tenant, request.as_ref(), make).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn put_once(
    app: &App,
    caller: &Caller,
    (principal, behind): (&Principal, Behind<'_>),
    request: Option<&Named>,
) -> Result<(Revision, Shown), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let before = app.store.principal(tenant, &principal.name).await?;
        if let Some(before) = before
            .as_ref()
            .filter(|one| one.principal.kind != principal.kind)
        {
            let detail = format!(
                "`{}` is a {} and stays one; a record that names it must go on meaning the same",
                principal.name, before.principal.kind
            );
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
        let stood = before.as_ref().and_then(|one| one.person.clone());
        let behind_it = match behind {
            Behind::AsItWas => stood.clone(),
            Behind::Itself => None,
            Behind::Person(person) => Some(person.clone()),
        };
        let own = is_own(app, caller, principal, [&stood, &behind_it]).await?;
        let act = Act::on(Action::PutPrincipal, &principal.name)
            .own(own)
            .loosens(stood != behind_it)
            .with("kind", json!(principal.kind))
            .with("person", json!(behind_it))
            .with("roles", json!(principal.roles))
            .with(
                "before",
                json!(before.as_ref().map(|one| &one.principal.roles)),
            );
        let record = app.permit(caller, act).await?;
        let roster = Roster::of(app, tenant).await?.with_principal(principal);
        // Under break-glass it cures a lock-out, and what locks out does not count.
        let system = match record.break_glass {
            Some(_) => system::alone()?,
            None => system::in_force(app, tenant).await?,
        };
        roster.check(&system)?;
        let shown = Shown {
            principal: principal.clone(),
            created_at: before.map_or_else(|| app.clock.now(), |one| one.created_at),
            disabled_at: None,
            person: behind_it,
        };
        let answer = Answer::of(request, &shown)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let written =
            app.store
                .put_principal_of(tenant, Some(checked), (principal, behind), change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                log(caller, &record, revision);
                return Ok((revision, shown));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Whether a principal is whoever makes the change: by its name, or because one natural person is or will be behind both.
async fn is_own(
    app: &App,
    caller: &Caller,
    principal: &Principal,
    behind: [&Option<PrincipalName>; 2],
) -> Result<bool, Problem> {
    let by = &caller.principal.name;
    let found = app.store.principal(caller.tenant, by).await?;
    let me = found.and_then(|found| found.person);
    let me = me.unwrap_or_else(|| by.clone());
    let mut named = behind.into_iter().flatten();
    Ok(principal.name == *by || principal.name == me || named.any(|person| *person == me))
}

async fn disable_once(
    app: &App,
    caller: &Caller,
    name: &PrincipalName,
    request: Option<&Named>,
) -> Result<(Revision, ()), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let found = app.store.principal(tenant, name).await?;
        found.ok_or_else(|| absent(name))?;
        let act = Act::on(Action::DisablePrincipal, name).own(*name == caller.principal.name);
        let record = app.permit(caller, act).await?;
        let roster = Roster::of(app, tenant).await?.without_principal(name);
        let system = system::in_force(app, tenant).await?;
        roster.check(&system)?;
        let answer = Answer::of(request, &())?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let written = app
            .store
            .disable_principal(tenant, Some(checked), name, change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                log(caller, &record, revision);
                return Ok((revision, ()));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Writes the log line of a change.
pub(crate) fn log(caller: &Caller, record: &AdminAction, revision: Revision) {
    tracing::info!(
        target: "remit::admin", action = record.action, tenant = %caller.tenant, key = %caller.key,
        principal = %record.principal, request_id = caller.request_id, revision = revision.number(),
        resource = %record.resource, "admin"
    );
}

fn named(name: &str) -> Result<PrincipalName, Problem> {
    name.parse()
        .map_err(|error| Problem::new(Kind::INVALID_REQUEST, format!("`name`: {error}")))
}

fn absent(name: &PrincipalName) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is no principal `{name}`"))
}

// === impl Shown ===

impl From<StoredPrincipal> for Shown {
    fn from(stored: StoredPrincipal) -> Self {
        Self {
            principal: stored.principal,
            created_at: stored.created_at,
            disabled_at: stored.disabled_at,
            person: stored.person,
        }
    }
}

impl Wire for PrincipalBody {}
