//! Replicas cut off from their database: F15 nothing is permitted by an old policy, F16 nor to one whose grant is gone.
//!
//! A partition holds three replicas and one more whose check of staleness is off. In each, a grant is taken back on a
//! replica that is not cut off, and the others are asked every 50 ms until long after they may permit no more. Usually
//! there are 14 partitions, which makes 1,008 questions after the bound; `REMIT_CHAOS=full` makes 334, so that a replica is
//! cut off 1,002 times.

use std::time::{Duration, Instant};

use remit_chaos::{Outcome, Pdp, Pg, Plan, Proxy, Row, full};
use remit_tests::server::send;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::small::{agent, bundle, question};

/// How old policies may be here: shorter than by default, and by the same code.
const STALENESS: Duration = Duration::from_millis(600);
/// How often a replica is asked.
const PROBE: Duration = Duration::from_millis(50);
/// How long it is asked after it may permit no more.
const AFTER: Duration = Duration::from_millis(1_200);
/// How soon it must be right again after the partition has healed; and how soon where the machine has something else to do.
const REJOIN: Duration = Duration::from_secs(2);
const BUSY_REJOIN: Duration = Duration::from_secs(8);
/// How many replicas are cut off.
const REPLICAS: usize = 3;

/// One question in a partition.
#[derive(Debug, Clone)]
struct Probe {
    sent: Instant,
    outcome: Outcome,
}

/// What came of all partitions.
#[derive(Debug, Default)]
struct Counts {
    partitions: usize,
    /// Questions in partitions, and those of them that were asked after the bound.
    asked: usize,
    late: usize,
    /// Permits before the bound, and after it.
    permits: usize,
    late_permits: usize,
    /// Questions that said which revision they want, and how many of them were permitted.
    with_revision: usize,
    stale: usize,
    rejoin: Vec<Duration>,
}

/// Replicas, and the network between most of them and the database.
struct World {
    a: Pdp,
    proxy: Proxy,
    cut: Vec<Pdp>,
    control: Pdp,
}

/// Asks a server until `until`, every 50 ms.
async fn probe(request: reqwest::RequestBuilder, until: Instant) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut next = Instant::now();
    while next < until {
        tokio::time::sleep_until(next.into()).await;
        let sent = Instant::now();
        let outcome = Outcome::of(request.try_clone().unwrap()).await;
        probes.push(Probe { sent, outcome });
        // An answer that waited for its revision is not made up for.
        next = (next + PROBE).max(Instant::now());
    }
    probes
}

fn ask(pdp: &Pdp, key: &str) -> reqwest::RequestBuilder {
    let client = remit_chaos::pdp::patient_client(Duration::from_secs(30));
    client
        .post(format!("{}/access/v1/evaluation", pdp.url))
        .bearer_auth(key)
        .json(&question("courier-bot"))
}

impl World {
    async fn start(postgres: &Pg) -> Self {
        let proxy = Proxy::start(postgres.port()).await;
        let direct = postgres.fresh_database();
        let plan = Plan::new(&direct).prepared().await;
        let a = plan.start().await;
        let etag = a.get("/v1/bundle").await.header("etag").to_owned();
        let put = a
            .request(Method::PUT, "/v1/bundle")
            .header("if-match", etag);
        let put = send(put.json(&bundle(&[]))).await;
        assert_eq!(put.status, 200, "{}", put.text());
        let behind = plan
            .beside()
            .set("REMIT__DATABASE__URL", &proxy.before(&direct))
            .set(
                "REMIT__POLICY__MAX_STALENESS_MS",
                &STALENESS.as_millis().to_string(),
            )
            .set("REMIT__POLICY__POLL_MS", "100");
        let mut cut = Vec::new();
        for _ in 0..REPLICAS {
            cut.push(behind.beside().start().await);
        }
        let control = behind.beside().without("Staleness").start().await;
        Self {
            a,
            proxy,
            cut,
            control,
        }
    }

    fn behind(&self) -> impl Iterator<Item = &Pdp> {
        self.cut.iter().chain([&self.control])
    }

    /// Waits until a server answers as wanted, and returns how long that took.
    async fn until(&self, pdp: &Pdp, key: &str, permit: bool) -> Duration {
        let so = || async {
            match Outcome::of(ask(pdp, key)).await {
                Outcome::Decided { permit: found, .. } => found == permit,
                Outcome::Refused { status, .. } => status == 401 && !permit,
                Outcome::Lost { .. } => false,
            }
        };
        pdp.until(&format!("permitted is {permit}"), so).await
    }

    async fn change(&self, method: Method, path: &str, body: &Value) -> Value {
        let known = self.a.get(path).await;
        let mut request = self.a.request(method, path);
        if known.status == 200 && path.starts_with("/v1/policies") {
            request = request.header("if-match", known.header("etag"));
        } else if path.starts_with("/v1/policies") {
            request = request.header("if-none-match", "*");
        }
        let done = send(request.json(body)).await;
        assert!(
            matches!(done.status, 200 | 201 | 204),
            "{path}: {}",
            done.text()
        );
        if done.status == 204 {
            json!({ "revision": done.header("remit-revision").parse::<u64>().unwrap() })
        } else {
            done.json()
        }
    }

