//! The clauses of one policy, each evaluated by itself, with the values it read.

use std::collections::HashMap;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp, Var};
use cedar_policy_core::evaluator::Evaluator;

use super::{
    ClauseExplanation, ClauseKind, ClauseOutcome, PolicyExplanation, PolicyOutcome,
    ScopeExplanation, SeenValue,
};
use crate::decide::{Outcome, evaluate};
use crate::parts::{conjuncts, parts, written};
use crate::policy::CompiledPolicy;

/// The longest printed value, in characters.
const VALUE: usize = 1_000;
/// The most values that are printed for one clause.
const VALUES: usize = 64;

/// One clause, or one condition of a `when` that joins several.
pub(crate) struct Clause<'p> {
    /// Whether it must be true or must be false.
    pub(crate) kind: ClauseKind,
    /// What it says.
    pub(crate) expr: &'p Expr,
}

/// Explains one policy, whose scope has been compared already.
pub(super) fn explain(
    policy: &CompiledPolicy,
    scope: ScopeExplanation,
    evaluator: &Evaluator<'_>,
) -> PolicyExplanation {
    let body = policy.body.as_deref();
    let mut clauses: Vec<ClauseExplanation> = Vec::new();
    for clause in body
        .map(|body| split(body, &policy.text))
        .unwrap_or_default()
    {
        let explained = ClauseExplanation {
            kind: clause.kind,
            text: written(clause.expr, &policy.text),
            outcome: outcome(
                clause.expr,
                evaluator,
                clauses.iter().all(ClauseExplanation::holds),
            ),
            values: values(clause.expr, evaluator),
        };
        clauses.push(explained);
    }
    let outcome = if scope.matched() {
        match body.map(|body| evaluate(body, evaluator)) {
            None | Some(Outcome::Satisfied) => PolicyOutcome::Satisfied,
            Some(Outcome::Unsatisfied) => PolicyOutcome::NotSatisfied,
            Some(Outcome::Error(message)) => PolicyOutcome::Error { message },
        }
    } else {
        PolicyOutcome::NotSatisfied
    };
    PolicyExplanation {
        policy: policy.id.clone(),
        effect: policy.effect,
        shadow: policy.shadow,
        outcome,
        exception: None,
        file: policy.file.to_string(),
        line: policy.span.start_line,
        scope,
        clauses,
    }
}

/// Takes a body apart again into the clauses it was made of.
///
/// Cedar joins them by `&&` and turns `unless { x }` into `!x`, whose place is that of the whole clause: no expression
/// can start with the word `unless`.
pub(crate) fn split<'p>(body: &'p Expr, text: &str) -> Vec<Clause<'p>> {
    let clause = |expr: &'p Expr| match expr.expr_kind() {
        ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } if written(expr, text).starts_with("unless") => Clause {
            kind: ClauseKind::Unless,
            expr: arg,
        },
        _ => Clause {
            kind: ClauseKind::When,
            expr,
        },
    };
    conjuncts(body).into_iter().map(clause).collect()
}

/// Evaluates a clause although the clauses before it may not hold.
///
/// A clause after one that does not hold may only fail for want of what that one tests; that is no error.
fn outcome(expr: &Expr, evaluator: &Evaluator<'_>, reached: bool) -> ClauseOutcome {
    match evaluate(expr, evaluator) {
        Outcome::Satisfied => ClauseOutcome::True,
        Outcome::Unsatisfied => ClauseOutcome::False,
        Outcome::Error(_) if !reached => ClauseOutcome::NotReached,
        Outcome::Error(message) => ClauseOutcome::Error { message },
    }
}

fn values(expr: &Expr, evaluator: &Evaluator<'_>) -> Vec<SeenValue> {
    let mut read = Vec::new();
    collect(expr, &mut read);
    let slots = HashMap::new();
    let mut seen: Vec<SeenValue> = Vec::new();
    for expr in read {
        let expression = expr.to_string();
        if seen.len() == VALUES {
            break;
        }
        if seen.iter().all(|other| other.expression != expression) {
            let value = evaluator.interpret(expr, &slots).ok();
            let value = value.map(|value| shortened(&value.to_string()));
            seen.push(SeenValue { expression, value });
        }
    }
    seen
}

/// Collects what an expression reads of the question: variables, attributes, tags, and tests for them.
fn collect<'e>(expr: &'e Expr, read: &mut Vec<&'e Expr>) {
    match expr.expr_kind() {
        // The context by itself only says what its members say.
        ExprKind::Var(Var::Context) => {}
        ExprKind::Var(_) => read.push(expr),
        ExprKind::GetAttr { expr: base, .. }
        | ExprKind::HasAttr { expr: base, .. }
        | ExprKind::ExtHasAttr { expr: base, .. } => {
            if is_path(base) {
                read.push(expr);
            } else {
                collect(base, read);
            }
        }
        ExprKind::BinaryApp {
            op: BinaryOp::GetTag | BinaryOp::HasTag,
            arg1,
            arg2,
        } => {
            if is_path(arg1) {
                read.push(expr);
            } else {
                collect(arg1, read);
            }
            collect(arg2, read);
        }
        kind => {
            for part in parts(kind) {
                collect(part, read);
            }
        }
    }
}

/// Says whether an expression leads from a variable to a value by attributes and tags alone.
fn is_path(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::Var(_) => true,
        ExprKind::GetAttr { expr, .. }
        | ExprKind::BinaryApp {
            op: BinaryOp::GetTag,
            arg1: expr,
            ..
        } => is_path(expr),
        _ => false,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
