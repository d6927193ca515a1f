//! The connection on which changes are told, lost again and again: F5 it is made again more and more seldom, and nothing rests
//! on it.

use std::time::{Duration, Instant};

use remit_chaos::{Fate, Pdp, Pg, Plan, Proxy, Row};
use remit_tests::server::send;
use reqwest::Method;

use crate::small::{agent, bundle};

/// How a connection says that it wants to be told.
const LISTEN: &[u8] = b"LISTEN ";
/// How many attempts are cut off.
const LOST: usize = 100;
/// How long they are.
const LONG: Duration = Duration::from_secs(4);
/// How often a replica asks for news by itself; long, so that it can be told apart from being told.
const POLL: Duration = Duration::from_millis(1_500);

/// Changes an agent on one replica, and returns how long it takes until the other has that.
async fn arrives(from: &Pdp, at: &Pdp, active: bool) -> Duration {
    let path = "/v1/entities/Agent/told";
    let done = send(from.request(Method::PUT, path).json(&agent(active))).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let revision: u64 = done.header("remit-revision").parse().unwrap();
    let began = Instant::now();
    at.until("it is there", || async {
        let (_, page) = at.readiness().await;
        page["tenants"][0]["revision"].as_u64() >= Some(revision)
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f05_a_listener_that_is_cut_off_again_and_again_gives_the_database_rest() {
    let row = Row::new("F5");
    let Some(postgres) = Pg::start() else { return };
    let proxy = Proxy::start(postgres.port()).await;
    let direct = postgres.fresh_database();
    let plan = Plan::new(&direct)
        .set("REMIT__POLICY__POLL_MS", &POLL.as_millis().to_string())
        .prepared()
        .await;
    let a = plan.start().await;
    let etag = a.get("/v1/bundle").await.header("etag").to_owned();
    let put = a
        .request(Method::PUT, "/v1/bundle")
        .header("if-match", etag);
    assert_eq!(send(put.json(&bundle(&[]))).await.status, 200);
    let b = plan
        .beside()
        .set("REMIT__DATABASE__URL", &proxy.before(&direct))
        .start()
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut quick = Vec::new();
    for number in 0..5 {
        quick.push(arrives(&a, &b, number % 2 == 0).await);
    }
    quick.sort();
    assert!(quick[2] < POLL / 3, "it is told of changes: {quick:?}");

    proxy.script(LISTEN, vec![Fate::Lost; LOST]);
    proxy.reset();
    let began = Instant::now();
    let mut slow = Vec::new();
    while began.elapsed() < LONG {
        slow.push(arrives(&a, &b, slow.len() % 2 == 0).await);
        assert_eq!(b.readiness().await.0, 200);
        assert_eq!(b.ask().await.status, 200);
    }
    let attempts = LOST - proxy.fates_left();
    // At once, and after 250 ms, 500 ms, 1 s, 2 s: with the time of each attempt, no more.
    assert!(
        (2..=7).contains(&attempts),
        "{attempts} attempts in {LONG:?}"
    );
    slow.sort_unstable();
    let (usual, longest) = (slow[slow.len() / 2], slow[slow.len() - 1]);
    assert!(
        longest > POLL / 3 && usual < POLL * 2,
        "the poll finds each, and nothing else does: {slow:?}"
    );
    let told = "the database cannot tell of changes";
    assert_eq!(
        b.output().matches(told).count(),
        1,
        "said once, not at every attempt"
    );

    // Back, it listens again by itself: the longest pause is eight seconds.
    proxy.script(LISTEN, []);
    b.until("it is told of changes again", || async {
        b.output().contains("the database tells of changes again")
    })
    .await;
    let mut again = Vec::new();
    for number in 0..5 {
        again.push(arrives(&a, &b, number % 2 == 0).await);
    }
    again.sort();
    assert!(again[2] < POLL / 3, "{again:?}");
    row.passed(
        &format!(
            "{attempts} attempts in {} s; changes arrived within {} ms by the poll, and in {} ms when told",
            LONG.as_secs(),
            longest.as_millis(),
            again[2].as_millis()
        ),
        "failed as it must: cut off, a change takes as long as a poll",
    );
}
