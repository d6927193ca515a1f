//! `/v1/keys` and `/v1/whoami`: API keys and what they may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use remit_core::{
    AdminAction, BreakGlassId, KeyId, Principal, PrincipalName, Revision, Role, TenantId, Timestamp,
};
use remit_store::{ApiKey, Change, NewKey, Scope, StandingGrant, StoredKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::lockout::{Roster, head};
use crate::admin::{Act, Action, principals, system};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{self, Until};
use crate::wire::{Body, Json, Wire, absent_if_null};

/// A key to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    name: String,
    environment: String,
    scopes: BTreeSet<Scope>,
    #[serde(default, deserialize_with = "absent_if_null")]
    expires_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "absent_if_null")]
    principal: Option<PrincipalName>,
}

/// A key without its secret.
#[derive(Debug, Serialize)]
struct Shown {
    id: KeyId,
    name: String,
    environment: String,
    scopes: BTreeSet<Scope>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// Who acts through it, where it is bound to somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<PrincipalName>,
}

/// A key with its secret, which is told this once.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    shown: Shown,
    key: String,
}

/// What is kept of a key that was made with a named request: never the secret.
#[derive(Serialize, Deserialize)]
struct Made {
    id: KeyId,
    /// The answer and the record, for the request that made it.
    #[serde(skip)]
    created: Option<(Created, AdminAction)>,
}

