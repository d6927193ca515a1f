//! The page at `/approvals/{id}` in a real Chromium, as a phone sees it: made-up requests, one whose every text is an attack,
//! and a real one that a person answers.
//!
//! It needs node, `chromium` and `npm ci --prefix tests/browser`. `REMIT_SCREENSHOTS=/tmp/shots` keeps the pictures.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use remit_tests::server::{Answer, client, send};
use remit_tests::{ci, root};
use reqwest::Method;
use serde_json::{Value, json};

/// What the browser checks; each is told as one line.
const CHECKS: usize = 16;

/// The demonstration, which stays up with its agent, its tools and its people.
struct Demo {
    child: Child,
    url: String,
    key: String,
    _home: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_remit"))
            .args(["demo", "--serve"])
            .current_dir(home.path())
            .env("TMPDIR", home.path())
            .env("HOME", home.path())
            .env_remove("REMIT_KEY")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut exported = |name: &str| -> String {
            let wanted = format!("export {name}=");
            let mut found = lines.by_ref().map(Result::unwrap);
            let line = found
                .find(|line| line.contains(&wanted))
                .expect("the demo ended early");
            line.split_once('=').unwrap().1.to_owned()
        };
        let (url, key) = (exported("REMIT_URL"), exported("REMIT_KEY"));
        // It says more, and a pipe that nobody reads would hold it up.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            url,
            key,
            _home: home,
        }
    }

    async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        let request = client().request(Method::POST, format!("{}{path}", self.url));
        send(request.bearer_auth(key).json(body)).await
    }

    async fn key_of(&self, name: &str) -> String {
        let body = json!({
            "name": format!("phone of {name}"), "environment": "dev", "scopes": ["evaluate", "read", "approve"],
            "principal": name,
        });
        let made = self.post(&self.key, "/v1/keys", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json::<Value>()["key"].as_str().unwrap().to_owned()
    }

    /// Asks for a payment above the limit, and for the approval of it, by `key`; returns the request's id.
    async fn pending(&self, key: &str) -> String {
        let agent = json!({ "type": "Agent", "id": "invoice-bot" });
        let task = json!({
            "agent": agent, "purpose": "pay-invoices", "intent": "Pay Alder Paper's invoice 4713, 18,250.00 EUR.",
            "actions": ["payments/pay"], "sinks": ["FI2112345600000785"], "budget": { "amount": 5_000_000 },
        });
        let task: Value = self.post(&self.key, "/v1/tasks", &task).await.json();
        let tools = client().get(format!("{}/v1/tools/payments.send", self.url));
        let tool: Value = send(tools.bearer_auth(&self.key)).await.json();
        let mut question = json!({
            "subject": agent,
            "action": { "name": "payments.send", "properties": {
                "payee": "FI2112345600000785", "amount": 18_250, "currency": "EUR", "reference": "4713",
            } },
            "resource": { "type": "Service", "id": "payments" },
            "context": { "task": task["id"], "tool_hash": tool["descriptor"] },
        });
        let denied = self.post(key, "/access/v1/evaluation", &question).await;
        let denied: Value = denied.json();
        assert_eq!(
            denied["context"]["reason"], "approval_required",
            "{denied:#}"
        );
        question["context"]["business_justification"] = json!("Invoice 4713 is due today.");
        question["denial"] = json!({
            "evaluation_id": denied["context"]["evaluation_id"],
            "reason": "approval_required",
            "expires_at": denied["context"]["access_request"]["expires_at"],
        });
        let asked = self.post(key, "/access/v1/requests", &question).await;
        assert_eq!(asked.status, 202, "{}", asked.text());
        asked.json::<Value>()["task"]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl Drop for Demo {
    /// Stops it as a person does, so that it removes its folder.
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phone_page() {
    let Some(chromium) = browser() else {
        return;
    };
    let demo = Demo::start();
    let (requester, approver) = (demo.key_of("dana").await, demo.key_of("eve").await);
    let pending = demo.pending(&requester).await;
    let folder = tempfile::tempdir().unwrap();
    let shots = std::env::var_os("REMIT_SCREENSHOTS")
        .map_or_else(|| folder.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&shots).unwrap();
    let story = json!({ "pending": pending, "requester": requester, "approver": approver });
    let ran = Command::new("node")
        .arg("tests/browser/phone.mjs")
        .args([&demo.url, &shots.display().to_string(), &story.to_string()])
        .env("REMIT_CHROMIUM", chromium)
        .current_dir(root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    println!("{told}");
    assert_eq!(
        told.lines().filter(|line| line.starts_with("ok ")).count(),
        CHECKS
    );

    // The page has done what the person said, and nothing twice.
    let now = client().get(format!("{}/v1/approvals/{pending}", demo.url));
    let now: Value = send(now.bearer_auth(&demo.key)).await.json();
    assert_eq!(now["state"], "approved", "{now:#}");
    assert_eq!(now["answers"].as_array().unwrap().len(), 1, "{now:#}");
    assert_eq!(now["approvers"], json!(["eve"]), "{now:#}");
}

/// Finds Chromium, where everything else that the test needs is there too.
///
/// # Panics
///
/// Under `CI=true` when something is missing: there a skipped test is a failure.
fn browser() -> Option<PathBuf> {
    let found = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    let modules = root().join("tests/browser/node_modules/playwright-core");
    let chromium = found("chromium").or_else(|| found("chromium-browser"));
    let missing: Vec<&str> = [
        ("node", found("node").is_none()),
        ("chromium", chromium.is_none()),
        (
            "`npm ci --prefix tests/browser`",
            !Path::new(&modules).exists(),
        ),
    ]
    .iter()
    .filter_map(|(name, missing)| missing.then_some(*name))
    .collect();
    if missing.is_empty() {
        return chromium;
    }
    let missing = missing.join(", ");
    assert!(
        !ci(),
        "the approval page cannot be tried: {missing} is missing"
    );
    eprintln!("SKIPPED: the approval page is not tried in a browser: {missing} is missing");
    None
}
