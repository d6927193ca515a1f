//! What is sent: signed, the same each time, in order, and again until it is taken or given up.

use std::time::Duration;

use remit_tests::receiver::Behaviour::{Answer, Endless, Hangup, Late, Redirect};
use remit_tests::receiver::Receiver;
use remit_tests::sql::execute;
use serde_json::json;

use super::{
    Method, StatusCode, allowing, ask, came, cancel, newest, seconds, send, start, start_with, told,
};

#[tokio::test]
async fn what_happens_is_told_and_signed() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, secret) = told(&test, &receiver).await;
    let id = ask(&test, 100).await;
    cancel(&test, &id).await;
    let messages = came(&receiver, 2).await;
    let kinds = ["access_request.created", "access_request.cancelled"];
    for (message, kind) in messages.iter().zip(kinds) {
        assert_eq!(
            (message.method.as_str(), message.target.as_str()),
            ("POST", "/hook")
        );
        assert_eq!(
            message.header("content-type"),
            Some("application/cloudevents+json")
        );
        assert!(message.is_signed(&secret, seconds(&test)), "{message:?}");
        let body = message.json();
        assert_eq!(body["specversion"], "1.0");
        assert_eq!(body["id"], message.id());
        assert_eq!(body["type"], format!("dev.remit.{kind}"));
        assert_eq!(body["subject"], id);
        assert_eq!(
            body["source"],
            format!("http://127.0.0.1:7364/{}", test.tenant)
        );
        assert_eq!(body["data"]["id"], id);
        assert_eq!(
            body["data"]["review"],
            format!("http://127.0.0.1:7364/approvals/{id}")
        );
        // Neither arguments nor what the agent said.
        let whole = body.to_string();
        assert!(
            !whole.contains("amount") && !whole.contains("channel"),
            "{whole}"
        );
    }
    let delivered = newest(&test, &path, |found| found["state"] == "delivered").await;
    assert_eq!(delivered["id"], messages[1].id());
    assert_eq!(
        (&delivered["attempts"], &delivered["last_status"]),
        (&json!(1), &json!(204))
    );
    assert_eq!(receiver.received().len(), 2, "each is told once");
}

/// A receiver that stores a message and then fails gets the same one again, under the same id.
#[tokio::test]
async fn what_was_not_taken_is_sent_again_under_its_id() {
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let test = start(&[&receiver, &other]).await;
    let (path, secret) = told(&test, &receiver).await;
    let elsewhere = Redirect(other.url("/"));
    receiver.does(&[Answer(500), Hangup, elsewhere, Answer(204)]);
    ask(&test, 100).await;
    let problems = [
        (json!(500), Some("the receiver answered 500")),
        (json!(null), None),
        (json!(307), Some("the receiver answered 307")),
    ];
    for (attempt, (status, problem)) in problems.into_iter().enumerate() {
        came(&receiver, attempt + 1).await;
        let now = json!(test.clock.now());
        let noted = newest(&test, &path, |found| {
            found["attempts"] == attempt + 1 && found["last_at"] == now
        });
        let noted = noted.await;
        assert_eq!(
            (&noted["state"], &noted["last_status"]),
            (&json!("pending"), &status)
        );
        match problem {
            Some(problem) => assert_eq!(noted["last_problem"], problem),
            None => assert!(noted["last_problem"].is_string(), "{noted}"),
        }
        // Not before its time: 5 s, 20 s and 80 s, less or more by a half.
        test.clock.advance(Duration::from_secs(2));
        test.caught_up().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(receiver.received().len(), attempt + 1);
        test.clock.advance(Duration::from_mins(2));
        test.caught_up().await;
    }
    let messages = came(&receiver, 4).await;
    for message in &messages[1..] {
        assert_eq!(
            (message.id(), &message.body),
            (messages[0].id(), &messages[0].body)
        );
    }
    assert!(messages[3].is_signed(&secret, seconds(&test)));
    assert!(
        !messages[0].is_signed(&secret, seconds(&test)),
        "an old one is signed for its time"
    );
    newest(&test, &path, |found| {
        found["state"] == "delivered" && found["attempts"] == 4
    })
    .await;
    assert_eq!(other.connections(), 0, "nobody is followed anywhere");
}