#[derive(Debug, Serialize)]
struct KeyList {
    keys: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct WhoAmI {
    key: KeyId,
    tenant: TenantId,
    environment: String,
    scopes: BTreeSet<Scope>,
    principal: Principal,
    revision: Revision,
    /// More roles for some minutes, where somebody agreed to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    break_glass: Option<Broken>,
}

#[derive(Debug, Serialize)]
struct Broken {
    id: BreakGlassId,
    roles: BTreeSet<Role>,
    ends_at: Timestamp,
}

/// Makes a key. Its secret is told once: a request that is sent again under its name is told only which key it made.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<KeyBody>,
) -> Result<Response, Problem> {
    let KeyBody {
        name,
        environment,
        scopes,
        expires_at,
        principal,
    } = body;
    let new = NewKey {
        name,
        environment,
        scopes,
        expires_at,
        principal,
    };
    let asks = json!({
        "caller": caller.key, "action": Action::CreateKey.name(), "name": new.name, "environment": new.environment,
        "scopes": new.scopes, "expires_at": new.expires_at, "principal": new.principal,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = create_once(&app, &caller, &new, named.as_ref());
    let (_, outcome) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let Some((created, record)) = outcome.created else {
        let detail = format!(
            "this request made the key {} before, and a secret is told once; revoke it and make another where it was lost",
            outcome.id
        );
        return Err(Problem::new(Kind::CONFLICT, detail).with("key", json!(outcome.id)));
    };
    let revision = settle(&app, &caller).await?;
    principals::log(&caller, &record, revision);
    let location = format!("/v1/keys/{}", created.shown.id);
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn create_once(
    app: &App,
    caller: &Caller,
    new: &NewKey,
    named: Option<&Named>,
) -> Result<(Revision, Made), Problem> {
    let id = KeyId::from_uuid(app.clock.id());
    let act = Act::of(Action::CreateKey)
        .with("key", json!(id))
        .with("scopes", json!(new.scopes))
        .with("environment", json!(new.environment))
        .with("principal", json!(new.principal));
    let maker = app.keys.get(caller.key).ok_or(Kind::UNAUTHENTICATED)?;
    if let Some(missing) = new.scopes.iter().find(|scope| !maker.may(**scope)) {
        app.deny_scope(caller, &act).await?;
        let detail =
            format!("your API key does not have the scope `{missing}`, so it cannot give it");
        return Err(Problem::new(Kind::MISSING_SCOPE, detail));
    }
    if new.expires_at.is_some_and(|end| end <= app.clock.now()) {
        return Err(Problem::new(
            Kind::INVALID_REQUEST,
            "`expires_at` must be in the future",
        ));
    }
    let record = app.permit(caller, act).await?;
    let secret = ApiKey::generate(&new.environment, id)?;
    let answer = Answer::of(named, &Made { id, created: None })?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let stored = app
        .store
        .insert_key(caller.tenant, &secret, new, app.keys.pepper(), change)
        .await?;
    let created = Created {
        shown: stored.into(),
        key: secret.reveal(),
    };
    let made = Made {
        id,
        created: Some((created, record)),
    };
    Ok((Revision::default(), made))
}

/// Lists every key of the tenant, oldest first.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let keys = app
        .store
        .keys(caller.tenant)
        .await?
        .into_iter()
        .map(Shown::from)
        .collect();
    Ok(Json(KeyList { keys }).into_response())
}

/// Answers with one key.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<KeyId>,
) -> Result<Response, Problem> {
    let found = app.store.key(caller.tenant, id).await?.ok_or_else(absent)?;
    Ok(Json(Shown::from(found)).into_response())
}

/// Revokes a key; again changes nothing.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<KeyId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks = json!({ "caller": caller.key, "action": Action::RevokeKey.name(), "key": id });
    let named = Named::of(&key, move || asks).await?;
    let make = revoke_once(&app, &caller, id, named.as_ref());
    let (revision, ()) = once(&app, caller.tenant, named.as_ref(), make).await?;
    revisions::settle(&app, caller.tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn revoke_once(
    app: &App,
    caller: &Caller,
    id: KeyId,
    named: Option<&Named>,
) -> Result<(Revision, ()), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        app.store.key(tenant, id).await?.ok_or_else(absent)?;
        let record = app.permit(caller, Act::on(Action::RevokeKey, &id)).await?;
        let roster = Roster::of(app, tenant).await?.without_key(id);
        let system = system::in_force(app, tenant).await?;
        roster.check(&system)?;
        let answer = Answer::of(named, &())?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let written = app
            .store
            .revoke_key(tenant, id, Some(checked), change)
            .await;
        match Attempt::of(written)? {
            Attempt::Written(revision) => {
                principals::log(caller, &record, revision);
                return Ok((revision, ()));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Says what the presented key is.
pub(crate) async fn who_am_i(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Problem> {
    let key = app.keys.get(caller.key).ok_or(Kind::UNAUTHENTICATED)?;
    let revision = app
        .engine
        .snapshot(caller.tenant)
        .map_or_else(Revision::default, |snapshot| snapshot.revision());
    let body = WhoAmI {
        key: key.id,
        tenant: key.tenant,
        environment: key.environment.clone(),
        scopes: key.scopes.clone(),
        principal: Principal::clone(&key.principal),
        revision,
        // Nothing is decided by it here, and who a key is can be told without the database.
        break_glass: match app.standing(&caller).await {
            Ok((_, grant)) => grant.map(Broken::from),
            Err(_) => None,
        },
    };
    let mut response = Json(body).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Waits until the newest revision of the tenant is in force here, and with it a key that was just made.
async fn settle(app: &App, caller: &Caller) -> Result<Revision, Problem> {
    let heads = app.store.heads().await?;
    let head = heads
        .iter()
        .find(|head| head.tenant == caller.tenant)
        .ok_or(Kind::NOT_FOUND)?;
    app.reached(caller.tenant, head.revision).await?;
    Ok(head.revision)
}

fn absent() -> Problem {
    Problem::new(Kind::NOT_FOUND, "there is no such key")
}

// === impl Shown ===

impl From<StoredKey> for Shown {
    fn from(key: StoredKey) -> Self {
        let StoredKey {
            id,
            name,
            environment,
            scopes,
            created_at,
            expires_at,
            revoked_at,
            principal,
            bound,
            ..
        } = key;
        Self {
            id,
            name,
            environment,
            scopes,
            created_at,
            expires_at,
            revoked_at,
            principal: bound.then(|| principal.name.clone()),
        }
    }
}

// === impl Broken ===

impl From<StandingGrant> for Broken {
    fn from(grant: StandingGrant) -> Self {
        Self {
            id: grant.id,
            roles: grant.roles,
            ends_at: grant.ends_at,
        }
    }
}

impl Wire for KeyBody {}
