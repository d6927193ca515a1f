//! Break-glass: nobody alone, for minutes to the microsecond, and every use of it on record.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{PrincipalKind, Role};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use remit_tests::postgres::Postgres;
use serde_json::{Value, json};

use crate::drafts::refused;
mod commands;
mod policies;

use crate::second_person::{demand, disable, permit};

const PATH: &str = "/v1/break-glass";

/// A tenant that demands a second person, and people in it.
struct World {
    test: TestApp,
    /// Has the role `admin` and nothing else.
    ana: String,
    /// Approves.
    ben: String,
    /// Has no role at all.
    maya: String,
}

// === impl World ===

impl World {
    async fn make() -> Self {
        let options = Options {
            // The clock is moved by more than the usual.
            max_staleness: Duration::from_hours(24),
            ..Options::default()
        };
        let mut test = TestApp::empty(options).await;
        test.put(&pack("starter")).await;
        Self::over(test).await
    }

    async fn over(test: TestApp) -> Self {
        let person = PrincipalKind::Person;
        let ana = test.key_of(person, "ana", &[Role::Admin]).await;
        let ben = test.key_of(person, "ben", &[Role::Approver]).await;
        let maya = test.key_of(person, "maya", &[]).await;
        demand(&test, true).await;
        Self {
            test,
            ana,
            ben,
            maya,
        }
    }

    /// Asks as Ana for a grant of Maya's.
    async fn asked(&self) -> String {
        let body = json!({ "principal": "maya", "reason": "incident 4711" });
        let asked = self.test.as_key(&self.ana, Method::POST, PATH, &body).await;
        assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
        let id = asked.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(asked.header("location"), format!("{PATH}/{id}"));
        id
    }

    async fn approve(&self, key: &str, id: &str) -> Reply {
        let path = format!("{PATH}/{id}/approve");
        self.test
            .as_key(key, Method::POST, &path, &Value::Null)
            .await
    }

    async fn end(&self, key: &str, id: &str) -> Reply {
        let path = format!("{PATH}/{id}");
        self.test
            .as_key(key, Method::DELETE, &path, &Value::Null)
            .await
    }

    /// Gives Maya a grant that is active.
    async fn granted(&self) -> String {
        let id = self.asked().await;
        let approved = self.approve(&self.ben, &id).await;
        assert_eq!(approved.status, StatusCode::OK, "{}", approved.text);
        assert_eq!(approved.json()["state"], "active");
        id
    }

    /// Puts a policy that loosens, as Maya.
    async fn loosen(&self, id: &str) -> Reply {
        loosen(&self.test, &self.maya, id).await
    }

    async fn state(&self, id: &str) -> Value {
        self.test.get(&format!("{PATH}/{id}")).await.json()["state"].clone()
    }

    async fn actions(&self, action: &str, verdict: &str) -> Vec<Value> {
        let path = format!("/v1/admin/actions?action={action}&verdict={verdict}");
        let page = self.test.get(&path).await.json();
        page["actions"].as_array().unwrap().clone()
    }
}

async fn loosen(test: &TestApp, key: &str, id: &str) -> Reply {
    let path = format!("/v1/policies/{id}");
    let request = test
        .request_with(key, Method::PUT, &path)
        .header("if-none-match", "*");
    test.send(request, json!({ "text": permit(id) })).await
}

