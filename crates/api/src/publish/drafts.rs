//! `/v1/drafts`: bundles that somebody works on, from the first edit to the version that they become.
//!
//! A draft need not compile. Its `ETag` counts its edits, so of two who edit at once one is told that he came second, and
//! nothing of the first is written over. It is a change of the bundle that was in force when it began: it is published
//! over that one and over no other, and `rebase` moves it on.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{AdminAction, Bundle, ContentHash, DraftId, Revision, TenantId, Timestamp};
use remit_engine::{CompileError, Diagnostic, Differences, Snapshot, differences};
use remit_store::{Change, DraftFilter, DraftState, Error, NewDraft, StoredDraft};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::absent;
use crate::admin::{Act, Action, system};
use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::paging::{self, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::wire::{Body, Json, Wire, absent_if_null};

pub(crate) mod edit;
pub(crate) mod findings;
pub(crate) mod release;
pub(crate) mod review;

/// How often a draft is read again because it was edited between its head and its bundle.
const READINGS: usize = 8;

/// A draft to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DraftBody {
    name: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    message: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    bundle: Option<Bundle>,
}

/// Which drafts to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
    state: Option<Standing>,
    name: Option<String>,
}

/// What has become of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Open,
    Published,
    Discarded,
}

/// A draft without its bundle.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    id: DraftId,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    state: Standing,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Revision>,
    /// Whether another bundle than its base is in force.
    behind: bool,
    hash: ContentHash,
    authors: BTreeSet<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_as: Option<Revision>,
}

/// A draft with all that is known of it.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    head: Head,
    /// What it changes against its base; absent where it was discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Differences>,
    results: findings::Results,
    reviews: Vec<review::Shown>,
    /// What it holds; absent where it was discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<Bundle>,
}

/// The answer to a draft that was saved.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    head: Head,
    /// Whether it compiles.
    compiles: bool,
    diagnostics: Vec<Diagnostic>,
}

/// Makes a draft, of a bundle or of the one in force.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<DraftBody>,
) -> Result<Response, Problem> {
    let body = Arc::new(body);
    let asks = {
        let body = Arc::clone(&body);
        let of = (caller.key, Action::CreateDraft.name());
        move || {
            let hash = body.bundle.as_ref().map(Bundle::content_hash);
            json!({ "caller": of.0, "action": of.1, "name": body.name, "message": body.message, "bundle": hash })
        }
    };
    let named = Named::of(&key, asks).await?;
    let make = Box::pin(make(&app, &caller, &body, named.as_ref()));
    let (_, saved) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let location = format!("/v1/drafts/{}", saved.head.id);
    let mut response = saved.answer();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn make(
    app: &App,
    caller: &Caller,
    body: &DraftBody,
    named: Option<&Named>,
) -> Result<(Revision, Saved), Problem> {
    let tenant = caller.tenant;
    let in_force = app.store.bundle_revision(tenant).await?;
    let (base, bundle) = match &body.bundle {
        Some(bundle) => (in_force, bundle.clone()),
        None => {
            let stored = app.store.bundle(tenant).await?.ok_or_else(absent)?;
            (Some(stored.revision), stored.bundle)
        }
    };
    let act = Act::of(Action::CreateDraft)
        .with("name", json!(body.name))
        .with("base", json!(base));
    let record = app.permit(caller, act).await?;
    let (at, author) = (app.clock.now(), caller.principal.name.as_str());
    let bundle = Arc::new(bundle);
    let draft = StoredDraft {
        id: DraftId::from_uuid(app.clock.id()),
        name: body.name.clone(),
        message: body.message.clone(),
        base,
        hash: hash(&bundle).await?,
        authors: BTreeSet::from([author.to_owned()]),
        state: DraftState::Open,
        version: 1,
        reviews: 0,
        created_at: at,
        updated_at: at,
        published_as: None,
        results: None,
    };
    let saved = Saved::of(app, tenant, &draft, &bundle, in_force).await?;
    let answer = Answer::of(named, &saved)?;
    let new = NewDraft {
        id: draft.id,
        at,
        name: &body.name,
        message: body.message.as_deref(),
        base,
        bundle: &bundle,
        author,
    };
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    app.store.create_draft(tenant, new, change).await?;
    told(caller, &record, &draft);
    Ok((Revision::default(), saved))
}

/// Lists drafts, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let Wanted {
        limit,
        cursor,
        state,
        name,
    } = wanted;
    let tenant = caller.tenant;
    let filter = json!({ "list": "drafts", "tenant": tenant, "state": state, "name": name });
    let paging = Paging::<DraftId>::of(&app, &filter, limit, cursor.as_deref())?;
    let filter = DraftFilter {
        state: state.map(DraftState::from),
        name: name.as_deref(),
    };
    let found = app
        .store
        .drafts(tenant, filter, paging.after, paging.limit + 1)
        .await?;
    let in_force = app.store.bundle_revision(tenant).await?;
    let (found, next) = paging.cut(&app, found, |last| last.id)?;
    let drafts: Vec<_> = found
        .into_iter()
        .map(|one| Head::of(one, in_force))
        .collect();
    Ok(paging::answer(&uri, "drafts", &drafts, next.as_deref()))
}

