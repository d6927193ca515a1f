//! Tenants over HTTP: made, suspended, exported and deleted by who runs Remit, and apart in everything else.

mod apart;
mod approvals;
mod commands;
mod deletion;

use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use remit_api::{Access, Options};
use remit_core::{Clock, TenantId};
use remit_store::{NewKey, Scope};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use remit_tests::contract::DOCUMENT;
use serde_json::{Value, json};

/// How long anything may take on a machine that compiles something meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tenant as whoever asked for it was answered: its id and its first key.
struct Made {
    id: String,
    key: String,
}

async fn send(test: &TestApp, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"));
    if body.is_null() {
        return test.send(request, "").await;
    }
    let request = request
        .header("content-type", "application/json")
        .header("if-match", "*");
    test.send(request, body).await
}

async fn get(test: &TestApp, key: &str, path: &str) -> Reply {
    send(test, key, "GET", path, &Value::Null).await
}

/// A key that may do everything with tenants, and nothing in its own.
async fn operator(test: &TestApp) -> String {
    test.new_key(&[Scope::Tenants], "dev", None).await
}

async fn make(test: &TestApp, key: &str, name: &str) -> Made {
    let reply = send(test, key, "POST", "/v1/tenants", &json!({ "name": name })).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let shown = reply.json();
    let member = |name: &str| shown[name].as_str().unwrap().to_owned();
    assert_eq!(
        reply.header("location"),
        format!("/v1/tenants/{}", member("id"))
    );
    assert_eq!(
        (member("name"), member("state")),
        (name.to_owned(), "active".to_owned())
    );
    Made {
        id: member("id"),
        key: member("key"),
    }
}

/// Puts a bundle in force, so that the tenant decides.
async fn begin(test: &TestApp, made: &Made) {
    let bundle = serde_json::to_value(pack("starter")).unwrap();
    let request = Request::builder()
        .method("PUT")
        .uri("/v1/bundle")
        .header("authorization", format!("Bearer {}", made.key))
        .header("content-type", "application/json")
        .header("if-none-match", "*");
    let reply = test.send(request, bundle).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

fn question() -> Value {
    json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    })
}

async fn ask(test: &TestApp, key: &str) -> Reply {
    send(test, key, "POST", "/access/v1/evaluation", &question()).await
}

async fn change(test: &TestApp, key: &str, id: &str, verb: &str) -> Reply {
    send(
        test,
        key,
        "POST",
        &format!("/v1/tenants/{id}/{verb}"),
        &Value::Null,
    )
    .await
}

#[tokio::test]
async fn a_tenant_is_made_with_a_key_that_can_do_everything_in_it() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    assert!(acme.key.starts_with("remit_live_"), "{}", acme.key);
    let who = get(&test, &acme.key, "/v1/whoami").await.json();
    assert_eq!(who["tenant"], acme.id.as_str());
    let scopes = json!([
        "evaluate", "search", "read", "write", "keys", "tasks", "approve"
    ]);
    assert_eq!(who["scopes"], scopes, "all, and so not `tenants`");

    assert_eq!(
        ask(&test, &acme.key).await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "no bundle yet"
    );
    begin(&test, &acme).await;
    let answer = ask(&test, &acme.key).await;
    assert_eq!(answer.json()["decision"], true, "{}", answer.text);
    let gateway = json!({ "name": "gateway", "environment": "live", "scopes": ["evaluate"] });
    let made = send(&test, &acme.key, "POST", "/v1/keys", &gateway).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);

    let taken = send(
        &test,
        &operator,
        "POST",
        "/v1/tenants",
        &json!({ "name": "acme" }),
    )
    .await;
    assert_eq!(taken.status, StatusCode::CONFLICT, "{}", taken.text);
    let long = "x".repeat(129);
    for (body, member) in [
        (json!({ "name": "" }), "tenant.name"),
        (json!({ "name": "a\u{0}" }), "tenant.name"),
        (json!({ "name": "\u{1}a" }), "tenant.name"),
        (json!({ "name": long }), "tenant.name"),
        (json!({}), "name"),
        (json!({ "name": 7 }), "name"),
        (json!({ "name": "b", "id": "x" }), "id"),
        (
            json!({ "name": "half", "environment": "Live" }),
            "environment",
        ),
    ] {
        let refused = send(&test, &operator, "POST", "/v1/tenants", &body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            refused.text
        );
        assert!(refused.text.contains(member), "{}", refused.text);
    }
    // What was refused has left nothing: not even the one whose key could not be made.
    let listed = get(&test, &operator, "/v1/tenants").await.json();
    let names: Vec<&str> = listed["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["default", "acme"]);
    make(&test, &operator, "half").await;
}

