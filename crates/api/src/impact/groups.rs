//! How decisions differ from those of another bundle: grouped and counted, for recorded decisions and for live ones alike.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use remit_core::{Decision, DecisionId, DecisionRecord, PolicyId, Reason, Verdict};
use serde::{Deserialize, Serialize};

/// The most groups of one tally; what falls into others is counted by outcome alone.
const GROUPS: usize = 500;
/// The ids that stand for a group.
const SAMPLES: usize = 5;
/// The most causes that are told apart.
const CAUSES: usize = 100;
/// What stands for every further cause.
const OTHER_CAUSES: &str = "there are too many causes to name this one";

/// How a decision differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    NewlyPermitted,
    NewlyDenied,
    NewlyNeedingApproval,
    NewErrors,
    OtherReason,
}

/// What a decision said, as far as groups tell decisions apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) policies: Vec<PolicyId>,
}

/// How a decision differs: the outcome, the action it was about, what it said and what it would say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Difference {
    pub(super) outcome: Outcome,
    pub(super) action: String,
    pub(super) before: Said,
    pub(super) after: Said,
}

/// Decisions that differ in the same way.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    #[serde(flatten)]
    pub(super) difference: Difference,
    pub(super) count: u64,
    pub(super) samples: Vec<DecisionId>,
}

/// Decisions that cannot be made again.
#[derive(Debug, Serialize)]
pub(crate) struct Left {
    because: String,
    pub(crate) count: u64,
    samples: Vec<DecisionId>,
}

/// How many decisions, and the ids of some.
type Counted = (u64, Vec<DecisionId>);

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// How many were made again.
    pub(super) replayed: u64,
    /// How many of them came out the same.
    pub(super) unchanged: u64,
    /// How many came out otherwise, by how.
    pub(super) totals: BTreeMap<Outcome, u64>,
    groups: BTreeMap<Difference, Counted>,
    left: BTreeMap<String, Counted>,
}

/// Says how two decisions differ; `None` where they do not.
fn compare(before: &Decision, after: &Decision) -> Option<Outcome> {
    let asks = |decision: &Decision| decision.reason == Reason::ApprovalRequired;
    let new_error = after.errors.iter().any(|error| {
        before
            .errors
            .iter()
            .all(|known| known.policy != error.policy)
    });
    match (before.verdict, after.verdict) {
        _ if asks(after) && !asks(before) => Some(Outcome::NewlyNeedingApproval),
        (Verdict::Deny, Verdict::Permit) => Some(Outcome::NewlyPermitted),
        (Verdict::Permit, Verdict::Deny) => Some(Outcome::NewlyDenied),
        _ if new_error => Some(Outcome::NewErrors),
        _ if before.reason != after.reason || before.determining != after.determining => {
            Some(Outcome::OtherReason)
        }
        _ => None,
    }
}

// === impl Outcome ===

impl Outcome {
    pub(crate) const ALL: [Self; 5] = [
        Self::NewlyPermitted,
        Self::NewlyDenied,
        Self::NewlyNeedingApproval,
        Self::NewErrors,
        Self::OtherReason,
    ];

    /// Returns its name, as it stands in answers and labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NewlyPermitted => "newly_permitted",
            Self::NewlyDenied => "newly_denied",
            Self::NewlyNeedingApproval => "newly_needing_approval",
            Self::NewErrors => "new_errors",
            Self::OtherReason => "other_reason",
        }
    }
}

// === impl Said ===

impl Said {
    fn of(decision: &Decision) -> Self {
        Self {
            verdict: decision.verdict,
            reason: decision.reason,
            policies: decision.determining.clone(),
        }
    }
}

// === impl Difference ===

impl Difference {
    /// Says how a decision made again differs from the recorded one; `None` where it does not.
    pub(super) fn between(record: &DecisionRecord, after: &Decision) -> Option<Self> {
        let before = &record.decision;
        compare(before, after).map(|outcome| Self {
            outcome,
            action: record.question.action.name.clone(),
            before: Said::of(before),
            after: Said::of(after),
        })
    }
}

// === impl Tally ===

impl Tally {
    /// Returns how many decisions there have been, made again or not.
    pub(super) fn seen(&self) -> u64 {
        self.replayed + self.failed()
    }

    /// Returns how many could not be made again.
    pub(super) fn failed(&self) -> u64 {
        self.left.values().map(|(count, _)| count).sum()
    }

    /// Returns how many fall into a group; `None` for one beyond the most.
    pub(super) fn count(&self, difference: &Difference) -> Option<u64> {
        self.groups.get(difference).map(|(count, _)| *count)
    }

    /// Counts one decision: how it differs, or why it could not be made again.
    pub(super) fn add(&mut self, id: DecisionId, decided: Result<Option<Difference>, String>) {
        let note = |(count, samples): &mut Counted| {
            *count += 1;
            if samples.len() < SAMPLES {
                samples.push(id);
            }
        };
        let difference = match decided {
            Ok(difference) => difference,
            Err(because) => {
                let known = self.left.len() < CAUSES || self.left.contains_key(&because);
                let because = if known {
                    because
                } else {
                    OTHER_CAUSES.to_owned()
                };
                return note(self.left.entry(because).or_default());
            }
        };
        self.replayed += 1;
        let Some(difference) = difference else {
            self.unchanged += 1;
            return;
        };
        *self.totals.entry(difference.outcome).or_default() += 1;
        if self.groups.len() < GROUPS || self.groups.contains_key(&difference) {
            note(self.groups.entry(difference).or_default());
        }
    }

    /// Returns the groups by outcome, those with the most decisions first.
    pub(super) fn groups(&self) -> Vec<Group> {
        let groups = self.groups.iter();
        let mut groups: Vec<Group> = groups
            .map(|(difference, (count, samples))| Group {
                difference: difference.clone(),
                count: *count,
                samples: samples.clone(),
            })
            .collect();
        sort(&mut groups);
        groups
    }

    /// Returns why decisions could not be made again.
    pub(super) fn left(&self) -> Vec<Left> {
        let left = self.left.iter();
        left.map(|(because, (count, samples))| Left {
            because: because.clone(),
            count: *count,
            samples: samples.clone(),
        })
        .collect()
    }
}

/// Puts groups in the order in which they are shown.
pub(super) fn sort(groups: &mut [Group]) {
    groups.sort_by(|one, other| {
        let key = |group: &Group| (group.difference.outcome, Reverse(group.count));
        key(one)
            .cmp(&key(other))
            .then_with(|| one.difference.cmp(&other.difference))
    });
}
