//! An exception is of no effect where its policy may not be relaxed any more, or nobody answers for it.

use super::*;

#[tokio::test]
async fn a_policy_that_may_never_be_relaxed_counts_again_at_once() {
    let mut world = World::make().await;
    let id = world.relax(&world.body(Duration::from_hours(1))).await;
    assert!(world.may_pay("bot", 500).await);
    let never = POLICIES.replace("@id(\"limit\")", "@id(\"limit\") @relax(\"never\")");
    world.test.put(&bundle_of(&never)).await;
    assert!(!world.may_pay("bot", 500).await);
    let shown = world.shown(&id).await;
    assert_eq!(shown["state"], "void");
    assert!(text(&shown["void_because"]).contains("never"), "{shown}");
    let gone = POLICIES.replace("@id(\"limit\")", "@id(\"renamed\")");
    world.test.put(&bundle_of(&gone)).await;
    assert!(
        !world.may_pay("bot", 500).await,
        "a policy of another name is another"
    );
    assert_eq!(world.shown(&id).await["state"], "void");
    world.test.put(&bundle_of(POLICIES)).await;
    assert!(world.may_pay("bot", 500).await);
    assert_eq!(world.shown(&id).await["state"], "in_force");
}

#[tokio::test]
async fn somebody_has_to_answer_for_it() {
    let world = World::make().await;
    let id = world.relax(&world.body(Duration::from_hours(1))).await;
    assert!(world.may_pay("bot", 500).await);
    let admin = world.test.person("root", &[Role::Admin], Scope::ALL).await;
    let path = "/v1/principals/maya";
    let disabled = world
        .test
        .as_key(&admin, Method::DELETE, path, &Value::Null)
        .await;
    assert_eq!(disabled.status, StatusCode::NO_CONTENT, "{}", disabled.text);
    world.test.caught_up().await;
    assert!(!world.may_pay("bot", 500).await);
    let shown = world.shown(&id).await;
    assert_eq!(shown["state"], "void");
    assert!(text(&shown["void_because"]).contains("maya"), "{shown}");
}

/// A policy that cannot be evaluated denies, exception or not.
#[tokio::test]
async fn a_policy_that_errs_is_not_relaxed() {
    let mut world = World::make().await;
    let errs = POLICIES.replace(
        "context.amount > 100 ",
        "context.amount * 9223372036854775807 > 100 ",
    );
    world.test.put(&bundle_of(&errs)).await;
    world.relax(&world.body(Duration::from_hours(1))).await;
    let denied = world.pays("bot", 500).await.json();
    assert_eq!(
        (&denied["decision"], &denied["context"]["reason"]),
        (&json!(false), &json!("policy_error"))
    );
    assert!(world.may_pay("bot", 1).await);
}

/// It is there after a restart, of whatever the replica has read before.
#[tokio::test]
async fn it_stays_in_force_over_a_pause_and_ends_while_nobody_looks() {
    let mut world = World::make().await;
    let id = world.relax(&world.body(Duration::from_hours(1))).await;
    world.test.pause();
    world.test.resume();
    world.test.caught_up().await;
    assert!(world.may_pay("bot", 500).await);
    let ended = world
        .post(&world.ben, &format!("{PATH}/{id}/end"), &Value::Null)
        .await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    assert!(!world.may_pay("bot", 500).await);
}
