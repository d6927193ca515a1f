//! F45: ids that look alike, and ids in two spellings.

use http::{Method, StatusCode};
use remit_core::{Bundle, Entity};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::postgres::Postgres;
use remit_tests::server::{Plan, Remit, send};
use serde_json::{Value, json};

use super::{EVALUATION, call, put, source, with_policy};

const BINARY: &str = env!("CARGO_BIN_EXE_remit");
/// `é` as two characters: not NFC.
const SPLIT: &str = "caf\u{65}\u{301}";
const REFUSED: &str = "must be in Unicode normal form C (NFC)";

/// An agent that may call reading tools while it is active.
fn agent(status: &str) -> Value {
    json!({
        "attrs": {
            "status": status, "trust": 2, "environment": "production",
            "owner": { "__entity": { "type": "Person", "id": "maya" } },
        },
        "parents": [{ "type": "Role", "id": "reader" }],
    })
}

/// Stores ids that a careless database or reader takes for one, of which a single one may act.
async fn check_alike(plan: Plan) {
    let remit = plan.start().await;
    // The last three: a Cyrillic letter, a full-width one, one that ends in a zero-width space.
    let ids = [
        ("alice", "alice"),
        ("Alice", "Alice"),
        ("ALICE", "ALICE"),
        ("alice ", "alice%20"),
        ("\u{430}lice", "%D0%B0lice"),
        ("\u{ff41}lice", "%EF%BD%81lice"),
        ("alice\u{200b}", "alice%E2%80%8B"),
    ];
    for (id, encoded) in ids {
        let status = if id == "alice" { "active" } else { "suspended" };
        let path = format!("/v1/entities/Agent/{encoded}");
        let request = remit.request(Method::PUT, &path).json(&agent(status));
        let written = send(request).await;
        assert_eq!(written.status, 200, "{id:?}: {}", written.text());
    }
    for (id, encoded) in ids {
        let stored = remit.get(&format!("/v1/entities/Agent/{encoded}")).await;
        assert_eq!(stored.json::<Value>()["uid"]["id"], id);
        let answer: Value = remit.post(EVALUATION, &call(id)).await.json();
        assert_eq!(answer["decision"], id == "alice", "{id:?}: {answer}");
    }
    // One that is not stored is none of them.
    let answer: Value = remit.post(EVALUATION, &call("aLICE")).await.json();
    assert_eq!(answer["decision"], false, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f45_ids_that_look_alike_are_not_one_on_sqlite() {
    check_alike(Remit::dev(BINARY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f45_ids_that_look_alike_are_not_one_on_postgres() {
    if let Some(url) = Postgres::database().await {
        check_alike(Remit::dev(BINARY).variable("REMIT__DATABASE__URL", &url)).await;
    }
}

#[tokio::test]
async fn f45_a_question_with_an_id_in_another_spelling_is_refused_by_name() {
    let app = TestApp::start(&pack("starter")).await;
    for (pointer, member) in [
        ("/subject/type", "subject.type"),
        ("/subject/id", "subject.id"),
        ("/action/name", "action.name"),
        ("/resource/type", "resource.type"),
        ("/resource/id", "resource.id"),
    ] {
        let mut question = call("invoice-bot");
        *question.pointer_mut(pointer).unwrap() = json!(SPLIT);
        let refused = app.post(EVALUATION, &question).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{member}");
        assert_eq!(refused.json(), json!(format!("`{member}` {REFUSED}")));
        *question.pointer_mut(pointer).unwrap() = json!("caf\u{e9}");
        let taken = app.post(EVALUATION, &question).await;
        assert_eq!(taken.status, StatusCode::OK, "{member}: {}", taken.text);
    }
    let mut search = call("invoice-bot");
    search["subject"]["id"] = json!(SPLIT);
    search["resource"] = json!({ "type": "Tool" });
    let refused = app.post("/access/v1/search/resource", &search).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(refused.text.contains("subject.id"), "{}", refused.text);
}

/// Within the question's data an entity in another spelling is a value of the wrong type.
#[tokio::test]
async fn f45_a_reference_in_another_spelling_denies() {
    let bundle = Bundle {
        schema: vec![source(
            "s.cedarschema",
            "entity User; action read appliesTo { principal: User, resource: User, context: { boss: User } };",
        )],
        policies: vec![source(
            "p.cedar",
            "@id(\"p\") permit (principal, action, resource) unless { context.boss == User::\"caf\u{e9}\" };",
        )],
        ..Bundle::default()
    };
    let app = TestApp::start(&bundle).await;
    let ask = async |boss: &str| {
        let question = json!({
            "subject": { "type": "User", "id": "a" }, "action": { "name": "read" },
            "resource": { "type": "User", "id": "b" }, "context": { "boss": { "type": "User", "id": boss } },
        });
        let answer = app.post(EVALUATION, question).await.json();
        let reason = answer["context"]["reason"].as_str().unwrap();
        (answer["decision"] == true, reason.to_owned())
    };
    assert_eq!(ask("x").await, (true, "policy_permit".to_owned()));
    assert_eq!(ask("caf\u{e9}").await, (false, "no_permit".to_owned()));
    assert_eq!(ask(SPLIT).await, (false, "mistyped_property".to_owned()));
}

#[tokio::test]
async fn f45_an_entity_in_another_spelling_is_not_stored() {
    let app = TestApp::start(&pack("starter")).await;
    let path = "/v1/entities/Agent/cafe%CC%81";
    let refused = app
        .send(app.request(Method::PUT, path), agent("active"))
        .await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(
        refused.json()["detail"],
        format!("`entity.id` {REFUSED}"),
        "{}",
        refused.text
    );
    assert_eq!(app.get(path).await.status, StatusCode::NOT_FOUND);

    let mut child = agent("active");
    child["parents"] = json!([{ "type": "Team", "id": SPLIT }]);
    let path = "/v1/entities/Agent/child";
    let refused = app.send(app.request(Method::PUT, path), &child).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(refused.text.contains("`parents.id`"), "{}", refused.text);

    let good = json!({ "uid": { "type": "Team", "id": "legal" }, "attrs": {}, "parents": [] });
    let bad = json!({ "uid": { "type": "Team", "id": SPLIT }, "attrs": {}, "parents": [] });
    let mut bulk = app.request(Method::POST, "/v1/entities/bulk");
    let media = "application/x-ndjson".parse().unwrap();
    bulk.headers_mut().unwrap().insert("content-type", media);
    let refused = app.send(bulk, format!("{good}\n{bad}\n")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    for part in ["line 2", "`entity.id`"] {
        assert!(refused.text.contains(part), "{part}: {}", refused.text);
    }
    let legal = app.get("/v1/entities/Team/legal").await;
    assert_eq!(legal.status, StatusCode::NOT_FOUND, "half of it is stored");
}

#[tokio::test]
async fn f45_a_bundle_that_names_anything_in_another_spelling_is_refused() {
    let app = TestApp::start(&pack("starter")).await;
    let etag = app.get(super::BUNDLE).await.header("etag").to_owned();
    let policy = |text: String| with_policy(&text);
    let mut entity = pack("starter");
    let uid = json!({ "uid": { "type": "Team", "id": SPLIT }, "attrs": {}, "parents": [] });
    entity
        .entities
        .push(serde_json::from_value::<Entity>(uid).unwrap());
    let mut schema = pack("starter");
    let text = format!("entity Colour enum [\"red\", \"{SPLIT}\"];");
    schema.schema.push(source("added.cedarschema", &text));
    let mut link = policy("@id(\"t\") permit (principal == ?principal, action, resource);".into());
    let filled = json!({ "id": "l", "template": "t", "slots": { "?principal": { "type": "Agent", "id": SPLIT } } });
    link.links.push(serde_json::from_value(filled).unwrap());
    let id = policy(format!(
        "@id(\"{SPLIT}\") permit (principal, action, resource);"
    ));
    let scope = policy(format!(
        "@id(\"x\") forbid (principal == Agent::\"{SPLIT}\", action, resource);"
    ));
    let body = policy(format!(
        "@id(\"x\") forbid (principal, action, resource) when {{ principal in [Team::\"{SPLIT}\"] }};"
    ));
    for (what, bundle) in [
        ("an entity", entity),
        ("an id the schema lists", schema),
        ("a link", link),
        ("a policy's id", id),
        ("a scope", scope),
        ("a condition", body),
    ] {
        let refused = put(&app, &etag, &bundle).await;
        let problem = refused.json();
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{what}");
        let diagnostics = problem["diagnostics"].as_array().unwrap();
        let found = diagnostics.iter().any(|one| one["code"] == "not_nfc");
        assert!(found, "{what}: {problem}");
    }
    assert_eq!(app.get(super::BUNDLE).await.header("etag"), etag);
}
