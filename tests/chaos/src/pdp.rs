//! The real binary as a production server: made ready in a folder of its own, started, broken, started again.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_tests::ports::free_address;
use remit_tests::server::{self, Answer, client, send};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a process may take to do what is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server is started again when another process took its port first.
const STARTS: usize = 5;

/// How a server is started: each start of the same plan has the same folder, and ports of its own.
#[derive(Debug, Clone)]
pub struct Plan {
    binary: PathBuf,
    folder: Arc<TempDir>,
    /// Folders of other plans, which hold the pepper of this one.
    peers: Vec<Arc<TempDir>>,
    environment: Vec<(String, String)>,
    /// A program and its arguments that a server is started by; empty where it is started as it is.
    wrapper: Vec<String>,
    key: String,
}

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub struct Pdp {
    /// Where it answers.
    pub url: String,
    /// Where it tells its health.
    pub operations: String,
    /// The key to it.
    pub key: String,
    child: Child,
    output: PathBuf,
    http: reqwest::Client,
    /// Kept for as long as the server runs, also when its plan is dropped before it.
    _folder: Arc<TempDir>,
}

/// Returns the path of the binary under test: `REMIT_BIN`, or the one that `cargo build` puts beside this test.
///
/// # Panics
///
/// When there is none.
pub fn binary() -> PathBuf {
    built("REMIT_BIN", "remit")
}

/// Returns the path of a binary of this build, or the one that a variable of the environment names.
///
/// # Panics
///
/// When there is none.
pub fn built(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            test.parent().and_then(Path::parent).unwrap().join(name)
        },
        PathBuf::from,
    );
    let shown = path.display();
    assert!(
        path.is_file(),
        "there is no `{shown}`; `cargo build -p remit-server --features controls`, or set {variable}"
    );
    path
}

// === impl Plan ===

impl Plan {
    /// Plans a server on the database at `url`, in a new folder.
    pub fn new(url: &str) -> Self {
        let folder = TempDir::with_prefix("remit-chaos-").unwrap();
        let pepper = folder.path().join("pepper");
        fs::write(&pepper, "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::set_permissions(&pepper, fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            binary: binary(),
            folder: Arc::new(folder),
            peers: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            key: String::new(),
        }
        .set("REMIT__AUTH__PEPPER_FILE", pepper.to_str().unwrap())
        .set("REMIT__DATABASE__URL", url)
    }

    /// Migrates the database, makes the first key, and puts the starter bundle in force.
    ///
    /// # Panics
    ///
    /// When a step of it fails.
    pub async fn prepared(self) -> Self {
        let plan = self.migrated().with_key();
        let pdp = plan.spawn();
        // The starter bundle is what the README's first steps push.
        let pack = remit_tests::root().join("policies/starter");
        // Ready without a bundle: its key has been read.
        pdp.until_ready().await;
        plan.run_as(&pdp, &["bundle", "push", pack.to_str().unwrap()]);
        pdp.until_ready().await;
        assert!(pdp.stop().await.success());
        plan
    }

    /// Brings the database up to date.
    pub fn migrated(self) -> Self {
        self.run(&["migrate"]);
        self
    }

    /// Makes a key with every scope straight in the database; the server is then asked with it.
    pub fn with_key(mut self) -> Self {
        let made = self.run(&["key", "create", "chaos", "--scopes", "all", "--direct"]);
        String::from_utf8(made.stdout)
            .unwrap()
            .trim()
            .clone_into(&mut self.key);
        self
    }

    /// Sets a variable of the environment, such as `REMIT__DATABASE__URL`; the last value counts.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Plans another replica on the same database: another folder, the same pepper and key.
    pub fn beside(&self) -> Self {
        let folder = TempDir::with_prefix("remit-chaos-").unwrap();
        Self {
            folder: Arc::new(folder),
            peers: [&self.peers[..], &[Arc::clone(&self.folder)]].concat(),
            ..self.clone()
        }
    }

    /// Switches protections off, by the names that `remit-controls` knows them under.
    pub fn without(mut self, protections: &str) -> Self {
        self.binary = built("REMIT_CONTROLS_BIN", "remit-controls");
        self.set("REMIT_CONTROLS", protections)
    }

    /// Has another program start the server, such as `strace`, which is given the server's command line as well.
    ///
    /// It must leave its place to the server, as `strace -D` does: the process started is the one that is killed.
    pub fn under(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    /// Returns the folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the folder of its spool.
    pub fn spool(&self) -> PathBuf {
        self.data().join("spool")
    }

    /// Returns the key that the server is asked with.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Runs a command of the binary in the server's environment.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Runs a command of the binary against a running server.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run_as(&self, pdp: &Pdp, arguments: &[&str]) -> Output {
        let asking = self
            .clone()
            .set("REMIT_URL", &pdp.url)
            .set("REMIT_KEY", &self.key);
        asking.run(arguments)
    }

