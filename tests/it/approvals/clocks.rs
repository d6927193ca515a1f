//! Until when an approval is one: exactly, by the database's time, whatever clocks do.

use std::time::Duration;

use remit_core::{ApprovalScope, ApprovalState};

use serde_json::json;

use super::{approve, ask, by, id_of, payment, requested, start};

/// The last microsecond is within it, the next is not.
#[tokio::test]
async fn an_approval_ends_to_the_microsecond() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    approve(&app, &id, ApprovalScope::Once, 60).await;
    app.clock.advance(Duration::from_mins(1));
    app.caught_up().await;
    let answer = ask(&app, &by(&payment(), &id)).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(
        answer["context"]["approval"]["reason"], "approval_expired",
        "{answer}"
    );

    let two = id_of(&requested(&app, &payment()).await);
    approve(&app, &two, ApprovalScope::Once, 60).await;
    app.clock.advance(Duration::from_micros(59_999_999));
    app.caught_up().await;
    let answer = ask(&app, &by(&payment(), &two)).await;
    assert_eq!(answer["decision"], true, "{answer}");
}

/// A replica whose clock is behind finds it valid; the database does not, and what it says counts.
#[tokio::test]
async fn the_databases_time_counts() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    approve(&app, &id, ApprovalScope::Once, 60).await;
    // The database is past it, before this replica has heard of the time.
    let ahead = remit_core::Clock::manual(app.clock.now());
    ahead.advance(Duration::from_secs(61));
    let store = app.store_by(ahead).await;
    let swept = store.expire_requests(app.tenant).await.unwrap();
    assert_eq!(swept.forgotten, 1);
    app.reached(swept.revision.unwrap()).await;
    let answer = ask(&app, &by(&payment(), &id)).await;
    assert_eq!(answer["decision"], false, "{answer}");
}

/// What the database says of an approval that is used up comes out as a denial that can be asked about.
#[tokio::test]
async fn what_the_database_refuses_is_denied() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    approve(&app, &id, ApprovalScope::Once, 60).await;
    assert_eq!(ask(&app, &by(&payment(), &id)).await["decision"], true);
    let answer = ask(&app, &by(&payment(), &id)).await;
    assert_eq!(
        answer["context"]["approval"]["reason"], "approval_used",
        "{answer}"
    );
    assert_eq!(answer["context"]["next_action"], "request");
    assert!(answer["context"]["access_request"].is_object(), "{answer}");
    // The record has what the database said, and is made again like that.
    let decision = answer["context"]["evaluation_id"].as_str().unwrap();
    app.log.caught_up(Duration::from_secs(10)).await;
    let stored = app
        .store
        .decision(app.tenant, decision.parse().unwrap())
        .await;
    let facts = stored.unwrap().unwrap().record.facts;
    assert_eq!(facts.approval.unwrap().state, ApprovalState::Used);
    assert!(!facts.approved);
    let again = super::submission(&payment(), &answer);
    let mut again = again;
    again["context"]["approval"] = json!({ "id": id });
    let reply = app.post(super::REQUESTS, again).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", reply.text);
}
