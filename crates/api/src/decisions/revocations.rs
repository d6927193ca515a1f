//! `GET /v1/revocations`: what an enforcement point may have cached by and is different now, as it happens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use remit_core::{Revision, TenantId};
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;
use crate::query::Query;
use crate::stream::{self, Gone, Sender};
use crate::sync::revocations::Read;

/// How often it is looked whether this replica still knows what is newest.
const LOOK: Duration = Duration::from_millis(250);
/// Told where what was cached must be dropped.
const GAP: &str = "gap";

/// How the stream is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reading {
    /// Whether to wait for more once everything is told.
    follow: Option<bool>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy)]
enum From {
    /// It has cached nothing yet.
    Now,
    /// It has seen everything up to here.
    After(Revision),
    /// Nobody knows what it has seen.
    Nowhere,
}

/// Tells what comes into force here, from where the reader was.
pub(crate) async fn watch(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Query(reading): Query<Reading>,
) -> Result<Response, Problem> {
    let from = match stream::last_seen(&headers)? {
        None => From::Now,
        Some(id) => id
            .parse()
            .map_or(From::Nowhere, |number| From::After(Revision::new(number))),
    };
    // Whoever comes from a replica that is further waits a moment for this one.
    let at_least = match from {
        From::After(revision) => app.ahead_of(caller.tenant, revision).await,
        From::Now | From::Nowhere => None,
    };
    app.snapshot_at(&caller, at_least).await?;
    let tenant = caller.tenant;
    let follows = reading.follow.unwrap_or(true);
    let beat = move |app: &App| {
        let standing = app.progress.standing(tenant);
        let applied = standing.and_then(|standing| standing.applied());
        format!("revision {}", applied.unwrap_or_default())
    };
    let watching = Arc::clone(&app);
    stream::answer(&app, &caller, beat, move |sender| async move {
        let teller = Teller {
            app: watching,
            tenant,
            sender,
        };
        // Nobody reads any more: there is nobody to tell.
        let _ = teller.tell(from, follows).await;
    })
}

/// One reader, and what it is told of.
struct Teller {
    app: Arc<App>,
    tenant: TenantId,
    sender: Sender,
}

// === impl Teller ===

impl Teller {
    async fn tell(&self, from: From, follows: bool) -> Result<(), Gone> {
        let (app, tenant) = (&self.app, self.tenant);
        let Some(mut more) = app.revocations.watch(tenant) else {
            return self.gap(Revision::default(), "not_ready").await;
        };
        let reached = *more.borrow_and_update();
        let mut last = match from {
            From::After(revision) => revision,
            From::Now => {
                let told = json!({ "revision": reached });
                self.sender
                    .event(&reached.to_string(), "ready", &told)
                    .await?;
                reached
            }
            From::Nowhere => {
                self.gap(reached, "unknown").await?;
                reached
            }
        };
        loop {
            // A replica that may be behind tells nobody that there is nothing new.
            if app.confirmed(tenant).is_err() {
                return self.gap(last, "stale").await;
            }
            match app.revocations.after(tenant, last) {
                Some(Read::All(batches, reached)) => {
                    for batch in batches {
                        let id = batch.revision.to_string();
                        self.sender.event(&id, "revoked", &json!(*batch)).await?;
                    }
                    last = reached;
                }
                Some(Read::Gap(reached)) => {
                    self.gap(reached, "missed").await?;
                    last = reached;
                }
                None => return self.gap(last, "gone").await,
            }
            if !follows {
                return Ok(());
            }
            tokio::select! {
                _ = more.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Tells that what was cached must be dropped.
    async fn gap(&self, at: Revision, why: &str) -> Result<(), Gone> {
        let told = json!({ "revision": at, "why": why });
        self.sender.event(&at.to_string(), GAP, &told).await
    }
}

// === impl App ===

impl App {
    /// Waits a moment for a revision that somebody has seen elsewhere; `None` where it does not come.
    async fn ahead_of(&self, tenant: TenantId, revision: Revision) -> Option<Revision> {
        let wait = self.options.revision_wait;
        let standing = self.progress.standing(tenant)?;
        if standing.applied() >= Some(revision) {
            return Some(revision);
        }
        self.progress.nudge();
        let reached = self.progress.wait(tenant, revision, wait).await;
        reached.then_some(revision)
    }
}
