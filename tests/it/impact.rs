//! The impact of a draft: recorded decisions made again, and what comes out otherwise.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{Bundle, Source};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

const PATH: &str = "/v1/bundle/impact";

async fn ask(test: &TestApp, subject: &str, action: &str, (kind, id): (&str, &str)) -> String {
    let question = json!({
        "subject": { "type": "Agent", "id": subject }, "action": { "name": action }, "resource": { "type": kind, "id": id },
    });
    let reply = test.post("/access/v1/evaluation", question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    test.clock.advance(Duration::from_secs(1));
    reply.header("x-decision-id").to_owned()
}

/// Asks what the starter bundle permits and what it denies.
async fn ask_all(test: &TestApp) -> Vec<String> {
    let mut ids = Vec::new();
    for (subject, action, resource) in [
        ("invoice-bot", "call", ("Tool", "mail.list")),
        ("invoice-bot", "call", ("Tool", "mail.list")),
        ("ghost-bot", "call", ("Tool", "mail.list")),
        ("invoice-bot", "read_data", ("Document", "salaries-2026")),
        ("crm-helper", "call", ("Tool", "crm.update")),
        ("crm-helper", "call", ("Tool", "crm.delete")),
    ] {
        ids.push(ask(test, subject, action, resource).await);
    }
    ids
}

async fn assess(test: &TestApp, query: &str, bundle: &Bundle) -> Reply {
    assert!(test.log.caught_up(Duration::from_secs(30)).await);
    let request = test.request(Method::POST, &format!("{PATH}{query}"));
    test.send(request, serde_json::to_string(bundle).unwrap())
        .await
}

async fn impact(test: &TestApp, bundle: &Bundle) -> Value {
    let reply = assess(test, "", bundle).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

/// The starter bundle with one more policy.
fn with(text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(Source {
        file: "added.cedar".to_owned(),
        text: text.to_owned(),
    });
    bundle
}

#[tokio::test]
async fn the_bundle_in_force_changes_nothing() {
    let test = TestApp::shipping(&pack("starter")).await;
    let asked = ask_all(&test).await;
    let same = impact(&test, &pack("starter")).await;
    assert_eq!(same["replayed"], asked.len(), "{same}");
    assert_eq!(same["unchanged"], asked.len(), "{same}");
    assert_eq!(same["groups"], json!([]));
    assert_eq!(same["not_replayable"], json!([]));
    assert_eq!(same["truncated"], false);
}

#[tokio::test]
async fn a_draft_is_told_apart_by_what_it_does() {
    let test = TestApp::shipping(&pack("starter")).await;
    let asked = ask_all(&test).await;
    let forbids = with(
        "@id(\"no-mail\") @owner(\"o\") forbid (principal, action, resource == Tool::\"mail.list\");",
    );
    let found = impact(&test, &forbids).await;
    assert_eq!(
        found["totals"],
        json!({ "newly_denied": 2, "other_reason": 1 }),
        "{found}"
    );
    let group = &found["groups"][0];
    assert_eq!(group["outcome"], "newly_denied");
    assert_eq!(group["count"], 2);
    assert_eq!(group["action"], "call");
    assert_eq!(group["before"]["verdict"], "permit");
    assert_eq!(
        group["after"],
        json!({ "verdict": "deny", "reason": "policy_forbid", "policies": ["no-mail"] })
    );
    assert_eq!(group["samples"], json!(&asked[..2]));

    let asks = with(
        "@id(\"ask\") @owner(\"o\") forbid (principal, action, resource == Tool::\"mail.list\") unless { context.facts.approved };",
    );
    let found = impact(&test, &asks).await;
    assert_eq!(found["totals"]["newly_needing_approval"], 2, "{found}");

    let fails = with(
        "@id(\"fails\") @owner(\"o\") permit (principal, action, resource == Tool::\"mail.list\") when { context.facts.minute_of_day * 9223372036854775807 > 0 };",
    );
    let found = impact(&test, &fails).await;
    assert_eq!(found["totals"]["new_errors"], 3, "{found}");

    let mut open = pack("starter");
    open.policies
        .retain(|source| source.file.ends_with("roles.cedar"));
    open.policies.push(Source {
        file: "all.cedar".to_owned(),
        text: "@id(\"all\") permit (principal, action, resource);".to_owned(),
    });
    let found = impact(&test, &open).await;
    assert!(
        found["totals"]["newly_permitted"].as_u64().unwrap() >= 2,
        "{found}"
    );
    // Assessing is no decision and puts nothing in force.
    let listed = test.get("/v1/decisions").await.json();
    assert_eq!(listed["decisions"].as_array().unwrap().len(), asked.len());
}

/// Each decision is made again over the entities of its own revision, not over those of today.
#[tokio::test]
async fn entities_are_those_of_the_record() {
    let test = TestApp::shipping(&pack("starter")).await;
    let twin = "/v1/entities/Agent/twin-bot";
    let known = pack("starter").entities.into_iter();
    let attrs = known
        .filter(|entity| entity.uid.id == "invoice-bot")
        .map(|entity| json!(entity))
        .next()
        .unwrap();
    for (status, expected) in [
        ("active", "permit"),
        ("suspended", "deny"),
        ("active", "permit"),
    ] {
        let mut entity = json!({ "attrs": attrs["attrs"], "parents": attrs["parents"] });
        entity["attrs"]["status"] = json!(status);
        let request = test.request(Method::PUT, twin);
        let known = test.get(twin).await;
        let request = if known.status == StatusCode::OK {
            request.header("if-match", known.header("etag"))
        } else {
            request.header("if-none-match", "*")
        };
        let put = test.send(request, entity.to_string()).await;
        assert!(put.status.is_success(), "{}", put.text);
        let id = ask(&test, "twin-bot", "call", ("Tool", "mail.list")).await;
        assert!(test.log.caught_up(Duration::from_secs(30)).await);
        let verdict =
            test.get(&format!("/v1/decisions/{id}")).await.json()["decision"]["verdict"].clone();
        assert_eq!(verdict, expected, "{status}");
    }
    let same = impact(&test, &pack("starter")).await;
    assert_eq!(same["replayed"], 3, "{same}");
    assert_eq!(same["unchanged"], 3, "{same}");
    assert_eq!(same["entities"], "recorded");
}

#[tokio::test]
async fn a_window_and_a_limit_are_kept() {
    let test = TestApp::shipping(&pack("starter")).await;
    ask_all(&test).await;
    let page = assess(&test, "?limit=4", &pack("starter")).await.json();
    assert_eq!(
        (&page["replayed"], &page["truncated"]),
        (&json!(4), &json!(true)),
        "{page}"
    );
    let page = assess(&test, "?limit=6", &pack("starter")).await.json();
    assert_eq!(
        (&page["replayed"], &page["truncated"]),
        (&json!(6), &json!(false)),
        "{page}"
    );
    test.clock.advance(Duration::from_hours(2));
    let none = assess(&test, "?hours=1", &pack("starter")).await.json();
    assert_eq!(none["replayed"], 0, "{none}");
    for query in [
        "?hours=0",
        "?hours=100000",
        "?limit=0",
        "?limit=1000001",
        "?hour=1",
        "?hours=x",
    ] {
        let refused = assess(&test, query, &pack("starter")).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{query}: {}",
            refused.text
        );
    }
    let broken = assess(&test, "", &with("permit (principal")).await;
    assert_eq!(
        broken.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        broken.text
    );
    assert_eq!(broken.json()["diagnostics"][0]["code"], "parse_error");
}

#[tokio::test]
async fn progress_is_told_in_events() {
    let test = TestApp::shipping(&pack("starter")).await;
    ask_all(&test).await;
    let request = test
        .request(Method::POST, PATH)
        .header("accept", "text/event-stream");
    let reply = test
        .send(request, serde_json::to_string(&pack("starter")).unwrap())
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    let events: Vec<&str> = reply
        .text
        .split("\n\n")
        .filter(|one| !one.is_empty())
        .collect();
    assert_eq!(
        events[0],
        "event: progress\ndata: {\"replayed\":6,\"unchanged\":6}"
    );
    let last = events[1].strip_prefix("event: impact\ndata: ").unwrap();
    let impact: Value = serde_json::from_str(last).unwrap();
    assert_eq!(impact["replayed"], 6);
}

/// A run takes long and takes what others need, so there are few at once, and publishing does not wait for them.
#[tokio::test]
async fn there_are_few_assessments_at_once() {
    let test = TestApp::shipping(&pack("starter")).await;
    ask_all(&test).await;
    let starter = pack("starter");
    let ask = || assess(&test, "", &starter);
    let replies: [Reply; 6] = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask()).into();
    let with = |status: StatusCode| {
        replies
            .iter()
            .filter(|reply| reply.status == status)
            .count()
    };
    let (done, refused) = (with(StatusCode::OK), with(StatusCode::SERVICE_UNAVAILABLE));
    assert!(
        done >= 1 && refused >= 1 && done + refused == 6,
        "{done} and {refused}"
    );
    for reply in replies
        .iter()
        .filter(|reply| reply.status != StatusCode::OK)
    {
        assert_eq!(reply.json()["code"], "overloaded", "{}", reply.text);
    }
    assert_eq!(
        impact(&test, &starter).await["replayed"],
        6,
        "there is room again"
    );
}

