//! The entity store: persistent maps, so that a change costs what it changes and old snapshots stay as they were.
//!
//! Each record keeps its parents alone. What is above an entity is found by walking up when somebody asks, so that a
//! change of a group's parents changes one record however many are below it. A parent need not be stored: the edge
//! stands, and leads further when the parent comes. The content after any sequence of changes is the content of a fresh
//! store with the same entities.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cedar_policy_core::ast::{Entity, EntityType, EntityUID};
use equivalent::Equivalent;
use imbl::{HashMap as Persistent, OrdSet};
use smol_str::SmolStr;

use crate::entity::{EntityError, Record, locate};
use crate::schema::CompiledSchema;

mod change;
mod hierarchy;
pub(crate) mod packed;

pub(crate) use change::EntityChange;

/// Every entity of a snapshot: the bundle's own and the live ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntityStore {
    records: Persistent<Stored, ()>,
    /// The ids stored of each type, in byte order, which is the order of searches.
    ids: Persistent<EntityType, OrdSet<SmolStr>>,
    /// Who names an entity as parent, whether that is stored or not.
    children: Persistent<Parent, OrdSet<Stored>>,
}

/// A record under its name.
#[derive(Debug, Clone)]
struct Stored(Arc<Record>);

/// What some record names as parent; one allocation for all that name it.
#[derive(Debug, Clone)]
struct Parent(Arc<EntityUID>);

/// The name of an entity, wherever it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'k> {
    id: &'k str,
    kind: &'k EntityType,
}

// === impl EntityStore ===

impl EntityStore {
    /// Returns the record of `uid`.
    pub(crate) fn get(&self, uid: &EntityUID) -> Option<&Record> {
        self.record(Key::of(uid)).map(|stored| stored.0.as_ref())
    }

    /// Returns the entity called `uid` in Cedar's form, everything above it included; `None` when it is not stored.
    pub(crate) fn entity(&self, uid: &EntityUID) -> Option<Entity> {
        self.get(uid)?.entity(&self.ancestors(uid))
    }

    /// Returns how many entities are stored.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns how many entities of a type are stored.
    pub(crate) fn stored_of(&self, kind: &EntityType) -> usize {
        self.ids.get(kind).map_or(0, OrdSet::len)
    }

    /// Whether a stored entity names `uid` as its parent.
    pub(crate) fn is_parent(&self, uid: &EntityUID) -> bool {
        self.children.contains_key(&Key::of(uid))
    }

