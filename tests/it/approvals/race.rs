//! Many clients on two servers for one approval, one server killed meanwhile: one permit, recorded, and the same when asked
//! for again, of the server that lives and of the one that was killed once it is there again.
//!
//! `REMIT_APPROVAL_ROUNDS=100` makes the long form; `--nocapture` shows the table.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_core::{ApprovalId, ApprovalScope, Clock, DecisionId, Revision, TenantId, Timestamp};
use remit_store::{Approving, Change, NewKey, Pepper, Scope, Store};
use remit_tests::postgres::Postgres;
use remit_tests::server::{Remit, client, send};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{EVALUATION, REQUESTS, by, submission};

/// How many clients ask at once.
const CLIENTS: usize = 50;
/// How many rounds, unless more are asked for.
const ROUNDS: usize = 18;
const PATIENCE: Duration = Duration::from_mins(1);

async fn process(url: &str, name: &str, folder: &std::path::Path) -> Remit {
    let remit = Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .bundle(folder)
        .variable("REMIT__DATABASE__URL", url)
        .variable("REMIT__REPLICA__NAME", name)
        .variable("REMIT__AUTH__PEPPER", &"pepper".repeat(8))
        .variable("REMIT__POLICY__MAX_STALENESS_MS", "30000")
        // All rounds are of one agent.
        .variable("REMIT__APPROVALS__ASKED_PER_MINUTE", "100000")
        .start()
        .await;
    remit.is_not_replayed("a server is killed, and its spool lost with it");
    remit
}

/// Why there was no answer.
#[derive(Debug)]
enum Unheard {
    /// The connection ended after the question was sent.
    Cut,
    /// There was nobody to connect to any more.
    Late,
    /// It was told to ask again.
    Refused(String),
}

/// What came of asking with a name: the decision and its id.
async fn named(
    http: &reqwest::Client,
    (url, key): (&str, &str),
    question: &Value,
    name: &str,
) -> Result<(bool, String), Unheard> {
    let request = http
        .post(format!("{url}{EVALUATION}"))
        .bearer_auth(key)
        .header("idempotency-key", name)
        .json(question);
    let unheard = |error: reqwest::Error| {
        if error.is_connect() {
            Unheard::Late
        } else {
            Unheard::Cut
        }
    };
    let answer = request.send().await.map_err(unheard)?;
    let status = answer.status();
    let text = answer.text().await.map_err(unheard)?;
    if status != 200 {
        return Err(Unheard::Refused(format!("{status}: {text}")));
    }
    let body: Value = serde_json::from_str(&text).unwrap();
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

/// Gets an approval of one payment, and returns the question that presents it, and since which revision.
async fn approval(
    (server, key): (&Remit, &str),
    (store, tenant): (&Store, TenantId),
    amount: usize,
) -> (Value, Revision) {
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
    let approved = store
        .approve(tenant, parsed, approving, Change::default())
        .await;
    (by(&question, &id), approved.unwrap().revision)
}

#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    one_winner: usize,
    /// Rounds in which the permit was recorded and its answer lost.
    unheard: usize,
    recorded: usize,
    same: usize,
    answers: usize,
    /// Questions whose server died with them.
    cut: usize,
    late: usize,
    refused: usize,
    losers: usize,
}

/// What all rounds share.
struct Race<'a> {
    store: &'a Store,
    tenant: TenantId,
    key: &'a str,
    http: reqwest::Client,
    /// How long it took, the last time that it was measured, until the approval was used.
    moment: Duration,
    tally: Tally,
}

