//! An approval is used as often as it says, exactly once for each name, with the budgets and labels of the same permit.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{ApprovalScope, Clock, PrincipalKind};
use remit_store::{Change, NewKey, Scope};
use remit_tests::app::TestApp;
use remit_tests::sql::execute;
use serde_json::{Value, json};

use super::{
    EVALUATION, REQUESTS, approve, approved, ask, by, id_of, payment, requested, start, submission,
};
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
        assert_eq!(
            other.json()["context"]["approval"]["reason"],
            "approval_used"
        );
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
    // Nor by policies that whoever approved has not seen, though they permit it.
    app.put(&super::with_policies(
        "@id(\"more\")\npermit (principal, action, resource);\n",
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

/// The name that a principal gives in one environment is none in another.
#[tokio::test]
async fn a_name_is_of_one_environment() {
    let app = start().await;
    let dev = app.key_of(PrincipalKind::Machine, "pep", &[]).await;
    let live = NewKey {
        name: "live".to_owned(),
        environment: "live".to_owned(),
        scopes: BTreeSet::from([Scope::Evaluate]),
        expires_at: None,
        principal: Some("pep".parse().unwrap()),
    };
    let (_, live) = app
        .store
        .create_key(app.tenant, &live, &app.pepper)
        .await
        .unwrap();
    app.caught_up().await;
    let approval = {
        let denied = app
            .as_key(&dev, Method::POST, EVALUATION, &payment())
            .await
            .json();
        let body = submission(&payment(), &denied);
        let reply = app.as_key(&dev, Method::POST, REQUESTS, &body).await;
        let id = id_of(&reply.json());
        approve(&app, &id, ApprovalScope::Once, 600).await;
        id
    };
    let question = by(&payment(), &approval);
    for (key, permitted) in [(dev.as_str(), true), (&live.reveal(), false), (&dev, true)] {
        let request = app.request_with(key, Method::POST, EVALUATION);
        let reply = app
            .send(request.header("idempotency-key", "one"), &question)
            .await;
        assert_eq!(reply.json()["decision"], permitted, "{}", reply.text);
    }
}

/// What is limited to an amount is not used where nobody knows what the call pays.
#[tokio::test]
async fn an_amount_that_is_not_known_is_not_zero() {
    let app = start().await;
    let (task, revision) = open(&app.store, &app.clock, app.tenant, None, None).await;
    app.reached(revision).await;
    let mut question = payment();
    question["context"]["task"] = json!(task);
    let id = id_of(&requested(&app, &question).await);
    let scope = ApprovalScope::Task {
        amount: Some(1_000_000),
        uses: 3,
    };
    approve(&app, &id, scope, 60).await;
    let answer = ask(&app, &by(&question, &id)).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(
        answer["context"]["approval"]["reason"], "approval_used",
        "{answer}"
    );
}

/// The database is asked only about what is denied for want of an approval, and that it fails is the fault of no other item.
#[tokio::test]
async fn what_needs_no_approval_needs_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let database = remit_tests::sql::patient(&url);
    let options = Options {
        max_staleness: Duration::from_mins(10),
        ..Options::default()
    };
    let mut app = TestApp::sharing(&database, options).await;
    app.put(&super::bundle()).await;
    let id = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
    let mut look = payment();
    look["action"]["name"] = json!("look");
    let items = json!({ "evaluations": [by(&look, id), by(&payment(), id), by(&look, id)] });
    execute(&url, "ALTER TABLE access_requests RENAME TO lost").await;
    let reply = app.post("/access/v1/evaluations", &items).await;
    execute(&url, "ALTER TABLE lost RENAME TO access_requests").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answers = reply.json();
    let decisions: Vec<&Value> = [0, 1, 2]
        .map(|place| &answers["evaluations"][place]["decision"])
        .into();
    assert_eq!(decisions, [true, false, true], "{answers}");
    assert!(
        answers["evaluations"][1]["context"]["error"].is_object(),
        "{answers}"
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
    // No tool of the catalogue says where another call would go.
    let answer = ask(&app, &by(&of(2), &id)).await;
    assert_eq!(
        answer["context"]["approval"]["reason"], "out_of_scope",
        "{answer}"
    );
    for _ in 0..3 {
        let answer = ask(&app, &by(&of(1), &id)).await;
        assert_eq!(answer["decision"], true, "{answer}");
    }
    let answer = ask(&app, &by(&of(1), &id)).await;
    assert_eq!(
        answer["context"]["approval"]["reason"], "approval_used",
        "{answer}"
    );
    // Not outside the task.
    let answer = ask(&app, &by(&payment(), &id)).await;
    assert_eq!(
        answer["context"]["approval"]["reason"], "out_of_scope",
        "{answer}"
    );
}

/// Everything that a process knows of approvals it finds again in the database.
#[tokio::test]
async fn a_fresh_process_knows_what_waits_and_what_can_be_used() {
    let app = start().await;
    let of = |amount: u64| {
        let mut question = payment();
        question["action"]["properties"]["amount"] = json!(amount);
        question
    };
    let usable = approved(&app, &of(1)).await;
    let used = approved(&app, &of(2)).await;
    let by_name = by(&of(2), &used);
    let first = named(&app, &by_name, "one").await;
    assert_eq!(first.json()["decision"], true, "{}", first.text);
    let waits = id_of(&requested(&app, &of(3)).await);
    // Manual clocks count their ids: this one stands where the other does not.
    let clock = Clock::manual(app.clock.now().plus(Duration::from_millis(1)));
    let mut again = TestApp::by(&app.database, &clock, &clock, Options::default()).await;
    again.key.clone_from(&app.key);
    let (log, store) = (again.log.clone(), again.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    again.caught_up().await;
    for (asked, permits) in [(&again, true), (&again, false), (&app, false)] {
        let answer = ask(asked, &by(&of(1), &usable)).await;
        assert_eq!(answer["decision"], permits, "{answer}");
    }
    let same = named(&again, &by_name, "one").await;
    assert_eq!(same.text, first.text);
    let other = named(&again, &by_name, "two").await;
    assert_eq!(other.json()["decision"], false, "{}", other.text);
    // What waits is found by whoever asked and by whoever answers, is joined, and can be approved.
    let told = super::status(&again, &waits).await.json();
    assert_eq!(told["task"]["status"], "pending", "{told}");
    let listed = again.get("/v1/approvals?state=pending").await.json();
    let listed = listed["approvals"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["id"], json!(waits));
    assert_eq!(id_of(&requested(&again, &of(3)).await), waits);
    approve(&again, &waits, ApprovalScope::Once, 60).await;
    for permits in [true, false] {
        let answer = ask(&again, &by(&of(3), &waits)).await;
        assert_eq!(answer["decision"], permits, "{answer}");
    }
}
