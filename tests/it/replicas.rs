//! Several replicas on one Postgres: what one changes, the others decide by, and whoever asks learns where it has arrived.
//!
//! `REMIT_FLEET_CHANGES=10000` makes the long form of both loops; `--nocapture` shows their figures.

use std::process::Command;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::Revision;
use remit_tests::app::TestApp;
use remit_tests::postgres::Postgres;
use remit_tests::server::Remit;
use remit_tests::sql;
use serde_json::{Value, json};

use crate::revisions::bundle;

/// How many changes are made and asked about, in all.
const CHANGES: usize = 200;
/// How many agents are changed side by side.
const LANES: usize = 4;
/// How many changes are timed, unless more are asked for.
const TIMED: usize = 25;
/// How long a change may take to be everywhere, on a machine that compiles something meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);

/// Returns how many changes to make: as many as `REMIT_FLEET_CHANGES` says, or as the suite has time for.
fn changes(usually: usize) -> usize {
    std::env::var("REMIT_FLEET_CHANGES").map_or(usually, |count| count.parse().unwrap())
}

/// Two replicas on one database.
struct Pair {
    a: TestApp,
    b: TestApp,
}

impl Pair {
    async fn start(url: &str, hints: bool, options: &Options) -> Self {
        let database = remit_store::Options {
            hints,
            ..remit_tests::sql::patient(url)
        };
        let named = |name: &str| Options {
            replica: name.to_owned(),
            deadline: PATIENCE,
            max_staleness: Duration::from_secs(30),
            revision_wait: Duration::from_secs(20),
            ..options.clone()
        };
        let mut a = TestApp::sharing(&database, named("a")).await;
        let b = TestApp::sharing(&database, named("b")).await;
        a.put(&bundle()).await;
        b.caught_up().await;
        a.caught_up().await;
        Self { a, b }
    }
}

fn status(active: bool) -> Value {
    json!({ "attrs": { "status": if active { "active" } else { "suspended" } } })
}

/// Writes an agent on a replica and returns the revision of that.
async fn write(app: &TestApp, agent: &str, active: bool) -> u64 {
    let path = format!("/v1/entities/Agent/{agent}");
    loop {
        let reply = app
            .send(app.request(Method::PUT, &path), status(active))
            .await;
        // Too many others were changing the tenant at once; nothing was done.
        if reply.status == StatusCode::CONFLICT {
            continue;
        }
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        return reply.header("remit-revision").parse().unwrap();
    }
}

/// Asks a replica whether an agent may call, at a revision or later where one is given.
///
/// Returns the decision and the revision that it was made at; `None` where it was refused.
async fn ask(app: &TestApp, agent: &str, at_least: Option<u64>) -> Option<(bool, u64)> {
    let mut request = app.request(Method::POST, "/access/v1/evaluation");
    if let Some(revision) = at_least {
        request = request.header("remit-revision", revision.to_string());
    }
    let question = json!({
        "subject": { "type": "Agent", "id": agent }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.send" },
    });
    let reply = app.send(request, question).await;
    if reply.status == StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let decision = reply.json()["decision"].as_bool().unwrap();
    Some((decision, reply.header("remit-revision").parse().unwrap()))
}

/// What came of questions after changes.
#[derive(Debug, Default)]
struct Asked {
    answered: usize,
    refused: usize,
    stale: usize,
}

/// Changes an agent on A again and again, and asks B after each change, with its revision or without.
async fn lane(pair: &Pair, agent: &str, count: usize, with_revision: bool) -> Asked {
    let mut asked = Asked::default();
    for number in 0..count {
        let active = number % 2 == 0;
        let revision = write(&pair.a, agent, active).await;
        match ask(&pair.b, agent, with_revision.then_some(revision)).await {
            None => asked.refused += 1,
            Some((decision, at)) => {
                asked.answered += 1;
                asked.stale += usize::from(decision != active || at < revision);
            }
        }
    }
    asked
}

async fn lanes(pair: &Pair, count: usize, with_revision: bool) -> Asked {
    let each = count.div_ceil(LANES);
    let lane = |agent| lane(pair, agent, each, with_revision);
    let (one, two, three, four) =
        tokio::join!(lane("one"), lane("two"), lane("three"), lane("four"));
    let mut all = Asked::default();
    for asked in [one, two, three, four] {
        all.answered += asked.answered;
        all.refused += asked.refused;
        all.stale += asked.stale;
    }
    all
}