    /// Returns the command, ready to be spawned with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self
            .wrapper
            .iter()
            .map(OsStr::new)
            .chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("REMIT__DATA__DIR", self.data())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Starts the server and does not wait for anything.
    pub fn spawn(&self) -> Pdp {
        let (http, operations) = (free_address(), free_address());
        // Two may run in one folder, where that is what is tested.
        let output = self.folder.path().join(format!("output-{http}"));
        let file = fs::File::create(&output).unwrap();
        let child = self
            .command(&["serve"])
            .env("REMIT__LISTEN__HTTP", &http)
            .env("REMIT__LISTEN__OPERATIONS", &operations)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Pdp {
            url: format!("http://{http}"),
            operations: format!("http://{operations}"),
            key: self.key.clone(),
            child,
            output,
            http: client(),
            _folder: Arc::clone(&self.folder),
        }
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it ends or is not ready in time; what it wrote is in the message.
    pub async fn start(&self) -> Pdp {
        for _ in 0..STARTS {
            let mut pdp = self.spawn();
            let until = Instant::now() + PATIENCE;
            loop {
                if pdp.ready().await.is_some_and(|answer| answer.status == 200) {
                    return pdp;
                }
                let ended = pdp.child.try_wait().unwrap();
                // Another test may have taken the port between our look and the server's.
                if ended.is_some() && pdp.output().contains("cannot listen") {
                    break;
                }
                let waiting = ended.is_none() && Instant::now() < until;
                assert!(waiting, "{ended:?}:\n{}", pdp.output());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        panic!("no port is free")
    }
}

// === impl Pdp ===

impl Pdp {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has written on stdout and stderr since it was started.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Begins a request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
    }

    /// Gets `path`.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Asks whether the starter's agent may list mail, which it may.
    pub async fn ask(&self) -> Answer {
        self.ask_as(&self.key).await
    }

    /// Asks the same with another key.
    pub async fn ask_as(&self, key: &str) -> Answer {
        let request = self.http.post(format!("{}/access/v1/evaluation", self.url));
        send(request.bearer_auth(key).json(&question("invoice-bot"))).await
    }

    /// Returns what the operations port says on `path`; `None` when it cannot be reached.
    pub async fn operations(&self, path: &str) -> Option<Answer> {
        let request = self.http.get(format!("{}{path}", self.operations));
        let answer = request.send().await.ok()?;
        Some(Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await.ok()?.to_vec(),
        })
    }

    /// Returns its readiness; `None` when nobody answers.
    pub async fn ready(&self) -> Option<Answer> {
        self.operations("/readyz").await
    }

    /// Returns the page of its readiness.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn readiness(&self) -> (u16, Value) {
        let answer = self.ready().await.unwrap();
        (answer.status, answer.json())
    }

    /// Returns the value of a metric that has no labels.
    ///
    /// # Panics
    ///
    /// When there is no such metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut page = self.operations("/metrics").await;
        if page.is_none() {
            // The connection that was kept may have been closed for standing idle; a new one is made for a second try.
            page = self.operations("/metrics").await;
        }
        let text = page
            .unwrap_or_else(|| panic!("no metrics:\n{}", self.output()))
            .text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no `{name}` in\n{text}"))
            .parse()
            .unwrap()
    }

    /// Waits until it is ready, and returns how long that took.
    pub async fn until_ready(&self) -> Duration {
        self.until("it is ready", || async {
            self.ready()
                .await
                .is_some_and(|answer| answer.status == 200)
        })
        .await
    }

    /// Waits until it is not ready, and returns how long that took.
    pub async fn until_unready(&self) -> Duration {
        self.until("it is not ready", || async {
            self.ready()
                .await
                .is_some_and(|answer| answer.status == 503)
        })
        .await
    }

    /// Waits until `what` is so, and returns how long that took.
    ///
    /// # Panics
    ///
    /// When it does not come to that in time; what the server wrote is in the message.
    pub async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        so: impl Fn() -> F,
    ) -> Duration {
        let began = Instant::now();
        while !so().await {
            assert!(
                began.elapsed() < PATIENCE,
                "never: {what}\n{}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    /// Sends a signal to it, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns how it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to stop, waits until it has, and returns how it ended.
    ///
    /// # Panics
    ///
    /// When it does not stop in time.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < until,
                "it does not stop:\n{}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Pdp {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks whether an agent may list mail: the starter lets `invoice-bot`, and nobody who is not registered.
pub fn question(agent: &str) -> Value {
    json!({
        "subject": { "type": "Agent", "id": agent },
        "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    })
}

/// Makes a client that gives up after `patience`.
pub fn patient_client(patience: Duration) -> reqwest::Client {
    // The harness's own client chooses the TLS implementation of the process.
    drop(server::client());
    reqwest::Client::builder()
        .no_proxy()
        .timeout(patience)
        .build()
        .unwrap()
}
