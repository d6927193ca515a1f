//! Exceptions in the engine: one forbid does not count, and nothing else is otherwise.

use rand::RngExt;
use rand::seq::IndexedRandom as _;
use remit_core::{
    Decision, Effect, EntityUid, ExceptionFacts, ExceptionId, Facts, PolicyId, Question, Reason,
    Timestamp, Verdict,
};
use serde_json::json;

use super::approvals::{ID, approved};
use super::laws::{for_random_bundles, with_rules};
use super::questions::case;
use super::rules::{Rule, rule};
use super::tasks::compiled;

fn exception(number: u128, policy: &str, facts: &Facts) -> ExceptionFacts {
    ExceptionFacts {
        agent: None,
        id: ExceptionId::from_uuid(uuid::Uuid::from_u128(number)),
        policy: PolicyId::new(policy),
        until: Timestamp::from_micros(facts.now.micros() + 1),
    }
}

fn permits(decision: &Decision) -> bool {
    decision.verdict == Verdict::Permit
}

/// A decision without what says which bundle and which exceptions made it.
fn bare(decision: Decision) -> Decision {
    Decision {
        bundle: remit_core::ContentHash::of(b""),
        exceptions: Vec::new(),
        ..decision
    }
}

/// Random rules, forbids of which some may never be relaxed.
fn with_forbids(rng: &mut rand::rngs::StdRng, rules: &[Rule]) -> (Vec<Rule>, Vec<Rule>) {
    let mut forbids = Vec::new();
    while forbids.len() < 4 {
        let one = rule(rng, 800 + forbids.len());
        if one.effect == Effect::Forbid && !one.shadow && one.links.is_none() {
            forbids.push(one);
        }
    }
    for never in forbids.iter_mut().take(1) {
        never.text = format!("@relax(\"never\")\n{}", never.text);
    }
    let all = rules.iter().chain(&forbids).cloned().collect();
    (all, forbids)
}

#[test]
fn exception_scope() {
    let (mut compared, mut opened, mut changed, mut errors, mut never) = (0, 0, 0, 0, 0);
    for_random_bundles(9_700..9_900, |rng, trial| {
        let (rules, forbids) = with_forbids(rng, &trial.rules);
        let source = super::bundle(&rules, trial.bundle.entities.clone());
        let Ok(snapshot) = trial.snapshot.recompile(&source) else {
            return;
        };
        for forbid in &forbids {
            let others: Vec<Rule> = rules
                .iter()
                .filter(|one| one.id != forbid.id)
                .cloned()
                .collect();
            let without = with_rules(trial, &others);
            let named = PolicyId::new(&forbid.id);
            for _ in 0..25 {
                let case = case(rng);
                let question = &case.question;
                let base = snapshot.decide(question, &case.facts);
                let made = exception(1, &forbid.id, &case.facts);
                let ask = |made: ExceptionFacts| {
                    let facts = Facts {
                        exceptions: vec![made],
                        ..case.facts.clone()
                    };
                    snapshot.decide(question, &facts)
                };
                let found = ask(made.clone());
                compared += 1;
                // One that is over, or another agent's, is none.
                let over = ExceptionFacts {
                    until: case.facts.now,
                    ..made.clone()
                };
                assert_eq!(ask(over), base);
                let foreign = ExceptionFacts {
                    agent: Some(EntityUid::new("App::User", "nobody")),
                    ..made.clone()
                };
                assert_eq!(ask(foreign), base);
                let own = ExceptionFacts {
                    agent: Some(EntityUid::new(&question.subject.kind, &question.subject.id)),
                    ..made
                };
                assert_eq!(ask(own), found);
                assert!(!permits(&base) || permits(&found), "{base:?} {found:?}");
                if forbid.text.contains("@relax") {
                    assert_eq!(found, base, "it is never relaxed");
                    never += u32::from(base.determining.contains(&named));
                    continue;
                }
                let failed = |one: &Decision| one.errors.iter().any(|error| error.policy == named);
                if failed(&base) || failed(&found) {
                    assert_eq!(found.reason, Reason::PolicyError, "{found:?}");
                    assert!(found.determining.contains(&named));
                    errors += 1;
                    continue;
                }
                let expected = without.decide(question, &case.facts);
                assert_eq!(bare(found.clone()), bare(expected), "{}", forbid.text);
                if !case.facts.approved {
                    let satisfied = snapshot.violations(question, &case.facts).contains(&named);
                    assert_eq!(
                        !found.exceptions.is_empty(),
                        satisfied,
                        "{base:?} {found:?}"
                    );
                }
                changed += u32::from(bare(found.clone()) != bare(base.clone()));
                opened += u32::from(permits(&found) && !permits(&base));
            }
        }
    });
    println!(
        "{compared} compared, {changed} changed, {opened} opened, {errors} errors, {never} never relaxed"
    );
    assert!(
        compared > 10_000 && changed > 500 && opened > 100,
        "{compared} {changed} {opened}"
    );
    assert!(errors > 100 && never > 100, "{errors} {never}");
}

