//! `/v1/revisions`: whether a change is in force everywhere, and where it is not.
//!
//! Asked as a question (`GET /v1/revisions/{n}`), or with a change (`?wait=fleet`), which then answers when every live
//! replica decides with it. What the replicas have told the database of themselves (`replicas`) is the answer: one that
//! was not seen for longer than it may permit without the database is lost, and nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{ReplicaId, Revision, TenantId, Timestamp};
use remit_store::{Fleet, SeenReplica};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Caller;
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

/// The longest that a question waits, in milliseconds.
const LONGEST_WAIT_MS: u64 = 10_000;
/// How soon the database is asked again, at first and at most: the replicas are told to it without delay.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// How long a question may wait for its revision.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Patience {
    /// In milliseconds.
    #[serde(default)]
    wait: u64,
}

/// What a change waits for before it is answered, beside this replica.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Until {
    pub(crate) wait: Option<Wait>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// Every live replica.
    Fleet,
}

/// Where a revision is in force.
#[derive(Debug, Serialize)]
pub(crate) struct Barrier {
    revision: Revision,
    /// The newest revision of the tenant.
    head: Revision,
    /// Whether every live replica has it.
    reached: bool,
    replicas: Vec<Shown>,
}

/// One replica, and how far it is.
#[derive(Debug, Serialize)]
struct Shown {
    id: ReplicaId,
    name: String,
    version: String,
    started_at: Timestamp,
    seen_at: Timestamp,
    revision: Revision,
    state: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// How a replica stands to a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// It decides with it, or with a later one.
    Reached,
    /// It decides with an older one, or with none yet.
    Behind,
    /// It could not load what is newer than what it has.
    Failed,
    /// It was not seen for longer than it may permit without the database.
    Lost,
}

/// Says which replicas have a revision in force.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(number): Segments<u64>,
    Query(Patience { wait }): Query<Patience>,
) -> Result<Response, Problem> {
    if wait > LONGEST_WAIT_MS {
        let detail = format!("`wait` must be at most {LONGEST_WAIT_MS} milliseconds");
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    let revision = Revision::new(number);
    let until = Instant::now() + Duration::from_millis(wait).min(app.commit_wait());
    let mut pause = FIRST_PAUSE;
    let barrier = loop {
        let fleet = app.store.fleet(caller.tenant).await?;
        if revision > fleet.head {
            let detail = format!(
                "there is no revision {revision}; the newest is {}",
                fleet.head
            );
            return Err(Problem::new(Kind::NOT_FOUND, detail));
        }
        let barrier = Barrier::of(fleet, revision);
        if barrier.reached || !paused(&mut pause, until).await {
            break barrier;
        }
    };
    let head = barrier.head;
    let mut response = Json(barrier).into_response();
    Told::revision(head).attach(&mut response);
    Ok(response)
}

/// Waits, after a commit, until the change is in force here, and where it is asked for on every live replica.
///
/// # Errors
///
/// `revision-not-reached` and `fleet-not-reached`; the change is committed all the same.
pub(crate) async fn settle(
    app: &App,
    tenant: TenantId,
    revision: Revision,
    until: Until,
) -> Result<Option<Barrier>, Problem> {
    let over = Instant::now() + app.commit_wait();
    app.reached(tenant, revision).await?;
    if until.wait != Some(Wait::Fleet) {
        return Ok(None);
    }
    let mut pause = FIRST_PAUSE;
    loop {
        // A database that is away now says nothing of what was committed; it may be back in time.
        let barrier = match app.store.fleet(tenant).await {
            Ok(fleet) => Barrier::of(fleet, revision),
            Err(_) => Barrier::unknown(revision),
        };
        if barrier.reached {
            if let Some(standing) = app.progress.standing(tenant) {
                standing.reach(barrier.least());
            }
            return Ok(Some(barrier));
        }
        if !paused(&mut pause, over).await {
            return Err(unreached(revision, barrier));
        }
    }
}

/// Waits a little, and longer each time; false when the time is over.
async fn paused(pause: &mut Duration, until: Instant) -> bool {
    let now = Instant::now();
    if now >= until {
        return false;
    }
    tokio::time::sleep_until((now + *pause).min(until)).await;
    *pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    true
}

/// Says that a change is committed, and which live replicas do not have it.
fn unreached(revision: Revision, barrier: Barrier) -> Problem {
    let missing: Vec<Shown> = barrier
        .replicas
        .into_iter()
        .filter(|shown| matches!(shown.state, Standing::Behind | Standing::Failed))
        .collect();
    let names: Vec<&str> = missing.iter().map(|shown| shown.name.as_str()).collect();
    let detail = format!("revision {revision} is missing on: {}", names.join(", "));
    Problem::new(Kind::FLEET_NOT_REACHED, detail)
        .with("revision", json!(revision))
        .with("missing", json!(missing))
        .at(revision)
}

// === impl Barrier ===

impl Barrier {
    fn of(fleet: Fleet, revision: Revision) -> Self {
        let now = fleet.now;
        let shown = |seen: SeenReplica| Shown::of(seen, revision, now);
        let replicas: Vec<Shown> = fleet.replicas.into_iter().map(shown).collect();
        let mut live = replicas
            .iter()
            .filter(|shown| shown.state != Standing::Lost)
            .peekable();
        Self {
            revision,
            head: fleet.head,
            // This replica at least is alive: where none is, nothing can be told to the database.
            reached: live.peek().is_some() && live.all(|shown| shown.state == Standing::Reached),
            replicas,
        }
    }

    /// Returns the revision that every live replica has, where this one is reached.
    fn least(&self) -> Revision {
        let live = self
            .replicas
            .iter()
            .filter(|shown| shown.state != Standing::Lost);
        let least = live.map(|shown| shown.revision).min();
        least.unwrap_or(self.revision)
    }

    /// Nothing could be found out.
    fn unknown(revision: Revision) -> Self {
        Self {
            revision,
            head: revision,
            reached: false,
            replicas: Vec::new(),
        }
    }
}

// === impl Shown ===

impl Shown {
    fn of(seen: SeenReplica, wanted: Revision, now: Timestamp) -> Self {
        let state = if seen.is_lost(now) {
            Standing::Lost
        } else if seen.revision >= wanted {
            Standing::Reached
        } else if seen.failure.is_some() {
            Standing::Failed
        } else {
            Standing::Behind
        };
        Self {
            id: seen.replica.id,
            name: seen.replica.name,
            version: seen.replica.version,
            started_at: seen.started_at,
            seen_at: seen.seen_at,
            revision: seen.revision,
            state,
            failure: seen.failure,
        }
    }
}
