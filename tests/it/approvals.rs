//! Approvals: a call that a person must approve, asked for, approved, and made once.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use remit_core::{ApprovalId, ApprovalScope, Bundle, ContentHash, KeyId, Timestamp};
use remit_store::{Approving, Change, Makes, NewAnswer};
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

mod again;
mod automatic;
mod clocks;
mod examples;
mod joining;
mod outages;
mod problems;
mod race;
mod substitution;
mod using;

pub const EVALUATION: &str = "/access/v1/evaluation";
pub const REQUESTS: &str = "/access/v1/requests";

/// Agents may pay when a person approves, and look at any time; persons may read documents and call tools when one does.
pub fn bundle() -> Bundle {
    with_policies("")
}

/// The bundle with more policies.
pub fn with_policies(more: &str) -> Bundle {
    serde_json::from_value(json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": "entity user;\nentity document;\nentity tool;\nentity Agent { @assertable level?: Long };\n\
                entity Payee { @assertable country?: String };\n\
                action can_read appliesTo { principal: [user], resource: [document], context: { facts: Remit::Facts } };\n\
                action invoke appliesTo { principal: [user], resource: [tool], context: { facts: Remit::Facts } };\n\
                action pay, look appliesTo { principal: [Agent], resource: [Payee],\n\
                  context: { facts: Remit::Facts, channel?: String, urgent?: Bool, @volatile nonce?: String } };\n",
        }],
        "policies": [{
            "file": "approvals.cedar",
            "text": format!(
                "@id(\"open\")\npermit (principal, action, resource);\n\
                @id(\"needs-a-person\")\n@cure(\"approval:finance\")\n\
                forbid (principal, action in [Action::\"pay\", Action::\"can_read\", Action::\"invoke\"], resource)\n\
                unless {{ context.facts.approved }};\n{more}"
            ),
        }],
    }))
    .unwrap()
}

/// A payment to ask about.
pub fn payment() -> Value {
    json!({
        "subject": { "type": "Agent", "id": "a" },
        "action": { "name": "pay", "properties": { "amount": 100, "to": "acme" } },
        "resource": { "type": "Payee", "id": "acme" },
        "context": { "channel": "bank" },
    })
}

/// The API with the bundle and its log shipping.
pub async fn start() -> TestApp {
    TestApp::shipping(&bundle()).await
}

/// Asks a question, and returns the answer.
pub async fn ask(app: &TestApp, question: &Value) -> Value {
    let reply = app.post(EVALUATION, question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

/// Asks a question by an approval.
pub fn by(question: &Value, approval: &str) -> Value {
    let mut question = question.clone();
    question["context"]["approval"] = json!({ "id": approval });
    question
}

/// Makes the submission about a denial.
pub fn submission(question: &Value, denied: &Value) -> Value {
    let context = &denied["context"];
    let mut body = question.clone();
    body["denial"] = json!({
        "evaluation_id": context["evaluation_id"], "evaluated_at": context["evaluated_at"],
        "expires_at": context["access_request"]["expires_at"], "reason": context["reason"],
        "template": context["access_request"]["template"],
    });
    body
}

/// Asks for an approval of a question that is denied, and returns the handle.
pub async fn requested(app: &TestApp, question: &Value) -> Value {
    let denied = ask(app, question).await;
    assert_eq!(denied["context"]["reason"], "approval_required", "{denied}");
    let reply = app.post(REQUESTS, submission(question, &denied)).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    reply.json()
}

pub fn id_of(handle: &Value) -> String {
    handle["task"]["id"].as_str().unwrap().to_owned()
}

/// Approves a request past the API, for so many seconds.
pub async fn approve(app: &TestApp, id: &str, scope: ApprovalScope, seconds: i64) {
    let approvers = BTreeSet::from(["maya".parse().unwrap()]);
    let approving = Approving {
        scope,
        approvers: &approvers,
        until: Timestamp::from_micros(app.clock.now().micros() + seconds * 1_000_000),
        by: "maya",
        why: None,
    };
    let id: ApprovalId = id.parse().unwrap();
    let done = app
        .store
        .approve(app.tenant, id, approving, Change::default());
    app.reached(done.await.unwrap().revision).await;
}

/// Asks for an approval and gets it, once; returns its id.
pub async fn approved(app: &TestApp, question: &Value) -> String {
    let id = id_of(&requested(app, question).await);
    approve(app, &id, ApprovalScope::Once, 600).await;
    id
}

/// Reads a request.
pub async fn status(app: &TestApp, id: &str) -> Reply {
    app.get(&format!("{REQUESTS}/{id}")).await
}

/// Refuses a request as `maya`.
pub async fn deny(app: &TestApp, id: &str) {
    let by = "maya".parse().unwrap();
    let new = NewAnswer {
        by: &by,
        key: KeyId::NIL,
        approves: false,
        groups: &BTreeMap::new(),
        scope: None,
        card_hash: ContentHash::of(b""),
        reason: "no",
        at: app.clock.now(),
    };
    let makes = Makes::Denied { suspends: None };
    let (id, change) = (id.parse().unwrap(), Change::default());
    let denied = app
        .store
        .answer_request(app.tenant, None, id, (&new, makes), change);
    app.reached(denied.await.unwrap()).await;
}

/// Takes a request back.
pub async fn cancel(app: &TestApp, id: &str) -> Reply {
    let path = format!("{REQUESTS}/{id}/cancel");
    app.send(app.request(Method::POST, &path), "").await
}

/// Checks the problem that came.
pub fn fails(reply: &Reply, status: u16, name: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let urn = format!("urn:openid:authzen:access-request:error:{name}");
    assert_eq!(reply.json()["type"], urn, "{}", reply.text);
}

/// Writes the bundle into a folder, as `remit serve --bundle` takes it.
pub fn write(folder: &std::path::Path) {
    let bundle = bundle();
    for source in bundle.schema.iter().chain(&bundle.policies) {
        std::fs::write(folder.join(&source.file), &source.text).unwrap();
    }
}
