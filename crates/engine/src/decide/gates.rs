//! Gates: what denies whatever the policies say.

use remit_core::{
    Dimension, Facts, Limit, MOST_SINKS, Note, Question, Reason, Standing, TaskFacts, TaskState,
};

use crate::Snapshot;
use crate::schema::Registry;
use crate::shape::Scope;

/// A gate that is shut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gate {
    /// Why it is shut.
    pub(super) reason: Reason,
    /// Which limit was met.
    pub(super) limit: Option<Limit>,
}

// === impl Gate ===

impl Gate {
    /// A gate without a limit.
    pub(super) fn of(reason: Reason) -> Self {
        Self {
            reason,
            limit: None,
        }
    }

    fn met(reason: Reason, dimension: Dimension) -> Self {
        Self {
            reason,
            limit: Some(Limit::of(dimension)),
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Finds the first gate that is shut before the question is even shaped: a kill, whose
    /// question it is, the agent, the task, its window.
    ///
    /// A `hop` is asked about the task that it handed on, not about the one that the question names.
    pub(super) fn gate(&self, question: &Question, facts: &Facts, hop: bool) -> Option<Gate> {
        if facts.kill.is_some() {
            return Some(Gate::of(Reason::Killed));
        }
        if facts.subject_not_yours {
            return Some(Gate::of(Reason::SubjectNotYours));
        }
        let registered = self.registry_of(&question.subject.kind) == Some(Registry::Agent);
        let standing = match &facts.agent {
            // One that nobody looked up is not known to be in order.
            None => registered.then_some(Standing::Unregistered),
            Some(agent) if agent.registered.is_none() && agent.standing == Standing::Active => {
                Some(Standing::Unregistered)
            }
            Some(agent) => Some(agent.standing),
        };
        if let Some(reason) = standing.and_then(of_standing) {
            return Some(Gate::of(reason));
        }
        if !hop && misses_task(question, facts) {
            return Some(Gate::of(Reason::TaskUnknown));
        }
        let task = facts.task.as_ref()?;
        of_task(question, facts, task)
    }

    /// Finds the gate that is shut for a shaped question in a task: its scope, then its budgets.
    pub(super) fn inner_gate(facts: &Facts, scope: Scope) -> Option<Gate> {
        let task = facts.task.as_ref()?;
        let outside = task
            .declaration
            .as_ref()
            .and_then(|declared| scope.exceeded(declared));
        let outside = outside.map(|dimension| Gate::met(Reason::OutsideTask, dimension));
        let exhausted = || Some(Gate::met(Reason::BudgetExhausted, task.exhausted?));
        outside.or_else(exhausted)
    }
}

/// Whether a question is one of a task that nobody looked up, or of another than was looked up.
fn misses_task(question: &Question, facts: &Facts) -> bool {
    let asked = question.task();
    asked.is_some() && asked != facts.task.as_ref().map(|task| task.id)
}

/// Denies a call that names more than a call may, or whose amount cannot be read, with a note of it.
pub(super) fn unreadable(question: &Question, facts: &Facts, notes: &mut Vec<Note>) -> bool {
    let mut blame = |member: String, expected: String| {
        notes.push(Note::Mistyped { member, expected });
        true
    };
    if let Some(call) = &facts.call
        && (call.sinks.len() > MOST_SINKS || call.links.len() > MOST_SINKS)
    {
        let expected = format!("at most {MOST_SINKS} sinks and {MOST_SINKS} links");
        return blame("action.properties".to_owned(), expected);
    }
    let Some(tool) = &facts.tool else {
        return false;
    };
    match (&tool.amount, tool.amount_of(&question.action.properties)) {
        (Some(amount), Err(error)) => blame(
            format!("action.properties.{}", amount.argument),
            format!(
                "an amount with at most {} decimal places: {error}",
                amount.scale
            ),
        ),
        _ => false,
    }
}

fn of_standing(standing: Standing) -> Option<Reason> {
    match standing {
        Standing::Active => None,
        Standing::Unregistered => Some(Reason::AgentUnregistered),
        Standing::Suspended => Some(Reason::AgentSuspended),
        Standing::Expired => Some(Reason::AgentExpired),
        Standing::Ownerless => Some(Reason::AgentOwnerless),
        Standing::ReviewOverdue => Some(Reason::AgentReviewOverdue),
    }
}

fn of_task(question: &Question, facts: &Facts, task: &TaskFacts) -> Option<Gate> {
    let state = match task.state {
        TaskState::Active => None,
        TaskState::Suspended => Some(Reason::TaskSuspended),
        TaskState::Completed => Some(Reason::TaskCompleted),
        TaskState::Revoked => Some(Reason::TaskRevoked),
        TaskState::Expired => Some(Reason::TaskExpired),
        TaskState::Unknown => Some(Reason::TaskUnknown),
        TaskState::NotYours => Some(Reason::TaskNotYours),
    };
    if let Some(reason) = state {
        return Some(Gate::of(reason));
    }
    let Some(declared) = &task.declaration else {
        return Some(Gate::of(Reason::TaskUnknown));
    };
    let (agent, subject) = (&declared.agent, &question.subject);
    if agent.kind != subject.kind || agent.id != subject.id {
        return Some(Gate::of(Reason::TaskNotYours));
    }
    if facts.now >= declared.expires_at {
        return Some(Gate::of(Reason::TaskExpired));
    }
    let (weekday, minute) = (facts.now.weekday(), facts.now.minute_of_day());
    let inside = declared
        .window
        .as_ref()
        .is_none_or(|window| window.contains(weekday, minute));
    (!inside).then(|| Gate::met(Reason::TaskOutsideWindow, Dimension::Window))
}
