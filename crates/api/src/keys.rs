//! `/v1/keys` and `/v1/whoami`: API keys and what they may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use remit_core::{KeyId, Revision, TenantId, Timestamp};
use remit_store::{NewKey, Scope, StoredKey};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::layers::Told;
use crate::problem::{Kind, Problem};
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
}

/// A key with its secret, which is told this once.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    shown: Shown,
    key: String,
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
    revision: Revision,
}

/// Makes a key.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<KeyBody>,
) -> Result<Response, Problem> {
    let KeyBody {
        name,
        environment,
        scopes,
        expires_at,
    } = body;
    let maker = app.keys.get(caller.key).ok_or(Kind::UNAUTHENTICATED)?;
    if let Some(missing) = scopes.iter().find(|scope| !maker.may(**scope)) {
        let detail =
            format!("your API key does not have the scope `{missing}`, so it cannot give it");
        return Err(Problem::new(Kind::MISSING_SCOPE, detail));
    }
    if expires_at.is_some_and(|end| end <= app.clock.now()) {
        return Err(Problem::new(
            Kind::INVALID_REQUEST,
            "`expires_at` must be in the future",
        ));
    }
    let new = NewKey {
        name,
        environment,
        scopes,
        expires_at,
    };
    let (stored, key) = app
        .store
        .create_key(caller.tenant, &new, app.keys.pepper())
        .await?;
    let revision = settle(&app, &caller).await?;
    tracing::info!(
        target: "remit::admin", action = "create_key", tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, revision = revision.number(), created = %stored.id, "admin"
    );
    let location = format!("/v1/keys/{}", stored.id);
    let body = Json(Created {
        shown: stored.into(),
        key: key.reveal(),
    });
    let mut response = (StatusCode::CREATED, body).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Told::revision(revision).attach(&mut response);
    Ok(response)
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
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    app.store.key(caller.tenant, id).await?.ok_or_else(absent)?;
    let revision = app.store.revoke_key(caller.tenant, id).await?;
    tracing::info!(
        target: "remit::admin", action = "revoke_key", tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, revision = revision.number(), revoked = %id, "admin"
    );
    revisions::settle(&app, caller.tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
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
        revision,
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
        }
    }
}

impl Wire for KeyBody {}
