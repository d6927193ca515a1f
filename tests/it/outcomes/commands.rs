//! `remit outcome` and `remit decisions orphans`, against a running server.

use serde_json::Value;

use crate::serve::Server;

#[test]
fn outcomes_are_told_and_listed() {
    let server = Server::dev();
    let decide = |agent: &str| {
        let asked = server.run(&[
            "decide",
            "-s",
            agent,
            "-a",
            "call",
            "-r",
            "Tool:mail.list",
            "-o",
            "json",
        ]);
        asked.json()["context"]["evaluation_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let permit = decide("Agent:invoice-bot");
    let told = [
        "outcome",
        "report",
        &permit,
        "succeeded",
        "--bytes",
        "5120",
        "--destination",
        "mail",
        "--label",
        "class:pii",
    ];
    for _ in 0..2 {
        server.run(&told).succeeds(&[&permit, "succeeded"]);
    }
    server
        .run(&["outcome", "report", &permit, "failed"])
        .fails(3, &["409", "another outcome"]);
    let deny = decide("Agent:payroll-bot");
    server
        .run(&["outcome", "report", &deny, "succeeded"])
        .fails(3, &["409", "deny"]);
    let unknown = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
    server
        .run(&["outcome", "report", unknown, "not-made"])
        .fails(3, &["404"]);
    server
        .run(&[
            "outcome",
            "report",
            &permit,
            "succeeded",
            "--label",
            "secret",
        ])
        .fails(64, &["Label"]);
    let listed = server.run(&["outcome", "list", "--destination", "mail", "-o", "json"]);
    let listed: Value = listed.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["bytes"], 5_120);
    server
        .run(&["outcome", "list", "--result", "failed"])
        .fails(0, &["none"]);
    server
        .run(&["outcome", "list"])
        .succeeds(&["succeeded", "5120", "mail", &permit]);
    // Outside a task nobody is missed.
    server.run(&["decisions", "orphans"]).fails(0, &["none"]);
}
