//! Two replicas on one Postgres: no label is known to one alone, and no budget is used twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Spending, TaskId};
use remit_store::Change;
use remit_tests::app::TestApp;
use remit_tests::postgres::Postgres;
use remit_tests::sql::{execute, patient, texts};
use serde_json::json;
use tokio::task::JoinSet;

use super::{ask, bundle, open, question, tools};

/// Two replicas, with the bundle and the tools in force on both.
async fn pair(url: &str, hints: bool, escrow: bool) -> (Arc<TestApp>, Arc<TestApp>) {
    let database = remit_store::Options {
        hints,
        ..patient(url)
    };
    let named = |name: &str| Options {
        replica: name.to_owned(),
        deadline: Duration::from_mins(1),
        max_staleness: Duration::from_secs(30),
        // What is not told is found out by the poll.
        poll: Duration::from_millis(50),
        // Busy on a slow machine, too.
        escrow_from: if escrow { 20 } else { 0 },
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, named("a")).await;
    let b = TestApp::sharing(&database, named("b")).await;
    a.put(&bundle()).await;
    let tools = tools();
    let put = a.store.put_tools(a.tenant, None, &tools, Change::default());
    let revision = put.await.unwrap();
    a.reached(revision).await;
    b.reached(revision).await;
    for app in [&a, &b] {
        let (log, store) = (app.log.clone(), app.store.clone());
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    }
    (Arc::new(a), Arc::new(b))
}

async fn task((a, b): (&TestApp, &TestApp), parent: Option<TaskId>, calls: Option<u64>) -> TaskId {
    let (task, revision) = open(&a.store, &a.clock, a.tenant, parent, calls).await;
    a.reached(revision).await;
    b.reached(revision).await;
    task
}

/// With hints of the database and without: whoever has the answer of a read finds its label on the other replica, and
/// says no revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_is_known_everywhere_before_its_answer() {
    for hints in [true, false] {
        let Some(url) = Postgres::database().await else {
            return;
        };
        let (a, b) = pair(&url, hints, false).await;
        for round in 0..8 {
            let root = task((&a, &b), None, None).await;
            let child = task((&a, &b), Some(root), None).await;
            let (reads, pays) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let read = ask(reads, "read", child).await;
            assert_eq!(read.json()["decision"], true, "{}", read.text);
            for task in [child, root] {
                let pay = ask(pays, "pay", task).await;
                assert_eq!(
                    pay.json()["decision"],
                    false,
                    "hints {hints}, round {round}: {}",
                    pay.text
                );
            }
        }
    }
}

/// 64 at once on two replicas, in a task and one above it, some given back meanwhile: never more than allowed, and what
/// is used is what the records say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_use_a_budget_once() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let (a, b) = pair(&url, true, false).await;
    let root = task((&a, &b), None, Some(40)).await;
    let child = task((&a, &b), Some(root), Some(30)).await;
    let watching = watch(&a, root, 40);
    let mut racing = JoinSet::new();
    for number in 0..64_usize {
        let app = Arc::clone(if number % 2 == 0 { &a } else { &b });
        let other = Arc::clone(if number % 2 == 0 { &b } else { &a });
        racing.spawn(async move {
            let task = if number % 4 == 0 { root } else { child };
            let reply = ask(&app, "look", task).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            let permit = reply.json()["decision"] == json!(true);
            if permit && number % 8 == 1 {
                // Told of on both replicas at once: one tells it first, and it is given back once.
                let path = format!("/v1/decisions/{}/outcome", reply.header("x-decision-id"));
                let not_made = json!({ "result": "not_made" });
                let there = other.as_key(&app.key, Method::POST, &path, &not_made);
                let (one, two) = tokio::join!(app.post(&path, &not_made), there);
                assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK));
                return (permit, true, task == child);
            }
            (permit, false, task == child)
        });
    }
    let done = racing.join_all().await;
    watching.store(true, Ordering::SeqCst);
    let used = |below: bool| {
        done.iter()
            .filter(|(permit, returned, child)| *permit && !returned && (*child || !below))
            .count() as u64
    };
    for (task, allowed, below) in [(root, 40, false), (child, 30, true)] {
        let budget = a.store.budget(a.tenant, task).await.unwrap().unwrap();
        assert_eq!(
            (budget.reserved.calls, budget.spent.calls),
            (used(below), 0)
        );
        assert!(used(below) <= allowed);
    }
    let permits = done.iter().filter(|(permit, ..)| *permit).count();
    let recorded = a
        .store
        .orphans(a.tenant, (None, Duration::ZERO), None, 1_000)
        .await;
    let returned = done.iter().filter(|(_, returned, _)| *returned).count();
    assert_eq!(recorded.unwrap().len(), permits - returned);
    assert!(permits >= 30, "{permits}");
}

