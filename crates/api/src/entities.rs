//! `/v1/entities`: the live entities, one at a time.

use std::slice;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{Entity, EntityUid, Revision, canonical_json};
use remit_engine::{EntityError, Snapshot};
use remit_store::EntitiesChanged;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::revisions::{Barrier, Until, settle};
use crate::wire::{Body, Json, Wire};

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

#[derive(Debug, Serialize)]
struct EntityPage {
    entities: Vec<Entity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
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
    let entities = found.into_iter().map(|stored| stored.entity).collect();
    let page = EntityPage { entities, next };
    let mut response = Json(&page).into_response();
    paging::link(&mut response, &uri, page.next.as_deref());
    Ok(response)
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
    Query(until): Query<Until>,
    Body(body): Body<EntityBody>,
) -> Result<Response, Problem> {
    let entity = body.named(EntityUid::new(kind, id))?;
    let mut attempts = Attempts::new(&app, caller.tenant);
    let (before, changed) = loop {
        let base = attempts.base();
        let before = app.store.entity(caller.tenant, &entity.uid).await?;
        preconditions.check(before.as_ref().map(|stored| stored.revision))?;
        match change_once(&app, &caller, base, slice::from_ref(&entity), &[]).await? {
            Attempt::Written(changed) => break (before, changed),
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    };
    // What is written exactly as it was keeps its revision.
    let same = |stored: &Entity| canonical_json(stored).ok() == canonical_json(&entity).ok();
    let kept = before
        .filter(|stored| same(&stored.entity))
        .map(|stored| stored.revision);
    let mut response = finish(&app, &caller, "put_entity", changed, 1, until).await?;
    response
        .headers_mut()
        .insert(header::ETAG, etag(kept.unwrap_or(changed.revision)));
    Ok(response)
}

/// Removes one entity.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let uid = EntityUid::new(kind, id);
    let mut attempts = Attempts::new(&app, caller.tenant);
    let changed = loop {
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
        match change_once(&app, &caller, base, &[], slice::from_ref(&uid)).await? {
            Attempt::Written(changed) => break changed,
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    };
    finish(&app, &caller, "delete_entity", changed, 0, until).await
}

/// Why a change of entities was refused.
pub(crate) enum Refusal {
    /// This entity does not fit.
    Entity(EntityError),
    /// Something else.
    Problem(Problem),
}

/// Checks a change against a snapshot and writes it over that state only.
pub(crate) async fn change_once(
    app: &Arc<App>,
    caller: &Caller,
    base: Option<Arc<Snapshot>>,
    upserts: &[Entity],
    removals: &[EntityUid],
) -> Result<Attempt<EntitiesChanged>, Refusal> {
    let base = base.ok_or_else(|| Refusal::Problem(Kind::NOT_READY.into()))?;
    let mut touched = upserts.iter().map(|entity| &entity.uid).chain(removals);
    if let Some(uid) = touched.find(|uid| base.is_bundled(uid)) {
        return Err(Refusal::Problem(of_bundle(uid)));
    }
    let head = base.revision();
    let (entities, uids) = (upserts.to_vec(), removals.to_vec());
    app.blocking(move || base.with_entities(&entities, &uids).map(drop))
        .await
        .map_err(Refusal::Problem)?
        .map_err(Refusal::Entity)?;
    let written = app
        .store
        .change_entities(caller.tenant, Some(head), upserts, removals)
        .await;
    Attempt::of(written).map_err(Refusal::Problem)
}

/// Answers when the change is in force.
pub(crate) async fn finish(
    app: &Arc<App>,
    caller: &Caller,
    action: &'static str,
    changed: EntitiesChanged,
    written: usize,
    until: Until,
) -> Result<Response, Problem> {
    let EntitiesChanged { revision, removed } = changed;
    tracing::info!(
        target: "remit::admin", action, tenant = %caller.tenant, key = %caller.key, request_id = caller.request_id,
        revision = revision.number(), written, removed, "admin"
    );
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
