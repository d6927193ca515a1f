//! `/access/v1/requests`: asking for an approval of what was denied (Access Request and Approval Profile, Draft 1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use remit_core::{
    AdminAction, AdminActionId, ApprovalId, ApprovalScope, ContentHash, EntityUid, PrincipalName,
    canonical_json,
};
use remit_engine::Snapshot;
use remit_store::{Approving, Asked, Change, NewBulk, RequestName, Requester, StoredRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answering::seen;
use super::denial::Requestable;
use super::handle::{Handle, status_endpoint, told_until};
use super::standing::{auto_approved, room};
use super::submission::{Submission, SubmissionBody, wanted_until};
use crate::app::App;
use crate::auth::Caller;
use crate::evaluate::telling::{ASK_AGAIN, requestable_until};
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::IdempotencyKey;
use crate::query::Segments;
use crate::registry::webhooks::callbacks;
use crate::wire::{Json, Raw, Wire, absent_if_null, decode};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The longest that an answer waits for the end of a request.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// What is left of a request's deadline when it has waited.
const TO_ANSWER: Duration = Duration::from_secs(2);
/// How long an answer that waits leaves between two looks.
const BETWEEN_READS: Duration = Duration::from_millis(100);
/// The longest text of a cancellation, in bytes.
const TEXT_BYTES: usize = 1 << 10;

/// Why a request is taken back.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct CancelBody {
    #[serde(default, deserialize_with = "absent_if_null")]
    reason: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    comment: Option<String>,
}

impl Wire for CancelBody {}

/// Asks for an approval of one denial, or of several together.
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    raw: Raw<SubmissionBody>,
) -> Result<Response, Problem> {
    spoken(&app)?;
    let body: Value = {
        let body: SubmissionBody = decode(&raw.bytes)?;
        drop(body);
        serde_json::from_slice(&raw.bytes)
            .map_err(|error| Problem::new(Kind::MALFORMED_BODY, error.to_string()))?
    };
    let name = key.text()?;
    let canonical =
        canonical_json(&body).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let named = name.as_deref().map(|name| RequestName {
        name,
        request: ContentHash::of(&canonical),
    });
    if let Some(named) = named {
        let by = &caller.principal.name;
        let before = app.store.asked_before(caller.tenant, by, named).await?;
        if let Some(before) = before {
            return answer(&app, &caller, before).await;
        }
    }
    let submission = decode::<SubmissionBody>(&raw.bytes)?.read()?;
    let asked = ask(&app, &caller, submission, named).await?;
    answer(&app, &caller, asked).await
}

/// Tells how a request stands; with `Prefer: wait`, as soon as it ends.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    spoken(&app)?;
    let id = known(&id)?;
    let mut wait = wait_of(&app, &headers)?;
    let who = (caller.tenant, caller.principal.name.clone());
    let place = wait.and_then(|_| app.waiting.place(who));
    if place.is_none() {
        // As many wait as may: the answer does not, and does not say that it did.
        wait = None;
    }
    let until = Instant::now() + wait.unwrap_or_default();
    let handle = loop {
        // Before it is read: what ends it afterwards is not missed.
        let seen = app.progress.standing(caller.tenant);
        let seen = seen.and_then(|standing| standing.applied());
        let handle = told(&app, &caller, id).await?;
        let left = until.saturating_duration_since(Instant::now());
        if !handle.is_pending() || left.is_zero() {
            break handle;
        }
        let next = remit_core::Revision::new(seen.unwrap_or_default().number().saturating_add(1));
        // A request expires without a revision, too, until somebody notes it.
        let pause = left.min(Duration::from_secs(1));
        app.progress.wait(caller.tenant, next, pause).await;
        // Where much changes, it is not read for every change.
        tokio::time::sleep(BETWEEN_READS.min(left)).await;
    };
    drop(place);
    let mut response = render(StatusCode::OK, &handle);
    if let Some(applied) = wait {
        let applied = format!("wait={}", applied.as_secs());
        if let Ok(value) = HeaderValue::try_from(applied) {
            response.headers_mut().insert(APPLIED, value);
        }
    }
    Ok(response)
}

