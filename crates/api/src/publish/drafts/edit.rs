//! Editing a draft: its bundle as a whole, one policy of it, and moving it on to the bundle in force.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use remit_core::{Bundle, ContentHash, DraftId, PolicyId, Revision, TenantId};
use remit_engine::{put_text, rebase as rebased, remove_text};
use remit_store::{Change, DraftEdit, StoredDraft};
use serde_json::{Value, json};

use super::{Saved, about, base, editable, hash, told};
use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::bundle::BundleBody;
use crate::policies::{PolicyBody, cannot};
use crate::preconditions::Preconditions;
use crate::problem::{Kind, Problem};
use crate::publish::absent;
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::Segments;
use crate::wire::Body;

/// What is done to a draft.
enum Edit {
    /// It is to hold this bundle.
    Bundle(Arc<Bundle>),
    /// One policy is to be another, or new.
    Put(PolicyId, PolicyBody),
    /// One policy is to be gone.
    Remove(PolicyId),
    /// It is to be the same change of the bundle in force now.
    Rebase,
}

/// Replaces the bundle of a draft.
pub(crate) async fn put_bundle(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Body(body): Body<BundleBody>,
) -> Result<Response, Problem> {
    let edit = Edit::Bundle(Arc::new(body.into_bundle()));
    edited(&app, &caller, (id, &preconditions), &key, edit).await
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
    key: IdempotencyKey,
    Body(body): Body<PolicyBody>,
) -> Result<Response, Problem> {
    let edit = Edit::Put(policy, body);
    edited(&app, &caller, (id, &preconditions), &key, edit).await
}

/// Takes one policy out of a draft.
pub(crate) async fn delete_policy(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, policy)): Segments<(DraftId, PolicyId)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    let edit = Edit::Remove(policy);
    edited(&app, &caller, (id, &preconditions), &key, edit).await
}

/// Makes of a draft the same change of the bundle that is in force now.
pub(crate) async fn rebase(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DraftId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    edited(&app, &caller, (id, &preconditions), &key, Edit::Rebase).await
}

/// Edits a draft, unless the request is named and was carried out before.
async fn edited(
    app: &App,
    caller: &Caller,
    (id, preconditions): (DraftId, &Preconditions),
    key: &IdempotencyKey,
    edit: Edit,
) -> Result<Response, Problem> {
    preconditions.required()?;
    let edit = Arc::new(edit);
    let asks = {
        let (edit, caller) = (Arc::clone(&edit), caller.key);
        move || {
            let action = edit.action().name();
            json!({ "caller": caller, "action": action, "draft": id, "asks": edit.asks() })
        }
    };
    let named = Named::of(key, asks).await?;
    let make = Box::pin(make(
        app,
        caller,
        (id, preconditions),
        named.as_ref(),
        &edit,
    ));
    let (_, saved) = once(app, caller.tenant, named.as_ref(), make).await?;
    Ok(saved.answer())
}

async fn make(
    app: &App,
    caller: &Caller,
    (id, preconditions): (DraftId, &Preconditions),
    named: Option<&Named>,
    edit: &Arc<Edit>,
) -> Result<(Revision, Saved), Problem> {
    let tenant = caller.tenant;
    let draft = editable(app, tenant, id, preconditions).await?;
    let in_force = app.store.bundle_revision(tenant).await?;
    let Some((base, bundle)) = edit.apply(app, tenant, &draft, in_force).await? else {
        let bundle = Arc::new(app.store.draft_bundle(tenant, &draft).await?);
        let saved = Saved::of(app, tenant, &draft, &bundle, in_force).await?;
        return Ok((Revision::default(), saved));
    };
    let bundle = Arc::new(bundle);
    let at = app.clock.now();
    let author = caller.principal.name.as_str();
    let mut after = StoredDraft {
        base,
        hash: hash(&bundle).await?,
        version: draft.version.saturating_add(1),
        updated_at: at,
        ..draft.clone()
    };
    after.authors.insert(author.to_owned());
    let record = app.permit(caller, edit.act(&draft, after.hash)).await?;
    let saved = Saved::of(app, tenant, &after, &bundle, in_force).await?;
    let answer = Answer::of(named, &saved)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let written = DraftEdit {
        author,
        at,
        base,
        bundle: &bundle,
    };
    let marked = (draft.id, draft.version);
    app.store
        .edit_draft(tenant, marked, written, change)
        .await?;
    told(caller, &record, &after);
    Ok((Revision::default(), saved))
}

