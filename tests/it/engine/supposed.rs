//! What cases suppose of approvals and exceptions, and what they expect of them.

use remit_core::{Case, CaseFacts, KeyId, Timestamp};
use serde_json::{Value, json};

use super::tasks::compiled;
use super::tasks::draw::NOW;

const POLICIES: &str = r#"
@id("all") @ttl("30") @lease("60") @obligation("mark") permit (principal, action, resource);
@id("ask") forbid (principal, action == Action::"send", resource) unless { context.facts.approved };
@id("stop") forbid (principal, action == Action::"fetch", resource);
@id("much") @modify("cap:amount:10") forbid (principal, action == Action::"transfer", resource)
when { context has action && context.action has amount && context.action.amount > 10 };
"#;

/// Runs a case; returns what was not as expected, as `member: expected, actual`.
fn run(action: &str, facts: &Value, expect: &Value) -> Vec<String> {
    let (kind, properties) = match action {
        "transfer" => ("Payee", json!({ "amount": 11 })),
        _ => ("Document", json!({})),
    };
    let case: Case = serde_json::from_value(json!({
        "name": "one", "facts": facts, "expect": expect,
        "question": {
            "subject": { "type": "User", "id": "ann" }, "action": { "name": action, "properties": properties },
            "resource": { "type": kind, "id": "p" },
        },
    }))
    .unwrap_or_else(|error| panic!("{facts} {expect}: {error}"));
    // It reads back as it was written.
    let written = serde_json::to_value(&case).unwrap();
    assert_eq!(serde_json::from_value::<Case>(written).unwrap(), case);
    let outcome = compiled(POLICIES).run_case(&case);
    let told = outcome.mismatches.iter();
    told.map(|one| format!("{}: {}, {}", one.member, one.expected, one.actual))
        .collect()
}

#[test]
fn what_is_expected_of_approvals_and_exceptions_is_checked() {
    let permit = |more: Value| {
        let mut expect = json!({ "decision": "permit" });
        expect
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        expect
    };
    let deny = |reason: &str| json!({ "decision": "deny", "reason": reason });
    let nothing: [&str; 0] = [];
    for (action, facts, expect, told) in [
        (
            "send",
            json!({ "approval": {} }),
            permit(json!({ "approval": true })),
            &nothing[..],
        ),
        (
            "send",
            json!({ "approval": {} }),
            permit(json!({ "approval": false })),
            &["approval: false, true"],
        ),
        (
            "send",
            json!({ "approval": { "violations": ["ask"] } }),
            permit(json!({ "approval": true })),
            &nothing,
        ),
        (
            "send",
            json!({ "approval": { "violations": ["other"] } }),
            deny("approval_required"),
            &nothing,
        ),
        (
            "send",
            json!({ "approval": { "state": "expired" } }),
            deny("approval_required"),
            &nothing,
        ),
        (
            "send",
            json!({ "approval": { "until": "2026-01-05T10:00:00Z" } }),
            deny("approval_required"),
            &nothing,
        ),
        (
            "send",
            json!({}),
            deny("policy_forbid"),
            &["reason: policy_forbid, approval_required"],
        ),
        (
            "fetch",
            json!({ "exceptions": [{ "policy": "stop" }, { "policy": "ask" }] }),
            permit(json!({ "exceptions": ["stop"] })),
            &nothing,
        ),
        (
            "fetch",
            json!({ "exceptions": [{ "policy": "stop" }] }),
            permit(json!({ "exceptions": [] })),
            &["exceptions: none, `stop`"],
        ),
        (
            "fetch",
            json!({ "exceptions": [{ "policy": "stop", "agent": "User::\"bo\"" }] }),
            deny("policy_forbid"),
            &nothing,
        ),
        (
            "fetch",
            json!({ "exceptions": [{ "policy": "stop", "until": "2026-01-05T10:00:00Z" }] }),
            deny("policy_forbid"),
            &nothing,
        ),
        (
            "transfer",
            json!({}),
            json!({ "decision": "deny", "modify": ["cap:amount:10"], "ttl": 0, "lease": 0, "duties": {} }),
            &nothing,
        ),
        (
            "transfer",
            json!({}),
            json!({ "decision": "deny", "modify": [] }),
            &["modify: none, `cap:amount:10`"],
        ),
    ] {
        assert_eq!(
            run(action, &facts, &expect),
            told,
            "{action} {facts} {expect}"
        );
    }
    let facts = json!({ "exceptions": [{ "policy": "stop" }] });
    let right =
        json!({ "ttl": 30, "lease": 60, "modify": [], "duties": { "all": { "type": "custom" } } });
    assert_eq!(run("fetch", &facts, &permit(right)), nothing);
    for (wrong, told) in [
        (json!({ "ttl": 31 }), "ttl: 31, 30"),
        (json!({ "lease": 0 }), "lease: 0, 60"),
        (
            json!({ "duties": {} }),
            r#"duties: none, `all` {"name":"mark","type":"custom"}"#,
        ),
        (
            json!({ "duties": { "all": { "name": "stamp", "type": "custom" } } }),
            r#"duties: `all` {"name":"stamp","type":"custom"}, `all` {"name":"mark","type":"custom"}"#,
        ),
    ] {
        assert_eq!(run("fetch", &facts, &permit(wrong)), [told]);
    }
}

#[test]
fn what_a_case_cannot_suppose_is_refused() {
    let many: Vec<Value> = (0..101)
        .map(|number| json!({ "policy": number.to_string() }))
        .collect();
    for (facts, message) in [
        (
            json!({ "approval": { "state": "fine" } }),
            "unknown variant `fine`",
        ),
        (
            json!({ "approval": { "shown": [] } }),
            "unknown field `shown`",
        ),
        (json!({ "exceptions": [{}] }), "missing field `policy`"),
        (
            json!({ "exceptions": [{ "policy": "a", "for": "b" }] }),
            "unknown field `for`",
        ),
        (json!({ "exceptions": many }), "more than 100 exceptions"),
    ] {
        let case = json!({
            "name": "one", "facts": facts, "expect": { "decision": "deny" },
            "question": { "subject": { "type": "A", "id": "a" }, "action": { "name": "x" }, "resource": { "type": "A", "id": "a" } },
        });
        let error = serde_json::from_value::<Case>(case)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{facts}: {error}");
    }
}

/// Facts that were recorded are the facts of the case that is made of them.
#[test]
fn recorded_facts_are_supposed_as_they_were() {
    let facts: CaseFacts = serde_json::from_value(json!({
        "approval": { "approvers": ["ann"], "violations": ["a", "b"], "state": "valid" },
        "exceptions": [{ "policy": "a" }, { "policy": "b", "agent": "User::\"bo\"" }],
    }))
    .unwrap();
    let question = serde_json::from_value(json!({
        "subject": { "type": "A", "id": "a" }, "action": { "name": "x" }, "resource": { "type": "A", "id": "a" },
    }))
    .unwrap();
    let plain = || remit_core::Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW));
    let recorded = facts.over(plain(), &question);
    assert!(recorded.is_approved());
    assert_ne!(recorded.exceptions[0].id, recorded.exceptions[1].id);
    assert_eq!(
        CaseFacts::from(recorded.clone()).over(plain(), &question),
        recorded
    );
    let laid = CaseFacts::default().laid_over(facts.clone());
    assert_eq!(laid, facts);
}
