//! The life of one task, told by the real `remit demo`: it works, reads a document with an injected instruction, obeys it
//! and is denied; the same payment is permitted where a person wants it; a child stays within its parent; and when the task
//! is done, everything under it is over.
//!
//! `cargo test --test it task_story -- --nocapture` shows it.

use std::process::Command;

use serde_json::{Value, json};

/// The account that the injected instruction names, and that a person names later.
const STRANGER: &str = "XK051212012345678906";
/// The account that the task declares.
const PAYEE: &str = "FI2112345600000785";

pub fn demo(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_remit"))
        .arg("demo")
        .args(arguments)
        .current_dir(home.path())
        .env("TMPDIR", home.path())
        .env("HOME", home.path())
        .env_remove("REMIT_KEY")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{complaint}");
    told
}

/// Returns what is told under the heading of a step.
pub fn step(told: &str, number: usize) -> String {
    let begins = |line: &str, number: usize| line.starts_with(&format!("{number}  "));
    let lines = told.lines();
    let step: Vec<&str> = lines
        .skip_while(|line| !begins(line, number))
        .take_while(|line| !begins(line, number + 1))
        .collect();
    assert!(!step.is_empty(), "step {number} is not told:\n{told}");
    step.join("\n")
}

/// Returns the line of one call: what was called, on whom, and how it was answered.
pub fn call<'t>(step: &'t str, tool: &str, about: &str) -> &'t str {
    let called = format!("{tool} → {about}");
    let mut lines = step.lines().filter(|line| line.contains(&called));
    let line = lines.next();
    assert!(
        line.is_some() && lines.next().is_none(),
        "{called}:\n{step}"
    );
    line.unwrap()
}

#[test]
fn task_story() {
    let told = demo(&[]);
    println!("{told}");

    let given = step(&told, 1);
    for what in [PAYEE, "payments/pay", "sha256:"] {
        assert!(given.contains(what), "{what}:\n{given}");
    }
    let works = step(&told, 2);
    for (tool, about) in [("ledger.balance", "operations"), ("payments.send", PAYEE)] {
        let line = call(&works, tool, about);
        assert!(line.contains("permit"), "{line}");
    }
    let reads = step(&told, 3);
    assert!(call(&reads, "inbox.read", "m-118").contains("permit"));
    assert!(
        reads.contains("untrusted") && reads.contains("set by decision"),
        "{reads}"
    );

    let obeys = step(&told, 4);
    let line = call(&obeys, "payments.send", STRANGER);
    assert!(
        line.contains("deny") && line.contains("approval_required"),
        "{line}"
    );
    for what in [
        "policies/agent-baseline/",
        "which permitted inbox.read",
        "containsAll",
    ] {
        // However the lines are broken.
        let unbroken: Vec<&str> = obeys.split_whitespace().collect();
        assert!(unbroken.join(" ").contains(what), "{what}:\n{obeys}");
    }
    let clean = step(&told, 5);
    assert!(call(&clean, "payments.send", STRANGER).contains("permit"));
    let child = step(&told, 6);
    assert!(child.contains("422  task-exceeds-parent  sinks"), "{child}");
    assert!(call(&child, "mail.send", "ana@fernhill.example").contains("permit"));
    let over = step(&told, 7);
    for (tool, about) in [
        ("payments.send", PAYEE),
        ("mail.send", "ana@fernhill.example"),
    ] {
        let line = call(&over, tool, about);
        assert!(
            line.contains("deny") && line.contains("task_completed"),
            "{line}"
        );
    }
}

/// A program is told the same, with the decisions to look up.
#[test]
fn task_story_for_a_program() {
    let told: Value = serde_json::from_str(&demo(&["-o", "json"])).unwrap();

    assert_eq!(told["injected"]["reason"], "approval_required", "{told:#}");
    assert!(
        !told["injected"]["policies"].as_array().unwrap().is_empty(),
        "{told:#}"
    );
    let labels = told["labels"].as_array().unwrap();
    let untrusted = labels.iter().find(|of| of["label"] == "untrusted").unwrap();
    let set_by = untrusted["decision"].as_str().unwrap();
    assert!(
        set_by.len() == 36 && set_by != told["injected"]["decision"],
        "{told:#}"
    );
    assert_eq!(told["clean_permitted"], true, "{told:#}");
    assert_eq!(told["exceeded"], "sinks", "{told:#}");
    assert_eq!(
        told["over"],
        json!(["task_completed", "task_completed"]),
        "{told:#}"
    );
}
