//! Every way in which asking for an approval fails, each made to happen.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::{Approvals, Drafts, Options};
use remit_core::{ApprovalScope, PrincipalKind};
use remit_store::{PendingLimits, Scope};
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::{
    REQUESTS, approve, ask, bundle, by, cancel, fails, id_of, payment, requested, start, status,
    submission,
};

/// Sends a submission with one member of another form.
async fn with(app: &TestApp, body: &Value, member: &str, value: Value) -> remit_tests::app::Reply {
    let mut body = body.clone();
    body[member] = value;
    app.post(REQUESTS, body).await
}

#[tokio::test]
async fn a_denial_that_is_not_one_is_not_requestable() {
    let app = start().await;
    let look = json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "look" },
        "resource": { "type": "Payee", "id": "acme" },
    });
    let permitted = ask(&app, &look).await;
    let mut body = submission(&look, &permitted);
    body["denial"]["expires_at"] = json!("2026-01-05T10:10:00Z");
    fails(&app.post(REQUESTS, body).await, 400, "not_requestable");
    let unknown = json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "fly" },
        "resource": { "type": "Payee", "id": "acme" },
    });
    let denied = ask(&app, &unknown).await;
    assert!(
        denied["context"].get("access_request").is_none(),
        "{denied}"
    );
    let mut body = submission(&unknown, &denied);
    body["denial"]["expires_at"] = json!("2026-01-05T10:10:00Z");
    let reply = app.post(REQUESTS, body).await;
    fails(&reply, 400, "not_requestable");
    assert!(reply.text.contains("unknown_action"), "{}", reply.text);
}

/// What would be permitted by now, or is stopped by now, is nothing for a person to approve.
#[tokio::test]
async fn what_changed_since_is_not_requestable() {
    let mut app = start().await;
    let denied = ask(&app, &payment()).await;
    let body = submission(&payment(), &denied);
    app.put(&super::with_policies(
        "@id(\"closed\")\nforbid (principal, action, resource == Payee::\"acme\");\n",
    ))
    .await;
    let reply = app.post(REQUESTS, &body).await;
    fails(&reply, 400, "not_requestable");
    assert!(reply.text.contains("policy_forbid"), "{}", reply.text);
    let mut open = bundle();
    open.policies[0].text = "@id(\"open\")\npermit (principal, action, resource);\n".to_owned();
    app.put(&open).await;
    let reply = app.post(REQUESTS, &body).await;
    fails(&reply, 400, "not_requestable");
    assert!(reply.text.contains("permitted by now"), "{}", reply.text);
}

/// What is only permitted when it is approved is forbidden by nothing, and approved all the same.
#[tokio::test]
async fn what_no_policy_forbids_is_requestable_where_an_approval_permits_it() {
    let mut bundle = bundle();
    bundle.policies[0].text =
        "@id(\"approved\")\npermit (principal, action, resource) when { context.facts.approved };\n"
            .to_owned();
    let app = TestApp::shipping(&bundle).await;
    let handle = super::requested(&app, &payment()).await;
    let id = super::id_of(&handle);
    super::approve(&app, &id, remit_core::ApprovalScope::Once, 600).await;
    for expected in [true, false] {
        let answer = ask(&app, &super::by(&payment(), &id)).await;
        assert_eq!(answer["decision"], expected, "{answer}");
    }
}

/// One that was made a moment ago may be kept a moment later, by another replica: that is no binding that is wrong.
#[tokio::test]
async fn a_denial_on_its_way_is_asked_about_again() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let mut body = submission(&payment(), &denied);
    let id = denied["context"]["evaluation_id"].as_str().unwrap();
    let other = format!("{}0", &id[..id.len() - 1]);
    let other = if other == id {
        format!("{}1", &id[..id.len() - 1])
    } else {
        other
    };
    body["denial"]["evaluation_id"] = json!(other);
    let reply = app.post(REQUESTS, &body).await;
    assert_eq!(reply.status.as_u16(), 503, "{}", reply.text);
    assert_eq!(reply.header("retry-after"), "1");
    // A minute later nothing is on its way.
    app.clock.advance(std::time::Duration::from_secs(61));
    app.caught_up().await;
    fails(
        &app.post(REQUESTS, &body).await,
        400,
        "invalid_denial_binding",
    );
}