/// A receiver that does not answer in time holds up neither another one nor what it is told next, and gets the same again.
#[tokio::test]
async fn who_does_not_answer_holds_up_nobody() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    const LATE: Duration = Duration::from_mins(1);
    let (slow, quick) = (Receiver::start(), Receiver::start());
    let mut options = allowing(&[&slow, &quick]);
    options.webhooks.timeout = TIMEOUT;
    let test = start_with(options).await;
    let (path, secret) = told(&test, &slow).await;
    told(&test, &quick).await;
    slow.does(&[Late(LATE, 204), Answer(204)]);
    ask(&test, 100).await;
    let first = came(&slow, 1).await.remove(0);
    let beside = came(&quick, 1).await.remove(0);
    assert!(beside.at < first.at + TIMEOUT, "it waited for the slow one");
    let noted = newest(&test, &path, |found| found["last_at"].is_string()).await;
    let took = first.at.elapsed();
    assert!(took < LATE, "nobody waits until it answers: {took:?}");
    assert_eq!(noted["id"], first.id());
    assert_eq!(
        (
            &noted["attempts"],
            &noted["state"],
            &noted["last_status"],
            &noted["last_problem"],
        ),
        (
            &json!(1),
            &json!("pending"),
            &json!(null),
            &json!("no answer in time"),
        )
    );
    // What happens next is told meanwhile.
    let next = ask(&test, 200).await;
    let messages = came(&slow, 2).await;
    assert_eq!(messages[1].json()["subject"], next);
    test.clock.advance(Duration::from_mins(2));
    test.caught_up().await;
    let messages = came(&slow, 3).await;
    assert_eq!(
        (messages[2].id(), &messages[2].body),
        (first.id(), &first.body)
    );
    assert!(messages[2].is_signed(&secret, seconds(&test)));
    let began = std::time::Instant::now();
    let delivered = loop {
        let state = format!("{path}/deliveries?state=delivered");
        let listed = test.get(&state).await.json();
        let mut found = listed["deliveries"].as_array().unwrap().iter();
        if let Some(found) = found.find(|one| one["id"] == first.id()) {
            break found.clone();
        }
        assert!(began.elapsed() < super::PATIENCE, "{listed}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(
        (&delivered["attempts"], &delivered["last_status"]),
        (&json!(2), &json!(204))
    );
    assert_eq!(quick.received().len(), 2, "each is told once");
}

/// What a replica took and did not finish is nobody's for as long as it may still be at it, and is sent again then.
#[tokio::test]
async fn what_was_taken_by_one_that_died_is_sent_again_after_a_while() {
    let receiver = Receiver::start();
    let mut test = start(&[&receiver]).await;
    let (path, secret) = told(&test, &receiver).await;
    receiver.does(&[Late(Duration::from_mins(1), 204), Answer(204)]);
    ask(&test, 100).await;
    came(&receiver, 1).await;
    test.pause().await;
    let noted = newest(&test, &path, |found| found["attempts"] == 1).await;
    assert_eq!(noted["state"], "pending", "{noted}");
    assert!(noted["last_at"].is_null(), "nothing came of it: {noted}");
    test.resume();
    // The receiver may take 10 s, and whoever sends to it 20 s more.
    test.clock.advance(Duration::from_secs(29));
    test.caught_up().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.received().len(), 1, "somebody may be at it still");
    test.clock.advance(Duration::from_secs(2));
    test.caught_up().await;
    let messages = came(&receiver, 2).await;
    assert_eq!(
        (messages[1].id(), &messages[1].body),
        (messages[0].id(), &messages[0].body)
    );
    assert!(messages[1].is_signed(&secret, seconds(&test)));
    let delivered = newest(&test, &path, |found| found["state"] == "delivered").await;
    assert_eq!(delivered["attempts"], 2, "{delivered}");
}

