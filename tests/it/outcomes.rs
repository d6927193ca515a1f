//! What permits take and outcomes tell, over the API: budgets, labels, reservations, orphans, movements of data.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use remit_core::{
    Budget, Bundle, Clock, Confidentiality, Declaration, Effects, EntityUid, Integrity, Label,
    TaskId, TenantId, Timestamp, Tool,
};
use remit_store::{Change, NewTask, Store};
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

pub(crate) mod barrier;
mod commands;
mod fleet;
mod killed;
mod told;
mod yours;

/// Agents may do everything, but pay after they have read what outsiders may have written.
pub fn bundle() -> Bundle {
    serde_json::from_value(json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": "entity Agent;\nentity Tool;\n\
                action read, look, pay appliesTo { principal: [Agent], resource: [Tool], context: { facts: Remit::Facts } };\n",
        }],
        "policies": [{
            "file": "agents.cedar",
            "text": "@id(\"open\")\npermit (principal is Agent, action, resource);\n\
                @id(\"clean\")\nforbid (principal, action == Action::\"pay\", resource)\n\
                when { context.facts has task && context.facts.task.labels.contains(\"untrusted\") };\n",
        }],
    }))
    .unwrap()
}

/// `read` brings what outsiders may have written, `look` and `pay` what the tenant's own people have.
pub fn tools() -> Vec<Tool> {
    let tool = |name: &str, effect: Effects, integrity: Integrity| Tool {
        amount: None,
        classes: BTreeSet::new(),
        clearance: None,
        confidentiality: Confidentiality::Public,
        cost: 0,
        descriptor: None,
        domain: None,
        effect,
        environment: None,
        integrity,
        irreversible: false,
        min_trust: 0,
        name: name.into(),
        owner: None,
        roles: None,
        sinks: Vec::new(),
    };
    vec![
        tool("read", Effects::Read, Integrity::Untrusted),
        tool("look", Effects::Read, Integrity::Trusted),
        tool("pay", Effects::Pay, Integrity::Trusted),
    ]
}

/// Opens a task of the agent `a` past the API, and returns it with the revision that brings it.
pub async fn open(
    store: &Store,
    clock: &Clock,
    tenant: TenantId,
    parent: Option<TaskId>,
    calls: Option<u64>,
) -> (TaskId, remit_core::Revision) {
    let id = TaskId::from_uuid(clock.id());
    let declaration = Declaration {
        actions: None,
        agent: EntityUid::new("Agent", "a"),
        budget: Budget {
            calls,
            ..Budget::default()
        },
        data_classes: None,
        expires_at: Timestamp::from_micros(clock.now().micros() + 3_600_000_000),
        intent: String::new(),
        may_delegate: true,
        on_behalf_of: None,
        parent,
        purpose: "invoicing".into(),
        resources: None,
        sinks: None,
        template: None,
        window: None,
    };
    let new = NewTask {
        id,
        declaration: &declaration,
        decision: None,
        idle_timeout: Duration::from_hours(1),
        opened_by: &"ana".parse().unwrap(),
        opening_agents: &[],
        replaces: None,
        checked: None,
    };
    let opened = store.insert_task(tenant, new, Change::default()).await;
    (id, opened.unwrap())
}

/// The API with the bundle, the tools, and its log shipping.
async fn start() -> TestApp {
    let app = TestApp::shipping(&bundle()).await;
    let tools = tools();
    let put = app
        .store
        .put_tools(app.tenant, None, &tools, Change::default());
    app.reached(put.await.unwrap()).await;
    app
}

async fn task(app: &TestApp, calls: Option<u64>) -> TaskId {
    child(app, None, calls).await
}

async fn child(app: &TestApp, parent: Option<TaskId>, calls: Option<u64>) -> TaskId {
    let (task, revision) = open(&app.store, &app.clock, app.tenant, parent, calls).await;
    app.reached(revision).await;
    task
}

pub fn question(action: &str, task: Option<TaskId>) -> Value {
    json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": action },
        "resource": { "type": "Tool", "id": "it" }, "context": task.map_or(json!({}), |task| json!({ "task": task })),
    })
}

