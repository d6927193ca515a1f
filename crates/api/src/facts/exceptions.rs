//! The exceptions in whose scope a question is, at the moment it is asked.

use std::sync::Arc;

use remit_core::{EntityUid, ExceptionFacts, ExceptionScope, Question, Task, Timestamp};
use remit_engine::Live;

/// What a scope is held against.
pub(super) struct Asked<'a> {
    /// The id of the action.
    pub(super) action: &'a str,
    /// The environment of the key that asks.
    pub(super) environment: &'a str,
    /// What is asked.
    pub(super) question: &'a Question,
    /// Who acts.
    pub(super) subject: &'a EntityUid,
    /// The task in which it is asked and those above it.
    pub(super) tasks: &'a [Arc<Task>],
}

/// Returns what a question is told of the exceptions that are for it at `now`, in the order of their ids.
///
/// One whose time is over is for nothing, to the microsecond, and so is one for which nobody answers any more.
pub(super) fn of(live: &Live, asked: &Asked<'_>, now: Timestamp) -> Vec<ExceptionFacts> {
    let found = live.exceptions().iter().filter(|exception| {
        now < exception.until
            && live.is_owner(&exception.owner)
            && asked.is_within(&exception.scope)
    });
    let mut found: Vec<ExceptionFacts> = found
        .map(|exception| ExceptionFacts {
            agent: exception.scope.agent.clone(),
            id: exception.id,
            policy: exception.policy.clone(),
            until: exception.until,
        })
        .collect();
    found.sort_by_key(|exception| exception.id);
    found
}

// === impl Asked ===

impl Asked<'_> {
    /// Whether every member of a scope is fulfilled; one without members is for nothing.
    fn is_within(&self, scope: &ExceptionScope) -> bool {
        let ExceptionScope {
            action,
            agent,
            environment,
            resource,
            task,
        } = scope;
        let resource_is = |uid: &EntityUid| {
            let resource = &self.question.resource;
            uid.kind == resource.kind.as_str() && uid.id == resource.id.as_str()
        };
        !scope.is_empty()
            && action.as_ref().is_none_or(|action| action == self.action)
            && agent.as_ref().is_none_or(|agent| agent == self.subject)
            && environment
                .as_ref()
                .is_none_or(|environment| environment == self.environment)
            && resource.as_ref().is_none_or(resource_is)
            && task.is_none_or(|task| self.tasks.iter().any(|one| one.id == task))
    }
}
