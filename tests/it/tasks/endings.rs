//! How tasks end: for good, with everything below, and by themselves.

use http::StatusCode;
use serde_json::json;

use super::*;

/// A parent, its child and the child's child.
async fn family(world: &World) -> [String; 3] {
    let hands_on = json!({ "may_delegate": true });
    let parent = world.open(with(task("bot"), hands_on.clone())).await;
    let child = with(with(task("bot"), hands_on), json!({ "parent": parent }));
    let child = world.open(child).await;
    let below = world
        .open(with(task("bot"), json!({ "parent": child })))
        .await;
    [parent, child, below]
}

#[tokio::test]
async fn what_ends_takes_everything_below_with_it_and_is_final() {
    let world = World::make().await;
    for (verb, state, expected) in [
        ("complete", "completed", "task_completed"),
        ("revoke", "revoked", "task_revoked"),
    ] {
        let [parent, child, below] = family(&world).await;
        for id in [&parent, &child, &below] {
            assert_eq!(
                world.reason("bot", &read(), Some(id)).await,
                "policy_permit"
            );
        }
        let ended = world.turn(&parent, verb).await;
        assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
        assert_eq!(ended.json()["state"], state);
        assert_eq!(ended.json()["ended_by"], "maya");
        for id in [&parent, &child, &below] {
            assert_eq!(world.reason("bot", &read(), Some(id)).await, expected);
            assert_eq!(world.shown(id).await["state"], state);
            for again in ["complete", "revoke", "suspend", "resume"] {
                let refused = world.turn(id, again).await;
                assert_eq!(
                    refused.status,
                    StatusCode::CONFLICT,
                    "{again}: {}",
                    refused.text
                );
            }
        }
        let child = with(task("bot"), json!({ "parent": parent }));
        let refused = world.open_by(&world.ops, &child).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    }
    let nothing = world
        .turn("019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20", "revoke")
        .await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_suspended_stops_what_is_below_until_it_is_resumed() {
    let world = World::make().await;
    let [parent, child, below] = family(&world).await;
    let reply = world.turn(&child, "suspend").await;
    assert_eq!(reply.json()["state"], "suspended", "{}", reply.text);
    assert_eq!(
        world.reason("bot", &read(), Some(&parent)).await,
        "policy_permit"
    );
    for id in [&child, &below] {
        assert_eq!(
            world.reason("bot", &read(), Some(id)).await,
            "task_suspended"
        );
    }
    let again = world.turn(&child, "suspend").await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    // It does not bring back what was suspended by itself.
    assert!(world.turn(&below, "suspend").await.status.is_success());
    assert!(world.turn(&child, "resume").await.status.is_success());
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "policy_permit"
    );
    assert_eq!(
        world.reason("bot", &read(), Some(&below)).await,
        "task_suspended"
    );
    // What is suspended can be ended, and is then over for good.
    assert!(world.turn(&child, "suspend").await.status.is_success());
    assert!(world.turn(&child, "complete").await.status.is_success());
    assert_eq!(
        world.reason("bot", &read(), Some(&below)).await,
        "task_completed"
    );
}

#[tokio::test]
async fn a_task_is_over_to_the_microsecond_by_the_time_of_the_database() {
    let world = World::make().await;
    let members = json!({ "expires_in": 600, "may_delegate": true });
    let parent = world.open(with(task("bot"), members)).await;
    let child = world
        .open(with(task("bot"), json!({ "parent": parent })))
        .await;
    let shown = world.shown(&parent).await;
    let end = time(&shown["declaration"]["expires_at"]);
    let left = end.micros() - world.test.clock.now().micros();
    world
        .test
        .clock
        .advance(Duration::from_micros(u64::try_from(left - 1).unwrap()));
    world.test.caught_up().await;
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "policy_permit"
    );
    world.test.clock.advance(Duration::from_micros(1));
    for id in [&parent, &child] {
        assert_eq!(world.reason("bot", &read(), Some(id)).await, "task_expired");
        assert_eq!(world.shown(id).await["state"], "expired");
    }
    let refused = world
        .open_by(&world.ops, &with(task("bot"), json!({ "parent": parent })))
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    // A day after it has been noted that it is over, it is as if it had never been.
    let store = &world.test.store;
    let due = store
        .end_due(world.test.tenant, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!((due.ended, due.forgotten), (2, 0));
    world.test.caught_up().await;
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "task_expired"
    );
    world.test.clock.advance(Duration::from_hours(25));
    let due = store
        .end_due(world.test.tenant, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!((due.ended, due.forgotten), (0, 2));
    world.test.caught_up().await;
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "task_unknown"
    );
    assert_eq!(
        world.shown(&child).await["state"],
        "expired",
        "its record stays"
    );
}

#[tokio::test]
async fn a_task_in_which_nothing_is_asked_ends_and_a_busy_one_does_not() {
    let options = Options {
        max_staleness: Duration::from_hours(24),
        // Told, and looked for, every 500 ms.
        task_idle_timeout: Duration::from_secs(2),
        ..Options::default()
    };
    let world = World::with(options).await;
    let members = json!({ "may_delegate": true });
    let idle = world.open(task("bot")).await;
    let stopped = world.open(task("bot")).await;
    assert!(world.turn(&stopped, "suspend").await.status.is_success());
    let parent = world.open(with(task("bot"), members)).await;
    let busy = world
        .open(with(task("bot"), json!({ "parent": parent })))
        .await;
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    // One after the other: what is asked is told before much more time passes.
    while world.shown(&idle).await["state"] == "active" {
        assert!(std::time::Instant::now() < deadline, "it never ended");
        assert_eq!(
            world.reason("bot", &read(), Some(&busy)).await,
            "policy_permit"
        );
        tokio::time::sleep(Duration::from_millis(900)).await;
        world.test.clock.advance(Duration::from_millis(900));
        world.test.caught_up().await;
    }
    let shown = world.shown(&idle).await;
    assert_eq!(shown["state"], "expired");
    assert_eq!(shown["ended_why"], "nothing was asked in it");
    world.test.caught_up().await;
    assert_eq!(
        world.reason("bot", &read(), Some(&idle)).await,
        "task_expired"
    );
    // What is asked in a child is asked in its parent, and what is suspended is not idle.
    for (id, state) in [
        (&parent, "active"),
        (&busy, "active"),
        (&stopped, "suspended"),
    ] {
        assert_eq!(world.shown(id).await["state"], state);
    }
}
