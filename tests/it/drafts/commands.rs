//! `remit draft`, `remit policy publish` and `remit settings` against a running server.

use std::fs;

use crate::serve::Server;

/// Makes a person and a key of it.
pub(crate) fn person(server: &Server, name: &str, roles: &str) -> String {
    server
        .run(&[
            "principal",
            "set",
            name,
            "--kind",
            "person",
            "--roles",
            roles,
        ])
        .succeeds(&[name]);
    let scopes = "read,write,keys";
    let made = server.run(&[
        "key",
        "create",
        name,
        "--scopes",
        scopes,
        "--principal",
        name,
    ]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    made.stdout.trim().to_owned()
}

pub(crate) const LOOSE: &str = "@id(\"loose\")\n@owner(\"tests\")\npermit (principal == Person::\"nobody\", action == Action::\"suspend\", resource is Agent);\n";

#[test]
fn a_draft_goes_from_its_first_edit_to_a_version() {
    let server = Server::dev();
    server
        .run(&["draft", "create", "loose", "--message", "For the tests"])
        .succeeds(&["loose", "open, version 1, over revision"]);
    fs::write(server.path().join("loose.cedar"), LOOSE).unwrap();
    let edit = [
        "draft",
        "edit-policy",
        "loose",
        "loose",
        "loose.cedar",
        "--file",
        "more.cedar",
    ];
    server.run(&edit).succeeds(&["version 2"]);
    server
        .run(&[&edit[..], &["--if-match", "1"]].concat())
        .fails(6, &["412"]);
    server
        .run(&["draft", "show", "loose"])
        .succeeds(&["added policy loose", "written by key:"]);
    server
        .run(&["draft", "check", "loose"])
        .succeeds(&["would be accepted", "loosens  loose"]);
    server
        .run(&["draft", "impact", "loose", "--hours", "1"])
        .succeeds(&["0 decisions from "]);
    server.run(&["draft", "show", "loose"]).succeeds(&[
        "checked: would be accepted, 109 of 109 cases passed, 0 errors, 1 warning; it loosens",
        "impact: 0 decisions made again, 0 the same, 0 not replayable",
    ]);
    let shown = server.run(&["draft", "show", "loose", "-o", "json"]).json();
    assert_eq!(shown["results"]["check"]["valid"], true, "{shown}");
    assert_eq!(shown["results"]["impact"]["replayed"], 0, "{shown}");
    let published = server.run(&["draft", "publish", "loose"]);
    published.succeeds(&["in force at revision", "it loosens"]);
    server
        .run(&["draft", "publish", "loose"])
        .fails(3, &["no open draft is called `loose`"]);
    let all = server.run(&["draft", "list", "--all", "-o", "json"]).json();
    assert_eq!(all[0]["state"], "published", "{all}");
    server.run(&["draft", "list"]).fails(0, &["none"]);
    let history = server
        .run(&["policy", "history", "--limit", "1", "-o", "json"])
        .json();
    assert_eq!(history[0]["message"], "For the tests");
    assert_eq!(history[0]["evidence"]["loosens"], true, "{history}");

    // Red cases block, and the draft stays.
    let ours = crate::cli::starter(server.path());
    fs::remove_file(ours.join("tools.cedar")).unwrap();
    server
        .run(&["policy", "publish", "starter"])
        .fails(4, &["it stays open as the draft `starter`"]);
    server
        .run(&["draft", "publish", "starter"])
        .fails(4, &["422"]);
    fs::write(ours.join("tools.cedar"), "permit (").unwrap();
    server
        .run(&["draft", "push", "starter", "starter"])
        .succeeds(&["it does not compile"]);
    server
        .run(&["draft", "check", "starter"])
        .fails(3, &["tools.cedar"]);
    server
        .run(&["draft", "publish", "starter"])
        .fails(3, &["tools.cedar"]);
    server
        .run(&["draft", "remove-policy", "starter", "nothing"])
        .fails(3, &["404"]);
    server
        .run(&["draft", "discard", "starter"])
        .fails(0, &["is discarded"]);
    server
        .run(&["draft", "show", "starter"])
        .fails(3, &["no open draft"]);
}

#[test]
fn what_loosens_is_published_by_two() {
    let server = Server::dev();
    let ana = person(&server, "ana", "author,publisher,admin");
    let ben = person(&server, "ben", "approver");
    server
        .run_as(&ana, &["settings", "set", "--second-person", "true"])
        .succeeds(&["second person: true"]);
    server
        .run_as(&ana, &["bundle", "pull", "ours"])
        .succeeds(&[]);
    fs::write(server.path().join("ours/more.cedar"), LOOSE).unwrap();
    server
        .run_as(&ana, &["bundle", "push", "ours"])
        .fails(6, &["403", "another person"]);
    let waits = server.run_as(&ana, &["policy", "publish", "ours", "--message", "By two"]);
    waits.fails(6, &["remit draft review ", "--approve --if-match 1"]);
    server
        .run_as(&ana, &["draft", "review", "ours", "--approve"])
        .fails(77, &["403"]);
    server
        .run_as(
            &ben,
            &["draft", "review", "ours", "--approve", "--if-match", "2"],
        )
        .fails(6, &["412"]);
    server
        .run_as(
            &ben,
            &["draft", "review", "ours", "--approve", "--message", "Fine"],
        )
        .succeeds(&["ben: approve ours"]);
    server
        .run_as(&ben, &["draft", "show", "ours"])
        .succeeds(&["approve by ben", "Fine"]);
    server
        .run_as(&ana, &["draft", "publish", "ours"])
        .succeeds(&["in force at revision"]);
    let history = server.run_as(&ana, &["policy", "history", "--limit", "1"]);
    history.succeeds(&["approved by", "ana", "ben", "By two"]);

    // It is behind now, and moves on.
    server
        .run_as(&ana, &["draft", "create", "late"])
        .succeeds(&["late"]);
    let plain = LOOSE.replace("permit", "forbid").replace("loose", "closed");
    fs::write(server.path().join("ours/closed.cedar"), plain).unwrap();
    server
        .run_as(&ana, &["policy", "publish", "ours"])
        .succeeds(&["in force at revision"]);
    server
        .run_as(&ana, &["draft", "list"])
        .succeeds(&["late", "behind"]);
    server
        .run_as(&ana, &["draft", "publish", "late"])
        .fails(6, &["rebase"]);
    server
        .run_as(&ana, &["draft", "rebase", "late"])
        .succeeds(&["late", "version 2"]);

    server
        .run_as(&ana, &["settings", "set", "--second-person", "false"])
        .succeeds(&["second person: true", "ana asks for false"]);
    server
        .run_as(&ana, &["settings", "confirm", "--second-person", "false"])
        .fails(77, &["403"]);
    server
        .run_as(&ben, &["settings", "confirm", "--second-person", "false"])
        .succeeds(&["second person: false"]);
    server
        .run_as(&ben, &["settings", "show", "-o", "json"])
        .succeeds(&["\"second_person\": false"]);
}
