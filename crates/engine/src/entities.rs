//! The entity store: a persistent map, so that a change costs what it changes and old snapshots stay as they were.
//!
//! Each record is a Cedar entity with its ancestors already closed; a change of parents is carried down to every
//! descendant through reverse edges. A parent need not be stored: the edge stands, and closes when the parent comes.
//! The content after any sequence of changes is the content of a fresh store with the same entities.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy_core::ast::{Entity, EntityType, EntityUID};
use imbl::{HashMap as Persistent, OrdSet};
use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::SmolStr;

use crate::entity::{EntityError, Record, locate, problem, wire};
use crate::schema::CompiledSchema;

/// The most ancestors one entity may have; each descendant keeps all of them at hand.
const MOST_ANCESTORS: usize = 1_000;

/// Every entity of a snapshot: the bundle's own and the live ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntityStore {
    records: Persistent<EntityUID, Arc<Record>>,
    /// The ids stored of each type, in byte order, which is the order of searches.
    ids: Persistent<EntityType, OrdSet<SmolStr>>,
    /// Who names an entity as parent, whether that is stored or not.
    children: Persistent<EntityUID, OrdSet<EntityUID>>,
}

// === impl EntityStore ===

impl EntityStore {
    /// Returns the record of `uid`.
    pub(crate) fn get(&self, uid: &EntityUID) -> Option<&Record> {
        self.records.get(uid).map(AsRef::as_ref)
    }

    /// Returns how many entities are stored.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
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

    /// Returns `roots` and everything below them, each once, in an order that depends on the content alone.
    pub(crate) fn families(&self, roots: &[EntityUID]) -> Vec<EntityUID> {
        let mut seen: FxHashSet<&EntityUID> = FxHashSet::default();
        let mut waiting: Vec<&EntityUID> = roots.iter().rev().collect();
        let mut found = Vec::new();
        while let Some(uid) = waiting.pop() {
            if seen.insert(uid) {
                found.push(uid.clone());
                waiting.extend(self.children.get(uid).into_iter().flatten());
            }
        }
        found
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
        let mut store = Self::default();
        store.add_all(schema, entities, true)?;
        Ok(store)
    }

    /// Returns the store with the live entities of `before` added, read anew under `schema`.
    ///
    /// # Errors
    ///
    /// One [`EntityError`] for each live entity that the schema or the bundle no longer allows.
    pub(crate) fn with_live_of(
        mut self,
        schema: &CompiledSchema,
        before: &Self,
    ) -> Result<Self, Vec<EntityError>> {
        let live = before.records.values().filter(|record| !record.bundled);
        let mut live: Vec<remit_core::Entity> = live.map(|record| record.source()).collect();
        live.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        self.add_all(schema, &live, false)?;
        Ok(self)
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
        let mut store = self.clone();
        let mut changed = Vec::new();
        for entity in before {
            if let Some((uid, _)) = locate(schema, &entity.uid) {
                store.take_out(&uid);
                changed.push(uid);
            }
        }
        // Only after the new ones are in is it known what the old ones' descendants have above them.
        store.close(&changed).map_err(|error| vec![error])?;
        store.add_all(schema, after, true)?;
        Ok(store)
    }

    /// Returns the store without `removals` and with `upserts`, in this order.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first entity that the schema, the bundle or the hierarchy does not allow.
    pub(crate) fn with(
        &self,
        schema: &CompiledSchema,
        upserts: &[remit_core::Entity],
        removals: &[remit_core::EntityUid],
    ) -> Result<Self, EntityError> {
        let mut store = self.clone();
        let mut changed = Vec::with_capacity(upserts.len() + removals.len());
        for name in removals {
            // An entity of an unknown type is not stored, and what is not stored needs no removal.
            let Some((uid, _)) = locate(schema, name) else {
                continue;
            };
            store.check_not_bundled(&uid)?;
            store.take_out(&uid);
            changed.push(uid);
        }
        for entity in upserts {
            let record = Record::read(schema, entity, false)?;
            store.check_not_bundled(record.entity.uid())?;
            changed.push(record.entity.uid().clone());
            store.put_in(record);
        }
        store.close(&changed)?;
        Ok(store)
    }

