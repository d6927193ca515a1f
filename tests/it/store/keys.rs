//! API keys in the store: their text, their check, and what is kept of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use remit_core::{AdminAction, AdminActionId, ContentHash, EntityUid, KeyId, TenantId};
use remit_store::{
    AdminActionFilter, ApiKey, Change, Error, FirstKey, NewKey, Once, Operation, ParseKeyError,
    Pepper, Scope, StoredKey, Unusable,
};

use super::{Fixture, new_key, pepper, time};

for_each_database! {
    a_key_is_made_found_and_revoked;
    a_fixed_key_is_kept_once;
    a_key_that_makes_no_sense_is_refused;
    a_damaged_key_is_reported;
    a_tenant_is_made_with_its_first_key_or_not_at_all;
}

fn key() -> ApiKey {
    ApiKey::from_secret(
        "dev",
        KeyId::from_uuid(uuid::Uuid::from_u128(5)),
        [0xab; 32],
    )
    .unwrap()
}

async fn a_key_is_made_found_and_revoked(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let end = fixture.clock.now().plus(Duration::from_mins(1));
    let new = NewKey {
        expires_at: Some(end),
        ..new_key()
    };
    let (made, text) = store.create_key(tenant, &new, &pepper()).await.unwrap();
    assert_eq!(
        store.heads().await.unwrap()[0].revision.number(),
        1,
        "replicas must learn of it"
    );
    let presented = ApiKey::parse(&text.reveal()).unwrap();
    for stored in [
        made.clone(),
        store.key(tenant, made.id).await.unwrap().unwrap(),
        store.keys(tenant).await.unwrap().remove(0),
        store.all_keys().await.unwrap().remove(0),
    ] {
        assert!(stored.matches(&presented, &pepper()));
        assert!(
            !stored.matches(&presented, &Pepper::new(&[8; 32]).unwrap()),
            "another pepper"
        );
        let other = ApiKey::generate("live", made.id).unwrap();
        assert!(!stored.matches(&other, &pepper()), "another secret");
        assert_eq!((stored.tenant, stored.name.as_str()), (tenant, "gateway"));
        assert_eq!(stored.scopes, new.scopes);
        assert!(stored.may(Scope::Evaluate) && !stored.may(Scope::Write));
        assert_eq!(stored.expires_at, Some(end));
        assert_eq!(stored.usable(time(end.micros() - 1)), Ok(()));
        assert_eq!(stored.usable(end), Err(Unusable::Expired));
    }
    // The text says which environment it is for; exchanging that makes another key.
    let moved = presented.reveal().replace("remit_live_", "remit_test_");
    assert_eq!(ApiKey::parse(&moved), Err(ParseKeyError::Checksum));

    let revision = store
        .revoke_key(tenant, made.id, None, Change::default())
        .await
        .unwrap();
    assert_eq!(revision.number(), 2);
    let revoked = store.key(tenant, made.id).await.unwrap().unwrap();
    assert_eq!(revoked.usable(time(0)), Err(Unusable::Revoked));
    store
        .revoke_key(tenant, made.id, None, Change::default())
        .await
        .unwrap();
    let twice = store.key(tenant, made.id).await.unwrap().unwrap();
    assert_eq!(
        twice.revoked_at, revoked.revoked_at,
        "revoked since the first time"
    );
    let unknown = store
        .revoke_key(tenant, fixture.key_id(), None, Change::default())
        .await;
    assert!(matches!(unknown, Err(Error::NotFound { what: "API key" })));
}

async fn a_fixed_key_is_kept_once(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let new = NewKey {
        environment: "dev".into(),
        scopes: Scope::ALL.iter().copied().collect(),
        ..new_key()
    };
    let first = store
        .insert_key(tenant, &key(), &new, &pepper(), Change::default())
        .await
        .unwrap();
    let again = store
        .insert_key(tenant, &key(), &new, &pepper(), Change::default())
        .await
        .unwrap();
    assert_eq!((again.id, again.created_at), (first.id, first.created_at));
    assert_eq!(
        store.heads().await.unwrap()[0].revision.number(),
        1,
        "the second time nothing changes"
    );
    assert_eq!(store.keys(tenant).await.unwrap().len(), 1);

    // A new pepper or other scopes: the key is kept anew, under its id.
    let other = Pepper::new(&[9; 40]).unwrap();
    let fewer = NewKey {
        scopes: BTreeSet::from([Scope::Keys]),
        ..new.clone()
    };
    let stored = store
        .insert_key(tenant, &key(), &fewer, &other, Change::default())
        .await
        .unwrap();
    assert!(stored.matches(&key(), &other) && !stored.matches(&key(), &pepper()));
    assert_eq!(
        (stored.scopes, stored.created_at),
        (fewer.scopes.clone(), first.created_at)
    );

    store
        .revoke_key(tenant, key().id(), None, Change::default())
        .await
        .unwrap();
    let stored = store
        .insert_key(tenant, &key(), &new, &other, Change::default())
        .await
        .unwrap();
    assert_eq!(
        stored.usable(time(0)),
        Err(Unusable::Revoked),
        "keeping it again does not bring it back"
    );

    let live = NewKey {
        environment: "live".into(),
        ..new
    };
    let differs = store
        .insert_key(tenant, &key(), &live, &other, Change::default())
        .await;
    assert!(matches!(
        differs,
        Err(Error::Invalid {
            member: "environment",
            ..
        })
    ));
}

