//! The quorum: as many persons of each group as it wants, and persons only once.

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
    // Dan, his other account, and Eve in his place: two persons have spoken, and for two places.
    let shown = world.shown(&id).await;
    assert_eq!(shown["answers"].as_array().unwrap().len(), 4, "{shown:#}");
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
