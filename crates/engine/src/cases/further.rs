//! What a case expects beside the verdict and its policies: approvals, exceptions, duties, narrower calls, and times.

use std::collections::BTreeMap;

use remit_core::{Decision, Expectation, Facts, PolicyId};
use serde_json::{Map, Value, json};

use super::{Differences, listed};

// === impl Differences ===

impl Differences {
    /// Holds what came of approvals, exceptions and obligations against what is expected.
    pub(super) fn compare_further(
        &mut self,
        expect: &Expectation,
        decision: &Decision,
        facts: &Facts,
    ) {
        let used = decision.approval.is_some();
        if let Some(expected) = expect.approval.filter(|expected| *expected != used) {
            self.add("approval", expected.to_string(), used.to_string());
        }
        if let Some(expected) = &expect.exceptions {
            let made = facts.exceptions.iter();
            let of = made.filter(|one| decision.exceptions.contains(&one.id));
            let mut actual: Vec<&PolicyId> = of.map(|one| &one.policy).collect();
            actual.dedup();
            let (expected, actual) = (listed(expected.iter().collect()), listed(actual));
            if expected != actual {
                self.add("exceptions", expected, actual);
            }
        }
        if let Some(expected) = &expect.duties {
            self.compare_duties(expected, decision);
        }
        if let Some(expected) = &expect.modify {
            let modify = decision.modify.as_ref();
            let narrowings = modify.map(|modify| modify.narrowings.iter());
            let actual = narrowed(narrowings.into_iter().flatten());
            let expected = narrowed(expected.iter());
            if expected != actual {
                self.add("modify", expected, actual);
            }
        }
        for (member, expected, actual) in [
            ("lease", expect.lease, decision.lease),
            ("ttl", expect.ttl, decision.ttl),
        ] {
            let actual = actual.unwrap_or(0);
            if let Some(expected) = expected.filter(|expected| *expected != actual) {
                self.add(member, expected.to_string(), actual.to_string());
            }
        }
    }

    /// Holds what the policies demand against what is expected, and of each the members that are expected.
    fn compare_duties(
        &mut self,
        expected: &BTreeMap<PolicyId, Map<String, Value>>,
        decision: &Decision,
    ) {
        let actual = decision.duties.iter().map(|duty| {
            let mut members = duty.members.clone();
            members.insert("type".to_owned(), json!(duty.kind));
            if let Some(wanted) = expected.get(&duty.policy) {
                members.retain(|member, _| wanted.contains_key(member));
            }
            (&duty.policy, members)
        });
        let actual = demanded(actual);
        let expected = demanded(
            expected
                .iter()
                .map(|(policy, wanted)| (policy, wanted.clone())),
        );
        if expected != actual {
            self.add("duties", expected, actual);
        }
    }
}

/// Writes what policies demand, in the order of their ids, members in the order of their names.
fn demanded<'p>(all: impl Iterator<Item = (&'p PolicyId, Map<String, Value>)>) -> String {
    let sorted = |members: Map<String, Value>| members.into_iter().collect::<BTreeMap<_, _>>();
    let all: BTreeMap<_, _> = all
        .map(|(policy, members)| (policy, sorted(members)))
        .collect();
    let written = all
        .into_iter()
        .map(|(policy, members)| format!("`{policy}` {}", json!(members)));
    told(&written.collect::<Vec<_>>())
}

/// Writes narrowings in their order.
fn narrowed<'n>(all: impl Iterator<Item = &'n String>) -> String {
    let mut all: Vec<String> = all.map(|one| format!("`{one}`")).collect();
    all.sort();
    told(&all)
}

fn told(all: &[String]) -> String {
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}
