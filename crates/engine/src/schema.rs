//! The compiled schema: what types, attributes and actions there are, in the form that decoding a question needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy_core::ast::{EntityType, EntityUID, Name};
use cedar_policy_core::validator::Validator;
use remit_core::ContentHash;
use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::SmolStr;

use crate::diagnostic::Diagnostic;
use crate::shape::Reads;

mod build;
pub(crate) mod mcp;
mod volatile;

/// The namespace of Remit's own facts, in Cedar's schema syntax.
///
/// A bundle whose schema does not declare the namespace `Remit` gets this one.
pub const FACTS_SCHEMA: &str = include_str!("schema/facts.cedarschema");

/// A bundle's schema, resolved.
#[derive(Debug)]
pub(crate) struct CompiledSchema {
    /// The hash of its text.
    pub(crate) hash: ContentHash,
    /// Cedar's own form, ready to validate policies.
    pub(crate) validator: Validator,
    /// The entity types by their full name, action types excluded.
    pub(crate) entities: FxHashMap<SmolStr, Arc<EntitySchema>>,
    /// The actions by their id, in the order of their namespaces; several namespaces may declare one id.
    pub(crate) actions: FxHashMap<SmolStr, Vec<Arc<ActionSchema>>>,
    /// What somebody should look at in it.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A registry of Remit that an entity type belongs to: its annotation `@registered("agent")` or `@registered("tool")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registry {
    /// Entities of the type are agents; one that is not registered may do nothing.
    Agent,
    /// Entities of the type are tools, by their ids.
    Tool,
}

/// One entity type.
#[derive(Debug)]
pub(crate) struct EntitySchema {
    /// Its full name.
    pub(crate) name: EntityType,
    /// Its declared attributes.
    pub(crate) attributes: Fields,
    /// The type of its tags, if it may have any.
    pub(crate) tags: Option<Kind>,
    /// The ids there are, for an enumerated type.
    pub(crate) ids: Option<BTreeSet<SmolStr>>,
    /// The registry that entities of it must be in.
    pub(crate) registry: Option<Registry>,
    /// The types its ancestors may have.
    pub(crate) ancestors: FxHashSet<EntityType>,
}

/// One action.
#[derive(Debug)]
pub(crate) struct ActionSchema {
    /// Its name.
    pub(crate) uid: Arc<EntityUID>,
    /// The types of principal it applies to.
    pub(crate) principals: FxHashSet<EntityType>,
    /// The types of resource it applies to.
    pub(crate) resources: FxHashSet<EntityType>,
    /// What its context holds.
    pub(crate) context: Fields,
    /// The members of that which are annotated `@volatile`: an approval is not bound to them.
    pub(crate) volatile: FxHashSet<SmolStr>,
    /// Every action group it is in, directly or not; sorted.
    pub(crate) ancestors: Vec<EntityUID>,
}

// === impl ActionSchema ===

impl ActionSchema {
    /// Whether an approval is bound to what a caller says in this member of the context.
    pub(crate) fn binds(&self, member: &str) -> bool {
        self.context.contains_key(member) && !self.volatile.contains(member)
    }
}

/// The members of a record, or the attributes of an entity.
pub(crate) type Fields = BTreeMap<SmolStr, Field>;

/// One member of a record, or one attribute of an entity.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its type.
    pub(crate) kind: Kind,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// Its name among those of facts.
    pub(crate) fact: Reads,
    /// Whether a caller may assert it: the attribute or its whole entity type is annotated `@assertable`.
    pub(crate) assertable: bool,
}

/// The type of a value.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// True or false.
    Bool,
    /// A 64-bit signed integer.
    Long,
    /// Text.
    String,
    /// A reference to an entity of this type.
    Entity(EntityType),
    /// A set of this type.
    Set(Arc<Kind>),
    /// A record with these members and no others.
    Record(Arc<Fields>),
    /// A value of an extension type: `decimal`, `ipaddr`, `datetime`, `duration`.
    Extension(Name),
}
