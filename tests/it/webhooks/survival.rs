//! Nothing is lost: two replicas over one database, and one that dies between a change and what tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remit_core::ApprovalScope;
use remit_store::Change;
use remit_tests::app::TestApp;
use remit_tests::postgres::Postgres;
use remit_tests::receiver::Receiver;

use super::{allowing, ask, bundle, came, ship, told};

async fn database() -> Option<remit_store::Options> {
    Some(remit_tests::sql::patient(Postgres::database().await?))
}

async fn replica(database: &remit_store::Options, receiver: &Receiver) -> TestApp {
    let options = remit_api::Options {
        deadline: Duration::from_mins(1),
        max_staleness: Duration::from_secs(30),
        ..allowing(&[receiver])
    };
    TestApp::sharing(database, options).await
}

#[tokio::test]
async fn two_replicas_tell_everything() {
    const ROUNDS: u64 = 20;
    let Some(database) = database().await else {
        return;
    };
    let receiver = Receiver::start();
    let mut here = replica(&database, &receiver).await;
    here.put(&bundle()).await;
    ship(&here);
    let there = replica(&database, &receiver).await;
    there.caught_up().await;
    told(&here, &receiver).await;
    let mut ids = BTreeSet::new();
    for amount in 1..=ROUNDS {
        ids.insert(ask(&here, amount).await);
    }
    let wanted = ids.len();
    came(&receiver, wanted).await;
    // Whoever would send one a second time does so within two looks.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut messages = BTreeMap::<String, usize>::new();
    let mut subjects = BTreeSet::new();
    for message in receiver.received() {
        *messages.entry(message.id().to_owned()).or_default() += 1;
        let subject = message.json()["subject"].as_str().unwrap().to_owned();
        subjects.insert(subject);
    }
    println!(
        "{wanted} events by two replicas: {} messages",
        receiver.received().len()
    );
    assert_eq!(subjects, ids);
    assert_eq!(
        messages.len(),
        wanted,
        "an event is one message: {messages:?}"
    );
    assert!(
        messages.values().all(|times| *times == 1),
        "neither died: {messages:?}"
    );
}

/// What was approved where nobody lived to tell it is told by the next.
#[tokio::test]
async fn a_replica_that_dies_before_it_tells_loses_nothing() {
    let Some(database) = database().await else {
        return;
    };
    let receiver = Receiver::start();
    let mut first = replica(&database, &receiver).await;
    first.put(&bundle()).await;
    ship(&first);
    told(&first, &receiver).await;
    let id = ask(&first, 1).await;
    came(&receiver, 1).await;
    first.pause().await;
    let approvers = BTreeSet::from(["maya".parse().unwrap()]);
    let approving = remit_store::Approving {
        scope: ApprovalScope::Once,
        approvers: &approvers,
        until: first.clock.now().plus(Duration::from_mins(10)),
        by: "maya",
        why: None,
    };
    let (store, tenant) = (&first.store, first.tenant);
    let done = store.approve(tenant, id.parse().unwrap(), approving, Change::default());
    done.await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.received().len(), 1, "nobody tells it");
    drop(first);
    let second = replica(&database, &receiver).await;
    let messages = came(&receiver, 2).await;
    assert_eq!(
        messages[1].json()["type"],
        "dev.remit.access_request.approved"
    );
    assert_eq!(messages[1].json()["subject"], id);
    drop(second);
}
