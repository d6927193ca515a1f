//! Approve one thing and do another: every member of what was approved, changed after it was approved.

use http::{Method, StatusCode};
use remit_core::{ApprovalScope, Bundle, PrincipalKind};
use remit_store::{Change, Scope};
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::problems::put;
use super::{
    EVALUATION, approve, approved, ask, bundle, by, cancel, deny, id_of, payment, requested, start,
};

/// Asks by an approval that must not help, and checks why.
async fn refused(app: &TestApp, question: &Value, approval: &str, reason: &str) {
    let answer = ask(app, &by(question, approval)).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(answer["context"]["approval"]["reason"], reason, "{answer}");
    assert_eq!(answer["context"]["approval"]["id"], approval, "{answer}");
    // Whoever is to ask for another one is told how.
    let asks = answer["context"]["next_action"] == "request";
    let told = answer["context"]["access_request"].is_object();
    assert!(asks && told, "{answer}");
}

/// How often an approval can be used still, by the database.
pub async fn uses_left(app: &TestApp, approval: &str) -> u64 {
    let id = approval.parse().unwrap();
    let stored = app.store.request(app.tenant, id).await.unwrap().unwrap();
    stored.grant.unwrap().uses_left
}

/// The bundle with a subject, a resource and an action beside those of a payment, all of which need an approval as well.
fn alike() -> Bundle {
    let mut bundle = bundle();
    let schema = &mut bundle.schema[0].text;
    *schema = schema
        .replace(
            "entity Payee ",
            "entity Robot;\nentity Account { @assertable country?: String };\nentity Payee ",
        )
        .replace("action pay, look", "action pay, pay_abroad, look")
        .replace(
            "principal: [Agent], resource: [Payee]",
            "principal: [Agent, Robot], resource: [Payee, Account]",
        );
    let policies = &mut bundle.policies[0].text;
    *policies = policies.replace(
        "Action::\"pay\",",
        "Action::\"pay\", Action::\"pay_abroad\",",
    );
    bundle
}

#[tokio::test]
async fn another_call_than_the_approved_one_is_denied() {
    let app = TestApp::shipping(&alike()).await;
    let approval = approved(&app, &payment()).await;
    let changes: [(&str, Value); 20] = [
        ("/subject/type", json!("Robot")),
        ("/resource/type", json!("Account")),
        ("/action/name", json!("pay_abroad")),
        ("/subject/id", json!("b")),
        ("/subject/properties", json!({ "level": 3 })),
        ("/resource/id", json!("other")),
        ("/resource/properties", json!({ "country": "CH" })),
        ("/action/properties/amount", json!(101)),
        ("/action/properties/amount", json!("100")),
        ("/action/properties/amount", json!(-100)),
        ("/action/properties/to", json!("Acme")),
        ("/action/properties/to", json!("аcme")),
        ("/action/properties/to", Value::Null),
        ("/action/properties/memo", json!("")),
        ("/action/properties", json!({ "amount": 100 })),
        ("/context/channel", json!("card")),
        ("/context/urgent", json!(false)),
        ("/context/build", json!("sha256:00")),
        ("/context/tool_hash", json!("sha256:00")),
        (
            "/context/task",
            json!("019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"),
        ),
    ];
    for (path, value) in changes {
        let mut other = payment();
        put(&mut other, path, value);
        let answer = ask(&app, &by(&other, &approval)).await;
        assert_eq!(answer["decision"], false, "{path}: {answer}");
        let why = (
            &answer["context"]["reason"],
            uses_left(&app, &approval).await,
        );
        let task_is_unknown = path == "/context/task";
        let wanted = if task_is_unknown {
            "task_unknown"
        } else {
            "approval_required"
        };
        assert_eq!(why, (&json!(wanted), 1), "{path}: {answer}");
        assert_eq!(
            answer["context"]["approval"]["reason"], "out_of_scope",
            "{path}: {answer}"
        );
    }
    // What needs no approval uses none.
    let mut look = payment();
    look["action"]["name"] = json!("look");
    let answer = ask(&app, &by(&look, &approval)).await;
    assert_eq!(answer["decision"], true, "{answer}");
    assert!(answer["context"].get("approval").is_none(), "{answer}");
    // What the schema does not declare, who acts for the subject, and how a number is written make no difference.
    let mut same = payment();
    put(&mut same, "/context/time", json!("2026-01-05T10:00:01Z"));
    put(&mut same, "/context/nonce", json!("n"));
    put(
        &mut same,
        "/subject/properties",
        json!({ "act": { "sub": "x" } }),
    );
    put(&mut same, "/action/properties/amount", json!(1e2));
    let answer = ask(&app, &by(&same, &approval)).await;
    assert_eq!(answer["decision"], true, "{answer}");
    assert_eq!(answer["context"]["approval"]["id"], approval, "{answer}");
    refused(&app, &payment(), &approval, "approval_used").await;
}

