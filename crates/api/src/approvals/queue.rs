//! `/v1/approvals`: what waits for an answer, how much of it, and what one request shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Uri, header};
use remit_core::{
    ApprovalId, ApprovalScope, ContentHash, DecisionId, EntityUid, PrincipalName, TaskId, TenantId,
    Timestamp,
};
use remit_store::{COUNTED, GivenAnswer, RequestFilter, RequestState, StoredRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answering::{Case, case_of};
use super::quorum::{Progress, counted, progress};
use super::wants::{ANY, Wants};
use crate::admin::Action;
use crate::app::App;
use crate::auth::Caller;
use crate::paging::{self, Paging};
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

/// Which requests are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    state: Option<RequestState>,
    group: Option<String>,
    agent_type: Option<String>,
    agent_id: Option<String>,
    action: Option<String>,
    task: Option<TaskId>,
    mine: Option<bool>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A request as a list tells it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: ApprovalId,
    state: RequestState,
    agent: &'a EntityUid,
    action: &'a str,
    resource: &'a EntityUid,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    environment: &'a str,
    sinks: &'a BTreeSet<String>,
    wants: &'a Wants,
    requested_by: &'a PrincipalName,
    requested_at: Timestamp,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    escalates_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    escalated_at: Option<Timestamp>,
    decision: DecisionId,
    card_hash: ContentHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ApprovalScope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approvers: Option<&'a BTreeSet<PrincipalName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uses_left: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_left: Option<u64>,
}

/// A request as it is told by itself.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    card: Value,
    progress: Vec<Progress>,
    answers: Vec<Said<'a>>,
    mine: Mine,
}

/// What somebody said.
#[derive(Debug, Serialize)]
struct Said<'a> {
    by: &'a PrincipalName,
    answer: &'static str,
    at: Timestamp,
    groups: Vec<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_person: Option<&'a PrincipalName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Whether whoever asks may approve it now, or refuse it.
#[derive(Debug, Serialize)]
struct Mine {
    may: bool,
    may_deny: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Lists requests: the pending ones first asked first, others newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let invalid = |detail: &str| Problem::new(Kind::INVALID_REQUEST, detail);
    let agent = match (wanted.agent_type, wanted.agent_id) {
        (Some(kind), Some(id)) => Some(EntityUid::new(kind, id)),
        (None, None) => None,
        _ => return Err(invalid("`agent_type` and `agent_id` go together")),
    };
    let mine = wanted.mine.unwrap_or(false);
    if mine && wanted.group.is_some() {
        return Err(invalid("`mine` and `group` do not go together"));
    }
    let mut filter = RequestFilter {
        state: wanted.state,
        groups: wanted.group.map(|group| BTreeSet::from([group])),
        agent,
        action: wanted.action,
        task: wanted.task,
        not_by: BTreeSet::new(),
    };
    if mine {
        mine_alone(&app, &caller, &mut filter).await?;
    }
    let walk = json!({
        "list": "approvals", "tenant": caller.tenant, "state": filter.state, "agent": filter.agent, "action": filter.action,
        "task": filter.task, "mine": mine.then_some(caller.principal.name.as_str()),
        "group": filter.groups.as_ref().filter(|_| !mine),
    });
    let paging = Paging::<ApprovalId>::of(&app, &walk, wanted.limit, wanted.cursor.as_deref())?;
    let found = app
        .store
        .requests(caller.tenant, &filter, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.id)?;
    let shown: Vec<_> = found.iter().map(Listed::of).collect();
    Ok(paging::answer(&uri, "approvals", &shown, next.as_deref()))
}

/// Leaves those alone that whoever asks stands for and has not asked for themself.
async fn mine_alone(app: &App, caller: &Caller, filter: &mut RequestFilter) -> Result<(), Problem> {
    let at = app.exact_time().await?;
    let name = &caller.principal.name;
    let mandates = app.store.mandates(caller.tenant, name, at).await?;
    let mut groups: BTreeSet<String> = mandates.groups.into_keys().collect();
    groups.insert(ANY.to_owned());
    filter.groups = Some(groups);
    filter.not_by = mandates.accounts;
    Ok(())
}

