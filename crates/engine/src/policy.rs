//! Compiled policies: parsed, validated, with the scope taken apart for the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{
    self, ActionConstraint, EntityReference, EntityType, EntityUID, Expr,
    PrincipalOrResourceConstraint, Template,
};
use remit_core::{Effect, PolicyId};

use crate::diagnostic::Span;
use crate::reach::Reach;
use crate::rule::{Rule, Terms};
use crate::shape::Reads;

/// One policy ready to be evaluated: a static policy, or one link of a template.
#[derive(Debug, Clone)]
pub(crate) struct CompiledPolicy {
    /// Its `@id`, or the id of the link.
    pub(crate) id: PolicyId,
    /// What it does when it is satisfied.
    pub(crate) effect: Effect,
    /// Whether it is annotated `@mode("shadow")`: evaluated and listed, never enforced.
    pub(crate) shadow: bool,
    /// Whether its outcome may depend on `context.facts.approved` or `context.facts.approval`.
    pub(crate) mentions_approval: bool,
    /// The facts that it can get at.
    pub(crate) reads: Reads,
    /// The annotations that become obligations when it determines a decision.
    pub(crate) obligations: BTreeMap<String, String>,
    /// What its annotations mean to the engine.
    pub(crate) terms: Arc<Terms>,
    /// Its scope, slots resolved.
    pub(crate) scope: Scope,
    /// The conjunction of its `when` and `unless` clauses, free of slots; `None` when it has none, which is true.
    ///
    /// The places of its expressions count within `text`.
    pub(crate) body: Option<Arc<Expr>>,
    /// How far that looks into entities.
    pub(crate) reach: Reach,
    /// Its text as written, from the first annotation to the semicolon; the template's for a link.
    pub(crate) text: Arc<str>,
    /// The file that text stands in.
    pub(crate) file: Arc<str>,
    /// Where in that file.
    pub(crate) span: Span,
}

/// What a policy's head demands of principal, action and resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Of the principal.
    pub(crate) principal: EntityScope,
    /// Of the action.
    pub(crate) action: ActionScope,
    /// Of the resource.
    pub(crate) resource: EntityScope,
}

/// What a scope demands of one entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum EntityScope {
    /// Nothing.
    Any,
    /// To be of a type.
    Is(EntityType),
    /// To be this entity.
    Eq(Arc<EntityUID>),
    /// To be this entity or below it.
    In(Arc<EntityUID>),
    /// Both a type and a place in the hierarchy.
    IsIn(EntityType, Arc<EntityUID>),
}

/// What a scope demands of the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ActionScope {
    /// Nothing.
    Any,
    /// To be this action.
    Eq(Arc<EntityUID>),
    /// To be one of these actions or in one of these groups.
    In(Vec<Arc<EntityUID>>),
}

// === impl CompiledPolicy ===

impl CompiledPolicy {
    /// Makes one of a rule that is no template.
    pub(crate) fn of_rule(rule: &Rule, file: &Arc<str>, span: Span) -> Option<Self> {
        let policy = Template::try_as_policy(Arc::clone(&rule.template)).ok()?;
        Self::of(rule.id.clone(), rule, &policy, file, span)
    }

    /// Makes one of a rule and Cedar's form of it; `None` for a form with a slot that is not filled.
    pub(crate) fn of(
        id: PolicyId,
        rule: &Rule,
        policy: &ast::Policy,
        file: &Arc<str>,
        span: Span,
    ) -> Option<Self> {
        Some(Self {
            id,
            effect: rule.effect,
            shadow: rule.shadow,
            mentions_approval: rule.mentions_approval,
            reads: rule.reads,
            obligations: rule.obligations.clone(),
            terms: Arc::clone(&rule.terms),
            scope: Scope::of(policy)?,
            body: policy.non_scope_constraints_arc().cloned(),
            reach: rule.reach.clone(),
            text: Arc::clone(&rule.text),
            file: Arc::clone(file),
            span,
        })
    }
}

// === impl Scope ===

impl Scope {
    /// Takes the head of a policy apart, the slots of a linked policy filled in.
    ///
    /// Returns `None` for a slot that is not filled, which Cedar's links do not have.
    pub(crate) fn of(policy: &ast::Policy) -> Option<Self> {
        Some(Self {
            principal: EntityScope::of(policy.principal_constraint().as_inner())?,
            action: match policy.action_constraint() {
                ActionConstraint::Any => ActionScope::Any,
                ActionConstraint::Eq(uid) => ActionScope::Eq(Arc::clone(uid)),
                ActionConstraint::In(uids) => ActionScope::In(uids.clone()),
            },
            resource: EntityScope::of(policy.resource_constraint().as_inner())?,
        })
    }
}

// === impl EntityScope ===

impl EntityScope {
    fn of(constraint: &PrincipalOrResourceConstraint) -> Option<Self> {
        let uid = |reference: &EntityReference| match reference {
            EntityReference::EUID(uid) => Some(Arc::clone(uid)),
            EntityReference::Slot(_) => None,
        };
        Some(match constraint {
            PrincipalOrResourceConstraint::Any => Self::Any,
            PrincipalOrResourceConstraint::Is(kind) => Self::Is(EntityType::clone(kind)),
            PrincipalOrResourceConstraint::Eq(reference) => Self::Eq(uid(reference)?),
            PrincipalOrResourceConstraint::In(reference) => Self::In(uid(reference)?),
            PrincipalOrResourceConstraint::IsIn(kind, reference) => {
                Self::IsIn(EntityType::clone(kind), uid(reference)?)
            }
        })
    }
}

impl EntityScope {
    /// Returns it as a policy spells it of `variable`.
    pub(crate) fn text(&self, variable: &str) -> String {
        match self {
            Self::Any => variable.to_owned(),
            Self::Is(kind) => format!("{variable} is {kind}"),
            Self::Eq(uid) => format!("{variable} == {uid}"),
            Self::In(group) => format!("{variable} in {group}"),
            Self::IsIn(kind, group) => format!("{variable} is {kind} in {group}"),
        }
    }

    /// Returns every scope that all entities of this one satisfy whatever the hierarchy is, this one last.
    pub(crate) fn wider(&self) -> Vec<Self> {
        let mut wider = match self {
            Self::Any => Vec::new(),
            Self::Is(_) | Self::In(_) => vec![Self::Any],
            Self::Eq(uid) => {
                let kind = uid.entity_type();
                vec![
                    Self::Any,
                    Self::Is(kind.clone()),
                    Self::In(Arc::clone(uid)),
                    Self::IsIn(kind.clone(), Arc::clone(uid)),
                ]
            }
            Self::IsIn(kind, group) => vec![
                Self::Any,
                Self::Is(kind.clone()),
                Self::In(Arc::clone(group)),
            ],
        };
        wider.push(self.clone());
        wider
    }
}

// === impl ActionScope ===

impl ActionScope {
    /// Returns it as a policy spells it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Any => "action".to_owned(),
            Self::Eq(uid) => format!("action == {uid}"),
            Self::In(groups) => match groups.as_slice() {
                [only] => format!("action in {only}"),
                several => {
                    let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                    format!("action in [{}]", several.join(", "))
                }
            },
        }
    }

    /// Says whether an action satisfies it; `below` tells whether the action is in a group.
    pub(crate) fn holds(&self, action: &EntityUID, below: impl Fn(&EntityUID) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Eq(uid) => **uid == *action,
            Self::In(groups) => groups
                .iter()
                .any(|group| **group == *action || below(group)),
        }
    }
}
