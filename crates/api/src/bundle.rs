//! `/v1/bundle`: read, replace and check what decides.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use remit_core::{Bundle, ContentHash, Revision};
use remit_engine::{CaseOutcome, CompileError, Diagnostic, Snapshot};
use remit_store::Expected;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::revisions::{Barrier, Until, settle};
use crate::wire::{Body, Json, Wire};

/// The content hash of the bundle in an answer.
const HASH: HeaderName = HeaderName::from_static("remit-bundle");

/// A whole bundle as a body.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct BundleBody(Bundle);

/// The answer to a bundle that is in force now.
#[derive(Debug, Serialize)]
struct Applied {
    revision: Revision,
    hash: ContentHash,
    policies: usize,
    warnings: Vec<Diagnostic>,
    /// Where it is in force, if that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<Barrier>,
}

/// The answer to a bundle that was only looked at.
#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    hash: ContentHash,
    policies: usize,
    diagnostics: Vec<Diagnostic>,
    cases: Vec<CaseOutcome>,
}

/// A bundle that compiles, with what came of its cases.
struct Tried {
    snapshot: Snapshot,
    cases: Vec<CaseOutcome>,
}

/// Answers with the bundle in force, exactly as it was put.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let stored = app.store.bundle(caller.tenant).await?;
    let stored =
        stored.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "no bundle has been put yet"))?;
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
    Ok(response)
}

/// Replaces the bundle: compiled and tried first, written only if nothing has changed meanwhile, in force when this
/// answers.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
    Query(until): Query<Until>,
    Body(BundleBody(bundle)): Body<BundleBody>,
) -> Result<Response, Problem> {
    preconditions.required()?;
    let bundle = Arc::new(bundle);
    let mut attempts = Attempts::new(&app, caller.tenant);
    let (revision, tried) = loop {
        let base = attempts.base();
        let stored = app.store.bundle_revision(caller.tenant).await?;
        preconditions.check(stored)?;
        if stored.is_some() && base.is_none() {
            return Err(Kind::NOT_READY.into());
        }
        let expected = match &base {
            Some(base) => Expected::Unchanged {
                bundle: stored,
                head: base.revision(),
            },
            None => Expected::Absent,
        };
        let tried = compile(base, &bundle)
            .await?
            .map_err(|error| refused(&error))?;
        accepted(&tried.cases)?;
        app.progress.prepare(caller.tenant, &tried.snapshot);
        let written = app
            .store
            .put_bundle(caller.tenant, expected, &bundle, Some(caller.key))
            .await;
        match Attempt::of(written)? {
            Attempt::Written(revision) => break (revision, tried),
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    };
    let fleet = settle(&app, caller.tenant, revision, until).await?;
    let applied = Applied {
        revision,
        hash: tried.snapshot.content_hash(),
        policies: tried.snapshot.policy_count(),
        warnings: tried.snapshot.warnings().to_vec(),
        fleet,
    };
    tracing::info!(
        target: "remit::admin", action = "put_bundle", tenant = %caller.tenant, key = %caller.key,
        request_id = caller.request_id, revision = revision.number(), hash = %applied.hash, "admin"
    );
    let mut response = ([(header::ETAG, etag(revision))], Json(applied)).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Says what would come of putting a bundle, and changes nothing.
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(BundleBody(bundle)): Body<BundleBody>,
) -> Result<Response, Problem> {
    let base = app.engine.snapshot(caller.tenant);
    let revision = base
        .as_ref()
        .map_or_else(Revision::default, |base| base.revision());
    let bundle = Arc::new(bundle);
    let checked = match compile(base, &bundle).await? {
        Ok(Tried { snapshot, cases }) => Checked {
            valid: cases.iter().all(CaseOutcome::passed),
            hash: snapshot.content_hash(),
            policies: snapshot.policy_count(),
            diagnostics: snapshot.warnings().to_vec(),
            cases,
        },
        Err(error) => Checked {
            valid: false,
            hash: bundle.content_hash(),
            policies: 0,
            diagnostics: error.diagnostics,
            cases: Vec::new(),
        },
    };
    let mut response = Json(checked).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Compiles a bundle over the live entities of `base` and runs its cases, giving way to decisions.
async fn compile(
    base: Option<Arc<Snapshot>>,
    bundle: &Arc<Bundle>,
) -> Result<Result<Tried, CompileError>, Problem> {
    let bundle = Arc::clone(bundle);
    give_way(move || {
        let snapshot = match base {
            Some(base) => base.recompile(&bundle)?,
            None => Snapshot::compile(&bundle)?,
        };
        let cases = bundle
            .cases
            .iter()
            .map(|case| snapshot.run_case(case))
            .collect();
        Ok(Tried { snapshot, cases })
    })
    .await
}

pub(crate) fn refused(error: &CompileError) -> Problem {
    Problem::new(Kind::POLICY_INVALID, error.to_string())
        .with("diagnostics", json!(error.diagnostics))
}

fn accepted(cases: &[CaseOutcome]) -> Result<(), Problem> {
    let failed: Vec<&CaseOutcome> = cases.iter().filter(|case| !case.passed()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{} of {} cases do not come out as expected",
        failed.len(),
        cases.len()
    );
    Err(Problem::new(Kind::CASES_FAILED, detail).with("cases", json!(failed)))
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
