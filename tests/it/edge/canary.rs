//! F42: canaries: secrets of every kind are used, and then looked for in everything that the process wrote or answered.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use remit_tests::contract::DOCUMENT;
use serde_json::{Value, json};

use super::{exchange, served};
use crate::cli::{command, folder, with};
use crate::serve::Server;

const PEPPER: &str = "canary-pepper-0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "canary-password-5b1c";
const TRACES: &str = "canary-traces-77d0";
const TOKEN: &str = "canary-token-90aa";
const COOKIE: &str = "canary-cookie-31fe";
const BASIC: &str = "Y2FuYXJ5OmJhc2ljLTQ0YTE=";

/// What was written or answered, by where.
type Outputs = BTreeMap<String, Vec<u8>>;

/// Sends a request with an `Authorization` of its own and keeps the answer.
fn ask(
    server: &Server,
    outputs: &mut Outputs,
    authorization: &str,
    method: &str,
    target: &str,
    body: &Value,
) -> Vec<u8> {
    let body = body.to_string();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nCookie: session={COOKIE}\r\nLast-Event-ID: none\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let came = exchange(server, request);
    assert_eq!(
        came.statuses().len(),
        1,
        "{method} {target}: {}",
        came.text()
    );
    let name = format!("answer {}: {method} {target}", outputs.len());
    outputs.insert(name, came.bytes.clone());
    came.responses().remove(0).body
}

/// Reads every file below a folder.
fn files(folder: &Path, outputs: &mut Outputs) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, outputs);
        } else {
            outputs.insert(format!("file {}", path.display()), fs::read(&path).unwrap());
        }
    }
}

/// Takes whatever is sent to it as traces, and answers that it is well.
fn collector() -> (String, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let mut all = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let mut buffer = vec![0; 64 << 10];
            let mut one = Vec::new();
            while let Ok(taken) = socket.read(&mut buffer) {
                if taken == 0 {
                    break;
                }
                one.extend_from_slice(&buffer[..taken]);
            }
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            if one == b"end" {
                return all;
            }
            // Its own credential belongs there.
            all.extend(
                String::from_utf8_lossy(&one)
                    .replace(TRACES, "")
                    .into_bytes(),
            );
        }
    });
    (url, thread)
}

/// Uses every operation as somebody who presents `authorization`.
fn every_operation(server: &Server, outputs: &mut Outputs, authorization: &str) {
    for (template, operations) in DOCUMENT["paths"].as_object().unwrap() {
        let path = template
            .replace("{type}", "Agent")
            .replace("{id}", "invoice-bot");
        for method in operations.as_object().unwrap().keys() {
            let target = format!("{path}?key={TOKEN}&access_token={TOKEN}");
            ask(
                server,
                outputs,
                authorization,
                &method.to_uppercase(),
                &target,
                &json!({}),
            );
            ask(
                server,
                outputs,
                authorization,
                &method.to_uppercase(),
                &path,
                &json!({}),
            );
        }
    }
}

