//! The card: what will run, whole and visible; nothing in the words of an agent but where it says so.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, payment, task};

const WORDS: &str = "PLEASE-APPROVE-THIS";

async fn card_of(world: &World, question: &Value) -> Value {
    let id = world.requested(question).await;
    world.shown(&id).await["card"].clone()
}

#[tokio::test]
async fn the_card_says_what_will_run() {
    let world = World::make().await;
    let mut body = task();
    body["on_behalf_of"] = json!({ "type": "Person", "id": "zoe" });
    body["sinks"] = json!(["acme"]);
    let opened = world.task(&world.test.key, &body).await;
    let card = card_of(&world, &payment(Some(&opened))).await;
    assert_eq!(card["call"]["action"], "pay");
    assert_eq!(card["call"]["effect"], "pay");
    assert_eq!(
        card["call"]["arguments"],
        json!([
            { "name": "amount", "type": "number", "value": 100 }, { "name": "to", "type": "string", "value": "acme" },
        ])
    );
    assert_eq!(card["amount"], json!({ "minor": 10_000, "scale": 2 }));
    assert_eq!(
        card["sinks"],
        json!([{ "value": "acme", "declared": true, "trusted": true }])
    );
    assert_eq!(card["agent"]["owner"], "ada");
    assert_eq!(card["agent"]["purpose"], "Pays the invoices of suppliers");
    assert_eq!(card["task"]["purpose"], "pay");
    assert_eq!(
        card["task"]["on_behalf_of"],
        json!({ "type": "Person", "id": "zoe" })
    );
    assert_eq!(card["chain"], json!([{ "type": "Person", "id": "zoe" }]));
    assert_eq!(
        card["reasons"],
        json!([{
            "policy": "finance-pays", "advice": "Somebody of finance looks at every payment", "cure": "approval:finance",
            "severity": "high",
        }])
    );
    assert_eq!(card["hints"]["reversible"], false);
    assert_eq!(card["hints"]["first_tool"], true);
    assert_eq!(card["hints"]["first_sinks"], json!(["acme"]));
    assert_eq!(
        card["said_by_agent"][0],
        json!({ "what": "context.task", "text": opened })
    );
}

#[tokio::test]
async fn words_of_an_agent_stand_where_they_are_marked_and_nowhere_else() {
    let world = World::make().await;
    let mut body = task();
    body["intent"] = json!(WORDS);
    let opened = world.task(&world.test.key, &body).await;
    let mut question = payment(Some(&opened));
    question["context"]["note"] = json!(WORDS);
    question["context"]["undeclared"] = json!({ "a": WORDS });
    question["subject"]["properties"] = json!({ "name": WORDS });
    question["action"]["properties"]["text"] = json!(WORDS);
    let mut card = card_of(&world, &question).await;
    let said = card
        .as_object_mut()
        .unwrap()
        .remove("said_by_agent")
        .unwrap();
    assert!(said.to_string().contains(WORDS));
    // The arguments are what will run, and are shown as such.
    let arguments = card["call"]
        .as_object_mut()
        .unwrap()
        .remove("arguments")
        .unwrap();
    assert!(arguments.to_string().contains(WORDS));
    assert!(!card.to_string().contains(WORDS), "{card:#}");
}

#[tokio::test]
async fn nothing_hides_or_forges_the_recipient() {
    let world = World::make().await;
    let mut body = task();
    body["sinks"] = json!(["billing@acme.example"]);
    body["intent"] = json!("Pay");
    let opened = world.task(&world.test.key, &body).await;
    for (to, shown, like) in [
        (
            "billing@\u{430}cme.example",
            "billing@\u{430}cme.example",
            Some("billing@acme.example"),
        ),
        (
            "bi11ing@acme.example",
            "bi11ing@acme.example",
            Some("billing@acme.example"),
        ),
        (
            "evil\u{202E}elpmaxe.emca@gnillib",
            "evil\\u{202E}elpmaxe.emca@gnillib",
            None,
        ),
        (
            "<b>billing@acme.example</b>",
            "<b>billing@acme.example</b>",
            None,
        ),
        ("mallory\u{200B}", "mallory\\u{200B}", None),
    ] {
        let mut question = payment(None);
        question["action"]["properties"]["to"] = json!(to);
        question["context"]["task"] = json!(opened);
        let asked = world
            .test
            .post("/access/v1/evaluation", &question)
            .await
            .json();
        // What is outside the task's sinks is denied for good: nobody is asked about it.
        if asked["context"]["reason"] != "approval_required" {
            question["context"].as_object_mut().unwrap().remove("task");
        }
        let card = card_of(&world, &question).await;
        let value = card["call"]["arguments"][1]["value"].as_str().unwrap();
        assert_eq!(value, shown);
        let sink = card["sinks"][0]["value"].as_str().unwrap();
        assert!(
            sink.chars()
                .all(|one| !('\u{200B}'..='\u{202E}').contains(&one)),
            "{sink}"
        );
        if asked["context"]["reason"] == "approval_required" {
            let like = like.map_or(Value::Null, |like| json!(like));
            assert_eq!(
                card["sinks"][0]
                    .get("looks_like")
                    .cloned()
                    .unwrap_or(Value::Null),
                like,
                "{to}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_long_is_cut_and_what_is_too_large_is_refused() {
    let world = World::make().await;
    let mut question = payment(None);
    question["action"]["properties"]["text"] = json!("x".repeat(500_000));
    let card = card_of(&world, &question).await;
    let text = card["call"]["arguments"][1]["value"].as_str().unwrap();
    assert!(text.ends_with("… (498000 more)"), "{}", text.len());
    // Every argument is shown, so that too many of them are not shown at all.
    let mut question = payment(None);
    for number in 0..60 {
        question["action"]["properties"][format!("a{number}")] = json!("y".repeat(2_000));
    }
    let reply = world.try_request(&world.test.key, &question).await;
    assert_eq!(
        reply.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn secrets_are_taken_out() {
    let world = World::make().await;
    let mut question = payment(None);
    question["action"]["properties"]["api_key"] = json!("s3cret-value");
    let id = world.requested(&question).await;
    let path = format!("/v1/approvals/{id}");
    let got = world
        .send(&world.ben, Method::GET, &path, &Value::Null)
        .await;
    assert!(!got.text.contains("s3cret-value"), "{}", got.text);
    assert_eq!(
        got.json()["card"]["call"]["arguments"][1]["redacted"],
        json!({ "type": "string", "length": 12 })
    );
}

#[tokio::test]
async fn hints_tell_what_was_there_before() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    assert_eq!(world.approve(&world.ben, &id).await.status, StatusCode::OK);
    let used = world.ask_by(&payment(None), &id).await;
    assert_eq!(used["decision"], true, "{used}");
    let mut other = payment(None);
    other["action"]["properties"]["to"] = json!("stranger");
    let id = world.requested(&other).await;
    let card = world.shown(&id).await["card"].clone();
    assert_eq!(card["hints"]["first_tool"], false, "{card:#}");
    assert_eq!(card["hints"]["first_sinks"], json!(["stranger"]));
    world.deny(&world.ben, &id).await;
    other["action"]["properties"]["amount"] = json!(5);
    let card = card_of(&world, &other).await;
    assert_eq!(card["hints"]["recent_refusals"], 1);
}
