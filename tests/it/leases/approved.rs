//! An approval that a permit used is good for its renewals, and no longer than it would have been good for a permit.

use std::collections::BTreeSet;

use remit_core::{ApprovalId, ApprovalScope};
use remit_store::{Approving, Change};

use super::*;

const SCHEMA: &str = "\
entity Agent;
entity Payee;
action pay appliesTo { principal: [Agent], resource: [Payee], context: { facts: Remit::Facts } };
";

const POLICIES: &str = r#"
@id("open") @lease("60") permit (principal, action, resource);
@id("needs-a-person") @cure("approval:finance") forbid (principal, action, resource) unless { context.facts.approved };
"#;

fn bundle_of(policies: &str) -> Bundle {
    serde_json::from_value(json!({
        "schema": [{ "file": "schema.cedarschema", "text": SCHEMA }],
        "policies": [{ "file": "pay.cedar", "text": policies }],
    }))
    .unwrap()
}

fn payment(approval: Option<&str>) -> Value {
    let mut question = json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "pay" },
        "resource": { "type": "Payee", "id": "acme" }, "context": {},
    });
    if let Some(approval) = approval {
        question["context"]["approval"] = json!({ "id": approval });
    }
    question
}

async fn ask(test: &TestApp, question: &Value) -> Reply {
    let asked = test.post("/access/v1/evaluation", question).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    asked
}

/// Pays by an approval that is good for so many seconds; returns the approval and the id of the lease.
async fn paid(test: &TestApp, seconds: u64) -> (ApprovalId, String) {
    let denied = ask(test, &payment(None)).await.json();
    let context = &denied["context"];
    let mut body = payment(None);
    body["denial"] = json!({
        "evaluation_id": context["evaluation_id"], "expires_at": context["access_request"]["expires_at"],
    });
    let requested = test.post("/access/v1/requests", body).await;
    assert_eq!(requested.status, StatusCode::ACCEPTED, "{}", requested.text);
    let id = requested.json()["task"]["id"].as_str().unwrap().to_owned();
    let approving = Approving {
        scope: ApprovalScope::Once,
        approvers: &BTreeSet::from(["maya".parse().unwrap()]),
        until: test.clock.now().plus(Duration::from_secs(seconds)),
        by: "maya",
        why: None,
    };
    let approval: ApprovalId = id.parse().unwrap();
    let done = test
        .store
        .approve(test.tenant, approval, approving, Change::default());
    test.reached(done.await.unwrap().revision).await;
    let permitted = ask(test, &payment(Some(&id))).await;
    assert_eq!(
        permitted.json()["decision"],
        json!(true),
        "{}",
        permitted.text
    );
    let root = permitted.header("x-decision-id").to_owned();
    let again = ask(test, &payment(Some(&id))).await;
    assert_eq!(again.json()["decision"], json!(false), "it is used");
    (approval, root)
}

async fn start() -> TestApp {
    let options = Options {
        max_staleness: Duration::from_hours(24 * 400),
        ..Options::default()
    };
    let mut test = TestApp::empty(options).await;
    let (log, store) = (test.log.clone(), test.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    test.put(&bundle_of(POLICIES)).await;
    test
}

async fn renews(test: &TestApp, root: &str) -> (bool, Value) {
    let renewed = renew(test, &test.key, root).await;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text);
    let answer = renewed.json();
    (answer["decision"] == json!(true), answer["context"].clone())
}

#[tokio::test]
async fn a_used_approval_is_good_for_renewals_until_it_is_over() {
    let test = start().await;
    let (_, root) = paid(&test, 100).await;
    for _ in 0..3 {
        let (permits, context) = renews(&test, &root).await;
        assert!(permits, "{context}");
        assert_eq!(context["lease"]["id"], json!(root));
    }
    advance(&test, Duration::from_secs(80)).await;
    let (permits, context) = renews(&test, &root).await;
    assert!(permits, "{context}");
    let end = test.clock.now().plus(Duration::from_secs(20));
    assert_eq!(
        context["lease"]["expires_at"],
        json!(end),
        "not longer than the approval"
    );
    advance(&test, Duration::from_secs(20)).await;
    let (permits, context) = renews(&test, &root).await;
    assert!(!permits, "{context}");
    assert_eq!(context["reason"], "approval_required");
    over(&renew(&test, &test.key, &root).await, "ended it");
}

#[tokio::test]
async fn a_withdrawn_one_is_not() {
    let test = start().await;
    let (approval, root) = paid(&test, 600).await;
    let withdrawn = test.store.withdraw_approval(
        test.tenant,
        approval,
        ("maya", "a mistake"),
        Change::default(),
    );
    test.reached(withdrawn.await.unwrap().revision).await;
    let (permits, context) = renews(&test, &root).await;
    assert!(!permits, "{context}");
}

#[tokio::test]
async fn under_other_policies_it_is_not() {
    let mut test = start().await;
    let (_, root) = paid(&test, 600).await;
    let more = "@id(\"more\") forbid (principal, action, resource) when { false };";
    test.put(&bundle_of(&format!("{POLICIES}{more}"))).await;
    let (permits, context) = renews(&test, &root).await;
    assert!(!permits, "{context}");
    assert_eq!(context["reason"], "approval_required");
}

/// A renewal uses no approval that its permit did not use.
#[tokio::test]
async fn an_approval_that_was_not_needed_is_not_used_later() {
    let mut test = start().await;
    let open = "@id(\"open\") @lease(\"60\") permit (principal, action, resource);";
    test.put(&bundle_of(open)).await;
    let permitted = ask(&test, &payment(None)).await;
    assert_eq!(
        permitted.json()["decision"],
        json!(true),
        "{}",
        permitted.text
    );
    let root = permitted.header("x-decision-id").to_owned();
    test.put(&bundle_of(POLICIES)).await;
    let (permits, context) = renews(&test, &root).await;
    assert!(!permits, "{context}");
}

/// What was found to be over is so by an earlier clock, too: the approval for a task, of which a use is left.
#[tokio::test]
async fn one_that_was_over_is_not_revived_by_a_clock_that_is_set_back() {
    let test = start().await;
    let first = test.clock.now();
    let (approval, root) = paid(&test, 60).await;
    let more = format!(
        "UPDATE access_requests SET uses_left = 1 WHERE approved_until > {}",
        first.micros()
    );
    remit_tests::sql::execute(&test.database.url, &more).await;
    advance(&test, Duration::from_secs(61)).await;
    test.store.expire_requests(test.tenant).await.unwrap();
    let stored = test.store.request(test.tenant, approval).await.unwrap();
    assert!(stored.unwrap().forgotten);
    test.log.caught_up(Duration::from_secs(10)).await;
    let back = remit_core::Clock::manual(first.plus(Duration::from_millis(1)));
    let again = TestApp::by(&test.database, &back, &back, Options::default()).await;
    again.caught_up().await;
    let renewed = renew(&again, &test.key, &root).await;
    assert_eq!(renewed.json()["decision"], json!(false), "{}", renewed.text);
    assert_eq!(renewed.json()["context"]["reason"], "approval_required");
    over(&renew(&again, &test.key, &root).await, "ended it");
}
