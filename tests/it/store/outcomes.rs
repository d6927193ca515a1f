//! Outcomes in the store: kept once, listed, and the permits without one.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    Budget, ContentHash, DecisionId, Dimension, Label, Outcome, OutcomeResult, Revision, TaskId,
    TenantId, sink_hash,
};
use remit_store::{Consumed, Error, MOST_TRUSTED, OutcomeFilter, Report, Reported};

use super::Fixture;
use super::budgets::{HOLD, calls, consume, outcome, shared, task};

for_each_database! {
    an_outcome_is_kept_once;
    what_an_outcome_brings_is_a_change;
    outcomes_are_listed_and_added_up;
    a_permit_without_an_outcome_is_an_orphan;
    an_outcome_of_no_tenant_is_refused;
    what_is_trusted_already_takes_no_room;
    no_bytes_are_no_call;
}

/// A report of an outcome without a budget.
fn plain<'a>(
    outcome: &'a Outcome,
    chain: &'a [TaskId],
    trusted: &'a BTreeSet<[u8; 16]>,
) -> Report<'a> {
    Report {
        outcome,
        request: ContentHash::of(format!("{outcome:?}").as_bytes()),
        chain,
        charges: None,
        made: outcome.at,
        escrowed: false,
        hold: HOLD,
        trusted,
    }
}

async fn decided(fixture: &Fixture, tenant: TenantId, number: u64, task: TaskId) -> DecisionId {
    let record = shared(fixture, tenant, number);
    consume(&fixture.store, tenant, &[task], calls(1), &record).await;
    record.head.id
}

async fn an_outcome_is_kept_once(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let nothing = BTreeSet::new();
    let id = fixture.decision_id();
    let told = Outcome {
        bytes: Some(12),
        source: Some("crm".into()),
        destination: Some("mail \u{0} \u{e9}".into()),
        error: Some("too \u{0} late".into()),
        ..outcome(&fixture, id, OutcomeResult::Failed)
    };
    let first = store.report(tenant, &plain(&told, &[], &nothing)).await;
    let Ok(Reported::New {
        outcome: kept,
        revision,
        changed: false,
    }) = first
    else {
        panic!("{first:?}");
    };
    assert!(kept.at > told.at, "the time is the database's");
    assert_eq!(
        Outcome {
            at: told.at,
            ..kept.clone()
        },
        told
    );
    let again = store.report(tenant, &plain(&told, &[], &nothing)).await;
    let same = Reported::Same {
        outcome: kept,
        revision,
    };
    assert_eq!(again.unwrap(), same);
    let other = Outcome {
        bytes: Some(13),
        ..told.clone()
    };
    let refused = store.report(tenant, &plain(&other, &[], &nothing)).await;
    assert_eq!(refused.unwrap(), Reported::Other);
    for (member, large) in [
        (
            "bytes",
            Outcome {
                bytes: Some(1 << 53),
                ..told.clone()
            },
        ),
        (
            "cost",
            Outcome {
                cost: Some(u64::MAX),
                ..told
            },
        ),
    ] {
        let refused = store.report(tenant, &plain(&large, &[], &nothing)).await;
        assert!(
            matches!(refused, Err(Error::Invalid { member: found, .. }) if found == member),
            "{refused:?}"
        );
    }
}

