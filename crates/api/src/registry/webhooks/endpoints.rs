//! `/v1/webhooks`: where a tenant wants to be told what happens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{PrincipalName, Revision, TenantId, Timestamp, WebhookId};
use remit_store::{Change, DeliveryState, Hook, StoredDelivery, StoredWebhook, WebhookTarget};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::delivering::cloud_event;
use super::signing::Secret;
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
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire, absent_if_null};

/// The most kinds of events of a webhook, and the longest of them in bytes.
const KINDS: (usize, usize) = (32, 64);
/// What the kinds of events begin with.
const FAMILIES: [&str; 3] = ["access_request.", "approval.", "exception."];
/// How long the secret that was replaced signs as well.
const OVERLAP: Duration = Duration::from_hours(24);

/// A webhook to be made or replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookBody {
    url: String,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    callbacks: bool,
    #[serde(default, deserialize_with = "absent_if_null")]
    state: Option<Standing>,
}

/// Which deliveries are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    state: Option<Phase>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Whether a webhook is told what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Enabled,
    Disabled,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Pending,
    Delivered,
    Dead,
}

/// A webhook as it is told.
#[derive(Debug, Serialize)]
struct Shown {
    id: WebhookId,
    url: String,
    events: Vec<String>,
    callbacks: bool,
    state: Standing,
    created_by: PrincipalName,
    created_at: Timestamp,
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<Timestamp>,
}

/// A webhook with its secret, which is told this once.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    shown: Shown,
    secret: String,
}

/// A new secret, which is told this once.
#[derive(Serialize)]
struct Rotated {
    secret: String,
    old_until: Timestamp,
}

/// What is kept of a request that gave out a secret: never the secret.
#[derive(Serialize, Deserialize)]
struct Given {
    webhook: WebhookId,
    until: Timestamp,
    /// For the request that made it.
    #[serde(skip)]
    secret: Option<Secret>,
}

/// A delivery as it is told.
#[derive(Debug, Serialize)]
struct Sent {
    id: Uuid,
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    state: &'static str,
    attempts: u32,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_problem: Option<String>,
}

/// Lists the webhooks, oldest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "webhooks", "tenant": caller.tenant });
    let paging = Paging::<WebhookId>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .webhooks(caller.tenant, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.id)?;
    let now = app.now();
    let shown: Vec<_> = found.into_iter().map(|one| Shown::of(one, now)).collect();
    Ok(paging::answer(&uri, "webhooks", &shown, next.as_deref()))
}

/// Answers with one webhook, without its secret.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let stored = find(&app, caller.tenant, &id).await?;
    if preconditions.unchanged(stored.revision) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        tell(&mut response, stored.revision);
        return Ok(response);
    }
    Ok(shown(&app, stored))
}

/// Makes a webhook. Its secret is told once: a request that is sent again under its name is told only which webhook it made.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<WebhookBody>,
) -> Result<Response, Problem> {
    if body.state == Some(Standing::Disabled) {
        return Err(invalid("`state`: a webhook begins `enabled`"));
    }
    let target = body.read(&app).await?;
    let asks =
        json!({ "caller": caller.key, "action": Action::CreateWebhook.name(), "webhook": body });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(create_once(&app, &caller, &target, named.as_ref()));
    let (revision, given) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let (webhook, secret) = (given.webhook, given.once("made")?);
    settle(&app, caller.tenant, revision, until).await?;
    let stored = find(&app, caller.tenant, &webhook.to_string()).await?;
    let shown = Shown::of(stored, app.now());
    let mut response = (StatusCode::CREATED, Json(Created { shown, secret })).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/webhooks/{webhook}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    private(&mut response);
    tell(&mut response, revision);
    Ok(response)
}

