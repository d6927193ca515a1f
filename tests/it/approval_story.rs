//! A payment above the limit, told by the real `remit demo`: it is denied with the way to ask, it is asked for, whoever asked
//! cannot approve it, somebody else sees exactly what will run and approves it from the terminal, it runs once, and the
//! records have all of it.
//!
//! `cargo test --test it approval_story -- --nocapture` shows it.

use serde_json::Value;

use crate::task_story::{call, demo, step};

/// The account that the task declares.
const PAYEE: &str = "FI2112345600000785";

#[test]
fn approval_story() {
    let told = demo(&[]);
    println!("{told}");

    let denied = step(&told, 8);
    let line = call(&denied, "payments.send", PAYEE);
    for what in ["deny", "approval_required", "large-payment"] {
        assert!(line.contains(what), "{what}: {line}");
    }
    for what in ["/access/v1/requests", "approval:finance"] {
        assert!(denied.contains(what), "{what}:\n{denied}");
    }
    let asked = step(&told, 9);
    assert!(asked.contains("202  pending"), "{asked}");

    let own = step(&told, 10);
    assert!(own.contains("(exit 77)"), "{own}");
    let approved = step(&told, 11);
    assert!(approved.contains("(exit 0)"), "{approved}");
    // What the approver was shown, and the agent's words apart from it.
    for what in [
        "payments.send",
        PAYEE,
        "amount = 12500",
        "EUR",
        "4712",
        "invoice-bot",
        "large-payment",
        "due today",
    ] {
        let unbroken: Vec<&str> = approved.split_whitespace().collect();
        assert!(unbroken.join(" ").contains(what), "{what}:\n{approved}");
    }

    let ran = step(&told, 12);
    let called = format!("payments.send → {PAYEE}");
    let lines: Vec<&str> = ran.lines().filter(|line| line.contains(&called)).collect();
    assert_eq!(lines.len(), 3, "{ran}");
    for (line, verdict) in lines.iter().zip(["deny", "permit", "deny"]) {
        assert!(line.contains(verdict), "{verdict}: {line}");
    }
    // Why, and what to do next: ask for an approval of that.
    for why in ["out_of_scope", "approval_used"] {
        let told = format!("{why}; next_action request");
        assert_eq!(ran.matches(&told).count(), 1, "{why}: {ran}");
    }

    let records = step(&told, 13);
    let who = |name: &str, action: &str, verdict: &str| {
        let found = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words == [name, action, verdict]
        };
        assert!(
            records.lines().any(|line| found(&line)),
            "{name} {action} {verdict}:\n{records}"
        );
    };
    who("dana", "create_request", "permit");
    who("dana", "approve_request", "deny");
    who("eve", "approve_request", "permit");
    assert!(step(&told, 14).contains("0 problems"), "{told}");
}

/// A program is told the same, with what is to be looked up.
#[test]
fn approval_story_for_a_program() {
    let told: Value = serde_json::from_str(&demo(&["-o", "json"])).unwrap();
    let story = &told["approving"];

    assert_eq!(story["access_request"]["template"], "approval:finance");
    assert_eq!(story["approved_by"], serde_json::json!(["eve"]), "{told:#}");
    assert_eq!(story["permitted"], 1, "{told:#}");
    assert_eq!(story["shown"], story["recorded"], "{told:#}");
    assert!(
        story["shown"].as_str().unwrap().starts_with("sha256:"),
        "{told:#}"
    );
    for (denied, why) in [("changed", "out_of_scope"), ("again", "approval_used")] {
        assert_eq!(story[denied]["id"], story["request"], "{told:#}");
        assert_eq!(story[denied]["reason"], why, "{told:#}");
    }
    assert!(
        !story["own_answer"].as_str().unwrap().is_empty(),
        "{told:#}"
    );
}
