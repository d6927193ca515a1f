//! What policies read: every fact, in the words and numbers that it was given in.

use remit_core::{Bundle, CaseFacts, Facts, KeyId, Question, Source, Timestamp, Verdict};
use remit_engine::{FACTS_SCHEMA, Snapshot};
use serde_json::{Value, json};

use super::draw::NOW;
use super::{SCHEMA, compiled};

const HASH: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn facts(written: Value, question: &Question) -> Facts {
    let facts: CaseFacts = serde_json::from_value(written).unwrap();
    facts.over(
        Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW)),
        question,
    )
}

fn question(name: &str, arguments: &Value, context: &Value) -> Question {
    serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": name, "properties": arguments },
        "resource": { "type": "Document", "id": "in f" }, "context": context,
    }))
    .unwrap()
}

/// Asks whether each condition over `context.facts` holds.
fn hold(question: &Question, facts: &Facts, conditions: &[&str]) {
    for condition in conditions {
        let snapshot = compiled(&format!(
            "@id(\"p\") permit (principal, action == Action::\"send\", resource) when {{ {condition} }};"
        ));
        let decision = snapshot.decide(question, facts);
        assert_eq!(
            decision.verdict,
            Verdict::Permit,
            "{condition}: {decision:?}"
        );
        assert_eq!(
            decision.notes.len(),
            1,
            "only that the agent is not stored: {:?}",
            decision.notes
        );
    }
}

