//! `remit serve` and the commands against it: start, refusals to start, the whole day of an operator, a graceful stop.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Run, command, folder, run, starter, with};

/// How long a process may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server started the way a person does, through the command line alone.
struct Server {
    child: Child,
    dir: TempDir,
    url: String,
    operations: String,
    key: String,
}

impl Server {
    fn dev() -> Self {
        Self::start(
            folder(),
            &["serve", "--dev", "--listen", "127.0.0.1:0"],
            &[],
        )
    }

    fn start(dir: TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = spawn(dir.path(), arguments, variables);
        let ready = wait_for(&mut child, dir.path(), || {
            fs::read(dir.path().join("ready.json")).ok()
        });
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        Self {
            url: text("url"),
            operations: text("operations_url"),
            key: text("key"),
            child,
            dir,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command against it.
    fn run(&self, arguments: &[&str]) -> Run {
        self.run_as(&self.key, arguments)
    }

    fn run_as(&self, key: &str, arguments: &[&str]) -> Run {
        with(
            self.path(),
            &[("REMIT_URL", &self.url), ("REMIT_KEY", key)],
            arguments,
        )
    }

    fn output(&self) -> String {
        fs::read_to_string(self.path().join("stdout")).unwrap()
    }

    /// Asks it to stop, and returns its exit code and its folder.
    fn stop(mut self) -> (Option<i32>, TempDir) {
        terminate(&self.child);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                let dir = std::mem::replace(&mut self.dir, folder());
                return (status.code(), dir);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not stop");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    command(dir, arguments)
        .args(["--ready-file", "ready.json"])
        .envs(variables.iter().copied())
        .stdout(fs::File::create(dir.join("stdout")).unwrap())
        .stderr(fs::File::create(dir.join("stderr")).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Polls until there is something, failing when the process ends or time is up.
fn wait_for<T>(child: &mut Child, dir: &Path, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "{ended:?}\n{}",
            fs::read_to_string(dir.join("stderr")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(child: &Child) {
    let status = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Asks for a page without a key, over a plain socket.
fn status_of(url: &str, path: &str) -> u16 {
    use std::io::{Read, Write};
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_development_server_says_what_to_do_and_stops_cleanly() {
    let server = Server::dev();
    let banner = server.output();
    for part in [
        "Remit is ready.",
        &format!("listening on {}", server.url),
        "curl -s",
        &server.key,
        "remit decide -s",
    ] {
        assert!(banner.contains(part), "no `{part}` in:\n{banner}");
    }
    assert!(!banner.contains('\u{1b}'), "{banner}");
    let data = server.path().join(".remit");
    assert_eq!(mode(&data), 0o700);
    for file in ["pepper", "dev.key"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&server.path().join("ready.json")), 0o600);
    assert_eq!(status_of(&server.operations, "/readyz"), 200);

    // The examples of the banner work as they stand.
    let curl = banner
        .lines()
        .find(|line| line.trim_start().starts_with("-d "))
        .unwrap();
    let body: Value =
        serde_json::from_str(curl.trim().trim_start_matches("-d ").trim_matches('\'')).unwrap();
    let subject = body["subject"]["id"].as_str().unwrap();
    let flags = banner
        .lines()
        .find(|line| line.contains("remit decide"))
        .unwrap();
    assert!(flags.contains(subject), "{flags}");

    let (key, url) = (server.key.clone(), server.url.clone());
    let (code, dir) = server.stop();
    assert_eq!(code, Some(0));
    assert!(!dir.path().join("ready.json").exists());

    // The same folder has the same key, and another port.
    let again = Server::start(dir, &["serve", "--dev", "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(again.key, key);
    again
        .run(&[
            "decide",
            "-s",
            "Agent:invoice-bot",
            "-a",
            "call",
            "-r",
            "Tool:mail.list",
        ])
        .succeeds(&["permit"]);
    assert!(!url.is_empty());
}

#[test]
fn a_server_that_cannot_start_says_why_and_what_to_do() {
    let server = Server::dev();
    let port = server.url.strip_prefix("http://").unwrap();
    run(
        server.path(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
    )
    .fails(
        69,
        &[
            "is in use by another process",
            "help: stop the other `remit serve`",
        ],
    );
    let other = folder();
    run(other.path(), &["serve", "--dev", "--listen", port]).fails(
        69,
        &[
            &format!("cannot listen on `{port}`: another program already does"),
            "--listen 127.0.0.1:0 takes a free one",
        ],
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let operations = taken.local_addr().unwrap().to_string();
    run(
        other.path(),
        &[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--operations",
            &operations,
        ],
    )
    .fails(69, &["--operations 127.0.0.1:0"]);
    run(
        other.path(),
        &["serve", "--dev", "--listen", "0.0.0.0:7364"],
    )
    .fails(64, &["loopback addresses only"]);
    run(other.path(), &["serve"])
        .fails(3, &["auth.pepper_file: is not set", "openssl rand -hex 32"]);
    with(
        other.path(),
        &[("REMIT_DEV_KEY", "short")],
        &["serve", "--dev"],
    )
    .fails(3, &["needs 8 characters or more"]);
    with(
        other.path(),
        &[("REMIT_DEV_KEY", "long-enough")],
        &["serve"],
    )
    .fails(3, &["is for `serve --dev` only"]);
    let dev = with(
        other.path(),
        &[(
            "REMIT__DATABASE__URL",
            "postgres://remit:hunter2@127.0.0.1:1/remit",
        )],
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
    );
    dev.fails(69, &["cannot prepare the database"]);
    assert!(!dev.stderr.contains("hunter2"), "{}", dev.stderr);
}

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
fn a_production_server_gets_its_first_key_from_the_database() {
    let dir = folder();
    fs::write(
        dir.path().join("pepper"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    fs::set_permissions(dir.path().join("pepper"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(
        dir.path().join("remit.toml"),
        "[listen]\nhttp = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n[auth]\npepper_file = \"pepper\"\n",
    )
    .unwrap();
    run(dir.path(), &["serve", "--config", "remit.toml"])
        .fails(69, &["the database needs", "help: back the database up"]);
    run(
        dir.path(),
        &[
            "key",
            "create",
            "ops",
            "--scopes",
            "all",
            "--direct",
            "--config",
            "remit.toml",
        ],
    )
    .fails(69, &["the database needs"]);
    let pending = run(
        dir.path(),
        &["migrate", "--dry-run", "--config", "remit.toml"],
    );
    assert_eq!(pending.code, 6);
    run(dir.path(), &["migrate", "--config", "remit.toml"]).succeeds(&["applied: "]);
    run(dir.path(), &["migrate", "--config", "remit.toml"]).succeeds(&["up to date"]);
    run(
        dir.path(),
        &["key", "create", "ops", "--scopes", "all", "--direct"],
    )
    .fails(64, &["pepper"]);
    let made = run(
        dir.path(),
        &[
            "key",
            "create",
            "ops",
            "--scopes",
            "all",
            "--direct",
            "--config",
            "remit.toml",
        ],
    );
    made.succeeds(&["remit_live_"]);
    let key = made.stdout.trim().to_owned();
    let bundle = starter(dir.path());
    let server = Server::start(dir, &["serve", "--config", "remit.toml"], &[]);
    assert!(server.key.is_empty(), "a production server tells no key");
    assert!(
        server.output().contains("listening on http://127.0.0.1:"),
        "{}",
        server.output()
    );
    server
        .run_as(
            &key,
            &["decide", "-s", "Agent:a", "-a", "call", "-r", "Tool:b"],
        )
        .fails(69, &["503"]);
    server
        .run_as(&key, &["bundle", "push", bundle.to_str().unwrap()])
        .succeeds(&["in force at revision"]);
    let asked = server.run_as(
        &key,
        &[
            "decide",
            "-s",
            "Agent:invoice-bot",
            "-a",
            "call",
            "-r",
            "Tool:mail.list",
        ],
    );
    asked.succeeds(&["permit"]);
    let doctor = server.run_as(
        &key,
        &[
            "doctor",
            "--config",
            "remit.toml",
            "--bundle",
            bundle.to_str().unwrap(),
        ],
    );
    doctor.succeeds(&[
        "✓ pepper",
        "✓ database",
        "✓ migrations",
        "✓ server",
        "✓ key",
        "✓ readiness",
        "✓ bundle",
    ]);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn it_starts_without_its_database_and_waits_for_it() {
    let dir = folder();
    fs::write(
        dir.path().join("pepper"),
        "0123456789abcdef0123456789abcdef",
    )
    .unwrap();
    let operations = remit_tests::server::free_address();
    let mut child = spawn(
        dir.path(),
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--operations",
            &operations,
        ],
        &[
            ("REMIT__AUTH__PEPPER_FILE", "pepper"),
            (
                "REMIT__DATABASE__URL",
                "postgres://remit:hunter2@127.0.0.1:1/remit",
            ),
        ],
    );
    let stdout = dir.path().join("stdout");
    wait_for(&mut child, dir.path(), || {
        fs::read_to_string(&stdout)
            .ok()
            .filter(|text| text.contains("listening on"))
    });
    let url = format!("http://{operations}");
    assert_eq!(status_of(&url, "/livez"), 200);
    assert_eq!(status_of(&url, "/readyz"), 503);
    assert!(!dir.path().join("ready.json").exists());
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(
        log.contains("starting without it") && !log.contains("hunter2"),
        "{log}"
    );
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert!(
            event["level"].is_string() && event["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn the_doctor_sees_what_is_broken_and_what_to_do() {
    let dir = folder();
    let nobody = format!("http://{}", remit_tests::server::free_address());
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
