//! Revocations: told after they are in force where they are told, without loss, and a gap where that is not known.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{PrincipalKind, Role};
use remit_store::Scope;
use remit_tests::app::{TestApp, Unread};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

mod leaps;
mod processes;

const PATH: &str = "/v1/revocations";
const PATIENCE: Duration = Duration::from_secs(20);

/// One event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

/// What came of a stream, cut into events and comments.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    /// Takes the next part that is whole: an event, or the text of a comment.
    fn next(&mut self) -> Option<Result<Event, String>> {
        let end = self.0.find("\n\n")?;
        let part: String = self.0.drain(..end + 2).collect();
        if let Some(comment) = part.strip_prefix(": ") {
            return Some(Err(comment.trim().to_owned()));
        }
        let member = |name: &str| {
            let prefix = format!("{name}: ");
            let mut found = part.lines().filter_map(|line| line.strip_prefix(&prefix));
            found.next().unwrap_or_default().to_owned()
        };
        Some(Ok(Event {
            id: member("id"),
            kind: member("event"),
            data: serde_json::from_str(&member("data")).unwrap(),
        }))
    }
}

/// A stream of this process.
struct Stream {
    body: Unread,
    text: Text,
}

impl Stream {
    async fn open(test: &TestApp, last: Option<&str>) -> Self {
        Self::open_by(test, &test.key, last).await
    }

    async fn open_by(test: &TestApp, key: &str, last: Option<&str>) -> Self {
        let mut request = test.request_with(key, Method::GET, PATH);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let (status, body) = test.unread(request).await;
        assert_eq!(status, StatusCode::OK);
        Self {
            body,
            text: Text::default(),
        }
    }

    /// Returns the next event or comment; `None` where the stream has ended.
    async fn part(&mut self) -> Option<Result<Event, String>> {
        loop {
            if let Some(part) = self.text.next() {
                return Some(part);
            }
            let part = tokio::time::timeout(PATIENCE, self.body.part()).await;
            self.text.0.push_str(&part.expect("nothing came")?);
        }
    }

    /// Returns the next event; heartbeats are none, however long they go on.
    async fn event(&mut self) -> Event {
        let event = async {
            loop {
                let part = self.part().await.expect("the stream ended");
                if let Ok(event) = part {
                    return event;
                }
            }
        };
        let event = tokio::time::timeout(PATIENCE, event).await;
        event.expect("nothing but heartbeats came")
    }

    /// Reads on until something of a kind is told.
    async fn until(&mut self, kind: &str) -> Event {
        loop {
            let event = self.event().await;
            assert_eq!(event.kind, "revoked", "{event:?}");
            assert_eq!(event.id, event.data["revision"].to_string());
            let changes = event.data["changes"].as_array().unwrap();
            if changes.iter().any(|change| change["kind"] == kind) {
                return event;
            }
        }
    }
}

async fn set_kill(test: &TestApp, target: &Value) -> String {
    let body = json!({ "target": target, "reason": "incident 4711" });
    let set = test.post("/v1/kills", body).await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    set.json()["id"].as_str().unwrap().to_owned()
}

fn tool(name: &str) -> Value {
    json!({ "kind": "tool", "tool": name })
}

fn change<'a>(event: &'a Event, kind: &str) -> &'a Value {
    let changes = event.data["changes"].as_array().unwrap();
    let mut found = changes.iter().filter(|change| change["kind"] == kind);
    found.next().unwrap()
}

