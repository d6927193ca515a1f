//! Publishing: the one road by which a bundle comes into force, be it put whole, brought back, or the one in force with
//! one policy changed.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header;
use remit_core::{Bundle, ContentHash, DraftId, PolicyId, Revision, TenantId, canonical_json};
use remit_engine::{CaseOutcome, Comparison, CompileError, Diagnostic, Snapshot};
use remit_store::{Authorship, Expected, Once, StoredDraft};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::policies::Edit;
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::revisions::{Barrier, Until, Wait, settle};
use crate::wire::Json;

pub(crate) mod drafts;
pub(crate) mod evidence;
pub(crate) mod idempotency;

use drafts::release::{self, Drafted};
use evidence::Evidence;
use idempotency::IdempotencyKey;

/// What is to come into force.
pub(crate) enum Next {
    /// This bundle.
    Bundle(Arc<Bundle>),
    /// The one in force, with one policy changed.
    Policy(Arc<Edit>),
    /// This draft.
    Draft(DraftId),
}

/// What is said of a change, and kept with it.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// What was called, for the log.
    pub(crate) action: &'static str,
    /// What its author says it is for.
    pub(crate) message: Option<String>,
    /// The revision of the version that it brings back.
    pub(crate) restores: Option<Revision>,
    /// The policy that warnings are told of; every one where there is none.
    pub(crate) about: Option<PolicyId>,
    /// What the client calls the request.
    pub(crate) key: IdempotencyKey,
    /// What is waited for, beside this replica.
    pub(crate) until: Until,
}

/// A request that names itself.
struct Named {
    key: String,
    /// The hash of everything that it asks for.
    hash: ContentHash,
}

/// The parameters of a change that has no room for a message in its body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noted {
    pub(crate) message: Option<String>,
    pub(crate) wait: Option<Wait>,
}

/// The answer to a bundle that is in force now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Applied {
    revision: Revision,
    hash: ContentHash,
    policies: usize,
    warnings: Vec<Diagnostic>,
    /// Whether some question that was denied before may now be permitted: `false` is certain.
    loosens: bool,
    /// Where it is in force, if that was waited for.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    fleet: Option<Barrier>,
}

/// A bundle that compiles, with what came of its cases.
pub(crate) struct Tried {
    pub(crate) snapshot: Snapshot,
    pub(crate) cases: Vec<CaseOutcome>,
    /// What somebody should look at: in the policies, and in what they are beside each other.
    pub(crate) warnings: Vec<Diagnostic>,
    /// What it changes; `None` for a first bundle.
    pub(crate) comparison: Option<Comparison>,
}

/// A bundle that was checked against one state and may be written over no other.
struct Checked {
    bundle: Arc<Bundle>,
    expected: Expected,
    tried: Tried,
    /// The draft that it is.
    draft: Option<Drafted>,
}

/// Puts a bundle in force: compiled and tried first, written only if nothing has changed meanwhile, deciding when this
/// returns. A request that names itself and was carried out before is answered as it was then.
pub(crate) async fn publish(
    app: &Arc<App>,
    caller: &Caller,
    preconditions: &Preconditions,
    publication: Publication,
    next: Next,
) -> Result<Applied, Problem> {
    preconditions.required()?;
    let next = Arc::new(next);
    let named = Named::of(caller, &publication, &next).await?;
    publication.authorship(caller, named.as_ref(), "").check()?;
    let known = match &named {
        Some(named) => named.answered(app, caller.tenant).await?,
        None => None,
    };
    let applied = match known {
        Some(applied) => applied,
        None => {
            let written = write(
                app,
                caller,
                preconditions,
                &publication,
                named.as_ref(),
                &next,
            );
            match (written.await, &named) {
                // The same request may have come twice at once; the other one is why this one came too late.
                (Err(problem), Some(named)) => match named.answered(app, caller.tenant).await {
                    Ok(Some(applied)) => applied,
                    _ => return Err(problem),
                },
                (written, _) => written?,
            }
        }
    };
    let fleet = settle(app, caller.tenant, applied.revision, publication.until).await?;
    Ok(Applied { fleet, ..applied })
}

