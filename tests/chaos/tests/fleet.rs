//! Two replicas on one database, changed at random and killed at random: F14 the same answer at the same revision.
//!
//! Three clients change the bundle, entities and keys by whichever replica they hit, two more ask, and all the while one of
//! the two is killed and started again. A change that was not acknowledged is sent again until it is; in between it is
//! there whole or not at all. In the end everything acknowledged is there, and every record of one revision agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use remit_chaos::pdp::patient_client;
use remit_chaos::{Call, Ledger, Outcome, Pdp, Pg, Plan, Row, full};
use remit_tests::sql;
use reqwest::Method;
use serde_json::{Value, json};

use crate::records;
use crate::small::{about, agent, bundle, forbid};

mod agreement;

use agreement::{Version, agree};

/// Tools that policies may forbid.
const TOOLS: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];
/// Agents that there may be.
const AGENTS: [&str; 6] = ["a0", "a1", "a2", "a3", "a4", "a5"];
/// How long one change may take, with every replica it hits being killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the replicas are now; a killed one comes back elsewhere.
struct Fleet {
    urls: Mutex<[String; 2]>,
    key: String,
    http: reqwest::Client,
    /// Turns, so that each request goes to the other replica than the one before.
    turn: AtomicUsize,
    done: AtomicBool,
    /// The newest revision that anybody was told.
    newest: AtomicU64,
    unacknowledged: AtomicUsize,
}

/// An answer that arrived.
struct Reply {
    status: u16,
    revision: Option<u64>,
    etag: String,
    body: Value,
}

impl Fleet {
    fn url(&self) -> String {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        urls[turn % 2].clone()
    }

