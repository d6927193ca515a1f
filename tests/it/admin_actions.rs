//! Records of administration: there with the change or not at all, and before a refusal is heard.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::Role;
use remit_store::Scope;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::sql::execute;
use serde_json::{Value, json};

const EVERY: &[Scope] = Scope::ALL;

async fn actions(test: &TestApp, query: &str) -> Vec<Value> {
    let reply = test.get(&format!("/v1/admin/actions{query}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()["actions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_change_has_its_record_and_what_only_reads_has_none() {
    let test = TestApp::start(&pack("starter")).await;
    let maya = test
        .person("maya", &[Role::Publisher, Role::Admin], EVERY)
        .await;
    let bundle = serde_json::to_value(pack("starter")).unwrap();
    let policy = json!({ "text": "@id(\"tools-by-day\") permit (principal, action, resource);" });
    let new = json!({ "name": "x", "environment": "dev", "scopes": ["read"] });
    let entity = json!([{ "uid": { "type": "Team", "id": "night" } }]);
    let version = test.get("/v1/bundle/versions").await.json()["versions"][0]["revision"].clone();
    let mut expected = Vec::new();
    let victim = test.new_key(&[Scope::Read], "dev", None).await;
    let victim: remit_core::KeyId = victim.split('_').nth(2).unwrap().parse().unwrap();
    for (method, path, body, action, kind, id) in [
        (
            Method::PUT,
            "/v1/bundle",
            &bundle,
            "put_bundle",
            "Tenant",
            None,
        ),
        (
            Method::POST,
            "/v1/bundle/rollback",
            &json!({ "to": version }),
            "rollback_bundle",
            "Tenant",
            None,
        ),
        (
            Method::POST,
            "/v1/entities/bulk",
            &entity,
            "change_entities",
            "Tenant",
            None,
        ),
        (
            Method::PUT,
            "/v1/entities/Team/night",
            &json!({}),
            "put_entity",
            "LiveEntity",
            Some("Team::\"night\""),
        ),
        (
            Method::DELETE,
            "/v1/entities/Team/night",
            &Value::Null,
            "delete_entity",
            "LiveEntity",
            Some("Team::\"night\""),
        ),
        (Method::POST, "/v1/keys", &new, "create_key", "Tenant", None),
        (
            Method::DELETE,
            &format!("/v1/keys/{victim}"),
            &Value::Null,
            "revoke_key",
            "Key",
            Some(victim.to_string().as_str()),
        ),
        (
            Method::PUT,
            "/v1/principals/otto",
            &json!({ "kind": "machine", "roles": ["reader"] }),
            "put_principal",
            "Principal",
            Some("otto"),
        ),
        (
            Method::DELETE,
            "/v1/principals/otto",
            &Value::Null,
            "disable_principal",
            "Principal",
            Some("otto"),
        ),
    ] {
        let reply = test.as_key(&maya, method, path, body).await;
        assert!(reply.status.is_success(), "{action}: {}", reply.text);
        let revision: u64 = reply.header("remit-revision").parse().unwrap();
        let tenant = test.tenant.to_string();
        let id = id.map_or(tenant, str::to_owned);
        expected.push((action, json!({ "type": kind, "id": id }), revision));
    }
    test.get("/v1/bundle").await;
    test.post("/v1/bundle/check", &bundle).await;
    let refused = test
        .as_key(&maya, Method::PUT, "/v1/policies/tools-by-day", &policy)
        .await;
    assert_eq!(
        refused.status,
        StatusCode::PRECONDITION_FAILED,
        "{}",
        refused.text
    );

    let mut found = actions(&test, "?principal=maya").await;
    found.reverse();
    let told: Vec<_> = found
        .iter()
        .map(|one| {
            (
                one["action"].as_str().unwrap(),
                one["resource"].clone(),
                one["revision"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, expected);
    for one in &found {
        assert_eq!(
            (&one["verdict"], &one["reason"]),
            (&json!("permit"), &json!("policy_permit"))
        );
        assert_eq!(one["roles"], json!(["publisher", "admin"]));
        let by = one["determining"][0].as_str().unwrap();
        assert!(by == "remit.publisher" || by == "remit.admin", "{by}");
        assert!(
            one["request_id"].is_string() && one["key"].is_string(),
            "{one}"
        );
    }
    assert_eq!(found[0]["loosens"], json!(false));
    assert_eq!(
        found[0]["details"]["hash"],
        json!(pack("starter").content_hash())
    );
    assert_eq!(found[5]["details"]["scopes"], json!(["read"]));
    assert_eq!(found[7]["details"]["roles"], json!(["reader"]));
    assert!(
        !serde_json::to_string(&found)
            .unwrap()
            .contains("remit_dev_"),
        "no secret"
    );
}

#[tokio::test]
async fn what_is_denied_is_recorded_before_it_is_answered() {
    let test = TestApp::start(&pack("starter")).await;
    let tom = test.person("tom", &[Role::Reader], EVERY).await;
    let narrow = test
        .person("narrow", &[Role::Publisher], &[Scope::Read, Scope::Keys])
        .await;
    let path = "/v1/entities/Team/night";
    let denied = test.as_key(&tom, Method::PUT, path, &json!({})).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let denied = test.as_key(&narrow, Method::PUT, path, &json!({})).await;
    assert_eq!(denied.json()["code"], "missing-scope");
    // What only reads is denied and not recorded.
    let reading = test
        .as_key(&tom, Method::GET, "/v1/keys", &Value::Null)
        .await;
    assert_eq!(reading.json()["code"], "not-permitted");
    assert_eq!(reading.json()["roles"], json!(["admin", "auditor"]));

    let found = actions(&test, "?verdict=deny").await;
    assert_eq!(found.len(), 2, "{found:?}");
    for (one, principal, reason) in [
        (&found[1], "tom", "no_permit"),
        (&found[0], "narrow", "missing_scope"),
    ] {
        assert_eq!(
            (&one["principal"], &one["reason"]),
            (&json!(principal), &json!(reason))
        );
        assert_eq!(one["action"], "put_entity");
        assert_eq!(
            one["resource"],
            json!({ "type": "LiveEntity", "id": "Team::\"night\"" })
        );
        assert_eq!(one.get("revision"), None);
    }
    assert_eq!(test.get(path).await.status, StatusCode::NOT_FOUND);

    // A key that would give more than it has.
    let admin = test.person("ada", &[Role::Admin], &[Scope::Keys]).await;
    let body = json!({ "name": "x", "environment": "dev", "scopes": ["write"] });
    let more = test.as_key(&admin, Method::POST, "/v1/keys", &body).await;
    assert_eq!(more.json()["code"], "missing-scope");
    let found = actions(&test, "?action=create_key&principal=ada").await;
    assert_eq!(found[0]["reason"], "missing_scope");
    assert_eq!(found[0]["details"]["scopes"], json!(["write"]));
}

/// A key that is denied again and again is refused each time, and fills no table.
#[tokio::test]
async fn of_many_denials_a_burst_is_recorded_and_the_rest_is_counted() {
    let test = TestApp::start(&pack("starter")).await;
    let tom = test.person("tom", &[Role::Reader], EVERY).await;
    let began = std::time::Instant::now();
    let long = format!("/v1/policies/{}", "x".repeat(4_000));
    for _ in 0..60 {
        let denied = test.as_key(&tom, Method::DELETE, &long, &Value::Null).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN, "{}", denied.text);
    }
    let most = 20 + usize::try_from(began.elapsed().as_secs()).unwrap();
    let found = actions(&test, "?principal=tom&limit=1000").await;
    assert!((20..=most).contains(&found.len()), "{}", found.len());
    for one in &found {
        assert_eq!(one["resource"]["id"], "x".repeat(1_024));
    }
    let count = 60 - found.len();
    let metrics = test.operations("/metrics").await.text;
    let line = format!("remit_admin_denials_suppressed_total {count}\n");
    assert!(metrics.contains(&line), "{count}: {metrics}");

    let told = |found: &[Value]| -> u64 {
        let told = found.iter();
        told.filter_map(|one| one["details"]["suppressed"].as_u64())
            .sum()
    };
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // Another key has its own.
    let narrow = test.person("narrow", &[Role::Reader], EVERY).await;
    for key in [&tom, &narrow] {
        let odd = "/v1/policies/a%0Ab";
        let denied = test.as_key(key, Method::DELETE, odd, &Value::Null).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN, "{}", denied.text);
    }
    let found = actions(&test, "?principal=tom&limit=1000").await;
    assert_eq!(told(&found), u64::try_from(count).unwrap());
    let found = actions(&test, "?principal=narrow").await;
    assert_eq!(found[0]["resource"]["id"], "a\nb");
    assert_eq!(found[0]["details"].get("suppressed"), None);
}

#[tokio::test]
async fn records_are_filtered_and_paged_newest_first() {
    let test = TestApp::start(&pack("starter")).await;
    for name in ["a", "b", "c"] {
        let path = format!("/v1/entities/Team/{name}");
        let request = test.request(Method::PUT, &path);
        assert_eq!(test.send(request, json!({})).await.status, StatusCode::OK);
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2&action=put_entity".to_owned();
    loop {
        let page = test.get(&format!("/v1/admin/actions{query}")).await;
        for one in page.json()["actions"].as_array().unwrap() {
            seen.push(one["resource"]["id"].as_str().unwrap().to_owned());
        }
        match page.json()["next"].as_str() {
            Some(next) => query = format!("?limit=2&action=put_entity&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["Team::\"c\"", "Team::\"b\"", "Team::\"a\""]);
    assert_eq!(
        actions(&test, "?action=put_bundle").await,
        Vec::<Value>::new()
    );
    assert_eq!(
        actions(&test, "?principal=nobody").await,
        Vec::<Value>::new()
    );
    for query in [
        "?verdict=maybe",
        "?principal=",
        "?action=a&action=b",
        "?who=me",
        "?limit=1001",
    ] {
        let wrong = test.get(&format!("/v1/admin/actions{query}")).await;
        assert_eq!(
            wrong.status,
            StatusCode::BAD_REQUEST,
            "{query}: {}",
            wrong.text
        );
    }
}

/// Where the record cannot be written there is no change, and no refusal either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_record_there_is_neither_a_change_nor_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let database = remit_tests::sql::patient(&url);
    let mut test = TestApp::sharing(&database, Options::default()).await;
    test.put(&pack("starter")).await;
    let tom = test.person("tom", &[Role::Reader], EVERY).await;
    let head = test.store.heads().await.unwrap()[0].revision;
    let fails = "CREATE TRIGGER no_records BEFORE INSERT ON admin_actions \
        BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    execute(&url, fails).await;
    let bundle = serde_json::to_value(pack("authzen-certification")).unwrap();
    let new = json!({ "name": "x", "environment": "dev", "scopes": ["read"] });
    for (method, path, body) in [
        (Method::PUT, "/v1/bundle", &bundle),
        (
            Method::POST,
            "/v1/entities/bulk",
            &json!([{ "uid": { "type": "Team", "id": "night" } }]),
        ),
        (Method::POST, "/v1/keys", &new),
        (
            Method::PUT,
            "/v1/principals/otto",
            &json!({ "kind": "machine", "roles": [] }),
        ),
        (Method::DELETE, "/v1/principals/tom", &Value::Null),
    ] {
        let failed = test.as_key(&test.key, method, path, body).await;
        assert!(failed.status.is_server_error(), "{path}: {}", failed.text);
    }
    assert_eq!(
        test.store.heads().await.unwrap()[0].revision,
        head,
        "nothing was changed"
    );
    let denied = test.as_key(&tom, Method::PUT, "/v1/bundle", &bundle).await;
    assert_eq!(
        denied.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        denied.text
    );
    assert_eq!(denied.json()["code"], "store-unavailable");

    execute(&url, "DROP TRIGGER no_records").await;
    assert_eq!(actions(&test, "").await, Vec::<Value>::new());
    assert_eq!(
        test.get("/v1/entities/Team/night").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.get("/v1/principals/otto").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.get("/v1/keys").await.json()["keys"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let denied = test.as_key(&tom, Method::PUT, "/v1/bundle", &bundle).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN, "{}", denied.text);
    assert_eq!(actions(&test, "").await.len(), 1);
}
