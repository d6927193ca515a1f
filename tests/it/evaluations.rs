//! Batches over the wire: defaults, semantics, errors of single items.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use remit_api::{Drafts, Options};
use remit_core::Bundle;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles;
use serde_json::{Value, json};

async fn app() -> TestApp {
    TestApp::start(&bundles::pack("authzen-certification")).await
}

async fn ask(app: &TestApp, body: impl ToString) -> Reply {
    app.post("/access/v1/evaluations", body).await
}

fn decisions(reply: &Reply) -> Vec<bool> {
    let body = reply.json();
    let items = body["evaluations"]
        .as_array()
        .unwrap_or_else(|| panic!("{}", reply.text));
    items
        .iter()
        .map(|item| item["decision"].as_bool().unwrap())
        .collect()
}

/// Bob reads, writes and reads record-1: permit, deny, permit.
fn bob(options: &Value) -> Value {
    json!({
        "subject": { "type": "user", "id": "bob" },
        "resource": { "type": "record", "id": "record-1" },
        "evaluations": [
            { "action": { "name": "read" } },
            { "action": { "name": "write" } },
            { "action": { "name": "read" } },
        ],
        "options": options,
    })
}

#[tokio::test]
async fn each_semantic_stops_where_it_says() {
    let app = app().await;
    for (options, expected) in [
        (json!({}), vec![true, false, true]),
        (Value::Null, vec![true, false, true]),
        (
            json!({ "evaluations_semantic": null }),
            vec![true, false, true],
        ),
        (
            json!({ "evaluations_semantic": "execute_all", "unknown": 1 }),
            vec![true, false, true],
        ),
        (
            json!({ "evaluations_semantic": "deny_on_first_deny" }),
            vec![true, false],
        ),
        (
            json!({ "evaluations_semantic": "permit_on_first_permit" }),
            vec![true],
        ),
    ] {
        let reply = ask(&app, bob(&options)).await;
        assert_eq!(decisions(&reply), expected, "{options}");
        assert!(reply.json().get("decision").is_none());
    }
    let reply = ask(&app, bob(&json!({ "evaluations_semantic": "first_come" }))).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        reply.json(),
        json!(
            "`options.evaluations_semantic` must be one of `execute_all`, `deny_on_first_deny`, `permit_on_first_permit`"
        )
    );
}

#[tokio::test]
async fn only_decided_items_are_recorded() {
    let app = app().await;
    let before = app.log.status().sequence;
    let reply = ask(
        &app,
        bob(&json!({ "evaluations_semantic": "deny_on_first_deny" })),
    )
    .await;
    assert_eq!(reply.header("x-decision-id").split(", ").count(), 2);
    assert_eq!(app.log.status().sequence - before, 2);
}

#[tokio::test]
async fn an_item_replaces_a_default_as_a_whole() {
    let app = app().await;
    let reply = ask(
        &app,
        json!({
            "subject": { "type": "user", "id": "alice", "properties": { "role": "admin" } },
            "action": { "name": "write" },
            "resource": { "type": "record" },
            "evaluations": [
                { "resource": { "type": "record", "id": "record-2" } },
                // Without the default's properties alice is no administrator.
                { "subject": { "type": "user", "id": "alice" }, "resource": { "type": "record", "id": "record-2" } },
                // A default of another item's type is not completed with its id.
                { "resource": { "id": "record-2" } },
                {},
            ],
        }),
    )
    .await;
    assert_eq!(decisions(&reply), [true, false, false, false]);
    let body = reply.json();
    assert_eq!(
        body["evaluations"][2],
        json!({ "decision": false, "context": { "error": { "status": 400, "message": "`resource.type` is missing" } } })
    );
    assert_eq!(
        body["evaluations"][3]["context"]["error"]["message"],
        json!("`resource.id` is missing")
    );
    assert_eq!(reply.header("x-decision-id").split(", ").nth(2), Some("-"));
}

