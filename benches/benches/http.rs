//! Server CPU per decision over HTTP, against a handler that only parses the same body.
//!
//! Two servers run side by side and are measured in turn, A B A B …: the `remit` binary, which records every decision
//! durably before it answers, and this program itself as an axum handler that parses the body into a typed struct and
//! answers a constant. The load is 64 keep-alive connections from one thread, closed loop; every answer is checked.
//! The figure is the CPU time of the server's threads (`/proc/PID/task/*/schedstat`) divided by its answers.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
const KEY: &str = "bench-key-of-the-http-benchmark";

fn main() {
    if std::env::args().any(|argument| argument == "--parse-only") {
        return parse_only();
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let remit = Server::remit(folder.path());
    let limit = Server::parse_only(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");

    let request = |server: &Server, body: &str| {
        format!(
            "POST /access/v1/evaluation HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            server.address,
            body.len()
        )
        .into_bytes()
    };
    let permit = r#"{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"},"context":{"time":"2026-11-22T10:00:00Z","ip":"192.0.2.7"}}"#;
    let targets = [
        (&limit, request(&limit, permit)),
        (&remit, request(&remit, permit)),
    ];

    let mut figures = [Vec::new(), Vec::new()];
    for (server, bytes) in &targets {
        runtime.block_on(load(server.address, bytes, Duration::from_millis(500)));
    }
    for _ in 0..ROUNDS {
        for ((server, bytes), figures) in targets.iter().zip(&mut figures) {
            let before = server.cpu();
            let start = Instant::now();
            let mut latencies = runtime.block_on(load(server.address, bytes, ROUND));
            let elapsed = start.elapsed();
            let cpu = server.cpu() - before;
            latencies.sort_unstable();
            let answers = latencies.len().max(1) as f64;
            figures.push(Figure {
                cpu_us: cpu.as_secs_f64() * 1e6 / answers,
                per_second: answers / elapsed.as_secs_f64(),
                p50_ms: at(&latencies, 0.50),
                p99_ms: at(&latencies, 0.99),
            });
        }
    }

    println!(
        "{CONNECTIONS} connections, {ROUNDS} rounds of {} s each, in turn; medians",
        ROUND.as_secs()
    );
    println!(
        "{:<44} {:>16} {:>9} {:>8} {:>8} {:>7}",
        "server", "CPU us/answer", "per s", "p50 ms", "p99 ms", "MiB"
    );
    for (name, (server, _), figures) in [
        (
            "axum, body parsed into a struct, constant",
            &targets[0],
            &figures[0],
        ),
        (
            "remit, decided and durably recorded",
            &targets[1],
            &figures[1],
        ),
    ] {
        let cpu = column(figures, |figure| figure.cpu_us);
        println!(
            "{name:<44} {:>7.1} ({:.0}-{:.0}) {:>9.0} {:>8.2} {:>8.2} {:>7.1}",
            median(&cpu),
            cpu.first().copied().unwrap_or(0.0),
            cpu.last().copied().unwrap_or(0.0),
            median(&column(figures, |figure| figure.per_second)),
            median(&column(figures, |figure| figure.p50_ms)),
            median(&column(figures, |figure| figure.p99_ms)),
            server.resident_mib(),
        );
    }
    let ratio = |of: fn(&Figure) -> f64| {
        median(&column(&figures[1], of)) / median(&column(&figures[0], of))
    };
    println!(
        "ratio: {:.2} x the CPU, {:.2} x the throughput",
        ratio(|f| f.cpu_us),
        ratio(|f| f.per_second)
    );
}

struct Figure {
    cpu_us: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn column(figures: &[Figure], of: impl Fn(&Figure) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn at(sorted: &[Duration], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted
        .get(index)
        .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

// === the load ===

/// Keeps every connection busy for `time` and returns the latency of each answer.
async fn load(address: SocketAddr, request: &[u8], time: Duration) -> Vec<Duration> {
    let until = Instant::now() + time;
    let tasks = (0..CONNECTIONS).map(|_| {
        let request = request.to_vec();
        tokio::task::spawn(connection(address, request, until))
    });
    let tasks: Vec<_> = tasks.collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(
            task.await
                .expect("a connection ends")
                .expect("a connection works"),
        );
    }
    latencies
}

async fn connection(
    address: SocketAddr,
    request: Vec<u8>,
    until: Instant,
) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut buffer = Vec::with_capacity(4_096);
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(&request).await?;
        buffer.clear();
        loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            if let Some(body) = body(&buffer) {
                assert!(
                    buffer.starts_with(b"HTTP/1.1 200"),
                    "{}",
                    String::from_utf8_lossy(&buffer)
                );
                let permitted = body
                    .windows(15)
                    .any(|window| window == b"\"decision\":true");
                assert!(
                    permitted,
                    "a wrong answer: {}",
                    String::from_utf8_lossy(body)
                );
                break;
            }
        }
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// Returns the body of a response once it is whole.
fn body(buffer: &[u8]) -> Option<&[u8]> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end])
        .ok()?
        .to_ascii_lowercase();
    let length: usize = head
        .split("content-length:")
        .nth(1)?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()?;
    buffer.get(end..end + length)
}

