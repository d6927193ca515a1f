//! Until when an approval is one: exactly, by the database's time, whatever clocks do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use http::Method;
use remit_api::Options;
use remit_core::{ApprovalId, ApprovalScope, ApprovalState, Clock};
use remit_store::{Approving, Change, RequestState};
use remit_tests::app::TestApp;
use remit_tests::postgres::Postgres;
use serde_json::json;

use super::{approve, ask, bundle, by, deny, id_of, payment, requested, start};

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
    // What the caller says of it is not what it is.
    let mut forged = by(&payment(), &id);
    forged["context"]["approval"] = json!({
        "id": id, "approved_at": "2026-01-05T10:00:30Z", "approved_until": "2030-01-01T00:00:00Z",
    });
    let answer = ask(&app, &forged).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(answer["context"]["reason"], "approval_required", "{answer}");

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
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let here = Clock::manual("2026-01-05T10:00:00Z".parse().unwrap());
    // Not at the very same moment: manual clocks count their ids.
    let there = Clock::manual(here.now().plus(Duration::from_millis(1)));
    let mut app = beside(&url, (&here, &there)).await;
    let late = async { there.advance(Duration::from_secs(61)) };
    it_is_over_there(&mut app, 60, late).await;
}

/// So it is by the clock of the database server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_postgres_counts() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    // It stands still.
    let here = Clock::manual(Clock::system().now());
    let mut app = beside(&url, (&here, &Clock::system())).await;
    let late = async { tokio::time::sleep(Duration::from_millis(5_100)).await };
    it_is_over_there(&mut app, 5, late).await;
}

/// The API by a clock of its own over a database with another one.
async fn beside(url: &str, (here, there): (&Clock, &Clock)) -> TestApp {
    let database = remit_tests::sql::patient(url);
    let options = Options {
        poll: Duration::from_millis(5),
        max_staleness: Duration::from_hours(24 * 400),
        ..Options::default()
    };
    let mut app = TestApp::by(&database, here, there, options).await;
    let (log, store) = (app.log.clone(), app.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    app.put(&bundle()).await;
    app
}

/// Presents an approval that is good for so many seconds when they are over in the database, and this replica has not heard
/// of the time.
async fn it_is_over_there(app: &mut TestApp, seconds: i64, late: impl Future<Output = ()>) {
    let id = id_of(&requested(app, &payment()).await);
    let behind = app.store.time().await.unwrap().micros() - app.clock.now().micros();
    let seconds = behind / 1_000_000 + seconds;
    approve(app, &id, ApprovalScope::Once, seconds).await;
    app.pause().await;
    late.await;
    let request = app.request(Method::POST, super::EVALUATION);
    let request = request.header("idempotency-key", "one");
    let answer = app.send(request, by(&payment(), &id)).await.json();
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(answer["context"]["reason"], "approval_required", "{answer}");
    // What denied it was not the time of this replica.
    let decision = answer["context"]["evaluation_id"].as_str().unwrap();
    app.log.caught_up(Duration::from_secs(10)).await;
    let id: ApprovalId = id.parse().unwrap();
    let (tenant, decision) = (app.tenant, decision.parse().unwrap());
    let stored = app.store.decision(tenant, decision).await.unwrap().unwrap();
    let facts = stored.record.facts;
    assert_eq!(facts.approval.unwrap().state, ApprovalState::Expired);
    let request = app.store.request(tenant, id).await.unwrap().unwrap();
    let grant = request.grant.unwrap();
    assert!(facts.now < grant.until, "it was valid by the time here");
    assert_eq!(grant.uses_left, 1);
    app.resume();
}

/// It was over, and that was noted: no process that starts by an earlier clock finds it again, and no store uses it.
#[tokio::test]
async fn a_clock_that_is_set_back_revives_no_approval() {
    let app = start().await;
    let first = app.clock.now();
    let once = id_of(&requested(&app, &payment()).await);
    approve(&app, &once, ApprovalScope::Once, 60).await;
    let mut two = payment();
    two["action"]["properties"]["amount"] = json!(2);
    let waits = id_of(&requested(&app, &two).await);
    app.clock.advance(Duration::from_hours(2));
    app.caught_up().await;
    // By whichever sweep: this one, or the one that goes on by itself.
    app.store.expire_requests(app.tenant).await.unwrap();
    let id: ApprovalId = once.parse().unwrap();
    let stored = app.store.request(app.tenant, id).await.unwrap().unwrap();
    assert!(stored.forgotten && stored.grant.unwrap().until > first);
    let back = Clock::manual(first.plus(Duration::from_millis(1)));
    let again = TestApp::by(&app.database, &back, &back, Options::default()).await;
    again.caught_up().await;
    let answer = ask(&again, &by(&payment(), &once)).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(answer["context"]["reason"], "approval_required", "{answer}");
    let ended = again.store.request(again.tenant, waits.parse().unwrap());
    let ended = ended.await.unwrap().unwrap();
    assert_eq!(ended.state, RequestState::Expired);
    let approvers = BTreeSet::from(["maya".parse().unwrap()]);
    let approving = Approving {
        scope: ApprovalScope::Once,
        approvers: &approvers,
        until: first.plus(Duration::from_hours(1)),
        by: "maya",
        why: None,
    };
    let late = again
        .store
        .approve(again.tenant, ended.id, approving, Change::default());
    assert!(late.await.is_err(), "nor is what nobody answered in time");
}

/// An answer that waits for the end comes when it is refused or expires, as when it is approved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_waits_comes_with_a_refusal_and_with_the_end_of_time() {
    for wanted in ["denied", "expired"] {
        let app = start().await;
        let id = id_of(&requested(&app, &payment()).await);
        let path = format!("{}/{id}", super::REQUESTS);
        let request = app.request(Method::GET, &path).header("prefer", "wait=13");
        let began = Instant::now();
        let (reply, ()) = tokio::join!(app.send(request, ""), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if wanted == "denied" {
                deny(&app, &id).await;
            } else {
                app.clock.advance(Duration::from_hours(1));
            }
        });
        assert_eq!(reply.json()["task"]["status"], wanted, "{}", reply.text);
        assert_eq!(reply.header("preference-applied"), "wait=13");
        assert!(began.elapsed() < Duration::from_secs(10), "{wanted}");
    }
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