/// Changed on A, asked on B with the revision of the change: answered by that state or a later one, or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_with_a_revision_is_never_answered_by_an_older_state() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let pair = Pair::start(&url, true, &Options::default()).await;
    let began = Instant::now();
    let count = changes(CHANGES);
    let asked = lanes(&pair, count, true).await;
    println!(
        "{count} changes on A, each asked on B with its revision: {asked:?} in {} ms",
        began.elapsed().as_millis()
    );
    assert_eq!(asked.stale, 0, "{asked:?}");
    assert!(asked.answered > count / 2, "{asked:?}");
}

/// The same where notifications are lost: slower, and no less right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_older_without_notifications_either() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let pair = Pair::start(&url, false, &Options::default()).await;
    let asked = lanes(&pair, 20, true).await;
    println!("20 changes without NOTIFY, each asked on B with its revision: {asked:?}");
    assert_eq!(asked.stale, 0, "{asked:?}");

    // The same questions without the revision, so that it is known that B can be behind at all.
    let control = lanes(&pair, 20, false).await;
    println!("control, without the revision: {control:?}");
    assert!(control.stale > 0, "{control:?}");
}

/// Times changes until they are in force on the other replica; each is made whether or not the last has arrived.
async fn time_changes(pair: &Pair, count: usize) -> Vec<Duration> {
    let heads = pair.a.store.heads().await.unwrap();
    let first = heads[0].revision.number() + 1;
    let began = Instant::now();
    let made = async {
        let mut made = Vec::with_capacity(count);
        for number in 0..count {
            // Not in step with the polls of the other.
            let pause = 40 + (number * 7_919 % 173) as u64;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let at = began.elapsed();
            let revision = write(&pair.a, "timed", number % 2 == 0).await;
            assert_eq!(revision, first + number as u64, "nobody else changes it");
            made.push(at);
        }
        made
    };
    let last = Revision::new(first + count as u64 - 1);
    let arrived = async {
        let mut arrived = Vec::with_capacity(count);
        while arrived.len() < count {
            assert!(
                began.elapsed() < PATIENCE + Duration::from_millis(count as u64 * 1_000),
                "revision {last} does not arrive"
            );
            let ready = pair.b.operations("/readyz").await.json();
            let at = began.elapsed();
            let revision = ready["tenants"][0]["revision"].as_u64().unwrap();
            let there = usize::try_from((revision + 1).saturating_sub(first)).unwrap();
            arrived.resize(there.max(arrived.len()), at);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        arrived
    };
    let (made, arrived) = tokio::join!(made, arrived);
    let mut took: Vec<Duration> = made
        .iter()
        .zip(arrived)
        .map(|(made, arrived)| arrived.saturating_sub(*made))
        .collect();
    took.sort();
    took
}

/// From the request that changes to in force on the other replica, with notifications and with all of them lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_arrives_with_and_without_notifications() {
    for hints in [true, false] {
        let Some(url) = Postgres::database().await else {
            return;
        };
        let pair = Pair::start(&url, hints, &Options::default()).await;
        let count = changes(TIMED);
        let took = time_changes(&pair, count).await;
        assert_eq!(took.len(), count);
        let rank = |part: usize| took[(count * part / 100).min(count - 1)].as_millis();
        println!(
            "{count} changes {}: median {} ms, p99 {} ms, longest {} ms",
            if hints {
                "with NOTIFY"
            } else {
                "without NOTIFY"
            },
            rank(50),
            rank(99),
            rank(100)
        );
    }
}