#[tokio::test]
async fn a_denial_of_another_is_no_binding() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let body = submission(&payment(), &denied);
    let mut unnamed = body.clone();
    unnamed["denial"]
        .as_object_mut()
        .unwrap()
        .remove("evaluation_id");
    fails(
        &app.post(REQUESTS, unnamed).await,
        400,
        "invalid_denial_binding",
    );
    for id in ["nonsense", "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"] {
        let mut other = body.clone();
        other["denial"]["evaluation_id"] = json!(id);
        fails(
            &app.post(REQUESTS, other).await,
            400,
            "invalid_denial_binding",
        );
    }
    let mut late = body.clone();
    late["denial"]["expires_at"] = json!("2026-01-05T11:10:00Z");
    fails(
        &app.post(REQUESTS, late).await,
        400,
        "invalid_denial_binding",
    );
    // Another environment, and another principal.
    let live = app.new_key(&[Scope::Evaluate], "live", None).await;
    let reply = app.as_key(&live, Method::POST, REQUESTS, &body).await;
    fails(&reply, 400, "invalid_denial_binding");
    let other = app.key_of(PrincipalKind::Machine, "other", &[]).await;
    let reply = app.as_key(&other, Method::POST, REQUESTS, &body).await;
    fails(&reply, 400, "invalid_denial_binding");
    // Several items need a denial each.
    let several = json!({
        "subject": body["subject"], "context": body["context"], "denial": body["denial"],
        "items": [
            { "resource": body["resource"], "action": body["action"] },
            { "resource": body["resource"], "action": body["action"] },
        ],
    });
    fails(
        &app.post(REQUESTS, several).await,
        400,
        "invalid_denial_binding",
    );
    assert_eq!(app.post(REQUESTS, &body).await.status, StatusCode::ACCEPTED);
}

/// Every member in which the submission may differ from what was denied; what the schema does not declare may differ.
#[tokio::test]
async fn what_is_asked_must_be_what_was_denied() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let body = submission(&payment(), &denied);
    let changes: [(&str, Value); 13] = [
        ("/subject/id", json!("b")),
        ("/subject/type", json!("user")),
        ("/subject/properties", json!({ "level": 3 })),
        ("/resource/id", json!("other")),
        ("/resource/properties", json!({ "country": "CH" })),
        ("/action/name", json!("look")),
        ("/action/properties/amount", json!(101)),
        ("/action/properties/to", Value::Null),
        ("/action/properties", json!({ "amount": 100 })),
        ("/context/channel", json!("card")),
        ("/context/channel", Value::Null),
        ("/context/urgent", Value::Null),
        (
            "/context/task",
            json!("019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"),
        ),
    ];
    for (path, value) in changes {
        let mut other = body.clone();
        put(&mut other, path, value);
        let reply = app.post(REQUESTS, &other).await;
        fails(&reply, 400, "invalid_denial_binding");
        let part = path.split('/').nth(1).unwrap();
        assert!(
            reply.text.contains(&format!("`{part}`")),
            "{path}: {}",
            reply.text
        );
    }
    let mut same = body.clone();
    put(
        &mut same,
        "/context/business_justification",
        json!("it is due"),
    );
    put(&mut same, "/context/nonce", json!("other"));
    put(
        &mut same,
        "/subject/properties",
        json!({ "act": { "sub": "me" } }),
    );
    put(&mut same, "/action/properties/amount", json!(100.0));
    assert_eq!(app.post(REQUESTS, &same).await.status, StatusCode::ACCEPTED);
}

/// Puts a member that may not be there yet.
pub fn put(body: &mut Value, path: &str, value: Value) {
    let (above, name) = path.rsplit_once('/').unwrap();
    body.pointer_mut(above).unwrap()[name] = value;
}

#[tokio::test]
async fn a_denial_is_taken_for_ten_minutes_and_a_little() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let body = submission(&payment(), &denied);
    app.caught_up().await;
    app.log.caught_up(Duration::from_secs(10)).await;
    app.clock.advance(Duration::from_secs(629));
    app.caught_up().await;
    assert_eq!(app.post(REQUESTS, &body).await.status, StatusCode::ACCEPTED);
    app.clock.advance(Duration::from_secs(3));
    app.caught_up().await;
    fails(&app.post(REQUESTS, &body).await, 410, "expired_denial");
}

#[tokio::test]
async fn a_name_is_of_one_request() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let body = submission(&payment(), &denied);
    let send = async |key: &str, body: &Value| {
        let request = app.request(Method::POST, REQUESTS);
        app.send(request.header("idempotency-key", key), body).await
    };
    let first = send("\"one\"", &body).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.text);
    // Bare or quoted, and whatever the order of the members.
    let again = send("one", &body).await;
    assert_eq!(again.json()["task"]["id"], first.json()["task"]["id"]);
    let mut other = body.clone();
    other["context"]["business_justification"] = json!("another reason");
    fails(&send("one", &other).await, 409, "duplicate_request");
    // After it ended it is told as it is.
    cancel(&app, &id_of(&first.json())).await;
    let ended = send("one", &body).await;
    assert_eq!(ended.status, StatusCode::CREATED, "{}", ended.text);
    assert_eq!(ended.json()["task"]["status"], "cancelled");
    let bad = send(&"x".repeat(256), &body).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.text);
}