async fn create_once(
    app: &App,
    caller: &Caller,
    target: &WebhookTarget,
    named: Option<&Named>,
) -> Result<(Revision, Given), Problem> {
    let tenant = caller.tenant;
    let id = WebhookId::from_uuid(app.clock.id());
    let secret = Secret::generate()?;
    let sealed = app.webhooks.vault.seal((tenant, id), &secret)?;
    let given = Given {
        webhook: id,
        until: app.now(),
        secret: Some(secret),
    };
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let act = Act::of(Action::CreateWebhook)
            .with("created", json!(id))
            .with("webhook", told(target));
        let record = app.permit(caller, act).await?;
        let answer = Answer::of(named, &given)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let new = (id, &caller.principal.name, target, sealed.as_str());
        let written = app.store.create_webhook(tenant, Some(checked), new, change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                principals::log(caller, &record, revision);
                return Ok((revision, given));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Replaces what a webhook is told and where; `state` disables or enables it, and stays as it is where it is not said.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<WebhookBody>,
) -> Result<Response, Problem> {
    let target = body.read(&app).await?;
    let asks = json!({
        "caller": caller.key, "action": Action::PutWebhook.name(), "id": id, "webhook": body,
    });
    let named = Named::of(&key, move || asks).await?;
    let tenant = caller.tenant;
    let make = async {
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let before = find(&app, tenant, &id).await?;
            preconditions.check(Some(before.revision))?;
            let was = standing(&before);
            let state = body.state.unwrap_or(was);
            let act = Act::on(Action::PutWebhook, &before.id)
                .with("before", told(&before.target))
                .with("state", json!(state))
                .with("webhook", told(&target));
            let record = app.permit(&caller, act).await?;
            let why = format!("{} disabled it", caller.principal.name);
            let disabled = (state == Standing::Disabled).then_some(why.as_str());
            let answer = Answer::of(named.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let new = (before.id, &target, disabled);
            let written = app.store.put_webhook(tenant, Some(checked), new, change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, ()));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, ()) = once(&app, tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, tenant, revision, until).await?;
    let stored = find(&app, tenant, &id).await?;
    Ok(shown(&app, stored))
}

/// Deletes a webhook; what waits for it is not sent any more.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks = json!({ "caller": caller.key, "action": Action::DeleteWebhook.name(), "id": id });
    let named = Named::of(&key, move || asks).await?;
    let tenant = caller.tenant;
    let make = async {
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let before = find(&app, tenant, &id).await?;
            preconditions.check(Some(before.revision))?;
            let act = Act::on(Action::DeleteWebhook, &before.id);
            let record = app.permit(&caller, act).await?;
            let answer = Answer::of(named.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written = app
                .store
                .delete_webhook(tenant, Some(checked), before.id, change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, ()));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, ()): (Revision, ()) = once(&app, tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Gives a webhook a new secret, which is told once; the one that it had signs as well for a day.
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks = json!({ "caller": caller.key, "action": Action::RotateWebhook.name(), "id": id });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(rotate_once(&app, &caller, &id, named.as_ref()));
    let (revision, given) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let old_until = given.until;
    let secret = given.once("given a new secret")?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = Json(Rotated { secret, old_until }).into_response();
    private(&mut response);
    tell(&mut response, revision);
    Ok(response)
}

async fn rotate_once(
    app: &App,
    caller: &Caller,
    id: &str,
    named: Option<&Named>,
) -> Result<(Revision, Given), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let before = find(app, tenant, id).await?;
        let act = Act::on(Action::RotateWebhook, &before.id);
        let record = app.permit(caller, act).await?;
        let secret = Secret::generate()?;
        let sealed = app.webhooks.vault.seal((tenant, before.id), &secret)?;
        let given = Given {
            webhook: before.id,
            until: app.now().plus(OVERLAP),
            secret: Some(secret),
        };
        let answer = Answer::of(named, &given)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let new = (before.id, sealed.as_str(), given.until);
        let written = app.store.rotate_webhook(tenant, Some(checked), new, change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                principals::log(caller, &record, revision);
                return Ok((revision, given));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

/// Sends a webhook an event that says nothing, to try it.
pub(crate) async fn ping(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let stored = find(&app, caller.tenant, &id).await?;
    if standing(&stored) == Standing::Disabled {
        let detail = "the webhook is disabled; enable it with `state` first";
        return Err(Problem::new(Kind::CONFLICT, detail));
    }
    let act = Act::on(Action::PingWebhook, &stored.id);
    let record = app.permit(&caller, act).await?;
    let due = due(&caller, &stored);
    let about = format!("ping/{}", record.id);
    let subject = stored.id.to_string();
    let new = (about, "webhook.ping", subject.as_str());
    let delivery = cloud_event(&app, due, new, (app.now(), json!({})));
    let change = Change {
        record: Some(&record),
        once: None,
    };
    app.store.queue_delivery(due, &delivery, change).await?;
    principals::log(&caller, &record, stored.revision);
    app.progress.loaded();
    let body = json!({ "delivery": delivery.id });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Lists the deliveries of a webhook, newest first.
pub(crate) async fn deliveries(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Segments(id): Segments<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let stored = find(&app, caller.tenant, &id).await?;
    let filter = json!({
        "list": "deliveries", "tenant": caller.tenant, "webhook": stored.id, "state": wanted.state,
    });
    let paging = Paging::<Uuid>::of(&app, &filter, wanted.limit, wanted.cursor.as_deref())?;
    let state = wanted.state.map(Phase::kept);
    let found = app
        .store
        .deliveries(due(&caller, &stored), state, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.id)?;
    let sent: Vec<_> = found.into_iter().map(Sent::of).collect();
    Ok(paging::answer(&uri, "deliveries", &sent, next.as_deref()))
}

fn due(caller: &Caller, stored: &StoredWebhook) -> Hook {
    Hook {
        tenant: caller.tenant,
        webhook: stored.id,
    }
}

async fn find(app: &App, tenant: TenantId, id: &str) -> Result<StoredWebhook, Problem> {
    let absent = || Problem::new(Kind::NOT_FOUND, "there is no such webhook");
    let id = id.parse().map_err(|_| absent())?;
    app.store.webhook(tenant, id).await?.ok_or_else(absent)
}

fn standing(stored: &StoredWebhook) -> Standing {
    match stored.disabled {
        Some(_) => Standing::Disabled,
        None => Standing::Enabled,
    }
}

/// Writes what a webhook is told, and where, into a record.
fn told(target: &WebhookTarget) -> serde_json::Value {
    json!({ "url": target.url, "events": target.kinds, "callbacks": target.callbacks })
}

fn shown(app: &App, stored: StoredWebhook) -> Response {
    let revision = stored.revision;
    let mut response = Json(Shown::of(stored, app.now())).into_response();
    tell(&mut response, revision);
    response
}

fn tell(response: &mut Response, revision: Revision) {
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(response);
}

/// Has nobody keep an answer with a secret.
fn private(response: &mut Response) {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}

// === impl WebhookBody ===

impl WebhookBody {
    /// Checks every member, and that what the host is now may be sent to.
    async fn read(&self, app: &App) -> Result<WebhookTarget, Problem> {
        let (most, longest) = KINDS;
        if self.events.len() > most {
            return Err(invalid(format!("`events`: at most {most} were expected")));
        }
        for (index, kind) in self.events.iter().enumerate() {
            let known = FAMILIES.iter().any(|family| kind.starts_with(family));
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte == b'.';
            if !known || kind.len() > longest || !kind.bytes().all(plain) {
                let families = FAMILIES.join("`, `");
                return Err(invalid(format!(
                    "`events[{index}]`: a kind of event, or the beginning of one up to a dot, was expected, under one of \
                     `{families}`"
                )));
            }
        }
        if self.events.is_empty() && !self.callbacks {
            return Err(invalid(
                "`events`: at least one was expected where `callbacks` is not true",
            ));
        }
        let target = app.webhooks.guard.check(&self.url).await;
        let target = target.map_err(|refused| invalid(format!("`url`: {refused}")))?;
        let mut kinds = self.events.clone();
        kinds.sort();
        kinds.dedup();
        Ok(WebhookTarget {
            url: target.url.to_string(),
            kinds,
            callbacks: self.callbacks,
        })
    }
}

impl Wire for WebhookBody {}

// === impl Given ===

impl Given {
    /// Returns the secret to whoever asked first.
    fn once(self, what: &str) -> Result<String, Problem> {
        let Some(secret) = self.secret else {
            let detail = format!(
                "the webhook {} was {what} by this request before, and its secret is told once; where it was lost, give it \
                 a new one (`POST /v1/webhooks/{}/rotate`)",
                self.webhook, self.webhook
            );
            return Err(Problem::new(Kind::CONFLICT, detail).with("webhook", json!(self.webhook)));
        };
        Ok(secret.reveal())
    }
}

// === impl Shown ===

impl Shown {
    fn of(stored: StoredWebhook, now: Timestamp) -> Self {
        let state = standing(&stored);
        let (disabled_at, disabled_why) = stored.disabled.unzip();
        let before = stored.secrets.before.map(|(_, until)| until);
        Self {
            id: stored.id,
            url: stored.target.url,
            events: stored.target.kinds,
            callbacks: stored.target.callbacks,
            state,
            created_by: stored.created_by,
            created_at: stored.created_at,
            revision: stored.revision,
            disabled_at,
            disabled_why,
            old_secret_until: before.filter(|until| *until > now),
        }
    }
}

// === impl Phase ===

impl Phase {
    fn kept(self) -> DeliveryState {
        match self {
            Self::Pending => DeliveryState::Pending,
            Self::Delivered => DeliveryState::Delivered,
            Self::Dead => DeliveryState::Dead,
        }
    }
}

// === impl Sent ===

impl Sent {
    fn of(stored: StoredDelivery) -> Self {
        Self {
            id: stored.id,
            kind: stored.kind,
            subject: stored.subject,
            state: stored.state.as_str(),
            attempts: stored.attempts,
            at: stored.at,
            next_at: (stored.state == DeliveryState::Pending).then_some(stored.next_at),
            last_at: stored.last_at,
            last_status: stored.last_status,
            last_problem: stored.last_problem,
        }
    }
}
