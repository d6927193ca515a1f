//! `/v1/agents`: the registry of agents, and who asks as one without being in it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{
    Agent, AgentStatus, ContentHash, EntityUid, KeyId, PrincipalName, Revision, Standing, Timestamp,
};
use remit_store::{AgentFilter, Change, StoredAgent, UnknownAgent};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{at_most, line, names, taken};
use crate::admin::lockout::head;
use crate::admin::{Act, Action, principals};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Page, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire, absent_if_null};

/// How far ahead an agent may end or be reviewed at most.
const LONGEST: Duration = Duration::from_hours(366 * 24);
/// The most roles of an agent, and the longest name of one in bytes.
const ROLES: (usize, usize) = (32, 64);
/// The highest trust.
const MOST_TRUST: u64 = 3;

/// What an agent is to be; its name is in the path.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentBody {
    #[serde(default, deserialize_with = "absent_if_null")]
    build: Option<ContentHash>,
    ends_at: Timestamp,
    environment: String,
    model: String,
    owner: PrincipalName,
    #[serde(default, deserialize_with = "absent_if_null")]
    principal: Option<PrincipalName>,
    purpose: String,
    review_at: Timestamp,
    #[serde(default)]
    roles: BTreeSet<String>,
    trust: u64,
}

/// Which agents are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    status: Option<AgentStatus>,
    owner: Option<PrincipalName>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// An agent as it is told.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    agent: Agent,
    standing: Standing,
    revision: Revision,
}

/// A subject that nobody has registered, as it is told.
#[derive(Debug, Serialize)]
struct Unknown {
    uid: EntityUid,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
}

/// What was done, as it is kept with the name of the request.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    agent: Agent,
}

/// A change of whether an agent works.
#[derive(Debug, Clone, Copy)]
struct Turn {
    action: Action,
    to: AgentStatus,
}

/// Lists the agents by type and id.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let filter = json!({
        "list": "agents", "tenant": caller.tenant, "status": wanted.status, "owner": wanted.owner,
    });
    let paging = Paging::<EntityUid>::of(&app, &filter, wanted.limit, wanted.cursor.as_deref())?;
    let filter = AgentFilter {
        status: wanted.status,
        owner: wanted.owner,
    };
    let found = app
        .store
        .agents(
            caller.tenant,
            &filter,
            paging.after.as_ref(),
            paging.limit + 1,
        )
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.agent.uid.clone())?;
    let now = app.now();
    let agents: Vec<_> = found.into_iter().map(|one| Shown::of(one, now)).collect();
    Ok(paging::answer(&uri, "agents", &agents, next.as_deref()))
}

/// Lists who asked as an agent, lately, and is not in the registry.
pub(crate) async fn unknown(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "unknown_agents", "tenant": caller.tenant });
    let paging = Paging::<EntityUid>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .unknown_agents(caller.tenant, paging.after.as_ref(), paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.uid.clone())?;
    let agents: Vec<_> = found.into_iter().map(Unknown::from).collect();
    Ok(paging::answer(&uri, "agents", &agents, next.as_deref()))
}

