//! Shadows in the store: put, replaced and removed, and what processes note of them.

use remit_core::{ContentHash, DecisionId, ReplicaId, Revision, TenantId, Timestamp};
use remit_store::{
    Change, Disagreement, Error, Expected, ShadowGroup, ShadowHead, ShadowNote, ShadowTally, Store,
};

use super::{Fixture, bundle};

for_each_database! {
    a_shadow_is_put_replaced_and_removed;
    what_is_noted_is_added_up_and_never_twice;
    what_was_found_goes_with_its_shadow;
    single_disagreements_are_bounded;
    a_damaged_shadow_is_told_of_its_table;
}

async fn put(store: &Store, tenant: TenantId, expected: Expected, text: &str) -> Revision {
    let bundle = bundle(text);
    let put = store.put_shadow(tenant, expected, &bundle, None, Change::default());
    put.await.unwrap()
}

fn group(name: &str) -> ShadowGroup {
    ShadowGroup {
        kind: ContentHash::of(name.as_bytes()),
        outcome: "newly_denied".to_owned(),
        action: name.to_owned(),
        before: "{\"verdict\":\"permit\"}".to_owned(),
        after: "{\"verdict\":\"deny\"}".to_owned(),
    }
}

fn tally(decided: u64, differing: u64) -> ShadowTally {
    ShadowTally {
        decided,
        same: decided - differing,
        differing,
        dropped: 2,
        failed: 1,
        failure: Some("it was \u{0} away".to_owned()),
        totals: [("newly_denied".to_owned(), differing)].into(),
    }
}

fn single(fixture: &Fixture, name: &str) -> Disagreement {
    Disagreement {
        decision: fixture.decision_id(),
        group: group(name),
        at: Timestamp::from_micros(5),
    }
}

async fn a_shadow_is_put_replaced_and_removed(fixture: Fixture) {
    let store = &fixture.store;
    let (ours, theirs) = (fixture.tenant("ours").await, fixture.tenant("theirs").await);
    assert_eq!(store.shadow_head(ours).await.unwrap(), None);
    assert_eq!(store.shadows().await.unwrap(), []);
    let none = store
        .remove_shadow(ours, Expected::Any, Change::default())
        .await;
    assert!(matches!(none, Err(Error::Conflict { current: None })));
    let by = fixture.key_id();
    let first = store
        .put_shadow(
            ours,
            Expected::Absent,
            &bundle("// 1"),
            Some(by),
            Change::default(),
        )
        .await
        .unwrap();
    assert_eq!(first, Revision::new(1), "it moves the tenant on");
    let head = store.shadow_head(ours).await.unwrap().unwrap();
    assert_eq!(
        (head.0, head.1, head.3),
        (first, bundle("// 1").content_hash(), Some(by))
    );
    let stored = store.shadow(ours, first).await.unwrap().unwrap();
    assert_eq!(stored.bundle, bundle("// 1"));
    assert_eq!((stored.revision, stored.by), (first, Some(by)));
    assert_eq!(
        store.shadows().await.unwrap(),
        [ShadowHead {
            tenant: ours,
            revision: first
        }]
    );
    // It is no version of the bundle in force.
    assert_eq!(store.bundle(ours).await.unwrap(), None);
    assert_eq!(store.shadow(theirs, first).await.unwrap(), None);

    let taken = store
        .put_shadow(
            ours,
            Expected::Absent,
            &bundle("// 2"),
            None,
            Change::default(),
        )
        .await;
    assert!(matches!(taken, Err(Error::Conflict { current: Some(current) }) if current == first));
    let stale = store
        .remove_shadow(ours, Expected::At(Revision::new(9)), Change::default())
        .await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    assert_eq!(store.heads().await.unwrap().len(), 2);
    let heads = store.heads().await.unwrap();
    let ours_head = heads.iter().find(|head| head.tenant == ours).unwrap();
    assert_eq!(ours_head.revision, first, "what is refused changes nothing");

    let second = put(store, ours, Expected::At(first), "// 2").await;
    assert_eq!(store.shadow(ours, first).await.unwrap(), None);
    assert_eq!(store.shadow_head(ours).await.unwrap().unwrap().0, second);
    let third = store
        .remove_shadow(ours, Expected::At(second), Change::default())
        .await
        .unwrap();
    assert_eq!(third, Revision::new(3));
    assert_eq!(store.shadow_head(ours).await.unwrap(), None);
    let unknown = TenantId::from_uuid(fixture.clock.id());
    let nobody = store
        .put_shadow(
            unknown,
            Expected::Any,
            &bundle("// 1"),
            None,
            Change::default(),
        )
        .await;
    assert!(matches!(nobody, Err(Error::NotFound { what: "tenant" })));
}

