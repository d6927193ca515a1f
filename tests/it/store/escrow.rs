//! Escrow in the store: a part of a budget is one replica's, ends once, and is never more than is left.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{Budget, ContentHash, OutcomeResult, TaskState};
use remit_store::{Change, Consumed, Ending, Report};
use remit_tests::sql::Held;

use super::Fixture;
use super::budgets::{HOLD, budget, calls, consume, outcome, shared, task};

for_each_database! {
    a_part_is_reserved_and_ends_once;
    what_is_gone_counts_as_spent;
    too_little_is_left_to_everybody;
}

async fn a_part_is_reserved_and_ends_once(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let of = |calls| Budget {
        calls: Some(calls),
        ..Budget::default()
    };
    let root = task(&fixture, tenant, None, of(320)).await;
    let child = task(&fixture, tenant, Some(root), of(160)).await;
    let chain = [child, root];
    let whose = (fixture.replica(), HOLD);
    let taken = store.take_escrow(tenant, &chain, &calls(1), whose).await;
    let escrow = taken.unwrap().unwrap();
    assert_eq!(
        escrow.left,
        [Some(10), None, None, None, None],
        "of the least"
    );
    for task in chain {
        assert_eq!(budget(store, tenant, task).await.reserved, calls(10));
    }
    // Others have what is left: 150 of the child.
    let record = shared(&fixture, tenant, 0);
    let all = consume(store, tenant, &chain, calls(151), &record).await;
    assert!(matches!(all, Consumed::Exhausted { .. }), "{all:?}");
    let rest = consume(store, tenant, &chain, calls(150), &record).await;
    assert_eq!(rest, Consumed::Done { revision: None });
    // One call that was paid for out of it is told of before it ends, and not made.
    let told = outcome(&fixture, fixture.decision_id(), OutcomeResult::NotMade);
    let report = Report {
        outcome: &told,
        request: ContentHash::of(b"it"),
        chain: &chain,
        charges: Some(calls(1)),
        made: fixture.clock.now(),
        escrowed: true,
        hold: HOLD,
        trusted: &BTreeSet::new(),
    };
    store.report(tenant, &report).await.unwrap();
    let now = budget(store, tenant, child).await;
    assert_eq!((now.reserved, now.spent), (calls(160), calls(0)));
    for _ in 0..2 {
        store
            .end_escrow(tenant, escrow.id, [4, 2, 0, 0, 0])
            .await
            .unwrap();
        for task in chain {
            let now = budget(store, tenant, task).await;
            assert_eq!(now.reserved, calls(150));
            assert_eq!(
                (now.spent.calls, now.spent.cost),
                (3, 2),
                "four, and one given back"
            );
        }
    }
}

async fn what_is_gone_counts_as_spent(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let many = Budget {
        calls: Some(160),
        ..Budget::default()
    };
    let task = task(&fixture, tenant, None, many).await;
    let whose = (fixture.replica(), Duration::ZERO);
    let taken = store.take_escrow(tenant, &[task], &calls(1), whose).await;
    let escrow = taken.unwrap().unwrap();
    assert_eq!(store.expire_reservations().await.unwrap(), 1);
    let gone = budget(store, tenant, task).await;
    assert_eq!((gone.reserved, gone.spent), (calls(0), calls(10)));
    store
        .end_escrow(tenant, escrow.id, [1, 0, 0, 0, 0])
        .await
        .unwrap();
    assert_eq!(budget(store, tenant, task).await, gone, "it has ended");
}

async fn too_little_is_left_to_everybody(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let whose = (fixture.replica(), HOLD);
    let few = Budget {
        calls: Some(31),
        ..Budget::default()
    };
    let bytes = Budget {
        calls: Some(1_000),
        bytes: Some(1_000),
        ..Budget::default()
    };
    for allowed in [few, bytes, Budget::default()] {
        let task = task(&fixture, tenant, None, allowed).await;
        let taken = store.take_escrow(tenant, &[task], &calls(1), whose).await;
        assert_eq!(taken.unwrap(), None, "{allowed:?}");
    }
    let many = Budget {
        calls: Some(1_000),
        ..Budget::default()
    };
    let task = task(&fixture, tenant, None, many).await;
    let ending = Ending {
        state: TaskState::Completed,
        by: "ana",
        why: None,
    };
    store
        .end_task(tenant, task, ending, Change::default())
        .await
        .unwrap();
    let taken = store.take_escrow(tenant, &[task], &calls(1), whose).await;
    assert_eq!(taken.unwrap(), None);
    assert_eq!(budget(store, tenant, task).await.reserved, calls(0));
}

/// Whatever ends a task has its budget until it is done: nothing is handed out of it by how it stood before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_handed_out_while_a_task_ends() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let tenant = fixture.tenant("acme").await;
    let many = Budget {
        calls: Some(320),
        ..Budget::default()
    };
    let ends = task(&fixture, tenant, None, many).await;
    let end = format!(
        "SELECT set_config('remit.tenant', '{tenant}', true); \
         UPDATE tasks SET state = 'revoked', ended_at = 1 WHERE tenant = '{tenant}' AND id = '{ends}'"
    );
    let mut ending = Held::begin(&fixture.url, &end).await;
    let (whose, chain, least) = ((fixture.replica(), HOLD), [ends], calls(1));
    let taking = fixture.store.take_escrow(tenant, &chain, &least, whose);
    let released = async {
        ending.is_waited_for_by(1).await;
        ending.commit().await;
    };
    let (taken, ()) = tokio::join!(taking, released);
    assert_eq!(taken.unwrap(), None);
    assert_eq!(
        budget(&fixture.store, tenant, ends).await.reserved,
        calls(0)
    );
}
