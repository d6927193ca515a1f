//! What happens to the process and its host: F11 the spool is lost, F13 the clock jumps, F49 it is asked to stop.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use remit_chaos::{Call, FakeClock, Load, Outcome, Pg, Plan, Row};
use remit_core::{Clock, Timestamp};
use remit_tests::server::send;
use reqwest::Method;
use serde_json::json;

use crate::recorded;

/// Returns the answers that are not recorded, by how old they were at `end`.
fn lost(calls: &[Call], all: &BTreeMap<String, bool>, end: Instant) -> Vec<Duration> {
    let missing = calls.iter().filter(|call| match &call.outcome {
        Outcome::Decided { id, .. } => !all.contains_key(id),
        _ => false,
    });
    missing
        .map(|call| end.saturating_duration_since(call.sent + call.took))
        .collect()
}

/// F11: with its host a replica loses what was not shipped, and it had said how old that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_spool_lost_before_shipping() {
    let mut row = Row::new("F11");
    let Some(mut postgres) = Pg::start() else {
        return;
    };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let pdp = plan.start().await;
    let load = Load::start(&pdp, 4, Duration::from_millis(10));
    load.until_decided(100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    postgres.stop_at_once();
    tokio::time::sleep(Duration::from_millis(1_500 + row.below(1_500))).await;
    let (_, page) = pdp.readiness().await;
    let told = Duration::from_millis(page["log"]["oldest_unshipped_ms"].as_u64().unwrap());
    let seconds = pdp.metric("remit_audit_oldest_unshipped_seconds").await;
    let looked = Instant::now();
    assert!(
        told > Duration::from_secs(1) && seconds > 1.0,
        "{told:?} {seconds}"
    );
    assert!(page["log"]["unshipped"].as_u64().unwrap() > 0, "{page}");
    pdp.kill();
    fs::remove_dir_all(plan.spool()).unwrap();
    let calls = load.stop().await;
    postgres.restart();
    let pdp = plan.start().await;
    let lost = lost(&calls, &recorded(&pdp).await, looked);
    // The age is told to about a second.
    let bound = told + Duration::from_secs(1);
    let oldest = lost.iter().max().copied().unwrap_or_default();
    assert!(oldest <= bound, "{oldest:?} of {told:?}");
    // The checker sees a loss: against a bound of nothing it fails.
    assert!(!lost.is_empty() && oldest > Duration::ZERO);
    row.passed(
        &format!(
            "{} of {} answers lost, the oldest {} ms old; {} ms were told",
            lost.len(),
            calls.len(),
            oldest.as_millis(),
            told.as_millis()
        ),
        "failed as it must: a bound of 0 is exceeded",
    );
}

/// F13: a wall clock that jumps an hour makes nothing stale, confuses no ids, and brings no expired key back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_clock_jumps() {
    let row = Row::new("F13");
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = FakeClock::new(folder.path()) else {
        return;
    };
    let Some(postgres) = Pg::start() else { return };
    let mut plan = Plan::new(&postgres.fresh_database()).prepared().await;
    for (name, value) in clock.variables() {
        plan = plan.set(&name, &value);
    }
    let pdp = plan.start().await;
    let unprotected = plan.beside().without("ExpiryTime").start().await;
    let began = Instant::now();
    let end = Timestamp::from_micros(Clock::system().now().micros() + 12_000_000);
    let made = send(pdp.request(Method::POST, "/v1/keys").json(&json!({
        "name": "short", "environment": "live", "scopes": ["evaluate"], "expires_at": end,
    })));
    let made: serde_json::Value = made.await.json();
    let short = made["key"].as_str().unwrap().to_owned();
    pdp.until("the key works", || async {
        pdp.ask_as(&short).await.status == 200
    })
    .await;
    let load = Load::start(&pdp, 4, Duration::from_millis(10));
    load.until_decided(50).await;
    for hours in [1, -1, 0] {
        clock.jump(hours * 3_600);
        // Two polls at least: staleness by the wall clock would show.
        tokio::time::sleep(Duration::from_millis(2_300)).await;
        assert_eq!(pdp.readiness().await.0, 200, "{hours}");
    }
    let lapsed = began + Duration::from_secs(13);
    tokio::time::sleep_until(lapsed.into()).await;
    assert_eq!(pdp.ask_as(&short).await.status, 401, "it has expired");
    clock.jump(-3_600);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(pdp.ask_as(&short).await.status, 401, "it came back to life");
    assert_eq!(unprotected.ask_as(&short).await.status, 200);
    let calls = load.stop().await;
    let mut ids = BTreeMap::<usize, String>::new();
    for call in &calls {
        let Outcome::Decided { id, .. } = &call.outcome else {
            panic!("{call:?}")
        };
        // Ids made in one process increase, whatever the clock does.
        let before = ids.insert(call.client, id.clone());
        assert!(before.is_none_or(|before| before < *id), "{call:?}");
    }
    let all = recorded(&pdp).await;
    assert_eq!(lost(&calls, &all, Instant::now()), []);
    // Also a process that starts in the past records after what is there.
    assert!(pdp.stop().await.success());
    let pdp = plan.start().await;
    assert_eq!(pdp.ask().await.status, 200);
    row.passed(
        &format!(
            "{} decisions through ±1 h, none refused, ids increasing",
            calls.len()
        ),
        "failed as it must: the expired key came back",
    );
}

