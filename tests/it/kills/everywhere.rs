//! A kill is in force on every replica within the staleness bound, whether or not the database tells of changes; and a
//! replica that hears nothing permits nothing past that bound.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{KillId, KillTarget, Role};
use remit_store::{Change, Expected, NewKey, NewKill, Scope};
use remit_tests::app::TestApp;
use remit_tests::postgres::Postgres;
use serde_json::{Value, json};

use super::KILLS;
use crate::agents::standing::{call, open, reason};
use crate::agents::{body, with};

/// How old what decides may be.
const BOUND: Duration = Duration::from_secs(20);
/// And how old it may be by default.
const USUAL_BOUND: Duration = Duration::from_secs(5);

struct Pair {
    a: TestApp,
    b: TestApp,
    ana: String,
    ben: String,
}

impl Pair {
    async fn start(hints: bool, poll: Duration) -> Option<Self> {
        let database = remit_store::Options {
            hints,
            ..remit_tests::sql::patient(Postgres::database().await?)
        };
        let options = || Options {
            max_staleness: BOUND,
            deadline: Duration::from_mins(1),
            poll,
            ..Options::default()
        };
        let mut a = TestApp::sharing(&database, options()).await;
        let b = TestApp::sharing(&database, options()).await;
        a.put(&open()).await;
        let ana = a
            .person("ana", &[Role::Admin, Role::Operator], Scope::EVERY)
            .await;
        let ben = a.person("ben", &[Role::Admin], Scope::EVERY).await;
        let soon = json!(crate::agents::commands::ahead(30));
        let robot = with(with(body(), "review_at", soon.clone()), "ends_at", soon);
        let robot = with(robot, "owner", json!("ana"));
        let path = "/v1/agents/Agent/robot?wait=fleet";
        let made = a.send(a.request(Method::PUT, path), robot).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
        b.caught_up().await;
        Some(Self { a, b, ana, ben })
    }

    async fn set(&self, target: &Value, wait: &str) -> String {
        let body = json!({ "target": target, "reason": "incident 4711" });
        let path = format!("{KILLS}{wait}");
        let set = self.a.as_key(&self.ana, Method::POST, &path, &body).await;
        assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
        set.json()["id"].as_str().unwrap().to_owned()
    }

    /// Lifts a kill, on all replicas when it returns.
    async fn lift(&self, id: &str) {
        let lift = format!("{KILLS}/{id}/lift");
        let asked = self.a.as_key(&self.ana, Method::POST, &lift, &Value::Null);
        assert_eq!(asked.await.status, StatusCode::ACCEPTED);
        let path = format!("{lift}/confirm?wait=fleet");
        let done = self.a.as_key(&self.ben, Method::POST, &path, &Value::Null);
        assert_eq!(done.await.status, StatusCode::OK);
    }

    async fn asked(&self, tool: &str) -> String {
        reason(&call(&self.b, ("Agent", "robot"), tool, None).await)
    }
}

fn targets() -> Vec<Value> {
    vec![
        json!({ "kind": "everything" }),
        json!({ "kind": "tenant" }),
        json!({ "kind": "agent", "agent": { "type": "Agent", "id": "robot" } }),
        json!({ "kind": "tool", "tool": "call" }),
        json!({ "kind": "model", "model": "m-1" }),
    ]
}

#[tokio::test]
async fn a_kill_that_waited_is_in_force_on_every_replica_when_it_is_answered() {
    let Some(pair) = Pair::start(true, Duration::from_secs(1)).await else {
        return;
    };
    for target in targets() {
        assert_eq!(pair.asked("mail").await, "policy_permit", "{target}");
        let id = pair.set(&target, "?wait=fleet").await;
        let denied = call(&pair.b, ("Agent", "robot"), "mail", None).await;
        assert_eq!(reason(&denied), "killed", "{target}");
        let told = denied.json()["context"]["kill"].clone();
        assert_eq!(
            told,
            json!({ "id": id, "target": target, "reason": "incident 4711" })
        );
        pair.lift(&id).await;
    }
    // Whatever else is stopped is no business of this one.
    for target in [
        json!({ "kind": "agent", "agent": { "type": "Agent", "id": "other" } }),
        json!({ "kind": "model", "model": "m-2" }),
        json!({ "kind": "tool", "tool": "other" }),
        json!({ "kind": "task", "task": "019aa8e0-0000-7000-8000-000000000006" }),
    ] {
        pair.set(&target, "?wait=fleet").await;
        assert_eq!(pair.asked("mail").await, "policy_permit", "{target}");
    }
}

