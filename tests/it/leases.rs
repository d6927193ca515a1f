//! Leases: a permit holds for a while, and is decided again on what is known then.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, PrincipalKind, Role, Timestamp};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

mod approved;
mod outcomes;

use crate::tasks::{World as Tasks, id_of};

const LEASED: &str = "@id(\"leased\") @lease(\"60\") permit (principal is Agent, action == Action::\"get_file\", resource);\n";

/// What agents may do in tasks, with a lease for reading.
fn bundle(more: &str) -> Bundle {
    let mut bundle = crate::tasks::bundle();
    bundle.policies.push(remit_core::Source {
        file: "leases.cedar".to_owned(),
        text: format!("{LEASED}{more}"),
    });
    bundle
}

/// The API with agents and tasks, its log shipping to its store.
async fn world(more: &str) -> Tasks {
    let options = Options {
        // The clock is moved by more than the usual.
        max_staleness: Duration::from_hours(24 * 400),
        revision_wait: Duration::from_secs(20),
        ..Options::default()
    };
    let mut test = TestApp::empty(options).await;
    let (log, store) = (test.log.clone(), test.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    test.put(&bundle(more)).await;
    Tasks::over(test).await
}

/// Opens a task of an agent.
async fn open(world: &Tasks, members: Value) -> String {
    let mut body = crate::tasks::task("bot");
    body.as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    let opened = world
        .test
        .as_key(&world.ops, Method::POST, "/v1/tasks", &body);
    let opened = opened.await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    id_of(&opened)
}

async fn read(world: &Tasks, task: Option<&str>) -> Reply {
    let question = crate::tasks::question("bot", &crate::tasks::read(), task);
    let asked = world.test.post("/access/v1/evaluation", question).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    asked
}

async fn renew(test: &TestApp, key: &str, id: &str) -> Reply {
    let path = format!("/v1/leases/{id}");
    test.as_key(key, Method::POST, &path, &Value::Null).await
}

fn lease(reply: &Reply) -> (String, Timestamp) {
    let lease = &reply.json()["context"]["lease"];
    let text = |member: &str| lease[member].as_str().unwrap_or_default().to_owned();
    let expires_at = text("expires_at").parse();
    (
        text("id"),
        expires_at.unwrap_or_else(|_| panic!("{}", reply.text)),
    )
}

fn over(reply: &Reply, why: &str) {
    assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text);
    assert_eq!(reply.json()["code"], "lease-over");
    assert!(reply.text.contains(why), "{why}: {}", reply.text);
}

async fn advance(test: &TestApp, by: Duration) {
    test.clock.advance(by);
    test.caught_up().await;
}

#[tokio::test]
async fn a_permit_is_renewed_while_it_would_be_given() {
    let world = world("").await;
    let test = &world.test;
    let asked = read(&world, None).await;
    let root = asked.header("x-decision-id").to_owned();
    let minute = Duration::from_mins(1);
    assert_eq!(lease(&asked), (root.clone(), test.clock.now().plus(minute)));
    advance(test, Duration::from_secs(50)).await;
    let renewed = renew(test, &test.key, &root).await;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text);
    assert_eq!(renewed.json()["decision"], json!(true));
    assert_eq!(
        lease(&renewed),
        (root.clone(), test.clock.now().plus(minute))
    );
    // It is a decision of its own, which is no lease.
    let second = renewed.header("x-decision-id").to_owned();
    assert_ne!(second, root);
    let record = test.get(&format!("/v1/decisions/{second}")).await.json();
    assert_eq!(record["facts"]["lease"], json!(root));
    over(&renew(test, &test.key, &second).await, &root);
    // A kill ends it: also when the kill is lifted.
    let stopper = test
        .key_of(PrincipalKind::Machine, "stopper", &[Role::Operator])
        .await;
    let target = json!({ "kind": "agent", "agent": { "type": "Agent", "id": "bot" } });
    let kill = json!({ "target": target, "reason": "x" });
    let set = test
        .as_key(&stopper, Method::POST, "/v1/kills", &kill)
        .await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    let denied = renew(test, &test.key, &root).await;
    assert_eq!(denied.status, StatusCode::OK, "{}", denied.text);
    let answer = denied.json();
    assert_eq!(
        (&answer["decision"], &answer["context"]["reason"]),
        (&json!(false), &json!("killed"))
    );
    assert_eq!(answer["context"].get("lease"), None);
    over(&renew(test, &test.key, &root).await, "ended it");
}

