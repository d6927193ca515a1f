//! Live facts: the agents, tools, tasks and kills of one revision, which the snapshot of that revision carries.

use std::sync::Arc;

use imbl::{HashMap, HashSet};
use remit_core::{
    Agent, Approval, ApprovalId, EntityUid, Exception, Kill, PrincipalName, Revision, Task, TaskId,
    TaskState, Tool,
};
use smol_str::SmolStr;

/// What Remit has registered of a tenant; immutable, and cheap to clone and to change.
///
/// A part of the snapshot, so that one decision sees exactly one revision of it (INV-5). It decides nothing itself:
/// facts are made of it, and those are recorded.
#[derive(Debug, Clone, Default)]
pub struct Live {
    agents: HashMap<EntityUid, Arc<(Agent, Revision)>>,
    approvals: HashMap<ApprovalId, Arc<Approval>>,
    ended: HashMap<TaskId, TaskState>,
    exceptions: Arc<[Exception]>,
    kills: Arc<[Kill]>,
    owners: HashSet<PrincipalName>,
    /// The agents that call Remit as each principal.
    principals: HashMap<PrincipalName, HashSet<EntityUid>>,
    tasks: HashMap<TaskId, Arc<Task>>,
    tools: HashMap<SmolStr, Arc<Tool>>,
}

/// What became different between two revisions, to be applied in any order of its members.
#[derive(Debug, Clone, Default)]
pub struct LiveChange {
    /// Agents put in, each with the revision of its entry.
    pub agents: Vec<(Agent, Revision)>,
    /// Approvals that can be used, put in.
    pub approvals: Vec<Approval>,
    /// Approvals that cannot be used any more: used up, over, withdrawn.
    pub approvals_removed: Vec<ApprovalId>,
    /// Tasks that ended: their final state, kept for a while so that a denial can say it.
    pub ended: Vec<(TaskId, TaskState)>,
    /// Ended tasks that need not be told apart any more from those that never were.
    pub forgotten: Vec<TaskId>,
    /// All exceptions that are confirmed and not ended, where any changed; whether their time is over is asked of them.
    pub exceptions: Option<Vec<Exception>>,
    /// All kills in force, where any changed.
    pub kills: Option<Vec<Kill>>,
    /// All persons who can answer for an agent, where any changed.
    pub owners: Option<Vec<PrincipalName>>,
    /// Tasks that are not over, put in.
    pub tasks: Vec<Task>,
    /// Tools put in.
    pub tools: Vec<Tool>,
    /// Tools taken out.
    pub tools_removed: Vec<SmolStr>,
}

// === impl Live ===

impl Live {
    /// Returns it with a change applied; what did not change is shared.
    #[must_use]
    pub fn with(&self, change: LiveChange) -> Self {
        let mut next = self.clone();
        for (agent, revision) in change.agents {
            let uid = agent.uid.clone();
            if let Some(name) = agent.principal.clone() {
                next.principals.entry(name).or_default().insert(uid.clone());
            }
            let now = agent.principal.clone();
            let before = next.agents.insert(uid.clone(), Arc::new((agent, revision)));
            let before = before.and_then(|entry| entry.0.principal.clone());
            if let Some(name) = before.filter(|name| now.as_ref() != Some(name))
                && let Some(agents) = next.principals.get_mut(&name)
            {
                agents.remove(&uid);
            }
        }
        for task in change.tasks {
            next.ended.remove(&task.id);
            next.tasks.insert(task.id, Arc::new(task));
        }
        for (id, state) in change.ended {
            next.tasks.remove(&id);
            next.ended.insert(id, state);
        }
        for id in change.forgotten {
            next.ended.remove(&id);
        }
        for name in change.tools_removed {
            next.tools.remove(&name);
        }
        for tool in change.tools {
            next.tools.insert(tool.name.clone(), Arc::new(tool));
        }
        for approval in change.approvals {
            next.approvals.insert(approval.id, Arc::new(approval));
        }
        // After those: one that was withdrawn between the pages that were read is in both.
        for id in change.approvals_removed {
            next.approvals.remove(&id);
        }
        if let Some(exceptions) = change.exceptions {
            next.exceptions = exceptions.into();
        }
        if let Some(kills) = change.kills {
            next.kills = kills.into();
        }
        if let Some(owners) = change.owners {
            next.owners = owners.into_iter().collect();
        }
        next
    }

