//! The scope of one policy against one question, part by part.

use cedar_policy_core::ast::EntityUID;

use super::{ScopeExplanation, ScopePart};
use crate::Snapshot;
use crate::policy::{ActionScope, CompiledPolicy, EntityScope};
use crate::shape::{Party, Shaped};

impl Snapshot {
    /// Says of each part of a policy's scope whether a question satisfies it and what it wants.
    pub(super) fn scope(&self, policy: &CompiledPolicy, shaped: &Shaped<'_>) -> ScopeExplanation {
        let [principal, action, resource] = self.matches(policy, shaped);
        let scope = &policy.scope;
        ScopeExplanation {
            principal: ScopePart {
                matched: principal,
                wants: entity_text("principal", &scope.principal),
            },
            action: ScopePart {
                matched: action,
                wants: action_text(&scope.action),
            },
            resource: ScopePart {
                matched: resource,
                wants: entity_text("resource", &scope.resource),
            },
        }
    }

    /// Counts the parts of a policy's scope that a question does not satisfy.
    pub(super) fn mismatches(&self, policy: &CompiledPolicy, shaped: &Shaped<'_>) -> usize {
        let parts = self.matches(policy, shaped);
        parts.into_iter().filter(|matched| !matched).count()
    }

    fn matches(&self, policy: &CompiledPolicy, shaped: &Shaped<'_>) -> [bool; 3] {
        let action = &shaped.action;
        let within = |group: &EntityUID| *group == *action.uid || action.ancestors.contains(group);
        [
            self.satisfies(&shaped.principal, &policy.scope.principal),
            match &policy.scope.action {
                ActionScope::Any => true,
                ActionScope::Eq(uid) => *uid == action.uid,
                ActionScope::In(groups) => groups.iter().any(|group| within(group)),
            },
            self.satisfies(&shaped.resource, &policy.scope.resource),
        ]
    }

    fn satisfies(&self, party: &Party, scope: &EntityScope) -> bool {
        let within =
            |group: &EntityUID| party.uid == *group || self.entities().is_below(&party.uid, group);
        match scope {
            EntityScope::Any => true,
            EntityScope::Is(kind) => party.uid.entity_type() == kind,
            EntityScope::Eq(uid) => party.uid == **uid,
            EntityScope::In(group) => within(group),
            EntityScope::IsIn(kind, group) => party.uid.entity_type() == kind && within(group),
        }
    }
}

fn entity_text(variable: &str, scope: &EntityScope) -> String {
    match scope {
        EntityScope::Any => variable.to_owned(),
        EntityScope::Is(kind) => format!("{variable} is {kind}"),
        EntityScope::Eq(uid) => format!("{variable} == {uid}"),
        EntityScope::In(group) => format!("{variable} in {group}"),
        EntityScope::IsIn(kind, group) => format!("{variable} is {kind} in {group}"),
    }
}

fn action_text(scope: &ActionScope) -> String {
    match scope {
        ActionScope::Any => "action".to_owned(),
        ActionScope::Eq(uid) => format!("action == {uid}"),
        ActionScope::In(groups) => match groups.as_slice() {
            [only] => format!("action in {only}"),
            several => {
                let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                format!("action in [{}]", several.join(", "))
            }
        },
    }
}
