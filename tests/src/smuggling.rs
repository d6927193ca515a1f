//! A corpus of requests that two servers in a row could understand differently.
//!
//! Each one asks a question about an agent of its own, and many carry a second request inside. Whatever stands in
//! front, the second one must never be served, and one answer with 200 is one record.

use std::net::SocketAddr;
use std::thread;

use crate::raw::{self, Exchange};

/// How many are sent at the same time.
pub const AT_A_TIME: usize = 16;

/// One request of the corpus.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is odd about it.
    pub name: &'static str,
    /// The bytes, with names in braces for what differs from run to run.
    template: &'static str,
    /// The statuses that Remit itself answers with, one after the other on the connection.
    pub direct: &'static [u16],
}

/// What came of one case.
#[derive(Debug)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// The agent that the outer request asks about.
    pub front: String,
    /// The agent that the request inside asks about.
    pub inside: String,
    /// What came back.
    pub exchange: Exchange,
}

macro_rules! cases {
    ($($name:literal: $template:expr => $direct:expr;)*) => {
        &[$(Case { name: $name, template: $template, direct: &$direct }),*]
    };
}

/// A question with nothing odd about it, after which the connection is closed.
pub const PLAIN: Case = Case {
    name: "a plain question",
    template: "{head}Connection: close\r\nContent-Length: {n}\r\n\r\n{good}",
    direct: &[200],
};

/// Two requests in a row, which any server serves: it shows that a second request would be noticed.
pub const PIPELINED: Case = Case {
    name: "two requests in a row",
    template: "{head}Content-Length: {n}\r\n\r\n{good}{inside}",
    direct: &[200, 200],
};