pub async fn ask(app: &TestApp, action: &str, task: TaskId) -> Reply {
    app.post("/access/v1/evaluation", question(action, Some(task)))
        .await
}

/// Asks and returns the verdict, the reason and the id of the decision.
pub async fn decided(app: &TestApp, action: &str, task: TaskId) -> (bool, String, String) {
    let reply = ask(app, action, task).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let body = reply.json();
    (
        body["decision"].as_bool().unwrap(),
        body["context"]["reason"].as_str().unwrap().to_owned(),
        reply.header("x-decision-id").to_owned(),
    )
}

async fn permitted(app: &TestApp, action: &str, task: TaskId) -> String {
    let (permit, reason, id) = decided(app, action, task).await;
    assert!(permit, "{reason}");
    id
}

async fn denied(app: &TestApp, action: &str, task: TaskId) -> String {
    let (permit, reason, _) = decided(app, action, task).await;
    assert!(!permit, "{action} is permitted");
    reason
}

async fn report(app: &TestApp, decision: &str, outcome: &Value) -> Reply {
    let path = format!("/v1/decisions/{decision}/outcome");
    app.post(&path, outcome).await
}

async fn calls(app: &TestApp, task: TaskId) -> (u64, u64) {
    let budget = app.store.budget(app.tenant, task).await.unwrap().unwrap();
    (budget.reserved.calls, budget.spent.calls)
}

