//! Two real processes on one Postgres, one killed without warning while both use a budget.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use remit_core::Clock;
use remit_store::{Change, Store};
use remit_tests::postgres::Postgres;
use remit_tests::server::Remit;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{bundle, open, question, tools};

const BINARY: &str = env!("CARGO_BIN_EXE_remit");
/// How much the task may use: less than is asked for.
const CALLS: u64 = 120;

/// Writes the bundle as a folder.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let bundle = bundle();
    for source in bundle.schema.iter().chain(&bundle.policies) {
        fs::write(folder.path().join(&source.file), &source.text).unwrap();
    }
    folder
}

/// Asks until the server is gone or there is enough; returns the permits that arrived.
async fn use_up(remit: Arc<Remit>, question: Value) -> BTreeSet<String> {
    let mut permits = BTreeSet::new();
    for _ in 0..60 {
        let request = remit
            .request(Method::POST, "/access/v1/evaluation")
            .json(&question);
        let Ok(answer) = request.send().await else {
            break;
        };
        let id = answer.headers().get("x-decision-id").cloned();
        let Ok(bytes) = answer.bytes().await else {
            break;
        };
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        if body["decision"] == Value::Bool(true) {
            permits.insert(id.unwrap().to_str().unwrap().to_owned());
        }
    }
    permits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_leaves_no_budget_above_and_no_permit_unrecorded() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let folder = folder();
    let start = async || {
        Remit::dev(BINARY)
            .bundle(folder.path())
            .variable("REMIT__DATABASE__URL", &url)
            .variable("REMIT__TASKS__ESCROW_FROM", "0")
            .start()
            .await
    };
    let one = Arc::new(start().await);
    let two = Arc::new(start().await);
    let clock = Clock::system();
    let store = Store::open(&remit_tests::sql::patient(&url), clock.clone())
        .await
        .unwrap();
    let tenant = store.ensure_tenant("default").await.unwrap();
    store
        .put_tools(tenant, None, &tools(), Change::default())
        .await
        .unwrap();
    let (task, revision) = open(&store, &clock, tenant, None, Some(CALLS)).await;
    for remit in [&one, &two] {
        remit.reached(revision.number()).await;
    }
    let mut racing = JoinSet::new();
    for connection in 0..8 {
        let remit = Arc::clone(if connection % 2 == 0 { &one } else { &two });
        racing.spawn(use_up(remit, question("look", Some(task))));
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    let killed = Command::new("kill")
        .args(["-9", &two.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let permits: BTreeSet<String> = racing.join_all().await.into_iter().flatten().collect();
    let mut recorded = BTreeSet::new();
    let mut before = None;
    loop {
        let page = store
            .orphans(tenant, (Some(task), Duration::ZERO), before, 500)
            .await
            .unwrap();
        before = page.last().map(|last| last.record.id);
        recorded.extend(page.iter().map(|one| one.record.id.to_string()));
        if page.len() < 500 {
            break;
        }
    }
    assert!(permits.is_subset(&recorded), "an answer without a record");
    let budget = store.budget(tenant, task).await.unwrap().unwrap();
    assert_eq!(budget.reserved.calls, recorded.len() as u64);
    assert_eq!(
        budget.reserved.calls, CALLS,
        "the other one went on to the end"
    );
    // Who asked tells; what was permitted where nobody can tell any more counts as spent in the end.
    let mut told = 0;
    for id in &recorded {
        let path = format!("/v1/decisions/{id}/outcome");
        let request = one.request(Method::POST, &path);
        let answer = request
            .json(&serde_json::json!({ "result": "not_made" }))
            .send()
            .await
            .unwrap();
        let status = answer.status();
        assert!(status == 200 || status == 404, "{status}");
        told += usize::from(status == 200);
        if told == 10 {
            break;
        }
    }
    assert_eq!(told, 10);
    let budget = store.budget(tenant, task).await.unwrap().unwrap();
    assert_eq!((budget.reserved.calls, budget.spent.calls), (CALLS - 10, 0));
    two.is_not_replayed("it was killed; its records are in the database of the other");
    store.close().await;
}
