//! What is found out about a draft: whether it compiles and its cases pass, and what it would have changed. It is kept in
//! the draft for as long as the draft is what it was found out about.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use remit_core::{AdminAction, ContentHash, DraftId, Revision, TenantId, Timestamp};
use remit_engine::{CaseOutcome, Severity};
use remit_store::StoredDraft;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{about, find, read, told, with};
use crate::admin::Action;
use crate::app::App;
use crate::auth::Caller;
use crate::bundle::{self, Checked};
use crate::impact::{Impact, Window, assess_bundle};
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

/// What was found out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<Check>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    impact: Option<Summary>,
}

/// What came of a check.
#[derive(Debug, Serialize, Deserialize)]
struct Check {
    /// The bundle and base that it is about.
    about: ContentHash,
    at: Timestamp,
    /// The revision of the tenant whose entities and bundle it was checked against.
    revision: Revision,
    valid: bool,
    errors: usize,
    warnings: usize,
    cases: Cases,
    /// Whether some question that was denied may be permitted; nothing where it does not compile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loosens: Option<bool>,
}

/// How many cases come out as expected, and how many do not.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cases {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// What it would have changed, in numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The bundle and base that it is about.
    about: ContentHash,
    at: Timestamp,
    from: Timestamp,
    until: Timestamp,
    replayed: u64,
    unchanged: u64,
    truncated: bool,
    not_replayable: u64,
    /// How many differ, by outcome.
    totals: BTreeMap<String, u64>,
}

/// A draft that is being assessed, and the record of who asked for that.
pub(crate) struct Assessed {
    draft: StoredDraft,
    record: AdminAction,
}

/// Says what would come of publishing a draft, and keeps it.
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let (draft, bundle) = read(&app, tenant, id).await?;
    draft.changeable(draft.version)?;
    let (checked, revision) = bundle::look(&app, tenant, bundle).await?;
    let act = about(Action::CheckDraft, &draft).with("valid", json!(checked.valid));
    let record = app.permit(&caller, act).await?;
    // An impact may have been kept meanwhile.
    let now = find(&app, tenant, id).await?;
    let mut results = Results::standing(&now)?;
    results.check = Some(Check::of(&checked, &draft, app.clock.now(), revision));
    results.keep(&app, tenant, &draft, &record).await?;
    told(&caller, &record, &draft);
    let mut response = Json(checked).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Says what recorded decisions would have been under a draft, and keeps the totals.
pub(crate) async fn impact(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    headers: HeaderMap,
    Query(window): Query<Window>,
) -> Result<Response, Problem> {
    let (draft, bundle) = read(&app, caller.tenant, id).await?;
    draft.changeable(draft.version)?;
    let act = about(Action::AssessDraft, &draft);
    let record = app.permit(&caller, act).await?;
    let of = Assessed { draft, record };
    assess_bundle(app, &caller, &headers, window, Arc::new(bundle), Some(of)).await
}

// === impl Assessed ===

impl Assessed {
    /// Keeps what the draft would have changed.
    pub(crate) async fn keep(
        &self,
        app: &App,
        tenant: TenantId,
        impact: &Impact,
    ) -> Result<(), Problem> {
        let Self { draft, record } = self;
        // A check may have been kept meanwhile.
        let now = find(app, tenant, draft.id).await?;
        let mut results = Results::standing(&now)?;
        results.impact = Some(Summary::of(impact, draft, app.clock.now())?);
        results.keep(app, tenant, draft, record).await
    }
}

// === impl Results ===

impl Results {
    /// Reads what was found out about a draft as it is now.
    pub(crate) fn standing(draft: &StoredDraft) -> Result<Self, Problem> {
        let Some(text) = &draft.results else {
            return Ok(Self::default());
        };
        let kept: Self =
            serde_json::from_str(text).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        let about = draft.about();
        Ok(Self {
            check: kept.check.filter(|check| check.about == about),
            impact: kept.impact.filter(|totals| totals.about == about),
        })
    }

    /// Returns what it would have changed, for the evidence of its version.
    pub(crate) fn into_summary(self) -> Option<Summary> {
        self.impact
    }

    /// Writes them into a draft that has not been edited since.
    async fn keep(
        &self,
        app: &App,
        tenant: TenantId,
        draft: &StoredDraft,
        record: &AdminAction,
    ) -> Result<(), Problem> {
        let text = json!(self).to_string();
        // One that was edited meanwhile has other results.
        app.store
            .keep_draft_results(tenant, draft.id, draft.version, &text, with(record))
            .await?;
        Ok(())
    }
}

// === impl Check ===

impl Check {
    fn of(checked: &Checked, draft: &StoredDraft, at: Timestamp, revision: Revision) -> Self {
        let found = checked.diagnostics.iter();
        let errors = found.filter(|one| one.severity == Severity::Error).count();
        let comparison = checked.comparison.as_ref();
        Self {
            about: draft.about(),
            at,
            revision,
            valid: checked.valid,
            errors,
            warnings: checked.diagnostics.len() - errors,
            cases: Cases::of(&checked.cases),
            loosens: comparison
                .map(|comparison| comparison.loosens)
                // Without a bundle everything is denied.
                .or((errors == 0).then_some(true)),
        }
    }
}

// === impl Cases ===

impl Cases {
    /// Counts the cases of a bundle.
    pub(crate) fn of(cases: &[CaseOutcome]) -> Self {
        let passed = cases.iter().filter(|case| case.passed()).count();
        Self {
            passed,
            failed: cases.len() - passed,
        }
    }
}

// === impl Summary ===

impl Summary {
    fn of(impact: &Impact, draft: &StoredDraft, at: Timestamp) -> Result<Self, Problem> {
        let totals = serde_json::from_value(json!(impact.totals))
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        Ok(Self {
            about: draft.about(),
            at,
            from: impact.from,
            until: impact.until,
            replayed: impact.replayed,
            unchanged: impact.unchanged,
            truncated: impact.truncated,
            not_replayable: impact.not_replayable.iter().map(|left| left.count).sum(),
            totals,
        })
    }
}
