//! Conditions that come to the same whatever is asked, and what is therefore never evaluated.
//!
//! No solver is asked. What it finds is certain: by the types that the scope lets principal and resource have, by
//! literals, and by what the conditions before have shown. Where Cedar's validator knows already that a policy never
//! applies, nothing is added to that.

use std::cell::OnceCell;

use cedar_policy_core::ast::{
    BinaryOp, Effect, EntityUID, Expr, ExprKind, Literal, Template, UnaryOp, Var,
};

use super::domain::Domain;
use crate::explain::ClauseKind;
use crate::explain::clauses::split;
use crate::finding::Finding;
use crate::schema::{CompiledSchema, Kind};

/// The most conditions that are remembered on the way; what comes after them is still looked at.
const FACTS: usize = 64;

/// A walk over the clauses of one policy in the order in which they are evaluated.
struct Judge<'p> {
    schema: &'p CompiledSchema,
    template: &'p Template,
    domain: OnceCell<Domain<'p>>,
    /// What is known to be true, or false, wherever the walk is.
    facts: Vec<(&'p Expr, bool)>,
    found: Vec<Finding>,
}

/// What a condition comes to, and whether only because of the conditions before it.
#[derive(Clone, Copy)]
struct Known {
    value: bool,
    by_others: bool,
}

/// Looks at the clauses of a valid policy or template.
pub(crate) fn check(template: &Template, text: &str, schema: &CompiledSchema) -> Vec<Finding> {
    let mut judge = Judge {
        schema,
        template,
        domain: OnceCell::new(),
        facts: Vec::new(),
        found: Vec::new(),
    };
    if let Some(body) = template.non_scope_constraints() {
        judge.clauses(body, text);
    }
    judge.found
}

/// Says where an expression stands.
fn range(expr: &Expr) -> (usize, usize) {
    expr.source_loc()
        .map_or((0, 0), |loc| (loc.start(), loc.end()))
}

// === impl Judge ===

impl<'p> Judge<'p> {
    fn clauses(&mut self, body: &'p Expr, text: &str) {
        let clauses = split(body, text);
        let mut clauses = clauses.into_iter();
        while let Some(clause) = clauses.next() {
            let holds = clause.kind == ClauseKind::When;
            let before = self.found.len();
            let value = self.value(clause.expr);
            if value == Some(!holds) {
                self.found.truncate(before);
                self.found.push(
                    Finding::warning(
                        "contradiction",
                        "this policy never applies: this clause can never hold beside those before it",
                        range(clause.expr),
                    )
                    .with_help("one of them is not what was meant"),
                );
                if let Some(next) = clauses.next() {
                    self.unreachable(next.expr);
                }
                return;
            }
            self.assume(clause.expr, holds);
        }
    }

    /// Says what a condition always comes to where the walk is, and reports each part of it that always does.
    fn value(&mut self, expr: &'p Expr) -> Option<bool> {
        match expr.expr_kind() {
            ExprKind::And { left, right } => self.joined(left, right, false),
            ExprKind::Or { left, right } => self.joined(left, right, true),
            ExprKind::UnaryApp {
                op: UnaryOp::Not,
                arg,
            } if is_compound(arg) => self.value(arg).map(|value| !value),
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => self.conditional(test_expr, then_expr, else_expr),
            _ => {
                let known = self.leaf(expr)?;
                let value = if known.value { "true" } else { "false" };
                let (message, help) = if known.by_others {
                    (
                        format!(
                            "this is always {value} here: what stands before it says so already"
                        ),
                        "leave it out, or test what was meant",
                    )
                } else {
                    (
                        format!("this is always {value}, whatever is asked"),
                        "leave it out, or test what was meant",
                    )
                };
                let finding = Finding::warning("constant_clause", message, range(expr));
                self.found.push(finding.with_help(help));
                Some(known.value)
            }
        }
    }

