//! Kills over HTTP: set by one, in force everywhere, and lifted by two persons.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

mod everywhere;
mod kept;

const KILLS: &str = "/v1/kills";
const STARTER: &str = "starter";

fn of_robot() -> Value {
    json!({ "target": { "kind": "agent", "agent": { "type": "Agent", "id": "robot" } }, "reason": "incident 4711" })
}

async fn post(test: &TestApp, key: &str, path: &str, body: &Value) -> Reply {
    test.as_key(key, Method::POST, path, body).await
}

#[tokio::test]
async fn a_kill_is_set_by_one_and_lifted_by_two() {
    let test = TestApp::start(&pack(STARTER)).await;
    let ana = test.person("ana", &[Role::Operator], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Operator], Scope::ALL).await;
    let robot = test
        .key_of(PrincipalKind::Machine, "robot", &[Role::Operator])
        .await;
    let set = post(&test, &robot, KILLS, &of_robot()).await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    let id = set.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(set.header("location"), format!("{KILLS}/{id}"));
    assert_eq!(set.json()["by"], "robot");
    let again = post(&test, &ana, KILLS, &of_robot()).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    assert_eq!(again.json()["id"], json!(id), "one of a target");
    assert_eq!(again.header("remit-revision"), set.header("remit-revision"));
    let metrics = test.operations("/metrics").await.text;
    assert!(
        metrics.contains("remit_kills{kind=\"agent\"} 1\n"),
        "{metrics}"
    );

    let lift = format!("{KILLS}/{id}/lift");
    let confirm = format!("{lift}/confirm");
    let early = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);
    let machine = post(&test, &robot, &lift, &Value::Null).await;
    assert_eq!(
        machine.json()["policies"],
        json!(["remit.person-lifts"]),
        "{}",
        machine.text
    );
    let asked = post(&test, &ana, &lift, &Value::Null).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    assert_eq!(asked.json()["lift"]["asked_by"], "ana");
    assert_eq!(asked.json()["state"], "in_force");
    for (key, rule) in [(&ana, "remit.own-review"), (&robot, "remit.person-reviews")] {
        let refused = post(&test, key, &confirm, &Value::Null).await;
        assert_eq!(
            refused.json()["policies"],
            json!([rule]),
            "{}",
            refused.text
        );
    }
    let shown = test.get(&format!("{KILLS}/{id}")).await.json();
    assert_eq!(
        (&shown["state"], &shown["lift"]["asked_by"]),
        (&json!("in_force"), &json!("ana"))
    );
    let done = post(&test, &ben, &format!("{confirm}?wait=fleet"), &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(
        (&done.json()["state"], &done.json()["lifted_by"]),
        (&json!("lifted"), &json!("ben"))
    );
    let metrics = test.operations("/metrics").await.text;
    assert!(!metrics.contains("remit_kills{"), "{metrics}");
    for path in [&lift, &confirm] {
        let late = post(&test, &ana, path, &Value::Null).await;
        assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
    }
    let anew = post(&test, &ana, KILLS, &of_robot()).await;
    assert_eq!(anew.status, StatusCode::CREATED, "{}", anew.text);
    let ids = |reply: &Reply| -> Vec<String> {
        let kills = reply.json()["kills"].as_array().unwrap().clone();
        let ids = kills.iter().map(|one| one["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    };
    let new = anew.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(ids(&test.get(KILLS).await), [new.clone(), id.clone()]);
    assert_eq!(
        ids(&test.get("/v1/kills?state=in_force").await),
        std::slice::from_ref(&new)
    );
    assert_eq!(ids(&test.get("/v1/kills?state=lifted").await), [id]);
    let first = test.get("/v1/kills?limit=1").await;
    assert_eq!(ids(&first), [new]);
    assert!(first.json()["next"].is_string());
}

/// The hour is the database's, and whoever asked must still be somebody who may.
#[tokio::test]
async fn what_was_asked_waits_for_an_hour() {
    let test = TestApp::start(&pack(STARTER)).await;
    let ana = test.person("ana", &[Role::Operator], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Approver], Scope::ALL).await;
    let set = post(&test, &ana, KILLS, &of_robot()).await;
    let lift = format!("{KILLS}/{}/lift", set.json()["id"].as_str().unwrap());
    let confirm = format!("{lift}/confirm");
    post(&test, &ana, &lift, &Value::Null).await;
    test.clock.advance(Duration::from_hours(1));
    test.caught_up().await;
    let late = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
    let shown = test.get(KILLS).await.json();
    assert_eq!(shown["kills"][0].get("lift"), None);

    post(&test, &ana, &lift, &Value::Null).await;
    test.principal("ana", PrincipalKind::Person, &[Role::Reader])
        .await;
    let stripped = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(stripped.status, StatusCode::CONFLICT, "{}", stripped.text);
    assert!(
        stripped.text.contains("may not any more"),
        "{}",
        stripped.text
    );
    test.principal("ana", PrincipalKind::Person, &[Role::Operator])
        .await;
    let done = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}

#[tokio::test]
async fn everything_is_stopped_by_whoever_runs_the_installation_alone() {
    let test = TestApp::start(&pack(STARTER)).await;
    let body = json!({ "target": { "kind": "everything" }, "reason": "a breach" });
    let scopes: Vec<Scope> = Scope::EVERY.to_vec();
    let ana = test
        .person("ana", &[Role::Admin, Role::Operator], &scopes)
        .await;
    let ben = test.person("ben", &[Role::Admin], &scopes).await;
    let otto = test.person("otto", &[Role::Operator], &scopes).await;
    let own = test.person("own", &[Role::Admin], Scope::ALL).await;
    let refused = post(&test, &own, KILLS, &body).await;
    assert_eq!(refused.json()["code"], "missing-scope", "{}", refused.text);
    let refused = post(&test, &otto, KILLS, &body).await;
    assert_eq!(
        refused.json()["roles"],
        json!(["admin"]),
        "{}",
        refused.text
    );
    assert_eq!(test.get(KILLS).await.json(), json!({ "kills": [] }));

    let guest = test.store.ensure_tenant("guest").await.unwrap();
    let set = post(&test, &ana, &format!("{KILLS}?wait=fleet"), &body).await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    let told = test.store.kills(guest, None, None, 10).await.unwrap();
    assert_eq!(told[0].kill.by.as_str(), "remit");
    let lift = format!("{KILLS}/{}/lift", set.json()["id"].as_str().unwrap());
    let refused = post(&test, &own, &lift, &Value::Null).await;
    assert_eq!(refused.json()["code"], "missing-scope", "{}", refused.text);
    let asked = post(&test, &ana, &lift, &Value::Null).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    let confirm = format!("{lift}/confirm");
    let refused = post(&test, &own, &confirm, &Value::Null).await;
    assert_eq!(refused.json()["code"], "missing-scope", "{}", refused.text);
    let refused = post(&test, &otto, &confirm, &Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    let done = post(&test, &ben, &confirm, &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(test.store.kills(guest, None, None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_kill_that_makes_no_sense_is_refused_by_name() {
    let test = TestApp::start(&pack(STARTER)).await;
    let agent =
        |kind: &str, id: &str| json!({ "kind": "agent", "agent": { "type": kind, "id": id } });
    for (target, named) in [
        (json!({ "kind": "world" }), "target"),
        (json!({}), "target"),
        (json!("tenant"), "target"),
        (json!({ "kind": "task", "task": "x" }), "target"),
        (json!({ "kind": "tool" }), "target"),
        (json!({ "kind": "tool", "tool": "" }), "target.tool"),
        (
            json!({ "kind": "tool", "tool": "x".repeat(257) }),
            "target.tool",
        ),
        (
            json!({ "kind": "model", "model": "x".repeat(129) }),
            "target.model",
        ),
        (agent("", "a"), "target.agent.type"),
        (agent("Agent", "e\u{301}"), "target.agent.id"),
        (agent("Agent", &"x".repeat(1_025)), "target.agent.id"),
        (json!({ "kind": "tenant", "tenant": "other" }), "target"),
    ] {
        let body = json!({ "target": target, "reason": "x" });
        let refused = test.post(KILLS, &body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            refused.text
        );
        assert!(
            refused.text.contains(&format!("`{named}")),
            "{named}: {}",
            refused.text
        );
    }
    for reason in [
        json!(""),
        json!("two\nlines"),
        json!("x".repeat(1_025)),
        json!(7),
    ] {
        let body = json!({ "target": { "kind": "tenant" }, "reason": reason });
        let refused = test.post(KILLS, &body).await;
        assert!(refused.text.contains("`reason`"), "{}", refused.text);
    }
    let ana = test.person("ana", &[Role::Operator], Scope::ALL).await;
    let absent = format!("{KILLS}/019aa8e0-0000-7000-8000-000000000006");
    for (method, path) in [
        (Method::GET, absent.clone()),
        (Method::POST, format!("{absent}/lift")),
        (Method::POST, format!("{absent}/lift/confirm")),
    ] {
        let reply = test.as_key(&ana, method, &path, &Value::Null).await;
        assert_eq!(
            reply.status,
            StatusCode::NOT_FOUND,
            "{path}: {}",
            reply.text
        );
    }
    assert_eq!(test.get(KILLS).await.json(), json!({ "kills": [] }));
}

/// Sent again under its name it is set once, also after it was lifted.
#[tokio::test]
async fn a_kill_that_is_sent_twice_is_set_once() {
    let test = TestApp::start(&pack(STARTER)).await;
    let ana = test.person("ana", &[Role::Operator], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Operator], Scope::ALL).await;
    let send = async || {
        let request = test
            .request(Method::POST, KILLS)
            .header("idempotency-key", "one");
        test.send(request, of_robot()).await
    };
    let first = send().await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let lift = format!("{KILLS}/{}/lift", first.json()["id"].as_str().unwrap());
    post(&test, &ana, &lift, &Value::Null).await;
    let done = post(&test, &ben, &format!("{lift}/confirm"), &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let again = send().await;
    assert_eq!(again.json(), first.json());
    let in_force = test.get("/v1/kills?state=in_force").await.json();
    assert_eq!(in_force, json!({ "kills": [] }));
}
