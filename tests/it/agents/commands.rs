//! `remit agent`, `remit tool` and `remit kill` against a running server.

use std::fs;

use serde_json::{Value, json};

use crate::serve::Server;

/// Makes a person, and a key of it that may stop things.
pub(crate) fn person(server: &Server, name: &str, roles: &str) -> String {
    let set = [
        "principal",
        "set",
        name,
        "--kind",
        "person",
        "--roles",
        roles,
    ];
    server.run(&set).succeeds(&[name]);
    let scopes = "read,write,keys,tasks";
    let create = [
        "key",
        "create",
        name,
        "--scopes",
        scopes,
        "--principal",
        name,
    ];
    let made = server.run(&create);
    assert_eq!(made.code, 0, "{}", made.stderr);
    made.stdout.trim().to_owned()
}

/// A moment that is some days ahead.
pub(crate) fn ahead(days: i64) -> String {
    let now = remit_core::Clock::system().now().micros();
    remit_core::Timestamp::from_micros(now + days * 86_400_000_000).to_string()
}

#[test]
fn an_agent_is_put_stopped_and_retired() {
    let server = Server::dev();
    let ana = person(&server, "ana", "admin");
    let (review, end) = (ahead(30), ahead(60));
    let put = |agent: &str, owner: &str, trust: &str| {
        let arguments = [
            "agent",
            "put",
            agent,
            "--owner",
            owner,
            "--purpose",
            "Pays invoices",
            "--environment",
            "production",
            "--model",
            "m-1",
            "--trust",
            trust,
            "--roles",
            "payer,reader",
            "--review-at",
            &review,
            "--ends-at",
            &end,
        ];
        server.run_as(&ana, &arguments)
    };
    put("Agent:robot", "ana", "2").succeeds(&[
        "Agent::\"robot\"",
        "active",
        "owner ana",
        "payer,reader",
    ]);
    put("Agent:robot", "nobody", "2").fails(3, &["`owner` names nobody"]);
    put("Agent:robot", "ana", "4").fails(64, &["4"]);
    put("robot", "ana", "2").fails(64, &["is no entity"]);
    let shown = server
        .run_as(&ana, &["agent", "show", "Agent::\"robot\"", "-o", "json"])
        .json();
    assert_eq!(
        (&shown["trust"], &shown["roles"]),
        (&json!(2), &json!(["payer", "reader"]))
    );
    let listed = server
        .run_as(&ana, &["agent", "list", "--owner", "ana", "-o", "json"])
        .json();
    assert_eq!(listed, json!([shown]));
    server
        .run_as(
            &ana,
            &["agent", "suspend", "Agent:robot", "--wait", "fleet"],
        )
        .succeeds(&["suspended"]);
    server
        .run_as(&ana, &["agent", "list", "--status", "suspended"])
        .succeeds(&["Agent::\"robot\"", "suspended"]);
    server
        .run_as(&ana, &["agent", "list", "--status", "asleep"])
        .fails(3, &["400"]);
    server
        .run_as(&ana, &["agent", "resume", "Agent:robot"])
        .succeeds(&["active"]);
    server
        .run_as(&ana, &["agent", "retire", "Agent:robot"])
        .succeeds(&["expired"]);
    server
        .run_as(&ana, &["agent", "resume", "Agent:robot"])
        .fails(3, &["409"]);
    server
        .run_as(&ana, &["agent", "show", "Agent:other"])
        .fails(3, &["404"]);
    let unknown = server
        .run_as(&ana, &["agent", "unknown", "-o", "json"])
        .json();
    assert_eq!(unknown, json!([]));
}

