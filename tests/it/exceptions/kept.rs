//! An exception is of no effect where its policy may not be relaxed any more, or nobody answers for it.

use remit_core::Clock;

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

/// The same world as another process finds it that starts over the same database, by clocks of its own and of the database.
async fn restarted(world: &World, (here, there): (&Clock, &Clock)) -> World {
    let options = Options {
        max_staleness: Duration::from_hours(24 * 400),
        ..Options::default()
    };
    let test = TestApp::by(&world.test.database, here, there, options).await;
    test.caught_up().await;
    World {
        test,
        ana: world.ana.clone(),
        ben: world.ben.clone(),
    }
}

/// A clock that stands there. Manual clocks count their ids, so that no two may stand at the very same moment.
fn at(moment: Timestamp) -> Clock {
    Clock::manual(moment.plus(Duration::from_millis(1)))
}

/// It is loaded from nothing, and what was ended is not.
#[tokio::test]
async fn it_stays_in_force_over_a_restart_and_ended_over_another() {
    let world = World::make().await;
    let hour = Duration::from_hours(1);
    let id = world.relax(&world.body(hour)).await;
    let other = json!({ "agent": { "type": "Agent", "id": "other" }, "action": "pay" });
    let over = world.relax(&with(world.body(hour), "scope", other)).await;
    let end = format!("{PATH}/{over}/end");
    let ended = world.post(&world.ben, &end, &Value::Null).await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    let clock = at(world.test.clock.now());
    let again = restarted(&world, (&clock, &clock)).await;
    assert!(again.may_pay("bot", 500).await);
    assert!(!again.may_pay("other", 500).await);
    assert_eq!(again.shown(&id).await["state"], "in_force");
    assert_eq!(again.shown(&over).await["state"], "ended");
    let end = format!("{PATH}/{id}/end?wait=fleet");
    let ended = again.post(&again.ben, &end, &Value::Null).await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    let clock = at(clock.now());
    let third = restarted(&again, (&clock, &clock)).await;
    for one in [&again, &third] {
        assert!(!one.may_pay("bot", 500).await);
        assert_eq!(one.shown(&id).await["state"], "ended");
    }
}

/// Neither the clock of a host brings one back that is over, nor that of the database.
#[tokio::test]
async fn a_clock_that_is_set_back_brings_none_back() {
    let world = World::make().await;
    let (first, lasts) = (world.test.clock.now(), Duration::from_hours(1));
    let id = world.relax(&world.body(lasts)).await;
    world.at(first.plus(lasts)).await;
    // A host that is an hour behind, beside a database that is not.
    let there = at(world.test.clock.now());
    let behind = restarted(&world, (&at(first), &there)).await;
    assert!(!behind.may_pay("bot", 500).await);
    assert_eq!(behind.shown(&id).await["state"], "over");
    drop(behind);
    // By this, or by what looks for it all the time.
    let (store, tenant) = (&world.test.store, world.test.tenant);
    store.note_exceptions_over(tenant).await.unwrap();
    assert_eq!(store.note_exceptions_over(tenant).await.unwrap(), 0);
    let back = at(first.plus(Duration::from_secs(1)));
    let back = restarted(&world, (&back, &back)).await;
    assert!(back.test.clock.now() < first.plus(lasts));
    assert!(!back.may_pay("bot", 500).await);
    assert_eq!(back.shown(&id).await["state"], "over");
}
