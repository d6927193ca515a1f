//! `remit tenant`, and the two roles of a Postgres database, through the command line alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use remit_tests::postgres::Postgres;
use serde_json::Value;

use crate::cli::{folder, starter, with};
use crate::serve::Server;

fn configure(dir: &std::path::Path, more: &str) {
    fs::write(dir.join("pepper"), "p".repeat(64)).unwrap();
    fs::set_permissions(dir.join("pepper"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[listen]\nhttp = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n[auth]\npepper_file = \"pepper\"\n{more}"
    );
    fs::write(dir.join("remit.toml"), text).unwrap();
}

/// Makes a key straight in the database.
fn key(dir: &std::path::Path, name: &str, scopes: &str) -> String {
    let arguments = [
        "key",
        "create",
        name,
        "--scopes",
        scopes,
        "--direct",
        "--config",
        "remit.toml",
    ];
    let made = with(dir, &[], &arguments);
    made.succeeds(&["remit_live_"]);
    made.stdout.trim().to_owned()
}

#[test]
fn an_operator_makes_suspends_exports_and_deletes_a_tenant() {
    let dir = folder();
    configure(dir.path(), "");
    with(dir.path(), &[], &["migrate", "--config", "remit.toml"]).succeeds(&["applied"]);
    let operator = key(dir.path(), "operator", "tenants");
    let all = key(dir.path(), "ops", "all");
    let bundle = starter(dir.path());
    let server = Server::start(dir, &["serve", "--config", "remit.toml"], &[]);
    let run = |arguments: &[&str]| server.run_as(&operator, arguments);
    server
        .run_as(&all, &["tenant", "list"])
        .fails(77, &["403", "tenants"]);

    let made = run(&["tenant", "create", "acme", "--env", "test"]);
    made.succeeds(&["remit_test_"]);
    assert!(made.stderr.contains("keep its key"), "{}", made.stderr);
    let first = made.stdout.trim().to_owned();
    run(&["tenant", "create", "acme"]).fails(3, &["409", "already"]);
    server
        .run_as(&first, &["bundle", "push", bundle.to_str().unwrap()])
        .succeeds(&["in force at revision"]);
    let ask = [
        "decide",
        "-s",
        "Agent:invoice-bot",
        "-a",
        "call",
        "-r",
        "Tool:mail.list",
    ];
    server.run_as(&first, &ask).succeeds(&["permit"]);

    let listed = run(&["tenant", "list", "-o", "json"]).json();
    let tenants = listed.as_array().unwrap();
    assert_eq!(tenants.len(), 2, "{listed}");
    let id = tenants[1]["id"].as_str().unwrap().to_owned();
    run(&["tenant", "list"]).succeeds(&["acme", "active", &id]);

    run(&["tenant", "delete", &id, "--name", "acme"]).fails(3, &["409", "suspend it first"]);
    run(&["tenant", "suspend", &id]).succeeds(&["is suspended"]);
    server.run_as(&first, &ask).fails(77, &["403", "suspended"]);
    run(&["tenant", "resume", &id]).succeeds(&["is active"]);
    server.run_as(&first, &ask).succeeds(&["permit"]);
    run(&["tenant", "suspend", &id]).succeeds(&["is suspended"]);

    run(&["tenant", "export", &id, "--out", "acme.ndjson"]).succeeds(&[]);
    let text = fs::read_to_string(server.path().join("acme.ndjson")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["tenant"]["id"], id.as_str());
    assert_eq!(lines.last().unwrap()["end"]["rows"]["bundles"], 1);
    let streamed = run(&["tenant", "export", &id]);
    // Its decisions may have been shipped meanwhile.
    assert!(
        streamed.stdout.lines().count() >= lines.len(),
        "{}",
        streamed.stderr
    );

    run(&["tenant", "delete", &id, "--name", "Acme"]).fails(3, &["400", "name"]);
    run(&["tenant", "delete", &id, "--name", "acme"]).succeeds(&["is deleted"]);
    server.run_as(&first, &ask).fails(77, &[]);
    run(&["tenant", "suspend", &id]).fails(3, &["404"]);
    run(&["tenant", "list"]).succeeds(&["default"]);
    // Each of it stands in the log, with the id of the tenant and of the key that did it.
    let log = fs::read_to_string(server.path().join("stderr")).unwrap();
    for action in ["create", "suspend", "resume", "export", "delete", "erase"] {
        let action = format!("{action}_tenant");
        let line = log
            .lines()
            .find(|line| line.contains(&action) && line.contains(&id));
        let line = line.unwrap_or_else(|| panic!("no {action} in:\n{log}"));
        assert!(line.contains("remit::admin"), "{line}");
    }
    assert_eq!(server.stop().0, Some(0));
}

/// The server as a role that owns nothing: migrated by the other, and everything works.
#[test]
fn the_server_runs_as_a_role_that_owns_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(roles) = runtime.block_on(Postgres::database_of_roles()) else {
        return;
    };
    let dir = folder();
    let database = format!(
        "[database]\nurl = \"{}\"\nmigrate_url = \"{}\"\n",
        roles.app, roles.owner
    );
    configure(dir.path(), &database);
    let config = ["--config", "remit.toml"];
    let on = |arguments: &[&str]| with(dir.path(), &[], &[arguments, &config].concat());
    let pending = on(&["migrate", "--dry-run"]);
    assert_eq!(pending.code, 6, "{}", pending.stderr);
    assert!(pending.stdout.contains("0015_row_security"));
    on(&["migrate"]).succeeds(&["applied", "0015_row_security"]);
    on(&["migrate"]).succeeds(&["up to date"]);
    // Nothing else is in place yet, so that it does not end well.
    let doctor = on(&["doctor"]).stdout;
    assert!(doctor.contains("binds `remit_app`"), "{doctor}");
    let alone = with(
        dir.path(),
        &[("REMIT__DATABASE__URL", &roles.owner)],
        &["doctor", "--config", "remit.toml"],
    );
    assert!(
        alone.stdout.contains("`remit_owner` owns the tables"),
        "{}",
        alone.stdout
    );
    let alone = with(
        dir.path(),
        &[("REMIT__DATABASE__URL", &roles.admin)],
        &["doctor", "--config", "remit.toml"],
    );
    assert!(
        alone.stdout.contains("`remit` is a superuser"),
        "{}",
        alone.stdout
    );
    on(&["migrate", "--force-row-security"]).succeeds(&[]);
    let alone = with(
        dir.path(),
        &[("REMIT__DATABASE__URL", &roles.owner)],
        &["doctor", "--config", "remit.toml"],
    );
    assert!(
        alone.stdout.contains("binds `remit_owner`"),
        "{}",
        alone.stdout
    );
    on(&["migrate", "--no-force-row-security"]).succeeds(&[]);
    on(&["migrate", "--force-row-security", "--no-force-row-security"])
        .fails(64, &["cannot be used with"]);

    // An owner of another database is noticed, and so is one beside SQLite.
    let other = runtime.block_on(Postgres::database_of_roles()).unwrap();
    let elsewhere = [("REMIT__DATABASE__URL", other.app.as_str())];
    with(
        dir.path(),
        &elsewhere,
        &["migrate", "--config", "remit.toml"],
    )
    .fails(3, &["is not the database of"]);
    let beside = [("REMIT__DATABASE__URL", "sqlite:remit.db")];
    with(dir.path(), &beside, &["migrate", "--config", "remit.toml"])
        .fails(3, &["SQLite, which has no roles"]);

    let all = key(dir.path(), "ops", "all");
    let bundle = starter(dir.path());
    let server = Server::start(dir, &["serve", "--migrate", "--config", "remit.toml"], &[]);
    server
        .run_as(&all, &["bundle", "push", bundle.to_str().unwrap()])
        .succeeds(&["in force at revision"]);
    let ask = [
        "decide",
        "-s",
        "Agent:invoice-bot",
        "-a",
        "call",
        "-r",
        "Tool:mail.list",
    ];
    server.run_as(&all, &ask).succeeds(&["permit"]);
    let listed = server.run_as(&all, &["decisions", "list", "-o", "ndjson"]);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stderr);
    assert_eq!(server.stop().0, Some(0));
}
