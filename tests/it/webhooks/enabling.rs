//! `remit webhook enable`: a webhook whose receiver was gone is told again, as it stands.

use std::thread;
use std::time::{Duration, Instant};

use remit_core::Timestamp;
use remit_tests::receiver::Behaviour::Answer;
use remit_tests::receiver::Receiver;
use serde_json::{Value, json};

use super::PATIENCE;
use crate::cli::folder;
use crate::serve::Server;

const SERVE: [&str; 4] = ["serve", "--dev", "--listen", "127.0.0.1:0"];

/// Looks again and again until it is as wanted.
fn until(look: impl Fn() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let found = look();
        if wanted(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{found}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_webhook_whose_receiver_was_gone_is_enabled_again_as_it_stands() {
    let receiver = Receiver::start();
    let allow = format!("[\"{}\"]", receiver.address());
    let server = Server::start(folder(), &SERVE, &[("REMIT__WEBHOOKS__ALLOW", &allow)]);
    let url = receiver.url("/hook");
    let create = ["webhook", "create", &url, "--events", "approval."];
    let made = server.run(&[&create[..], &["--callbacks", "-o", "json"]].concat());
    let made = made.json();
    let id = made["id"].as_str().unwrap();
    let secret = made["secret"].as_str().unwrap();
    let show = || server.run(&["webhook", "show", id, "-o", "json"]).json();
    let was = show();

    // Nothing is to be done: nothing is.
    let already = server.run(&["webhook", "enable", id]);
    assert_eq!(already.code, 0, "{}", already.stderr);
    assert!(
        already.stderr.contains("was enabled already"),
        "{}",
        already.stderr
    );
    assert_eq!(changes(&server), 0);

    receiver.does(&[Answer(410), Answer(204)]);
    let pinged = server.run(&["webhook", "ping", id]);
    assert_eq!(pinged.code, 0, "{}", pinged.stderr);
    let gone = until(show, |found| found["state"] == "disabled");
    assert_eq!(gone["disabled_why"], "the receiver answered 410", "{gone}");
    server
        .run(&["webhook", "show", id])
        .succeeds(&["disabled", "the receiver answered 410"]);
    let refused = server.run(&["webhook", "ping", id]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);

    // That it was disabled is on record.
    assert_eq!(changes(&server), 1);
    let enabled = server.run(&["webhook", "enable", id, "-o", "json"]);
    assert_eq!(enabled.code, 0, "{}", enabled.stderr);
    // All of it is as it was: what it is told, where, and that requests may name it.
    assert_eq!(enabled.json(), was);
    assert_eq!(show(), was);
    assert_eq!(changes(&server), 2);
    // By the secret that it had.
    let pinged = server.run(&["webhook", "ping", id]);
    assert_eq!(pinged.code, 0, "{}", pinged.stderr);
    let newest = || {
        let listed = server.run(&["webhook", "deliveries", id, "-o", "json"]);
        listed.json()[0].clone()
    };
    let told = until(newest, |found| found["state"] == "delivered");
    assert_eq!(told["last_status"], json!(204), "{told}");
    let messages = receiver.received();
    assert_eq!(messages.len(), 2, "{messages:?}");
    let at: Timestamp = serde_json::from_value(told["last_at"].clone()).unwrap();
    let now = u64::try_from(at.micros() / 1_000_000).unwrap();
    assert!(messages[1].is_signed(secret, now), "{:?}", messages[1]);

    let unknown = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20";
    let unknown = server.run(&["webhook", "enable", unknown]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
}

/// How often a webhook was changed, as the records tell it.
fn changes(server: &Server) -> usize {
    let acted = server.run(&["admin", "actions", "--action", "put_webhook", "-o", "json"]);
    acted.json().as_array().unwrap().len()
}
