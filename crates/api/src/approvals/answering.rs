//! `POST /v1/approvals/{id}/…`: a person approves, refuses, asks others as well, or takes an approval back.
//!
//! Who answers comes from the credential alone. What they answer is named by the hash of the card that they were shown. An
//! approval is decided on what is known now: another policy, another question, or a policy that forbids it beside those that
//! were shown end the request instead, and it is asked again. While a kill or a limit denies it all the same it waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{
    AdminAction, ApprovalId, ApprovalScope, ContentHash, Facts, Revision, TaskId, TenantId,
    Timestamp, Verdict,
};
use remit_engine::Snapshot;
use remit_store::{Change, Holds, Makes, NewAnswer, StoredRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::queue::{closed, find};
use super::quorum::{Counted, counted, is_met, least, progress};
use super::standing::{About, Standing};
use super::submission::wanted_until;
use crate::admin::{Action, lockout::head};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::facts;
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::registry::line;
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json};

mod bodies;

use bodies::{ApproveBody, Because, DenyBody};

/// Within which time the answers of one person are counted.
const HOUR: i64 = 3_600_000_000;

/// What came of an answer.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    id: ApprovalId,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Vec<super::quorum::Progress>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved_until: Option<Timestamp>,
    /// The task that is suspended by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspended: Option<TaskId>,
    /// The groups that are asked as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    escalated_to: Option<BTreeSet<String>>,
}

/// A request as it stands on what is known now, and whoever wants to answer it.
pub(super) struct Case {
    snapshot: Arc<Snapshot>,
    facts: Facts,
    pub(super) about: About,
    pub(super) standing: Standing,
}

/// Approves a request, as far as one person can.
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ApprovalId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<ApproveBody>,
) -> Result<Response, Problem> {
    body.check()?;
    let asks = json!({ "caller": caller.key, "action": Action::ApproveRequest.name(), "request": id, "body": body });
    let named = Named::of(&key, move || asks).await?;
    let make = approve_once(&app, &caller, id, &body, named.as_ref());
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    told(&app, &caller, (revision, until), done).await
}

async fn approve_once(
    app: &App,
    caller: &Caller,
    id: ApprovalId,
    body: &ApproveBody,
    named: Option<&Named>,
) -> Result<(Revision, Done), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let request = find(app, tenant, id).await?;
        let at = app.exact_time().await?;
        let case = case_of(app, caller, &request, at).await?;
        let record = permit(app, caller, Action::ApproveRequest, (&request, &case)).await?;
        open(app, caller, (&request, &case), &body.seen, at).await?;
        let comment = body.comment.as_deref().unwrap_or_default();
        let asked = (&request, case.about.pays());
        let scope = body.scope(asked, at, app.options.approvals.approval_ttl)?;
        let written = if let Some(why) = case.overtaken(&request) {
            overtake(app, caller, (checked, &request), &why, record).await
        } else {
            let given = (scope, body.names_until(), comment);
            give(
                app,
                caller,
                (checked, &request, &case),
                given,
                (record, named, at),
            )
            .await
        };
        match Attempt::of(written?)? {
            Attempt::Written(done) => return done,
            Attempt::Moved(newer) => attempts.again(newer).await?,
        }
    }
}

/// What was written, or why it was not, and then what is answered.
type Written = Result<Result<(Revision, Done), Problem>, remit_store::Error>;