/// A request that is sent again makes no second tenant, and the key is not told twice.
#[tokio::test]
async fn a_tenant_is_made_once_however_often_it_is_asked_for() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let send = |name: &'static str| {
        let request = Request::builder()
            .method("POST")
            .uri("/v1/tenants")
            .header("authorization", format!("Bearer {operator}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "the first customer");
        test.send(request, json!({ "name": name }))
    };
    let first = send("acme").await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let again = send("acme").await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    assert_eq!(again.json()["tenant"], first.json()["id"]);
    assert!(!again.text.contains("remit_live_"), "{}", again.text);
    let other = send("other").await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json()["code"], "idempotency-key-reused");
    let key = first.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(get(&test, &key, "/v1/whoami").await.status, StatusCode::OK);
    let listed = get(&test, &operator, "/v1/tenants").await.json();
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tenants_are_listed_in_pages_and_read_one_by_one() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let mut ids = vec![test.tenant.to_string()];
    for number in 0..4 {
        ids.push(make(&test, &operator, &format!("t{number}")).await.id);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tenants?limit=2".to_owned();
    loop {
        let page = get(&test, &operator, &path).await;
        let body = page.json();
        seen.extend(
            body["tenants"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = body["next"].as_str() else {
            break;
        };
        path = format!("/v1/tenants?limit=2&cursor={next}");
        assert!(page.header("link").contains(next));
    }
    assert_eq!(seen, ids, "oldest first");
    let one = get(&test, &operator, &format!("/v1/tenants/{}", ids[2]))
        .await
        .json();
    assert_eq!(
        (one["name"].as_str(), one["state"].as_str()),
        (Some("t1"), Some("active"))
    );
    for path in [
        "/v1/tenants?limit=0",
        "/v1/tenants?cursor=zz",
        "/v1/tenants?name=t1",
    ] {
        assert_eq!(
            get(&test, &operator, path).await.status,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    let nobody = TenantId::from_uuid(Clock::system().id());
    for (method, rest) in [
        ("GET", ""),
        ("GET", "/export"),
        ("POST", "/suspend"),
        ("POST", "/resume"),
        ("DELETE", "?name=x"),
    ] {
        let path = format!("/v1/tenants/{nobody}{rest}");
        let reply = send(&test, &operator, method, &path, &Value::Null).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    let odd = get(&test, &operator, "/v1/tenants/acme").await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST, "{}", odd.text);
}

/// The scope is in none of the others, and only who has it can give it.
#[tokio::test]
async fn the_scope_is_given_by_who_has_it_and_by_nobody_else() {
    let test = TestApp::start(&pack("starter")).await;
    assert!(!Scope::ALL.contains(&Scope::Tenants));
    assert_eq!(Scope::ALL.len() + 1, Scope::EVERY.len());
    let refused = test.get("/v1/tenants").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "a key with `all`");
    assert_eq!(refused.json()["code"], "missing-scope");
    let wanted = json!({ "name": "op", "environment": "dev", "scopes": ["tenants"] });
    let refused = test.post("/v1/keys", &wanted).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    let first = test
        .new_key(&[Scope::Tenants, Scope::Keys], "dev", None)
        .await;
    let given = send(&test, &first, "POST", "/v1/keys", &wanted).await;
    assert_eq!(given.status, StatusCode::CREATED, "{}", given.text);
    let second = given.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(
        get(&test, &second, "/v1/tenants").await.status,
        StatusCode::OK
    );
    // It opens nothing else: neither its own tenant nor another.
    for path in ["/v1/bundle", "/v1/entities", "/v1/decisions", "/v1/keys"] {
        assert_eq!(
            get(&test, &second, path).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    assert_eq!(ask(&test, &second).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_key_of_a_suspended_tenant_is_refused_and_nothing_is_lost() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    begin(&test, &acme).await;
    let before = get(&test, &acme.key, "/v1/bundle").await;
    assert_eq!(ask(&test, &acme.key).await.status, StatusCode::OK);

    let suspended = change(&test, &operator, &acme.id, "suspend").await;
    assert_eq!(suspended.status, StatusCode::OK, "{}", suspended.text);
    let shown = suspended.json();
    assert_eq!(shown["state"], "suspended");
    assert!(shown["suspended_at"].is_string());
    let again = change(&test, &operator, &acme.id, "suspend").await.json();
    assert_eq!(again, shown, "again changes nothing");
    for endpoint in remit_api::endpoints() {
        if endpoint.access == Access::Anybody {
            continue;
        }
        let path: Vec<&str> = endpoint
            .path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect();
        let reply = send(
            &test,
            &acme.key,
            endpoint.method,
            &path.join("/"),
            &Value::Null,
        )
        .await;
        let asked = format!("{} {}: {}", endpoint.method, endpoint.path, reply.text);
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{asked}");
        assert!(reply.text.contains("suspended"), "{asked}");
    }
    // Everybody else is served.
    assert_eq!(ask(&test, &test.key).await.status, StatusCode::OK);
    assert_eq!(test.get("/v1/keys").await.status, StatusCode::OK);

    let resumed = change(&test, &operator, &acme.id, "resume").await;
    assert_eq!(resumed.json()["state"], "active");
    assert!(resumed.json().get("suspended_at").is_none());
    let twice = change(&test, &operator, &acme.id, "resume").await;
    assert_eq!(twice.json(), resumed.json());
    let answer = ask(&test, &acme.key).await;
    assert_eq!(answer.json()["decision"], true, "{}", answer.text);
    assert_eq!(get(&test, &acme.key, "/v1/bundle").await.text, before.text);
}

/// What cannot be loaded any more can still be stopped.
#[tokio::test]
async fn a_broken_tenant_is_suspended_too() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let database = remit_tests::sql::patient(url.clone());
    // Two thirds of it are how long a change waits to come into force.
    let options = Options {
        deadline: Duration::from_secs(6),
        ..Options::default()
    };
    let mut test = TestApp::sharing(&database, options).await;
    test.put(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    begin(&test, &acme).await;
    let bytes = acme.id.replace('-', "");
    let damage = format!("UPDATE bundles SET hash = 'x' WHERE tenant = x'{bytes}'");
    remit_tests::sql::execute(&url, &damage).await;
    let suspended = change(&test, &operator, &acme.id, "suspend").await;
    assert_eq!(suspended.status, StatusCode::OK, "{}", suspended.text);
    assert_eq!(ask(&test, &acme.key).await.status, StatusCode::FORBIDDEN);
    let resumed = change(&test, &operator, &acme.id, "resume").await;
    assert_eq!(
        resumed.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        resumed.text
    );
}

/// The tenant of one's own key is not suspended or deleted by it: who did would have locked themselves out.
#[tokio::test]
async fn nobody_suspends_or_deletes_the_tenant_of_their_own_key() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let own = format!("/v1/tenants/{}", test.tenant);
    for (method, path) in [
        ("POST", format!("{own}/suspend")),
        ("DELETE", format!("{own}?name=default")),
    ] {
        let refused = send(&test, &operator, method, &path, &Value::Null).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
        assert!(
            refused.text.contains("your own API key"),
            "{}",
            refused.text
        );
    }
    assert_eq!(get(&test, &operator, &own).await.json()["state"], "active");
}

/// A replica that did not suspend refuses too, by the road on which everything comes into force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_reaches_every_replica() {
    let folder = tempfile::tempdir().unwrap();
    let database = remit_store::Options {
        deadline: PATIENCE,
        ..remit_store::Options::new(format!(
            "sqlite:{}",
            folder.path().join("remit.db").display()
        ))
    };
    let options = Options {
        max_staleness: PATIENCE,
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, options.clone()).await;
    let b = TestApp::sharing(&database, options).await;
    a.put(&pack("starter")).await;
    b.caught_up().await;
    let operator = operator(&a).await;
    let acme = make(&a, &operator, "acme").await;
    begin(&a, &acme).await;
    let until = async |status: StatusCode| {
        let began = Instant::now();
        while ask(&b, &acme.key).await.status != status {
            assert!(began.elapsed() < PATIENCE, "not {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    };
    until(StatusCode::OK).await;
    change(&a, &operator, &acme.id, "suspend").await;
    println!(
        "suspended on the other replica after {:?}",
        until(StatusCode::FORBIDDEN).await
    );
    change(&a, &operator, &acme.id, "resume").await;
    until(StatusCode::OK).await;
    // For the whole fleet at once.
    let path = format!("/v1/tenants/{}/suspend?wait=fleet", acme.id);
    let reply = send(&a, &operator, "POST", &path, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(ask(&b, &acme.key).await.status, StatusCode::FORBIDDEN);
    // A deleted one is forgotten there too: its key is unknown, and readiness does not speak of it.
    let path = format!("/v1/tenants/{}?name=acme", acme.id);
    let reply = send(&a, &operator, "DELETE", &path, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    until(StatusCode::UNAUTHORIZED).await;
    let began = Instant::now();
    while b.operations("/readyz").await.text.contains(&acme.id) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_export_is_whole_or_says_so() {
    let test = TestApp::shipping(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    begin(&test, &acme).await;
    let decision = ask(&test, &acme.key)
        .await
        .header("x-decision-id")
        .to_owned();
    let listed = get(&test, &acme.key, "/v1/decisions").await;
    assert!(listed.text.contains(&decision));
    let path = format!("/v1/tenants/{}/export", acme.id);
    let export = get(&test, &operator, &path).await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["tenant"]["name"], "acme");
    let counted = |table: &str| lines.iter().filter(|line| line["table"] == table).count();
    let end = &lines.last().unwrap()["end"]["rows"];
    for (table, rows) in end.as_object().unwrap() {
        assert_eq!(counted(table) as u64, rows.as_u64().unwrap(), "{table}");
    }
    assert_eq!(
        (
            counted("bundles"),
            counted("api_keys"),
            counted("decisions")
        ),
        (1, 1, 1)
    );
    assert!(export.text.contains(&decision));
    let secret = acme.key.split('_').nth(3).unwrap();
    for hidden in ["\"mac\"", secret, &test.tenant.to_string()] {
        assert!(!export.text.contains(hidden), "{hidden}");
    }
}

/// A table that cannot be read cuts the answer off: half an export must not look like a whole one.
#[tokio::test]
async fn an_export_that_fails_half_way_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let database = remit_tests::sql::patient(url.clone());
    let mut test = TestApp::sharing(&database, Options::default()).await;
    test.put(&pack("starter")).await;
    let operator = operator(&test).await;
    let path = format!("/v1/tenants/{}/export", test.tenant);
    let rename = "ALTER TABLE bundles RENAME COLUMN message TO said";
    remit_tests::sql::execute(&url, rename).await;
    let request = Request::builder()
        .uri(&path)
        .header("authorization", format!("Bearer {operator}"));
    assert!(test.is_cut_off(request).await);
}
