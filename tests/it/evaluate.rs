//! One question over the wire: the answer, its record, and when there is none.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::Bundle;
use remit_tests::app::TestApp;
use remit_tests::bundles;
use serde_json::{Value, json};

fn bundle() -> Bundle {
    bundles::pack("authzen-certification")
}

fn reads(subject: &str) -> Value {
    json!({
        "subject": { "type": "user", "id": subject },
        "action": { "name": "read" },
        "resource": { "type": "record", "id": "record-1" },
    })
}

const EVALUATION: &str = "/access/v1/evaluation";

#[tokio::test]
async fn an_answer_is_explained_and_named() {
    let app = TestApp::start(&bundle()).await;
    let reply = app.post(EVALUATION, reads("alice")).await;
    assert_eq!(reply.status, StatusCode::OK);
    let body = reply.json();
    let id = reply.header("x-decision-id");
    assert_eq!(
        body,
        json!({
            "decision": true,
            "context": {
                "evaluation_id": id,
                "reason": "policy_permit", "message": "A policy permits it and none forbids it.",
                "policies": ["alice-reads"],
                "revision": reply.header("remit-revision").parse::<u64>().unwrap(),
            },
        })
    );
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert!(!reply.header("x-request-id").is_empty());

    let denied = app.post(EVALUATION, reads("mallory")).await.json();
    assert_eq!(denied["decision"], json!(false));
    assert_eq!(denied["context"]["reason"], json!("no_permit"));
    assert_eq!(denied["context"]["policies"], json!([]));
}

