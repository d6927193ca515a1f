//! Publishing a draft: the one step by which what it holds comes to decide.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use remit_core::{DraftId, Revision, TenantId};
use remit_engine::Snapshot;
use remit_store::{Expected, ReviewVerdict, StoredDraft, StoredReview};
use serde::Deserialize;
use serde_json::json;

use super::{as_read, read};
use crate::admin::second_person::{Agreed, SecondPersons};
use crate::admin::{Act, Action, lockout};
use crate::app::App;
use crate::auth::Caller;
use crate::preconditions::Preconditions;
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::IdempotencyKey;
use crate::publish::{self, Checked, Next, Publication, compile, refused};
use crate::query::{Query, Segments};
use crate::revisions::Until;
use crate::wire::{Body, Wire, absent_if_null};

/// What is said of the version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishBody {
    /// In place of the message of the draft.
    #[serde(default, deserialize_with = "absent_if_null")]
    message: Option<String>,
}

/// A draft that is to be published.
pub(crate) struct Drafted {
    pub(crate) draft: StoredDraft,
    /// The reviews that stand.
    pub(crate) reviews: Vec<StoredReview>,
}

/// Puts a draft in force.
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(PublishBody { message }): Body<PublishBody>,
) -> Result<Response, Problem> {
    as_read(&app, caller.tenant, id, &preconditions).await?;
    let publication = Publication {
        message,
        key,
        until,
        ..Publication::of(Action::PublishDraft)
    };
    let next = Next::Draft(id);
    let published = publish::publish(&app, &caller, &preconditions, publication, next).await?;
    Ok(published.answer())
}

/// Checks a draft against one state, as [`Next::check`] does.
pub(in crate::publish) async fn check(
    app: &App,
    tenant: TenantId,
    id: DraftId,
    base: Option<Arc<Snapshot>>,
    preconditions: &Preconditions,
) -> Result<Result<Checked, Revision>, Problem> {
    // Before anything is read: what is read below is of this revision, or the change is not written.
    let head = match &base {
        Some(base) => base.revision(),
        None => lockout::head(app, tenant).await?,
    };
    let (draft, bundle) = read(app, tenant, id).await?;
    draft.changeable(draft.version)?;
    preconditions.check(Some(Revision::new(draft.version)))?;
    let stored = app.store.bundle_revision(tenant).await?;
    if stored != draft.base {
        return Err(behind(&draft, stored));
    }
    if stored.is_some() && base.is_none() {
        return Err(Kind::NOT_READY.into());
    }
    let expected = Expected::Unchanged {
        bundle: stored,
        head,
    };
    let bundle = Arc::new(bundle);
    let tried = compile(base, &bundle).await?;
    let tried = tried.map_err(|error| refused(&error))?;
    let reviews = app.store.draft_reviews(tenant, id).await?;
    let reviews = draft.standing(reviews);
    Ok(Ok(Checked {
        bundle,
        expected,
        tried,
        draft: Some(Drafted { draft, reviews }),
    }))
}

/// Says that another bundle has come into force since the draft began.
fn behind(draft: &StoredDraft, stored: Option<Revision>) -> Problem {
    let over = draft.base.map_or_else(
        || "begins where no bundle is in force".to_owned(),
        |base| format!("changes the bundle of revision {base}"),
    );
    let now = stored.unwrap_or_default();
    let detail = format!(
        "the draft {over}, and that of revision {now} is in force; `POST /v1/drafts/{}/rebase` moves the draft on",
        draft.id
    );
    Problem::new(Kind::STALE_REVISION, detail).with("in_force", json!(stored))
}

// === impl Drafted ===

impl Drafted {
    /// Finds those who count as a second person: of the draft's reviewers, and whoever publishes it.
    pub(in crate::publish) async fn second_persons(
        &self,
        app: &App,
        caller: &Caller,
    ) -> Result<SecondPersons, Problem> {
        let reviews = self.reviews.iter();
        let approvals = reviews
            .filter(|review| review.verdict == ReviewVerdict::Approve)
            .map(|review| Agreed {
                principal: &review.principal,
                key: review.key,
            });
        let act = Act::on(Action::ReviewDraft, &self.draft.id);
        SecondPersons::of(app, caller, &self.draft.authors, approvals, &act).await
    }
}

impl Wire for PublishBody {}