async fn what_is_noted_is_added_up_and_never_twice(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("ours").await;
    let shadow = put(store, tenant, Expected::Absent, "// 1").await;
    let (one, other) = (fixture.replica(), fixture.replica());
    let singles: Vec<Disagreement> = (0..7).map(|_| single(&fixture, "call")).collect();
    let note = ShadowNote {
        tally: tally(10, 7),
        groups: vec![(group("call"), 7)],
        disagreements: singles.clone(),
    };
    for _ in 0..3 {
        store.note_shadow(tenant, shadow, one, &note).await.unwrap();
    }
    let found = store.shadow_findings(tenant, shadow).await.unwrap();
    let kept = ShadowTally {
        failure: Some("it was \u{fffd} away".to_owned()),
        ..tally(10, 7)
    };
    assert_eq!(found.tallies, [(one, kept.clone())]);
    let ids: Vec<DecisionId> = singles.iter().take(5).map(|one| one.decision).collect();
    assert_eq!(found.groups, [(group("call"), 7, ids.clone())]);

    // Another process, and this one again with more.
    let theirs = ShadowNote {
        tally: tally(4, 4),
        groups: vec![(group("call"), 1), (group("pay"), 3)],
        disagreements: vec![single(&fixture, "pay"), singles[0].clone()],
    };
    store
        .note_shadow(tenant, shadow, other, &theirs)
        .await
        .unwrap();
    let more = ShadowNote {
        tally: tally(11, 8),
        groups: vec![(group("call"), 8)],
        disagreements: vec![],
    };
    store.note_shadow(tenant, shadow, one, &more).await.unwrap();
    let found = store.shadow_findings(tenant, shadow).await.unwrap();
    let decided: u64 = found.tallies.iter().map(|(_, tally)| tally.decided).sum();
    assert_eq!((found.tallies.len(), decided), (2, 15));
    let pay = theirs.disagreements[0].decision;
    assert_eq!(
        found.groups,
        [(group("call"), 9, ids), (group("pay"), 3, vec![pay])]
    );
    let nothing = store
        .shadow_findings(tenant, Revision::new(99))
        .await
        .unwrap();
    assert!(nothing.tallies.is_empty() && nothing.groups.is_empty());
}

async fn what_was_found_goes_with_its_shadow(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("ours").await;
    let first = put(store, tenant, Expected::Absent, "// 1").await;
    let replica = fixture.replica();
    let note = ShadowNote {
        tally: tally(1, 1),
        groups: vec![(group("call"), 1)],
        disagreements: vec![single(&fixture, "call")],
    };
    store
        .note_shadow(tenant, first, replica, &note)
        .await
        .unwrap();
    let second = put(store, tenant, Expected::At(first), "// 2").await;
    // A process that has not heard of it notes once more, and that is no error and leaves nothing.
    store
        .note_shadow(tenant, first, replica, &note)
        .await
        .unwrap();
    for shadow in [first, second] {
        let found = store.shadow_findings(tenant, shadow).await.unwrap();
        assert_eq!(found, remit_store::ShadowFindings::default(), "{shadow}");
    }
}

async fn single_disagreements_are_bounded(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("ours").await;
    let shadow = put(store, tenant, Expected::Absent, "// 1").await;
    let replica: ReplicaId = fixture.replica();
    let note = |count: usize, name: &str| ShadowNote {
        disagreements: (0..count).map(|_| single(&fixture, name)).collect(),
        groups: vec![(group(name), 1)],
        ..ShadowNote::default()
    };
    for _ in 0..10 {
        let many = note(1_000, "call");
        store
            .note_shadow(tenant, shadow, replica, &many)
            .await
            .unwrap();
    }
    store
        .note_shadow(tenant, shadow, replica, &note(5, "late"))
        .await
        .unwrap();
    let found = store.shadow_findings(tenant, shadow).await.unwrap();
    let samples = |name: &str| {
        let mut groups = found.groups.iter();
        let found = groups.find(|(group, ..)| group.action == name).unwrap();
        found.2.len()
    };
    assert_eq!(
        (samples("call"), samples("late")),
        (5, 0),
        "it is counted, and not kept"
    );
}

async fn a_damaged_shadow_is_told_of_its_table(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("ours").await;
    let shadow = put(store, tenant, Expected::Absent, "// 1").await;
    if !fixture.damage("UPDATE shadows SET body = '{'").await {
        return;
    }
    let told = store.shadow(tenant, shadow).await.unwrap_err().to_string();
    assert!(told.contains("`shadows`"), "{told}");
    let whole = bundle("// 2");
    let body = String::from_utf8(remit_core::canonical_json(&whole).unwrap()).unwrap();
    fixture
        .damage(&format!("UPDATE shadows SET body = '{body}'"))
        .await;
    let told = store.shadow(tenant, shadow).await.unwrap_err().to_string();
    assert!(told.contains("its content is not that of"), "{told}");
    fixture.damage("UPDATE shadows SET hash = 'nonsense'").await;
    let told = store.shadow_head(tenant).await.unwrap_err().to_string();
    assert!(told.contains("`shadows`"), "{told}");
    assert_eq!(
        store.shadows().await.unwrap().len(),
        1,
        "it is still listed"
    );
}