#[tokio::test]
async fn everything_that_is_different_is_told() {
    let mut test = TestApp::empty(Options::default()).await;
    test.put(&crate::tasks::bundle()).await;
    let world = crate::tasks::World::over(test).await;
    let test = &world.test;
    let mut stream = Stream::open(test, None).await;
    let ready = stream.event().await;
    assert_eq!(ready.kind, "ready");
    assert_eq!(ready.id, ready.data["revision"].to_string());

    let kill = set_kill(test, &tool("stray")).await;
    let told = stream.until("kill_set").await;
    assert_eq!(
        change(&told, "kill_set"),
        &json!({ "kind": "kill_set", "kill": kill, "target": tool("stray") })
    );
    let admin = test.person("root", &[Role::Admin], Scope::ALL).await;
    let boss = test.person("ben", &[Role::Admin], Scope::ALL).await;
    for (key, path) in [(&admin, "lift"), (&boss, "lift/confirm")] {
        let path = format!("/v1/kills/{kill}/{path}");
        let done = test.as_key(key, Method::POST, &path, &Value::Null).await;
        assert!(done.status.is_success(), "{}", done.text);
    }
    let told = stream.until("kill_lifted").await;
    assert_eq!(change(&told, "kill_lifted")["kill"], json!(kill));

    let bot = json!({ "type": "Agent", "id": "bot" });
    let suspended = test.post("/v1/agents/Agent/bot/suspend", "").await;
    assert!(suspended.status.is_success(), "{}", suspended.text);
    assert_eq!(change(&stream.until("agent").await, "agent")["agent"], bot);

    let other = json!({ "type": "Agent", "id": "other" });
    let body = json!({ "agent": other, "purpose": "work" });
    let opened = test
        .as_key(&world.ops, Method::POST, "/v1/tasks", &body)
        .await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    let task = opened.json()["id"].clone();
    let path = format!("/v1/tasks/{}/revoke", task.as_str().unwrap());
    let revoked = test
        .as_key(&world.ops, Method::POST, &path, &Value::Null)
        .await;
    assert!(revoked.status.is_success(), "{}", revoked.text);
    let told = stream.until("task").await;
    assert_eq!(
        change(&told, "task"),
        &json!({ "kind": "task", "task": task, "state": "revoked" })
    );

    let mail = json!({ "effect": "egress", "integrity": "trusted", "confidentiality": "public" });
    let put = test
        .send(test.request(Method::PUT, "/v1/tools/mail"), mail)
        .await;
    assert!(put.status.is_success(), "{}", put.text);
    assert_eq!(change(&stream.until("tool").await, "tool")["tool"], "mail");

    let entity = test.request(Method::PUT, "/v1/entities/File/new");
    let put = test.send(entity, json!({ "attrs": {} })).await;
    assert!(put.status.is_success(), "{}", put.text);
    stream.until("entities").await;

    let key = json!({ "name": "one", "environment": "dev", "scopes": ["read"] });
    let key = test.post("/v1/keys", key).await.json()["id"].clone();
    let path = format!("/v1/keys/{}", key.as_str().unwrap());
    let gone = test
        .as_key(&test.key, Method::DELETE, &path, &Value::Null)
        .await;
    assert!(gone.status.is_success(), "{}", gone.text);
    assert_eq!(
        change(&stream.until("key_revoked").await, "key_revoked")["key"],
        key
    );

    test.principal("leaver", PrincipalKind::Person, &[]).await;
    let gone = test
        .as_key(
            &admin,
            Method::DELETE,
            "/v1/principals/leaver",
            &Value::Null,
        )
        .await;
    assert!(gone.status.is_success(), "{}", gone.text);
    let told = stream.until("principal_disabled").await;
    assert_eq!(change(&told, "principal_disabled")["principal"], "leaver");

    let ana = test.person("ana", &[Role::Publisher], Scope::ALL).await;
    let eve = test.person("eve", &[Role::Approver], Scope::ALL).await;
    let until = test.clock.now().plus(Duration::from_hours(1));
    let body = json!({
        "policy": "boss-pays-not", "scope": { "action": "pay" }, "owner": "ana", "reason": "x", "compensating": "x",
        "until": until,
    });
    let made = test
        .as_key(&ana, Method::POST, "/v1/exceptions", &body)
        .await
        .json();
    let path = format!("/v1/exceptions/{}", made["id"].as_str().unwrap());
    let seen = json!({ "seen": made["hash"] });
    let done = test
        .as_key(&eve, Method::POST, &format!("{path}/confirm"), &seen)
        .await;
    assert!(done.status.is_success(), "{}", done.text);
    let told = stream.until("exception_in_force").await;
    assert_eq!(change(&told, "exception_in_force")["exception"], made["id"]);
    let done = test
        .as_key(&eve, Method::POST, &format!("{path}/end"), &Value::Null)
        .await;
    assert!(done.status.is_success(), "{}", done.text);
    let told = stream.until("exception_ended").await;
    assert_eq!(change(&told, "exception_ended")["policy"], "boss-pays-not");

    let policy =
        json!({ "text": "@id(\"one-more\") forbid (principal, action, resource) when { false };" });
    let request = test
        .request_with(&ana, Method::PUT, "/v1/policies/one-more")
        .header("if-none-match", "*");
    let put = test.send(request, policy).await;
    assert!(put.status.is_success(), "{}", put.text);
    stream.until("bundle").await;
}

