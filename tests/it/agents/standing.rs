//! How an agent stands: each way in which it may not act is a denial with a reason of its own, on every replica.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, PrincipalKind};
use remit_tests::app::{Reply, TestApp};
use remit_tests::postgres::Postgres;
use remit_tests::sql::execute;
use serde_json::{Value, json};

use super::{ROBOT, body, with};

const SCHEMA: &str = r#"
@registered("agent") entity Agent;
entity Person;
@registered("tool") entity Tool;
action call appliesTo { principal: [Agent, Person], resource: [Tool], context: { facts: Remit::Facts } };
"#;

/// Everybody may call every tool.
pub fn open() -> Bundle {
    serde_json::from_value(json!({
        "schema": [{ "file": "schema.cedarschema", "text": SCHEMA }],
        "policies": [{ "file": "open.cedar", "text": "@id(\"open\") permit (principal, action, resource);" }],
    }))
    .unwrap()
}

/// Asks whether somebody may call a tool, at a revision or later where one is given.
pub async fn call(
    test: &TestApp,
    (kind, id): (&str, &str),
    tool: &str,
    at_least: Option<&str>,
) -> Reply {
    let mut request = test.request(Method::POST, "/access/v1/evaluation");
    if let Some(revision) = at_least {
        request = request.header("remit-revision", revision);
    }
    let question = json!({
        "subject": { "type": kind, "id": id }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": tool },
    });
    test.send(request, question).await
}

/// Returns the reason of an answer.
pub fn reason(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = reply.json();
    let code = answer["context"]["reason"].as_str().unwrap();
    assert_eq!(answer["decision"], json!(code == "policy_permit"));
    code.to_owned()
}

async fn standing(test: &TestApp) -> String {
    reason(&call(test, ("Agent", "robot"), "mail", None).await)
}

#[tokio::test]
async fn each_way_of_not_standing_has_its_reason() {
    let mut test = TestApp::empty(Options {
        // The clock is moved by months.
        max_staleness: Duration::from_hours(24 * 400),
        ..Options::default()
    })
    .await;
    test.put(&open()).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    assert_eq!(standing(&test).await, "agent_unregistered");
    // Whoever is no agent is none of the registry's business.
    let person = call(&test, ("Person", "tom"), "mail", None).await;
    assert_eq!(reason(&person), "policy_permit");

    let send = async |method: Method, path: &str, body: &Value| {
        let reply = test.as_key(&test.key, method, path, body).await;
        assert!(reply.status.is_success(), "{}", reply.text);
        reply
    };
    let fresh = test.request(Method::PUT, ROBOT);
    let made = test.send(fresh, body()).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    assert_eq!(standing(&test).await, "policy_permit");
    send(Method::POST, "/v1/agents/Agent/robot/suspend", &Value::Null).await;
    assert_eq!(standing(&test).await, "agent_suspended");
    send(Method::POST, "/v1/agents/Agent/robot/resume", &Value::Null).await;
    assert_eq!(standing(&test).await, "policy_permit");

    send(Method::DELETE, "/v1/principals/maya", &Value::Null).await;
    assert_eq!(standing(&test).await, "agent_ownerless");
    assert_eq!(test.get(ROBOT).await.json()["standing"], "ownerless");
    test.principal("maya", PrincipalKind::Person, &[]).await;
    assert_eq!(standing(&test).await, "policy_permit");

    let days = async |days: u64| {
        test.clock.advance(Duration::from_hours(24 * days));
        let heads = test.store.heads().await.unwrap();
        test.reached(heads[0].revision).await;
    };
    days(147).await;
    assert_eq!(standing(&test).await, "agent_review_overdue", "on 1 June");
    assert_eq!(test.get(ROBOT).await.json()["standing"], "review_overdue");
    let looked_at = with(body(), "review_at", json!("2027-01-01T00:00:00Z"));
    send(Method::PUT, ROBOT, &looked_at).await;
    assert_eq!(standing(&test).await, "policy_permit");
    days(183).await;
    assert_eq!(standing(&test).await, "agent_expired", "on 1 December");
    let longer = with(looked_at, "ends_at", json!("2027-06-01T00:00:00Z"));
    send(Method::PUT, ROBOT, &longer).await;
    assert_eq!(standing(&test).await, "policy_permit");
    send(Method::DELETE, ROBOT, &Value::Null).await;
    assert_eq!(standing(&test).await, "agent_expired");
}

