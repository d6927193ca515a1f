//! Callbacks: the end of an access request is told to whom the request names, as the profile has it.

use std::time::Duration;

use remit_core::{ApprovalScope, PrincipalKind, Role};
use remit_tests::receiver::Behaviour::{Answer, Hangup, Late};
use remit_tests::receiver::Receiver;
use serde_json::{Value, json};

use super::{
    Method, StatusCode, TestApp, allowing, came, cancel, id_of, newest, register, seconds, start,
    start_with,
};
use crate::approvals::{REQUESTS, approve, ask as evaluate, payment, submission};

/// Asks for the approval of a payment, and to be called; returns the answer.
async fn asking(test: &TestApp, amount: u64, callback: Value) -> remit_tests::app::Reply {
    let mut question = payment();
    question["action"]["properties"]["amount"] = json!(amount);
    let denied = evaluate(test, &question).await;
    let mut body = submission(&question, &denied);
    body["callback"] = callback;
    test.post(REQUESTS, &body).await
}

async fn asked(test: &TestApp, amount: u64, callback: Value) -> String {
    let reply = asking(test, amount, callback).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    id_of(&reply.json())
}

#[tokio::test]
async fn the_end_is_told_as_the_profile_says() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let body = json!({ "url": receiver.url("/callbacks"), "callbacks": true });
    let (_, secret) = register(&test, &body).await;
    let endpoint = receiver.url("/callbacks/7");
    // Its end is not wanted; the next two are.
    let unwanted = json!({ "endpoint": endpoint, "events": ["denied"] });
    let unwanted = asked(&test, 1, unwanted).await;
    let approved = json!({ "endpoint": endpoint, "state": "ticket 7" });
    let approved = asked(&test, 2, approved).await;
    let cancelled = json!({ "endpoint": receiver.url("/callbacks"), "events": ["cancelled"] });
    let cancelled = asked(&test, 3, cancelled).await;
    approve(&test, &unwanted, ApprovalScope::Once, 600).await;
    approve(&test, &approved, ApprovalScope::Once, 600).await;
    let messages = came(&receiver, 1).await;
    assert_eq!(messages[0].target, "/callbacks/7");
    cancel(&test, &cancelled).await;
    let messages = came(&receiver, 2).await;
    for message in &messages {
        assert_eq!(message.header("content-type"), Some("application/json"));
        assert!(message.is_signed(&secret, seconds(&test)), "{message:?}");
    }
    let status = |id: &str| format!("http://127.0.0.1:7364{REQUESTS}/{id}");
    assert_eq!(
        messages[0].json(),
        json!({
            "state": "ticket 7",
            "task": { "id": approved, "status": "approved", "status_endpoint": status(&approved) },
        })
    );
    assert_eq!(messages[1].target, "/callbacks");
    assert_eq!(
        messages[1].json(),
        json!({
            "task": { "id": cancelled, "status": "cancelled", "status_endpoint": status(&cancelled) },
        })
    );
    assert_eq!(receiver.received().len(), 2);
}

/// Whoever joins a request is called at its end as whoever made it is, and several that were asked for as one are told once.
#[tokio::test]
async fn whoever_joined_is_called_and_several_at_once_are_told_once() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let body = json!({ "url": receiver.url("/callbacks"), "callbacks": true });
    register(&test, &body).await;
    let to = |place: &str| json!({ "endpoint": receiver.url(&format!("/callbacks/{place}")) });
    let one = asked(&test, 1, to("first")).await;
    let machine = (PrincipalKind::Machine, "another");
    let other = test.key_of(machine.0, machine.1, &[Role::Operator]).await;
    let mut question = payment();
    question["action"]["properties"]["amount"] = json!(1);
    let post = async |key: &str, path: &str, body: &Value| {
        let reply = test.as_key(key, Method::POST, path, body).await;
        assert!(reply.status.is_success(), "{}", reply.text);
        reply.json()
    };
    let denied = post(&other, "/access/v1/evaluation", &question).await;
    let mut joins = submission(&question, &denied);
    joins["callback"] = to("joined");
    assert_eq!(id_of(&post(&other, REQUESTS, &joins).await), one);
    let mut items = Vec::new();
    for amount in [1, 2] {
        question["action"]["properties"]["amount"] = json!(amount);
        let whole = submission(&question, &evaluate(&test, &question).await);
        items.push(json!({ "resource": whole["resource"], "action": whole["action"], "denial": whole["denial"] }));
    }
    let body = json!({
        "subject": question["subject"], "context": question["context"], "items": items, "callback": to("bulk"),
    });
    let bulk = test.post(REQUESTS, &body).await.json();
    let stored = test
        .store
        .bulk_request(test.tenant, id_of(&bulk).parse().unwrap())
        .await;
    let second = stored.unwrap().unwrap().items[1].to_string();
    cancel(&test, &one).await;
    let messages = came(&receiver, 2).await;
    let mut places: Vec<&str> = messages.iter().map(|one| one.target.as_str()).collect();
    places.sort_unstable();
    assert_eq!(places, ["/callbacks/first", "/callbacks/joined"]);
    for message in &messages {
        assert_eq!(message.json()["task"]["id"], one);
    }
    // The other one of the two is still waited for.
    cancel(&test, &second).await;
    let messages = came(&receiver, 3).await;
    assert_eq!(messages[2].target, "/callbacks/bulk");
    assert_eq!(messages[2].json()["task"]["id"], id_of(&bulk));
    assert_eq!(messages[2].json()["task"]["status"], "cancelled");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(receiver.received().len(), 3);
}