    fn add_all(
        &mut self,
        schema: &CompiledSchema,
        entities: &[remit_core::Entity],
        bundled: bool,
    ) -> Result<(), Vec<EntityError>> {
        let mut errors = Vec::new();
        let mut changed = Vec::with_capacity(entities.len());
        for entity in entities {
            let record = Record::read(schema, entity, bundled).and_then(|record| {
                match self.get(record.entity.uid()) {
                    None => Ok(record),
                    Some(twin) if twin.bundled && bundled => {
                        Err(problem(&entity.uid, "stands twice in the bundle"))
                    }
                    Some(_) => Err(problem(
                        &entity.uid,
                        "belongs to the bundle and is stored as well; delete the stored one or rename one of them",
                    )),
                }
            });
            match record {
                Ok(record) => {
                    changed.push(record.entity.uid().clone());
                    self.put_in(record);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            self.close(&changed).map_err(|error| vec![error])
        } else {
            Err(errors)
        }
    }

    fn check_not_bundled(&self, uid: &EntityUID) -> Result<(), EntityError> {
        match self.get(uid) {
            Some(record) if record.bundled => Err(problem(
                &wire(uid),
                "belongs to the bundle; change it there",
            )),
            _ => Ok(()),
        }
    }

    fn put_in(&mut self, record: Record) {
        let uid = record.entity.uid().clone();
        self.take_out(&uid);
        for parent in record.entity.parents() {
            self.children
                .entry(parent.clone())
                .or_default()
                .insert(uid.clone());
        }
        let ids = self.ids.entry(uid.entity_type().clone()).or_default();
        ids.insert(SmolStr::new(AsRef::<str>::as_ref(uid.eid())));
        self.records.insert(uid, Arc::new(record));
    }

    fn take_out(&mut self, uid: &EntityUID) {
        let Some(record) = self.records.remove(uid) else {
            return;
        };
        for parent in record.entity.parents() {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(uid);
                if children.is_empty() {
                    self.children.remove(parent);
                }
            }
        }
        if let Some(ids) = self.ids.get_mut(uid.entity_type()) {
            ids.remove::<str>(uid.eid().as_ref());
            if ids.is_empty() {
                self.ids.remove(uid.entity_type());
            }
        }
    }

    /// Brings the ancestors of the changed entities and of everything below them up to date.
    fn close(&mut self, changed: &[EntityUID]) -> Result<(), EntityError> {
        let order = self.families(changed);
        let affected: FxHashSet<&EntityUID> = order.iter().collect();
        let mut done = FxHashMap::default();
        for uid in &order {
            self.close_from(uid, &affected, &mut done)?;
        }
        Ok(())
    }

    /// Closes one entity after everything affected above it, without recursion: a chain may be as long as the store.
    fn close_from(
        &mut self,
        start: &EntityUID,
        affected: &FxHashSet<&EntityUID>,
        done: &mut FxHashMap<EntityUID, bool>,
    ) -> Result<(), EntityError> {
        let mut waiting = vec![(start.clone(), false)];
        while let Some((uid, above_done)) = waiting.pop() {
            let Some(record) = self.records.get(&uid).cloned() else {
                continue;
            };
            if above_done {
                self.close_one(&record)?;
                done.insert(uid, true);
                continue;
            }
            if done.contains_key(&uid) {
                continue;
            }
            done.insert(uid.clone(), false);
            waiting.push((uid.clone(), true));
            for parent in record.entity.parents() {
                match done.get(parent) {
                    Some(false) => {
                        let parent = wire(parent);
                        let text = format!("is above itself, through its parent `{parent}`");
                        return Err(problem(&wire(&uid), text));
                    }
                    None if affected.contains(parent) => waiting.push((parent.clone(), false)),
                    Some(true) | None => {}
                }
            }
        }
        Ok(())
    }

    /// Sets the ancestors of one entity from those of its parents.
    fn close_one(&mut self, record: &Record) -> Result<(), EntityError> {
        let entity = &record.entity;
        let parents: HashSet<EntityUID> = entity.parents().cloned().collect();
        let mut above: HashSet<EntityUID> = HashSet::new();
        for parent in &parents {
            if let Some(parent) = self.records.get(parent) {
                above.extend(parent.entity.ancestors().cloned());
            }
        }
        above.retain(|uid| !parents.contains(uid));
        if parents.len() + above.len() > MOST_ANCESTORS {
            let text = format!("has more than {MOST_ANCESTORS} ancestors");
            return Err(problem(&wire(entity.uid()), text));
        }
        let same = entity.indirect_ancestors().count() == above.len()
            && entity.indirect_ancestors().all(|uid| above.contains(uid));
        if !same {
            let (uid, attrs, _, parents, tags) = Entity::clone(entity).into_inner();
            let entity =
                Entity::new_with_attr_partial_value(uid.clone(), attrs, above, parents, tags);
            let record = Record {
                entity: Arc::new(entity),
                ..Record::clone(record)
            };
            self.records.insert(uid, Arc::new(record));
        }
        Ok(())
    }
}
