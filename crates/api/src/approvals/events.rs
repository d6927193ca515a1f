//! `GET /v1/approvals/events`: what happens to requests and approvals, as a stream that goes on where a reader was.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use remit_core::TenantId;
use remit_store::EventId;
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Kind, Problem};
use crate::stream::{self, Gone, Sender};

/// What the kinds of events begin with that are told here.
const FAMILIES: [&str; 3] = ["access_request.", "approval.", "exception."];
/// How many events are read at once.
const PAGE: usize = 100;
/// How often it is looked for events that brought no revision.
const LOOK: Duration = Duration::from_secs(1);

/// Streams events: those after `Last-Event-ID`, or from now on.
pub(crate) async fn watch(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = stream::last_seen(&headers)?.map(str::parse).transpose();
    let seen: Option<EventId> = seen.map_err(|_| {
        let detail = "`Last-Event-ID` must be the id of an event, such as `42.0`";
        Problem::new(Kind::INVALID_REQUEST, detail)
    })?;
    let after = match seen {
        Some(seen) => seen,
        None => newest(&app, caller.tenant).await?,
    };
    let (source, tenant) = (Arc::clone(&app), caller.tenant);
    let beat = |app: &App| format!("at {}", app.now());
    stream::answer(&app, &caller, beat, move |sender| async move {
        let ended = tell(&source, tenant, (after, seen.is_some()), &sender).await;
        if let Err(End::Store(error)) = ended {
            // Whoever reads comes back and says where it was.
            tracing::warn!(%tenant, %error, "a stream of events ends");
        }
    })
}

/// Why a stream ends.
enum End {
    Gone,
    Store(remit_store::Error),
}

/// Where a reader begins that has seen nothing: behind everything that has happened.
async fn newest(app: &App, tenant: TenantId) -> Result<EventId, Problem> {
    Ok(app.store.newest_event(tenant).await?.unwrap_or_default())
}

/// Tells what comes after an event, again and again.
async fn tell(
    app: &App,
    tenant: TenantId,
    (mut after, mut named): (EventId, bool),
    sender: &Sender,
) -> Result<(), End> {
    let mut changes = app.progress.changes();
    loop {
        changes.mark_unchanged();
        let page = app.store.events(tenant, Some(after), PAGE).await?;
        // What a reader has not named it cannot miss.
        if page.lost && named {
            let data = json!({ "after": after.to_string() });
            let next = page.events.first().map_or(after, |event| event.id);
            sender.event(&next.to_string(), "gap", &data).await?;
            named = false;
        }
        let full = page.events.len() >= PAGE;
        for event in page.events {
            after = event.id;
            named = true;
            if FAMILIES.iter().any(|family| event.kind.starts_with(family)) {
                let data = json!({ "subject": event.subject, "at": event.at, "data": event.body });
                sender
                    .event(&event.id.to_string(), &event.kind, &data)
                    .await?;
            }
        }
        if full {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = changes.changed() => {}
        }
    }
}

// === impl End ===

impl From<remit_store::Error> for End {
    fn from(error: remit_store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}
