//! `/v1/bundle`: read, replace and check what decides.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use remit_core::{Bundle, ContentHash, Revision, TenantId};
use remit_engine::{CaseOutcome, Comparison, Diagnostic};
use remit_store::StoredBundle;
use serde::{Deserialize, Serialize};

use crate::admin::Action;
use crate::app::App;
use crate::auth::Caller;
use crate::layers::Told;
use crate::preconditions::{Preconditions, etag};
use crate::problem::Problem;
use crate::publish::idempotency::IdempotencyKey;
use crate::publish::{Next, Noted, absent, compile, publish};
use crate::query::Query;
use crate::wire::{Body, Json, Wire};

/// The content hash of the bundle in an answer.
const HASH: HeaderName = HeaderName::from_static("remit-bundle");

/// A whole bundle as a body.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct BundleBody(Bundle);

/// The answer to a bundle that was only looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) valid: bool,
    hash: ContentHash,
    policies: usize,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) cases: Vec<CaseOutcome>,
    /// What it changes against the bundle in force; nothing where there is none, or it does not compile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<Comparison>,
}

/// Answers with the bundle in force, exactly as it was put.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let stored = app.store.bundle(caller.tenant).await?;
    Ok(show(&stored.ok_or_else(absent)?, &preconditions))
}

/// Shows a bundle as it was put, unless the reader has it.
pub(crate) fn show(stored: &StoredBundle, preconditions: &Preconditions) -> Response {
    let mut response = if preconditions.unchanged(stored.revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(&stored.bundle).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(stored.revision));
    if let Ok(hash) = HeaderValue::try_from(stored.hash.to_string()) {
        headers.insert(HASH, hash);
    }
    Told::revision(stored.revision).attach(&mut response);
    response
}

/// Replaces the bundle.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(noted): Query<Noted>,
    Body(BundleBody(bundle)): Body<BundleBody>,
) -> Result<Response, Problem> {
    let publication = noted.publication(Action::PutBundle, key);
    let next = Next::Bundle(Arc::new(bundle));
    let published = publish(&app, &caller, &preconditions, publication, next).await?;
    Ok(published.answer())
}

/// Says what would come of putting a bundle, and changes nothing.
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(BundleBody(bundle)): Body<BundleBody>,
) -> Result<Response, Problem> {
    let (checked, revision) = look(&app, caller.tenant, bundle).await?;
    let mut response = Json(checked).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Says what would come of putting a bundle, and at which revision.
pub(crate) async fn look(
    app: &App,
    tenant: TenantId,
    bundle: Bundle,
) -> Result<(Checked, Revision), Problem> {
    let base = app.engine.snapshot(tenant);
    let revision = base
        .as_ref()
        .map_or_else(Revision::default, |base| base.revision());
    let bundle = Arc::new(bundle);
    let checked = match compile(base, &bundle).await? {
        Ok(tried) => Checked {
            valid: tried.cases.iter().all(CaseOutcome::passed),
            hash: tried.snapshot.content_hash(),
            policies: tried.snapshot.policy_count(),
            diagnostics: tried.warnings,
            cases: tried.cases,
            comparison: tried.comparison,
        },
        Err(error) => Checked {
            valid: false,
            hash: bundle.content_hash(),
            policies: 0,
            diagnostics: error.diagnostics,
            cases: Vec::new(),
            comparison: None,
        },
    };
    Ok((checked, revision))
}

// === impl BundleBody ===

impl BundleBody {
    pub(crate) fn into_bundle(self) -> Bundle {
        self.0
    }
}

impl Wire for BundleBody {
    const BYTES: usize = 64 << 20;
    const NODES: usize = 4_000_000;
    const PATIENT: bool = true;
}
