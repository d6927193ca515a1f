//! A change under way: entities taken out and put in, checked against each other once all are there.

use std::thread;

use super::{EntityStore, Key, Stored};
use crate::entity::{EntityError, Record, locate, problem};
use crate::schema::CompiledSchema;

/// From this many entities on, reading them is worth a second thread.
const MANY: usize = 1_000;
/// How many threads read them, this one included.
const READERS: usize = 2;

/// A store being changed; what it holds is not to be decided by until the change is finished.
///
/// In between the hierarchy may have any shape: the entities that would mend it may come with the next call.
#[derive(Debug)]
pub(crate) struct EntityChange {
    pub(super) store: EntityStore,
    /// What has other parents than before.
    moved: Vec<Stored>,
}

// === impl EntityChange ===

impl EntityChange {
    pub(crate) fn of(store: EntityStore) -> Self {
        Self {
            store,
            moved: Vec::new(),
        }
    }

    /// Takes live entities out; what is not stored needs no removal.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first that belongs to the bundle.
    pub(crate) fn remove(
        &mut self,
        schema: &CompiledSchema,
        removals: &[remit_core::EntityUid],
    ) -> Result<(), EntityError> {
        for name in removals {
            // An entity of an unknown type is not stored.
            let Some((uid, _)) = locate(schema, name) else {
                continue;
            };
            self.check_not_bundled(Key::of(&uid), name)?;
            self.store.take_out(Key::of(&uid));
        }
        Ok(())
    }

    /// Puts live entities in.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first that the schema does not allow or that belongs to the bundle.
    pub(crate) fn upsert(
        &mut self,
        schema: &CompiledSchema,
        upserts: &[remit_core::Entity],
    ) -> Result<(), EntityError> {
        for (record, entity) in read_all(schema, upserts, false).into_iter().zip(upserts) {
            let record = record?;
            self.check_not_bundled(Key::of_record(&record), &entity.uid)?;
            self.put_in(record);
        }
        Ok(())
    }

    /// Puts entities in place of whatever has their names; what was the bundle's stays the bundle's.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first that the schema does not allow.
    pub(crate) fn suppose(
        &mut self,
        schema: &CompiledSchema,
        entities: &[remit_core::Entity],
    ) -> Result<(), EntityError> {
        for entity in entities {
            let known = locate(schema, &entity.uid)
                .and_then(|(uid, _)| self.store.record(Key::of(&uid)).map(|one| one.0.bundled));
            self.put_in(Record::read(schema, entity, known.unwrap_or(false))?);
        }
        Ok(())
    }

    /// Puts entities in whose names must be free.
    ///
    /// # Errors
    ///
    /// One [`EntityError`] for each that is not allowed.
    pub(super) fn add_all(
        &mut self,
        schema: &CompiledSchema,
        entities: &[remit_core::Entity],
        bundled: bool,
    ) -> Result<(), Vec<EntityError>> {
        let mut errors = Vec::new();
        for (record, entity) in read_all(schema, entities, bundled)
            .into_iter()
            .zip(entities)
        {
            let record = record.and_then(|record| match self.store.record(Key::of_record(&record)) {
                None => Ok(record),
                Some(twin) if twin.0.bundled && bundled => {
                    Err(problem(&entity.uid, "stands twice in the bundle"))
                }
                Some(_) => Err(problem(
                    &entity.uid,
                    "belongs to the bundle and is stored as well; delete the stored one or rename one of them",
                )),
            });
            match record {
                Ok(record) => self.put_in(record),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Checks the hierarchy and returns the changed store.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for an entity that would stand above itself or have too many ancestors.
    pub(crate) fn finish(self) -> Result<EntityStore, EntityError> {
        self.store.check(&self.moved)?;
        Ok(self.store)
    }

    fn put_in(&mut self, record: Record) {
        let (stored, before) = self.store.put_in(record);
        let parents = &stored.0.parents;
        let same = before.is_some_and(|before| before.0.parents == *parents);
        if !parents.is_empty() && !same {
            self.moved.push(stored);
        }
    }

    fn check_not_bundled(
        &self,
        key: Key<'_>,
        name: &remit_core::EntityUid,
    ) -> Result<(), EntityError> {
        match self.store.record(key) {
            Some(stored) if stored.0.bundled => {
                Err(problem(name, "belongs to the bundle; change it there"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads entities by the schema, in their order, on two threads when there are many.
fn read_all(
    schema: &CompiledSchema,
    entities: &[remit_core::Entity],
    bundled: bool,
) -> Vec<Result<Record, EntityError>> {
    let read = |entities: &[remit_core::Entity]| -> Vec<_> {
        let records = entities.iter();
        records
            .map(|entity| Record::read(schema, entity, bundled))
            .collect()
    };
    if entities.len() < MANY {
        return read(entities);
    }
    let (first, second) = entities.split_at(entities.len() / READERS);
    thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, || read(second));
        let mut records = read(first);
        match other.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(others)) => records.extend(others),
            // No thread to be had, or one that failed: this one does it all.
            _ => records.extend(read(second)),
        }
        records
    })
}
