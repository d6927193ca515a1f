//! What shadows have found, handed on to the database, where that of all replicas is added up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use remit_core::{ContentHash, ReplicaId, TenantId, canonical_json};
use remit_store::{Disagreement, Error, ShadowGroup, ShadowNote, ShadowTally, Store};

use super::{Difference, Shadow, Work, lock};

/// The most disagreements that are handed on at once.
const AT_ONCE: usize = 1_000;

/// What is about to be noted, and how much of it there was.
struct Pending {
    note: ShadowNote,
    singles: usize,
    /// Each with how many it had; `None` for a group that is not counted, because there are too many.
    grown: Vec<(Difference, Option<u64>)>,
}

// === impl Shadow ===

impl Shadow {
    /// Notes in the database what was found since the last time; nothing where nothing was.
    ///
    /// # Errors
    ///
    /// Those of the store; what was to be noted is noted the next time.
    pub(crate) async fn note(
        &self,
        store: &Store,
        tenant: TenantId,
        replica: ReplicaId,
    ) -> Result<(), Error> {
        let _one_at_a_time = self.noting.lock().await;
        loop {
            let Some(pending) = self.pending() else {
                return Ok(());
            };
            store
                .note_shadow(tenant, self.revision, replica, &pending.note)
                .await?;
            if !self.noted(pending) {
                return Ok(());
            }
        }
    }

    /// Takes together what is not in the database yet.
    fn pending(&self) -> Option<Pending> {
        let mut work = lock(&self.work);
        let tally = self.tally(&work);
        if work.noted.as_ref() == Some(&tally) && work.single.is_empty() {
            // Nobody has asked since the last time: what is in force need not keep old entities for it.
            if work.shared {
                work.states.clear();
            }
            return None;
        }
        let grown = work.grown.iter();
        let grown: Vec<(Difference, Option<u64>)> = grown
            .map(|difference| (difference.clone(), work.tally.count(difference)))
            .collect();
        let groups = grown
            .iter()
            .filter_map(|(difference, count)| Some((group(difference)?, (*count)?)));
        let singles = work.single.len().min(AT_ONCE);
        let disagreements = work.single.iter().take(singles);
        let disagreements = disagreements.filter_map(|(id, at, difference)| {
            Some(Disagreement {
                decision: *id,
                group: group(difference)?,
                at: *at,
            })
        });
        let note = ShadowNote {
            groups: groups.collect(),
            disagreements: disagreements.collect(),
            tally,
        };
        Some(Pending {
            note,
            singles,
            grown,
        })
    }

    /// Takes off what is in the database now; tells whether there is more.
    fn noted(&self, pending: Pending) -> bool {
        let mut work = lock(&self.work);
        work.single.drain(..pending.singles);
        for (difference, count) in &pending.grown {
            if work.tally.count(difference) == *count {
                work.grown.remove(difference);
            }
        }
        work.noted = Some(pending.note.tally);
        !work.single.is_empty()
    }

    pub(super) fn tally(&self, work: &Work) -> ShadowTally {
        let tally = &work.tally;
        let totals = tally.totals.iter();
        let totals: BTreeMap<String, u64> = totals
            .map(|(outcome, count)| (outcome.name().to_owned(), *count))
            .collect();
        ShadowTally {
            decided: tally.replayed,
            same: tally.unchanged,
            differing: tally.replayed - tally.unchanged,
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: tally
                .failed()
                .saturating_add(self.unable.load(Ordering::Relaxed)),
            failure: work.failure.clone(),
            totals,
        }
    }
}

/// Writes a difference as it is kept; `None` for one that cannot be written, which there is not.
fn group(difference: &Difference) -> Option<ShadowGroup> {
    let text = |value| String::from_utf8(canonical_json(value).ok()?).ok();
    Some(ShadowGroup {
        kind: ContentHash::of(&canonical_json(difference).ok()?),
        outcome: difference.outcome.name().to_owned(),
        action: difference.action.clone(),
        before: text(&difference.before)?,
        after: text(&difference.after)?,
    })
}
