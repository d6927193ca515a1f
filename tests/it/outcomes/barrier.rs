//! No answer that brings a label is out before every live replica decides by it, whoever raised the label.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Label, ReplicaId, Revision, TaskId, TaskState};
use remit_store::{Applied, Change, Ending, Replica};
use remit_tests::app::{Reply, TestApp};
use serde_json::Value;

use super::{bundle, denied, permitted, question, task, tools};

/// The API, where an answer waits at most two thirds of `deadline`.
async fn start(deadline: Duration) -> TestApp {
    let mut app = TestApp::empty(Options {
        deadline,
        ..Options::default()
    })
    .await;
    app.put(&bundle()).await;
    let tools = tools();
    let put = app
        .store
        .put_tools(app.tenant, None, &tools, Change::default());
    app.reached(put.await.unwrap()).await;
    app
}

/// Another replica, which decides by what was in force long ago.
pub(crate) async fn behind(app: &TestApp) -> ReplicaId {
    let other = Replica {
        id: ReplicaId::from_uuid(app.clock.id()),
        name: "there".to_owned(),
        version: "1".to_owned(),
        lease: Duration::from_hours(1),
    };
    let behind = Applied {
        tenant: app.tenant,
        revision: Revision::new(1),
        failure: None,
    };
    app.store.heartbeat(&other, &[behind]).await.unwrap();
    other.id
}

/// Asks as one who reads problems as JSON.
async fn ask(app: &TestApp, action: &str, task: TaskId) -> Reply {
    let request = app
        .request(Method::POST, "/access/v1/evaluation")
        .header("accept", "application/problem+json");
    app.send(request, question(action, Some(task))).await
}

fn is_refused(reply: &Reply, code: &str) {
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text
    );
    assert_eq!(reply.json()["code"], Value::from(code));
    assert!(reply.headers.get("x-decision-id").is_none());
}

/// It stays, and the next question meets it: also the same one, which raises nothing any more.
#[tokio::test]
async fn no_answer_leaves_before_every_live_replica_knows() {
    let app = start(Duration::from_secs(6)).await;
    let task = task(&app, None).await;
    let other = behind(&app).await;
    let (one, two) = tokio::join!(ask(&app, "read", task), ask(&app, "read", task));
    for reply in [one, two, ask(&app, "read", task).await] {
        is_refused(&reply, "labels-not-reached");
    }
    assert_eq!(denied(&app, "pay", task).await, "policy_forbid");
    // What brings nothing waits for nobody.
    permitted(&app, "look", task).await;
    // It is recorded as what was decided, and found as what nobody told of.
    app.clock.advance(Duration::from_millis(1));
    let listed = app
        .store
        .orphans(app.tenant, (Some(task), Duration::ZERO), None, 10)
        .await;
    app.store.forget_replica(other).await.unwrap();
    assert!(!listed.unwrap().is_empty());
    permitted(&app, "read", task).await;
    // Known to be everywhere, it is not asked for again.
    behind(&app).await;
    permitted(&app, "read", task).await;
}

/// In a budget, too, and out of escrow.
#[tokio::test]
async fn what_takes_a_budget_waits_as_well() {
    let app = start(Duration::from_secs(6)).await;
    let task = task(&app, Some(9)).await;
    behind(&app).await;
    for _ in 0..2 {
        is_refused(&ask(&app, "read", task).await, "labels-not-reached");
    }
}

/// A replica that has not heard of a label finds it in the database, and waits like the one that raised it.
#[tokio::test]
async fn who_finds_a_label_raised_already_waits_for_it() {
    let mut app = start(Duration::from_secs(6)).await;
    let task = task(&app, None).await;
    app.pause().await;
    let decision = remit_core::DecisionId::from_uuid(app.clock.id());
    let labels = [Label::untrusted()].into();
    app.store
        .label_tasks(app.tenant, &[task], &labels, decision)
        .await
        .unwrap();
    is_refused(&ask(&app, "read", task).await, "labels-not-reached");
    app.resume();
}

/// A permit that had to wait is not given after its task has ended.
#[tokio::test]
async fn what_waited_does_not_outlive_its_task() {
    let app = start(Duration::from_secs(15)).await;
    let task = task(&app, None).await;
    let other = behind(&app).await;
    let ending = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ending = Ending {
            state: TaskState::Revoked,
            by: "ana",
            why: None,
        };
        let ended = app
            .store
            .end_task(app.tenant, task, ending, Change::default());
        ended.await.unwrap();
        app.caught_up().await;
        app.store.forget_replica(other).await.unwrap();
    };
    let (reply, ()) = tokio::join!(ask(&app, "read", task), ending);
    is_refused(&reply, "stale-policy");
}

/// More labels than a task remembers are no error of the database, but the end of what it may touch.
#[tokio::test]
async fn a_task_that_has_touched_too_much_touches_nothing_new() {
    let app = super::start().await;
    let task = task(&app, None).await;
    let class = |number: i64| format!("class:c{number}").parse::<Label>().unwrap();
    let labels = (0..remit_store::MOST_LABELS).map(class).collect();
    let decision = remit_core::DecisionId::from_uuid(app.clock.id());
    let labelled = app
        .store
        .label_tasks(app.tenant, &[task], &labels, decision)
        .await;
    app.reached(labelled.unwrap()).await;
    let reply = super::ask(&app, "read", task).await;
    let reason = &reply.json()["context"]["reason"];
    assert_eq!(reason, "budget_exhausted", "{}", reply.text);
    permitted(&app, "look", task).await;
}