/// What is never taken is given up after a day, and stays listed.
#[tokio::test]
async fn what_is_never_taken_is_given_up() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, _) = told(&test, &receiver).await;
    receiver.does(&[Answer(503)]);
    ask(&test, 100).await;
    came(&receiver, 1).await;
    newest(&test, &path, |found| found["last_status"] == 503).await;
    test.clock.advance(Duration::from_hours(25));
    test.caught_up().await;
    // Of requests, one tells that it expired meanwhile.
    let given_up = format!("{path}/deliveries?state=dead");
    let began = std::time::Instant::now();
    let dead = loop {
        let listed = test.get(&given_up).await.json();
        if listed["deliveries"][0].is_object() {
            break listed["deliveries"][0].clone();
        }
        assert!(began.elapsed() < super::PATIENCE, "{listed}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let created = receiver.received()[0].id().to_owned();
    assert_eq!(dead["id"], created);
    assert_eq!(
        (&dead["attempts"], &dead["last_status"]),
        (&json!(2), &json!(503))
    );
}

/// What was delivered is kept for a week, and what waits for as long as it does.
#[tokio::test]
async fn what_ended_is_forgotten_after_a_week() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, _) = told(&test, &receiver).await;
    ask(&test, 100).await;
    newest(&test, &path, |found| found["state"] == "delivered").await;
    test.clock.advance(Duration::from_hours(7 * 24 - 1));
    assert_eq!(test.store.forget_deliveries().await.unwrap(), 0);
    test.clock.advance(Duration::from_hours(2));
    assert_eq!(test.store.forget_deliveries().await.unwrap(), 1);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, _) = told(&test, &receiver).await;
    receiver.does(&[Endless]);
    ask(&test, 100).await;
    let taken = newest(&test, &path, |found| found["state"] == "delivered").await;
    assert_eq!(taken["last_status"], 200);
    // What the kernel keeps is all that may be left.
    let before = receiver.endless_bytes();
    assert!(before < 1 << 20, "{before} bytes were read");
}

/// Who answers 410 wants nothing any more; what waits is given up, and somebody has to enable it again.
#[tokio::test]
async fn a_receiver_that_is_gone_is_told_nothing() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, _) = told(&test, &receiver).await;
    receiver.does(&[Answer(410), Answer(204)]);
    ask(&test, 100).await;
    newest(&test, &path, |found| found["state"] == "dead").await;
    let began = std::time::Instant::now();
    let disabled = loop {
        let shown = test.get(&path).await.json();
        if shown["state"] == "disabled" {
            break shown;
        }
        assert!(began.elapsed() < super::PATIENCE, "{shown}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(disabled["disabled_why"], "the receiver answered 410");
    test.caught_up().await;
    let ping = send(&test, Method::POST, &format!("{path}/ping"), &json!(null)).await;
    assert_eq!(ping.status, StatusCode::CONFLICT, "{}", ping.text);
    ask(&test, 200).await;
    let body =
        json!({ "url": receiver.url("/hook"), "events": ["access_request."], "state": "enabled" });
    let enabled = send(&test, Method::PUT, &path, &body).await;
    assert_eq!(enabled.status, StatusCode::OK, "{}", enabled.text);
    assert_eq!(enabled.json()["state"], "enabled");
    let id = ask(&test, 300).await;
    let messages = came(&receiver, 2).await;
    assert_eq!(
        messages[1].json()["subject"],
        id,
        "what happened meanwhile is not told"
    );
    newest(&test, &path, |found| found["state"] == "delivered").await;
    assert_eq!(receiver.received().len(), 2);
}

/// A receiver that was away for longer than events are kept is told that it does not know all.
#[tokio::test]
async fn what_was_forgotten_before_it_was_told_is_a_gap() {
    let receiver = Receiver::start();
    let test = start(&[&receiver]).await;
    let (path, secret) = told(&test, &receiver).await;
    ask(&test, 100).await;
    newest(&test, &path, |found| found["state"] == "delivered").await;
    // As if it had happened while nobody looked: what it was told last is gone, and so is what came next.
    let url = &test.database.url;
    execute(url, "DELETE FROM events").await;
    let event = format!(
        "INSERT INTO events (tenant, revision, place, kind, subject, at, body) \
         VALUES (x'{}', 1000000, 0, 'access_request.denied', 'it', 0, '{{}}')",
        test.tenant.uuid().simple()
    );
    execute(url, &event).await;
    let messages = came(&receiver, 3).await;
    let gap = messages[1].json();
    assert!(messages[1].is_signed(&secret, seconds(&test)), "{gap}");
    assert_eq!(gap["type"], "dev.remit.gap");
    assert!(path.ends_with(gap["subject"].as_str().unwrap()), "{gap}");
    assert!(
        gap["data"]["after"].as_str().unwrap().ends_with(".0"),
        "{gap}"
    );
    assert_eq!(
        messages[2].json()["type"],
        "dev.remit.access_request.denied"
    );
}
