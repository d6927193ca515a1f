//! Who may tell of an outcome, and what it may vouch for.

use http::{Method, StatusCode};
use remit_core::{Agent, AgentStatus, EntityUid, PrincipalKind, Revision, Role, TaskId, sink_hash};
use remit_store::{Change, Scope};
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

use super::{calls, permitted, question, report, start, task};

async fn tell(app: &TestApp, key: &str, decision: &str, outcome: &Value) -> Reply {
    let path = format!("/v1/decisions/{decision}/outcome");
    app.as_key(key, Method::POST, &path, outcome).await
}

async fn permitted_by(app: &TestApp, key: &str, task: TaskId) -> String {
    let asked = question("look", Some(task));
    let path = "/access/v1/evaluation";
    let reply = app.as_key(key, Method::POST, path, &asked).await;
    assert_eq!(reply.json()["decision"], true, "{}", reply.text);
    reply.header("x-decision-id").to_owned()
}

/// Another key of the tenant gives nothing back and vouches for nobody; another of the same principal may.
#[tokio::test]
async fn who_asked_tells() {
    let app = start().await;
    let task = task(&app, Some(5)).await;
    let id = permitted(&app, "look", task).await;
    let other = app.new_key(&[Scope::Evaluate], "dev", None).await;
    for outcome in [
        json!({ "result": "not_made" }),
        json!({ "result": "succeeded", "sinks": ["eve@example.com"] }),
    ] {
        let reply = tell(&app, &other, &id, &outcome).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text);
    }
    assert_eq!(calls(&app, task).await, (1, 0));
    let text = app.operations("/metrics").await.text;
    let counted = "remit_outcomes_refused_total{why=\"not_yours\"} 2";
    assert!(text.contains(counted), "{text}");
    let one = app.key_of(PrincipalKind::Machine, "gateway", &[]).await;
    let two = app.key_of(PrincipalKind::Machine, "gateway", &[]).await;
    let id = permitted_by(&app, &one, task).await;
    let told = tell(&app, &two, &id, &json!({ "result": "not_made" })).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
}

/// What is given back, and whom a task may trust, is not the agent's own to say.
#[tokio::test]
async fn an_agent_eases_nothing_for_itself() {
    let app = start().await;
    let task = task(&app, Some(5)).await;
    app.principal("ana", PrincipalKind::Person, &[Role::Admin])
        .await;
    let key = app.key_of(PrincipalKind::Machine, "bot", &[]).await;
    let agent = Agent {
        build: None,
        ends_at: "2027-06-01T00:00:00Z".parse().unwrap(),
        environment: "dev".into(),
        model: "m".into(),
        owner: "ana".parse().unwrap(),
        principal: Some("bot".parse().unwrap()),
        purpose: "invoicing".into(),
        review_at: "2026-06-01T00:00:00Z".parse().unwrap(),
        roles: [].into(),
        status: AgentStatus::Active,
        trust: 0,
        uid: EntityUid::new("Agent", "a"),
    };
    let put = app
        .store
        .put_agent(app.tenant, None, &agent, Change::default());
    put.await.unwrap();
    app.caught_up().await;
    let id = permitted_by(&app, &key, task).await;
    for outcome in [
        json!({ "result": "not_made" }),
        json!({ "result": "failed" }),
        json!({ "result": "succeeded", "sinks": ["eve@example.com"] }),
    ] {
        let reply = tell(&app, &key, &id, &outcome).await;
        assert_eq!(
            (reply.status, &reply.json()["why"]),
            (StatusCode::CONFLICT, &json!("own_agent"))
        );
    }
    assert_eq!(calls(&app, task).await, (1, 0));
    let told = tell(
        &app,
        &key,
        &id,
        &json!({ "result": "succeeded", "bytes": 3 }),
    )
    .await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
    assert_eq!(calls(&app, task).await, (0, 1));
}

/// A trusted tool that repeats what it was given vouches for nothing; nor does a call that returned nothing.
#[tokio::test]
async fn what_a_call_said_itself_is_not_returned() {
    let app = start().await;
    let task = task(&app, None).await;
    let mut asked = question("look", Some(task));
    asked["action"]["properties"] =
        json!({ "note": "ask Mallory <MALLORY@evil.example> or DE89370400440532013000" });
    let reply = app.post("/access/v1/evaluation", asked).await;
    assert_eq!(reply.json()["decision"], true, "{}", reply.text);
    let id = reply.header("x-decision-id").to_owned();
    let sinks = json!([
        "mallory@evil.example",
        "Mallory",
        "DE89 3704 0044 0532 0130 00",
        "bob@example.com"
    ]);
    let failed = json!({ "result": "not_made", "sinks": sinks });
    let refused = report(&app, &id, &failed).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("`sinks`")
    );
    let told = report(&app, &id, &json!({ "result": "succeeded", "sinks": sinks })).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
    let changes = app
        .store
        .tasks_changed(app.tenant, Revision::default(), None, 100)
        .await
        .unwrap();
    let kept = changes.live.iter().find(|live| live.id == task).unwrap();
    assert_eq!(kept.trusted, [sink_hash("bob@example.com")]);
}
