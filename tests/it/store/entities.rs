//! Entities in the store: byte-exact names, pages, and exact changes between any two revisions.

use std::collections::BTreeMap;
use std::time::Instant;

use remit_core::{Entity, EntityUid, Revision};
use remit_store::{Change, Error, MAX_ENTITIES};

use super::{Fixture, entity};

for_each_database! {
    an_entity_is_stored_read_and_removed;
    names_are_byte_exact;
    entities_are_listed_in_pages;
    changes_between_revisions_are_exact;
    names_that_no_column_takes_are_refused;
    many_entities_take_seconds;
    a_damaged_entity_is_reported;
}

const ODD_IDS: &[&str] = &[
    "Alice",
    "alice",
    "ALICE",
    "аlice",
    "\u{e9}",
    "e\u{301}",
    "o'neill",
    "a\"b",
    "a\\b",
    "a\nb",
    "a\u{7}b",
    " a",
    "a ",
    "%",
    "_",
    "😀",
    "\u{202e}abc",
    "$1",
    "; DROP TABLE entities; --",
    "\u{feff}",
    "ﬁ",
    "fi",
    "ß",
    "ss",
    "İ",
    "i",
];

async fn an_entity_is_stored_read_and_removed(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let (one, uid) = (entity("Agent", "a", 1), EntityUid::new("Agent", "a"));
    assert_eq!(store.entity(tenant, &uid).await.unwrap(), None);
    let first = store
        .upsert_entities(tenant, &[entity("Agent", "a", 0), one.clone()])
        .await
        .unwrap();
    let stored = store.entity(tenant, &uid).await.unwrap().unwrap();
    assert_eq!(
        (stored.entity, stored.revision),
        (one.clone(), first),
        "of two of one name the last counts"
    );

    let again = store
        .upsert_entities(tenant, std::slice::from_ref(&one))
        .await
        .unwrap();
    assert_eq!(again.number(), first.number() + 1);
    let stored = store.entity(tenant, &uid).await.unwrap().unwrap();
    assert_eq!(
        stored.revision, first,
        "the same again is no change of the entity"
    );

    let changed = store
        .upsert_entities(tenant, &[entity("Agent", "a", 2)])
        .await
        .unwrap();
    assert_eq!(
        store.entity(tenant, &uid).await.unwrap().unwrap().revision,
        changed
    );

    let gone = [uid.clone(), uid.clone(), EntityUid::new("Agent", "never")];
    let (removed, count) = store.delete_entities(tenant, &gone).await.unwrap();
    assert_eq!((removed.number(), count), (changed.number() + 1, 1));
    assert_eq!(store.entity(tenant, &uid).await.unwrap(), None);
    assert_eq!(store.entities(tenant, None, None, 10).await.unwrap(), []);
    assert_eq!(
        store.delete_entities(tenant, &gone).await.unwrap().1,
        0,
        "what is gone is not removed again"
    );

    let back = store.upsert_entities(tenant, &[one]).await.unwrap();
    assert_eq!(
        store.entity(tenant, &uid).await.unwrap().unwrap().revision,
        back
    );

    // A change that was checked against an older state does not hold.
    let stale = store
        .change_entities(
            tenant,
            Some(changed),
            &[],
            std::slice::from_ref(&uid),
            Change::default(),
        )
        .await;
    assert!(matches!(stale, Err(Error::Moved { .. })), "{stale:?}");
    assert!(store.entity(tenant, &uid).await.unwrap().is_some());
}

/// F45: case, homoglyphs, combining forms and odd characters all make different entities, on both databases.
async fn names_are_byte_exact(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let all: Vec<Entity> = (0..)
        .zip(ODD_IDS)
        .map(|(level, id)| entity("Agent", id, level))
        .collect();
    store.upsert_entities(tenant, &all).await.unwrap();
    for one in &all {
        let stored = store.entity(tenant, &one.uid).await.unwrap();
        assert_eq!(
            stored.map(|stored| stored.entity).as_ref(),
            Some(one),
            "{:?}",
            one.uid.id
        );
    }
    let listed = store
        .entities(tenant, Some("Agent"), None, 100)
        .await
        .unwrap();
    let listed: Vec<String> = listed
        .iter()
        .map(|one| one.entity.uid.id.to_string())
        .collect();
    let mut sorted: Vec<String> = ODD_IDS.iter().map(|id| (*id).to_owned()).collect();
    sorted.sort();
    assert_eq!(
        listed, sorted,
        "bytewise, whatever the locale of the server"
    );
    assert_eq!(
        store
            .entities(tenant, Some("agent"), None, 10)
            .await
            .unwrap(),
        []
    );

    let (_, removed) = store
        .delete_entities(tenant, &[EntityUid::new("Agent", "alice")])
        .await
        .unwrap();
    assert_eq!(removed, 1);
    assert!(
        store
            .entity(tenant, &EntityUid::new("Agent", "Alice"))
            .await
            .unwrap()
            .is_some()
    );
}

