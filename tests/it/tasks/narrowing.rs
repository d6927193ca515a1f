//! Narrowing and opening free nobody: not of a kill, a suspension, a template or a policy.

use http::StatusCode;
use remit_core::Role;
use serde_json::json;

use super::*;

async fn narrow(world: &World, key: &str, id: &str, body: Value) -> Reply {
    let path = format!("/v1/tasks/{id}/narrow");
    world.send(key, &path, &body).await
}

#[tokio::test]
async fn an_agent_narrows_and_resumes_nothing_of_its_own() {
    let world = World::make().await;
    let id = world.open(task("bot")).await;
    world.label(&[&id], &["untrusted"]).await;
    for roles in [&[][..], &[Role::Operator]] {
        let bot = world.own("bot", roles).await;
        for body in [
            json!({}),
            json!({ "sinks": ["mallory@evil.example"] }),
            json!({ "actions": ["pay"] }),
        ] {
            let refused = narrow(&world, &bot, &id, body).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
        }
    }
    // Whoever may not is told nothing of it: not what it declares, nor how it stands.
    let body = json!({ "budget": { "calls": 1 } });
    let wide = narrow(&world, &world.ops, &id, body).await;
    assert_eq!(wide.status, StatusCode::CREATED, "{}", wide.text);
    let id = id_of(&wide);
    assert!(world.turn(&id, "suspend").await.status.is_success());
    let bot = world.own("bot", &[Role::Operator]).await;
    let refused = world
        .send(&bot, &format!("/v1/tasks/{id}/resume"), &Value::Null)
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    assert!(refused.text.contains("remit.own-agent"), "{}", refused.text);
    let other = world.own("other", &[]).await;
    let refused = narrow(&world, &other, &id, json!({ "budget": { "calls": 2 } })).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    assert!(refused.json()["limit"].is_null() && refused.json()["state"].is_null());
    let over = narrow(&world, &world.ops, &id, json!({})).await;
    assert_eq!(over.status, StatusCode::CONFLICT);
    assert_eq!(over.json()["state"], "suspended");
}