    /// Judges two operands of which the first decides when it comes to `decides`: `||` by true, `&&` by false.
    fn joined(&mut self, left: &'p Expr, right: &'p Expr, decides: bool) -> Option<bool> {
        let first = self.value(left);
        if first == Some(decides) {
            self.unreachable(right);
            return first;
        }
        let known = self.facts.len();
        self.assume(left, !decides);
        let second = self.value(right);
        self.facts.truncate(known);
        // Of a forbid that fails no question is permitted, so that one whose left side can fail does something.
        let is_reached =
            first.is_some() || self.template.effect() == Effect::Permit || cannot_fail(left);
        match (first, second) {
            (_, Some(second)) if second == decides => is_reached.then_some(decides),
            (Some(_), Some(_)) => Some(!decides),
            _ => None,
        }
    }

    fn conditional(&mut self, test: &'p Expr, then: &'p Expr, other: &'p Expr) -> Option<bool> {
        let tested = self.value(test);
        let known = self.facts.len();
        let branch = |judge: &mut Self, expr: &'p Expr, by: bool| {
            if tested == Some(!by) {
                judge.unreachable(expr);
                return None;
            }
            // That is how a branch is written which decides nothing.
            if let ExprKind::Lit(Literal::Bool(value)) = expr.expr_kind() {
                return Some(*value);
            }
            judge.assume(test, by);
            let value = judge.value(expr);
            judge.facts.truncate(known);
            value
        };
        let (then, other) = (branch(self, then, true), branch(self, other, false));
        match tested {
            Some(true) => then,
            Some(false) => other,
            None => then.filter(|_| then == other),
        }
    }

    fn unreachable(&mut self, expr: &Expr) {
        let message = "this is never evaluated: what stands before it decides already";
        self.found.push(
            Finding::warning("unreachable_clause", message, range(expr))
                .with_help("leave it out, or mend what stands before it"),
        );
    }

    /// Remembers that a condition came to a value, and what follows for its parts.
    fn assume(&mut self, expr: &'p Expr, value: bool) {
        match expr.expr_kind() {
            ExprKind::And { left, right } if value => {
                self.assume(left, value);
                self.assume(right, value);
            }
            ExprKind::Or { left, right } if !value => {
                self.assume(left, value);
                self.assume(right, value);
            }
            ExprKind::UnaryApp {
                op: UnaryOp::Not,
                arg,
            } => self.assume(arg, !value),
            _ if self.facts.len() < FACTS => self.facts.push((expr, value)),
            _ => {}
        }
    }

    /// Says what a condition that joins no others always comes to.
    fn leaf(&self, expr: &'p Expr) -> Option<Known> {
        if let ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } = expr.expr_kind()
        {
            return self.leaf(arg).map(|known| Known {
                value: !known.value,
                ..known
            });
        }
        if let Some(value) = self.alone(expr).or_else(|| within(expr, &[])) {
            return Some(Known {
                value,
                by_others: false,
            });
        }
        let same = self
            .facts
            .iter()
            .find(|(fact, _)| fact.eq_shape::<()>(expr));
        let value = same
            .map(|(_, value)| *value)
            .or_else(|| self.other_literal(expr))
            .or_else(|| within(expr, &self.facts))?;
        Some(Known {
            value,
            by_others: true,
        })
    }

    /// Says what a condition comes to by itself.
    fn alone(&self, expr: &'p Expr) -> Option<bool> {
        match expr.expr_kind() {
            ExprKind::Lit(Literal::Bool(value)) => Some(*value),
            ExprKind::Is { expr, entity_type } => {
                let kinds = self.domain().kinds(expr)?;
                let is = |kind: &Kind| matches!(kind, Kind::Entity(name) if name == entity_type);
                one_answer(kinds.iter().map(is))
            }
            ExprKind::HasAttr { expr, attr } => self.domain().has(expr, attr),
            ExprKind::BinaryApp { op, arg1, arg2 } => self.compared(*op, arg1, arg2),
            _ => None,
        }
    }

    fn compared(&self, op: BinaryOp, left: &'p Expr, right: &'p Expr) -> Option<bool> {
        if matches!(left.expr_kind(), ExprKind::Var(Var::Action))
            && let Some(named) = named(right)
        {
            return match op {
                BinaryOp::Eq => one_answer(
                    self.domain()
                        .actions()
                        .map(|action| named.iter().any(|uid| **uid == *action.uid)),
                ),
                BinaryOp::In => one_answer(self.domain().actions().map(|action| {
                    named
                        .iter()
                        .any(|uid| **uid == *action.uid || action.ancestors.contains(uid))
                })),
                _ => None,
            };
        }
        match (op, left.expr_kind(), right.expr_kind()) {
            (BinaryOp::Eq, ExprKind::Lit(a), ExprKind::Lit(b)) => Some(a == b),
            (BinaryOp::Less, ExprKind::Lit(Literal::Long(a)), ExprKind::Lit(Literal::Long(b))) => {
                Some(a < b)
            }
            (
                BinaryOp::LessEq,
                ExprKind::Lit(Literal::Long(a)),
                ExprKind::Lit(Literal::Long(b)),
            ) => Some(a <= b),
            (BinaryOp::In, _, _) => {
                let groups = named(right)?;
                let kinds = self.domain().kinds(left)?;
                let can = |kind: &Kind| {
                    let below = |group: &&EntityUID| self.domain().can_be_in(kind, group);
                    groups.iter().any(below)
                };
                (!kinds.iter().any(can)).then_some(false)
            }
            (BinaryOp::Eq, _, ExprKind::Lit(Literal::EntityUID(uid))) => {
                let kinds = self.domain().kinds(left)?;
                let can =
                    |kind: &Kind| matches!(kind, Kind::Entity(name) if name == uid.entity_type());
                (!kinds.iter().any(can)).then_some(false)
            }
            _ => None,
        }
    }

    /// Says whether something is equal to a literal by what is known of it: that it is, that it is not, or that it is
    /// equal to another.
    fn other_literal(&self, expr: &Expr) -> Option<bool> {
        let (path, literal) = equals(expr)?;
        self.facts.iter().find_map(|(fact, value)| {
            let (known, other) = equals(fact)?;
            match (known.eq_shape::<()>(path), other == literal, value) {
                (false, _, _) | (true, false, false) => None,
                (true, true, value) => Some(*value),
                (true, false, true) => Some(false),
            }
        })
    }

    fn domain(&self) -> &Domain<'p> {
        self.domain
            .get_or_init(|| Domain::of(self.template, self.schema))
    }
}

