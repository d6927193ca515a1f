//! `POST /v1/bundle/impact`: what recorded decisions would have been under another bundle.
//!
//! Each is decided again from its own question and facts, over the live entities of its revision, by the draft. Nothing of
//! it is recorded as a decision, and nothing is enforced.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body as AnswerBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use remit_core::{Bundle, DecisionId, DecisionRecord, Revision, TenantId, Timestamp};
use remit_engine::Snapshot;
use remit_store::{MAX_ENTITIES, StoredDecision};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::app::App;
use crate::auth::Caller;
use crate::background::{give_way, lowered};
use crate::bundle::BundleBody;
use crate::decisions::CATCH_UP;
use crate::explain::{READ_BACK, as_of, changed_since};
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::publish::drafts::findings::Assessed;
use crate::publish::refused;
use crate::query::Query;
use crate::wire::{Body, Json};

mod groups;
pub(crate) mod shadow;
pub(crate) mod shadowing;

pub(crate) use groups::Outcome;
use groups::{Difference, Group, Left, Tally};

/// The most decisions that are made again.
const MOST: usize = 1_000_000;
/// How many are made again unless the caller says otherwise.
const USUAL: usize = 100_000;
/// How far back they go unless the caller says otherwise, and at most, in hours.
const HOURS: u32 = 24;
const MOST_HOURS: u32 = 24 * 366;
/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;
/// Decisions of one page.
const PAGE: usize = 1_000;
/// The revisions whose entities are kept, for decisions of replicas that were a little behind.
const STATES: usize = 64;
/// How often entities are read back whole, where those of the time before do not fit the draft.
const REBUILDS: usize = 16;
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Which decisions are made again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    hours: Option<u32>,
    limit: Option<usize>,
}

/// What a draft would have changed.
#[derive(Debug, Serialize)]
pub(crate) struct Impact {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// How many were made again.
    pub(crate) replayed: u64,
    /// How many of them come out the same: verdict, reason and policies.
    pub(crate) unchanged: u64,
    /// Whether there are more of that time than were asked for.
    pub(crate) truncated: bool,
    /// As of when live entities were taken.
    entities: Entities,
    pub(crate) totals: BTreeMap<Outcome, u64>,
    groups: Vec<Group>,
    pub(crate) not_replayable: Vec<Left>,
}

/// As of when live entities were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Entities {
    /// As of each decision's own revision.
    Recorded,
    /// Today's, because there are too many to be read back.
    Current,
}

/// The draft over the live entities of the revisions that decisions were made at.
enum States {
    /// They are those of today, or as good.
    One(Snapshot),
    /// Those of each revision.
    Many {
        /// By revision, ascending; changes are read from the one before.
        known: Vec<(Revision, Result<Snapshot, String>)>,
        /// How often entities were read back whole because the ones before did not fit.
        rebuilt: usize,
    },
}

/// One assessment.
struct Assessment {
    app: Arc<App>,
    tenant: TenantId,
    bundle: Arc<Bundle>,
    /// The draft over today's live entities.
    draft: Snapshot,
    /// The revision of those entities.
    over: Revision,
    /// Where the totals are kept.
    of: Option<Assessed>,
    from: Timestamp,
    until: Timestamp,
    limit: usize,
    /// Held for as long as it runs.
    _room: OwnedSemaphorePermit,
}

/// Says what recorded decisions would have been under a bundle, and changes nothing.
pub(crate) async fn assess(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Query(window): Query<Window>,
    Body(body): Body<BundleBody>,
) -> Result<Response, Problem> {
    let bundle = Arc::new(body.into_bundle());
    assess_bundle(app, &caller, &headers, window, bundle, None).await
}

