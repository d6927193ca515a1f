//! Reach: how far into the entities an expression can look, and the entities within that distance.
//!
//! Evaluating over a slice of the store gives what evaluating over all of it gives as long as the slice holds every
//! entity that is dereferenced. How deep a body can go is read off its text once, when it is compiled.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cedar_policy_core::ast::{
    BinaryOp, Entity, EntityUID, Expr, ExprKind, Literal, PartialValue, Value, Var,
};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;
use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use crate::decode::references;
use crate::entities::EntityStore;

/// The most entities one decision may look at.
const MOST_ENTITIES: usize = 10_000;

/// How many steps an expression takes from each thing it can start at.
///
/// One step from the principal is the principal itself, two are the entities that its attributes name. One step from
/// the context is the record itself, two are the entities named in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    principal: u8,
    resource: u8,
    context: u8,
    literal: u8,
    /// Whether it asks what is above an entity.
    hierarchy: bool,
    /// The entities the expression names, where it looks into one.
    literals: Vec<Arc<EntityUID>>,
}

/// What an expression's value can be: for each start, how many steps away the value is.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    principal: Option<u8>,
    resource: Option<u8>,
    context: Option<u8>,
    literal: Option<u8>,
}

/// A slice being collected.
struct Slice<'q> {
    /// What is asked for and not yet taken in, by the steps left there, less one.
    levels: Vec<Vec<Named<'q>>>,
    seen: FxHashSet<Named<'q>>,
    entities: Vec<Arc<Entity>>,
}

/// The name of an entity, from the question or out of an entity that was made for it.
#[derive(Debug, Clone)]
enum Named<'q> {
    Borrowed(&'q EntityUID),
    Shared(Arc<EntityUID>),
}

/// Where a slice starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roots<'q> {
    /// The principal's uid.
    pub(crate) principal: &'q EntityUID,
    /// The resource's uid.
    pub(crate) resource: &'q EntityUID,
    /// The action with its ancestors.
    pub(crate) action: &'q Arc<Entity>,
    /// What the question says of its principal or resource, to be used in place of what is stored.
    pub(crate) asserted: &'q [Arc<Entity>],
    /// The context.
    pub(crate) context: &'q BTreeMap<SmolStr, Value>,
}

// === impl Reach ===

impl Reach {
    /// Reads off how far `body` can look.
    pub(crate) fn of(body: &Expr) -> Self {
        let mut reach = Self::default();
        reach.walk(body);
        if reach.literal > 0 {
            let literals = body
                .subexpressions()
                .filter_map(|part| match part.expr_kind() {
                    ExprKind::Lit(Literal::EntityUID(uid)) => Some(Arc::clone(uid)),
                    _ => None,
                });
            reach.literals = literals.collect();
            reach.literals.sort_unstable();
            reach.literals.dedup();
        }
        reach
    }

    /// Widens the reach to that of `other` as well.
    pub(crate) fn widen(&mut self, other: &Self) {
        self.principal = self.principal.max(other.principal);
        self.resource = self.resource.max(other.resource);
        self.context = self.context.max(other.context);
        self.literal = self.literal.max(other.literal);
        self.hierarchy |= other.hierarchy;
        self.literals.extend(other.literals.iter().cloned());
    }

