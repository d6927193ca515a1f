//! Publishing: the one road by which a bundle comes into force, be it put whole, brought back, or the one in force with
//! one policy changed.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header;
use remit_core::{Bundle, ContentHash, DraftId, PolicyId, Revision, TenantId};
use remit_engine::{CaseOutcome, Comparison, CompileError, Diagnostic, Snapshot};
use remit_store::{Authorship, Change, Expected, StoredDraft};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::lockout::{self, Roster};
use crate::admin::second_person::SecondPersons;
use crate::admin::{Act, Action, system};
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
use idempotency::{Answer, IdempotencyKey, Named, once};

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
#[derive(Debug)]
pub(crate) struct Publication {
    /// What is done.
    pub(crate) action: Action,
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
    /// Who may administer under it.
    admin: Arc<Snapshot>,
    /// Whether that is somebody else than before.
    governs: bool,
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
    let named = publication.named(caller, &next).await?;
    publication.authorship(caller).check()?;
    let make = async {
        let written = write(
            app,
            caller,
            preconditions,
            &publication,
            named.as_ref(),
            &next,
        );
        let applied = written.await?;
        Ok((applied.revision, applied))
    };
    let (revision, applied) = once(app, caller.tenant, named.as_ref(), make).await?;
    let fleet = settle(app, caller.tenant, revision, publication.until).await?;
    Ok(Applied {
        revision,
        fleet,
        ..applied
    })
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
                let written = put(app, caller, publication, named, &checked, &applied);
                match Attempt::of(Box::pin(written).await?)? {
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
    } = *publication;
    tracing::info!(
        target: "remit::admin", action = action.name(), tenant = %caller.tenant, key = %caller.key,
        principal = %caller.principal.name, request_id = caller.request_id, revision = revision.number(), hash = %applied.hash, restores = restores.map(Revision::number), "admin"
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
    let second = match &checked.draft {
        Some(drafted) => drafted.second_persons(app, caller).await?,
        None => SecondPersons::default(),
    };
    let act = publication.act(checked).reviewed(second.any());
    let record = app.permit(caller, act).await?;
    if checked.tried.governs {
        let roster = Roster::of(app, caller.tenant).await?;
        roster.check(&checked.tried.admin)?;
    }
    let answer = Answer::of(named, applied)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let evidence = Evidence::of(caller, checked, &second)?;
    let evidence =
        serde_json::to_string(&evidence).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let draft = checked.draft.as_ref().map(|drafted| &drafted.draft);
    let authorship = publication.authorship(caller);
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
        .put_version(tenant, expected, &checked.bundle, authorship, change);
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
        Tried::of(snapshot, &bundle, base.as_deref())
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
                    None => Expected::Unchanged {
                        bundle: None,
                        head: lockout::head(app, tenant).await?,
                    },
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
    ///
    /// # Errors
    ///
    /// [`CompileError`] for what the bundle says of the administration.
    pub(crate) fn of(
        snapshot: Snapshot,
        bundle: &Bundle,
        before: Option<&Snapshot>,
    ) -> Result<Self, CompileError> {
        let admin = system::compiled(&bundle.admin)?;
        let mut warnings = snapshot.warnings().to_vec();
        warnings.extend(snapshot.review());
        warnings.extend(system::warnings(&admin));
        let mut governs = !bundle.admin.is_empty();
        let mut comparison = before.map(|before| snapshot.compare(before));
        if let Some(before) = before {
            governs = !system::same(before.admin(), &bundle.admin);
            if governs {
                let old = system::compiled(before.admin())?;
                comparison = comparison.map(|one| system::joined(one, admin.compare(&old)));
            }
        }
        let cases = bundle.cases.iter();
        Ok(Self {
            cases: cases.map(|case| snapshot.run_case(case)).collect(),
            warnings,
            comparison,
            admin,
            governs,
            snapshot,
        })
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
    pub(crate) fn publication(self, action: Action, key: IdempotencyKey) -> Publication {
        Publication {
            message: self.message,
            until: Until { wait: self.wait },
            key,
            ..Publication::of(action)
        }
    }
}

// === impl Publication ===

impl Publication {
    /// Says nothing of a change but what it is.
    pub(crate) fn of(action: Action) -> Self {
        Self {
            action,
            message: None,
            restores: None,
            about: None,
            key: IdempotencyKey::default(),
            until: Until::default(),
        }
    }

    fn authorship(&self, caller: &Caller) -> Authorship<'_> {
        Authorship {
            by: Some(caller.key),
            message: self.message.as_deref(),
            restores: self.restores,
            draft: None,
            evidence: None,
        }
    }

    /// Says what is done, now that it is known what comes of it.
    fn act(&self, checked: &Checked) -> Act {
        let tried = &checked.tried;
        let act = match (&self.about, &checked.draft) {
            (Some(policy), _) => Act::on(self.action, policy),
            (None, Some(drafted)) => Act::on(self.action, &drafted.draft.id),
            (None, None) => Act::of(self.action),
        };
        act.loosens(tried.loosens())
            .with("hash", json!(tried.snapshot.content_hash()))
            .with("message", json!(self.message))
            .with("restores", json!(self.restores))
    }

    /// Returns what its action is called in the hash of a named request: what was sent to the version before is found again.
    fn asked(&self) -> &'static str {
        match self.action {
            Action::RollbackBundle => "roll_back_bundle",
            action => action.name(),
        }
    }

    /// Takes together what the request asks for, where it is named.
    async fn named(&self, caller: &Caller, next: &Arc<Next>) -> Result<Option<Named>, Problem> {
        let next = Arc::clone(next);
        let (key, action) = (caller.key, self.asked());
        let (message, restores) = (self.message.clone(), self.restores);
        let asks = move || {
            json!({
                "caller": key, "action": action, "message": message, "restores": restores, "asks": next.asks(),
            })
        };
        Named::of(&self.key, asks).await
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