/// A heartbeat that fails while polls succeed: others take the replica for lost, and it decides by the newest all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_fails_harms_no_decision() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let database = remit_tests::sql::patient(&url);
    let named = |name: &str| Options {
        replica: name.to_owned(),
        deadline: PATIENCE,
        max_staleness: Duration::from_secs(4),
        revision_wait: Duration::from_secs(20),
        poll: Duration::from_millis(100),
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, named("a")).await;
    let b = TestApp::sharing(&database, named("b")).await;
    a.put(&bundle()).await;
    b.caught_up().await;
    a.caught_up().await;
    let seen = async |path: &str| a.get(path).await.json();
    let revision = write(&a, "beat", true).await;
    let path = format!("/v1/revisions/{revision}?wait=10000");
    assert_eq!(state(&seen(&path).await, "b"), Some("reached"));

    sql::execute(
        &url,
        "CREATE FUNCTION unseen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'unseen'; END $$; \
         CREATE TRIGGER unseen BEFORE INSERT OR UPDATE ON replicas FOR EACH ROW WHEN (NEW.name = 'b') \
         EXECUTE FUNCTION unseen()",
    )
    .await;
    let began = Instant::now();
    let (mut asked, mut revision, mut lost) = (0, revision, false);
    while !lost || began.elapsed() < Duration::from_secs(7) {
        assert!(began.elapsed() < PATIENCE, "it is never taken for lost");
        let active = asked % 2 == 0;
        revision = write(&a, "beat", active).await;
        assert_eq!(
            ask(&b, "beat", Some(revision)).await.map(|it| it.0),
            Some(active)
        );
        assert_eq!(b.operations("/readyz").await.status, StatusCode::OK);
        asked += 1;
        lost = state(&seen(&format!("/v1/revisions/{revision}")).await, "b") == Some("lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody waits for it, as it could not be told apart from one that is gone.
    let path = "/v1/entities/Agent/beat?wait=fleet";
    let waited = a.send(a.request(Method::PUT, path), status(true)).await;
    assert_eq!(waited.status, StatusCode::OK, "{}", waited.text);
    assert_eq!(state(&waited.json()["fleet"], "b"), Some("lost"));

    sql::execute(&url, "DROP TRIGGER unseen ON replicas").await;
    let healed = Instant::now();
    let path = format!("/v1/revisions/{revision}");
    while state(&seen(&path).await, "b") != Some("reached") {
        assert!(healed.elapsed() < PATIENCE, "it is not seen again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{asked} questions with their revision while no heartbeat arrived, each answered; seen again after {} ms",
        healed.elapsed().as_millis()
    );
}

/// Polls a server until its answer pleases.
async fn until(server: &Remit, path: &str, pleases: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body: Value = server.get(path).await.json();
        if pleases(&body) {
            return body;
        }
        assert!(Instant::now() < deadline, "{body:#}\n{}", server.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn state<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    let replicas = body["replicas"].as_array()?;
    let named = replicas.iter().find(|replica| replica["name"] == name)?;
    named["state"].as_str()
}

async fn process(url: &str, name: &str) -> Remit {
    Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .variable("REMIT__DATABASE__URL", url)
        .variable("REMIT__REPLICA__NAME", name)
        .variable("REMIT__AUTH__PEPPER", &"pepper".repeat(8))
        .variable("REMIT__POLICY__MAX_STALENESS_MS", "3000")
        .start()
        .await
}

/// Two processes: one is killed, and named as missing and then as lost; one stops, and is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_is_lost_and_named() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let a = process(&url, "a").await;
    let b = process(&url, "b").await;
    let agent = json!({
        "attrs": { "status": "active", "trust": 1, "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } } },
    });
    let put = |query: &'static str| {
        let path = format!("/v1/entities/Agent/fleet-bot{query}");
        let request = a.request(Method::PUT, &path).json(&agent);
        async move { remit_tests::server::send(request).await }
    };
    let reached = Instant::now();
    loop {
        // A machine that stands still for some seconds makes either of them lost, for a moment.
        let done = put("?wait=fleet").await;
        let fleet = if done.status == 200 {
            done.json::<Value>()["fleet"].clone()
        } else {
            Value::Null
        };
        let states = ["a", "b"].map(|name| state(&fleet, name));
        if states == [Some("reached"); 2] {
            break;
        }
        assert!(
            !states.contains(&Some("behind")),
            "it did not wait: {}",
            done.text()
        );
        assert!(reached.elapsed() < PATIENCE, "{}", done.text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let killed = Command::new("kill")
        .args(["-KILL", &b.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let after: Value = put("").await.json();
    let path = format!("/v1/revisions/{}", after["revision"]);
    let early: Value = a.get(&path).await.json();
    if state(&early, "b") != Some("lost") {
        assert_eq!(early["reached"], false, "{early:#}");
        assert_eq!(state(&early, "b"), Some("behind"));
    }
    // As soon as it is known that it permits nothing any more, nobody waits for it.
    let waited: Value = put("?wait=fleet").await.json();
    assert_eq!(state(&waited["fleet"], "b"), Some("lost"), "{waited:#}");
    assert_eq!(state(&waited["fleet"], "a"), Some("reached"));
    let lost = until(&a, &path, |body| body["reached"] == true).await;
    assert_eq!(state(&lost, "b"), Some("lost"));

    // One that stops takes its leave at once, long before it would be lost.
    let c = process(&url, "c").await;
    until(&a, &path, |body| state(body, "c") == Some("reached")).await;
    assert!(c.stop().await.success());
    let left = until(&a, &path, |body| state(body, "c").is_none()).await;
    assert_eq!(state(&left, "a"), Some("reached"));
}