#[tokio::test]
async fn what_is_no_lease_is_not_renewed() {
    let world = world("").await;
    let test = &world.test;
    let unknown = renew(test, &test.key, "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.text);
    let asked = read(&world, None).await;
    let root = asked.header("x-decision-id").to_owned();
    // Another principal's is not there; another key of the same principal is as good.
    let other = test.key_of(PrincipalKind::Machine, "gateway", &[]).await;
    let theirs = renew(test, &other, &root).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{}", theirs.text);
    let plain = crate::tasks::question("bot", &crate::tasks::pay(), None);
    let plain = test.post("/access/v1/evaluation", plain).await;
    assert_eq!(plain.json()["context"].get("lease"), None);
    over(
        &renew(test, &test.key, plain.header("x-decision-id")).await,
        "has none",
    );
    let denied = crate::tasks::question("nobody", &crate::tasks::read(), None);
    let denied = test.post("/access/v1/evaluation", denied).await;
    assert_eq!(denied.json()["decision"], json!(false));
    over(
        &renew(test, &test.key, denied.header("x-decision-id")).await,
        "has none",
    );
    let day_but_one = Duration::from_micros(24 * 60 * 60 * 1_000_000 - 1);
    advance(test, day_but_one).await;
    let last = renew(test, &test.key, &root).await;
    assert_eq!(last.json()["decision"], json!(true), "{}", last.text);
    advance(test, Duration::from_micros(1)).await;
    over(&renew(test, &test.key, &root).await, "until");
}

/// What was permitted in one environment is decided again in no other, be it by a key of the same principal.
#[tokio::test]
async fn another_environment_renews_nothing() {
    let world = world("").await;
    let test = &world.test;
    let gateway = test.key_of(PrincipalKind::Machine, "gateway", &[]).await;
    let question = crate::tasks::question("bot", &crate::tasks::read(), None);
    let path = "/access/v1/evaluation";
    let asked = test.as_key(&gateway, Method::POST, path, &question).await;
    let root = asked.header("x-decision-id").to_owned();
    let body = json!({ "name": "two", "environment": "live", "scopes": ["evaluate"], "principal": "gateway" });
    let made = test.post("/v1/keys", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let other = made.json()["key"].as_str().unwrap().to_owned();
    test.caught_up().await;
    let there = renew(test, &other, &root).await;
    assert_eq!(there.status, StatusCode::NOT_FOUND, "{}", there.text);
    let here = renew(test, &gateway, &root).await;
    assert_eq!(here.json()["decision"], json!(true), "{}", here.text);
}

/// What a permit used is used once, however often it is renewed; and it ends with its task.
#[tokio::test]
async fn nothing_is_charged_twice_and_a_task_ends_it() {
    let world = world("").await;
    let test = &world.test;
    let members = json!({ "budget": { "calls": 2 } });
    let task = open(&world, members).await;
    let asked = read(&world, Some(&task)).await;
    assert_eq!(asked.json()["decision"], json!(true), "{}", asked.text);
    let root = asked.header("x-decision-id").to_owned();
    for _ in 0..5 {
        let renewed = renew(test, &test.key, &root).await;
        assert_eq!(renewed.json()["decision"], json!(true), "{}", renewed.text);
    }
    let second = read(&world, Some(&task)).await;
    assert_eq!(second.json()["decision"], json!(true), "{}", second.text);
    let third = read(&world, Some(&task)).await;
    assert_eq!(
        third.json()["context"]["reason"],
        "budget_exhausted",
        "{}",
        third.text
    );
    // Used up as the budget is, what was permitted goes on.
    let renewed = renew(test, &test.key, &root).await;
    assert_eq!(renewed.json()["decision"], json!(true), "{}", renewed.text);
    let revoke = format!("/v1/tasks/{task}/revoke");
    let revoked = test
        .as_key(&world.ops, Method::POST, &revoke, &Value::Null)
        .await;
    assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.text);
    let denied = renew(test, &test.key, &root).await;
    assert_eq!(denied.json()["decision"], json!(false), "{}", denied.text);
}

/// A lease is never longer than what it rests on.
#[tokio::test]
async fn it_ends_with_the_task_and_with_an_exception() {
    let forbids =
        "@id(\"no-reading\") forbid (principal, action == Action::\"get_file\", resource);";
    let world = world(forbids).await;
    let test = &world.test;
    let ana = test.person("ana", &[Role::Publisher], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Approver], Scope::ALL).await;
    let until = test.clock.now().plus(Duration::from_secs(30));
    let body = json!({
        "policy": "no-reading", "scope": { "action": "get_file" }, "owner": "ana", "reason": "x", "compensating": "x",
        "until": until,
    });
    let made = test
        .as_key(&ana, Method::POST, "/v1/exceptions", &body)
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let path = format!("/v1/exceptions/{}/confirm", id_of(&made));
    let seen = json!({ "seen": made.json()["hash"] });
    let done = test.as_key(&ben, Method::POST, &path, &seen).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let asked = read(&world, None).await;
    let (root, expires_at) = lease(&asked);
    assert_eq!(expires_at, until, "not a minute: the exception ends before");
    advance(test, Duration::from_secs(29)).await;
    let (_, expires_at) = lease(&renew(test, &test.key, &root).await);
    assert_eq!(expires_at, until);
    advance(test, Duration::from_secs(1)).await;
    let denied = renew(test, &test.key, &root).await;
    assert_eq!(denied.json()["decision"], json!(false), "{}", denied.text);
}

