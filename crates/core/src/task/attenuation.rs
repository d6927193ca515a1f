//! Attenuation: a part of a task is nowhere wider than the task.

use std::collections::BTreeSet;

use smol_str::SmolStr;

use super::{Declaration, Dimension, Window, trusted_sinks};
use crate::EntityUid;

/// The most hops from a task to the one that nobody handed on.
pub const MOST_DEPTH: u16 = 8;

/// What the schema and the stored entities say of the names in declarations.
pub struct World<'w> {
    /// Whether an action, or a group with all its members, is the second one or within it.
    pub action_in: &'w dyn Fn(&str, &str) -> bool,
    /// Whether a resource is the second one or below it.
    pub below: &'w dyn Fn(&EntityUid, &EntityUid) -> bool,
}

// === impl World ===

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

// === impl Declaration ===

impl Declaration {
    /// Returns the first dimension in which it is wider than the task it is to be a part of; `depth` is its own.
    ///
    /// What the parent limits and it does not is wider. A sink that the parent's intent names counts as declared there,
    /// as it does where the parent acts itself. How many children a task has is not in its declaration, so
    /// [`Dimension::FanOut`] is never returned.
    pub fn exceeds(&self, parent: &Self, depth: u16, world: &World<'_>) -> Option<Dimension> {
        let names = |child: &BTreeSet<SmolStr>, parent: &BTreeSet<SmolStr>| {
            let mut all = child.iter();
            all.all(|name| {
                parent.contains(name) || parent.iter().any(|group| (world.action_in)(name, group))
            })
        };
        let below = |child: &BTreeSet<EntityUid>, parent: &BTreeSet<EntityUid>| {
            let mut all = child.iter();
            all.all(|uid| {
                parent.contains(uid) || parent.iter().any(|above| (world.below)(uid, above))
            })
        };
        let sinks = |child: &BTreeSet<SmolStr>, _: &BTreeSet<SmolStr>| {
            trusted_sinks(parent, &[], child.iter()).len() == child.len()
        };
        let window = |child: &Window, parent: &Window| {
            child.days.is_subset(&parent.days)
                && child.from >= parent.from
                && child.until <= parent.until
        };
        let (mine, theirs) = (&self.budget, &parent.budget);
        let most = |child: Option<u64>, parent: Option<u64>| {
            within(child.as_ref(), parent.as_ref(), |c, p| c <= p)
        };
        [
            (
                Dimension::Actions,
                within(self.actions.as_ref(), parent.actions.as_ref(), names),
            ),
            (
                Dimension::Resources,
                within(self.resources.as_ref(), parent.resources.as_ref(), below),
            ),
            (
                Dimension::Sinks,
                within(self.sinks.as_ref(), parent.sinks.as_ref(), sinks),
            ),
            (
                Dimension::DataClasses,
                within(
                    self.data_classes.as_ref(),
                    parent.data_classes.as_ref(),
                    BTreeSet::is_subset,
                ),
            ),
            (Dimension::Calls, most(mine.calls, theirs.calls)),
            (Dimension::Cost, most(mine.cost, theirs.cost)),
            (Dimension::Amount, most(mine.amount, theirs.amount)),
            (Dimension::Bytes, most(mine.bytes, theirs.bytes)),
            (
                Dimension::Irreversible,
                most(mine.irreversible, theirs.irreversible),
            ),
            (
                Dimension::Window,
                within(self.window.as_ref(), parent.window.as_ref(), window),
            ),
            (Dimension::Expiry, self.expires_at <= parent.expires_at),
            (Dimension::MayDelegate, parent.may_delegate),
            (Dimension::Depth, depth <= MOST_DEPTH),
            (
                Dimension::OnBehalfOf,
                self.on_behalf_of == parent.on_behalf_of,
            ),
        ]
        .into_iter()
        .find(|(_, fits)| !fits)
        .map(|(dimension, _)| dimension)
    }
}

/// Whether a limit is within another: where there is no other anything is, and no limit is within none.
fn within<T>(child: Option<&T>, parent: Option<&T>, fits: impl FnOnce(&T, &T) -> bool) -> bool {
    match (child, parent) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(child), Some(parent)) => fits(child, parent),
    }
}
