//! Scope: whether what is asked is within what a task was declared for.

use cedar_policy_core::ast::EntityUID;
use remit_core::{Declaration, Dimension, Facts, Question};
use smol_str::SmolStr;

use crate::entities::EntityStore;
use crate::entity::wire;
use crate::schema::{ActionSchema, CompiledSchema};

/// What the declaration of a task says of a question; true where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub(crate) struct Scope {
    /// It may take the action.
    pub(crate) action: bool,
    /// It may act on the resource.
    pub(crate) resource: bool,
    /// It may touch every data class of the tool.
    pub(crate) classes: bool,
    /// It is the opening of a part of the task.
    pub(crate) opens: bool,
}

// === impl Scope ===

impl Scope {
    /// The scope of a question outside any task.
    pub(crate) const ANY: Self = Self {
        action: true,
        resource: true,
        classes: true,
        opens: false,
    };

    /// Holds a question against the declaration of its task, if it has one.
    pub(crate) fn of(
        facts: &Facts,
        action: &ActionSchema,
        resource: &EntityUID,
        store: &EntityStore,
    ) -> Self {
        let declared = facts
            .task
            .as_ref()
            .and_then(|task| task.declaration.as_ref());
        let Some(declared) = declared else {
            return Self::ANY;
        };
        let id: &str = action.uid.eid().as_ref();
        Self {
            opens: Question::opens_task(id, resource.entity_type()),
            action: declared.actions.as_ref().is_none_or(|names| {
                let own = std::iter::once(&*action.uid);
                own.chain(&action.ancestors)
                    .any(|uid| names.iter().any(|name| is_called(uid, name)))
            }),
            resource: declared.resources.as_ref().is_none_or(|declared| {
                let above = store.ancestors(resource);
                let mut all = std::iter::once(resource).chain(above);
                all.any(|uid| declared.contains(&wire(uid)))
            }),
            // Of what the catalogue does not have, nobody has said which classes it touches.
            classes: declared.data_classes.as_ref().is_none_or(|declared| {
                facts
                    .tool
                    .as_ref()
                    .is_some_and(|tool| tool.classes.is_subset(declared))
            }),
        }
    }

    /// Returns the dimension in which a question is outside its task, if it is.
    ///
    /// Opening a part of a task is not limited by what the task may do, but by whether it may be handed on; that the part
    /// is nowhere wider is for whoever opens it to check.
    pub(crate) fn exceeded(self, declared: &Declaration) -> Option<Dimension> {
        if self.opens {
            return (!declared.may_delegate).then_some(Dimension::MayDelegate);
        }
        [
            (Dimension::Actions, self.action),
            (Dimension::Resources, self.resource),
            (Dimension::DataClasses, self.classes),
        ]
        .into_iter()
        .find(|(_, within)| !within)
        .map(|(dimension, _)| dimension)
    }
}

/// Whether an action goes by a name: its id, or its full form `Ns::Action::"id"`.
fn is_called(uid: &EntityUID, name: &SmolStr) -> bool {
    let id: &str = uid.eid().as_ref();
    id == name.as_str() || (name.ends_with('"') && uid.to_string() == name.as_str())
}

/// Whether everything that goes by one name is, or is within, something that goes by another.
///
/// Names that the schema does not know are only within themselves.
pub(crate) fn action_in(schema: &CompiledSchema, name: &str, group: &str) -> bool {
    if name == group {
        return true;
    }
    let group = SmolStr::new(group);
    let mut known = false;
    let mut meant = named(schema, name);
    let all = meant.all(|action| {
        known = true;
        let own = std::iter::once(&*action.uid);
        own.chain(&action.ancestors)
            .any(|uid| is_called(uid, &group))
    });
    known && all
}

/// Returns the actions that go by a name.
fn named<'s>(schema: &'s CompiledSchema, name: &str) -> impl Iterator<Item = &'s ActionSchema> {
    let full: Option<EntityUID> = name.ends_with('"').then(|| name.parse().ok()).flatten();
    let id = full.as_ref().map_or(name, |uid| uid.eid().as_ref());
    let same = schema.actions.get(id).into_iter().flatten();
    same.filter(move |action| full.as_ref().is_none_or(|uid| *action.uid == *uid))
        .map(AsRef::as_ref)
}
