//! Running a bundle's cases: what `remit policy test`, a bundle push and an editor call alike.

use std::borrow::Cow;
use std::collections::BTreeMap;

use remit_core::{
    Case, Decision, Dimension, Expectation, Facts, KeyId, PolicyId, Step, Timestamp, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::Snapshot;

pub(crate) mod coverage;
mod further;
pub(crate) mod mutants;

use coverage::Coverage;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseOutcome {
    /// The name of the case.
    pub name: String,
    /// What was decided; of a case with several steps, at the last one.
    pub decision: Decision,
    /// What was decided at the steps before that, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Decision>,
    /// Where that is not what was expected, in the order of the expectation's members; empty when the case passes.
    pub mismatches: Vec<Mismatch>,
}

/// One member of an expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The step, from 1, of a case that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The member of the expectation, such as `reason`; `question` for one that cannot be asked at all, `entities` for entities
    /// that cannot be supposed.
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

/// What was found to differ at one step.
struct Differences {
    step: Option<usize>,
    found: Vec<Mismatch>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Asks the questions of `case` and compares the decisions with what the case expects.
    ///
    /// The facts come from the case alone; its caller is the nil key.
    pub fn run_case(&self, case: &Case) -> CaseOutcome {
        self.run(case, None)
    }

    /// Does what [`run_case`](Self::run_case) does, and notes what each policy and clause came to on the way.
    pub fn run_case_covering(&self, case: &Case, coverage: &mut Coverage) -> CaseOutcome {
        self.run(case, Some(coverage))
    }

    fn run(&self, case: &Case, mut coverage: Option<&mut Coverage>) -> CaseOutcome {
        let mut decisions = Vec::with_capacity(case.steps.len());
        let mut mismatches = Vec::new();
        let several = case.steps.len() > 1;
        for (index, step) in case.steps.iter().enumerate() {
            let mut differences = Differences {
                step: several.then_some(index + 1),
                found: Vec::new(),
            };
            let snapshot = self.supposing(step, &mut differences);
            let facts = snapshot.facts_of(step);
            let decision = snapshot.decide(&step.question, &facts);
            if let Some(coverage) = coverage.as_deref_mut() {
                coverage.see(&snapshot, &step.question, &facts, &decision);
            }
            // A question that no caller could send proves nothing.
            if let Err(invalid) = step.question.check() {
                let wanted = "a question that can be asked";
                differences.add("question", wanted.to_owned(), invalid.to_string());
            }
            differences.compare(&step.expect, &decision);
            differences.compare_further(&step.expect, &decision, &facts);
            mismatches.append(&mut differences.found);
            decisions.push(decision);
        }
        let decision = decisions
            .pop()
            .unwrap_or_else(|| self.refuse(remit_core::Reason::EngineFault));
        if case.steps.is_empty() {
            mismatches.push(Mismatch {
                step: None,
                member: "question".to_owned(),
                expected: "a question that can be asked".to_owned(),
                actual: "none".to_owned(),
            });
        }
        CaseOutcome {
            name: case.name.clone(),
            decision,
            earlier: decisions,
            mismatches,
        }
    }

    /// Returns the facts that a step supposes; whoever approved was shown everything that forbids it, where it does not say.
    fn facts_of(&self, step: &Step) -> Facts {
        let environment = step.environment.as_deref().unwrap_or(ENVIRONMENT);
        let monday = Timestamp::from_micros(MONDAY_MORNING);
        let plain = Facts {
            approved: step.approved,
            ..Facts::plain(KeyId::NIL, environment, step.at.unwrap_or(monday))
        };
        let mut facts = step.facts.over(plain, &step.question);
        let supposed = step.facts.approval.as_ref();
        if supposed.is_some_and(|approval| approval.violations.is_none()) {
            let violations = self.violations(&step.question, &facts);
            if let Some(approval) = &mut facts.approval {
                approval.violations = violations;
            }
        }
        facts
    }

    /// Returns the snapshot with the entities that a step supposes; as it is where they do not fit.
    fn supposing(&self, step: &Step, differences: &mut Differences) -> Cow<'_, Self> {
        if step.entities.is_empty() {
            return Cow::Borrowed(self);
        }
        match self.with_supposed(&step.entities) {
            Ok(snapshot) => Cow::Owned(snapshot),
            Err(error) => {
                let wanted = "entities that fit the schema and the bundle";
                differences.add("entities", wanted.to_owned(), error.to_string());
                Cow::Borrowed(self)
            }
        }
    }
}

// === impl CaseOutcome ===

impl CaseOutcome {
    /// Whether the case passes.
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }

    /// Iterates over what was decided at each step.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.earlier.iter().chain([&self.decision])
    }
}

// === impl Differences ===

impl Differences {
    fn add(&mut self, member: &str, expected: String, actual: String) {
        self.found.push(Mismatch {
            step: self.step,
            member: member.to_owned(),
            expected,
            actual,
        });
    }

    fn compare(&mut self, expect: &Expectation, decision: &Decision) {
        if expect.decision != decision.verdict {
            let text = |verdict| match verdict {
                Verdict::Permit => "permit".to_owned(),
                Verdict::Deny => "deny".to_owned(),
            };
            self.add("decision", text(expect.decision), text(decision.verdict));
        }
        if let Some(reason) = expect.reason
            && reason != decision.reason
        {
            self.add("reason", reason.to_string(), decision.reason.to_string());
        }
        if let Some(limit) = expect.limit {
            let named = |dimension: Option<Dimension>| {
                dimension.map_or_else(
                    || "none".to_owned(),
                    |dimension| dimension.as_str().to_owned(),
                )
            };
            let found = decision.limit.as_ref().and_then(|limit| limit.dimension);
            if found != Some(limit) {
                self.add("limit", named(Some(limit)), named(found));
            }
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
                self.add(member, expected, actual);
            }
        }
        if let Some(expected) = &expect.obligations {
            self.compare_obligations(expected, decision);
        }
    }

    /// Holds the policies that oblige against those expected, and of each the annotations that are expected.
    fn compare_obligations(
        &mut self,
        expected: &BTreeMap<PolicyId, BTreeMap<String, String>>,
        decision: &Decision,
    ) {
        let actual = decision.obligations.iter().map(|obligation| {
            let wanted = expected.get(&obligation.policy);
            let known = |(key, _): &(&String, &String)| {
                wanted.is_none_or(|wanted| wanted.contains_key(*key))
            };
            (
                &obligation.policy,
                obligation.annotations.iter().filter(known).collect(),
            )
        });
        let actual = obliged(&actual.collect());
        let expected = expected
            .iter()
            .map(|(policy, annotations)| (policy, annotations.iter().collect()));
        let expected = obliged(&expected.collect());
        if expected != actual {
            self.add("obligations", expected, actual);
        }
    }
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

/// Writes what policies oblige to, in the order of their ids.
fn obliged(all: &BTreeMap<&PolicyId, BTreeMap<&String, &String>>) -> String {
    let written = all.iter().map(|(policy, annotations)| {
        let annotations: Vec<String> = annotations
            .iter()
            .map(|(key, value)| format!("@{key}({value:?})"))
            .collect();
        format!("`{policy}` {}", annotations.join(" "))
            .trim_end()
            .to_owned()
    });
    let written: Vec<String> = written.collect();
    if written.is_empty() {
        "none".to_owned()
    } else {
        written.join(", ")
    }
}
