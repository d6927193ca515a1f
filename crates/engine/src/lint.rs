//! Lints: policies that are valid and still deserve a second look.
//!
//! Cedar's own warnings (`never_applies`, `confusable_text`) come with validation; these are ours.

use cedar_policy_core::ast::{
    ActionConstraint, BinaryOp, Effect, Expr, ExprKind, Literal, PrincipalOrResourceConstraint,
    Template, UnaryOp, Var,
};
use smol_str::SmolStr;

use crate::finding::Finding;
use crate::parts::parts;
use crate::schema::{CompiledSchema, Fields, Kind};
use crate::shape::Reads;

pub(crate) mod constant;
mod domain;

/// The functions of extension types whose result can be out of range.
const OVERFLOWING: [&str; 3] = ["offset", "durationSince", "toDate"];
/// The functions that make a value of an extension type from text.
const CONSTRUCTORS: [&str; 4] = ["decimal", "ip", "datetime", "duration"];

/// Something known to be present: an attribute of an expression, or a tag.
enum Guard {
    Attribute(Expr, SmolStr),
    Tag(Expr, Expr),
}

/// Walks a body, remembering what its `has` tests have shown on the way.
struct Walk<'s> {
    schema: &'s CompiledSchema,
    guards: Vec<Guard>,
    found: Vec<(&'static str, (usize, usize))>,
}

/// Looks at one valid policy or template.
pub(crate) fn check(template: &Template, text: &str, schema: &CompiledSchema) -> Vec<Finding> {
    let head = (0, text.find(';').unwrap_or(text.len()));
    let mut found = Vec::new();
    if unscoped_permit(template) {
        found.push(
            Finding::warning(
                "unscoped_permit",
                "this policy permits everything to everybody",
                head,
            )
            .with_help("constrain principal, action or resource, or add a condition"),
        );
    }
    let owned = template
        .annotations()
        .any(|(key, value)| key.as_ref() == "owner" && !value.val.trim().is_empty());
    if !owned {
        found.push(
            Finding::warning("missing_owner", "this policy has no `@owner`", head)
                .with_help("name the team that answers for it, such as `@owner(\"payments\")`"),
        );
    }
    if template.effect() == Effect::Forbid
        && let Some(body) = template.non_scope_constraints()
    {
        found.extend(failures(body, schema).into_iter().map(|(why, range)| {
            Finding::warning(
                "forbid_can_error",
                format!("this forbid can fail to be evaluated: {why}"),
                range,
            )
            .with_help("a forbid that fails denies, whatever it was meant for")
        }));
    }
    found
}

/// Says whether a body may fail to be evaluated for another reason than that an entity of the question is not stored.
pub(crate) fn can_fail(body: &Expr, schema: &CompiledSchema) -> bool {
    !failures(body, schema).is_empty()
}

fn failures(body: &Expr, schema: &CompiledSchema) -> Vec<(&'static str, (usize, usize))> {
    let mut walk = Walk {
        schema,
        guards: Vec::new(),
        found: Vec::new(),
    };
    walk.visit(body);
    walk.found
}

fn unscoped_permit(template: &Template) -> bool {
    template.effect() == Effect::Permit
        && template.non_scope_constraints().is_none()
        && matches!(
            template.principal_constraint().as_inner(),
            PrincipalOrResourceConstraint::Any
        )
        && matches!(template.action_constraint(), ActionConstraint::Any)
        && matches!(
            template.resource_constraint().as_inner(),
            PrincipalOrResourceConstraint::Any
        )
}

// === impl Walk ===

