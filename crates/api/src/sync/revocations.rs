//! What an enforcement point may have cached by and is different now, told after it came into force here.
//!
//! Kept in memory, the newest of a tenant: a replica that restarts, or a reader that is too far behind, has a gap, and who
//! has a gap drops what it cached. What is told is what `sync` installs, so that nobody is told before a question that is
//! asked here is decided by it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use remit_core::{
    ApprovalId, ContentHash, EntityUid, ExceptionId, KeyId, KillId, KillTarget, PolicyId,
    PrincipalName, Revision, TaskId, TaskState, TenantId,
};
use remit_engine::{Live, LiveChange, Snapshot};
use serde::Serialize;
use tokio::sync::watch;

/// The most changes of one tenant that are kept.
const MOST: usize = 1_024;

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Changed {
    /// The policies, the schema or the entities of the bundle.
    Bundle {
        /// The content of the new one.
        bundle: ContentHash,
    },
    /// Live entities.
    Entities,
    /// An agent that was registered, or what is registered of it.
    Agent { agent: EntityUid },
    /// A tool of the catalogue.
    Tool { tool: String },
    /// A task that was there: what it may, what it has touched, or how it stands.
    Task { task: TaskId, state: TaskState },
    /// Something must stop.
    KillSet { kill: KillId, target: KillTarget },
    /// Something may go on.
    KillLifted { kill: KillId, target: KillTarget },
    /// An approval cannot be used any more: it is used up, over or withdrawn.
    ApprovalEnded { approval: ApprovalId },
    /// A policy does not count in a scope.
    ExceptionInForce {
        exception: ExceptionId,
        policy: PolicyId,
    },
    /// It does again.
    ExceptionEnded {
        exception: ExceptionId,
        policy: PolicyId,
    },
    /// Somebody does not answer for agents or exceptions any more.
    PrincipalDisabled { principal: PrincipalName },
    /// An API key does not work any more.
    KeyRevoked { key: KeyId },
}

/// Everything that came into force here with one revision.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Batch {
    /// The revision.
    pub(crate) revision: Revision,
    /// What is different, in no order.
    pub(crate) changes: Vec<Changed>,
}

/// What there is for a reader.
#[derive(Debug)]
pub(crate) enum Read {
    /// Everything after the revision that was asked about, up to another.
    All(Vec<Arc<Batch>>, Revision),
    /// Not everything is kept that came after it.
    Gap(Revision),
}

/// The newest changes of every tenant.
#[derive(Debug, Default)]
pub(crate) struct Revocations(Mutex<HashMap<TenantId, Ring>>);

/// The newest changes of one tenant.
#[derive(Debug)]
struct Ring {
    /// Everything after this revision is kept.
    floor: Revision,
    batches: VecDeque<Arc<Batch>>,
    /// How many changes the batches have.
    size: usize,
    /// What a load has found since a revision and is not in force yet.
    found: Option<(Revision, Vec<Changed>)>,
    /// The keys that ceased to work since the last batch.
    keys: Vec<KeyId>,
    /// The revision that is in force.
    reached: watch::Sender<Revision>,
}

