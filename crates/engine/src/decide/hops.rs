//! Hops: everybody on whose authority the subject acts must be allowed the same.

use remit_core::{
    Decision, Dimension, ExceptionId, Facts, Hop, Limit, Question, Reason, Subject, Verdict,
};

use super::worlds::World;
use crate::Snapshot;

// === impl Snapshot ===

impl Snapshot {
    /// Asks every hop of the chain what is asked, each by itself, until one may not do it.
    ///
    /// A chain that is not whole stops it as well: facts name every task above the one it is asked in, and the person for
    /// whom it is done.
    pub(super) fn chain(&self, question: &Question, facts: &Facts, world: World) -> Chained {
        let mut chained = Chained::default();
        if !is_whole(facts) {
            let limit = Limit::of(Dimension::Depth);
            let by = self.refuse(Reason::DelegationDenied);
            chained.stopped = Some(Stopped { limit, by });
            return chained;
        }
        for (place, hop) in facts.hops.iter().enumerate() {
            let facts = facts_of(facts, hop, world);
            let mut by = self.answer(&asked_of(question, hop), &facts, true, &mut Vec::new());
            chained.exceptions.append(&mut by.exceptions);
            if by.verdict == Verdict::Permit {
                continue;
            }
            let limit = Limit {
                dimension: by.limit.as_ref().and_then(|limit| limit.dimension),
                hop: Some(u16::try_from(place + 1).unwrap_or(u16::MAX)),
                principal: Some(hop.principal.clone()),
                reason: Some(by.reason),
            };
            chained.stopped = Some(Stopped { limit, by });
            break;
        }
        chained
    }

    /// Lists everybody of the chain with what is known of them where nothing is approved.
    pub(super) fn behind<'a>(
        question: &'a Question,
        facts: &'a Facts,
    ) -> impl Iterator<Item = (Question, Facts)> + 'a {
        let hops = facts.hops.iter();
        hops.map(|hop| (asked_of(question, hop), facts_of(facts, hop, World::Plain)))
    }
}

/// What came of asking a chain.
#[derive(Debug, Default)]
pub(super) struct Chained {
    /// Who may not do it, if anybody.
    pub(super) stopped: Option<Stopped>,
    /// The exceptions that relaxed a forbid of somebody asked.
    pub(super) exceptions: Vec<ExceptionId>,
}

/// What stopped a chain.
#[derive(Debug)]
pub(super) struct Stopped {
    /// Where.
    pub(super) limit: Limit,
    /// The decision about that hop.
    pub(super) by: Decision,
}

// === impl Stopped ===

impl Stopped {
    /// Whether that hop lacks an approval and nothing else.
    pub(super) fn wants_approval(&self) -> bool {
        self.by.reason == Reason::ApprovalRequired
    }
}

/// Whether the hops are those that the task speaks of: one with a task for each task above it, then the person, if any.
fn is_whole(facts: &Facts) -> bool {
    let task = facts.task.as_ref();
    let Some((task, declared)) = task.and_then(|task| Some((task, task.declaration.as_ref()?)))
    else {
        return true;
    };
    let (above, last) = facts
        .hops
        .split_at_checked(usize::from(task.depth))
        .unwrap_or_default();
    let handed = declared.parent.is_none() || task.depth > 0;
    let tasks =
        above.len() == usize::from(task.depth) && above.iter().all(|hop| hop.task.is_some());
    let person = match (&declared.on_behalf_of, last) {
        (None, []) => true,
        (Some(person), [last]) => last.principal == *person && last.task.is_none(),
        _ => false,
    };
    handed && tasks && person
}

fn asked_of(question: &Question, hop: &Hop) -> Question {
    Question {
        subject: Subject {
            id: hop.principal.id.to_string(),
            properties: serde_json::Map::new(),
            kind: hop.principal.kind.to_string(),
        },
        ..question.clone()
    }
}

fn facts_of(facts: &Facts, hop: &Hop, world: World) -> Facts {
    let approval = match world {
        World::Approved => facts.approval.clone(),
        World::Plain | World::Supposed => None,
    };
    Facts {
        agent: hop.agent.clone(),
        approval,
        approved: world != World::Plain,
        hop: true,
        hops: Vec::new(),
        subject_not_yours: false,
        task: hop.task.clone(),
        ..facts.clone()
    }
}
