//! `/v1/exceptions`: a control that does not count for a while, in one scope: proposed by one, confirmed by another.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{
    AdminAction, ContentHash, ExceptionId, ExceptionScope, PolicyId, PrincipalKind, PrincipalName,
    Revision, TenantId, Timestamp,
};
use remit_store::{Change, ExceptionBy, ProposedException, StoredException};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::line;
use crate::admin::second_person::{accounts, still_may};
use crate::admin::{Act, Action, lockout::head};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Paging};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire, object};

/// How long a proposal waits for another person.
const PATIENCE: Duration = Duration::from_hours(7 * 24);
/// The longest text of a proposal, in bytes.
const LINE: usize = 1_024;
/// The longest name in a scope, in bytes.
const NAME: usize = 256;

/// An exception to be proposed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposalBody {
    policy: PolicyId,
    #[serde(deserialize_with = "object")]
    scope: ExceptionScope,
    owner: PrincipalName,
    reason: String,
    compensating: String,
    until: Timestamp,
}

/// What whoever confirms an exception has seen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeenBody {
    seen: ContentHash,
}

/// Which exceptions are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    policy: Option<PolicyId>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// What has become of an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// It waits for another person.
    Proposed,
    /// Its policy does not count in its scope.
    InForce,
    /// Its time came.
    Over,
    /// Somebody ended it, or took the proposal back.
    Ended,
    /// It is confirmed and of no effect; `void_because` says why.
    Void,
    /// Nobody confirmed it in time.
    Lapsed,
}

/// An exception as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    state: Phase,
    #[serde(flatten)]
    proposed: ProposedException,
    /// The hash of what was proposed.
    hash: ContentHash,
    proposed_by: PrincipalName,
    proposed_at: Timestamp,
    /// Until when it can be confirmed.
    lapses_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed_by: Option<PrincipalName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by: Option<PrincipalName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    void_because: Option<String>,
}

/// Proposes an exception, which another person has to confirm.
pub(crate) async fn propose(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<ProposalBody>,
) -> Result<Response, Problem> {
    check(&body)?;
    let asks = json!({
        "caller": caller.key, "action": Action::ProposeException.name(), "policy": body.policy, "scope": body.scope,
        "owner": body.owner, "reason": body.reason, "compensating": body.compensating, "until": body.until,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(propose_once(&app, &caller, body, named.as_ref()));
    let (_, shown) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let location = format!("/v1/exceptions/{}", shown.proposed.id);
    let mut response = (StatusCode::CREATED, Json(shown)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn propose_once(
    app: &App,
    caller: &Caller,
    body: ProposalBody,
    named: Option<&Named>,
) -> Result<(Revision, Shown), Problem> {
    let tenant = caller.tenant;
    let id = ExceptionId::from_uuid(app.clock.id());
    let act = Act::of(Action::ProposeException).with("exception", json!(id));
    let act = act
        .with("policy", json!(body.policy))
        .with("scope", json!(body.scope))
        .with("owner", json!(body.owner))
        .with("reason", json!(body.reason))
        .with("compensating", json!(body.compensating))
        .with("until", json!(body.until));
    let record = app.permit(caller, act).await?;
    relaxable(app, tenant, &body.policy)?;
    answers_for_it(app, tenant, &body.owner).await?;
    let at = app.exact_time().await?;
    let longest = at.plus(app.options.longest_exception);
    if body.until <= at || body.until > longest {
        let detail =
            format!("`until`: a time later than now and not later than {longest} was expected");
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    let proposed = ProposedException {
        compensating: body.compensating,
        id,
        owner: body.owner,
        policy: body.policy,
        reason: body.reason,
        scope: body.scope,
        until: body.until,
    };
    let stored = StoredException {
        hash: proposed.hash()?,
        proposed,
        by: by(caller, at),
        lapses_at: at.plus(PATIENCE),
        confirmed: None,
        ended: None,
        over: false,
    };
    let shown = Shown::of(app, tenant, stored.clone(), at);
    let answer = Answer::of(named, &shown)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    app.store
        .propose_exception(
            tenant,
            &stored.proposed,
            (&stored.by, stored.lapses_at),
            change,
        )
        .await?;
    tell(caller, &record, &shown, "exception proposed");
    Ok((Revision::default(), shown))
}

/// Lists exceptions, newest first, whatever has become of them.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let filter = json!({ "list": "exceptions", "tenant": tenant, "policy": wanted.policy });
    let paging = Paging::<ExceptionId>::of(&app, &filter, wanted.limit, wanted.cursor.as_deref())?;
    let policy = wanted.policy.as_ref();
    let found = app
        .store
        .exceptions(tenant, policy, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.proposed.id)?;
    let now = app.now();
    let found = found.into_iter();
    let shown: Vec<_> = found.map(|one| Shown::of(&app, tenant, one, now)).collect();
    Ok(paging::answer(&uri, "exceptions", &shown, next.as_deref()))
}

/// Answers with one exception.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ExceptionId>,
) -> Result<Response, Problem> {
    let found = find(&app, caller.tenant, id).await?;
    let shown = Shown::of(&app, caller.tenant, found, app.now());
    Ok(Json(shown).into_response())
}

/// Agrees to exactly what was proposed, which is in force from now on.
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ExceptionId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(SeenBody { seen }): Body<SeenBody>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let action = Action::ConfirmException.name();
    let asks = json!({ "caller": caller.key, "action": action, "exception": id, "seen": seen });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(confirm_once(&app, &caller, (id, seen), named.as_ref()));
    let (revision, shown) = once(&app, tenant, named.as_ref(), make).await?;
    brought(&app, tenant, shown, (revision, until)).await
}

async fn confirm_once(
    app: &App,
    caller: &Caller,
    (id, seen): (ExceptionId, ContentHash),
    named: Option<&Named>,
) -> Result<(Revision, Shown), Problem> {
    let conflict = |detail: String| Problem::new(Kind::CONFLICT, detail);
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let found = find(app, tenant, id).await?;
        let act = about(app, Action::ConfirmException, caller, &found).await?;
        let record = app.permit(caller, act.with("seen", json!(seen))).await?;
        let at = app.exact_time().await?;
        if !found.waits(at) {
            let detail =
                "it does not wait for another person: it is in force, over, ended or lapsed";
            return Err(conflict(detail.to_owned()));
        }
        if seen != found.hash {
            let detail = format!(
                "`seen` is not the hash of what is proposed, which is {}",
                found.hash
            );
            return Err(conflict(detail));
        }
        let proposing = Act::of(Action::ProposeException);
        let proposer = &found.by;
        if !still_may(app, tenant, &proposer.name, proposer.key, &proposing).await? {
            let detail = format!("`{}` proposed it, and may not any more", proposer.name);
            return Err(conflict(detail));
        }
        relaxable(app, tenant, &found.proposed.policy)?;
        answers_for_it(app, tenant, &found.proposed.owner).await?;
        let by = by(caller, at);
        let shown = Shown {
            state: Phase::InForce,
            confirmed_by: Some(by.name.clone()),
            confirmed_at: Some(at),
            ..Shown::of(app, tenant, found, at)
        };
        let answer = Answer::of(named, &shown)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let written = app
            .store
            .confirm_exception(tenant, Some(checked), (id, seen), &by, change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                tell(caller, &record, &shown, "exception confirmed");
                return Ok((revision, shown));
            }
            Attempt::Moved(newer) => attempts.again(newer).await?,
        }
    }
}

