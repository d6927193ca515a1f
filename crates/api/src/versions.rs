//! `/v1/bundle/versions` and `/v1/bundle/rollback`: what has decided, and going back to it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use remit_core::{ContentHash, KeyId, Revision, TenantId, Timestamp};
use remit_store::{StoredBundle, StoredVersion};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::Action;
use crate::app::App;
use crate::auth::Caller;
use crate::bundle;
use crate::paging::{self, Page, Paging};
use crate::preconditions::Preconditions;
use crate::problem::{Kind, Problem};
use crate::publish::evidence::Evidence;
use crate::publish::idempotency::IdempotencyKey;
use crate::publish::{Next, Publication, publish};
use crate::query::{Query, Segments};
use crate::revisions::Until;
use crate::wire::{Body, Wire, absent_if_null};

/// Which version is to be in force again, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackBody {
    to: Revision,
    #[serde(default, deserialize_with = "absent_if_null")]
    message: Option<String>,
}

/// A version without its bundle.
#[derive(Debug, Serialize)]
struct Shown {
    revision: Revision,
    hash: ContentHash,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Author>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restores: Option<Revision>,
    /// What spoke for it when it was published; nothing of one that Remit put itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

/// The API key that put a version.
#[derive(Debug, Serialize)]
struct Author {
    key: KeyId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Lists the versions of the bundle, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "versions", "tenant": caller.tenant });
    let paging = Paging::<Revision>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .bundle_versions(caller.tenant, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.revision)?;
    let versions = found.into_iter().map(Shown::of);
    let versions = versions.collect::<Result<Vec<_>, _>>()?;
    Ok(paging::answer(&uri, "versions", &versions, next.as_deref()))
}

/// Answers with the bundle of one version, exactly as it was put.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(revision): Segments<Revision>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let stored = version(&app, caller.tenant, revision).await?;
    Ok(bundle::show(&stored, &preconditions))
}

/// Puts the bundle of an older version in force again, as a new version.
///
/// It is compiled and tried as any other: what was in force once need not fit the entities of today.
pub(crate) async fn roll_back(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(RollbackBody { to, message }): Body<RollbackBody>,
) -> Result<Response, Problem> {
    preconditions.required()?;
    let stored = version(&app, caller.tenant, to).await?;
    let publication = Publication {
        message,
        restores: Some(to),
        until,
        key,
        ..Publication::of(Action::RollbackBundle)
    };
    let next = Next::Bundle(Arc::new(stored.bundle));
    let published = publish(&app, &caller, &preconditions, publication, next).await?;
    Ok(published.answer())
}

async fn version(app: &App, tenant: TenantId, revision: Revision) -> Result<StoredBundle, Problem> {
    let stored = app.store.bundle_version(tenant, revision).await?;
    stored.ok_or_else(|| {
        let detail = format!(
            "revision {revision} brought no bundle; `GET /v1/bundle/versions` lists those that did"
        );
        Problem::new(Kind::NOT_FOUND, detail)
    })
}

// === impl Shown ===

impl Shown {
    fn of(stored: StoredVersion) -> Result<Self, Problem> {
        let name = stored.author;
        Ok(Self {
            revision: stored.revision,
            hash: stored.hash,
            at: stored.at,
            author: stored.by.map(|key| Author { key, name }),
            message: stored.message,
            restores: stored.restores,
            evidence: stored.evidence.as_deref().map(Evidence::read).transpose()?,
        })
    }
}

impl Wire for RollbackBody {}
