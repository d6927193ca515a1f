//! Reviewing a draft: what somebody says of it as it is. An edit makes it another draft, and what was said stands no more.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use remit_core::{DraftId, KeyId, Revision, Timestamp};
use remit_store::{Change, NewReview, ReviewVerdict, StoredReview};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{about, as_read, editable, told};
use crate::admin::{Action, second_person::authored};
use crate::app::App;
use crate::auth::Caller;
use crate::preconditions::Preconditions;
use crate::problem::Problem;
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
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
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    principal: String,
    key: KeyId,
    verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    at: Timestamp,
}

/// Keeps what somebody says of a draft.
pub(crate) async fn review(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Body(ReviewBody { verdict, message }): Body<ReviewBody>,
) -> Result<Response, Problem> {
    let asks = json!({
        "caller": caller.key, "action": Action::ReviewDraft.name(), "draft": id, "verdict": verdict, "message": message,
    });
    let named = Named::of(&key, move || asks).await?;
    as_read(&app, caller.tenant, id, &preconditions).await?;
    let make = async {
        let draft = editable(&app, caller.tenant, id, &preconditions).await?;
        let name = caller.principal.name.as_str();
        let own = authored(&app, caller.tenant, name, &draft.authors).await?;
        let act = about(Action::ReviewDraft, &draft)
            .own(own)
            .with("verdict", json!(verdict));
        let record = app.permit(&caller, act).await?;
        let shown = Shown {
            principal: caller.principal.name.to_string(),
            key: caller.key,
            verdict,
            message: message.clone(),
            at: app.clock.now(),
        };
        let answer = Answer::of(named.as_ref(), &shown)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let new = NewReview {
            principal: &shown.principal,
            key: shown.key,
            at: shown.at,
            verdict: verdict.into(),
            message: message.as_deref(),
        };
        let marked = (draft.id, draft.version);
        app.store
            .review_draft(caller.tenant, marked, new, change)
            .await?;
        told(&caller, &record, &draft);
        Ok((Revision::default(), shown))
    };
    let (_, shown) = once(&app, caller.tenant, named.as_ref(), make).await?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
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