#[tokio::test]
async fn what_is_used_up_is_denied_and_recorded() {
    let app = start().await;
    let task = task(&app, Some(2)).await;
    let child = child(&app, Some(task), None).await;
    let first = permitted(&app, "look", task).await;
    let second = permitted(&app, "look", child).await;
    assert_eq!(denied(&app, "look", task).await, "budget_exhausted");
    let reply = ask(&app, "look", child).await;
    assert_eq!(reply.json()["context"]["reason"], "budget_exhausted");
    assert_eq!(
        calls(&app, task).await,
        (2, 0),
        "the budget above is charged"
    );
    // What consumed is in the database at once, whatever ships; the denials say what is used up.
    for id in [&first, &second] {
        let stored = app.store.decision(app.tenant, id.parse().unwrap()).await;
        let stored = stored.unwrap().unwrap();
        assert!(stored.sequence < 0);
        assert_eq!(stored.replica, app.log.replica());
    }
    app.log.caught_up(Duration::from_secs(10)).await;
    let id = reply.header("x-decision-id").parse().unwrap();
    let stored = app.store.decision(app.tenant, id).await.unwrap().unwrap();
    assert!(stored.sequence > 0, "a denial takes nothing and is shipped");
    let limit = stored.record.decision.limit.unwrap();
    assert_eq!(limit.dimension, Some(remit_core::Dimension::Calls));
    let facts = stored.record.facts.task.unwrap();
    assert_eq!(facts.exhausted, Some(remit_core::Dimension::Calls));
    // Outside the task nobody counts.
    let free = app
        .post("/access/v1/evaluation", question("look", None))
        .await;
    assert_eq!(free.json()["decision"], true);
    // Every road shows them: the list, and one by one.
    let listed = app.get("/v1/decisions?action=look").await.json();
    assert_eq!(listed["decisions"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_label_is_in_force_before_the_answer_leaves() {
    let app = start().await;
    let root = task(&app, None).await;
    let child = child(&app, Some(root), None).await;
    permitted(&app, "pay", child).await;
    permitted(&app, "read", child).await;
    for task in [child, root] {
        assert_eq!(denied(&app, "pay", task).await, "policy_forbid");
        let labels = app.store.labels_of(app.tenant, task).await.unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), [&Label::untrusted()]);
    }
    // Once raised, it takes nothing any more.
    let again = permitted(&app, "read", child).await;
    assert_eq!(
        app.store
            .decision(app.tenant, again.parse().unwrap())
            .await
            .unwrap(),
        None
    );
    // Another task has touched nothing.
    let other = task(&app, None).await;
    permitted(&app, "pay", other).await;
}

/// An item of a batch is decided by what those before it have touched.
#[tokio::test]
async fn a_batch_escapes_no_label_and_no_budget() {
    let app = start().await;
    let batch = async |task: TaskId, actions: &[&str]| {
        let items: Vec<Value> = actions
            .iter()
            .map(|action| question(action, Some(task)))
            .collect();
        let reply = app
            .post("/access/v1/evaluations", json!({ "evaluations": items }))
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let body = reply.json();
        let items = body["evaluations"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| item["decision"].as_bool().unwrap())
            .collect::<Vec<_>>()
    };
    let touched = task(&app, None).await;
    assert_eq!(
        batch(touched, &["pay", "read", "pay", "look"]).await,
        [true, true, false, true]
    );
    let limited = task(&app, Some(2)).await;
    assert_eq!(
        batch(limited, &["look", "pay", "look", "look"]).await,
        [true, true, false, false]
    );
}

#[tokio::test]
async fn what_is_over_in_the_database_is_denied_before_it_is_known_here() {
    let mut app = start().await;
    let task = task(&app, Some(5)).await;
    permitted(&app, "look", task).await;
    app.pause().await;
    let ending = remit_store::Ending {
        state: remit_core::TaskState::Revoked,
        by: "ana",
        why: None,
    };
    app.store
        .end_task(app.tenant, task, ending, Change::default())
        .await
        .unwrap();
    let (permit, reason, _) = decided(&app, "look", task).await;
    assert_eq!((permit, reason.as_str()), (false, "task_revoked"));
    assert_eq!(calls(&app, task).await, (1, 0));
    app.resume();
}

#[tokio::test]
async fn what_was_not_made_is_given_back_once() {
    let app = start().await;
    let task = task(&app, Some(1)).await;
    let first = permitted(&app, "look", task).await;
    assert_eq!(denied(&app, "look", task).await, "budget_exhausted");
    let not_made = json!({ "result": "not_made" });
    for _ in 0..3 {
        let reply = report(&app, &first, &not_made).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(calls(&app, task).await, (0, 0));
    }
    let second = permitted(&app, "look", task).await;
    assert_eq!(
        report(&app, &second, &json!({ "result": "succeeded" }))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(calls(&app, task).await, (0, 1));
    assert_eq!(denied(&app, "look", task).await, "budget_exhausted");
}

/// By the database's time, forwards and backwards.
#[tokio::test]
async fn what_nobody_tells_of_counts_as_spent() {
    let app = start().await;
    let task = task(&app, Some(3)).await;
    let first = permitted(&app, "look", task).await;
    let back = Timestamp::from_micros(app.clock.now().micros() - 3_600_000_000);
    let behind = app.store_by(Clock::manual(back)).await;
    assert_eq!(behind.expire_reservations().await.unwrap(), 0);
    app.clock.advance(Duration::from_secs(899));
    assert_eq!(app.store.expire_reservations().await.unwrap(), 0);
    assert_eq!(calls(&app, task).await, (1, 0));
    app.clock.advance(Duration::from_secs(2));
    app.store.expire_reservations().await.unwrap();
    behind.expire_reservations().await.unwrap();
    assert_eq!(calls(&app, task).await, (0, 1));
    // Told of now, it stays spent.
    let late = report(
        &app,
        &first,
        &json!({ "result": "failed", "error": "too late" }),
    )
    .await;
    assert_eq!(late.status, StatusCode::OK);
    assert_eq!(calls(&app, task).await, (0, 1));
}

/// A replica that is alone with its database gives no answer while the database does not take the record.
#[tokio::test]
async fn what_cannot_be_taken_is_not_answered() {
    let app = start().await;
    let task = task(&app, Some(5)).await;
    permitted(&app, "look", task).await;
    remit_tests::sql::execute(
        &app.database.url,
        "CREATE TRIGGER no_more BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
    )
    .await;
    let reply = ask(&app, "look", task).await;
    assert!(reply.status.is_server_error(), "{}", reply.text);
    assert!(reply.headers.get("x-decision-id").is_none());
    assert_eq!(calls(&app, task).await, (1, 0), "all or nothing");
    remit_tests::sql::execute(&app.database.url, "DROP TRIGGER no_more").await;
    permitted(&app, "look", task).await;
    assert_eq!(calls(&app, task).await, (2, 0));
}
