//! Principals over HTTP: made, bound to keys, given other roles, disabled.

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

use crate::serve::Server;

const EVERY: &[Scope] = Scope::ALL;

async fn put(test: &TestApp, key: &str, name: &str, kind: &str, roles: &[&str]) -> Reply {
    let path = format!("/v1/principals/{name}");
    let body = json!({ "kind": kind, "roles": roles });
    test.as_key(key, Method::PUT, &path, &body).await
}

async fn disable(test: &TestApp, key: &str, name: &str) -> Reply {
    let path = format!("/v1/principals/{name}");
    test.as_key(key, Method::DELETE, &path, &Value::Null).await
}

async fn who(test: &TestApp, key: &str) -> Reply {
    test.as_key(key, Method::GET, "/v1/whoami", &Value::Null)
        .await
}

#[tokio::test]
async fn a_principal_is_made_bound_changed_disabled_and_brought_back() {
    let test = TestApp::start(&pack("starter")).await;
    let made = put(&test, &test.key, "maya", "person", &["author", "reader"]).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    assert_eq!(made.json()["roles"], json!(["reader", "author"]));
    assert!(!made.header("remit-revision").is_empty());

    let body = json!({ "name": "laptop", "environment": "dev", "scopes": ["read", "write"], "principal": "maya" });
    let created = test.post("/v1/keys", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.json()["principal"], "maya");
    let key = created.json()["key"].as_str().unwrap().to_owned();
    let shown = who(&test, &key).await.json();
    let expected = json!({ "name": "maya", "kind": "person", "roles": ["reader", "author"] });
    assert_eq!(shown["principal"], expected);
    let keys = test.get("/v1/keys").await.json();
    let bound = |key: &Value| key["principal"] == "maya";
    assert_eq!(
        keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|key| bound(key))
            .count(),
        1
    );

    // The roles are looked up at each request, not kept with the key.
    let policy =
        json!({ "text": "@id(\"p\") forbid (principal, action, resource) when { false };" });
    let write = async || {
        let request = http::Request::builder()
            .method(Method::PUT)
            .uri("/v1/policies/p")
            .header("authorization", format!("Bearer {key}"))
            .header("if-none-match", "*")
            .header("content-type", "application/json");
        test.send(request, &policy).await
    };
    let denied = write().await;
    assert_eq!(denied.json()["code"], "not-permitted", "{}", denied.text);
    assert_eq!(denied.json()["roles"], json!(["publisher"]));
    put(&test, &test.key, "maya", "person", &["publisher"]).await;
    assert_eq!(write().await.status, StatusCode::OK);

    let gone = disable(&test, &test.key, "maya").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    assert_eq!(who(&test, &key).await.status, StatusCode::UNAUTHORIZED);
    assert!(test.get("/v1/principals/maya").await.json()["disabled_at"].is_string());
    assert_eq!(
        disable(&test, &test.key, "maya").await.status,
        StatusCode::NO_CONTENT
    );

    let refused = test.post("/v1/keys", &body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(
        refused
            .text
            .contains("`principal` names a principal that is disabled"),
        "{}",
        refused.text
    );

    put(&test, &test.key, "maya", "person", &[]).await;
    assert_eq!(who(&test, &key).await.status, StatusCode::OK);
    assert_eq!(write().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_key_that_is_bound_to_nobody_acts_for_itself() {
    let test = TestApp::start(&pack("starter")).await;
    for (scopes, roles) in [
        (&[Scope::Evaluate, Scope::Search][..], json!([])),
        (&[Scope::Read][..], json!(["reader", "auditor"])),
        (&[Scope::Write][..], json!(["author", "publisher"])),
        (&[Scope::Keys][..], json!(["admin"])),
        (&[Scope::Tasks][..], json!(["operator"])),
        (&[Scope::Approve][..], json!(["approver"])),
    ] {
        let key = test.new_key(scopes, "dev", None).await;
        let shown = who(&test, &key).await.json();
        let name = format!("key:{}", shown["key"].as_str().unwrap());
        let expected = json!({ "name": name, "kind": "machine", "roles": roles });
        assert_eq!(shown["principal"], expected);
    }
}

/// Both must allow: the scope of the key, and a role of its principal.
#[tokio::test]
async fn a_scope_stays_a_limit_whatever_the_roles() {
    let test = TestApp::start(&pack("starter")).await;
    let narrow = test.person("maya", Role::ALL, &[Scope::Read]).await;
    let path = "/v1/entities/Team/night";
    let reply = test.as_key(&narrow, Method::PUT, path, &json!({})).await;
    assert_eq!(reply.json()["code"], "missing-scope", "{}", reply.text);
    let wide = test.person("tom", &[], EVERY).await;
    let reply = test.as_key(&wide, Method::PUT, path, &json!({})).await;
    assert_eq!(reply.json()["code"], "not-permitted", "{}", reply.text);
    assert_eq!(reply.json()["roles"], json!(["publisher"]));
}

#[tokio::test]
async fn a_principal_that_makes_no_sense_is_refused_by_name() {
    let test = TestApp::start(&pack("starter")).await;
    let long = "x".repeat(129);
    for (name, named) in [
        ("key:mine", "name"),
        ("remit", "name"),
        ("a%0Ab", "name"),
        ("e%CC%81", "name"),
        (long.as_str(), "name"),
    ] {
        let refused = put(&test, &test.key, name, "person", &[]).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{name}: {}",
            refused.text
        );
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(named),
            "{}",
            refused.text
        );
    }
    for (body, named) in [
        (json!({ "roles": [] }), "`kind`"),
        (
            json!({ "kind": "robot", "roles": [] }),
            "`kind` must be `person` or `machine`",
        ),
        (json!({ "kind": "person" }), "`roles`"),
        (
            json!({ "kind": "person", "roles": ["king"] }),
            "`roles[0]` must be one of",
        ),
        (
            json!({ "kind": "person", "roles": [], "name": "maya" }),
            "`name`",
        ),
    ] {
        let refused = test
            .as_key(&test.key, Method::PUT, "/v1/principals/maya", &body)
            .await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            refused.text
        );
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(named),
            "{}",
            refused.text
        );
    }
    let key =
        json!({ "name": "x", "environment": "dev", "scopes": ["read"], "principal": "nobody" });
    let refused = test.post("/v1/keys", &key).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(
        refused.text.contains("`principal` names nobody"),
        "{}",
        refused.text
    );
    for method in [Method::GET, Method::DELETE] {
        let unknown = test
            .as_key(&test.key, method, "/v1/principals/nobody", &Value::Null)
            .await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.text);
    }
    assert_eq!(
        test.get("/v1/principals").await.json()["principals"],
        json!([])
    );

    test.principal("maya", PrincipalKind::Person, &[]).await;
    let other = put(&test, &test.key, "maya", "machine", &[]).await;
    assert_eq!(other.json()["code"], "conflict", "{}", other.text);
    let shown = test.get("/v1/principals/maya").await.json();
    assert_eq!(shown["kind"], "person");
}

