//! What no exception can be, and who cannot make one.

use super::*;

async fn refuses(world: &World, body: &Value, status: StatusCode, what: &str) {
    let refused = world.post(&world.ana, PATH, body).await;
    assert_eq!(refused.status, status, "{body}: {}", refused.text);
    assert!(refused.text.contains(what), "{what}: {}", refused.text);
}

#[tokio::test]
async fn what_cannot_be_relaxed_is_refused() {
    let world = World::make().await;
    let body = world.body(Duration::from_hours(1));
    for (policy, what) in [
        ("nowhere", "no such policy"),
        ("open", "only what forbids"),
        ("trial", "shadow mode"),
        ("ceiling", "never"),
    ] {
        let body = with(body.clone(), "policy", json!(policy));
        refuses(&world, &body, StatusCode::CONFLICT, what).await;
    }
    world
        .test
        .key_of(PrincipalKind::Machine, "robot", &[])
        .await;
    for owner in ["robot", "nobody"] {
        let body = with(body.clone(), "owner", json!(owner));
        refuses(&world, &body, StatusCode::CONFLICT, "owner").await;
    }
    assert_eq!(world.test.get(PATH).await.json()["exceptions"], json!([]));
}

#[tokio::test]
async fn what_is_no_proposal_is_refused_by_its_member() {
    let world = World::make().await;
    let body = world.body(Duration::from_hours(1));
    let now = world.test.clock.now();
    let bad = StatusCode::BAD_REQUEST;
    let too_late = now.plus(Duration::from_hours(90 * 24) + Duration::from_micros(1));
    for (member, value, what) in [
        ("scope", json!({}), "scope"),
        ("scope", json!({ "tool": "x" }), "tool"),
        ("scope", json!(["pay"]), "scope"),
        ("scope", json!({ "action": " " }), "scope.action"),
        (
            "scope",
            json!({ "environment": "x".repeat(257) }),
            "scope.environment",
        ),
        (
            "scope",
            json!({ "agent": { "type": "Agent", "id": "x".repeat(1_025) } }),
            "scope.agent.id",
        ),
        (
            "scope",
            json!({ "resource": { "type": "a\nb", "id": "x" } }),
            "scope.resource.type",
        ),
        ("scope", json!({ "task": "one" }), "task"),
        ("policy", json!("x".repeat(257)), "policy"),
        ("reason", json!("x".repeat(1_025)), "reason"),
        ("reason", json!("two\nlines"), "reason"),
        ("compensating", json!(""), "compensating"),
        ("owner", json!(""), "owner"),
        ("until", json!(now), "until"),
        ("until", json!(too_late), "until"),
        ("until", json!("soon"), "until"),
        ("until_when", json!(now), "until_when"),
    ] {
        let body = with(body.clone(), member, value);
        refuses(&world, &body, bad, what).await;
    }
    for member in [
        "policy",
        "scope",
        "owner",
        "reason",
        "compensating",
        "until",
    ] {
        let mut less = body.clone();
        less.as_object_mut().unwrap().remove(member);
        refuses(&world, &less, bad, member).await;
    }
    // As long as it may be.
    let longest = now.plus(Duration::from_hours(90 * 24));
    world.propose(&with(body, "until", json!(longest))).await;
}

#[tokio::test]
async fn only_what_was_seen_is_confirmed() {
    let world = World::make().await;
    let body = world.body(Duration::from_hours(1));
    let one = world.propose(&body).await;
    let other = world.propose(&with(body, "reason", json!("another"))).await;
    assert_ne!(one["hash"], other["hash"]);
    let swapped = with(one.clone(), "hash", other["hash"].clone());
    let refused = world.confirm(&swapped).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert!(refused.text.contains("seen"), "{}", refused.text);
    for seen in [
        json!({}),
        json!({ "seen": "sha256:1" }),
        json!({ "seen": one["hash"], "x": 1 }),
    ] {
        let path = format!("{PATH}/{}/confirm", text(&one["id"]));
        let bad = world.post(&world.ben, &path, &seen).await;
        assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.text);
    }
    assert!(!world.may_pay("bot", 500).await);
    // Whoever proposed it must still be somebody who may.
    world
        .test
        .principal("ana", PrincipalKind::Person, &[Role::Reader])
        .await;
    let stripped = world.confirm(&one).await;
    assert_eq!(stripped.status, StatusCode::CONFLICT, "{}", stripped.text);
    assert!(
        stripped.text.contains("may not any more"),
        "{}",
        stripped.text
    );
    world
        .test
        .principal("ana", PrincipalKind::Person, &[Role::Publisher])
        .await;
    let done = world.confirm(&one).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert!(world.may_pay("bot", 500).await);
    // What is taken back is not confirmed.
    let path = format!("{PATH}/{}/end", text(&other["id"]));
    let back = world.post(&world.ana, &path, &Value::Null).await;
    assert_eq!(
        (back.status, back.header("remit-revision")),
        (StatusCode::OK, ""),
        "{}",
        back.text
    );
    let late = world.confirm(&other).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
}

#[tokio::test]
async fn a_request_that_is_sent_again_does_nothing_twice() {
    let world = World::make().await;
    let body = world.body(Duration::from_hours(1));
    let send = |path: String, key: String, body: Value| {
        let request = world.test.request_with(&key, Method::POST, &path);
        let request = request.header("idempotency-key", "once");
        world.test.send(request, body)
    };
    let first = send(PATH.to_owned(), world.ana.clone(), body.clone()).await;
    let second = send(PATH.to_owned(), world.ana.clone(), body.clone()).await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.text);
    assert_eq!(first.json()["id"], second.json()["id"]);
    let other = with(body, "reason", json!("another"));
    let reused = send(PATH.to_owned(), world.ana.clone(), other).await;
    assert_eq!(
        reused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reused.text
    );
    assert_eq!(
        world.test.get(PATH).await.json()["exceptions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
