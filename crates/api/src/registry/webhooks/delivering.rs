//! Delivering: what happened is put into the queues of webhooks, and sent from there until it is taken or given up.
//!
//! Both are kept before anything is sent, so that nothing is lost when a replica dies. Every replica does this; one at a
//! time takes a delivery, and what it took and did not finish is taken again after a while: at least once, never never.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use remit_core::{AdminAction, AdminActionId, EntityUid, Timestamp};
use remit_store::{
    Change, Delivery, DeliveryState, Error, EventId, FORGOTTEN_AT_ONCE, Hook, MOST_PENDING,
    NewDelivery, Outcome, StoredEvent, StoredWebhook,
};
use serde_json::{Value, json};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use super::sending::Message;
use super::{callbacks, signing};
use crate::app::App;
use crate::sync::progress::chain;

/// The longest pause between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest.
const BREATH: Duration = Duration::from_millis(20);
/// To how many webhooks is sent at once, and to how many of one tenant: those that do not answer hold up nobody else's.
const AT_ONCE: usize = 64;
const OF_TENANT: usize = 4;
/// How many events are put into a queue at once.
const EVENTS: u64 = 200;
/// How often what is long over is forgotten.
const FORGETS: Duration = Duration::from_hours(1);
/// How long whoever took a delivery may be silent, beside what its receiver may take.
const SILENCE: Duration = Duration::from_secs(20);
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_hours(4);
/// What a receiver answers that wants nothing any more.
const GONE: u16 = 410;
/// Why a webhook is disabled then.
const WANTS_NOTHING: &str = "the receiver answered 410";
/// What messages are, by whom they are for.
const CLOUD_EVENT: &str = "application/cloudevents+json";
const CALLBACK: &str = "application/json";

/// Tells webhooks what happens, again and again.
pub(crate) async fn keep(app: Arc<App>) {
    let mut sending = JoinSet::new();
    let mut busy = HashMap::new();
    let mut changes = app.progress.changes();
    let mut forgot: Option<Instant> = None;
    let mut failing = false;
    loop {
        while let Some(ended) = sending.try_join_next_with_id() {
            busy.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        match look(&app).await {
            Ok(due) => {
                failing = false;
                for due in due {
                    if has_room(&busy, due) {
                        let task = sending.spawn(serve(Arc::clone(&app), due));
                        busy.insert(task.id(), due);
                    }
                }
            }
            // Once when it begins: what the database lacks is said elsewhere, too.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "webhooks are not told what happens");
                }
            }
        }
        if forgot.is_none_or(|forgot| forgot.elapsed() > FORGETS) {
            forgot = Some(Instant::now());
            forget(&app).await;
        }
        tokio::time::sleep(BREATH).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = changes.changed() => {}
            Some(ended) = sending.join_next_with_id() => {
                busy.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        }
    }
}

/// Whether another one may be sent to.
fn has_room(busy: &HashMap<task::Id, Hook>, due: Hook) -> bool {
    let of_tenant = busy.values().filter(|one| one.tenant == due.tenant);
    busy.len() < AT_ONCE && of_tenant.count() < OF_TENANT && !busy.values().any(|one| *one == due)
}

async fn forget(app: &App) {
    loop {
        match app.store.ahead().forget_deliveries().await {
            // There may be more.
            Ok(FORGOTTEN_AT_ONCE..) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "deliveries of long ago are not forgotten");
                return;
            }
        }
    }
}

/// Puts what happened into the queues, and returns where something waits to be sent.
async fn look(app: &App) -> Result<Vec<Hook>, Error> {
    let store = app.store.ahead();
    for due in store.webhooks_behind().await? {
        match fill(app, due).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            // The trouble of one is not that of the others.
            Err(error @ Error::Corrupt { .. }) => {
                let cause = chain(&error);
                tracing::error!(tenant = %due.tenant, webhook = %due.webhook, cause, "an event cannot be told");
            }
            Err(error) => return Err(error),
        }
    }
    store.webhooks_due(app.now()).await
}

