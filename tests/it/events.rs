//! `GET /v1/approvals/events`: every event once and in order, whoever comes back, and nobody who may not.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{PrincipalKind, Role};
use remit_store::{Change, Scope};
use remit_tests::app::TestApp;
use remit_tests::app::stream::Stream;
use remit_tests::bundles::pack;
use remit_tests::sql::execute;
use serde_json::{Value, json};

mod sockets;
mod told;

const EVENTS: &str = "/v1/approvals/events";
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes events past the store, as rows of our tenant: a revision and a place each.
async fn write(test: &TestApp, events: &[(u64, u64)], body: &Value) {
    let at = test.clock.now().micros();
    let rows: Vec<String> = events
        .iter()
        .map(|(revision, place)| {
            let tenant = test.tenant.uuid().simple();
            format!("(x'{tenant}', {revision}, {place}, 'test.happened', 'it', {at}, '{body}')")
        })
        .collect();
    let rows = rows.join(", ");
    let sql = format!(
        "INSERT INTO events (tenant, revision, place, kind, subject, at, body) VALUES {rows}"
    );
    execute(&test.database.url, &sql).await;
}

async fn forget(test: &TestApp, revision: u64) {
    let sql = format!("DELETE FROM events WHERE revision = {revision}");
    execute(&test.database.url, &sql).await;
}

async fn open(test: &TestApp, key: &str, after: Option<&str>) -> Stream {
    let mut request = test.request_with(key, Method::GET, EVENTS);
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    test.open(request).await
}

/// Reads so many events and returns their ids.
async fn ids(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(stream.next(PATIENCE).await.unwrap().id);
    }
    ids
}

async fn reading(test: &TestApp) -> String {
    let metrics = test.operations("/metrics").await.text;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("remit_streams "));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}

