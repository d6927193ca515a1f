//! One stored entity: read by the schema when it comes in, written back when the schema changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{
    BorrowedRestrictedExpr, Eid, Entity, EntityUID, Literal, PartialValue, RestrictedExpr, Value,
    ValueKind,
};
use remit_core::Note;
use serde_json::{Map, Value as Json, json};
use smol_str::SmolStr;

use crate::decode::{Reader, list};
use crate::entities::packed::{Opened, Packed};
use crate::schema::{CompiledSchema, EntitySchema};

/// One stored entity, in little space; Cedar's form of it is made when it is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// What the schema says of its type.
    pub(crate) kind: Arc<EntitySchema>,
    /// Its id within the type.
    pub(crate) id: SmolStr,
    /// What is directly above it, sorted, each once.
    pub(crate) parents: Box<[Arc<EntityUID>]>,
    packed: Packed,
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
    /// Reads an entity by the schema.
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
        let (_, kind) = locate(schema, &entity.uid).ok_or_else(|| {
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
        let mut parents = Vec::with_capacity(entity.parents.len());
        for name in &entity.parents {
            parents.push(Arc::new(read_parent(schema, kind, name).map_err(fail)?));
        }
        parents.sort_unstable();
        parents.dedup();
        Ok(Self {
            kind: Arc::clone(kind),
            id: entity.uid.id.clone(),
            parents: parents.into(),
            packed: Packed::of(kind, &attrs, &tags),
            bundled,
        })
    }

    /// Makes Cedar's form of the entity; `above` is what stands above it, its parents first.
    ///
    /// For expressions that do not look at the hierarchy it may be left empty. `None` does not happen: what was packed
    /// opens.
    pub(crate) fn entity(&self, above: &[&EntityUID]) -> Option<Entity> {
        let (attributes, tags) = self.packed.open(&self.kind)?;
        let (parents, further) = above
            .split_at_checked(self.parents.len())
            .unwrap_or_default();
        Some(Entity::new_with_attr_partial_value(
            self.uid(),
            partial(attributes),
            further.iter().copied().cloned().collect(),
            parents.iter().copied().cloned().collect(),
            partial(tags),
        ))
    }

    /// Writes the entity back as it could have been given.
    pub(crate) fn source(&self) -> remit_core::Entity {
        let members = |values: Opened| {
            let values = values.iter();
            values
                .map(|(name, value)| (name.to_string(), unread(value)))
                .collect::<Map<String, Json>>()
        };
        let (attributes, tags) = self.packed.open(&self.kind).unwrap_or_default();
        let mut parents: Vec<_> = self.parents.iter().map(|parent| wire(parent)).collect();
        parents.sort_unstable();
        remit_core::Entity {
            uid: self.name(),
            attrs: members(attributes),
            parents,
            tags: members(tags),
        }
    }

    /// Returns its name as the wire has it.
    pub(crate) fn name(&self) -> remit_core::EntityUid {
        remit_core::EntityUid::new(self.kind.name.to_string(), &self.id)
    }

    fn uid(&self) -> EntityUID {
        EntityUID::from_components(self.kind.name.clone(), Eid::new(self.id.clone()), None)
    }
}

/// Names an entity as Cedar does, with what the schema says of its type; nothing when it declares none.
pub(crate) fn locate<'s>(
    schema: &'s CompiledSchema,
    name: &remit_core::EntityUid,
) -> Option<(EntityUID, &'s Arc<EntitySchema>)> {
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

/// Takes values for values that may be partial, as Cedar has them in entities.
pub(crate) fn partial(
    values: impl IntoIterator<Item = (SmolStr, Value)>,
) -> impl Iterator<Item = (SmolStr, PartialValue)> {
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