/// A draft that today's entities fit, and those of the oldest decision do not, is still assessed by the others.
#[tokio::test]
async fn entities_that_did_not_fit_once_are_no_reason_for_ever() {
    let test = TestApp::shipping(&pack("starter")).await;
    let twin = "/v1/entities/Agent/twin-bot";
    let known = pack("starter").entities.into_iter();
    let agent = known
        .filter(|entity| entity.uid.id == "invoice-bot")
        .map(|entity| json!(entity))
        .next()
        .unwrap();
    let body = json!({ "attrs": agent["attrs"], "parents": agent["parents"] });
    let request = test.request(Method::PUT, twin).header("if-none-match", "*");
    let put = test.send(request, body.to_string()).await;
    assert!(put.status.is_success(), "{}", put.text);
    ask(&test, "twin-bot", "call", ("Tool", "mail.list")).await;
    let request = test.request(Method::DELETE, twin);
    let removed = test.send(request, "").await;
    assert!(removed.status.is_success(), "{}", removed.text);
    ask(&test, "invoice-bot", "call", ("Tool", "mail.list")).await;

    // The twin belongs to the bundle now, where no live entity may have its name.
    let mut draft = pack("starter");
    let mut bundled = draft.entities[0].clone();
    for entity in &draft.entities {
        if entity.uid.id == "invoice-bot" {
            bundled = entity.clone();
        }
    }
    bundled.uid.id = "twin-bot".into();
    draft.entities.push(bundled);
    let found = impact(&test, &draft).await;
    assert_eq!(found["replayed"], 1, "{found}");
    assert_eq!(found["unchanged"], 1, "{found}");
    assert_eq!(found["not_replayable"][0]["count"], 1, "{found}");
    let because = found["not_replayable"][0]["because"].as_str().unwrap();
    assert!(because.contains("twin-bot"), "{because}");
}