/// Of several exceptions, taking one away never adds a permit, nor does adding one take a permit away.
#[test]
fn law_exceptions_only_open() {
    let (mut opened, mut asked) = (0, 0);
    for_random_bundles(9_900..10_000, |rng, trial| {
        let ids: Vec<PolicyId> = trial.snapshot.policy_ids().cloned().collect();
        for _ in 0..40 {
            let case = case(rng);
            let mut facts = case.facts.clone();
            let mut before = trial.snapshot.decide(&case.question, &facts);
            for number in 0..rng.random_range(1..5) {
                let Some(policy) = ids.choose(rng) else {
                    return;
                };
                let made = exception(number, policy.as_str(), &facts);
                facts.exceptions.push(made);
                let after = trial.snapshot.decide(&case.question, &facts);
                assert!(!permits(&before) || permits(&after), "{before:?} {after:?}");
                let sorted = after.exceptions.windows(2).all(|two| two[0] < two[1]);
                assert!(sorted, "{after:?}");
                opened += u32::from(permits(&after) && !permits(&before));
                asked += 1;
                before = after;
            }
        }
    });
    println!("{opened} opened of {asked}");
    assert!(opened > 50, "{opened} of {asked}");
}

fn ask(facts: &serde_json::Value) -> (Question, Facts) {
    let question: Question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "send" },
        "resource": { "type": "Document", "id": "out" },
    }))
    .unwrap();
    let facts: remit_core::CaseFacts = serde_json::from_value(facts.clone()).unwrap();
    let now = Timestamp::from_micros(super::tasks::draw::NOW);
    let facts = facts.over(
        Facts::plain(remit_core::KeyId::nil(), "dev", now),
        &question,
    );
    (question, facts)
}

/// An exception without which an approval would not cover the call is named, of the subject and of whoever is behind it.
#[test]
fn a_permit_by_an_approval_names_the_exceptions_that_it_rests_on() {
    const POLICIES: &str = r#"
        @id("all") permit (principal, action, resource);
        @id("careful") forbid (principal is Agent, action, resource) unless { context.facts.approved };
        @id("slow") forbid (principal is Agent, action, resource) unless { context.facts.approved };
    "#;
    let snapshot = compiled(POLICIES);
    let decide = |exceptions: serde_json::Value, shown: &[&str]| {
        let (question, facts) = ask(&json!({
            "agent": {}, "task": { "parent": uuid::Uuid::nil() },
            "hops": [{ "principal": "Agent::\"boss\"", "agent": {}, "task": {} }],
            "exceptions": exceptions, "approval": { "state": "valid", "violations": shown },
        }));
        (snapshot.decide(&question, &facts), facts)
    };
    let (both, _) = decide(json!([]), &["careful", "slow"]);
    assert!(permits(&both) && both.exceptions.is_empty(), "{both:?}");
    let (one, _) = decide(json!([]), &["careful"]);
    assert_eq!(one.reason, Reason::ApprovalRequired);
    for scope in [
        json!({ "policy": "slow" }),
        json!({ "policy": "slow", "agent": "Agent::\"boss\"" }),
    ] {
        let (relaxed, facts) = decide(json!([scope]), &["careful"]);
        let of_all = scope.get("agent").is_none();
        assert_eq!(permits(&relaxed), of_all, "{relaxed:?}");
        if of_all {
            let named: Vec<_> = facts.exceptions.iter().map(|one| one.id).collect();
            assert_eq!(relaxed.exceptions, named, "{relaxed:?}");
            assert!(relaxed.approval.is_some());
        }
    }
}

const CHAIN: &str = r#"
    @id("all") permit (principal, action, resource);
    @id("careful") forbid (principal is Agent, action, resource) unless { context.facts.approved };
    @id("people") forbid (principal is User, action, resource);
    @id("quiet") @mode("shadow") forbid (principal, action, resource);