/// Puts the next events into the queue of one webhook.
async fn fill(app: &App, due: Hook) -> Result<(), Error> {
    let store = app.store.ahead();
    let Some(webhook) = store.webhook(due.tenant, due.webhook).await? else {
        return Ok(());
    };
    let room = MOST_PENDING.saturating_sub(store.pending_deliveries(due).await?);
    if webhook.disabled.is_some() || room == 0 {
        return Ok(());
    }
    let limit = usize::try_from(room.min(EVENTS)).unwrap_or(1);
    let page = store.events(due.tenant, Some(webhook.seen), limit).await?;
    let Some(last) = page.events.last() else {
        return Ok(());
    };
    let mut new = Vec::new();
    // A webhook that was made before the first event has missed none.
    if page.lost && webhook.seen != EventId::default() {
        tracing::warn!(
            tenant = %due.tenant, webhook = %due.webhook, after = %webhook.seen,
            "events were forgotten before a webhook was told of them"
        );
        new.push(of_gap(app, due, webhook.seen));
    }
    for event in &page.events {
        if webhook.target.wants(&event.kind) {
            new.push(of_event(app, due, event));
        }
        if webhook.target.callbacks {
            new.extend(callbacks::of_event(app, due, (&webhook, event)).await?);
        }
    }
    store
        .queue_deliveries(due, (webhook.seen, last.id), &new)
        .await?;
    Ok(())
}

/// Tells an event as a CloudEvent.
fn of_event(app: &App, due: Hook, event: &StoredEvent) -> NewDelivery {
    let mut data = event.body.clone();
    if let Value::Object(data) = &mut data {
        data.insert("id".to_owned(), json!(event.subject));
        if event.kind.starts_with("access_request.") || event.kind.starts_with("approval.") {
            let base = app.options.public_url.trim_end_matches('/');
            let review = format!("{base}/approvals/{}", event.subject);
            data.insert("review".to_owned(), json!(review));
        }
    }
    let about = format!("event/{}", event.id);
    cloud_event(
        app,
        due,
        (about, &event.kind, &event.subject),
        (event.at, data),
    )
}

/// Tells that events after one are not kept any more, whatever kinds the webhook is told.
fn of_gap(app: &App, due: Hook, after: EventId) -> NewDelivery {
    let data = json!({ "after": after.to_string() });
    let subject = due.webhook.to_string();
    let about = format!("gap/{after}");
    cloud_event(app, due, (about, "gap", &subject), (app.now(), data))
}

/// Makes a CloudEvent in its structured JSON form.
pub(super) fn cloud_event(
    app: &App,
    due: Hook,
    (about, kind, subject): (String, &str, &str),
    (at, data): (Timestamp, Value),
) -> NewDelivery {
    let id = app.clock.id();
    let base = app.options.public_url.trim_end_matches('/');
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("{base}/{}", due.tenant),
        "type": format!("dev.remit.{kind}"),
        "time": at,
        "subject": subject,
        "datacontenttype": "application/json",
        "data": data,
    });
    NewDelivery {
        id,
        about,
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        url: None,
        body: body.to_string(),
    }
}

/// Sends what waits for one webhook, in order; what fails waits for another time and holds up nothing that comes after.
async fn serve(app: Arc<App>, due: Hook) {
    if let Err(error) = send_all(&app, due).await {
        tracing::warn!(tenant = %due.tenant, webhook = %due.webhook, %error, "a webhook is not told what happens");
    }
}