/// Answers with one agent.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let uid = EntityUid::new(kind, id);
    let stored = find(&app, &caller, &uid).await?;
    let revision = stored.revision;
    let mut response = if preconditions.unchanged(revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(Shown::of(stored, app.now())).into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Registers an agent, or replaces what is registered of it; whether it works stays as it is.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<AgentBody>,
) -> Result<Response, Problem> {
    let uid = EntityUid::new(kind, id);
    uid.check("type", "id")?;
    body.check(app.exact_time().await?)?;
    body.check_principal(&app, &caller).await?;
    let asks = json!({
        "caller": caller.key, "action": Action::PutAgent.name(), "uid": uid, "agent": body,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let checked = head(&app, caller.tenant).await?;
            let before = app.store.agent(caller.tenant, &uid).await?;
            preconditions.check(before.as_ref().map(|stored| stored.revision))?;
            let status = before.map_or(AgentStatus::Active, |stored| stored.agent.status);
            let agent = body.clone().named(uid.clone(), status);
            let act = Act::on_entity(Action::PutAgent, &uid).with("agent", json!(agent));
            match write(&app, &caller, checked, agent, (act, named.as_ref())).await? {
                Attempt::Written(done) => break Ok(done),
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    finish(&app, &caller, revision, done, until).await
}

/// Stops an agent for now.
pub(crate) async fn suspend(
    app: State<Arc<App>>,
    caller: Caller,
    path: Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    until: Query<Until>,
) -> Result<Response, Problem> {
    let turn = Turn {
        action: Action::SuspendAgent,
        to: AgentStatus::Suspended,
    };
    turned(app, caller, path, preconditions, key, until, turn).await
}

/// Lets a suspended agent work again.
pub(crate) async fn resume(
    app: State<Arc<App>>,
    caller: Caller,
    path: Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    until: Query<Until>,
) -> Result<Response, Problem> {
    let turn = Turn {
        action: Action::ResumeAgent,
        to: AgentStatus::Active,
    };
    turned(app, caller, path, preconditions, key, until, turn).await
}

/// Stops an agent for good: its id is never used again.
pub(crate) async fn retire(
    app: State<Arc<App>>,
    caller: Caller,
    path: Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    until: Query<Until>,
) -> Result<Response, Problem> {
    let turn = Turn {
        action: Action::RetireAgent,
        to: AgentStatus::Retired,
    };
    turned(app, caller, path, preconditions, key, until, turn).await
}

async fn turned(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((kind, id)): Segments<(String, String)>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Turn { action, to }: Turn,
) -> Result<Response, Problem> {
    let uid = EntityUid::new(kind, id);
    let asks = json!({ "caller": caller.key, "action": action.name(), "uid": uid });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let checked = head(&app, caller.tenant).await?;
            let before = find(&app, &caller, &uid).await?;
            preconditions.check(Some(before.revision))?;
            let agent = Agent {
                status: to,
                ..before.agent
            };
            let act = Act::on_entity(action, &uid).with("before", json!(before.agent.status));
            match write(&app, &caller, checked, agent, (act, named.as_ref())).await? {
                Attempt::Written(done) => break Ok(done),
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    finish(&app, &caller, revision, done, until).await
}

/// Writes an agent over the state that was looked at only, with the record of who does it.
async fn write(
    app: &App,
    caller: &Caller,
    checked: Revision,
    agent: Agent,
    (act, named): (Act, Option<&Named>),
) -> Result<Attempt<(Revision, Done)>, Problem> {
    let record = app.permit(caller, act).await?;
    let done = Done { agent };
    let answer = Answer::of(named, &done)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let written = app
        .store
        .put_agent(caller.tenant, Some(checked), &done.agent, change);
    Ok(match Attempt::of(written.await)? {
        Attempt::Written(revision) => {
            principals::log(caller, &record, revision);
            Attempt::Written((revision, done))
        }
        Attempt::Moved(head) => Attempt::Moved(head),
    })
}

/// Answers when the change is in force.
async fn finish(
    app: &App,
    caller: &Caller,
    revision: Revision,
    Done { agent }: Done,
    until: Until,
) -> Result<Response, Problem> {
    settle(app, caller.tenant, revision, until).await?;
    let owner_is_live = match app.engine.snapshot(caller.tenant) {
        Some(snapshot) => snapshot.live().is_owner(&agent.owner),
        // Without a bundle nothing is loaded, and the owner was looked up when this was written.
        None => true,
    };
    let stored = StoredAgent {
        agent,
        revision,
        owner_is_live,
    };
    let shown = Shown::of(stored, app.now());
    let mut response = ([(header::ETAG, etag(revision))], Json(shown)).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn find(app: &App, caller: &Caller, uid: &EntityUid) -> Result<StoredAgent, Problem> {
    let found = app.store.agent(caller.tenant, uid).await?;
    found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, format!("there is no agent `{uid}`")))
}

// === impl AgentBody ===

impl AgentBody {
    /// Checks everything that the body alone tells.
    fn check(&self, now: Timestamp) -> Result<(), Problem> {
        line("purpose", &self.purpose, 1_024)?;
        line("environment", &self.environment, 64)?;
        line("model", &self.model, 128)?;
        names("roles", self.roles.iter(), ROLES)?;
        at_most("trust", self.trust, MOST_TRUST)?;
        for (member, at) in [("ends_at", self.ends_at), ("review_at", self.review_at)] {
            if at <= now || at > later(now) {
                let detail = format!("`{member}`: a time within 366 days from now was expected");
                return Err(Problem::new(Kind::INVALID_REQUEST, detail));
            }
        }
        Ok(())
    }

    /// Checks that a name which stands for a key is one of a key.
    async fn check_principal(&self, app: &App, caller: &Caller) -> Result<(), Problem> {
        let Some(name) = self.principal.as_ref().filter(|name| name.is_reserved()) else {
            return Ok(());
        };
        let id = name.as_str().strip_prefix("key:");
        if let Some(Ok(id)) = id.map(str::parse::<KeyId>)
            && let Some(key) = app.store.key(caller.tenant, id).await?
            && key.revoked_at.is_none()
            && key.principal.name == *name
        {
            return Ok(());
        }
        let detail =
            "`principal` names no machine, nor `key:` and the id of a key that is bound to nobody";
        Err(Problem::new(Kind::INVALID_REQUEST, detail))
    }

    fn named(self, uid: EntityUid, status: AgentStatus) -> Agent {
        Agent {
            build: self.build,
            ends_at: self.ends_at,
            environment: self.environment.into(),
            model: self.model.into(),
            owner: self.owner,
            principal: self.principal,
            purpose: self.purpose.into(),
            review_at: self.review_at,
            roles: taken(self.roles),
            status,
            // Checked to be at most 3.
            trust: u8::try_from(self.trust).unwrap_or_default(),
            uid,
        }
    }
}

fn later(now: Timestamp) -> Timestamp {
    let longest = i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_add(longest))
}

// === impl Shown ===

impl Shown {
    fn of(stored: StoredAgent, now: Timestamp) -> Self {
        Self {
            standing: stored.agent.standing(now, stored.owner_is_live),
            agent: stored.agent,
            revision: stored.revision,
        }
    }
}

// === impl Unknown ===

impl From<UnknownAgent> for Unknown {
    fn from(unknown: UnknownAgent) -> Self {
        Self {
            uid: unknown.uid,
            first_seen: unknown.first_seen,
            last_seen: unknown.last_seen,
            count: unknown.count,
        }
    }
}

impl Wire for AgentBody {}
