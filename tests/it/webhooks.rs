//! Webhooks: what happens is told to a receiver, signed, until it is taken, and to nobody inside.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::{Hooks, Options};
use remit_tests::app::{Reply, TestApp};
use remit_tests::receiver::{Received, Receiver};
use serde_json::{Value, json};

use crate::approvals::{bundle, cancel, id_of, payment, requested};

mod addresses;
mod callbacks;
mod commands;
mod delivering;
mod enabling;
mod registering;
mod survival;

const WEBHOOKS: &str = "/v1/webhooks";
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sending to these receivers is allowed, though they are on this machine.
fn allowing(receivers: &[&Receiver]) -> Options {
    let allow = receivers.iter().map(|one| one.address().to_string());
    Options {
        webhooks: Hooks {
            allow: allow.collect(),
            ..Hooks::default()
        },
        ..Options::default()
    }
}

/// The API with payments that a person must approve, which may send to these receivers.
async fn start(receivers: &[&Receiver]) -> TestApp {
    start_with(allowing(receivers)).await
}

async fn start_with(options: Options) -> TestApp {
    let mut test = TestApp::empty(options).await;
    test.put(&bundle()).await;
    ship(&test);
    test
}

fn ship(test: &TestApp) {
    let (log, store) = (test.log.clone(), test.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
}

/// Registers a webhook; returns its path and its secret.
async fn register(test: &TestApp, body: &Value) -> (String, String) {
    let made = test.post(WEBHOOKS, body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    let id = made["id"].as_str().unwrap();
    let secret = made["secret"].as_str().unwrap();
    (format!("{WEBHOOKS}/{id}"), secret.to_owned())
}

/// Registers a receiver for everything that happens to access requests.
async fn told(test: &TestApp, receiver: &Receiver) -> (String, String) {
    let body = json!({ "url": receiver.url("/hook"), "events": ["access_request."] });
    register(test, &body).await
}

/// Asks for the approval of a payment; returns the id of the request.
async fn ask(test: &TestApp, amount: u64) -> String {
    let mut question = payment();
    question["action"]["properties"]["amount"] = json!(amount);
    id_of(&requested(test, &question).await)
}

async fn send(test: &TestApp, method: Method, path: &str, body: &Value) -> Reply {
    let request = test.request(method, path);
    if body.is_null() {
        return test.send(request, "").await;
    }
    test.send(request, body).await
}

/// Waits until so many requests came in all, without keeping the sender from its work.
async fn came(receiver: &Receiver, count: usize) -> Vec<Received> {
    let began = Instant::now();
    loop {
        let messages = receiver.received();
        if messages.len() >= count {
            return messages;
        }
        let number = messages.len();
        assert!(began.elapsed() < PATIENCE, "{number} of {count} came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a delivery of a webhook, the newest, is as wanted, and returns it.
async fn newest(test: &TestApp, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let listed = test.get(&format!("{path}/deliveries")).await;
        let found = match listed.status {
            StatusCode::OK => listed.json()["deliveries"][0].clone(),
            _ => Value::Null,
        };
        if wanted(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{}", listed.text);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn seconds(test: &TestApp) -> u64 {
    u64::try_from(test.clock.now().micros() / 1_000_000).unwrap()
}