/// Counts what there is.
pub(crate) async fn facets(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Problem> {
    let counts = app.store.count_requests(caller.tenant).await?;
    let most = u64::try_from(COUNTED).unwrap_or(u64::MAX);
    let agents = counts.agents.iter();
    let agents: Vec<_> = agents
        .map(|(agent, count)| json!({ "agent": agent, "count": count }))
        .collect();
    let more = counts.states.values().any(|count| *count >= most);
    let shown = json!({
        "states": counts.states, "groups": counts.groups, "agents": agents, "actions": counts.actions,
        "counted_to": most, "more": more,
    });
    Ok(Json(shown).into_response())
}

/// Answers with one request: its card, how far it is, and whether whoever asks may approve it.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<ApprovalId>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let request = find(&app, tenant, id).await?;
    let tag = format!("\"{}\"", request.card_hash);
    let tag = HeaderValue::try_from(tag).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let answers = app.store.answers(tenant, id).await?;
    let at = app.exact_time().await?;
    let case = case_of(&app, &caller, &request, at).await?;
    let counted = counted(&app, tenant, (&request, &case.about), &answers, at).await?;
    let card: Value = serde_json::from_str(&request.card)
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let shown = Shown {
        listed: Listed::of(&request),
        card,
        progress: progress(&request.wants, &counted),
        answers: answers.iter().map(Said::of).collect(),
        mine: mine(&app, &caller, (&request, &case), &answers, at).await?,
    };
    // The tag is of the card alone, which never changes: an answer names it. What became of the request does change.
    let mut response = Json(shown).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

async fn mine(
    app: &App,
    caller: &Caller,
    (request, case): (&StoredRequest, &Case),
    answers: &[GivenAnswer],
    at: Timestamp,
) -> Result<Mine, Problem> {
    if let Some(why) = closed(request, at) {
        return Ok(Mine {
            may: false,
            may_deny: false,
            why: Some(why),
        });
    }
    let wants = &request.wants;
    let act = |action| {
        let standing = (wants, Some(&case.standing));
        case.about.act(action, request.id, standing)
    };
    let may_deny = app.would(caller, act(Action::DenyRequest)).await?.is_none();
    let name = &caller.principal.name;
    let why = if answers.iter().any(|answer| answer.by == *name) {
        Some("you have answered it already".to_owned())
    } else {
        let because = app.would(caller, act(Action::ApproveRequest)).await?;
        because.map(|because| case.standing.obstacle(wants).unwrap_or(because))
    };
    Ok(Mine {
        may: why.is_none(),
        may_deny,
        why,
    })
}

/// Says why a request cannot be answered any more.
pub(super) fn closed(request: &StoredRequest, at: Timestamp) -> Option<String> {
    let by = request.ended_by.as_deref().unwrap_or("time");
    match request.state {
        RequestState::Pending if request.expires_at <= at => {
            Some("nobody answered it in time".to_owned())
        }
        RequestState::Pending => None,
        RequestState::Approved | RequestState::Denied => Some(format!(
            "already decided by {by}: it was {}",
            request.state.as_str()
        )),
        RequestState::Expired | RequestState::Cancelled => {
            let why = request.ended_why.as_deref().unwrap_or_default();
            Some(format!("it was {} by {by}: {why}", request.state.as_str()))
        }
    }
}

/// Finds a request of the tenant.
pub(super) async fn find(
    app: &App,
    tenant: TenantId,
    id: ApprovalId,
) -> Result<StoredRequest, Problem> {
    let found = app.store.request(tenant, id).await?;
    found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such access request"))
}

// === impl Listed ===

impl<'a> Listed<'a> {
    fn of(one: &'a StoredRequest) -> Self {
        let grant = one.grant.as_ref();
        Self {
            id: one.id,
            state: one.state,
            agent: &one.bound.subject,
            action: &one.bound.action,
            resource: &one.bound.resource,
            task: one.bound.task,
            environment: &one.bound.environment,
            sinks: &one.bound.sinks,
            wants: &one.wants,
            requested_by: &one.requested_by,
            requested_at: one.requested_at,
            expires_at: one.expires_at,
            escalates_at: one.escalates_at,
            escalated_at: one.escalated_at,
            decision: one.decision,
            card_hash: one.card_hash,
            ended_at: one.ended_at,
            ended_by: one.ended_by.as_deref(),
            ended_why: one.ended_why.as_deref(),
            scope: grant.map(|grant| grant.scope),
            approvers: grant.map(|grant| &grant.approvers),
            approved_until: grant.map(|grant| grant.until),
            uses_left: grant.map(|grant| grant.uses_left),
            amount_left: grant.and_then(|grant| grant.amount_left),
        }
    }
}

// === impl Said ===

impl<'a> Said<'a> {
    fn of(answer: &'a GivenAnswer) -> Self {
        let mut places = answer.groups.values();
        Self {
            by: &answer.by,
            answer: if answer.approves { "approve" } else { "deny" },
            at: answer.at,
            groups: answer.groups.keys().collect(),
            for_person: places.find(|place| **place != answer.by),
            reason: Some(answer.reason.as_str()).filter(|reason| !reason.is_empty()),
        }
    }
}
