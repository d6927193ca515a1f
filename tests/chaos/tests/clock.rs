//! Policies grow old by a clock that nobody on this host can set: F13, the part of it that is about staleness.

use std::time::{Duration, Instant};

use remit_chaos::{Call, FakeClock, Load, Outcome, Pg, Plan, Row};

/// What old policies may still decide for, by default.
const STALENESS: Duration = Duration::from_secs(5);

/// Checks that nothing was decided later than old policies may; returns how many questions came so late.
fn stale_decide_nothing(calls: &[Call], gone: Instant) -> Result<usize, String> {
    let late: Vec<&Call> = calls
        .iter()
        .filter(|call| call.sent > gone + STALENESS)
        .collect();
    match late
        .iter()
        .find(|call| !matches!(call.outcome, Outcome::Refused { status: 503, .. }))
    {
        Some(call) => Err(format!("{:?} too late: {call:?}", call.sent - gone)),
        None => Ok(late.len()),
    }
}

/// F13: a wall clock that is set back while the database is away makes old policies no younger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_a_clock_set_back_keeps_no_policy_young() {
    let row = Row::new("F13");
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = FakeClock::new(folder.path()) else {
        return;
    };
    let Some(mut postgres) = Pg::start() else {
        return;
    };
    let mut plan = Plan::new(&postgres.fresh_database()).prepared().await;
    for (name, value) in clock.variables() {
        plan = plan.set(&name, &value);
    }
    let pdp = plan.start().await;
    let unprotected = plan.beside().without("BootTime").start().await;
    let load = Load::start(&pdp, 2, Duration::from_millis(20));
    let control = Load::start(&unprotected, 2, Duration::from_millis(20));
    load.until_decided(10).await;
    control.until_decided(10).await;
    postgres.stop_at_once();
    let gone = Instant::now();
    clock.jump(-3_600);
    tokio::time::sleep_until((gone + STALENESS + Duration::from_secs(2)).into()).await;
    let (calls, control) = (load.stop().await, control.stop().await);
    let refused = stale_decide_nothing(&calls, gone).unwrap();
    assert!(refused > 0, "nothing was asked late enough");
    stale_decide_nothing(&control, gone).unwrap_err();
    row.passed(
        &format!("{refused} refused by stale policies, the clock an hour back"),
        "failed as it must: by the wall clock they were young",
    );
}
