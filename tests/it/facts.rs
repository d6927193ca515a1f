//! Facts from outside: the members of a question that are Remit's own, facts that a case supposes, and their explanation.

use std::fs;

use http::StatusCode;
use remit_core::{Bundle, Source};
use remit_tests::app::TestApp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::run;

const SCHEMA: &str = "@registered(\"agent\") entity Agent;
entity User;
entity Account;
action pay;
action transfer in [pay] appliesTo {
  principal: [Agent, User], resource: [Account], context: { facts: Remit::Facts, action?: { to?: String } },
};
";

const POLICIES: &str = "@id(\"payers\") @owner(\"t\") permit (principal is Agent, action in Action::\"pay\", resource)
when { context.facts has agent && context.facts.agent.roles.contains(\"payer\") };
@id(\"people\") @owner(\"t\") permit (principal, action, resource) when { principal is User && principal == User::\"ann\" };
@id(\"declared-sinks\") @owner(\"t\") forbid (principal is Agent, action in Action::\"pay\", resource)
unless { context.facts has task && context.facts has call
  && context.facts.task.trusted_sinks.containsAll(context.facts.call.sinks) || context.facts.approved };
";

const CASES: &str = r#"
fixtures:
  questions:
    pays:
      subject: { type: Agent, id: bot }
      action: { name: transfer, properties: { to: FI21 1234 5600 0007 85 } }
      resource: { type: Account, id: main }
  facts:
    payer: { agent: { trust: 2, roles: [payer] } }
    paying: { tool: { effect: pay, sinks: [to] } }
    invoices: { task: { purpose: pay invoices, actions: [pay], sinks: [FI2112345600000785] } }
cases:
  - name: a declared payee is paid, and nobody else
    question: pays
    facts: [payer, paying, invoices]
    expect: { decision: permit, because: [payers] }
    steps:
      - {}
      - question:
          subject: { type: Agent, id: bot }
          action: { name: transfer, properties: { to: mallory } }
          resource: { type: Account, id: main }
        expect: { decision: deny, reason: approval_required, because: [declared-sinks] }
      - facts: { task: { purpose: pay invoices, actions: [read] } }
        expect: { decision: deny, reason: outside_task, limit: actions }
      - facts: { task: { sinks: [FI2112345600000785], on_behalf_of: 'User::"ann"' } }
      - facts: { task: { sinks: [FI2112345600000785], on_behalf_of: 'User::"eve"' } }
        expect: { decision: deny, reason: delegation_denied, because: [] }
      - facts: { kill: { kind: tool, tool: transfer } }
        expect: { decision: deny, reason: killed }
      - facts: { agent: { standing: ownerless } }
        expect: { decision: deny, reason: agent_ownerless }
  - name: an agent of no registry
    question: pays
    expect: { decision: deny, reason: agent_unregistered }
  - name: in a task that nobody has opened
    question: pays
    context: { task: 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 }
    facts: payer
    expect: { decision: deny, reason: task_unknown }
"#;

fn folder(cases: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cases")).unwrap();
    for (name, text) in [
        ("schema.cedarschema", SCHEMA),
        ("all.cedar", POLICIES),
        ("cases/all.yaml", cases),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn tested(cases: &str) -> (i32, Value, String) {
    let folder = folder(cases);
    let ran = run(folder.path(), &["policy", "test", "-o", "json"]);
    let value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran.code, value, ran.stderr)
}

#[test]
fn a_case_supposes_facts_by_layers() {
    let (code, report, told) = tested(CASES);
    assert_eq!(
        (code, &report["passed"]),
        (0, &json!(3)),
        "{report:#}\n{told}"
    );
}

#[test]
fn what_a_case_expects_of_facts_and_does_not_get_is_told() {
    for (was, is, told) in [
        (
            "limit: actions",
            "limit: resources",
            ("limit", "resources", "actions"),
        ),
        (
            "reason: killed",
            "reason: policy_forbid",
            ("reason", "policy_forbid", "killed"),
        ),
        ("sinks: [to]", "sinks: []", ("decision", "deny", "permit")),
    ] {
        assert_eq!(CASES.matches(was).count(), 1, "{was}");
        let (code, report, stderr) = tested(&CASES.replace(was, is));
        assert_eq!(code, 4, "{stderr}");
        let first = &report["failed"][0]["mismatches"][0];
        let (member, expected, actual) = told;
        assert_eq!(
            (&first["member"], &first["expected"], &first["actual"]),
            (&json!(member), &json!(expected), &json!(actual)),
            "{report:#}"
        );
    }
}

#[test]
fn facts_that_are_written_wrongly_are_refused_by_name() {
    for (was, is, told) in [
        ("facts: payer\n", "facts: payers\n", "payers"),
        ("effect: pay", "effekt: pay", "effekt"),
        ("effect: pay", "effect: steal", "steal"),
        ("standing: ownerless", "standing: tired", "tired"),
        ("'User::\"eve\"'", "eve", "is not a name of an entity"),
        ("limit: actions", "limit: patience", "patience"),
        ("tool: transfer }", "tool: transfer, more: 1 }", "more"),
    ] {
        assert_eq!(CASES.matches(was).count(), 1, "{was}");
        let (code, _, stderr) = tested(&CASES.replace(was, is));
        assert_eq!(code, 3, "{is}: {stderr}");
        assert!(stderr.contains(told), "{is}: {stderr}");
    }
    let hops = "hops: [".to_owned() + &"{ principal: 'User::\"x\"' },".repeat(10) + "]";
    let (code, _, stderr) =
        tested(&CASES.replace("facts: payer\n", &format!("facts: {{ {hops} }}\n")));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("more than 9 hops"), "{stderr}");
}

#[test]
fn an_explanation_supposes_the_facts_of_a_file() {
    let folder = folder("[]");
    let file = |text: &str| fs::write(folder.path().join("facts.yaml"), text).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let facts = format!("{path}/facts.yaml");
    let explain = [
        "explain",
        "--bundle",
        &path,
        "-s",
        "Agent:bot",
        "-a",
        "transfer",
        "-r",
        "Account:main",
        "--facts",
        &facts,
    ];
    file("{ agent: { roles: [payer] }, task: { actions: [read] } }");
    run(folder.path(), &explain).succeeds(&["outside_task", "limit: actions", "payers  satisfied"]);
    file("{ agent: { roles: [payer] }, task: { on_behalf_of: 'User::\"eve\"' } }");
    run(folder.path(), &explain).succeeds(&[
        "delegation_denied",
        "limit: hop 1, User::\"eve\": no_permit",
    ]);
    file("{ robot: {} }");
    run(folder.path(), &explain).fails(3, &["facts.yaml", "robot"]);
    file(&"#".repeat((1 << 20) + 1));
    run(folder.path(), &explain).fails(3, &["1048577 bytes", "1048576"]);
}

#[tokio::test]
async fn members_of_remits_own_are_checked_and_read() {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let app = TestApp::start(&Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", POLICIES)],
        ..Bundle::default()
    })
    .await;
    let ask = |who: &str, context: Value| {
        let (kind, id) = who.split_once(':').unwrap();
        json!({
            "subject": { "type": kind, "id": id }, "action": { "name": "transfer" },
            "resource": { "type": "Account", "id": "main" }, "context": context,
        })
    };
    let long = "x".repeat(129);
    for (context, message) in [
        (
            json!({ "task": "mine" }),
            "`context.task` must be the id of a task, a UUID",
        ),
        (
            json!({ "task": 7 }),
            "`context.task` must be the id of a task, a UUID",
        ),
        (
            json!({ "task": null }),
            "`context.task` must be the id of a task, a UUID",
        ),
        (
            json!({ "build": 7 }),
            "`context.build` must be a text of 1 to 128 bytes, in Unicode NFC and without NUL",
        ),
        (
            json!({ "build": long }),
            "`context.build` must be a text of 1 to 128 bytes, in Unicode NFC and without NUL",
        ),
        (
            json!({ "tool_hash": "" }),
            "`context.tool_hash` must be a text of 1 to 128 bytes, in Unicode NFC and without NUL",
        ),
        (
            json!({ "tool_hash": "e\u{301}" }),
            "`context.tool_hash` must be a text of 1 to 128 bytes, in Unicode NFC and without NUL",
        ),
    ] {
        let reply = app
            .post("/access/v1/evaluation", ask("User:ann", context))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
        assert_eq!(reply.json(), json!(message));
    }
    let reason = async |who: &str, context: Value| {
        let reply = app.post("/access/v1/evaluation", ask(who, context)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()["context"]["reason"].clone()
    };
    assert_eq!(
        reason("User:ann", json!({ "build": "b", "tool_hash": "h" })).await,
        "policy_permit"
    );
    assert_eq!(
        reason(
            "User:ann",
            json!({ "task": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77" })
        )
        .await,
        "task_unknown"
    );
    assert_eq!(reason("Agent:bot", json!({})).await, "agent_unregistered");
}