/// An approval that nobody can use any more is told by its id: one that is withdrawn at once, one that is used up or over
/// when that was noted; what was refused never was one.
#[tokio::test]
async fn the_end_of_an_approval_is_told() {
    let world = crate::approvers::World::make().await;
    let test = &world.test;
    let of = |amount: u64| {
        let mut question = crate::approvers::payment(None);
        question["action"]["properties"]["amount"] = json!(amount);
        question
    };
    let mut ids = Vec::new();
    for amount in 1..=4 {
        ids.push(world.requested(&of(amount)).await);
    }
    let denied = world.deny(&world.ben, &ids[3]).await;
    assert_eq!(denied.status, StatusCode::OK, "{}", denied.text);
    for id in &ids[..3] {
        let done = world.approve(&world.ben, id).await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    }
    test.caught_up().await;
    let mut stream = Stream::open(test, None).await;
    assert_eq!(stream.event().await.kind, "ready");
    let told_of = |id: &str| json!({ "kind": "approval_ended", "approval": id });
    let withdrawn = json!({ "reason": "It was a mistake" });
    let done = world.answer(&world.ben, &ids[0], "withdraw", withdrawn);
    let done = done.await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let told = stream.until("approval_ended").await;
    assert_eq!(change(&told, "approval_ended"), &told_of(&ids[0]));
    // Whoever is told asks at once and is denied by it.
    let denied = world.ask_by(&of(1), &ids[0]).await;
    assert_eq!(denied["decision"], false, "{denied}");
    let permitted = world.ask_by(&of(2), &ids[1]).await;
    assert_eq!(permitted["decision"], true, "{permitted}");
    let told = stream.until("approval_ended").await;
    assert_eq!(change(&told, "approval_ended"), &told_of(&ids[1]));
    // A quarter of an hour is what it is good for.
    test.clock.advance(Duration::from_mins(20));
    let told = stream.until("approval_ended").await;
    assert_eq!(change(&told, "approval_ended"), &told_of(&ids[2]));
}

/// Whoever is told asks at once, and is answered by what was told.
#[tokio::test]
async fn it_is_in_force_when_it_is_told() {
    let test = TestApp::start(&pack("starter")).await;
    let mut stream = Stream::open(&test, None).await;
    stream.event().await;
    let question = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    for round in 0..20 {
        let name = format!("tool-{round}");
        let store = test.store.clone();
        let id = remit_core::KillId::from_uuid(test.clock.id());
        let target = remit_core::KillTarget::Tool { tool: name.into() };
        let new = remit_store::NewKill {
            id,
            target: &target,
            reason: "x",
            by: &"ana".parse().unwrap(),
            key: remit_core::KeyId::from_uuid(test.clock.id()),
            at: test.clock.now(),
        };
        let change = remit_store::Change::default();
        let set = store.set_kill(test.tenant, new, change).await.unwrap();
        let told = stream.until("kill_set").await;
        assert_eq!(told.id, set.revision.to_string());
        let asked = test.post("/access/v1/evaluation", &question).await;
        let at: u64 = asked.header("remit-revision").parse().unwrap();
        assert!(at >= set.revision.number(), "told before it was in force");
    }
}

