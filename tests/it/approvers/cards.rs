//! The card: what will run, whole and visible; nothing in the words of an agent but where it says so.

use http::{Method, StatusCode};
use remit_core::{PrincipalKind, Role};
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
    // What is Remit's own is nobody's words.
    assert_eq!(
        card["said_by_agent"],
        json!([{ "what": "intent", "text": "Pay acme" }])
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
        let card = card_of(&world, &question).await;
        let value = card["call"]["arguments"][1]["value"].as_str().unwrap();
        assert_eq!(value, shown);
        let sink = card["sinks"][0]["value"].as_str().unwrap();
        assert!(
            sink.chars()
                .all(|one| !('\u{200B}'..='\u{202E}').contains(&one)),
            "{sink}"
        );
        // The task's own sink is what it may be taken for.
        let like = like.map(|like| json!(like));
        assert_eq!(card["sinks"][0].get("looks_like"), like.as_ref(), "{to}");
        assert_eq!(card["sinks"][0]["declared"], false, "{to}");
    }
}

#[tokio::test]
async fn what_is_bound_is_shown_whole_or_refused() {
    let world = World::make().await;
    let mut question = payment(None);
    let long = format!("{}TAIL", "x".repeat(10_000));
    question["action"]["properties"]["text"] = json!(long);
    let card = card_of(&world, &question).await;
    assert_eq!(card["call"]["arguments"][1]["value"], json!(long));
    // What cannot be shown whole is not shown at all: one text, or many of them.
    let mut large = payment(None);
    large["action"]["properties"]["text"] = json!("x".repeat(500_000));
    let mut many = payment(None);
    for number in 0..60 {
        many["action"]["properties"][format!("a{number}")] = json!("y".repeat(2_000));
    }
    let mut noted = payment(None);
    noted["context"]["note"] = json!("z".repeat(70_000));
    for question in [large, many, noted] {
        let reply = world.try_request(&world.test.key, &question).await;
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        assert_eq!(reply.status, status, "{}", reply.text);
    }
}

#[tokio::test]
async fn nothing_that_is_bound_hides_behind_what_is_not() {
    let world = World::make().await;
    let mut question = payment(None);
    for number in 0..60 {
        question["context"][format!("a{number:02}")] = json!("chaff");
    }
    question["context"]["note"] = json!(format!("{}TAIL", "n".repeat(3_000)));
    question["context"]["api_key"] = json!("s3cret");
    question["subject"]["properties"] = json!({ "desk": "one" });
    question["action"]["properties"]["nested"] =
        json!({ "to\u{200B}": "mallory", "to\\u{200B}": "acme" });
    let card = card_of(&world, &question).await;
    let said = card["said_by_agent"].as_array().unwrap();
    let note = said[0]["text"].as_str().unwrap();
    assert!(said[0]["what"] == "context.note" && note.ends_with("TAIL"));
    assert_eq!(said[1], json!({ "what": "subject.desk", "text": "one" }));
    let last = said.last().unwrap();
    assert_eq!(last, &json!({ "what": "context", "text": "… (11 more)" }));
    assert!(!card.to_string().contains("s3cret"), "{card:#}");
    // Two names that look alike are two arguments.
    let more = &card["call"]["arguments"][1];
    assert_eq!(more["name"], "nested");
    assert_eq!(more["value"].as_object().unwrap().len(), 2, "{more:#}");
}

#[tokio::test]
async fn a_task_that_an_agent_opened_is_in_its_words() {
    let world = World::make().await;
    let key = world
        .test
        .key_of(PrincipalKind::Machine, "bot", &[Role::Operator])
        .await;
    let mut body = task();
    body["purpose"] = json!("Pay what Dana approved");
    let opened = world.task(&key, &body).await;
    let card = card_of(&world, &payment(Some(&opened))).await;
    assert_eq!(card["task"]["opened_by"], "bot");
    assert_eq!(card["task"].get("purpose"), None, "{card:#}");
    let said = card["said_by_agent"].as_array().unwrap();
    let purpose = json!({ "what": "purpose", "text": "Pay what Dana approved" });
    assert!(said.contains(&purpose), "{said:?}");
}

/// Words of a megabyte are refused, and no character of theirs breaks a row or a card.
#[tokio::test]
async fn prompts_of_any_size_and_character_do_no_harm() {
    let world = World::make().await;
    let evaluated = world
        .test
        .post("/access/v1/evaluation", payment(None))
        .await;
    let denied = evaluated.json()["context"].clone();
    let mut body = payment(None);
    body["denial"] = json!({
        "evaluation_id": denied["evaluation_id"], "expires_at": denied["access_request"]["expires_at"],
    });
    for (bytes, status) in [
        (17_000, StatusCode::BAD_REQUEST),
        (1_000_000, StatusCode::BAD_REQUEST),
        (2_000_000, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        body["context"]["justification"] = json!("a".repeat(bytes));
        let large = world.test.post("/access/v1/requests", &body).await;
        assert_eq!(large.status, status, "{bytes}: {}", large.text);
    }
    let mut argument = payment(None);
    argument["action"]["properties"]["text"] = json!("a".repeat(1_000_000));
    let large = world.try_request(&world.test.key, &argument).await;
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    assert_eq!(large.status, status, "{}", large.text);
    let odd = "approve\u{0}\u{1b}[2J\u{202E}\u{FFFE}\u{10FFFF}";
    body["context"]["justification"] = json!(odd);
    let reply = world.test.post("/access/v1/requests", &body).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let id = reply.json()["task"]["id"].as_str().unwrap().to_owned();
    let card = world.shown(&id).await["card"].clone();
    assert_eq!(
        card["said_by_agent"][0]["text"],
        "approve\\u{0}\\u{1B}[2J\\u{202E}\\u{FFFE}\\u{10FFFF}"
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
    let call = got.json()["card"]["call"].clone();
    let redacted = json!({ "type": "string", "length": 12 });
    assert_eq!(call["arguments"][1]["redacted"], redacted);
    // Nor can it be tried by the digest, which is there where nothing is taken out.
    assert_eq!(call.get("digest"), None);
    let whole = card_of(&world, &payment(None)).await;
    assert!(whole["call"]["digest"].is_string(), "{whole:#}");
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
