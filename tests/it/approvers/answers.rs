//! Answers: approved for what was seen and for nothing else, once, on what is known now; and every way they fail.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, bundle, payment, refused, task};

const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn what_is_approved_runs_once() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let waiting = world.ask_by(&payment(None), &id).await;
    assert_eq!(waiting["decision"], false);
    let reply = world
        .answer(
            &world.ben,
            &id,
            "approve",
            json!({ "comment": "As ordered" }),
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let done = reply.json();
    assert_eq!(done["state"], "approved");
    assert_eq!(
        done["progress"],
        json!([{ "group": "finance", "needed": 1, "approved": 1 }])
    );
    let shown = world.shown(&id).await;
    assert_eq!(shown["approvers"], json!(["ben"]));
    assert_eq!(shown["answers"][0]["reason"], "As ordered");
    let first = world.ask_by(&payment(None), &id).await;
    assert_eq!(first["decision"], true, "{first}");
    let second = world.ask_by(&payment(None), &id).await;
    assert_eq!(second["decision"], false, "{second}");
    // The record has what was seen.
    let page = world
        .test
        .get("/v1/admin/actions?action=approve_request")
        .await
        .json();
    let record = &page["actions"][0];
    assert_eq!(record["principal"], "ben");
    assert_eq!(record["details"]["card_hash"], shown["card_hash"]);
    assert_eq!(record["details"]["card"], shown["card"]);
    assert_eq!(record["details"]["groups"], json!(["finance"]));
}

#[tokio::test]
async fn for_a_task_it_is_good_for_calls_of_the_kind() {
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    let id = world.requested(&payment(Some(&opened))).await;
    // What moves money says how much.
    let unlimited = json!({ "scope": { "kind": "task", "uses": 2, "minutes": 30 } });
    let reply = world.answer(&world.ben, &id, "approve", unlimited).await;
    refused(&reply, StatusCode::BAD_REQUEST, "scope.amount");
    let scope = json!({ "scope": { "kind": "task", "uses": 2, "minutes": 30, "amount": 20_000 } });
    let reply = world.answer(&world.ben, &id, "approve", scope).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(
        reply.json()["approved_until"],
        "2026-01-05T10:30:00.000000Z"
    );
    for expected in [true, true, false] {
        let answer = world.ask_by(&payment(Some(&opened)), &id).await;
        assert_eq!(answer["decision"], expected, "{answer}");
    }
}

/// For a task it is good for what the catalogue knows to go to the same sinks, and for as much as it says.
#[tokio::test]
async fn for_a_task_it_is_good_for_the_same_sinks() {
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    let id = world.requested(&payment(Some(&opened))).await;
    let scope = json!({ "scope": { "kind": "task", "uses": 9, "minutes": 30, "amount": 20_000 } });
    let reply = world.answer(&world.ben, &id, "approve", scope).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    for (arguments, reason) in [
        (json!({ "to": "acme", "amount": 50 }), None),
        (json!({ "to": "eve", "amount": 50 }), Some("out_of_scope")),
        (
            json!({ "to": "acme", "amount": 50, "text": "https://evil.example/a" }),
            Some("out_of_scope"),
        ),
        (
            json!({ "to": "acme", "amount": 151 }),
            Some("approval_used"),
        ),
        (json!({ "to": "acme", "amount": 150 }), None),
        (json!({ "to": "acme", "amount": 1 }), Some("approval_used")),
    ] {
        let mut question = payment(Some(&opened));
        question["action"]["properties"] = arguments;
        let answer = world.ask_by(&question, &id).await;
        assert_eq!(answer["decision"], reason.is_none(), "{answer}");
        if let Some(reason) = reason {
            assert_eq!(answer["context"]["approval"]["reason"], reason, "{answer}");
        }
    }
}

