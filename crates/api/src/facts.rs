//! Facts: what Remit knows of one question by itself, gathered from the snapshot, the question and the time.
//!
//! Pure: nothing is read but what the snapshot of one revision carries, so that a decision sees exactly one of them
//! (INV-5). What is gathered is recorded with the decision, and a decision that is made again uses what was recorded.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use remit_core::{
    AgentFacts, ApprovalFacts, ApprovalState, CallFacts, EntityUid, Facts, Hop, Kill, KillTarget,
    Label, PrincipalName, Question, Standing, Task, TaskFacts, TaskId, TaskState, Timestamp, Tool,
    trusted_sinks,
};
use remit_engine::{Live, Registry, Snapshot};

mod approval;
mod exceptions;

use approval::Presented;
pub(crate) use approval::currency;

/// The most tasks of one chain: a task and the eight above it.
const LONGEST_CHAIN: usize = 9;

/// A task and those above it, nearest first, and how the nearest stands, all of them and the time considered.
struct Chain {
    tasks: Vec<Arc<Task>>,
    state: TaskState,
}

/// Returns a task that is not over by itself, and how it stands, those above it and the time considered.
pub(crate) fn standing(live: &Live, id: TaskId, now: Timestamp) -> (Option<Arc<Task>>, TaskState) {
    let chain = Chain::of(live, id, now);
    (chain.tasks.into_iter().next(), chain.state)
}

/// Returns the kill that stops a task: itself or one above it, its agent or one of theirs, a model, the tenant, everything.
pub(crate) fn stopped(snapshot: &Snapshot, task: &Task, now: Timestamp) -> Option<Kill> {
    let live = snapshot.live();
    let chain = Chain::of(live, task.id, now);
    let behind = chain.tasks.iter().map(|task| {
        let agent = &task.declaration.agent;
        (agent, live.agent(agent).map(|(agent, _)| &agent.model))
    });
    let stops = |kill: &&Kill| match &kill.target {
        KillTarget::Everything | KillTarget::Tenant => true,
        KillTarget::Agent { agent } => behind.clone().any(|(one, _)| one == agent),
        KillTarget::Task { task } => chain.tasks.iter().any(|one| one.id == *task),
        KillTarget::Model { model } => behind.clone().any(|(_, one)| one == Some(model)),
        KillTarget::Tool { .. } => false,
    };
    live.kills().iter().find(stops).cloned()
}

/// Adds to `plain`, which says when it is asked, everything that is known of what is asked, and by whom.
///
/// An action has several names (`pay`, `Action::"pay"`); everything here knows it by its id. Types have one name each.
pub(crate) fn gather(
    snapshot: &Snapshot,
    plain: Facts,
    by: &PrincipalName,
    question: &Question,
) -> Facts {
    let live = snapshot.live();
    let now = plain.now;
    let subject = EntityUid::new(&question.subject.kind, &question.subject.id);
    let (action, question) = by_its_id(snapshot, question);
    let question = &*question;
    let opening = Question::opens_task(action, &question.resource.kind);
    let tool = tool_of(snapshot, action, question);
    let mut own = live.agents_of(by).peekable();
    // Who may have a task opened, and for which agent, is decided where tasks are opened.
    let subject_not_yours = !opening && own.peek().is_some() && own.all(|agent| *agent != subject);
    let chain = question.task().map(|id| Chain::of(live, id, now));
    let mine = chain.as_ref().filter(|chain| chain.is_of(&subject));
    let labels = mine.filter(|_| !opening).map(Chain::labels);
    let call =
        (tool.is_some() || chain.is_some()).then(|| CallFacts::of(question, tool, labels.as_ref()));
    let hops = mine.map_or_else(Vec::new, |chain| chain.hops(snapshot, call.as_ref(), now));
    let task = question.task().zip(chain.as_ref()).map(|(id, chain)| {
        let state = match chain.tasks.first() {
            Some(task) if task.declaration.agent != subject => TaskState::NotYours,
            _ => chain.state,
        };
        task_facts(
            id,
            state,
            mine.and_then(|chain| chain.tasks.first()),
            call.as_ref(),
        )
    });
    let agent = agent_of(snapshot, &subject, question.build(), now);
    let kill = kill_of(
        snapshot,
        (action, question),
        &subject,
        (&agent, &hops),
        (tool, chain.as_ref()),
    );
    let asked = exceptions::Asked {
        action,
        environment: &plain.environment,
        question,
        subject: &subject,
        tasks: chain.as_ref().map_or(&[], |chain| &chain.tasks),
    };
    let exceptions = exceptions::of(live, &asked, now);
    let presented = Presented {
        question,
        call: call.as_ref(),
        tool,
        environment: &plain.environment,
        now,
    };
    let approval = presented.facts(snapshot);
    let valid = |approval: &ApprovalFacts| approval.state == ApprovalState::Valid;
    Facts {
        agent,
        approved: approval.as_ref().map_or(plain.approved, valid),
        approval,
        call,
        exceptions,
        hops,
        kill,
        subject_not_yours,
        task,
        tool: tool.cloned(),
        ..plain
    }
}

