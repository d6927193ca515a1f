//! `GET /v1/approvals/events`: what happens to access requests, approvals and exceptions, as it happens.
//!
//! The events stand in the database, so that whoever comes back misses none: a stream is a reader of the table that a new
//! revision wakes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use remit_core::Revision;
use remit_store::{Error, EventId, Events, FORGOTTEN_AT_ONCE, StoredEvent};
use serde_json::{Value, json};

use crate::admin::second_person::still_may;
use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;
use crate::stream::{self, Gone, Sender};

/// How long it may take until an event is found that brought no new revision, or whose revision cannot be loaded here.
const LOOK: Duration = Duration::from_secs(1);
/// How long a reader leaves between two looks, however much happens.
const BREATH: Duration = Duration::from_millis(20);
/// How many events are read at a time.
const PAGE: usize = 100;
/// When old events are forgotten for the first time, and how often after that.
const FIRST: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_hours(1);

/// Somebody who reads, and how far they are.
struct Reader {
    app: Arc<App>,
    caller: Caller,
    /// The last event that they were told of; `None` where there has been none at all.
    after: Option<EventId>,
    /// A revision up to which every event has been looked for.
    seen: Revision,
}

/// Tells of every event after the one that is named in `Last-Event-ID`; without that, of every event from now on.
pub(crate) async fn watch(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match stream::last_seen(&headers)? {
        Some(id) => Some(id.parse::<EventId>()?),
        None => app.store.newest_event(caller.tenant).await?,
    };
    let reader = Reader {
        app: Arc::clone(&app),
        caller: caller.clone(),
        after,
        seen: Revision::default(),
    };
    let beat = |app: &App| app.now().to_string();
    stream::answer(&app, &caller, beat, |sender| reader.follow(sender))
}

/// Forgets again and again the events that are not kept any more. Every replica does this; each is forgotten once.
pub(crate) async fn keep_forgetting(app: Arc<App>) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = match app.store.ahead().forget_events().await {
            // There may be more.
            Ok(FORGOTTEN_AT_ONCE..) => Duration::ZERO,
            Ok(_) => EVERY,
            Err(error) => {
                tracing::warn!(%error, "events of long ago are not forgotten");
                FIRST
            }
        };
    }
}

// === impl Reader ===

impl Reader {
    /// Tells of events as they come, until nobody reads or may.
    async fn follow(mut self, sender: Sender) {
        while self.tell_new(&sender).await.is_ok() {
            let next = Revision::new(self.seen.number().saturating_add(1));
            self.app.progress.wait(self.caller.tenant, next, LOOK).await;
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Tells of all that is new.
    async fn tell_new(&mut self, sender: &Sender) -> Result<(), Gone> {
        loop {
            // Before the events are read: none of that revision is missed.
            let standing = self.app.progress.standing(self.caller.tenant);
            let applied = standing.and_then(|standing| standing.applied());
            let (page, end) = match self.read().await {
                Ok(read) => read,
                // The events wait where the database is.
                Err(error) if error.is_outage() => return Ok(()),
                Err(error) => {
                    tracing::warn!(tenant = %self.caller.tenant, %error, "a stream of events ends");
                    return Err(Gone);
                }
            };
            self.seen = page.head.max(applied.unwrap_or_default());
            if page.events.is_empty() && !page.lost {
                return Ok(());
            }
            // What somebody may was found out when the stream began. What cannot be found out now is told later.
            match self.still_may().await {
                Ok(true) => {}
                Ok(false) => return Err(Gone),
                Err(_) => return Ok(()),
            }
            self.tell(&page, end, sender).await?;
        }
    }

    /// Reads what comes after the last event, and returns with it where a reader goes on before that.
    async fn read(&self) -> Result<(Events, Option<EventId>), Error> {
        let (store, tenant) = (&self.app.store, self.caller.tenant);
        let page = store.events(tenant, self.after, PAGE).await?;
        if !page.lost || !page.events.is_empty() {
            return Ok((page, self.after));
        }
        // What was named is not there, and nothing after it: so on from the newest, which is looked for before it is looked
        // once more for what comes after.
        let newest = store.newest_event(tenant).await?;
        let page = store.events(tenant, self.after, PAGE).await?;
        let end = if page.events.is_empty() {
            newest
        } else {
            self.after
        };
        Ok((page, end))
    }

    async fn tell(
        &mut self,
        page: &Events,
        end: Option<EventId>,
        sender: &Sender,
    ) -> Result<(), Gone> {
        if page.lost {
            let named = self.after.map(|id| id.to_string());
            let id = end.map(|id| id.to_string()).or_else(|| named.clone());
            let data = json!({ "after": named });
            sender.event(&id.unwrap_or_default(), "gap", &data).await?;
            self.after = end;
        }
        for event in &page.events {
            let id = event.id.to_string();
            sender.event(&id, &event.kind, &shown(event)).await?;
            self.after = Some(event.id);
        }
        Ok(())
    }

    /// Whether whoever reads still may; more roles by break-glass do not count.
    async fn still_may(&self) -> Result<bool, Problem> {
        let act = Act::of(Action::WatchApprovals);
        let Caller { tenant, key, .. } = self.caller;
        still_may(&self.app, tenant, &self.caller.principal.name, key, &act).await
    }
}

/// Returns what is told of an event.
fn shown(event: &StoredEvent) -> Value {
    json!({ "at": event.at, "data": event.body, "kind": event.kind, "subject": event.subject })
}