async fn what_an_outcome_brings_is_a_change(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let root = task(&fixture, tenant, None, Budget::default()).await;
    let child = task(&fixture, tenant, Some(root), Budget::default()).await;
    let chain = [child, root];
    let head = async || store.tenant(tenant).await.unwrap().unwrap().revision;
    let before = head().await;
    let trusted = BTreeSet::from([sink_hash("bob@example.com")]);
    let told = Outcome {
        labels: BTreeSet::from([Label::class("pii")]),
        ..outcome(&fixture, fixture.decision_id(), OutcomeResult::Succeeded)
    };
    let next = Revision::new(before.number() + 1);
    let reported = store.report(tenant, &plain(&told, &chain, &trusted)).await;
    assert!(
        matches!(reported, Ok(Reported::New { revision, changed: true, .. }) if revision == next),
        "{reported:?}"
    );
    assert_eq!(head().await, next);
    for task in chain {
        let labels = store.labels_of(tenant, task).await.unwrap();
        assert_eq!(labels.get(&Label::class("pii")), Some(&told.decision));
    }
    let changes = store.tasks_changed(tenant, before, None, 10).await.unwrap();
    let trusts = |id: TaskId| {
        let found = changes.live.iter().find(|task| task.id == id);
        found.unwrap().trusted.clone()
    };
    // On the whole chain: each task of it is asked whether a call is within it.
    for task in chain {
        assert_eq!(trusts(task), [sink_hash("bob@EXAMPLE.com")]);
    }
    // The same again, and another one that brings nothing new, change nothing.
    let again = store.report(tenant, &plain(&told, &chain, &trusted)).await;
    assert!(matches!(again, Ok(Reported::Same { revision, .. }) if revision == next));
    let other = Outcome {
        decision: fixture.decision_id(),
        ..told
    };
    let nothing_new = store.report(tenant, &plain(&other, &chain, &trusted)).await;
    assert!(matches!(
        nothing_new,
        Ok(Reported::New { changed: false, .. })
    ));
    assert_eq!(head().await, next);
}

async fn outcomes_are_listed_and_added_up(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let other = fixture.tenant("other").await;
    let nothing = BTreeSet::new();
    let tasks = [
        TaskId::from_uuid(fixture.clock.id()),
        TaskId::from_uuid(fixture.clock.id()),
    ];
    for number in 0..12_u64 {
        let told = Outcome {
            bytes: Some(number),
            destination: Some(if number % 3 == 0 { "lake" } else { "mail" }.into()),
            task: Some(tasks[usize::from(number >= 6)]),
            ..outcome(
                &fixture,
                fixture.decision_id(),
                if number % 4 == 0 {
                    OutcomeResult::NotMade
                } else {
                    OutcomeResult::Succeeded
                },
            )
        };
        store
            .report(tenant, &plain(&told, &[], &nothing))
            .await
            .unwrap();
    }
    let list = async |filter: &OutcomeFilter, page: usize| {
        let mut found: Vec<Outcome> = Vec::new();
        loop {
            let before = found.last().map(|last| last.decision);
            let next = store.outcomes(tenant, filter, before, page).await.unwrap();
            let last = next.len() < page;
            found.extend(next);
            if last {
                return found;
            }
        }
    };
    let all = list(&OutcomeFilter::default(), 5).await;
    let numbers: Vec<u64> = all.iter().map(|one| one.bytes.unwrap()).collect();
    assert_eq!(numbers, (0..12).rev().collect::<Vec<_>>(), "newest first");
    let to = |destination: &str| OutcomeFilter {
        destination: Some(destination.to_owned()),
        ..OutcomeFilter::default()
    };
    let sum = async |filter: &OutcomeFilter| -> u64 {
        list(filter, 2)
            .await
            .iter()
            .filter_map(|one| one.bytes)
            .sum()
    };
    assert_eq!((sum(&to("lake")).await, sum(&to("mail")).await), (18, 48));
    let narrow = OutcomeFilter {
        task: Some(tasks[1]),
        result: Some(OutcomeResult::NotMade),
        ..to("mail")
    };
    let found: Vec<_> = list(&narrow, 9)
        .await
        .iter()
        .filter_map(|one| one.bytes)
        .collect();
    assert_eq!(found, [8]);
    assert_eq!(
        store.outcomes(other, &to("mail"), None, 10).await.unwrap(),
        []
    );
}

