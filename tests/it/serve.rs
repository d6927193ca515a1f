//! `remit serve`: what it says when it starts, when it cannot, and how it stops.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remit_tests::replay::{self, Remains};
use remit_tests::server::UNHURRIED;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Run, command, folder, run, starter, with};

/// How long a process may take to do what is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server started the way a person does, through the command line alone.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    pub(crate) operations: String,
    pub(crate) key: String,
}

impl Server {
    pub(crate) fn dev() -> Self {
        Self::start(
            folder(),
            &["serve", "--dev", "--listen", "127.0.0.1:0"],
            &[],
        )
    }

    pub(crate) fn start(dir: TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
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

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_as(&self.key, arguments)
    }

    pub(crate) fn run_as(&self, key: &str, arguments: &[&str]) -> Run {
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
    pub(crate) fn stop(mut self) -> (Option<i32>, TempDir) {
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

    /// Kills it, and returns its folder.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_file(self.path().join("ready.json")).unwrap();
        std::mem::replace(&mut self.dir, folder())
    }
}

impl Drop for Server {
    /// Ends it, and fails the test where a decision that it recorded does not come out the same again.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let data = self.path().join(".remit");
        let file = data.join("remit.db");
        // A server that is told of another folder or database is another test's matter.
        if std::thread::panicking() || !file.exists() {
            return;
        }
        let remains = Remains {
            database: remit_tests::sql::patient(format!("sqlite:{}", file.display())),
            spool: data.join("spool"),
            least: 0,
        };
        if let Err(wrong) = replay::all(remains) {
            panic!("{wrong}");
        }
    }
}

fn spawn(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    command(dir, arguments)
        .args(["--ready-file", "ready.json"])
        .envs(UNHURRIED)
        .envs(variables.iter().copied())
        .stdout(fs::File::create(dir.join("stdout")).unwrap())
        .stderr(fs::File::create(dir.join("stderr")).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Polls until there is something, failing when the process ends or time is up.
pub(crate) fn wait_for<T>(child: &mut Child, dir: &Path, look: impl Fn() -> Option<T>) -> T {
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

/// Writes a pepper as an editor does, with a line end.
pub(crate) fn write_pepper(dir: &Path, mode: u32) {
    let path = dir.join("pepper");
    fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
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
fn a_production_server_gets_its_first_key_from_the_database() {
    let dir = folder();
    write_pepper(dir.path(), 0o600);
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
    write_pepper(dir.path(), 0o600);
    let operations = remit_tests::ports::free_address();
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
fn a_stop_under_load_fails_no_request_in_flight() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let server = Server::dev();
    let stopping = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (host, key) = (host.clone(), server.key.clone());
            let (stopping, answered) = (Arc::clone(&stopping), Arc::clone(&answered));
            std::thread::spawn(move || {
                loop {
                    match evaluate(&host, &key) {
                        Some(200) => answered.fetch_add(1, Ordering::SeqCst),
                        // Refused at the door is what a stopping server does; cut off in the middle is not.
                        None if stopping.load(Ordering::SeqCst) => return,
                        other => panic!("a request was answered {other:?}"),
                    };
                }
            })
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while answered.load(Ordering::SeqCst) < 50 {
        assert!(Instant::now() < deadline, "no answers");
        std::thread::sleep(Duration::from_millis(5));
    }
    stopping.store(true, Ordering::SeqCst);
    let (code, dir) = server.stop();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(code, Some(0));
    // Every answer is in the database: what was given is listed by the next start.
    let again = Server::start(dir, &["serve", "--dev", "--listen", "127.0.0.1:0"], &[]);
    let listed = again.run(&["decisions", "list", "--limit", "100000", "-o", "ndjson"]);
    assert_eq!(
        listed.stdout.lines().count(),
        answered.load(Ordering::SeqCst)
    );
}

/// Asks one question on a connection of its own; `None` when no request could be sent.
fn evaluate(host: &str, key: &str) -> Option<u16> {
    use std::io::{Read, Write};
    let body = r#"{"subject":{"type":"Agent","id":"invoice-bot"},"action":{"name":"call"},"resource":{"type":"Tool","id":"mail.list"}}"#;
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A connection that waited to be accepted when the listener closed is reset before it is a request.
    stream.read_to_end(&mut answer).ok()?;
    if answer.is_empty() {
        return None;
    }
    String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

#[test]
fn a_second_signal_ends_it_at_once() {
    use std::io::{Read, Write};
    let mut server = Server::dev();
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    // A request that never ends keeps the first signal waiting.
    let mut stream = std::net::TcpStream::connect(&host).unwrap();
    write!(
        stream,
        "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        server.key
    )
    .unwrap();
    // Said once the handler waits for the body.
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100");
    terminate(&server.child);
    let stderr = server.path().join("stderr");
    wait_for(&mut server.child, server.dir.path(), || {
        fs::read_to_string(&stderr)
            .ok()
            .filter(|text| text.contains("stopping"))
    });
    terminate(&server.child);
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}

#[test]
fn it_becomes_ready_when_its_postgres_comes() {
    let Some(mut postgres) = remit_tests::postgres::Postgres::start() else {
        return;
    };
    let url = postgres.fresh_database();
    postgres.stop();
    let dir = folder();
    write_pepper(dir.path(), 0o600);
    let arguments = ["serve", "--migrate", "--listen", "127.0.0.1:0"];
    let variables = [
        ("REMIT__AUTH__PEPPER_FILE", "pepper"),
        ("REMIT__DATABASE__URL", url.as_str()),
    ];
    let mut child = spawn(dir.path(), &arguments, &variables);
    let stdout = dir.path().join("stdout");
    wait_for(&mut child, dir.path(), || {
        fs::read_to_string(&stdout)
            .ok()
            .filter(|text| text.contains("listening on"))
    });
    assert!(!dir.path().join("ready.json").exists());
    postgres.restart();
    let back = Instant::now();
    wait_for(&mut child, dir.path(), || {
        fs::read(dir.path().join("ready.json")).ok()
    });
    assert!(
        back.elapsed() < Duration::from_secs(20),
        "ready only after {:?}",
        back.elapsed()
    );
    let made = with(
        dir.path(),
        &variables,
        &["key", "create", "ops", "--scopes", "all", "--direct"],
    );
    made.succeeds(&["remit_live_"]);
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
