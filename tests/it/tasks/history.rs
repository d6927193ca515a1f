//! What a task has touched stays with it, goes on to what is below, and is not escaped by another id.

use http::StatusCode;
use remit_core::{DecisionId, Label, Role, TaskId};
use remit_store::{Error, MOST_LABELS};
use serde_json::json;

use super::*;

#[tokio::test]
async fn no_task_id_escapes_anything() {
    let world = World::make().await;
    let mine = world.open(task("bot")).await;
    let others = world.open(task("other")).await;
    let unknown = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20";
    assert_eq!(
        world.reason("bot", &pay(), Some(&mine)).await,
        "policy_permit"
    );
    assert_eq!(
        world.reason("bot", &pay(), Some(&others)).await,
        "task_not_yours"
    );
    assert_eq!(
        world.reason("bot", &pay(), Some(unknown)).await,
        "task_unknown"
    );
    // Another's says nothing of itself, not even to a policy.
    let denied = world.ask("bot", &pay(), Some(&others)).await;
    assert!(
        denied.json()["context"]["limit"].is_null(),
        "{}",
        denied.text
    );
    // Upper case is the same id, and what is none is no question.
    let upper = mine.to_uppercase();
    assert_eq!(
        world.reason("bot", &pay(), Some(&upper)).await,
        "policy_permit"
    );
    for odd in [
        json!("mine"),
        json!(7),
        json!(null),
        json!([mine]),
        json!(""),
    ] {
        let mut question = question("bot", &pay(), None);
        question["context"] = json!({ "task": odd });
        let refused = world.test.post("/access/v1/evaluation", question).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{odd}");
        assert!(refused.text.contains("context.task"), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_permitted_read_taints_the_task_before_the_answer_and_the_lineage_names_it() {
    let world = World::make().await;
    let parent = world
        .open(with(task("bot"), json!({ "may_delegate": true })))
        .await;
    let child = world
        .open(with(task("bot"), json!({ "parent": parent })))
        .await;
    let first = world.ask("bot", &read(), Some(&child)).await;
    assert_eq!(reason(&first), "policy_permit");
    let by = first.header("x-decision-id").to_owned();
    for id in [&child, &parent] {
        let shown = world.shown(id).await;
        assert_eq!(
            shown["labels"],
            json!([{ "label": "untrusted", "decision": by }])
        );
        assert_eq!(world.reason("bot", &pay(), Some(id)).await, "policy_forbid");
    }
    // A second read sets nothing anew.
    assert_eq!(
        world.reason("bot", &read(), Some(&child)).await,
        "policy_permit"
    );
    let shown = world.shown(&child).await;
    assert_eq!(
        shown["labels"],
        json!([{ "label": "untrusted", "decision": by }])
    );
    // What is opened below begins with it, whoever's it is.
    let below = world
        .open(with(task("other"), json!({ "parent": parent })))
        .await;
    assert_eq!(labels(&world.shown(&below).await), ["untrusted"]);
    assert_eq!(
        world.reason("other", &pay(), Some(&below)).await,
        "policy_forbid"
    );
}

#[tokio::test]
async fn a_new_task_of_its_own_does_not_free_an_agent() {
    let world = World::make().await;
    let bot = world.own("bot", &[Role::Operator]).await;
    let tainted = world.open(task("bot")).await;
    world.label(&[&tainted], &["untrusted", "class:pii"]).await;
    let opened = world.open_by(&bot, &task("bot")).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    assert_eq!(labels(&opened.json()), ["class:pii", "untrusted"]);
    let fresh = id_of(&opened);
    assert_eq!(
        world.reason("bot", &pay(), Some(&fresh)).await,
        "policy_forbid"
    );
    // Nor does it when it is opened for another agent, or when the agent first ends what it has tainted.
    let opened = world.open_by(&bot, &task("other")).await;
    assert_eq!(labels(&opened.json()), ["class:pii", "untrusted"]);
    for id in [&tainted, &fresh, &id_of(&opened)] {
        let path = format!("/v1/tasks/{id}/complete");
        let done = world.send(&bot, &path, &Value::Null).await;
        assert!(done.status.is_success(), "{}", done.text);
    }
    let opened = world.open_by(&bot, &task("bot")).await;
    assert_eq!(labels(&opened.json()), ["class:pii", "untrusted"]);
    // Nor does it when its time was over, which nobody ends.
    let short = with(task("third"), json!({ "expires_in": 60 }));
    world.register("third", Some("third")).await;
    let third = world.own("third", &[Role::Operator]).await;
    let opened = world.open_by(&third, &short).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
    let id = id_of(&opened);
    world.label(&[&id], &["untrusted"]).await;
    world.test.clock.advance(Duration::from_secs(61));
    // Before anybody has noted it, in a list as in itself.
    for (state, there) in [("active", false), ("expired", true)] {
        let listed = world.test.get(&format!("/v1/tasks?state={state}")).await;
        assert_eq!(listed.text.contains(&id), there, "{state}: {}", listed.text);
    }
    world
        .test
        .store
        .end_due(world.test.tenant, Duration::ZERO)
        .await
        .unwrap();
    let expired = world.shown(&id).await;
    assert_eq!(expired["state"], "expired");
    assert!(
        expired["ended_by"].is_null() && !expired["ended_at"].is_null(),
        "{expired}"
    );
    let opened = world.open_by(&third, &task("third")).await;
    assert_eq!(labels(&opened.json()), ["untrusted"]);
    // A person who opens one answers for that: it begins clean.
    let opened = world.open_by(&world.ops, &task("bot")).await;
    assert_eq!(labels(&opened.json()), [""; 0]);
}

#[tokio::test]
async fn only_a_person_takes_a_label_off_and_it_is_on_record() {
    let world = World::make().await;
    let parent = world
        .open(with(task("bot"), json!({ "may_delegate": true })))
        .await;
    let child = world
        .open(with(task("bot"), json!({ "parent": parent })))
        .await;
    world
        .label(&[&child, &parent], &["untrusted", "private"])
        .await;
    let body = json!({ "labels": ["untrusted"], "reason": "I have read it" });
    let path = format!("/v1/tasks/{child}/endorse");
    // Neither a machine with the role, nor a key that is bound to nobody.
    let machine = world.own("runner", &[Role::Operator]).await;
    for key in [&machine, &world.test.key] {
        let refused = world.send(key, &path, &body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(
            refused.text.contains("remit.endorse-by-person"),
            "{}",
            refused.text
        );
    }
    assert_eq!(labels(&world.shown(&child).await), ["private", "untrusted"]);
    let before = world.shown(&child).await["labels"][1]["decision"].clone();
    // In a task that goes on a read could be lost between the look and the word.
    let goes_on = world.send(&world.ops, &path, &body).await;
    assert_eq!(goes_on.status, StatusCode::CONFLICT, "{}", goes_on.text);
    assert!(goes_on.text.contains("suspend it"), "{}", goes_on.text);
    assert!(world.turn(&child, "suspend").await.status.is_success());
    let shown = world.test.get(&format!("/v1/tasks/{child}")).await;
    let tagged = |tag: &str| {
        world
            .test
            .request_with(&world.ops, Method::POST, &path)
            .header("if-match", tag)
    };
    let stale = world.test.send(tagged("\"1\""), &body).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let request = tagged(shown.header("etag"));
    let done = world.test.send(request, &body).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(labels(&done.json()), ["private"]);
    assert!(world.turn(&child, "resume").await.status.is_success());
    assert_eq!(
        world.reason("bot", &pay(), Some(&child)).await,
        "delegation_denied",
        "the one above keeps it"
    );
    let record = world
        .test
        .get("/v1/admin/actions?action=endorse_task&verdict=permit")
        .await;
    let record = &record.json()["actions"][0];
    assert_eq!(record["principal"], "maya");
    assert_eq!(record["details"]["reason"], "I have read it");
    assert_eq!(record["details"]["lineage"], json!([["untrusted", before]]));
    // It comes back with the next read, onto every task that lacks it.
    let by = world.ask("bot", &read(), Some(&child)).await;
    assert_eq!(reason(&by), "policy_permit");
    assert_eq!(labels(&world.shown(&child).await), ["private", "untrusted"]);

    for (body, status) in [
        (
            json!({ "labels": [], "reason": "x" }),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({ "labels": ["nonsense"], "reason": "x" }),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({ "labels": ["private"], "reason": " " }),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({ "labels": ["private"], "reason": "one\ntwo" }),
            StatusCode::BAD_REQUEST,
        ),
        (json!({ "labels": ["private"] }), StatusCode::BAD_REQUEST),
        (
            json!({ "labels": (0..65).map(|n| format!("class:{n}")).collect::<Vec<_>>(), "reason": "x" }),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let refused = world.send(&world.ops, &path, &body).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.text);
    }
    for verb in ["complete", "revoke", "suspend", "resume"] {
        let path = format!("/v1/tasks/{child}/{verb}");
        for reason in ["", " ", "one\ntwo", &"x".repeat(1_025)] {
            let body = json!({ "reason": reason });
            let refused = world.send(&world.ops, &path, &body).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{verb}");
            assert!(refused.text.contains("`reason`"), "{}", refused.text);
        }
    }
    assert!(world.turn(&child, "complete").await.status.is_success());
    let over = world
        .send(
            &world.ops,
            &path,
            &json!({ "labels": ["private"], "reason": "x" }),
        )
        .await;
    assert_eq!(over.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_million_labels_are_refused() {
    let world = World::make().await;
    let id = world.open(task("bot")).await;
    let id: TaskId = id.parse().unwrap();
    let label = |number: i64| -> Label { format!("class:{number}").parse().unwrap() };
    let (store, tenant) = (&world.test.store, world.test.tenant);
    let most = (0..MOST_LABELS).map(label).collect();
    let raised = store
        .label_tasks(tenant, &[id], &most, DecisionId::NIL)
        .await;
    raised.unwrap();
    let more = [label(MOST_LABELS)].into();
    let refused = store
        .label_tasks(tenant, &[id], &more, DecisionId::NIL)
        .await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    assert_eq!(
        store.labels_of(tenant, id).await.unwrap().len(),
        most.len(),
        "nothing was written"
    );
}