/// Whether nothing in an expression can fail when it is evaluated: it reads no attribute, and computes nothing.
fn cannot_fail(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::Lit(_) | ExprKind::Var(_) => true,
        ExprKind::Is { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::Like { expr, .. } => cannot_fail(expr),
        ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } => cannot_fail(arg),
        ExprKind::And { left, right } | ExprKind::Or { left, right } => {
            cannot_fail(left) && cannot_fail(right)
        }
        ExprKind::BinaryApp {
            op: BinaryOp::Eq | BinaryOp::In,
            arg1,
            arg2,
        } => cannot_fail(arg1) && cannot_fail(arg2),
        ExprKind::Set(members) => members.iter().all(cannot_fail),
        _ => false,
    }
}

/// Whether conditions are parts of an expression, rather than what it compares.
fn is_compound(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::And { .. } | ExprKind::Or { .. } | ExprKind::If { .. } => true,
        ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } => is_compound(arg),
        _ => false,
    }
}

/// Returns the entities that an expression names: one, or a set written out.
fn named(expr: &Expr) -> Option<Vec<&EntityUID>> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => Some(vec![uid]),
        ExprKind::Set(members) => members
            .iter()
            .map(|member| match member.expr_kind() {
                ExprKind::Lit(Literal::EntityUID(uid)) => Some(uid.as_ref()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// Returns the one answer that all give; none where they differ, or there is none.
fn one_answer(mut answers: impl Iterator<Item = bool>) -> Option<bool> {
    let first = answers.next()?;
    answers.all(|other| other == first).then_some(first)
}

/// Takes `x == literal` apart, whichever side the literal stands on.
fn equals(expr: &Expr) -> Option<(&Expr, &Literal)> {
    match expr.expr_kind() {
        ExprKind::BinaryApp {
            op: BinaryOp::Eq,
            arg1,
            arg2,
        } => match (arg1.expr_kind(), arg2.expr_kind()) {
            (ExprKind::Lit(_), ExprKind::Lit(_)) => None,
            (_, ExprKind::Lit(literal)) => Some((arg1, literal)),
            (ExprKind::Lit(literal), _) => Some((arg2, literal)),
            _ => None,
        },
        _ => None,
    }
}

/// Says what a comparison with a number comes to, by what the facts say of the same number.
fn within(expr: &Expr, facts: &[(&Expr, bool)]) -> Option<bool> {
    let (path, _) = bounds(expr, true)?;
    let (mut low, mut high) = (i128::from(i64::MIN), i128::from(i64::MAX));
    let about = facts
        .iter()
        .filter_map(|(fact, value)| bounds(fact, *value))
        .filter(|(known, _)| known.eq_shape::<()>(path));
    for (_, (from, to)) in about {
        (low, high) = (low.max(from), high.min(to));
    }
    let possible = |value: bool| {
        bounds(expr, value).is_none_or(|(_, (from, to))| low.max(from) <= high.min(to))
    };
    // That it is the one number it can be, `bounds` cannot say the opposite of.
    if low == high && equals(expr).is_some() {
        return Some(possible(true));
    }
    match (possible(true), possible(false)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Takes a comparison with a number apart: what is compared, and from where to where that is if the comparison comes to
/// `value`.
fn bounds(expr: &Expr, value: bool) -> Option<(&Expr, (i128, i128))> {
    const LOW: i128 = i64::MIN as i128;
    const HIGH: i128 = i64::MAX as i128;
    let ExprKind::BinaryApp { op, arg1, arg2 } = expr.expr_kind() else {
        return None;
    };
    let number = |expr: &Expr| match expr.expr_kind() {
        ExprKind::Lit(Literal::Long(number)) => Some(i128::from(*number)),
        _ => None,
    };
    let (path, number, mirrored) = match (number(arg1), number(arg2)) {
        (None, Some(number)) => (arg1, number, false),
        (Some(number), None) => (arg2, number, true),
        _ => return None,
    };
    let range = match (op, mirrored, value) {
        (BinaryOp::Less, false, true) | (BinaryOp::LessEq, true, false) => (LOW, number - 1),
        (BinaryOp::Less, false, false) | (BinaryOp::LessEq, true, true) => (number, HIGH),
        (BinaryOp::Less, true, true) | (BinaryOp::LessEq, false, false) => (number + 1, HIGH),
        (BinaryOp::Less, true, false) | (BinaryOp::LessEq, false, true) => (LOW, number),
        (BinaryOp::Eq, _, true) => (number, number),
        // All numbers but one.
        (BinaryOp::Eq, _, false) => (LOW, HIGH),
        _ => return None,
    };
    Some((path, range))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use serde_json::json;

    use crate::Snapshot;

    /// A forbid that fails denies: one whose left side can fail is not without effect.
    #[test]
    fn a_forbid_that_can_fail_may_apply() {
        let schema = "entity Agent = { level: Long }; entity Tool; \
            action call appliesTo { principal: [Agent], resource: [Tool], context: { amount: Long } };";
        for (effect, condition, never) in [
            (
                "forbid",
                "principal.level + 1 > 3 || context.amount > 3",
                false,
            ),
            (
                "forbid",
                "principal == Agent::\"a\" || context.amount > 3",
                true,
            ),
            (
                "permit",
                "principal.level + 1 > 3 || context.amount > 3",
                true,
            ),
        ] {
            let policy = format!(
                "{effect} (principal, action, resource) when {{ context.amount > 7 }} unless {{ {condition} }};"
            );
            let bundle = serde_json::from_value(json!({
                "schema": [{ "file": "s.cedarschema", "text": schema }],
                "policies": [{ "file": "p.cedar", "text": format!("@id(\"x\") @owner(\"o\") {policy}") }],
            }));
            let snapshot = Snapshot::compile(&bundle.unwrap()).unwrap();
            let mut warnings = snapshot.warnings().iter();
            let contradicts = warnings.any(|one| one.code == "contradiction");
            assert_eq!(contradicts, never, "{policy}: {:?}", snapshot.warnings());
        }
    }
}
