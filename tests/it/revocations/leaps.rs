//! What came and went while a replica heard nothing is told by it all the same: another one may have permitted by it.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{ApprovalScope, Role};
use remit_store::{Change, Scope};
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::{PATIENCE, Stream};
use crate::approvals::{approve, bundle, id_of, payment, requested, with_policies};

#[tokio::test]
async fn what_came_and_went_within_one_load_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("remit.db");
    let database = remit_tests::sql::patient(format!("sqlite:{}", file.display()));
    let options = || Options {
        max_staleness: Duration::from_mins(1),
        ..Options::default()
    };
    let mut there = TestApp::sharing(&database, options()).await;
    there.put(&bundle()).await;
    let mut here = TestApp::sharing(&database, options()).await;
    let (log, store) = (here.log.clone(), here.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    let ana = here.person("ana", &[Role::Publisher], Scope::ALL).await;
    let ben = here.person("ben", &[Role::Approver], Scope::ALL).await;
    there.caught_up().await;
    let mut stream = Stream::open(&there, None).await;
    let ready = stream.event().await;
    let before = ready.id.clone();
    drop(stream);
    there.pause().await;

    let approval = id_of(&requested(&here, &payment()).await);
    approve(&here, &approval, ApprovalScope::Once, 600).await;
    let tenant = here.tenant;
    let withdrawn = here.store.withdraw_approval(
        tenant,
        approval.parse().unwrap(),
        ("maya", "no"),
        Change::default(),
    );
    here.reached(withdrawn.await.unwrap().revision).await;
    let post = async |key: &str, path: &str, body: &Value| {
        let reply = here.as_key(key, Method::POST, path, body).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
        reply.json()
    };
    let until = here.clock.now().plus(Duration::from_mins(10));
    let proposed = post(&ana, "/v1/exceptions", &json!({
        "policy": "needs-a-person", "scope": { "action": "pay" }, "owner": "ana", "reason": "x", "compensating": "x",
        "until": until,
    }))
    .await;
    let exception = proposed["id"].as_str().unwrap();
    let path = format!("/v1/exceptions/{exception}");
    let seen = json!({ "seen": proposed["hash"] });
    post(&ben, &format!("{path}/confirm"), &seen).await;
    post(&ben, &format!("{path}/end"), &json!({})).await;
    let (task, revision) =
        crate::outcomes::open(&here.store, &here.clock, tenant, None, None).await;
    here.reached(revision).await;
    let suspended = here
        .store
        .suspend_task(tenant, task, true, Change::default());
    here.reached(suspended.await.unwrap()).await;
    here.put(&with_policies(
        "@id(\"more\") permit (principal, action, resource);\n",
    ))
    .await;
    here.put(&bundle()).await;
    here.caught_up().await;

    there.resume();
    there.caught_up().await;
    let mut stream = Stream::open(&there, Some(&before)).await;
    let wanted = [
        ("approval_ended", "approval", json!(approval)),
        ("exception_ended", "exception", json!(exception)),
        ("task", "task", json!(task)),
        ("bundle", "kind", json!("bundle")),
    ];
    let mut told: Vec<Value> = Vec::new();
    let is_told = |told: &[Value], (kind, member, value): &(&str, &str, Value)| {
        let is = |one: &&Value| one["kind"] == *kind && one[*member] == *value;
        told.iter().any(|one| is(&one))
    };
    let began = Instant::now();
    while !wanted.iter().all(|one| is_told(&told, one)) {
        assert!(began.elapsed() < PATIENCE, "{told:?}");
        let Some(Ok(event)) = stream.part().await else {
            continue;
        };
        if event.kind == "ready" {
            continue;
        }
        assert_eq!(event.kind, "revoked", "{told:?} {event:?}");
        told.extend(event.data["changes"].as_array().unwrap().iter().cloned());
    }
    let known = there.get(&path).await;
    assert_eq!(known.status, StatusCode::OK, "{}", known.text);
}