async fn is_in_force_within_the_bound(hints: bool, poll: Duration) {
    let Some(pair) = Pair::start(hints, poll).await else {
        return;
    };
    let mut all = Vec::new();
    for target in targets() {
        let began = Instant::now();
        let id = pair.set(&target, "").await;
        loop {
            let answer = call(&pair.b, ("Agent", "robot"), "mail", None).await;
            let took = began.elapsed();
            // One that is too old to permit answers nothing.
            if answer.status == StatusCode::SERVICE_UNAVAILABLE || reason(&answer) == "killed" {
                all.push(took);
                break;
            }
            assert!(took < BOUND, "{target}: still permitted after {took:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pair.lift(&id).await;
    }
    all.sort_unstable();
    assert!(all[all.len() / 2] < USUAL_BOUND, "{all:?}");
    println!(
        "kill to denial on the other replica, NOTIFY {hints}: {} ms at most",
        all[all.len() - 1].as_millis()
    );
}

#[tokio::test]
async fn a_kill_is_in_force_within_the_bound_where_the_database_tells() {
    is_in_force_within_the_bound(true, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_kill_is_in_force_within_the_bound_where_nobody_tells() {
    is_in_force_within_the_bound(false, Duration::from_secs(1)).await;
}

/// A replica that reads nothing any more decides nothing once the bound is over: it cannot miss a kill for longer.
#[tokio::test]
async fn a_replica_that_hears_nothing_permits_nothing_past_the_bound() {
    let mut test = TestApp::start(&open()).await;
    let person = ("Person", "tom");
    assert_eq!(
        reason(&call(&test, person, "mail", None).await),
        "policy_permit"
    );
    test.pause().await;
    let ana = "ana".parse().unwrap();
    let new = NewKill {
        id: KillId::from_uuid(test.clock.id()),
        target: &KillTarget::Tenant,
        reason: "incident 4711",
        by: &ana,
        key: remit_core::KeyId::from_uuid(test.clock.id()),
        at: test.clock.now(),
    };
    test.store
        .set_kill(test.tenant, new, Change::default())
        .await
        .unwrap();
    test.clock.advance(Duration::from_secs(6));
    let late = call(&test, person, "mail", None).await;
    assert_eq!(
        late.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        late.text
    );
    test.resume();
    test.caught_up().await;
    let heard = call(&test, person, "mail", None).await;
    assert_eq!(reason(&heard), "killed");
}

/// One of everything stops a tenant that has not changed, and one that comes later.
#[tokio::test]
async fn a_kill_of_everything_stops_the_other_tenants() {
    let test = TestApp::start(&open()).await;
    let ana = test
        .person("ana", &[Role::Admin, Role::Operator], Scope::EVERY)
        .await;
    let ben = test.person("ben", &[Role::Admin], Scope::EVERY).await;
    let guest = async |name: &str| {
        let tenant = test.store.ensure_tenant(name).await.unwrap();
        let bundle = open();
        let put = test.store.put_bundle(tenant, Expected::Any, &bundle, None);
        put.await.unwrap();
        let new = NewKey {
            name: name.to_owned(),
            environment: "dev".to_owned(),
            scopes: Scope::ALL.iter().copied().collect(),
            expires_at: None,
            principal: None,
        };
        let made = test.store.create_key(tenant, &new, &test.pepper).await;
        made.unwrap().1.reveal()
    };
    let ask = async |key: &str| {
        let question = json!({
            "subject": { "type": "Person", "id": "tom" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail" },
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let reply = test
                .as_key(key, Method::POST, "/access/v1/evaluation", &question)
                .await;
            if reply.status == StatusCode::OK {
                return reply;
            }
            assert!(Instant::now() < deadline, "{}", reply.text);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let early = guest("early").await;
    assert_eq!(reason(&ask(&early).await), "policy_permit");
    let body = json!({ "target": { "kind": "everything" }, "reason": "a breach" });
    let set = test.as_key(&ana, Method::POST, KILLS, &body).await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    let denied = ask(&early).await;
    assert_eq!(reason(&denied), "killed");
    assert_eq!(denied.json()["context"]["kill"]["reason"], "a breach");
    let late = guest("late").await;
    assert_eq!(reason(&ask(&late).await), "killed");
    // Their own kills they lift themselves, and not this one.
    let path = format!("{KILLS}/{}/lift", set.json()["id"].as_str().unwrap());
    let listed = test.as_key(&early, Method::GET, KILLS, &Value::Null).await;
    assert_eq!(listed.json()["kills"][0]["by"], "remit", "{}", listed.text);
    assert_eq!(listed.json()["kills"][0].get("revision"), None);
    let theirs = test.as_key(&early, Method::POST, &path, &Value::Null).await;
    assert!(theirs.status.is_client_error(), "{}", theirs.text);
    let asked = test.as_key(&ana, Method::POST, &path, &Value::Null).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    let confirm = format!("{path}/confirm");
    let done = test
        .as_key(&ben, Method::POST, &confirm, &Value::Null)
        .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    for key in [&early, &late] {
        assert_eq!(reason(&ask(key).await), "policy_permit");
    }
}
