//! Opening a task, and narrowing one: what is declared is checked against the template and the task above, then decided
//! by the tenant's own policies like any action, then written.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use remit_core::{
    Action as Asked, AdminAction, DecisionId, Declaration, Dimension, EntityUid, MOST_DEPTH,
    MOST_SINKS, PrincipalName, Question, Reason, Resource, Revision, Standing, Subject, Task,
    TaskId, TaskState, Timestamp, links,
};
use remit_engine::Snapshot;
use remit_store::{Change, Error, MOST_CHILDREN, NewTask};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::declaring::{Bound, Takes, TaskBody, exceeds, invalid, may_delegate, within};
use super::{Shown, templates};
use crate::admin::{Act, Action, principals};
use crate::app::{Answer as Decided, App};
use crate::auth::Caller;
use crate::facts;
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json};

/// How often a task is narrowed that meets another change of the tenant.
const TRIES: usize = 5;

/// What was opened, as it is kept with the name of the request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Opened {
    id: TaskId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionId>,
}

/// A task that fits, and is to be decided and written.
struct Plan {
    declaration: Declaration,
    /// Who asks for it in the eyes of the policies: the agent of the task above, else the agent itself.
    asks: EntityUid,
    depth: u16,
    idle_timeout: Duration,
    /// The agents that open it by themselves.
    opening_agents: Vec<EntityUid>,
}

/// Opens a task.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<TaskBody>,
) -> Result<Response, Problem> {
    body.check(Takes::Task)?;
    let asks = json!({ "caller": caller.key, "action": Action::CreateTask.name(), "task": body });
    let named = Named::of(&key, move || asks).await?;
    let make = open_once(&app, &caller, body, named.as_ref());
    let opened = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    answer(&app, &caller, opened, until).await
}

/// Puts a narrower task in the place of one.
pub(crate) async fn narrow(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<TaskId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<TaskBody>,
) -> Result<Response, Problem> {
    body.check(Takes::Narrowing)?;
    let asks = json!({ "caller": caller.key, "action": Action::NarrowTask.name(), "task": id, "members": body });
    let named = Named::of(&key, move || asks).await?;
    let make = narrow_once(&app, &caller, id, body, named.as_ref());
    let opened = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    answer(&app, &caller, opened, until).await
}