    /// Sends a request to some replica; `None` where no whole answer came back.
    async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, String)],
        body: &Value,
    ) -> Option<Reply> {
        let url = format!("{}{path}", self.url());
        let mut request = self
            .http
            .request(method.clone(), url)
            .bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let header = |name: &str| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (revision, etag) = (header("remit-revision"), header("etag"));
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some(Reply {
            status,
            revision: revision.and_then(|text| text.parse().ok()),
            etag: etag.unwrap_or_default(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        })
    }

    /// Reads until it is answered.
    async fn read(&self, path: &str) -> Reply {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.send(&Method::GET, path, &[], &Value::Null).await {
                Some(reply) if reply.status == 200 || reply.status == 404 => return reply,
                _ => assert!(Instant::now() < until, "{path} is not answered"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a change until it is acknowledged, and looks after each attempt that was not.
    async fn change<F: Future<Output = ()>>(
        &self,
        (method, path): (&Method, &str),
        headers: &[(&str, String)],
        body: &Value,
        acknowledged: impl Fn(u16) -> bool,
        look: impl Fn() -> F,
    ) -> Reply {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(reply) = self.send(method, path, headers, body).await {
                if acknowledged(reply.status) {
                    self.newest
                        .fetch_max(reply.revision.unwrap_or_default(), Ordering::SeqCst);
                    return reply;
                }
                let retry = matches!(reply.status, 401 | 409 | 429 | 503 | 504);
                assert!(retry, "{method} {path}: {} {}", reply.status, reply.body);
            }
            self.unacknowledged.fetch_add(1, Ordering::Relaxed);
            look().await;
            assert!(
                Instant::now() < until,
                "{method} {path} is never acknowledged"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

type Tools = BTreeSet<String>;

/// Reads which tools a bundle forbids.
fn tools(bundle: &Value) -> Tools {
    let policies = bundle["policies"].as_array().unwrap().iter();
    let text: String = policies
        .map(|source| source["text"].as_str().unwrap())
        .collect();
    let tools = TOOLS
        .iter()
        .filter(|tool| text.contains(&format!("@id(\"{tool}\")")));
    tools.map(|tool| (*tool).to_owned()).collect()
}

/// Changes the bundle, whole and policy by policy, forward and back.
async fn change_bundle(fleet: &Fleet, dice: Vec<u64>) -> BTreeMap<u64, Tools> {
    let known = fleet.read("/v1/bundle").await;
    let (mut etag, mut now) = (known.etag, tools(&known.body));
    let mut made = BTreeMap::from([(etag.trim_matches('"').parse().unwrap(), now.clone())]);
    for (number, dice) in dice.into_iter().enumerate() {
        let tool = TOOLS[(dice / 8 % 6) as usize];
        let mut next = now.clone();
        let older: Vec<u64> = made.keys().copied().collect();
        let (method, path, body) = match dice % 8 {
            0 | 1 => {
                next = TOOLS
                    .iter()
                    .filter(|tool| dice >> (8 + tool.as_bytes()[1] % 8) & 1 == 1)
                    .map(|tool| (*tool).to_owned())
                    .collect();
                let forbidden: Vec<&str> = next.iter().map(String::as_str).collect();
                (Method::PUT, "/v1/bundle".to_owned(), bundle(&forbidden))
            }
            2 => {
                let to = older[(dice / 64) as usize % older.len()];
                next.clone_from(&made[&to]);
                (
                    Method::POST,
                    "/v1/bundle/rollback".to_owned(),
                    json!({ "to": to }),
                )
            }
            _ if now.contains(tool) => {
                next.remove(tool);
                (Method::DELETE, format!("/v1/policies/{tool}"), Value::Null)
            }
            _ => {
                next.insert(tool.to_owned());
                let body =
                    json!({ "text": forbid(tool).trim_end(), "file": format!("{tool}.cedar") });
                (Method::PUT, format!("/v1/policies/{tool}"), body)
            }
        };
        let condition = match (&method, now.contains(tool)) {
            (&Method::PUT, false) if path.starts_with("/v1/policies") => {
                ("if-none-match", "*".to_owned())
            }
            _ => ("if-match", etag.clone()),
        };
        let headers = [condition, ("idempotency-key", format!("bundle-{number}"))];
        let whole = || async {
            let found = tools(&fleet.read("/v1/bundle").await.body);
            assert!(
                found == now || found == next,
                "half a change: {found:?} from {now:?} to {next:?}"
            );
        };
        let reply = fleet
            .change(
                (&method, &path),
                &headers,
                &body,
                |status| status == 200,
                whole,
            )
            .await;
        let revision = reply.body["revision"].as_u64().unwrap();
        etag = format!("\"{revision}\"");
        now = next;
        made.insert(revision, now.clone());
    }
    made
}

type Agents = BTreeMap<String, bool>;

async fn agents(fleet: &Fleet) -> Agents {
    let listed = fleet.read("/v1/entities?type=Agent&limit=1000").await.body;
    let listed = listed["entities"].as_array().unwrap().iter();
    let active = |one: &Value| one["attrs"]["status"] == "active";
    listed
        .map(|one| (one["uid"]["id"].as_str().unwrap().to_owned(), active(one)))
        .collect()
}

/// Changes entities, one and several at once, and returns what there must be.
async fn change_entities(fleet: &Fleet, dice: Vec<u64>) -> Agents {
    let mut now = Agents::new();
    for dice in dice {
        let (name, active) = (AGENTS[(dice / 4 % 6) as usize], dice / 32 % 3 > 0);
        let path = format!("/v1/entities/Agent/{name}");
        let mut next = now.clone();
        let (method, path, body) = match dice % 4 {
            0 => {
                next.remove(name);
                (Method::DELETE, path, Value::Null)
            }
            1 => {
                let mut items = Vec::new();
                for (place, name) in AGENTS.iter().enumerate() {
                    match dice >> (10 + 2 * place) & 3 {
                        0 => {
                            next.remove(*name);
                            items.push(json!({ "remove": { "type": "Agent", "id": name } }));
                        }
                        1 => {}
                        which => {
                            let mut one = agent(which == 2);
                            one["uid"] = json!({ "type": "Agent", "id": name });
                            next.insert((*name).to_owned(), which == 2);
                            items.push(one);
                        }
                    }
                }
                if items.is_empty() {
                    continue;
                }
                (Method::POST, "/v1/entities/bulk".to_owned(), json!(items))
            }
            _ => {
                next.insert(name.to_owned(), active);
                (Method::PUT, path, agent(active))
            }
        };
        let whole = || async {
            let found = agents(fleet).await;
            assert!(
                found == now || found == next,
                "half a change: {found:?} from {now:?} to {next:?}"
            );
        };
        // Gone already: not there before, or the attempt whose answer was lost.
        let acknowledged = |status| status == 200 || (status == 404 && method == Method::DELETE);
        fleet
            .change((&method, &path), &[], &body, acknowledged, whole)
            .await;
        now = next;
    }
    now
}

/// Makes keys and revokes some, and returns their texts with whether each still opens.
async fn change_keys(fleet: &Fleet, dice: Vec<u64>) -> Vec<(String, bool)> {
    let mut keys: Vec<(String, String, bool)> = Vec::new();
    let nothing = || async {};
    for dice in dice {
        let place = (dice / 2) as usize % keys.len().max(1);
        if let Some((id, _, opens)) = keys.get_mut(place).filter(|_| dice % 2 == 0) {
            let path = format!("/v1/keys/{id}");
            fleet
                .change(
                    (&Method::DELETE, &path),
                    &[],
                    &Value::Null,
                    |status| status == 204,
                    nothing,
                )
                .await;
            *opens = false;
        } else {
            let new = json!({ "name": "fleet", "environment": "live", "scopes": ["evaluate"] });
            let made = fleet
                .change(
                    (&Method::POST, "/v1/keys"),
                    &[],
                    &new,
                    |status| status == 201,
                    nothing,
                )
                .await;
            let text = |member: &str| made.body[member].as_str().unwrap().to_owned();
            keys.push((text("id"), text("key"), true));
        }
    }
    keys.into_iter()
        .map(|(_, key, opens)| (key, opens))
        .collect()
}

/// Asks one replica after the other until the changes are over.
async fn ask(fleet: &Fleet, client: usize) -> Vec<Call> {
    let mut calls = Vec::new();
    while !fleet.done.load(Ordering::SeqCst) {
        let number = calls.len() + client;
        let question = about(AGENTS[number % 6], TOOLS[number / 6 % 6]);
        let url = format!("{}/access/v1/evaluation", fleet.url());
        let request = fleet.http.post(url).bearer_auth(&fleet.key).json(&question);
        let sent = Instant::now();
        let outcome = Outcome::of(request).await;
        calls.push(Call {
            client,
            agent: "fleet",
            sent,
            took: sent.elapsed(),
            outcome,
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls
}

/// Kills one replica after the other until the changes are over; returns both, running, and how often it did.
async fn kill(
    fleet: &Fleet,
    plans: [Plan; 2],
    mut pdps: [Option<Pdp>; 2],
    dice: Vec<u64>,
    ledger: &Mutex<Ledger>,
) -> ([Pdp; 2], usize) {
    let mut kills = 0;
    for dice in dice.into_iter().cycle() {
        tokio::time::sleep(Duration::from_millis(200 + dice / 2 % 600)).await;
        if fleet.done.load(Ordering::SeqCst) {
            break;
        }
        let place = (dice % 2) as usize;
        pdps[place].take().unwrap().kill();
        ledger.lock().unwrap().inspect(&plans[place]);
        let started = plans[place].start().await;
        fleet.urls.lock().unwrap()[place].clone_from(&started.url);
        pdps[place] = Some(started);
        kills += 1;
    }
    (pdps.map(Option::unwrap), kills)
}

/// Lists every version of the bundle, newest first.
async fn versions(pdp: &Pdp) -> Vec<Version> {
    let mut found = Vec::new();
    let mut path = "/v1/bundle/versions?limit=1000".to_owned();
    loop {
        let page: Value = pdp.get(&path).await.json();
        found.extend(page["versions"].as_array().unwrap().iter().map(Version::of));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/bundle/versions?limit=1000&cursor={next}"),
            None => return found,
        }
    }
}

/// Returns the policies that a replica says it decides by: revision and hash.
async fn in_force(pdp: &Pdp) -> (u64, String) {
    let page = pdp.operations("/metrics").await.unwrap().text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("remit_policy_set_info{version=\""))
        .unwrap();
    let (version, rest) = line.split_once("\",hash=\"").unwrap();
    let (hash, _) = rest.split_once('"').unwrap();
    (version.parse().unwrap(), hash.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_replicas_agree_whatever_happens_to_them() {
    let mut row = Row::new("F14");
    let Some(postgres) = Pg::start() else { return };
    let url = postgres.fresh_database();
    let one = Plan::new(&url).prepared().await;
    let plans = [one.clone(), one.beside()];
    let pdps = [plans[0].start().await, plans[1].start().await];
    let fleet = Arc::new(Fleet {
        urls: Mutex::new([pdps[0].url.clone(), pdps[1].url.clone()]),
        key: one.key().to_owned(),
        http: patient_client(Duration::from_secs(20)),
        turn: AtomicUsize::new(0),
        done: AtomicBool::new(false),
        newest: AtomicU64::new(0),
        unacknowledged: AtomicUsize::new(0),
    });
    let first = fleet.read("/v1/bundle").await.etag;
    let put = [("if-match", first)];
    let put = fleet
        .send(&Method::PUT, "/v1/bundle", &put, &bundle(&[]))
        .await;
    assert_eq!(put.unwrap().status, 200);

    let many = if full() { 10 } else { 1 };
    let mut dice = |count: usize| -> Vec<u64> { (0..count).map(|_| row.below(1 << 40)).collect() };
    let (of_bundle, of_entities, of_keys) = (dice(120 * many), dice(200 * many), dice(80 * many));
    let of_kills = dice(32);
    let ledger = Mutex::new(Ledger::new());
    let changing = async {
        let all = tokio::join!(
            change_bundle(&fleet, of_bundle),
            change_entities(&fleet, of_entities),
            change_keys(&fleet, of_keys)
        );
        fleet.done.store(true, Ordering::SeqCst);
        all
    };
    let killing = kill(&fleet, plans, pdps.map(Some), of_kills, &ledger);
    let ((made, wanted, keys), (pdps, kills), calls, more) =
        tokio::join!(changing, killing, ask(&fleet, 0), ask(&fleet, 3));
    let mut ledger = ledger.into_inner().unwrap();
    let calls = [calls, more].concat();
    ledger.hear(&calls);

    // Everything that was acknowledged is there, on both, at one revision.
    let newest = fleet.newest.load(Ordering::SeqCst);
    let barrier = pdps[0]
        .get(&format!("/v1/revisions/{newest}?wait=10000"))
        .await;
    let head = barrier.json::<Value>()["head"].as_u64().unwrap();
    let (last, forbidden) = made.last_key_value().unwrap();
    assert_eq!(agents(&fleet).await, wanted);
    let at = |number: u64| ("remit-revision", number.to_string());
    for (agent, tool) in AGENTS
        .iter()
        .flat_map(|agent| TOOLS.iter().map(move |tool| (agent, tool)))
    {
        let permit = wanted.get(*agent) == Some(&true) && !forbidden.contains(*tool);
        for _ in &pdps {
            let path = "/access/v1/evaluation";
            let asked = fleet
                .send(&Method::POST, path, &[at(head)], &about(agent, tool))
                .await
                .unwrap();
            assert_eq!(
                (asked.status, asked.revision),
                (200, Some(head)),
                "{}",
                asked.body
            );
            assert_eq!(asked.body["decision"], permit, "{agent} {tool}");
        }
    }
    let (force, other) = (in_force(&pdps[0]).await, in_force(&pdps[1]).await);
    assert_eq!(force, other, "they decide by the same");
    for (key, opens) in &keys {
        for pdp in &pdps {
            let status = pdp.ask_as(key).await.status;
            assert_eq!(status, if *opens { 200 } else { 401 });
        }
    }
    let versions = versions(&pdps[0]).await;
    assert_eq!(
        versions
            .iter()
            .filter(|one| made.contains_key(&one.revision))
            .count(),
        made.len()
    );
    assert_eq!(
        versions.len(),
        made.len() + 1,
        "the starter's is the only other one"
    );
    assert_eq!((versions[0].revision, &versions[0].hash), (*last, &force.1));

    // And so it was at every revision.
    crate::all_shipped(&pdps[1]).await;
    let all = records(&pdps[0]).await;
    let revisions = agree(&all, &versions, &made).unwrap();
    let flipped = agreement::flipped(&all, &made);
    let control = agree(&flipped, &versions, &made).unwrap_err();
    let answered = calls
        .iter()
        .filter(|call| matches!(call.outcome, Outcome::Decided { .. }));
    assert!(answered.count() > 100 && kills > 2, "{kills} kills");
    // An acknowledged change that is lost would be seen.
    let (lost, _) = wanted.first_key_value().unwrap();
    sql::execute(&url, &format!("DELETE FROM entities WHERE id = '{lost}'")).await;
    assert_ne!(agents(&fleet).await, wanted);
    let [a, b] = pdps;
    assert!(a.stop().await.success() && b.stop().await.success());
    let totals = ledger.totals(&url).await;
    assert_eq!(
        (totals.missing, totals.differing, totals.gaps),
        (0, 0, 0),
        "{totals}"
    );
    row.passed(
        &format!(
            "{} versions, {} keys and {} agents changed, {kills} kills, {} attempts not acknowledged; {} records at {revisions} \
             revisions agree; {totals}",
            made.len(),
            keys.len(),
            wanted.len(),
            fleet.unacknowledged.load(Ordering::Relaxed),
            all.len(),
        ),
        &format!("failed as they must: {control}; a row taken away was missed"),
    );
}