/// After the revision that forbids it no renewal permits: asked again and again while it comes.
#[tokio::test]
async fn no_renewal_permits_after_the_revision_that_ends_it() {
    let mut world = world("").await;
    let asked = read(&world, None).await;
    let root = asked.header("x-decision-id").to_owned();
    let end = "@id(\"stop\") forbid (principal, action == Action::\"get_file\", resource);";
    let store = world.test.store.clone();
    let (tenant, forbidding) = (world.test.tenant, bundle(end));
    let putting = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let put = store.put_bundle(tenant, remit_store::Expected::Any, &forbidding, None);
        put.await.unwrap()
    });
    let (mut permits, mut denial) = (0, None);
    let mut seen = Vec::new();
    while denial.is_none() {
        let reply = renew(&world.test, &world.test.key, &root).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let revision: u64 = reply.header("remit-revision").parse().unwrap();
        seen.push((revision, reply.json()["decision"] == json!(true)));
        if reply.json()["decision"] == json!(true) {
            permits += 1;
        } else {
            denial = Some(revision);
        }
    }
    let ended = putting.await.unwrap().number();
    println!("{permits} renewals permitted before revision {ended}");
    assert!(
        seen.iter()
            .all(|(revision, permits)| *permits == (*revision < ended)),
        "{seen:?}"
    );
    world.test.put(&bundle("")).await;
    over(
        &renew(&world.test, &world.test.key, &root).await,
        "ended it",
    );
}

/// A renewal that was begun before another replica ended the lease does not permit after that.
#[tokio::test]
async fn one_that_ends_meanwhile_is_not_renewed() {
    let world = world("").await;
    let test = &world.test;
    let asked = read(&world, None).await;
    let root = asked.header("x-decision-id").to_owned();
    let now: u64 = asked.header("remit-revision").parse().unwrap();
    // It waits for a revision that comes when the lease has ended.
    let path = format!("/v1/leases/{root}");
    let request = test
        .request(Method::POST, &path)
        .header("remit-revision", (now + 1).to_string());
    let ends = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (at, day) = (test.clock.now(), Duration::from_hours(24));
        let id = root.parse().unwrap();
        let ended = test.store.end_lease(test.tenant, id, (at, day)).await;
        ended.unwrap();
        test.principal("late", PrincipalKind::Person, &[]).await;
    };
    let (renewed, ()) = tokio::join!(test.send(request, ""), ends);
    over(&renewed, "ended it");
}

/// What ended stays so in a process that starts anew, be it by an earlier clock; what did not is renewed there.
#[tokio::test]
async fn a_lease_that_ended_is_not_renewed_by_a_fresh_process() {
    let mut world = world("").await;
    let first = world.test.clock.now();
    let forbidden = read(&world, None).await.header("x-decision-id").to_owned();
    let stop = "@id(\"stop\") forbid (principal, action == Action::\"get_file\", resource);";
    world.test.put(&bundle(stop)).await;
    advance(&world.test, Duration::from_secs(50)).await;
    let denied = renew(&world.test, &world.test.key, &forbidden).await;
    assert_eq!(denied.json()["decision"], json!(false), "{}", denied.text);
    world.test.put(&bundle("")).await;
    let test = &world.test;
    let lasting = read(&world, None).await.header("x-decision-id").to_owned();
    test.log.caught_up(Duration::from_secs(10)).await;
    // Manual clocks count their ids: none of them stands where another does.
    for clock in [test.clock.now(), first] {
        let clock = remit_core::Clock::manual(clock.plus(Duration::from_millis(1)));
        let options = Options {
            max_staleness: Duration::from_hours(24 * 400),
            ..Options::default()
        };
        let again = TestApp::by(&test.database, &clock, &clock, options).await;
        again.caught_up().await;
        over(&renew(&again, &test.key, &forbidden).await, "ended it");
        let renewed = renew(&again, &test.key, &lasting).await;
        assert_eq!(renewed.json()["decision"], json!(true), "{}", renewed.text);
    }
    over(&renew(test, &test.key, &forbidden).await, "ended it");
}
