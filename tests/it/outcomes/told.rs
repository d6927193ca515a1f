//! Outcomes over the API: told once, refused where they cannot be, listed, and never making anything permitted.

use std::time::Duration;

use http::StatusCode;
use remit_core::{Integrity, TaskId};
use remit_store::Scope;
use remit_tests::app::TestApp;
use serde_json::{Value, json};

use super::{ask, decided, denied, permitted, report, start, task};

/// Counts the refusals of a reason.
async fn refusals(app: &TestApp, why: &str) -> u64 {
    let text = app.operations("/metrics").await.text;
    let line = format!("remit_outcomes_refused_total{{why=\"{why}\"}} ");
    let found = text.lines().find_map(|text| text.strip_prefix(&line));
    found.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn an_outcome_is_told_once_and_answered_alike() {
    let app = start().await;
    let task = task(&app, Some(9)).await;
    let id = permitted(&app, "look", task).await;
    let told = json!({
        "result": "succeeded", "bytes": 12, "cost": 3, "source": "crm", "destination": "mail",
        "labels": ["class:pii"], "sinks": ["bob@example.com"], "error": null,
    });
    let first = report(&app, &id, &told).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let body = first.json();
    assert_eq!(body["decision"], json!(id));
    assert_eq!(
        (&body["task"], &body["labels"]),
        (&json!(task), &json!(["class:pii"]))
    );
    let revision = first.header("remit-revision").to_owned();
    let budget = app.store.budget(app.tenant, task).await.unwrap().unwrap();
    assert_eq!(
        (budget.spent.calls, budget.spent.bytes, budget.spent.cost),
        (1, 12, 3)
    );
    let again = report(&app, &id, &told).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, body));
    assert_eq!(again.header("remit-revision"), revision);
    let other = report(&app, &id, &json!({ "result": "failed" })).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    let problem = other.json();
    assert_eq!(
        (&problem["code"], &problem["why"]),
        (&json!("outcome-refused"), &json!("another"))
    );
    assert_eq!(refusals(&app, "another").await, 1);
    // A key that may not ask may not tell.
    let reader = app.new_key(&[Scope::Read], "dev", None).await;
    let path = format!("/v1/decisions/{id}/outcome");
    let refused = app.as_key(&reader, http::Method::POST, &path, &told).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_outcome_of_no_permit_is_refused_and_counted() {
    let app = start().await;
    let task = task(&app, None).await;
    let succeeded = json!({ "result": "succeeded" });
    for id in [
        "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77",
        "00000000-0000-0000-0000-000000000000",
    ] {
        let reply = report(&app, id, &succeeded).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text);
    }
    assert_eq!(refusals(&app, "unknown").await, 2);
    permitted(&app, "read", task).await;
    let (permit, _, id) = decided(&app, "pay", task).await;
    assert!(!permit);
    let reply = report(&app, &id, &succeeded).await;
    assert_eq!(
        (reply.status, &reply.json()["why"]),
        (StatusCode::CONFLICT, &json!("denied"))
    );
    assert_eq!(refusals(&app, "denied").await, 1);
    // What outsiders may have written names nobody whom the task may trust.
    let read = permitted(&app, "read", task).await;
    let sinks = json!({ "result": "succeeded", "sinks": ["eve@example.com"] });
    let reply = report(&app, &read, &sinks).await;
    assert_eq!(
        (reply.status, &reply.json()["why"]),
        (StatusCode::CONFLICT, &json!("untrusted_sinks"))
    );
    assert_eq!(report(&app, &read, &succeeded).await.status, StatusCode::OK);
}