impl Walk<'_> {
    fn visit(&mut self, expr: &Expr) {
        let known = self.guards.len();
        match expr.expr_kind() {
            ExprKind::And { left, right } => {
                self.visit(left);
                self.learn(left);
                self.visit(right);
            }
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => {
                self.visit(test_expr);
                self.learn(test_expr);
                self.visit(then_expr);
                self.guards.truncate(known);
                self.visit(else_expr);
            }
            kind => {
                self.judge(expr, kind);
                for child in parts(kind) {
                    self.visit(child);
                }
            }
        }
        self.guards.truncate(known);
    }

    /// Takes from a test what holds when it is true.
    fn learn(&mut self, test: &Expr) {
        match test.expr_kind() {
            ExprKind::And { left, right } => {
                self.learn(left);
                self.learn(right);
            }
            ExprKind::HasAttr { expr, attr } => self
                .guards
                .push(Guard::Attribute(Expr::clone(expr), attr.clone())),
            ExprKind::ExtHasAttr { expr, attrs } => {
                let mut base = Expr::clone(expr);
                for attr in attrs.iter() {
                    self.guards
                        .push(Guard::Attribute(base.clone(), attr.clone()));
                    base = Expr::get_attr(base, attr.clone());
                }
            }
            ExprKind::BinaryApp {
                op: BinaryOp::HasTag,
                arg1,
                arg2,
            } => {
                self.guards
                    .push(Guard::Tag(Expr::clone(arg1), Expr::clone(arg2)));
            }
            _ => {}
        }
    }

    fn judge(&mut self, expr: &Expr, kind: &ExprKind) {
        let why = match kind {
            ExprKind::BinaryApp {
                op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul,
                ..
            }
            | ExprKind::UnaryApp {
                op: UnaryOp::Neg, ..
            } => Some("arithmetic can overflow"),
            ExprKind::ExtensionFunctionApp { fn_name, args } => {
                let name = fn_name.basename().to_string();
                let literal = args
                    .iter()
                    .all(|arg| matches!(arg.expr_kind(), ExprKind::Lit(_)));
                if OVERFLOWING.contains(&name.as_str()) {
                    Some("arithmetic with times can overflow")
                } else if CONSTRUCTORS.contains(&name.as_str()) && !literal {
                    Some("the text may not be a value of this type")
                } else {
                    None
                }
            }
            ExprKind::GetAttr { expr: base, attr }
                if self.is_distant_entity(base) && !self.has_attribute(base, attr) =>
            {
                Some("the entity may not be stored")
            }
            ExprKind::BinaryApp {
                op: BinaryOp::GetTag,
                arg1,
                arg2,
            } if !self.has_tag(arg1, arg2) => Some("the entity may not have the tag"),
            _ => None,
        };
        if let Some(why) = why {
            let range = expr
                .source_loc()
                .map_or((0, 0), |loc| (loc.start(), loc.end()));
            self.found.push((why, range));
        }
    }

    fn has_attribute(&self, base: &Expr, attribute: &str) -> bool {
        self.guards.iter().any(
            |guard| matches!(guard, Guard::Attribute(known, name) if name == attribute && known.eq_shape(base)),
        )
    }

    fn has_tag(&self, base: &Expr, tag: &Expr) -> bool {
        self.guards.iter().any(
            |guard| matches!(guard, Guard::Tag(known, name) if known.eq_shape(base) && name.eq_shape(tag)),
        )
    }

    /// Says whether an expression may be an entity other than the principal, the action and the resource themselves.
    fn is_distant_entity(&self, expr: &Expr) -> bool {
        match expr.expr_kind() {
            ExprKind::Var(_) => false,
            ExprKind::Lit(literal) => matches!(literal, Literal::EntityUID(_)),
            ExprKind::If {
                then_expr,
                else_expr,
                ..
            } => self.is_distant_entity(then_expr) || self.is_distant_entity(else_expr),
            _ => self
                .kinds(expr)
                .iter()
                .any(|kind| matches!(kind, Kind::Entity(_))),
        }
    }

    /// Returns the types that an expression may have under the schema, as far as attributes and tags lead to them.
    fn kinds(&self, expr: &Expr) -> Vec<Kind> {
        match expr.expr_kind() {
            ExprKind::Var(Var::Context) => {
                let contexts = self.schema.actions.values().flatten();
                contexts
                    .map(|action| Kind::Record(action.context.clone().into()))
                    .collect()
            }
            ExprKind::Var(Var::Principal | Var::Resource) => {
                let types = self.schema.entities.values();
                types
                    .map(|schema| Kind::Entity(schema.name.clone()))
                    .collect()
            }
            ExprKind::Lit(Literal::EntityUID(uid)) => vec![Kind::Entity(uid.entity_type().clone())],
            ExprKind::GetAttr { expr, attr } => {
                let bases = self.kinds(expr);
                bases
                    .iter()
                    .filter_map(|base| self.fields(base)?.get(attr).map(|field| field.kind.clone()))
                    .collect()
            }
            ExprKind::BinaryApp {
                op: BinaryOp::GetTag,
                arg1,
                ..
            } => {
                let bases = self.kinds(arg1);
                bases
                    .iter()
                    .filter_map(|base| self.entity(base)?.tags.clone())
                    .collect()
            }
            ExprKind::If {
                then_expr,
                else_expr,
                ..
            } => {
                let mut kinds = self.kinds(then_expr);
                kinds.extend(self.kinds(else_expr));
                kinds
            }
            ExprKind::Record(members) => {
                let fields = members.iter().filter_map(|(name, member)| {
                    let kind = self.kinds(member).into_iter().next()?;
                    Some((
                        name.clone(),
                        crate::schema::Field {
                            kind,
                            required: true,
                            fact: Reads::ALL,
                            assertable: false,
                        },
                    ))
                });
                vec![Kind::Record(fields.collect::<Fields>().into())]
            }
            _ => Vec::new(),
        }
    }

    fn entity(&self, kind: &Kind) -> Option<&crate::schema::EntitySchema> {
        match kind {
            Kind::Entity(name) => self
                .schema
                .entities
                .get(name.to_string().as_str())
                .map(AsRef::as_ref),
            _ => None,
        }
    }

    fn fields<'k>(&'k self, kind: &'k Kind) -> Option<&'k Fields> {
        match kind {
            Kind::Record(fields) => Some(fields),
            _ => self.entity(kind).map(|schema| &schema.attributes),
        }
    }
}

#[cfg(test)]
mod tests;