#[test]
fn every_fact_is_what_it_says() {
    let asked = question(
        "send",
        &json!({ "to": "Pal@ACME.example", "body": "see https://evil.example" }),
        &json!({ "task": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77", "build": HASH, "tool_hash": &HASH[7..] }),
    );
    let known = facts(
        json!({
            "agent": { "trust": 2, "roles": ["worker", "payer"], "environment": "production", "model": "m-1", "owner": "maya", "purpose": "pays", "build": HASH },
            "task": {
                "purpose": "pay invoices", "actions": ["egress"], "resources": ["Folder::\"f\""], "sinks": ["Pal@acme.example"], "data_classes": ["pii"],
                "labels": ["untrusted", "class:pii"], "may_delegate": true, "on_behalf_of": "User::\"ann\"", "expires_at": "2026-01-06T00:00:00Z",
                "window": { "days": [1], "from": 600, "until": 700 },
            },
            "tool": {
                "effect": "egress", "domain": "email", "owner": "it", "environment": "production", "integrity": "trusted", "confidentiality": "public",
                "irreversible": false, "min_trust": 1, "roles": ["payer"], "classes": ["pii"], "clearance": ["pii", "health"], "descriptor": HASH, "sinks": ["to"],
            },
        }),
        &asked,
    );
    // The person is asked as well, and may: the conditions are about the agent's facts, so they stand where it has none.
    let mut alone = known.clone();
    alone.hops.clear();
    alone
        .task
        .iter_mut()
        .filter_map(|task| task.declaration.as_mut())
        .for_each(|task| task.on_behalf_of = None);
    hold(
        &asked,
        &alone,
        &[
            r#"context.facts has agent && context.facts.agent.standing == "active" && context.facts.agent.trust == 2"#,
            r#"context.facts has agent && context.facts.agent.roles == ["payer", "worker"]"#,
            r#"context.facts has agent && context.facts.agent has environment && context.facts.agent.environment == "production""#,
            r#"context.facts has agent && context.facts.agent has model && context.facts.agent.model == "m-1""#,
            r#"context.facts has agent && context.facts.agent has owner && context.facts.agent.owner == "maya""#,
            r#"context.facts has agent && context.facts.agent has purpose && context.facts.agent.purpose == "pays""#,
            &format!(
                r#"context.facts has agent && context.facts.agent has build && context.facts.agent.build == "{HASH}""#
            ),
            &format!(
                r#"context.facts has agent && context.facts.agent has presented_build && context.facts.agent.presented_build == "{HASH}""#
            ),
            "context.facts has agent && context.facts.agent.build_matches",
            r#"context.facts has task && context.facts.task.id == "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77""#,
            r#"context.facts has task && context.facts.task.state == "active" && context.facts.task.purpose == "pay invoices""#,
            "context.facts has task && !(context.facts.task has on_behalf_of)",
            r#"context.facts has task && context.facts.task.digest like "sha256:*" && context.facts.task.depth == 0 && context.facts.task.may_delegate"#,
            r#"context.facts has task && context.facts.task.expires_at == datetime("2026-01-06T00:00:00Z")"#,
            "context.facts has task && context.facts.task.declares_actions && context.facts.task.action_declared",
            "context.facts has task && context.facts.task.declares_resources && context.facts.task.resource_declared",
            "context.facts has task && context.facts.task.declares_classes && context.facts.task.classes_declared",
            r#"context.facts has task && context.facts.task.declares_sinks && context.facts.task.sinks == ["Pal@acme.example"]"#,
            r#"context.facts has task && context.facts.task.trusted_sinks == ["Pal@acme.example"]"#,
            r#"context.facts has task && context.facts.task.labels == ["class:pii", "untrusted"] && context.facts.task.classes == ["pii"]"#,
            "context.facts has task && !context.facts.task.exhausted && context.facts.task.in_window",
            r#"context.facts has tool && context.facts.tool.name == "send" && context.facts.tool.effect == "egress""#,
            r#"context.facts has tool && context.facts.tool has domain && context.facts.tool.domain == "email""#,
            r#"context.facts has tool && context.facts.tool has owner && context.facts.tool.owner == "it""#,
            r#"context.facts has tool && context.facts.tool has environment && context.facts.tool.environment == "production""#,
            r#"context.facts has tool && context.facts.tool.integrity == "trusted" && context.facts.tool.confidentiality == "public""#,
            "context.facts has tool && !context.facts.tool.irreversible && context.facts.tool.min_trust == 1 && context.facts.tool.pinned",
            r#"context.facts has tool && context.facts.tool has roles && context.facts.tool.roles == ["payer"] && context.facts.tool.classes == ["pii"]"#,
            r#"context.facts has tool && context.facts.tool has clearance && context.facts.tool.clearance == ["pii", "health"]"#,
            &format!(
                r#"context.facts has tool && context.facts.tool has descriptor && context.facts.tool.descriptor == "{HASH}""#
            ),
            &format!(
                r#"context.facts has tool && context.facts.tool has presented && context.facts.tool.presented == "{}""#,
                &HASH[7..]
            ),
            r#"context.facts has call && context.facts.call.sinks == ["Pal@acme.example"]"#,
            r#"context.facts has call && context.facts.call.links == ["Pal@acme.example", "https://evil.example"]"#,
            r#"context.facts has call && context.facts.call has digest && context.facts.call.digest like "sha256:*" && context.facts.call.amount == 0"#,
        ],
    );
}

#[test]
fn what_is_not_known_is_not_there() {
    let asked = question("send", &json!({}), &json!({ "build": "other" }));
    hold(
        &asked,
        &facts(json!({ "agent": {} }), &asked),
        &[
            "!(context.facts has task) && !(context.facts has tool) && !(context.facts has call)",
            "context.facts has agent && context.facts.agent.trust == 0 && context.facts.agent.roles.isEmpty()",
            "context.facts has agent && !(context.facts.agent has build) && !context.facts.agent.build_matches",
        ],
    );
    hold(
        &asked,
        &facts(
            json!({ "agent": {}, "task": {}, "tool": { "effect": "read" } }),
            &asked,
        ),
        &[
            "context.facts has task && !context.facts.task.declares_actions && context.facts.task.action_declared",
            "context.facts has task && !context.facts.task.declares_sinks && context.facts.task.classes_declared && context.facts.task.resource_declared",
            "context.facts has tool && context.facts.tool.pinned && context.facts.tool.irreversible && context.facts.tool.integrity == \"untrusted\"",
            "context.facts has tool && !(context.facts.tool has clearance) && !(context.facts.tool has roles)",
        ],
    );
    let pinned = facts(
        json!({ "agent": {}, "tool": { "effect": "read", "descriptor": HASH } }),
        &asked,
    );
    hold(
        &asked,
        &pinned,
        &["context.facts has tool && !context.facts.tool.pinned"],
    );
}

#[test]
fn outside_a_task_an_amount_is_read_from_the_arguments() {
    let mut asked = question("transfer", &json!({ "amount": 70 }), &json!({}));
    asked.resource.kind = "Payee".to_owned();
    let known = facts(
        json!({ "agent": {}, "tool": { "effect": "pay", "amount": { "argument": "amount", "scale": 1 } } }),
        &asked,
    );
    assert_eq!(known.call.as_ref().and_then(|call| call.charges), None);
    let snapshot = compiled(
        "@id(\"p\") permit (principal, action, resource) when { context.facts has call && context.facts.call.amount == 700 };",
    );
    assert_eq!(snapshot.decide(&asked, &known).verdict, Verdict::Permit);
}

/// Remit's own members of the context are read by Remit; a schema that declares them reads them as it did.
#[test]
fn own_members_of_the_context_are_not_noted_and_still_pass_where_declared() {
    let own = json!({ "task": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77", "build": "b", "tool_hash": "h", "other": 1 });
    let asked = question("send", &json!({}), &own);
    let snapshot = compiled("@id(\"p\") permit (principal, action, resource);");
    let decision = snapshot.decide(&asked, &facts(json!({ "agent": {}, "task": {} }), &asked));
    assert_eq!(decision.verdict, Verdict::Permit);
    let notes = format!("{:?}", decision.notes);
    assert!(
        notes.contains("context.other") && !notes.contains("context.task"),
        "{notes}"
    );

    let schema = SCHEMA.replace(
        "action?: { to?: String, body?: String }",
        "task?: String, build?: Long",
    );
    let bundle = |text: &str| Bundle {
        schema: vec![Source {
            file: "s.cedarschema".to_owned(),
            text: schema.clone(),
        }],
        policies: vec![Source {
            file: "p.cedar".to_owned(),
            text: text.to_owned(),
        }],
        ..Bundle::default()
    };
    let reads = "@id(\"p\") permit (principal, action == Action::\"send\", resource) when { context has task && context.task like \"019*\" };";
    let snapshot = Snapshot::compile(&bundle(reads)).unwrap();
    let asked = question(
        "send",
        &json!({}),
        &json!({ "task": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77" }),
    );
    let decision = snapshot.decide(&asked, &facts(json!({ "agent": {}, "task": {} }), &asked));
    assert_eq!(decision.verdict, Verdict::Permit);
}

#[test]
fn a_schema_that_declares_the_namespace_itself_keeps_working() {
    let decide = |facts_type: &str, condition: &str| {
        let schema = format!("{SCHEMA}\nnamespace Remit {{ type Facts = {facts_type}; }}");
        let snapshot = Snapshot::compile(&Bundle {
            schema: vec![Source {
                file: "s.cedarschema".to_owned(),
                text: schema,
            }],
            policies: vec![Source {
                file: "p.cedar".to_owned(),
                text: format!(
                    "@id(\"p\") permit (principal, action == Action::\"send\", resource) when {{ {condition} }};"
                ),
            }],
            ..Bundle::default()
        });
        let asked = question("send", &json!({}), &json!({}));
        let facts = facts(json!({ "agent": { "trust": 1 }, "task": {} }), &asked);
        snapshot.unwrap().decide(&asked, &facts).reason.code()
    };
    assert_eq!(
        decide("{ approved: Bool }", "!context.facts.approved"),
        "policy_permit"
    );
    assert_eq!(
        decide(
            "{ agent?: { trust: Long } }",
            "context.facts has agent && context.facts.agent.trust == 1"
        ),
        "policy_permit"
    );
    // What is known and does not fit is not passed off as unknown.
    assert_eq!(
        decide(
            "{ agent?: { trust: String } }",
            "context.facts has agent && context.facts.agent.trust == \"1\""
        ),
        "missing_context"
    );
    assert_eq!(
        decide(
            "{ agent?: String }",
            "context.facts has agent && context.facts.agent == \"x\""
        ),
        "missing_context"
    );
    let named = "context.facts.tool.name == \"x\"";
    assert_eq!(
        decide("{ tool: { name: String } }", named),
        "missing_context"
    );
    // What no policy reads is not made, so that it need not fit.
    assert_eq!(
        decide("{ tool: { name: String } }", "true"),
        "policy_permit"
    );
}

#[test]
fn the_schema_of_facts_is_the_documented_one() {
    let documented = std::fs::read_to_string(remit_tests::root().join("docs/facts.md"));
    assert!(
        documented
            .unwrap()
            .contains(&format!("```cedarschema\n{FACTS_SCHEMA}```")),
        "docs/facts.md has another schema than crates/engine/src/schema/facts.cedarschema"
    );
    let unknown = SCHEMA.replace("@registered(\"agent\")", "@registered(\"robot\")");
    let error = Snapshot::compile(&Bundle {
        schema: vec![Source {
            file: "s.cedarschema".to_owned(),
            text: unknown,
        }],
        policies: Vec::new(),
        ..Bundle::default()
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("`@registered` of `Agent` names no registry"),
        "{error}"
    );
}
