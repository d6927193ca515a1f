//! Which policies an exception can be for.

use std::fmt;

use remit_core::{Effect, PolicyId};

use super::Snapshot;

/// Why no exception can be for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRelaxable {
    /// No policy has this id.
    Missing,
    /// It forbids nothing.
    Permits,
    /// It is in shadow mode, so that it stops nothing.
    Shadow,
    /// It is annotated `@relax("never")`.
    Never,
}

// === impl Snapshot ===

impl Snapshot {
    /// Tells whether an exception can be for a policy: one that forbids, is enforced, and may be relaxed.
    ///
    /// # Errors
    ///
    /// [`NotRelaxable`] says why not.
    pub fn relaxable(&self, id: &PolicyId) -> Result<(), NotRelaxable> {
        let policies = &self.rules.program.policies;
        let found = policies.binary_search_by(|policy| policy.id.cmp(id));
        let policy = found.ok().and_then(|place| policies.get(place));
        let policy = policy.ok_or(NotRelaxable::Missing)?;
        if policy.effect != Effect::Forbid {
            return Err(NotRelaxable::Permits);
        }
        if policy.shadow {
            return Err(NotRelaxable::Shadow);
        }
        match policy.obligations.get("relax").map(String::as_str) {
            Some("never") => Err(NotRelaxable::Never),
            _ => Ok(()),
        }
    }
}

// === impl NotRelaxable ===

impl fmt::Display for NotRelaxable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the bundle in force has no such policy",
            Self::Permits => "it permits, and only what forbids can be relaxed",
            Self::Shadow => "it is in shadow mode and stops nothing",
            Self::Never => "it is annotated `@relax(\"never\")`",
        })
    }
}
