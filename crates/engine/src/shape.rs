//! Shaping: a question in AuthZEN's words in, a request in Cedar's values out.
//!
//! The schema decides what counts. What it does not declare is dropped and noted; what it declares and the caller gets
//! wrong denies; what no caller may assert stands as it is stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Eid, Entity, EntityUID, PartialValue, Value};
use remit_core::{Facts, Note, Question, Reason, Resource, Subject};
use serde_json::{Map, Value as Json};
use smol_str::SmolStr;

use crate::Snapshot;
use crate::decode::{Fault, Reader, list};
use crate::entities::EntityStore;
use crate::entity::wire;
use crate::schema::{ActionSchema, CompiledSchema, EntitySchema, Field, Fields, Kind};

mod facts;
mod reads;
mod scope;

use facts::Unfit;

pub(crate) use facts::Known;
pub(crate) use reads::Reads;
pub(crate) use scope::{Scope, action_in};

/// The context member that holds what Remit knows.
const FACTS: &str = "facts";
/// The context member that holds the arguments of the action.
const ACTION: &str = "action";

/// A question in Cedar's values.
#[derive(Debug, Clone)]
pub(crate) struct Shaped<'s> {
    /// Who.
    pub(crate) principal: Party,
    /// What, as the schema declares it.
    pub(crate) action: &'s ActionSchema,
    /// To what.
    pub(crate) resource: Party,
    /// The context, facts included where the action wants them.
    pub(crate) context: Arc<BTreeMap<SmolStr, Value>>,
    /// What the declaration of the task says of the question.
    pub(crate) scope: Scope,
}

/// The principal or the resource of a question.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    /// Its name.
    pub(crate) uid: EntityUID,
    /// The entity with what the caller asserts of it; `None` where the stored one, if any, stands.
    pub(crate) asserted: Option<Arc<Entity>>,
}

/// The schema's part of a question: the three types, without anything the caller says of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'s> {
    /// The principal's type.
    pub(crate) principal: &'s EntitySchema,
    /// The action.
    pub(crate) action: &'s ActionSchema,
    /// The resource's type.
    pub(crate) resource: &'s EntitySchema,
}

// === impl Frame ===

impl<'s> Frame<'s> {
    /// Looks the types and the action up.
    ///
    /// # Errors
    ///
    /// The [`Reason`] to deny for: an unknown type or action, or an action that does not apply to the types.
    pub(crate) fn find(
        schema: &'s CompiledSchema,
        subject: &str,
        action: &str,
        resource: &str,
    ) -> Result<Self, Reason> {
        let (principal, resource) = Self::types(schema, subject, resource)?;
        let action = resolve(schema, action, principal, resource).ok_or(Reason::UnknownAction)?;
        let frame = Self {
            principal,
            action,
            resource,
        };
        if frame.applies() {
            Ok(frame)
        } else {
            Err(Reason::ActionNotApplicable)
        }
    }

    /// Looks two types up.
    ///
    /// # Errors
    ///
    /// The [`Reason`] to deny for.
    pub(crate) fn types(
        schema: &'s CompiledSchema,
        subject: &str,
        resource: &str,
    ) -> Result<(&'s EntitySchema, &'s EntitySchema), Reason> {
        let principal = schema
            .entities
            .get(subject)
            .ok_or(Reason::UnknownSubjectType)?;
        let resource = schema
            .entities
            .get(resource)
            .ok_or(Reason::UnknownResourceType)?;
        Ok((principal, resource))
    }

    /// Whether the action applies to the types.
    pub(crate) fn applies(&self) -> bool {
        self.action.principals.contains(&self.principal.name)
            && self.action.resources.contains(&self.resource.name)
    }
}

/// Finds the action called `name`: its id, or its full form `Ns::Action::"id"`.
///
/// Where several namespaces declare the id, the resource's namespace goes before the subject's; where neither declares
/// it, the name is not known.
pub(crate) fn resolve<'s>(
    schema: &'s CompiledSchema,
    name: &str,
    principal: &EntitySchema,
    resource: &EntitySchema,
) -> Option<&'s ActionSchema> {
    if let Some(actions) = schema.actions.get(name) {
        if let [only] = actions.as_slice() {
            return Some(only);
        }
        let declared_by = |of: &EntitySchema| {
            let namespace = of.name.name().as_ref().namespace();
            actions
                .iter()
                .find(|action| action.uid.entity_type().name().as_ref().namespace() == namespace)
        };
        return declared_by(resource)
            .or_else(|| declared_by(principal))
            .map(AsRef::as_ref);
    }
    let uid: EntityUID = full_name(name)?;
    let actions = schema.actions.get(AsRef::<str>::as_ref(uid.eid()))?;
    actions
        .iter()
        .find(|action| *action.uid == uid)
        .map(AsRef::as_ref)
}

