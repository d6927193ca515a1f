//! Who opens a task, and what the policies say of it.

use http::{Method, StatusCode};
use remit_core::Role;
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_task_is_declared_decided_and_shown() {
    let world = World::make().await;
    let body = with(
        task("bot"),
        json!({
            "intent": "Pay the supplier", "actions": ["reading", "pay"], "sinks": [" de89 3704 0044 0532 0130 00 ", "a@EXAMPLE.com"],
            "budget": { "calls": 3 }, "expires_in": 600, "resources": [{ "type": "Folder", "id": "hr" }, { "type": "Payee", "id": "supplier" }],
        }),
    );
    let opened = world.open_by(&world.ops, &body).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    let shown = opened.json();
    let id = id_of(&opened);
    assert_eq!(opened.header("location"), format!("/v1/tasks/{id}"));
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["labels"], json!([]));
    assert_eq!(shown["opened_by"], "maya");
    // In their one spelling, or no call would ever match.
    assert_eq!(
        shown["declaration"]["sinks"],
        json!(["DE89370400440532013000", "a@example.com"])
    );
    let left = time(&shown["declaration"]["expires_at"]).micros() - world.test.clock.now().micros();
    assert!((599_000_000..=600_000_000).contains(&left), "{left}");
    // It was decided by the tenant's own policies, and that is on record.
    world.test.log.status();
    let decision = shown["decision"].as_str().unwrap();
    assert!(decision.parse::<remit_core::DecisionId>().is_ok());

    let shown = world.shown(&id).await;
    assert_eq!(shown["children"], json!({ "live": 0, "all": 0 }));
    assert_eq!(shown["used"]["allowed"], json!({ "calls": 3 }));
    let listed = world
        .test
        .get("/v1/tasks?agent_type=Agent&agent_id=bot&state=active&purpose=work")
        .await;
    assert_eq!(listed.json()["tasks"][0]["id"], json!(id));
    let none = world.test.get("/v1/tasks?state=revoked").await;
    assert_eq!(none.json()["tasks"], json!([]));

    assert_eq!(
        world.reason("bot", &read(), Some(&id)).await,
        "policy_permit"
    );
    let file =
        json!({ "action": { "name": "get_file" }, "resource": { "type": "File", "id": "else" } });
    let denied = world.ask("bot", &file, Some(&id)).await;
    assert_eq!(reason(&denied), "outside_task");
    assert_eq!(denied.json()["context"]["limit"]["dimension"], "resources");
}

#[tokio::test]
async fn the_policies_of_the_tenant_decide_whether_it_is_opened() {
    let world = World::make().await;
    let secret = with(task("bot"), json!({ "purpose": "secret" }));
    let denied = world.open_by(&world.ops, &secret).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let told = denied.json();
    assert_eq!(told["code"], "task-denied");
    assert_eq!(told["policies"], json!(["no-secrets"]));
    assert_eq!(told["reason"], "policy_forbid");
    assert!(told["decision"].is_string());
    // An agent that is not registered opens none.
    let stranger = world.open_by(&world.ops, &task("stranger")).await;
    assert_eq!(stranger.json()["reason"], "agent_unregistered");
    let listed = world.test.get("/v1/tasks").await;
    assert_eq!(listed.json()["tasks"], json!([]), "nothing was opened");
}

#[tokio::test]
async fn a_schema_without_the_action_opens_nothing_and_says_so() {
    let mut test = TestApp::empty(Options::default()).await;
    test.put(&crate::revisions::bundle()).await;
    let ops = test
        .key_of(PrincipalKind::Person, "maya", &[Role::Operator])
        .await;
    let request = test.request_with(&ops, Method::POST, "/v1/tasks");
    let denied = test.send(request, task("bot")).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert!(denied.text.contains("entity Purpose;"), "{}", denied.text);
}