/// Every limit, one by one, and what was meant.
#[tokio::test]
async fn what_cannot_be_kept_is_refused() {
    let app = start().await;
    let task = task(&app, None).await;
    let id = permitted(&app, "look", task).await;
    let long = |length: usize| "x".repeat(length);
    let many: Vec<String> = (0..1_001).map(|number| format!("s{number}")).collect();
    let labels: Vec<String> = (0..65).map(|number| format!("class:c{number}")).collect();
    for (outcome, named) in [
        (json!({}), "`result`"),
        (json!({ "result": "perhaps" }), "`result`"),
        (json!({ "result": "succeeded", "size": 1 }), "`size`"),
        (json!({ "result": "succeeded", "bytes": -1 }), "`bytes`"),
        (
            json!({ "result": "succeeded", "bytes": 9_007_199_254_740_992_u64 }),
            "too large",
        ),
        (json!({ "result": "succeeded", "cost": 1.5 }), "`cost`"),
        (json!({ "result": "succeeded", "source": "" }), "`source`"),
        (
            json!({ "result": "succeeded", "destination": long(1_025) }),
            "`destination`",
        ),
        (
            json!({ "result": "failed", "error": long(4_097) }),
            "`error`",
        ),
        (
            json!({ "result": "succeeded", "labels": ["secret"] }),
            "`labels[0]`",
        ),
        (
            json!({ "result": "succeeded", "labels": labels }),
            "`labels`",
        ),
        (json!({ "result": "succeeded", "sinks": many }), "`sinks`"),
        (
            json!({ "result": "succeeded", "sinks": ["a", " "] }),
            "`sinks[1]`",
        ),
        (
            json!({ "result": "succeeded", "sinks": [long(1_025)] }),
            "`sinks[0]`",
        ),
    ] {
        let reply = report(&app, &id, &outcome).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text);
        let body = reply.json();
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{named}: {detail}");
    }
    let most = json!({
        "result": "succeeded", "bytes": 9_007_199_254_740_991_u64, "destination": long(1_024), "error": long(4_096),
        "sinks": &many[..1_000],
    });
    let reply = report(&app, &id, &most).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn movements_are_listed_and_orphans_are_found() {
    let app = start().await;
    let one = task(&app, None).await;
    let two = task(&app, Some(9)).await;
    let mut ids = Vec::new();
    for (number, task) in [one, one, two, two, two].into_iter().enumerate() {
        let id = permitted(&app, "look", task).await;
        if number != 3 {
            let destination = if number == 0 { "lake" } else { "mail" };
            let told =
                json!({ "result": "succeeded", "bytes": number + 1, "destination": destination });
            assert_eq!(report(&app, &id, &told).await.status, StatusCode::OK);
        }
        ids.push(id);
    }
    let list = async |query: &str| {
        let reply = app.get(&format!("/v1/outcomes?{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    };
    // What went where, added up over pages.
    let mut sum = 0;
    let mut page = list("destination=mail&limit=2").await;
    loop {
        let items = page["outcomes"].as_array().unwrap();
        sum += items
            .iter()
            .map(|one| one["bytes"].as_u64().unwrap())
            .sum::<u64>();
        let Some(next) = page["next"].as_str() else {
            break;
        };
        page = list(&format!("destination=mail&limit=2&cursor={next}")).await;
    }
    assert_eq!(sum, 2 + 3 + 5);
    let of_task = list(&format!("task={one}&result=succeeded")).await;
    assert_eq!(of_task["outcomes"].as_array().unwrap().len(), 2);
    let bad = app.get("/v1/outcomes?result=perhaps").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    // Nobody said what became of one of them.
    let orphans = async |query: &str| -> Vec<Value> {
        let reply = app.get(&format!("/v1/orphans?{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()["orphans"].as_array().unwrap().clone()
    };
    assert_eq!(orphans("").await, [] as [Value; 0], "there is time yet");
    app.clock.advance(Duration::from_secs(301));
    app.caught_up().await;
    let found = orphans("limit=5").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["decision"], &found[0]["task"]),
        (&json!(ids[3]), &json!(two))
    );
    assert_eq!(orphans(&format!("task={one}")).await, [] as [Value; 0]);
    assert_eq!(
        report(&app, &ids[3], &json!({ "result": "failed" }))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(orphans("").await, [] as [Value; 0]);
}

/// `taint_monotone`: whatever is told of, or not told of, labels only grow and no denial becomes a permit.
#[tokio::test]
async fn leaving_an_outcome_out_permits_nothing() {
    let app = start().await;
    let outcomes = [
        json!({ "result": "succeeded" }),
        json!({ "result": "failed" }),
        json!({ "result": "not_made" }),
        json!({ "result": "succeeded", "labels": ["untrusted"] }),
        json!({ "result": "not_made", "labels": ["untrusted", "private"] }),
    ];
    let mut compared = 0;
    for calls in [["look", "look"], ["read", "look"], ["look", "read"]] {
        for with in &outcomes {
            // The same calls in two tasks: in one the outcome of the first is told, in the other none is.
            let [told, silent] = [task(&app, None).await, task(&app, None).await];
            let mut verdicts = Vec::new();
            for (task, tells) in [(told, true), (silent, false)] {
                let first = permitted(&app, calls[0], task).await;
                if tells {
                    let reply = report(&app, &first, with).await;
                    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
                }
                permitted(&app, calls[1], task).await;
                let labels = app.store.labels_of(app.tenant, task).await.unwrap();
                let (pays, ..) = decided(&app, "pay", task).await;
                verdicts.push((pays, labels.into_keys().collect::<Vec<_>>()));
            }
            let (with, without) = (&verdicts[0], &verdicts[1]);
            assert!(
                with.0 <= without.0 || without.0,
                "telling permits what silence denies"
            );
            assert!(!with.0 || without.0);
            assert!(without.1.iter().all(|label| with.1.contains(label)));
            if calls.contains(&"read") {
                assert!(!with.0 && !without.0, "the permit itself raised it");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 15);
}

#[tokio::test]
async fn what_a_trusted_tool_returned_may_be_trusted() {
    let app = start().await;
    let task = task(&app, None).await;
    let id = permitted(&app, "look", task).await;
    app.log.caught_up(Duration::from_secs(10)).await;
    let stored = app
        .store
        .decision(app.tenant, id.parse().unwrap())
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(stored.facts.tool.unwrap().integrity, Integrity::Trusted);
    let told = json!({ "result": "succeeded", "sinks": ["Bob@Example.com", "DE89 3704 0044 0532 0130 00"] });
    let reply = report(&app, &id, &told).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let changes = app
        .store
        .tasks_changed(app.tenant, remit_core::Revision::default(), None, 100)
        .await
        .unwrap();
    let kept = changes.live.iter().find(|live| live.id == task).unwrap();
    assert_eq!(kept.trusted.len(), 2);
    assert!(
        kept.trusted
            .contains(&remit_core::sink_hash("Bob@example.com"))
    );
}

/// One that another replica has made is waited for; one of long ago is not.
#[tokio::test]
async fn a_decision_on_its_way_is_waited_for() {
    let app = TestApp::start(&super::bundle()).await;
    let task: TaskId = task(&app, None).await;
    // Nobody ships: it is not found, after a wait.
    let reply = app
        .post("/access/v1/evaluation", super::question("look", None))
        .await;
    let id = reply.header("x-decision-id").to_owned();
    let began = std::time::Instant::now();
    let refused = report(&app, &id, &json!({ "result": "succeeded" })).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(began.elapsed() >= Duration::from_secs(2));
    let (log, store) = (app.log.clone(), app.store.clone());
    let shipping = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    };
    let succeeded = json!({ "result": "succeeded" });
    let (mut told, ()) = tokio::join!(report(&app, &id, &succeeded), shipping);
    // On a machine that has much to do it may take longer than a request waits: then with one that was just made.
    for _ in 0..5 {
        if told.status == StatusCode::OK {
            break;
        }
        let reply = app
            .post("/access/v1/evaluation", super::question("look", None))
            .await;
        told = report(&app, reply.header("x-decision-id"), &succeeded).await;
    }
    assert_eq!(told.status, StatusCode::OK, "{}", told.text);
    assert!(told.json().get("task").is_none(), "outside any task");
    let mut took = Vec::new();
    for _ in 0..3 {
        let began = std::time::Instant::now();
        let old = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
        let refused = report(&app, old, &json!({ "result": "failed" })).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        took.push(began.elapsed());
    }
    assert!(
        *took.iter().min().unwrap() < Duration::from_secs(2),
        "{took:?}"
    );
    // A tool that nobody knows brings the worst.
    assert_eq!(ask(&app, "look", task).await.status, StatusCode::OK);
    assert_eq!(denied(&app, "pay", task).await, "policy_forbid");
}
