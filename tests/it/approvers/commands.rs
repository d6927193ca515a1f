//! `remit approvals` and `remit approvers` against a running server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use remit_tests::server::client;
use serde_json::{Value, json};

use super::{POLICIES, SCHEMA, payment};
use crate::cli::{Run, command, folder, with};
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
    let until = crate::agents::commands::ahead(300);
    let members = format!("ben,cy@{until}");
    let set = [
        "approvers",
        "group",
        "set",
        "finance",
        "--members",
        &members,
    ];
    let told = format!("cy until {}", &until[..10]);
    server.run(&set).succeeds(&["finance", "ben", &told]);
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

/// Runs a command at a terminal of its own, at which a line is typed.
fn at_a_terminal((server, key): (&Server, &str), arguments: &[&str], typed: &str) -> Run {
    let plain = command(server.path(), &[]);
    let words = [plain.get_program().to_str().unwrap()].into_iter();
    let words: Vec<String> = words
        .chain(arguments.iter().copied())
        .map(|word| format!("'{word}'"))
        .collect();
    let mut script = Command::new("script")
        .args(["-qec", &words.join(" "), "/dev/null"])
        .current_dir(server.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("REMIT_URL", server.url.as_str()), ("REMIT_KEY", key)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It stays open: a terminal that ends is another matter than a line that was typed.
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(format!("{typed}\n").as_bytes()).unwrap();
    let done = script.wait_with_output().unwrap();
    drop(keyboard);
    Run {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8(done.stdout).unwrap(),
        stderr: String::from_utf8(done.stderr).unwrap(),
    }
}

/// Whether there is a `script` that makes terminals as this test asks it to.
fn there_are_terminals() -> bool {
    let version = Command::new("script").arg("--version").output();
    let found = version.is_ok_and(|told| told.stdout.windows(10).any(|ten| ten == b"util-linux"));
    assert!(found || !remit_tests::ci(), "there is no `script`");
    if !found {
        eprintln!("SKIPPED: there is no `script` of util-linux; install it to run this test");
    }
    found
}

/// At a terminal the card is shown, and the last four characters of the id are asked for: nothing else answers.
#[tokio::test]
async fn at_a_terminal_the_last_four_characters_are_asked_for() {
    if !there_are_terminals() {
        return;
    }
    let (server, ben) = start();
    let set = ["approvers", "group", "set", "finance", "--members", "ben"];
    server.run(&set).succeeds(&["finance"]);
    let (id, other) = (requested(&server, 100).await, requested(&server, 200).await);
    let at = |arguments: &[&str], typed: &str| at_a_terminal((&server, &ben), arguments, typed);
    let state = |id: &str| {
        let shown = server.run_as(&ben, &["approvals", "show", id, "-o", "json"]);
        shown.json()["state"].as_str().unwrap().to_owned()
    };
    let last = &id[id.len() - 4..];
    let deny = ["approvals", "deny", &other, "--reason", "Not ordered"];
    for typed in ["", "y", "yes", "----", &last[1..], &id] {
        let unsure = at(&["approvals", "approve", &id], typed);
        assert_eq!(unsure.code, 3, "{typed}: {}", unsure.stdout);
        assert!(
            unsure.stdout.contains("nothing was answered"),
            "{typed}: {}",
            unsure.stdout
        );
    }
    assert_eq!(at(&deny, last).code, 3, "those of another request");
    assert_eq!([state(&id), state(&other)], ["pending", "pending"]);
    // A card that is not the one that somebody has seen is not asked about.
    let wrong = format!("sha256:{}", "0".repeat(64));
    let seen = at(&["approvals", "approve", &id, "--seen", &wrong], last);
    assert_eq!(seen.code, 3, "{}", seen.stdout);
    assert_eq!(state(&id), "pending");
    let sure = at(&["approvals", "approve", &id], last);
    sure.succeeds(&[
        "to = acme",
        "amount = 100",
        &format!("type the last four characters of its id ({last})"),
        "is approved",
    ]);
    assert_eq!([state(&id), state(&other)], ["approved", "pending"]);
    at(&deny, &other[other.len() - 4..]).succeeds(&["To refuse it", "is denied"]);
    assert_eq!(state(&other), "denied");
}

#[tokio::test]
async fn what_happens_is_watched_and_gone_on_with_after_a_place() {
    let (server, ben) = start();
    let ids = [requested(&server, 100).await, requested(&server, 200).await];
    let watch = |more: &[&str]| {
        let watch = [&["approvals", "watch", "--count", "1"], more].concat();
        let shown = server.run_as(&ben, &[&watch[..], &["-o", "ndjson"]].concat());
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        shown.json()
    };
    let kind = "access_request.created";
    // Before the first event there is nothing, so it is not known that nothing is missing.
    let first = watch(&["--after", "0.0", "--kind", "access_request."]);
    assert_eq!(
        (&first["subject"], &first["kind"]),
        (&json!(ids[0]), &json!(kind))
    );
    let place = first["id"].as_str().unwrap();
    let second = watch(&["--after", place, "--kind", kind]);
    assert_eq!(second["subject"], json!(ids[1]));
    let as_text = ["approvals", "watch", "--count", "1", "--after", place];
    server
        .run_as(&ben, &as_text)
        .succeeds(&[kind, &ids[1], "action=pay"]);
    let no_place = server.run_as(&ben, &["approvals", "watch", "--after", "yesterday"]);
    assert_eq!(no_place.code, 3, "{}", no_place.stderr);
    let machine = server.run(&["approvals", "watch", "--count", "0"]);
    assert_eq!(machine.code, 64, "{}", machine.stderr);
}

/// Answers one connection after another with each of these, and returns what was asked.
fn answers(listener: TcpListener, answers: Vec<String>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let mut connection = BufReader::new(listener.accept().unwrap().0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                connection.read_line(&mut head).unwrap();
            }
            asked.push(head.to_lowercase());
            let mut connection = connection.into_inner();
            connection.write_all(answer.as_bytes()).unwrap();
        }
        asked
    })
}

