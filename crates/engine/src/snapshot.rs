//! A snapshot: a compiled bundle with the entities of one revision, ready to decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Entity as CedarEntity, EntityUID as CedarUid};
use remit_core::{Bundle, ContentHash, Entity, EntityUid, PolicyId, Revision, Source};
use rustc_hash::FxHashMap;

use crate::compile::{Program, compile};
use crate::diagnostic::{CompileError, Diagnostic};
use crate::entities::{EntityChange, EntityStore};
use crate::entity::{EntityError, locate};
use crate::index::Index;
use crate::policy::CompiledPolicy;
use crate::schema::Registry;
use crate::shape::{Reads, action_in};

mod live;
mod relaxing;

pub use live::{Live, LiveChange};
pub use relaxing::NotRelaxable;

/// The most problems with entities that one compilation reports.
const MOST_PROBLEMS: usize = 100;

/// Everything that decides at one revision, compiled; immutable and replaced whole (INV-5).
///
/// Cloning is cheap, and so is a change of entities: what did not change is shared.
#[derive(Debug, Clone)]
pub struct Snapshot {
    rules: Arc<Rules>,
    entities: EntityStore,
    live: Arc<Live>,
    revision: Revision,
}

/// A change of a snapshot's live entities that comes in parts, so that a million of them are never in memory at once in
/// the form they come in.
#[derive(Debug)]
pub struct Changing {
    rules: Arc<Rules>,
    entities: EntityChange,
    live: Arc<Live>,
    revision: Revision,
}

