//! What a shadow finds while the database is away is kept, and noted when it is back.

use std::time::{Duration, Instant};

use http::StatusCode;
use remit_api::Options;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::postgres::Postgres;
use serde_json::json;

use super::{PATIENCE, SHADOW, ask, begin, without_mail};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_while_the_database_is_away_is_noted_later() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let database = remit_tests::sql::patient(server.fresh_database());
    let options = Options {
        deadline: PATIENCE,
        max_staleness: PATIENCE,
        ..Options::default()
    };
    let mut test = TestApp::sharing(&database, options).await;
    test.put(&pack("starter")).await;
    begin(&test, &without_mail()).await;
    let mut asked = vec![ask(&test, "invoice-bot", "mail.list").await.0];
    server.stop();
    for _ in 0..2 {
        let (id, permitted) = ask(&test, "invoice-bot", "mail.list").await;
        assert!(permitted, "nothing is asked of the database for it");
        asked.push(id);
        // Longer than what was found is kept back: noting it fails.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    assert_eq!(
        test.get(SHADOW).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    server.restart();
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        let reply = test.get(SHADOW).await;
        if reply.status == StatusCode::OK {
            break reply.json();
        }
        assert!(Instant::now() < deadline, "{}", reply.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&found["decided"], &found["differing"]),
        (&json!(3), &json!(3)),
        "{found:#}"
    );
    assert_eq!(found["groups"][0]["count"], 3);
    assert_eq!(found["groups"][0]["samples"], json!(asked));
}
