//! Many clients on two servers for one approval, one server killed meanwhile: one permit, recorded, and the same when asked
//! for again.
//!
//! `REMIT_APPROVAL_ROUNDS=100` makes the long form; `--nocapture` shows the table.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_core::{ApprovalId, ApprovalScope, Clock, DecisionId, TenantId, Timestamp};
use remit_store::{Approving, Change, NewKey, Pepper, Scope, Store};
use remit_tests::postgres::Postgres;
use remit_tests::server::{Remit, client, send};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{EVALUATION, REQUESTS, by, submission};

/// How many clients ask at once.
const CLIENTS: usize = 50;
/// How many rounds, unless more are asked for.
const ROUNDS: usize = 4;
const PATIENCE: Duration = Duration::from_mins(1);

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

/// What came of asking with a name: the decision and its id, or why there was no answer.
async fn named(
    url: &str,
    key: &str,
    question: &Value,
    name: &str,
) -> Result<(bool, String), String> {
    let request = client()
        .post(format!("{url}{EVALUATION}"))
        .bearer_auth(key)
        .header("idempotency-key", name)
        .json(question);
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(format!("{status}: {text}"));
    }
    let body: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let id = body["context"]["evaluation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    Ok((body["decision"].as_bool().unwrap(), id))
}

/// Posts with the key that all servers know.
async fn post(server: &Remit, key: &str, path: &str, body: &Value) -> remit_tests::server::Answer {
    let request = client().post(format!("{}{path}", server.url));
    send(request.bearer_auth(key).json(body)).await
}

/// Makes a key that is the same principal on every server; a development key is another one on each.
async fn shared_key(store: &Store, tenant: TenantId) -> String {
    let new = NewKey {
        name: "the enforcement point".to_owned(),
        environment: "live".to_owned(),
        scopes: BTreeSet::from([Scope::Evaluate]),
        expires_at: None,
        principal: None,
    };
    let pepper = Pepper::new("pepper".repeat(8).as_bytes()).unwrap();
    let (_, key) = store.create_key(tenant, &new, &pepper).await.unwrap();
    key.reveal()
}

/// Waits until a server knows the key.
async fn knows(server: &Remit, key: &str) {
    let until = Instant::now() + PATIENCE;
    while post(server, key, EVALUATION, &super::payment())
        .await
        .status
        != 200
    {
        assert!(Instant::now() < until, "{}", server.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Gets an approval of one payment, and returns the question that presents it.
async fn approval(
    (server, key): (&Remit, &str),
    (store, tenant): (&Store, TenantId),
    amount: usize,
) -> Value {
    let mut question = super::payment();
    question["action"]["properties"]["amount"] = json!(amount);
    let denied: Value = post(server, key, EVALUATION, &question).await.json();
    let handle = post(server, key, REQUESTS, &submission(&question, &denied)).await;
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
    (a, b, key): (&Remit, &Remit, &str),
    (store, tenant): (&Store, TenantId),
    question: &Arc<Value>,
    tally: &mut Tally,
    number: usize,
) {
    let mut racing = JoinSet::new();
    for index in 0..CLIENTS {
        let server = if index % 2 == 0 { a } else { b };
        let (url, key) = (server.url.clone(), key.to_owned());
        let question = Arc::clone(question);
        racing.spawn(async move {
            let name = format!("r{number}c{index}");
            (index, named(&url, &key, &question, &name).await)
        });
    }
    let kill = Duration::from_millis(2 + (u64::try_from(number).unwrap() * 37) % 200);
    tokio::time::sleep(kill).await;
    let killed = Command::new("kill")
        .args(["-KILL", &b.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let answers = racing.join_all().await;
    let permitted: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| answer.as_ref().is_ok_and(|(permit, _)| *permit))
        .collect();
    assert!(permitted.len() <= 1, "{permitted:?}");
    tally.rounds += 1;
    tally.answers += answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    // Whoever won asks again by its name on the server that is left: also where the answer died with the other one.
    let mut winners = Vec::new();
    for index in 0..CLIENTS {
        let name = format!("r{number}c{index}");
        let again = named(&a.url, key, question, &name).await;
        let (permit, id) = again.unwrap();
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
        Some((heard, Ok((_, first)))) => {
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
    let key = shared_key(&store, tenant).await;
    let mut tally = Tally::default();
    let began = Instant::now();
    for number in 0..rounds {
        let b = process(&url, "b", folder.path()).await;
        knows(&a, &key).await;
        knows(&b, &key).await;
        let question = approval((&a, &key), (&store, tenant), number).await;
        let (servers, question) = ((&a, &b, key.as_str()), Arc::new(question));
        round(servers, (&store, tenant), &question, &mut tally, number).await;
    }
    println!(
        "{CLIENTS} clients, two servers, one killed: {tally:?} in {} ms",
        began.elapsed().as_millis()
    );
    assert_eq!(tally.recorded, rounds);
}