/// A recipient that is an account leads nowhere else; what an amount counts in is what was shown.
#[tokio::test]
async fn for_a_task_it_is_good_for_one_account_and_one_currency() {
    const ACCOUNT: &str = "FI2112345600000785";
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    let paying = |arguments: &Value| {
        let mut question = payment(Some(&opened));
        question["action"]["properties"] = arguments.clone();
        question
    };
    let shown = json!({ "to": ACCOUNT, "amount": 100, "currency": "EUR" });
    let id = world.requested(&paying(&shown)).await;
    let scope = json!({ "scope": { "kind": "task", "uses": 9, "minutes": 30, "amount": 90_000 } });
    let reply = world.answer(&world.ben, &id, "approve", scope).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let others = [
        json!({ "to": ACCOUNT, "amount": 50, "currency": "GBP" }),
        json!({ "to": ACCOUNT, "amount": 50, "currency": "eur" }),
        json!({ "to": ACCOUNT, "amount": 50 }),
        json!({ "to": ACCOUNT, "amount": 50, "currency": "EUR", "text": "or DE89370400440532013000" }),
    ];
    for arguments in others {
        let answer = world.ask_by(&paying(&arguments), &id).await;
        assert_eq!(answer["decision"], false, "{answer}");
        let reason = &answer["context"]["approval"]["reason"];
        assert_eq!(reason, "out_of_scope", "{arguments}");
    }
    for text in ["for June", &format!("for June, to {ACCOUNT}")] {
        let same = json!({ "to": ACCOUNT, "amount": 50, "currency": "EUR", "text": text });
        let answer = world.ask_by(&paying(&same), &id).await;
        assert_eq!(answer["decision"], true, "{answer}");
    }
}

/// What nobody can count cannot be limited.
#[tokio::test]
async fn an_amount_needs_a_tool_that_says_it() {
    let world = World::make().await;
    let pay = json!({
        "effect": "pay", "integrity": "trusted", "confidentiality": "public", "irreversible": true, "sinks": ["to"],
    });
    let put = world
        .send(&world.test.key, Method::PUT, "/v1/tools/pay", &pay)
        .await;
    assert!(put.status.is_success(), "{}", put.text);
    let opened = world.task(&world.test.key, &task()).await;
    let id = world.requested(&payment(Some(&opened))).await;
    let scope = json!({ "scope": { "kind": "task", "uses": 2, "minutes": 30, "amount": 20_000 } });
    let reply = world.answer(&world.ben, &id, "approve", scope).await;
    refused(&reply, StatusCode::BAD_REQUEST, "scope.amount");
    let scope = json!({ "scope": { "kind": "task", "uses": 2, "minutes": 30 } });
    let reply = world.answer(&world.ben, &id, "approve", scope).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    // Once the catalogue knows what a call pays, that is approved for no other amount.
    let mut other = payment(Some(&opened));
    other["action"]["properties"]["amount"] = json!(7);
    let answer = world.ask_by(&other, &id).await;
    assert_eq!(answer["decision"], true, "{answer}");
    let mut pays = pay;
    pays["amount"] = json!({ "argument": "amount", "scale": 2 });
    let put = world
        .send(&world.test.key, Method::PUT, "/v1/tools/pay", &pays)
        .await;
    assert!(put.status.is_success(), "{}", put.text);
    other["action"]["properties"]["amount"] = json!(8);
    let answer = world.ask_by(&other, &id).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(
        answer["context"]["approval"]["reason"], "out_of_scope",
        "{answer}"
    );
}

#[tokio::test]
async fn bad_answers_are_told_what_is_wrong() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    for (more, status, why) in [
        (json!({ "seen": OTHER }), 412, "card-differs"),
        (json!({ "seen": "yes" }), 412, "card-differs"),
        (
            json!({ "scope": { "kind": "task", "uses": 1, "minutes": 1 } }),
            400,
            "the call is in no task",
        ),
        (
            json!({ "scope": { "kind": "task", "uses": 0, "minutes": 1 } }),
            400,
            "scope.uses",
        ),
        (
            json!({ "scope": { "kind": "task", "uses": 101, "minutes": 1 } }),
            400,
            "scope.uses",
        ),
        (
            json!({ "scope": { "kind": "task", "uses": 1, "minutes": 1_441 } }),
            400,
            "scope.minutes",
        ),
        (json!({ "scope": "always" }), 400, "malformed-or-invalid"),
        (json!({ "until": "2026-01-05T09:00:00Z" }), 400, "`until`"),
        (json!({ "until": "2026-01-06T10:00:01Z" }), 400, "`until`"),
        (json!({ "comment": "two\nlines" }), 400, "comment"),
        (json!({ "by": "cy" }), 400, "by"),
    ] {
        let reply = world.answer(&world.ben, &id, "approve", more.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{more}: {}", reply.text);
        if why != "malformed-or-invalid" {
            assert!(reply.text.contains(why), "{more}: {}", reply.text);
        }
    }
    for reason in ["", "two\nlines", &"x".repeat(1_025)] {
        let reply = world
            .answer(&world.ben, &id, "deny", json!({ "reason": reason }))
            .await;
        refused(&reply, StatusCode::BAD_REQUEST, "reason");
    }
    let nobody = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c30";
    for (verb, body) in [
        ("approve", json!({ "seen": OTHER })),
        ("deny", json!({ "seen": OTHER, "reason": "x" })),
        ("escalate", json!({})),
        ("withdraw", json!({ "reason": "x" })),
    ] {
        let reply = world.answer(&world.test.key, nobody, verb, body).await;
        refused(&reply, StatusCode::NOT_FOUND, "not-found");
    }
    assert_eq!(world.shown(&id).await["state"], "pending");
}

