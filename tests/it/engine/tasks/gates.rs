//! Gates: each denies with its own reason, whatever the policies, and no approval opens one.

use remit_core::{
    CaseFacts, Decision, Dimension, Facts, KeyId, Question, Reason, Timestamp, Verdict,
};
use remit_engine::{Registry, Snapshot};
use serde_json::{Value, json};

use super::compiled;
use super::draw::NOW;

const TASK: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";

fn decide(snapshot: &Snapshot, question: &Value, facts: &Value) -> Decision {
    let mut whole = json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "send" },
        "resource": { "type": "Document", "id": "in f" },
    });
    for (member, value) in question.as_object().unwrap() {
        whole[member] = value.clone();
    }
    let question: Question = serde_json::from_value(whole).unwrap();
    let facts: CaseFacts =
        serde_json::from_value(facts.clone()).unwrap_or_else(|error| panic!("{facts}: {error}"));
    let plain = Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW));
    let facts = facts.over(plain, &question);
    // What is recorded reads back as it was, and decides the same.
    let json = serde_json::to_string(&facts).unwrap();
    let read: Facts = serde_json::from_str(&json).unwrap();
    assert_eq!(read, facts);
    let decision = snapshot.decide(&question, &facts);
    assert_eq!(snapshot.decide(&question, &read), decision);
    let again = CaseFacts::from(facts.clone()).over(
        Facts {
            approved: facts.approved,
            ..Facts::plain(KeyId::nil(), "dev", facts.now)
        },
        &question,
    );
    assert_eq!(
        snapshot.decide(&question, &again),
        decision,
        "a case of it decides the same"
    );
    // A gate is not opened by an approval.
    if decision.verdict == Verdict::Deny {
        let approved = snapshot.decide(
            &question,
            &Facts {
                approved: true,
                ..facts
            },
        );
        assert_eq!(approved.reason, decision.reason);
    }
    decision
}

