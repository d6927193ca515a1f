//! Laws that hold for every bundle and question.

use std::ops::Range;
use std::thread;

use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{Decision, Effect, Expectation, PolicyId, Reason, Step, Verdict};
use remit_engine::{ClauseKind, Coverage, Snapshot};

use super::questions::{Case, case};
use super::rules::{Rule, rule};
use super::{Trial, bundle, trial};

/// Calls `check` with random bundles and a way to draw questions.
pub(super) fn for_random_bundles(seeds: Range<u64>, mut check: impl FnMut(&mut StdRng, &Trial)) {
    let (mut checked, all) = (0, seeds.end - seeds.start);
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        if let Some(trial) = trial(&mut rng) {
            check(&mut rng, &trial);
            checked += 1;
        }
    }
    assert!(
        checked * 5 > all * 4,
        "only {checked} of {all} bundles were checked"
    );
}

fn decide(snapshot: &Snapshot, case: &Case) -> Decision {
    snapshot.decide(&case.question, &case.facts)
}

/// A policy without a scope.
fn unscoped(id: &str, effect: Effect, body: &str) -> Rule {
    let word = if effect == Effect::Permit {
        "permit"
    } else {
        "forbid"
    };
    Rule {
        id: id.to_owned(),
        text: format!("@id(\"{id}\")\n{word} (principal, action, resource){body};"),
        effect,
        shadow: false,
        obligation: false,
        links: None,
    }
}

pub(super) fn with_rules(trial: &Trial, rules: &[Rule]) -> Snapshot {
    trial
        .snapshot
        .recompile(&bundle(rules, trial.bundle.entities.clone()))
        .unwrap()
}

/// Noting what is covered has no part in what is decided, and what it notes is what was decided.
#[test]
fn law_coverage_changes_no_decision() {
    let (mut satisfied, mut errors, mut parts) = (0, 0, 0);
    for_random_bundles(8_000..8_060, |rng, trial| {
        let mut whole = Coverage::of(&trial.snapshot);
        for _ in 0..20 {
            let drawn = case(rng);
            let asked = remit_core::Case::new("one", step(&drawn));
            let plain = trial.snapshot.run_case(&asked);
            let mut alone = Coverage::of(&trial.snapshot);
            assert_eq!(trial.snapshot.run_case_covering(&asked, &mut alone), plain);
            assert_eq!(trial.snapshot.run_case_covering(&asked, &mut whole), plain);
            let decision = plain.decision;
            for policy in alone.policies() {
                let (seen, id) = (policy.seen, &policy.policy);
                assert!(seen.reached <= 1);
                let erred = decision.errors.iter().any(|one| one.policy == *id);
                let in_shadow = decision.shadow.iter().any(|one| one.policy == *id);
                if policy.shadow {
                    assert_eq!(in_shadow, seen.held + seen.errors > 0, "{policy:?}");
                } else {
                    assert_eq!(erred, seen.errors > 0, "{policy:?} {decision:?}");
                }
                // A policy is satisfied if and only if each of its clauses came to what it wants.
                let held = policy.clauses.iter().all(|clause| match clause.kind {
                    ClauseKind::When => clause.seen.held == 1,
                    ClauseKind::Unless => clause.seen.failed == 1,
                });
                assert_eq!(seen.held == 1, seen.reached == 1 && held, "{policy:?}");
                satisfied += seen.held;
                errors += seen.errors;
                parts += policy
                    .clauses
                    .iter()
                    .map(|clause| clause.terms.len())
                    .sum::<usize>();
            }
            for id in &decision.determining {
                let policy = alone
                    .policies()
                    .iter()
                    .find(|one| one.policy == *id)
                    .unwrap();
                assert!(policy.seen.held + policy.seen.errors == 1, "{policy:?}");
            }
        }
        let (seen, all) = whole.points();
        assert!(seen <= all);
    });
    println!("{satisfied} satisfied, {errors} errors, {parts} terms");
    assert!(
        satisfied > 100 && errors > 10 && parts > 100,
        "{satisfied} {errors} {parts}"
    );
}

