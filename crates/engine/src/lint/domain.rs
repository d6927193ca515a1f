//! What the scope of a policy and the schema leave open: which actions, and which types of principal and resource.

use cedar_policy_core::ast::{
    ActionConstraint, EntityReference, EntityType, EntityUID, Expr, ExprKind, Literal,
    PrincipalOrResourceConstraint, Template, Var,
};
use smol_str::SmolStr;

use crate::schema::{ActionSchema, CompiledSchema, Fields, Kind};

/// What a policy may be about.
pub(super) struct Domain<'s> {
    schema: &'s CompiledSchema,
    actions: Vec<&'s ActionSchema>,
    principals: Vec<Kind>,
    resources: Vec<Kind>,
}

// === impl Domain ===

impl<'s> Domain<'s> {
    /// Takes what the scope of a policy allows out of what the schema declares.
    pub(super) fn of(template: &Template, schema: &'s CompiledSchema) -> Self {
        let fits = |action: &&ActionSchema| match template.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => **uid == *action.uid,
            ActionConstraint::In(groups) => groups
                .iter()
                .any(|group| **group == *action.uid || action.ancestors.contains(group)),
        };
        let all = schema.actions.values().flatten().map(AsRef::as_ref);
        let mut domain = Self {
            schema,
            actions: all.filter(fits).collect(),
            principals: Vec::new(),
            resources: Vec::new(),
        };
        domain.principals = domain.parties(template.principal_constraint().as_inner(), |action| {
            action.principals.iter()
        });
        domain.resources = domain.parties(template.resource_constraint().as_inner(), |action| {
            action.resources.iter()
        });
        domain
    }

    /// Returns the actions that it may be about.
    pub(super) fn actions(&self) -> impl Iterator<Item = &'s ActionSchema> {
        self.actions.iter().copied()
    }

    /// Whether an entity of a type can be an entity or below it.
    pub(super) fn can_be_in(&self, kind: &Kind, group: &EntityUID) -> bool {
        let Kind::Entity(name) = kind else {
            return true;
        };
        self.below(name, group)
    }

    /// Returns every type that an expression may have; `None` where that is not known.
    pub(super) fn kinds(&self, expr: &Expr) -> Option<Vec<Kind>> {
        let kinds: Vec<Kind> = match expr.expr_kind() {
            ExprKind::Var(Var::Principal) => self.principals.clone(),
            ExprKind::Var(Var::Resource) => self.resources.clone(),
            ExprKind::Lit(Literal::EntityUID(uid)) => vec![Kind::Entity(uid.entity_type().clone())],
            ExprKind::GetAttr { expr, attr } if is_context(expr) => {
                let members = self.contexts().filter_map(|context| context.get(attr));
                members.map(|field| field.kind.clone()).collect()
            }
            ExprKind::GetAttr { expr, attr } => {
                let bases = self.kinds(expr)?;
                let mut kinds = Vec::new();
                for base in &bases {
                    // What has no such member is not read here: a test before keeps it away.
                    if let Some(field) = self.fields(base)?.get(attr) {
                        kinds.push(field.kind.clone());
                    }
                }
                kinds
            }
            _ => return None,
        };
        (!kinds.is_empty()).then_some(kinds)
    }

    /// Says whether an expression always has, or never has, a member.
    pub(super) fn has(&self, expr: &Expr, member: &SmolStr) -> Option<bool> {
        let (mut always, mut never, mut any) = (true, true, false);
        let mut look = |fields: &Fields, stored: bool| {
            let declared = fields.get(member);
            any = true;
            never &= declared.is_none();
            // An entity that is not stored has none of its members.
            always &= !stored && declared.is_some_and(|field| field.required);
        };
        if is_context(expr) {
            self.contexts().for_each(|context| look(context, false));
        } else {
            for kind in &self.kinds(expr)? {
                look(self.fields(kind)?, matches!(kind, Kind::Entity(_)));
            }
        }
        if !any {
            return None;
        }
        match (always, never) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    fn contexts(&self) -> impl Iterator<Item = &'s Fields> {
        self.actions.iter().map(|action| &action.context)
    }

    fn parties<'a, I>(
        &'a self,
        constraint: &PrincipalOrResourceConstraint,
        of: impl Fn(&'s ActionSchema) -> I,
    ) -> Vec<Kind>
    where
        I: Iterator<Item = &'s EntityType>,
    {
        let mut found: Vec<&EntityType> = Vec::new();
        for name in self.actions.iter().flat_map(|action| of(action)) {
            if !found.contains(&name) && self.fits(constraint, name) {
                found.push(name);
            }
        }
        found
            .into_iter()
            .map(|name| Kind::Entity(name.clone()))
            .collect()
    }

    fn fits(&self, constraint: &PrincipalOrResourceConstraint, name: &EntityType) -> bool {
        let below = |reference: &EntityReference| match reference {
            EntityReference::EUID(group) => self.below(name, group),
            EntityReference::Slot(_) => true,
        };
        match constraint {
            PrincipalOrResourceConstraint::Any
            | PrincipalOrResourceConstraint::Eq(EntityReference::Slot(_)) => true,
            PrincipalOrResourceConstraint::Is(kind) => **kind == *name,
            PrincipalOrResourceConstraint::Eq(EntityReference::EUID(uid)) => {
                uid.entity_type() == name
            }
            PrincipalOrResourceConstraint::In(group) => below(group),
            PrincipalOrResourceConstraint::IsIn(kind, group) => **kind == *name && below(group),
        }
    }

    fn below(&self, name: &EntityType, group: &EntityUID) -> bool {
        let above = group.entity_type();
        let schema = self.schema.entities.get(name.to_string().as_str());
        // Of a type that is not declared nothing is known.
        name == above || schema.is_none_or(|schema| schema.ancestors.contains(above))
    }

    fn fields<'k>(&'k self, kind: &'k Kind) -> Option<&'k Fields> {
        match kind {
            Kind::Record(fields) => Some(fields),
            Kind::Entity(name) => self
                .schema
                .entities
                .get(name.to_string().as_str())
                .map(|schema| &schema.attributes),
            _ => None,
        }
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::Var(Var::Context))
}