/// Keeps an approval with what it makes of the request.
async fn give(
    app: &App,
    caller: &Caller,
    (checked, request, case): (Revision, &StoredRequest, &Case),
    (scope, named_until, comment): ((ApprovalScope, Timestamp), bool, &str),
    (record, named, at): (AdminAction, Option<&Named>, Timestamp),
) -> Result<Written, Problem> {
    let tenant = caller.tenant;
    let by = &caller.principal.name;
    case.about.bounded(&scope.0)?;
    case.permitted_with_it(request)?;
    let answers = app.store.answers(tenant, request.id).await?;
    let mut all = counted(app, tenant, (request, &case.about), &answers, at).await?;
    all.push(Counted::of(by.clone(), case.standing.clone(), Some(scope)));
    let progress = progress(&request.wants, &all);
    let approvers: BTreeSet<_> = all.iter().map(|one| one.by.clone()).collect();
    let (least, until) = least(&all).unwrap_or(scope);
    // Not longer than it is wanted.
    let wanted = wanted_until(request).filter(|wanted| at < *wanted);
    let until = wanted.map_or(until, |wanted| until.min(wanted));
    let met = is_met(&progress);
    let makes = if met {
        Makes::Approved {
            scope: least,
            approvers: &approvers,
            until,
        }
    } else {
        Makes::Nothing
    };
    let record = seen(record, request)
        .and_then(|record| detailed(record, "scope", &least))
        .and_then(|record| detailed(record, "approvers", &approvers))
        .and_then(|record| detailed(record, "complete", &met))
        .and_then(|record| detailed(record, "comment", &comment))?;
    let done = Done {
        state: if met { "approved" } else { "pending" }.to_owned(),
        progress: Some(progress),
        approved_until: met.then_some(until),
        ..Done::of(request.id)
    };
    let answer = Answer::of(named, &done)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let new = NewAnswer {
        by,
        key: caller.key,
        approves: true,
        groups: &case.standing.groups,
        scope: Some((
            scope.0,
            Holds {
                until: scope.1,
                named: named_until,
            },
        )),
        card_hash: request.card_hash,
        reason: comment,
        at,
    };
    let written = app
        .store
        .answer_request(tenant, Some(checked), request.id, (&new, makes), change)
        .await;
    Ok(written.map(|revision| {
        tell(caller, &record, revision, request);
        Ok((revision, done))
    }))
}

/// Ends a request that cannot be approved any more as it was asked.
async fn overtake(
    app: &App,
    caller: &Caller,
    (checked, request): (Revision, &StoredRequest),
    why: &str,
    record: AdminAction,
) -> Result<Written, Problem> {
    let record = detailed(seen(record, request)?, "overtaken", &why)?;
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let what = (request.id, why);
    let written = app
        .store
        .overtake_request(caller.tenant, Some(checked), what, change)
        .await;
    Ok(written.map(|revision| {
        tell(caller, &record, revision, request);
        let detail = format!("it cannot be approved any more, and has to be asked again: {why}");
        Err(Problem::new(Kind::CONFLICT, detail).at(revision))
    }))
}

/// Refuses a request, for good.
pub(crate) async fn deny(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ApprovalId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<DenyBody>,
) -> Result<Response, Problem> {
    line("reason", &body.reason, 1_024)?;
    let asks = json!({ "caller": caller.key, "action": Action::DenyRequest.name(), "request": id, "body": body });
    let named = Named::of(&key, move || asks).await?;
    let make = deny_once(&app, &caller, id, &body, named.as_ref());
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    told(&app, &caller, (revision, until), done).await
}

async fn deny_once(
    app: &App,
    caller: &Caller,
    id: ApprovalId,
    body: &DenyBody,
    named: Option<&Named>,
) -> Result<(Revision, Done), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let request = find(app, tenant, id).await?;
        let at = app.exact_time().await?;
        let case = case_of(app, caller, &request, at).await?;
        let record = permit(app, caller, Action::DenyRequest, (&request, &case)).await?;
        open(app, caller, (&request, &case), &body.seen, at).await?;
        let suspends = refused_too_often(app, tenant, id).await?;
        let record = detailed(seen(record, &request)?, "reason", &body.reason)?;
        let record = detailed(record, "suspends", &suspends)?;
        let done = Done {
            state: "denied".to_owned(),
            suspended: suspends,
            ..Done::of(id)
        };
        let answer = Answer::of(named, &done)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let new = NewAnswer {
            by: &caller.principal.name,
            key: caller.key,
            approves: false,
            groups: &case.standing.groups,
            scope: None,
            card_hash: request.card_hash,
            reason: &body.reason,
            at,
        };
        let makes = Makes::Denied { suspends };
        let written = app
            .store
            .answer_request(tenant, Some(checked), id, (&new, makes), change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                tell(caller, &record, revision, &request);
                return Ok((revision, done));
            }
            Attempt::Moved(newer) => attempts.again(newer).await?,
        }
    }
}

/// Returns the task in which another refusal is one too many, the first of those above; again after as many more.
async fn refused_too_often(
    app: &App,
    tenant: TenantId,
    id: ApprovalId,
) -> Result<Option<TaskId>, Problem> {
    let most = app.options.approvals.refusals;
    let refused = app.store.refused_with(tenant, id).await?;
    let too_often = |(_, count): &(TaskId, u64)| (count + 1).is_multiple_of(most);
    Ok(refused.filter(too_often).map(|(root, _)| root))
}