#[tokio::test]
async fn only_an_operator_opens_a_task_and_an_agent_below_its_own() {
    let world = World::make().await;
    let reader = world
        .test
        .person("rita", &[Role::Reader, Role::Admin], EVERY)
        .await;
    let refused = world.open_by(&reader, &task("bot")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.json()["code"], "not-permitted");

    let parent = world
        .open(with(task("bot"), json!({ "may_delegate": true })))
        .await;
    let closed = world.open(task("bot")).await;
    let bot = world.own("bot", &[]).await;
    let child = with(task("other"), json!({ "parent": parent }));
    let opened = world.open_by(&bot, &child).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    assert_eq!(opened.json()["opened_by"], "bot");
    // No task of its own beside those it was given, none below what may not be handed on, and none below another's.
    for (key, body, code) in [
        (&bot, task("bot"), "not-permitted"),
        (
            &bot,
            with(task("bot"), json!({ "parent": closed })),
            "task-exceeds-parent",
        ),
        (&world.own("other", &[]).await, child, "not-permitted"),
    ] {
        let refused = world.open_by(key, &body).await;
        assert_eq!(refused.json()["code"], code, "{}", refused.text);
    }
    // It completes its own task, and does not revoke it.
    let path = format!("/v1/tasks/{parent}/revoke");
    let refused = world.send(&bot, &path, &Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let path = format!("/v1/tasks/{parent}/complete");
    let done = world.send(&bot, &path, &Value::Null).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
}

#[tokio::test]
async fn a_request_that_is_sent_twice_opens_one_task() {
    let world = World::make().await;
    let send = async |body: Value| {
        let request = world
            .test
            .request_with(&world.ops, Method::POST, "/v1/tasks")
            .header("idempotency-key", "one");
        world.test.send(request, body).await
    };
    let (first, second) = (send(task("bot")).await, send(task("bot")).await);
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(id_of(&first), id_of(&second));
    let other = send(task("other")).await;
    assert_eq!(other.json()["code"], "idempotency-key-reused");
    let listed = world.test.get("/v1/tasks").await;
    assert_eq!(listed.json()["tasks"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_declared_is_named() {
    let world = World::make().await;
    let many: Vec<String> = (0..257).map(|n| format!("s{n}@example.com")).collect();
    let agent = json!({ "type": "Agent", "id": "bot" });
    for (body, said) in [
        (json!({ "purpose": "work" }), "`agent` is missing"),
        (json!({ "agent": agent }), "`purpose` is missing"),
        (with(task("bot"), json!({ "purpose": "" })), "`purpose`"),
        (with(task("bot"), json!({ "acts": [] })), "`acts`"),
        (
            with(task("bot"), json!({ "required": ["sinks"] })),
            "`required`",
        ),
        (
            with(task("bot"), json!({ "idle_timeout": 600 })),
            "`idle_timeout`",
        ),
        (
            with(task("bot"), json!({ "expires_in": 0 })),
            "`expires_in`",
        ),
        (
            with(task("bot"), json!({ "expires_in": 31_536_001 })),
            "`expires_in`",
        ),
        (with(task("bot"), json!({ "sinks": many })), "`sinks`"),
        (
            with(task("bot"), json!({ "intent": "x".repeat(16_385) })),
            "`intent`",
        ),
        (
            with(
                task("bot"),
                json!({ "window": { "days": [8], "from": 0, "until": 9 } }),
            ),
            "`window.days`",
        ),
        (
            with(task("bot"), json!({ "template": "none" })),
            "`template`",
        ),
        (with(task("bot"), json!({ "parent": "x" })), "`parent`"),
    ] {
        let refused = world.open_by(&world.ops, &body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            refused.text
        );
        assert!(refused.text.contains(said), "{said}: {}", refused.text);
    }
    // A million of anything does not even arrive.
    let million: Vec<u32> = (0..1_000_000).collect();
    let sinks: Vec<String> = million.iter().map(ToString::to_string).collect();
    let refused = world
        .open_by(&world.ops, &with(task("bot"), json!({ "sinks": sinks })))
        .await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    let gone = json!({ "parent": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20" });
    let refused = world.open_by(&world.ops, &with(task("bot"), gone)).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    for query in ["state=not_yours", "agent_type=Agent", "limit=0"] {
        let refused = world.test.get(&format!("/v1/tasks?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
    }
}