#[tokio::test]
async fn an_invalid_item_is_a_deny_of_its_own() {
    let app = app().await;
    let good = json!({ "resource": { "type": "record", "id": "record-1" } });
    for (item, message) in [
        (json!(5), "an item of `evaluations` must be an object"),
        (
            json!({ "resource": "record-1" }),
            "`resource` must be an object, not a string",
        ),
        (
            json!({ "resource": { "type": "record", "id": 5 } }),
            "`resource.id` must be a string, not a number",
        ),
        (
            json!({ "resource": ["record", "record-1"] }),
            "`resource` must be an object, not an array",
        ),
        (
            json!({ "context": [] }),
            "`context` must be an object, not an array",
        ),
        (
            json!({ "context": { "facts": {} } }),
            "`context.facts` is supplied by Remit and must not be sent",
        ),
        (
            json!({ "subject": { "type": "user", "id": "" } }),
            "`subject.id` must not be empty",
        ),
    ] {
        let body = json!({
            "subject": { "type": "user", "id": "alice" },
            "action": { "name": "read" },
            "resource": { "type": "record", "id": "record-1" },
            "evaluations": [good, item, good],
        });
        let reply = ask(&app, body).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(decisions(&reply), [true, false, true]);
        assert_eq!(
            reply.json()["evaluations"][1]["context"]["error"],
            json!({ "status": 400, "message": message })
        );
    }
}

#[tokio::test]
async fn without_items_it_is_a_single_evaluation() {
    let app = app().await;
    for evaluations in [Value::Null, json!([])] {
        let reply = ask(
            &app,
            json!({
                "subject": { "type": "user", "id": "alice" },
                "action": { "name": "read" },
                "resource": { "type": "record", "id": "record-1" },
                "evaluations": evaluations,
            }),
        )
        .await;
        let body = reply.json();
        assert_eq!(body["decision"], json!(true));
        assert!(body.get("evaluations").is_none());
        assert_eq!(body["context"]["reason"], json!("policy_permit"));
        // The suite wants the same body every time; the id is in the header.
        assert!(body["context"].get("evaluation_id").is_none());
        assert!(!reply.header("x-decision-id").is_empty());
    }
    let reply = ask(&app, json!({ "evaluations": [] })).await;
    assert_eq!(
        (reply.status, reply.json()),
        (StatusCode::BAD_REQUEST, json!("`subject` is missing"))
    );
    let reply = ask(&app, json!({ "evaluations": {} })).await;
    let expected = json!("`evaluations` must be an array, not an object");
    assert_eq!(
        (reply.status, reply.json()),
        (StatusCode::BAD_REQUEST, expected)
    );
}

#[tokio::test]
async fn a_batch_has_limits() {
    let app = app().await;
    let item = json!({ "resource": { "type": "record", "id": "record-1" } });
    let batch = |count: usize, note: &str| {
        json!({
            "subject": { "type": "user", "id": "alice" },
            "action": { "name": "read" },
            "context": { "note": note },
            "evaluations": vec![item.clone(); count],
        })
    };
    let reply = ask(&app, batch(1_000, "")).await;
    assert_eq!(decisions(&reply), vec![true; 1_000]);
    // So many ids no header holds.
    assert_eq!(reply.header("x-decision-id"), "");
    let reply = ask(&app, batch(1_001, "")).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
    // A small body that would be written out to twenty megabytes of records.
    let before = app.log.status().sequence;
    let reply = ask(&app, batch(1_000, &"x".repeat(20_000))).await;
    assert_eq!(
        reply.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        reply.text
    );
    assert_eq!(app.log.status().sequence, before);
}

#[tokio::test]
async fn the_same_batch_has_the_same_body() {
    let app = app().await;
    let first = ask(&app, bob(&json!({}))).await;
    let second = ask(&app, bob(&json!({}))).await;
    assert_eq!(first.text, second.text);
    assert_eq!(
        first.text,
        r#"{"evaluations":[{"decision":true},{"decision":false},{"decision":true}]}"#
    );
    assert_ne!(
        first.header("x-decision-id"),
        second.header("x-decision-id")
    );
}

/// Bob may read, and what he reads must be redacted.
fn with_duty() -> Bundle {
    let mut bundle = bundles::pack("authzen-certification");
    bundle.policies[0].text.push_str(
        "\n@id(\"bob-with-duty\") @owner(\"test\") @obligation(\"redact\")\n\
         permit (principal == user::\"bob\", action == Action::\"read\", resource == record::\"record-2\");\n",
    );
    bundle
}

