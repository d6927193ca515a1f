//! What a bundle changes against the one before it, and whether it may permit what was denied.
//!
//! No solver is asked. One policy covers another when its scope is at least as wide and each of its conditions is one of
//! the other's; that is proved by looking, holds whatever the entities and the question are, and leaves some true cases
//! out. So "does not loosen" is certain, and "loosens" means that it could not be shown not to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use remit_core::{Effect, Entity, EntityUid, PolicyId};
use serde::{Deserialize, Serialize};

use crate::Snapshot;
use crate::compile::Program;
use crate::policy::CompiledPolicy;

mod cover;
mod review;

use cover::Cover;

/// The most changes that one comparison lists.
const MOST: usize = 1_000;
/// The most entities that one sentence names.
const NAMED: usize = 5;

/// What a bundle changes against another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether some question that was denied may now be permitted: `false` is certain, `true` is not.
    ///
    /// Apart from questions that were refused for a limit of the engine, such as more than 10,000 policies that match one.
    pub loosens: bool,
    /// What changes, that which loosens first, then by policy; at most 1,000.
    pub changes: Vec<Change>,
    /// How many changes there are beyond those.
    #[serde(default)]
    pub more: usize,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of change it is.
    pub code: ChangeCode,
    /// Whether it may permit what was denied.
    pub loosens: bool,
    /// The policy it is about; none for the schema and the entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyId>,
    /// What changes, in one sentence.
    pub message: String,
    /// The file that the policy is in, or was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line there, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeCode {
    /// The schema is another one: what a caller may assert, and what is there to be tested, may differ.
    SchemaChanged,
    /// The bundle's own entities are other ones.
    EntitiesChanged,
    /// A permit is new.
    PermitAdded,
    /// A permit is gone.
    PermitRemoved,
    /// The scope of a permit is wider.
    PermitWidened,
    /// A permit has lost a condition.
    PermitConditionDropped,
    /// A permit holds for less.
    PermitNarrowed,
    /// A permit says something else.
    PermitChanged,
    /// A permit is enforced that was in shadow.
    PermitEnforced,
    /// A permit is in shadow that was enforced.
    PermitToShadow,
    /// A forbid is new.
    ForbidAdded,
    /// A forbid is gone.
    ForbidRemoved,
    /// The scope of a forbid is narrower.
    ForbidNarrowed,
    /// A forbid has one more condition.
    ForbidConditionAdded,
    /// A forbid holds for more.
    ForbidWidened,
    /// A forbid says something else.
    ForbidChanged,
    /// A forbid is enforced that was in shadow.
    ForbidEnforced,
    /// A forbid is in shadow that was enforced.
    ForbidToShadow,
    /// What was a forbid is a permit, or the other way round.
    EffectChanged,
    /// What an enforcement point has to do differs: the annotations that travel with a decision.
    ObligationsChanged,
}

/// The policies of two bundles side by side.
struct Sides<'s> {
    before: Cover<'s>,
    after: Cover<'s>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Says what this bundle changes against `before`.
    ///
    /// Live entities are no part of it: they change on their own.
    pub fn compare(&self, before: &Self) -> Comparison {
        let (old, new) = (&before.rules().program, &self.rules().program);
        let mut changes = Vec::new();
        changes.extend(schema(old, new));
        changes.extend(entities(&old.entities, &new.entities));
        changes.extend(policies(before, self));
        changes.sort_by(|a, b| {
            let key = |one: &Change| (!one.loosens, one.policy.clone(), one.code);
            key(a).cmp(&key(b))
        });
        Comparison {
            loosens: changes.iter().any(|change| change.loosens),
            more: changes.len().saturating_sub(MOST),
            changes: changes.into_iter().take(MOST).collect(),
        }
    }
}

fn schema(old: &Program, new: &Program) -> Option<Change> {
    (old.schema.hash != new.schema.hash).then(|| Change {
        code: ChangeCode::SchemaChanged,
        loosens: true,
        policy: None,
        message: "the schema is another one; what a policy sees of a question may differ"
            .to_owned(),
        file: None,
        line: None,
    })
}