/// Says what recorded decisions would have been under a bundle, and keeps the totals with the draft that it is of.
pub(crate) async fn assess_bundle(
    app: Arc<App>,
    caller: &Caller,
    headers: &HeaderMap,
    window: Window,
    bundle: Arc<Bundle>,
    draft: Option<Assessed>,
) -> Result<Response, Problem> {
    let hours = within("hours", window.hours, HOURS, MOST_HOURS)?;
    let limit = within("limit", window.limit, USUAL, MOST)?;
    let room = Arc::clone(&app.assessments)
        .try_acquire_owned()
        .map_err(|_| Problem::new(Kind::OVERLOADED, "other assessments are running"))?;
    let current = app.engine.snapshot(caller.tenant).ok_or(Kind::NOT_READY)?;
    let revision = current.revision();
    let compiled = {
        let (current, bundle) = (Arc::clone(&current), Arc::clone(&bundle));
        give_way(move || current.recompile(&bundle)).await?
    };
    let compiled = compiled.map_err(|error| refused(&error))?;
    // As for a list: what this replica has answered is there.
    app.log.caught_up(CATCH_UP).await;
    let until = app.clock.now();
    let assessment = Assessment {
        app,
        tenant: caller.tenant,
        bundle,
        draft: compiled,
        over: revision,
        of: draft,
        from: Timestamp::from_micros(until.micros() - i64::from(hours) * HOUR),
        until,
        limit,
        _room: room,
    };
    if headers.get(header::ACCEPT) != Some(&EVENTS) {
        let mut response = Json(assessment.run(None).await?).into_response();
        Told::revision(revision).attach(&mut response);
        return Ok(response);
    }
    let (told, telling) = mpsc::channel(4);
    // It ends at the next page when whoever asked has gone.
    tokio::spawn(async move {
        let event = match assessment.run(Some(&told)).await {
            Ok(impact) => event("impact", &impact),
            Err(problem) => {
                tracing::error!(
                    cause = problem.chain(),
                    "the impact of a bundle could not be assessed"
                );
                let (code, detail) = (problem.kind().code, problem.message());
                event("problem", &json!({ "code": code, "detail": detail }))
            }
        };
        told.send(event).await.ok();
    });
    let events = stream::unfold(telling, |mut telling| async move {
        let event = telling.recv().await?;
        Some((Ok::<_, Infallible>(event), telling))
    });
    let mut response = AnswerBody::from_stream(events).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, EVENTS);
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Reads a number of the query.
fn within<N: PartialOrd + From<u8> + std::fmt::Display + Copy>(
    name: &str,
    given: Option<N>,
    usual: N,
    most: N,
) -> Result<N, Problem> {
    let value = given.unwrap_or(usual);
    if value < N::from(1) || value > most {
        let detail = format!("query parameter: `{name}` must be from 1 to {most}");
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    Ok(value)
}

/// Writes one server-sent event (HTML Living Standard §9.2).
fn event(name: &str, data: &impl Serialize) -> String {
    // JSON has no line break in it.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

// === impl Assessment ===

impl Assessment {
    /// Makes the decisions again, a page at a time while the next is read.
    async fn run(self, told: Option<&mpsc::Sender<String>>) -> Result<Impact, Problem> {
        let mut tally = Tally::default();
        let mut states = None;
        let mut asked = self.limit.min(PAGE);
        let mut page = self.page(None, asked).await?;
        let mut truncated = false;
        // Nobody listens any more: what is known so far is not all there is.
        let mut cut_short = false;
        while let Some(last) = page.last().map(|stored| stored.record.id) {
            let states = match &mut states {
                Some(states) => states,
                None => states.insert(self.states(&page).await?),
            };
            let mut pairs = Vec::with_capacity(page.len());
            for stored in page {
                let state = self.state(states, stored.record.decision.revision).await?;
                pairs.push((state, stored.record));
            }
            let full = pairs.len() == asked;
            let seen = usize::try_from(tally.seen()).unwrap_or(usize::MAX);
            // One beyond the limit tells whether there is more.
            let left = self.limit.saturating_sub(seen).saturating_sub(asked);
            asked = left.clamp(1, PAGE);
            let next = async {
                if full {
                    self.page(Some(last), asked).await
                } else {
                    Ok(Vec::new())
                }
            };
            let decided = lowered(move || pairs.into_iter().map(again).collect::<Vec<_>>());
            let (next, decided) = tokio::join!(next, decided);
            for (id, decided) in decided? {
                tally.add(id, decided);
            }
            page = next?;
            if left == 0 {
                truncated = !page.is_empty();
                break;
            }
            if let Some(told) = told {
                let progress = json!({ "replayed": tally.replayed, "unchanged": tally.unchanged });
                if told.send(event("progress", &progress)).await.is_err() {
                    cut_short = true;
                    break;
                }
            }
        }
        let entities = match states {
            Some(States::One(_)) if self.too_many() => Entities::Current,
            _ => Entities::Recorded,
        };
        let impact = Impact {
            from: self.from,
            until: self.until,
            replayed: tally.replayed,
            unchanged: tally.unchanged,
            truncated,
            entities,
            groups: tally.groups(),
            not_replayable: tally.left(),
            totals: tally.totals,
        };
        if let Some(draft) = self.of.as_ref().filter(|_| !cut_short) {
            draft.keep(&self.app, self.tenant, &impact).await?;
        }
        Ok(impact)
    }

    async fn page(
        &self,
        after: Option<DecisionId>,
        left: usize,
    ) -> Result<Vec<StoredDecision>, Problem> {
        let window = (self.from, self.until);
        let page = self
            .app
            .store
            .decisions_in_order(self.tenant, window, after, left.min(PAGE));
        Ok(page.await?)
    }

    fn too_many(&self) -> bool {
        self.draft.entity_count() > READ_BACK
    }

    /// Builds the first state: that of the oldest decision.
    async fn states(&self, page: &[StoredDecision]) -> Result<States, Problem> {
        let revisions = page.iter().map(|stored| stored.record.decision.revision);
        let first = revisions.min().unwrap_or_default();
        // Beyond this replica's own revision too: others may have decided later.
        let ever = Revision::new(u64::MAX);
        // The draft lies over the entities of this replica's own revision, and of a later one it knows nothing.
        let is_here = first <= self.over;
        if self.too_many()
            || (is_here && !changed_since(&self.app, self.tenant, first, ever).await?)
        {
            return Ok(States::One(self.draft.clone()));
        }
        let built = self.build(first).await?;
        Ok(States::Many {
            known: vec![(first, built)],
            rebuilt: 0,
        })
    }

    /// Reads the entities of a revision back, and puts the draft over them.
    async fn build(&self, revision: Revision) -> Result<Result<Snapshot, String>, Problem> {
        let entities = as_of(&self.app, self.tenant, revision).await?;
        let bundle = Arc::clone(&self.bundle);
        lowered(move || {
            let compiled = Snapshot::compile(&bundle).map_err(|error| error.to_string())?;
            let over = compiled.with_entities(&entities, &[]);
            over.map_err(|error| format!("an entity does not fit the draft: {error}"))
        })
        .await
    }

    /// Returns the draft over the entities of a revision, or why there is none.
    async fn state(
        &self,
        states: &mut States,
        revision: Revision,
    ) -> Result<Result<Snapshot, String>, Problem> {
        let (known, rebuilt) = match states {
            States::One(draft) => return Ok(Ok(draft.clone())),
            States::Many { known, rebuilt } => (known, rebuilt),
        };
        let place = known.partition_point(|(at, _)| *at <= revision);
        let Some((at, state)) = place
            .checked_sub(1)
            .and_then(|before| known.get(before))
            .cloned()
        else {
            let because = "it was made at a revision whose entities are passed already";
            return Ok(Err(because.to_owned()));
        };
        if at == revision {
            return Ok(state);
        }
        let next = match state {
            Ok(snapshot) => self.forward(snapshot, at, revision).await?,
            // What did not fit then may be gone.
            Err(_) if *rebuilt < REBUILDS => {
                *rebuilt += 1;
                self.build(revision).await?
            }
            Err(because) => Err(because),
        };
        known.insert(place, (revision, next.clone()));
        if known.len() > STATES {
            drop(known.remove(0));
        }
        Ok(next)
    }

    /// Applies what changed between two revisions.
    async fn forward(
        &self,
        snapshot: Snapshot,
        after: Revision,
        upto: Revision,
    ) -> Result<Result<Snapshot, String>, Problem> {
        let mut changing = snapshot.change();
        let mut cursor = None;
        loop {
            let changes = self.app.store.entity_changes(
                self.tenant,
                after,
                upto,
                cursor.as_ref(),
                MAX_ENTITIES,
            );
            let page = changes.await?;
            cursor = page.next;
            let applied = lowered(move || {
                let applied = changing.apply(&page.upserts, &page.removals);
                applied.map(|()| changing)
            });
            changing = match applied.await? {
                Ok(changing) => changing,
                Err(error) => return Ok(Err(format!("an entity does not fit the draft: {error}"))),
            };
            if cursor.is_none() {
                let done = lowered(move || changing.finish()).await?;
                return Ok(
                    done.map_err(|error| format!("an entity does not fit the draft: {error}"))
                );
            }
        }
    }
}

/// Makes one decision again, and says how it differs.
fn again(
    (state, record): (Result<Snapshot, String>, DecisionRecord),
) -> (DecisionId, Result<Option<Difference>, String>) {
    let decided = state.map(|snapshot| {
        let after = App::again(&snapshot, &record);
        Difference::between(&record, &after)
    });
    (record.id, decided)
}
