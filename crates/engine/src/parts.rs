//! The direct parts of an expression, for walks that need to know the way they came.

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
