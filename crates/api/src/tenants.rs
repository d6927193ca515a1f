//! `/v1/tenants`: the tenants of this installation, made, suspended, resumed, exported and deleted by who runs it.
//!
//! These are the only operations that concern another tenant than the key's own, and need a scope that no other implies.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body as AnswerBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{AdminAction, AdminActionId, KeyId, Revision, TenantId, Timestamp};
use remit_store::{
    ApiKey, ExportCursor, ExportPage, FirstKey, NewKey, Operation, Scope, Tenant, TenantState,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::paging::{self, Page, Paging};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{self, Until};
use crate::sync::SHORTEST;
use crate::sync::progress::chain;
use crate::wire::{Body, Json, Wire, absent_if_null};

/// What the first key of a tenant is called.
const FIRST_KEY: &str = "first";
/// The environment of the first key where the caller does not say.
const ENVIRONMENT: &str = "live";
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// A tenant to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantBody {
    name: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    environment: Option<String>,
}

/// The name of the tenant to be deleted, said again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmed {
    name: String,
}

/// A tenant, as who runs Remit sees it.
#[derive(Debug, Serialize)]
struct Shown {
    id: TenantId,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    state: Standing,
    revision: Revision,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    second_person: bool,
}

/// What may be done with a tenant.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Active,
    Suspended,
    Deleting,
    Deleted,
}

/// A tenant with its first key, which is told this once.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    shown: Shown,
    key: String,
}

/// What is kept of a tenant that was made with a named request: never the key.
#[derive(Serialize, Deserialize)]
struct Born {
    tenant: TenantId,
    /// Its first key, for the request that made it.
    #[serde(skip)]
    key: Option<ApiKey>,
}

/// An export under way.
struct Export {
    app: Arc<App>,
    tenant: TenantId,
    /// What is to be sent first.
    page: ExportPage,
    rows: BTreeMap<&'static str, u64>,
}

