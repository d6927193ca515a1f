//! `remit webhook` against a running server, which is killed in between.

use std::time::Instant;

use remit_core::Timestamp;
use remit_tests::receiver::Behaviour::{Answer, Hangup};
use remit_tests::receiver::{Received, Receiver};
use serde_json::Value;

use super::PATIENCE;
use crate::cli::folder;
use crate::serve::Server;

const SERVE: [&str; 4] = ["serve", "--dev", "--listen", "127.0.0.1:0"];

/// Waits until so many messages came.
fn came(receiver: &Receiver, count: usize) -> Vec<Received> {
    let began = Instant::now();
    loop {
        let messages = receiver.received();
        if messages.len() >= count {
            return messages;
        }
        assert!(began.elapsed() < PATIENCE, "{} of {count}", messages.len());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits until the newest delivery is as wanted.
fn newest(server: &Server, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let listed = server.run(&["webhook", "deliveries", id, "-o", "json"]);
        let found = listed.json()[0].clone();
        if wanted(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{found}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_webhook_is_made_tried_and_told_by_the_next_when_a_server_is_killed() {
    let receiver = Receiver::start();
    let allow = format!("[\"{}\"]", receiver.address());
    let variables = [("REMIT__WEBHOOKS__ALLOW", allow.as_str())];
    let server = Server::start(folder(), &SERVE, &variables);
    let url = receiver.url("/hook");
    let nothing = server.run(&["webhook", "create", &url]);
    assert_eq!(nothing.code, 64, "{}", nothing.stderr);
    let inside = [
        "webhook",
        "create",
        "https://10.0.0.1/",
        "--events",
        "approval.",
    ];
    let inside = server.run(&inside);
    assert_eq!(inside.code, 3, "{}", inside.stderr);
    assert!(
        inside.stderr.contains("not of the internet"),
        "{}",
        inside.stderr
    );
    let create = [
        "webhook",
        "create",
        &url,
        "--events",
        "access_request.,approval.withdrawn",
    ];
    let made = server.run(&[&create[..], &["-o", "json"]].concat()).json();
    let id = made["id"].as_str().unwrap();
    let secret = made["secret"].as_str().unwrap();
    server.run(&["webhook", "list"]).succeeds(&[
        id,
        "enabled",
        &url,
        "access_request.,approval.withdrawn",
    ]);
    server
        .run(&["webhook", "show", id])
        .succeeds(&[id, &url, "callbacks  no"]);

    // The receiver has the message, and nobody knows that it does.
    receiver.does(&[Hangup]);
    server
        .run(&["webhook", "ping", id])
        .succeeds(&["is on its way", id]);
    let waits = newest(&server, id, |found| found["last_at"].is_string());
    assert_eq!(waits["state"], "pending", "{waits}");
    let folder = server.kill();
    let unheard = receiver.received().len();
    receiver.does(&[Answer(204)]);
    let server = Server::start(folder, &SERVE, &variables);
    let messages = came(&receiver, unheard + 1);
    for message in &messages {
        assert_eq!(message.id(), messages[0].id());
        assert_eq!(message.body, messages[0].body);
    }
    let delivered = newest(&server, id, |found| found["state"] == "delivered");
    let at: Timestamp = serde_json::from_value(delivered["last_at"].clone()).unwrap();
    let now = u64::try_from(at.micros() / 1_000_000).unwrap();
    for message in &messages {
        assert!(message.is_signed(secret, now), "{message:?}");
    }
    assert!(delivered["attempts"].as_u64() >= Some(2), "{delivered}");
    server
        .run(&["webhook", "deliveries", id, "--state", "delivered"])
        .succeeds(&["delivered", "ping"]);

    let rotated = server.run(&["webhook", "rotate", id, "-o", "json"]).json();
    let new = rotated["secret"].as_str().unwrap();
    assert_ne!(new, secret);
    let pinged = server.run(&["webhook", "ping", id]);
    assert_eq!(pinged.code, 0, "{}", pinged.stderr);
    let messages = came(&receiver, unheard + 2);
    let message = messages.last().unwrap();
    // For a while both are right.
    for secret in [secret, new] {
        assert!(message.is_signed(secret, now), "{message:?}");
    }
    let gone = server.run(&["webhook", "delete", id]);
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    let gone = server.run(&["webhook", "show", id]);
    assert_eq!(gone.code, 3, "{}", gone.stderr);
}
