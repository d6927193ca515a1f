//! `remit approvals` and `remit approvers` against a running server.

use std::fs;

use remit_tests::server::client;
use serde_json::{Value, json};

use super::{POLICIES, SCHEMA, payment};
use crate::cli::folder;
use crate::serve::Server;

/// A server with the policies, whose agents need no registry, and an approver with a key.
fn start() -> (Server, String) {
    let server = Server::start(
        folder(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
        &[],
    );
    let ours = server.path().join("ours");
    fs::create_dir_all(&ours).unwrap();
    let schema = SCHEMA.replace("@registered(\"agent\")", "");
    fs::write(ours.join("schema.cedarschema"), schema).unwrap();
    fs::write(ours.join("approvals.cedar"), POLICIES).unwrap();
    server
        .run(&["bundle", "push", "ours", "--if-match", "1"])
        .succeeds(&["revision"]);
    for name in ["ben", "cy"] {
        let set = [
            "principal",
            "set",
            name,
            "--kind",
            "person",
            "--roles",
            "approver",
        ];
        server.run(&set).succeeds(&[name]);
    }
    let create = [
        "key",
        "create",
        "ben",
        "--scopes",
        "read,approve",
        "--principal",
        "ben",
    ];
    let made = server.run(&create);
    assert_eq!(made.code, 0, "{}", made.stderr);
    (server, made.stdout.trim().to_owned())
}

/// Asks over HTTP, and returns what is answered.
async fn post(server: &Server, path: &str, body: &Value) -> Value {
    let client = client();
    let url = format!("{}{path}", server.url);
    let sent = client.post(url).bearer_auth(&server.key).json(body).send();
    let bytes = sent.await.unwrap().bytes().await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

async fn requested(server: &Server, amount: u64) -> String {
    let mut question = payment(None);
    question["action"]["properties"]["amount"] = json!(amount);
    let denied = post(server, "/access/v1/evaluation", &question).await;
    let context = &denied["context"];
    question["denial"] = json!({
        "evaluation_id": context["evaluation_id"], "evaluated_at": context["evaluated_at"],
        "expires_at": context["access_request"]["expires_at"], "reason": context["reason"],
    });
    let made = post(server, "/access/v1/requests", &question).await;
    made["task"]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned()
}

#[tokio::test]
async fn a_request_is_listed_shown_and_answered() {
    let (server, ben) = start();
    let set = [
        "approvers",
        "group",
        "set",
        "finance",
        "--members",
        "ben,cy@2030-01-01T00:00:00Z",
    ];
    server
        .run(&set)
        .succeeds(&["finance", "ben", "cy until 2030-01-01"]);
    server
        .run(&["approvers", "group", "list"])
        .succeeds(&["finance"]);
    let (id, other) = (requested(&server, 100).await, requested(&server, 200).await);
    server
        .run_as(&ben, &["approvals", "list", "--mine"])
        .succeeds(&[&id, &other, "pending", "finance"]);
    let show = server.run_as(&ben, &["approvals", "show", &id]);
    show.succeeds(&[
        "Agent:bot",
        "to = acme",
        "amount = 100",
        "finance-pays",
        "pending",
    ]);
    let shown = server
        .run_as(&ben, &["approvals", "show", &id, "-o", "json"])
        .json();
    let hash = shown["card_hash"].as_str().unwrap();
    // Without a terminal nobody is asked.
    let unsure = server.run_as(&ben, &["approvals", "approve", &id]);
    assert_eq!(unsure.code, 64, "{}", unsure.stderr);
    let unseen = server.run_as(&ben, &["approvals", "approve", &id, "--yes"]);
    assert_eq!(unseen.code, 64, "{}", unseen.stderr);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let differs = server.run_as(
        &ben,
        &["approvals", "approve", &id, "--yes", "--seen", &wrong],
    );
    assert_ne!(differs.code, 0, "{}", differs.stderr);
    assert!(
        differs.stderr.contains("hash of the card"),
        "{}",
        differs.stderr
    );
    let approve = [
        "approvals",
        "approve",
        &id,
        "--yes",
        "--seen",
        hash,
        "--comment",
        "As ordered",
    ];
    server
        .run_as(&ben, &approve)
        .succeeds(&["approved", "finance: 1 of 1"]);
    let withdraw = ["approvals", "withdraw", &id, "--reason", "Taken over"];
    server.run_as(&ben, &withdraw).succeeds(&["cancelled"]);
    let shown = server
        .run_as(&ben, &["approvals", "show", &other, "-o", "json"])
        .json();
    let hash = shown["card_hash"].as_str().unwrap();
    let deny = [
        "approvals",
        "deny",
        &other,
        "--reason",
        "Nobody ordered this",
        "--yes",
        "--seen",
        hash,
    ];
    server.run_as(&ben, &deny).succeeds(&["denied"]);
    let listed = server
        .run_as(
            &ben,
            &["approvals", "list", "--state", "denied", "-o", "json"],
        )
        .json();
    assert_eq!(listed[0]["id"], json!(other));
    let escalate = server.run_as(&ben, &["approvals", "escalate", &other]);
    assert_eq!(escalate.code, 3, "{}", escalate.stderr);
}

#[test]
fn a_part_is_handed_on_and_taken_back() {
    let (server, ben) = start();
    let until = "2099-01-01T00:00:00Z";
    let far = [
        "approvers",
        "delegate",
        "set",
        "ben",
        "--to",
        "cy",
        "--until",
        until,
        "--reason",
        "On leave",
    ];
    let refused = server.run_as(&ben, &far);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("90 days"), "{}", refused.stderr);
    let listed = server.run_as(&ben, &["approvers", "delegate", "list", "-o", "json"]);
    assert_eq!(listed.json(), json!([]), "{}", listed.stderr);
    let gone = server.run_as(&ben, &["approvers", "delegate", "end", "ben"]);
    assert_ne!(gone.code, 0);
    server
        .run(&["approvers", "group", "set", "board", "--members", "cy"])
        .succeeds(&["board"]);
    let gone = server.run(&["approvers", "group", "delete", "board"]);
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    let set = [
        "principal",
        "set",
        "cy",
        "--kind",
        "person",
        "--roles",
        "approver",
        "--person",
        "ben",
    ];
    server.run(&set).succeeds(&["cy"]);
    assert_eq!(
        server.run(&["principal", "list", "-o", "json"]).json()[1]["person"],
        json!("ben")
    );
}
