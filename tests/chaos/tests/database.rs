//! A database that is absent, stops, freezes, or has no connection to spare: F1, F2, F3, F6.

use std::time::{Duration, Instant};

use remit_chaos::load::quantile;
use remit_chaos::pdp::patient_client;
use remit_chaos::{Call, Load, Outcome, Pdp, Pg, Plan, Proxy, Row, full};
use tokio::task::JoinSet;

use crate::recorded;

/// What old policies may still decide for, by default.
const STALENESS: Duration = Duration::from_secs(5);
/// How long one call to the database may take, by default.
const DATABASE_DEADLINE: Duration = Duration::from_secs(2);

/// How long a listing may take: it waits as long for the log to be shipped, and then for the database.
const READ: Duration = Duration::from_secs(4);
/// What a machine that is busy with something else may add.
const SLACK: Duration = Duration::from_secs(4);

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
    let mut control = plan.beside().without("StartWithoutDatabase").spawn();
    pdp.until("it listens", || async { pdp.ready().await.is_some() })
        .await;
    // Long enough for the pause between two tries to have grown to what it grows to.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let (status, page) = pdp.readiness().await;
        assert_eq!(status, 503, "{page}");
        assert!(!page["causes"].as_array().unwrap().is_empty(), "{page}");
        // No key can be known yet: nothing is decided, whoever asks.
        let asked = pdp.ask().await;
        assert!(matches!(asked.status, 401 | 503), "{}", asked.text());
        assert_eq!(pdp.operations("/livez").await.unwrap().status, 200);
        assert!(pdp.ended().is_none(), "{}", pdp.output());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ended = control.ended();
    assert!(ended.is_some_and(|how| !how.success()), "{ended:?}");
    postgres.restart();
    let took = pdp.until_ready().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(pdp.ask().await.status, 200);
    row.passed(
        &format!("ready {} ms after Postgres", took.as_millis()),
        "failed as it must: the process ended",
    );
}

/// What may not happen once the database has been gone for longer than old policies count.
fn nothing_decided_by_stale_policies(calls: &[Call], gone: Instant) -> Result<usize, String> {
    let late: Vec<&Call> = calls
        .iter()
        .filter(|call| call.sent > gone + STALENESS)
        .collect();
    for call in &late {
        match &call.outcome {
            Outcome::Refused { status: 503, .. } => {}
            other => return Err(format!("{:?} later: {other:?}", call.sent - gone)),
        }
    }
    Ok(late.len())
}

/// F2: without its database Remit decides for as long as policies may be old, then nothing; all of it is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_postgres_stops_under_load() {
    let mut row = Row::new("F2");
    let Some(mut postgres) = Pg::start() else {
        return;
    };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let pdp = plan.start().await;
    let unprotected = plan.beside().without("Staleness").start().await;
    let load = Load::start(&pdp, 6, Duration::from_millis(10));
    let control = Load::start(&unprotected, 1, Duration::from_millis(50));
    load.until_decided(60).await;
    tokio::time::sleep(Duration::from_millis(row.below(1_000))).await;

    let before = Instant::now();
    postgres.stop_at_once();
    let gone = Instant::now();
    let unready = pdp.until_unready().await;
    tokio::time::sleep_until((gone + STALENESS + Duration::from_secs(1)).into()).await;
    let waited = pdp.metric("remit_audit_unshipped_records").await;
    assert!(waited > 0.0, "the spool goes on recording");
    let (calls, control) = (load.stop().await, control.stop().await);
    let refused = nothing_decided_by_stale_policies(&calls, gone).unwrap();
    assert!(refused > 0, "nothing was asked late enough");
    nothing_decided_by_stale_policies(&control, gone).unwrap_err();
    // One poll may have begun a whole second before it all went away, and have taken a while.
    let early = calls
        .iter()
        .filter(|call| call.sent > before && call.sent < before + Duration::from_secs(2));
    assert!(early.clone().count() > 0);
    for call in early {
        assert!(matches!(call.outcome, Outcome::Decided { .. }), "{call:?}");
    }
    // For most of the bound, most are.
    let most = Duration::from_millis(3_500);
    let within: Vec<_> = calls
        .iter()
        .filter(|call| call.sent > before && call.sent < before + most)
        .map(|call| matches!(call.outcome, Outcome::Decided { .. }))
        .collect();
    let decided = within.iter().filter(|decided| **decided).count();
    assert!(
        decided * 10 > within.len() * 9,
        "{decided} of {}",
        within.len()
    );
    postgres.restart();
    pdp.until_ready().await;
    let answered = everything_is_recorded(&pdp, &calls).await;
    row.passed(
        &format!(
            "{answered} answered and recorded, {refused} refused once stale, unready after {} ms",
            unready.as_millis()
        ),
        "failed as it must: answered by stale policies",
    );
}

/// Asserts that each answer is recorded, once and as it was given; returns how many there were.
async fn everything_is_recorded(pdp: &Pdp, calls: &[Call]) -> usize {
    let all = recorded(pdp).await;
    let mut answered = 0;
    for call in calls {
        if let Outcome::Decided { id, permit, .. } = &call.outcome {
            assert_eq!(all.get(id), Some(permit), "{call:?}");
            assert_eq!(*permit, call.agent == "invoice-bot", "{call:?}");
            answered += 1;
        }
    }
    answered
}

