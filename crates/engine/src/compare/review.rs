//! Policies that are valid by themselves and make no difference beside the others.

use remit_core::Effect;

use super::cover::Cover;
use crate::Snapshot;
use crate::diagnostic::{Diagnostic, Severity};
use crate::policy::CompiledPolicy;

/// The most findings of one review.
const MOST: usize = 1_000;

impl Snapshot {
    /// Looks for enforced policies that make no difference: those that another covers (`subsumed`), and permits of which a
    /// forbid takes everything back (`overridden`). At most 1,000, by policy.
    ///
    /// What it finds is certain; it does not find everything, for no solver is asked.
    pub fn review(&self) -> Vec<Diagnostic> {
        let cover = Cover::of(self);
        let policies = self.rules().program.policies.iter();
        policies
            .filter(|policy| !policy.shadow)
            .filter_map(|policy| redundant(&cover, policy))
            .take(MOST)
            .collect()
    }
}

fn redundant(cover: &Cover<'_>, policy: &CompiledPolicy) -> Option<Diagnostic> {
    if policy.effect == Effect::Permit
        && let Some(forbid) = cover.covering(Effect::Forbid, policy, None)
    {
        let message = format!(
            "this permit never takes effect: the forbid `{}` takes all of it back",
            forbid.id
        );
        return Some(finding("overridden", message, policy));
    }
    let other = cover.covering(policy.effect, policy, Some(&policy.id))?;
    // Of two that say the same, the later one is one too many.
    if cover.covers(policy, other) && policy.id < other.id {
        return None;
    }
    let does = match policy.effect {
        Effect::Permit => "permits",
        Effect::Forbid => "forbids",
    };
    let message = format!("whatever this policy {does}, `{}` {does} already", other.id);
    Some(finding("subsumed", message, policy))
}

fn finding(code: &str, message: String, policy: &CompiledPolicy) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        ..Diagnostic::error(code, message)
            .at(&policy.file, Some(policy.span))
            .with_policy(&policy.id)
    }
}
