//! `/v1/entities`: the live entities, one at a time.

use std::slice;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{ContentHash, Entity, EntityUid, Revision, canonical_json};
use remit_engine::{EntityError, Snapshot};
use remit_store::{Change, EntitiesChanged};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::admin::{Act, Action, principals};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Barrier, Until, settle};
use crate::wire::{Body, Json, Wire};

pub(crate) mod bulk;

/// An entity as a body; its name is in the path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntityBody {
    uid: Option<EntityUid>,
    #[serde(default)]
    attrs: Map<String, Value>,
    #[serde(default)]
    parents: Vec<EntityUid>,
    #[serde(default)]
    tags: Map<String, Value>,
}

/// Which entities are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// What a change of entities came to.
#[derive(Debug, Serialize)]
struct Applied {
    revision: Revision,
    written: usize,
    removed: u64,
    /// Where it is in force, if that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<Barrier>,
}

/// A change of entities, and what it is in the administration.
pub(crate) struct Wish<'a> {
    pub(crate) act: Act,
    pub(crate) upserts: &'a [Entity],
    pub(crate) removals: &'a [EntityUid],
    /// The revision that an entity keeps which is written exactly as it was.
    pub(crate) kept: Option<Revision>,
    /// The request, where it is named.
    pub(crate) named: Option<&'a Named>,
}

/// What was done, as it is kept with the name of the request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Done {
    written: usize,
    removed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Revision>,
}

/// Lists the live entities by type and id.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "entities", "tenant": caller.tenant, "type": wanted.kind });
    let paging = Paging::<EntityUid>::of(&app, &filter, wanted.limit, wanted.cursor.as_deref())?;
    let kind = wanted.kind.as_deref();
    let found = app
        .store
        .entities(caller.tenant, kind, paging.after.as_ref(), paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.entity.uid.clone())?;
    let entities: Vec<_> = found.into_iter().map(|stored| stored.entity).collect();
    Ok(paging::answer(&uri, "entities", &entities, next.as_deref()))
}

/// Answers with one entity.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let uid = EntityUid::new(kind, id);
    let stored = app
        .store
        .entity(caller.tenant, &uid)
        .await?
        .ok_or_else(|| absent(&uid))?;
    let mut response = if preconditions.unchanged(stored.revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(stored.entity).into_response()
    };
    response
        .headers_mut()
        .insert(header::ETAG, etag(stored.revision));
    Told::revision(stored.revision).attach(&mut response);
    Ok(response)
}

