//! Whether two policies say the same in every question that the schema allows.

use std::collections::BTreeSet;

use cedar_policy_core::ast::Template;
use cedar_policy_core::validator::ValidationMode;
use cedar_policy_core::validator::typecheck::{PolicyCheck, Typechecker};
use cedar_policy_core::validator::types::RequestEnv;

use crate::policy::{CompiledPolicy, EntityScope};
use crate::rule::Rule;
use crate::schema::CompiledSchema;

/// Says whether a policy that was changed decides as before as far as types can tell: the same effect under the same
/// conditions, and a scope whose tests of types and actions let in the same questions, those left out in which the
/// conditions can never hold.
///
/// What it says no to may decide the same all the same; whether cases can tell is for the cases.
pub(super) fn same(
    schema: &CompiledSchema,
    rules: (&Rule, &Rule),
    policies: (&CompiledPolicy, &CompiledPolicy),
) -> bool {
    let (before, after) = policies;
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
        && questions(schema, &rules.0.template) == questions(schema, &rules.1.template)
}

/// Returns a scope without its test of the type.
fn without_type(scope: &EntityScope) -> EntityScope {
    match scope {
        EntityScope::Is(_) => EntityScope::Any,
        EntityScope::IsIn(_, group) => EntityScope::In(group.clone()),
        other => other.clone(),
    }
}

/// Returns every combination of types and action for which a policy is not false by its types alone.
fn questions(schema: &CompiledSchema, template: &Template) -> BTreeSet<[String; 3]> {
    let types = Typechecker::new(schema.validator.schema(), ValidationMode::Strict);
    let checked = types.typecheck_by_request_env(template);
    checked
        .filter(|(_, check)| !matches!(check, PolicyCheck::Irrelevant(..)))
        .filter_map(|(asked, _)| match asked {
            RequestEnv::DeclaredAction {
                principal,
                action,
                resource,
                ..
            } => Some([
                principal.to_string(),
                action.to_string(),
                resource.to_string(),
            ]),
            RequestEnv::UndeclaredAction => None,
        })
        .collect()
}