/// The corpus. `{chunked}` is the question as one chunk, `{inside}` a whole second request of `{m}` bytes.
pub const CORPUS: &[Case] = cases! {
    "plain": "{head}Content-Length: {n}\r\n\r\n{good}" => [200];
    "plain chunks": "{head}Transfer-Encoding: chunked\r\n\r\n{chunked}" => [200];
    "a coding in capitals": "{head}Transfer-Encoding: CHUNKED\r\n\r\n{chunked}" => [200];
    "a tab before the coding": "{head}Transfer-Encoding:\tchunked\r\n\r\n{chunked}" => [200];
    "a line feed before the request": "\r\n{head}Content-Length: {n}\r\n\r\n{good}" => [200];
    "a chunk extension": "{head}Transfer-Encoding: chunked\r\n\r\n{x};a=b\r\n{good}\r\n0\r\n\r\n" => [200];
    "a chunk size with zeros": "{head}Transfer-Encoding: chunked\r\n\r\n000{x}\r\n{good}\r\n000\r\n\r\n" => [200];
    "the target as a whole URL": "POST http://elsewhere/access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [200];
    // RFC 9112 §2.2 lets a server take a lone line feed as the end of a line.
    "lone line feeds": "POST /access/v1/evaluation HTTP/1.1\nHost: {host}\nAuthorization: Bearer {key}\nContent-Type: application/json\nContent-Length: {n}\n\n{good}" => [200];
    "lone line feeds and both framings": "POST /access/v1/evaluation HTTP/1.1\nHost: {host}\nAuthorization: Bearer {key}\nContent-Type: application/json\nContent-Length: {z}\nTransfer-Encoding: chunked\n\n0\r\n\r\n{inside}" => [400];

    // One body, two framings.
    "length and chunks": "{head}Content-Length: {z}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}" => [400];
    "chunks and length": "{head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{x}\r\n{good}\r\n0\r\n\r\n{inside}" => [400];
    "both in capitals": "{head}CONTENT-LENGTH: {z}\r\nTRANSFER-ENCODING: chunked\r\n\r\n0\r\n\r\n{inside}" => [400];
    "both, the coding after a tab": "{head}Content-Length: {z}\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n{inside}" => [400];
    "both, a lone line feed between": "{head}X: y\nContent-Length: {z}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}" => [400];
    "a length of nothing and chunks": "{head}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{inside}" => [400];
    "chunks in HTTP/1.0": "POST /access/v1/evaluation HTTP/1.0\r\nHost: {host}\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{chunked}{inside}" => [400];
    "chunks and length in HTTP/1.0": "POST /access/v1/evaluation HTTP/1.0\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n\r\n{good}{inside}" => [400];

    // A coding that one server knows and the other does not.
    "an unknown coding": "{head}Transfer-Encoding: xchunked\r\n\r\n{chunked}{inside}" => [400];
    "identity": "{head}Transfer-Encoding: identity\r\n\r\n{chunked}{inside}" => [400];
    "gzip": "{head}Transfer-Encoding: gzip\r\n\r\n{chunked}" => [400];
    "gzip, then chunks": "{head}Transfer-Encoding: gzip, chunked\r\n\r\n{chunked}" => [400];
    "identity, then chunks": "{head}Transfer-Encoding: identity, chunked\r\n\r\n{chunked}" => [400];
    "chunks, then identity": "{head}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}" => [400];
    "chunks twice": "{head}Transfer-Encoding: chunked, chunked\r\n\r\n{chunked}" => [400];
    "two codings in two lines": "{head}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}" => [400];
    "chunks twice in two lines": "{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}" => [400];
    "an empty coding": "{head}Transfer-Encoding:\r\n\r\n{chunked}" => [400];
    "a quoted coding": "{head}Transfer-Encoding: \"chunked\"\r\n\r\n{chunked}" => [400];
    "a coding with a comma": "{head}Transfer-Encoding: ,chunked\r\n\r\n{chunked}" => [400];
    "a coding with a parameter": "{head}Transfer-Encoding: chunked;q=1\r\n\r\n{chunked}" => [400];
    "a coding with a vertical tab": "{head}Transfer-Encoding: \u{b}chunked\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a coding on a folded line": "{head}Transfer-Encoding:\r\n chunked\r\nContent-Length: {z}\r\n\r\n0\r\n\r\n{inside}" => [400];
    "a space before the colon of the coding": "{head}Transfer-Encoding : chunked\r\nContent-Length: {z}\r\n\r\n0\r\n\r\n{inside}" => [400];
    "a coding inside another field": "{head}X: y\rTransfer-Encoding: chunked\r\nContent-Length: {z}\r\n\r\n0\r\n\r\n{inside}" => [400];
    "a coding with an underscore": "{head}Transfer_Encoding: chunked\r\nContent-Length: {n}\r\n\r\n{good}" => [200];

    // A length that two servers read differently.
    "two lengths": "{head}Content-Length: {n}\r\nContent-Length: 5\r\n\r\n{good}{inside}" => [400];
    "two lengths in a list": "{head}Content-Length: {n}, 5\r\n\r\n{good}{inside}" => [400];
    "the same length in a list": "{head}Content-Length: {n}, {n}\r\n\r\n{good}" => [400];
    "a length with a plus": "{head}Content-Length: +{n}\r\n\r\n{good}{inside}" => [400];
    "a length below nothing": "{head}Content-Length: -1\r\n\r\n{good}{inside}" => [400];
    "a hexadecimal length": "{head}Content-Length: 0x10\r\n\r\n{good}{inside}" => [400];
    "a length with a space in it": "{head}Content-Length: 1 0\r\n\r\n{good}{inside}" => [400];
    "a length with a point": "{head}Content-Length: {n}.0\r\n\r\n{good}{inside}" => [400];
    "an empty length": "{head}Content-Length:\r\n\r\n{good}{inside}" => [400];
    "a length beyond 64 bits": "{head}Content-Length: 18446744073709551617\r\n\r\n{good}{inside}" => [400];
    "a space before the colon of the length": "{head}Content-Length : {n}\r\n\r\n{good}{inside}" => [400];
    "a length on a folded line": "{head}Content-Length:\r\n {n}\r\n\r\n{good}{inside}" => [400];

    // Chunks that two servers cut differently.
    "a hexadecimal prefix": "{head}Transfer-Encoding: chunked\r\n\r\n0x{x}\r\n{good}\r\n0\r\n\r\n" => [400];
    "a chunk below nothing": "{head}Transfer-Encoding: chunked\r\n\r\n-{x}\r\n{good}\r\n0\r\n\r\n{inside}" => [400];
    "a chunk beyond 64 bits": "{head}Transfer-Encoding: chunked\r\n\r\n100000000000000{x}\r\n{good}\r\n0\r\n\r\n{inside}" => [400];
    "a chunk without a size": "{head}Transfer-Encoding: chunked\r\n\r\n\r\n{good}\r\n0\r\n\r\n{inside}" => [400];
    "a chunk without its end": "{head}Transfer-Encoding: chunked\r\n\r\n{x}\r\n{good}0\r\n\r\n{inside}" => [400];
    "a chunk size that ends in a line feed": "{head}Transfer-Encoding: chunked\r\n\r\n{x}\n{good}\r\n0\r\n\r\n{inside}" => [400];
    "a chunk that ends in a line feed": "{head}Transfer-Encoding: chunked\r\n\r\n{x}\r\n{good}\n0\r\n\r\n{inside}" => [400];
    "a line feed in a chunk extension": "{head}Transfer-Encoding: chunked\r\n\r\n{x};a\n{good}\r\n0\r\n\r\n{inside}" => [400];
    "a second request in a chunk": "{head}Transfer-Encoding: chunked\r\n\r\n{y}\r\n{inside}\r\n0\r\n\r\n" => [400];

    // A request that ends early, with another one in its body.
    "a read with a body": "GET /v1/whoami HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {m}\r\n\r\n{inside}" => [200];
    // Its chunk holds a line that begins with `Content-Length`, which is taken for the request's own: the safe mistake.
    "a read with chunks": "GET /v1/whoami HTTP/1.1\r\nHost: {host}\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{y}\r\n{inside}\r\n0\r\n\r\n" => [400];
    "no key and a body": "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {m}\r\n\r\n{inside}" => [401];
    "no route and a body": "POST /nowhere HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {m}\r\n\r\n{inside}" => [404];
    "a body of another type": "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: text/plain\r\nContent-Length: {m}\r\n\r\n{inside}" => [400];
    "a body that is a request": "{head}Content-Length: {m}\r\n\r\n{inside}" => [400];
    "a switch that is not made": "{head}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {n}\r\n\r\n{good}" => [200];
    "a tunnel": "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n{inside}" => [400];

    // Who is meant.
    "no host": "POST /access/v1/evaluation HTTP/1.1\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "no host in HTTP/1.0": "POST /access/v1/evaluation HTTP/1.0\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "two hosts": "{head}Host: elsewhere\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "the same host twice": "{head}Host: {host}\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a host with a user": "POST /access/v1/evaluation HTTP/1.1\r\nHost: a@{host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "an empty host": "POST /access/v1/evaluation HTTP/1.1\r\nHost:\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a host with a path": "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}/v1\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "two keys": "{head}Authorization: Bearer other\r\nContent-Length: {n}\r\n\r\n{good}" => [401];
    "two keys in a list": "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}, Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {n}\r\n\r\n{good}" => [401];
    "two media types": "{head}Content-Type: text/plain\r\nContent-Length: {n}\r\n\r\n{good}" => [400];

    // Bytes that do not belong there.
    "a zero byte in a value": "{head}X: a\0b\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a zero byte in a name": "{head}X\0: a\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a zero byte in the target": "POST /access/v1/evaluation\0 HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a lone carriage return in a value": "{head}X: a\rb\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a space in a name": "{head}X Y: a\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a field without a colon": "{head}X\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a field without a name": "{head}: a\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a folded line": "{head}X: a\r\n b\r\nContent-Length: {n}\r\n\r\n{good}" => [400];
    "a space before the first field": "POST /access/v1/evaluation HTTP/1.1\r\n Host: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a name beyond ASCII": "{head}Xé: a\r\nContent-Length: {n}\r\n\r\n{good}" => [400];

    // The first line.
    "a version that is none": "POST /access/v1/evaluation HTTP/1.9\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a version in lower case": "POST /access/v1/evaluation http/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "HTTP/2.0 on the line": "POST /access/v1/evaluation HTTP/2.0\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "no version": "POST /access/v1/evaluation\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "two spaces": "POST  /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a space in the target": "POST /access/v1/evaluation x HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a method in lower case": "post /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [405];
    "a method that is none": "GE(T /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];
    "a target without its slash": "POST access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {n}\r\n\r\n{good}" => [400];

    // Names that elsewhere stand for the caller, the address, the method or the tenant.
    "forwarded": "{head}Forwarded: for=127.0.0.1;host=elsewhere;proto=https\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: elsewhere\r\nX-Real-IP: 127.0.0.1\r\nContent-Length: {n}\r\n\r\n{good}" => [200];
    "another address": "{head}X-Original-URL: /v1/keys\r\nX-Rewrite-URL: /v1/keys\r\nX-Forwarded-Prefix: /v1\r\nContent-Length: {n}\r\n\r\n{good}" => [200];
    "another method": "{head}X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\nContent-Length: {n}\r\n\r\n{good}" => [200];
    "another caller without a key": "POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-User: root\r\nX-Remote-User: root\r\nRemote-User: root\r\nX-Forwarded-Client-Cert: URI=spiffe://a/root\r\nX-Authenticated-Userid: root\r\nX-Remit-Tenant: default\r\nX-Api-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {n}\r\n\r\n{good}" => [401];
    "a field named away": "{head}Connection: close, Authorization\r\nContent-Length: {n}\r\n\r\n{good}" => [200];
};

// === impl Case ===

impl Case {
    /// Writes the bytes of the request.
    fn bytes(&self, number: usize, host: &str, key: &str) -> (Vec<u8>, String, String) {
        let (front, inside) = (format!("front-{number}"), format!("inside-{number}"));
        let auth = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
        let head = format!("POST /access/v1/evaluation HTTP/1.1\r\nHost: {host}\r\n{auth}");
        let (good, second) = (question(&front), question(&inside));
        let second = format!("{head}Content-Length: {}\r\n\r\n{second}", second.len());
        let (n, x) = (good.len().to_string(), format!("{:x}", good.len()));
        let (m, y) = (second.len().to_string(), format!("{:x}", second.len()));
        let z = (second.len() + "0\r\n\r\n".len()).to_string();
        let chunked = format!("{x}\r\n{good}\r\n0\r\n\r\n");
        let mut text = self.template.to_owned();
        for (name, value) in [
            ("{head}", &head),
            ("{auth}", &auth),
            ("{good}", &good),
            ("{chunked}", &chunked),
            ("{inside}", &second),
            ("{host}", &host.to_owned()),
            ("{key}", &key.to_owned()),
            ("{n}", &n),
            ("{x}", &x),
            ("{m}", &m),
            ("{y}", &y),
            ("{z}", &z),
        ] {
            text = text.replace(name, value);
        }
        (text.into_bytes(), front, inside)
    }
}

/// Writes a question about an agent; every one of them is denied and recorded, because nobody registered it.
pub fn question(agent: &str) -> String {
    format!(
        r#"{{"subject":{{"type":"Agent","id":"{agent}"}},"action":{{"name":"call"}},"resource":{{"type":"Tool","id":"mail.list"}}}}"#
    )
}

/// Sends one case under a number of its own.
///
/// # Panics
///
/// When nobody listens.
pub fn send_one(case: Case, number: usize, address: SocketAddr, key: &str) -> Outcome {
    let (bytes, front, inside) = case.bytes(number, &address.to_string(), key);
    Outcome {
        case,
        front,
        inside,
        exchange: raw::exchange_until_quiet(address, &bytes),
    }
}

/// Sends each case on a connection of its own, a few at a time.
///
/// # Panics
///
/// When nobody listens.
pub fn send(cases: &[Case], address: SocketAddr, key: &str) -> Vec<Outcome> {
    let numbered: Vec<(usize, Case)> = cases.iter().copied().enumerate().collect();
    let mut outcomes = Vec::new();
    for some in numbered.chunks(AT_A_TIME) {
        outcomes.extend(thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|(number, case)| scope.spawn(move || send_one(*case, *number, address, key)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        }));
    }
    outcomes
}