/// Takes a request back.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    raw: Raw<CancelBody>,
) -> Result<Response, Problem> {
    spoken(&app)?;
    let id = known(&id)?;
    let why = why_of(&raw.bytes)?;
    let requests = yours(&app, &caller, id).await?;
    let handle = told(&app, &caller, id).await?;
    if !handle.is_pending() {
        let detail = format!("the request is {}", handle.task.status);
        return Err(Problem::new(Kind::INVALID_TASK_STATE, detail));
    }
    // Whoever joined what another asks for does not take it from them.
    let me = &caller.principal.name;
    let own = requests
        .iter()
        .filter(|request| request.requested_by == *me);
    let ids: Vec<ApprovalId> = own.map(|request| request.id).collect();
    if ids.is_empty() {
        let detail = "another principal asked for this first; only they can take it back";
        return Err(Problem::new(Kind::NOT_PERMITTED, detail));
    }
    let mut record = app.request_record(&caller, "cancel_request", id);
    record.details.insert("reason".to_owned(), json!(why));
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let by = caller.principal.name.as_str();
    let cancelled = app
        .store
        .cancel_requests(caller.tenant, &ids, (by, &why), change);
    let revision = match cancelled.await {
        Err(remit_store::Error::Unfit { problem }) => {
            return Err(Problem::new(Kind::INVALID_TASK_STATE, problem));
        }
        done => done?,
    };
    let mut response = render(StatusCode::OK, &told(&app, &caller, id).await?);
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Makes the requests of a submission.
async fn ask(
    app: &Arc<App>,
    caller: &Caller,
    submission: Submission,
    named: Option<RequestName<'_>>,
) -> Result<Asked, Problem> {
    let snapshot = app.snapshot(caller).await?;
    let mut asked = Vec::with_capacity(submission.items.len());
    for item in &submission.items {
        let client = &submission.client;
        asked.push(app.requestable(caller, &snapshot, item, client).await?);
    }
    let callback = match &submission.callback {
        Some(callback) => Some(callbacks::check(app, caller.tenant, callback).await?),
        None => None,
    };
    let mut requests = Vec::with_capacity(asked.len());
    for requestable in &asked {
        let escalates = room(app, caller.tenant, &requestable.wants).await?;
        let request = app.request_of(caller, &snapshot, requestable, escalates);
        requests.push(request.await?);
    }
    let bulk = submission.bulk.then(|| NewBulk {
        id: ApprovalId::from_uuid(app.clock.id()),
    });
    let whole = bulk.map(|bulk| bulk.id);
    let whole = whole.or_else(|| requests.first().map(|request| request.id));
    let whole = whole.unwrap_or(ApprovalId::NIL);
    let record = app.request_record(caller, "create_request", whole);
    let requester = Requester {
        by: &caller.principal.name,
        key: caller.key,
        callback: callback.as_deref(),
    };
    let made = app
        .store
        .insert_requests(
            caller.tenant,
            (&requests, bulk),
            (requester, named),
            app.options.approvals.pending,
            Change {
                record: Some(&record),
                once: None,
            },
        )
        .await?;
    if let Asked::Pending { requests, .. } = &made {
        for (request, requestable) in requests.iter().zip(&asked) {
            approve_by_policy(app, caller, (&snapshot, requestable), request).await?;
        }
    }
    Ok(made)
}

/// Approves a request at once where a policy of the tenant lets Remit itself do that: once, for as long as usual, and not
/// longer than it is wanted.
async fn approve_by_policy(
    app: &Arc<App>,
    caller: &Caller,
    (snapshot, requestable): (&Snapshot, &Requestable),
    request: &StoredRequest,
) -> Result<(), Problem> {
    let (tenant, asked) = (caller.tenant, requestable.asked(caller));
    let policies = auto_approved(app, snapshot, tenant, &asked, &requestable.wants).await?;
    let Some(policies) = policies else {
        return Ok(());
    };
    let itself = PrincipalName::itself();
    let usual = requestable_until(app.now(), app.options.approvals.approval_ttl);
    let approvers = BTreeSet::from([itself.clone()]);
    let approving = Approving {
        scope: ApprovalScope::Once,
        approvers: &approvers,
        until: wanted_until(request).map_or(usual, |wanted| wanted.min(usual)),
        by: itself.as_str(),
        why: Some("a policy of the tenant lets Remit approve this"),
    };
    let resource = EntityUid::new("AccessRequest", request.id.to_string());
    let id = AdminActionId::from_uuid(app.clock.id());
    let record = AdminAction {
        determining: policies,
        ..AdminAction::of_itself(id, app.now(), "approve_request", resource)
    };
    // Nobody has seen the card; what it would have shown is known all the same.
    let record = seen(record, request)?;
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let done = app.store.approve(tenant, request.id, approving, change);
    match done.await {
        // Whoever was asked at the same time was faster.
        Err(remit_store::Error::Unfit { .. }) => Ok(()),
        // Whoever is told that it is approved can use it here.
        Ok(done) => app.reached(tenant, done.revision).await,
        Err(error) => Err(error.into()),
    }
}

/// Answers what came of asking.
async fn answer(app: &App, caller: &Caller, asked: Asked) -> Result<Response, Problem> {
    let (id, revision) = match asked {
        Asked::Pending {
            whole, revision, ..
        } => (whole, Some(revision)),
        Asked::Before(id) => (id, None),
        Asked::Reused => return Err(Kind::DUPLICATE_REQUEST.into()),
        Asked::Full(whose, most) => {
            let detail =
                format!("{most} access requests of the {whose} wait for an answer already");
            return Err(Problem::new(Kind::TOO_MANY_REQUESTS, detail));
        }
        Asked::TooOften(most) => {
            let detail =
                format!("it is asked for the agent more than {most} times within a minute");
            return Err(Problem::new(Kind::TOO_MANY_REQUESTS, detail).retry_after(60));
        }
    };
    let handle = told(app, caller, id).await?;
    let status = if handle.is_pending() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::CREATED
    };
    let mut response = render(status, &handle);
    if let Ok(location) = HeaderValue::try_from(status_endpoint(&app.options, id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if let Some(revision) = revision {
        Told::revision(revision).attach(&mut response);
    }
    Ok(response)
}

/// Writes a handle; one that is pending says when to ask again.
fn render(status: StatusCode, handle: &Handle) -> Response {
    let mut response = (status, Json(handle.clone())).into_response();
    if handle.is_pending() {
        let seconds = HeaderValue::from(ASK_AGAIN);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Returns how a request stands, or several that were made as one.
async fn told(app: &App, caller: &Caller, id: ApprovalId) -> Result<Handle, Problem> {
    let requests = yours(app, caller, id).await?;
    let now = app.now();
    let bulk = app.store.bulk_request(caller.tenant, id).await?;
    let last = requests.iter().map(|one| told_until(&app.options, one));
    let last = last.max();
    if last.is_some_and(|last| last <= now) {
        return Err(Kind::TASK_EXPIRED.into());
    }
    Ok(match (bulk, requests.first()) {
        (Some(bulk), _) => Handle::many(&app.options, id, (&requests, bulk.expires_at), now),
        (None, Some(request)) => Handle::one(&app.options, request, now),
        (None, None) => return Err(Kind::UNKNOWN_TASK.into()),
    })
}

/// Returns the request of an id, or those that were made as one, where the caller asked for them.
async fn yours(app: &App, caller: &Caller, id: ApprovalId) -> Result<Vec<StoredRequest>, Problem> {
    let unknown = || Problem::from(Kind::UNKNOWN_TASK);
    let me = &caller.principal.name;
    if let Some(bulk) = app.store.bulk_request(caller.tenant, id).await? {
        if bulk.requested_by != *me {
            return Err(unknown());
        }
        let mut requests = Vec::with_capacity(bulk.items.len());
        for item in bulk.items {
            let request = app.store.request(caller.tenant, item).await?;
            requests.push(request.ok_or_else(unknown)?);
        }
        return Ok(requests);
    }
    let request = app.store.request(caller.tenant, id).await?;
    let request = request.ok_or_else(unknown)?;
    let mine = request.requested_by == *me || app.store.has_joined(caller.tenant, id, me).await?;
    if mine {
        Ok(vec![request])
    } else {
        Err(unknown())
    }
}

/// Whether the profile is spoken at all.
fn spoken(app: &App) -> Result<(), Problem> {
    if app.options.drafts.access_requests {
        Ok(())
    } else {
        Err(Kind::NOT_FOUND.into())
    }
}

/// Reads the id of a request: what is none is none of ours.
fn known(text: &str) -> Result<ApprovalId, Problem> {
    text.parse().map_err(|_| Kind::UNKNOWN_TASK.into())
}

/// Reads how long an answer may wait (RFC 7240 §4.3); nothing where the caller does not say, or says it oddly.
fn wait_of(app: &App, headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let mut wait = None;
    for value in headers.get_all(PREFER) {
        let text = value.to_str();
        let text = text.map_err(|_| invalid("`Prefer` must be printable ASCII"))?;
        let preferences = text.split(',').map(|one| one.split(';').next());
        for preference in preferences.flatten() {
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("wait") && wait.is_none() {
                wait = value.trim().trim_matches('"').parse::<u64>().ok();
            }
        }
    }
    let most = app.options.deadline.saturating_sub(TO_ANSWER);
    let most = most.min(LONGEST_WAIT);
    Ok(wait.map(|seconds| Duration::from_secs(seconds).min(most)))
}

/// Reads why a request is taken back; the body may be left out.
fn why_of(bytes: &Bytes) -> Result<String, Problem> {
    let body: CancelBody = if bytes.is_empty() {
        CancelBody::default()
    } else {
        decode(bytes)?
    };
    for (member, text) in [("reason", &body.reason), ("comment", &body.comment)] {
        let long = text.as_ref().is_some_and(|text| text.len() > TEXT_BYTES);
        let odd = text.as_ref().is_some_and(|text| text.contains('\0'));
        if long || odd {
            let detail = format!("`{member}` must have at most {TEXT_BYTES} bytes and no NUL");
            return Err(invalid(detail));
        }
    }
    let said: Vec<String> = [body.reason, body.comment].into_iter().flatten().collect();
    if said.is_empty() {
        return Ok("who asked took it back".to_owned());
    }
    Ok(said.join(": "))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}

// === impl App ===

impl App {
    /// Makes the record of what a caller does with an access request.
    fn request_record(&self, caller: &Caller, action: &str, id: ApprovalId) -> AdminAction {
        let resource = EntityUid::new("AccessRequest", id.to_string());
        let record = AdminActionId::from_uuid(self.clock.id());
        AdminAction {
            key: Some(caller.key),
            principal: caller.principal.name.clone(),
            reason: "scope".to_owned(),
            request_id: Some(caller.request_id.clone()).filter(|id| !id.is_empty()),
            roles: caller.principal.roles.clone(),
            ..AdminAction::of_itself(record, self.now(), action, resource)
        }
    }
}
