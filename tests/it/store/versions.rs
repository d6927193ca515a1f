//! Versions of the bundle in the store: who put each, why, and what it brought back.

use remit_core::{ContentHash, Revision};
use remit_store::{Authorship, Change, Error, Expected, Once, StoredAnswer};

use super::{Fixture, bundle, new_key, pepper};

for_each_database! {
    versions_tell_who_and_why_newest_first;
    a_message_is_one_short_line;
    an_answer_is_kept_with_its_change_or_not_at_all;
}

async fn versions_tell_who_and_why_newest_first(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let other = fixture.tenant("other").await;
    assert_eq!(store.bundle_versions(tenant, None, 10).await.unwrap(), []);
    let (key, _) = store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    let first = store
        .put_bundle(tenant, Expected::Absent, &bundle("1"), None)
        .await
        .unwrap();
    let put = async |text: &str, message: Option<&'static str>, restores: Option<Revision>| {
        let authorship = Authorship {
            by: Some(key.id),
            message,
            restores,
            draft: None,
            evidence: None,
        };
        store
            .put_version(
                tenant,
                Expected::Any,
                &bundle(text),
                authorship,
                Change::default(),
            )
            .await
            .unwrap()
    };
    let second = put("2", Some("für Mäya, \"and\" more"), None).await;
    let third = put("1", None, Some(first)).await;
    store
        .put_bundle(other, Expected::Any, &bundle("theirs"), Some(key.id))
        .await
        .unwrap();

    let versions = store.bundle_versions(tenant, None, 10).await.unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|version| {
            (
                version.revision,
                version.hash,
                version.author.as_deref(),
                version.message.as_deref(),
                version.restores,
            )
        })
        .collect();
    let hash = |text| bundle(text).content_hash();
    let name = Some("gateway");
    assert_eq!(
        told,
        [
            (third, hash("1"), name, None, Some(first)),
            (
                second,
                hash("2"),
                name,
                Some("für Mäya, \"and\" more"),
                None
            ),
            (first, hash("1"), None, None, None),
        ]
    );
    assert_eq!((versions[0].by, versions[2].by), (Some(key.id), None));
    assert!(versions[2].at <= versions[0].at);
    let page = store.bundle_versions(tenant, Some(third), 1).await.unwrap();
    assert_eq!(page, versions[1..2]);

    // Each is there as it was put, and only under its own number.
    for (revision, text) in [(first, "1"), (second, "2"), (third, "1")] {
        let stored = store.bundle_version(tenant, revision).await.unwrap();
        assert_eq!(stored.unwrap().bundle, bundle(text));
    }
    for absent in [
        Revision::default(),
        Revision::new(1),
        Revision::new(u64::MAX),
    ] {
        assert_eq!(store.bundle_version(tenant, absent).await.unwrap(), None);
    }
    // A key of one tenant has no name in another.
    let theirs = store.bundle_versions(other, None, 10).await.unwrap();
    assert_eq!((theirs.len(), &theirs[0].author), (1, &None));
}

async fn a_message_is_one_short_line(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let put = async |message: &str| {
        let authorship = Authorship {
            message: Some(message),
            ..Authorship::default()
        };
        store
            .put_version(
                tenant,
                Expected::Any,
                &bundle("1"),
                authorship,
                Change::default(),
            )
            .await
    };
    let longest = "é".repeat(512);
    let longer = format!("{longest}.");
    for message in [
        "",
        "two\nlines",
        "a\u{7}bell",
        "a\u{0}",
        "e\u{301}",
        &longer,
    ] {
        let refused = put(message).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    member: "message",
                    ..
                })
            ),
            "{message:?}: {refused:?}"
        );
    }
    assert_eq!(
        put(&longest).await.unwrap(),
        Revision::new(1),
        "nothing was written before"
    );
    let versions = store.bundle_versions(tenant, None, 10).await.unwrap();
    assert_eq!(versions[0].message.as_deref(), Some(longest.as_str()));
}

async fn an_answer_is_kept_with_its_change_or_not_at_all(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let other = fixture.tenant("other").await;
    let request = ContentHash::of(b"what is asked for");
    let put = async |key: &str, expected| {
        let once = Once {
            key,
            request,
            answer: "{\"warnings\":[]}",
        };
        let change = Change {
            once: Some(once),
            ..Change::default()
        };
        store
            .put_version(
                tenant,
                expected,
                &bundle("1"),
                Authorship::default(),
                change,
            )
            .await
    };
    let revision = put("first", Expected::Absent).await.unwrap();
    let kept = StoredAnswer {
        request,
        revision,
        answer: "{\"warnings\":[]}".to_owned(),
    };
    assert_eq!(store.answered(tenant, "first").await.unwrap(), Some(kept));
    assert_eq!(store.answered(other, "first").await.unwrap(), None);
    assert_eq!(store.answered(tenant, "FIRST").await.unwrap(), None);

    // A name that is taken takes its change back with it.
    assert!(put("first", Expected::Any).await.is_err());
    let versions = store.bundle_versions(tenant, None, 10).await.unwrap();
    assert_eq!(versions.len(), 1);
    let late = put("second", Expected::Absent).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    assert_eq!(store.answered(tenant, "second").await.unwrap(), None);
    for key in ["", "a\tb", "\u{fc}", &"x".repeat(256)] {
        let refused = put(key, Expected::Any).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    member: "Idempotency-Key",
                    ..
                })
            ),
            "{key:?}: {refused:?}"
        );
    }
}