fn done(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

fn forbidden(reply: &Reply) -> Value {
    refused(reply, StatusCode::FORBIDDEN, "not-permitted")
}

#[tokio::test]
async fn what_is_asked_for_says_who_and_why_and_how_long() {
    let world = World::make().await;
    let test = &world.test;
    let ask = async |key: &str, body: Value| test.as_key(key, Method::POST, PATH, &body).await;
    for (body, names) in [
        (json!({}), "reason"),
        (json!({ "reason": "" }), "`reason`"),
        (json!({ "reason": " " }), "`reason`"),
        (json!({ "reason": "a\nb" }), "reason"),
        (json!({ "reason": "x".repeat(1_025) }), "reason"),
        (json!({ "reason": "x", "minutes": 0 }), "`minutes`"),
        (json!({ "reason": "x", "minutes": 61 }), "`minutes`"),
        (json!({ "reason": "x", "minutes": 300 }), "minutes"),
        (json!({ "reason": "x", "roles": [] }), "`roles`"),
        (
            json!({ "reason": "x", "roles": ["approver"] }),
            "`approver`",
        ),
        (json!({ "reason": "x", "roles": ["king"] }), "roles"),
        (json!({ "reason": "x", "until": "never" }), "until"),
    ] {
        let reply = ask(&world.ana, body.clone()).await;
        let problem = refused(&reply, StatusCode::BAD_REQUEST, "invalid-request");
        assert!(
            problem["detail"].as_str().unwrap().contains(names),
            "{body}: {problem}"
        );
    }
    // Nobody who is not there, no machine, and nobody who is disabled.
    test.principal("robot", PrincipalKind::Machine, &[]).await;
    test.principal("gone", PrincipalKind::Person, &[]).await;
    disable(test, "gone").await;
    for who in ["nobody", "robot", "gone"] {
        let reply = ask(&world.ana, json!({ "principal": who, "reason": "x" })).await;
        refused(&reply, StatusCode::CONFLICT, "conflict");
    }
    // The key that may do everything is bound to nobody, and so is a machine: whose, nobody knows.
    let unbound = ask(&test.key, json!({ "principal": "maya", "reason": "x" })).await;
    let problem = forbidden(&unbound);
    assert_eq!(problem["policies"], json!(["remit.person-breaks-glass"]));
    for key in [&world.ben, &world.maya] {
        forbidden(&ask(key, json!({ "reason": "x" })).await);
    }
    let asked = ask(&world.ana, json!({ "reason": "x" })).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
    let asked = asked.json();
    assert_eq!(asked["principal"], "ana");
    assert_eq!(asked["roles"], json!(["publisher", "admin"]));
    assert_eq!(
        (&asked["minutes"], &asked["state"]),
        (&json!(15), &json!("pending"))
    );
    let again = ask(&world.ana, json!({ "reason": "x" })).await;
    refused(&again, StatusCode::CONFLICT, "conflict");
    let absent = format!("{PATH}/019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77");
    for (method, path) in [
        (Method::GET, absent.clone()),
        (Method::DELETE, absent.clone()),
        (Method::POST, format!("{absent}/approve")),
    ] {
        let reply = test.as_key(&test.key, method, &path, &Value::Null).await;
        if reply.status != StatusCode::NOT_FOUND {
            // The key that may do everything is not an approver.
            forbidden(&reply);
        }
    }
    let by_ben = world
        .approve(&world.ben, "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77")
        .await;
    refused(&by_ben, StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn nobody_approves_it_alone() {
    let world = World::make().await;
    let test = &world.test;
    let both = [Role::Admin, Role::Approver];
    let eve = test.key_of(PrincipalKind::Person, "eve", &both).await;
    let again = test.key_of(PrincipalKind::Person, "eve", &both).await;
    let robot = test.key_of(PrincipalKind::Machine, "robot", &both).await;
    // The demand for a second person is always there, whatever the settings say.
    demand(test, false).await;
    let body = json!({ "reason": "incident 4711" });
    let own = test.as_key(&eve, Method::POST, PATH, &body).await.json();
    let own = own["id"].as_str().unwrap();
    for key in [&eve, &again] {
        let problem = forbidden(&world.approve(key, own).await);
        assert_eq!(problem["policies"], json!(["remit.own-review"]));
    }
    let problem = forbidden(&world.approve(&robot, own).await);
    assert_eq!(problem["policies"], json!(["remit.person-reviews"]));
    for key in [&world.ana, &world.maya, &test.key] {
        forbidden(&world.approve(key, own).await);
    }
    // Not whoever is to have it either.
    let body = json!({ "principal": "ben", "reason": "incident 4711" });
    let bens = test
        .as_key(&world.ana, Method::POST, PATH, &body)
        .await
        .json();
    let bens = bens["id"].as_str().unwrap();
    forbidden(&world.approve(&world.ben, bens).await);
    // Nor somebody who was disabled, whose key this replica knows no more.
    let tom = test.key_of(PrincipalKind::Person, "tom", &both).await;
    disable(test, "tom").await;
    let gone = world.approve(&tom, bens).await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED, "{}", gone.text);
    assert_eq!(world.state(own).await, "pending");
    assert_eq!(world.state(bens).await, "pending");
    assert_eq!(world.actions("approve_break_glass", "deny").await.len(), 7);

    done(&world.approve(&eve, bens).await);
    // Whoever asked may not any more.
    let mine = world.asked().await;
    test.principal("ana", PrincipalKind::Person, &[Role::Reader])
        .await;
    let reply = world.approve(&world.ben, &mine).await;
    refused(&reply, StatusCode::CONFLICT, "conflict");
    test.principal("ana", PrincipalKind::Person, &[Role::Admin])
        .await;
    disable(test, "maya").await;
    let reply = world.approve(&world.ben, &mine).await;
    refused(&reply, StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn what_loosens_goes_through_and_is_on_record() {
    let world = World::make().await;
    let test = &world.test;
    forbidden(&world.loosen("early").await);
    let id = world.asked().await;
    forbidden(&world.loosen("early").await);
    let approved = world.approve(&world.ben, &id).await.json();
    assert_eq!(approved["approved_by"], "ben");
    done(&world.loosen("now").await);
    let record = world.actions("put_policy", "permit").await[0].clone();
    assert_eq!(record["break_glass"], json!(id));
    assert_eq!(record["principal"], "maya");
    assert_eq!(record["loosens"], true);
    assert_eq!(record["determining"], json!(["remit.publisher"]));
    assert_eq!(record["roles"], json!(["publisher", "admin"]));
    // The records of the grant name it, and rest on none.
    for action in ["request_break_glass", "approve_break_glass"] {
        let record = world.actions(action, "permit").await[0].clone();
        assert_eq!(record["break_glass"], Value::Null, "{action}");
        assert_eq!(record["details"]["principal"], "maya");
        assert_eq!(record["details"]["reason"], "incident 4711");
    }
    // What others do rests on nothing of it, and is held as before.
    let max = [Role::Publisher];
    let max = test.key_of(PrincipalKind::Person, "max", &max).await;
    refused(
        &loosen(test, &max, "other").await,
        StatusCode::FORBIDDEN,
        "review-required",
    );
    let tom = json!({ "kind": "person", "roles": [] });
    let path = "/v1/principals/tom";
    done(&test.as_key(&world.ana, Method::PUT, path, &tom).await);
    assert_eq!(
        world.actions("put_principal", "permit").await[0]["break_glass"],
        Value::Null
    );
    // It is told to its holder, and to whoever reads the settings.
    let who = test
        .as_key(&world.maya, Method::GET, "/v1/whoami", &Value::Null)
        .await;
    assert_eq!(who.json()["break_glass"]["id"], json!(id));
    assert_eq!(who.json()["break_glass"]["ends_at"], approved["ends_at"]);
    assert_eq!(who.json()["principal"]["roles"], json!([]));
    let who = test
        .as_key(&world.ben, Method::GET, "/v1/whoami", &Value::Null)
        .await;
    assert_eq!(who.json().get("break_glass"), None);
    assert_eq!(
        test.get("/v1/settings").await.json()["break_glass"],
        json!([id])
    );
    assert!(
        test.operations("/metrics")
            .await
            .text
            .contains("remit_break_glass_active 1")
    );
    let page = test.get(&format!("{PATH}?limit=1")).await.json();
    assert_eq!(page["grants"][0]["id"], json!(id));

    // It gives no scope, makes nobody a second person, and begets no other.
    let read = test.person("maya", &[], &[Scope::Read]).await;
    refused(
        &loosen(test, &read, "scope").await,
        StatusCode::FORBIDDEN,
        "missing-scope",
    );
    let body = json!({ "principal": "ben", "reason": "more" });
    forbidden(&test.as_key(&world.maya, Method::POST, PATH, &body).await);
    let confirm = json!({ "second_person": false });
    let request = test.request_with(&world.ana, Method::PUT, "/v1/settings");
    let asked = test.send(request.header("if-match", "*"), &confirm).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
    let path = "/v1/settings/confirm";
    forbidden(&test.as_key(&world.maya, Method::POST, path, &confirm).await);
}

#[tokio::test]
async fn its_end_is_exact_and_nothing_has_to_happen_for_it() {
    let world = World::make().await;
    let test = &world.test;
    let id = world.granted().await;
    test.clock
        .advance(Duration::from_mins(15) - Duration::from_micros(1));
    done(&world.loosen("last").await);
    assert_eq!(world.state(&id).await, "active");
    test.clock.advance(Duration::from_micros(1));
    assert_eq!(world.state(&id).await, "ended");
    forbidden(&world.loosen("late").await);
    assert_eq!(
        test.get("/v1/settings").await.json().get("break_glass"),
        None
    );
    assert!(
        test.operations("/metrics")
            .await
            .text
            .contains("remit_break_glass_active 0")
    );
    refused(
        &world.end(&world.maya, &id).await,
        StatusCode::CONFLICT,
        "conflict",
    );
    // One that nobody approves within the hour is over too.
    let late = world.asked().await;
    test.clock
        .advance(Duration::from_hours(1) - Duration::from_micros(1));
    assert_eq!(world.state(&late).await, "pending");
    test.clock.advance(Duration::from_micros(1));
    assert_eq!(world.state(&late).await, "ended");
    let reply = world.approve(&world.ben, &late).await;
    refused(&reply, StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn a_clock_that_is_set_back_brings_nothing_back() {
    let world = World::make().await;
    let (test, later) = (&world.test, Duration::from_mins(15));
    let id = world.granted().await;
    let first = test.clock.now();
    test.clock.advance(later);
    forbidden(&world.loosen("late").await);
    // Its end was noted: by the time at which it was active, a store that knows no later one has none either.
    let maya = "maya".parse().unwrap();
    let clock = remit_core::Clock::manual(first);
    let store = test.store_by(clock).await;
    let found = store.standing(test.tenant, &maya, first).await.unwrap();
    assert_eq!((found.at, found.grant), (first, None));
    let id = id.parse().unwrap();
    let stored = store.break_glass(test.tenant, id).await.unwrap().unwrap();
    assert!(!stored.is_active(first));
    assert_eq!(stored.ended_at, stored.ends_at);
}

#[tokio::test]
async fn whoever_has_to_do_with_it_ends_it() {
    let world = World::make().await;
    let test = &world.test;
    let tom = [Role::Publisher, Role::Auditor];
    let tom = test.key_of(PrincipalKind::Person, "tom", &tom).await;
    let eve = test
        .key_of(PrincipalKind::Person, "eve", &[Role::Admin])
        .await;
    for key in [&world.maya, &world.ana, &world.ben, &eve] {
        let id = world.granted().await;
        forbidden(&world.end(&tom, &id).await);
        let ended = world.end(key, &id).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
        forbidden(&world.loosen("late").await);
        refused(&world.end(key, &id).await, StatusCode::CONFLICT, "conflict");
        refused(
            &world.approve(&world.ben, &id).await,
            StatusCode::CONFLICT,
            "conflict",
        );
    }
    // And what waits is taken back.
    let id = world.asked().await;
    let ended = world.end(&world.ana, &id).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
    let shown = test.get(&format!("{PATH}/{id}")).await.json();
    assert_eq!(
        (&shown["state"], &shown["ended_by"]),
        (&json!("ended"), &json!("ana"))
    );
    refused(
        &world.approve(&world.ben, &id).await,
        StatusCode::CONFLICT,
        "conflict",
    );
}

#[tokio::test]
async fn a_principal_that_is_disabled_has_none() {
    let world = World::make().await;
    world.granted().await;
    disable(&world.test, "maya").await;
    let reply = world.loosen("late").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{}", reply.text);
}

#[tokio::test]
async fn of_two_who_approve_at_once_one_comes_second() {
    let world = World::make().await;
    let eve = [Role::Approver];
    let eve = world.test.key_of(PrincipalKind::Person, "eve", &eve).await;
    let id = world.asked().await;
    let (one, two) = tokio::join!(world.approve(&world.ben, &id), world.approve(&eve, &id));
    let mut statuses = [one.status, two.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::CONFLICT]);
    assert_eq!(
        world.actions("approve_break_glass", "permit").await.len(),
        1
    );
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_made_once() {
    let world = World::make().await;
    let test = &world.test;
    let send = async |key: &str, method: Method, path: &str, name: &str, body: Value| {
        let request = test
            .request_with(key, method, path)
            .header("idempotency-key", name);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        test.send(request, body).await
    };
    let body = json!({ "principal": "maya", "reason": "incident 4711" });
    let asked = send(&world.ana, Method::POST, PATH, "ask", body.clone()).await;
    let again = send(&world.ana, Method::POST, PATH, "ask", body).await;
    assert_eq!((asked.status, &asked.text), (again.status, &again.text));
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    let path = format!("{PATH}/{id}/approve");
    let given = send(&world.ben, Method::POST, &path, "yes", Value::Null).await;
    let again = send(&world.ben, Method::POST, &path, "yes", Value::Null).await;
    done(&given);
    assert_eq!(given.text, again.text);
    let path = format!("{PATH}/{id}");
    for _ in 0..2 {
        let ended = send(&world.ana, Method::DELETE, &path, "end", Value::Null).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_over_on_every_replica_at_once() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let database = remit_tests::sql::patient(url);
    let options = |name: &str| Options {
        replica: name.to_owned(),
        // So rarely that nothing of this test arrives by a poll.
        poll: Duration::from_secs(1),
        max_staleness: Duration::from_secs(30),
        deadline: Duration::from_mins(1),
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, options("a")).await;
    a.put(&pack("starter")).await;
    let b = TestApp::sharing(&database, options("b")).await;
    let world = World::over(a).await;
    b.caught_up().await;
    let id = world.asked().await;
    forbidden(&loosen(&b, &world.maya, "early").await);
    done(&world.approve(&world.ben, &id).await);
    done(&loosen(&b, &world.maya, "now").await);
    assert_eq!(
        world.end(&world.ana, &id).await.status,
        StatusCode::NO_CONTENT
    );
    forbidden(&loosen(&b, &world.maya, "late").await);
    // Two approvals, one at each replica.
    let eve = [Role::Approver];
    let eve = world.test.key_of(PrincipalKind::Person, "eve", &eve).await;
    b.caught_up().await;
    let id = world.asked().await;
    let path = format!("{PATH}/{id}/approve");
    let (one, two) = tokio::join!(
        world.approve(&world.ben, &id),
        b.as_key(&eve, Method::POST, &path, &Value::Null)
    );
    let mut statuses = [one.status, two.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::CONFLICT]);
}