/// F3: a frozen or slow database holds nobody beyond a deadline, and no decision at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_postgres_frozen_or_slow() {
    let row = Row::new("F3");
    let freeze = Duration::from_secs(if full() { 20 } else { 8 });
    let Some(postgres) = Pg::start() else { return };
    let proxy = Proxy::start(postgres.port()).await;
    let plan = Plan::new(&proxy.before(&postgres.fresh_database()))
        .prepared()
        .await;
    let pdp = plan.start().await;
    let unprotected = plan.beside().without("DatabaseDeadline").start().await;
    let load = Load::start(&pdp, 4, Duration::from_millis(10));
    load.until_decided(200).await;

    // Slow: everything still works, and decisions do not notice.
    let slow = Instant::now();
    proxy.latency(Duration::from_millis(60));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pdp.readiness().await.0, 200);
    proxy.latency(Duration::ZERO);

    let frozen = Instant::now();
    postgres.pause();
    let reading = tokio::spawn(longest_read(
        pdp.url.clone(),
        pdp.key.clone(),
        frozen + freeze,
    ));
    let waiting = tokio::spawn(longest_read(
        unprotected.url.clone(),
        unprotected.key.clone(),
        frozen + Duration::from_secs(1),
    ));
    let unready = pdp.until_unready().await;
    assert!(unready < STALENESS + DATABASE_DEADLINE + Duration::from_secs(2));
    tokio::time::sleep_until((frozen + freeze).into()).await;
    let (reads, longest) = reading.await.unwrap();
    let (_, unbounded) = waiting.await.unwrap();
    postgres.resume();
    let back = pdp.until_ready().await;
    let calls = load.stop().await;
    let limit = READ + SLACK;
    assert!(reads > 0 && longest < limit, "{reads} reads, {longest:?}");
    assert!(
        unbounded > limit,
        "the control is bounded too: {unbounded:?}"
    );
    nothing_decided_by_stale_policies(
        &calls
            .iter()
            .filter(|call| call.sent + call.took < frozen + freeze)
            .cloned()
            .collect::<Vec<_>>(),
        frozen,
    )
    .unwrap();
    let between = |from: Instant, to: Instant, share: f64| {
        let decided = |call: &&Call| matches!(call.outcome, Outcome::Decided { .. });
        let within = calls
            .iter()
            .filter(move |call| call.sent > from && call.sent < to);
        quantile(within.filter(decided), share)
    };
    let of = |share: f64| {
        [
            between(slow - Duration::from_secs(60), slow, share),
            between(slow, frozen, share),
            between(frozen, frozen + Duration::from_millis(3_500), share),
        ]
    };
    let ([quiet, while_slow, while_frozen], nearly_all) = (of(0.5), of(0.9));
    let most = quiet * 5 + Duration::from_millis(100);
    assert!(
        while_slow < most && while_frozen < most,
        "{quiet:?} {while_slow:?} {while_frozen:?}"
    );
    // One that waited for the database would take as long as that may.
    assert!(
        nearly_all.iter().all(|took| *took < DATABASE_DEADLINE / 2),
        "{nearly_all:?}"
    );
    everything_is_recorded(&pdp, &calls).await;
    row.passed(
        &format!(
            "frozen {} s: longest read {} ms, unready after {} ms, ready {} ms after the thaw; decision p50 {} µs \
             before, {} µs slow, {} µs frozen",
            freeze.as_secs(),
            longest.as_millis(),
            unready.as_millis(),
            back.as_millis(),
            quiet.as_micros(),
            while_slow.as_micros(),
            while_frozen.as_micros(),
        ),
        &format!("failed as it must: a read took {} ms", unbounded.as_millis()),
    );
}

/// Lists decisions, which needs the database, again and again; returns how often, and the longest that one took.
async fn longest_read(url: String, key: String, until: Instant) -> (usize, Duration) {
    let http = patient_client(Duration::from_secs(60));
    let (mut count, mut longest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let began = Instant::now();
        let request = http.get(format!("{url}/v1/decisions?limit=1"));
        let answer = request.bearer_auth(&key).send().await;
        if let Ok(answer) = answer {
            assert!(matches!(answer.status().as_u16(), 200 | 503), "{answer:?}");
        }
        count += 1;
        longest = longest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (count, longest)
}

/// Two hundred readers at once, for one connection to a database that answers slowly.
async fn too_many_readers(pdp: &Pdp, proxy: &Proxy) -> Vec<(u16, Duration)> {
    proxy.latency(Duration::from_millis(10));
    let mut readers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..200 {
        let request = pdp.request(reqwest::Method::GET, "/v1/decisions?limit=1");
        readers.spawn(async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), began.elapsed())
        });
    }
    let answers = readers.join_all().await;
    proxy.latency(Duration::ZERO);
    answers
}