/// Returns what a change of what is registered makes different of what was there before.
///
/// A task that is new is none: nothing was permitted in it. Where several revisions are taken at once, something may have come
/// and gone again in between, or have been permitted by another replica: then tasks that are new are told all the same, and
/// `ended` has the exceptions that were ended.
pub(super) fn of(
    before: &Live,
    change: &LiveChange,
    ended: Option<&Vec<(ExceptionId, PolicyId)>>,
) -> Vec<Changed> {
    let mut found = Vec::new();
    let agents = change.agents.iter().map(|(agent, _)| Changed::Agent {
        agent: agent.uid.clone(),
    });
    found.extend(agents);
    let put = change.tools.iter().map(|tool| tool.name.to_string());
    let tools = put.chain(change.tools_removed.iter().map(ToString::to_string));
    found.extend(tools.map(|tool| Changed::Tool { tool }));
    let changed = change.tasks.iter().map(|task| (task.id, task.state));
    let tasks = changed.chain(change.ended.iter().copied());
    let known = tasks.filter(|(id, _)| ended.is_some() || before.task(*id).is_some());
    found.extend(known.map(|(task, state)| Changed::Task { task, state }));
    let removed = change.approvals_removed.iter();
    found.extend(removed.map(|id| Changed::ApprovalEnded { approval: *id }));
    kills(before, change, &mut found);
    exceptions(before, change, &mut found);
    for (exception, policy) in ended.into_iter().flatten() {
        let (exception, policy) = (*exception, policy.clone());
        let told = Changed::ExceptionEnded { exception, policy };
        if !found.contains(&told) {
            found.push(told);
        }
    }
    if let Some(owners) = &change.owners {
        let gone = before.owners().filter(|name| !owners.contains(name));
        found.extend(gone.map(|name| Changed::PrincipalDisabled {
            principal: name.clone(),
        }));
    }
    found
}

fn kills(before: &Live, change: &LiveChange, found: &mut Vec<Changed>) {
    let Some(after) = &change.kills else {
        return;
    };
    let before = before.kills();
    let set = after
        .iter()
        .filter(|kill| before.iter().all(|other| other.id != kill.id));
    found.extend(set.map(|kill| Changed::KillSet {
        kill: kill.id,
        target: kill.target.clone(),
    }));
    let lifted = before
        .iter()
        .filter(|kill| after.iter().all(|other| other.id != kill.id));
    found.extend(lifted.map(|kill| Changed::KillLifted {
        kill: kill.id,
        target: kill.target.clone(),
    }));
}

fn exceptions(before: &Live, change: &LiveChange, found: &mut Vec<Changed>) {
    let Some(after) = &change.exceptions else {
        return;
    };
    let before = before.exceptions();
    let new = after
        .iter()
        .filter(|one| before.iter().all(|other| other.id != one.id));
    found.extend(new.map(|one| Changed::ExceptionInForce {
        exception: one.id,
        policy: one.policy.clone(),
    }));
    let gone = before
        .iter()
        .filter(|one| after.iter().all(|other| other.id != one.id));
    found.extend(gone.map(|one| Changed::ExceptionEnded {
        exception: one.id,
        policy: one.policy.clone(),
    }));
}

// === impl Revocations ===

impl Revocations {
    /// Notes what a load found that is different since a revision; it takes the place of what the same load found before.
    pub(super) fn found(&self, tenant: TenantId, since: Revision, changes: Vec<Changed>) {
        if let Some(ring) = self.lock().get_mut(&tenant) {
            ring.found = Some((since, changes));
        }
    }

    /// Notes keys that ceased to work; they are told with the revision that brought it.
    pub(super) fn keys(&self, gone: Vec<(TenantId, KeyId)>) {
        let mut rings = self.lock();
        for (tenant, key) in gone {
            if let Some(ring) = rings.get_mut(&tenant) {
                ring.keys.push(key);
            }
        }
    }

    /// Tells what came into force with a snapshot that took the place of another; `bundle` is whether another bundle came
    /// with it, be it with the same content again.
    ///
    /// What was found since the beginning is no difference from what was in force: then there is a gap.
    pub(super) fn installed(
        &self,
        tenant: TenantId,
        (before, now): (Option<&Snapshot>, &Snapshot),
        bundle: bool,
    ) {
        let revision = now.revision();
        let mut rings = self.lock();
        let ring = rings.entry(tenant).or_insert_with(|| Ring::at(revision));
        let found = ring.found.take();
        let keys = std::mem::take(&mut ring.keys);
        match (before, found) {
            (Some(_), Some((since, mut changes))) if since > Revision::default() => {
                if bundle {
                    let bundle = now.content_hash();
                    changes.push(Changed::Bundle { bundle });
                }
                changes.extend(keys.into_iter().map(|key| Changed::KeyRevoked { key }));
                ring.push(Batch { revision, changes });
            }
            _ => ring.forget(revision),
        }
        ring.reached.send_replace(revision);
    }