/// Whoever is called and fails, or does not answer, is called again with the same words, and is not without its webhook for it.
#[tokio::test]
async fn a_callback_that_was_not_taken_is_sent_again_under_its_id() {
    let receiver = Receiver::start();
    let mut options = allowing(&[&receiver]);
    options.webhooks.timeout = Duration::from_secs(4);
    let test = start_with(options).await;
    let body = json!({ "url": receiver.url("/callbacks"), "callbacks": true });
    let (path, secret) = register(&test, &body).await;
    let late = Late(Duration::from_secs(30), 204);
    receiver.does(&[Answer(500), late, Hangup, Answer(204)]);
    let callback = json!({ "endpoint": receiver.url("/callbacks/7"), "state": "ticket 7" });
    let id = asked(&test, 1, callback).await;
    cancel(&test, &id).await;
    let problems = [
        (json!(500), "the receiver answered 500"),
        (json!(null), "no answer in time"),
        (json!(null), "no answer"),
    ];
    for (before, (status, problem)) in problems.into_iter().enumerate() {
        came(&receiver, before + 1).await;
        let now = json!(test.clock.now());
        let noted = newest(&test, &path, |found| {
            found["attempts"] == before + 1 && found["last_at"] == now
        });
        let noted = noted.await;
        assert_eq!(
            (
                &noted["state"],
                &noted["last_status"],
                &noted["last_problem"]
            ),
            (&json!("pending"), &status, &json!(problem))
        );
        test.clock.advance(Duration::from_mins(2));
        test.caught_up().await;
    }
    let messages = came(&receiver, 4).await;
    for message in &messages {
        assert_eq!(message.target, "/callbacks/7");
        assert_eq!(
            (message.id(), &message.body),
            (messages[0].id(), &messages[0].body)
        );
    }
    assert_eq!(messages[3].json()["task"]["status"], "cancelled");
    assert!(messages[3].is_signed(&secret, seconds(&test)));
    let delivered = newest(&test, &path, |found| found["state"] == "delivered").await;
    assert_eq!(delivered["attempts"], 4);
    // One place that is gone is not all of them.
    receiver.does(&[Answer(410), Answer(204)]);
    let to = |place: &str| json!({ "endpoint": receiver.url(&format!("/callbacks/{place}")) });
    let gone = asked(&test, 2, to("gone")).await;
    cancel(&test, &gone).await;
    newest(&test, &path, |found| found["state"] == "dead").await;
    assert_eq!(test.get(&path).await.json()["state"], "enabled");
    let other = asked(&test, 3, to("8")).await;
    cancel(&test, &other).await;
    let messages = came(&receiver, 6).await;
    assert_eq!(messages[5].target, "/callbacks/8");
}

#[tokio::test]
async fn only_what_a_webhook_allows_is_called() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let own = receiver.url("/callbacks");
    let without = asking(&test, 1, json!({ "endpoint": own })).await;
    assert_eq!(without.status, StatusCode::BAD_REQUEST, "{}", without.text);
    let body = json!({ "url": own, "callbacks": true });
    register(&test, &body).await;
    let body = json!({ "url": receiver.url("/told"), "events": ["access_request."] });
    register(&test, &body).await;
    let long = "x".repeat(1_025);
    let refused = [
        (
            json!({ "endpoint": receiver.url("/callbacksother") }),
            "endpoint",
        ),
        (
            json!({ "endpoint": receiver.url("/callbacks/../other") }),
            "endpoint",
        ),
        (
            json!({ "endpoint": receiver.url("/callbacks/%2e%2e/other") }),
            "endpoint",
        ),
        (json!({ "endpoint": receiver.url("/") }), "endpoint"),
        (json!({ "endpoint": receiver.url("/told") }), "endpoint"),
        (json!({ "endpoint": own, "state": long }), "state"),
        (json!({ "endpoint": own, "events": [] }), "events"),
        (json!({ "endpoint": own, "events": ["created"] }), "events"),
    ];
    for (callback, member) in refused {
        let reply = asking(&test, 1, callback.clone()).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{callback}: {}",
            reply.text
        );
        let named = reply.text.contains(&format!("`callback.{member}`"));
        assert!(named, "{callback}: {}", reply.text);
    }
    // What a name means inside is not looked up for somebody who may not have it called.
    let elsewhere = json!({ "endpoint": "https://nowhere.invalid/callbacks" });
    let reply = asking(&test, 1, elsewhere).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    assert!(
        reply.text.contains("the URL of a webhook"),
        "{}",
        reply.text
    );
}
