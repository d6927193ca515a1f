//! Narrowing: the call that is offered in the place of one that is denied is within it, and permitted as it stands.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{CallFacts, Decision, Facts, KeyId, Question, Reason, Timestamp, Verdict};
use remit_engine::Snapshot;
use serde_json::{Map, Value, json};

use super::tasks::compiled;
use super::tasks::draw::{Ground, NOW, pick};
use super::tasks::monotone;

/// Forbids that say how to narrow what they forbid, and forbids that do not.
const POLICIES: &str = r#"
@id("all") permit (principal, action, resource);
@id("much") @modify("cap:amount:1000") forbid (principal is Agent, action in Action::"pay", resource)
when { context has action && context.action has amount && context.action.amount > 1000 };
@id("more") @modify("cap:amount:500") forbid (principal is Agent, action in Action::"pay", resource)
when { context has action && context.action has amount && context.action.amount > 2000 }
unless { context.facts.approved };
@id("links") @modify("redact:body") forbid (principal is Agent, action in Action::"egress", resource)
when { context.facts has call && context.facts.call.links.contains("https://evil.example/x") };
@id("nobody") @modify("drop:to, redact:body") forbid (principal is Agent, action in Action::"egress", resource)
when { context.facts has call && context.facts.call.sinks.contains("mallory@evil.example") };
@id("people") @modify("drop:body") forbid (principal is User, action in Action::"egress", resource)
when { context has action && context.action has body && context.action.body != "" };
@id("labels") forbid (principal is Agent, action in Action::"egress", resource)
when { context.facts has task && context.facts.task.labels.contains("class:pii") };
"#;

fn ground(snapshot: &Snapshot) -> Ground<'_> {
    let mut ground = monotone::ground(snapshot);
    for (name, _, arguments) in &mut ground.calls {
        if *name == "transfer" {
            *arguments = |rng| json!({ "to": pick(rng, &["p", "q"]), "amount": pick(rng, &[10, 1_000, 1_001, 1_500, 2_001, 5_000]) });
        }
    }
    ground
}

/// Asks anew, with facts as they would be gathered of the narrower call.
fn again(
    snapshot: &Snapshot,
    question: &Question,
    facts: &Facts,
    properties: &Map<String, Value>,
) -> (Question, Facts, Decision) {
    let mut narrower = question.clone();
    narrower.action.properties.clone_from(properties);
    let labels = facts.task.as_ref().map(|task| &task.labels);
    let call = facts.call.as_ref();
    let facts = Facts {
        approval: None,
        approved: false,
        call: call.map(|_| CallFacts::of(&narrower, facts.tool.as_ref(), labels)),
        ..facts.clone()
    };
    let decision = snapshot.decide(&narrower, &facts);
    (narrower, facts, decision)
}

fn amount(call: Option<&CallFacts>) -> u64 {
    call.and_then(|call| call.charges)
        .map_or(0, |charges| charges.amount)
}

/// Says whether every argument is what it was, nothing, empty, or a number that is not above it.
fn within(narrow: &Map<String, Value>, wide: &Map<String, Value>) -> bool {
    narrow
        .iter()
        .all(|(name, value)| match (value, wide.get(name)) {
            (Value::Number(now), Some(Value::Number(before))) => now.as_f64() <= before.as_f64(),
            (Value::String(now), Some(Value::String(before))) => now.is_empty() || now == before,
            (now, before) => Some(now) == before,
        })
}

#[test]
fn modify_narrows() {
    let snapshot = compiled(POLICIES);
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(10_100);
    let (mut offered, mut of_chains, mut not) = (0, 0, 0);
    for number in 0..30_000 {
        let drawn = ground.draw(&mut rng);
        let (question, facts) = (&drawn.question, &drawn.facts);
        let decision = snapshot.decide(question, facts);
        let Some(modify) = &decision.modify else {
            not += u32::from(decision.verdict == Verdict::Deny);
            continue;
        };
        assert_eq!(decision.verdict, Verdict::Deny, "{number}: it stays denied");
        assert_ne!(modify.properties, question.action.properties);
        assert!(!modify.narrowings.is_empty());
        assert!(
            within(&modify.properties, &question.action.properties),
            "{number}: {modify:?}"
        );
        let (narrower, known, permitted) = again(&snapshot, question, facts, &modify.properties);
        assert_eq!(
            permitted.verdict,
            Verdict::Permit,
            "{number}: {decision:?} {permitted:?}"
        );
        assert_eq!((permitted.approval, permitted.modify), (None, None));
        let (before, after) = (facts.call.as_ref(), known.call.as_ref());
        if let (Some(before), Some(after)) = (before, after) {
            assert!(after.sinks.is_subset(&before.sinks), "{number}");
            assert!(after.links.is_subset(&before.links), "{number}");
        }
        assert!(amount(after) <= amount(before), "{number}");
        assert_eq!(narrower.subject, question.subject);
        offered += 1;
        of_chains += u32::from(decision.reason == Reason::DelegationDenied);
    }
    println!(
        "{offered} narrower calls offered, {of_chains} of them for a hop; {not} denials without"
    );
    assert!(
        offered > 1_000 && of_chains > 50 && not > 1_000,
        "{offered} {of_chains} {not}"
    );
}