    /// Collects the entities within reach; more than 10,000 is `None`.
    pub(crate) fn slice<'q>(
        &'q self,
        store: &'q EntityStore,
        roots: &Roots<'q>,
    ) -> Option<Entities> {
        let mut slice = Slice {
            levels: Vec::new(),
            seen: FxHashSet::default(),
            entities: vec![Arc::clone(roots.action)],
        };
        slice.seen.insert(Named::Borrowed(roots.action.uid()));
        slice.await_at(self.principal, Named::Borrowed(roots.principal));
        slice.await_at(self.resource, Named::Borrowed(roots.resource));
        for uid in &self.literals {
            slice.await_at(self.literal, Named::Borrowed(uid));
        }
        if self.context > 1 {
            let mut named = Vec::new();
            roots
                .context
                .values()
                .for_each(|value| references(value, &mut named));
            for uid in named {
                slice.await_at(self.context - 1, Named::Borrowed(uid));
            }
        }
        slice.collect(store, roots.asserted, self.hierarchy)?;
        Entities::new()
            .add_entities(
                slice.entities,
                None::<&NoEntitiesSchema>,
                TCComputation::AssumeAlreadyComputed,
                Extensions::all_available(),
            )
            .ok()
    }

    /// Notes every step of `expr` and returns where its value can come from.
    fn walk(&mut self, expr: &Expr) -> Origin {
        match expr.expr_kind() {
            ExprKind::Var(Var::Principal) => Origin {
                principal: Some(0),
                ..Origin::default()
            },
            ExprKind::Var(Var::Resource) => Origin {
                resource: Some(0),
                ..Origin::default()
            },
            ExprKind::Var(Var::Context) => Origin {
                context: Some(0),
                ..Origin::default()
            },
            ExprKind::Lit(Literal::EntityUID(_)) => Origin {
                literal: Some(0),
                ..Origin::default()
            },
            ExprKind::GetAttr { expr, .. } => {
                let from = self.walk(expr);
                self.step(from, 1)
            }
            ExprKind::HasAttr { expr, .. } => self.test(expr, 1),
            ExprKind::ExtHasAttr { expr, attrs } => self.test(expr, attrs.len()),
            ExprKind::BinaryApp { op, arg1, arg2 } => {
                let from = self.walk(arg1);
                self.walk(arg2);
                match op {
                    BinaryOp::GetTag => self.step(from, 1),
                    BinaryOp::HasTag | BinaryOp::In => {
                        self.hierarchy |= *op == BinaryOp::In;
                        self.step(from, 1);
                        Origin::default()
                    }
                    _ => Origin::default(),
                }
            }
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => {
                self.walk(test_expr);
                self.walk(then_expr).or(self.walk(else_expr))
            }
            ExprKind::Record(members) => members
                .values()
                .map(|member| self.walk(member))
                .fold(Origin::default(), Origin::or),
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.walk(left);
                self.walk(right);
                Origin::default()
            }
            ExprKind::UnaryApp { arg: expr, .. }
            | ExprKind::Like { expr, .. }
            | ExprKind::Is { expr, .. } => {
                self.walk(expr);
                Origin::default()
            }
            // No expression takes one element out of a set.
            ExprKind::Set(items) | ExprKind::ExtensionFunctionApp { args: items, .. } => {
                items.iter().for_each(|item| {
                    self.walk(item);
                });
                Origin::default()
            }
            ExprKind::Lit(_)
            | ExprKind::Var(Var::Action)
            | ExprKind::Slot(_)
            | ExprKind::Unknown(_) => Origin::default(),
        }
    }

    fn test(&mut self, expr: &Expr, steps: usize) -> Origin {
        let from = self.walk(expr);
        self.step(from, u8::try_from(steps).unwrap_or(u8::MAX));
        Origin::default()
    }

    /// Notes that a value is looked into `steps` deep, and returns where what is found there comes from.
    fn step(&mut self, from: Origin, steps: u8) -> Origin {
        let further = |need: &mut u8, at: Option<u8>| {
            let at = at?.saturating_add(steps);
            *need = (*need).max(at);
            Some(at)
        };
        Origin {
            principal: further(&mut self.principal, from.principal),
            resource: further(&mut self.resource, from.resource),
            context: further(&mut self.context, from.context),
            literal: further(&mut self.literal, from.literal),
        }
    }
}

// === impl Origin ===

impl Origin {
    fn or(self, other: Self) -> Self {
        Self {
            principal: self.principal.max(other.principal),
            resource: self.resource.max(other.resource),
            context: self.context.max(other.context),
            literal: self.literal.max(other.literal),
        }
    }
}

// === impl Slice ===

impl<'q> Slice<'q> {
    /// Asks for what lies within `steps` of `uid`.
    fn await_at(&mut self, steps: u8, uid: Named<'q>) {
        let steps = usize::from(steps);
        if steps == 0 {
            return;
        }
        if self.levels.len() < steps {
            self.levels.resize_with(steps, Vec::new);
        }
        if let Some(level) = self.levels.get_mut(steps - 1) {
            level.push(uid);
        }
    }

    /// Takes in everything asked for; those with the most steps left go first, so that none is expanded too little.
    fn collect(
        &mut self,
        store: &EntityStore,
        asserted: &[Arc<Entity>],
        hierarchy: bool,
    ) -> Option<()> {
        while let Some(level) = self.levels.pop() {
            let left = u8::try_from(self.levels.len()).unwrap_or(u8::MAX);
            for uid in level {
                if self.seen.contains(&uid) {
                    continue;
                }
                let entity = asserted.iter().find(|entity| entity.uid() == uid.uid());
                let entity = match (entity, store.get(uid.uid())) {
                    (Some(entity), _) => Some(Arc::clone(entity)),
                    (None, Some(record)) if hierarchy => {
                        Some(Arc::new(record.entity(&store.ancestors(uid.uid()))?))
                    }
                    (None, Some(record)) => Some(Arc::new(record.entity(&[])?)),
                    (None, None) => None,
                };
                self.seen.insert(uid);
                let Some(entity) = entity else {
                    continue;
                };
                if left > 0 {
                    let mut named = Vec::new();
                    entity_references(&entity, &mut named);
                    for uid in named {
                        self.await_at(left, Named::Shared(Arc::clone(uid)));
                    }
                }
                self.entities.push(entity);
                if self.entities.len() > MOST_ENTITIES {
                    return None;
                }
            }
        }
        Some(())
    }
}

// === impl Named ===

impl Named<'_> {
    fn uid(&self) -> &EntityUID {
        match self {
            Self::Borrowed(uid) => uid,
            Self::Shared(uid) => uid,
        }
    }
}

impl PartialEq for Named<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.uid() == other.uid()
    }
}

impl Eq for Named<'_> {}

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uid().hash(state);
    }
}

/// Collects the entities that the attributes and tags of `entity` lead to.
fn entity_references<'e>(entity: &'e Entity, found: &mut Vec<&'e Arc<EntityUID>>) {
    for (_, value) in entity.attrs().chain(entity.tags()) {
        if let PartialValue::Value(value) = value {
            references(value, found);
        }
    }
}