#[tokio::test]
async fn a_cut_connection_goes_on_without_loss_and_a_forged_place_is_a_gap() {
    let test = TestApp::start(&pack("starter")).await;
    let mut stream = Stream::open(&test, None).await;
    let ready = stream.event().await;
    set_kill(&test, &tool("a")).await;
    let last = stream.until("kill_set").await.id;
    drop(stream);
    let mut wanted = Vec::new();
    for name in ["b", "c", "d"] {
        wanted.push(set_kill(&test, &tool(name)).await);
    }
    for (from, first) in [(&last, 0), (&ready.id, 1)] {
        let mut stream = Stream::open(&test, Some(from)).await;
        let mut told = Vec::new();
        for _ in 0..wanted.len() + first {
            let event = stream.until("kill_set").await;
            told.push(
                change(&event, "kill_set")["kill"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        assert_eq!(told[first..], wanted);
    }
    for (forged, why) in [
        ("999999", "missed"),
        ("abc", "unknown"),
        ("-1", "unknown"),
        ("1.5", "unknown"),
        ("0", "missed"),
    ] {
        let mut stream = Stream::open(&test, Some(forged)).await;
        let event = stream.event().await;
        assert_eq!(event.kind, "gap", "{forged}: {event:?}");
        assert_eq!(event.data["why"], why, "{forged}: {event:?}");
        assert_eq!(event.id, event.data["revision"].to_string());
        // From there on everything is told.
        let kill = set_kill(&test, &tool(&format!("after {forged}"))).await;
        let told = stream.until("kill_set").await;
        assert_eq!(change(&told, "kill_set")["kill"], json!(kill));
    }
    let twice = test
        .request(Method::GET, "/v1/revocations?follow=false")
        .header("last-event-id", "1")
        .header("last-event-id", "2");
    let refused = test.send(twice, "").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    let once = test.get("/v1/revocations?follow=false").await;
    assert_eq!(once.status, StatusCode::OK);
    assert!(once.text.contains("event: ready\n"), "{}", once.text);
    let unknown = test.get("/v1/revocations?follow=maybe").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST, "{}", unknown.text);
}

#[tokio::test]
async fn a_replica_that_may_be_behind_says_so_and_ends() {
    let mut test = TestApp::start(&pack("starter")).await;
    let mut stream = Stream::open(&test, None).await;
    stream.event().await;
    test.pause().await;
    test.clock.advance(Duration::from_secs(6));
    let gap = tokio::time::timeout(PATIENCE, stream.event())
        .await
        .expect("it says so");
    assert_eq!(
        (gap.kind.as_str(), &gap.data["why"]),
        ("gap", &json!("stale"))
    );
    while let Some(part) = stream.part().await {
        assert!(part.is_err(), "nothing but comments after that: {part:?}");
    }
    let refused = test.get("/v1/revocations?follow=false").await;
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        refused.text
    );
    test.resume();
    test.caught_up().await;
    let mut stream = Stream::open(&test, Some(&gap.id)).await;
    set_kill(&test, &tool("later")).await;
    stream.until("kill_set").await;
}

#[tokio::test]
async fn a_heartbeat_says_which_revision_is_in_force() {
    let test = TestApp::start(&pack("starter")).await;
    let mut stream = Stream::open(&test, None).await;
    let (began, mut beats) = (Instant::now(), Vec::new());
    while beats.len() < 2 {
        if let Some(Err(comment)) = stream.part().await {
            beats.push(comment);
        }
    }
    let revision = test.get("/v1/whoami").await.json()["revision"].clone();
    assert_eq!(beats, vec![format!("revision {revision}"); 2]);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn only_so_many_streams_of_a_tenant_are_read() {
    let test = TestApp::start(&pack("starter")).await;
    let mut streams = Vec::new();
    let mut key = test.key.clone();
    for _ in 0..4 {
        for _ in 0..16 {
            streams.push(Stream::open_by(&test, &key, None).await);
        }
        let full = test.as_key(&key, Method::GET, PATH, &Value::Null).await;
        assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
        key = test.new_key(Scope::ALL, "dev", None).await;
    }
    // Another key finds no room where the tenant has none.
    let refused = test.as_key(&key, Method::GET, PATH, &Value::Null).await;
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        refused.text
    );
    assert_eq!(refused.json()["code"], "overloaded");
    streams.pop();
    let began = Instant::now();
    let path = "/v1/revocations?follow=false";
    while test
        .as_key(&key, Method::GET, path, &Value::Null)
        .await
        .status
        != StatusCode::OK
    {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