/// How a server that was asked to stop under load went about it.
struct Stopped {
    calls: Vec<Call>,
    took: Duration,
    /// Whether it said that it is not ready any more before it was gone.
    retired: bool,
    /// Records that it left in its spool.
    left: u64,
    /// Everything in the database, once the next start has shipped the rest.
    all: BTreeMap<String, bool>,
}

async fn stopped_under_load(plan: &Plan) -> Stopped {
    let mut pdp = plan.start().await;
    let load = Load::start(&pdp, 8, Duration::ZERO);
    load.until_decided(100).await;
    pdp.signal("-TERM");
    let asked = Instant::now();
    let mut retired = false;
    let status = loop {
        if let Some(status) = pdp.ended() {
            break status;
        }
        retired |= pdp.ready().await.is_some_and(|page| page.status == 503);
        assert!(
            asked.elapsed() < Duration::from_secs(30),
            "{}",
            pdp.output()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", pdp.output());
    let calls = load.stop().await;
    let spooled = plan.run(&["log", "fsck", "-o", "json", plan.spool().to_str().unwrap()]);
    let spooled: serde_json::Value = serde_json::from_slice(&spooled.stdout).unwrap();
    let pdp = plan.start().await;
    Stopped {
        calls,
        took,
        retired,
        left: spooled["records"].as_u64().unwrap(),
        all: recorded(&pdp).await,
    }
}

// === impl Stopped ===

impl Stopped {
    fn answered(&self) -> usize {
        let decided = |call: &&Call| matches!(call.outcome, Outcome::Decided { .. });
        self.calls.iter().filter(decided).count()
    }

    /// Says what was not graceful about it.
    fn graceful(&self) -> Result<(), String> {
        let answered = self.answered();
        // A connection that was idle may be closed under a question; one that was decided must have been answered.
        let unanswered = self.all.len().saturating_sub(answered);
        let refused = |call: &&Call| matches!(call.outcome, Outcome::Refused { .. });
        let refused = self.calls.iter().filter(refused).count();
        let lost = lost(&self.calls, &self.all, Instant::now()).len();
        if unanswered + refused + lost == 0 && self.left == 0 {
            return Ok(());
        }
        Err(format!(
            "{unanswered} decided and not answered, {refused} refused, {lost} answers lost, {} records left in the spool",
            self.left
        ))
    }
}

/// F49: asked to stop under load, it turns readiness off, answers what is in flight, ships its spool, and is gone in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f49_graceful_stop_under_load() {
    let row = Row::new("F49");
    let Some(postgres) = Pg::start() else { return };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let stopped = stopped_under_load(&plan).await;
    stopped.graceful().unwrap();
    assert_eq!(stopped.all.len(), stopped.answered());
    // The time to drain, and the log's own grace.
    assert!(stopped.took < Duration::from_secs(15), "{:?}", stopped.took);

    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let abrupt = stopped_under_load(&plan.without("Drain")).await;
    let abrupt = abrupt.graceful().unwrap_err();
    row.passed(
        &format!(
            "{} answered and shipped, gone after {} ms, readiness {}",
            stopped.answered(),
            stopped.took.as_millis(),
            if stopped.retired {
                "seen off"
            } else {
                "gone too soon to be seen"
            }
        ),
        &format!("failed as it must: {abrupt}"),
    );
}
