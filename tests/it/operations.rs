//! The operations port: health, readiness, metrics; and the pages that are generated from the code.

use http::{Method, StatusCode};
use remit_api::Options;
use remit_tests::app::TestApp;
use remit_tests::bundles;
use serde_json::json;

async fn asked() -> TestApp {
    let app = TestApp::start(&bundles::pack("authzen-certification")).await;
    for subject in ["alice", "bob", "mallory"] {
        let question = json!({
            "subject": { "type": "user", "id": subject },
            "action": { "name": "read" },
            "resource": { "type": "record", "id": "record-1" },
        });
        let request = app.request(Method::POST, "/access/v1/evaluation").header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        app.send(request, question).await;
    }
    app.post("/nowhere/at/all", "").await;
    app
}

#[tokio::test]
async fn metrics_say_what_happened() {
    let app = asked().await;
    let reply = app.operations("/metrics").await;
    assert_eq!(
        reply.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = reply.text;
    for line in [
        "# TYPE remit_decisions_total counter",
        r#"remit_decisions_total{decision="allow",reason="policy_permit",mode="enforce"} 2"#,
        r#"remit_decisions_total{decision="deny",reason="no_permit",mode="enforce"} 1"#,
        r#"remit_decision_duration_seconds_count{decision="deny"} 1"#,
        r#"remit_decision_stage_duration_seconds_count{stage="evaluate"} 3"#,
        r#"remit_decision_stage_duration_seconds_count{stage="audit"} 3"#,
        r#"remit_decision_stage_duration_seconds_count{stage="authn"} 3"#,
        r#"remit_audit_records_total{result="success"} 3"#,
        "remit_audit_unshipped_records 3",
        "remit_audit_failing 0",
        "remit_policy_stale 0",
        r#"http_server_request_duration_seconds_count{method="POST",route="/access/v1/evaluation",status="200"} 3"#,
        r#"http_server_request_duration_seconds_count{method="POST",route="unmatched",status="404"} 1"#,
    ] {
        assert!(
            text.contains(&format!("{line}\n")),
            "{line} is missing from\n{text}"
        );
    }
    assert!(text.contains("remit_policy_set_info{version="), "{text}");
    assert!(text.contains(r#"cedar_version="4."#), "{text}");
    for secret in ["alice", "mallory", "record-1", "default", app.key.as_str()] {
        assert!(!text.contains(secret), "a label says `{secret}`");
    }
    assert!(!text.contains(" # {") && !text.contains("# EOF") && !text.contains("# UNIT"));
}

#[tokio::test]
async fn openmetrics_has_exemplars_of_denies() {
    let app = asked().await;
    let reply = app
        .operations_accepting(
            "/metrics",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        )
        .await;
    assert_eq!(
        reply.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(reply.text.ends_with("# EOF\n"));
    let exemplar = reply
        .text
        .lines()
        .find(|line| {
            line.starts_with("remit_decision_duration_seconds_bucket")
                && line.contains(r#"decision="deny""#)
                && line.contains(" # {")
        })
        .unwrap_or_else(|| panic!("no exemplar in\n{}", reply.text));
    assert!(
        exemplar.contains(r#"trace_id="0af7651916cd43dd8448eb211c80319c""#),
        "{exemplar}"
    );
    assert!(exemplar.contains("decision_id="), "{exemplar}");
}

#[tokio::test]
async fn readiness_says_what_is_wrong() {
    let app = TestApp::empty(Options::default()).await;
    assert_eq!(app.operations("/livez").await.status, StatusCode::OK);
    assert_eq!(app.operations("/readyz").await.status, StatusCode::OK);
    app.log.close().await;
    assert_eq!(app.operations("/livez").await.status, StatusCode::OK);
    let heads = app.store.heads().await.unwrap();
    let ready = app.operations("/readyz").await.json();
    assert_eq!(ready["tenants"][0]["revision"], json!(heads[0].revision));
    assert_eq!(ready["tenants"][0]["bundle"], json!(false));
}

#[test]
fn the_page_of_errors_is_the_table() {
    remit_tests::golden::compare("docs/errors.md", &remit_api::errors_page());
}