async fn answer(
    app: &App,
    caller: &Caller,
    (revision, opened): (Revision, Opened),
    until: Until,
) -> Result<Response, Problem> {
    settle(app, caller.tenant, revision, until).await?;
    let stored = app.store.task(caller.tenant, opened.id).await?;
    let stored = stored.ok_or_else(super::absent)?;
    let shown = Shown::of(stored, app.now());
    let mut response = (StatusCode::CREATED, Json(shown)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/tasks/{}", opened.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn open_once(
    app: &Arc<App>,
    caller: &Caller,
    body: TaskBody,
    named: Option<&Named>,
) -> Result<(Revision, Opened), Problem> {
    let snapshot = app.snapshot(caller).await?;
    let id = TaskId::from_uuid(app.clock.id());
    // Before anything is said of what there is.
    let above = body.parent.and_then(|parent| snapshot.live().task(parent));
    let name = &caller.principal.name;
    let own = above.is_some_and(|above| is_principal_of(&snapshot, name, &above.declaration.agent));
    let act = Act::of(Action::CreateTask)
        .own(own)
        .with("task", json!(id))
        .with("declared", json!(body));
    let mut record = app.permit(caller, act).await?;
    let plan = plan(app, caller, &snapshot, body).await?;
    let declared = &plan.declaration;
    let decided = app.decide(caller, question(&plan, app.now())?).await?;
    if !decided.permits() {
        return Err(denied(&decided));
    }
    let decision = decided.id();
    let details = &mut record.details;
    details.insert("decision".to_owned(), json!(decision));
    details.insert("digest".to_owned(), json!(declared.digest()));
    let opened = Opened {
        id,
        decision: Some(decision),
    };
    let new = NewTask {
        id,
        declaration: declared,
        decision: Some(decision),
        idle_timeout: plan.idle_timeout,
        opened_by: &caller.principal.name,
        opening_agents: &plan.opening_agents,
        replaces: None,
        checked: None,
    };
    write(app, caller, new, &record, (named, opened)).await
}

async fn write(
    app: &App,
    caller: &Caller,
    new: NewTask<'_>,
    record: &AdminAction,
    (named, opened): (Option<&Named>, Opened),
) -> Result<(Revision, Opened), Problem> {
    let answer = Answer::of(named, &opened)?;
    let change = Change {
        record: Some(record),
        once: answer.once(),
    };
    let revision = app.store.insert_task(caller.tenant, new, change).await?;
    principals::log(caller, record, revision);
    Ok((revision, opened))
}

/// Checks everything of a task that is no matter of policy.
async fn plan(
    app: &App,
    caller: &Caller,
    snapshot: &Snapshot,
    mut body: TaskBody,
) -> Result<Plan, Problem> {
    let now = app.now();
    let (live, most) = (snapshot.live().task_count(), app.options.most_tasks);
    if live >= most {
        let detail = format!("{live} tasks of the tenant live, and {most} may; complete some");
        return Err(Problem::new(Kind::CONFLICT, detail));
    }
    let agent = body.agent.take();
    let agent = agent.ok_or_else(|| invalid("`agent` is missing"))?;
    let template = match &body.template {
        Some(name) => Some(templates::find(app, caller.tenant, name).await?),
        None => None,
    };
    if let Some(template) = &template {
        template.fixes(&body)?;
        template.wants(&body)?;
    }
    let parent = match body.parent {
        Some(id) => Some(parent_of(app, caller, snapshot, id, now).await?),
        None => None,
    };
    let above = parent.as_ref().map(|parent| &parent.declaration);
    let asks = above.map_or_else(|| agent.clone(), |above| above.agent.clone());
    if asks != agent {
        stands(snapshot, &agent, now)?;
    }
    let declaration = body.declare(agent, now, template.as_ref(), above)?;
    let depth = parent
        .as_ref()
        .map_or(0, |parent| parent.depth.saturating_add(1));
    if let Some(parent) = &parent {
        within(
            snapshot,
            &declaration,
            depth,
            (Bound::Parent, &parent.declaration),
        )?;
    }
    if let Some(template) = &template {
        let bound = template.bound(&declaration, now);
        within(snapshot, &declaration, 0, (Bound::Template, &bound))?;
    }
    let idle = template.and_then(|template| template.idle_timeout);
    let name = &caller.principal.name;
    Ok(Plan {
        asks,
        depth,
        idle_timeout: idle.map_or(app.options.task_idle_timeout, Duration::from_secs),
        opening_agents: opening_agents(snapshot, name, declaration.parent.is_some()),
        declaration,
    })
}

/// Checks that an agent to whom a task is handed on is registered, where its type is, and works.
///
/// Of a task that is a part of none this is decided with the rest: there the agent is who asks.
fn stands(snapshot: &Snapshot, agent: &EntityUid, now: Timestamp) -> Result<(), Problem> {
    match facts::agent_of(snapshot, agent, None, now) {
        Some(facts) if facts.standing != Standing::Active => {
            let standing = json!(facts.standing);
            let detail = format!(
                "`{agent}` is no agent that works: it is {}",
                facts.standing.as_str()
            );
            Err(Problem::new(Kind::CONFLICT, detail).with("standing", standing))
        }
        _ => Ok(()),
    }
}

/// Returns the agents that a principal is, where the task that it opens is a part of none.
fn opening_agents(snapshot: &Snapshot, name: &PrincipalName, is_child: bool) -> Vec<EntityUid> {
    let agents = snapshot.live().agents_of(name);
    agents.filter(|_| !is_child).cloned().collect()
}

/// Whether an agent calls Remit as this principal.
pub(super) fn is_principal_of(
    snapshot: &Snapshot,
    name: &PrincipalName,
    agent: &EntityUid,
) -> bool {
    let agent = snapshot.live().agent(agent);
    agent.is_some_and(|(agent, _)| agent.principal.as_ref() == Some(name))
}

/// Returns the task above, which must live, may hand on, and has room for one more.
async fn parent_of(
    app: &App,
    caller: &Caller,
    snapshot: &Snapshot,
    id: TaskId,
    now: Timestamp,
) -> Result<Arc<Task>, Problem> {
    let (parent, state) = facts::standing(snapshot.live(), id, now);
    let parent = match (parent, state) {
        (Some(parent), TaskState::Active) => parent,
        (None, TaskState::Unknown) => {
            let detail = "`parent` is no task of this tenant, or one that ended long ago";
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
        (_, state) => {
            let state = super::state_name(state);
            let detail = format!("`parent`, or a task above it, is {state}");
            return Err(Problem::new(Kind::CONFLICT, detail).with("state", json!(state)));
        }
    };
    may_delegate(&parent)?;
    if parent.depth >= MOST_DEPTH {
        let (wanted, most) = (json!(parent.depth.saturating_add(1)), json!(MOST_DEPTH));
        return Err(exceeds(Bound::Parent, Dimension::Depth, &wanted, &most));
    }
    let live = app.store.live_children_of(caller.tenant, id).await?;
    let most = u64::try_from(MOST_CHILDREN).unwrap_or_default();
    if live >= most {
        let wanted = json!(live.saturating_add(1));
        return Err(exceeds(
            Bound::Parent,
            Dimension::FanOut,
            &wanted,
            &json!(most),
        ));
    }
    Ok(parent)
}

/// Puts the opening of a task as a question to the tenant's own policies.
fn question(plan: &Plan, now: Timestamp) -> Result<Question, Problem> {
    let declared = &plan.declaration;
    let left = declared.expires_at.micros().saturating_sub(now.micros());
    let words = [("intent".to_owned(), json!(declared.intent))];
    let named = links(&words.into_iter().collect());
    if named.len() > MOST_SINKS {
        let detail = format!("`intent` names more than {MOST_SINKS} addresses and accounts");
        return Err(invalid(detail));
    }
    let mut properties = Map::new();
    let mut put = |name: &str, value: Value| {
        properties.insert(name.to_owned(), value);
    };
    put("agent", json!(declared.agent.to_string()));
    put("named", json!(named));
    put("self_opened", json!(!plan.opening_agents.is_empty()));
    put("unbounded", json!(declared.actions.is_none()));
    put("depth", json!(plan.depth));
    put("may_delegate", json!(declared.may_delegate));
    put("expires_in", json!(left.max(0) / 1_000_000));
    for (name, set) in [
        ("actions", &declared.actions),
        ("sinks", &declared.sinks),
        ("data_classes", &declared.data_classes),
    ] {
        if let Some(set) = set {
            put(name, json!(set));
        }
    }
    if let Some(person) = &declared.on_behalf_of {
        put("on_behalf_of", json!(person.to_string()));
    }
    if let Some(template) = &declared.template {
        put("template", json!(template));
    }
    let mut context = Map::new();
    // Whoever opens a task is told of no obligation.
    context.insert(Question::OBLIGATIONS.to_owned(), json!([]));
    if let Some(parent) = declared.parent {
        context.insert(Question::TASK.to_owned(), json!(parent));
    }
    Ok(Question {
        action: Asked {
            name: Question::OPEN_TASK.to_owned(),
            properties,
        },
        context,
        resource: Resource {
            id: declared.purpose.to_string(),
            properties: Map::new(),
            kind: Question::PURPOSE.to_owned(),
        },
        subject: Subject {
            id: plan.asks.id.to_string(),
            properties: Map::new(),
            kind: plan.asks.kind.to_string(),
        },
    })
}

/// Says that the tenant's policies do not permit a task.
fn denied(decided: &Decided) -> Problem {
    let decision = decided.decision();
    let policies = decision.determining.iter();
    let policies: Vec<String> = policies.map(|policy| format!("`{policy}`")).collect();
    let because = if policies.is_empty() {
        String::new()
    } else {
        format!(", because of {}", policies.join(", "))
    };
    let reason = decision.reason;
    let detail = match reason {
        Reason::UnknownAction | Reason::UnknownResourceType | Reason::ActionNotApplicable => {
            "the schema does not say who may open tasks: declare `entity Purpose;` and `action open_task appliesTo { \
             principal: [..], resource: [Purpose], context: {..} };`, and permit it"
                .to_owned()
        }
        _ => format!("{}{because}", reason.sentence()),
    };
    Problem::new(Kind::TASK_DENIED, detail)
        .with("decision", json!(decided.id()))
        .with("reason", json!(reason))
        .with("policies", json!(decision.determining))
        .with("limit_met", json!(decision.limit))
}

/// Puts a narrower task in the place of one, unless the tenant changed meanwhile: then everything is looked at again.
async fn narrow_once(
    app: &Arc<App>,
    caller: &Caller,
    id: TaskId,
    body: TaskBody,
    named: Option<&Named>,
) -> Result<(Revision, Opened), Problem> {
    let tenant = caller.tenant;
    let stored = app.store.task(tenant, id).await?;
    let stored = stored.ok_or_else(super::absent)?;
    let agent = &stored.task.declaration.agent;
    let new_id = TaskId::from_uuid(app.clock.id());
    let opened = Opened {
        id: new_id,
        decision: stored.decision,
    };
    let mut tries = 1;
    loop {
        let snapshot = app.snapshot(caller).await?;
        let own = is_principal_of(&snapshot, &caller.principal.name, agent);
        let act = Act::on(Action::NarrowTask, &id)
            .own(own)
            .with("agent", json!(agent))
            .with("replaced_by", json!(new_id));
        // Before anything is said of the task.
        let mut record = app.permit(caller, act).await?;
        let made = narrower(&snapshot, id, body.clone(), app.now())?;
        let details = &mut record.details;
        details.insert("digest".to_owned(), json!(made.digest()));
        let new = NewTask {
            id: new_id,
            declaration: &made,
            decision: stored.decision,
            idle_timeout: stored.idle_timeout,
            opened_by: &caller.principal.name,
            opening_agents: &[],
            replaces: Some(id),
            // A kill, or a suspension, that this replica has not heard of yet.
            checked: Some(snapshot.revision()),
        };
        let answer = Answer::of(named, &opened)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        match app.store.insert_task(tenant, new, change).await {
            Ok(revision) => {
                principals::log(caller, &record, revision);
                return Ok((revision, opened));
            }
            Err(Error::Moved { head }) if tries < TRIES => {
                tries += 1;
                app.reached(tenant, head).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns what is declared of the task that stands in the place of another, which must work and be stopped by nothing.
fn narrower(
    snapshot: &Snapshot,
    id: TaskId,
    body: TaskBody,
    now: Timestamp,
) -> Result<Declaration, Problem> {
    let (task, state) = facts::standing(snapshot.live(), id, now);
    let task = match (task, state) {
        (Some(task), TaskState::Active) => task,
        (_, state) => return Err(super::over(state)),
    };
    if let Some(kill) = facts::stopped(snapshot, &task, now) {
        let detail = "a kill stops the task; what it stops goes on when two people lift it, and not under another id";
        return Err(Problem::new(Kind::CONFLICT, detail)
            .with("reason", json!(Reason::Killed))
            .with("kill", json!(kill.id)));
    }
    let before = &task.declaration;
    let may_delegate = body.may_delegate.unwrap_or(before.may_delegate);
    let mut made = body.declare(before.agent.clone(), now, None, Some(before))?;
    made.parent = before.parent;
    made.template.clone_from(&before.template);
    made.intent.clone_from(&before.intent);
    made.may_delegate = may_delegate;
    made.check()?;
    // What is not said stays; to hand on can only be given up.
    let bound = Declaration {
        may_delegate: before.may_delegate || !made.may_delegate,
        ..before.clone()
    };
    within(snapshot, &made, task.depth, (Bound::Task, &bound))?;
    Ok(made)
}
