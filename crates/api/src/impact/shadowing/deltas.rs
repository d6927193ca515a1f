//! Changes of live entities, handed on to a shadow that has them by another schema than what is in force.
//!
//! Such a shadow shares no entities. Without these it would have to read all of them anew for each revision.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex};

use remit_core::{Entity, EntityUid, Revision, TenantId};
use remit_engine::Snapshot;

use super::{Shadow, Shadows, lock};

/// The most entities that are kept, in all changes together.
const MOST: usize = 10_000;

/// The last changes, oldest first.
#[derive(Default)]
pub(super) struct Deltas(Mutex<VecDeque<Arc<Delta>>>);

/// What led from one revision to another.
struct Delta {
    from: Revision,
    to: Revision,
    parts: Vec<Part>,
    entities: usize,
}

/// Entities put in and taken out; they are taken out first.
#[derive(Debug)]
struct Part {
    upserts: Vec<Entity>,
    removals: Vec<EntityUid>,
}

/// A change that is being read for what is in force.
pub(crate) struct Gathering {
    shadow: Arc<Shadow>,
    parts: Vec<Part>,
    entities: usize,
}

// === impl Shadows ===

impl Shadows {
    /// Begins to gather a change of live entities, where the tenant's shadow cannot share them with `live`.
    pub(crate) fn gather(&self, tenant: TenantId, live: &Snapshot) -> Option<Gathering> {
        let shadow = self.of(tenant)?;
        // Whoever works on the shadow may hold this, and gives way to all others: it is not waited for.
        let apart = match &shadow.work.try_lock().ok()?.draft {
            Some(Ok(draft)) => !draft.shares_schema(live),
            _ => false,
        };
        apart.then(|| Gathering {
            shadow,
            parts: Vec::new(),
            entities: 0,
        })
    }
}

// === impl Gathering ===

impl Gathering {
    /// Adds a part of the change; of one that is too large, nothing is kept.
    pub(crate) fn add(&mut self, upserts: &[Entity], removals: &[EntityUid]) {
        self.entities += upserts.len() + removals.len();
        if self.entities > MOST {
            self.parts.clear();
            return;
        }
        self.parts.push(Part {
            upserts: upserts.to_vec(),
            removals: removals.to_vec(),
        });
    }

    /// Hands the change over, before anything is decided by what it leads to.
    pub(crate) fn hand_over(mut self, from: Revision, to: Revision) {
        if self.entities > MOST {
            return;
        }
        let delta = Delta {
            from,
            to,
            parts: mem::take(&mut self.parts),
            entities: self.entities,
        };
        // What is not handed over is a gap, and after a gap all are read anew.
        if let Ok(mut deltas) = self.shadow.deltas.0.try_lock() {
            deltas.push_back(Arc::new(delta));
            let mut kept: usize = deltas.iter().map(|delta| delta.entities + 1).sum();
            while kept > MOST {
                let Some(oldest) = deltas.pop_front() else {
                    break;
                };
                kept -= oldest.entities + 1;
            }
        }
    }
}

// === impl Deltas ===

impl Deltas {
    /// Forgets every change.
    pub(super) fn clear(&self) {
        let held = mem::take(&mut *lock(&self.0));
        drop(held);
    }

    /// Carries one of the states to a revision by the changes between the two; `None` where they do not lead there, or to
    /// what does not fit.
    pub(super) fn carry(
        &self,
        states: &VecDeque<(Revision, Result<Snapshot, String>)>,
        to: Revision,
    ) -> Option<Snapshot> {
        let mut chain = VecDeque::new();
        let mut at = to;
        let base = {
            let deltas = lock(&self.0);
            loop {
                let leads = |delta: &&Arc<Delta>| delta.to == at && delta.from < at;
                let delta = deltas.iter().rev().find(leads)?;
                chain.push_front(Arc::clone(delta));
                at = delta.from;
                let known = states.iter().find(|(revision, _)| *revision == at);
                if let Some((_, Ok(state))) = known {
                    break state.clone();
                }
            }
        };
        let mut changing = base.change();
        for part in chain.iter().flat_map(|delta| &delta.parts) {
            changing.apply(&part.upserts, &part.removals).ok()?;
        }
        Some(changing.finish().ok()?.at(to))
    }
}
