//! One stored entity: read by the schema when it comes in, written back when the schema changes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy_core::ast::{
    BorrowedRestrictedExpr, Eid, Entity, EntityUID, Literal, PartialValue, RestrictedExpr, Value,
    ValueKind,
};
use remit_core::Note;
use serde_json::{Map, Value as Json, json};
use smol_str::SmolStr;

use crate::decode::{Reader, list};
use crate::reach::entity_references;
use crate::schema::{CompiledSchema, EntitySchema};

/// One stored entity.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// With its ancestors closed.
    pub(crate) entity: Arc<Entity>,
    /// The entities that its attributes and tags lead to.
    pub(crate) references: Box<[Arc<EntityUID>]>,
    /// Whether it belongs to the bundle and cannot be changed by itself.
    pub(crate) bundled: bool,
}

/// An entity that cannot be stored, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entity}` {problem}")]
pub struct EntityError {
    /// Which entity.
    pub entity: remit_core::EntityUid,
    /// What is wrong with it and what was expected; names the attribute, tag or parent at fault.
    pub problem: String,
}

// === impl Record ===

impl Record {
    /// Reads an entity by the schema; its ancestors beyond its parents are not closed yet.
    ///
    /// # Errors
    ///
    /// [`EntityError`] that names the attribute, tag or parent at fault.
    pub(crate) fn read(
        schema: &CompiledSchema,
        entity: &remit_core::Entity,
        bundled: bool,
    ) -> Result<Self, EntityError> {
        let fail = |text: String| problem(&entity.uid, text);
        let (uid, kind) = locate(schema, &entity.uid).ok_or_else(|| {
            fail(format!(
                "has the type `{}`, which the schema does not declare",
                entity.uid.kind
            ))
        })?;
        check_id(kind, &entity.uid).map_err(fail)?;
        let mut notes = Vec::new();
        let mut reader = Reader::new(schema, "attrs", &mut notes);
        let attrs = reader.record(&kind.attributes, &entity.attrs);
        let attrs = attrs.ok().filter(|_| notes.is_empty());
        let attrs = attrs.ok_or_else(|| fail(blame(&notes)))?;
        let tags = read_tags(schema, kind, &entity.tags).map_err(fail)?;
        let mut parents = HashSet::with_capacity(entity.parents.len());
        for name in &entity.parents {
            parents.insert(read_parent(schema, kind, name).map_err(fail)?);
        }
        let entity = Entity::new_with_attr_partial_value(
            uid,
            partial(attrs),
            HashSet::new(),
            parents,
            partial(tags),
        );
        let mut references = Vec::new();
        entity_references(&entity, &mut references);
        let references = references.into_iter().cloned().collect();
        Ok(Self {
            references,
            entity: Arc::new(entity),
            bundled,
        })
    }

    /// Writes the entity back as it could have been given.
    pub(crate) fn source(&self) -> remit_core::Entity {
        let members = |values: &mut dyn Iterator<Item = (&SmolStr, &PartialValue)>| {
            values
                .filter_map(|(name, value)| match value {
                    PartialValue::Value(value) => Some((name.to_string(), unread(value))),
                    PartialValue::Residual(_) => None,
                })
                .collect::<Map<String, Json>>()
        };
        let mut parents: Vec<_> = self.entity.parents().map(wire).collect();
        parents.sort_unstable();
        remit_core::Entity {
            uid: wire(self.entity.uid()),
            attrs: members(&mut self.entity.attrs()),
            parents,
            tags: members(&mut self.entity.tags()),
        }
    }
}

/// Names an entity as Cedar does, with what the schema says of its type; nothing when it declares none.
pub(crate) fn locate<'s>(
    schema: &'s CompiledSchema,
    name: &remit_core::EntityUid,
) -> Option<(EntityUID, &'s EntitySchema)> {
    let kind = schema.entities.get(name.kind.as_str())?;
    let id = Eid::new(name.id.clone());
    Some((
        EntityUID::from_components(kind.name.clone(), id, None),
        kind,
    ))
}

/// Names an entity as the wire does.
pub(crate) fn wire(uid: &EntityUID) -> remit_core::EntityUid {
    remit_core::EntityUid::new(uid.entity_type().to_string(), uid.eid())
}

