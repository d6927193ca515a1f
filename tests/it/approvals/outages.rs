//! Without its database nothing is permitted by an approval: neither while it is stopped, nor while it does not answer.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::ApprovalId;
use remit_tests::app::{Reply, TestApp};
use remit_tests::postgres::Postgres;
use remit_tests::sql::texts;
use serde_json::{Value, json};

use super::{EVALUATION, approved, ask, by, payment};

/// How long the database may take, and how long an answer may take then.
const DEADLINE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(12);
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks while the database is away, and checks how that is refused.
async fn refused(app: &TestApp, question: &Value) {
    let began = Instant::now();
    let reply = named(app, question, "one").await;
    let took = began.elapsed();
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text
    );
    let why = "the database is not available";
    assert!(reply.text.contains(why), "{}", reply.text);
    assert!(took < ANSWER, "{took:?}");
}

async fn named(app: &TestApp, question: &Value, name: &str) -> Reply {
    let request = app.request(Method::POST, EVALUATION);
    app.send(request.header("idempotency-key", name), question)
        .await
}

/// Returns how often an approval can be used still.
async fn uses_left(app: &TestApp, approval: &str) -> u64 {
    let id: ApprovalId = approval.parse().unwrap();
    let request = app.store.request(app.tenant, id).await.unwrap().unwrap();
    request.grant.unwrap().uses_left
}

/// Returns the decisions that are recorded as permits of payments, and those that used an approval.
async fn permits(url: &str) -> [Vec<String>; 2] {
    let read = async |query: &str| {
        let rows = texts(url, query).await;
        let mut ids: Vec<String> = rows.into_iter().flatten().collect();
        ids.sort();
        ids
    };
    let recorded =
        "SELECT CAST(id AS TEXT) FROM decisions WHERE verdict = 'permit' AND action = 'pay'";
    let used = "SELECT CAST(decision AS TEXT) FROM approval_uses";
    [read(recorded).await, read(used).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_permitted_by_an_approval_while_the_database_is_away() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let url = server.fresh_database();
    let database = remit_store::Options {
        deadline: DEADLINE,
        ..remit_store::Options::new(&url)
    };
    let options = Options {
        // What is asked is refused for want of the database, not of news from it.
        max_staleness: Duration::from_mins(10),
        ..Options::default()
    };
    let mut app = TestApp::sharing(&database, options).await;
    app.put(&super::bundle()).await;
    let (log, store) = (app.log.clone(), app.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    for (round, frozen) in [false, true].into_iter().enumerate() {
        let mut question = payment();
        question["action"]["properties"]["amount"] = json!(round + 1);
        let approval = approved(&app, &question).await;
        let question = by(&question, &approval);
        assert!(app.log.caught_up(PATIENCE).await);
        let before = permits(&url).await;
        if frozen {
            server.pause();
        } else {
            server.stop();
        }
        for _ in 0..2 {
            refused(&app, &question).await;
        }
        // What takes nothing is decided all the same.
        let mut look = payment();
        look["action"]["name"] = json!("look");
        assert_eq!(ask(&app, &look).await["decision"], true);
        if frozen {
            server.resume();
        } else {
            server.restart();
            assert_eq!(permits(&url).await, before);
            assert_eq!(uses_left(&app, &approval).await, 1);
        }
        app.caught_up().await;
        // What a frozen one was asked it may do once it goes on: under the name that was refused, so that it is the same use.
        let permitted = named(&app, &question, "one").await;
        assert_eq!(permitted.json()["decision"], true, "{}", permitted.text);
        let denied = named(&app, &question, "two").await;
        assert_eq!(denied.json()["decision"], false, "{}", denied.text);
        let again = named(&app, &question, "one").await;
        assert_eq!(again.text, permitted.text);
        assert_eq!(uses_left(&app, &approval).await, 0);
        assert!(app.log.caught_up(PATIENCE).await);
        // What was recorded and used is what was answered, once.
        let mut after = before;
        for ids in &mut after {
            ids.push(permitted.header("x-decision-id").to_owned());
            ids.sort();
        }
        assert_eq!(permits(&url).await, after);
    }
}