"#;

fn chain(exceptions: &serde_json::Value) -> (Question, Facts) {
    ask(&json!({
        "agent": {}, "task": { "parent": uuid::Uuid::nil() },
        "hops": [{ "principal": "Agent::\"boss\"", "agent": {}, "task": {} }],
        "exceptions": exceptions,
    }))
}

#[test]
fn an_exception_of_one_agent_counts_for_no_hop() {
    let snapshot = compiled(CHAIN);
    let decide = |exceptions: &serde_json::Value| {
        let (question, facts) = chain(exceptions);
        snapshot.decide(&question, &facts)
    };
    let own = json!({ "policy": "careful", "agent": "Agent::\"a\"" });
    let boss = json!({ "policy": "careful", "agent": "Agent::\"boss\"" });
    let whole = decide(&json!([{ "policy": "careful" }]));
    assert!(permits(&whole), "{whole:?}");
    assert_eq!(whole.exceptions.len(), 1);
    assert_eq!(
        whole.shadow.len(),
        1,
        "what is in shadow speaks all the same"
    );
    let stopped = decide(&json!([own]));
    assert_eq!(stopped.reason, Reason::ApprovalRequired);
    assert_eq!(stopped.limit.clone().unwrap().hop, Some(1), "{stopped:?}");
    assert_eq!(stopped.exceptions.len(), 1);
    let both = decide(&json!([own, boss]));
    assert!(permits(&both), "{both:?}");
    assert_eq!(both.exceptions.len(), 2);
    // What an exception opens was not shown to whoever approves.
    let (question, facts) = chain(&json!([own]));
    let shown = snapshot.violations(&question, &facts);
    assert_eq!(shown, [PolicyId::new("careful")].into());
    let (question, facts) = chain(&json!([own, boss]));
    assert_eq!(snapshot.violations(&question, &facts), [].into());
    let decision = snapshot.decide(&question, &approved(&facts, [].into()));
    assert_eq!((permits(&decision), decision.approval), (true, None));
    let (question, facts) = chain(&json!([own]));
    let decision = snapshot.decide(&question, &approved(&facts, shown));
    assert_eq!((permits(&decision), decision.approval), (true, Some(ID)));
    assert_eq!(decision.exceptions.len(), 1);
}

#[test]
fn the_explanation_names_the_exception() {
    let snapshot = compiled(CHAIN);
    let (question, facts) = chain(
        &json!([{ "policy": "careful" }, { "policy": "quiet" }, { "policy": "all" }, { "policy": "gone" }]),
    );
    let explained = snapshot.explain(&question, &facts);
    assert!(permits(&explained.decision));
    assert_eq!(explained.decision.exceptions, [facts.exceptions[0].id]);
    for candidate in explained.candidates {
        let named = (candidate.policy.as_str() == "careful").then_some(facts.exceptions[0].id);
        assert_eq!(candidate.exception, named, "{candidate:?}");
    }
}

/// A gate is none of the policies, and no exception opens one.
#[test]
fn no_exception_opens_a_gate() {
    let snapshot = compiled(CHAIN);
    let (question, facts) = ask(&json!({
        "agent": { "standing": "suspended" }, "exceptions": [{ "policy": "careful" }],
    }));
    let decision = snapshot.decide(&question, &facts);
    assert_eq!(decision.reason, Reason::AgentSuspended);
    assert_eq!(decision.determining, []);
}

/// A search finds what an exception opens, for those it is made for.
#[test]
fn searches_know_exceptions() {
    let snapshot = compiled(
        r#"@id("all") permit (principal, action, resource);
        @id("careful") forbid (principal, action, resource);"#,
    );
    let (question, facts) = ask(
        &json!({ "agent": {}, "exceptions": [{ "policy": "careful", "agent": "Agent::\"a\"" }] }),
    );
    let known = |_: &Question| facts.clone();
    let find = |subject: &str| {
        let subject = remit_core::Subject {
            id: subject.to_owned(),
            ..question.subject.clone()
        };
        let context = serde_json::Map::new();
        snapshot.search_resources(
            &subject,
            &question.action,
            "Document",
            &context,
            &known,
            None,
            10,
        )
    };
    assert_eq!(find("a").ids, ["in f", "out"]);
    assert_eq!(find("b").ids, Vec::<String>::new());
}
