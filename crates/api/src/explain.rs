//! `POST /v1/decisions/{id}/explain`: one recorded decision made again, clause by clause.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{Decision, DecisionId, DecisionRecord, Entity, Revision, TenantId};
use remit_engine::{Explanation, Snapshot};
use remit_store::{MAX_ENTITIES, StoredBundle};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::decisions::find;
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

/// The most live entities that are read back as they were at an earlier revision.
pub(crate) const READ_BACK: usize = 100_000;

/// Over what a decision is made again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(default)]
    against: Against,
}

/// Whose bundle and entities decide this time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Against {
    /// Those of the record's revision.
    #[default]
    Recorded,
    /// Today's.
    Current,
}

#[derive(Debug, Serialize)]
struct Explained {
    id: DecisionId,
    against: Against,
    /// As of when live entities were taken.
    entities: Against,
    recorded: Decision,
    reproduced: bool,
    explanation: Explanation,
}

/// Explains one decision from its own question and facts.
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DecisionId>,
    Query(Wanted { against }): Query<Wanted>,
) -> Result<Response, Problem> {
    let record = find(&app, &caller, id).await?;
    let current = app.engine.snapshot(caller.tenant).ok_or(Kind::NOT_READY)?;
    let (snapshot, entities) = match against {
        Against::Current => (current, Against::Current),
        Against::Recorded => recorded(&app, caller.tenant, &record, current).await?,
    };
    let revision = snapshot.revision();
    let body = app
        .blocking(move || {
            let DecisionRecord {
                question,
                facts,
                decision: recorded,
                ..
            } = record;
            let explanation = snapshot.explain(&question, &facts);
            let reproduced = same(&recorded, &explanation.decision);
            Explained {
                id,
                against,
                entities,
                recorded,
                reproduced,
                explanation,
            }
        })
        .await?;
    let mut response = Json(body).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Builds the state that made the record: its bundle, and the live entities as they were.
///
/// Where there are too many of those to read back, today's stand in, and the answer says so.
async fn recorded(
    app: &Arc<App>,
    tenant: TenantId,
    record: &DecisionRecord,
    current: Arc<Snapshot>,
) -> Result<(Arc<Snapshot>, Against), Problem> {
    let revision = record.decision.revision;
    let same_bundle = current.content_hash() == record.decision.bundle;
    // Another replica may have made it at a revision that is not here yet: nothing is known of what lies between.
    let is_here = revision <= current.revision();
    if same_bundle && is_here && !changed_since(app, tenant, revision, current.revision()).await? {
        return Ok((
            Arc::new(Snapshot::clone(&current).at(revision)),
            Against::Recorded,
        ));
    }
    let stored = app.store.bundle_in_force(tenant, revision).await?;
    let bundle = stored.filter(|stored| stored.hash == record.decision.bundle);
    let bundle = bundle.ok_or_else(|| {
        Problem::new(
            Kind::CONFLICT,
            "the bundle of the record is not kept; ask with `against=current`",
        )
    })?;
    if current.entity_count() > READ_BACK {
        return Ok((over_todays(&bundle, current).await?, Against::Current));
    }
    let entities = as_of(app, tenant, revision).await?;
    let built = give_way(move || {
        let compiled = Snapshot::compile(&bundle.bundle).map_err(|error| error.to_string())?;
        let full = compiled
            .with_entities(&entities, &[])
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(full.at(revision))
    });
    // It was in force once, so this is a fault, here or in the database.
    let snapshot = built
        .await?
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    Ok((Arc::new(snapshot), Against::Recorded))
}

async fn over_todays(
    stored: &StoredBundle,
    current: Arc<Snapshot>,
) -> Result<Arc<Snapshot>, Problem> {
    let (bundle, revision) = (stored.bundle.clone(), stored.revision);
    let compiled = give_way(move || current.recompile(&bundle)).await?;
    let snapshot = compiled.map_err(|error| {
        let detail = format!("the bundle of the record does not fit today's entities ({error}); ask with `against=current`");
        Problem::new(Kind::CONFLICT, detail)
    })?;
    Ok(Arc::new(snapshot.at(revision)))
}

/// Whether any live entity is different at `upto` from what it was at `after`.
pub(crate) async fn changed_since(
    app: &App,
    tenant: TenantId,
    after: Revision,
    upto: Revision,
) -> Result<bool, Problem> {
    let page = app
        .store
        .entity_changes(tenant, after, upto, None, 1)
        .await?;
    Ok(!page.upserts.is_empty() || !page.removals.is_empty())
}

/// Reads every live entity as it was at a revision.
pub(crate) async fn as_of(
    app: &App,
    tenant: TenantId,
    revision: Revision,
) -> Result<Vec<Entity>, Problem> {
    let mut entities = Vec::new();
    let mut cursor = None;
    loop {
        let page = app
            .store
            .entity_changes(
                tenant,
                Revision::default(),
                revision,
                cursor.as_ref(),
                MAX_ENTITIES,
            )
            .await?;
        entities.extend(page.upserts);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(entities);
        }
    }
}

/// Whether two decisions say the same, at whatever revision and by whatever bundle.
fn same(recorded: &Decision, again: &Decision) -> bool {
    let again = Decision {
        revision: recorded.revision,
        bundle: recorded.bundle,
        ..again.clone()
    };
    *recorded == again
}
