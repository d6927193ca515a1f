//! When one policy is known to hold wherever another does.

use std::cell::Cell;

use cedar_policy_core::ast::{BinaryOp, Entity, Expr, ExprKind, Var};
use remit_core::{Effect, PolicyId};
use rustc_hash::FxHashMap;

use crate::Snapshot;
use crate::lint;
use crate::parts::{conjuncts, parts, written};
use crate::policy::{ActionScope, CompiledPolicy, EntityScope};

/// How many actions and conditions are compared; beyond them nothing is known of a policy, which counts as not covered.
const EFFORT: usize = 4_000_000;

/// The enforced policies of a bundle by their scopes, to find those that hold wherever another policy does.
pub(super) struct Cover<'s> {
    snapshot: &'s Snapshot,
    by_scope: FxHashMap<Place<'s>, Vec<&'s CompiledPolicy>>,
    left: Cell<usize>,
}

/// Where policies of one effect stand: by what they demand of principal and resource.
type Place<'s> = (Effect, &'s EntityScope, &'s EntityScope);

impl<'s> Cover<'s> {
    /// Looks the enforced policies of a bundle up.
    pub(super) fn of(snapshot: &'s Snapshot) -> Self {
        let mut by_scope: FxHashMap<Place<'s>, Vec<&'s CompiledPolicy>> = FxHashMap::default();
        for policy in snapshot
            .rules()
            .program
            .policies
            .iter()
            .filter(|one| !one.shadow)
        {
            let place = (
                policy.effect,
                &policy.scope.principal,
                &policy.scope.resource,
            );
            by_scope.entry(place).or_default().push(policy);
        }
        Self {
            snapshot,
            by_scope,
            left: Cell::new(EFFORT),
        }
    }

    /// Finds an enforced policy of an effect, other than `except`, that holds wherever `policy` does.
    pub(super) fn covering(
        &self,
        effect: Effect,
        policy: &CompiledPolicy,
        except: Option<&PolicyId>,
    ) -> Option<&'s CompiledPolicy> {
        let (principals, resources) = (
            policy.scope.principal.wider(),
            policy.scope.resource.wider(),
        );
        for principal in &principals {
            for resource in &resources {
                let place: Place<'_> = (effect, principal, resource);
                for candidate in self.by_scope.get(&place).into_iter().flatten() {
                    if Some(&candidate.id) != except && self.covers(candidate, policy) {
                        return Some(candidate);
                    }
                }
            }
        }
        None
    }

    /// Whether `wide` is known to hold wherever `narrow` does, and, for a forbid, to deny where that fails.
    pub(super) fn covers(&self, wide: &CompiledPolicy, narrow: &CompiledPolicy) -> bool {
        if !self.spend(1) {
            return false;
        }
        let within = |wide: &EntityScope, narrow: &EntityScope| narrow.wider().contains(wide);
        within(&wide.scope.principal, &narrow.scope.principal)
            && within(&wide.scope.resource, &narrow.scope.resource)
            && self.covers_actions(wide, narrow)
            && self.covers_conditions(wide, narrow)
    }

    /// Takes from what may be compared; false when there is nothing left.
    fn spend(&self, effort: usize) -> bool {
        let left = self.left.get().checked_sub(effort);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn covers_actions(&self, wide: &CompiledPolicy, narrow: &CompiledPolicy) -> bool {
        let (wide, narrow) = (&wide.scope.action, &narrow.scope.action);
        if wide == narrow {
            return true;
        }
        let actions = &self.snapshot.rules().actions;
        let holds = |scope: &ActionScope, action: &Entity| {
            scope.holds(action.uid(), |group| action.is_descendant_of(group))
        };
        // Of an action that this schema does not know nothing is known.
        if let ActionScope::Eq(uid) = narrow {
            return actions.get(uid).is_some_and(|action| holds(wide, action));
        }
        if !self.spend(actions.len()) {
            return false;
        }
        let mut meant = actions.values().filter(|action| holds(narrow, action));
        let mut any = false;
        let all = meant.all(|action| {
            any = true;
            holds(wide, action)
        });
        any && all
    }

    /// All conditions of `wide` are conditions of `narrow`; where that is a forbid, an error in one of its other
    /// conditions, which denies, must not come first.
    fn covers_conditions(&self, wide: &CompiledPolicy, narrow: &CompiledPolicy) -> bool {
        let (demands, given) = (conditions(wide), conditions(narrow));
        if !self.spend(demands.len().saturating_mul(given.len())) {
            return false;
        }
        let starts = demands.len() <= given.len()
            && demands.iter().zip(&given).all(|(a, b)| a.eq_shape::<()>(b));
        starts
            || demands.iter().all(|one| has(&given, one))
                && (narrow.effect == Effect::Permit || !self.may_fail(narrow))
    }

    fn may_fail(&self, policy: &CompiledPolicy) -> bool {
        let schema = &self.snapshot.rules().program.schema;
        policy
            .body
            .as_deref()
            .is_some_and(|body| lint::can_fail(body, schema) || reads_entities(body))
    }
}

/// Names the conditions of one policy that another does not have.
pub(super) fn missing(of: &CompiledPolicy, from: &CompiledPolicy) -> String {
    let known = conditions(from);
    let named: Vec<String> = conditions(of)
        .into_iter()
        .filter(|one| !has(&known, one))
        .map(|one| format!("`{}`", written(one, &of.text)))
        .collect();
    if named.is_empty() {
        "nothing".to_owned()
    } else {
        named.join(" and ")
    }
}

fn conditions(policy: &CompiledPolicy) -> Vec<&Expr> {
    policy.body.as_deref().map(conjuncts).unwrap_or_default()
}

fn has(all: &[&Expr], one: &Expr) -> bool {
    all.iter().any(|other| other.eq_shape(one))
}

/// Whether attributes or tags of entities are read, which may not be there where the entity is not stored.
fn reads_entities(expr: &Expr) -> bool {
    let of_entity = match expr.expr_kind() {
        ExprKind::GetAttr { expr, .. } => !of_context(expr),
        ExprKind::BinaryApp { op, .. } => matches!(op, BinaryOp::GetTag),
        _ => false,
    };
    of_entity || parts(expr.expr_kind()).into_iter().any(reads_entities)
}

/// Whether an expression is the context or a member of it, reached through no entity.
fn of_context(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::Var(var) => matches!(var, Var::Context),
        ExprKind::GetAttr { expr, .. } => of_context(expr),
        _ => false,
    }
}