#[test]
fn f42_no_secret_is_in_anything_that_is_written_or_answered() {
    let mut outputs = Outputs::new();
    let (traces, collected) = collector();
    let headers = format!("authorization={TRACES}");
    let server = served(&[
        ("REMIT__AUTH__PEPPER", PEPPER),
        ("REMIT__TELEMETRY__LEVEL", "trace"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &traces),
        ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
    ]);
    let own = format!("Bearer {}", server.key);
    let new = json!({ "name": "canary", "environment": "live", "scopes": ["evaluate", "search", "read", "write", "keys"] });
    let made = ask(&server, &mut outputs, &own, "POST", "/v1/keys", &new);
    // The one place where it is shown.
    outputs.clear();
    let made: Value = serde_json::from_slice(&made).unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let secret = key.split('_').nth(3).unwrap().to_owned();
    assert!(secret.len() >= 32, "{key}");
    let bearer = format!("Bearer {key}");
    every_operation(&server, &mut outputs, &bearer);
    every_operation(&server, &mut outputs, &format!("Bearer {TOKEN}"));
    every_operation(&server, &mut outputs, &format!("Basic {BASIC}"));
    // One of another shape, and one that is right but for its end.
    let mistaken = format!("Bearer {}x", &key[..key.len() - 1]);
    every_operation(&server, &mut outputs, &mistaken);
    let question: Value = serde_json::from_str(super::PERMITTED).unwrap();
    ask(
        &server,
        &mut outputs,
        &bearer,
        "POST",
        "/access/v1/evaluation",
        &question,
    );
    for target in ["/v1/keys", "/docs", "/openapi.json", "/v1/whoami"] {
        ask(&server, &mut outputs, &bearer, "GET", target, &Value::Null);
    }
    for target in [
        "/metrics",
        "/readyz",
        "/livez",
        "/debug/pprof",
        "/debug/vars",
        "/env",
        "/config",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let address = remit_tests::raw::address(&server.operations);
        let came = remit_tests::raw::exchange(address, request.as_bytes());
        outputs.insert(format!("operations {target}"), came.bytes);
    }
    for arguments in [
        &["key", "list"][..],
        &["doctor"],
        &["decisions", "list"],
        &["version"],
        &["-o", "json", "key", "list"],
    ] {
        let found = server.run_as(key, arguments);
        outputs.insert(
            format!("{arguments:?}"),
            (found.stdout + &found.stderr).into_bytes(),
        );
    }
    ask(
        &server,
        &mut outputs,
        &own,
        "DELETE",
        &format!("/v1/keys/{id}"),
        &Value::Null,
    );
    let shown = server.key.clone();
    let (code, dir) = server.stop();
    assert_eq!(code, Some(0));
    // The folder holds the log lines, the database, the spool and what the start said.
    files(dir.path(), &mut outputs);
    let end = traces.trim_start_matches("http://");
    std::net::TcpStream::connect(end)
        .unwrap()
        .write_all(b"end")
        .unwrap();
    let collected = collected.join().unwrap();
    assert!(!collected.is_empty(), "no traces came");
    outputs.insert("traces".to_owned(), collected);
    configured(&mut outputs);
    // The key of a development server is shown where it starts, so a secret that is written is found.
    let finds = |(_, bytes): (&String, &Vec<u8>)| String::from_utf8_lossy(bytes).contains(&shown);
    assert!(outputs.iter().any(finds), "{shown} is not found");
    scan(
        &[PEPPER, PASSWORD, TRACES, TOKEN, COOKIE, BASIC, &secret],
        &outputs,
    );
}

/// Adds what a server writes that waits for its database.
fn waiting(dir: &Path, variables: &[(&str, &str)], outputs: &mut Outputs) {
    let errors = dir.join("waiting");
    let mut child = command(dir, &["serve"])
        .envs(variables.iter().copied())
        .env("REMIT__TELEMETRY__LEVEL", "trace")
        .stdout(Stdio::null())
        .stderr(fs::File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(1_500));
    // One that cannot even wait has ended.
    let _ = child.kill();
    let _ = child.wait();
    outputs.insert(
        format!("waiting {}", outputs.len()),
        fs::read(errors).unwrap(),
    );
}

/// Adds what the commands say of a configuration with secrets in it, that cannot work besides.
fn configured(outputs: &mut Outputs) {
    let dir = folder();
    for url in [
        format!("postgres://remit:{PASSWORD}@127.0.0.1:1/remit"),
        format!("postgres://remit:{PASSWORD}@[::1/remit"),
        format!("mysql://remit:{PASSWORD}@127.0.0.1/remit"),
    ] {
        for arguments in [
            &["config", "show"][..],
            &["-o", "json", "config", "show"],
            &["config", "check"],
            &["doctor"],
            &["migrate"],
        ] {
            let variables = [
                ("REMIT__DATABASE__URL", url.as_str()),
                ("REMIT__AUTH__PEPPER", PEPPER),
                ("REMIT__DATABASE__DEADLINE_MS", "500"),
            ];
            let found = with(dir.path(), &variables, arguments);
            outputs.insert(
                format!("{arguments:?} {}", outputs.len()),
                (found.stdout + &found.stderr).into_bytes(),
            );
        }
        let variables = [
            ("REMIT__DATABASE__URL", url.as_str()),
            ("REMIT__AUTH__PEPPER", PEPPER),
        ];
        waiting(dir.path(), &variables, outputs);
    }
}

fn scan(secrets: &[&str], outputs: &Outputs) {
    let mut found = Vec::new();
    for (place, bytes) in outputs {
        let text = String::from_utf8_lossy(bytes);
        let here = secrets.iter().filter(|secret| text.contains(**secret));
        found.extend(here.map(|secret| format!("{secret} in {place}")));
    }
    let bytes: usize = outputs.values().map(Vec::len).sum();
    println!(
        "canary scan: {} secrets × {} outputs, {bytes} bytes, {} found",
        secrets.len(),
        outputs.len(),
        found.len()
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}