#[tokio::test]
async fn what_is_answered_is_recorded() {
    let app = TestApp::start(&bundle()).await;
    let request = app
        .request(Method::POST, EVALUATION)
        .header("x-request-id", "request 7")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
    let mut question = reads("alice");
    question["context"] = json!({ "odd": ["\u{0}", "\"\r\n\u{7}", 1.5, null] });
    let reply = app.send(request, &question).await;
    assert_eq!(reply.header("x-request-id"), "request 7");
    assert_eq!(
        reply.header("traceparent"),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );

    let record = shipped(&app, reply.header("x-decision-id")).await;
    assert_eq!(record["question"], question);
    assert_eq!(record["caller"]["request_id"], json!("request 7"));
    assert_eq!(
        record["caller"]["trace_id"],
        json!("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!(record["facts"]["environment"], json!("dev"));
    assert_eq!(record["at"], json!("2026-01-05T10:00:00.000000Z"));
    assert_eq!(record["decision"]["reason"], json!("policy_permit"));
}

/// Ships the spool and returns one record as JSON.
async fn shipped(app: &TestApp, id: &str) -> Value {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let log = app.log.clone();
    let shipping = tokio::spawn({
        let (log, store) = (log.clone(), app.store.clone());
        async move {
            log.ship(store, async {
                let _ = stopped.await;
            })
            .await;
        }
    });
    assert!(log.caught_up(Duration::from_secs(30)).await);
    let _ = stop.send(());
    shipping.await.unwrap();
    let stored = app
        .store
        .decision(app.tenant, id.parse().unwrap())
        .await
        .unwrap();
    serde_json::to_value(stored.unwrap().record).unwrap()
}

#[tokio::test]
async fn ids_are_byte_exact() {
    let app = TestApp::start(&bundle()).await;
    let odd = [
        "Alice",
        "alice ",
        "\u{430}lice",
        "alq\u{301}ce",
        "al\"ice",
        "al\nice\r\u{1b}[31m",
        "al\u{202e}ice",
        "alice\\\\",
        "\u{1f916}",
    ];
    for id in odd {
        let reply = app.post(EVALUATION, reads(id)).await;
        assert_eq!(reply.json()["decision"], json!(false), "{id:?}");
        let record = shipped(&app, reply.header("x-decision-id")).await;
        assert_eq!(record["question"]["subject"]["id"], json!(id));
    }
}

#[tokio::test]
async fn unknown_types_and_actions_are_denied() {
    let app = TestApp::start(&bundle()).await;
    for (pointer, value, reason) in [
        ("/subject/type", "spaceship", "unknown_subject_type"),
        ("/resource/type", "spaceship", "unknown_resource_type"),
        ("/action/name", "fly", "unknown_action"),
        ("/subject/id", "nobody", "no_permit"),
        ("/resource/id", "nothing", "no_permit"),
    ] {
        let mut question = reads("alice");
        *question.pointer_mut(pointer).unwrap() = json!(value);
        let reply = app.post(EVALUATION, &question).await;
        assert_eq!(reply.status, StatusCode::OK, "{pointer}");
        let body = reply.json();
        assert_eq!(body["decision"], json!(false), "{pointer}");
        assert_eq!(body["context"]["reason"], json!(reason), "{pointer}");
    }
}

#[tokio::test]
async fn a_number_has_one_spelling_in_question_and_record() {
    let app = TestApp::start(&bundle()).await;
    let question = r#"{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},
        "resource":{"type":"record","id":"record-1"},"context":{"a":1.0,"b":-0,"c":1e2,"d":0.5}}"#;
    let reply = app.post(EVALUATION, question).await;
    let record = shipped(&app, reply.header("x-decision-id")).await;
    assert_eq!(
        record["question"]["context"].to_string(),
        r#"{"a":1,"b":0,"c":100,"d":0.5}"#
    );
}

#[tokio::test]
async fn without_a_bundle_nothing_is_decided() {
    let app = TestApp::empty(remit_api::Options::default()).await;
    let reply = app.post(EVALUATION, reads("alice")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        reply.text.contains("no policies are loaded yet"),
        "{}",
        reply.text
    );
    assert!(reply.text.contains(reply.header("x-request-id")));
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn stale_policy_decides_nothing() {
    let mut app = TestApp::start(&bundle()).await;
    app.pause().await;
    app.clock.advance(Duration::from_secs(4));
    assert_eq!(
        app.post(EVALUATION, reads("alice")).await.status,
        StatusCode::OK
    );
    app.clock.advance(Duration::from_mins(1));
    let reply = app.post(EVALUATION, reads("alice")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text.contains("out of date"), "{}", reply.text);
    let ready = app.operations("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        ready.text.contains("has not answered for"),
        "{}",
        ready.text
    );
    assert!(
        app.operations("/metrics")
            .await
            .text
            .contains("\nremit_policy_stale 1\n")
    );

    app.resume();
    app.caught_up().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while app.post(EVALUATION, reads("alice")).await.status != StatusCode::OK {
        assert!(std::time::Instant::now() < deadline, "it does not recover");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_revision_that_is_not_reached_is_not_answered() {
    let app = TestApp::start(&bundle()).await;
    let head = app.store.heads().await.unwrap()[0].revision.number();
    for (revision, expected) in [
        (head.to_string(), StatusCode::OK),
        ((head + 1).to_string(), StatusCode::SERVICE_UNAVAILABLE),
        ("+1".to_owned(), StatusCode::BAD_REQUEST),
        ("soon".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        let request = app
            .request(Method::POST, EVALUATION)
            .header("remit-revision", &revision);
        let reply = app.send(request, reads("alice")).await;
        assert_eq!(reply.status, expected, "{revision}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_write_is_read_back_with_its_revision() {
    let mut app = TestApp::empty(Options {
        revision_wait: Duration::from_secs(20),
        ..Options::default()
    })
    .await;
    app.put(&bundle()).await;
    let question = json!({
        "subject": { "type": "user", "id": "carol" },
        "action": { "name": "write" },
        "resource": { "type": "record", "id": "record-2" },
    });
    assert_eq!(
        app.post(EVALUATION, &question).await.json()["decision"],
        json!(false)
    );
    let carol = serde_json::from_value(json!({
        "uid": { "type": "user", "id": "carol" }, "attrs": { "role": "admin" }, "parents": [],
    }))
    .unwrap();
    let revision = upsert(&app, carol).await;
    let request = app
        .request(Method::POST, EVALUATION)
        .header("remit-revision", revision.to_string());
    let reply = app.send(request, &question).await;
    assert_eq!(reply.json()["decision"], json!(true), "{}", reply.text);
    assert!(reply.header("remit-revision").parse::<u64>().unwrap() >= revision.number());
}

async fn upsert(app: &TestApp, entity: remit_core::Entity) -> remit_core::Revision {
    app.store
        .upsert_entities(app.tenant, &[entity])
        .await
        .unwrap()
}

#[tokio::test]
async fn a_broken_state_leaves_the_last_good_one_and_goes_stale() {
    let mut app = TestApp::start(&bundle()).await;
    let mut broken = bundle();
    broken.policies[0]
        .text
        .push_str("\npermit (principal, action, resource) when { nonsense };");
    app.store
        .put_bundle(app.tenant, remit_store::Expected::Any, &broken, None)
        .await
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let ready = app.operations("/readyz").await;
        if ready.json()["tenants"][0]["failure"].is_string() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", ready.text);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        app.post(EVALUATION, reads("alice")).await.status,
        StatusCode::OK
    );
    app.clock.advance(Duration::from_secs(6));
    let reply = app.post(EVALUATION, reads("alice")).await;
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text
    );
    app.put(&bundle()).await;
    assert_eq!(
        app.post(EVALUATION, reads("alice")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn one_broken_tenant_does_not_stop_another() {
    let app = TestApp::start(&bundle()).await;
    let other = app.store.ensure_tenant("other").await.unwrap();
    let broken = Bundle {
        policies: vec![remit_core::Source {
            file: "a.cedar".to_owned(),
            text: "nonsense".to_owned(),
        }],
        ..bundle()
    };
    app.store
        .put_bundle(other, remit_store::Expected::Any, &broken, None)
        .await
        .unwrap();
    app.clock.advance(Duration::from_mins(1));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while app.post(EVALUATION, reads("alice")).await.status != StatusCode::OK {
        assert!(
            std::time::Instant::now() < deadline,
            "the good tenant is not confirmed"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(app.operations("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_log_that_cannot_record_answers_503() {
    let app = TestApp::start(&bundle()).await;
    app.log.close().await;
    let reply = app.post(EVALUATION, reads("alice")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        reply.text.contains("could not be recorded"),
        "{}",
        reply.text
    );
    assert_eq!(reply.header("x-decision-id"), "");
}
