//! A replica that is behind, asked about what another decided at a revision that it does not have yet.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::postgres::Postgres;
use serde_json::json;

use super::{asked, explain};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_goes_forward_to_the_state_that_decided() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let database = remit_tests::sql::patient(&url);
    let options = || Options {
        deadline: PATIENCE,
        max_staleness: Duration::from_mins(10),
        ..Options::default()
    };
    let mut ahead = TestApp::sharing(&database, options()).await;
    let mut behind = TestApp::sharing(&database, options()).await;
    ahead.put(&pack("starter")).await;
    behind.caught_up().await;
    behind.pause().await;
    let (log, store) = (ahead.log.clone(), ahead.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });

    let agent = json!({
        "attrs": { "status": "active", "trust": 2, "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } } },
        "parents": [{ "type": "Role", "id": "reader" }],
    });
    let put = ahead.request(Method::PUT, "/v1/entities/Agent/night-bot");
    assert_eq!(ahead.send(put, &agent).await.status, StatusCode::OK);
    let question = json!({
        "subject": { "type": "Agent", "id": "night-bot" }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    let id = asked(&ahead, &question).await;

    let told = explain(&behind, &id, "").await;
    assert_eq!(told["recorded"]["verdict"], "permit", "{told}");
    assert_eq!(
        (&told["reproduced"], &told["entities"]),
        (&json!(true), &json!("recorded")),
        "{told}"
    );
    let now = explain(&behind, &id, "?against=current").await;
    assert_eq!(now["reproduced"], false, "it is behind: {now}");

    let body = serde_json::to_string(&pack("starter")).unwrap();
    let impact = behind.post("/v1/bundle/impact", body).await;
    assert_eq!(impact.status, StatusCode::OK, "{}", impact.text);
    let impact = impact.json();
    assert_eq!(
        (&impact["replayed"], &impact["unchanged"]),
        (&json!(1), &json!(1)),
        "{impact:#}"
    );
}