    /// Forgets a tenant that was deleted.
    pub(super) fn remove(&self, tenant: TenantId) {
        self.lock().remove(&tenant);
    }

    /// Returns what tells a reader that there is more; `None` where nothing is in force of the tenant.
    pub(crate) fn watch(&self, tenant: TenantId) -> Option<watch::Receiver<Revision>> {
        let rings = self.lock();
        rings.get(&tenant).map(|ring| ring.reached.subscribe())
    }

    /// Returns everything that came into force after a revision.
    pub(crate) fn after(&self, tenant: TenantId, last: Revision) -> Option<Read> {
        let rings = self.lock();
        let ring = rings.get(&tenant)?;
        let reached = *ring.reached.borrow();
        if last < ring.floor || last > reached {
            return Some(Read::Gap(reached));
        }
        let batches = ring.batches.iter().filter(|batch| batch.revision > last);
        Some(Read::All(batches.cloned().collect(), reached))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Ring>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ring ===

impl Ring {
    fn at(floor: Revision) -> Self {
        Self {
            floor,
            batches: VecDeque::new(),
            size: 0,
            found: None,
            keys: Vec::new(),
            reached: watch::Sender::new(floor),
        }
    }

    /// Forgets everything: whoever reads on has a gap.
    fn forget(&mut self, floor: Revision) {
        self.floor = floor;
        self.batches.clear();
        self.size = 0;
    }

    fn push(&mut self, batch: Batch) {
        let size = batch.changes.len();
        if size == 0 {
            return;
        }
        if size > MOST {
            self.forget(batch.revision);
            return;
        }
        while self.size + size > MOST
            && let Some(oldest) = self.batches.pop_front()
        {
            self.size = self.size.saturating_sub(oldest.changes.len());
            self.floor = oldest.revision;
        }
        self.size = self.size.saturating_add(size);
        self.batches.push_back(Arc::new(batch));
    }
}

#[cfg(test)]
mod tests {
    //! The ring: complete after its floor, and honest before it.

    use super::*;

    fn ring_of(sizes: &[usize]) -> Ring {
        let mut ring = Ring::at(Revision::new(1));
        for (number, size) in (2..).zip(sizes) {
            let changes = vec![Changed::Entities; *size];
            let revision = Revision::new(number);
            ring.push(Batch { revision, changes });
            ring.reached.send_replace(revision);
        }
        ring
    }

    fn numbers(all: &Revocations, tenant: TenantId, last: u64) -> Option<Vec<u64>> {
        match all.after(tenant, Revision::new(last)) {
            Some(Read::All(batches, _)) => Some(
                batches
                    .iter()
                    .map(|batch| batch.revision.number())
                    .collect(),
            ),
            Some(Read::Gap(_)) | None => None,
        }
    }

    #[test]
    fn what_is_kept_is_whole_and_what_is_not_is_a_gap() {
        let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(1));
        let all = Revocations::default();
        let mut sizes = vec![0, 1];
        sizes.extend([MOST / 4; 4]);
        all.lock().insert(tenant, ring_of(&sizes));
        // The first batch of one change had to go for the last.
        assert_eq!(numbers(&all, tenant, 2), None);
        assert_eq!(numbers(&all, tenant, 3), Some(vec![4, 5, 6, 7]));
        assert_eq!(numbers(&all, tenant, 6), Some(vec![7]));
        assert_eq!(numbers(&all, tenant, 7), Some(vec![]));
        assert_eq!(numbers(&all, tenant, 8), None, "nobody has been there");
        all.lock().insert(tenant, ring_of(&[1, MOST + 1]));
        assert_eq!(numbers(&all, tenant, 2), None, "more than is kept at all");
        assert_eq!(numbers(&all, tenant, 3), Some(vec![]));
    }
}
