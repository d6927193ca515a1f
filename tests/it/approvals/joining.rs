//! Asking for the same at once, for several things together, and waiting for the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_core::{AdminAction, ApprovalScope, PrincipalKind};
use remit_store::AdminActionFilter;
use remit_tests::app::TestApp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    EVALUATION, REQUESTS, approve, ask, by, cancel, deny, fails, id_of, payment, requested, start,
    status, submission,
};

fn amount(amount: u64) -> Value {
    let mut question = payment();
    question["action"]["properties"]["amount"] = json!(amount);
    question
}

async fn records(app: &TestApp, action: &str) -> Vec<AdminAction> {
    let filter = AdminActionFilter {
        action: Some(action.to_owned()),
        ..AdminActionFilter::default()
    };
    app.store
        .admin_actions(app.tenant, &filter, None, 100)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_pending_of_the_same_is_joined() {
    let app = start().await;
    let one = id_of(&requested(&app, &payment()).await);
    assert_eq!(id_of(&requested(&app, &payment()).await), one);
    assert_ne!(id_of(&requested(&app, &amount(7)).await), one);
    let asked = records(&app, "create_request").await;
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|record| record.revision.is_some()));
    // The record of joining is about the request that is there.
    let joined = records(&app, "join_request").await;
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].resource.id.as_str(), one);
    assert_eq!(joined[0].details["requests"][0]["request"], one.as_str());
    assert_eq!(joined[0].details["requests"][0]["joined"], true);
    // After it ended it is asked anew.
    cancel(&app, &one).await;
    assert_eq!(records(&app, "cancel_request").await.len(), 1);
    assert_ne!(id_of(&requested(&app, &payment()).await), one);
}

/// A request whose time is over is not joined, noted as expired or not.
#[tokio::test]
async fn what_expired_is_not_joined() {
    let app = start().await;
    let one = id_of(&requested(&app, &payment()).await);
    app.clock.advance(Duration::from_hours(1));
    app.caught_up().await;
    assert_ne!(id_of(&requested(&app, &payment()).await), one);
    assert_eq!(status(&app, &one).await.json()["task"]["status"], "expired");
    let expired = records(&app, "expire_request").await;
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].resource.id.as_str(), one);
}

/// Whoever joined a request does not take it from whoever asked first.
#[tokio::test]
async fn who_joined_cannot_take_it_back() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    let other = app.key_of(PrincipalKind::Machine, "pep-2", &[]).await;
    let denied = app
        .as_key(&other, Method::POST, EVALUATION, &payment())
        .await
        .json();
    let body = submission(&payment(), &denied);
    let reply = app.as_key(&other, Method::POST, REQUESTS, &body).await;
    assert_eq!(id_of(&reply.json()), id);
    let path = format!("{REQUESTS}/{id}/cancel");
    let reply = app.as_key(&other, Method::POST, &path, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text);
    // Nor by several together of which it is one.
    let item =
        json!({ "resource": body["resource"], "action": body["action"], "denial": body["denial"] });
    let several =
        json!({ "subject": body["subject"], "context": body["context"], "items": [item] });
    let reply = app.as_key(&other, Method::POST, REQUESTS, &several).await;
    let bulk = format!("{REQUESTS}/{}/cancel", id_of(&reply.json()));
    let reply = app.as_key(&other, Method::POST, &bulk, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text);
    assert_eq!(status(&app, &id).await.json()["task"]["status"], "pending");
    assert_eq!(cancel(&app, &id).await.status, StatusCode::OK);
}

/// The sweep ends what is over with a record of its own, and forgets what was used up or is over.
#[tokio::test]
async fn a_sweep_ends_what_is_over() {
    let app = start().await;
    let pending = id_of(&requested(&app, &payment()).await);
    let used = id_of(&requested(&app, &amount(1)).await);
    approve(&app, &used, ApprovalScope::Once, 7_200).await;
    assert_eq!(ask(&app, &by(&amount(1), &used)).await["decision"], true);
    let over = id_of(&requested(&app, &amount(2)).await);
    approve(&app, &over, ApprovalScope::Once, 60).await;
    app.clock.advance(Duration::from_hours(1));
    app.caught_up().await;
    let until = Instant::now() + Duration::from_secs(30);
    let snapshot = async |id: &str| {
        let stored = app.store.request(app.tenant, id.parse().unwrap()).await;
        stored.unwrap().unwrap()
    };
    while !(snapshot(&used).await.forgotten && snapshot(&over).await.forgotten) {
        assert!(Instant::now() < until, "nothing is forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(snapshot(&pending).await.state.as_str(), "expired");
    let expired = records(&app, "expire_request").await;
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].resource.id.as_str(), pending);
    assert_eq!(
        app.store
            .expire_requests(app.tenant)
            .await
            .unwrap()
            .revision,
        None
    );
}