async fn a_permit_without_an_outcome_is_an_orphan(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let one = task(&fixture, tenant, None, Budget::default()).await;
    let two = task(&fixture, tenant, None, Budget::default()).await;
    let mut made = Vec::new();
    for number in 0..4 {
        let task = if number < 3 { one } else { two };
        made.push(decided(&fixture, tenant, number, task).await);
    }
    // One outside any task, as it is shipped, is nobody's.
    let replica = fixture.replica();
    let shipped = super::decisions::batch(&fixture, tenant, replica, 1..4);
    let upto = super::decisions::position(replica, 3);
    store.ship(&upto, &shipped).await.unwrap();
    let told = outcome(&fixture, made[1], OutcomeResult::Succeeded);
    store
        .report(tenant, &plain(&told, &[one], &BTreeSet::new()))
        .await
        .unwrap();
    let orphans = async |task: Option<TaskId>, waits: Duration, before: Option<DecisionId>| {
        let found = store
            .orphans(tenant, (task, waits), before, 10)
            .await
            .unwrap();
        found
            .into_iter()
            .map(|one| one.record.id)
            .collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_millis(2)).await;
    let none = Duration::ZERO;
    assert_eq!(orphans(None, none, None).await, [made[3], made[2], made[0]]);
    assert_eq!(orphans(Some(one), none, None).await, [made[2], made[0]]);
    assert_eq!(orphans(None, none, Some(made[2])).await, [made[0]]);
    assert_eq!(orphans(None, Duration::from_mins(5), None).await, []);
}

async fn an_outcome_of_no_tenant_is_refused(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    store.suspend_tenant(tenant, None).await.unwrap();
    store.delete_tenant(tenant, "acme", None).await.unwrap();
    let told = outcome(&fixture, fixture.decision_id(), OutcomeResult::Succeeded);
    let nothing = BTreeSet::new();
    let refused = store.report(tenant, &plain(&told, &[], &nothing)).await;
    assert!(
        matches!(refused, Err(Error::NotFound { what: "tenant" })),
        "{refused:?}"
    );
    let found = store
        .outcomes(tenant, &OutcomeFilter::default(), None, 10)
        .await;
    assert_eq!(found.unwrap(), []);
}

/// Told again together with one that is new, the many that are there leave the last place to it; then it is full.
async fn what_is_trusted_already_takes_no_room(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let task = task(&fixture, tenant, None, Budget::default()).await;
    let hash = |number: usize| u128::try_from(number).unwrap().to_be_bytes();
    for (most, kept) in [
        (MOST_TRUSTED - 1, MOST_TRUSTED - 1),
        (MOST_TRUSTED, MOST_TRUSTED),
        (MOST_TRUSTED + 2, MOST_TRUSTED),
    ] {
        let hashes: BTreeSet<[u8; 16]> = (0..most).map(hash).collect();
        let told = outcome(&fixture, fixture.decision_id(), OutcomeResult::Succeeded);
        store
            .report(tenant, &plain(&told, &[task], &hashes))
            .await
            .unwrap();
        let changes = store
            .tasks_changed(tenant, Revision::default(), None, 10)
            .await
            .unwrap();
        let trusted = &changes.live.first().unwrap().trusted;
        let expected: Vec<[u8; 16]> = (0..kept).map(hash).collect();
        assert_eq!(trusted.len(), kept);
        assert_eq!(*trusted, expected);
    }
}

/// A task that may move nothing makes no call, not even the first, of which nobody has told yet.
async fn no_bytes_are_no_call(fixture: Fixture) {
    let tenant = fixture.tenant("acme").await;
    let nothing = Budget {
        bytes: Some(0),
        ..Budget::default()
    };
    let task = task(&fixture, tenant, None, nothing).await;
    let record = shared(&fixture, tenant, 1);
    let consumed = consume(&fixture.store, tenant, &[task], calls(1), &record).await;
    let dimension = Dimension::Bytes;
    assert_eq!(consumed, Consumed::Exhausted { task, dimension });
}