fn ask(action: &str, arguments: &Value, policies: &str) -> Decision {
    let resource = if action == "transfer" {
        "Payee"
    } else {
        "Document"
    };
    let question: Question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": action, "properties": arguments },
        "resource": { "type": resource, "id": "p" },
    }))
    .unwrap();
    let facts: remit_core::CaseFacts = serde_json::from_value(json!({
        "agent": {}, "task": {}, "tool": { "effect": "pay", "sinks": ["to"] },
    }))
    .unwrap();
    let plain = Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW));
    let facts = facts.over(plain, &question);
    compiled(policies).decide(&question, &facts)
}

#[test]
fn a_call_is_narrowed_as_the_policies_say() {
    for (action, arguments, narrowings, properties) in [
        (
            "transfer",
            json!({ "amount": 1_001 }),
            json!(["cap:amount:1000"]),
            json!({ "amount": 1_000 }),
        ),
        (
            "transfer",
            json!({ "amount": 2_001 }),
            json!(["cap:amount:500"]),
            json!({ "amount": 500 }),
        ),
        (
            "transfer",
            json!({ "amount": 9_223_372_036_854_775_807_u64 }),
            json!(["cap:amount:500"]),
            json!({ "amount": 500 }),
        ),
        (
            "send",
            json!({ "body": "see https://evil.example/x" }),
            json!(["redact:body"]),
            json!({ "body": "" }),
        ),
        (
            "send",
            json!({ "to": "mallory@evil.example", "body": "hi" }),
            json!(["drop:to", "redact:body"]),
            json!({ "body": "" }),
        ),
        (
            "send",
            json!({ "to": "mallory@evil.example" }),
            json!(["drop:to"]),
            json!({}),
        ),
    ] {
        let decision = ask(action, &arguments, POLICIES);
        assert_eq!(decision.verdict, Verdict::Deny);
        let modify = decision.modify.unwrap_or_else(|| panic!("{arguments}"));
        assert_eq!(json!(modify.narrowings), narrowings, "{arguments}");
        assert_eq!(json!(modify.properties), properties, "{arguments}");
    }
    assert_eq!(
        ask("transfer", &json!({ "amount": 1_000 }), POLICIES).modify,
        None,
        "a permit"
    );
}

#[test]
fn no_narrower_call_is_offered_that_would_be_denied() {
    let no = |policy: &str| {
        let policies = format!(r#"@id("all") permit (principal, action, resource); {policy}"#);
        let decision = ask("send", &json!({ "to": "x", "body": "text" }), &policies);
        assert_eq!(decision.verdict, Verdict::Deny);
        assert_eq!(decision.modify, None, "{policy}");
    };
    // It forbids whatever the arguments are.
    no(r#"@id("n") @modify("drop:to") forbid (principal, action, resource);"#);
    // Another one does.
    no(
        r#"@id("n") @modify("drop:to") forbid (principal, action, resource) when { context has action && context.action has to };
        @id("m") forbid (principal, action, resource) when { context has action && context.action has body };"#,
    );
    // There is nothing of that name, it is no number, it is no text.
    for narrowing in ["drop:cc", "cap:to:5", "redact:cc", "cap:body:0"] {
        no(&format!(
            r#"@id("n") @modify("{narrowing}") forbid (principal, action, resource) when {{ context has action }};"#
        ));
    }
    // A gate is not narrowed open, and what nothing permits has no policy that says how.
    let policies = r#"@id("n") @modify("drop:to") forbid (principal, action, resource) when { context has action && context.action has to };"#;
    assert_eq!(ask("send", &json!({ "to": "x" }), policies).modify, None);
}

/// One policy that says how and one that the narrowing cures besides.
#[test]
fn what_the_narrowing_cures_needs_no_annotation() {
    let policies = r#"@id("all") permit (principal, action, resource);
        @id("n") @modify("drop:to") forbid (principal, action, resource) when { context has action && context.action has to };
        @id("m") forbid (principal, action, resource) when { context.facts has call && context.facts.call.sinks.contains("x") };"#;
    let decision = ask("send", &json!({ "to": "x" }), policies);
    assert_eq!(decision.determining.len(), 2);
    assert_eq!(decision.modify.unwrap().narrowings, ["drop:to"]);
}

/// An approval that is required does not keep a narrower call from being offered.
#[test]
fn a_denial_that_asks_for_approval_offers_one_as_well() {
    let policies = r#"@id("all") permit (principal, action, resource);
        @id("n") @modify("cap:amount:100") forbid (principal, action, resource)
        when { context has action && context.action has amount && context.action.amount > 100 } unless { context.facts.approved };"#;
    let decision = ask("transfer", &json!({ "amount": 150 }), policies);
    assert_eq!(decision.reason, Reason::ApprovalRequired);
    assert_eq!(
        json!(decision.modify.unwrap().properties),
        json!({ "amount": 100 })
    );
    let mut rng = StdRng::seed_from_u64(1);
    let amount = rng.random_range(0..=100);
    assert_eq!(
        ask("transfer", &json!({ "amount": amount }), policies).verdict,
        Verdict::Permit
    );
}
