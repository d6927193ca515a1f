//! Names: an action is the same tool by whatever name it is asked, and an agent's own key asks for that agent alone.

use http::StatusCode;
use serde_json::json;

use super::*;

/// Asks with a key, and returns the reason of the answer.
async fn reason_to(world: &World, key: &str, question: &Value) -> String {
    let asked = world.send(key, "/access/v1/evaluation", question).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    reason(&asked)
}

fn in_full(what: &Value) -> Value {
    let mut what = what.clone();
    let name = what["action"]["name"].as_str().unwrap().to_owned();
    what["action"]["name"] = json!(format!("Action::\"{name}\""));
    what
}

#[tokio::test]
async fn a_tool_is_known_by_every_name_of_its_action() {
    let world = World::make().await;
    let limited = with(task("bot"), json!({ "budget": { "irreversible": 2 } }));
    let id = world.open(limited).await;
    let mut facts = Vec::new();
    for what in [pay(), in_full(&pay())] {
        let asked = world.ask("bot", &what, Some(&id)).await;
        assert_eq!(reason(&asked), "policy_permit");
        let path = format!("/v1/decisions/{}", asked.header("x-decision-id"));
        let record = world.test.get(&path).await.json();
        let mut known = record["facts"].clone();
        known["now"] = Value::Null;
        facts.push(known);
    }
    assert_eq!(facts[0], facts[1], "but for the time");
    assert_eq!(facts[0]["tool"]["name"], "pay");
    assert!(!facts[0]["call"]["sinks"].as_array().unwrap().is_empty());
    // Each of them cannot be undone, and both were counted.
    let third = world.reason("bot", &in_full(&pay()), Some(&id)).await;
    assert_eq!(third, "budget_exhausted");

    let kill = json!({ "target": { "kind": "tool", "tool": "pay" }, "reason": "incident 4711" });
    let set = world.send(&world.ops, "/v1/kills", &kill).await;
    assert_eq!(set.status, StatusCode::CREATED, "{}", set.text);
    world.test.caught_up().await;
    let id = world.open(task("bot")).await;
    for what in [pay(), in_full(&pay())] {
        assert_eq!(world.reason("bot", &what, Some(&id)).await, "killed");
    }
    assert_eq!(
        world.reason("bot", &in_full(&read()), Some(&id)).await,
        "policy_permit"
    );
}

#[tokio::test]
async fn the_own_key_of_an_agent_asks_for_that_agent_alone() {
    let world = World::make().await;
    let mine = world.open(task("bot")).await;
    let others = world.open(task("other")).await;
    let bot = world.own("bot", &[]).await;
    let person = json!({
        "subject": { "type": "Person", "id": "ann" }, "action": { "name": "get_file" },
        "resource": { "type": "File", "id": "hr-1" },
    });
    for (asked, expected) in [
        (question("bot", &pay(), None), "policy_permit"),
        (question("bot", &pay(), Some(&mine)), "policy_permit"),
        (question("other", &pay(), None), "subject_not_yours"),
        (
            question("other", &pay(), Some(&others)),
            "subject_not_yours",
        ),
        (question("bot", &pay(), Some(&others)), "task_not_yours"),
        (person.clone(), "subject_not_yours"),
    ] {
        assert_eq!(reason_to(&world, &bot, &asked).await, expected, "{asked}");
    }
    // So does a search.
    let search = json!({
        "subject": { "type": "Agent" }, "action": { "name": "get_file" }, "resource": { "type": "File", "id": "hr-1" },
    });
    let found = world.send(&bot, "/access/v1/search/subject", &search).await;
    assert_eq!(found.status, StatusCode::OK, "{}", found.text);
    let found = found.json()["results"].clone();
    let found = found.as_array().unwrap();
    assert!(found.iter().all(|hit| hit["id"] == "bot"), "{found:?}");
    // An enforcement point is no agent, and asks for all of them.
    for asked in [question("other", &pay(), Some(&others)), person] {
        let key = world.test.key.clone();
        assert_eq!(reason_to(&world, &key, &asked).await, "policy_permit");
    }
    // Once the agent has no principal, its old key is an enforcement point's.
    world.register("bot", None).await;
    world.test.caught_up().await;
    assert_eq!(
        reason_to(&world, &bot, &question("other", &pay(), None)).await,
        "policy_permit"
    );
}