/// What is said to come always to the same, or never to be evaluated, is never seen otherwise.
#[test]
fn law_constant_conditions_are_constant() {
    let (mut told, mut asked) = (0, 0);
    for_random_bundles(8_200..8_500, |rng, trial| {
        let mut coverage = Coverage::of(&trial.snapshot);
        for _ in 0..15 {
            let drawn = remit_core::Case::new("one", step(&case(rng)));
            trial.snapshot.run_case_covering(&drawn, &mut coverage);
        }
        for warning in trial.snapshot.warnings() {
            let never = match (
                warning.code.as_str(),
                warning.message.contains("always true"),
            ) {
                ("constant_clause", true) => "false",
                ("constant_clause", false) => "true",
                ("unreachable_clause" | "contradiction" | "never_applies", _) => "reached",
                _ => continue,
            };
            let (Some(file), Some(span), Some(id)) = (&warning.file, warning.span, &warning.policy)
            else {
                continue;
            };
            let sources = &trial.bundle.policies;
            let text = sources.iter().find(|one| one.file == *file).unwrap();
            let at = text.text[span.start..span.end].trim();
            // Of two that read the same, only one need be constant.
            if text.text.matches(at).count() > 1 {
                continue;
            }
            told += 1;
            // A template decides through its links, whose ids are others.
            for policy in coverage.policies().iter().filter(|one| one.policy == *id) {
                if matches!(warning.code.as_str(), "contradiction" | "never_applies") {
                    assert_eq!(policy.seen.held, 0, "{warning:?} {policy:?}");
                    asked += policy.seen.reached;
                    continue;
                }
                let terms = policy.clauses.iter().flat_map(|one| &one.terms);
                let parts = policy.clauses.iter().map(|one| (&one.text, one.seen));
                let parts: Vec<_> = parts
                    .chain(terms.map(|one| (&one.text, one.seen)))
                    .filter(|(text, _)| text.as_str() == at)
                    .collect();
                for (_, seen) in parts {
                    let other = match never {
                        "true" => seen.held,
                        "false" => seen.failed,
                        _ => seen.reached,
                    };
                    assert_eq!(other, 0, "{warning:?} {seen:?}");
                    asked += seen.reached;
                }
            }
        }
    });
    println!("{told} findings, {asked} evaluations");
    assert!(told > 30 && asked > 30, "{told} {asked}");
}

/// Makes a step of a drawn case; what it expects is not looked at.
fn step(case: &Case) -> Step {
    Step {
        question: case.question.clone(),
        at: Some(case.facts.now),
        environment: Some(case.facts.environment.clone()),
        approved: case.facts.approved,
        entities: Vec::new(),
        facts: remit_core::CaseFacts::default(),
        expect: Expectation::of(Verdict::Deny),
    }
}

#[test]
fn law_no_permit_denies() {
    for_random_bundles(1_000..1_060, |rng, trial| {
        let forbids: Vec<Rule> = trial
            .rules
            .iter()
            .filter(|rule| rule.effect == Effect::Forbid || rule.shadow)
            .cloned()
            .collect();
        let snapshot = with_rules(trial, &forbids);
        for _ in 0..20 {
            let decision = decide(&snapshot, &case(rng));
            assert_eq!(decision.verdict, Verdict::Deny, "{decision:?}");
        }
        let nothing = with_rules(trial, &[]);
        let decision = decide(&nothing, &case(rng));
        assert!(matches!(
            decision.reason,
            Reason::NoPermit | Reason::ActionNotApplicable
        ));
    });
}

#[test]
fn law_adding_a_forbid_never_allows() {
    let mut changed = 0;
    for_random_bundles(2_000..2_250, |rng, trial| {
        let mut forbid = rule(rng, 900);
        while forbid.effect != Effect::Forbid || forbid.shadow {
            forbid = rule(rng, 900);
        }
        let rules: Vec<Rule> = trial.rules.iter().cloned().chain([forbid]).collect();
        let Ok(after) = trial
            .snapshot
            .recompile(&bundle(&rules, trial.bundle.entities.clone()))
        else {
            return;
        };
        for _ in 0..40 {
            let case = case(rng);
            let (before, after) = (decide(&trial.snapshot, &case), decide(&after, &case));
            if before.verdict == Verdict::Deny {
                assert_eq!(after.verdict, Verdict::Deny, "{before:?} became {after:?}");
            }
            changed += u32::from(before.verdict != after.verdict);
        }
    });
    assert!(
        changed > 20,
        "the forbids turned only {changed} permits into denies"
    );
}

/// Conditions that validate strictly and cannot be evaluated.
const ERRORS: &[(&str, &str)] = &[
    ("overflow of +", "9223372036854775807 + 1 > 0"),
    ("overflow of -", "-9223372036854775807 - 2 < 0"),
    ("overflow of *", "9223372036854775807 * 2 > 0"),
    ("overflow of negation", "-(-9223372036854775807 - 1) > 0"),
    (
        "an entity that is not stored",
        "App::User::\"nobody\".level > 0",
    ),
    (
        "an entity that is not stored, further away",
        "App::User::\"nobody\".boss.boss.level > 0",
    ),
    (
        "a time out of range",
        "datetime(\"2024-01-01\").offset(duration(\"9223372036854775807ms\")) > context.at",
    ),
    (
        "a duration out of range",
        "datetime(\"1970-01-01\").offset(duration(\"-9223372036854775807ms\")).durationSince(datetime(\"2024-01-01\")) < duration(\"1ms\")",
    ),
];