#[test]
fn a_catalogue_is_imported_and_its_drift_told() {
    let server = Server::dev();
    let write =
        |name: &str, value: &Value| fs::write(server.path().join(name), value.to_string()).unwrap();
    write(
        "catalogue.json",
        &json!({ "tools": { "mail.send": { "effect": "egress", "sinks": ["to"] } } }),
    );
    server
        .run(&["tool", "import", "catalogue.json", "--wait", "fleet"])
        .succeeds(&["1 tools written"]);
    write(
        "list.json",
        &json!([{ "name": "mail.read", "effect": "read", "integrity": "trusted" }]),
    );
    server
        .run(&["tool", "import", "list.json"])
        .succeeds(&["1 tools written"]);
    server.run(&["tool", "list"]).succeeds(&[
        "mail.read",
        "mail.send",
        "egress",
        "private,untrusted",
    ]);
    server
        .run(&["tool", "import", "absent.json"])
        .fails(1, &["absent.json"]);
    write(
        "broken.json",
        &json!({ "tools": { "x": { "effect": "harm" } } }),
    );
    server
        .run(&["tool", "import", "broken.json"])
        .fails(3, &["tools.x"]);

    let descriptor = json!({ "name": "mail.send", "description": "Sends." });
    write(
        "answer.json",
        &json!({ "result": { "tools": [descriptor] } }),
    );
    let drift = server.run(&["tool", "drift", "answer.json", "-o", "json"]);
    assert_eq!(drift.code, 6, "{}", drift.stderr);
    let found: Value = serde_json::from_str(&drift.stdout).unwrap();
    assert_eq!(found["tools"][0]["state"], "unpinned");
    let pinned = json!({ "effect": "egress", "descriptor": found["tools"][0]["presented"] });
    server
        .run(&["tool", "put", "mail.send", &pinned.to_string()])
        .succeeds(&["mail.send", "egress"]);
    server
        .run(&["tool", "drift", "answer.json"])
        .succeeds(&["mail.send", "same"]);
    write("none.json", &json!({ "tools": 7 }));
    server
        .run(&["tool", "drift", "none.json"])
        .fails(3, &["holds no list of tools"]);
    server
        .run(&["tool", "put", "mail.send", "[]"])
        .fails(3, &["no object"]);
    server
        .run(&["tool", "remove", "mail.send"])
        .fails(0, &["is removed"]);
    server
        .run(&["tool", "show", "mail.send"])
        .fails(3, &["404"]);
}

#[test]
fn a_kill_is_set_seen_and_lifted_by_two() {
    let server = Server::dev();
    let ana = person(&server, "ana", "operator");
    let ben = person(&server, "ben", "approver");
    let tool = [
        "kill",
        "tool",
        "mail.send",
        "--reason",
        "incident 4711",
        "--wait",
        "fleet",
    ];
    server
        .run_as(&ana, &tool)
        .succeeds(&["tool mail.send is stopped", "remit kill lift"]);
    let listed = server.run_as(&ana, &["kill", "list", "-o", "json"]).json();
    let id = listed[0]["id"].as_str().unwrap();
    let decide = [
        "decide",
        "--subject",
        "Agent:invoice-bot",
        "--action",
        "call",
        "--resource",
        "Tool:mail.send",
    ];
    let whole = ["kill", "tenant", "--reason", "a drill"];
    server.run_as(&ana, &whole).succeeds(&["tenant is stopped"]);
    let denied = server.run(&decide);
    denied.fails(2, &[]);
    assert!(denied.stdout.contains("a drill"), "{}", denied.stdout);
    server
        .run_as(&ana, &["kill", "everything", "--reason", "x"])
        .fails(77, &["tenants"]);
    server
        .run_as(&ana, &["kill", "confirm", id])
        .fails(3, &["409"]);
    server
        .run_as(&ana, &["kill", "lift", id])
        .succeeds(&["remit kill confirm"]);
    server
        .run_as(&ana, &["kill", "confirm", id])
        .fails(77, &["403"]);
    server.run_as(&ana, &["kill", "list"]).succeeds(&[
        id,
        "in force",
        "tool mail.send",
        "incident 4711",
    ]);
    server
        .run_as(&ben, &["kill", "confirm", id])
        .succeeds(&["may go on", "ben"]);
    let left = server.run_as(&ana, &["kill", "list", "-o", "json"]).json();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    let all = server
        .run_as(&ana, &["kill", "list", "--all", "-o", "json"])
        .json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    server
        .run_as(&ana, &["kill", "task", "x", "--reason", "x"])
        .fails(64, &["x"]);
}
