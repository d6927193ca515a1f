//! The scope of one policy against one question, part by part.

use cedar_policy_core::ast::EntityUID;

use super::{ScopeExplanation, ScopePart};
use crate::Snapshot;
use crate::policy::{CompiledPolicy, EntityScope};
use crate::shape::{Party, Shaped};

impl Snapshot {
    /// Says of each part of a policy's scope whether a question satisfies it and what it wants.
    pub(super) fn scope(&self, policy: &CompiledPolicy, shaped: &Shaped<'_>) -> ScopeExplanation {
        let [principal, action, resource] = self.matches(policy, shaped);
        let scope = &policy.scope;
        ScopeExplanation {
            principal: ScopePart {
                matched: principal,
                wants: scope.principal.text("principal"),
            },
            action: ScopePart {
                matched: action,
                wants: scope.action.text(),
            },
            resource: ScopePart {
                matched: resource,
                wants: scope.resource.text("resource"),
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
        [
            self.satisfies(&shaped.principal, &policy.scope.principal),
            policy
                .scope
                .action
                .holds(&action.uid, |group| action.ancestors.contains(group)),
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