/// Waits until so many streams are read.
async fn are_reading(test: &TestApp, count: &str) {
    let began = std::time::Instant::now();
    while reading(test).await != count {
        assert!(began.elapsed() < PATIENCE, "{} are", reading(test).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn it_tells_of_what_happens_from_now_on() {
    let test = TestApp::start(&pack("starter")).await;
    write(&test, &[(1, 0)], &json!({})).await;
    let mut stream = open(&test, &test.key, None).await;
    stream.is_quiet(Duration::from_millis(1_500)).await;
    assert!(stream.comments > 0, "it is seen to be alive");
    write(&test, &[(100, 0)], &json!({ "action": "pay" })).await;
    let event = stream.next(PATIENCE).await.unwrap();
    assert_eq!(
        (event.id.as_str(), event.kind.as_str()),
        ("100.0", "test.happened")
    );
    assert_eq!(
        event.data,
        json!({
            "at": test.clock.now(), "data": { "action": "pay" }, "kind": "test.happened", "subject": "it",
        })
    );
    stream.is_quiet(Duration::from_millis(1_500)).await;
}

#[tokio::test]
async fn whoever_comes_back_misses_none_and_gets_none_twice() {
    let test = TestApp::start(&pack("starter")).await;
    let mut all: Vec<(u64, u64)> = (1..=125).flat_map(|at| [(at, 0), (at, 1)]).collect();
    write(&test, &all, &json!({})).await;
    let mut stream = open(&test, &test.key, Some("1.0")).await;
    all.remove(0);
    let wanted: Vec<String> = all
        .iter()
        .map(|(at, place)| format!("{at}.{place}"))
        .collect();
    // They are more than are read at once, and more than wait for a reader.
    let begun = ids(&mut stream, 120).await;
    drop(stream);
    let mut stream = open(&test, &test.key, begun.last().map(String::as_str)).await;
    let rest = ids(&mut stream, wanted.len() - begun.len()).await;
    assert_eq!([begun, rest].concat(), wanted);
    stream.is_quiet(Duration::from_millis(1_200)).await;
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_a_gap() {
    let test = TestApp::start(&pack("starter")).await;
    write(&test, &[(1, 0), (2, 0), (3, 0)], &json!({})).await;
    forget(&test, 1).await;
    let mut stream = open(&test, &test.key, Some("1.0")).await;
    let gap = stream.next(PATIENCE).await.unwrap();
    assert_eq!((gap.kind.as_str(), gap.id.as_str()), ("gap", "1.0"));
    assert_eq!(gap.data, json!({ "after": "1.0" }));
    assert_eq!(ids(&mut stream, 2).await, ["2.0", "3.0"]);

    // With nothing after it: said once, and whoever comes back then has missed nothing more.
    let mut ahead = open(&test, &test.key, Some("9.0")).await;
    let gap = ahead.next(PATIENCE).await.unwrap();
    assert_eq!((gap.kind.as_str(), gap.id.as_str()), ("gap", "3.0"));
    ahead.is_quiet(Duration::from_millis(1_500)).await;
    let mut back = open(&test, &test.key, Some(&gap.id)).await;
    write(&test, &[(4, 0)], &json!({})).await;
    for stream in [&mut stream, &mut ahead, &mut back] {
        assert_eq!(ids(stream, 1).await, ["4.0"]);
    }
    // All of them are over: the next one is told all the same.
    for at in 2..=4 {
        forget(&test, at).await;
    }
    let gap = ahead.next(PATIENCE).await.unwrap();
    assert_eq!((gap.kind.as_str(), gap.id.as_str()), ("gap", "4.0"));
    write(&test, &[(5, 0)], &json!({})).await;
    assert_eq!(ids(&mut ahead, 1).await, ["5.0"]);
}

#[tokio::test]
async fn what_is_no_id_of_an_event_is_refused() {
    let test = TestApp::start(&pack("starter")).await;
    let long = "1".repeat(65);
    for wrong in ["none", "1", "1.x", "-1.0", long.as_str()] {
        let request = test.request(Method::GET, EVENTS);
        let reply = test.send(request.header("last-event-id", wrong), "").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}");
        assert!(reply.text.contains("Last-Event-ID"), "{}", reply.text);
    }
    let twice = test
        .request(Method::GET, EVENTS)
        .header("last-event-id", "1.0")
        .header("last-event-id", "1.0");
    let reply = test.send(twice, "").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    let unknown = test.get(&format!("{EVENTS}?after=1.0")).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST, "{}", unknown.text);
}

/// Four keys of the tenant.
async fn keys(test: &TestApp) -> Vec<String> {
    let mut keys = vec![test.key.clone()];
    while keys.len() < 4 {
        keys.push(test.new_key(Scope::ALL, "dev", None).await);
    }
    keys
}

#[tokio::test]
async fn a_tenant_reads_sixty_four_at_once() {
    // One request at a time: a stream that is read holds nobody up.
    let options = Options {
        concurrency: 1,
        ..Options::default()
    };
    let mut test = TestApp::empty(options).await;
    test.put(&pack("starter")).await;
    let mut streams = Vec::new();
    for key in keys(&test).await {
        for _ in 0..16 {
            streams.push(open(&test, &key, None).await);
        }
    }
    are_reading(&test, "64").await;
    let another = test.new_key(Scope::ALL, "dev", None).await;
    let more = test.as_key(&another, Method::GET, EVENTS, &Value::Null);
    let more = more.await;
    assert_eq!(
        more.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        more.text
    );
    assert_eq!(more.json()["code"], "overloaded");
    streams.pop();
    are_reading(&test, "63").await;
    // A key reads sixteen alone.
    let full = test.get(EVENTS).await;
    assert!(full.text.contains("16 streams of a key"), "{}", full.text);
    let another = test.new_key(Scope::ALL, "dev", None).await;
    streams.push(open(&test, &another, None).await);
    write(&test, &[(100, 0)], &json!({})).await;
    for stream in &mut streams {
        assert_eq!(ids(stream, 1).await, ["100.0"]);
    }
    drop(streams);
    are_reading(&test, "0").await;
}

#[tokio::test]
async fn it_ends_with_the_key() {
    let test = TestApp::start(&pack("starter")).await;
    let key = test.new_key(&[Scope::Approve], "dev", None).await;
    let mut stream = open(&test, &key, None).await;
    let id = key.split('_').nth(2).unwrap().parse().unwrap();
    let revoked = test
        .store
        .revoke_key(test.tenant, id, None, Change::default());
    revoked.await.unwrap();
    assert_eq!(stream.next(PATIENCE).await, None);
    are_reading(&test, "0").await;
}

/// A role is looked up when there is something to tell, and before it is told.
#[tokio::test]
async fn it_ends_where_whoever_reads_may_not_any_more() {
    let test = TestApp::start(&pack("starter")).await;
    let ana = test.person("ana", &[Role::Approver], Scope::ALL).await;
    let ben = test.person("ben", &[Role::Reader], Scope::ALL).await;
    let refused = test.as_key(&ben, Method::GET, EVENTS, &Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    let mut stream = open(&test, &ana, None).await;
    write(&test, &[(100, 0)], &json!({})).await;
    assert_eq!(ids(&mut stream, 1).await, ["100.0"]);
    test.principal("ana", PrincipalKind::Person, &[Role::Reader])
        .await;
    write(&test, &[(101, 0)], &json!({})).await;
    assert_eq!(stream.next(PATIENCE).await, None, "the event is not told");
}

#[tokio::test]
async fn nothing_of_another_tenant_is_told() {
    let test = TestApp::start(&pack("starter")).await;
    let mut stream = open(&test, &test.key, None).await;
    let other = test.store.ensure_tenant("other").await.unwrap();
    let sql = format!(
        "INSERT INTO events (tenant, revision, place, kind, subject, at, body) \
         VALUES (x'{}', 100, 0, 'test.happened', 'it', 1, '{{}}')",
        other.uuid().simple()
    );
    execute(&test.database.url, &sql).await;
    stream.is_quiet(Duration::from_millis(1_500)).await;
}
