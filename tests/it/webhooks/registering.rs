//! Registering: what is taken, what is refused, and secrets that are told once.

use http::StatusCode;
use remit_tests::receiver::Receiver;
use remit_tests::sql::texts;
use serde_json::{Value, json};

use super::{Method, PATIENCE, WEBHOOKS, ask, came, newest, register, seconds, send, start, told};

#[tokio::test]
async fn a_secret_is_told_once() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let body = json!({ "url": receiver.url("/hook"), "events": ["access_request."] });
    let named =
        |method: Method, path: &str| test.request(method, path).header("idempotency-key", "one");
    let made = test.send(named(Method::POST, WEBHOOKS), &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("cache-control"), "no-store");
    let first = made.json()["secret"].as_str().unwrap().to_owned();
    let path = made.header("location").to_owned();
    let again = test.send(named(Method::POST, WEBHOOKS), &body).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    let listed = test.get(WEBHOOKS).await;
    assert_eq!(
        listed.json()["webhooks"].as_array().unwrap().len(),
        1,
        "{}",
        listed.text
    );
    let rotate = format!("{path}/rotate");
    let rotated = send(&test, Method::POST, &rotate, &Value::Null).await;
    assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text);
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    ask(&test, 1).await;
    let messages = came(&receiver, 1).await;
    // Both sign, for a while.
    assert!(messages[0].is_signed(&first, seconds(&test)));
    assert!(messages[0].is_signed(&second, seconds(&test)));
    newest(&test, &path, |found| found["state"] == "delivered").await;
    test.clock.advance(std::time::Duration::from_hours(25));
    test.caught_up().await;
    ask(&test, 2).await;
    let messages = came(&receiver, 2).await;
    assert!(
        !messages[1].is_signed(&first, seconds(&test)),
        "its day is over"
    );
    assert!(messages[1].is_signed(&second, seconds(&test)));
    let mut answers = vec![again.text, listed.text];
    let actions = "/v1/admin/actions?action=create_webhook".to_owned();
    for path in [
        path.clone(),
        format!("{path}/deliveries"),
        WEBHOOKS.to_owned(),
        actions,
    ] {
        let answer = test.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answers.push(answer.text);
    }
    let kept = "SELECT secret FROM webhooks UNION ALL SELECT old_secret FROM webhooks \
        UNION ALL SELECT answer FROM idempotency UNION ALL SELECT body FROM webhook_deliveries";
    let kept = texts(&test.database.url, kept).await;
    assert!(kept.len() >= 4, "{kept:?}");
    answers.extend(kept.into_iter().flatten());
    for answer in answers {
        for secret in [&first, &second] {
            let bare = secret.strip_prefix("whsec_").unwrap();
            assert!(!answer.contains(bare), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_is_no_webhook_is_refused() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let url = receiver.url("/");
    let kinds: Vec<_> = (0..33).map(|_| "approval.").collect();
    let refused = [
        (json!({ "url": url }), "`events`"),
        (json!({ "url": url, "events": [] }), "`events`"),
        (json!({ "url": url, "events": kinds }), "`events`"),
        (
            json!({ "url": url, "events": ["approval.", "bundle."] }),
            "`events[1]`",
        ),
        (
            json!({ "url": url, "events": ["approval.*"] }),
            "`events[0]`",
        ),
        (
            json!({ "url": url, "events": ["approval."], "state": "disabled" }),
            "`state`",
        ),
        (
            json!({ "url": "https://", "events": ["approval."] }),
            "`url`",
        ),
        (json!({ "events": ["approval."] }), "url"),
        (
            json!({ "url": url, "events": ["approval."], "secret": "x" }),
            "secret",
        ),
    ];
    for (body, member) in refused {
        let reply = test.post(WEBHOOKS, &body).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            reply.text
        );
        assert!(reply.text.contains(member), "{body}: {}", reply.text);
    }
    let body = json!({ "url": url, "events": ["approval."] });
    for _ in 0..20 {
        register(&test, &body).await;
    }
    let more = test.post(WEBHOOKS, &body).await;
    assert_eq!(more.status, StatusCode::CONFLICT, "{}", more.text);
}

#[tokio::test]
async fn a_webhook_is_read_replaced_tried_and_deleted() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, secret) = told(&test, &receiver).await;
    let shown = test.get(&path).await;
    let tag = shown.header("etag").to_owned();
    assert_eq!(shown.json()["url"], receiver.url("/hook"));
    let unchanged = test
        .request(Method::GET, &path)
        .header("if-none-match", &tag);
    assert_eq!(
        test.send(unchanged, "").await.status,
        StatusCode::NOT_MODIFIED
    );
    let ping = send(&test, Method::POST, &format!("{path}/ping"), &Value::Null).await;
    assert_eq!(ping.status, StatusCode::ACCEPTED, "{}", ping.text);
    let messages = came(&receiver, 1).await;
    assert!(messages[0].is_signed(&secret, seconds(&test)));
    assert_eq!(messages[0].json()["type"], "dev.remit.webhook.ping");
    assert_eq!(messages[0].id(), ping.json()["delivery"]);
    let body = json!({ "url": receiver.url("/other"), "events": ["approval."] });
    let stale = test.request(Method::PUT, &path).header("if-match", "\"1\"");
    let stale = test.send(stale, &body);
    assert_eq!(stale.await.status, StatusCode::PRECONDITION_FAILED);
    let put = test.request(Method::PUT, &path).header("if-match", &tag);
    let put = test.send(put, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    assert_eq!(put.json()["events"], json!(["approval."]));
    ask(&test, 1).await;
    let gone = send(&test, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    for path in [path.clone(), format!("{path}/deliveries")] {
        assert_eq!(test.get(&path).await.status, StatusCode::NOT_FOUND);
    }
    let gone = send(&test, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(
        receiver.received().len(),
        1,
        "it is not told of requests any more"
    );
    assert!(receiver.received()[0].at.elapsed() < PATIENCE);
}
