//! The hierarchy: what is above an entity, what is below it, and the shapes that are not allowed.

use std::sync::Arc;

use cedar_policy_core::ast::{EntityType, EntityUID};
use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::SmolStr;

use super::{EntityStore, Key, Stored};
use crate::entity::{EntityError, problem, wire};

/// The most ancestors one entity may have; a decision about it walks through all of them.
pub(super) const MOST_ANCESTORS: usize = 1_000;

/// From here on a set finds what was seen sooner than looking through a list does.
const FEW: usize = 16;

/// How many ancestors each entity that is above another has at most; `None` while it is being counted.
type Counts<'s> = FxHashMap<Key<'s>, Option<usize>>;

impl EntityStore {
    /// Returns everything above `uid`, each once, parents before what is above them.
    pub(crate) fn ancestors<'s>(&'s self, uid: &EntityUID) -> Vec<&'s EntityUID> {
        self.above(Key::of(uid), usize::MAX)
    }

    /// Whether `uid` is below `above`, at any distance.
    pub(crate) fn is_below(&self, uid: &EntityUID, above: &EntityUID) -> bool {
        self.ancestors(uid).contains(&above)
    }

    /// Returns the stored ids of a type among `roots` and everything below them.
    pub(crate) fn ids_of_families(
        &self,
        kind: &EntityType,
        roots: &[EntityUID],
    ) -> FxHashSet<SmolStr> {
        let roots = roots.iter().map(Key::of).collect();
        let families = self.families(roots);
        let of_kind = families.into_iter().filter(|key| key.kind == kind);
        of_kind.map(|key| SmolStr::new(key.id)).collect()
    }

    /// Checks what was put in with other parents than before, and everything below it.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for an entity that would stand above itself or have more ancestors than allowed.
    pub(super) fn check<'s>(&'s self, changed: &'s [Stored]) -> Result<(), EntityError> {
        let mut counts = Counts::default();
        let mut above_others = Vec::new();
        for stored in changed {
            // In no store any more: a later part of the change put another in its place, or took it out.
            let stale = Arc::strong_count(&stored.0) == 1;
            let current = if stale {
                self.record(stored.key())
            } else {
                Some(stored)
            };
            let Some(stored) = current else {
                continue;
            };
            let key = stored.key();
            if self.children.contains_key(&key) {
                above_others.push(key);
            } else {
                // Most entities have nothing below them; such a one is all of its family.
                self.check_lowest(stored, &mut counts)?;
            }
        }
        for key in self.families(above_others) {
            if self.children.contains_key(&key) {
                self.count(key, &mut counts)?;
            } else if let Some(stored) = self.record(key) {
                self.check_lowest(stored, &mut counts)?;
            }
        }
        Ok(())
    }

    /// Checks what has nothing below it, without keeping its count: nothing asks for that again.
    fn check_lowest<'s>(
        &'s self,
        stored: &'s Stored,
        counts: &mut Counts<'s>,
    ) -> Result<(), EntityError> {
        for parent in &stored.0.parents {
            self.count(Key::of(parent), counts)?;
        }
        self.count_one(stored, counts).map(drop)
    }

    /// Returns `roots` and everything below them, each once, in an order that depends on the content alone.
    fn families<'s>(&'s self, mut waiting: Vec<Key<'s>>) -> Vec<Key<'s>> {
        waiting.reverse();
        let mut seen: FxHashSet<Key<'_>> = FxHashSet::default();
        let mut found = Vec::new();
        while let Some(key) = waiting.pop() {
            if seen.insert(key) {
                found.push(key);
                let children = self.children.get(&key).into_iter().flatten();
                waiting.extend(children.map(Stored::key));
            }
        }
        found
    }

    /// Walks up, as long as no more than `most` are found.
    fn above<'s>(&'s self, start: Key<'_>, most: usize) -> Vec<&'s EntityUID> {
        let mut found: Vec<&EntityUID> = Vec::with_capacity(FEW);
        let mut seen: FxHashSet<Key<'_>> = FxHashSet::default();
        let mut next = self.record(start);
        let mut walked = 0;
        loop {
            for parent in next.into_iter().flat_map(|stored| &stored.0.parents) {
                let new = if found.len() < FEW {
                    !found.contains(&parent.as_ref())
                } else {
                    if seen.is_empty() {
                        seen.extend(found.iter().map(|uid| Key::of(uid)));
                    }
                    seen.insert(Key::of(parent))
                };
                if new {
                    found.push(parent);
                }
            }
            let Some(uid) = found.get(walked).filter(|_| found.len() <= most) else {
                return found;
            };
            next = self.record(Key::of(uid));
            walked += 1;
        }
    }

    /// Counts the ancestors of one entity from those of its parents, without recursion: a chain may be as long as the
    /// store.
    fn count<'s>(&'s self, start: Key<'s>, counts: &mut Counts<'s>) -> Result<(), EntityError> {
        if counts.contains_key(&start) {
            return Ok(());
        }
        let mut waiting = vec![(start, false)];
        while let Some((key, above_done)) = waiting.pop() {
            let Some(stored) = self.record(key) else {
                counts.insert(key, Some(0));
                continue;
            };
            if above_done {
                let count = self.count_one(stored, counts)?;
                counts.insert(key, Some(count));
                continue;
            }
            if counts.contains_key(&key) {
                continue;
            }
            counts.insert(key, None);
            waiting.push((key, true));
            for parent in &stored.0.parents {
                match counts.get(&Key::of(parent)) {
                    Some(None) => {
                        let parent = wire(parent);
                        let text = format!("is above itself, through its parent `{parent}`");
                        return Err(problem(&stored.0.name(), text));
                    }
                    None => waiting.push((Key::of(parent), false)),
                    Some(Some(_)) => {}
                }
            }
        }
        Ok(())
    }

    /// Adds up what is above the parents; only where that may be too much, what is above by several ways counts once.
    fn count_one(&self, stored: &Stored, counts: &Counts<'_>) -> Result<usize, EntityError> {
        let of_parent = |parent| counts.get(&Key::of(parent)).copied().flatten();
        let parents = stored.0.parents.iter();
        let most = parents.fold(0_usize, |sum, parent| {
            sum.saturating_add(1 + of_parent(parent).unwrap_or_default())
        });
        if most <= MOST_ANCESTORS {
            return Ok(most);
        }
        let exactly = self.above(stored.key(), MOST_ANCESTORS).len();
        if exactly <= MOST_ANCESTORS {
            return Ok(exactly);
        }
        let text = format!("has more than {MOST_ANCESTORS} ancestors");
        Err(problem(&stored.0.name(), text))
    }
}
