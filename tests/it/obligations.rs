//! What an answer tells beside the decision, as it is on the wire: what must be done, until when it holds, and the narrower call.

use std::fmt::Write as _;

use http::StatusCode;
use remit_core::Bundle;
use remit_tests::app::TestApp;
use remit_tests::golden;
use serde_json::{Value, json};

const SCHEMA: &str = r"
entity Agent;
entity Payee;
action pay appliesTo {
  principal: [Agent], resource: [Payee],
  context: { facts: Remit::Facts, action?: { amount?: Long, note?: String, to?: String } },
};
";

/// A payment obliges to three things at once; one that is too large, or says too much, is offered as a narrower one.
const POLICIES: &str = r#"
@id("pays") @obligation("step-up") @acr_value("urn:example:loa:3") @amr_values("mfa, hwk") @ttl("30")
permit (principal, action, resource);
@id("tells") @obligation("notification") @to("finance@acme.example") @body("An agent has paid") @topic("payments")
permit (principal, action, resource);
@id("ends") @obligation("session_termination")
permit (principal, action, resource);
@id("closed") @obligation("custom-lock") @action("lock the account")
forbid (principal, action, resource == Payee::"closed");
@id("stolen") @obligation("session_termination") @subject("Agent of mallory")
forbid (principal, action, resource == Payee::"closed");
@id("large") @modify("cap:amount:1000")
forbid (principal, action, resource)
when { context has action && context.action has amount && context.action.amount > 1000 };
@id("says-too-much") @modify("redact:note, drop:to")
forbid (principal, action, resource)
when { context has action && context.action has note && context.action.note != "" };
"#;

fn bundle() -> Bundle {
    serde_json::from_value(json!({
        "schema": [{ "file": "schema.cedarschema", "text": SCHEMA }],
        "policies": [{ "file": "obligations.cedar", "text": POLICIES }],
    }))
    .unwrap()
}

fn payment(payee: &str, amount: u64) -> Value {
    json!({
        "subject": { "type": "Agent", "id": "a" },
        "action": { "name": "pay", "properties": { "amount": amount } },
        "resource": { "type": "Payee", "id": payee },
    })
}

/// Asks, and writes down the question and the answer.
async fn told(app: &TestApp, text: &mut String, what: &str, question: &Value) -> Value {
    let reply = app.post("/access/v1/evaluation", question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = reply.json();
    let id = answer["context"]["evaluation_id"].as_str().unwrap();
    let written = serde_json::to_string_pretty(&answer).unwrap();
    let written = written.replace(id, "<evaluation>");
    let asked = serde_json::to_string_pretty(question).unwrap();
    let _ = writeln!(text, "# {what}\n{asked}\n→ 200\n{written}\n");
    answer
}

/// The clock stands still, so that times stay as they are.
#[tokio::test]
async fn what_an_answer_tells_stays_as_it_was_published() {
    let app = TestApp::start(&bundle()).await;
    let mut text = String::new();
    let what = "A permit that obliges to three things, for half a minute";
    let permitted = told(&app, &mut text, what, &payment("acme", 100)).await;
    assert_eq!(permitted["decision"], true, "{permitted}");
    let what = "A denial that obliges as well";
    let denied = told(&app, &mut text, what, &payment("closed", 100)).await;
    assert_eq!(denied["decision"], false, "{denied}");
    let mut unable = payment("acme", 100);
    unable["context"]["obligations_supported"] = json!(["notification", "custom"]);
    let what = "A permit that obliges to what the enforcement point cannot do";
    let unsupported = told(&app, &mut text, what, &unable).await;
    assert_eq!(unsupported["decision"], false, "{unsupported}");
    let mut large = payment("acme", 2_500);
    large["action"]["properties"]["note"] = json!("for the yacht");
    large["action"]["properties"]["to"] = json!("mallory");
    let what = "A denial that offers a narrower call";
    let offered = told(&app, &mut text, what, &large).await;
    assert_eq!(offered["decision"], false, "{offered}");
    large["action"] = offered["context"]["modify"]["action"].clone();
    let what = "The narrower call, as it was offered";
    let narrower = told(&app, &mut text, what, &large).await;
    assert_eq!(narrower["decision"], true, "{narrower}");
    golden::compare("tests/golden/obligations.txt", &text);
}
