//! API keys over HTTP: made, listed, used, revoked.

use http::{Method, Request, StatusCode};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

async fn with_key(test: &TestApp, key: &str, method: Method, path: &str, body: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    test.send(request, body).await
}

#[tokio::test]
async fn a_key_is_shown_once_works_at_once_and_stops_at_once() {
    let test = TestApp::start(&pack("starter")).await;
    let body = json!({ "name": "gateway", "environment": "live", "scopes": ["read"], "expires_at": "2026-02-01T00:00:00Z" });
    let created = test.post("/v1/keys", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let shown = created.json();
    let (id, key) = (
        shown["id"].as_str().unwrap().to_owned(),
        shown["key"].as_str().unwrap().to_owned(),
    );
    assert_eq!(created.header("location"), format!("/v1/keys/{id}"));
    assert!(key.starts_with("remit_live_"), "{key}");

    let who = with_key(&test, &key, Method::GET, "/v1/whoami", "").await;
    assert_eq!(who.json()["key"], json!(id));
    assert_eq!(who.json()["scopes"], json!(["read"]));
    assert_eq!(who.json()["environment"], "live");
    assert_eq!(who.json()["tenant"], json!(test.tenant));

    for reading in [
        test.get(&format!("/v1/keys/{id}")).await,
        test.get("/v1/keys").await,
    ] {
        assert_eq!(reading.status, StatusCode::OK);
        assert!(
            reading.text.contains(&id) && !reading.text.contains(&key),
            "{}",
            reading.text
        );
        assert!(
            !reading.text.contains("mac") && !reading.text.contains("secret"),
            "{}",
            reading.text
        );
    }

    let path = format!("/v1/keys/{id}");
    for _ in 0..2 {
        let revoked = test.send(test.request(Method::DELETE, &path), "").await;
        assert_eq!(
            revoked.status,
            StatusCode::NO_CONTENT,
            "revoking again changes nothing: {}",
            revoked.text
        );
    }
    let refused = with_key(&test, &key, Method::GET, "/v1/whoami", "").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(test.get(&path).await.json()["revoked_at"].is_string());
}

#[tokio::test]
async fn a_key_ends_when_it_says() {
    let test = TestApp::start(&pack("starter")).await;
    let body = json!({ "name": "short", "environment": "dev", "scopes": ["read"], "expires_at": "2026-01-05T10:01:00Z" });
    let key = test.post("/v1/keys", &body).await.json()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        with_key(&test, &key, Method::GET, "/v1/whoami", "")
            .await
            .status,
        StatusCode::OK
    );
    test.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(
        with_key(&test, &key, Method::GET, "/v1/whoami", "")
            .await
            .status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_key_gives_no_scope_that_it_does_not_have() {
    let test = TestApp::start(&pack("starter")).await;
    let maker = test.new_key(&[Scope::Keys, Scope::Read], "dev", None).await;
    let body = |scopes: Value| {
        json!({ "name": "child", "environment": "dev", "scopes": scopes }).to_string()
    };
    let more = with_key(
        &test,
        &maker,
        Method::POST,
        "/v1/keys",
        &body(json!(["read", "write"])),
    )
    .await;
    assert_eq!(more.status, StatusCode::FORBIDDEN);
    assert!(
        more.json()["detail"].as_str().unwrap().contains("`write`"),
        "{}",
        more.text
    );
    let same = with_key(
        &test,
        &maker,
        Method::POST,
        "/v1/keys",
        &body(json!(["read"])),
    )
    .await;
    assert_eq!(same.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_bad_key_body_is_refused_by_name() {
    let test = TestApp::start(&pack("starter")).await;
    for (body, named) in [
        (
            json!({ "environment": "dev", "scopes": ["read"] }),
            "`name`",
        ),
        (
            json!({ "name": "", "environment": "dev", "scopes": ["read"] }),
            "name",
        ),
        (
            json!({ "name": "x", "environment": "Dev", "scopes": ["read"] }),
            "environment",
        ),
        (
            json!({ "name": "x", "environment": "dev", "scopes": [] }),
            "scopes",
        ),
        (
            json!({ "name": "x", "environment": "dev", "scopes": ["admin"] }),
            "scopes",
        ),
        (
            json!({ "name": "x", "environment": "dev", "scopes": ["read"], "expires_at": "tomorrow" }),
            "expires_at",
        ),
        (
            json!({ "name": "x", "environment": "dev", "scopes": ["read"], "expires_at": "2026-01-05T10:00:00Z" }),
            "expires_at",
        ),
        (
            json!({ "name": "x", "environment": "dev", "scopes": ["read"], "role": "admin" }),
            "`role`",
        ),
    ] {
        let refused = test.post("/v1/keys", &body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body} → {}",
            refused.text
        );
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(named),
            "{body} → {}",
            refused.text
        );
    }
    let keys = test.get("/v1/keys").await.json();
    assert_eq!(
        keys["keys"].as_array().unwrap().len(),
        1,
        "nothing was made: {keys}"
    );
}

#[tokio::test]
async fn an_unknown_key_is_not_found() {
    let test = TestApp::empty(remit_api::Options::default()).await;
    let path = "/v1/keys/019aa8e0-11d4-7a30-8f52-6d1c7b9e4f01";
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(
            test.send(test.request(method, path), "").await.status,
            StatusCode::NOT_FOUND
        );
    }
    assert_eq!(
        test.get("/v1/keys/me").await.status,
        StatusCode::BAD_REQUEST
    );
}
