//! The commands against a running server: an operator's day, from the first decision to the last key.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::cli::{command, folder, run, with};
use crate::serve::{Server, wait_for};

#[test]
fn decisions_are_asked_listed_shown_and_explained() {
    let server = Server::dev();
    let permit = server.run(&[
        "decide",
        "-s",
        "Agent:invoice-bot",
        "-a",
        "call",
        "-r",
        "Tool::\"mail.list\"",
    ]);
    permit.succeeds(&["permit  policy_permit", "reader-tools"]);
    let deny = server.run(&[
        "decide",
        "-s",
        "Agent:payroll-bot",
        "-a",
        "call",
        "-r",
        "Tool:mail.list",
        "-o",
        "json",
    ]);
    assert_eq!(deny.code, 2, "{}", deny.stderr);
    let id = deny.json()["context"]["evaluation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let wait = server.run(&[
        "decide",
        "-s",
        "Agent:invoice-bot",
        "-a",
        "pay",
        "-r",
        "Payee:FI2112345600000785",
        "--properties",
        "{\"amount\": 100001, \"currency\": \"EUR\"}",
    ]);
    assert_eq!(wait.code, 5, "{}{}", wait.stdout, wait.stderr);

    let all = server.run(&["decisions", "list", "-o", "ndjson"]);
    assert_eq!(all.stdout.lines().count(), 3, "{}", all.stdout);
    let denied = server
        .run(&[
            "decisions",
            "list",
            "--verdict",
            "deny",
            "--agent",
            "payroll-bot",
            "-o",
            "json",
        ])
        .json();
    assert_eq!(denied.as_array().unwrap().len(), 1);
    assert_eq!(denied[0]["id"], id.as_str());
    server
        .run(&["decisions", "list", "--policy", "nothing"])
        .fails(0, &["none"]);
    server.run(&["decisions", "show", &id]).succeeds(&[
        "policy_forbid",
        "active-agents",
        "Agent::\"payroll-bot\"",
    ]);
    server
        .run(&["decisions", "show", "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"])
        .fails(3, &["404"]);
    server
        .run(&["explain", &id])
        .succeeds(&["deny", "active-agents  satisfied, and settled it"]);

    server
        .run_as("remit_wrong", &["decisions", "list"])
        .fails(77, &["401", "help: check REMIT_KEY"]);
    let (code, dir) = server.stop();
    assert_eq!(code, Some(0));
    // All three were shipped before it ended; the spool is sound.
    run(dir.path(), &["log", "fsck", ".remit/spool"]).succeeds(&["sound"]);
}

#[test]
fn bundles_go_there_and_back_unchanged() {
    let server = Server::dev();
    server
        .run(&["bundle", "pull", "first"])
        .succeeds(&["added    schema.cedarschema"]);
    let hash = |dir: &str| {
        let pulled = server.run(&["bundle", "pull", dir, "--dry-run"]);
        pulled
            .stderr
            .split("sha256:")
            .nth(1)
            .unwrap()
            .trim()
            .to_owned()
    };
    let before = hash("first");
    server
        .run(&["bundle", "pull", "first"])
        .succeeds(&["nothing changed"]);
    let pushed = server.run(&["bundle", "push", "first", "-o", "json"]);
    pushed.succeeds(&[&format!("sha256:{before}")]);
    server.run(&["bundle", "pull", "second"]).succeeds(&[]);
    assert_eq!(hash("second"), before);

    // A changed folder goes back only with --force, and stale pushes are refused.
    let file = server.path().join("first/tools.cedar");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n// a remark\n")).unwrap();
    fs::write(server.path().join("first/extra.cedar"), "").unwrap();
    server
        .run(&["bundle", "pull", "first"])
        .fails(3, &["1 file would change and 1 file would go"]);
    server
        .run(&["bundle", "push", "first", "--dry-run"])
        .succeeds(&["would be accepted"]);
    server
        .run(&["bundle", "push", "first", "--if-match", "1"])
        .fails(6, &["412", "help: somebody else changed it"]);
    server
        .run(&["bundle", "pull", "first", "--force"])
        .succeeds(&["changed  tools.cedar", "removed  extra.cedar"]);

    let revision = server
        .run(&["bundle", "push", "second", "-o", "json"])
        .json()["revision"]
        .as_u64()
        .unwrap();
    fs::write(
        server.path().join("second/broken.cedar"),
        "@id(\"b\")\npermit (principal, action, resourc);\n",
    )
    .unwrap();
    server
        .run(&["bundle", "push", "second"])
        .fails(3, &["second/broken.cedar:2:", "is not valid"]);
    server
        .run(&["bundle", "push", "second", "--dry-run"])
        .fails(3, &["broken.cedar:2:"]);
    fs::remove_file(server.path().join("second/broken.cedar")).unwrap();
    let after = server.run(&[
        "bundle",
        "push",
        "second",
        "--if-match",
        &revision.to_string(),
    ]);
    after.succeeds(&["in force at revision"]);
}

