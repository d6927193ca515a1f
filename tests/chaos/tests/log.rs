//! What the decision log promises whatever happens to its process: F9 killed under load.

use std::time::{Duration, Instant};

use remit_chaos::{Ledger, Load, Pg, Plan, Row, Totals};

use crate::all_shipped;

/// How often the process is killed.
const KILLS: usize = 50;
/// Enough to ask while the process writes, ships and answers.
const CLIENTS: usize = 8;
/// The longest load before a kill, in microseconds.
const LONGEST_LOAD: u64 = 300_000;
/// How long a killed process may take until it is ready again.
const RESTART: Duration = Duration::from_secs(5);

/// Kills a server under load again and again, and compares what it answered with what came into the database at `url`.
///
/// Returns the longest that a start took, too.
async fn killed(row: &mut Row, plan: &Plan, url: &str, kills: usize) -> (Totals, Duration) {
    let mut ledger = Ledger::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        let began = Instant::now();
        let pdp = plan.start().await;
        slowest = slowest.max(began.elapsed());
        let load = Load::start(&pdp, CLIENTS, Duration::ZERO);
        load.until_decided(CLIENTS).await;
        tokio::time::sleep(Duration::from_micros(row.below(LONGEST_LOAD))).await;
        pdp.kill();
        ledger.hear(&load.stop().await);
        ledger.inspect(plan);
    }
    let pdp = plan.start().await;
    all_shipped(&pdp).await;
    assert!(pdp.stop().await.success());
    (ledger.totals(url).await, slowest)
}

/// F9: killed at fifty moments under load, it is ready again soon, and everything it answered is recorded, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_kill_nine_under_load() {
    let mut row = Row::new("F9");
    let Some(postgres) = Pg::start() else { return };
    let began = Instant::now();
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let (totals, slowest) = killed(&mut row, &plan, &url, KILLS).await;
    println!("{KILLS} kills: {totals}");
    totals.check().unwrap();
    assert!(slowest <= RESTART, "{slowest:?}");

    // Answered first and recorded a little later: a few kills must lose something.
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let unprotected = plan.without("RecordBeforeAnswer");
    let (control, _) = killed(&mut row, &unprotected, &url, 5).await;
    println!("control, 5 kills: {control}");
    control.check().unwrap_err();
    assert!(control.missing > 0, "{control}");
    row.passed(
        &format!(
            "{KILLS} kills: {totals}; slowest start {} ms, {} s in all",
            slowest.as_millis(),
            began.elapsed().as_secs()
        ),
        &format!("failed as it must: {} answers missing", control.missing),
    );
}
