//! What keeps a kill in force: nothing but two persons, who agree about the kill as it stands, gets anything out of it.

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use remit_store::Scope;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use serde_json::{Value, json};

use super::{KILLS, STARTER, of_robot, post};
use crate::agents::{ROBOT, body, with};

/// Whoever sets a kill again does not want it lifted: that is on record, and what was asked before does not count.
#[tokio::test]
async fn a_kill_that_is_set_again_is_not_lifted_as_was_asked_before() {
    let test = TestApp::start(&pack(STARTER)).await;
    let ana = test.person("ana", &[Role::Operator], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Operator], Scope::ALL).await;
    let eve = test.person("eve", &[Role::Operator], Scope::ALL).await;
    let set = post(&test, &ana, KILLS, &of_robot()).await;
    let id = set.json()["id"].as_str().unwrap().to_owned();
    let (lift, confirm) = (
        format!("{KILLS}/{id}/lift"),
        format!("{KILLS}/{id}/lift/confirm"),
    );
    let asked = post(&test, &ana, &lift, &Value::Null).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);

    let reason = "it does it again";
    let again = with(of_robot(), "reason", json!(reason));
    let request = || {
        test.request(Method::POST, KILLS)
            .header("idempotency-key", "again")
    };
    let kept = test.as_key(&eve, Method::POST, KILLS, &again).await;
    assert_eq!(kept.status, StatusCode::OK, "{}", kept.text);
    assert_eq!(
        (&kept.json()["id"], kept.json().get("lift")),
        (&json!(id), None)
    );
    assert_eq!(kept.header("remit-revision"), set.header("remit-revision"));
    let late = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
    let records = test.get("/v1/admin/actions?limit=10").await.json();
    let records = records["actions"].as_array().unwrap().clone();
    let record = records
        .iter()
        .find(|one| one["details"]["reason"] == reason)
        .unwrap();
    assert_eq!(record["action"], "create_kill");
    assert_eq!(record["principal"], "eve");
    assert_eq!(
        (&record["details"]["kill"], &record["details"]["asked_by"]),
        (&json!(id), &json!("ana"))
    );
    // Under one name it is done once, and a lift that was asked since stays asked.
    let first = test.send(request(), again.clone()).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    post(&test, &ana, &lift, &Value::Null).await;
    let second = test.send(request(), again).await;
    assert_eq!(second.json(), first.json());
    assert_eq!(
        second.header("remit-revision"),
        set.header("remit-revision")
    );
    let done = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}

/// Whoever asked to let every tenant go on must still be one who may stop every tenant.
#[tokio::test]
async fn who_asked_to_lift_everything_must_still_host() {
    let test = TestApp::start(&pack(STARTER)).await;
    let both = [Role::Admin, Role::Operator];
    let ana = test.person("ana", &both, Scope::EVERY).await;
    let ben = test.person("ben", &[Role::Admin], Scope::EVERY).await;
    let body = json!({ "target": { "kind": "everything" }, "reason": "a breach" });
    let set = post(&test, &ana, KILLS, &body).await;
    let lift = format!("{KILLS}/{}/lift", set.json()["id"].as_str().unwrap());
    let confirm = format!("{lift}/confirm");
    let asked = post(&test, &ana, &lift, &Value::Null).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    // She may still lift a kill, but not one of everything.
    test.principal("ana", PrincipalKind::Person, &[Role::Operator])
        .await;
    let refused = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert!(
        refused.text.contains("may not any more"),
        "{}",
        refused.text
    );
    test.principal("ana", PrincipalKind::Person, &both).await;
    let done = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}

/// What leads out of a kill is refused while it is in force.
#[tokio::test]
async fn nothing_is_registered_out_of_a_kill() {
    let test = TestApp::start(&pack(STARTER)).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    let put = async |path: &str, body: &Value| {
        let request = test.request(Method::PUT, path);
        test.send(request, body).await
    };
    assert_eq!(put(ROBOT, &body()).await.status, StatusCode::OK);
    let mail = "/v1/tools/mail";
    let made = put(mail, &json!({ "effect": "egress" })).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    for target in [
        json!({ "kind": "model", "model": "m-1" }),
        json!({ "kind": "tool", "tool": "mail" }),
    ] {
        let kill = json!({ "target": target, "reason": "incident 4711" });
        let set = post(&test, &test.key, KILLS, &kill).await;
        assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    }
    let other = with(body(), "model", json!("m-2"));
    let removed = test.send(test.request(Method::DELETE, mail), "").await;
    for (refused, what) in [
        (put(ROBOT, &other).await, "the model `m-1`"),
        (removed, "the tool `mail`"),
    ] {
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
        assert_eq!(refused.json()["code"], "killed");
        let detail = format!("{what} is killed; lift the kill first");
        assert_eq!(refused.json()["detail"], detail);
    }
    assert_eq!(test.get(ROBOT).await.json()["model"], "m-1");
    assert_eq!(test.get(mail).await.status, StatusCode::OK);
}