/// Answers with one draft: its bundle, what it changes, what was found out about it and what others say of it.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let (draft, bundle) = look(&app, tenant, id).await?;
    let (differences, bundle) = match bundle {
        Some(bundle) => {
            let before = base(&app, tenant, draft.base).await?;
            let compared = give_way(move || (differences(&before, &bundle), bundle));
            let (differences, bundle) = compared.await?;
            let differences =
                differences.map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
            (Some(differences), Some(bundle))
        }
        None => (None, None),
    };
    let reviews = app.store.draft_reviews(tenant, id).await?;
    let in_force = app.store.bundle_revision(tenant).await?;
    let tag = etag(Revision::new(draft.version));
    let whole = Whole {
        differences,
        results: findings::Results::standing(&draft)?,
        reviews: draft
            .standing(reviews)
            .into_iter()
            .map(review::Shown::from)
            .collect(),
        bundle,
        head: Head::of(draft, in_force),
    };
    Ok(([(header::ETAG, tag)], Json(whole)).into_response())
}

/// Gives a draft up; all but its bundle stays readable, and its name is free again.
pub(crate) async fn discard(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    let asks = json!({ "caller": caller.key, "action": Action::DiscardDraft.name(), "draft": id });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let draft = editable(&app, caller.tenant, id, &preconditions).await?;
        let record = app
            .permit(&caller, about(Action::DiscardDraft, &draft))
            .await?;
        let answer = Answer::of(named.as_ref(), &())?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        app.store
            .discard_draft(caller.tenant, id, draft.version, change)
            .await?;
        told(&caller, &record, &draft);
        Ok((Revision::default(), ()))
    };
    let (_, ()) = once(&app, caller.tenant, named.as_ref(), make).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Finds a draft.
async fn find(app: &App, tenant: TenantId, id: DraftId) -> Result<StoredDraft, Problem> {
    let found = app.store.draft(tenant, id).await?;
    found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such draft"))
}

/// Reads a draft with its bundle, which a discarded one has not.
async fn read(app: &App, tenant: TenantId, id: DraftId) -> Result<(StoredDraft, Bundle), Problem> {
    let (draft, bundle) = look(app, tenant, id).await?;
    match bundle {
        Some(bundle) => Ok((draft, bundle)),
        None => Err(Problem::new(Kind::CONFLICT, "the draft is discarded")),
    }
}

/// Reads a draft and what is left of its bundle, both of one version.
async fn look(
    app: &App,
    tenant: TenantId,
    id: DraftId,
) -> Result<(StoredDraft, Option<Bundle>), Problem> {
    let mut left = READINGS;
    loop {
        let draft = find(app, tenant, id).await?;
        left -= 1;
        if draft.state == DraftState::Discarded {
            return Ok((draft, None));
        }
        match app.store.draft_bundle(tenant, &draft).await {
            // It was edited in between.
            Err(Error::Stale { .. }) if left > 0 => {}
            bundle => return Ok((draft, Some(bundle?))),
        }
    }
}

/// Demands that the caller names the one version of a draft that they have read.
async fn as_read(
    app: &App,
    tenant: TenantId,
    id: DraftId,
    preconditions: &Preconditions,
) -> Result<(), Problem> {
    let named = preconditions.exact();
    if named.is_err() {
        // What is not there is said first.
        find(app, tenant, id).await?;
    }
    named
}

