//! The edge: what the real binary makes of clients that are too large, too slow, or mean something else than they say.
//!
//! A name begins with its row of the failure table, as in `survive`: F24 is sizes, F25 slow clients, F27 HTTP/2, F28
//! smuggled requests, F29 paths, F41 the lines of the log, F42 secrets. Slow clients by a tool of others, and smuggling
//! through proxies, are in `tests/chaos`.

mod canary;
mod http2;
mod lines;
mod paths;
mod sizes;
mod slow;
mod smuggled;

use std::fs;

use remit_tests::raw;
use serde_json::Value;

use crate::cli::folder;
use crate::serve::Server;

/// A question that the starter's bundle permits.
const PERMITTED: &str = r#"{"subject":{"type":"Agent","id":"invoice-bot"},"action":{"name":"call"},"resource":{"type":"Tool","id":"mail.list"}}"#;

/// Starts a development server that logs JSON, with settings of its own.
fn served(variables: &[(&str, &str)]) -> Server {
    let mut all = vec![("REMIT__TELEMETRY__FORMAT", "json")];
    all.extend_from_slice(variables);
    Server::start(
        folder(),
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
        &all,
    )
}

/// Sends bytes to it on a connection of their own and returns everything that comes until that is closed.
fn exchange(server: &Server, bytes: impl AsRef<[u8]>) -> raw::Exchange {
    raw::exchange(raw::address(&server.url), bytes.as_ref())
}

/// The head of a question, up to further fields.
fn head(server: &Server) -> String {
    format!(
        "POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        server.key
    )
}

/// A whole question, after which the connection is closed.
fn ask(server: &Server) -> String {
    let length = PERMITTED.len();
    format!(
        "{}Connection: close\r\nContent-Length: {length}\r\n\r\n{PERMITTED}",
        head(server)
    )
}

/// Asserts that it still answers a whole question.
#[track_caller]
fn answers(server: &Server) {
    let came = exchange(server, ask(server));
    assert_eq!(came.statuses(), [200], "{}", came.text());
}

/// Asks for JSON with the server's key.
fn get(server: &Server, path: &str) -> Value {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        server.key
    );
    let came = exchange(server, request);
    let answer = came.responses().remove(0);
    assert_eq!(answer.status, 200, "{}", came.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Returns what a process holds in memory now, in bytes.
fn resident(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap();
    kilobytes.parse::<usize>().unwrap() << 10
}
