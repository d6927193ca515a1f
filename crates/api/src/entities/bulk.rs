//! `POST /v1/entities/bulk`: many changes of entities, all of them or none.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, header};
use remit_core::{ContentHash, Entity, EntityUid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, Wish, change_once, finish};
use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{IdempotencyKey, Named, once};
use crate::query::Query;
use crate::revisions::Until;
use crate::wire::{Raw, Wire, check_content_type, decode, from_value};

/// The most changes at a time.
const CHANGES: usize = 100_000;
/// The media type of one JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// One item before it is known what it is.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Item(Value);

/// All items of an array.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Items(Vec<Value>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    remove: EntityUid,
}

/// How an item is named in an error.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// By its index in the array, from 0.
    Index(usize),
    /// By its line, from 1.
    Line(usize),
}

/// The changes, with the place of each entity.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) upserts: Vec<Entity>,
    pub(crate) removals: Vec<EntityUid>,
    places: HashMap<EntityUid, Place>,
}

/// Writes and removes entities in one step.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    raw: Raw<Items>,
) -> Result<Response, Problem> {
    let lines = media(&headers).eq_ignore_ascii_case(NDJSON);
    if !lines {
        check_content_type(&headers)?;
    }
    let bytes = raw.bytes;
    let sent = bytes.clone();
    let caller_key = caller.key;
    // The bytes as they were sent: whoever sends a request again sends it as it was.
    let asks = move || json!({ "caller": caller_key, "action": Action::ChangeEntities.name(), "hash": ContentHash::of(&sent) });
    let named = Named::of(&key, asks).await?;
    let read = move || {
        if lines {
            Changes::of_lines(&bytes)
        } else {
            Changes::of_array(&bytes)
        }
    };
    let changes = app.blocking(read).await??;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            app.spare(&caller, changes.acts()).await?;
            let wish = Wish {
                act: Act::of(Action::ChangeEntities)
                    .with("written", json!(changes.upserts.len()))
                    .with("removed", json!(changes.removals.len())),
                upserts: &changes.upserts,
                removals: &changes.removals,
                kept: None,
                named: named.as_ref(),
            };
            let attempt = change_once(&app, &caller, attempts.base(), wish).await;
            match attempt.map_err(|refusal| changes.refuse(refusal))? {
                Attempt::Written(done) => break Ok(done),
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, done) = Box::pin(once(&app, caller.tenant, named.as_ref(), make)).await?;
    finish(&app, &caller, revision, done, until).await
}

/// Returns the media type without its parameters.
fn media(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

// === impl Changes ===

impl Changes {
    pub(crate) fn of_array(bytes: &[u8]) -> Result<Self, Problem> {
        let Items(items) = decode(bytes)?;
        let mut changes = Self::default();
        for (index, item) in items.into_iter().enumerate() {
            changes.add(Place::Index(index), item)?;
        }
        changes.some()
    }

    pub(crate) fn of_lines(bytes: &[u8]) -> Result<Self, Problem> {
        let mut changes = Self::default();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let place = Place::Line(number);
            let Item(item) = decode(line).map_err(|problem| place.blame(&problem))?;
            changes.add(place, item)?;
        }
        changes.some()
    }

    fn add(&mut self, place: Place, item: Value) -> Result<(), Problem> {
        if self.places.len() == CHANGES {
            let detail =
                format!("there are more than {CHANGES} changes; send them in several requests");
            return Err(Problem::new(Kind::TOO_LARGE, detail));
        }
        if item.is_array() {
            // serde would take the members of an entity in order.
            let detail = format!("{place}: the change must be an object, not an array");
            return Err(place.mark(Problem::new(Kind::INVALID_REQUEST, detail)));
        }
        let removal = item.get("remove").is_some();
        let uid = if removal {
            let Removal { remove } = from_value(item).map_err(|problem| place.blame(&problem))?;
            self.removals.push(remove.clone());
            remove
        } else {
            let entity: Entity = from_value(item).map_err(|problem| place.blame(&problem))?;
            entity
                .check()
                .map_err(|invalid| place.blame(&invalid.into()))?;
            let uid = entity.uid.clone();
            self.upserts.push(entity);
            uid
        };
        match self.places.insert(uid.clone(), place) {
            None => Ok(()),
            Some(first) => {
                let detail = format!("{place} names `{uid}`, which {first} names already");
                Err(place
                    .mark(Problem::new(Kind::INVALID_REQUEST, detail))
                    .with("entity", json!(uid)))
            }
        }
    }

    /// Takes each change as what it would be by itself.
    fn acts(&self) -> Vec<Act> {
        let put = self.upserts.iter().map(|entity| &entity.uid);
        let put = put.map(|uid| Act::on_entity(Action::PutEntity, uid));
        let removals = self.removals.iter();
        let delete = removals.map(|uid| Act::on_entity(Action::DeleteEntity, uid));
        put.chain(delete).collect()
    }

    fn some(self) -> Result<Self, Problem> {
        if self.places.is_empty() {
            return Err(Problem::new(
                Kind::INVALID_REQUEST,
                "there are no changes in the body",
            ));
        }
        Ok(self)
    }

    /// Says where the entity at fault stands.
    fn refuse(&self, refusal: Refusal) -> Problem {
        let error = match refusal {
            Refusal::Entity(error) => error,
            Refusal::Problem(problem) => return problem,
        };
        let place = self.places.get(&error.entity).copied();
        let told = place.map_or_else(String::new, |place| format!("{place}: "));
        let problem = Problem::new(Kind::ENTITY_INVALID, format!("{told}{error}"))
            .with("entity", json!(error.entity));
        match place {
            Some(place) => place.mark(problem),
            None => problem,
        }
    }
}

// === impl Place ===

impl Place {
    /// Puts the place in front of what is wrong there.
    fn blame(self, problem: &Problem) -> Problem {
        self.mark(Problem::new(
            problem.kind(),
            format!("{self}: {}", problem.message()),
        ))
    }

    /// Adds the place as a member of its own.
    fn mark(self, problem: Problem) -> Problem {
        match self {
            Self::Index(index) => problem.with("index", json!(index)),
            Self::Line(line) => problem.with("line", json!(line)),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "item {index}"),
            Self::Line(line) => write!(f, "line {line}"),
        }
    }
}

impl Wire for Item {}

impl Wire for Items {
    const BYTES: usize = 64 << 20;
    const NODES: usize = 8_000_000;
    const ARRAY: bool = true;
}
