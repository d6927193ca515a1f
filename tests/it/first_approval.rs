//! The way from nothing to an approval, as docs/approvers.md and docs/approvals.md tell it: their commands, in their order,
//! against `remit serve --dev` with the policies that it comes with.

use std::fs;

use remit_tests::server::{client, send};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::serve::Server;

/// The commands of the consoles under a heading, those of several lines whole.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(remit_tests::root().join(page)).unwrap();
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in section.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push(command.to_owned()),
            (None, Some(last)) if open => {
                last.push('\n');
                last.push_str(line);
            }
            _ => continue,
        }
        // A command goes on after a backslash, and within a quotation.
        open = found.last().is_some_and(|command| {
            command.ends_with('\\') || command.matches('\'').count() % 2 == 1
        });
    }
    found
}

/// The words of a `remit` command behind its name, with this id in the place of the one that the page shows.
fn words(command: &str, id: &str) -> Vec<String> {
    let command = command.split(" #").next().unwrap();
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("remit"), "{command}");
    let own = |word: &str| match word.parse::<Uuid>() {
        Ok(_) => id.to_owned(),
        Err(_) => word.to_owned(),
    };
    words.map(own).collect()
}

/// What a `curl` of the page sends.
fn body(command: &str) -> Value {
    let (_, text) = command.split_once("-d '").unwrap();
    serde_json::from_str(text.strip_suffix('\'').unwrap()).unwrap()
}

/// The name under which it is sent.
fn name(command: &str) -> &str {
    let (_, name) = command.split_once("'Idempotency-Key: ").unwrap();
    name.split_once('\'').unwrap().0
}

/// Puts what this server said into the place of what the page shows, which has the same members.
fn put(place: &mut Value, said: Value) {
    let members = |value: &Value| -> Vec<String> {
        let members = value.as_object().unwrap();
        members.keys().cloned().collect()
    };
    assert_eq!(members(place), members(&said));
    *place = said;
}

async fn post(server: &Server, path: &str, name: Option<&str>, body: &Value) -> (u16, Value) {
    let request = client().post(format!("{}{path}", server.url));
    let request = request.bearer_auth(&server.key).json(body);
    let request = match name {
        Some(name) => request.header("Idempotency-Key", name),
        None => request,
    };
    let answer = send(request).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_newcomer_comes_from_nothing_to_an_approval_of_finance() {
    let server = Server::dev();
    let people = commands("docs/approvers.md", "## From nothing to an approval");
    let [person, key, group, list, show, approve] = &people[..] else {
        panic!("{people:#?}");
    };
    let calls = commands("docs/approvals.md", "## The whole way");
    let [asks, requests, stands, again] = &calls[..] else {
        panic!("{calls:#?}");
    };
    let run = |key: &str, command: &str, id: &str, more: &[&str]| {
        let words = words(command, id);
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        server.run_as(key, &words)
    };

    run(&server.key, person, "", &[]).succeeds(&["ben", "approver"]);
    let made = run(&server.key, key, "", &[]);
    made.succeeds(&["remit_"]);
    let ben = made.stdout.trim();
    run(&server.key, group, "", &[]).succeeds(&["finance", "ben"]);
    // Somebody else who approves, and not for finance.
    let cy = person.replace("ben", "cy");
    run(&server.key, &cy, "", &[]).succeeds(&["cy", "approver"]);
    let made = run(&server.key, &key.replace("ben", "cy"), "", &[]);
    let cy = made.stdout.trim();

    let (status, denied) = post(&server, "/access/v1/evaluation", None, &body(asks)).await;
    assert_eq!(
        (status, &denied["decision"]),
        (200, &json!(false)),
        "{denied}"
    );
    let context = &denied["context"];
    assert_eq!(context["reason"], "approval_required", "{denied}");
    assert_eq!(
        context["access_request"]["template"], "approval:finance",
        "{denied}"
    );
    let mut wanted = body(requests);
    let denial = json!({
        "evaluation_id": context["evaluation_id"], "expires_at": context["access_request"]["expires_at"],
    });
    put(&mut wanted["denial"], denial);
    let (status, handle) = post(
        &server,
        "/access/v1/requests",
        Some(name(requests)),
        &wanted,
    )
    .await;
    assert_eq!(status, 202, "{handle}");
    assert_eq!(
        handle["task"]["progress"]["awaiting"],
        json!(["finance"]),
        "{handle}"
    );
    let id = handle["task"]["id"].as_str().unwrap();

    run(ben, list, id, &[]).succeeds(&[id, "finance"]);
    let listed = run(cy, list, id, &[]);
    assert!(!listed.stdout.contains(id), "{}", listed.stdout);
    run(ben, show, id, &[]).succeeds(&[
        "amount = 248000",
        "payment-approval",
        "The invoice is due today.",
    ]);
    // There is no terminal to ask at.
    let shown = run(ben, show, id, &["-o", "json"]).json();
    let seen = ["--yes", "--seen", shown["card_hash"].as_str().unwrap()];
    let refused = run(cy, approve, id, &seen);
    assert_eq!(refused.code, 77, "{}{}", refused.stdout, refused.stderr);
    run(ben, approve, id, &seen).succeeds(&[id, "is approved", "finance: 1 of 1"]);

    assert!(stands.contains("/access/v1/requests/"), "{stands}");
    let request = client().get(format!("{}/access/v1/requests/{id}", server.url));
    let answer = send(request.bearer_auth(&server.key)).await;
    let handle: Value = answer.json();
    assert_eq!(handle["task"]["status"], "approved", "{handle}");
    let mut presents = body(again);
    put(
        &mut presents["context"]["approval"],
        handle["result"]["approval"].clone(),
    );
    let mut ids = Vec::new();
    for (name, permitted) in [
        (name(again), true),
        (name(again), true),
        ("\"another\"", false),
    ] {
        let (status, answer) = post(&server, "/access/v1/evaluation", Some(name), &presents).await;
        assert_eq!(
            (status, &answer["decision"]),
            (200, &json!(permitted)),
            "{answer}"
        );
        ids.push(answer["context"]["evaluation_id"].clone());
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
}
