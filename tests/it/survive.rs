//! What must survive: rows of the failure table, each a test that makes the failure happen.
//!
//! A name begins with its row: F17 is malformed policies, F18 policy bombs, and so on. Rows that belong to one noun
//! stand beside it: slow and smuggling clients in `edge` and `listener`, keys in `store::keys`. What a server must refuse
//! to start with begins with `refuse_to_start`.

mod errors;
mod ids;
mod memory;
mod patterns;
mod publishing;
mod secrets;
mod texts;

use http::Method;
use remit_core::{Bundle, Source};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

const EVALUATION: &str = "/access/v1/evaluation";
const BUNDLE: &str = "/v1/bundle";

/// The starter bundle with one more policy file.
fn with_policy(text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(source("added.cedar", text));
    bundle
}

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.to_owned(),
        text: text.to_owned(),
    }
}

/// Puts a bundle in place of the one with this etag.
async fn put(app: &TestApp, etag: &str, bundle: &Bundle) -> Reply {
    let request = app.request(Method::PUT, BUNDLE).header("if-match", etag);
    app.send(request, serde_json::to_string(bundle).unwrap())
        .await
}

/// A call that the starter bundle permits to `invoice-bot` and to nobody unknown.
fn call(agent: &str) -> Value {
    json!({
        "subject": { "type": "Agent", "id": agent },
        "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    })
}
