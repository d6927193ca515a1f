//! Whether two policies say the same in every question that the schema allows.

use std::collections::BTreeSet;

use cedar_policy_core::ast::EntityType;

use crate::policy::{CompiledPolicy, EntityScope, Scope};
use crate::schema::CompiledSchema;

/// Says whether a policy that was changed is certain to decide as before: the same effect under the same conditions,
/// and a scope whose tests of types let in the same questions.
///
/// What it says no to may decide the same all the same; whether cases can tell is for the cases.
pub(super) fn same(
    schema: &CompiledSchema,
    before: &CompiledPolicy,
    after: &CompiledPolicy,
) -> bool {
    let bodies = match (&before.body, &after.body) {
        (None, None) => true,
        (Some(before), Some(after)) => before.eq_shape(after),
        _ => false,
    };
    bodies
        && before.effect == after.effect
        && before.shadow == after.shadow
        && without_type(&before.scope.principal) == without_type(&after.scope.principal)
        && without_type(&before.scope.resource) == without_type(&after.scope.resource)
        && questions(schema, &before.scope) == questions(schema, &after.scope)
}

/// Returns a scope without its test of the type.
fn without_type(scope: &EntityScope) -> EntityScope {
    match scope {
        EntityScope::Is(_) => EntityScope::Any,
        EntityScope::IsIn(_, group) => EntityScope::In(group.clone()),
        other => other.clone(),
    }
}

/// Returns every combination of types and action that a scope lets in.
fn questions(schema: &CompiledSchema, scope: &Scope) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for action in schema.actions.values().flatten() {
        let below = |group: &_| action.ancestors.contains(group);
        if !scope.action.holds(&action.uid, below) {
            continue;
        }
        for principal in &action.principals {
            for resource in &action.resources {
                if lets_in(schema, &scope.principal, principal)
                    && lets_in(schema, &scope.resource, resource)
                {
                    found.insert((
                        principal.to_string(),
                        action.uid.to_string(),
                        resource.to_string(),
                    ));
                }
            }
        }
    }
    found
}

/// Says whether some entity of a type can satisfy a scope.
fn lets_in(schema: &CompiledSchema, scope: &EntityScope, kind: &EntityType) -> bool {
    let under = |group: &EntityType| {
        let known = schema.entities.get(kind.to_string().as_str());
        group == kind || known.is_none_or(|known| known.ancestors.contains(group))
    };
    match scope {
        EntityScope::Any => true,
        EntityScope::Is(wanted) => wanted == kind,
        EntityScope::Eq(uid) => uid.entity_type() == kind,
        EntityScope::In(group) => under(group.entity_type()),
        EntityScope::IsIn(wanted, group) => wanted == kind && under(group.entity_type()),
    }
}