#[test]
fn law_erroring_forbid_denies() {
    for_random_bundles(3_000..3_020, |rng, trial| {
        for (what, condition) in ERRORS {
            let rules = [
                unscoped("yes", Effect::Permit, ""),
                unscoped("no", Effect::Forbid, &format!(" when {{ {condition} }}")),
            ];
            let decision = asked(rng, &with_rules(trial, &rules));
            assert_eq!(decision.verdict, Verdict::Deny, "{what}");
            assert_eq!(decision.reason, Reason::PolicyError, "{what}");
            assert_eq!(decision.determining, [PolicyId::new("no")], "{what}");
            assert_eq!(decision.errors.len(), 1, "{what}");
            assert_eq!(decision.errors[0].effect, Effect::Forbid, "{what}");
        }
    });
}

#[test]
fn an_erroring_permit_is_not_given() {
    let mut rng = StdRng::seed_from_u64(4_000);
    let trial = std::iter::repeat_with(|| trial(&mut rng))
        .flatten()
        .next()
        .unwrap();
    for (what, condition) in ERRORS {
        let condition = format!(" when {{ {condition} }}");
        let alone = [unscoped("maybe", Effect::Permit, &condition)];
        let decision = asked(&mut rng, &with_rules(&trial, &alone));
        assert_eq!(decision.reason, Reason::NoPermit, "{what}");
        assert_eq!(decision.errors.len(), 1, "{what}");
        let beside = [alone[0].clone(), unscoped("yes", Effect::Permit, "")];
        let decision = asked(&mut rng, &with_rules(&trial, &beside));
        assert_eq!(decision.reason, Reason::PolicyPermit, "{what}");
        assert_eq!(decision.determining, [PolicyId::new("yes")], "{what}");
        assert_eq!(decision.errors.len(), 1, "{what}");
    }
}

/// Asks a random question to which some policy can apply.
fn asked(rng: &mut StdRng, snapshot: &Snapshot) -> Decision {
    loop {
        let decision = decide(snapshot, &case(rng));
        if decision.reason != Reason::ActionNotApplicable {
            return decision;
        }
    }
}

#[test]
fn law_same_inputs_same_answer() {
    for_random_bundles(5_000..5_060, |rng, trial| {
        let again = Snapshot::compile(&trial.bundle).unwrap();
        let live: Vec<_> = trial
            .stored
            .iter()
            .filter(|entity| {
                trial
                    .bundle
                    .entities
                    .iter()
                    .all(|other| other.uid != entity.uid)
            })
            .rev()
            .cloned()
            .collect();
        let again = again.with_entities(&live, &[]).unwrap();
        for _ in 0..10 {
            let case = case(rng);
            let first = decide(&trial.snapshot, &case);
            assert_eq!(first, decide(&trial.snapshot, &case));
            assert_eq!(
                first,
                decide(&again, &case),
                "a snapshot with another history"
            );
        }
    });
}

/// Cedar errors when the stack runs short; a policy that is let in must not bring it there on any thread.
#[test]
fn law_same_answer_on_every_stack() {
    let mut rng = StdRng::seed_from_u64(6_000);
    let trial = std::iter::repeat_with(|| trial(&mut rng))
        .flatten()
        .next()
        .unwrap();
    let chain = vec!["context.n == context.n"; 200].join(" && ");
    let nested = format!(
        "{}context.nested.flag || true{}",
        "(true && ".repeat(25),
        ")".repeat(25)
    );
    let rules = [
        unscoped("yes", Effect::Permit, ""),
        unscoped("chain", Effect::Forbid, &format!(" when {{ {chain} }}")),
        unscoped("nested", Effect::Forbid, &format!(" when {{ {nested} }}")),
    ];
    let snapshot = with_rules(&trial, &rules);
    let case = std::iter::repeat_with(|| case(&mut rng))
        .find(|case| decide(&snapshot, case).reason != Reason::ActionNotApplicable)
        .unwrap();
    let on = |stack: usize| {
        let (snapshot, case) = (snapshot.clone(), case.clone());
        thread::Builder::new()
            .stack_size(stack)
            .spawn(move || decide(&snapshot, &case))
            .unwrap()
            .join()
            .unwrap()
    };
    let decision = on(16 << 20);
    assert_eq!(decision.determining.len(), 2, "{decision:?}");
    assert_eq!(on(2 << 20), decision);
}

#[test]
fn law_shadow_changes_nothing() {
    let mut spoke = 0;
    for_random_bundles(7_000..7_150, |rng, trial| {
        let enforced: Vec<Rule> = trial
            .rules
            .iter()
            .filter(|rule| !rule.shadow)
            .cloned()
            .collect();
        let without = with_rules(trial, &enforced);
        for _ in 0..40 {
            let case = case(rng);
            let (with, without) = (decide(&trial.snapshot, &case), decide(&without, &case));
            assert!(without.shadow.is_empty());
            spoke += u32::from(!with.shadow.is_empty());
            let same = Decision {
                shadow: Vec::new(),
                bundle: without.bundle,
                ..with
            };
            assert_eq!(same, without);
        }
    });
    assert!(spoke > 200, "shadow policies spoke only {spoke} times");
}
