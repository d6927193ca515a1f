//! The real binary, killed without warning while it answers: what it answered is there when it starts again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use remit_core::Clock;
use remit_tests::server::{Remit, send};
use reqwest::Method;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_remit");
const ROUNDS: u64 = 3;
const CONNECTIONS: usize = 8;
/// No answer takes as long as this.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which decision was answered how: `true` permits.
type Answered = BTreeMap<String, bool>;

/// Asks one question after the other until the server is gone, and returns what it answered.
async fn ask(remit: Arc<Remit>, count: Arc<AtomicUsize>, connection: usize) -> Answered {
    let mut answered = Answered::new();
    for number in connection.. {
        // Every third question is denied: nobody registered that agent.
        let agent = if number % 3 == 0 {
            "ghost-bot"
        } else {
            "invoice-bot"
        };
        let body = json!({
            "subject": { "type": "Agent", "id": agent },
            "action": { "name": "call" },
            "resource": { "type": "Tool", "id": "mail.list" },
        });
        let request = remit
            .request(Method::POST, "/access/v1/evaluation")
            .json(&body);
        let Ok(answer) = request.send().await else {
            break;
        };
        assert_eq!(answer.status(), 200);
        let id = answer.headers()["x-decision-id"]
            .to_str()
            .unwrap()
            .to_owned();
        // The head may arrive and the body not; then nothing was answered.
        let Ok(bytes) = answer.bytes().await else {
            break;
        };
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let permit = body["decision"].as_bool().unwrap();
        assert_eq!(permit, number % 3 != 0, "{body}");
        assert_eq!(answered.insert(id, permit), None);
        count.fetch_add(1, Ordering::SeqCst);
    }
    answered
}

fn kill_nine(remit: &Remit) {
    let killed = Command::new("kill")
        .args(["-9", &remit.pid().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

/// Runs `remit log fsck` and returns its report.
fn fsck(spool: &Path) -> Value {
    let output = Command::new(BINARY)
        .args(["log", "fsck", "-o", "json"])
        .arg(spool)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).unwrap()
}

/// Lists every decision there is; one listed twice is a failure.
async fn listed(remit: &Remit) -> Answered {
    let mut found = Answered::new();
    let mut path = "/v1/decisions?limit=500".to_owned();
    loop {
        let answer = remit.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page: Value = answer.json();
        for record in page["decisions"].as_array().unwrap() {
            let id = record["id"].as_str().unwrap().to_owned();
            let permit = record["decision"]["verdict"] == "permit";
            assert_eq!(found.insert(id, permit), None);
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/decisions?limit=500&cursor={next}"),
            None => return found,
        }
    }
}

/// A small generator: the same start gives the same moments to kill.
struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_under_load() {
    let start = std::env::var("REMIT_TEST_SEED").ok().map_or_else(
        || u64::try_from(Clock::system().now().micros()).unwrap(),
        |text| text.parse().unwrap(),
    );
    println!("start value {start}; set REMIT_TEST_SEED to it to repeat");
    let mut seed = Seed(start | 1);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let plan = || Remit::dev(BINARY).variable("REMIT__DATA__DIR", data.to_str().unwrap());
    let mut answered = Answered::new();
    for round in 1..=ROUNDS {
        let remit = Arc::new(plan().start().await);
        let count = Arc::new(AtomicUsize::new(0));
        let mut clients = tokio::task::JoinSet::new();
        for connection in 0..CONNECTIONS {
            clients.spawn(ask(Arc::clone(&remit), Arc::clone(&count), connection));
        }
        let busy = async {
            while count.load(Ordering::SeqCst) < CONNECTIONS * 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, busy).await.unwrap();
        let wait = Duration::from_micros(seed.below(400_000));
        tokio::time::sleep(wait).await;
        kill_nine(&remit);
        let before = answered.len();
        for mut more in clients.join_all().await {
            answered.append(&mut more);
        }
        assert!(answered.len() > before);
        let left = fsck(&data.join("spool"));
        drop(remit);

        let remit = plan().start().await;
        fsck(&data.join("spool"));
        let all = listed(&remit).await;
        for (id, permit) in &answered {
            assert_eq!(
                all.get(id),
                Some(permit),
                "decision {id} of {}",
                answered.len()
            );
        }
        for id in answered.keys().rev().take(20) {
            let one = send(remit.request(Method::GET, &format!("/v1/decisions/{id}"))).await;
            assert_eq!(one.status, 200);
            assert_eq!(one.json::<Value>()["id"], id.as_str());
        }
        println!(
            "round {round}: killed {} ms after the first answers; {} answered, {} recorded in all; \
             the kill left {} records and a torn tail of {} bytes in the spool",
            wait.as_millis(),
            answered.len(),
            all.len(),
            left["records"],
            left["torn_tail_bytes"],
        );
        assert!(remit.stop().await.success());
    }
}
