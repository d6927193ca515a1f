//! F21: a policy that cannot be evaluated never permits.

use std::fmt::Write as _;

use http::StatusCode;
use remit_core::{Bundle, PolicyId};
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::{EVALUATION, put, source};

const SCHEMA: &str = "
entity Person { level: Long };
entity Doc {
  owner: Person,
  @assertable
  flag?: Bool,
} tags Long;
action read appliesTo {
  principal: Person,
  resource: Doc,
  context: { n: Long, at: datetime, span: duration, address: ipaddr, price: decimal, note?: String },
};";

/// Conditions that the strict validator takes and that fail all the same, each with the resource that makes it fail.
///
/// `lost` is stored, and its owner is not; `unknown` is not stored, and the caller asserts its `flag`.
const FAILING: &[(&str, &str, &str)] = &[
    (
        "a sum overflows",
        "context.n * 1024 + context.n * 1024 > 5",
        "lost",
    ),
    (
        "a difference overflows",
        "0 - context.n * 1024 - context.n * 1024 > 5",
        "lost",
    ),
    ("a product overflows", "context.n * context.n > 5", "lost"),
    (
        "a time overflows",
        "context.at.offset(context.span) > datetime(\"2020-01-01\")",
        "lost",
    ),
    ("a reference to nobody", "resource.owner.level > 5", "lost"),
    (
        "the tag of nobody",
        "resource.hasTag(\"a\") || resource.owner.level > 5",
        "lost",
    ),
    (
        "a missing attribute",
        "resource.owner == Person::\"x\"",
        "unknown",
    ),
    (
        "a missing attribute of one",
        "resource.owner.level > 5",
        "unknown",
    ),
    (
        "nobody's attribute",
        "resource.owner == Person::\"x\"",
        "nowhere",
    ),
    ("within `&&`", "true && context.n * context.n > 5", "lost"),
    ("within `||`", "false || context.n * context.n > 5", "lost"),
    ("within a negation", "!(context.n * context.n > 5)", "lost"),
    (
        "within the test of an `if`",
        "if context.n * context.n > 5 then true else true",
        "lost",
    ),
    (
        "within a branch of an `if`",
        "if true then context.n * context.n > 5 else true",
        "lost",
    ),
    (
        "within a set",
        "[context.n * context.n].contains(5)",
        "lost",
    ),
    (
        "within a record",
        "{a: context.n * context.n}.a == 5",
        "lost",
    ),
];

fn bundle(policies: &str) -> Bundle {
    let entity = |uid: Value, attrs: Value| {
        serde_json::from_value(json!({ "uid": uid, "attrs": attrs, "parents": [] })).unwrap()
    };
    Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", policies)],
        entities: vec![
            entity(
                json!({ "type": "Person", "id": "ann" }),
                json!({ "level": 1 }),
            ),
            entity(
                json!({ "type": "Doc", "id": "lost" }),
                json!({ "owner": { "type": "Person", "id": "gone" } }),
            ),
        ],
        ..Bundle::default()
    }
}

fn question(resource: &str) -> Value {
    let mut question = json!({
        "subject": { "type": "Person", "id": "ann" },
        "action": { "name": "read" },
        "resource": { "type": "Doc", "id": resource },
        "context": {
            "n": 9_007_199_254_740_991_i64, "at": "9999-12-31", "span": "9223372036854775807ms",
            "address": "10.0.0.1", "price": "1.5",
        },
    });
    if resource == "unknown" {
        question["resource"]["properties"] = json!({ "flag": true });
    }
    question
}