// === impl Snapshot ===

impl Snapshot {
    /// Returns what the schema declares of the action that a question is about.
    pub(crate) fn action_schema(&self, question: &Question) -> Option<&ActionSchema> {
        let schema = &self.rules().program.schema;
        let (subject, resource) = (&question.subject.kind, &question.resource.kind);
        let (principal, resource) = Frame::types(schema, subject, resource).ok()?;
        resolve(schema, &question.action.name, principal, resource)
    }

    /// Returns the action that a question is about: its id, which is the name of its tool, and the one spelling that tells
    /// it from every other action: the id again or, where several namespaces declare it, the full form.
    ///
    /// Nothing where the schema does not know the types or the name; such a question is denied.
    pub fn action_of(&self, question: &Question) -> Option<(&str, Cow<'_, str>)> {
        let schema = &self.rules().program.schema;
        let uid = &self.action_schema(question)?.uid;
        let id: &str = uid.eid().as_ref();
        let several = schema.actions.get(id).is_some_and(|all| all.len() > 1);
        let spelling = if several {
            Cow::Owned(uid.to_string())
        } else {
            Cow::Borrowed(id)
        };
        Some((id, spelling))
    }
}

/// Reads `Ns::Action::"id"`; only a name in that form is given to Cedar's parser.
fn full_name(name: &str) -> Option<EntityUID> {
    let (kind, _) = name.split_once("::\"").filter(|_| name.ends_with('"'))?;
    let last = kind.rsplit("::").next()?;
    (last == "Action").then(|| name.parse().ok()).flatten()
}

/// Shapes a question by the schema.
///
/// # Errors
///
/// The [`Reason`] to deny for; `notes` then end with what is at fault.
pub(crate) fn shape<'s>(
    schema: &'s CompiledSchema,
    store: &EntityStore,
    question: &Question,
    facts: &Facts,
    reads: Reads,
    notes: &mut Vec<Note>,
) -> Result<Shaped<'s>, Reason> {
    let (subject, resource) = (&question.subject, &question.resource);
    let frame = Frame::find(schema, &subject.kind, &question.action.name, &resource.kind)?;
    let mut shaper = Shaper {
        schema,
        store,
        notes,
    };
    let (principal, resource) =
        shaper.parties(frame.principal, subject, frame.resource, resource)?;
    let scope = Scope::of(facts, frame.action, &resource.uid, store);
    let known = Known {
        facts,
        scope,
        arguments: &question.action.properties,
        reads,
    };
    let context = shaper.context(frame.action, &question.context, known)?;
    Ok(Shaped {
        principal,
        action: frame.action,
        resource,
        context: Arc::new(context),
        scope,
    })
}

/// What shaping reads from and writes to.
pub(crate) struct Shaper<'a> {
    /// The schema that decides.
    pub(crate) schema: &'a CompiledSchema,
    /// The entities that are stored.
    pub(crate) store: &'a EntityStore,
    /// What is remarked.
    pub(crate) notes: &'a mut Vec<Note>,
}

// === impl Shaper ===

