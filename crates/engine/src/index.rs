//! The scope index: from a question to exactly the policies whose head it satisfies.
//!
//! A policy whose scope is false is neither satisfied nor erroring, and a scope never errors, so leaving those policies
//! out changes no decision. Looking up costs as much as the matches, not as the set: one sorted table of
//! (principal key, resource key, action key, policy), sixteen bytes a row.

use std::ops::Range;
use std::sync::Arc;

use cedar_policy_core::ast::{EntityType, EntityUID};
use rustc_hash::FxHashMap;

use crate::policy::{ActionScope, CompiledPolicy, EntityScope};

/// Where each policy can match.
#[derive(Debug, Default)]
pub(crate) struct Index {
    rows: Vec<Row>,
    /// The rows of each principal key.
    principals: FxHashMap<Key, Range<usize>>,
    names: Names,
}

/// What a scope demands of one variable, as a number: the name's number and, in the last two bits, the relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    principal: Key,
    resource: Key,
    action: Key,
    policy: u32,
}

/// A small number for each entity and type that some scope names.
#[derive(Debug, Default)]
struct Names {
    entities: FxHashMap<EntityUID, u32>,
    types: FxHashMap<EntityType, u32>,
}

/// One entity of a question with everything above it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'q, A> {
    /// The entity.
    pub(crate) uid: &'q EntityUID,
    /// Its ancestors, direct or not.
    pub(crate) ancestors: A,
}

// === impl Index ===

impl Index {
    /// Indexes `policies`; the numbers that [`Index::candidates`] yields are places in this slice.
    pub(crate) fn build(policies: &[Arc<CompiledPolicy>]) -> Self {
        let mut names = Names::default();
        let mut rows = Vec::with_capacity(policies.len());
        for (policy, number) in policies.iter().zip(0..) {
            let principal = names.entity_key(&policy.scope.principal);
            let resource = names.entity_key(&policy.scope.resource);
            for action in names.action_keys(&policy.scope.action) {
                rows.push(Row {
                    principal,
                    resource,
                    action,
                    policy: number,
                });
            }
        }
        rows.sort_unstable();
        rows.dedup();
        let mut principals = FxHashMap::default();
        let mut start = 0;
        for same in rows.chunk_by(|a, b| a.principal == b.principal) {
            if let Some(row) = same.first() {
                principals.insert(row.principal, start..start + same.len());
            }
            start += same.len();
        }
        Self {
            rows,
            principals,
            names,
        }
    }

    /// Returns the places of exactly the policies whose scope is satisfied, in order; more than `most` is `None`.
    pub(crate) fn candidates<'q>(
        &self,
        policies: &[Arc<CompiledPolicy>],
        principal: Place<'q, impl Iterator<Item = &'q EntityUID>>,
        action: Place<'q, impl Iterator<Item = &'q EntityUID>>,
        resource: Place<'q, impl Iterator<Item = &'q EntityUID>>,
        most: usize,
    ) -> Option<Vec<usize>> {
        let (principal_type, resource_type) =
            (principal.uid.entity_type(), resource.uid.entity_type());
        let principals = self.names.keys(principal);
        let resources = self.names.keys(resource);
        let actions = self.names.keys(action);
        let mut found = Vec::new();
        for key in &principals {
            let rows = self.principals.get(key).cloned();
            let rows = rows
                .and_then(|range| self.rows.get(range))
                .unwrap_or_default();
            for_each_match(
                rows,
                &resources,
                |row| row.resource,
                |rows| {
                    for_each_match(
                        rows,
                        &actions,
                        |row| row.action,
                        |rows| {
                            found.extend(rows.iter().map(|row| row.policy as usize));
                        },
                    );
                },
            );
        }
        // A policy is listed under each of its actions, and a question can be in several of them.
        found.sort_unstable();
        found.dedup();
        found.retain(|number| {
            policies.get(*number).is_some_and(|policy| {
                has_type(&policy.scope.principal, principal_type)
                    && has_type(&policy.scope.resource, resource_type)
            })
        });
        (found.len() <= most).then_some(found)
    }
}

/// Calls `found` with the rows of each of `keys`; rows and keys are both sorted.
fn for_each_match(
    mut rows: &[Row],
    keys: &[Key],
    key_of: impl Fn(&Row) -> Key,
    mut found: impl FnMut(&[Row]),
) {
    for key in keys {
        let start = rows.partition_point(|row| key_of(row) < *key);
        rows = rows.get(start..).unwrap_or_default();
        let end = rows.partition_point(|row| key_of(row) == *key);
        let (same, rest) = rows.split_at(end);
        if !same.is_empty() {
            found(same);
        }
        if rest.is_empty() {
            return;
        }
        rows = rest;
    }
}

/// Checks the half of `is T in E` that the key does not hold.
fn has_type(scope: &EntityScope, kind: &EntityType) -> bool {
    match scope {
        EntityScope::IsIn(of, _) => of == kind,
        EntityScope::Any | EntityScope::Is(_) | EntityScope::Eq(_) | EntityScope::In(_) => true,
    }
}

// === impl Key ===

impl Key {
    const ANY: Self = Self(0);
    const IS: u32 = 1;
    const EQ: u32 = 2;
    const IN: u32 = 3;

    const fn new(name: u32, relation: u32) -> Self {
        Self(name << 2 | relation)
    }
}

// === impl Names ===

impl Names {
    fn entity_key(&mut self, scope: &EntityScope) -> Key {
        match scope {
            EntityScope::Any => Key::ANY,
            EntityScope::Is(kind) => {
                let next = self.next();
                Key::new(*self.types.entry(kind.clone()).or_insert(next), Key::IS)
            }
            EntityScope::Eq(uid) => Key::new(self.number(uid), Key::EQ),
            EntityScope::In(uid) | EntityScope::IsIn(_, uid) => Key::new(self.number(uid), Key::IN),
        }
    }

    fn action_keys(&mut self, scope: &ActionScope) -> Vec<Key> {
        match scope {
            ActionScope::Any => vec![Key::ANY],
            ActionScope::Eq(uid) => vec![Key::new(self.number(uid), Key::EQ)],
            ActionScope::In(uids) => uids
                .iter()
                .map(|uid| Key::new(self.number(uid), Key::IN))
                .collect(),
        }
    }

    /// Returns every key that the entity of a question satisfies, sorted.
    fn keys<'q>(&self, place: Place<'q, impl Iterator<Item = &'q EntityUID>>) -> Vec<Key> {
        let mut keys = vec![Key::ANY];
        if let Some(kind) = self.types.get(place.uid.entity_type()) {
            keys.push(Key::new(*kind, Key::IS));
        }
        if let Some(own) = self.entities.get(place.uid) {
            keys.extend([Key::new(*own, Key::EQ), Key::new(*own, Key::IN)]);
        }
        for ancestor in place.ancestors {
            if let Some(above) = self.entities.get(ancestor) {
                keys.push(Key::new(*above, Key::IN));
            }
        }
        keys.sort_unstable();
        keys
    }

    fn number(&mut self, uid: &EntityUID) -> u32 {
        let next = self.next();
        *self.entities.entry(uid.clone()).or_insert(next)
    }

    /// Returns the next free number. A bundle names far fewer than 2^30 entities: each takes bytes of its text.
    fn next(&self) -> u32 {
        u32::try_from(self.entities.len() + self.types.len()).unwrap_or(u32::MAX >> 2)
    }
}