async fn a_key_that_makes_no_sense_is_refused(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let refused = [
        (
            "name",
            NewKey {
                name: String::new(),
                ..new_key()
            },
        ),
        (
            "name",
            NewKey {
                name: "a\0".into(),
                ..new_key()
            },
        ),
        (
            "name",
            NewKey {
                name: "a\u{1b}[2J".into(),
                ..new_key()
            },
        ),
        (
            "name",
            NewKey {
                name: "x".repeat(129),
                ..new_key()
            },
        ),
        (
            "environment",
            NewKey {
                environment: "Live".into(),
                ..new_key()
            },
        ),
        (
            "environment",
            NewKey {
                environment: "a_b".into(),
                ..new_key()
            },
        ),
        (
            "scopes",
            NewKey {
                scopes: BTreeSet::new(),
                ..new_key()
            },
        ),
    ];
    for (member, new) in refused {
        let result = store.create_key(tenant, &new, &pepper()).await;
        assert!(
            matches!(&result, Err(Error::Invalid { member: one, .. }) if *one == member),
            "{result:?}"
        );
    }
    assert!(store.keys(tenant).await.unwrap().is_empty());
}

async fn a_damaged_key_is_reported(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let (made, _) = store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    for damage in [
        "UPDATE api_keys SET scopes = 'evaluate root'",
        "UPDATE api_keys SET mac = substr(mac, 1, 4)",
    ] {
        if !fixture.damage(damage).await {
            return;
        }
        for result in [store.all_keys().await, store.keys(tenant).await] {
            match result {
                Err(Error::Corrupt {
                    table: "api_keys",
                    what,
                }) => assert!(what.contains(&made.id.to_string())),
                other => panic!("{damage}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_text_of_a_key_has_one_spelling() {
    let text = key().reveal();
    assert!(
        text.starts_with(&format!("remit_dev_{:032x}_{}_", 5, "ab".repeat(32))),
        "{text}"
    );
    assert_eq!(text.len(), 5 + 1 + 3 + 1 + 32 + 1 + 64 + 1 + 8);
    assert_eq!(ApiKey::parse(&text).unwrap(), key());
    let parts: Vec<&str> = text.split('_').collect();
    let with = |index: usize, part: &str| {
        let mut parts = parts.clone();
        parts[index] = part;
        parts.join("_")
    };
    let cases = [
        (String::new(), ParseKeyError::Prefix),
        (format!(" {text}"), ParseKeyError::Prefix),
        (text.to_uppercase(), ParseKeyError::Prefix),
        ("sk_live_123".into(), ParseKeyError::Prefix),
        ("remit_".into(), ParseKeyError::Parts),
        (format!("{text}_"), ParseKeyError::Parts),
        (
            format!("{text}{}", "0".repeat(1_000_000)),
            ParseKeyError::Checksum,
        ),
        (with(1, ""), ParseKeyError::Environment),
        (with(1, "Dev"), ParseKeyError::Environment),
        (with(1, "dév"), ParseKeyError::Environment),
        (with(1, &"a".repeat(17)), ParseKeyError::Environment),
        (with(2, &"F".repeat(32)), ParseKeyError::Id),
        (with(2, "5"), ParseKeyError::Id),
        (with(3, &"AB".repeat(32)), ParseKeyError::Secret),
        (with(3, &"ab".repeat(31)), ParseKeyError::Secret),
        (with(3, &"ac".repeat(32)), ParseKeyError::Checksum),
        (with(4, "00000000"), ParseKeyError::Checksum),
        (with(4, &parts[4].to_uppercase()), ParseKeyError::Checksum),
        (format!("{text}\n"), ParseKeyError::Checksum),
    ];
    for (text, expected) in cases {
        // A digit-only checksum is its own upper case.
        if text == key().reveal() {
            continue;
        }
        let error = ApiKey::parse(&text).unwrap_err();
        assert_eq!(error, expected, "{text:.120}");
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("abab"),
            "an error repeats no secret: {shown}"
        );
    }
    let made: BTreeSet<String> = (0..100)
        .map(|_| ApiKey::generate("dev", key().id()).unwrap().reveal())
        .collect();
    assert_eq!(made.len(), 100, "every secret is new");
}

/// F42: nothing that prints shows a secret, but for the one method that is there for it.
#[test]
fn secrets_are_not_shown() {
    let shown = format!(
        "{} {:?} {:?}",
        key(),
        key(),
        Pepper::new(b"hunter2-hunter2-hunter2-hunter2-").unwrap()
    );
    assert!(
        !shown.contains("abab") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert!(shown.contains("remit_dev_"), "the public half is: {shown}");
    assert!(matches!(
        Pepper::new(&[1; 31]),
        Err(Error::Invalid {
            member: "pepper",
            ..
        })
    ));
}

/// F43: a key whose first digit is wrong, one whose last is, and one whose id is unknown take equally long.
///
/// Medians over many alternating rounds, and a wide margin: a comparison that stops at the first difference, or a
/// missing dummy, is far outside it.
#[tokio::test]
async fn a_wrong_key_takes_as_long_whatever_is_wrong_with_it() {
    let fixture = Fixture::memory().await;
    let tenant = fixture.tenant("acme").await;
    let new = NewKey {
        environment: "dev".into(),
        ..new_key()
    };
    let stored = fixture
        .store
        .insert_key(tenant, &key(), &new, &pepper(), Change::default())
        .await
        .unwrap();
    let (mut first, mut last) = ([0xab; 32], [0xab; 32]);
    first[0] = 0;
    last[31] = 0;
    let first = ApiKey::from_secret("dev", key().id(), first).unwrap();
    let last = ApiKey::from_secret("dev", key().id(), last).unwrap();
    let pepper = pepper();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..2_000 {
        let start = Instant::now();
        assert!(!stored.matches(&first, &pepper));
        times[0].push(start.elapsed());
        let start = Instant::now();
        assert!(!stored.matches(&last, &pepper));
        times[1].push(start.elapsed());
        let start = Instant::now();
        StoredKey::reject(&first, &pepper);
        times[2].push(start.elapsed());
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    for median in medians {
        let ratio = median / medians[0];
        assert!((0.5..2.0).contains(&ratio), "{medians:?}");
    }
}

async fn a_tenant_is_made_with_its_first_key_or_not_at_all(fixture: Fixture) {
    let (store, operator) = (&fixture.store, fixture.tenant("operator").await);
    let (new, pepper) = (new_key(), pepper());
    let (taken, _) = store.create_key(operator, &new, &pepper).await.unwrap();
    let id = || AdminActionId::from_uuid(fixture.clock.id());
    let tenant = TenantId::from_uuid(fixture.clock.id());
    let on = EntityUid::new("Tenant", operator.to_string());
    let asked = AdminAction::of_itself(id(), fixture.clock.now(), "create_tenant", on);
    let once = Once {
        key: "acme",
        request: ContentHash::of(b"it"),
        answer: "{}",
    };
    let operation = Some(Operation {
        of: operator,
        record: &asked,
        once: Some(once),
    });
    let all = AdminActionFilter::default();
    for (key, works) in [(taken.id, false), (fixture.key_id(), true)] {
        let text = ApiKey::generate(&new.environment, key).unwrap();
        let record = new.record(id(), fixture.clock.now(), tenant, key);
        let first = FirstKey {
            key: &text,
            new: &new,
            pepper: &pepper,
            record: &record,
        };
        let made = store.create_tenant(tenant, "acme", Some(first), operation);
        let made = made.await;
        let of_operator = store.admin_actions(operator, &all, None, 10).await.unwrap();
        let answered = store.answered(operator, "acme").await.unwrap();
        let found = store.tenant(tenant).await.unwrap();
        if !works {
            assert!(matches!(made, Err(Error::KeyTaken)), "{made:?}");
            assert_eq!((of_operator, answered, found), (Vec::new(), None, None));
            continue;
        }
        made.unwrap();
        assert_eq!(of_operator, std::slice::from_ref(&asked));
        assert_eq!(answered.unwrap().request, once.request);
        let revision = remit_core::Revision::new(1);
        assert_eq!(found.unwrap().revision, revision);
        let kept = store.admin_actions(tenant, &all, None, 10).await.unwrap();
        let record = AdminAction {
            revision: Some(revision),
            ..record
        };
        assert_eq!(kept, [record]);
        let keys = store.keys(tenant).await.unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].matches(&text, &pepper));
    }
}