#[tokio::test]
async fn an_approval_of_another_is_no_approval() {
    let app = start().await;
    let mut two = payment();
    two["action"]["properties"]["amount"] = json!(5);
    let (of_one, of_two) = (approved(&app, &payment()).await, approved(&app, &two).await);
    refused(&app, &payment(), &of_two, "out_of_scope").await;
    refused(&app, &two, &of_one, "out_of_scope").await;
    refused(
        &app,
        &two,
        "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77",
        "approval_unverifiable",
    )
    .await;
    // From another environment.
    let live = app.new_key(&[Scope::Evaluate], "live", None).await;
    let presented = by(&payment(), &of_one);
    let reply = app
        .as_key(&live, Method::POST, EVALUATION, &presented)
        .await;
    assert_eq!(
        reply.json()["context"]["approval"]["reason"],
        "out_of_scope",
        "{}",
        reply.text
    );
    // Another tenant knows of none of it.
    let other = app.store.ensure_tenant("other").await.unwrap();
    assert!(
        app.store
            .request(other, of_two.parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        app.store
            .bulk_request(other, of_two.parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

/// An agent's own key is of no use to another agent's approval; an enforcement point asks for all of them.
#[tokio::test]
async fn an_agent_uses_no_approval_of_another_agent() {
    let mut bundle = bundle();
    let schema = &mut bundle.schema[0].text;
    *schema = schema.replace("entity Agent ", "@registered(\"agent\")\nentity Agent ");
    let app = TestApp::shipping(&bundle).await;
    app.principal("maya", PrincipalKind::Person, &[]).await;
    let machine = PrincipalKind::Machine;
    let of_b = app.key_of(machine, "agent-b", &[]).await;
    let gateway = app.key_of(machine, "gateway-2", &[]).await;
    for (agent, principal) in [("a", Value::Null), ("b", json!("agent-b"))] {
        let body = json!({
            "owner": "maya", "purpose": "pays", "environment": "dev", "model": "m", "trust": 2, "principal": principal,
            "review_at": "2026-06-01T00:00:00Z", "ends_at": "2026-06-01T00:00:00Z",
        });
        let path = format!("/v1/agents/Agent/{agent}");
        let put = app.send(app.request(Method::PUT, &path), body).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    }
    app.caught_up().await;
    let approval = approved(&app, &payment()).await;
    let mut own = payment();
    own["subject"]["id"] = json!("b");
    for (question, reason) in [(payment(), "subject_not_yours"), (own, "approval_required")] {
        let presented = by(&question, &approval);
        let reply = app.as_key(&of_b, Method::POST, EVALUATION, &presented);
        let answer = reply.await.json();
        assert_eq!(answer["decision"], false, "{answer}");
        assert_eq!(answer["context"]["reason"], reason, "{answer}");
        assert_eq!(uses_left(&app, &approval).await, 1, "{reason}");
    }
    // Whoever asks for others in that environment may present it, not only the one that asked for it.
    let presented = by(&payment(), &approval);
    let reply = app.as_key(&gateway, Method::POST, EVALUATION, &presented);
    let answer = reply.await.json();
    assert_eq!(answer["decision"], true, "{answer}");
    assert_eq!(uses_left(&app, &approval).await, 0);
}

#[tokio::test]
async fn what_is_no_approval_does_not_approve() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    let answer = ask(&app, &by(&payment(), &id)).await;
    let told = &answer["context"]["approval"];
    assert_eq!(told["reason"], "approval_pending", "{answer}");
    assert_eq!(answer["context"]["next_action"], "retry", "{answer}");
    assert!(
        answer["context"]["retry_after"].as_u64() > Some(0),
        "{answer}"
    );
    cancel(&app, &id).await;
    refused(&app, &payment(), &id, "approval_unverifiable").await;
    let denied = id_of(&requested(&app, &payment()).await);
    deny(&app, &denied).await;
    refused(&app, &payment(), &denied, "approval_unverifiable").await;
    for odd in [
        json!("x"),
        json!({ "id": "x" }),
        json!({}),
        json!(null),
        json!(["x"]),
    ] {
        let mut question = payment();
        question["context"]["approval"] = odd;
        let reply = app.post(EVALUATION, &question).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_withdrawn_approval_is_none() {
    let app = start().await;
    let approval = approved(&app, &payment()).await;
    let done = app.store.withdraw_approval(
        app.tenant,
        approval.parse().unwrap(),
        ("maya", "a mistake"),
        Change::default(),
    );
    app.reached(done.await.unwrap().revision).await;
    refused(&app, &payment(), &approval, "approval_unverifiable").await;
}

#[tokio::test]
async fn a_change_of_the_policies_asks_again() {
    let mut app = start().await;
    let approval = approved(&app, &payment()).await;
    // A policy that has nothing to do with it, too: the approver saw other policies.
    app.put(&super::with_policies(
        "@id(\"more\")\npermit (principal, action, resource);\n",
    ))
    .await;
    refused(&app, &payment(), &approval, "approval_superseded").await;
    // The very policies that were in force are those that were shown.
    app.put(&super::bundle()).await;
    let answer = ask(&app, &by(&payment(), &approval)).await;
    assert_eq!(answer["decision"], true, "{answer}");
}

/// What forbids it by now and was not shown asks again; nothing is used.
#[tokio::test]
async fn a_violation_that_was_not_shown_asks_again() {
    let app = TestApp::shipping(&super::with_policies(
        "@id(\"mornings\")\n@cure(\"approval:night\")\nforbid (principal, action == Action::\"pay\", resource)\n\
        when { context.facts.now.toTime() > duration(\"12h\") } unless { context.facts.approved };\n",
    ))
    .await;
    let approval = approved(&app, &payment()).await;
    let id = approval.parse().unwrap();
    let stored = app.store.request(app.tenant, id).await.unwrap().unwrap();
    assert_eq!(stored.bound.violations.len(), 1);
    let long = id_of(&{
        let mut two = payment();
        two["action"]["properties"]["amount"] = json!(7);
        let handle = requested(&app, &two).await;
        approve(&app, &id_of(&handle), ApprovalScope::Once, 36_000).await;
        handle
    });
    app.clock.advance(std::time::Duration::from_hours(3));
    app.caught_up().await;
    let mut two = payment();
    two["action"]["properties"]["amount"] = json!(7);
    refused(&app, &two, &long, "not_covered").await;
    let stored = app
        .store
        .request(app.tenant, long.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(stored.unwrap().grant.unwrap().uses_left, 1);
}