// === the servers ===

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn remit(folder: &Path) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the root");
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "--bin", "remit"])
            .current_dir(root)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the remit binary does not build");
        let ready = folder.join("ready.json");
        let child = Command::new(beside_this("remit"))
            .args([
                "serve",
                "--dev",
                "--listen",
                "127.0.0.1:0",
                "--operations",
                "127.0.0.1:0",
                "--bundle",
            ])
            .arg(root.join("policies/authzen-certification"))
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .env("REMIT_DEV_KEY", KEY)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("remit starts");
        #[derive(Deserialize)]
        struct Ready {
            url: String,
        }
        let ready: Ready = serde_json::from_str(&wait_for(&ready)).expect("the ready file is JSON");
        let address = ready
            .url
            .trim_start_matches("http://")
            .trim_end_matches('/');
        Self {
            child,
            address: address.parse().expect("an address"),
        }
    }

    fn parse_only(folder: &Path) -> Self {
        let ready = folder.join("parse-only.txt");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--parse-only", ready.to_str().expect("a path in UTF-8")])
            .spawn()
            .expect("the parse-only server starts");
        let address = wait_for(&ready).parse().expect("an address");
        Self { child, address }
    }

    /// Returns the CPU time of the server's threads so far.
    fn cpu(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut total = 0;
        for task in std::fs::read_dir(tasks).expect("the server runs") {
            let path = task.expect("a thread").path().join("schedstat");
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(path) else {
                continue;
            };
            total += text
                .split(' ')
                .next()
                .and_then(|first| first.parse::<u64>().ok())
                .unwrap_or(0);
        }
        Duration::from_nanos(total)
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
            / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside_this(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program");
    this.parent()
        .and_then(Path::parent)
        .expect("target/release")
        .join(name)
}

fn wait_for(file: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(
                Instant::now() < until,
                "{} was not written in 30 s",
                file.display()
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

// === the limit ===

/// Serves the handler that only parses: what no decision service over HTTP and JSON can be cheaper than.
fn parse_only() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "parsing into it is the work that is measured")]
    struct Body {
        subject: Entity,
        action: Action,
        resource: Entity,
        #[serde(default)]
        context: serde_json::Map<String, serde_json::Value>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "parsing into it is the work that is measured")]
    struct Entity {
        #[serde(rename = "type")]
        kind: String,
        id: String,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "parsing into it is the work that is measured")]
    struct Action {
        name: String,
    }
    async fn answer(body: axum::body::Bytes) -> ([(&'static str, &'static str); 1], &'static str) {
        match serde_json::from_slice::<Body>(&body) {
            Ok(_) => (
                [("content-type", "application/json")],
                r#"{"decision":true}"#,
            ),
            Err(_) => (
                [("content-type", "application/json")],
                r#"{"decision":false}"#,
            ),
        }
    }
    let ready = std::env::args()
        .skip_while(|argument| argument != "--parse-only")
        .nth(1)
        .expect("a file");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut file = std::fs::File::create(ready).expect("the ready file");
        file.write_all(address.as_bytes()).expect("the ready file");
        let router =
            axum::Router::new().route("/access/v1/evaluation", axum::routing::post(answer));
        axum::serve(listener, router).await.expect("serving");
    });
}
