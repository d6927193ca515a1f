//! Limits: of answers within an hour, of what waits for a group, of refusals in a task; and what goes on to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::Entity;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{World, payment, refused, task};

#[tokio::test]
async fn nobody_answers_more_than_the_group_says() {
    let world = World::make().await;
    let body =
        json!({ "members": [{ "principal": "ben" }, { "principal": "cy" }], "most_per_hour": 2 });
    world.group("finance", &body).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let mut question = payment(None);
        question["action"]["properties"]["amount"] = json!(number);
        ids.push(world.requested(&question).await);
    }
    assert_eq!(
        world.approve(&world.ben, &ids[0]).await.status,
        StatusCode::OK
    );
    world.test.clock.advance(Duration::from_mins(10));
    assert_eq!(world.deny(&world.ben, &ids[1]).await.status, StatusCode::OK);
    let reply = world.approve(&world.ben, &ids[2]).await;
    refused(
        &reply,
        StatusCode::TOO_MANY_REQUESTS,
        "the next one at 2026-01-05T11:00:00",
    );
    assert_eq!(reply.header("retry-after"), "3001");
    // Another one may, and so may they when the first has left the hour.
    world.test.clock.advance(Duration::from_mins(49));
    refused(
        &world.approve(&world.ben, &ids[2]).await,
        StatusCode::TOO_MANY_REQUESTS,
        "within an hour",
    );
    assert_eq!(
        world.approve(&world.cy, &ids[2]).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn after_three_refusals_the_task_is_suspended() {
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    for number in 1..=3 {
        let mut question = payment(Some(&opened));
        question["action"]["properties"]["amount"] = json!(number);
        let id = world.requested(&question).await;
        let reply = world.deny(&world.ben, &id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let suspended = reply.json()["suspended"].clone();
        let expected = if number == 3 {
            json!(opened)
        } else {
            Value::Null
        };
        assert_eq!(suspended, expected, "{number}");
        let shown = world.test.get(&format!("/v1/tasks/{opened}")).await.json();
        let state = if number == 3 { "suspended" } else { "active" };
        assert_eq!(shown["state"], state, "{number}");
    }
    let asked = world
        .test
        .post("/access/v1/evaluation", payment(Some(&opened)))
        .await
        .json();
    assert_eq!(asked["context"]["reason"], "task_suspended", "{asked}");
    let page = world
        .test
        .get("/v1/admin/actions?action=deny_request")
        .await
        .json();
    assert_eq!(page["actions"][0]["details"]["suspends"], json!(opened));
}

#[tokio::test]
async fn after_three_more_refusals_it_is_suspended_again() {
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    let path = format!("/v1/tasks/{opened}");
    for number in 1..=9 {
        let mut question = payment(Some(&opened));
        question["action"]["properties"]["amount"] = json!(number);
        let id = world.requested(&question).await;
        let reply = world.deny(&world.ben, &id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let too_often = number % 3 == 0;
        let suspended = if too_often {
            json!(opened)
        } else {
            Value::Null
        };
        assert_eq!(reply.json()["suspended"], suspended, "{number}");
        let state = if too_often { "suspended" } else { "active" };
        let shown = world.test.get(&path).await.json();
        assert_eq!(shown["state"], state, "{number}");
        if too_often {
            let resume = format!("{path}/resume");
            let resumed = world.send(&world.test.key, Method::POST, &resume, &Value::Null);
            let resumed = resumed.await;
            assert!(resumed.status.is_success(), "{}", resumed.text);
            world.test.caught_up().await;
        }
    }
}

#[tokio::test]
async fn refusals_in_parts_of_a_task_count_together_also_in_those_that_are_over() {
    let world = World::make().await;
    let key = &world.test.key;
    let mut whole = task();
    whole["may_delegate"] = json!(true);
    let opened = world.task(key, &whole).await;
    let mut last = None;
    for number in 1..=3 {
        let mut part = task();
        part["parent"] = json!(opened);
        let part = world.task(key, &part).await;
        let mut question = payment(Some(&part));
        question["action"]["properties"]["amount"] = json!(number);
        let id = world.requested(&question).await;
        let reply = world.deny(&world.ben, &id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let expected = if number == 3 {
            json!(opened)
        } else {
            // What is over counts as well.
            let path = format!("/v1/tasks/{part}/complete");
            let done = world.send(key, Method::POST, &path, &json!({})).await;
            assert!(done.status.is_success(), "{}", done.text);
            Value::Null
        };
        assert_eq!(reply.json()["suspended"], expected, "{number}");
        last = Some(part);
    }
    let question = payment(last.as_deref());
    let asked = world.test.post("/access/v1/evaluation", question).await;
    let asked = asked.json();
    assert_eq!(asked["context"]["reason"], "task_suspended", "{asked}");
}

#[tokio::test]
async fn what_is_not_answered_goes_on_to_another_group() {
    let world = World::make().await;
    let body = json!({
        "members": [{ "principal": "ben" }], "escalates_to": "board", "escalate_after": 60,
    });
    world.group("finance", &body).await;
    let id = world.requested(&payment(None)).await;
    refused(
        &world.approve(&world.dan, &id).await,
        StatusCode::FORBIDDEN,
        "you stand for none",
    );
    let reply = world.answer(&world.dan, &id, "escalate", Value::Null).await;
    refused(&reply, StatusCode::FORBIDDEN, "escalate_request");
    let reply = world.answer(&world.ben, &id, "escalate", Value::Null).await;
    assert_eq!(
        reply.json()["escalated_to"],
        json!(["board"]),
        "{}",
        reply.text
    );
    let again = world.answer(&world.ben, &id, "escalate", Value::Null).await;
    refused(&again, StatusCode::CONFLICT, "already");
    let page = world
        .send(
            &world.dan,
            Method::GET,
            "/v1/approvals?mine=true",
            &Value::Null,
        )
        .await;
    assert_eq!(
        page.json()["approvals"][0]["id"],
        json!(id),
        "{}",
        page.text
    );
    let reply = world.approve(&world.dan, &id).await;
    assert_eq!(reply.json()["state"], "approved", "{}", reply.text);

    let id = world.requested(&super::payment(None)).await;
    let other = world
        .answer(&world.ben, &id, "withdraw", json!({ "reason": "x" }))
        .await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{}", other.text);
}

/// Nobody has to press anything: the time that the group says is enough, and the last time where several are wanted.
#[tokio::test]
async fn what_nobody_answers_in_time_goes_on_by_itself() {
    let world = World::make().await;
    let finance = json!({ "members": [{ "principal": "ben" }], "escalates_to": "deputies", "escalate_after": 60 });
    let deputies = json!({ "members": [{ "principal": "cy" }] });
    world.group("deputies", &deputies).await;
    world.group("finance", &finance).await;
    let board = json!({ "members": [{ "principal": "dan" }], "escalates_to": "deputies", "escalate_after": 600 });
    world.group("board", &board).await;
    let id = world.requested(&payment(None)).await;
    let mut large = payment(None);
    large["resource"]["id"] = json!("large");
    let both = world.requested(&large).await;
    assert_eq!(
        world.shown(&both).await["escalates_at"],
        "2026-01-05T10:10:00.000000Z"
    );
    world.test.clock.advance(Duration::from_secs(59));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let early = world.approve(&world.cy, &id).await;
    refused(&early, StatusCode::FORBIDDEN, "you stand for none");
    world.test.clock.advance(Duration::from_secs(1));
    let began = std::time::Instant::now();
    while world.shown(&id).await["escalated_at"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let path = "/v1/admin/actions?action=escalate_request";
    let record = world.test.get(path).await.json()["actions"][0].clone();
    assert_eq!(record["principal"], "remit", "{record:#}");
    assert_eq!(record["details"]["escalated_to"], json!(["deputies"]));
    let reply = world.approve(&world.cy, &id).await;
    assert_eq!(reply.json()["state"], "approved", "{}", reply.text);
    // Of the other one the board's time is not over.
    assert_eq!(world.shown(&both).await.get("escalated_at"), None);
    let early = world.approve(&world.cy, &both).await;
    refused(&early, StatusCode::FORBIDDEN, "you stand for none");
}

/// A request that goes on to nobody is looked at again a minute later, and keeps none back meanwhile.
#[tokio::test]
async fn what_goes_on_to_nobody_waits_until_somebody_is_named() {
    let world = World::make().await;
    let members = json!([{ "principal": "ben" }]);
    let next = json!({ "members": members, "escalates_to": "board", "escalate_after": 60 });
    world.group("finance", &next).await;
    let id = world.requested(&payment(None)).await;
    world.group("finance", &json!({ "members": members })).await;
    world.test.clock.advance(Duration::from_mins(1));
    let later = "2026-01-05T10:02:00.000000Z";
    let began = std::time::Instant::now();
    while world.shown(&id).await["escalates_at"] != later {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let due = world.test.store.due_to_escalate(world.test.tenant).await;
    assert_eq!(due.unwrap(), []);
    world.group("finance", &next).await;
    world.test.clock.advance(Duration::from_mins(1));
    while world.shown(&id).await["escalated_at"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(40));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_group_takes_as_many_as_its_members_can_answer() {
    let world = World::make().await;
    let members = json!([{ "principal": "ben" }, { "principal": "cy" }]);
    let body = json!({ "members": members, "most_open": 2 });
    world.group("finance", &body).await;
    let numbered = |number: u64| {
        let mut question = payment(None);
        question["action"]["properties"]["amount"] = json!(number);
        question
    };
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(world.requested(&numbered(number)).await);
    }
    let full = world.try_request(&world.test.key, &numbered(4)).await;
    refused(&full, StatusCode::TOO_MANY_REQUESTS, "wait for the group");
    assert_eq!(full.header("retry-after"), "60");
    // An answer makes room.
    world.deny(&world.ben, &ids[0]).await;
    let fifth = world.try_request(&world.test.key, &numbered(4)).await;
    assert_eq!(fifth.status, StatusCode::ACCEPTED, "{}", fifth.text);
}

#[tokio::test]
async fn a_group_that_goes_on_to_nobody_cannot_be_escalated() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let reply = world.answer(&world.ben, &id, "escalate", Value::Null).await;
    refused(
        &reply,
        StatusCode::CONFLICT,
        "no group that it waits for goes on",
    );
}

/// Tasks are opened without a pause, each at a revision of its own: who answers meanwhile is heard nonetheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_in_which_much_happens_is_answered() {
    let world = Arc::new(World::within(Duration::from_mins(3), "").await);
    let mut ids = Vec::new();
    for number in 0..20 {
        let mut question = payment(None);
        question["action"]["properties"]["amount"] = json!(number);
        ids.push(world.requested(&question).await);
    }
    let opened = Arc::new(AtomicUsize::new(0));
    let mut busy = JoinSet::new();
    for _ in 0..4 {
        let (world, opened) = (Arc::clone(&world), Arc::clone(&opened));
        busy.spawn(async move {
            loop {
                world.task(&world.test.key, &task()).await;
                opened.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for id in &ids {
        let reply = world.approve(&world.ben, id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
    let opened = opened.load(Ordering::Relaxed);
    println!("{} answered, {opened} tasks opened", ids.len());
    assert!(opened > ids.len());
}

/// Where there is never a moment without another change, the answer says so, and nothing of it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_everything_always_changes_nothing_is_answered() {
    let world = World::within(Duration::from_secs(12), "").await;
    let id = world.requested(&payment(None)).await;
    let before = world.shown(&id).await;
    let mut busy = JoinSet::new();
    for _ in 0..2 {
        let (store, tenant) = (world.test.store.clone(), world.test.tenant);
        busy.spawn(async move {
            let payee = json!({ "uid": { "type": "Payee", "id": "acme" } });
            let payee: Entity = serde_json::from_value(payee).unwrap();
            loop {
                // Where the database has no time for it, the next one changes something.
                let _ = store
                    .upsert_entities(tenant, std::slice::from_ref(&payee))
                    .await;
            }
        });
    }
    let seen = json!({ "seen": before["card_hash"] });
    let reply = world.answer(&world.ben, &id, "approve", seen).await;
    busy.shutdown().await;
    refused(
        &reply,
        StatusCode::CONFLICT,
        "nothing was changed, try again",
    );
    assert_eq!(world.shown(&id).await, before);
    assert_eq!(world.approve(&world.ben, &id).await.status, StatusCode::OK);
}