/// Checks and writes until it is written or refused.
async fn write(
    app: &Arc<App>,
    caller: &Caller,
    preconditions: &Preconditions,
    publication: &Publication,
    named: Option<&Named>,
    next: &Next,
) -> Result<Applied, Problem> {
    let mut attempts = Attempts::new(app, caller.tenant);
    let (revision, applied) = loop {
        let checked = next.check(app, caller.tenant, attempts.base(), preconditions);
        let head = match checked.await? {
            Ok(checked) => {
                accepted(&checked.tried.cases)?;
                app.progress.prepare(caller.tenant, &checked.tried.snapshot);
                let applied = Applied::of(&checked.tried, publication.about.as_ref());
                let written = put(app, caller, publication, named, &checked, &applied).await;
                match Attempt::of(written?)? {
                    Attempt::Written(revision) => break (revision, applied),
                    Attempt::Moved(head) => head,
                }
            }
            Err(head) => head,
        };
        attempts.again(head).await?;
    };
    let Publication {
        action, restores, ..
    } = publication;
    tracing::info!(
        target: "remit::admin", action, tenant = %caller.tenant, key = %caller.key, request_id = caller.request_id,
        revision = revision.number(), hash = %applied.hash, restores = restores.map(Revision::number), "admin"
    );
    Ok(Applied {
        revision,
        ..applied
    })
}

/// Writes what was checked, with what speaks for it and what it is answered.
async fn put(
    app: &App,
    caller: &Caller,
    publication: &Publication,
    named: Option<&Named>,
    checked: &Checked,
    applied: &Applied,
) -> Result<Result<Revision, remit_store::Error>, Problem> {
    let unwritable = |error| Problem::caused(Kind::INTERNAL, error);
    let answer = match named {
        Some(_) => serde_json::to_string(applied).map_err(unwritable)?,
        None => String::new(),
    };
    let evidence = Evidence::of(caller, checked)?;
    let evidence = serde_json::to_string(&evidence).map_err(unwritable)?;
    let draft = checked.draft.as_ref().map(|drafted| &drafted.draft);
    let authorship = publication.authorship(caller, named, &answer);
    let authorship = Authorship {
        message: authorship
            .message
            .or_else(|| draft.and_then(|draft| draft.message.as_deref())),
        draft: draft.map(StoredDraft::mark),
        evidence: Some(&evidence),
        ..authorship
    };
    let (tenant, expected) = (caller.tenant, checked.expected);
    let written = app
        .store
        .put_version(tenant, expected, &checked.bundle, authorship);
    Ok(match written.await {
        // Somebody reviewed or edited it meanwhile: it is looked at again.
        Err(remit_store::Error::Stale { .. }) => Err(remit_store::Error::Moved {
            head: checked.tried.snapshot.revision(),
        }),
        written => written,
    })
}

/// Compiles a bundle over the live entities of `base` and runs its cases, giving way to decisions.
pub(crate) async fn compile(
    base: Option<Arc<Snapshot>>,
    bundle: &Arc<Bundle>,
) -> Result<Result<Tried, CompileError>, Problem> {
    let bundle = Arc::clone(bundle);
    give_way(move || {
        let snapshot = match &base {
            Some(base) => base.recompile(&bundle)?,
            None => Snapshot::compile(&bundle)?,
        };
        Ok(Tried::of(snapshot, &bundle, base.as_deref()))
    })
    .await
}

/// Says why a bundle does not compile.
pub(crate) fn refused(error: &CompileError) -> Problem {
    Problem::new(Kind::POLICY_INVALID, error.to_string())
        .with("diagnostics", json!(error.diagnostics))
}