#[test]
fn each_gate_has_its_reason() {
    let snapshot = compiled(r#"@id("all") permit (principal, action, resource);"#);
    let agent = json!({});
    let fine = json!({ "agent": agent, "task": {}, "tool": { "effect": "egress" } });
    let with = |member: &str, value: Value| {
        let mut facts = fine.clone();
        facts[member] = value;
        facts
    };
    let task = |value: Value| with("task", value);
    let standing = |name: &str| with("agent", json!({ "standing": name }));
    let state = |name: &str| task(json!({ "state": name }));
    let in_task = json!({ "context": { "task": TASK } });
    let cases: Vec<(Value, Value, Reason, Option<Dimension>)> = vec![
        (json!({}), fine.clone(), Reason::PolicyPermit, None),
        (in_task.clone(), fine.clone(), Reason::PolicyPermit, None),
        (
            json!({}),
            with("kill", json!({ "kind": "tenant" })),
            Reason::Killed,
            None,
        ),
        (
            json!({}),
            with("subject_not_yours", json!(true)),
            Reason::SubjectNotYours,
            None,
        ),
        (json!({}), json!({}), Reason::AgentUnregistered, None),
        (
            json!({}),
            standing("unregistered"),
            Reason::AgentUnregistered,
            None,
        ),
        (
            json!({}),
            standing("suspended"),
            Reason::AgentSuspended,
            None,
        ),
        (json!({}), standing("expired"), Reason::AgentExpired, None),
        (
            json!({}),
            standing("ownerless"),
            Reason::AgentOwnerless,
            None,
        ),
        (
            json!({}),
            standing("review_overdue"),
            Reason::AgentReviewOverdue,
            None,
        ),
        (
            in_task.clone(),
            json!({ "agent": agent }),
            Reason::TaskUnknown,
            None,
        ),
        (
            in_task.clone(),
            task(json!({ "id": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a78" })),
            Reason::TaskUnknown,
            None,
        ),
        (json!({}), state("unknown"), Reason::TaskUnknown, None),
        (json!({}), state("not_yours"), Reason::TaskNotYours, None),
        (
            json!({}),
            task(json!({ "agent": "Agent::\"other\"" })),
            Reason::TaskNotYours,
            None,
        ),
        (json!({}), state("suspended"), Reason::TaskSuspended, None),
        (json!({}), state("completed"), Reason::TaskCompleted, None),
        (json!({}), state("revoked"), Reason::TaskRevoked, None),
        (json!({}), state("expired"), Reason::TaskExpired, None),
        (
            json!({}),
            task(json!({ "expires_at": "2026-01-05T10:00:00Z" })),
            Reason::TaskExpired,
            None,
        ),
        (
            json!({}),
            task(json!({ "expires_at": "2026-01-05T10:00:00.000001Z" })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            task(json!({ "window": { "days": [2], "from": 0, "until": 1440 } })),
            Reason::TaskOutsideWindow,
            Some(Dimension::Window),
        ),
        (
            json!({}),
            task(json!({ "window": { "days": [1], "from": 601, "until": 1440 } })),
            Reason::TaskOutsideWindow,
            Some(Dimension::Window),
        ),
        (
            json!({}),
            task(json!({ "window": { "days": [1], "from": 0, "until": 600 } })),
            Reason::TaskOutsideWindow,
            Some(Dimension::Window),
        ),
        (
            json!({}),
            task(json!({ "window": { "days": [1], "from": 600, "until": 601 } })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            task(json!({ "actions": ["fetch"] })),
            Reason::OutsideTask,
            Some(Dimension::Actions),
        ),
        (
            json!({}),
            task(json!({ "actions": [] })),
            Reason::OutsideTask,
            Some(Dimension::Actions),
        ),
        (
            json!({}),
            task(json!({ "actions": ["send"] })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            task(json!({ "actions": ["risky"] })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            task(json!({ "actions": ["Action::\"egress\""] })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            task(json!({ "resources": [] })),
            Reason::OutsideTask,
            Some(Dimension::Resources),
        ),
        (
            json!({}),
            task(json!({ "resources": ["Document::\"out\""] })),
            Reason::OutsideTask,
            Some(Dimension::Resources),
        ),
        (
            json!({}),
            task(json!({ "resources": [{ "type": "Folder", "id": "f" }] })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            task(json!({ "resources": ["Document::\"in f\""] })),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            json!({ "agent": agent, "task": { "data_classes": ["pii"] }, "tool": { "effect": "egress", "classes": ["pii", "health"] } }),
            Reason::OutsideTask,
            Some(Dimension::DataClasses),
        ),
        (
            json!({}),
            json!({ "agent": agent, "task": { "data_classes": ["pii"] }, "tool": { "effect": "egress", "classes": ["pii"] } }),
            Reason::PolicyPermit,
            None,
        ),
        (
            json!({}),
            json!({ "agent": agent, "task": { "data_classes": ["pii"] } }),
            Reason::OutsideTask,
            Some(Dimension::DataClasses),
        ),
        (
            json!({}),
            task(json!({ "exhausted": "amount" })),
            Reason::BudgetExhausted,
            Some(Dimension::Amount),
        ),
        // The first gate that is shut counts.
        (
            json!({}),
            json!({ "agent": { "standing": "suspended" }, "task": { "state": "revoked" }, "kill": { "kind": "everything" } }),
            Reason::Killed,
            None,
        ),
        (
            json!({}),
            json!({ "agent": { "standing": "suspended" }, "task": { "state": "revoked" } }),
            Reason::AgentSuspended,
            None,
        ),
        (
            json!({}),
            task(json!({ "state": "revoked", "actions": [] })),
            Reason::TaskRevoked,
            None,
        ),
        (
            json!({}),
            task(json!({ "actions": [], "exhausted": "calls" })),
            Reason::OutsideTask,
            Some(Dimension::Actions),
        ),
        (
            json!({ "action": { "name": "nothing" } }),
            task(json!({ "state": "revoked" })),
            Reason::TaskRevoked,
            None,
        ),
        (
            json!({ "action": { "name": "nothing" } }),
            task(json!({ "actions": [] })),
            Reason::UnknownAction,
            None,
        ),
    ];
    for (question, facts, reason, dimension) in cases {
        let decision = decide(&snapshot, &question, &facts);
        let found = decision.limit.as_ref().and_then(|limit| limit.dimension);
        assert_eq!(
            (decision.reason, found),
            (reason, dimension),
            "{question} {facts}"
        );
    }
    assert_eq!(snapshot.registry_of("Agent"), Some(Registry::Agent));
    assert_eq!(snapshot.registry_of("User"), None);
}

#[test]
fn opening_a_part_of_a_task_goes_by_whether_it_may_be_handed_on() {
    let snapshot = compiled(r#"@id("all") permit (principal, action, resource);"#);
    let opens = json!({ "action": { "name": "open_task" }, "resource": { "type": "Purpose", "id": "part" } });
    let task = json!({ "actions": ["fetch"], "resources": [], "data_classes": [] });
    for (may, reason, limit) in [
        (true, Reason::PolicyPermit, None),
        (false, Reason::OutsideTask, Some(Dimension::MayDelegate)),
    ] {
        let mut task = task.clone();
        task["may_delegate"] = json!(may);
        let decision = decide(&snapshot, &opens, &json!({ "agent": {}, "task": task }));
        let found = decision.limit.and_then(|limit| limit.dimension);
        assert_eq!((decision.reason, found), (reason, limit));
    }
}

/// A tool may be called what the opening of a task is called; only on a purpose is it that.
#[test]
fn a_tool_called_open_task_is_within_the_task() {
    let schema = r#"
        @registered("agent") entity Agent;
        entity Document;
        entity Purpose;
        action open_task appliesTo { principal: [Agent], resource: [Purpose, Document], context: { facts: Remit::Facts } };
    "#;
    let bundle = serde_json::from_value(json!({
        "schema": [{ "file": "s.cedarschema", "text": schema }],
        "policies": [{ "file": "p.cedar", "text": "@id(\"all\") permit (principal, action, resource);" }],
    }));
    let snapshot = Snapshot::compile(&bundle.unwrap()).unwrap();
    let facts = json!({ "agent": {}, "task": { "actions": ["read"], "may_delegate": true }, "tool": { "effect": "write" } });
    for name in ["open_task", "Action::\"open_task\""] {
        for (kind, reason) in [
            ("Document", Reason::OutsideTask),
            ("Purpose", Reason::PolicyPermit),
        ] {
            let question =
                json!({ "action": { "name": name }, "resource": { "type": kind, "id": "x" } });
            assert_eq!(
                decide(&snapshot, &question, &facts).reason,
                reason,
                "{name} {kind}"
            );
        }
    }
}

#[test]
fn an_amount_that_cannot_be_read_denies() {
    let snapshot = compiled(r#"@id("all") permit (principal, action, resource);"#);
    let tool = json!({ "effect": "pay", "amount": { "argument": "amount", "scale": 0 } });
    for (arguments, reason) in [
        (json!({ "amount": 5 }), Reason::PolicyPermit),
        (json!({}), Reason::MistypedProperty),
        (json!({ "amount": -5 }), Reason::MistypedProperty),
    ] {
        let question = json!({ "action": { "name": "transfer", "properties": arguments }, "resource": { "type": "Payee", "id": "p" } });
        let decision = decide(
            &snapshot,
            &question,
            &json!({ "agent": {}, "tool": tool, "task": {} }),
        );
        assert_eq!(decision.reason, reason, "{question}");
        let noted = format!("{:?}", decision.notes).contains("action.properties.amount");
        assert_eq!(noted, reason == Reason::MistypedProperty);
    }
}

#[test]
fn a_denial_by_a_gate_names_the_policies_that_forbid_it_too() {
    let snapshot = compiled(
        r#"@id("all") permit (principal, action, resource);
        @id("never") @obligation("tell") forbid (principal, action == Action::"send", resource) unless { context.facts.approved };"#,
    );
    let shut = json!({ "agent": {}, "task": { "state": "suspended" } });
    let decision = decide(&snapshot, &json!({}), &shut);
    assert_eq!(decision.reason, Reason::TaskSuspended);
    assert_eq!(decision.determining, [remit_core::PolicyId::new("never")]);
    assert_eq!(decision.obligations.len(), 1);
    let explained = {
        let question: Question = serde_json::from_value(json!({
            "subject": { "type": "Agent", "id": "a" }, "action": { "name": "fetch" }, "resource": { "type": "Document", "id": "x" },
        }))
        .unwrap();
        let facts: CaseFacts = serde_json::from_value(shut).unwrap();
        let facts = facts.over(
            Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW)),
            &question,
        );
        snapshot.explain(&question, &facts)
    };
    assert_eq!(explained.decision.reason, Reason::TaskSuspended);
    assert_eq!(explained.decision.determining, []);
    assert_eq!(explained.candidates.len(), 1, "the permit was looked at");
}