/// Finds a draft that is open and as the caller has read it.
async fn editable(
    app: &App,
    tenant: TenantId,
    id: DraftId,
    preconditions: &Preconditions,
) -> Result<StoredDraft, Problem> {
    preconditions.required()?;
    let draft = find(app, tenant, id).await?;
    draft.changeable(draft.version)?;
    preconditions.check(Some(Revision::new(draft.version)))?;
    Ok(draft)
}

/// Reads the bundle that a draft changes: an empty one where there was none.
async fn base(app: &App, tenant: TenantId, base: Option<Revision>) -> Result<Bundle, Problem> {
    let Some(revision) = base else {
        return Ok(Bundle::default());
    };
    let stored = app.store.bundle_version(tenant, revision).await?;
    let stored = stored.ok_or_else(|| {
        Problem::caused(
            Kind::INTERNAL,
            format!("the base {revision} of a draft is gone"),
        )
    })?;
    Ok(stored.bundle)
}

/// Hashes a bundle, which may be large.
async fn hash(bundle: &Arc<Bundle>) -> Result<ContentHash, Problem> {
    let bundle = Arc::clone(bundle);
    give_way(move || bundle.content_hash()).await
}

/// Says what is done to a draft, as it is.
fn about(action: Action, draft: &StoredDraft) -> Act {
    Act::on(action, &draft.id)
        .with("name", json!(draft.name))
        .with("version", json!(draft.version))
        .with("hash", json!(draft.hash))
}

/// Makes a change with its record.
fn with(record: &AdminAction) -> Change<'_> {
    Change {
        record: Some(record),
        once: None,
    }
}

/// Writes the log line of a change of a draft.
fn told(caller: &Caller, record: &AdminAction, draft: &StoredDraft) {
    tracing::info!(
        target: "remit::admin", action = record.action, tenant = %caller.tenant, key = %caller.key,
        principal = %record.principal, request_id = caller.request_id, draft = %draft.id, version = draft.version,
        hash = %draft.hash, "admin"
    );
}

// === impl Saved ===

impl Saved {
    /// Tells of a draft as it is saved, and what is wrong with it.
    async fn of(
        app: &App,
        tenant: TenantId,
        draft: &StoredDraft,
        bundle: &Arc<Bundle>,
        in_force: Option<Revision>,
    ) -> Result<Self, Problem> {
        let (over, bundle) = (app.engine.snapshot(tenant), Arc::clone(bundle));
        let outcome = give_way(move || {
            let snapshot = match over {
                Some(over) => over.recompile(&bundle)?,
                None => Snapshot::compile(&bundle)?,
            };
            let admin = system::compiled(&bundle.admin)?;
            let mut found = snapshot.warnings().to_vec();
            found.extend(system::warnings(&admin));
            Ok::<_, CompileError>(found)
        });
        let (compiles, diagnostics) = match outcome.await? {
            Ok(warnings) => (true, warnings),
            Err(error) => (false, error.diagnostics),
        };
        Ok(Self {
            head: Head::of(draft.clone(), in_force),
            compiles,
            diagnostics,
        })
    }

    fn answer(self) -> Response {
        let tag = etag(Revision::new(self.head.version));
        ([(header::ETAG, tag)], Json(self)).into_response()
    }
}

// === impl Head ===

impl Head {
    fn of(stored: StoredDraft, in_force: Option<Revision>) -> Self {
        let state = Standing::from(stored.state);
        Self {
            behind: state == Standing::Open && stored.base != in_force,
            state,
            id: stored.id,
            name: stored.name,
            message: stored.message,
            version: stored.version,
            base: stored.base,
            hash: stored.hash,
            authors: stored.authors,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            published_as: stored.published_as,
        }
    }
}

// === impl Standing ===

impl From<DraftState> for Standing {
    fn from(state: DraftState) -> Self {
        match state {
            DraftState::Open => Self::Open,
            DraftState::Published => Self::Published,
            DraftState::Discarded => Self::Discarded,
        }
    }
}

impl From<Standing> for DraftState {
    fn from(state: Standing) -> Self {
        match state {
            Standing::Open => Self::Open,
            Standing::Published => Self::Published,
            Standing::Discarded => Self::Discarded,
        }
    }
}

impl Wire for DraftBody {
    const BYTES: usize = 64 << 20;
    const NODES: usize = 4_000_000;
    const PATIENT: bool = true;
}
