//! A database that is absent, stops, freezes, or has no connection to spare: F1, F2, F3, F6.

use std::time::{Duration, Instant};

use remit_chaos::{Pg, Plan, Row};

/// F1: the process starts without its database, says so, refuses, and is ready soon after the database comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_postgres_absent_at_start() {
    let row = Row::new("F1");
    let Some(mut postgres) = Pg::start() else {
        return;
    };
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    postgres.stop();

    let mut pdp = plan.spawn();
    pdp.until("it listens", || async { pdp.ready().await.is_some() })
        .await;
    assert_eq!(pdp.operations("/livez").await.unwrap().status, 200);
    // Long enough for the pause between two tries to have grown to what it grows to.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let (status, page) = pdp.readiness().await;
        assert_eq!(status, 503, "{page}");
        let causes = page["causes"].as_array().unwrap();
        assert!(!causes.is_empty(), "{page}");
        let asked = pdp.ask().await;
        assert!(
            matches!(asked.status, 401 | 503),
            "{} {}",
            asked.status,
            asked.text()
        );
        assert!(pdp.ended().is_none(), "{}", pdp.output());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(pdp.operations("/livez").await.unwrap().status, 200);
    postgres.restart();
    let took = pdp.until_ready().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(pdp.ask().await.status, 200);
    row.passed(
        &format!("ready {} ms after Postgres", took.as_millis()),
        "none",
    );
}
