//! Running a bundle's cases: what `remit policy test`, a bundle push and an editor call alike.

use remit_core::{Case, Decision, Facts, KeyId, PolicyId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Snapshot;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseOutcome {
    /// The name of the case.
    pub name: String,
    /// What was decided.
    pub decision: Decision,
    /// Where that is not what was expected, in the order of the expectation's members; empty when the case passes.
    pub mismatches: Vec<Mismatch>,
}

/// One member of an expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The member: `decision`, `reason`, `because`, `errors` or `shadow`; `question` for one that cannot be asked at all.
    pub member: String,
    /// What the case says.
    pub expected: String,
    /// What came out.
    pub actual: String,
}

/// When a case is asked that does not say: Monday, 2026-01-05T10:00:00Z.
const MONDAY_MORNING: i64 = 1_767_607_200_000_000;

/// The environment of a case that does not say.
const ENVIRONMENT: &str = "dev";

// === impl Snapshot ===

impl Snapshot {
    /// Asks the question of `case` and compares the decision with what the case expects.
    ///
    /// The facts come from the case alone; its caller is the nil key.
    pub fn run_case(&self, case: &Case) -> CaseOutcome {
        let facts = Facts {
            now: case
                .at
                .unwrap_or_else(|| Timestamp::from_micros(MONDAY_MORNING)),
            caller: KeyId::NIL,
            environment: case
                .environment
                .clone()
                .unwrap_or_else(|| ENVIRONMENT.to_owned()),
            approved: case.approved,
        };
        let decision = self.decide(&case.question, &facts);
        let mismatches = mismatches(case, &decision);
        CaseOutcome {
            name: case.name.clone(),
            decision,
            mismatches,
        }
    }
}

// === impl CaseOutcome ===

impl CaseOutcome {
    /// Whether the case passes.
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }
}

fn mismatches(case: &Case, decision: &Decision) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let mut differ = |member: &str, expected: String, actual: String| {
        found.push(Mismatch {
            member: member.to_owned(),
            expected,
            actual,
        });
    };
    // A question that no caller could send proves nothing.
    if let Err(invalid) = case.question.check() {
        differ(
            "question",
            "a question that can be asked".to_owned(),
            invalid.to_string(),
        );
    }
    let expect = &case.expect;
    if expect.decision != decision.verdict {
        let text = |verdict| match verdict {
            remit_core::Verdict::Permit => "permit".to_owned(),
            remit_core::Verdict::Deny => "deny".to_owned(),
        };
        differ("decision", text(expect.decision), text(decision.verdict));
    }
    if let Some(reason) = expect.reason
        && reason != decision.reason
    {
        differ("reason", reason.to_string(), decision.reason.to_string());
    }
    let because: Vec<&PolicyId> = decision.determining.iter().collect();
    let errors: Vec<&PolicyId> = decision.errors.iter().map(|error| &error.policy).collect();
    let shadow: Vec<&PolicyId> = decision
        .shadow
        .iter()
        .map(|shadow| &shadow.policy)
        .collect();
    for (member, expected, actual) in [
        ("because", &expect.because, because),
        ("errors", &expect.errors, errors),
        ("shadow", &expect.shadow, shadow),
    ] {
        let Some(expected) = expected else { continue };
        let (expected, actual) = (listed(expected.iter().collect()), listed(actual));
        if expected != actual {
            differ(member, expected, actual);
        }
    }
    found
}

/// Writes policy ids in their order, so that two lists of the same ids are the same text.
fn listed(mut ids: Vec<&PolicyId>) -> String {
    ids.sort();
    let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    if ids.is_empty() {
        "none".to_owned()
    } else {
        ids.join(", ")
    }
}
