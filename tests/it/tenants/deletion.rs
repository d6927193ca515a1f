//! Deleting a tenant over HTTP: nothing of it answers any more, and nothing else stops.

use super::*;

#[tokio::test]
async fn a_deleted_tenant_is_gone_and_its_spool_ships_on() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    begin(&test, &acme).await;
    // Both wait in the spool of this replica: nothing ships yet.
    for key in [&acme.key, &test.key] {
        assert_eq!(ask(&test, key).await.status, StatusCode::OK);
    }
    let path = format!("/v1/tenants/{}", acme.id);
    let delete = async |query: &str| {
        send(
            &test,
            &operator,
            "DELETE",
            &format!("{path}{query}"),
            &Value::Null,
        )
        .await
    };
    let early = delete("?name=acme").await;
    assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);
    assert!(early.text.contains("suspend it first"), "{}", early.text);
    change(&test, &operator, &acme.id, "suspend").await;
    for query in ["", "?name=Acme", "?name=", "?nom=acme"] {
        let refused = delete(query).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{query}: {}",
            refused.text
        );
    }
    assert_eq!(
        get(&test, &operator, &path).await.json()["state"],
        "suspended"
    );
    let gone = delete("?name=acme").await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text);
    let shown = gone.json();
    assert_eq!(shown["state"], "deleted");
    assert!(shown.get("name").is_none());
    assert_eq!(get(&test, &operator, &path).await.json(), shown);
    for (method, rest) in [
        ("DELETE", "?name=acme"),
        ("POST", "/suspend"),
        ("POST", "/resume"),
        ("GET", "/export"),
    ] {
        let reply = send(
            &test,
            &operator,
            method,
            &format!("{path}{rest}"),
            &Value::Null,
        )
        .await;
        assert_eq!(
            reply.status,
            StatusCode::NOT_FOUND,
            "{method} {rest}: {}",
            reply.text
        );
    }
    let began = Instant::now();
    while ask(&test, &acme.key).await.status != StatusCode::UNAUTHORIZED {
        assert!(began.elapsed() < PATIENCE, "its key is still known");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let listed = get(&test, &operator, "/v1/tenants").await;
    assert!(!listed.text.contains(&acme.id), "{}", listed.text);
    assert_eq!(test.operations("/readyz").await.status, StatusCode::OK);

    // The spool is shipped to its end: what others decided arrives, and nothing of the deleted tenant.
    let (log, store) = (test.log.clone(), test.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    assert_eq!(ask(&test, &test.key).await.status, StatusCode::OK);
    let own = test.get("/v1/decisions").await.json();
    assert_eq!(own["decisions"].as_array().unwrap().len(), 2);
    let id: TenantId = acme.id.parse().unwrap();
    let filter = remit_store::DecisionFilter::default();
    assert_eq!(
        test.store.decisions(id, &filter, None, 10).await.unwrap(),
        []
    );
    let waiting = test.log.status();
    assert!(waiting.disk_error.is_none() && !waiting.poisoned);

    // The name is free, and what comes under it is new.
    let again = make(&test, &operator, "acme").await;
    assert_ne!(again.id, acme.id);
    assert_eq!(
        get(&test, &again.key, "/v1/bundle").await.status,
        StatusCode::NOT_FOUND
    );
}

/// Keys are read after the heads. Where that fails, those of a deleted tenant must not be taken meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_tenant_is_refused_though_its_keys_are_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let database = remit_tests::sql::patient(url.clone());
    let mut test = TestApp::sharing(&database, Options::default()).await;
    test.put(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    change(&test, &operator, &acme.id, "suspend").await;
    let rename = "ALTER TABLE api_keys RENAME COLUMN mac TO hash";
    remit_tests::sql::execute(&url, rename).await;
    let id: TenantId = acme.id.parse().unwrap();
    test.store.delete_tenant(id, "acme", None).await.unwrap();
    let began = Instant::now();
    loop {
        match get(&test, &acme.key, "/v1/whoami").await.status {
            StatusCode::FORBIDDEN => {}
            StatusCode::UNAUTHORIZED => break,
            other => panic!("{other}"),
        }
        assert!(began.elapsed() < PATIENCE, "it is not forgotten");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let others = get(&test, &test.key, "/v1/whoami").await;
    assert_eq!(others.status, StatusCode::OK, "the keys of others stay");
}

/// Deletes one with more rows than fit into a few batches, and looks at how long that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_tenant_is_deleted_in_batches() {
    let test = TestApp::start(&pack("starter")).await;
    let operator = operator(&test).await;
    let acme = make(&test, &operator, "acme").await;
    begin(&test, &acme).await;
    let id: TenantId = acme.id.parse().unwrap();
    let entities: Vec<_> = (0..20_000)
        .map(|number| {
            serde_json::from_value(
                json!({ "uid": { "type": "Agent", "id": format!("a{number}") } }),
            )
            .unwrap()
        })
        .collect();
    test.store.upsert_entities(id, &entities).await.unwrap();
    change(&test, &operator, &acme.id, "suspend").await;
    let began = Instant::now();
    let path = format!("/v1/tenants/{}?name=acme", acme.id);
    let gone = send(&test, &operator, "DELETE", &path, &Value::Null).await;
    assert_eq!(gone.json()["state"], "deleted", "{}", gone.text);
    println!("20,000 entities are deleted in {:?}", began.elapsed());
    assert_eq!(test.store.entities(id, None, None, 10).await.unwrap(), []);
}
