//! `remit task` against a running server.

use std::fs;

use serde_json::{Value, json};

use super::{POLICIES, SCHEMA};
use crate::cli::folder;
use crate::serve::Server;

/// A schema whose agents need no registry, so that the commands are what is tested.
fn start() -> (Server, String) {
    let server = Server::start(
        folder(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
        &[],
    );
    let ours = server.path().join("ours");
    fs::create_dir_all(&ours).unwrap();
    fs::write(
        ours.join("schema.cedarschema"),
        SCHEMA.replace("@registered(\"agent\")", ""),
    )
    .unwrap();
    fs::write(ours.join("tasks.cedar"), POLICIES).unwrap();
    server
        .run(&["bundle", "push", "ours", "--if-match", "1"])
        .succeeds(&["revision"]);
    let set = [
        "principal",
        "set",
        "maya",
        "--kind",
        "person",
        "--roles",
        "operator",
    ];
    server.run(&set).succeeds(&["maya"]);
    let made = server.run(&[
        "key",
        "create",
        "maya",
        "--scopes",
        "read,write,tasks",
        "--principal",
        "maya",
    ]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    (server, made.stdout.trim().to_owned())
}

#[test]
fn a_task_is_opened_looked_at_and_ended() {
    let (server, ops) = start();
    let open = [
        "task",
        "open",
        "Agent:bot",
        "--purpose",
        "work",
        "--actions",
        "reading,pay",
        "--calls",
        "3",
    ];
    let opened = server.run_as(
        &ops,
        &[&open[..], &["--may-delegate", "true", "-o", "json"]].concat(),
    );
    let opened = opened.json();
    let id = opened["id"].as_str().unwrap();
    assert_eq!(opened["declaration"]["actions"], json!(["pay", "reading"]));
    assert_eq!(opened["declaration"]["budget"], json!({ "calls": 3 }));
    server
        .run_as(&ops, &["task", "show", id])
        .succeeds(&["active", "Agent::\"bot\"", "work"]);
    server
        .run_as(
            &ops,
            &["task", "list", "--agent", "Agent:bot", "--state", "active"],
        )
        .succeeds(&[id, "work"]);
    // Wider than the one above: refused as invalid. Not permitted by the policies: a denial.
    let child = [
        "task",
        "open",
        "Agent:bot",
        "--parent",
        id,
        "--actions",
        "writing",
    ];
    server.run_as(&ops, &child).fails(3, &["actions"]);
    let secret = ["task", "open", "Agent:bot", "--purpose", "secret"];
    server.run_as(&ops, &secret).fails(2, &["no-secrets"]);
    server
        .run(&["task", "open", "--purpose", "x"])
        .fails(3, &["`agent` is missing"]);
    server
        .run_as(&ops, &["task", "open", "bot", "--purpose", "x"])
        .fails(64, &["AGENT"]);

    let endorse = [
        "task",
        "endorse",
        id,
        "--labels",
        "untrusted",
        "--reason",
        "it was read",
    ];
    server.run_as(&ops, &endorse).fails(3, &["suspend it"]);
    server
        .run_as(&ops, &["task", "suspend", id])
        .succeeds(&["suspended"]);
    server.run_as(&ops, &endorse).succeeds(&["suspended"]);
    server
        .run_as(&ops, &["task", "resume", id])
        .succeeds(&["active"]);
    let narrow = ["task", "narrow", id, "--actions", "reading", "-o", "json"];
    let narrowed = server.run_as(&ops, &narrow).json();
    let next = narrowed["id"].as_str().unwrap();
    server
        .run_as(&ops, &["task", "show", id])
        .succeeds(&["completed"]);
    let revoke = [
        "task", "revoke", next, "--reason", "enough", "--wait", "fleet",
    ];
    server.run_as(&ops, &revoke).succeeds(&["revoked"]);
    server
        .run_as(&ops, &["task", "complete", next])
        .fails(3, &["409"]);
    let shown = server
        .run_as(&ops, &["task", "show", next, "-o", "json"])
        .json();
    assert_eq!(shown["ended_why"], "enough");
}

#[test]
fn a_template_is_written_from_a_file() {
    let (server, ops) = start();
    let template = json!({ "purpose": "work", "actions": ["reading"], "required": ["sinks"] });
    fs::write(server.path().join("template.json"), template.to_string()).unwrap();
    let put = ["task", "template", "put", "reports", "template.json"];
    server.run_as(&ops, &put).fails(77, &["403"]);
    server.run(&put).succeeds(&["reports", "reading"]);
    server
        .run(&["task", "template", "list"])
        .succeeds(&["reports"]);
    let shown: Value = server
        .run(&["task", "template", "show", "reports", "-o", "json"])
        .json();
    assert_eq!(shown["required"], json!(["sinks"]));
    let open = ["task", "open", "Agent:bot", "--template", "reports"];
    server.run_as(&ops, &open).fails(3, &["sinks"]);
    let open = [&open[..], &["--sinks", "a@example.com"]].concat();
    server.run_as(&ops, &open).succeeds(&["active"]);
    server
        .run(&["task", "template", "delete", "reports"])
        .succeeds(&[]);
    server
        .run(&["task", "template", "show", "reports"])
        .fails(3, &["404"]);
}