fn one_of_bob() -> Value {
    json!({
        "subject": { "type": "user", "id": "bob" },
        "action": { "name": "read" },
        "evaluations": [{ "resource": { "type": "record", "id": "record-2" } }],
    })
}

/// Whoever cannot be told what must be done is not permitted what obliges to it, in whatever form it is asked.
#[tokio::test]
async fn without_the_draft_what_obliges_is_denied() {
    let options = Options {
        drafts: Drafts {
            obligations: false,
            ..Drafts::default()
        },
        ..Options::default()
    };
    let mut app = TestApp::empty(options).await;
    app.put(&with_duty()).await;
    let one = json!({
        "subject": { "type": "user", "id": "bob" },
        "action": { "name": "read" },
        "resource": { "type": "record", "id": "record-2" },
        "context": { "obligations_supported": ["custom"] },
    });
    let mut as_batch = one.clone();
    as_batch["evaluations"] = json!([]);
    let single = app.post("/access/v1/evaluation", &one).await.json();
    let batch = ask(&app, one_of_bob()).await.json();
    let empty = ask(&app, as_batch).await.json();
    for told in [&single, &batch["evaluations"][0], &empty] {
        assert_eq!(told["decision"], false, "{told}");
        assert_eq!(
            told["context"]["reason"], "obligation_unsupported",
            "{told}"
        );
        assert!(told["context"].get("obligations").is_none(), "{told}");
    }
}

#[tokio::test]
async fn an_obligation_is_told_in_a_batch_too() {
    let app = TestApp::start(&with_duty()).await;
    let reply = ask(&app, one_of_bob()).await;
    let item = &reply.json()["evaluations"][0];
    assert_eq!(item["decision"], json!(true));
    assert_eq!(
        item["context"]["obligations"],
        json!([{ "id": "bob-with-duty", "type": "custom", "name": "redact" }])
    );
    assert_eq!(
        item["context"]["annotations"],
        json!([{ "policy": "bob-with-duty", "annotations": { "obligation": "redact" } }])
    );
    assert!(item["context"].get("evaluation_id").is_none());
}

/// Two bundles that are each other's opposite are put in turn while batches ask for both sides: whatever revision a batch
/// meets, it meets one (INV-5).
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_change_never_mixes_revisions() {
    let only = |name: &str| {
        let mut bundle = bundles::pack("authzen-certification");
        for source in &mut bundle.policies {
            source.text = format!(
                "@id(\"only\") @owner(\"test\") permit (principal == user::\"{name}\", action == Action::\"read\", resource is record);"
            );
        }
        bundle.policies.truncate(1);
        bundle.cases.clear();
        bundle
    };
    let (alices, bobs) = (only("alice"), only("bob"));
    let app = std::sync::Arc::new(TestApp::start(&alices).await);
    let batch = json!({
        "action": { "name": "read" },
        "resource": { "type": "record", "id": "record-1" },
        "evaluations": (0..20)
            .map(|n| json!({ "subject": { "type": "user", "id": if n % 2 == 0 { "alice" } else { "bob" } } }))
            .collect::<Vec<_>>(),
    });
    let asking = tokio::spawn({
        let app = std::sync::Arc::clone(&app);
        async move {
            let mut met = BTreeMap::new();
            let sides = |met: &BTreeMap<u64, bool>| met.values().collect::<BTreeSet<_>>().len();
            while met.len() < 6 || sides(&met) < 2 {
                assert!(met.len() < 200, "one side is never met");
                let reply = ask(&app, &batch).await;
                let decisions = decisions(&reply);
                let alice = decisions[0];
                for (n, decision) in decisions.iter().enumerate() {
                    assert_eq!(*decision, alice == (n % 2 == 0), "{}", reply.text);
                }
                let revision: u64 = reply.header("remit-revision").parse().unwrap();
                // Every batch at one revision gives the same answers.
                assert_eq!(*met.entry(revision).or_insert(alice), alice);
            }
        }
    });
    for n in 0.. {
        if asking.is_finished() {
            break;
        }
        let bundle = if n % 2 == 0 { &bobs } else { &alices };
        app.store
            .put_bundle(app.tenant, remit_store::Expected::Any, bundle, None)
            .await
            .unwrap();
        app.caught_up().await;
    }
    asking.await.unwrap();
}