/// An agent is a fact of a revision: whoever sends that back is answered by it, on the other replica as well.
#[tokio::test]
async fn what_is_registered_on_one_replica_is_in_force_on_the_other() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let database = remit_tests::sql::patient(url);
    let options = || Options {
        deadline: Duration::from_mins(1),
        max_staleness: Duration::from_secs(30),
        revision_wait: Duration::from_secs(20),
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, options()).await;
    let b = TestApp::sharing(&database, options()).await;
    a.put(&open()).await;
    a.principal("maya", PrincipalKind::Person, &[]).await;
    b.caught_up().await;
    let soon = json!(super::commands::ahead(30));
    let robot = with(with(body(), "review_at", soon.clone()), "ends_at", soon);
    let steps = [
        (Method::PUT, ROBOT, robot, "policy_permit"),
        (
            Method::POST,
            "/v1/agents/Agent/robot/suspend",
            Value::Null,
            "agent_suspended",
        ),
        (
            Method::POST,
            "/v1/agents/Agent/robot/resume",
            Value::Null,
            "policy_permit",
        ),
        (
            Method::DELETE,
            "/v1/principals/maya",
            Value::Null,
            "agent_ownerless",
        ),
        (Method::DELETE, ROBOT, Value::Null, "agent_expired"),
    ];
    for (method, path, body, expected) in steps {
        let text = match &body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let done = a.send(a.request(method, path), text).await;
        assert!(done.status.is_success(), "{}", done.text);
        let revision = done.header("remit-revision").to_owned();
        let asked = call(&b, ("Agent", "robot"), "mail", Some(&revision)).await;
        assert_eq!(reason(&asked), expected, "{path}");
    }
    // With the answer of a change that waited it is so without the revision, too.
    let ben = a.principal("ben", PrincipalKind::Person, &[]);
    ben.await;
    let again = with(self::body(), "owner", json!("ben"));
    let soon = json!(super::commands::ahead(30));
    let again = with(with(again, "review_at", soon.clone()), "ends_at", soon);
    let path = "/v1/agents/Agent/other?wait=fleet";
    let made = a.send(a.request(Method::PUT, path), again).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let asked = call(&b, ("Agent", "other"), "mail", None).await;
    assert_eq!(reason(&asked), "policy_permit");
}

/// A first load reads all of them, in pages.
#[tokio::test]
async fn ten_thousand_agents_are_there_after_a_restart() {
    let test = TestApp::start(&open()).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    let made = test.send(test.request(Method::PUT, ROBOT), body()).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let many = "INSERT INTO agents (tenant, kind, id, revision, status, owner, body) \
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
        SELECT a.tenant, a.kind, 'n' || i, a.revision, a.status, a.owner, replace(a.body, '\"robot\"', '\"n' || i || '\"') \
        FROM n, agents a WHERE a.id = 'robot'";
    execute(&test.database.url, many).await;
    let began = Instant::now();
    let again = TestApp::sharing(&test.database, Options::default()).await;
    again.caught_up().await;
    println!(
        "first load with 10,001 agents: {} ms",
        began.elapsed().as_millis()
    );
    let metrics = again.operations("/metrics").await.text;
    assert!(metrics.contains("remit_agents 10001\n"), "{metrics}");
    // By the time of this machine the agents have ended, which an unknown one has not.
    for (id, expected) in [
        ("n1", "agent_expired"),
        ("n10000", "agent_expired"),
        ("n10001", "agent_unregistered"),
    ] {
        let asked = call(&again, ("Agent", id), "mail", None).await;
        let found = reason(&asked);
        let late = expected == "agent_expired" && found == "agent_review_overdue";
        assert!(found == expected || late, "{id}: {found}");
    }
}

#[tokio::test]
async fn who_asks_without_being_registered_is_listed() {
    let test = TestApp::shipping(&open()).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    for (kind, id, times) in [
        ("Agent", "stray", 3),
        ("Agent", "robot", 1),
        ("Person", "tom", 1),
    ] {
        for _ in 0..times {
            call(&test, (kind, id), "mail", None).await;
        }
    }
    let unknown = async |query: &str| {
        let listed = test.get(&format!("/v1/agents/unknown{query}")).await;
        assert_eq!(listed.status, StatusCode::OK, "{}", listed.text);
        listed.json()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let found = loop {
        let found = unknown("").await;
        let agents = found["agents"].as_array().unwrap();
        if agents.len() == 2 && agents[1]["count"] == 3 {
            break agents.clone();
        }
        assert!(Instant::now() < deadline, "{found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let ids: Vec<&str> = found
        .iter()
        .map(|one| one["uid"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["robot", "stray"]);
    assert_eq!(found[0]["count"], 1);
    assert!(found[1]["first_seen"].as_str() <= found[1]["last_seen"].as_str());
    let first = unknown("?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let rest = unknown(&format!("?limit=1&cursor={next}")).await;
    assert_eq!(rest["agents"][0]["uid"]["id"], "stray");
    let made = test.send(test.request(Method::PUT, ROBOT), body()).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let left = unknown("").await;
    assert_eq!(left["agents"].as_array().unwrap().len(), 1, "{left}");
}
