//! `remit break-glass` against a running server, and what its log and `remit doctor` say of it.

use std::fs;

use serde_json::Value;

use crate::cli::folder;
use crate::drafts::commands::{LOOSE, person};
use crate::serve::Server;

#[test]
fn it_is_asked_for_approved_used_and_ended_loudly() {
    let server = Server::start(
        folder(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
        &[("REMIT__TELEMETRY__FORMAT", "json")],
    );
    let ana = person(&server, "ana", "admin");
    let ben = person(&server, "ben", "approver");
    let maya = person(&server, "maya", "reader");
    server
        .run_as(&ana, &["settings", "set", "--second-person", "true"])
        .succeeds(&["second person: true"]);
    server
        .run_as(&maya, &["bundle", "pull", "ours"])
        .succeeds(&[]);
    fs::write(server.path().join("ours/more.cedar"), LOOSE).unwrap();
    server
        .run_as(&maya, &["bundle", "push", "ours"])
        .fails(77, &["403"]);
    server.run(&["doctor"]).succeeds(&["no grant is active"]);
    let minutes = ["break-glass", "request", "--reason", "x", "--minutes", "61"];
    server.run_as(&ana, &minutes).fails(64, &["61"]);
    let request = [
        "break-glass",
        "request",
        "--principal",
        "maya",
        "--roles",
        "publisher",
        "--minutes",
        "5",
        "--reason",
        "incident 4711",
    ];
    server.run_as(&maya, &request).fails(77, &["403"]);
    let asked = server.run_as(&ana, &request);
    asked.succeeds(&[
        "maya is to have publisher for 5 minutes",
        "remit break-glass approve ",
    ]);
    let listed = server
        .run_as(&maya, &["break-glass", "list", "-o", "json"])
        .json();
    assert_eq!(listed[0]["state"], "pending", "{listed}");
    let id = listed[0]["id"].as_str().unwrap();
    server
        .run_as(&ana, &["break-glass", "approve", id])
        .fails(77, &["403"]);
    server
        .run_as(&ben, &["break-glass", "approve", id])
        .succeeds(&["maya has publisher until ", "approved by ben"]);
    server
        .run_as(&maya, &["bundle", "push", "ours"])
        .succeeds(&["revision"]);
    let doctor = server.run(&["doctor"]);
    doctor.succeeds(&["active: ", id, "remit break-glass end"]);
    server.run_as(&ana, &["break-glass", "list"]).succeeds(&[
        id,
        "active",
        "maya",
        "ben",
        "incident 4711",
    ]);
    server
        .run_as(&maya, &["break-glass", "end", id])
        .fails(0, &["is over"]);
    server
        .run_as(&maya, &["break-glass", "end", id])
        .fails(3, &["409"]);
    server.run(&["doctor"]).succeeds(&["no grant is active"]);

    let (_, dir) = server.stop();
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    let lines = log.lines().filter(|line| line.contains(id));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["level"] == "WARN")
        .collect();
    let told = lines.iter().map(Value::to_string).collect::<Vec<_>>();
    for what in ["requested", "approved", "used", "ended"] {
        let what = format!("break-glass {what}");
        assert_eq!(
            told.iter().filter(|line| line.contains(&what)).count(),
            1,
            "{what}: {told:?}"
        );
    }
    assert_eq!(told.len(), 4, "{told:?}");
}