async fn entities_are_listed_in_pages(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let mut all: Vec<Entity> = Vec::new();
    for kind in ["Agent", "Tool", "Acme::Agent"] {
        all.extend((0..25).map(|number| entity(kind, &format!("n{number}"), number)));
    }
    store.upsert_entities(tenant, &all).await.unwrap();
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    for kind in [
        None,
        Some("Agent"),
        Some("Tool"),
        Some("Acme::Agent"),
        Some("None"),
    ] {
        let wanted: Vec<&Entity> = all
            .iter()
            .filter(|one| kind.is_none_or(|kind| one.uid.kind == kind))
            .collect();
        let (mut found, mut after) = (Vec::new(), None::<EntityUid>);
        loop {
            let page = store
                .entities(tenant, kind, after.as_ref(), 7)
                .await
                .unwrap();
            assert!(page.len() <= 7);
            let Some(last) = page.last() else { break };
            after = Some(last.entity.uid.clone());
            found.extend(page.into_iter().map(|stored| stored.entity));
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{kind:?}");
    }
    let (before, behind) = (
        EntityUid::new("Aardvark", "z"),
        EntityUid::new("Zebra", "a"),
    );
    assert_eq!(
        store
            .entities(tenant, Some("Agent"), Some(&before), 100)
            .await
            .unwrap()
            .len(),
        25
    );
    assert_eq!(
        store
            .entities(tenant, Some("Agent"), Some(&behind), 100)
            .await
            .unwrap()
            .len(),
        0
    );
}

/// The changes between any two revisions take the one state exactly to the other, also when much was written since.
async fn changes_between_revisions_are_exact(fixture: Fixture) {
    const REVISIONS: u64 = 12;
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    // xorshift64 (Marsaglia 2003): numbers that look random and are the same at every run.
    let mut state = 88_172_645_463_325_252_u64;
    let mut below = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    let mut states: Vec<BTreeMap<EntityUid, Entity>> = vec![BTreeMap::new()];
    for _ in 0..REVISIONS {
        let mut state = states.last().unwrap().clone();
        let touched: Vec<Entity> = (0..=below(11))
            .map(|_| entity("Agent", &format!("n{}", below(15)), below(3) as i64))
            .collect();
        if below(10) < 4 {
            let uids: Vec<EntityUid> = touched.into_iter().map(|one| one.uid).collect();
            store.delete_entities(tenant, &uids).await.unwrap();
            state.retain(|uid, _| !uids.contains(uid));
        } else {
            store.upsert_entities(tenant, &touched).await.unwrap();
            state.extend(touched.into_iter().map(|one| (one.uid.clone(), one)));
        }
        states.push(state);
    }
    for after in 0..=REVISIONS {
        for upto in after..=REVISIONS {
            let mut state = states[after as usize].clone();
            let mut cursor = None;
            loop {
                let (from, to) = (Revision::new(after), Revision::new(upto));
                let page = store
                    .entity_changes(tenant, from, to, cursor.as_ref(), 3)
                    .await
                    .unwrap();
                assert!(page.upserts.len() + page.removals.len() <= 3);
                for uid in &page.removals {
                    state.remove(uid);
                }
                state.extend(page.upserts.into_iter().map(|one| (one.uid.clone(), one)));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(state, states[upto as usize], "from {after} to {upto}");
        }
    }
}

async fn names_that_no_column_takes_are_refused(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let (long_kind, long_id) = ("k".repeat(257), "i".repeat(1_025));
    for (kind, id, member) in [
        ("", "a", "entity.type"),
        ("Agent", "", "entity.id"),
        ("Agent", "a\0b", "entity.id"),
        ("Ag\0ent", "a", "entity.type"),
        (long_kind.as_str(), "a", "entity.type"),
        ("Agent", long_id.as_str(), "entity.id"),
    ] {
        let uid = EntityUid::new(kind, id);
        let results = [
            store
                .upsert_entities(tenant, &[entity("Agent", "fine", 1), entity(kind, id, 1)])
                .await
                .map(drop),
            store
                .delete_entities(tenant, std::slice::from_ref(&uid))
                .await
                .map(drop),
            store.entity(tenant, &uid).await.map(drop),
            store.entities(tenant, None, Some(&uid), 1).await.map(drop),
        ];
        for result in results {
            assert!(
                matches!(&result, Err(Error::Invalid { member: one, .. }) if *one == member),
                "{result:?}"
            );
        }
    }
    assert_eq!(
        store.entities(tenant, None, None, 1).await.unwrap(),
        [],
        "a refused batch leaves nothing behind"
    );
    assert_eq!(store.heads().await.unwrap()[0].revision, Revision::new(0));
    // The longest that is taken fits the indexes of both.
    let longest = entity(&"k".repeat(256), &"😀".repeat(256), 1);
    store
        .upsert_entities(tenant, std::slice::from_ref(&longest))
        .await
        .unwrap();
    assert_eq!(
        store
            .entity(tenant, &longest.uid)
            .await
            .unwrap()
            .unwrap()
            .entity,
        longest
    );
}

async fn many_entities_take_seconds(fixture: Fixture) {
    const COUNT: usize = 100_000;
    if fixture.url.is_empty() {
        return; // The same code as in a file.
    }
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let mut all: Vec<Entity> = (0..)
        .map(|number| entity("Agent", &format!("agent-{number:06}"), number))
        .take(COUNT)
        .collect();
    let start = Instant::now();
    let first = store.upsert_entities(tenant, &all).await.unwrap();
    let inserted = start.elapsed();
    for one in all.iter_mut().step_by(2) {
        one.attrs.insert("level".into(), (-1).into());
    }
    let start = Instant::now();
    let second = store.upsert_entities(tenant, &all).await.unwrap();
    let updated = start.elapsed();
    assert_eq!(
        (first.number(), second.number()),
        (1, 2),
        "one revision each"
    );

    let start = Instant::now();
    for (after, upto, count) in [(0, 1, COUNT), (1, 2, COUNT / 2), (0, 2, COUNT)] {
        let (mut cursor, mut found) = (None, 0);
        loop {
            let (after, upto) = (Revision::new(after), Revision::new(upto));
            let page = store
                .entity_changes(tenant, after, upto, cursor.as_ref(), MAX_ENTITIES)
                .await
                .unwrap();
            found += page.upserts.len();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, count, "from {after} to {upto}");
    }
    println!(
        "{} {COUNT} entities: inserted in {inserted:?}, half of them changed in {updated:?}, read 2.5 times in {:?}",
        store.kind(),
        start.elapsed()
    );
}

async fn a_damaged_entity_is_reported(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let head = store
        .upsert_entities(tenant, &[entity("Agent", "a", 1), entity("Agent", "b", 1)])
        .await
        .unwrap();
    for damage in [
        "UPDATE entities SET body = 'not json' WHERE id = 'b'",
        "UPDATE entities SET body = '{\"uid\":{\"type\":\"Agent\",\"id\":\"a\"}}' WHERE id = 'b'",
    ] {
        if !fixture.damage(damage).await {
            return;
        }
        let results = [
            store
                .entity(tenant, &EntityUid::new("Agent", "b"))
                .await
                .map(drop),
            store.entities(tenant, None, None, 10).await.map(drop),
            store
                .entity_changes(tenant, Revision::new(0), head, None, 10)
                .await
                .map(drop),
        ];
        for result in results {
            match result {
                Err(Error::Corrupt {
                    table: "entities",
                    what,
                }) => assert!(what.contains("Agent::\"b\""), "{what}"),
                other => panic!("{damage}: {other:?}"),
            }
        }
        assert!(
            store
                .entity(tenant, &EntityUid::new("Agent", "a"))
                .await
                .unwrap()
                .is_some()
        );
    }
}
