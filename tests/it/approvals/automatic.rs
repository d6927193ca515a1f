//! What a policy of the tenant lets Remit approve itself, and groups that can answer no more.

use http::StatusCode;
use remit_core::Source;
use remit_tests::app::TestApp;
use serde_json::json;

use super::{REQUESTS, ask, bundle, by, payment, submission};

/// What any machine may approve that looks at it is not approved unseen, and neither is what no policy speaks of.
#[tokio::test]
async fn a_policy_for_machines_does_not_approve_by_itself() {
    for permit in [
        "",
        "@id(\"small\")\npermit (principal is Machine, action == Action::\"approve_request\", resource);\n",
        "@id(\"other\")\npermit (principal == Machine::\"robot\", action == Action::\"approve_request\", resource);\n",
    ] {
        let mut bundle = bundle();
        if !permit.is_empty() {
            bundle.admin.push(Source {
                file: "admin/approvals.cedar".to_owned(),
                text: permit.to_owned(),
            });
        }
        let app = TestApp::shipping(&bundle).await;
        let denied = ask(&app, &payment()).await;
        let body = submission(&payment(), &denied);
        let reply = app.post(REQUESTS, &body).await;
        assert_eq!(
            reply.status,
            StatusCode::ACCEPTED,
            "{permit}: {}",
            reply.text
        );
        assert_eq!(reply.json()["task"]["status"], "pending", "{}", reply.text);
    }
}

/// It is approved at once, once, and no longer than it is wanted; the record says by whom.
#[tokio::test]
async fn a_policy_approves_at_once() {
    let mut bundle = bundle();
    bundle.admin.push(Source {
        file: "admin/approvals.cedar".to_owned(),
        text: "@id(\"small\")\npermit (principal == Machine::\"remit\", action == Action::\"approve_request\", resource);\n".to_owned(),
    });
    let app = TestApp::shipping(&bundle).await;
    let denied = ask(&app, &payment()).await;
    let mut body = submission(&payment(), &denied);
    body["requested_access"] = json!({ "requested_until": "2026-01-05T10:05:00Z" });
    let reply = app.post(REQUESTS, &body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let handle = reply.json();
    assert_eq!(handle["task"]["status"], "approved", "{handle}");
    let approval = &handle["result"]["approval"];
    assert_eq!(
        approval["approved_until"], "2026-01-05T10:05:00.000000Z",
        "{handle}"
    );
    let id = approval["id"].as_str().unwrap();
    let stored = app.store.request(app.tenant, id.parse().unwrap()).await;
    let grant = stored.unwrap().unwrap().grant.unwrap();
    let names: Vec<String> = grant.approvers.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["remit"]);
    // The record says which policy it was, and what a person would have been shown.
    let listed = app.get("/v1/admin/actions?action=approve_request").await;
    let record = listed.json()["actions"][0].clone();
    assert_eq!(record["determining"], json!(["small"]), "{record}");
    assert_eq!(
        record["details"]["card"]["call"]["action"], "pay",
        "{record}"
    );
    assert!(record["details"]["card_hash"].is_string(), "{record}");
    let answer = ask(&app, &by(&payment(), id)).await;
    assert_eq!(answer["decision"], true, "{answer}");
    let answer = ask(&app, &by(&payment(), id)).await;
    assert_eq!(
        answer["context"]["approval"]["reason"], "approval_used",
        "{answer}"
    );
}
