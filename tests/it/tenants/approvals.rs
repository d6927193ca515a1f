//! What one tenant was approved is nothing to another, that knows its id and asks the very same.

use http::Method;
use remit_core::TenantId;

use super::{Duration, NewKey, Reply, Scope, StatusCode, TestApp, Value, json};
use crate::approvals::{
    EVALUATION, REQUESTS, approved, ask, bundle, by, fails, payment, start, submission,
};

/// Of nobody.
const MADE_UP: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";

/// Another tenant with the same bundle; returns its key, once it is served.
async fn beside(app: &TestApp) -> (TenantId, String) {
    let other = app.store.ensure_tenant("other").await.unwrap();
    let any = remit_store::Expected::Any;
    let same = bundle();
    let put = app.store.put_bundle(other, any, &same, None);
    put.await.unwrap();
    let new = NewKey {
        name: "other".to_owned(),
        environment: "dev".to_owned(),
        scopes: Scope::ALL.iter().copied().collect(),
        expires_at: None,
        principal: None,
    };
    let made = app.store.create_key(other, &new, &app.pepper).await;
    let key = made.unwrap().1.reveal();
    let began = std::time::Instant::now();
    while post(app, &key, EVALUATION, &payment()).await.status != StatusCode::OK {
        assert!(began.elapsed() < super::PATIENCE, "it is not served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (other, key)
}

async fn post(app: &TestApp, key: &str, path: &str, body: &Value) -> Reply {
    app.as_key(key, Method::POST, path, body).await
}

/// An answer without what is of it alone, and with a word in the place of an id.
fn told(reply: &Reply, id: &str) -> String {
    let mut body = reply.json();
    for member in ["evaluation_id", "request_id"] {
        body["context"]
            .as_object_mut()
            .map(|all| all.remove(member));
        body.as_object_mut().map(|all| all.remove(member));
    }
    body.to_string().replace(id, "…")
}

async fn uses_left(app: &TestApp, id: &str) -> u64 {
    let stored = app.store.request(app.tenant, id.parse().unwrap()).await;
    stored.unwrap().unwrap().grant.unwrap().uses_left
}

#[tokio::test]
async fn an_approval_of_another_tenant_is_as_one_that_is_made_up() {
    let app = start().await;
    let (other, key) = beside(&app).await;
    let ours = approved(&app, &payment()).await;
    let named = async |key: &str, id: &str| {
        let request = app.request_with(key, Method::POST, EVALUATION);
        let request = request.header("idempotency-key", "one");
        app.send(request, by(&payment(), id)).await
    };
    let mut answers = Vec::new();
    for id in [&*ours, MADE_UP] {
        let presented = post(&app, &key, EVALUATION, &by(&payment(), id)).await;
        let with_a_name = named(&key, id).await;
        for reply in [&presented, &with_a_name] {
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            let answer = reply.json();
            assert_eq!(answer["decision"], false, "{answer}");
            assert_eq!(answer["context"]["reason"], "approval_required", "{answer}");
            answers.push(told(reply, id));
        }
    }
    assert_eq!(answers[..2], answers[2..]);
    assert_eq!(uses_left(&app, &ours).await, 1);
    // It is theirs whose it is; and the name by which they used it is no name of another tenant.
    let used = named(&app.key, &ours).await;
    assert_eq!(used.json()["decision"], true, "{}", used.text);
    assert_eq!(uses_left(&app, &ours).await, 0);
    let again = named(&app.key, &ours).await;
    assert_eq!(again.text, used.text);
    let theirs = named(&key, &ours).await;
    assert_eq!(told(&theirs, &ours), answers[0]);
    assert!(
        app.store
            .use_of(other, ours.parse().unwrap(), "one")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_denial_of_another_tenant_is_as_one_that_is_made_up() {
    let app = start().await;
    let (_, key) = beside(&app).await;
    let denied = ask(&app, &payment()).await;
    let ours = denied["context"]["evaluation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    app.log.caught_up(Duration::from_secs(10)).await;
    // What was denied a moment ago might be on its way still.
    app.clock.advance(Duration::from_secs(61));
    app.caught_up().await;
    let began = std::time::Instant::now();
    let own = loop {
        let reply = post(&app, &key, EVALUATION, &payment()).await;
        if reply.status == StatusCode::OK {
            break reply.json();
        }
        assert!(began.elapsed() < super::PATIENCE, "{}", reply.text);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mut answers = Vec::new();
    for id in [&*ours, MADE_UP] {
        let mut body = submission(&payment(), &own);
        body["denial"]["evaluation_id"] = json!(id);
        let reply = post(&app, &key, REQUESTS, &body).await;
        fails(&reply, 400, "invalid_denial_binding");
        answers.push(told(&reply, id));
    }
    assert_eq!(answers[0], answers[1]);
    // Their own is taken, and so is ours from us.
    let body = submission(&payment(), &own);
    let theirs = post(&app, &key, REQUESTS, &body).await;
    assert_eq!(theirs.status, StatusCode::ACCEPTED, "{}", theirs.text);
    let reply = app.post(REQUESTS, submission(&payment(), &denied)).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    assert_ne!(reply.json()["task"]["id"], theirs.json()["task"]["id"]);
}