async fn send_all(app: &App, due: Hook) -> Result<(), Error> {
    let store = app.store.ahead();
    let found = store.webhook(due.tenant, due.webhook).await?;
    let Some(webhook) = found.filter(|webhook| webhook.disabled.is_none()) else {
        return Ok(());
    };
    for delivery in store.deliveries_due(due, app.now()).await? {
        if app.is_retired() {
            return Ok(());
        }
        let lease = app.options.webhooks.timeout + SILENCE;
        let until = app.now().plus(lease);
        if !store.take_delivery(due.tenant, &delivery, until).await? {
            continue;
        }
        let outcome = attempt(app, due, &webhook, &delivery).await;
        let gone = outcome.status == Some(GONE) && delivery.url.is_none();
        store.end_attempt(due.tenant, &delivery, &outcome).await?;
        tracing::info!(
            tenant = %due.tenant, webhook = %due.webhook, delivery = %delivery.id, attempts = delivery.attempts + 1,
            status = outcome.status, problem = outcome.problem, state = outcome.state.as_str(), "a webhook was told"
        );
        if gone {
            return disable(app, due).await;
        }
        // What does not answer does not keep its place for all that waits: the rest has another turn.
        if outcome.problem.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// Makes one attempt and says what came of it.
async fn attempt(app: &App, due: Hook, webhook: &StoredWebhook, delivery: &Delivery) -> Outcome {
    let answer = send(app, due, webhook, delivery).await;
    let at = app.now();
    let (status, problem) = match answer {
        Ok(status) if (200..300).contains(&status) => (Some(status), None),
        Ok(status) => (
            Some(status),
            Some(format!("the receiver answered {status}")),
        ),
        Err(problem) => (None, Some(problem)),
    };
    let options = &app.options.webhooks;
    let over = at >= delivery.at.plus(options.patience) || status == Some(GONE);
    Outcome {
        state: match &problem {
            None => DeliveryState::Delivered,
            Some(_) if over => DeliveryState::Dead,
            Some(_) => DeliveryState::Pending,
        },
        at,
        next: at.plus(pause(options.retry, delivery.attempts, chance())),
        status,
        problem,
    }
}

async fn send(
    app: &App,
    due: Hook,
    webhook: &StoredWebhook,
    delivery: &Delivery,
) -> Result<u16, String> {
    let now = app.now();
    let hooks = &app.webhooks;
    let of = (due.tenant, due.webhook);
    let secrets = hooks.vault.open(of, &webhook.secrets, now);
    let secrets = secrets.map_err(|problem| {
        tracing::error!(tenant = %due.tenant, webhook = %due.webhook, %problem, "a webhook cannot be signed for");
        "its secret cannot be read; rotate it".to_owned()
    })?;
    let id = delivery.id.to_string();
    let seconds = now.micros().div_euclid(1_000_000);
    let signatures = signing::signatures(&secrets, &id, seconds, &delivery.body);
    let kind = if delivery.url.is_some() {
        CALLBACK
    } else {
        CLOUD_EVENT
    };
    let url = delivery.url.as_ref().unwrap_or(&webhook.target.url);
    let message = Message {
        id: &id,
        seconds,
        signatures: &signatures,
        kind,
        body: &delivery.body,
    };
    hooks.sending.send(url, &message).await
}

/// Has a webhook told of nothing any more, because its receiver says so.
async fn disable(app: &App, due: Hook) -> Result<(), Error> {
    let record = AdminAction::of_itself(
        AdminActionId::from_uuid(app.clock.id()),
        app.now(),
        "put_webhook",
        EntityUid::new("Webhook", due.webhook.to_string()),
    );
    let mut record = record;
    record
        .details
        .insert("disabled".to_owned(), json!(WANTS_NOTHING));
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let disabled = app
        .store
        .disable_webhook(due.tenant, (due.webhook, WANTS_NOTHING), change)
        .await?;
    if disabled {
        tracing::warn!(tenant = %due.tenant, webhook = %due.webhook, "a webhook is disabled: its receiver answered 410");
        app.progress.nudge();
    }
    Ok(())
}

/// Returns how long is waited after so many attempts before this one: four times as long each time, up to four hours, and
/// less or more by up to a half, by chance.
fn pause(first: Duration, before: u32, chance: u8) -> Duration {
    let grown = first
        .saturating_mul(4_u32.saturating_pow(before))
        .min(LONGEST);
    grown / 2 + grown / 255 * u32::from(chance)
}

fn chance() -> u8 {
    let mut byte = [128];
    // Without chance everybody comes back at once, which is worse but not wrong.
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    byte
}

#[cfg(test)]
mod tests {
    use remit_core::{TenantId, WebhookId};
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn receivers_of_one_tenant_leave_room_for_those_of_others() {
        let hook = |tenant, number| Hook {
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            webhook: WebhookId::from_uuid(Uuid::from_u128(number)),
        };
        let mut tasks = JoinSet::new();
        let mut busy = HashMap::new();
        let mut take = |due| {
            let room = has_room(&busy, due);
            if room {
                busy.insert(tasks.spawn(std::future::pending::<()>()).id(), due);
            }
            room
        };
        assert!(take(hook(1, 1)));
        assert!(!take(hook(1, 1)), "one at a time");
        let taken = (2..22).filter(|number| take(hook(2, *number))).count();
        assert_eq!(taken, OF_TENANT);
        assert!(take(hook(1, 22)));
    }

    #[test]
    fn pauses_grow_and_are_spread() {
        let first = Duration::from_secs(5);
        let at = |before| (pause(first, before, 0), pause(first, before, 255));
        let seconds = Duration::from_secs;
        assert_eq!(at(0).0, Duration::from_millis(2_500));
        assert!(at(0).1 <= Duration::from_millis(7_500) && at(0).1 > seconds(7));
        assert_eq!(at(1).0, seconds(10));
        assert_eq!(at(100).0, seconds(7_200));
        assert!(at(100).1 <= seconds(21_600));
    }
}
