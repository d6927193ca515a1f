//! Callbacks: the end of an access request is told to whom the request names, as the profile has it.

use remit_core::ApprovalScope;
use remit_tests::receiver::Receiver;
use serde_json::{Value, json};

use super::{StatusCode, TestApp, came, cancel, id_of, register, seconds, start};
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
}
