//! F41: text that wants to be more than text: one event stays one line of the log, and nothing steers a terminal.

use std::fs;

use serde_json::{Value, json};

use super::{exchange, served};
use crate::cli::{folder, run};
use crate::serve::Server;

/// What has forged lines, hidden text or steered terminals elsewhere.
const HOSTILE: [&str; 10] = [
    "a\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "a\n2026-01-01T00:00:00.000000Z ERROR remit: forged",
    "a\",\"message\":\"forged\",\"x\":\"",
    "\u{1b}[2J\u{1b}[1;31mred\u{1b}[0m",
    "\u{1b}]0;title\u{7}\u{9b}31m",
    "\u{202e}detrever\u{2066}\u{200f}\u{200e}\u{61c}",
    "a\u{2028}b\u{2029}c\u{85}d",
    "nul \0 back \u{8} delete \u{7f}",
    "${jndi:ldap://x/a} %s%n {} {{0}}",
    "'; DROP TABLE decisions; --",
];

/// Percent-encodes every byte.
fn encoded(text: &str) -> String {
    let bytes = text.bytes();
    bytes.fold(String::new(), |all, byte| format!("{all}%{byte:02x}"))
}

fn send(server: &Server, method: &str, target: &str, field: &str, body: &Value) {
    let body = body.to_string();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{field}\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        server.key,
        body.len()
    );
    let came = exchange(server, request);
    assert_eq!(
        came.statuses().len(),
        1,
        "{method} {target}: {}",
        came.text()
    );
}

#[test]
fn f41_every_line_of_the_log_is_one_event_whatever_is_sent() {
    let server = served(&[("REMIT__TELEMETRY__LEVEL", "debug")]);
    let mut sent = 0;
    for text in HOSTILE {
        let subject = json!({ "type": "Agent", "id": text });
        let question = json!({ "subject": subject, "action": { "name": text }, "resource": { "type": "Tool", "id": text } });
        let entity = format!("/v1/entities/{}/{}", encoded(text), encoded(text));
        let listed = format!("/v1/decisions?action={}&{}=1", encoded(text), encoded(text));
        let key = json!({ "name": text, "environment": text, "scopes": [text] });
        let bundle = json!({ "schema": [], "policies": [{ "file": text, "text": text }] });
        for (method, target, body) in [
            ("POST", "/access/v1/evaluation", question.clone()),
            (
                "POST",
                "/access/v1/evaluation",
                json!({ text: text, "subject": text }),
            ),
            ("POST", "/access/v1/search/resource", question),
            ("GET", listed.as_str(), Value::Null),
            ("PUT", entity.as_str(), json!({ "attrs": { text: text } })),
            (
                "POST",
                "/v1/entities/bulk",
                json!([{ "uid": subject, "parents": [subject] }]),
            ),
            ("POST", "/v1/keys", key),
            ("POST", "/v1/bundle/check", bundle),
        ] {
            send(&server, method, target, "", &body);
            sent += 1;
        }
        // No line end, or it would be a field of its own.
        let value = text.replace(['\r', '\n', '\0'], " ");
        for name in [
            "User-Agent",
            "X-Request-Id",
            "Traceparent",
            "X-Forwarded-For",
            "Referer",
        ] {
            let field = format!("{name}: {value}\r\n");
            send(&server, "GET", "/v1/whoami", &field, &json!({}));
        }
    }
    let (_, dir) = server.stop();
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    let mut requests = 0;
    for line in log.lines() {
        let mut values = serde_json::Deserializer::from_str(line).into_iter::<Value>();
        let event = values
            .next()
            .unwrap()
            .unwrap_or_else(|why| panic!("{why}: {line:?}"));
        assert!(values.next().is_none(), "more than one event: {line:?}");
        for member in ["timestamp", "level", "target"] {
            assert!(event[member].is_string(), "no {member}: {line:?}");
        }
        assert!(
            event["message"] != "forged" && event["level"] != "ERROR",
            "{line:?}"
        );
        assert!(
            !line.contains(|one: char| one.is_ascii_control()),
            "{line:?}"
        );
        requests += usize::from(event["message"] == "request");
    }
    assert!(requests >= sent, "{sent} requests, {requests} events");
    println!(
        "log lines: {} lines, each one event; {requests} requests",
        log.lines().count()
    );
}

#[test]
fn f41_an_error_of_the_command_line_does_not_steer_the_terminal() {
    let dir = folder();
    for text in HOSTILE.iter().filter(|text| !text.contains(['\0', '/'])) {
        for arguments in [
            ["policy", "validate", text],
            ["bundle", "push", text],
            ["serve", "--config", text],
        ] {
            let found = run(dir.path(), &arguments);
            let odd = |one: char| {
                (one.is_control() && one != '\n')
                    || matches!(one, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            assert_ne!(found.code, 0, "{arguments:?}");
            assert!(
                !found.stderr.contains(odd),
                "{arguments:?}: {:?}",
                found.stderr
            );
            assert!(
                !found.stdout.contains(odd),
                "{arguments:?}: {:?}",
                found.stdout
            );
        }
    }
}
