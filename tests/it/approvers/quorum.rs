//! The quorum: as many persons of each group as it wants, and persons only once.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::Role;
use serde_json::{Value, json};

use super::{World, payment, refused};

fn large() -> Value {
    let mut question = payment(None);
    question["resource"]["id"] = json!("large");
    question
}

fn board(members: &[&str]) -> Value {
    let members = members.iter().map(|name| json!({ "principal": name }));
    json!({ "members": members.collect::<Vec<_>>() })
}

#[tokio::test]
async fn every_group_has_as_many_as_it_wants() {
    let world = World::make().await;
    let eve = world.person("eve", &[Role::Approver]).await;
    world.group("board", &board(&["dan", "eve"])).await;
    let id = world.requested(&large()).await;
    assert_eq!(
        world.shown(&id).await["wants"],
        json!({ "board": 2, "finance": 1 })
    );
    for (key, board, finance) in [(&world.dan, 1, 0), (&world.ben, 1, 1)] {
        let reply = world.approve(key, &id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let done = reply.json();
        assert_eq!(done["state"], "pending", "{done}");
        assert_eq!(done["progress"][0]["approved"], board, "{done}");
        assert_eq!(done["progress"][1]["approved"], finance, "{done}");
        assert_eq!(world.ask_by(&large(), &id).await["decision"], false);
    }
    refused(
        &world.approve(&world.dan, &id).await,
        StatusCode::CONFLICT,
        "answered it already",
    );
    let reply = world.approve(&eve, &id).await;
    assert_eq!(reply.json()["state"], "approved", "{}", reply.text);
    assert_eq!(
        world.shown(&id).await["approvers"],
        json!(["ben", "dan", "eve"])
    );
    assert_eq!(world.ask_by(&large(), &id).await["decision"], true);
}

#[tokio::test]
async fn two_accounts_are_one_person_and_a_delegate_is_nobody_more() {
    let world = World::make().await;
    let second = world.person("dan-2", &[Role::Approver]).await;
    let put = world
        .behind("dan-2", "person", &json!(["approver"]), "dan")
        .await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let eve = world.person("eve", &[Role::Approver]).await;
    world.group("board", &board(&["dan", "dan-2"])).await;
    let body = json!({ "to": "eve", "until": "2026-01-06T00:00:00Z", "reason": "On leave" });
    let path = "/v1/approver-delegations/dan";
    let put = world.send(&world.dan, Method::PUT, path, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let id = world.requested(&large()).await;
    world.approve(&world.ben, &id).await;
    for key in [&world.dan, &second, &eve] {
        let reply = world.approve(key, &id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
    // Dan, his other account, and Eve in his place: two persons have spoken, for the place of one.
    let shown = world.shown(&id).await;
    assert_eq!(shown["answers"].as_array().unwrap().len(), 4, "{shown:#}");
    assert_eq!(shown["state"], "pending", "{shown:#}");
    let one = json!({ "group": "board", "needed": 2, "approved": 1 });
    assert_eq!(shown["progress"][0], one, "{shown:#}");
}

#[tokio::test]
async fn a_member_and_a_delegate_of_their_other_account_are_one() {
    let world = World::make().await;
    let second = world.person("dan-2", &[Role::Approver]).await;
    let roles = json!(["approver"]);
    let put = world.behind("dan-2", "person", &roles, "dan").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let eve = world.person("eve", &[Role::Approver]).await;
    world.group("board", &board(&["dan", "dan-2"])).await;
    let body = json!({ "to": "eve", "until": "2026-01-06T00:00:00Z", "reason": "On leave" });
    let path = "/v1/approver-delegations/dan-2";
    let put = world.send(&second, Method::PUT, path, &body).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let id = world.requested(&large()).await;
    world.approve(&world.ben, &id).await;
    world.approve(&world.dan, &id).await;
    let reply = world.approve(&eve, &id).await;
    assert_eq!(reply.json()["state"], "pending", "{}", reply.text);
    assert_eq!(reply.json()["progress"][0]["approved"], 1, "{}", reply.text);
}

#[tokio::test]
async fn the_time_counts_from_the_last_answer_unless_a_moment_was_named() {
    for (named, state) in [
        (None, "approved"),
        (Some("2026-01-05T10:10:00Z"), "pending"),
    ] {
        let world = World::make().await;
        let eve = world.person("eve", &[Role::Approver]).await;
        world.group("board", &board(&["dan", "eve"])).await;
        let id = world.requested(&large()).await;
        world.approve(&world.ben, &id).await;
        let until = named.map_or(json!({}), |until| json!({ "until": until }));
        let reply = world.answer(&world.dan, &id, "approve", until).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        world.test.clock.advance(Duration::from_mins(20));
        let reply = world.approve(&eve, &id).await;
        let done = reply.json();
        assert_eq!(done["state"], state, "{done}");
        let used = world.ask_by(&large(), &id).await;
        assert_eq!(used["decision"], named.is_none(), "{used}");
        if named.is_none() {
            assert_eq!(done["approved_until"], "2026-01-05T10:35:00.000000Z");
        } else {
            assert_eq!(done["progress"][0]["approved"], 1, "{done}");
        }
    }
}

#[tokio::test]
async fn who_may_not_any_more_does_not_count() {
    let world = World::make().await;
    let eve = world.person("eve", &[Role::Approver]).await;
    world.group("board", &board(&["dan", "eve"])).await;
    let id = world.requested(&large()).await;
    world.approve(&world.ben, &id).await;
    let reply = world.approve(&world.dan, &id).await;
    assert_eq!(reply.json()["progress"][0]["approved"], 1, "{}", reply.text);
    // Dan is taken out of the board before the other one speaks.
    world.group("board", &board(&["eve"])).await;
    let reply = world.approve(&eve, &id).await;
    assert_eq!(reply.json()["state"], "pending", "{}", reply.text);
    assert_eq!(reply.json()["progress"][0]["approved"], 1, "{}", reply.text);
}

#[tokio::test]
async fn one_refusal_is_enough_whoever_approved() {
    let world = World::make().await;
    let id = world.requested(&large()).await;
    world.approve(&world.ben, &id).await;
    let reply = world.deny(&world.dan, &id).await;
    assert_eq!(reply.json()["state"], "denied", "{}", reply.text);
}

/// Whoever finds out more may take back that they approved, by refusing; not the other way about.
#[tokio::test]
async fn who_approved_may_refuse_while_others_are_waited_for() {
    let world = World::make().await;
    let id = world.requested(&large()).await;
    let reply = world.approve(&world.ben, &id).await;
    assert_eq!(reply.json()["state"], "pending", "{}", reply.text);
    let reply = world.deny(&world.ben, &id).await;
    assert_eq!(reply.json()["state"], "denied", "{}", reply.text);
    let answers = &world.shown(&id).await["answers"];
    assert_eq!(answers.as_array().unwrap().len(), 1, "{answers}");
    assert_eq!(answers[0]["answer"], "deny", "{answers}");
    let reply = world.approve(&world.ben, &id).await;
    assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text);
}