#[tokio::test]
async fn principals_are_listed_in_pages() {
    let test = TestApp::start(&pack("starter")).await;
    for name in ["b", "a", "c d", "ä"] {
        test.principal(name, PrincipalKind::Machine, &[]).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/principals?limit=1".to_owned();
    loop {
        let page = test.get(&path).await.json();
        names.push(page["principals"][0]["name"].as_str().unwrap().to_owned());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/principals?limit=1&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c d", "ä"]);
    let wrong = test.get("/v1/principals?limit=0").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

/// The last road to mend things is not given up, by whichever of the three changes.
#[tokio::test]
async fn nobody_locks_everybody_out() {
    let test = TestApp::start(&pack("starter")).await;
    let maya = test
        .person("maya", &[Role::Admin, Role::Auditor], EVERY)
        .await;
    let keys = test.get("/v1/keys").await.json();
    let everything = keys["keys"][0]["id"].as_str().unwrap().to_owned();
    let hers = keys["keys"][1]["id"].as_str().unwrap().to_owned();
    let revoke = async |id: &str| {
        test.as_key(
            &maya,
            Method::DELETE,
            &format!("/v1/keys/{id}"),
            &Value::Null,
        )
        .await
    };
    assert_eq!(revoke(&everything).await.status, StatusCode::NO_CONTENT);
    for refused in [
        revoke(&hers).await,
        disable(&test, &maya, "maya").await,
        put(&test, &maya, "maya", "person", &["auditor"]).await,
    ] {
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text
        );
        assert_eq!(refused.json()["code"], "lock-out");
        assert_eq!(
            refused.json()["nobody_may"],
            json!(["put_bundle", "put_principal"])
        );
    }
    // A publisher without a key could not, and one with a key can.
    put(&test, &maya, "tom", "person", &["publisher"]).await;
    assert_eq!(
        disable(&test, &maya, "maya").await.json()["code"],
        "lock-out"
    );
    let body = json!({ "name": "x", "environment": "dev", "scopes": ["read", "write"], "principal": "tom" });
    let created = test.as_key(&maya, Method::POST, "/v1/keys", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let gone = disable(&test, &maya, "maya").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    assert_eq!(who(&test, &maya).await.status, StatusCode::UNAUTHORIZED);
}

/// What each checked against the other's state is not written over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_who_disable_each_other_one_stays() {
    for _ in 0..10 {
        let test = TestApp::start(&pack("starter")).await;
        let ada = test.person("ada", &[Role::Admin], EVERY).await;
        let bob = test.person("bob", &[Role::Admin], EVERY).await;
        let keys = test.store.keys(test.tenant).await.unwrap();
        let everything = keys.iter().find(|key| !key.bound).unwrap().id;
        let none = remit_store::Change::default();
        let revoked = test
            .store
            .revoke_key(test.tenant, everything, None, none)
            .await
            .unwrap();
        test.reached(revoked).await;
        let (left, right) = tokio::join!(disable(&test, &ada, "bob"), disable(&test, &bob, "ada"));
        let enabled = test.store.principals(test.tenant, None, 10).await.unwrap();
        let enabled = enabled
            .iter()
            .filter(|one| one.disabled_at.is_none())
            .count();
        assert_eq!(enabled, 1, "{} {}", left.text, right.text);
        let lost = [left, right]
            .into_iter()
            .find(|reply| reply.status != StatusCode::NO_CONTENT)
            .unwrap();
        let said = [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNAUTHORIZED];
        assert!(said.contains(&lost.status), "{}", lost.text);
    }
}

/// A replica that has not heard yet does nothing for whoever was disabled.
#[tokio::test]
async fn who_was_disabled_changes_nothing_through_a_replica_that_does_not_know() {
    let mut test = TestApp::start(&pack("starter")).await;
    let ada = test.person("ada", &[Role::Admin], EVERY).await;
    let body = json!({ "name": "x", "environment": "dev", "scopes": ["read"] });
    test.pause().await;
    let name = "ada".parse().unwrap();
    let none = remit_store::Change::default();
    let disabled = test
        .store
        .disable_principal(test.tenant, None, &name, none)
        .await
        .unwrap();
    assert_eq!(
        who(&test, &ada).await.status,
        StatusCode::OK,
        "not heard yet"
    );
    let late = test.as_key(&ada, Method::POST, "/v1/keys", &body).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED, "{}", late.text);
    assert_eq!(test.store.heads().await.unwrap()[0].revision, disabled);
    assert_eq!(test.store.keys(test.tenant).await.unwrap().len(), 2);
}

#[test]
fn principals_are_set_bound_and_disabled_from_the_command_line() {
    let server = Server::dev();
    let set = ["principal", "set", "maya", "--kind", "person", "--roles"];
    let with = |roles: &'static str| [&set[..], &[roles]].concat();
    server
        .run(&with("author,reader"))
        .succeeds(&["maya", "reader,author"]);
    let made = server.run(&[
        "key",
        "create",
        "laptop",
        "--scopes",
        "read,write",
        "--principal",
        "maya",
    ]);
    made.succeeds(&["remit_live_"]);
    let key = made.stdout.trim().to_owned();
    server
        .run(&["key", "list"])
        .succeeds(&["principal", "maya"]);
    server.run_as(&key, &["policy", "history"]).succeeds(&[]);
    server.run_as(&key, &["policy", "rollback", "1"]).fails(
        77,
        &[
            "403",
            "`maya` may not `rollback_bundle`",
            "`publisher`",
            "remit principal set",
        ],
    );
    let denied = server
        .run(&["admin", "actions", "--verdict", "deny", "-o", "json"])
        .json();
    assert_eq!(denied[0]["principal"], "maya");
    assert_eq!(denied[0]["action"], "rollback_bundle");
    server
        .run(&["admin", "actions", "--principal", "maya"])
        .succeeds(&["rollback_bundle", "deny", "no_permit"]);
    server
        .run(&[
            "admin",
            "actions",
            "--action",
            "put_principal",
            "--verdict",
            "permit",
        ])
        .succeeds(&["Principal::\"maya\"", "policy_permit"]);

    let listed = server.run(&["principal", "list", "-o", "json"]).json();
    assert_eq!(listed[0]["roles"], json!(["reader", "author"]));
    server
        .run(&["principal", "disable", "maya"])
        .fails(0, &["maya is disabled"]);
    server
        .run(&["principal", "list"])
        .succeeds(&["maya", "disabled "]);
    server
        .run_as(&key, &["policy", "history"])
        .fails(77, &["401"]);
    server
        .run(&["principal", "disable", "nobody"])
        .fails(3, &["404"]);
    server
        .run(&["principal", "set", "x", "--kind", "robot"])
        .fails(64, &["person"]);
    server.run(&with("king")).fails(64, &["role"]);
}
