//! The three searches over the wire: results, pages, tokens.

use http::StatusCode;
use remit_api::Options;
use remit_core::{Entity, EntityUid};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles;
use serde_json::{Value, json};

async fn app() -> TestApp {
    TestApp::start(&bundles::pack("authzen-certification")).await
}

fn who_reads(page: Option<Value>) -> Value {
    let mut body = json!({
        "subject": { "type": "user" },
        "action": { "name": "read" },
        "resource": { "type": "record", "id": "record-1" },
    });
    if let Some(page) = page {
        body["page"] = page;
    }
    body
}

async fn subjects(app: &TestApp, body: Value) -> Reply {
    app.post("/access/v1/search/subject", body).await
}

fn ids(reply: &Reply) -> Vec<String> {
    let body = reply.json();
    let results = body["results"]
        .as_array()
        .unwrap_or_else(|| panic!("{}", reply.text));
    results
        .iter()
        .map(|result| result["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn each_search_finds_what_the_policies_permit() {
    let app = app().await;
    let reply = subjects(&app, who_reads(None)).await;
    assert_eq!(
        reply.text,
        r#"{"results":[{"type":"user","id":"alice"},{"type":"user","id":"bob"}]}"#
    );
    assert!(!reply.header("remit-revision").is_empty());

    let body = json!({
        "subject": { "type": "user", "id": "alice" },
        "action": { "name": "read" },
        "resource": { "type": "record", "id": "ignored", "properties": "ignored too" },
    });
    let reply = app.post("/access/v1/search/resource", body).await;
    assert_eq!(ids(&reply), ["record-1", "record-2"]);

    let body = json!({
        "subject": { "type": "user", "id": "alice" },
        "resource": { "type": "record", "id": "record-1" },
        "action": "ignored",
    });
    let reply = app.post("/access/v1/search/action", body).await;
    let names = reply.json();
    assert!(
        names["results"]
            .as_array()
            .unwrap()
            .contains(&json!({ "name": "read" })),
        "{names}"
    );
    assert!(
        names["results"]
            .as_array()
            .unwrap()
            .contains(&json!({ "name": "write" })),
        "{names}"
    );
}

#[tokio::test]
async fn an_unknown_type_finds_nothing() {
    let app = app().await;
    let mut body = who_reads(None);
    body["subject"]["type"] = json!("spaceship");
    assert_eq!(subjects(&app, body).await.text, r#"{"results":[]}"#);
    let mut body = who_reads(Some(json!({ "limit": 5 })));
    body["action"]["name"] = json!("fly");
    assert_eq!(
        subjects(&app, body).await.text,
        r#"{"page":{"next_token":"","count":0},"results":[]}"#
    );
}

/// Stores as many users as `count` who may all write the archived record-2.
async fn with_admins(count: usize) -> TestApp {
    let app = app().await;
    let admins: Vec<Entity> = (0..count)
        .map(|n| Entity {
            uid: EntityUid::new("user", format!("admin-{n:05}")),
            attrs: serde_json::from_value(json!({ "role": "admin" })).unwrap(),
            parents: Vec::new(),
            tags: serde_json::Map::new(),
        })
        .collect();
    app.store
        .upsert_entities(app.tenant, &admins)
        .await
        .unwrap();
    app.caught_up().await;
    app
}

fn who_writes_archived(page: Option<Value>) -> Value {
    let mut body = who_reads(page);
    body["action"]["name"] = json!("write");
    body["resource"]["id"] = json!("record-2");
    body
}

#[tokio::test]
async fn pages_hold_every_result_once() {
    let app = with_admins(25).await;
    let whole = ids(&subjects(&app, who_writes_archived(None)).await);
    assert_eq!(whole.len(), 26, "25 and bob");
    for limit in [1, 7, 26, 100] {
        let mut page = json!({ "limit": limit });
        let mut walked = Vec::new();
        loop {
            let reply = subjects(&app, who_writes_archived(Some(page.clone()))).await;
            assert!(reply.text.starts_with(r#"{"page":{"#), "{}", reply.text);
            let found = ids(&reply);
            let body = reply.json();
            assert_eq!(body["page"]["count"], json!(found.len()));
            assert!(found.len() <= limit);
            walked.extend(found);
            let token = body["page"]["next_token"].clone();
            if token == json!("") {
                break;
            }
            // A later page may leave the limit out.
            page = json!({ "token": token });
        }
        assert_eq!(walked, whole, "in pages of {limit}");
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_query_only() {
    let app = with_admins(5).await;
    let first = subjects(&app, who_writes_archived(Some(json!({ "limit": 2 }))))
        .await
        .json();
    let token = first["page"]["next_token"].as_str().unwrap().to_owned();
    let ask = |page: Value| subjects(&app, who_writes_archived(Some(page)));

    assert_eq!(ask(json!({ "token": token })).await.status, StatusCode::OK);
    assert_eq!(
        ask(json!({ "token": token, "limit": 2 })).await.status,
        StatusCode::OK
    );
    let reply = ask(json!({ "token": token, "limit": 3 })).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);

    // Another query, another kind of search, another tenant's key: the token is for none of them.
    let reply = subjects(&app, who_reads(Some(json!({ "token": token })))).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    let mut other = who_writes_archived(Some(json!({ "token": token })));
    other["context"] = json!({ "more": 1 });
    assert_eq!(subjects(&app, other).await.status, StatusCode::BAD_REQUEST);
    let mut other = who_writes_archived(Some(json!({ "token": token })));
    other["subject"] = json!({ "type": "user", "id": "bob" });
    let reply = app.post("/access/v1/search/resource", other).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);

    // Every byte of it counts.
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(bytes).unwrap();
        let reply = ask(json!({ "token": altered })).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "byte {at}");
    }
    for nonsense in ["x", "%", "AAAA", &"A".repeat(100_000)] {
        let reply = ask(json!({ "token": nonsense })).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            reply.json(),
            json!("`page.token` is not a token for this query; start again without one")
        );
    }
}

#[tokio::test]
async fn another_tenant_cannot_use_a_token() {
    let app = with_admins(5).await;
    let first = subjects(&app, who_writes_archived(Some(json!({ "limit": 2 }))))
        .await
        .json();
    let token = first["page"]["next_token"].clone();
    let other = app.store.ensure_tenant("other").await.unwrap();
    let new = remit_store::NewKey {
        name: "other".to_owned(),
        environment: "dev".to_owned(),
        scopes: remit_store::Scope::ALL.iter().copied().collect(),
        expires_at: None,
        principal: None,
    };
    let (_, key) = app
        .store
        .create_key(other, &new, &app.pepper)
        .await
        .unwrap();
    let bundle = bundles::pack("authzen-certification");
    app.store
        .put_bundle(other, remit_store::Expected::Any, &bundle, None)
        .await
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let request = http::Request::post("/access/v1/search/subject")
            .header("authorization", format!("Bearer {}", key.reveal()))
            .header("content-type", "application/json");
        let reply = app
            .send(
                request,
                who_writes_archived(Some(json!({ "token": token }))),
            )
            .await;
        if reply.status == StatusCode::BAD_REQUEST {
            break;
        }
        assert_ne!(reply.status, StatusCode::OK, "{}", reply.text);
        assert!(std::time::Instant::now() < deadline, "{}", reply.text);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_page_has_limits() {
    let app = app().await;
    for (page, message) in [
        (json!({ "limit": 0 }), "`page.limit` must be at least 1"),
        (json!({ "limit": -1 }), "`page.limit`"),
        (
            json!({ "limit": "2" }),
            "`page.limit` must be a whole number, not a string",
        ),
        (
            json!({ "token": 5 }),
            "`page.token` must be a string, not a number",
        ),
        (json!([]), "`page` must be an object, not an array"),
    ] {
        let reply = subjects(&app, who_reads(Some(page.clone()))).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{page}");
        let text = reply.json();
        assert!(
            text.as_str().unwrap().starts_with(message),
            "{page}: {text}"
        );
    }
    for page in [
        json!({}),
        json!({ "limit": u32::MAX }),
        json!({ "limit": null, "properties": {} }),
    ] {
        assert_eq!(
            ids(&subjects(&app, who_reads(Some(page))).await),
            ["alice", "bob"]
        );
    }
}

#[tokio::test]
async fn an_answer_without_pages_is_never_partial() {
    let app = with_admins(10_001).await;
    let reply = subjects(&app, who_writes_archived(None)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    assert!(reply.text.contains("`page`"), "{}", reply.text);
}

#[tokio::test]
async fn metadata_names_every_endpoint_under_the_public_url() {
    let options = Options {
        public_url: "https://pdp.example.com/".to_owned(),
        ..Options::default()
    };
    let app = TestApp::empty(options).await;
    let request =
        http::Request::get("/.well-known/authzen-configuration").header("host", "evil.example");
    let reply = app.send(request, "").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        reply.json(),
        json!({
            "policy_decision_point": "https://pdp.example.com",
            "access_evaluation_endpoint": "https://pdp.example.com/access/v1/evaluation",
            "access_evaluations_endpoint": "https://pdp.example.com/access/v1/evaluations",
            "search_subject_endpoint": "https://pdp.example.com/access/v1/search/subject",
            "search_resource_endpoint": "https://pdp.example.com/access/v1/search/resource",
            "search_action_endpoint": "https://pdp.example.com/access/v1/search/action",
            "access_request_endpoint": "https://pdp.example.com/access/v1/requests",
            "capabilities": ["urn:openid:authzen:capability:access-request"],
            "obligations_supported": ["step-up", "notification", "session_termination", "custom"],
        })
    );
}
