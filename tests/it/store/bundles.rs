//! Bundles in the store: preconditions, history, and revisions in commit order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use remit_core::Revision;
use remit_store::{Error, Expected};

use super::{Fixture, bundle, entity, new_key, pepper};

for_each_database! {
    a_bundle_is_put_over_the_expected_one_only;
    the_bundle_in_force_at_a_revision_is_told;
    of_many_writers_with_one_precondition_one_wins;
    revisions_follow_commits;
    a_damaged_bundle_is_reported;
}

async fn a_bundle_is_put_over_the_expected_one_only(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let by = Some(fixture.key_id());
    assert_eq!(store.bundle(tenant).await.unwrap(), None);
    let early = store
        .put_bundle(tenant, Expected::At(Revision::new(1)), &bundle("1"), by)
        .await;
    assert!(
        matches!(early, Err(Error::Conflict { current: None })),
        "{early:?}"
    );

    let first = store
        .put_bundle(tenant, Expected::Absent, &bundle("1"), by)
        .await
        .unwrap();
    assert_eq!(first, Revision::new(1), "a refused change leaves no trace");
    for expected in [Expected::Absent, Expected::At(Revision::new(7))] {
        let late = store.put_bundle(tenant, expected, &bundle("2"), None).await;
        assert!(
            matches!(late, Err(Error::Conflict { current: Some(one) }) if one == first),
            "{late:?}"
        );
    }
    // A change of entities moves the tenant, not the bundle.
    store
        .upsert_entities(tenant, &[entity("Agent", "a", 1)])
        .await
        .unwrap();
    let second = store
        .put_bundle(tenant, Expected::At(first), &bundle("2"), None)
        .await
        .unwrap();
    assert_eq!(second, Revision::new(3));

    let stored = store.bundle(tenant).await.unwrap().unwrap();
    assert_eq!(
        (stored.revision, &stored.bundle, stored.by),
        (second, &bundle("2"), None)
    );
    assert_eq!(stored.hash, bundle("2").content_hash());
    let old = store.bundle_in_force(tenant, first).await.unwrap().unwrap();
    assert_eq!((old.by, old.bundle), (by, bundle("1")));
    assert!(old.at <= stored.at && stored.at <= fixture.clock.now());

    let head = Revision::new(3);
    let stale = Expected::Unchanged {
        bundle: Some(second),
        head: Revision::new(2),
    };
    assert!(matches!(
        store.put_bundle(tenant, stale, &bundle("3"), None).await,
        Err(Error::Moved { .. })
    ));
    let fresh = Expected::Unchanged {
        bundle: Some(second),
        head,
    };
    assert_eq!(
        store
            .put_bundle(tenant, fresh, &bundle("3"), None)
            .await
            .unwrap(),
        Revision::new(4)
    );
}

async fn the_bundle_in_force_at_a_revision_is_told(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    store.upsert_entities(tenant, &[]).await.unwrap();
    store
        .put_bundle(tenant, Expected::Any, &bundle("2"), None)
        .await
        .unwrap();
    store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    store
        .put_bundle(tenant, Expected::Any, &bundle("4"), None)
        .await
        .unwrap();
    let mut found = Vec::new();
    for number in 0..6 {
        let stored = store
            .bundle_in_force(tenant, Revision::new(number))
            .await
            .unwrap();
        found.push(stored.map(|stored| stored.revision.number()));
    }
    assert_eq!(found, [None, None, Some(2), Some(2), Some(4), Some(4)]);
}

async fn of_many_writers_with_one_precondition_one_wins(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let first = store
        .put_bundle(tenant, Expected::Absent, &bundle("0"), None)
        .await
        .unwrap();
    let racing: Vec<_> = (0..20)
        .map(|number| {
            let store = store.clone();
            let text = bundle(&number.to_string());
            tokio::spawn(async move {
                store
                    .put_bundle(tenant, Expected::At(first), &text, None)
                    .await
            })
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for one in racing {
        match one.await.unwrap() {
            Ok(revision) => won.push(revision),
            Err(Error::Conflict { current }) => lost.push(current),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(won, [Revision::new(2)]);
    assert_eq!(
        lost,
        [Some(Revision::new(2)); 19],
        "each loser is told the winner"
    );
}

/// Whoever sees revision n sees everything up to n: no commit shows up later under a lower number.
async fn revisions_follow_commits(fixture: Fixture) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 15;
    let (store, tenant) = (fixture.store.clone(), fixture.tenant("acme").await);
    let done = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        async move {
            let (mut seen, mut last) = (0, 0);
            while !done.load(Ordering::SeqCst) || seen == 0 {
                let head = store.heads().await.unwrap()[0].revision;
                assert!(head.number() >= last, "a head went back");
                if head.number() > last {
                    // Every change here is a bundle, so the one of the head itself must be there.
                    let stored = store.bundle_in_force(tenant, head).await.unwrap().unwrap();
                    assert_eq!(stored.revision, head);
                    last = head.number();
                    seen += 1;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut made = Vec::new();
                for number in 0..EACH {
                    let text = bundle(&format!("{writer} {number}"));
                    made.push(
                        store
                            .put_bundle(tenant, Expected::Any, &text, None)
                            .await
                            .unwrap()
                            .number(),
                    );
                }
                assert!(made.is_sorted(), "one writer's changes are in its order");
                made
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    watcher.await.unwrap();
    all.sort_unstable();
    assert_eq!(
        all,
        (1..=WRITERS * EACH).collect::<Vec<_>>(),
        "strictly increasing, none twice, none missing"
    );
}

/// F19: a row that was changed by hand is an error that names it, not a panic, and only for its tenant.
async fn a_damaged_bundle_is_reported(fixture: Fixture) {
    let (store, tenant, other) = (
        &fixture.store,
        fixture.tenant("acme").await,
        fixture.tenant("other").await,
    );
    store
        .put_bundle(other, Expected::Any, &bundle("fine"), None)
        .await
        .unwrap();
    store
        .put_bundle(tenant, Expected::Any, &bundle("fine"), None)
        .await
        .unwrap();
    let last = store
        .put_bundle(tenant, Expected::Any, &bundle("fine"), None)
        .await
        .unwrap();
    for damage in [
        "UPDATE bundles SET body = '{' WHERE revision = 2",
        "UPDATE bundles SET body = '{\"schema\":[],\"policies\":[]}' WHERE revision = 2",
        "UPDATE bundles SET hash = 'md5:0' WHERE revision = 2",
    ] {
        if !fixture.damage(damage).await {
            return;
        }
        match store.bundle(tenant).await {
            Err(Error::Corrupt {
                table: "bundles",
                what,
            }) => assert!(what.contains("revision 2"), "{what}"),
            found => panic!("{damage}: {found:?}"),
        }
    }
    assert_eq!(last, Revision::new(2));
    assert!(
        store
            .bundle_in_force(tenant, Revision::new(1))
            .await
            .unwrap()
            .is_some()
    );
    assert!(store.bundle(other).await.unwrap().is_some());
}