impl Race<'_> {
    /// Kills a server: when somebody has an answer, when the approval is used, or somewhat before the last time that was so.
    async fn kills(&mut self, server: &Remit, number: usize, question: &Value, answered: &Notify) {
        // It is there already, and waits for the end of its input.
        let mut killer = Command::new("sh")
            .args(["-c", "read -r _; kill -KILL \"$1\"", "sh"])
            .arg(server.pid().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        match number / 2 % 3 {
            0 => answered.notified().await,
            1 => {
                self.is_used(question).await;
                self.moment = began.elapsed();
            }
            _ => tokio::time::sleep(self.moment / 2).await,
        }
        drop(killer.stdin.take());
        assert!(killer.wait().unwrap().success());
    }

    /// Waits until an approval is used, by whomever.
    async fn is_used(&self, question: &Value) {
        let id = question["context"]["approval"]["id"].as_str().unwrap();
        let id: ApprovalId = id.parse().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let request = self.store.request(self.tenant, id).await.unwrap();
            if request.unwrap().grant.unwrap().uses_left == 0 {
                return;
            }
            assert!(Instant::now() < until, "it is not used");
        }
    }

    /// Has all clients ask at once, half of them each server, and kills one in the middle; returns who heard of a permit.
    async fn rush(
        &mut self,
        [lives, dies]: [&Remit; 2],
        question: &Arc<Value>,
        number: usize,
    ) -> Vec<(usize, String)> {
        let mut racing = JoinSet::new();
        let answered = Arc::new(Notify::new());
        for index in 0..CLIENTS {
            let server = if index % 2 == 0 { lives } else { dies };
            let (url, key) = (server.url.clone(), self.key.to_owned());
            let (question, answered) = (Arc::clone(question), Arc::clone(&answered));
            let http = self.http.clone();
            racing.spawn(async move {
                let name = format!("r{number}c{index}");
                let answer = named(&http, (&url, &key), &question, &name).await;
                answered.notify_one();
                (index, answer)
            });
        }
        self.kills(dies, number, question, &answered).await;
        let mut permitted = Vec::new();
        for (index, answer) in racing.join_all().await {
            match answer {
                Ok((permits, id)) => {
                    self.tally.answers += 1;
                    permitted.extend(permits.then_some((index, id)));
                }
                Err(Unheard::Cut) => self.tally.cut += 1,
                Err(Unheard::Late) => self.tally.late += 1,
                Err(Unheard::Refused(why)) => {
                    println!("round {number}, client {index}: {why}");
                    self.tally.refused += 1;
                }
            }
        }
        assert!(permitted.len() <= 1, "{permitted:?}");
        permitted
    }

    /// Has all of them ask again by their names: one is permitted, also where the answer died with its server.
    async fn winner(&mut self, server: &Remit, question: &Value, number: usize) -> (usize, String) {
        let mut winners = Vec::new();
        for index in 0..CLIENTS {
            let name = format!("r{number}c{index}");
            let again = named(&self.http, (&server.url, self.key), question, &name).await;
            let (permit, id) = again.unwrap();
            if permit {
                winners.push((index, id));
            } else {
                self.tally.losers += 1;
            }
        }
        assert_eq!(winners.len(), 1, "round {number}: {winners:?}");
        winners.remove(0)
    }

    /// Notes who won a round, on the server that lives.
    async fn won(&mut self, winner: &(usize, String), heard: &[(usize, String)]) {
        self.tally.rounds += 1;
        self.tally.one_winner += 1;
        match heard.first() {
            Some(heard) => {
                assert_eq!(heard, winner, "another decision was given again");
                self.tally.same += 1;
            }
            None => self.tally.unheard += 1,
        }
        let decision: DecisionId = winner.1.parse().unwrap();
        let stored = self.store.decision(self.tenant, decision).await.unwrap();
        assert!(stored.is_some(), "the permit is not recorded");
        self.tally.recorded += 1;
    }
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
    let options = remit_tests::sql::patient(&url);
    let names = ["a", "b"];
    let a = process(&url, names[0], folder.path()).await;
    let mut servers = [a, process(&url, names[1], folder.path()).await];
    let store = Store::open(&options, Clock::system()).await.unwrap();
    let tenant = store.ensure_tenant("default").await.unwrap();
    let key = shared_key(&store, tenant).await;
    let mut race = Race {
        store: &store,
        tenant,
        key: &key,
        http: client(),
        moment: Duration::from_millis(20),
        tally: Tally::default(),
    };
    let began = Instant::now();
    for server in &servers {
        knows(server, &key).await;
    }
    for number in 0..rounds {
        let (lives, dies) = ((number + 1) % 2, number % 2);
        let pair = [&servers[lives], &servers[dies]];
        let (question, since) = approval((pair[0], &key), (&store, tenant), number).await;
        let question = Arc::new(question);
        // Nobody is refused for want of news.
        for server in pair {
            server.reached(since.number()).await;
        }
        let heard = race.rush(pair, &question, number).await;
        let winner = race.winner(pair[0], &question, number).await;
        race.won(&winner, &heard).await;
        // Whoever died has lost all that it knew, and answers the same.
        servers[dies] = process(&url, names[dies], folder.path()).await;
        knows(&servers[dies], &key).await;
        let again = race.winner(&servers[dies], &question, number).await;
        assert_eq!(
            again, winner,
            "round {number}: another one after the restart"
        );
    }
    let tally = race.tally;
    println!(
        "{CLIENTS} clients, two servers, one killed and started again: {tally:?} in {} ms",
        began.elapsed().as_millis()
    );
    assert_eq!(tally.recorded, rounds);
    assert_eq!(tally.losers, rounds * 2 * (CLIENTS - 1));
    assert!(tally.cut > 0, "nobody was asking when a server died");
}