/// Looks again and again whether more is used than allowed, until it is told to stop.
fn watch(app: &Arc<TestApp>, task: TaskId, allowed: u64) -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let (app, ends) = (Arc::clone(app), Arc::clone(&over));
    tokio::spawn(async move {
        while !ends.load(Ordering::SeqCst) {
            let budget = app.store.budget(app.tenant, task).await.unwrap().unwrap();
            let Spending { calls, .. } = budget.reserved;
            assert!(calls + budget.spent.calls <= allowed, "{budget:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    over
}

/// INV-3 with a database whose sessions die under the replica: whatever was answered is recorded, whatever is recorded is
/// reserved, and nothing is above the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_die_lose_no_record_and_no_budget() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let (a, b) = pair(&url, true, false).await;
    let task = task((&a, &b), None, Some(150)).await;
    let mut racing = JoinSet::new();
    let ask_at = |number: usize, after: Duration| {
        let app = Arc::clone(if number.is_multiple_of(2) { &a } else { &b });
        async move {
            tokio::time::sleep(after).await;
            let reply = app
                .post("/access/v1/evaluation", question("look", Some(task)))
                .await;
            let answered = reply.status == StatusCode::OK;
            (answered && reply.json()["decision"] == json!(true))
                .then(|| reply.header("x-decision-id").to_owned())
        }
    };
    for number in 0..200 {
        racing.spawn(ask_at(number, Duration::from_millis(number as u64 * 4)));
    }
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_millis(45)).await;
        execute(
            &url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'remit' AND datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }
    let mut answered: Vec<String> = racing.join_all().await.into_iter().flatten().collect();
    assert!(!answered.is_empty(), "no answer while sessions died");
    // Some that nothing befalls, however slow this machine was until here.
    let mut racing: JoinSet<_> = (0..30)
        .map(|number| ask_at(number, Duration::ZERO))
        .collect();
    while let Some(one) = racing.join_next().await {
        answered.extend(one.unwrap());
    }
    let recorded = a
        .store
        .orphans(a.tenant, (Some(task), Duration::ZERO), None, 1_000)
        .await;
    let recorded: Vec<String> = recorded
        .unwrap()
        .iter()
        .map(|one| one.record.id.to_string())
        .collect();
    for id in &answered {
        assert!(
            recorded.contains(id),
            "{id} was answered and is not recorded"
        );
    }
    let budget = a.store.budget(a.tenant, task).await.unwrap().unwrap();
    assert_eq!(budget.reserved.calls, recorded.len() as u64);
    assert!(budget.reserved.calls <= 150);
    assert!(answered.len() > 20, "{}", answered.len());
}

/// Busy enough for an escrow on both replicas, up to the end of the budget and beyond: as many are permitted as allowed, what
/// is recorded is what is spent, and what was not used is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_escrow_is_used_once() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let (a, b) = pair(&url, true, true).await;
    let root = task((&a, &b), None, Some(700)).await;
    let child = task((&a, &b), Some(root), Some(600)).await;
    let watching = watch(&a, child, 600);
    let mut racing = JoinSet::new();
    for lane in 0..8_usize {
        let app = Arc::clone(if lane % 2 == 0 { &a } else { &b });
        racing.spawn(async move {
            let mut permits = Vec::new();
            for number in 0..100 {
                let reply = ask(&app, "look", child).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
                if reply.json()["decision"] == json!(true) {
                    let id = reply.header("x-decision-id").to_owned();
                    permits.push((number, id, app.key.clone()));
                }
            }
            permits
        });
    }
    let permits: Vec<(usize, String, String)> =
        racing.join_all().await.into_iter().flatten().collect();
    let mut returned = 0;
    for (number, id, key) in &permits {
        if number % 10 == 0 {
            let path = format!("/v1/decisions/{id}/outcome");
            let not_made = json!({ "result": "not_made" });
            let told = a.as_key(key, Method::POST, &path, &not_made).await;
            assert_eq!(told.status, StatusCode::OK, "{}", told.text);
            returned += 1;
        }
    }
    watching.store(true, Ordering::SeqCst);
    // What is in escrow goes back within a second or so.
    let settled = async {
        loop {
            let held = texts(
                &url,
                "SELECT CAST(count(*) AS TEXT) FROM reservations WHERE kind = 'escrow'",
            )
            .await;
            if held[0][0] == "0" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled)
        .await
        .unwrap();
    let used = permits.len() as u64 - returned;
    for task in [root, child] {
        let budget = a.store.budget(a.tenant, task).await.unwrap().unwrap();
        assert_eq!(
            budget.reserved.calls + budget.spent.calls,
            used,
            "{budget:?}"
        );
    }
    assert!(permits.len() <= 600 + usize::try_from(returned).unwrap());
    assert!(used >= 400, "{used}");
    a.log.caught_up(Duration::from_secs(30)).await;
    b.log.caught_up(Duration::from_secs(30)).await;
    let mut local = 0;
    for (_, id, _) in &permits {
        let stored = a
            .store
            .decision(a.tenant, id.parse().unwrap())
            .await
            .unwrap();
        local += usize::from(stored.unwrap().sequence > 0);
    }
    assert!(local > 50, "{local} of {} asked no database", permits.len());
}
