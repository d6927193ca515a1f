//! Two accounts of one natural person are one: what one of them has asked for, the other one does not agree to.

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

use super::{World, approve, approved, shut, starter_with, waits};
use crate::drafts::refused;

/// Makes a key of a person in these roles.
async fn person(test: &TestApp, name: &str, roles: &[Role]) -> String {
    test.key_of(PrincipalKind::Person, name, roles).await
}

/// Says that Ana is behind an account.
async fn behind(test: &TestApp, name: &str, roles: &[Role]) {
    let ada = person(test, "ada", &[Role::Admin]).await;
    let path = format!("/v1/principals/{name}");
    let body = json!({ "kind": "person", "roles": roles, "person": "ana" });
    let put = test.request_with(&ada, Method::PUT, &path);
    let put = test.send(put, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
}

/// Makes a second account of Ana's in these roles, and returns its key.
async fn second(test: &TestApp, roles: &[Role]) -> String {
    let key = person(test, "ana-2", roles).await;
    behind(test, "ana-2", roles).await;
    key
}

async fn post(test: &TestApp, key: &str, path: &str) -> Reply {
    test.as_key(key, Method::POST, path, &Value::Null).await
}

fn own(reply: &Reply) {
    let problem = refused(reply, StatusCode::FORBIDDEN, "not-permitted");
    assert_eq!(problem["policies"], json!(["remit.own-review"]));
}

#[tokio::test]
async fn they_review_no_draft_of_each_other() {
    let world = World::make(&starter_with(&shut("more"))).await;
    let max = person(&world.test, "max", &[Role::Approver]).await;
    let draft = world.draft("one").await;
    let key = second(&world.test, &[Role::Approver]).await;
    own(&approve(&draft, &key).await);
    // Nor does it count where it is told afterwards that one person is behind both.
    approved(&draft, &max).await;
    behind(&world.test, "max", &[Role::Approver]).await;
    waits(&draft.publish().await);
    approved(&draft, &world.ben).await;
    let published = draft.publish().await;
    assert!(published.status.is_success(), "{}", published.text);
}

#[tokio::test]
async fn they_confirm_no_settings_of_each_other() {
    let world = World::make(&starter_with(&shut("more"))).await;
    let test = &world.test;
    let ana = person(test, "ana", &[Role::Admin]).await;
    let key = second(test, &[Role::Admin, Role::Approver]).await;
    let off = json!({ "second_person": false });
    let put = test
        .request_with(&ana, Method::PUT, "/v1/settings")
        .header("if-match", "*");
    let asked = test.send(put, &off).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    let path = "/v1/settings/confirm";
    own(&test.as_key(&key, Method::POST, path, &off).await);
    let confirmed = test.as_key(&world.ben, Method::POST, path, &off).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.text);
}

#[tokio::test]
async fn they_approve_no_grant_of_each_other() {
    let world = World::make(&starter_with(&shut("more"))).await;
    let test = &world.test;
    let ana = person(test, "ana", &[Role::Admin]).await;
    let key = second(test, &[Role::Approver]).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    let body = json!({ "principal": "maya", "reason": "incident 4711" });
    let asked = test
        .as_key(&ana, Method::POST, "/v1/break-glass", &body)
        .await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
    let path = format!("{}/approve", asked.header("location"));
    own(&post(test, &key, &path).await);
    let given = post(test, &world.ben, &path).await;
    assert_eq!(given.status, StatusCode::OK, "{}", given.text);
}

#[tokio::test]
async fn they_lift_no_kill_together() {
    let world = World::make(&starter_with(&shut("more"))).await;
    let test = &world.test;
    let ana = person(test, "ana", &[Role::Operator]).await;
    let eve = person(test, "eve", &[Role::Operator]).await;
    let key = second(test, &[Role::Operator]).await;
    let target = json!({ "kind": "agent", "agent": { "type": "Agent", "id": "bot" } });
    let body = json!({ "target": target, "reason": "x" });
    let set = test.as_key(&ana, Method::POST, "/v1/kills", &body).await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    let lift = format!("/v1/kills/{}/lift", set.json()["id"].as_str().unwrap());
    let asked = post(test, &ana, &lift).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    let confirm = format!("{lift}/confirm");
    own(&post(test, &key, &confirm).await);
    let lifted = post(test, &eve, &confirm).await;
    assert_eq!(lifted.status, StatusCode::OK, "{}", lifted.text);
}