impl Shaper<'_> {
    /// Shapes the subject and the resource.
    ///
    /// # Errors
    ///
    /// [`Reason::MistypedProperty`].
    pub(crate) fn parties(
        &mut self,
        subject_kind: &EntitySchema,
        subject: &Subject,
        resource_kind: &EntitySchema,
        resource: &Resource,
    ) -> Result<(Party, Party), Reason> {
        let mut principal = self.party(
            "subject",
            subject_kind,
            &subject.id,
            &subject.properties,
            None,
        )?;
        let twin = principal.asserted.clone();
        let resource = self.party(
            "resource",
            resource_kind,
            &resource.id,
            &resource.properties,
            twin,
        )?;
        if principal.uid == resource.uid {
            // One entity asked about in both places is one entity.
            principal.asserted.clone_from(&resource.asserted);
        }
        Ok((principal, resource))
    }

    /// Shapes the subject or the resource; `twin` is what was already asserted of the other one.
    ///
    /// # Errors
    ///
    /// [`Reason::MistypedProperty`].
    pub(crate) fn party(
        &mut self,
        member: &str,
        kind: &EntitySchema,
        id: &str,
        properties: &Map<String, Json>,
        twin: Option<Arc<Entity>>,
    ) -> Result<Party, Reason> {
        let uid = EntityUID::from_components(kind.name.clone(), Eid::new(id), None);
        if let Some(ids) = kind.ids.as_ref().filter(|ids| !ids.contains(id)) {
            let mut reader = Reader::new(self.schema, member, self.notes);
            let expected = format!("one of {}", list(ids));
            reader.within("id", |at| at.unexpected(expected));
            return Err(Reason::MistypedProperty);
        }
        let stored = self.store.get(&uid);
        if stored.is_none() && kind.ids.is_none() {
            let entity = wire(&uid).to_string();
            self.notes.push(Note::NotStored { entity });
        }
        let asserted = self.assertions(member, &kind.attributes, properties)?;
        let twin = twin.filter(|twin| *twin.uid() == uid);
        if asserted.is_empty() {
            return Ok(Party {
                uid,
                asserted: twin,
            });
        }
        let base = match (twin, stored) {
            (Some(twin), _) => Arc::unwrap_or_clone(twin),
            (None, Some(_)) => self.store.entity(&uid).ok_or(Reason::EngineFault)?,
            (None, None) => Entity::with_uid(uid.clone()),
        };
        let (_, mut attrs, above, parents, tags) = base.into_inner();
        attrs.extend(asserted);
        let entity = Entity::new_with_attr_partial_value(uid.clone(), attrs, above, parents, tags);
        Ok(Party {
            uid,
            asserted: Some(Arc::new(entity)),
        })
    }

    /// Reads the properties that a caller may assert.
    fn assertions(
        &mut self,
        member: &str,
        attributes: &Fields,
        properties: &Map<String, Json>,
    ) -> Result<Vec<(SmolStr, PartialValue)>, Reason> {
        if properties.is_empty() {
            return Ok(Vec::new());
        }
        let mut reader = Reader::new(self.schema, member, self.notes);
        let mut asserted = Vec::with_capacity(properties.len());
        reader
            .within("properties", |at| {
                at.undeclared_among(attributes, properties, |_| false);
                for (name, field) in attributes {
                    match properties.get(name.as_str()) {
                        None => {}
                        Some(_) if !field.assertable => at.within(name, Reader::not_assertable),
                        Some(json) => {
                            let value = at.within(name, |at| at.value(&field.kind, json))?;
                            asserted.push((name.clone(), PartialValue::Value(value)));
                        }
                    }
                }
                Ok(asserted)
            })
            .map_err(|_: Fault| Reason::MistypedProperty)
    }

    /// Shapes the context of an action: what the caller says, the action's arguments, and Remit's facts.
    ///
    /// # Errors
    ///
    /// [`Reason::MistypedProperty`] or [`Reason::MissingContext`].
    pub(crate) fn context(
        &mut self,
        action: &ActionSchema,
        context: &Map<String, Json>,
        known: Known<'_>,
    ) -> Result<BTreeMap<SmolStr, Value>, Reason> {
        let fields = &action.context;
        let arguments = self.arguments(fields.get_key_value(ACTION), known.arguments)?;
        let mut values: BTreeMap<SmolStr, Value> = arguments.into_iter().collect();
        if let Some((name, field)) = fields.get_key_value(FACTS) {
            let value = known.value(&field.kind).map_err(|Unfit| {
                let mut reader = Reader::new(self.schema, "context", self.notes);
                reader.within(name, Reader::missing);
                Reason::MissingContext
            })?;
            values.extend(value.map(|value| (name.clone(), value)));
        }
        let mut reader = Reader::new(self.schema, "context", self.notes);
        reader.undeclared_among(fields, context, Question::is_own);
        for (name, field) in fields {
            match context.get(name.as_str()) {
                None => {}
                // What belongs to the protocol is no more the caller's to tell policies than the facts are.
                Some(_) if name == FACTS || name == ACTION || Question::is_machinery(name) => {
                    reader.within(name, Reader::not_assertable);
                }
                Some(json) => {
                    let value = reader.within(name, |at| at.value(&field.kind, json));
                    values.insert(name.clone(), value.map_err(Fault::reason)?);
                }
            }
        }
        reader.complete(fields, &values).map_err(Fault::reason)?;
        Ok(values)
    }

    /// Reads the action's properties into the context member that its type declares for them.
    fn arguments(
        &mut self,
        declared: Option<(&SmolStr, &Field)>,
        properties: &Map<String, Json>,
    ) -> Result<Option<(SmolStr, Value)>, Reason> {
        let mut reader = Reader::new(self.schema, "action.properties", self.notes);
        match declared {
            Some((name, field)) => {
                if properties.is_empty() && !field.required {
                    return Ok(None);
                }
                let Kind::Record(members) = &field.kind else {
                    return Ok(None);
                };
                let values = reader.record(members, properties).map_err(Fault::reason)?;
                Ok(Some((
                    name.clone(),
                    Value::record_arc(Arc::new(values), None),
                )))
            }
            None => {
                reader.undeclared_among(&Fields::new(), properties, |_| false);
                Ok(None)
            }
        }
    }
}

// === impl Fault ===

impl Fault {
    /// Why a context with this fault denies.
    fn reason(self) -> Reason {
        match self {
            Self::Mistyped => Reason::MistypedProperty,
            Self::Missing => Reason::MissingContext,
        }
    }
}