// === impl Edit ===

impl Edit {
    fn action(&self) -> Action {
        match self {
            Self::Bundle(_) => Action::PutDraftBundle,
            Self::Put(..) => Action::PutDraftPolicy,
            Self::Remove(_) => Action::DeleteDraftPolicy,
            Self::Rebase => Action::RebaseDraft,
        }
    }

    /// Takes together what is asked, whatever the draft is.
    fn asks(&self) -> Value {
        match self {
            Self::Bundle(bundle) => json!({ "bundle": bundle.content_hash() }),
            Self::Put(id, PolicyBody { text, file }) => {
                json!({ "policy": id, "text": text, "file": file })
            }
            Self::Remove(id) => json!({ "policy": id }),
            Self::Rebase => Value::Null,
        }
    }

    /// Says what is done, for the record.
    fn act(&self, draft: &StoredDraft, after: ContentHash) -> Act {
        let act = about(self.action(), draft).with("becomes", json!(after));
        match self {
            Self::Put(id, _) | Self::Remove(id) => act.with("policy", json!(id)),
            Self::Bundle(_) | Self::Rebase => act,
        }
    }

    /// Returns what the draft is to hold and over which base; `None` where it stays as it is.
    async fn apply(
        self: &Arc<Self>,
        app: &App,
        tenant: TenantId,
        draft: &StoredDraft,
        in_force: Option<Revision>,
    ) -> Result<Option<(Option<Revision>, Bundle)>, Problem> {
        if let Self::Bundle(bundle) = self.as_ref() {
            return Ok(Some((draft.base, Bundle::clone(bundle))));
        }
        if matches!(self.as_ref(), Self::Rebase) && in_force == draft.base {
            return Ok(None);
        }
        let bundle = app.store.draft_bundle(tenant, draft).await?;
        if matches!(self.as_ref(), Self::Rebase) {
            return moved(app, tenant, draft, bundle).await.map(Some);
        }
        let edit = Arc::clone(self);
        let edited = give_way(move || match edit.as_ref() {
            Self::Put(id, PolicyBody { text, file }) => put_text(bundle, id, text, file.as_deref()),
            Self::Remove(id) => remove_text(bundle, id),
            Self::Bundle(_) | Self::Rebase => Ok(bundle),
        });
        Ok(Some((draft.base, edited.await?.map_err(cannot)?)))
    }
}

/// Applies what a draft changes to the bundle that is in force now.
async fn moved(
    app: &App,
    tenant: TenantId,
    draft: &StoredDraft,
    bundle: Bundle,
) -> Result<(Option<Revision>, Bundle), Problem> {
    let head = app.store.bundle(tenant).await?.ok_or_else(absent)?;
    let before = base(app, tenant, draft.base).await?;
    let (now, theirs) = (head.revision, head.bundle);
    let merged = give_way(move || rebased(&before, &bundle, &theirs)).await?;
    let merged = merged.map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let merged = merged.map_err(|clashes| {
        let things = match clashes.len() {
            1 => "1 thing".to_owned(),
            count => format!("{count} things"),
        };
        let detail = format!(
            "{things} of the draft and of revision {now} differ from its base in different ways; nothing was changed"
        );
        Problem::new(Kind::CONFLICT, detail).with("conflicts", json!(clashes))
    })?;
    Ok((Some(now), merged))
}
