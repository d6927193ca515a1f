//! A child is within its parent in every dimension, and the one in which it is not is named.

use http::StatusCode;
use remit_core::{Declaration, EntityUid, TaskId};
use remit_store::{Change, Error, MOST_CHILDREN, NewTask};
use serde_json::json;

use super::*;

fn parent() -> Value {
    with(
        task("bot"),
        json!({
            "actions": ["reading"], "resources": [{ "type": "Folder", "id": "hr" }], "sinks": ["a@example.com"],
            "data_classes": ["pii"], "budget": { "calls": 5, "cost": 5, "amount": 5, "bytes": 5, "irreversible": 5 },
            "window": { "days": [1, 2, 3, 4, 5, 6, 7], "from": 0, "until": 1440 }, "expires_in": 600, "may_delegate": true,
            "on_behalf_of": { "type": "Person", "id": "ann" },
        }),
    )
}

#[tokio::test]
async fn a_child_that_is_wider_is_refused_with_the_dimension() {
    let world = World::make().await;
    let parent = world.open(parent()).await;
    for (members, dimension) in [
        (json!({ "actions": ["get_file", "pay"] }), "actions"),
        (json!({ "actions": ["writing"] }), "actions"),
        (
            json!({ "resources": [{ "type": "Folder", "id": "payroll" }] }),
            "resources",
        ),
        (
            json!({ "sinks": ["a@example.com", "b@example.com"] }),
            "sinks",
        ),
        (json!({ "data_classes": ["pii", "health"] }), "data_classes"),
        (json!({ "budget": { "calls": 6 } }), "calls"),
        (json!({ "budget": { "cost": 6 } }), "cost"),
        (json!({ "budget": { "amount": 6 } }), "amount"),
        (json!({ "budget": { "bytes": 6 } }), "bytes"),
        (json!({ "budget": { "irreversible": 6 } }), "irreversible"),
        (json!({ "expires_in": 601 }), "expiry"),
        (
            json!({ "on_behalf_of": { "type": "Person", "id": "bob" } }),
            "on_behalf_of",
        ),
    ] {
        let child = with(with(task("other"), json!({ "parent": parent })), members);
        let refused = world.open_by(&world.ops, &child).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text
        );
        let told = refused.json();
        assert_eq!(told["code"], "task-exceeds-parent");
        assert_eq!(told["dimension"], dimension, "{told}");
        assert_eq!(told["exceeds"], "parent");
        assert_ne!(told["declared"], told["limit"], "{told}");
    }
    // A window within one that is whole days is none; one outside a narrower one is.
    let narrow = world
        .open(with(
            task("bot"),
            json!({ "may_delegate": true, "window": { "days": [1], "from": 60, "until": 120 } }),
        ))
        .await;
    let child = with(
        task("other"),
        json!({ "parent": narrow, "window": { "days": [1], "from": 30, "until": 120 } }),
    );
    let refused = world.open_by(&world.ops, &child).await;
    assert_eq!(refused.json()["dimension"], "window", "{}", refused.text);

    // What is not said is the parent's, and what is narrower is taken.
    let child = with(
        task("other"),
        json!({
            "parent": parent, "actions": ["get_file"], "resources": [{ "type": "File", "id": "hr-1" }], "sinks": [],
            "budget": { "calls": 1 },
        }),
    );
    let opened = world.open_by(&world.ops, &child).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    let declared = &opened.json()["declaration"];
    assert_eq!(declared["data_classes"], json!(["pii"]));
    assert_eq!(declared["budget"]["amount"], 5);
    assert_eq!(declared["budget"]["calls"], 1);
    assert_eq!(declared["on_behalf_of"]["id"], "ann");
    assert_eq!(opened.json()["depth"], 1);
}

#[tokio::test]
async fn a_task_is_at_most_eight_hops_deep() {
    let world = World::make().await;
    let mut above = world
        .open(with(task("bot"), json!({ "may_delegate": true })))
        .await;
    for depth in 1..=8 {
        let child = with(
            task("bot"),
            json!({ "parent": above, "may_delegate": true }),
        );
        let opened = world.open_by(&world.ops, &child).await;
        assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
        assert_eq!(opened.json()["depth"], depth);
        above = id_of(&opened);
    }
    let child = with(task("bot"), json!({ "parent": above }));
    let refused = world.open_by(&world.ops, &child).await;
    assert_eq!(refused.json()["dimension"], "depth", "{}", refused.text);
    assert_eq!(refused.json()["declared"], 9);
    // The chain decides as a whole, down to the ninth.
    assert_eq!(
        world.reason("bot", &read(), Some(&above)).await,
        "policy_permit"
    );
}

#[tokio::test]
async fn a_task_has_at_most_a_thousand_children_that_live() {
    let world = World::make().await;
    let parent = world
        .open(with(task("bot"), json!({ "may_delegate": true })))
        .await;
    let id: TaskId = parent.parse().unwrap();
    let shown = world.shown(&parent).await;
    let mut declaration: Declaration =
        serde_json::from_value(shown["declaration"].clone()).unwrap();
    declaration.parent = Some(id);
    declaration.may_delegate = false;
    declaration.agent = EntityUid::new("Agent", "other");
    let insert = async || {
        let new = NewTask {
            id: TaskId::from_uuid(world.test.clock.id()),
            declaration: &declaration,
            decision: None,
            idle_timeout: Duration::from_mins(15),
            opened_by: &"maya".parse().unwrap(),
            opening_agents: &[],
            replaces: None,
            checked: None,
        };
        let done = world
            .test
            .store
            .insert_task(world.test.tenant, new, Change::default());
        done.await.map(|revision| (new.id, revision))
    };
    let mut last = None;
    for _ in 0..MOST_CHILDREN {
        last = Some(insert().await.unwrap());
    }
    let (child, revision) = last.unwrap();
    world.test.reached(revision).await;
    let refused = world
        .open_by(
            &world.ops,
            &with(task("other"), json!({ "parent": parent })),
        )
        .await;
    assert_eq!(refused.json()["dimension"], "fan_out", "{}", refused.text);
    assert_eq!(refused.json()["limit"], MOST_CHILDREN);
    // Nor does the database take one that another replica has checked.
    let error = insert().await.unwrap_err();
    assert!(matches!(error, Error::Unfit { .. }), "{error:?}");
    // One that is over makes room.
    assert_eq!(
        world.turn(&child.to_string(), "complete").await.status,
        StatusCode::OK
    );
    insert().await.unwrap();
    let shown = world.shown(&parent).await;
    assert_eq!(
        shown["children"],
        json!({ "live": MOST_CHILDREN, "all": MOST_CHILDREN + 1 })
    );
}
