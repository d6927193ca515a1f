//! What really happens is told: on the replica where it does, and on another one.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::Bundle;
use remit_tests::app::TestApp;
use remit_tests::app::stream::Event;
use remit_tests::postgres::Postgres;
use serde_json::{Value, json};

use super::{PATIENCE, open};

const REQUESTS: &str = "/access/v1/requests";

/// Agents may pay when a person approves.
fn bundle() -> Bundle {
    serde_json::from_value(json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": "entity Agent;\nentity Payee;\n\
                action pay appliesTo { principal: [Agent], resource: [Payee], context: { facts: Remit::Facts } };\n",
        }],
        "policies": [{
            "file": "approvals.cedar",
            "text": "@id(\"open\")\npermit (principal, action, resource);\n\
                @id(\"needs-a-person\")\n@cure(\"approval:finance\")\n\
                forbid (principal, action, resource) unless { context.facts.approved };\n",
        }],
    }))
    .unwrap()
}

/// Asks for an approval of a payment of so much; returns the id of the request.
async fn ask(test: &TestApp, amount: u64) -> String {
    let question = json!({
        "subject": { "type": "Agent", "id": "a" },
        "action": { "name": "pay", "properties": { "amount": amount } },
        "resource": { "type": "Payee", "id": "acme" },
    });
    let denied = test.post("/access/v1/evaluation", &question).await.json();
    assert_eq!(denied["context"]["reason"], "approval_required", "{denied}");
    let mut body = question;
    body["denial"] = json!({
        "evaluation_id": denied["context"]["evaluation_id"],
        "expires_at": denied["context"]["access_request"]["expires_at"],
    });
    let reply = test.post(REQUESTS, &body).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    reply.json()["task"]["id"].as_str().unwrap().to_owned()
}

async fn cancel(test: &TestApp, id: &str) {
    let path = format!("{REQUESTS}/{id}/cancel");
    let reply = test.send(test.request(Method::POST, &path), "").await;
    assert!(reply.status.is_success(), "{} {}", reply.status, reply.text);
}

fn is(event: &Event, kind: &str, subject: &str) {
    assert_eq!(event.kind, kind, "{event:?}");
    assert_eq!(event.data["subject"], subject, "{event:?}");
    assert_eq!(event.data["kind"], kind, "{event:?}");
}

#[tokio::test]
async fn a_request_is_told_from_its_beginning_to_its_end() {
    let test = TestApp::shipping(&bundle()).await;
    let mut stream = open(&test, &test.key, None).await;
    let id = ask(&test, 1).await;
    let created = stream.next(PATIENCE).await.unwrap();
    is(&created, "access_request.created", &id);
    assert_eq!(created.data["data"]["action"], "pay");
    assert_eq!(created.data["data"]["groups"], json!(["finance"]));
    assert_eq!(created.data["data"].get("amount"), None::<&Value>);
    cancel(&test, &id).await;
    is(
        &stream.next(PATIENCE).await.unwrap(),
        "access_request.cancelled",
        &id,
    );
    // Whoever was away is told the same.
    let mut back = open(&test, &test.key, Some(&created.id)).await;
    is(
        &back.next(PATIENCE).await.unwrap(),
        "access_request.cancelled",
        &id,
    );
}

/// A notification of the database wakes the other replica; without one this would take as long as its poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_tells_it_at_once() {
    const ROUNDS: u64 = 20;
    let Some(url) = Postgres::database().await else {
        return;
    };
    let database = remit_tests::sql::patient(url);
    let options = || Options {
        deadline: Duration::from_mins(1),
        max_staleness: Duration::from_secs(30),
        poll: Duration::from_secs(10),
        ..Options::default()
    };
    let mut here = TestApp::sharing(&database, options()).await;
    here.put(&bundle()).await;
    let (log, store) = (here.log.clone(), here.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    let there = TestApp::sharing(&database, options()).await;
    there.caught_up().await;
    let mut stream = open(&there, &there.key, None).await;
    let mut took = Vec::new();
    for amount in 1..=ROUNDS {
        let id = ask(&here, amount).await;
        is(
            &stream.next(PATIENCE).await.unwrap(),
            "access_request.created",
            &id,
        );
        let began = Instant::now();
        let (told, ()) = tokio::join!(
            async {
                let event = stream.next(PATIENCE).await.unwrap();
                (event, began.elapsed())
            },
            cancel(&here, &id)
        );
        is(&told.0, "access_request.cancelled", &id);
        took.push(told.1);
    }
    took.sort();
    let at = |part: usize| took[took.len() * part / 100];
    println!(
        "events to the other replica, request included, {ROUNDS} rounds: p50 {:?}, p90 {:?}, most {:?}",
        at(50),
        at(90),
        took[took.len() - 1]
    );
    assert!(
        at(50) < Duration::from_secs(1),
        "sooner than it is looked for without news: {took:?}"
    );
}