/// Returns the entry of the tool that is called: by the name of the action, or by the id of a resource that is a tool.
fn tool_of<'a>(snapshot: &'a Snapshot, action: &str, question: &Question) -> Option<&'a Tool> {
    let live = snapshot.live();
    let resource = || live.tool(&question.resource.id);
    live.tool(action)
        .or_else(|| resource().filter(|_| is_tool(snapshot, question)))
}

/// Whether the resource is of a type whose entities are tools.
fn is_tool(snapshot: &Snapshot, question: &Question) -> bool {
    snapshot.registry_of(&question.resource.kind) == Some(Registry::Tool)
}

/// Returns the id of the action of a question, and the question with the action in its one spelling.
pub(crate) fn by_its_id<'q>(
    snapshot: &'q Snapshot,
    question: &'q Question,
) -> (&'q str, Cow<'q, Question>) {
    let Some((id, spelling)) = snapshot.action_of(question) else {
        // Nothing of this name is there: it is denied.
        return (&question.action.name, Cow::Borrowed(question));
    };
    if spelling == question.action.name {
        return (id, Cow::Borrowed(question));
    }
    let mut plainly = question.clone();
    plainly.action.name = spelling.into_owned();
    (id, Cow::Owned(plainly))
}

/// Returns what is known of an agent, where subjects of its type are registered.
pub(crate) fn agent_of(
    snapshot: &Snapshot,
    uid: &EntityUid,
    build: Option<&str>,
    now: Timestamp,
) -> Option<AgentFacts> {
    if snapshot.registry_of(&uid.kind) != Some(Registry::Agent) {
        return None;
    }
    let live = snapshot.live();
    let presented_build = build.map(Into::into);
    Some(match live.agent(uid) {
        Some((agent, revision)) => AgentFacts {
            standing: agent.standing(now, live.is_owner(&agent.owner)),
            presented_build,
            registered: Some(agent.clone()),
            revision: Some(*revision),
        },
        None => AgentFacts {
            standing: Standing::Unregistered,
            presented_build,
            registered: None,
            revision: None,
        },
    })
}

/// Returns what is known of a task; of one that is not there, or another's, nothing but that.
fn task_facts(
    id: TaskId,
    state: TaskState,
    task: Option<&Arc<Task>>,
    call: Option<&CallFacts>,
) -> TaskFacts {
    TaskFacts {
        declaration: task.map(|task| task.declaration.clone()),
        depth: task.map_or(0, |task| task.depth),
        digest: task.map(|task| task.digest),
        exhausted: None,
        id,
        labels: task.map_or_else(BTreeSet::new, |task| task.labels.keys().cloned().collect()),
        state,
        trusted_sinks: task.map_or_else(BTreeSet::new, |task| {
            let named = call.map(|call| call.sinks.iter().chain(&call.links));
            trusted_sinks(
                &task.declaration,
                &task.trusted,
                named.into_iter().flatten(),
            )
        }),
    }
}