/// Asks those as well to whom it goes on.
pub(crate) async fn escalate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ApprovalId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks =
        json!({ "caller": caller.key, "action": Action::EscalateRequest.name(), "request": id });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let request = find(&app, tenant, id).await?;
            let at = app.exact_time().await?;
            let case = case_of(&app, &caller, &request, at).await?;
            let record = permit(&app, &caller, Action::EscalateRequest, (&request, &case)).await?;
            if let Some(why) = closed(&request, at) {
                return Err(Problem::new(Kind::CONFLICT, why));
            }
            let groups = super::escalating::next_groups(&app, tenant, &request).await?;
            if groups.is_empty() {
                let detail = "no group that it waits for goes on to another";
                return Err(Problem::new(Kind::CONFLICT, detail));
            }
            let record = detailed(record, "escalated_to", &groups)?;
            let done = Done {
                state: "pending".to_owned(),
                escalated_to: Some(groups.clone()),
                ..Done::of(id)
            };
            let answer = Answer::of(named.as_ref(), &done)?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let what = (id, &groups);
            let written = app
                .store
                .escalate_request(tenant, Some(checked), what, change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    tell(&caller, &record, revision, &request);
                    break Ok((revision, done));
                }
                Attempt::Moved(newer) => attempts.again(newer).await?,
            }
        }
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    told(&app, &caller, (revision, until), done).await
}

/// Takes an approval back, whatever is left of it.
pub(crate) async fn withdraw(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ApprovalId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<Because>,
) -> Result<Response, Problem> {
    line("reason", &body.reason, 1_024)?;
    let asks = json!({ "caller": caller.key, "action": Action::WithdrawApproval.name(), "request": id, "body": body });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let request = find(&app, tenant, id).await?;
        let at = app.exact_time().await?;
        let case = case_of(&app, &caller, &request, at).await?;
        let record = permit(&app, &caller, Action::WithdrawApproval, (&request, &case)).await?;
        let record = detailed(seen(record, &request)?, "reason", &body.reason)?;
        let done = Done {
            state: "cancelled".to_owned(),
            ..Done::of(id)
        };
        let answer = Answer::of(named.as_ref(), &done)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let by = caller.principal.name.as_str();
        let why = (by, body.reason.as_str());
        let ended = app.store.withdraw_approval(tenant, id, why, change).await?;
        tell(&caller, &record, ended.revision, &request);
        Ok((ended.revision, done))
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    told(&app, &caller, (revision, until), done).await
}

/// Finds what is known of a request now, and how whoever asks stands to it.
pub(super) async fn case_of(
    app: &App,
    caller: &Caller,
    request: &StoredRequest,
    at: Timestamp,
) -> Result<Case, Problem> {
    let tenant = caller.tenant;
    let snapshot = app.engine.snapshot(tenant).ok_or(Kind::NOT_READY)?;
    let environment = request.bound.environment.as_str();
    let plain = Facts::plain(request.requested_key, environment, at);
    let by = &request.requested_by;
    let facts = facts::gather(&snapshot, plain, by, &request.question);
    let mut requesters = app.store.joined_by(tenant, request.id).await?;
    requesters.insert(by.clone());
    let about = About::of(&snapshot, &request.question, &facts, requesters);
    let what = (&about, &request.wants, request.escalated_at.is_some());
    let standing = Standing::of(app, tenant, &caller.principal.name, what, at).await?;
    Ok(Case {
        snapshot,
        facts,
        about,
        standing,
    })
}

/// Decides whether whoever asks may do this to the request, and says why not.
async fn permit(
    app: &App,
    caller: &Caller,
    action: Action,
    (request, case): (&StoredRequest, &Case),
) -> Result<AdminAction, Problem> {
    let wants = &request.wants;
    let act = case
        .about
        .act(action, request.id, (wants, Some(&case.standing)));
    app.permit(caller, act).await.map_err(|problem| {
        let denied = problem.kind() == Kind::NOT_PERMITTED;
        match case.standing.obstacle(wants).filter(|_| denied) {
            Some(why) => problem.with("why", json!(why)),
            None => problem,
        }
    })
}