    /// Returns a registered agent and the revision of its entry.
    pub fn agent(&self, uid: &EntityUid) -> Option<&(Agent, Revision)> {
        self.agents.get(uid).map(AsRef::as_ref)
    }

    /// Returns the agents that call Remit as this principal, retired ones included.
    pub fn agents_of(&self, principal: &PrincipalName) -> impl Iterator<Item = &EntityUid> {
        self.principals.get(principal).into_iter().flatten()
    }

    /// Whether somebody is there who can answer for an agent: an enabled person.
    pub fn is_owner(&self, name: &PrincipalName) -> bool {
        self.owners.contains(name)
    }

    /// Returns everybody who can answer for an agent.
    pub fn owners(&self) -> impl Iterator<Item = &PrincipalName> {
        self.owners.iter()
    }

    /// Returns a tool of the catalogue.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name).map(AsRef::as_ref)
    }

    /// Returns a task that is not over by itself; its ancestors or the time may have ended it.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// Returns an approval that could be used at this revision; its time may be over, and it may have been used since.
    pub fn approval(&self, id: ApprovalId) -> Option<&Arc<Approval>> {
        self.approvals.get(&id)
    }

    /// Returns how many approvals can be used.
    pub fn approval_count(&self) -> usize {
        self.approvals.len()
    }

    /// Returns every exception that is confirmed and not ended; the time of some may be over.
    pub fn exceptions(&self) -> &[Exception] {
        &self.exceptions
    }

    /// Returns how a task ended that did so lately.
    pub fn ended(&self, id: TaskId) -> Option<TaskState> {
        self.ended.get(&id).copied()
    }

    /// Whether nothing is stopped, no exception is made and no tool is in the catalogue.
    pub fn is_quiet(&self) -> bool {
        self.kills.is_empty() && self.exceptions.is_empty() && self.tools.is_empty()
    }

    /// Returns every kill in force.
    pub fn kills(&self) -> &[Kill] {
        &self.kills
    }

    /// Returns how many agents are registered, retired ones included.
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// Returns how many tools the catalogue has.
    pub fn tool_count(&self) -> usize {
        self.tools.len()
    }

    /// Returns how many tasks are not over by themselves.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Returns every task that is not over by itself.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use remit_core::{ApprovalScope, Bound, ContentHash, Timestamp};

    use super::*;

    /// One page said that it can be used, and a later one that it cannot any more.
    #[test]
    fn what_was_withdrawn_while_it_was_read_is_gone() {
        let approval = Approval {
            approvers: BTreeSet::new(),
            approved_until: Timestamp::from_micros(1),
            bound: Bound {
                action: "pay".to_owned(),
                bundle: ContentHash::of(b"bundle"),
                currency: None,
                digest: ContentHash::of(b"question"),
                environment: "live".to_owned(),
                resource: EntityUid::new("Payee", "acme"),
                sinks: BTreeSet::new(),
                subject: EntityUid::new("Agent", "a"),
                task: None,
                violations: BTreeSet::new(),
            },
            id: ApprovalId::NIL,
            scope: ApprovalScope::Once,
        };
        let change = LiveChange {
            approvals: vec![approval],
            ..LiveChange::default()
        };
        let usable = Live::default().with(change.clone());
        assert_eq!(usable.approval_count(), 1);
        let both = Live::default().with(LiveChange {
            approvals_removed: vec![ApprovalId::NIL],
            ..change
        });
        assert_eq!(both.approval_count(), 0);
    }
}
