//! Policies that are valid by themselves and make no difference beside the others, or name what is not there.

use cedar_policy_core::ast::{EntityType, EntityUID, Expr, ExprKind, Literal};
use remit_core::Effect;
use rustc_hash::{FxHashMap, FxHashSet};

use super::cover::Cover;
use crate::Snapshot;
use crate::diagnostic::{Diagnostic, Severity};
use crate::entity::locate;
use crate::policy::{CompiledPolicy, EntityScope};

/// The most findings of one review.
const MOST: usize = 1_000;

impl Snapshot {
    /// Looks for enforced policies that make no difference: those that another covers (`subsumed`), and permits of which a
    /// forbid takes everything back (`overridden`). At most 1,000, by policy.
    ///
    /// What it finds of those is certain; it does not find everything, for no solver is asked. And for policies that name an
    /// entity which is nowhere, where every other entity of that type belongs to the bundle (`missing_entity`).
    pub fn review(&self) -> Vec<Diagnostic> {
        let cover = Cover::of(self);
        let known = Known::of(self);
        let policies = self.rules().program.policies.iter();
        policies
            .flat_map(|policy| {
                let enforced = !policy.shadow;
                let redundant = enforced.then(|| redundant(&cover, policy)).flatten();
                redundant.into_iter().chain(known.missing(policy))
            })
            .take(MOST)
            .collect()
    }
}

/// The entities there are, and the types of which a bundle holds all.
struct Known<'s> {
    snapshot: &'s Snapshot,
    complete: FxHashSet<EntityType>,
}

impl<'s> Known<'s> {
    fn of(snapshot: &'s Snapshot) -> Self {
        let program = &snapshot.rules().program;
        let mut bundled: FxHashMap<EntityType, usize> = FxHashMap::default();
        for entity in &program.entities {
            if let Some((uid, schema)) = locate(&program.schema, &entity.uid)
                && schema.ids.is_none()
            {
                *bundled.entry(uid.entity_type().clone()).or_default() += 1;
            }
        }
        let all = bundled
            .into_iter()
            .filter(|(kind, count)| snapshot.entities().stored_of(kind) == *count);
        Self {
            snapshot,
            complete: all.map(|(kind, _)| kind).collect(),
        }
    }

    /// Finds what a policy names and what is neither stored nor named as a parent, each once.
    fn missing(&self, policy: &CompiledPolicy) -> Vec<Diagnostic> {
        let mut named: Vec<&EntityUID> = Vec::new();
        for scope in [&policy.scope.principal, &policy.scope.resource] {
            match scope {
                EntityScope::Eq(uid) | EntityScope::In(uid) | EntityScope::IsIn(_, uid) => {
                    named.push(uid);
                }
                EntityScope::Any | EntityScope::Is(_) => {}
            }
        }
        let body = policy.body.as_deref();
        for expr in body.into_iter().flat_map(Expr::subexpressions) {
            if let ExprKind::Lit(Literal::EntityUID(uid)) = expr.expr_kind() {
                named.push(uid);
            }
        }
        let entities = self.snapshot.entities();
        let is_missing = |uid: &&EntityUID| {
            self.complete.contains(uid.entity_type())
                && entities.get(uid).is_none()
                && !entities.is_parent(uid)
        };
        let mut missing: Vec<&EntityUID> = named.into_iter().filter(is_missing).collect();
        missing.sort_unstable();
        missing.dedup();
        let told = missing.into_iter().map(|uid| {
            let kind = uid.entity_type();
            let message = format!(
                "this policy names `{uid}`, and there is no such entity; every other `{kind}` belongs to the bundle"
            );
            finding("missing_entity", message, policy)
                .with_help("correct the name, or add the entity to the bundle")
        });
        told.collect()
    }
}

fn redundant(cover: &Cover<'_>, policy: &CompiledPolicy) -> Option<Diagnostic> {
    if policy.effect == Effect::Permit
        && let Some(forbid) = cover.covering(Effect::Forbid, policy, None)
    {
        let message = format!(
            "this permit never takes effect: the forbid `{}` takes all of it back",
            forbid.id
        );
        return Some(finding("overridden", message, policy));
    }
    let other = cover.covering(policy.effect, policy, Some(&policy.id))?;
    // Of two that say the same, the later one is one too many.
    if cover.covers(policy, other) && policy.id < other.id {
        return None;
    }
    let does = match policy.effect {
        Effect::Permit => "permits",
        Effect::Forbid => "forbids",
    };
    let message = format!("whatever this policy {does}, `{}` {does} already", other.id);
    Some(finding("subsumed", message, policy))
}

fn finding(code: &str, message: String, policy: &CompiledPolicy) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        ..Diagnostic::error(code, message)
            .at(&policy.file, Some(policy.span))
            .with_policy(&policy.id)
    }
}
