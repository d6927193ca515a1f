//! Many clients on two servers for one approval, one server killed meanwhile: one permit, recorded, and the same when asked
//! for again.
//!
//! `REMIT_APPROVAL_ROUNDS=100` makes the long form; `--nocapture` shows the table.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_core::{ApprovalId, ApprovalScope, Clock, DecisionId, TenantId, Timestamp};
use remit_store::{Approving, Change, Store};
use remit_tests::postgres::Postgres;
use remit_tests::server::{Remit, client};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{EVALUATION, REQUESTS, by, submission};

/// How many clients ask at once.
const CLIENTS: usize = 50;
/// How many rounds, unless more are asked for.
const ROUNDS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

async fn process(url: &str, name: &str, folder: &std::path::Path) -> Remit {
    let remit = Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .bundle(folder)
        .variable("REMIT__DATABASE__URL", url)
        .variable("REMIT__REPLICA__NAME", name)
        .variable("REMIT__AUTH__PEPPER", &"pepper".repeat(8))
        .variable("REMIT__POLICY__MAX_STALENESS_MS", "30000")
        .variable("REMIT__DATABASE__DEADLINE_MS", "20000")
        .start()
        .await;
    remit.is_not_replayed("a server is killed, and its spool lost with it");
    remit
}

/// What came of asking with a name: the decision and its id, or nothing where there was no answer.
async fn named(url: &str, key: &str, question: &Value, name: &str) -> Option<(bool, String)> {
    let request = client()
        .post(format!("{url}{EVALUATION}"))
        .bearer_auth(key)
        .header("idempotency-key", name)
        .json(question);
    let answer = request.send().await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    let body: Value = answer.json().await.ok()?;
    let id = body["context"]["evaluation_id"].as_str()?.to_owned();
    Some((body["decision"].as_bool()?, id))
}

/// Gets an approval of one payment, and returns the question that presents it.
async fn approval(server: &Remit, store: &Store, tenant: TenantId, amount: usize) -> Value {
    let mut question = super::payment();
    question["action"]["properties"]["amount"] = json!(amount);
    let denied: Value = server.post(EVALUATION, &question).await.json();
    let handle = server.post(REQUESTS, &submission(&question, &denied)).await;
    assert_eq!(handle.status, 202, "{}", handle.text());
    let id = handle.json::<Value>()["task"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let approvers = BTreeSet::from(["maya".parse().unwrap()]);
    let approving = Approving {
        scope: ApprovalScope::Once,
        approvers: &approvers,
        until: Timestamp::from_micros(Clock::system().now().micros() + 600_000_000),
        by: "maya",
        why: None,
    };
    let parsed: ApprovalId = id.parse().unwrap();
    store
        .approve(tenant, parsed, approving, Change::default())
        .await
        .unwrap();
    by(&question, &id)
}

#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    one_winner: usize,
    unheard: usize,
    recorded: usize,
    same: usize,
    answers: usize,
    losers: usize,
}

/// One round: all clients at once, half on each server; one server is killed in the middle.
async fn round(
    (a, b): (&Remit, &Remit),
    (store, tenant): (&Store, TenantId),
    question: &Arc<Value>,
    tally: &mut Tally,
    number: usize,
) {
    let mut racing = JoinSet::new();
    for index in 0..CLIENTS {
        let server = if index % 2 == 0 { a } else { b };
        let (url, key) = (server.url.clone(), server.key.clone());
        let question = Arc::clone(question);
        racing.spawn(async move {
            let name = format!("r{number}c{index}");
            (index, named(&url, &key, &question, &name).await)
        });
    }
    let kill = Duration::from_millis(2 + (u64::try_from(number).unwrap() * 7) % 40);
    tokio::time::sleep(kill).await;
    let killed = Command::new("kill")
        .args(["-KILL", &b.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let answers = racing.join_all().await;
    let permitted: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| answer.as_ref().is_some_and(|(permit, _)| *permit))
        .collect();
    assert!(permitted.len() <= 1, "{permitted:?}");
    tally.rounds += 1;
    tally.answers += answers
        .iter()
        .filter(|(_, answer)| answer.is_some())
        .count();
    // Whoever won asks again by its name on the server that is left: also where the answer died with the other one.
    let mut winners = Vec::new();
    for index in 0..CLIENTS {
        let name = format!("r{number}c{index}");
        let again = named(&a.url, &a.key, question, &name).await;
        let (permit, id) = again.expect("the server that is left answers");
        if permit {
            winners.push((index, id));
        } else {
            tally.losers += 1;
        }
    }
    assert_eq!(
        winners.len(),
        1,
        "round {number}: {winners:?}, heard {permitted:?}"
    );
    tally.one_winner += 1;
    let (index, id) = &winners[0];
    match permitted.first() {
        Some((heard, Some((_, first)))) => {
            assert_eq!(
                (heard, first),
                (index, id),
                "another decision was given again"
            );
            tally.same += 1;
        }
        _ => tally.unheard += 1,
    }
    let decision: DecisionId = id.parse().unwrap();
    let stored = store.decision(tenant, decision).await.unwrap();
    assert!(stored.is_some(), "the permit is not recorded");
    tally.recorded += 1;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_approval_is_one_permit_whoever_dies() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    crate::approvals::write(folder.path());
    let rounds = std::env::var("REMIT_APPROVAL_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |count| count.parse().unwrap());
    let options = remit_store::Options {
        deadline: PATIENCE,
        ..remit_store::Options::new(&url)
    };
    let a = process(&url, "a", folder.path()).await;
    let store = Store::open(&options, Clock::system()).await.unwrap();
    let tenant = store.ensure_tenant("default").await.unwrap();
    let mut tally = Tally::default();
    let began = Instant::now();
    for number in 0..rounds {
        let b = process(&url, "b", folder.path()).await;
        let question = Arc::new(approval(&a, &store, tenant, number).await);
        round((&a, &b), (&store, tenant), &question, &mut tally, number).await;
    }
    println!(
        "{CLIENTS} clients, two servers, one killed: {tally:?} in {} ms",
        began.elapsed().as_millis()
    );
    assert_eq!(tally.recorded, rounds);
}