/// What readers may meet when there are too many: each is served or refused, some are refused, and nobody waits long.
///
/// Returns how many were served and refused, and how long the last waited.
fn shed_in_time(answers: &[(u16, Duration)]) -> Result<(usize, usize, Duration), String> {
    let longest = answers.iter().map(|(_, took)| *took).max().unwrap();
    let shed = answers.iter().filter(|(status, _)| *status == 503).count();
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    let told = format!(
        "{served} served, {shed} shed, the last after {} ms",
        longest.as_millis()
    );
    if served + shed == answers.len() && shed > 0 && longest < READ + SLACK * 2 {
        Ok((served, shed, longest))
    } else {
        Err(told)
    }
}

/// A plan with one connection to the database, by way of a proxy.
async fn one_connection(postgres: &Pg) -> (Proxy, Plan) {
    let proxy = Proxy::start(postgres.port()).await;
    let plan = Plan::new(&proxy.before(&postgres.fresh_database()));
    let plan = plan.prepared().await;
    (proxy, plan.set("REMIT__DATABASE__MAX_CONNECTIONS", "1"))
}

/// F6: more readers than the database has connections for are answered or refused in time, and decisions go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_pool_exhausted() {
    let row = Row::new("F6");
    let Some(postgres) = Pg::start() else { return };
    let (proxy, plan) = one_connection(&postgres).await;
    let pdp = plan.start().await;
    let load = Load::start(&pdp, 2, Duration::from_millis(20));
    load.until_decided(10).await;
    let answers = too_many_readers(&pdp, &proxy).await;
    let (served, shed, longest) = shed_in_time(&answers).unwrap();
    assert!(
        served > 0,
        "whoever waited in vain kept everybody else waiting"
    );
    load.until_decided(10).await;
    let calls = load.stop().await;
    for call in &calls {
        assert!(matches!(call.outcome, Outcome::Decided { .. }), "{call:?}");
    }
    pdp.until_ready().await;
    assert_eq!(pdp.get("/v1/decisions?limit=1").await.status, 200);
    assert!(pdp.stop().await.success());

    let unprotected = plan.beside().without("DatabaseDeadline").start().await;
    let answers = too_many_readers(&unprotected, &proxy).await;
    let waited = shed_in_time(&answers).unwrap_err();
    row.passed(
        &format!(
            "{served} served, {shed} shed, the last after {} ms; {} decisions meanwhile, none refused",
            longest.as_millis(),
            calls.len()
        ),
        &format!("failed as it must: {waited}"),
    );
}

/// Two hundred readers that ask again and again until `until`; returns how often they were served and refused.
async fn readers_that_do_not_stop(pdp: &Pdp, until: Instant) -> (usize, usize) {
    let mut readers = JoinSet::new();
    for _ in 0..200 {
        let request = pdp.request(reqwest::Method::GET, "/v1/decisions?limit=1");
        readers.spawn(async move {
            let (mut served, mut shed) = (0, 0);
            while Instant::now() < until {
                let answer = request.try_clone().unwrap().send().await.unwrap();
                match answer.status().as_u16() {
                    200 => served += 1,
                    503 => shed += 1,
                    status => panic!("{status}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (served, shed)
        });
    }
    let counts = readers.join_all().await;
    counts
        .iter()
        .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
}

/// F6: readers that keep the pool exhausted for longer than policies may be old do not keep them from being confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_pool_exhausted_for_long() {
    let row = Row::new("F6");
    let Some(postgres) = Pg::start() else { return };
    let (proxy, plan) = one_connection(&postgres).await;
    let pdp = plan.start().await;
    let (served, shed, calls) = decided_despite_readers(&pdp, &proxy).await;
    assert!(shed > 0, "{served} served: the pool was not exhausted");
    assert!(served > 0, "{shed} shed");
    for call in &calls {
        assert!(matches!(call.outcome, Outcome::Decided { .. }), "{call:?}");
    }
    everything_is_recorded(&pdp, &calls).await;
    assert!(pdp.stop().await.success());

    let unprotected = plan.beside().without("Ahead").start().await;
    let (_, _, unheard) = decided_despite_readers(&unprotected, &proxy).await;
    let decided = |call: &&Call| matches!(call.outcome, Outcome::Decided { .. });
    let refused = unheard.len() - unheard.iter().filter(decided).count();
    assert!(refused > 0, "{} decided", unheard.len());
    row.passed(
        &format!(
            "{served} served and {shed} shed in {} s; {} decisions meanwhile, none refused",
            (STALENESS * 2).as_secs(),
            calls.len()
        ),
        &format!("failed as it must: {refused} of {} refused", unheard.len()),
    );
}

/// Asks for decisions while readers exhaust the pool for twice as long as policies may be old.
///
/// Returns how many readers were served and refused, and what became of the decisions.
async fn decided_despite_readers(pdp: &Pdp, proxy: &Proxy) -> (usize, usize, Vec<Call>) {
    let load = Load::start(pdp, 2, Duration::from_millis(50));
    load.until_decided(10).await;
    proxy.latency(Duration::from_millis(10));
    let (served, shed) = readers_that_do_not_stop(pdp, Instant::now() + STALENESS * 2).await;
    let calls = load.stop().await;
    proxy.latency(Duration::ZERO);
    (served, shed, calls)
}
