//! `/v1/policies`: the policies of the bundle in force, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{Bundle, Effect, PolicyId, Revision, TenantId};
use remit_engine::{CompileError, EditError, Edited, Snapshot, Span, WrittenPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::Action;
use crate::app::App;
use crate::auth::Caller;
use crate::layers::Told;
use crate::paging::{self, Page, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::IdempotencyKey;
use crate::publish::{Next, Noted, Publication, Tried, absent, publish, refused};
use crate::query::{Query, Segments};
use crate::wire::{Body, Json, Wire, absent_if_null};

/// What a policy is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyBody {
    pub(crate) text: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(crate) file: Option<String>,
}

/// One policy to be changed.
pub(crate) struct Edit {
    id: PolicyId,
    /// What it is to be; `None` to be gone.
    to: Option<PolicyBody>,
}

/// A policy as it is written.
#[derive(Debug, Serialize)]
struct Shown {
    id: PolicyId,
    effect: Effect,
    mode: &'static str,
    template: bool,
    annotations: BTreeMap<String, String>,
    file: String,
    span: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Lists the policies by id, without their texts.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "policies", "tenant": caller.tenant });
    let paging = Paging::<PolicyId>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let (snapshot, revision) = in_force(&app, caller.tenant).await?;
    let (after, most) = (paging.after.clone(), paging.limit + 1);
    let found = app
        .blocking(move || {
            let mut found: Vec<WrittenPolicy<'_>> = snapshot
                .written()
                .filter(|policy| after.as_ref().is_none_or(|after| policy.id() > after))
                .collect();
            found.sort_unstable_by_key(WrittenPolicy::id);
            found.truncate(most);
            found.into_iter().map(Shown::head).collect()
        })
        .await?;
    let (policies, next) = paging.cut(&app, found, |last: &Shown| last.id.clone())?;
    let mut response = paging::answer(&uri, "policies", &policies, next.as_deref());
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Answers with one policy and its text.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<PolicyId>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let (snapshot, revision) = in_force(&app, caller.tenant).await?;
    let found = snapshot.written_policy(&id).ok_or_else(|| unknown(&id))?;
    let mut response = if preconditions.unchanged(revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let text = Some(found.text().to_owned());
        Json(Shown {
            text,
            ..Shown::head(found)
        })
        .into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Writes one policy, in the place of the one with its id or at the end of a file.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<PolicyId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(noted): Query<Noted>,
    Body(body): Body<PolicyBody>,
) -> Result<Response, Problem> {
    let edit = Edit {
        id: id.clone(),
        to: Some(body),
    };
    let publication = Publication {
        about: Some(id),
        ..noted.publication(Action::PutPolicy, key)
    };
    let next = Next::Policy(Arc::new(edit));
    let published = publish(&app, &caller, &preconditions, publication, next).await?;
    Ok(published.answer())
}

/// Takes one policy out of the bundle.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<PolicyId>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(noted): Query<Noted>,
) -> Result<Response, Problem> {
    let edit = Edit {
        id: id.clone(),
        to: None,
    };
    let publication = Publication {
        about: Some(id),
        ..noted.publication(Action::DeletePolicy, key)
    };
    let next = Next::Policy(Arc::new(edit));
    let published = publish(&app, &caller, &preconditions, publication, next).await?;
    Ok(published.answer())
}

/// Returns what decides here, and the revision of the bundle that it was compiled from.
async fn in_force(app: &App, tenant: TenantId) -> Result<(Arc<Snapshot>, Revision), Problem> {
    let Some(snapshot) = app.engine.snapshot(tenant) else {
        let stored = app.store.bundle_revision(tenant).await?;
        return Err(stored.map_or_else(absent, |_| Kind::NOT_READY.into()));
    };
    let stored = app.store.bundle_hash(tenant, snapshot.revision()).await?;
    match stored {
        Some((revision, hash)) if hash == snapshot.content_hash() => Ok((snapshot, revision)),
        // The database was set back.
        _ => Err(Kind::STALE_POLICY.into()),
    }
}

fn unknown(id: &PolicyId) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is no policy `{id}`"))
}

// === impl Edit ===

impl Edit {
    /// Takes together what is to become of which policy.
    pub(crate) fn asks(&self) -> Value {
        let text = self.to.as_ref().map(|to| &to.text);
        let file = self.to.as_ref().and_then(|to| to.file.as_ref());
        json!({ "policy": self.id, "text": text, "file": file })
    }

    /// Returns when the policy that this replaces was last written, which is when its bundle was; `None` for a new one.
    ///
    /// # Errors
    ///
    /// `not-found` for one to be removed that is not there.
    pub(crate) fn replaces(
        &self,
        base: &Snapshot,
        bundle: Revision,
    ) -> Result<Option<Revision>, Problem> {
        match (base.written_policy(&self.id), &self.to) {
            (Some(_), _) => Ok(Some(bundle)),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(unknown(&self.id)),
        }
    }

    /// Makes the change in the bundle that `base` was compiled from, and compiles and tries the result.
    pub(crate) fn compile(
        &self,
        base: &Snapshot,
        bundle: Bundle,
    ) -> Result<(Bundle, Tried), Problem> {
        let edited = match &self.to {
            Some(PolicyBody { text, file }) => {
                base.put_policy(bundle, &self.id, text, file.as_deref())
            }
            None => base.remove_policy(bundle, &self.id),
        };
        let edited: Edited = edited.map_err(cannot)?;
        let snapshot = base.recompile(&edited.bundle).map_err(|error| {
            refused(&CompileError {
                diagnostics: edited.place(error.diagnostics),
            })
        })?;
        let tried = Tried::of(snapshot, &edited.bundle, Some(base));
        let tried = tried.map_err(|error| refused(&error))?;
        Ok((edited.bundle, tried))
    }
}

/// Says why a policy cannot be edited so.
pub(crate) fn cannot(error: EditError) -> Problem {
    match error {
        EditError::Text(error) => refused(&error),
        EditError::OtherFile { .. } => Problem::new(Kind::CONFLICT, error.to_string()),
        EditError::FileName(_) => Problem::new(Kind::INVALID_REQUEST, format!("`file`: {error}")),
        EditError::NotFound(id) => unknown(&id),
        EditError::OtherBundle => Problem::caused(Kind::INTERNAL, error),
    }
}

// === impl Shown ===

impl Shown {
    /// Shows a policy without its text.
    fn head(policy: WrittenPolicy<'_>) -> Self {
        let annotations = policy.annotations().into_iter();
        Self {
            id: policy.id().clone(),
            effect: policy.effect(),
            mode: if policy.is_shadow() {
                "shadow"
            } else {
                "enforce"
            },
            template: policy.is_template(),
            annotations: annotations
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            file: policy.file().to_owned(),
            span: policy.span(),
            text: None,
        }
    }
}

impl Wire for PolicyBody {}