fn entities(old: &[Entity], new: &[Entity]) -> Option<Change> {
    let by_name = |all: &'_ [Entity]| -> BTreeMap<EntityUid, Entity> {
        let pairs = all.iter().map(|one| (one.uid.clone(), one.clone()));
        pairs.collect()
    };
    if old == new {
        return None;
    }
    let (old, new) = (by_name(old), by_name(new));
    let gone = old.keys().filter(|uid| !new.contains_key(*uid));
    let other = new.iter().filter(|(uid, one)| old.get(*uid) != Some(*one));
    let touched: Vec<String> = gone
        .chain(other.map(|(uid, _)| uid))
        .map(|uid| format!("`{uid}`"))
        .collect();
    if touched.is_empty() {
        return None;
    }
    let mut named = touched
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = touched.len().saturating_sub(NAMED);
    if more > 0 {
        let _ = write!(named, " and {more} more");
    }
    Some(Change {
        code: ChangeCode::EntitiesChanged,
        loosens: true,
        policy: None,
        message: format!("entities of the bundle are other ones: {named}"),
        file: None,
        line: None,
    })
}

/// Compares the policies of the same id, and those that only one side has.
fn policies(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let sides = Sides {
        before: Cover::of(before),
        after: Cover::of(after),
    };
    let old = &before.rules().program.policies;
    let new = &after.rules().program.policies;
    let mut changes = Vec::new();
    // Both are in the order of their ids.
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a.id == b.id => {
                changes.extend(sides.changed(a, b));
                left.next();
                right.next();
            }
            (Some(a), b) if b.is_none_or(|b| a.id < b.id) => {
                changes.push(sides.removed(a));
                left.next();
            }
            (_, Some(b)) => {
                changes.push(sides.added(b));
                right.next();
            }
            (Some(_) | None, None) => return changes,
        }
    }
}

// === impl Sides ===