/// Makes a tenant with its first key, both or neither. The key is told once: a request that is sent again under its name is
/// told only which tenant it made.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<TenantBody>,
) -> Result<Response, Problem> {
    let TenantBody { name, environment } = body;
    let environment = environment.unwrap_or_else(|| ENVIRONMENT.to_owned());
    let asks = json!({
        "caller": caller.key, "action": Action::CreateTenant.name(), "name": name, "environment": environment,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(create_once(
        &app,
        &caller,
        name,
        environment,
        named.as_ref(),
    ));
    let (_, Born { tenant, key }) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let Some(key) = key else {
        let detail = format!(
            "this request made the tenant {tenant} before, and its first key is told once; where it was lost, suspend and \
             delete the tenant and make it again"
        );
        return Err(Problem::new(Kind::CONFLICT, detail).with("tenant", json!(tenant)));
    };
    let shown = Shown::from(find(&app, tenant).await?);
    app.reached(tenant, shown.revision).await?;
    let location = format!("/v1/tenants/{tenant}");
    let key = key.reveal();
    let mut response = (StatusCode::CREATED, Json(Created { shown, key })).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn create_once(
    app: &App,
    caller: &Caller,
    name: String,
    environment: String,
    named: Option<&Named>,
) -> Result<(Revision, Born), Problem> {
    let tenant = TenantId::from_uuid(app.clock.id());
    // It can give each of these to other keys, and none that it does not have.
    let new = NewKey {
        name: FIRST_KEY.to_owned(),
        environment,
        scopes: Scope::ALL.iter().copied().collect(),
        expires_at: None,
        principal: None,
    };
    new.check()?;
    let first = KeyId::from_uuid(app.clock.id());
    let key = ApiKey::generate(&new.environment, first)?;
    let act = Act::of(Action::CreateTenant)
        .with("created", json!(tenant))
        .with("name", json!(name));
    let record = app.permit(caller, act).await?;
    let born = Born { tenant, key: None };
    let answer = Answer::of(named, &born)?;
    let operation = Operation {
        once: answer.once(),
        ..operation(caller, &record)
    };
    let id = AdminActionId::from_uuid(app.clock.id());
    let first = FirstKey {
        key: &key,
        new: &new,
        pepper: app.keys.pepper(),
        record: &new.record(id, app.now(), tenant, first),
    };
    app.store
        .create_tenant(tenant, &name, Some(first), Some(operation))
        .await?;
    tracing::info!(
        target: "remit::admin", action = "create_tenant", tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, created = %tenant, created_key = %key.id(), "admin"
    );
    let key = Some(key);
    Ok((Revision::default(), Born { key, ..born }))
}

/// Lists tenants, oldest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    uri: Uri,
    Query(Page { limit, cursor }): Query<Page>,
) -> Result<Response, Problem> {
    let paging = Paging::<TenantId>::of(&app, &"tenants", limit, cursor.as_deref())?;
    let found = app.store.tenants(paging.after, paging.limit + 1).await?;
    let (found, next) = paging.cut(&app, found, |last| last.id)?;
    let tenants: Vec<_> = found.into_iter().map(Shown::from).collect();
    Ok(paging::answer(&uri, "tenants", &tenants, next.as_deref()))
}

/// Answers with one tenant, a deleted one included.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    _: Caller,
    Segments(id): Segments<TenantId>,
) -> Result<Response, Problem> {
    Ok(Json(Shown::from(find(&app, id).await?)).into_response())
}

/// Suspends a tenant; again changes nothing.
pub(crate) async fn suspend(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TenantId>,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    not_own(&caller, id)?;
    let record = app
        .permit(&caller, Act::on(Action::SuspendTenant, &id))
        .await?;
    let operation = Some(operation(&caller, &record));
    let revision = app.store.suspend_tenant(id, operation).await?;
    note(&caller, "suspend_tenant", (id, revision));
    // Not until the revision is in force: one that cannot be loaded is to be stopped all the same.
    let refused = async {
        loop {
            app.progress.nudge();
            if app
                .progress
                .standing(id)
                .is_some_and(|tenant| tenant.suspended())
            {
                return;
            }
            tokio::time::sleep(SHORTEST).await;
        }
    };
    if tokio::time::timeout(app.commit_wait(), refused)
        .await
        .is_err()
    {
        return Err(Kind::REVISION_NOT_REACHED.into());
    }
    if until.wait.is_some() {
        revisions::settle(&app, id, revision, until).await?;
    }
    Ok(Json(Shown::from(find(&app, id).await?)).into_response())
}

/// Resumes a tenant; again changes nothing.
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TenantId>,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let record = app
        .permit(&caller, Act::on(Action::ResumeTenant, &id))
        .await?;
    let operation = Some(operation(&caller, &record));
    let revision = app.store.resume_tenant(id, operation).await?;
    note(&caller, "resume_tenant", (id, revision));
    revisions::settle(&app, id, revision, until).await?;
    Ok(Json(Shown::from(find(&app, id).await?)).into_response())
}

/// Logs a change of a tenant's state.
fn note(caller: &Caller, action: &'static str, (id, revision): (TenantId, Revision)) {
    tracing::info!(
        target: "remit::admin", action, tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, revision = revision.number(), changed = %id, "admin"
    );
}

/// Deletes a suspended tenant with everything that belongs to it.
///
/// What was begun is finished though the client goes away; where the process goes away it is asked for again.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TenantId>,
    Query(Confirmed { name }): Query<Confirmed>,
) -> Result<Response, Problem> {
    not_own(&caller, id)?;
    let act = Act::on(Action::DeleteTenant, &id).with("name", json!(name));
    let record = app.permit(&caller, act).await?;
    let operation = Some(operation(&caller, &record));
    app.store.delete_tenant(id, &name, operation).await?;
    tracing::info!(
        target: "remit::admin", action = "delete_tenant", tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, deleted = %id, "admin"
    );
    app.progress.nudge();
    let store = app.store.clone();
    let erasing = tokio::spawn(async move {
        let erased = store.erase_tenant(id).await;
        match &erased {
            Ok(rows) => {
                tracing::info!(target: "remit::admin", action = "erase_tenant", erased = %id, rows, "admin");
            }
            Err(error) => {
                let cause = chain(error);
                tracing::error!(tenant = %id, cause, "a deleted tenant could not be erased; delete it again");
            }
        }
        erased
    });
    let status = match tokio::time::timeout(app.commit_wait(), erasing).await {
        Ok(Ok(erased)) => {
            erased?;
            StatusCode::OK
        }
        Ok(Err(crashed)) => return Err(Problem::caused(Kind::INTERNAL, crashed)),
        Err(_) => StatusCode::ACCEPTED,
    };
    Ok((status, Json(Shown::from(find(&app, id).await?))).into_response())
}

