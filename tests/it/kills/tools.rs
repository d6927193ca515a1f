//! A kill of a tool stops it by every way of calling it, whatever the catalogue says of it or no longer says.

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::PrincipalKind;
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::KILLS;
use crate::agents::standing::{call, open, reason};
use crate::agents::{ROBOT, body};

async fn asked(test: &TestApp, tool: &str) -> String {
    reason(&call(test, ("Agent", "robot"), tool, None).await)
}

#[tokio::test]
async fn a_tool_that_is_the_resource_is_stopped() {
    let mut test = TestApp::empty(Options::default()).await;
    test.put(&open()).await;
    test.principal("maya", PrincipalKind::Person, &[]).await;
    let made = test.send(test.request(Method::PUT, ROBOT), body()).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let entry = json!({ "effect": "egress", "integrity": "trusted", "confidentiality": "public" });
    let send = async |method: Method, path: &str, body: &Value| {
        let reply = test.send(test.request(method, path), body).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
        test.caught_up().await;
    };
    send(Method::PUT, "/v1/tools/mail", &entry).await;
    assert_eq!(asked(&test, "mail").await, "policy_permit");
    // One person does not take out of the catalogue what is killed; it may have been out before.
    send(Method::DELETE, "/v1/tools/mail", &Value::Null).await;
    for tool in ["mail", "fax"] {
        let kill = json!({ "target": { "kind": "tool", "tool": tool }, "reason": "incident 4711" });
        send(Method::POST, KILLS, &kill).await;
    }
    assert_eq!(asked(&test, "mail").await, "killed", "its entry is gone");
    assert_eq!(asked(&test, "fax").await, "killed", "it was never entered");
    assert_eq!(asked(&test, "phone").await, "policy_permit");
    // The action is a tool as well, and its entry goes before that of the resource.
    send(Method::PUT, "/v1/tools/call", &entry).await;
    assert_eq!(asked(&test, "mail").await, "killed");
    assert_eq!(asked(&test, "phone").await, "policy_permit");
    send(Method::PUT, "/v1/tools/mail", &entry).await;
    assert_eq!(
        asked(&test, "mail").await,
        "killed",
        "it has an entry again"
    );
}