/// What a bundle says, apart from its entities.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The compiled bundle.
    pub(crate) program: Program,
    /// Where each policy can match.
    pub(crate) index: Index,
    /// The facts that any of its policies can get at.
    pub(crate) reads: Reads,
    /// The actions as entities, with their groups above them.
    pub(crate) actions: FxHashMap<CedarUid, Arc<CedarEntity>>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Compiles a bundle: revision 0, and no entities but its own.
    ///
    /// # Errors
    ///
    /// [`CompileError`] with every error in the bundle, its entities included.
    pub fn compile(bundle: &Bundle) -> Result<Self, CompileError> {
        let program = compile(bundle, None)?;
        let entities =
            EntityStore::of_bundle(&program.schema, &program.entities).map_err(refused)?;
        Ok(Self {
            rules: Arc::new(Rules::of(program)),
            entities,
            live: Arc::default(),
            revision: Revision::default(),
        })
    }

    /// Compiles another bundle in place of this one's, with the live entities of this snapshot and its revision.
    ///
    /// Policies that did not change are not parsed or validated again; live entities are read again only if the schema
    /// changed.
    ///
    /// # Errors
    ///
    /// [`CompileError`] with every error in the bundle, and every live entity that it no longer allows.
    pub fn recompile(&self, bundle: &Bundle) -> Result<Self, CompileError> {
        let program = compile(bundle, Some(&self.rules.program))?;
        let entities = self.entities_under(&program)?;
        Ok(Self {
            rules: Arc::new(Rules::of(program)),
            entities,
            live: Arc::clone(&self.live),
            revision: self.revision,
        })
    }

    /// Returns this bundle over the live entities of another snapshot, and at its revision; compiles nothing.
    ///
    /// Where both have the same schema the two share the entities, and it costs what the bundles' own entities do.
    ///
    /// # Errors
    ///
    /// [`CompileError`] with every live entity that this bundle does not allow.
    pub fn over(&self, live: &Self) -> Result<Self, CompileError> {
        Ok(Self {
            rules: Arc::clone(&self.rules),
            entities: live.entities_under(&self.rules.program)?,
            live: Arc::clone(&live.live),
            revision: live.revision,
        })
    }

    /// Whether another snapshot has the same schema, so that the two can share live entities.
    pub fn shares_schema(&self, other: &Self) -> bool {
        self.rules.program.schema.hash == other.rules.program.schema.hash
    }

    /// Returns this bundle with no entities but its own, at revision 0: to be put over those of others.
    ///
    /// # Errors
    ///
    /// [`CompileError`] where the bundle's own entities do not stand by themselves.
    pub fn without_live(&self) -> Result<Self, CompileError> {
        let program = &self.rules.program;
        Ok(Self {
            rules: Arc::clone(&self.rules),
            entities: EntityStore::of_bundle(&program.schema, &program.entities)
                .map_err(refused)?,
            live: Arc::default(),
            revision: Revision::default(),
        })
    }

    /// Returns the live entities of this snapshot together with those of another bundle.
    fn entities_under(&self, program: &Program) -> Result<EntityStore, CompileError> {
        let before = &self.rules.program;
        let entities = if program.schema.hash == before.schema.hash {
            self.entities
                .with_bundle(&program.schema, &before.entities, &program.entities)
        } else {
            EntityStore::of_bundle(&program.schema, &program.entities)
                .and_then(|store| store.with_live_of(&program.schema, &self.entities))
        };
        entities.map_err(refused)
    }

    /// Returns the snapshot with live entities removed and put in, in this order; costs what changes.
    ///
    /// A change of parents is carried to everything below. Removing what is not stored changes nothing; what names a
    /// removed entity as parent goes on naming it.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first entity that the schema does not allow, that belongs to the bundle, or that would
    /// stand above itself.
    pub fn with_entities(
        &self,
        upserts: &[Entity],
        removals: &[EntityUid],
    ) -> Result<Self, EntityError> {
        let mut changing = self.change();
        changing.apply(upserts, removals)?;
        changing.finish()
    }

    /// Begins a change of live entities that comes in parts; the snapshot stays as it is.
    pub fn change(&self) -> Changing {
        Changing {
            rules: Arc::clone(&self.rules),
            entities: EntityChange::of(self.entities.clone()),
            live: Arc::clone(&self.live),
            revision: self.revision,
        }
    }

    /// Returns the snapshot as it would be with these entities: those of the bundle replaced, the others stored.
    ///
    /// For trying what the bundle decides; a change of what is stored goes through [`with_entities`](Self::with_entities).
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first entity that the schema does not allow, or that would stand above itself.
    pub(crate) fn with_supposed(&self, entities: &[Entity]) -> Result<Self, EntityError> {
        let mut change = EntityChange::of(self.entities.clone());
        change.suppose(&self.rules.program.schema, entities)?;
        Ok(Self {
            rules: Arc::clone(&self.rules),
            entities: change.finish()?,
            live: Arc::clone(&self.live),
            revision: self.revision,
        })
    }

    /// Returns the snapshot as it would be with these policies instead of its own; for trying what cases make of it.
    pub(crate) fn mutated(&self, policies: Vec<Arc<CompiledPolicy>>) -> Self {
        let program = self.rules.program.deciding_by(policies);
        Self {
            rules: Arc::new(Rules::of(program)),
            ..self.clone()
        }
    }

    /// Sets the revision, which stands in every decision.
    pub fn at(self, revision: Revision) -> Self {
        Self { revision, ..self }
    }

    /// Returns what is registered of the tenant.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Puts in what is registered of the tenant.
    pub fn with_live(self, live: Live) -> Self {
        Self {
            live: Arc::new(live),
            ..self
        }
    }

    /// Returns the registry that entities of a type are in, by the type's annotation `@registered`.
    pub fn registry_of(&self, kind: &str) -> Option<Registry> {
        let kind = self.rules.program.schema.entities.get(kind)?;
        kind.registry
    }

    /// Whether the schema says of any type that its entities are registered.
    pub(crate) fn has_registered(&self) -> bool {
        let mut kinds = self.rules.program.schema.entities.values();
        kinds.any(|kind| kind.registry.is_some())
    }

    /// Whether everything that goes by the name of an action, or of a group with all its members, is or is within what
    /// goes by the other. Names that the schema does not know are only within themselves.
    pub fn action_in(&self, name: &str, group: &str) -> bool {
        action_in(&self.rules.program.schema, name, group)
    }

    /// Whether an entity is another one, or is below it as they are stored.
    pub fn below(&self, uid: &EntityUid, above: &EntityUid) -> bool {
        let schema = &self.rules.program.schema;
        let cedar = |uid| locate(schema, uid).map(|(uid, _)| uid);
        uid == above
            || cedar(uid)
                .zip(cedar(above))
                .is_some_and(|(uid, above)| self.entities.is_below(&uid, &above))
    }

    /// Returns the revision of the tenant's state that this is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the hash of the bundle.
    pub fn content_hash(&self) -> ContentHash {
        self.rules.program.content_hash
    }

    /// Returns what somebody should look at in the bundle.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.rules.program.warnings
    }

    /// Returns the files of the bundle that say who may administer; they are compiled apart from it, with what is built in.
    pub fn admin(&self) -> &[Source] {
        &self.rules.program.admin
    }

    /// Returns how many policies there are; a template counts by its links.
    pub fn policy_count(&self) -> usize {
        self.rules.program.policies.len()
    }

    /// Returns the ids of the policies, in byte order; a template counts by its links.
    pub fn policy_ids(&self) -> impl ExactSizeIterator<Item = &PolicyId> {
        self.rules.program.policies.iter().map(|policy| &policy.id)
    }

    /// Returns the annotations of a policy that travel with a decision, those of the template for a link of one; `None` where
    /// there is no such policy.
    pub fn annotations(&self, id: &PolicyId) -> Option<BTreeMap<String, String>> {
        let policies = &self.rules.program.policies;
        let place = policies.binary_search_by(|policy| policy.id.cmp(id)).ok()?;
        policies.get(place).map(|policy| policy.obligations.clone())
    }

    /// Tells whether an entity belongs to the bundle and so changes only with it.
    pub fn is_bundled(&self, uid: &EntityUid) -> bool {
        locate(&self.rules.program.schema, uid)
            .and_then(|(uid, _)| self.entities.get(&uid))
            .is_some_and(|record| record.bundled)
    }

    /// Tells whether there is an entity that is live and does not belong to the bundle.
    pub fn is_live(&self, uid: &EntityUid) -> bool {
        locate(&self.rules.program.schema, uid)
            .and_then(|(uid, _)| self.entities.get(&uid))
            .is_some_and(|record| !record.bundled)
    }

    /// Returns how many entities there are, the bundle's own among them.
    pub fn entity_count(&self) -> usize {
        self.entities.len()
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn entities(&self) -> &EntityStore {
        &self.entities
    }
}

