//! Templates, and tasks that are narrowed: narrower is free, wider is a task to be opened.

use http::{Method, StatusCode};
use remit_tests::app::Reply;
use serde_json::json;

use super::*;

const PATH: &str = "/v1/task-templates/pay";

async fn put(world: &World, body: &Value) -> Reply {
    let request = world.test.request(Method::PUT, PATH);
    world.test.send(request, body).await
}

#[tokio::test]
async fn a_task_may_only_narrow_its_template() {
    let world = World::make().await;
    let template = json!({
        "purpose": "work", "actions": ["pay", "reading"], "budget": { "calls": 5 }, "expires_in": 600, "idle_timeout": 300,
        "required": ["sinks"],
    });
    let made = put(&world, &template).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let shown = world.test.get(PATH).await;
    assert_eq!(
        shown.json(),
        with(template.clone(), json!({ "name": "pay" }))
    );
    let listed = world.test.get("/v1/task-templates").await;
    assert_eq!(listed.json()["templates"], json!([shown.json()]));

    let from = json!({ "agent": { "type": "Agent", "id": "bot" }, "template": "pay", "sinks": ["a@example.com"] });
    let opened = world.open_by(&world.ops, &from).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    let declared = &opened.json()["declaration"];
    assert_eq!(declared["actions"], json!(["pay", "reading"]));
    assert_eq!(declared["budget"], json!({ "calls": 5 }));
    assert_eq!(declared["template"], "pay");
    assert_eq!(opened.json()["idle_timeout"], 300);
    for (members, code, said) in [
        (
            json!({ "actions": ["get_file", "writing"] }),
            "task-exceeds-parent",
            "actions",
        ),
        (
            json!({ "budget": { "calls": 6 } }),
            "task-exceeds-parent",
            "calls",
        ),
        (
            json!({ "expires_in": 601 }),
            "task-exceeds-parent",
            "expiry",
        ),
        (
            json!({ "may_delegate": true }),
            "task-exceeds-parent",
            "may_delegate",
        ),
        (json!({ "sinks": null }), "invalid-request", "sinks"),
        (json!({ "purpose": "work" }), "invalid-request", "`purpose`"),
    ] {
        let refused = world
            .open_by(&world.ops, &with(from.clone(), members))
            .await;
        let told = refused.json();
        assert_eq!(told["code"], code, "{told}");
        assert!(refused.text.contains(said), "{said}: {told}");
        if code == "task-exceeds-parent" {
            assert_eq!(told["exceeds"], "template");
        }
    }
    let narrower = with(from, json!({ "actions": ["get_file"], "expires_in": 60 }));
    assert_eq!(
        world.open_by(&world.ops, &narrower).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_template_is_replaced_by_whoever_has_read_it() {
    let world = World::make().await;
    let made = put(&world, &json!({ "actions": ["pay"] })).await;
    let tag = made.header("etag").to_owned();
    let request = world
        .test
        .request(Method::PUT, PATH)
        .header("if-match", &tag);
    let second = world
        .test
        .send(request, json!({ "actions": ["reading"] }))
        .await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    let request = world
        .test
        .request(Method::PUT, PATH)
        .header("if-match", &tag);
    let stale = world.test.send(request, json!({})).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    for (body, said) in [
        (
            json!({ "agent": { "type": "Agent", "id": "bot" } }),
            "`agent`",
        ),
        (json!({ "parent": "x" }), "`parent`"),
        (json!({ "idle_timeout": 10 }), "`idle_timeout`"),
        (json!({ "required": ["nonsense"] }), "`required"),
        (json!({ "required": ["fan_out"] }), "`fan_out`"),
        (json!({ "required": ["may_delegate"] }), "`may_delegate`"),
        (
            json!({ "window": { "days": [], "from": 0, "until": 1 } }),
            "`window.days`",
        ),
    ] {
        let refused = put(&world, &body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            refused.text
        );
        assert!(refused.text.contains(said), "{said}: {}", refused.text);
    }
    let gone = world
        .test
        .send(world.test.request(Method::DELETE, PATH), "")
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    for method in [Method::GET, Method::DELETE] {
        let absent = world.test.send(world.test.request(method, PATH), "").await;
        assert_eq!(absent.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_task_is_narrowed_by_one_that_takes_its_place() {
    let world = World::make().await;
    let members = json!({
        "actions": ["reading", "pay"], "budget": { "calls": 3 }, "may_delegate": true, "intent": "pay a@example.com",
    });
    let wide = world.open(with(task("bot"), members)).await;
    let below = world
        .open(with(task("bot"), json!({ "parent": wide })))
        .await;
    let asked = world.ask("bot", &read(), Some(&wide)).await;
    assert_eq!(reason(&asked), "policy_permit");
    let path = format!("/v1/tasks/{wide}/narrow");
    for (body, status) in [
        (
            json!({ "actions": ["writing"] }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({ "budget": { "calls": 4 } }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({ "expires_in": 86_400 }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!({ "intent": "pay b@example.com" }),
            StatusCode::BAD_REQUEST,
        ),
        (json!({ "purpose": "else" }), StatusCode::BAD_REQUEST),
        (json!({ "parent": below }), StatusCode::BAD_REQUEST),
    ] {
        let refused = world.send(&world.ops, &path, &body).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.text);
    }
    // The read may have cost more than was reserved for it: not before that is known.
    let early = world.send(&world.ops, &path, &json!({})).await;
    assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);
    assert!(early.text.contains("outcomes"), "{}", early.text);
    let told = format!("/v1/decisions/{}/outcome", asked.header("x-decision-id"));
    let told = world
        .test
        .post(&told, json!({ "result": "succeeded" }))
        .await;
    assert!(told.status.is_success(), "{}", told.text);
    let narrowed = world
        .send(
            &world.ops,
            &path,
            &json!({ "actions": ["get_file"], "may_delegate": false }),
        )
        .await;
    assert_eq!(narrowed.status, StatusCode::CREATED, "{}", narrowed.text);
    let narrow = id_of(&narrowed);
    assert_ne!(narrow, wide);
    let shown = world.shown(&narrow).await;
    assert_eq!(
        labels(&shown),
        ["untrusted"],
        "it begins with what was touched"
    );
    assert_eq!(shown["declaration"]["intent"], "pay a@example.com");
    assert_eq!(shown["decision"], world.shown(&wide).await["decision"]);
    let used = &shown["used"];
    let calls = |of: &str| used[of]["calls"].as_u64().unwrap_or_default();
    assert_eq!(calls("reserved") + calls("spent"), 1, "{used}");
    assert_eq!(
        world.reason("bot", &read(), Some(&narrow)).await,
        "policy_permit"
    );
    assert_eq!(
        world.reason("bot", &pay(), Some(&narrow)).await,
        "outside_task"
    );
    for over in [&wide, &below] {
        assert_eq!(
            world.reason("bot", &read(), Some(over)).await,
            "task_completed"
        );
    }
    let again = world.send(&world.ops, &path, &json!({})).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
}