#[tokio::test]
async fn requests_of_others_are_unknown() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    let other = app.key_of(PrincipalKind::Machine, "other", &[]).await;
    for (method, path) in [
        (Method::GET, format!("{REQUESTS}/{id}")),
        (Method::POST, format!("{REQUESTS}/{id}/cancel")),
        (Method::DELETE, format!("{REQUESTS}/{id}/cancel")),
    ] {
        let reply = app.as_key(&other, method, &path, &Value::Null).await;
        fails(&reply, 404, "unknown_task");
    }
    for id in ["nonsense", "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"] {
        fails(&status(&app, id).await, 404, "unknown_task");
        fails(&cancel(&app, id).await, 404, "unknown_task");
    }
    assert_eq!(status(&app, &id).await.json()["task"]["status"], "pending");
}

#[tokio::test]
async fn what_ended_is_not_cancelled() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    let reply = cancel(&app, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.json()["task"]["status"], "cancelled");
    fails(&cancel(&app, &id).await, 409, "invalid_task_state");
    let two = id_of(&requested(&app, &payment()).await);
    approve(&app, &two, ApprovalScope::Once, 60).await;
    fails(&cancel(&app, &two).await, 409, "invalid_task_state");
    let path = format!("{REQUESTS}/{two}");
    for (method, path) in [
        (Method::PUT, path.as_str()),
        (Method::GET, &format!("{path}/cancel")),
        (Method::GET, REQUESTS),
    ] {
        let reply = app.send(app.request(method, path), "").await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn a_request_expires_and_is_forgotten() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    app.clock.advance(Duration::from_secs(3599));
    app.caught_up().await;
    assert_eq!(status(&app, &id).await.json()["task"]["status"], "pending");
    app.clock.advance(Duration::from_secs(1));
    app.caught_up().await;
    assert_eq!(status(&app, &id).await.json()["task"]["status"], "expired");
    fails(&cancel(&app, &id).await, 409, "invalid_task_state");
    app.clock.advance(Duration::from_secs(86_401));
    app.caught_up().await;
    fails(&status(&app, &id).await, 410, "task_expired");
    fails(&cancel(&app, &id).await, 410, "task_expired");
}

#[tokio::test]
async fn every_member_has_a_limit() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let body = submission(&payment(), &denied);
    let item =
        json!({ "resource": body["resource"], "action": body["action"], "denial": body["denial"] });
    let many = json!({ "subject": body["subject"], "items": vec![item; 21] });
    let long = "x".repeat(1025);
    let cases = [
        (app.post(REQUESTS, &many).await, "`items`"),
        (with(&app, &body, "items", json!([])).await, "`items`"),
        (
            with(
                &app,
                &body,
                "client",
                json!({ "source": { "session_id": long } }),
            )
            .await,
            "`client`",
        ),
        (
            with(
                &app,
                &body,
                "client",
                json!({ "id": vec!["x".repeat(1000); 17] }),
            )
            .await,
            "`client`",
        ),
        (
            with(
                &app,
                &body,
                "requested_access",
                json!({ "x": "x".repeat(5000) }),
            )
            .await,
            "`requested_access`",
        ),
        (
            with(
                &app,
                &body,
                "requested_access",
                json!({ "requested_until": "tomorrow" }),
            )
            .await,
            "requested_until",
        ),
        (
            with(&app, &body, "subject", json!({ "type": "Agent", "id": "" })).await,
            "`subject.id`",
        ),
        (
            with(&app, &body, "resource", Value::Null).await,
            "`resource`",
        ),
        (with(&app, &body, "action", Value::Null).await, "`action`"),
        (
            with(
                &app,
                &body,
                "callback",
                json!({ "endpoint": "https://a.example" }),
            )
            .await,
            "`callback.endpoint`",
        ),
    ];
    for (reply, named) in cases {
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{named}: {}",
            reply.text
        );
        assert_eq!(
            reply.json()["code"],
            "invalid-request",
            "{named}: {}",
            reply.text
        );
        assert!(reply.text.contains(named), "{named}: {}", reply.text);
    }
    // Of what nobody can keep nobody asks for an approval, be it permitted to ask.
    let mut vast = payment();
    vast["context"]["notes"] = json!("x".repeat(132_000));
    let denied_so = ask(&app, &vast).await;
    let reply = app.post(REQUESTS, submission(&vast, &denied_so)).await;
    assert_eq!(
        reply.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        reply.text
    );
    assert!(reply.text.contains("131072"), "{}", reply.text);
    let mut large = body.clone();
    large["context"]["notes"] = json!("x".repeat(17_000));
    let reply = app.post(REQUESTS, &large).await;
    assert_eq!(reply.json()["code"], "invalid-request", "{}", reply.text);
    let path = format!(
        "{REQUESTS}/{}/cancel",
        id_of(&app.post(REQUESTS, &body).await.json())
    );
    let reply = app
        .post(&path, json!({ "comment": "x".repeat(1025) }))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
}