/// Ends an exception, or takes back what was proposed.
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ExceptionId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let asks =
        json!({ "caller": caller.key, "action": Action::EndException.name(), "exception": id });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(end_once(&app, &caller, id, named.as_ref()));
    let (revision, shown) = once(&app, tenant, named.as_ref(), make).await?;
    brought(&app, tenant, shown, (revision, until)).await
}

async fn end_once(
    app: &App,
    caller: &Caller,
    id: ExceptionId,
    named: Option<&Named>,
) -> Result<(Revision, Shown), Problem> {
    let tenant = caller.tenant;
    let found = find(app, tenant, id).await?;
    let act = about(app, Action::EndException, caller, &found).await?;
    let record = app.permit(caller, act).await?;
    if found.ended.is_some() {
        let detail = "it was ended already";
        return Err(Problem::new(Kind::CONFLICT, detail));
    }
    let at = app.exact_time().await?;
    let by = by(caller, at);
    let shown = Shown {
        state: Phase::Ended,
        ended_by: Some(by.name.clone()),
        ended_at: Some(at),
        void_because: None,
        ..Shown::of(app, tenant, found.clone(), at)
    };
    let answer = Answer::of(named, &shown)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let ended = app.store.end_exception(tenant, &found, &by, change).await?;
    tell(caller, &record, &shown, "exception ended");
    // What was never in force brings no revision to wait for.
    Ok((ended.unwrap_or_default(), shown))
}

/// Waits until a change is in force where it is asked for, and answers.
async fn brought(
    app: &App,
    tenant: TenantId,
    mut shown: Shown,
    (revision, until): (Revision, Until),
) -> Result<Response, Problem> {
    if shown.state == Phase::InForce {
        shown.revision = Some(revision);
    }
    let decides = revision != Revision::default();
    if decides {
        settle(app, tenant, revision, until).await?;
    }
    let mut response = Json(shown).into_response();
    if decides {
        Told::revision(revision).attach(&mut response);
    }
    Ok(response)
}