impl Sides<'_> {
    /// Whether what a permit gives, or a forbid takes away no more, may open what was closed.
    fn opens(&self, before: Option<&CompiledPolicy>, after: Option<&CompiledPolicy>) -> bool {
        let enforced = |one: &&CompiledPolicy| !one.shadow;
        let gives = after
            .filter(enforced)
            .filter(|one| one.effect == Effect::Permit);
        let took = before
            .filter(enforced)
            .filter(|one| one.effect == Effect::Forbid);
        gives.is_some_and(|permit| self.before.covering(Effect::Permit, permit, None).is_none())
            || took
                .is_some_and(|forbid| self.after.covering(Effect::Forbid, forbid, None).is_none())
    }

    fn added(&self, new: &Arc<CompiledPolicy>) -> Change {
        let (code, what) = match new.effect {
            Effect::Permit => (ChangeCode::PermitAdded, "this permit is new"),
            Effect::Forbid => (ChangeCode::ForbidAdded, "this forbid is new"),
        };
        let message = if new.shadow {
            format!("{what}, in shadow")
        } else {
            what.to_owned()
        };
        change(code, self.opens(None, Some(new)), new, message)
    }

    fn removed(&self, old: &Arc<CompiledPolicy>) -> Change {
        let (code, what) = match old.effect {
            Effect::Permit => (ChangeCode::PermitRemoved, "this permit is gone"),
            Effect::Forbid => (ChangeCode::ForbidRemoved, "this forbid is gone"),
        };
        let loosens = self.opens(Some(old), None);
        change(code, loosens, old, what.to_owned())
    }

    fn changed(&self, old: &Arc<CompiledPolicy>, new: &Arc<CompiledPolicy>) -> Vec<Change> {
        let mut changes = Vec::new();
        // What stands in a file that did not change is the same value, and need not be compared.
        if Arc::ptr_eq(old, new) {
            return changes;
        }
        let loosens = || self.opens(Some(old), Some(new));
        if old.effect != new.effect {
            let what = format!(
                "this policy was a {} and is a {}",
                word(old.effect),
                word(new.effect)
            );
            changes.push(change(ChangeCode::EffectChanged, loosens(), new, what));
        } else if old.shadow != new.shadow {
            let (code, what) = match (new.effect, new.shadow) {
                (Effect::Permit, true) => (
                    ChangeCode::PermitToShadow,
                    "this permit is enforced no more",
                ),
                (Effect::Permit, false) => {
                    (ChangeCode::PermitEnforced, "this permit was in shadow")
                }
                (Effect::Forbid, true) => (
                    ChangeCode::ForbidToShadow,
                    "this forbid is enforced no more",
                ),
                (Effect::Forbid, false) => {
                    (ChangeCode::ForbidEnforced, "this forbid was in shadow")
                }
            };
            changes.push(change(code, loosens(), new, what.to_owned()));
        } else if let Some((code, what)) = self.other(old, new) {
            changes.push(change(code, loosens(), new, what));
        }
        if old.obligations != new.obligations || old.terms != new.terms {
            let what = "the annotations that travel with a decision differ".to_owned();
            changes.push(change(ChangeCode::ObligationsChanged, false, new, what));
        }
        changes
    }

    /// Says how a policy differs from what it was under the same id, effect and mode.
    fn other(&self, old: &CompiledPolicy, new: &CompiledPolicy) -> Option<(ChangeCode, String)> {
        let less = self.before.covers(old, new);
        let more = self.after.covers(new, old);
        let scope = old.scope != new.scope;
        let (code, what) = match (new.effect, more, less) {
            (_, true, true) => return None,
            (Effect::Permit, true, false) if scope => (
                ChangeCode::PermitWidened,
                format!("this permit holds for more: {}", scopes(old, new)),
            ),
            (Effect::Permit, true, false) => (
                ChangeCode::PermitConditionDropped,
                format!(
                    "this permit demands less: {} is gone",
                    cover::missing(old, new)
                ),
            ),
            (Effect::Permit, false, true) => (
                ChangeCode::PermitNarrowed,
                "this permit holds for less".to_owned(),
            ),
            (Effect::Permit, false, false) => {
                (ChangeCode::PermitChanged, differs("permit", old, new))
            }
            (Effect::Forbid, false, true) if scope => (
                ChangeCode::ForbidNarrowed,
                format!("this forbid holds for less: {}", scopes(old, new)),
            ),
            (Effect::Forbid, false, true) => (
                ChangeCode::ForbidConditionAdded,
                format!(
                    "this forbid demands more: {} is new",
                    cover::missing(new, old)
                ),
            ),
            (Effect::Forbid, true, false) => (
                ChangeCode::ForbidWidened,
                "this forbid holds for more".to_owned(),
            ),
            (Effect::Forbid, false, false) => {
                (ChangeCode::ForbidChanged, differs("forbid", old, new))
            }
        };
        Some((code, what))
    }
}

fn change(code: ChangeCode, loosens: bool, policy: &CompiledPolicy, message: String) -> Change {
    Change {
        code,
        loosens,
        policy: Some(policy.id.clone()),
        message,
        file: Some(policy.file.to_string()),
        line: Some(policy.span.start_line),
    }
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}

fn differs(what: &str, old: &CompiledPolicy, new: &CompiledPolicy) -> String {
    if old.scope == new.scope {
        let (gone, added) = (cover::missing(old, new), cover::missing(new, old));
        format!("this {what} has other conditions: {added} in place of {gone}")
    } else {
        format!("this {what} is another one: {}", scopes(old, new))
    }
}

fn scopes(old: &CompiledPolicy, new: &CompiledPolicy) -> String {
    let text = |one: &CompiledPolicy| {
        let scope = &one.scope;
        format!(
            "({}, {}, {})",
            scope.principal.text("principal"),
            scope.action.text(),
            scope.resource.text("resource")
        )
    };
    format!("{} was {}", text(new), text(old))
}