// === impl Changing ===

impl Changing {
    /// Removes live entities and puts others in, in this order, as [`Snapshot::with_entities`] does.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for the first entity that the schema does not allow or that belongs to the bundle.
    pub fn apply(&mut self, upserts: &[Entity], removals: &[EntityUid]) -> Result<(), EntityError> {
        let schema = &self.rules.program.schema;
        self.entities.remove(schema, removals)?;
        self.entities.upsert(schema, upserts)
    }

    /// Returns the changed snapshot, its hierarchy checked.
    ///
    /// # Errors
    ///
    /// [`EntityError`] for an entity that would stand above itself or have too many ancestors.
    pub fn finish(self) -> Result<Snapshot, EntityError> {
        Ok(Snapshot {
            rules: self.rules,
            entities: self.entities.finish()?,
            live: self.live,
            revision: self.revision,
        })
    }
}

// === impl Rules ===

impl Rules {
    fn of(program: Program) -> Self {
        let index = Index::build(&program.policies);
        let reads = program.policies.iter().map(|policy| policy.reads);
        let reads = reads.fold(Reads::default(), |all, one| all | one);
        let actions = program.schema.actions.values().flatten();
        let actions = actions
            .map(|action| {
                let uid = CedarUid::clone(&action.uid);
                let above = action.ancestors.iter().cloned().collect();
                let entity = CedarEntity::new_with_attr_partial_value(
                    uid.clone(),
                    [],
                    above,
                    std::collections::HashSet::new(),
                    [],
                );
                (uid, Arc::new(entity))
            })
            .collect();
        Self {
            program,
            index,
            reads,
            actions,
        }
    }
}

/// Reports entities as errors of a bundle.
fn refused(errors: Vec<EntityError>) -> CompileError {
    let left = errors.len().saturating_sub(MOST_PROBLEMS);
    let mut diagnostics: Vec<Diagnostic> = errors
        .into_iter()
        .take(MOST_PROBLEMS)
        .map(|error| Diagnostic::error("entity", error.to_string()))
        .collect();
    if left > 0 {
        let text = format!("and {left} more entities do not fit");
        diagnostics.push(Diagnostic::error("entity", text));
    }
    CompileError { diagnostics }
}