/// Returns the first kill that stops a question.
fn kill_of(
    snapshot: &Snapshot,
    (action, question): (&str, &Question),
    subject: &EntityUid,
    (agent, hops): (&Option<AgentFacts>, &[Hop]),
    (tool, chain): (Option<&Tool>, Option<&Chain>),
) -> Option<Kill> {
    let live = snapshot.live();
    if live.kills().is_empty() {
        return None;
    }
    let driven_by = |facts: &Option<AgentFacts>, model: &str| {
        let registered = facts.as_ref().and_then(|facts| facts.registered.as_ref());
        registered.is_some_and(|agent| agent.model == model)
    };
    let stops = |kill: &&Kill| match &kill.target {
        KillTarget::Everything | KillTarget::Tenant => true,
        KillTarget::Agent { agent } => {
            agent == subject || hops.iter().any(|hop| hop.principal == *agent)
        }
        KillTarget::Task { task } => {
            question.task() == Some(*task)
                || chain.is_some_and(|chain| chain.tasks.iter().any(|one| one.id == *task))
        }
        KillTarget::Tool { tool: killed } => {
            // Whatever the catalogue says of it, or does not say any more.
            tool.is_some_and(|tool| tool.name == *killed)
                || action == killed.as_str()
                || (is_tool(snapshot, question) && question.resource.id == *killed)
        }
        KillTarget::Model { model } => {
            driven_by(agent, model) || hops.iter().any(|hop| driven_by(&hop.agent, model))
        }
    };
    live.kills().iter().find(stops).cloned()
}

// === impl Chain ===

impl Chain {
    /// Finds a task and those above it, and how the task stands by all of them at `now`.
    fn of(live: &Live, id: TaskId, now: Timestamp) -> Self {
        let mut tasks = Vec::new();
        let mut state = TaskState::Active;
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(task) = live.task(id) else {
                state = worse(state, live.ended(id).unwrap_or(TaskState::Unknown));
                break;
            };
            if tasks.len() == LONGEST_CHAIN {
                state = TaskState::Unknown;
                break;
            }
            state = worse(state, task.state);
            if now >= task.declaration.expires_at {
                state = worse(state, TaskState::Expired);
            }
            next = task.declaration.parent;
            tasks.push(Arc::clone(task));
        }
        Self { tasks, state }
    }

    /// Whether the nearest task is there and an agent's.
    fn is_of(&self, agent: &EntityUid) -> bool {
        let task = self.tasks.first();
        task.is_some_and(|task| task.declaration.agent == *agent)
    }

    /// Returns the labels that every task of the chain has.
    ///
    /// Not those of the nearest alone: one above it may have been endorsed since, and is touched again.
    fn labels(&self) -> BTreeSet<Label> {
        let mut tasks = self.tasks.iter();
        let nearest = tasks.next().map(|task| &task.labels);
        let mut labels: BTreeSet<Label> = nearest
            .into_iter()
            .flatten()
            .map(|(label, _)| label.clone())
            .collect();
        for task in tasks {
            labels.retain(|label| task.labels.contains_key(label));
        }
        labels
    }

    /// Returns everybody behind the agent that asks, nearest first: the agents that handed the task on, then the person
    /// for whom it is done.
    fn hops(&self, snapshot: &Snapshot, call: Option<&CallFacts>, now: Timestamp) -> Vec<Hop> {
        let live = snapshot.live();
        let mut hops: Vec<Hop> = Vec::new();
        for task in self.tasks.iter().skip(1) {
            let agent = &task.declaration.agent;
            let state = Self::of(live, task.id, now).state;
            hops.push(Hop {
                agent: agent_of(snapshot, agent, None, now),
                principal: agent.clone(),
                task: Some(task_facts(task.id, state, Some(task), call)),
            });
        }
        let root = self.tasks.last();
        let person = root.and_then(|task| task.declaration.on_behalf_of.clone());
        hops.extend(person.map(|principal| Hop {
            agent: None,
            principal,
            task: None,
        }));
        hops
    }
}

/// Returns the state that leaves less hope.
fn worse(one: TaskState, other: TaskState) -> TaskState {
    let rank = |state: TaskState| match state {
        TaskState::Active => 0_u8,
        TaskState::Suspended => 1,
        TaskState::Expired => 2,
        TaskState::Completed => 3,
        TaskState::Revoked => 4,
        TaskState::Unknown => 5,
        TaskState::NotYours => 6,
    };
    if rank(other) > rank(one) { other } else { one }
}
