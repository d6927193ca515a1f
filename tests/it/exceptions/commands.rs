//! `remit exception` against a running server.

use crate::agents::commands::{ahead, person};
use crate::serve::Server;

#[test]
fn an_exception_is_proposed_shown_confirmed_and_ended() {
    let server = Server::dev();
    let ana = person(&server, "ana", "publisher");
    let ben = person(&server, "ben", "approver");
    let until = ahead(1);
    let propose = |policy: &str, scope: &[&str], until: &str| {
        let mut arguments = vec!["exception", "propose", policy];
        arguments.extend(scope);
        arguments.extend([
            "--owner",
            "ben",
            "--reason",
            "incident 4711",
            "--until",
            until,
        ]);
        arguments.extend(["--compensating", "ben looks at each"]);
        server.run_as(&ana, &arguments)
    };
    let scope = ["--action", "call", "--agent", "Agent:invoice-bot"];
    propose("working-hours", &scope, &until).succeeds(&[
        "working-hours does not count for action call",
        "remit exception confirm",
    ]);
    propose("nowhere", &scope, &until).fails(3, &["no such policy"]);
    propose("working-hours", &[], &until).fails(3, &["scope"]);
    propose("working-hours", &scope, &ahead(200)).fails(3, &["until"]);
    propose("working-hours", &scope, "soon").fails(64, &["soon"]);
    propose("working-hours", &["--task", "x"], &until).fails(64, &["x"]);
    let listed = server
        .run_as(&ana, &["exception", "list", "-o", "json"])
        .json();
    let id = listed[0]["id"].as_str().unwrap();
    let hash = listed[0]["hash"].as_str().unwrap();
    server.run_as(&ben, &["exception", "show", id]).succeeds(&[
        "because: incident 4711",
        "instead: ben looks at each",
        hash,
    ]);
    let confirm = [
        "exception",
        "confirm",
        id,
        "--seen",
        hash,
        "--wait",
        "fleet",
    ];
    server.run_as(&ana, &confirm).fails(77, &["403"]);
    let other = format!("sha256:{}", "0".repeat(64));
    server
        .run_as(&ben, &["exception", "confirm", id, "--seen", &other])
        .fails(3, &["seen"]);
    server
        .run_as(&ben, &["exception", "confirm", id, "--seen", "x"])
        .fails(64, &["x"]);
    server
        .run_as(&ben, &confirm)
        .succeeds(&["in force, confirmed by ben"]);
    server
        .run_as(&ana, &["exception", "list", "--policy", "working-hours"])
        .succeeds(&[id, "in force", "agent Agent::\"invoice-bot\""]);
    server
        .run_as(&ana, &["exception", "end", id])
        .succeeds(&["ended by ana"]);
    server
        .run_as(&ana, &["exception", "end", id])
        .fails(3, &["409"]);
}
