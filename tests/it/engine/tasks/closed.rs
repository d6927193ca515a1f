//! Failing closed: what is not known, or not well said, never permits.

#![expect(
    clippy::semicolon_if_nothing_returned,
    reason = "a list of edits, one expression each"
)]

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{Facts, Reason, Verdict};
use serde_json::{Value, json};

use super::draw::{Drawn, Ground};
use super::monotone::ground;
use super::{POLICIES, compiled};

/// Drops one fact.
type Drop = fn(&mut Facts);

const DROPS: &[(&str, Drop)] = &[
    ("agent", |facts| facts.agent = None),
    ("agent.registered", |facts| {
        facts
            .agent
            .iter_mut()
            .for_each(|agent| agent.registered = None)
    }),
    ("task", |facts| facts.task = None),
    ("task.declaration", |facts| {
        facts
            .task
            .iter_mut()
            .for_each(|task| task.declaration = None)
    }),
    ("task.trusted_sinks", |facts| {
        facts
            .task
            .iter_mut()
            .for_each(|task| task.trusted_sinks.clear())
    }),
    ("tool", |facts| facts.tool = None),
    ("tool.clearance", |facts| {
        facts.tool.iter_mut().for_each(|tool| tool.clearance = None)
    }),
    ("call", |facts| facts.call = None),
    ("hops", |facts| facts.hops.clear()),
];

/// Asks `count` times for a permit that is there because something is not known or not well said; panics with the first.
///
/// Returns how many permits the loss of each fact took.
pub fn check(ground: &Ground<'_>, seed: u64, count: u64) -> BTreeMap<&'static str, u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let permits = |drawn: &Drawn| {
        ground
            .snapshot
            .decide(&drawn.question, &drawn.facts)
            .verdict
            == Verdict::Permit
    };
    let mut lost = BTreeMap::new();
    for number in 0..count {
        let before = ground.draw(&mut rng);
        let was = permits(&before);
        for (name, drop) in DROPS {
            let mut after = before.clone();
            drop(&mut after.facts);
            let is = permits(&after);
            assert!(
                was || !is,
                "seed {seed} question {number}: dropping `{name}` adds a permit: {}\n{}",
                serde_json::to_string(&before.question).unwrap(),
                serde_json::to_string(&before.facts).unwrap(),
            );
            *lost.entry(*name).or_insert(0) += u64::from(was && !is);
        }
        // Whatever an argument is in place of what it should be.
        for wrong in [
            json!(null),
            json!([]),
            json!({}),
            json!(-1),
            json!("\u{0}"),
            json!(1e300),
        ] {
            let mut after = before.clone();
            let names: Vec<String> = after.question.action.properties.keys().cloned().collect();
            for name in names {
                let sent = after
                    .question
                    .action
                    .properties
                    .insert(name.clone(), wrong.clone());
                assert!(
                    was || !permits(&after),
                    "seed {seed} question {number}: `{name}` {wrong}"
                );
                after
                    .question
                    .action
                    .properties
                    .insert(name, sent.unwrap_or(Value::Null));
            }
        }
    }
    lost
}

#[test]
fn fail_closed() {
    let snapshot = compiled(POLICIES);
    let lost = check(&ground(&snapshot), 7_000, 20_000);
    println!("{lost:?}");
    for (name, times) in &lost {
        assert!(
            *times > 20,
            "dropping `{name}` took {times} permits: it means too little"
        );
    }
}

#[test]
fn default_deny() {
    let nothing = compiled("");
    let snapshot = compiled(POLICIES);
    let (none, some) = (ground(&nothing), ground(&snapshot));
    let mut rng = StdRng::seed_from_u64(7_001);
    for _ in 0..2_000 {
        let drawn = none.draw(&mut rng);
        let decision = nothing.decide(&drawn.question, &drawn.facts);
        assert_eq!(decision.verdict, Verdict::Deny);
        let unknown = |edit: fn(&mut Drawn), reasons: &[Reason]| {
            let mut drawn = drawn.clone();
            drawn
                .facts
                .agent
                .iter_mut()
                .for_each(|agent| agent.standing = remit_core::Standing::Active);
            drawn.facts.task = None;
            drawn.facts.hops.clear();
            drawn.question.context.clear();
            edit(&mut drawn);
            let decision = some.snapshot.decide(&drawn.question, &drawn.facts);
            assert!(reasons.contains(&decision.reason), "{decision:?}");
        };
        unknown(
            |drawn| drawn.question.action.name = "nothing".to_owned(),
            &[Reason::UnknownAction],
        );
        unknown(
            |drawn| drawn.question.resource.kind = "Nothing".to_owned(),
            &[Reason::UnknownResourceType],
        );
        unknown(
            |drawn| drawn.question.subject.kind = "Nobody".to_owned(),
            &[Reason::UnknownSubjectType],
        );
        unknown(
            |drawn| drawn.facts.agent = None,
            &[Reason::AgentUnregistered],
        );
        unknown(|drawn| drawn.facts.tool = None, &[Reason::PolicyForbid]);
    }
}

#[test]
fn forbid_wins() {
    let before = compiled(POLICIES);
    let grounds = ground(&before);
    let mut rng = StdRng::seed_from_u64(7_002);
    let forbids = [
        r#"@id("more") forbid (principal, action, resource) when { context.facts has task && context.facts.task.labels.contains("untrusted") };"#,
        r#"@id("more") forbid (principal, action, resource) unless { context.facts has agent && context.facts.agent.trust > 1 };"#,
        r#"@id("more") forbid (principal, action, resource) when { context.facts has call && context.facts.call.amount > 100 };"#,
        r#"@id("more") forbid (principal is User, action, resource);"#,
    ];
    let mut taken = 0;
    for forbid in forbids {
        // Before the others and after them: order makes no difference.
        let after = compiled(&format!("{POLICIES}\n{forbid}"));
        let first = compiled(&format!("{forbid}\n{POLICIES}"));
        for _ in 0..3_000 {
            let drawn = grounds.draw(&mut rng);
            let was = before.decide(&drawn.question, &drawn.facts);
            let is = after.decide(&drawn.question, &drawn.facts);
            assert!(
                was.verdict == Verdict::Permit || is.verdict == Verdict::Deny,
                "{was:?} {is:?}"
            );
            taken += u64::from(was.verdict != is.verdict);
            let other = first.decide(&drawn.question, &drawn.facts);
            assert_eq!(
                (other.reason, other.determining, other.limit),
                (is.reason, is.determining, is.limit)
            );
        }
    }
    assert!(taken > 100, "{taken}");
}
