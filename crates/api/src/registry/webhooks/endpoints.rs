//! `/v1/webhooks`: where a tenant wants to be told what happens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{Revision, TenantId, WebhookId};
use remit_store::{Change, Hook, StoredWebhook, WebhookTarget};
use serde_json::json;
use uuid::Uuid;

use super::delivering::cloud_event;
use super::shown::{
    Created, Given, Phase, Rotated, Sent, Shown, Standing, Wanted, WebhookBody, invalid, standing,
};
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
use crate::wire::{Body, Json};

/// How long the secret that was replaced signs as well.
const OVERLAP: Duration = Duration::from_hours(24);

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
    let target = body.read(&app)?;
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
        reachable(app, target).await?;
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
    let target = body.read(&app)?;
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
            reachable(&app, &target).await?;
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

/// Checks that what the host means now may be sent to; nobody has a name looked up who may not register it.
async fn reachable(app: &App, target: &WebhookTarget) -> Result<(), Problem> {
    let checked = app.webhooks.guard.check(&target.url).await;
    checked.map_err(|refused| invalid(format!("`url`: {refused}")))?;
    Ok(())
}