/// Streams everything that belongs to a tenant, a JSON object a line.
///
/// The last line says how many rows of each table there were: an export without it was cut off.
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TenantId>,
) -> Result<Response, Problem> {
    let tenant = find(&app, id).await?;
    if matches!(tenant.state(), TenantState::Deleting | TenantState::Deleted) {
        return Err(absent());
    }
    let act = Act::on(Action::ExportTenant, &id);
    let record = app.permit(&caller, act).await?;
    let page = app.store.export_tenant(id, None).await?;
    // Everything that a tenant has goes out: it is known by whom before the first line does.
    app.store.record_alone(caller.tenant, &record).await?;
    tracing::info!(
        target: "remit::admin", action = "export_tenant", tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, exported = %id, "admin"
    );
    let head = serde_json::to_value(Shown::from(tenant))
        .map(|tenant| json!({ "tenant": tenant }))
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let export = Export {
        app,
        tenant: id,
        page,
        rows: BTreeMap::new(),
    };
    let pages = stream::try_unfold(Some(export), |export| async {
        match export {
            Some(export) => export.step().await.map(Some),
            None => Ok(None),
        }
    });
    let head = stream::once(async move { Ok(format!("{head}\n")) });
    let lines = futures_util::StreamExt::chain(head, pages);
    let mut response = AnswerBody::from_stream(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, LINES);
    Ok(response)
}

/// Has the record of what is done to another tenant kept in the caller's own.
fn operation<'a>(caller: &Caller, record: &'a AdminAction) -> Operation<'a> {
    Operation {
        of: caller.tenant,
        record,
        once: None,
    }
}

async fn find(app: &App, id: TenantId) -> Result<Tenant, Problem> {
    app.store.tenant(id).await?.ok_or_else(absent)
}

/// Keeps who runs Remit from locking themselves out.
fn not_own(caller: &Caller, id: TenantId) -> Result<(), Problem> {
    if caller.tenant == id {
        let detail = "this is the tenant of your own API key; a key of another tenant can do it";
        return Err(Problem::new(Kind::CONFLICT, detail));
    }
    Ok(())
}

fn absent() -> Problem {
    Problem::new(Kind::NOT_FOUND, "there is no such tenant")
}

// === impl Export ===

impl Export {
    /// Writes the page at hand and reads the next; an error cuts the answer off.
    async fn step(mut self) -> Result<(String, Option<Self>), remit_store::Error> {
        let ExportPage { table, rows, next } = self.page;
        let count = self.rows.entry(table).or_default();
        *count = count.saturating_add(rows.len() as u64);
        let mut text = rows.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        let Some(cursor) = next else {
            // What was deleted meanwhile is not whole, however many rows were read before.
            let still = self.app.store.tenant(self.tenant).await?;
            if still.is_none_or(|tenant| tenant.deleted_at.is_some()) {
                return Err(remit_store::Error::NotFound { what: "tenant" });
            }
            text.push_str(&json!({ "end": { "rows": self.rows } }).to_string());
            text.push('\n');
            return Ok((text, None));
        };
        self.page = read(&self.app, self.tenant, &cursor).await?;
        Ok((text, Some(self)))
    }
}

async fn read(
    app: &App,
    tenant: TenantId,
    cursor: &ExportCursor,
) -> Result<ExportPage, remit_store::Error> {
    app.store
        .export_tenant(tenant, Some(cursor))
        .await
        .inspect_err(|error| {
            tracing::error!(%tenant, cause = chain(error), "an export is cut off");
        })
}

// === impl Shown ===

impl From<Tenant> for Shown {
    fn from(tenant: Tenant) -> Self {
        Self {
            state: match tenant.state() {
                TenantState::Active => Standing::Active,
                TenantState::Suspended => Standing::Suspended,
                TenantState::Deleting => Standing::Deleting,
                TenantState::Deleted => Standing::Deleted,
            },
            id: tenant.id,
            name: tenant.name,
            revision: tenant.revision,
            created_at: tenant.created_at,
            suspended_at: tenant.suspended_at,
            deleted_at: tenant.deleted_at,
            second_person: tenant.second_person,
        }
    }
}

impl Wire for TenantBody {}