    /// Iterates over the stored ids of a type after `after`, in byte order.
    pub(crate) fn ids<'s>(
        &'s self,
        kind: &EntityType,
        after: Option<&'s str>,
    ) -> impl Iterator<Item = &'s SmolStr> + use<'s> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |id| Excluded(SmolStr::new(id)));
        let ids = self.ids.get(kind);
        ids.into_iter()
            .flat_map(move |ids| ids.range((from.clone(), Unbounded)))
    }

    /// Makes the store of a bundle's own entities.
    ///
    /// # Errors
    ///
    /// One [`EntityError`] for each entity that does not fit the schema, or one for a cycle.
    pub(crate) fn of_bundle(
        schema: &CompiledSchema,
        entities: &[remit_core::Entity],
    ) -> Result<Self, Vec<EntityError>> {
        let mut change = EntityChange::of(Self::default());
        change.add_all(schema, entities, true)?;
        change.finish().map_err(|error| vec![error])
    }

    /// Returns the store with the live entities of `before` added, read anew under `schema`.
    ///
    /// # Errors
    ///
    /// One [`EntityError`] for each live entity that the schema or the bundle no longer allows.
    pub(crate) fn with_live_of(
        self,
        schema: &CompiledSchema,
        before: &Self,
    ) -> Result<Self, Vec<EntityError>> {
        /// Entities in the form they come in take many times the space; so only these many are at once.
        const AT_ONCE: usize = 10_000;
        let live = before.records.keys().filter(|stored| !stored.0.bundled);
        let mut live: Vec<&Stored> = live.collect();
        live.sort_unstable_by(|a, b| {
            let kinds = a.0.kind.name.cmp(&b.0.kind.name);
            kinds.then_with(|| a.cmp(b))
        });
        let (mut change, mut errors) = (EntityChange::of(self), Vec::new());
        for some in live.chunks(AT_ONCE) {
            let some: Vec<remit_core::Entity> =
                some.iter().map(|stored| stored.0.source()).collect();
            errors.extend(
                change
                    .add_all(schema, &some, false)
                    .err()
                    .unwrap_or_default(),
            );
        }
        if errors.is_empty() {
            change.finish().map_err(|error| vec![error])
        } else {
            Err(errors)
        }
    }

    /// Returns the store with the entities of one bundle replaced by those of another under the same schema.
    ///
    /// # Errors
    ///
    /// One [`EntityError`] for each entity that does not fit the schema or is stored already, or one for a cycle.
    pub(crate) fn with_bundle(
        &self,
        schema: &CompiledSchema,
        before: &[remit_core::Entity],
        after: &[remit_core::Entity],
    ) -> Result<Self, Vec<EntityError>> {
        let mut change = EntityChange::of(self.clone());
        if before != after {
            for entity in before {
                if let Some((uid, _)) = locate(schema, &entity.uid) {
                    change.store.take_out(Key::of(&uid));
                }
            }
            change.add_all(schema, after, true)?;
        }
        change.finish().map_err(|error| vec![error])
    }

    fn record(&self, key: Key<'_>) -> Option<&Stored> {
        self.records.get_key_value(&key).map(|(stored, ())| stored)
    }

    /// Puts a record in place of what is stored under its name, and returns what that was.
    fn put_in(&mut self, mut record: Record) -> (Stored, Option<Stored>) {
        // One name for all children of a parent: they are many, and a name is longer than most attributes.
        for parent in &mut record.parents {
            if let Some((known, _)) = self.children.get_key_value(&Key::of(parent)) {
                *parent = Arc::clone(&known.0);
            }
        }
        let stored = Stored(Arc::new(record));
        // Looking first is cheaper than taking out what most often is not there.
        let before = self.record(stored.key()).is_some();
        let before = before.then(|| self.take_out(stored.key())).flatten();
        for parent in &stored.0.parents {
            if let Some(children) = self.children.get_mut(&Key::of(parent)) {
                children.insert(stored.clone());
            } else {
                let parent = Parent(Arc::clone(parent));
                self.children.insert(parent, OrdSet::unit(stored.clone()));
            }
        }
        let (kind, id) = (&stored.0.kind.name, stored.0.id.clone());
        if let Some(ids) = self.ids.get_mut(kind) {
            ids.insert(id);
        } else {
            self.ids.insert(kind.clone(), OrdSet::unit(id));
        }
        self.records.insert(stored.clone(), ());
        (stored, before)
    }

    fn take_out(&mut self, key: Key<'_>) -> Option<Stored> {
        let (stored, ()) = self.records.remove_with_key(&key)?;
        for parent in &stored.0.parents {
            let parent = Key::of(parent);
            if let Some(children) = self.children.get_mut(&parent) {
                children.remove(&stored);
                if children.is_empty() {
                    self.children.remove(&parent);
                }
            }
        }
        if let Some(ids) = self.ids.get_mut(key.kind) {
            ids.remove::<str>(key.id);
            if ids.is_empty() {
                self.ids.remove(key.kind);
            }
        }
        Some(stored)
    }
}

// === impl Key ===

impl<'k> Key<'k> {
    fn of(uid: &'k EntityUID) -> Self {
        Self {
            id: uid.eid().as_ref(),
            kind: uid.entity_type(),
        }
    }

    fn of_record(record: &'k Record) -> Self {
        Self {
            id: &record.id,
            kind: &record.kind.name,
        }
    }
}

impl Hash for Key<'_> {
    /// Leaves the namespace out: types of one name in several of them are few, and a whole path takes long to hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        self.kind.name().basename_as_ref().hash(state);
    }
}

impl Equivalent<Stored> for Key<'_> {
    fn equivalent(&self, stored: &Stored) -> bool {
        *self == stored.key()
    }
}

impl Equivalent<Parent> for Key<'_> {
    fn equivalent(&self, parent: &Parent) -> bool {
        *self == Key::of(&parent.0)
    }
}

// === impl Stored ===

impl Stored {
    fn key(&self) -> Key<'_> {
        Key::of_record(&self.0)
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Stored {}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for Stored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

// === impl Parent ===

impl PartialEq for Parent {
    fn eq(&self, other: &Self) -> bool {
        Key::of(&self.0) == Key::of(&other.0)
    }
}

impl Eq for Parent {}

impl Hash for Parent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Key::of(&self.0).hash(state);
    }
}

#[cfg(test)]
mod tests;