/// Asks, and returns the verdict, the reason and the policies that settled it.
async fn ask(app: &TestApp, question: &Value) -> (bool, String, Value) {
    let reply = app.post(EVALUATION, question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let body = reply.json();
    let context = &body["context"];
    let reason = context["reason"].as_str().unwrap().to_owned();
    (
        body["decision"] == true,
        reason,
        context["policies"].clone(),
    )
}

async fn failures(app: &TestApp) -> u64 {
    let metrics = app.operations("/metrics").await.text;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("remit_policy_evaluation_errors_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn f21_a_policy_that_fails_denies_in_every_cell() {
    let mut app = TestApp::start(&bundle("")).await;
    let mut cells = 0;
    for (what, condition, resource) in FAILING {
        let question = question(resource);
        let policy = |effect: &str| {
            format!(
                "@id(\"{effect}\") {effect} (principal, action, resource) when {{ {condition} }};\n"
            )
        };
        let open = "@id(\"open\") permit (principal, action, resource);\n";
        let before = failures(&app).await;
        for (policies, reason, settled) in [
            (policy("permit"), "no_permit", json!([])),
            (policy("forbid"), "policy_error", json!(["forbid"])),
            (policy("forbid") + open, "policy_error", json!(["forbid"])),
            (
                policy("forbid") + &policy("permit"),
                "policy_error",
                json!(["forbid"]),
            ),
        ] {
            app.put(&bundle(&policies)).await;
            let answer = ask(&app, &question).await;
            let expected = (false, reason.to_owned(), settled);
            assert_eq!(answer, expected, "{what}: {policies}");
            cells += 1;
        }
        assert_eq!(
            failures(&app).await,
            before + 5,
            "{what}: not all are counted"
        );
        // A permit that fails is as if it were not there, and takes nothing from another.
        app.put(&bundle(&(policy("permit") + open))).await;
        let answer = ask(&app, &question).await;
        assert_eq!(
            answer,
            (true, "policy_permit".to_owned(), json!(["open"])),
            "{what}"
        );
    }
    println!("{cells} cells deny");
    assert_eq!(cells, 4 * FAILING.len());
}

/// What the engine cannot read at all denies before any policy is asked.
#[tokio::test]
async fn f21_a_value_that_cannot_be_read_denies_in_every_cell() {
    let mut app = TestApp::start(&bundle("")).await;
    let mut rows: Vec<(&str, Value, &str)> = Vec::new();
    for bad in ["300.1.1.1", "10.0.0.1/33", "::1::", "", "localhost"] {
        rows.push(("address", json!(bad), "mistyped_property"));
    }
    for bad in ["1", "1.23456", "922337203685477.5808", "1e3", ".5", ""] {
        rows.push(("price", json!(bad), "mistyped_property"));
    }
    for bad in [
        "2026-13-01",
        "2026-02-30",
        "2026-01-01T25:00:00Z",
        "yesterday",
        "9",
    ] {
        rows.push(("at", json!(bad), "mistyped_property"));
    }
    for bad in ["1", "1s1h", "9223372036854775808ms", "-", "5 ms"] {
        rows.push(("span", json!(bad), "mistyped_property"));
    }
    for bad in [json!("5"), json!(1.5), json!(true), json!([5]), json!({})] {
        rows.push(("n", bad, "mistyped_property"));
    }
    for member in ["n", "at", "span", "address", "price"] {
        rows.push((member, Value::Null, "missing_context"));
    }
    for effect in ["permit", "forbid"] {
        let text = format!("@id(\"p\") {effect} (principal, action, resource);");
        app.put(&bundle(&text)).await;
        for (member, bad, reason) in &rows {
            let mut question = question("lost");
            let context = question["context"].as_object_mut().unwrap();
            if bad.is_null() {
                context.remove(*member);
            } else {
                context.insert((*member).to_owned(), bad.clone());
            }
            let (permitted, found, _) = ask(&app, &question).await;
            assert_eq!(
                (permitted, found.as_str()),
                (false, *reason),
                "{effect}, {member}: {bad}"
            );
        }
    }
    println!("{} cells deny", 2 * rows.len());
}

/// What can be known to fail, or may be missing, is not published in the first place.
#[tokio::test]
async fn f21_what_is_bound_to_fail_is_not_published() {
    let app = TestApp::start(&bundle("")).await;
    let etag = app.get(super::BUNDLE).await.header("etag").to_owned();
    for condition in [
        "context.note == \"x\"",
        "resource.flag",
        "resource.getTag(\"a\") > 1",
        "ip(context.note).isLoopback()",
        "ip(\"300.1.1.1\").isLoopback()",
        "decimal(\"1.23456\") == context.price",
        "datetime(\"2026-02-30\") == context.at",
        "duration(\"1\") == context.span",
        "9223372036854775807 + 1 > \"\"",
    ] {
        for effect in ["permit", "forbid"] {
            let text = format!(
                "@id(\"p\") {effect} (principal, action, resource) when {{ {condition} }};"
            );
            let refused = put(&app, &etag, &bundle(&text)).await;
            assert_eq!(
                refused.status,
                StatusCode::UNPROCESSABLE_ENTITY,
                "{text}: {}",
                refused.text
            );
        }
    }
}

/// The record names every policy that failed, not only the one that settled it.
#[tokio::test]
async fn f21_every_policy_that_failed_is_recorded() {
    let mut text = String::new();
    for (number, effect) in ["permit", "forbid", "permit", "forbid"].iter().enumerate() {
        let condition = "context.n * context.n > 5";
        writeln!(
            text,
            "@id(\"p{number}\") {effect} (principal, action, resource) when {{ {condition} }};"
        )
        .unwrap();
    }
    let app = TestApp::start(&bundle(&text)).await;
    let snapshot = remit_engine::Snapshot::compile(&bundle(&text)).unwrap();
    let asked = serde_json::from_value(question("lost")).unwrap();
    let facts = remit_core::Facts::plain(remit_core::KeyId::nil(), "dev", app.clock.now());
    let decision = snapshot.decide(&asked, &facts);
    let failed: Vec<&PolicyId> = decision.errors.iter().map(|error| &error.policy).collect();
    assert_eq!(
        failed,
        ["p0", "p1", "p2", "p3"]
            .map(PolicyId::new)
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(decision.determining, ["p1", "p3"].map(PolicyId::new));
    assert!(
        decision
            .errors
            .iter()
            .all(|error| error.message.contains("overflow")),
        "{decision:?}"
    );
}