#[test]
fn a_push_waits_for_the_fleet_and_names_who_is_missing() {
    let server = Server::start(
        folder(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
        &[("REMIT__REPLICA__NAME", "pdp-1")],
    );
    server
        .run(&["bundle", "pull", "ours"])
        .succeeds(&["added    schema.cedarschema"]);
    let push = ["bundle", "push", "ours", "--wait", "fleet"];
    server
        .run(&push)
        .succeeds(&["in force at revision", "on every live replica: pdp-1"]);
    let machine = server.run(&[&push[..], &["-o", "json"]].concat()).json();
    assert_eq!(machine["fleet"]["reached"], true);
    assert_eq!(machine["fleet"]["revision"], machine["revision"]);
    assert_eq!(machine["fleet"]["replicas"][0]["name"], "pdp-1");

    // Two more that the database knows of: one that lives and does not come along, and one that is long gone.
    let database = format!("sqlite:{}", server.path().join(".remit/remit.db").display());
    let insert = "INSERT INTO replicas (id, name, version, started_at, seen_at, lease, beats) VALUES \
        (randomblob(16), 'pdp-2', '0.1.0', 0, 4000000000000000, 5000000, 9), \
        (randomblob(16), 'pdp-3', '0.1.0', 0, 1700000000000000, 5000000, 9)";
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(remit_tests::sql::execute(&database, insert));
    let late = server.run(&[&push[..], &["--timeout", "6"]].concat());
    assert_eq!(late.code, 124, "{}{}", late.stdout, late.stderr);
    for told in [
        "in force at revision",
        "not on pdp-2, which is at revision 0",
        "lost, and not waited for: pdp-3",
    ] {
        assert!(late.stdout.contains(told), "{told}: {}", late.stdout);
    }
    server
        .run(&["bundle", "push", "ours", "--wait", "all"])
        .fails(64, &["[possible values: fleet]"]);
    server
        .run(&[&push[..], &["--dry-run"]].concat())
        .fails(64, &["cannot be used with"]);
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let server = Server::dev();
    let made = server.run(&[
        "key",
        "create",
        "reader",
        "--scopes",
        "read",
        "--env",
        "test",
        "--expires-in",
        "1d",
    ]);
    made.succeeds(&["remit_test_"]);
    let key = made.stdout.trim().to_owned();
    server.run_as(&key, &["decisions", "list"]).succeeds(&[]);
    server
        .run_as(
            &key,
            &["decide", "-s", "Agent:a", "-a", "call", "-r", "Tool:b"],
        )
        .fails(77, &["403", "evaluate"]);
    let keys = server.run(&["key", "list", "-o", "json"]).json();
    let listed = keys
        .as_array()
        .unwrap()
        .iter()
        .find(|listed| listed["name"] == "reader")
        .unwrap();
    assert!(
        listed["expires_at"].is_string() && listed.get("key").is_none(),
        "{listed}"
    );
    let id = listed["id"].as_str().unwrap();
    server.run(&["key", "list"]).succeeds(&["reader", "until "]);
    server.run(&["key", "revoke", id]).fails(0, &["is revoked"]);
    server.run(&["key", "list"]).succeeds(&["revoked "]);
    server
        .run_as(&key, &["decisions", "list"])
        .fails(77, &["401"]);
    server
        .run(&["key", "revoke", "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"])
        .fails(3, &["404"]);
}

#[test]
fn entities_are_imported_in_chunks_and_errors_name_the_line() {
    let server = Server::dev();
    let entity = |number: usize| {
        format!(
            "{{\"uid\": {{\"type\": \"Tool\", \"id\": \"t{number}\"}}, \"attrs\": {{\"reviewed\": true, \"environment\": \"production\"}}, \"parents\": []}}"
        )
    };
    let lines: Vec<_> = (0..250).map(entity).collect();
    fs::write(server.path().join("tools.ndjson"), lines.join("\n")).unwrap();
    let imported = server.run(&[
        "entities",
        "import",
        "tools.ndjson",
        "--chunk",
        "100",
        "-o",
        "json",
    ]);
    imported.succeeds(&[]);
    assert_eq!(imported.json()["written"], 250);
    assert_eq!(imported.json()["chunks"], 3);
    fs::write(
        server.path().join("tools.json"),
        format!("[{}]", lines[..10].join(",")),
    )
    .unwrap();
    server
        .run(&["entities", "import", "tools.json"])
        .succeeds(&["10 written"]);

    let mut wrong = lines.clone();
    wrong[7] = "{\"uid\": ".to_owned();
    fs::write(server.path().join("wrong.ndjson"), wrong.join("\n")).unwrap();
    server
        .run(&["entities", "import", "wrong.ndjson"])
        .fails(3, &["wrong.ndjson:8:", "not JSON"]);
    wrong[7] = entity(7).replace("true", "\"yes\"");
    fs::write(server.path().join("wrong.ndjson"), wrong.join("\n")).unwrap();
    server
        .run(&["entities", "import", "wrong.ndjson", "--chunk", "5"])
        .fails(3, &["entity 8 of the file; 5 applied before it"]);
    fs::write(server.path().join("empty.json"), "[]").unwrap();
    server
        .run(&["entities", "import", "empty.json"])
        .fails(3, &["holds no entities"]);
}

#[test]
fn the_doctor_sees_what_is_broken_and_what_to_do() {
    let dir = folder();
    let nobody = format!("http://{}", remit_tests::ports::free_address());
    let healthy = with(dir.path(), &[("REMIT_URL", &nobody)], &["doctor", "--dev"]);
    healthy.succeeds(&["✓ configuration", "✓ data folder", "! server"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::create_dir_all(dir.path().join("bundle")).unwrap();
    fs::write(dir.path().join("bundle/a.cedar"), "permit(").unwrap();
    fs::write(dir.path().join("not-a-folder"), "").unwrap();
    let broken = with(
        dir.path(),
        &[
            ("REMIT_URL", &nobody),
            ("REMIT__AUTH__PEPPER", "short"),
            (
                "REMIT__DATABASE__URL",
                "postgres://remit:hunter2@127.0.0.1:1/remit",
            ),
            ("REMIT__DATA__DIR", "not-a-folder"),
        ],
        &["doctor", "--bundle", "bundle", "-o", "json"],
    );
    drop(taken);
    assert_eq!(broken.code, 1, "{}{}", broken.stdout, broken.stderr);
    let examination = broken.json();
    assert_eq!(examination["healthy"], false);
    let failed: Vec<&str> = examination["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["state"] == "failed")
        .map(|check| {
            assert!(
                check["fix"].as_str().is_some_and(|fix| !fix.is_empty()),
                "{check}"
            );
            check["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(
        failed,
        ["pepper", "data folder", "database", "bundle"],
        "{examination}"
    );
    assert!(!broken.stdout.contains("hunter2"), "{}", broken.stdout);
    let config = with(
        dir.path(),
        &[("REMIT_URL", &nobody), ("REMIT__LOG__QUEUE", "x")],
        &["doctor"],
    );
    assert_eq!(config.code, 1);
    assert!(
        config.stdout.contains("✗ configuration") && config.stdout.contains("log.queue"),
        "{}",
        config.stdout
    );
}

#[test]
fn the_tail_shows_what_is_decided_and_ends_when_interrupted() {
    let server = Server::dev();
    let (out, err) = (
        server.path().join("tail.out"),
        server.path().join("tail.err"),
    );
    let mut tail = command(
        server.path(),
        &["decisions", "tail", "--verdict", "deny", "-o", "ndjson"],
    )
    .envs([("REMIT_URL", &server.url), ("REMIT_KEY", &server.key)])
    .stdout(fs::File::create(&out).unwrap())
    .stderr(fs::File::create(&err).unwrap())
    .spawn()
    .unwrap();
    wait_for(&mut tail, server.path(), || {
        fs::read_to_string(&err)
            .ok()
            .filter(|text| text.contains("waiting for decisions"))
    });
    server
        .run(&[
            "decide",
            "-s",
            "Agent:invoice-bot",
            "-a",
            "call",
            "-r",
            "Tool:mail.list",
        ])
        .succeeds(&[]);
    let deny = server.run(&[
        "decide",
        "-s",
        "Agent:payroll-bot",
        "-a",
        "call",
        "-r",
        "Tool:mail.list",
        "-o",
        "json",
    ]);
    let lines = wait_for(&mut tail, server.path(), || {
        fs::read_to_string(&out)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let shown: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(shown["id"], deny.json()["context"]["evaluation_id"]);
    let interrupted = Command::new("kill")
        .args(["-INT", &tail.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn a_draft_is_assessed_and_records_are_replayed() {
    let server = Server::dev();
    let home = folder();
    for (agent, tool) in [
        ("invoice-bot", "mail.list"),
        ("invoice-bot", "mail.list"),
        ("payroll-bot", "mail.list"),
    ] {
        let tool = format!("Tool:{tool}");
        server.run(&[
            "decide",
            "-s",
            &format!("Agent:{agent}"),
            "-a",
            "call",
            "-r",
            &tool,
        ]);
    }
    let draft = crate::cli::starter(home.path());
    let draft = draft.to_str().unwrap();
    let same = server.run(&["policy", "impact", draft]);
    same.succeeds(&["3 decisions from ", " made again: 0 differ"]);

    let rule = "@id(\"no-mail\") @owner(\"ops\") forbid (principal, action, resource == Tool::\"mail.list\");";
    fs::write(format!("{draft}/added.cedar"), rule).unwrap();
    let stricter = server.run(&["policy", "impact", draft, "--deny-loosening"]);
    stricter.succeeds(&[
        "newly denied  2",
        "permit policy_permit (reader-tools)",
        "deny policy_forbid (no-mail)",
        "made again: 3 differ",
    ]);

    let part = ["policy", "impact", draft, "--limit", "1"];
    server.run(&part).succeeds(&["there are more"]);
    let part = server.run(&[&part[..], &["--deny-loosening"]].concat());
    part.fails(
        6,
        &["not known whether it loosens: there are more decisions"],
    );

    fs::write(
        format!("{draft}/added.cedar"),
        "@id(\"all\") permit (principal, action, resource);",
    )
    .unwrap();
    for name in ["agents.cedar", "tools.cedar"] {
        fs::remove_file(format!("{draft}/{name}")).unwrap();
    }
    let looser = server.run(&["policy", "impact", draft, "--deny-loosening", "-o", "json"]);
    assert_eq!(looser.code, 6, "{}{}", looser.stdout, looser.stderr);
    assert_eq!(
        looser.json()["totals"]["newly_permitted"],
        1,
        "{}",
        looser.stdout
    );

    fs::write(format!("{draft}/added.cedar"), "permit (principal").unwrap();
    let broken = server.run(&["policy", "impact", draft]);
    assert_eq!(broken.code, 3, "{}", broken.stderr);
    assert!(broken.stderr.contains("added.cedar"), "{}", broken.stderr);

    let listed = server.run(&["decisions", "list", "-o", "json"]).json();
    let id = listed[0]["id"].as_str().unwrap();
    let case = server.run(&["decisions", "case", id]);
    case.succeeds(&[
        &format!("- name: decision {id}"),
        "reason: policy_forbid",
        "- active-agents",
    ]);
    let with_notes = server.run(&["decisions", "case", id, "-o", "json"]).json();
    assert_eq!(with_notes["passes"], true, "{with_notes}");
    let pulled = crate::cli::starter(server.path());
    fs::write(pulled.join("cases/recorded.yaml"), &case.stdout).unwrap();
    let tested = run(server.path(), &["policy", "test", "starter"]);
    tested.succeeds(&["110 of 110 cases passed"]);
    let unknown = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
    server
        .run(&["decisions", "case", unknown])
        .fails(3, &["404"]);

    let again = server.run(&["decisions", "replay"]);
    again.succeeds(&[
        "3 decisions made again under their own revisions: 3 came out the same, 0 otherwise; 0 could not be made again",
    ]);
}

/// Finds the revision of a line of `remit policy history`.
fn revision(line: &str) -> String {
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn versions_are_listed_compared_and_rolled_back_to() {
    let server = Server::dev();
    server.run(&["bundle", "pull", "ours"]).succeeds(&[]);
    let tools = server.path().join("ours/tools.cedar");
    let before = fs::read_to_string(&tools).unwrap();
    let changed = before
        .replace(
            "@severity(\"high\")\n@control(\"EN-08",
            "@severity(\"low\")\n@control(\"EN-08",
        )
        .replace("// Controls on tools.", "// A remark is no change.");
    assert_ne!(changed, before);
    fs::write(&tools, changed).unwrap();
    let added = "@id(\"added\")\n@owner(\"tests\")\nforbid (principal, action, resource)\nwhen { false };\n";
    fs::write(server.path().join("ours/added.cedar"), added).unwrap();
    let message = "a lower severity, für Maya";
    server
        .run(&["bundle", "push", "ours", "--message", message])
        .succeeds(&["in force at revision"]);

    let history = server.run(&["policy", "history"]);
    history.succeeds(&["revision", "message", message]);
    let lines: Vec<&str> = history.stdout.lines().collect();
    let (second, first) = (revision(lines[1]), revision(lines[2]));
    assert_eq!(lines.len(), 3, "{}", history.stdout);

    let diff = server.run(&["policy", "diff", &first]);
    remit_tests::golden::compare("tests/golden/policy_diff.txt", &diff.stdout);
    assert_eq!(diff.code, 0, "{}", diff.stderr);
    let json = server
        .run(&["policy", "diff", &second, &first, "-o", "json"])
        .json();
    assert_eq!(json["from"].to_string(), second);
    assert_eq!(json["to"].to_string(), first);
    let told: Vec<_> = json["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["change"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [("added", "removed"), ("managed-tools", "changed")]);
    server
        .run(&["policy", "diff", &first, &first])
        .fails(0, &["say the same"]);
    server.run(&["policy", "diff", "999"]).fails(3, &["404"]);

    server
        .run(&["policy", "rollback", &first, "--if-match", &first])
        .fails(6, &["412"]);
    server
        .run(&["policy", "rollback", "999"])
        .fails(3, &["revision 999 brought no bundle"]);
    server
        .run(&["policy", "rollback", &first, "--message", "two\nlines"])
        .fails(3, &["`message` must be one line"]);
    let back = [
        "policy",
        "rollback",
        &first,
        "--message",
        "as it was",
        "--wait",
        "fleet",
    ];
    server.run(&back).succeeds(&[
        &format!("is what revision {first} brought"),
        "on every live replica: ",
    ]);
    server
        .run(&["policy", "diff", &first])
        .fails(0, &["say the same"]);
    let history = server
        .run(&["policy", "history", "--limit", "1", "-o", "json"])
        .json();
    assert_eq!(history.as_array().unwrap().len(), 1);
    assert_eq!(history[0]["restores"].to_string(), first);
    assert_eq!(history[0]["message"], "as it was");
    assert!(history[0]["author"]["name"].is_string(), "{history}");
}