/// One recorded decision: its id, and the agent it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The id of the decision.
    pub id: String,
    /// The id of its subject.
    pub agent: String,
}

/// Reads what was recorded out of a page of `GET /v1/decisions`.
pub fn recorded(page: &serde_json::Value) -> Vec<Recorded> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let records = page["decisions"].as_array().map_or(&[][..], Vec::as_slice);
    records
        .iter()
        .map(|record| Recorded {
            id: text(&record["id"]),
            agent: text(&record["question"]["subject"]["id"]),
        })
        .collect()
}

/// Returns what is wrong: a request inside that was served, an answer without its record, a record without its answer.
pub fn faults(outcomes: &[Outcome], records: &[Recorded]) -> Vec<String> {
    let mut faults = Vec::new();
    for outcome in outcomes {
        let name = outcome.case.name;
        let of = |agent: &str| records.iter().filter(|one| one.agent == agent).count();
        if of(&outcome.inside) > 0 {
            faults.push(format!("{name}: the request inside was served"));
        }
        let decisions: Vec<String> = outcome
            .exchange
            .responses()
            .iter()
            .filter(|one| one.status == 200)
            .map(|one| one.header("x-decision-id").to_owned())
            .filter(|id| !id.is_empty())
            .collect();
        if decisions.len() != of(&outcome.front) {
            faults.push(format!(
                "{name}: {} answers, {} records",
                decisions.len(),
                of(&outcome.front)
            ));
        }
        for id in decisions {
            let found = records.iter().find(|one| one.id == id);
            if found.is_none_or(|one| one.agent != outcome.front) {
                faults.push(format!(
                    "{name}: the answer {id} is recorded as {:?}",
                    found.map(|one| one.agent.as_str())
                ));
            }
        }
    }
    faults
}
