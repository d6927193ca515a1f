//! A permit that is answered again under its name: as long as it would be given, and where every replica knows what it brought.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{ApprovalScope, DecisionId, Label};
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

use super::{
    EVALUATION, approve, approved, bundle, by, id_of, payment, requested, start, with_policies,
};
use crate::outcomes::barrier::behind;
use crate::outcomes::open;

async fn named(app: &TestApp, question: &Value) -> Reply {
    let request = app.request(Method::POST, EVALUATION);
    let request = request.header("accept", "application/problem+json");
    app.send(request.header("idempotency-key", "one"), question)
        .await
}

async fn is_denied(app: &TestApp, question: &Value, reason: &str) {
    let reply = named(app, question).await;
    let answer = reply.json();
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(answer["context"]["approval"]["reason"], reason, "{answer}");
}

/// A payment in a task of its own, with an approval of it.
async fn in_a_task(app: &TestApp) -> (Value, remit_core::TaskId) {
    let (task, revision) = open(&app.store, &app.clock, app.tenant, None, None).await;
    app.reached(revision).await;
    let mut question = payment();
    question["context"]["task"] = json!(task);
    let id = id_of(&requested(app, &question).await);
    approve(app, &id, ApprovalScope::Once, 600).await;
    (by(&question, &id), task)
}

/// Whoever made the permit may have died while it waited: another one who answers it waits as well.
#[tokio::test]
async fn what_brings_a_label_waits_for_every_replica_again() {
    let mut app = TestApp::empty(Options {
        deadline: Duration::from_secs(6),
        ..Options::default()
    })
    .await;
    app.put(&bundle()).await;
    let (log, store) = (app.log.clone(), app.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    let (question, _) = in_a_task(&app).await;
    let other = behind(&app).await;
    for _ in 0..2 {
        let reply = named(&app, &question).await;
        let status = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(reply.status, status, "{}", reply.text);
        assert_eq!(reply.json()["code"], "labels-not-reached", "{}", reply.text);
    }
    app.store.forget_replica(other).await.unwrap();
    let reply = named(&app, &question).await;
    assert_eq!(reply.json()["decision"], true, "{}", reply.text);
}

/// An answer whose outcome was told was not lost.
#[tokio::test]
async fn what_was_told_to_be_done_is_not_answered_again() {
    let app = start().await;
    let question = by(&payment(), &approved(&app, &payment()).await);
    let first = named(&app, &question).await;
    assert_eq!(first.json()["decision"], true, "{}", first.text);
    let path = format!("/v1/decisions/{}/outcome", first.header("x-decision-id"));
    let told = app.post(&path, json!({ "result": "succeeded" })).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
    is_denied(&app, &question, "approval_used").await;
}

#[tokio::test]
async fn no_name_brings_back_a_lease_that_is_over() {
    let mut leased = bundle();
    let text = &mut leased.policies[0].text;
    *text = text.replace("@id(\"open\")", "@id(\"open\")\n@lease(\"60\")");
    for ended in [true, false] {
        let app = TestApp::shipping(&leased).await;
        let question = by(&payment(), &approved(&app, &payment()).await);
        let first = named(&app, &question).await;
        assert!(
            first.json()["context"]["lease"].is_object(),
            "{}",
            first.text
        );
        assert_eq!(named(&app, &question).await.text, first.text);
        let id: DecisionId = first.header("x-decision-id").parse().unwrap();
        if ended {
            let at = (app.clock.now(), Duration::from_hours(24));
            app.store.end_lease(app.tenant, id, at).await.unwrap();
        } else {
            app.clock.advance(Duration::from_mins(1));
            app.caught_up().await;
        }
        is_denied(&app, &question, "approval_used").await;
    }
}

/// The labels that the permit brought itself are no reason against it; those that came since are.
#[tokio::test]
async fn labels_that_came_since_count() {
    let label = Label::class("pii");
    let app = TestApp::shipping(&with_policies(&format!(
        "@id(\"tainted\")\nforbid (principal, action, resource) when {{ context.facts has task && \
         (context.facts.task.labels.contains(\"{label}\") || context.facts.task.labels.contains(\"untrusted\")) }}\n\
         unless {{ context.facts.approved }};\n"
    )))
    .await;
    let (question, task) = in_a_task(&app).await;
    let first = named(&app, &question).await;
    assert_eq!(first.json()["decision"], true, "{}", first.text);
    assert_eq!(named(&app, &question).await.text, first.text);
    let by = DecisionId::from_uuid(app.clock.id());
    let (tasks, labels) = ([task], [label].into());
    let raised = app.store.label_tasks(app.tenant, &tasks, &labels, by);
    raised.await.unwrap();
    app.caught_up().await;
    let denied = named(&app, &question).await;
    assert_eq!(denied.json()["decision"], false, "{}", denied.text);
}
