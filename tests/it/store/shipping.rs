//! Shipping into the store: each record exactly once, whatever is repeated, lost or odd.

use std::collections::BTreeMap;

use remit_core::{DecisionId, PolicyId};
use remit_store::{DecisionFilter, EntityPattern, Error, ShippedRecord, SpoolPosition};

use super::Fixture;
use super::decisions::{all, batch, position, record, shipped, whole};

for_each_database! {
    a_batch_is_shipped_exactly_once;
    a_position_never_goes_back;
    records_that_differ_are_refused;
    a_full_batch_is_shipped;
    the_oddest_record_is_kept;
}

/// F10: a batch whose answer was lost is shipped again, in whole, in part or overlapping, and stands there once.
async fn a_batch_is_shipped_exactly_once(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    assert_eq!(store.shipped(replica).await.unwrap(), None);
    let records = batch(&fixture, tenant, replica, 1..31);
    for (slice, last) in [
        (&records[..10], 10),
        (&records[..10], 10),
        (&records[5..20], 20),
        (&records[..], 30),
    ] {
        store.ship(&position(replica, last), slice).await.unwrap();
        assert_eq!(
            store.shipped(replica).await.unwrap(),
            Some(position(replica, last))
        );
        assert_eq!(all(&fixture, tenant).await.len() as u64, last);
    }
    let wanted: BTreeMap<DecisionId, &ShippedRecord> =
        records.iter().map(|one| (one.head.id, one)).collect();
    for stored in all(&fixture, tenant).await {
        let shipped = wanted[&stored.record.id];
        assert_eq!(stored.record, whole(shipped), "as it was recorded");
        assert_eq!(
            (stored.replica, stored.sequence),
            (replica, i64::try_from(shipped.sequence).unwrap())
        );
        let one = store.decision(tenant, stored.record.id).await.unwrap();
        assert_eq!(one, Some(stored));
    }
    assert_eq!(
        store.decision(tenant, fixture.decision_id()).await.unwrap(),
        None
    );

    // Two processes that ship the same batch at once, as after a failover.
    let more = batch(&fixture, tenant, replica, 31..61);
    let racing: Vec<_> = (0..4)
        .map(|_| {
            let (store, more) = (store.clone(), more.clone());
            tokio::spawn(async move { store.ship(&position(replica, 60), &more).await })
        })
        .collect();
    for one in racing {
        one.await.unwrap().unwrap();
    }
    assert_eq!(all(&fixture, tenant).await.len(), 60);
}

async fn a_position_never_goes_back(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let records = batch(&fixture, tenant, replica, 1..21);
    store.ship(&position(replica, 20), &records).await.unwrap();
    for earlier in [
        position(replica, 19),
        SpoolPosition {
            segment: 0,
            ..position(replica, 20)
        },
        SpoolPosition {
            segment: 99,
            sequence: 3,
            ..position(replica, 20)
        },
    ] {
        store.ship(&earlier, &records[..5]).await.unwrap();
        assert_eq!(
            store.shipped(replica).await.unwrap(),
            Some(position(replica, 20))
        );
    }
    // A segment without records, as after a restart, moves the position alone.
    let next = SpoolPosition {
        segment: 4,
        offset: 0,
        ..position(replica, 20)
    };
    store.ship(&next, &[]).await.unwrap();
    assert_eq!(store.shipped(replica).await.unwrap(), Some(next));
    assert_eq!(
        store.shipped(fixture.replica()).await.unwrap(),
        None,
        "another replica has its own"
    );
}

async fn records_that_differ_are_refused(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let records = batch(&fixture, tenant, replica, 1..4);
    store.ship(&position(replica, 3), &records).await.unwrap();
    let mut other_body = records.clone();
    other_body[1] = {
        let mut record = whole(&records[1]);
        record.duration_us += 1;
        shipped(&record, replica, 2)
    };
    let mut other_number = records.clone();
    other_number[1].sequence = 9;
    let taken_number = vec![ShippedRecord {
        replica,
        sequence: 2,
        ..record(&fixture, tenant, 8)
    }];
    let fresh = batch(&fixture, tenant, replica, 4..5);
    for wrong in [other_body, other_number, taken_number] {
        let with_fresh: Vec<_> = fresh.iter().cloned().chain(wrong).collect();
        let result = store.ship(&position(replica, 9), &with_fresh).await;
        assert!(matches!(result, Err(Error::Diverged { .. })), "{result:?}");
        assert_eq!(
            all(&fixture, tenant).await.len(),
            3,
            "nothing of a refused batch is written"
        );
        assert_eq!(
            store.shipped(replica).await.unwrap(),
            Some(position(replica, 3))
        );
    }
    let large = [ShippedRecord {
        sequence: u64::MAX,
        ..record(&fixture, tenant, 8)
    }];
    let result = store.ship(&position(replica, 9), &large).await;
    assert!(
        matches!(
            result,
            Err(Error::Invalid {
                member: "sequence",
                ..
            })
        ),
        "{result:?}"
    );
    store.ship(&position(replica, 4), &fresh).await.unwrap();
}

async fn a_full_batch_is_shipped(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let records = batch(&fixture, tenant, replica, 1..1_001);
    let start = std::time::Instant::now();
    store
        .ship(&position(replica, 1_000), &records)
        .await
        .unwrap();
    println!(
        "{} shipped 1,000 records in {:?}",
        store.kind(),
        start.elapsed()
    );
    store
        .ship(&position(replica, 1_000), &records)
        .await
        .unwrap();
    assert_eq!(all(&fixture, tenant).await.len(), 1_000);
}

/// No record may be too odd to be kept: it would stop the spool behind it.
async fn the_oddest_record_is_kept(fixture: Fixture) {
    let (store, tenant, replica) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.replica(),
    );
    let mut odd = whole(&record(&fixture, tenant, 1));
    let long = "😀é".repeat(5_000);
    odd.question.subject.id = format!("{long}\0");
    odd.question.resource.id = "a\0b\n\"'\\".into();
    odd.question.action.name = long.clone();
    odd.decision.determining = vec![PolicyId::new(&long), PolicyId::new(format!("{long} too"))];
    let kept = shipped(&odd, replica, 1);
    store
        .ship(&position(replica, 1), std::slice::from_ref(&kept))
        .await
        .unwrap();
    store
        .ship(&position(replica, 1), std::slice::from_ref(&kept))
        .await
        .unwrap();
    let filters = [
        DecisionFilter::default(),
        DecisionFilter {
            action: Some(long.clone()),
            ..DecisionFilter::default()
        },
        DecisionFilter {
            policy: Some(PolicyId::new(&long)),
            ..DecisionFilter::default()
        },
        DecisionFilter {
            resource: EntityPattern {
                kind: None,
                id: Some("a\0b\n\"'\\".into()),
            },
            ..DecisionFilter::default()
        },
    ];
    for filter in filters {
        let found = store.decisions(tenant, &filter, None, 10).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].record, odd,
            "whole, whatever the columns for filtering keep"
        );
    }
}