fn check(body: &ProposalBody) -> Result<(), Problem> {
    let ExceptionScope {
        action,
        agent,
        environment,
        resource,
        task: _,
    } = &body.scope;
    line("policy", body.policy.as_str(), NAME)?;
    line("reason", &body.reason, LINE)?;
    line("compensating", &body.compensating, LINE)?;
    for (member, name) in [("scope.action", action), ("scope.environment", environment)] {
        name.iter().try_for_each(|name| line(member, name, NAME))?;
    }
    for (member, uid) in [("scope.agent", agent), ("scope.resource", resource)] {
        if let Some(uid) = uid {
            line(&format!("{member}.type"), &uid.kind, NAME)?;
            line(&format!("{member}.id"), &uid.id, LINE)?;
        }
    }
    if body.scope.is_empty() {
        let detail = "`scope`: at least one of `action`, `agent`, `environment`, `resource` and `task` was expected";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    Ok(())
}

/// Makes sure that an exception can be for a policy of the bundle in force.
fn relaxable(app: &App, tenant: TenantId, policy: &PolicyId) -> Result<(), Problem> {
    let snapshot = app.engine.snapshot(tenant).ok_or(Kind::NOT_READY)?;
    snapshot.relaxable(policy).map_err(|why| {
        let detail = format!("there can be no exception for `{policy}`: {why}");
        Problem::new(Kind::CONFLICT, detail)
    })
}

/// Makes sure that whoever is to answer for an exception is a person, and enabled.
async fn answers_for_it(app: &App, tenant: TenantId, name: &PrincipalName) -> Result<(), Problem> {
    let found = app.store.principal(tenant, name).await?;
    let live = found.is_some_and(|found| {
        found.disabled_at.is_none() && found.principal.kind == PrincipalKind::Person
    });
    if live {
        return Ok(());
    }
    let detail = format!("`owner`: `{name}` is no person who is enabled; one has to answer for it");
    Err(Problem::new(Kind::CONFLICT, detail))
}

fn by(caller: &Caller, at: Timestamp) -> ExceptionBy {
    ExceptionBy {
        name: caller.principal.name.clone(),
        key: caller.key,
        at,
    }
}

/// Says what is done to an exception, and whether by whoever proposed it.
async fn about(
    app: &App,
    action: Action,
    caller: &Caller,
    found: &StoredException,
) -> Result<Act, Problem> {
    let proposed = &found.proposed;
    let accounts = accounts(app, caller.tenant, &caller.principal.name).await?;
    Ok(Act::on(action, &proposed.id)
        .own(accounts.contains(&found.by.name))
        .with("policy", json!(proposed.policy))
        .with("scope", json!(proposed.scope))
        .with("until", json!(proposed.until))
        .with("proposed_by", json!(found.by.name))
        .with("hash", json!(found.hash)))
}

async fn find(app: &App, tenant: TenantId, id: ExceptionId) -> Result<StoredException, Problem> {
    let found = app.store.exception(tenant, id).await?;
    found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such exception"))
}

/// Writes the line of a change, which is a warning.
fn tell(caller: &Caller, record: &AdminAction, shown: &Shown, what: &str) {
    tracing::warn!(
        target: "remit::admin", action = record.action, tenant = %caller.tenant, key = %caller.key,
        principal = %record.principal, request_id = caller.request_id, exception = %shown.proposed.id,
        policy = %shown.proposed.policy, until = %shown.proposed.until, "{what}"
    );
}

// === impl Shown ===

impl Shown {
    fn of(app: &App, tenant: TenantId, stored: StoredException, now: Timestamp) -> Self {
        let why = void(app, tenant, &stored.proposed);
        let state = match (&stored.ended, &stored.confirmed) {
            (Some(_), _) => Phase::Ended,
            (None, None) if stored.waits(now) => Phase::Proposed,
            (None, None) => Phase::Lapsed,
            (None, Some(_)) if stored.over || now >= stored.proposed.until => Phase::Over,
            (None, Some(_)) if why.is_some() => Phase::Void,
            (None, Some(_)) => Phase::InForce,
        };
        let (confirmed_by, confirmed_at, revision) = match stored.confirmed {
            Some((by, at, revision)) => (Some(by), Some(at), Some(revision)),
            None => (None, None, None),
        };
        let (ended_by, ended_at) = stored.ended.unzip();
        Self {
            state,
            proposed: stored.proposed,
            hash: stored.hash,
            proposed_by: stored.by.name,
            proposed_at: stored.by.at,
            lapses_at: stored.lapses_at,
            confirmed_by,
            confirmed_at,
            revision,
            ended_by,
            ended_at,
            void_because: why.filter(|_| matches!(state, Phase::Proposed | Phase::Void)),
        }
    }
}

/// Says why an exception would be of no effect now, as far as this replica knows.
fn void(app: &App, tenant: TenantId, proposed: &ProposedException) -> Option<String> {
    let snapshot = app.engine.snapshot(tenant)?;
    if let Err(why) = snapshot.relaxable(&proposed.policy) {
        return Some(why.to_string());
    }
    let owner = &proposed.owner;
    let gone = !snapshot.live().is_owner(owner);
    gone.then(|| format!("`{owner}`, who answers for it, is no person who is enabled"))
}

impl Wire for ProposalBody {}

impl Wire for SeenBody {}
