//! Editing a draft: its bundle as a whole, one policy of it, and moving it on to the bundle in force.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use remit_core::{Bundle, DraftId, PolicyId, Revision};
use remit_engine::{put_text, rebase as rebased, remove_text};
use remit_store::StoredDraft;
use serde_json::json;

use super::{about, base, editable, saved, told, with};
use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::bundle::BundleBody;
use crate::policies::{PolicyBody, cannot};
use crate::preconditions::Preconditions;
use crate::problem::{Kind, Problem};
use crate::publish::absent;
use crate::query::Segments;
use crate::wire::Body;

/// Replaces the bundle of a draft.
pub(crate) async fn put_bundle(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    Body(body): Body<BundleBody>,
) -> Result<Response, Problem> {
    let draft = editable(&app, caller.tenant, id, &preconditions).await?;
    let base = draft.base;
    let act = about(Action::PutDraftBundle, &draft);
    save(&app, &caller, (&draft, base), act, body.into_bundle()).await
}

/// Writes one policy of a draft, in the place of the one with its id or at the end of a file.
///
/// Its text must be one policy with that id, because that is how its place is found; what the schema says of it is asked
/// afterwards and told.
pub(crate) async fn put_policy(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, policy)): Segments<(DraftId, PolicyId)>,
    preconditions: Preconditions,
    Body(PolicyBody { text, file }): Body<PolicyBody>,
) -> Result<Response, Problem> {
    let draft = editable(&app, caller.tenant, id, &preconditions).await?;
    let bundle = app.store.draft_bundle(caller.tenant, &draft).await?;
    let id = policy.clone();
    let edited = give_way(move || put_text(bundle, &id, &text, file.as_deref())).await?;
    let edited = edited.map_err(cannot)?;
    let base = draft.base;
    let act = about(Action::PutDraftPolicy, &draft).with("policy", json!(policy));
    save(&app, &caller, (&draft, base), act, edited).await
}

/// Takes one policy out of a draft.
pub(crate) async fn delete_policy(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, policy)): Segments<(DraftId, PolicyId)>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let draft = editable(&app, caller.tenant, id, &preconditions).await?;
    let bundle = app.store.draft_bundle(caller.tenant, &draft).await?;
    let id = policy.clone();
    let edited = give_way(move || remove_text(bundle, &id)).await?;
    let edited = edited.map_err(cannot)?;
    let base = draft.base;
    let act = about(Action::DeleteDraftPolicy, &draft).with("policy", json!(policy));
    save(&app, &caller, (&draft, base), act, edited).await
}

/// Makes of a draft the same change of the bundle that is in force now.
pub(crate) async fn rebase(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let draft = editable(&app, tenant, id, &preconditions).await?;
    let bundle = app.store.draft_bundle(tenant, &draft).await?;
    if app.store.bundle_revision(tenant).await? == draft.base {
        return saved(&app, tenant, draft, bundle).await;
    }
    let head = app.store.bundle(tenant).await?.ok_or_else(absent)?;
    let before = base(&app, tenant, draft.base).await?;
    let (now, theirs) = (head.revision, head.bundle);
    let merged = give_way(move || rebased(&before, &bundle, &theirs)).await?;
    let merged = merged.map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let merged = merged.map_err(|clashes| {
        let detail = format!(
            "{} of the draft and of revision {now} are changed on both sides; nothing was changed",
            if clashes.len() == 1 {
                "1 thing".to_owned()
            } else {
                format!("{} things", clashes.len())
            },
        );
        Problem::new(Kind::CONFLICT, detail).with("conflicts", json!(clashes))
    })?;
    let act = about(Action::RebaseDraft, &draft).with("base", json!(now));
    save(&app, &caller, (&draft, Some(now)), act, merged).await
}

/// Writes a draft that is still as it was read, and the base that it is over.
async fn save(
    app: &App,
    caller: &Caller,
    (draft, base): (&StoredDraft, Option<Revision>),
    act: Act,
    bundle: Bundle,
) -> Result<Response, Problem> {
    let record = app.permit(caller, act).await?;
    let marked = (draft.id, draft.version);
    let author = caller.principal.name.as_str();
    let saved_as = app
        .store
        .edit_draft(caller.tenant, marked, author, base, &bundle, with(&record))
        .await?;
    told(caller, &record, &saved_as);
    saved(app, caller.tenant, saved_as, bundle).await
}