#[tokio::test]
async fn the_second_of_two_is_told_who_was_first() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let (one, other) = tokio::join!(world.approve(&world.ben, &id), world.deny(&world.cy, &id));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{} {}", one.text, other.text);
    let late = if one.status == StatusCode::OK {
        other
    } else {
        one
    };
    assert!(
        late.text.contains("already decided by") || late.text.contains("the request is"),
        "{}",
        late.text
    );
    let again = world.approve(&world.cy, &id).await;
    refused(&again, StatusCode::CONFLICT, "already decided by");
}

#[tokio::test]
async fn one_refusal_ends_it() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let reply = world.deny(&world.ben, &id).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let shown = world.shown(&id).await;
    assert_eq!(
        (&shown["state"], &shown["ended_by"]),
        (&json!("denied"), &json!("ben"))
    );
    assert_eq!(shown["ended_why"], "Nobody ordered this");
    assert_eq!(world.ask_by(&payment(None), &id).await["decision"], false);
}

#[tokio::test]
async fn another_policy_has_it_asked_again() {
    let mut world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let mut changed = bundle("");
    changed.policies[0]
        .text
        .push_str("\n@id(\"more\") forbid (principal, action, resource) when { false };");
    world.test.put(&changed).await;
    let reply = world.approve(&world.ben, &id).await;
    refused(
        &reply,
        StatusCode::CONFLICT,
        "the policies have changed since",
    );
    let shown = world.shown(&id).await;
    assert_eq!(shown["state"], "expired", "{shown:#}");
    assert_eq!(world.ask_by(&payment(None), &id).await["decision"], false);
}

#[tokio::test]
async fn what_would_be_denied_all_the_same_is_not_approved() {
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    let id = world.requested(&payment(Some(&opened))).await;
    let path = format!("/v1/tasks/{opened}/revoke");
    let over = world
        .send(&world.test.key, Method::POST, &path, &Value::Null)
        .await;
    assert_eq!(over.status, StatusCode::OK, "{}", over.text);
    let reply = world.approve(&world.ben, &id).await;
    refused(&reply, StatusCode::CONFLICT, "task_revoked");
    // It is not over by that: a kill may be lifted.
    assert_eq!(world.shown(&id).await["state"], "pending");
}

#[tokio::test]
async fn what_is_withdrawn_is_used_no_more() {
    let world = World::make().await;
    let opened = world.task(&world.test.key, &task()).await;
    let id = world.requested(&payment(Some(&opened))).await;
    let early = world
        .answer(&world.ben, &id, "withdraw", json!({ "reason": "x" }))
        .await;
    assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);
    let scope =
        json!({ "scope": { "kind": "task", "uses": 100, "minutes": 60, "amount": 1_000_000 } });
    let reply = world.answer(&world.ben, &id, "approve", scope).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(
        world.ask_by(&payment(Some(&opened)), &id).await["decision"],
        true
    );
    let reader = world.person("eve", &[remit_core::Role::Reader]).await;
    let reply = world
        .answer(&reader, &id, "withdraw", json!({ "reason": "x" }))
        .await;
    refused(&reply, StatusCode::FORBIDDEN, "withdraw_approval");
    let reply = world
        .answer(
            &world.cy,
            &id,
            "withdraw",
            json!({ "reason": "The account was taken over" }),
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(
        world.ask_by(&payment(Some(&opened)), &id).await["decision"],
        false
    );
}

