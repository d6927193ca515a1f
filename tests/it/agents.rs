//! Agents over HTTP: registered, replaced, suspended, resumed and retired; and what makes no sense refused by name.

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

pub(crate) mod commands;
pub mod standing;

pub const ROBOT: &str = "/v1/agents/Agent/robot";

/// An agent that Maya answers for, by the clock of [`TestApp`].
pub fn body() -> Value {
    json!({
        "owner": "maya", "purpose": "Pays invoices", "environment": "production", "model": "m-1", "trust": 2,
        "roles": ["payer"], "review_at": "2026-06-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z",
    })
}

pub fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

async fn start() -> TestApp {
    let test = TestApp::start(&pack("starter")).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    test
}

async fn put(test: &TestApp, path: &str, body: &Value) -> Reply {
    test.send(test.request(Method::PUT, path), body).await
}

async fn ask(test: &TestApp, method: Method, path: &str) -> Reply {
    test.send(test.request(method, path), "").await
}

#[tokio::test]
async fn an_agent_is_registered_replaced_stopped_and_retired() {
    let test = start().await;
    let made = put(&test, ROBOT, &body()).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let shown = made.json();
    assert_eq!(shown["uid"], json!({ "type": "Agent", "id": "robot" }));
    assert_eq!(
        (&shown["status"], &shown["standing"]),
        (&json!("active"), &json!("active"))
    );
    let tag = made.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", made.header("remit-revision")));
    assert_eq!(test.get(ROBOT).await.json(), shown);
    let unchanged = test
        .request(Method::GET, ROBOT)
        .header("if-none-match", &tag);
    assert_eq!(
        test.send(unchanged, "").await.status,
        StatusCode::NOT_MODIFIED
    );

    // Only over what was read, and only where there is none.
    let other = with(body(), "trust", json!(3));
    let fresh = test
        .request(Method::PUT, ROBOT)
        .header("if-none-match", "*");
    let taken = test.send(fresh, &other).await;
    assert_eq!(
        taken.status,
        StatusCode::PRECONDITION_FAILED,
        "{}",
        taken.text
    );
    let over = |tag: &str| test.request(Method::PUT, ROBOT).header("if-match", tag);
    let changed = test.send(over(&tag), &other).await;
    assert_eq!(changed.json()["trust"], 3, "{}", changed.text);
    let late = test.send(over(&tag), &body()).await;
    assert_eq!(
        late.status,
        StatusCode::PRECONDITION_FAILED,
        "{}",
        late.text
    );

    let suspend = format!("{ROBOT}/suspend");
    let stopped = ask(&test, Method::POST, &suspend).await;
    assert_eq!(stopped.json()["standing"], "suspended", "{}", stopped.text);
    // What is put does not let it go on.
    let replaced = put(&test, ROBOT, &body()).await;
    assert_eq!(replaced.json()["status"], "suspended", "{}", replaced.text);
    let resumed = ask(&test, Method::POST, &format!("{ROBOT}/resume?wait=fleet")).await;
    assert_eq!(resumed.json()["standing"], "active", "{}", resumed.text);

    let retired = ask(&test, Method::DELETE, ROBOT).await;
    assert_eq!(retired.json()["standing"], "expired", "{}", retired.text);
    for (method, path) in [
        (Method::POST, suspend.as_str()),
        (Method::POST, "/v1/agents/Agent/robot/resume"),
        (Method::DELETE, ROBOT),
    ] {
        let refused = ask(&test, method, path).await;
        assert_eq!(
            refused.status,
            StatusCode::CONFLICT,
            "{path}: {}",
            refused.text
        );
    }
    let again = put(&test, ROBOT, &body()).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    assert_eq!(test.get(ROBOT).await.json()["status"], "retired");

    let actions = test.get("/v1/admin/actions?limit=100").await.json();
    let done: Vec<&str> = actions["actions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["resource"]["type"] == "Agent")
        .map(|one| one["action"].as_str().unwrap())
        .collect();
    let expected = [
        "retire_agent",
        "resume_agent",
        "put_agent",
        "suspend_agent",
        "put_agent",
        "put_agent",
    ];
    assert_eq!(done, expected, "what was refused by the state is no record");
    let metrics = test.operations("/metrics").await.text;
    assert!(metrics.contains("remit_agents 1\n"), "{metrics}");
}

#[tokio::test]
async fn an_agent_that_makes_no_sense_is_refused_by_name() {
    let test = start().await;
    test.principal("robot", PrincipalKind::Machine, &[]).await;
    let long = |most: usize| json!("x".repeat(most + 1));
    let roles: Vec<String> = (0..33).map(|number| format!("r{number}")).collect();
    for (member, value) in [
        ("owner", json!("nobody")),
        ("owner", json!("robot")),
        ("owner", json!("")),
        ("purpose", json!(" ")),
        ("purpose", json!("two\nlines")),
        ("purpose", long(1_024)),
        ("environment", long(64)),
        ("model", long(128)),
        ("model", json!("e\u{301}")),
        ("trust", json!(4)),
        ("trust", json!(-1)),
        ("trust", json!("high")),
        ("roles", json!(roles)),
        ("roles[0]", json!(null)),
        ("review_at", json!("2026-01-05T10:00:00Z")),
        ("review_at", json!("2027-01-07T10:00:00Z")),
        ("ends_at", json!("2025-01-05T10:00:00Z")),
        ("ends_at", json!("2027-01-07T10:00:00Z")),
        ("ends_at", json!("tomorrow")),
        ("build", json!("sha256:1")),
        ("principal", json!("nobody")),
        ("principal", json!("maya")),
        ("principal", json!("remit")),
        (
            "principal",
            json!("key:019aa8e0-0000-7000-8000-000000000001"),
        ),
        ("status", json!("active")),
    ] {
        let sent = match member {
            "roles[0]" => with(body(), "roles", json!(["x".repeat(65)])),
            member => with(body(), member, value),
        };
        let refused = put(&test, ROBOT, &sent).await;
        let detail = refused.text.clone();
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{member}: {detail}"
        );
        assert!(detail.contains(&format!("`{member}")), "{member}: {detail}");
    }
    for member in ["owner", "purpose", "model", "trust", "ends_at", "review_at"] {
        let mut sent = body();
        sent.as_object_mut().unwrap().remove(member);
        let refused = put(&test, ROBOT, &sent).await;
        assert!(
            refused.text.contains(&format!("`{member}` is missing")),
            "{}",
            refused.text
        );
    }
    for path in [
        "/v1/agents/Agent/e%CC%81".to_owned(),
        format!("/v1/agents/Agent/{}", "x".repeat(1_025)),
        format!("/v1/agents/{}/robot", "x".repeat(257)),
    ] {
        let refused = put(&test, &path, &body()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    }
    for path in [ROBOT, "/v1/agents/Agent/robot/suspend"] {
        let method = if path == ROBOT {
            Method::GET
        } else {
            Method::POST
        };
        let absent = ask(&test, method, path).await;
        assert_eq!(absent.status, StatusCode::NOT_FOUND, "{}", absent.text);
    }
    assert_eq!(test.get("/v1/agents").await.json(), json!({ "agents": [] }));
    // A machine, and a key that is bound to nobody, are what an agent calls as.
    let machine = with(body(), "principal", json!("robot"));
    assert_eq!(put(&test, ROBOT, &machine).await.status, StatusCode::OK);
    let key = test.new_key(&[Scope::Evaluate], "dev", None).await;
    let who = test
        .as_key(&key, Method::GET, "/v1/whoami", &Value::Null)
        .await;
    let itself = with(body(), "principal", who.json()["principal"]["name"].clone());
    let bound = put(&test, ROBOT, &itself).await;
    assert_eq!(bound.status, StatusCode::OK, "{}", bound.text);
}

#[tokio::test]
async fn a_registration_that_is_sent_twice_is_made_once() {
    let test = start().await;
    let send = async |body: Value| {
        let request = test
            .request(Method::PUT, ROBOT)
            .header("idempotency-key", "one");
        test.send(request, body).await
    };
    let first = send(body()).await;
    let again = send(body()).await;
    assert_eq!(first.json(), again.json());
    assert_eq!(first.header("etag"), again.header("etag"));
    let other = send(with(body(), "trust", json!(0))).await;
    assert_eq!(
        other.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        other.text
    );
}

#[tokio::test]
async fn agents_are_listed_in_pages_and_by_what_they_are() {
    let test = start().await;
    test.principal("tom", PrincipalKind::Person, &[]).await;
    for (id, owner) in [("a", "maya"), ("b", "tom"), ("c", "maya")] {
        let path = format!("/v1/agents/Agent/{id}");
        let made = put(&test, &path, &with(body(), "owner", json!(owner))).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    }
    ask(&test, Method::POST, "/v1/agents/Agent/c/suspend").await;
    let ids = |reply: &Reply| -> Vec<String> {
        let listed = reply.json()["agents"].as_array().unwrap().clone();
        let ids = listed.iter().map(|one| one["uid"]["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    };
    let first = test.get("/v1/agents?limit=2").await;
    assert_eq!(ids(&first), ["a", "b"]);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let rest = test.get(&format!("/v1/agents?limit=2&cursor={next}")).await;
    assert_eq!(ids(&rest), ["c"]);
    assert_eq!(ids(&test.get("/v1/agents?owner=maya").await), ["a", "c"]);
    assert_eq!(ids(&test.get("/v1/agents?status=suspended").await), ["c"]);
    for query in ["status=asleep", "owner=", "stauts=active", "limit=1001"] {
        let refused = test.get(&format!("/v1/agents?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

/// The scope and the role both count, and each act has its own.
#[tokio::test]
async fn whoever_stops_an_agent_need_not_be_who_registers_it() {
    let test = start().await;
    put(&test, ROBOT, &body()).await;
    let otto = test.person("otto", &[Role::Operator], Scope::ALL).await;
    let ada = test.person("ada", &[Role::Admin], Scope::ALL).await;
    let send = async |key: &str, method: Method, path: &str, body: &Value| {
        test.as_key(key, method, path, body).await.status
    };
    let (suspend, resume) = (format!("{ROBOT}/suspend"), format!("{ROBOT}/resume"));
    let forbidden = StatusCode::FORBIDDEN;
    let none = Value::Null;
    assert_eq!(
        send(&otto, Method::POST, &suspend, &none).await,
        StatusCode::OK
    );
    assert_eq!(send(&otto, Method::POST, &resume, &none).await, forbidden);
    assert_eq!(send(&otto, Method::PUT, ROBOT, &body()).await, forbidden);
    assert_eq!(send(&otto, Method::DELETE, ROBOT, &none).await, forbidden);
    assert_eq!(
        send(&ada, Method::POST, &resume, &none).await,
        StatusCode::OK
    );
    assert_eq!(
        send(&ada, Method::PUT, ROBOT, &body()).await,
        StatusCode::OK
    );
    let narrow = test.new_key(&[Scope::Tasks], "dev", None).await;
    assert_eq!(
        send(&narrow, Method::POST, &suspend, &none).await,
        StatusCode::OK
    );
    let who = test.as_key(&narrow, Method::GET, "/v1/whoami", &none).await;
    assert_eq!(who.json()["principal"]["roles"], json!(["operator"]));
}