/// Makes sure that the request is pending, that they saw this card, and that they have not answered too much lately.
async fn open(
    app: &App,
    caller: &Caller,
    (request, case): (&StoredRequest, &Case),
    saw: &str,
    at: Timestamp,
) -> Result<(), Problem> {
    if let Some(why) = closed(request, at) {
        let problem = Problem::new(Kind::CONFLICT, why).with("state", json!(request.state));
        return Err(match &request.ended_by {
            Some(by) => problem.with("by", json!(by)),
            None => problem,
        });
    }
    let saw: Option<ContentHash> = saw.parse().ok();
    if saw != Some(request.card_hash) {
        let detail = "`seen` is not the hash of the card: what is asked is something else than what you were shown";
        return Err(
            Problem::new(Kind::CARD_DIFFERS, detail).with("card_hash", json!(request.card_hash))
        );
    }
    if case.standing.groups.is_empty() {
        let detail = case.standing.obstacle(&request.wants).unwrap_or_default();
        return Err(Problem::new(Kind::CONFLICT, detail));
    }
    let Some(most) = case.standing.mandates.most_per_hour else {
        return Ok(());
    };
    let since = Timestamp::from_micros(at.micros().saturating_sub(HOUR));
    let name = &caller.principal.name;
    let times = app.store.answered_since(caller.tenant, name, since).await?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if times.len() < most {
        return Ok(());
    }
    // When so many have left the hour that another one fits.
    let first = times.get(times.len() - most).copied().unwrap_or(at);
    let wait = first
        .micros()
        .saturating_add(HOUR)
        .saturating_sub(at.micros());
    let seconds = u32::try_from(wait / 1_000_000 + 1).unwrap_or(1);
    let next = Timestamp::from_micros(at.micros().saturating_add(wait));
    let detail = format!(
        "you gave {} answers within an hour, and {most} are the most; the next one at {next}",
        times.len()
    );
    Err(Problem::new(Kind::TOO_MANY_REQUESTS, detail).retry_after(seconds))
}

/// Puts what they saw into the record: the hash and the card itself.
pub(super) fn seen(record: AdminAction, request: &StoredRequest) -> Result<AdminAction, Problem> {
    let card: Value = serde_json::from_str(&request.card)
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    detailed(
        detailed(record, "card_hash", &request.card_hash)?,
        "card",
        &card,
    )
}

fn detailed(
    mut record: AdminAction,
    name: &str,
    value: &impl Serialize,
) -> Result<AdminAction, Problem> {
    let value =
        serde_json::to_value(value).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    record.details.insert(name.to_owned(), value);
    Ok(record)
}

async fn told(
    app: &App,
    caller: &Caller,
    (revision, until): (Revision, Until),
    done: Done,
) -> Result<Response, Problem> {
    settle(app, caller.tenant, revision, until).await?;
    let mut response = Json(done).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Writes the log line of an answer.
fn tell(caller: &Caller, record: &AdminAction, revision: Revision, request: &StoredRequest) {
    tracing::info!(
        target: "remit::admin", action = record.action, tenant = %caller.tenant, key = %caller.key,
        principal = %record.principal, request_id = caller.request_id, revision = revision.number(),
        request = %request.id, card = %request.card_hash, "access request answered"
    );
}

// === impl Case ===

impl Case {
    /// Says why a request cannot be approved any more, where that is so by what is known now.
    fn overtaken(&self, request: &StoredRequest) -> Option<String> {
        let (bound, question) = (&request.bound, &request.question);
        if self.snapshot.content_hash() != bound.bundle {
            return Some("the policies have changed since".to_owned());
        }
        if self.snapshot.approval_digest(question) != bound.digest {
            return Some("the question means something else than when it was asked".to_owned());
        }
        let violations = self.snapshot.violations(question, &self.facts);
        let new: Vec<String> = violations
            .difference(&bound.violations)
            .map(ToString::to_string)
            .collect();
        if !new.is_empty() {
            return Some(format!(
                "policies forbid it that were not shown: {}",
                new.join(", ")
            ));
        }
        None
    }

    /// Makes sure that an approval would help now; where it would not, others may approve it later.
    fn permitted_with_it(&self, request: &StoredRequest) -> Result<(), Problem> {
        let supposed = Facts {
            approval: None,
            approved: true,
            ..self.facts.clone()
        };
        let decision = App::judge(&self.snapshot, &request.question, &supposed);
        if decision.verdict == Verdict::Permit {
            return Ok(());
        }
        let code = decision.reason.code();
        let detail = format!("it would be denied all the same for now: {code}");
        Err(Problem::new(Kind::CONFLICT, detail))
    }
}

// === impl Done ===

impl Done {
    fn of(id: ApprovalId) -> Self {
        Self {
            id,
            state: String::new(),
            progress: None,
            approved_until: None,
            suspended: None,
            escalated_to: None,
        }
    }
}