#[tokio::test]
async fn what_a_kill_stops_is_not_narrowed() {
    for (kind, named) in [
        ("task", None),
        (
            "agent",
            Some(json!({ "kind": "agent", "agent": { "type": "Agent", "id": "bot" } })),
        ),
        ("model", Some(json!({ "kind": "model", "model": "none" }))),
        ("tenant", Some(json!({ "kind": "tenant" }))),
    ] {
        let world = World::make().await;
        let admin = &world.test.key;
        let parent = world
            .open(with(task("bot"), json!({ "may_delegate": true })))
            .await;
        let id = world
            .open(with(task("bot"), json!({ "parent": parent })))
            .await;
        // Of a task above it, where it is one of a task.
        let target = named.unwrap_or_else(|| json!({ "kind": "task", "task": parent }));
        let body = json!({ "target": target, "reason": "a test" });
        let killed = world.send(admin, "/v1/kills", &body).await;
        assert_eq!(
            killed.status,
            StatusCode::CREATED,
            "{kind}: {}",
            killed.text
        );
        let refused = narrow(&world, &world.ops, &id, json!({})).await;
        assert_eq!(
            refused.status,
            StatusCode::CONFLICT,
            "{kind}: {}",
            refused.text
        );
        assert_eq!(refused.json()["reason"], "killed", "{kind}");
        assert_eq!(
            world.shown(&id).await["state"],
            "active",
            "it is still there, and stopped"
        );
        assert_eq!(world.reason("bot", &pay(), Some(&id)).await, "killed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_narrows_nothing_that_is_stopped() {
    let Some((world, b)) = super::fleet::pair(false).await else {
        return;
    };
    let key = world.ops.clone();
    for stop in ["suspend", "kill"] {
        for _ in 0..4 {
            let opened = world.open_by(&world.ops, &task("bot")).await;
            let id = id_of(&opened);
            b.caught_up().await;
            let stopped = if stop == "suspend" {
                world.turn(&id, "suspend").await
            } else {
                let target = json!({ "kind": "task", "task": id });
                let body = json!({ "target": target, "reason": "a test" });
                world.send(&world.test.key, "/v1/kills", &body).await
            };
            assert!(stopped.status.is_success(), "{}", stopped.text);
            let path = format!("/v1/tasks/{id}/narrow");
            let request = b.request_with(&key, Method::POST, &path);
            let refused = b.send(request, &json!({})).await;
            assert_eq!(
                refused.status,
                StatusCode::CONFLICT,
                "{stop}: {}",
                refused.text
            );
        }
    }
}

#[tokio::test]
async fn a_template_says_who_is_named() {
    let world = World::make().await;
    let put = async |body: &Value| {
        let request = world.test.request(Method::PUT, "/v1/task-templates/pay");
        let put = world.test.send(request, body).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    };
    let agent = json!({ "type": "Agent", "id": "bot" });
    let from = json!({ "agent": agent, "template": "pay", "intent": "pay b@example.com" });
    for fixed in [
        json!({ "purpose": "work", "sinks": ["a@example.com"] }),
        json!({ "purpose": "work", "intent": "pay a@example.com" }),
    ] {
        put(&fixed).await;
        let refused = world.open_by(&world.ops, &from).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(refused.text.contains("`intent`"), "{}", refused.text);
    }
    put(&json!({ "purpose": "work" })).await;
    let opened = world.open_by(&world.ops, &from).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
}

#[tokio::test]
async fn policies_see_who_is_named_and_who_opens() {
    let world = World::make().await;
    let named = with(
        task("bot"),
        json!({ "intent": "pay Mallory <mallory@evil.example>" }),
    );
    let refused = world.open_by(&world.ops, &named).await;
    assert_eq!(
        refused.json()["policies"],
        json!(["not-mallory"]),
        "{}",
        refused.text
    );
    let alone = with(task("bot"), json!({ "purpose": "alone" }));
    let opened = world.open_by(&world.ops, &alone).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    let bot = world.own("bot", &[Role::Operator]).await;
    let refused = world.open_by(&bot, &alone).await;
    assert_eq!(
        refused.json()["policies"],
        json!(["not-alone"]),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn more_tasks_than_every_replica_can_hold_are_refused() {
    let options = Options {
        most_tasks: 2,
        ..Options::default()
    };
    let world = World::with(options).await;
    let first = world.open(task("bot")).await;
    world.open(task("bot")).await;
    let refused = world.open_by(&world.ops, &task("bot")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert!(refused.text.contains("2 may"), "{}", refused.text);
    assert!(world.turn(&first, "complete").await.status.is_success());
    let last = world.open(task("bot")).await;
    assert!(world.turn(&last, "complete").await.status.is_success());
    // Sixty-five entries within their own limit are more than one declaration may be.
    let sinks: Vec<String> = (0..65).map(|n| format!("{n:0>1020}")).collect();
    let large = with(task("bot"), json!({ "sinks": sinks }));
    let refused = world.open_by(&world.ops, &large).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(refused.text.contains("`declaration`"), "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_replica_permits_anything_while_a_person_vouches() {
    let Some((world, b)) = super::fleet::pair(false).await else {
        return;
    };
    for _ in 0..4 {
        let id = world.open(task("bot")).await;
        world.label(&[&id], &["private"]).await;
        b.caught_up().await;
        let (before, _) = super::fleet::ask_at(&b, &id, None).await;
        assert_eq!(before, "policy_permit");
        assert!(world.turn(&id, "suspend").await.status.is_success());
        let body = json!({ "labels": ["private"], "reason": "I have read it" });
        let path = format!("/v1/tasks/{id}/endorse");
        let done = world.send(&world.ops, &path, &body).await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text);
        // At once, on the replica that hears of nothing but by its poll.
        let (reason, _) = super::fleet::ask_at(&b, &id, None).await;
        assert_eq!(reason, "task_suspended");
    }
}