    /// Gives the grant, and returns the key to ask with, where one is revoked its id too.
    async fn grant(&self, kind: usize) -> (String, String) {
        self.change(Method::PUT, "/v1/entities/Agent/courier-bot", &agent(true))
            .await;
        if self.a.get("/v1/policies/stop").await.status == 200 {
            self.change(Method::DELETE, "/v1/policies/stop", &Value::Null)
                .await;
        }
        if kind != 2 {
            return (self.a.key.clone(), String::new());
        }
        let new = json!({ "name": "short", "environment": "live", "scopes": ["evaluate"] });
        let made = self.change(Method::POST, "/v1/keys", &new).await;
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        (text("key"), text("id"))
    }

    /// Takes the grant back, and returns the revision of that.
    async fn revoke(&self, kind: usize, id: &str) -> u64 {
        let stop = "@id(\"stop\")\nforbid (principal, action, resource);";
        let done = match kind {
            0 => {
                let path = "/v1/entities/Agent/courier-bot";
                self.change(Method::PUT, path, &agent(false)).await
            }
            1 => {
                let body = json!({ "text": stop });
                self.change(Method::PUT, "/v1/policies/stop", &body).await
            }
            _ => {
                let path = format!("/v1/keys/{id}");
                self.change(Method::DELETE, &path, &Value::Null).await
            }
        };
        done["revision"].as_u64().unwrap()
    }

    /// Makes one partition and asks in it. `kind` says how the grant is taken back.
    async fn partition(&self, kind: usize, ours: &mut Counts, theirs: &mut Counts) {
        let (key, id) = self.grant(kind).await;
        for pdp in self.behind() {
            self.until(pdp, &key, true).await;
        }
        self.proxy.blackhole(true);
        let revision = self.revoke(kind, &id).await;
        let done = Instant::now();
        let bound = done + STALENESS;
        let mut probing = JoinSet::new();
        for (place, pdp) in self.behind().enumerate() {
            let (request, control) = (ask(pdp, &key), place == REPLICAS);
            probing.spawn(async move { (control, probe(request, bound + AFTER).await) });
        }
        let fully = ask(&self.cut[0], &key).header("remit-revision", revision.to_string());
        let fully = tokio::spawn(probe(fully, bound + AFTER));
        for (control, probes) in probing.join_all().await {
            if control {
                theirs.count(&probes, bound);
            } else {
                ours.count(&probes, bound);
            }
        }
        let fully = fully.await.unwrap();
        ours.with_revision += fully.len();
        ours.stale += fully.iter().filter(|one| one.outcome.permits()).count();
        ours.partitions += 1;
        self.proxy.blackhole(false);
        let healed = Instant::now();
        for pdp in &self.cut {
            self.until(pdp, &key, false).await;
            ours.rejoin.push(healed.elapsed());
        }
        self.until(&self.control, &key, false).await;
    }
}

impl Counts {
    fn count(&mut self, probes: &[Probe], bound: Instant) {
        for Probe { sent, outcome } in probes {
            assert!(!matches!(outcome, Outcome::Lost { .. }), "{outcome:?}");
            self.asked += 1;
            let late = *sent > bound;
            self.late += usize::from(late);
            if outcome.permits() {
                *if late {
                    &mut self.late_permits
                } else {
                    &mut self.permits
                } += 1;
            }
        }
    }

    /// What must hold: nothing is permitted after the bound, nor by a state older than asked for.
    fn check(&self) -> Result<(), String> {
        if self.late_permits + self.stale == 0 {
            return Ok(());
        }
        Err(format!(
            "{} permits of {} questions after the bound, {} by an older state",
            self.late_permits, self.late, self.stale
        ))
    }

    /// Returns how long it took until all was well: mostly, and at most.
    fn rejoined(&self) -> (Duration, Duration) {
        let mut all = self.rejoin.clone();
        all.sort_unstable();
        let at = |place: usize| all.get(place).copied().unwrap_or_default();
        (at(all.len() / 2), at(all.len().saturating_sub(1)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_f16_nothing_is_permitted_by_an_old_policy_in_a_partition() {
    let row = Row::new("F15");
    let Some(postgres) = Pg::start() else { return };
    let world = World::start(&postgres).await;
    let (mut ours, mut theirs) = (Counts::default(), Counts::default());
    for number in 0..if full() { 334 } else { 14 } {
        world.partition(number % 3, &mut ours, &mut theirs).await;
    }
    ours.check().unwrap();
    let (usual, longest) = ours.rejoined();
    assert!(usual <= REJOIN && longest <= BUSY_REJOIN, "{ours:?}");
    // Cut off, they permit for a while, and are asked long after that: else nothing would have been tried.
    assert!(ours.permits > 0 && ours.with_revision > 0, "{ours:?}");
    assert!(ours.late >= if full() { 10_000 } else { 400 }, "{ours:?}");
    let control = theirs.check().unwrap_err();
    row.passed(
        &format!(
            "{} partitions of {REPLICAS} replicas each: {} questions, {} of them later than {} ms after the commit and 0 \
             permitted; {} with the revision and 0 permitted; right again {} ms after the partition at most",
            ours.partitions,
            ours.asked,
            ours.late,
            STALENESS.as_millis(),
            ours.with_revision,
            longest.as_millis(),
        ),
        &format!("failed as it must: {control}"),
    );
}
