//! The real binary as a server: started on free ports in a folder of its own, stopped and removed with the test.
//!
//! When a test lets go of it, every decision that it recorded is made again from what it left ([`replay`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::ports::free_address;
use crate::replay::{self, Remains};

/// The key that the harness fixes.
pub const KEY: &str = "a-key-for-the-tests-only";

/// How long a server may take to be ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server is started again when another process took its port first.
const STARTS: usize = 5;

/// What a machine that stands still for some seconds must not make fail; a test that wants a deadline sets its own.
pub const UNHURRIED: [(&str, &str); 3] = [
    ("REMIT__DATABASE__DEADLINE_MS", "30000"),
    ("REMIT__LIMITS__BODY_DEADLINE_MS", "60000"),
    ("REMIT__LIMITS__REQUEST_DEADLINE_MS", "60000"),
];

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct Plan {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub struct Remit {
    /// Where it answers: `http://127.0.0.1:40123`.
    pub url: String,
    /// Where it tells its health.
    pub operations: String,
    /// The key to it.
    pub key: String,
    child: Child,
    folder: TempDir,
    http: reqwest::Client,
    database: Option<String>,
    data: PathBuf,
    /// Why its records are not made again when the test is over.
    excuse: OnceLock<&'static str>,
}

/// One answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

// === impl Plan ===

impl Plan {
    /// Loads the bundle in `folder` instead of the starter's.
    pub fn bundle(self, folder: &Path) -> Self {
        self.argument("--bundle").argument(folder.to_str().unwrap())
    }

    /// Adds an argument of `remit serve`.
    pub fn argument(mut self, text: &str) -> Self {
        self.arguments.push(text.to_owned());
        self
    }

    /// Sets a variable of its environment, such as `REMIT__DATABASE__URL`.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it ends or is not ready in time; what it wrote is in the message.
    pub async fn start(self) -> Remit {
        for attempt in 1.. {
            match self.try_start().await {
                Ok(remit) => return remit,
                // Another test may have taken the port between our look and the server's.
                Err(output) if attempt < STARTS && output.contains("cannot listen") => {}
                Err(output) => panic!("the server did not start:\n{output}"),
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn try_start(&self) -> Result<Remit, String> {
        let folder = TempDir::with_prefix("remit-test-").unwrap();
        let (http, operations) = (free_address(), free_address());
        let output = fs::File::create(folder.path().join("output")).unwrap();
        let child = Command::new(&self.binary)
            .args(["serve", "--dev"])
            .args(&self.arguments)
            .current_dir(folder.path())
            .env("REMIT_DEV_KEY", KEY)
            .env("REMIT__LISTEN__HTTP", &http)
            .env("REMIT__LISTEN__OPERATIONS", &operations)
            .env("REMIT__DATA__DIR", folder.path().join("data"))
            .envs(UNHURRIED)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let said = |name: &str| {
            let mut said = self.environment.iter().filter(|(known, _)| known == name);
            said.next_back().map(|(_, value)| value.clone())
        };
        let data = said("REMIT__DATA__DIR").map(PathBuf::from);
        let mut remit = Remit {
            url: format!("http://{http}"),
            operations: format!("http://{operations}"),
            key: KEY.to_owned(),
            child,
            http: client(),
            database: said("REMIT__DATABASE__URL"),
            data: data.unwrap_or_else(|| folder.path().join("data")),
            folder,
            excuse: OnceLock::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = remit
                .http
                .get(format!("{}/readyz", remit.operations))
                .send()
                .await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(remit);
            }
            if remit.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                remit.is_not_replayed("it did not start");
                return Err(remit.output());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

// === impl Remit ===

impl Remit {
    /// Plans a development server: SQLite in a temporary folder, the starter's bundle, a fixed key with every scope.
    pub fn dev(binary: &str) -> Plan {
        Plan {
            binary: PathBuf::from(binary),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Returns the folder of its data.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// Leaves the records as they are when the test is over, because it has damaged what they are made again from.
    pub fn is_not_replayed(&self, because: &'static str) {
        // The first reason is as good as another.
        let _ = self.excuse.set(because);
    }

    /// Returns what it has written on stdout and stderr.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Begins a request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
    }

    /// Waits until a revision of its first tenant is in force.
    ///
    /// # Panics
    ///
    /// When it is not in time.
    pub async fn reached(&self, revision: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = send(self.http.get(format!("{}/readyz", self.operations))).await;
            let page: Value = serde_json::from_slice(&ready.body).unwrap_or_default();
            if page["tenants"][0]["revision"].as_u64() >= Some(revision) {
                return;
            }
            assert!(Instant::now() < deadline, "not reached: {}", ready.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Gets `path`.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Posts JSON to `path`.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Asks it to stop, waits until it has, and returns how it ended.
    ///
    /// # Panics
    ///
    /// When it does not stop in time.
    pub async fn stop(mut self) -> ExitStatus {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "the server was gone already:\n{}",
            self.output()
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server does not stop:\n{}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Remit {
    /// Ends it, and fails the test where a decision that it recorded does not come out the same again.
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let file = self.data().join("remit.db");
        let nothing = self.database.is_none() && !file.exists();
        if thread::panicking() || self.excuse.get().is_some() || nothing {
            return;
        }
        let url = self.database.clone();
        let url = url.unwrap_or_else(|| format!("sqlite:{}", file.display()));
        let remains = Remains {
            database: crate::sql::patient(url),
            spool: self.data().join("spool"),
            least: 0,
        };
        if let Err(wrong) = replay::all(remains) {
            panic!("{wrong}");
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Reads the body as JSON.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Reads the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request and reads the answer.
///
/// # Panics
///
/// When there is none.
pub async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: answer.bytes().await.unwrap().to_vec(),
    }
}

/// Makes a client that sends nothing of its own accord.
pub fn client() -> reqwest::Client {
    // The one choice of a TLS implementation in the process; a second one is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}
