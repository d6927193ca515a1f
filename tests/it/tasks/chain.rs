//! Everybody on whose authority a call is made must be allowed the same, and who is not is named.

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_agent_that_handed_a_task_on_must_be_allowed_the_same() {
    let world = World::make().await;
    let parent = world
        .open(with(task("boss"), json!({ "may_delegate": true })))
        .await;
    let child = world
        .open(with(task("bot"), json!({ "parent": parent })))
        .await;
    let alone = world.open(task("bot")).await;
    assert_eq!(
        world.reason("bot", &pay(), Some(&alone)).await,
        "policy_permit"
    );
    let denied = world.ask("bot", &pay(), Some(&child)).await;
    assert_eq!(reason(&denied), "delegation_denied");
    let limit = &denied.json()["context"]["limit"];
    assert_eq!(limit["hop"], 1, "{limit}");
    assert_eq!(limit["principal"], json!({ "type": "Agent", "id": "boss" }));
    assert_eq!(limit["reason"], "policy_forbid");
    // What both may do, the child may.
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "policy_permit"
    );
}

#[tokio::test]
async fn on_behalf_of_a_person_is_what_that_person_may_do() {
    let world = World::make().await;
    for (person, expected) in [("ann", "policy_permit"), ("bob", "delegation_denied")] {
        let members =
            json!({ "on_behalf_of": { "type": "Person", "id": person }, "may_delegate": true });
        let id = world.open(with(task("bot"), members)).await;
        let asked = world.ask("bot", &pay(), Some(&id)).await;
        assert_eq!(reason(&asked), expected, "{}", asked.text);
        if person == "bob" {
            let limit = asked.json()["context"]["limit"].clone();
            assert_eq!(limit["principal"], json!({ "type": "Person", "id": "bob" }));
            assert_eq!(limit["hop"], 1);
        }
        // A child is done for the same person, who must be allowed that it is opened.
        let child = world
            .open_by(&world.ops, &with(task("other"), json!({ "parent": id })))
            .await;
        assert_eq!(child.status.is_success(), person == "ann", "{}", child.text);
        if person == "ann" {
            let child = id_of(&child);
            assert_eq!(
                world.reason("other", &pay(), Some(&child)).await,
                "policy_permit"
            );
        }
    }
}

#[tokio::test]
async fn an_agent_above_that_is_suspended_stops_what_is_below() {
    let world = World::make().await;
    let parent = world
        .open(with(task("boss"), json!({ "may_delegate": true })))
        .await;
    let child = world
        .open(with(task("bot"), json!({ "parent": parent })))
        .await;
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "policy_permit"
    );
    let stopped = world
        .send(&world.ops, "/v1/agents/Agent/boss/suspend", &Value::Null)
        .await;
    assert!(stopped.status.is_success(), "{}", stopped.text);
    let denied = world.ask("bot", &read(), Some(&child)).await;
    assert_eq!(reason(&denied), "delegation_denied");
    assert_eq!(
        denied.json()["context"]["limit"]["reason"],
        "agent_suspended"
    );
}

/// A search lists who may, and each of them may exactly what it is asked.
#[tokio::test]
async fn a_search_knows_the_task() {
    let world = World::make().await;
    let narrow = world
        .open(with(task("bot"), json!({ "actions": ["reading"] })))
        .await;
    let mut search = question("bot", &read(), Some(&narrow));
    search.as_object_mut().unwrap().remove("action");
    let found = world.test.post("/access/v1/search/action", &search).await;
    assert_eq!(
        found.json()["results"],
        json!([{ "name": "get_file" }]),
        "{}",
        found.text
    );
    let gone = world.turn(&narrow, "revoke").await;
    assert!(gone.status.is_success());
    let found = world.test.post("/access/v1/search/action", &search).await;
    assert_eq!(found.json()["results"], json!([]), "{}", found.text);
}
