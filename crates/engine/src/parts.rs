//! The parts of an expression: the direct ones, for walks that need to know the way they came, and what `&&` joins.

use cedar_policy_core::ast::{Expr, ExprKind};

/// Returns the direct parts of an expression, in the order they are written.
pub(crate) fn parts(kind: &ExprKind) -> Vec<&Expr> {
    match kind {
        ExprKind::Or { left, right } | ExprKind::And { left, right } => vec![left, right],
        ExprKind::If {
            test_expr,
            then_expr,
            else_expr,
        } => vec![test_expr, then_expr, else_expr],
        ExprKind::UnaryApp { arg, .. } => vec![arg],
        ExprKind::BinaryApp { arg1, arg2, .. } => vec![arg1, arg2],
        ExprKind::ExtensionFunctionApp { args, .. } => args.iter().collect(),
        ExprKind::GetAttr { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::ExtHasAttr { expr, .. }
        | ExprKind::Like { expr, .. }
        | ExprKind::Is { expr, .. } => vec![expr],
        ExprKind::Set(members) => members.iter().collect(),
        ExprKind::Record(members) => members.values().collect(),
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {
            Vec::new()
        }
    }
}

/// Takes a body apart into the clauses and conditions that `&&` joins, in the order in which they are evaluated.
pub(crate) fn conjuncts(body: &Expr) -> Vec<&Expr> {
    let (mut found, mut waiting) = (Vec::new(), vec![body]);
    while let Some(expr) = waiting.pop() {
        match expr.expr_kind() {
            ExprKind::And { left, right } => waiting.extend([right.as_ref(), left.as_ref()]),
            _ => found.push(expr),
        }
    }
    found
}

/// Takes an expression apart into the alternatives that `||` joins, in the order in which they are evaluated.
pub(crate) fn disjuncts(expr: &Expr) -> Vec<&Expr> {
    let (mut found, mut waiting) = (Vec::new(), vec![expr]);
    while let Some(expr) = waiting.pop() {
        match expr.expr_kind() {
            ExprKind::Or { left, right } => waiting.extend([right.as_ref(), left.as_ref()]),
            _ => found.push(expr),
        }
    }
    found
}

/// Returns an expression as it is written in `text`, or as Cedar prints it where it stands nowhere.
pub(crate) fn written(expr: &Expr, text: &str) -> String {
    expr.source_loc()
        .and_then(|loc| text.get(loc.start()..loc.end()))
        .map_or_else(|| expr.to_string(), |source| source.trim().to_owned())
}