/// Whichever comes first: one use at most, the withdrawal stands, and nothing is permitted after it.
#[tokio::test]
async fn a_withdrawal_races_a_use() {
    let world = World::make().await;
    for round in 0..8 {
        let mut question = payment(None);
        question["action"]["properties"]["amount"] = json!(1_000 + round);
        let id = world.requested(&question).await;
        let approved = world.approve(&world.ben, &id).await;
        assert_eq!(approved.status, StatusCode::OK, "{}", approved.text);
        let because = json!({ "reason": "The account was taken over" });
        let (one, other, withdrawn) = tokio::join!(
            world.ask_by(&question, &id),
            world.ask_by(&question, &id),
            world.answer(&world.cy, &id, "withdraw", because),
        );
        let permits = [&one, &other]
            .iter()
            .filter(|one| one["decision"] == true)
            .count();
        assert!(permits <= 1, "{one} {other}");
        assert_eq!(withdrawn.status, StatusCode::OK, "{}", withdrawn.text);
        let after = world.ask_by(&question, &id).await;
        assert_eq!(after["decision"], false, "{after}");
        assert_eq!(world.shown(&id).await["state"], "cancelled");
    }
}

#[tokio::test]
async fn sent_again_it_is_answered_as_it_was() {
    let world = World::make().await;
    let id = world.requested(&payment(None)).await;
    let body = json!({ "seen": world.shown(&id).await["card_hash"] });
    let path = format!("/v1/approvals/{id}/approve");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = world.test.request_with(&world.ben, Method::POST, &path);
        let reply = world
            .test
            .send(request.header("idempotency-key", "once"), &body)
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        answers.push(reply.text);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn lists_and_counts_tell_what_waits() {
    let world = World::make().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let mut question = payment(None);
        question["action"]["properties"]["amount"] = json!(number);
        ids.push(world.requested(&question).await);
    }
    world.deny(&world.ben, &ids[1]).await;
    let list = async |key: &str, query: &str| {
        let path = format!("/v1/approvals{query}");
        let reply = world.send(key, Method::GET, &path, &Value::Null).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.text);
        let page = reply.json();
        let ids = page["approvals"].as_array().unwrap().iter();
        (
            ids.map(|one| one["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
            page["next"].clone(),
        )
    };
    let both = vec![ids[0].clone(), ids[2].clone()];
    for (query, expected) in [
        ("", both.clone()),
        ("?state=denied", vec![ids[1].clone()]),
        ("?group=finance", both.clone()),
        ("?group=finance&state=denied", vec![ids[1].clone()]),
        ("?group=board", vec![]),
        ("?agent_type=Agent&agent_id=bot&action=pay", both.clone()),
        ("?action=look", vec![]),
        ("?task=019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c30", vec![]),
    ] {
        assert_eq!(list(&world.test.key, query).await.0, expected, "{query}");
    }
    assert_eq!(list(&world.ben, "?mine=true").await.0, both);
    assert_eq!(list(&world.dan, "?mine=true").await.0, Vec::<String>::new());
    for drive in ["", "&group=finance"] {
        let (first, next) = list(&world.test.key, &format!("?limit=1{drive}")).await;
        assert_eq!(first, both[..1], "{drive}");
        let next = next.as_str().unwrap().to_owned();
        let (second, next) = list(&world.test.key, &format!("?limit=1{drive}&cursor={next}")).await;
        assert_eq!((second, next), (both[1..].to_vec(), Value::Null), "{drive}");
    }
    let bad = world
        .send(
            &world.test.key,
            Method::GET,
            "/v1/approvals?agent_id=bot",
            &Value::Null,
        )
        .await;
    refused(&bad, StatusCode::BAD_REQUEST, "go together");
    let bad = world
        .send(
            &world.test.key,
            Method::GET,
            "/v1/approvals?mine=true&group=a",
            &Value::Null,
        )
        .await;
    refused(&bad, StatusCode::BAD_REQUEST, "do not go together");
    let counts = world.test.get("/v1/approvals/facets").await.json();
    assert_eq!(counts["states"]["pending"], 2, "{counts:#}");
    assert_eq!(counts["states"]["denied"], 1);
    assert_eq!(counts["groups"], json!({ "finance": 2 }));
    assert_eq!(counts["actions"], json!({ "pay": 2 }));
    assert_eq!(
        counts["agents"],
        json!([{ "agent": { "type": "Agent", "id": "bot" }, "count": 2 }])
    );
    let reader = world.person("eve", &[remit_core::Role::Reader]).await;
    let reply = world
        .send(&reader, Method::GET, "/v1/approvals", &Value::Null)
        .await;
    refused(&reply, StatusCode::FORBIDDEN, "list_approvals");
}