#[tokio::test]
async fn only_so_many_wait() {
    let options = Options {
        approvals: Approvals {
            pending: PendingLimits {
                asked: 60,
                agent: 2,
                task: 20,
                tenant: 3,
            },
            ..Approvals::default()
        },
        ..Options::default()
    };
    let mut app = TestApp::empty(options).await;
    app.put(&bundle()).await;
    let (log, store) = (app.log.clone(), app.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    let of = |agent: &str, amount: u64| {
        let mut question = payment();
        question["subject"]["id"] = json!(agent);
        question["action"]["properties"]["amount"] = json!(amount);
        question
    };
    let first = id_of(&requested(&app, &of("a", 1)).await);
    requested(&app, &of("a", 2)).await;
    let refused = async |question: Value, whose: &str| {
        let denied = ask(&app, &question).await;
        let reply = app.post(REQUESTS, submission(&question, &denied)).await;
        assert_eq!(
            reply.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{}",
            reply.text
        );
        assert!(reply.text.contains(whose), "{}", reply.text);
        assert!(!reply.header("retry-after").is_empty());
    };
    refused(of("a", 3), "agent").await;
    requested(&app, &of("b", 1)).await;
    refused(of("c", 1), "tenant").await;
    // The same again is joined, however many wait.
    assert_eq!(id_of(&requested(&app, &of("a", 1)).await), first);
    cancel(&app, &first).await;
    // There is room for one: of two together none is made.
    let mut items = Vec::new();
    for amount in [1, 2] {
        let question = of("c", amount);
        let body = submission(&question, &ask(&app, &question).await);
        items.push(json!({ "resource": body["resource"], "action": body["action"], "denial": body["denial"] }));
    }
    let both = json!({ "subject": of("c", 1)["subject"], "context": payment()["context"], "items": items });
    let reply = app.post(REQUESTS, &both).await;
    assert_eq!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        reply.text
    );
    assert!(reply.text.contains("tenant"), "{}", reply.text);
    requested(&app, &of("c", 1)).await;
}

/// How often is asked for an agent is limited, whatever became of it: made, taken back, joined.
#[tokio::test]
async fn only_so_often_is_asked() {
    let mut options = Options::default();
    options.approvals.pending.asked = 3;
    let mut app = TestApp::empty(options).await;
    app.put(&bundle()).await;
    let (log, store) = (app.log.clone(), app.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    let first = id_of(&requested(&app, &payment()).await);
    cancel(&app, &first).await;
    let second = id_of(&requested(&app, &payment()).await);
    assert_eq!(id_of(&requested(&app, &payment()).await), second);
    let denied = ask(&app, &payment()).await;
    let reply = app.post(REQUESTS, submission(&payment(), &denied)).await;
    assert_eq!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        reply.text
    );
    assert!(reply.text.contains("within a minute"), "{}", reply.text);
    assert_eq!(reply.header("retry-after"), "60");
    let mut other = payment();
    other["subject"]["id"] = json!("b");
    requested(&app, &other).await;
    app.clock.advance(Duration::from_secs(61));
    app.caught_up().await;
    assert_eq!(id_of(&requested(&app, &payment()).await), second);
}

#[tokio::test]
async fn without_the_draft_nothing_of_it_is_there() {
    let options = Options {
        drafts: Drafts {
            access_requests: false,
            obligations: false,
        },
        ..Options::default()
    };
    let mut app = TestApp::empty(options).await;
    app.put(&bundle()).await;
    let denied = ask(&app, &payment()).await;
    assert_eq!(denied["context"]["reason"], "approval_required");
    assert!(
        denied["context"].get("access_request").is_none(),
        "{denied}"
    );
    let presented = ask(
        &app,
        &by(&payment(), "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"),
    )
    .await;
    assert_eq!(presented["context"]["next_action"], "none");
    for (method, path) in [
        (Method::POST, REQUESTS.to_owned()),
        (Method::GET, format!("{REQUESTS}/x")),
        (Method::POST, format!("{REQUESTS}/x/cancel")),
    ] {
        let body = json!({ "subject": { "type": "Agent", "id": "a" }, "denial": null });
        let reply = app.send(app.request(method, &path), body).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text);
        assert_eq!(reply.json()["code"], "not-found", "{}", reply.text);
    }
    let metadata = app.get("/.well-known/authzen-configuration").await.json();
    for member in [
        "access_request_endpoint",
        "capabilities",
        "obligations_supported",
    ] {
        assert!(metadata.get(member).is_none(), "{metadata}");
    }
}