/// Makes or replaces one entity.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<EntityBody>,
) -> Result<Response, Problem> {
    let entity = body.named(EntityUid::new(kind, id))?;
    let bytes = canonical_json(&entity).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let hash = ContentHash::of(&bytes);
    let asks = json!({ "caller": caller.key, "action": Action::PutEntity.name(), "uid": entity.uid, "hash": hash });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let base = attempts.base();
            let before = app.store.entity(caller.tenant, &entity.uid).await?;
            preconditions.check(before.as_ref().map(|stored| stored.revision))?;
            let same = |stored: &Entity| canonical_json(stored).is_ok_and(|stored| stored == bytes);
            let wish = Wish {
                act: Act::on_entity(Action::PutEntity, &entity.uid).with("hash", json!(hash)),
                upserts: slice::from_ref(&entity),
                removals: &[],
                kept: before
                    .filter(|stored| same(&stored.entity))
                    .map(|stored| stored.revision),
                named: named.as_ref(),
            };
            match change_once(&app, &caller, base, wish).await? {
                Attempt::Written(done) => break Ok(done),
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    let mut response = finish(&app, &caller, revision, done, until).await?;
    response
        .headers_mut()
        .insert(header::ETAG, etag(done.kept.unwrap_or(revision)));
    Ok(response)
}

/// Removes one entity.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let uid = EntityUid::new(kind, id);
    let asks = json!({ "caller": caller.key, "action": Action::DeleteEntity.name(), "uid": uid });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let base = attempts.base();
            let Some(before) = app.store.entity(caller.tenant, &uid).await? else {
                let bundled = base.is_some_and(|base| base.is_bundled(&uid));
                return Err(if bundled {
                    of_bundle(&uid)
                } else {
                    absent(&uid)
                });
            };
            preconditions.check(Some(before.revision))?;
            let wish = Wish {
                act: Act::on_entity(Action::DeleteEntity, &uid),
                upserts: &[],
                removals: slice::from_ref(&uid),
                kept: None,
                named: named.as_ref(),
            };
            match change_once(&app, &caller, base, wish).await? {
                Attempt::Written(done) => break Ok(done),
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    finish(&app, &caller, revision, done, until).await
}

/// Why a change of entities was refused.
pub(crate) enum Refusal {
    /// This entity does not fit.
    Entity(EntityError),
    /// Something else.
    Problem(Problem),
}

/// Checks a change against a snapshot and writes it over that state only, with its record.
pub(crate) async fn change_once(
    app: &Arc<App>,
    caller: &Caller,
    base: Option<Arc<Snapshot>>,
    wish: Wish<'_>,
) -> Result<Attempt<(Revision, Done)>, Refusal> {
    let Wish {
        act,
        upserts,
        removals,
        kept,
        named,
    } = wish;
    let base = base.ok_or_else(|| Refusal::Problem(Kind::NOT_READY.into()))?;
    let mut touched = upserts.iter().map(|entity| &entity.uid).chain(removals);
    if let Some(uid) = touched.find(|uid| base.is_bundled(uid)) {
        return Err(Refusal::Problem(of_bundle(uid)));
    }
    let head = base.revision();
    // Exact, since it is written over this state or not at all.
    let removed = removals.iter().filter(|uid| base.is_live(uid)).count();
    let done = Done {
        written: upserts.len(),
        removed: u64::try_from(removed).unwrap_or(u64::MAX),
        kept,
    };
    let (entities, uids) = (upserts.to_vec(), removals.to_vec());
    app.blocking(move || base.with_entities(&entities, &uids).map(drop))
        .await
        .map_err(Refusal::Problem)?
        .map_err(Refusal::Entity)?;
    let written = write(app, caller, head, done, (act, upserts, removals, named));
    written.await.map_err(Refusal::Problem)
}

/// Writes a change that fits, if whoever makes it may.
async fn write(
    app: &App,
    caller: &Caller,
    head: Revision,
    done: Done,
    (act, upserts, removals, named): (Act, &[Entity], &[EntityUid], Option<&Named>),
) -> Result<Attempt<(Revision, Done)>, Problem> {
    let record = app.permit(caller, act).await?;
    let answer = Answer::of(named, &done)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let written = app
        .store
        .change_entities(caller.tenant, Some(head), upserts, removals, change)
        .await;
    Ok(match Attempt::of(written)? {
        Attempt::Written(EntitiesChanged { revision, removed }) => {
            principals::log(caller, &record, revision);
            Attempt::Written((revision, Done { removed, ..done }))
        }
        Attempt::Moved(head) => Attempt::Moved(head),
    })
}

/// Answers when the change is in force.
pub(crate) async fn finish(
    app: &Arc<App>,
    caller: &Caller,
    revision: Revision,
    done: Done,
    until: Until,
) -> Result<Response, Problem> {
    let Done {
        written, removed, ..
    } = done;
    let fleet = settle(app, caller.tenant, revision, until).await?;
    let mut response = Json(Applied {
        revision,
        written,
        removed,
        fleet,
    })
    .into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

fn of_bundle(uid: &EntityUid) -> Problem {
    let detail = format!("`{uid}` belongs to the bundle and changes only with it");
    Problem::new(Kind::CONFLICT, detail).with("entity", json!(uid))
}

fn absent(uid: &EntityUid) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is no live entity `{uid}`"))
}

// === impl Refusal ===

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Entity(error) => Self::new(Kind::ENTITY_INVALID, error.to_string())
                .with("entity", json!(error.entity)),
            Refusal::Problem(problem) => problem,
        }
    }
}

// === impl EntityBody ===

impl EntityBody {
    fn named(self, uid: EntityUid) -> Result<Entity, Problem> {
        let Self {
            uid: given,
            attrs,
            parents,
            tags,
        } = self;
        if given.is_some_and(|given| given != uid) {
            let detail = "`uid` is not the entity of the path; leave it out or send the same";
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
        let entity = Entity {
            uid,
            attrs,
            parents,
            tags,
        };
        entity.check()?;
        Ok(entity)
    }
}

impl Wire for EntityBody {}