/// Blames an entity.
pub(crate) fn problem(entity: &remit_core::EntityUid, problem: impl Into<String>) -> EntityError {
    EntityError {
        entity: entity.clone(),
        problem: problem.into(),
    }
}

/// Checks that an enumerated type has this id.
fn check_id(kind: &EntitySchema, name: &remit_core::EntityUid) -> Result<(), String> {
    match &kind.ids {
        Some(ids) if !ids.contains(&name.id) => Err(format!(
            "is not one of the ids of the enumerated type `{}`: {}",
            name.kind,
            list(ids)
        )),
        _ => Ok(()),
    }
}

fn read_tags(
    schema: &CompiledSchema,
    kind: &EntitySchema,
    tags: &Map<String, Json>,
) -> Result<BTreeMap<SmolStr, Value>, String> {
    let mut values = BTreeMap::new();
    for (name, json) in tags {
        let Some(of) = &kind.tags else {
            return Err(format!("has the tag `{name}`, and its type has no tags"));
        };
        let mut notes = Vec::new();
        let mut reader = Reader::new(schema, "tags", &mut notes);
        let value = reader.within(name, |at| at.value(of, json));
        let value = value.ok().filter(|_| notes.is_empty());
        values.insert(SmolStr::new(name), value.ok_or_else(|| blame(&notes))?);
    }
    Ok(values)
}

fn read_parent(
    schema: &CompiledSchema,
    kind: &EntitySchema,
    name: &remit_core::EntityUid,
) -> Result<EntityUID, String> {
    let (uid, parent) = locate(schema, name).ok_or_else(|| {
        format!("has the parent `{name}`, whose type the schema does not declare")
    })?;
    check_id(parent, name).map_err(|text| format!("has the parent `{name}`, which {text}"))?;
    if kind.ancestors.contains(&parent.name) {
        Ok(uid)
    } else {
        Err(format!(
            "has the parent `{name}`, and the schema allows no parent of that type"
        ))
    }
}

/// Turns the first note of a reading into what is wrong with an entity.
fn blame(notes: &[Note]) -> String {
    match notes.first() {
        Some(Note::Undeclared { member }) => {
            format!("has `{member}`, which the schema does not declare")
        }
        Some(Note::Mistyped { member, expected }) => {
            format!("has `{member}` of another type than declared, {expected}")
        }
        Some(Note::Missing { member }) => format!("lacks `{member}`, which the schema requires"),
        Some(Note::NotAssertable { .. } | Note::NotStored { .. }) | None => {
            "does not fit the schema".to_owned()
        }
    }
}

fn partial(values: BTreeMap<SmolStr, Value>) -> impl Iterator<Item = (SmolStr, PartialValue)> {
    values
        .into_iter()
        .map(|(name, value)| (name, PartialValue::Value(value)))
}

/// Writes a value as the JSON it can be read from again.
fn unread(value: &Value) -> Json {
    match &value.value {
        ValueKind::Lit(Literal::Bool(flag)) => Json::from(*flag),
        ValueKind::Lit(Literal::Long(number)) => Json::from(*number),
        ValueKind::Lit(Literal::String(text)) => Json::from(text.as_str()),
        ValueKind::Lit(Literal::EntityUID(uid)) => {
            json!({"type": uid.entity_type().to_string(), "id": AsRef::<str>::as_ref(uid.eid())})
        }
        ValueKind::Set(set) => set.iter().map(unread).collect(),
        ValueKind::Record(members) => members
            .iter()
            .map(|(name, value)| (name.to_string(), unread(value)))
            .collect(),
        ValueKind::ExtensionValue(extension) => {
            unread_call(RestrictedExpr::from(extension.as_ref().clone()).as_borrowed())
        }
    }
}

/// Writes the call that makes an extension value: the text it is made from, or the function with its arguments.
fn unread_call(call: BorrowedRestrictedExpr<'_>) -> Json {
    if let Some(text) = call.as_string() {
        return Json::from(text.as_str());
    }
    let Some((name, arguments)) = call.as_extn_fn_call() else {
        return Json::Null;
    };
    let mut arguments: Vec<Json> = arguments.map(unread_call).collect();
    match arguments.as_mut_slice() {
        [text @ Json::String(_)] => text.take(),
        _ => json!({"fn": name.to_string(), "args": arguments}),
    }
}