#[test]
fn whoever_watches_is_connected_again_and_told_of_gaps() {
    let event = |id: &str, kind: &str| {
        let data = json!({ "at": "2026-11-26T12:00:00Z", "kind": kind, "subject": id, "data": {} });
        format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
    };
    let streamed = |events: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}"
        )
    };
    let gap = "id: 8.0\nevent: gap\ndata: {\"after\":\"7.0\"}\n\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = answers(
        listener,
        vec![
            streamed(&format!(
                ": beat\n\n{}",
                event("7.0", "access_request.created")
            )),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned(),
            streamed(&format!("{gap}{}", event("9.0", "exception.ended"))),
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned(),
        ],
    );
    let dir = folder();
    let variables = [("REMIT_URL", url.as_str()), ("REMIT_KEY", "remit_dev_any")];
    let shown = with(dir.path(), &variables, &["approvals", "watch"]);
    // A key that does not work any more is nothing that passes.
    assert_eq!(shown.code, 77, "{}", shown.stderr);
    let lines: Vec<_> = shown.stdout.lines().collect();
    assert!(
        lines[0].contains("access_request.created  7.0"),
        "{lines:?}"
    );
    assert!(lines[1].contains("exception.ended  9.0"), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for told in ["503", "tried again", "there is a gap"] {
        assert!(shown.stderr.contains(told), "{told}: {}", shown.stderr);
    }
    let asked = serving.join().unwrap();
    let place = |head: &String| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("last-event-id: "));
        line.map(str::to_owned)
    };
    let places: Vec<_> = asked.iter().map(place).collect();
    let at = |id: &str| Some(id.to_owned());
    assert_eq!(places, [None, at("7.0"), at("7.0"), at("9.0")]);
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
