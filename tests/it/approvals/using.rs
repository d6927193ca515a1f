//! An approval is used as often as it says, exactly once for each name, with the budgets and labels of the same permit.

use http::{Method, StatusCode};
use remit_core::{ApprovalScope, PrincipalKind};
use remit_store::Change;
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::{EVALUATION, approve, approved, ask, by, id_of, payment, requested, start};
use crate::outcomes::open;

async fn named(app: &TestApp, question: &Value, name: &str) -> remit_tests::app::Reply {
    let request = app.request(Method::POST, EVALUATION);
    app.send(request.header("idempotency-key", name), question)
        .await
}

#[tokio::test]
async fn the_same_name_gets_the_same_decision() {
    let app = start().await;
    let approval = approved(&app, &payment()).await;
    let question = by(&payment(), &approval);
    let first = named(&app, &question, "one").await;
    assert_eq!(first.json()["decision"], true, "{}", first.text);
    for name in ["one", "\"one\""] {
        let again = named(&app, &question, name).await;
        assert_eq!(again.text, first.text);
        assert_eq!(again.header("x-decision-id"), first.header("x-decision-id"));
    }
    // Another name, and none, are another use.
    for other in [
        named(&app, &question, "two").await,
        app.post(EVALUATION, &question).await,
    ] {
        assert_eq!(other.json()["decision"], false, "{}", other.text);
        assert_eq!(other.json()["context"]["approval"]["reason"], "used");
    }
    // Another question under the name is noticed, and the name of another principal is another.
    let mut other = question.clone();
    other["context"]["channel"] = json!("card");
    let reply = named(&app, &other, "one").await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text
    );
    let key = app.key_of(PrincipalKind::Machine, "pep-2", &[]).await;
    let request = app.request_with(&key, Method::POST, EVALUATION);
    let reply = app
        .send(request.header("idempotency-key", "one"), &question)
        .await;
    assert_eq!(reply.json()["decision"], false, "{}", reply.text);
    let bad = named(&app, &question, "").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.text);
}

/// What would be denied by now is not permitted once more, because of its name or not.
#[tokio::test]
async fn the_same_name_does_not_outlive_what_it_rests_on() {
    let mut app = start().await;
    let approval = approved(&app, &payment()).await;
    let question = by(&payment(), &approval);
    assert_eq!(named(&app, &question, "one").await.json()["decision"], true);
    app.put(&super::with_policies(
        "@id(\"closed\")\nforbid (principal, action, resource);\n",
    ))
    .await;
    assert_eq!(
        named(&app, &question, "one").await.json()["decision"],
        false
    );
    app.put(&super::bundle()).await;
    assert_eq!(named(&app, &question, "one").await.json()["decision"], true);
    let id = approval.parse().unwrap();
    let withdrawn = app
        .store
        .withdraw_approval(app.tenant, id, ("maya", "no"), Change::default());
    app.reached(withdrawn.await.unwrap().revision).await;
    assert_eq!(
        named(&app, &question, "one").await.json()["decision"],
        false
    );
}

/// Approved for a task: as often and for as much money as it says, and to no other sinks.
#[tokio::test]
async fn an_approval_for_a_task_is_counted() {
    let app = start().await;
    let (task, revision) = open(&app.store, &app.clock, app.tenant, None, None).await;
    app.reached(revision).await;
    let of = |amount: u64| {
        let mut question = payment();
        question["context"]["task"] = json!(task);
        question["action"]["properties"]["amount"] = json!(amount);
        question
    };
    let id = id_of(&requested(&app, &of(1)).await);
    approve(
        &app,
        &id,
        ApprovalScope::Task {
            amount: None,
            uses: 3,
        },
        60,
    )
    .await;
    for amount in [1, 2, 3] {
        let answer = ask(&app, &by(&of(amount), &id)).await;
        assert_eq!(answer["decision"], true, "{answer}");
    }
    let answer = ask(&app, &by(&of(1), &id)).await;
    assert_eq!(answer["context"]["approval"]["reason"], "used", "{answer}");
    // Not outside the task.
    let answer = ask(&app, &by(&payment(), &id)).await;
    assert_eq!(
        answer["context"]["approval"]["reason"], "out_of_scope",
        "{answer}"
    );
}
