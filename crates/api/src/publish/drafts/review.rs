//! Reviewing a draft: what somebody says of it as it is. An edit makes it another draft, and what was said stands no more.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use remit_core::{DraftId, KeyId, Timestamp};
use remit_store::{NewReview, ReviewVerdict, StoredReview};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{about, editable, told, with};
use crate::admin::Action;
use crate::app::App;
use crate::auth::Caller;
use crate::preconditions::Preconditions;
use crate::problem::Problem;
use crate::query::Segments;
use crate::wire::{Body, Json, Wire, absent_if_null};

/// What somebody says of a draft.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewBody {
    verdict: Verdict,
    #[serde(default, deserialize_with = "absent_if_null")]
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Approve,
    Reject,
}

/// A review that stands.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    principal: String,
    key: KeyId,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    at: Timestamp,
}

/// Keeps what somebody says of a draft.
pub(crate) async fn review(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    Body(ReviewBody { verdict, message }): Body<ReviewBody>,
) -> Result<Response, Problem> {
    let draft = editable(&app, caller.tenant, id, &preconditions).await?;
    let act = about(Action::ReviewDraft, &draft)
        .own(draft.authors.contains(caller.principal.name.as_str()))
        .with("verdict", json!(verdict));
    let record = app.permit(&caller, act).await?;
    let new = NewReview {
        principal: caller.principal.name.as_str(),
        key: caller.key,
        verdict: verdict.into(),
        message: message.as_deref(),
    };
    let marked = (draft.id, draft.version);
    let kept = app
        .store
        .review_draft(caller.tenant, marked, new, with(&record))
        .await?;
    told(&caller, &record, &draft);
    Ok((StatusCode::CREATED, Json(Shown::from(kept))).into_response())
}

// === impl Verdict ===

impl From<Verdict> for ReviewVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Approve => Self::Approve,
            Verdict::Reject => Self::Reject,
        }
    }
}

// === impl Shown ===

impl From<StoredReview> for Shown {
    fn from(stored: StoredReview) -> Self {
        Self {
            principal: stored.principal,
            key: stored.key,
            verdict: match stored.verdict {
                ReviewVerdict::Approve => Verdict::Approve,
                ReviewVerdict::Reject => Verdict::Reject,
            },
            message: stored.message,
            at: stored.at,
        }
    }
}

impl Wire for ReviewBody {}
