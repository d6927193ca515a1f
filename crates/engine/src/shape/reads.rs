//! Reads: which members of the facts a policy can get at.
//!
//! Facts have many members and most policies read few of them. Those that no policy of a bundle names are not made into
//! values: no expression could tell the difference.

use std::ops::{BitOr, BitOrAssign};

use cedar_policy_core::ast::{Expr, ExprKind, Var};

/// The facts that are records, and their members; names that occur in several stand once.
const NAMES: [&str; 49] = [
    "agent",
    "task",
    "tool",
    "call",
    "approval",
    "standing",
    "owner",
    "purpose",
    "environment",
    "model",
    "trust",
    "roles",
    "build",
    "presented_build",
    "build_matches",
    "id",
    "state",
    "on_behalf_of",
    "digest",
    "depth",
    "may_delegate",
    "expires_at",
    "declares_actions",
    "action_declared",
    "declares_resources",
    "resource_declared",
    "declares_classes",
    "classes_declared",
    "declares_sinks",
    "sinks",
    "trusted_sinks",
    "labels",
    "classes",
    "exhausted",
    "in_window",
    "name",
    "effect",
    "domain",
    "integrity",
    "confidentiality",
    "irreversible",
    "min_trust",
    "clearance",
    "descriptor",
    "presented",
    "pinned",
    "links",
    "amount",
    "approvers",
];
/// How many of those are records themselves, from the first.
const RECORDS: usize = 5;

/// A set of names of facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reads(u64);

// === impl Reads ===

impl Reads {
    /// Every name, known or not.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// Returns what an expression reads: the names it mentions, or all if it takes a whole record of facts as a value.
    pub(crate) fn of(body: &Expr) -> Self {
        let (mut whole, mut taken_apart) = (0, 0);
        let mut reads = Self::default();
        for expr in body.subexpressions() {
            whole += usize::from(is_known(expr));
            match expr.expr_kind() {
                ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => {
                    taken_apart += usize::from(is_known(expr));
                    reads |= Self::name(attr).unwrap_or_default();
                }
                ExprKind::ExtHasAttr { expr, attrs } => {
                    taken_apart += usize::from(is_known(expr));
                    for attr in attrs {
                        reads |= Self::name(attr).unwrap_or_default();
                    }
                }
                _ => {}
            }
        }
        if whole > taken_apart {
            Self::ALL
        } else {
            reads
        }
    }

    /// Returns a name as a set of itself; every name for one that is no fact's.
    pub(crate) fn named(name: &str) -> Self {
        Self::name(name).unwrap_or(Self::ALL)
    }

    /// Whether what goes by this name must be there; what is no fact of ours always.
    pub(crate) fn has(self, name: Self) -> bool {
        name == Self::ALL || self.0 & name.0 != 0
    }

    fn name(name: &str) -> Option<Self> {
        let place = NAMES.iter().position(|known| *known == name)?;
        Some(Self(1 << place))
    }
}

impl BitOr for Reads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Reads {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// Whether an expression is the context, its facts, or a record among these.
fn is_known(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::Var(Var::Context) => true,
        ExprKind::GetAttr { expr, attr } if attr == "facts" => is_context(expr),
        ExprKind::GetAttr { expr, attr } => {
            let record = NAMES
                .iter()
                .take(RECORDS)
                .any(|name| *name == attr.as_str());
            let of_facts = |expr: &Expr| matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr } if attr == "facts" && is_context(expr));
            record && of_facts(expr)
        }
        _ => false,
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::Var(Var::Context))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn an_expression_reads_what_it_names_or_all() {
        let named = |names: &[&str]| {
            let all = names.iter().map(|name| Reads::named(name));
            all.fold(Reads::default(), |all, one| all | one)
        };
        for (text, expected) in [
            ("true", named(&[])),
            ("context.facts.approved", named(&[])),
            (
                "context has facts && context.facts has task",
                named(&["task"]),
            ),
            (
                "context.facts.task.labels.contains(\"x\")",
                named(&["task", "labels"]),
            ),
            (
                "context has facts.tool.clearance",
                named(&["tool", "clearance"]),
            ),
            ("principal.owner == resource.owner", named(&["owner"])),
            ("context.facts == context.facts", Reads::ALL),
            (
                "[context.facts.task].contains(context.facts.task)",
                Reads::ALL,
            ),
            (
                "(if true then context else context).facts.now == 1",
                Reads::ALL,
            ),
            (
                "(if true then context.facts.call else context.facts.call).amount == 1",
                Reads::ALL,
            ),
        ] {
            let reads = Expr::from_str(text).map(|expr| Reads::of(&expr));
            assert_eq!(reads.ok(), Some(expected), "{text}");
        }
    }

    #[test]
    fn every_member_of_the_facts_has_its_own_place() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(NAMES.iter().all(|name| seen.insert(*name)));
        for line in crate::schema::FACTS_SCHEMA
            .lines()
            .filter(|line| line.starts_with("      "))
        {
            let name = line.trim().split(['?', ':']).next().unwrap_or_default();
            assert_ne!(Reads::named(name), Reads::ALL, "{name}");
        }
    }
}
