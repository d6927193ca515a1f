//! Whom a request waits for: the groups that the forbidding policies name (`@cure`), and how many of each (`@quorum`).

use std::collections::{BTreeMap, BTreeSet};

use remit_core::{Decision, PolicyId};
use remit_engine::Snapshot;

/// How many persons of each group have to approve.
pub(crate) type Wants = BTreeMap<String, u32>;

/// The name that stands for any approver; no group has it.
pub(crate) const ANY: &str = "any";
/// The name of the group that whoever answers for the agent belongs to as well.
pub(crate) const OWNER: &str = "owner";

/// What begins the annotation that names a group.
const CURE: &str = "approval:";
/// The most persons that a policy asks for.
const MOST: u32 = 100;

/// Returns whom a call waits for that these policies forbid, by their annotations.
///
/// `@cure("approval:finance")` names a group, `@quorum("2")` how many of it. Where several policies name one group, the
/// most that one of them asks for counts. A policy that names no group wants any approver.
pub(crate) fn of(
    snapshot: &Snapshot,
    decision: &Decision,
    violations: &BTreeSet<PolicyId>,
) -> Wants {
    let mut wants = Wants::new();
    for policy in violations {
        let said = annotations(snapshot, decision, policy);
        let group = said.get("cure").and_then(|cure| group_of(cure));
        let persons = said.get("quorum").and_then(|text| text.trim().parse().ok());
        let persons: u32 = persons.unwrap_or(1).clamp(1, MOST);
        let most = wants.entry(group.unwrap_or(ANY).to_owned()).or_insert(0);
        *most = persons.max(*most);
    }
    if wants.is_empty() {
        wants.insert(ANY.to_owned(), 1);
    }
    wants
}

/// Returns what a policy says of itself: what the decision carries, and where it is a hop's what is written.
pub(crate) fn annotations(
    snapshot: &Snapshot,
    decision: &Decision,
    policy: &PolicyId,
) -> BTreeMap<String, String> {
    let carried = decision
        .obligations
        .iter()
        .find(|one| one.policy == *policy);
    if let Some(carried) = carried {
        return carried.annotations.clone();
    }
    snapshot
        .annotations(policy)
        .map(|said| said.into_iter().collect())
        .unwrap_or_default()
}

/// Returns the group that an annotation names.
fn group_of(cure: &str) -> Option<&str> {
    let group = cure.trim().strip_prefix(CURE)?.trim();
    (!group.is_empty()).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_names_a_group() {
        for (cure, group) in [
            ("approval:finance", Some("finance")),
            (" approval: finance ", Some("finance")),
            ("approval:owner", Some("owner")),
            ("approval", None),
            ("approval:", None),
            ("endorse", None),
        ] {
            assert_eq!(group_of(cure), group, "{cure}");
        }
    }
}