#[tokio::test]
async fn several_are_asked_for_together() {
    let app = start().await;
    let mut items = Vec::new();
    for number in [1, 2, 3] {
        let question = amount(number);
        let denied = ask(&app, &question).await;
        let whole = submission(&question, &denied);
        items.push(json!({ "resource": whole["resource"], "action": whole["action"], "denial": whole["denial"] }));
    }
    let body =
        json!({ "subject": payment()["subject"], "context": payment()["context"], "items": items });
    let reply = app.post(REQUESTS, &body).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let handle = reply.json();
    let id = id_of(&handle);
    assert_eq!(handle["task"]["items"].as_array().unwrap().len(), 3);
    assert!(
        reply
            .header("location")
            .ends_with(&format!("{REQUESTS}/{id}"))
    );
    let bulk = app
        .store
        .bulk_request(app.tenant, id.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let ids: Vec<String> = bulk.items.iter().map(ToString::to_string).collect();
    approve(&app, &ids[1], ApprovalScope::Once, 60).await;
    let told = status(&app, &id).await.json();
    assert_eq!(told["task"]["status"], "pending");
    assert_eq!(
        told["task"]["items"][1]["result"]["approval"]["id"],
        ids[1].as_str()
    );
    assert!(told.get("result").is_none(), "{told}");
    deny(&app, &ids[0]).await;
    let told = cancel(&app, &id).await.json();
    assert_eq!(told["task"]["status"], "partial", "{told}");
    let statuses: Vec<&str> = told["task"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["denied", "approved", "cancelled"]);
    fails(&cancel(&app, &id).await, 409, "invalid_task_state");
    assert_eq!(ask(&app, &by(&amount(2), &ids[1])).await["decision"], true);
}

/// One item that cannot be bound: nothing is asked.
#[tokio::test]
async fn several_are_asked_for_all_or_none() {
    let app = start().await;
    let denied = ask(&app, &payment()).await;
    let whole = submission(&payment(), &denied);
    let good = json!({ "resource": whole["resource"], "action": whole["action"], "denial": whole["denial"] });
    let mut bad = good.clone();
    bad["action"]["properties"]["amount"] = json!(5);
    let body =
        json!({ "subject": whole["subject"], "context": whole["context"], "items": [good, bad] });
    fails(
        &app.post(REQUESTS, &body).await,
        400,
        "invalid_denial_binding",
    );
    assert!(records(&app, "create_request").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_waits_for_the_end() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    let path = format!("{REQUESTS}/{id}");
    let wait = async |preference: &str| {
        let request = app.request(Method::GET, &path).header("prefer", preference);
        let began = Instant::now();
        (app.send(request, "").await, began.elapsed())
    };
    let (reply, took) = wait("respond-async, wait=1").await;
    assert_eq!(reply.json()["task"]["status"], "pending");
    assert_eq!(reply.header("preference-applied"), "wait=1");
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let (waited, ()) = tokio::join!(wait("wait=100"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        approve(&app, &id, ApprovalScope::Once, 60).await;
    });
    let (reply, took) = waited;
    assert_eq!(reply.json()["task"]["status"], "approved", "{}", reply.text);
    // No longer than the deadline of a request allows.
    assert_eq!(reply.header("preference-applied"), "wait=13");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (reply, _) = wait("wait=soon").await;
    assert_eq!(reply.header("preference-applied"), "");
}

/// As many answers wait as may; the next one does not, and does not say that it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_answers_wait() {
    let app = Arc::new(start().await);
    let id = id_of(&requested(&app, &payment()).await);
    let wait = async |app: Arc<TestApp>, id: String| {
        let request = app.request(Method::GET, &format!("{REQUESTS}/{id}"));
        app.send(request.header("prefer", "wait=100"), "").await
    };
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        waiting.spawn(wait(Arc::clone(&app), id.clone()));
    }
    // Whichever of them come last.
    for _ in 0..4 {
        let reply = waiting.join_next().await.unwrap().unwrap();
        assert_eq!(reply.json()["task"]["status"], "pending", "{}", reply.text);
        assert_eq!(reply.header("preference-applied"), "");
    }
    approve(&app, &id, ApprovalScope::Once, 60).await;
    for reply in waiting.join_all().await {
        assert_eq!(reply.json()["task"]["status"], "approved", "{}", reply.text);
        assert_eq!(reply.header("preference-applied"), "wait=13");
    }
}