/// Says that the tenant has no bundle.
pub(crate) fn absent() -> Problem {
    Problem::new(Kind::NOT_FOUND, "no bundle has been put yet")
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

// === impl Next ===

impl Next {
    /// Takes together what is to come into force, whatever is in force now.
    fn asks(&self) -> Value {
        match self {
            Self::Bundle(bundle) => json!({ "bundle": bundle.content_hash() }),
            Self::Policy(edit) => edit.asks(),
            Self::Draft(id) => json!({ "draft": id }),
        }
    }

    /// Checks the change against one state: the preconditions, whether it compiles, what its cases come to.
    ///
    /// Returns the revision to wait for where this replica is behind the newest bundle.
    async fn check(
        &self,
        app: &App,
        tenant: TenantId,
        base: Option<Arc<Snapshot>>,
        preconditions: &Preconditions,
    ) -> Result<Result<Checked, Revision>, Problem> {
        match self {
            Self::Bundle(bundle) => {
                let stored = app.store.bundle_revision(tenant).await?;
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
                let tried = compile(base, bundle)
                    .await?
                    .map_err(|error| refused(&error))?;
                Ok(Ok(Checked {
                    bundle: Arc::clone(bundle),
                    expected,
                    tried,
                    draft: None,
                }))
            }
            Self::Policy(edit) => {
                let stored = app.store.bundle(tenant).await?.ok_or_else(absent)?;
                let base = base.ok_or(Kind::NOT_READY)?;
                if stored.hash != base.content_hash() {
                    return Ok(Err(stored.revision));
                }
                preconditions.check(edit.replaces(&base, stored.revision)?)?;
                let expected = Expected::Unchanged {
                    bundle: Some(stored.revision),
                    head: base.revision(),
                };
                let edit = Arc::clone(edit);
                let (bundle, tried) =
                    give_way(move || edit.compile(&base, stored.bundle)).await??;
                Ok(Ok(Checked {
                    bundle: Arc::new(bundle),
                    expected,
                    tried,
                    draft: None,
                }))
            }
            Self::Draft(id) => release::check(app, tenant, *id, base, preconditions).await,
        }
    }
}

// === impl Tried ===

impl Tried {
    /// Runs the cases of a bundle, looks for policies that make no difference, and compares it with the one before.
    pub(crate) fn of(snapshot: Snapshot, bundle: &Bundle, before: Option<&Snapshot>) -> Self {
        let cases = bundle.cases.iter();
        let mut warnings = snapshot.warnings().to_vec();
        warnings.extend(snapshot.review());
        Self {
            cases: cases.map(|case| snapshot.run_case(case)).collect(),
            warnings,
            comparison: before.map(|before| snapshot.compare(before)),
            snapshot,
        }
    }

    /// Whether some question that was denied may now be permitted.
    fn loosens(&self) -> bool {
        // Without a bundle everything is denied.
        self.comparison
            .as_ref()
            .is_none_or(|comparison| comparison.loosens)
    }
}

// === impl Noted ===

impl Noted {
    /// Takes together what is said of a change by its parameters and headers.
    pub(crate) fn publication(self, action: &'static str, key: IdempotencyKey) -> Publication {
        Publication {
            action,
            message: self.message,
            until: Until { wait: self.wait },
            key,
            ..Publication::default()
        }
    }
}

// === impl Publication ===

impl Publication {
    fn authorship<'a>(
        &'a self,
        caller: &Caller,
        named: Option<&'a Named>,
        answer: &'a str,
    ) -> Authorship<'a> {
        Authorship {
            by: Some(caller.key),
            message: self.message.as_deref(),
            restores: self.restores,
            once: named.map(|named| Once {
                key: &named.key,
                request: named.hash,
                answer,
            }),
            draft: None,
            evidence: None,
        }
    }
}

// === impl Named ===

impl Named {
    /// Takes together what a request asks for; `None` for one without a name.
    async fn of(
        caller: &Caller,
        publication: &Publication,
        next: &Arc<Next>,
    ) -> Result<Option<Self>, Problem> {
        let Some(key) = publication.key.0.clone() else {
            return Ok(None);
        };
        let next = Arc::clone(next);
        let asked = give_way(move || next.asks()).await?;
        let request = json!({
            "caller": caller.key, "action": publication.action, "message": publication.message,
            "restores": publication.restores, "asks": asked,
        });
        let bytes =
            canonical_json(&request).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        let hash = ContentHash::of(&bytes);
        Ok(Some(Self { key, hash }))
    }

    /// Returns what the request was answered.
    async fn answered(&self, app: &App, tenant: TenantId) -> Result<Option<Applied>, Problem> {
        let Some(found) = app.store.answered(tenant, &self.key).await? else {
            return Ok(None);
        };
        if found.request != self.hash {
            return Err(Kind::IDEMPOTENCY_KEY_REUSED.into());
        }
        let applied: Applied = serde_json::from_str(&found.answer)
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        Ok(Some(Applied {
            revision: found.revision,
            ..applied
        }))
    }
}

// === impl Applied ===

impl Applied {
    /// Tells what a bundle is, before its revision is known.
    fn of(tried: &Tried, about: Option<&PolicyId>) -> Self {
        let snapshot = &tried.snapshot;
        let warnings = tried.warnings.iter();
        let told = warnings.filter(|warning| about.is_none() || warning.policy.as_ref() == about);
        Self {
            revision: Revision::default(),
            hash: snapshot.content_hash(),
            policies: snapshot.policy_count(),
            warnings: told.cloned().collect(),
            loosens: tried.loosens(),
            fleet: None,
        }
    }

    /// Tells whoever changed the bundle what is in force now.
    pub(crate) fn answer(self) -> Response {
        let revision = self.revision;
        let mut response = ([(header::ETAG, etag(revision))], Json(self)).into_response();
        Told::revision(revision).attach(&mut response);
        response
    }
}
