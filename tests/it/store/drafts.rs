//! Drafts and their reviews.

use std::collections::BTreeSet;

use remit_core::{
    AdminAction, AdminActionId, Bundle, DraftId, EntityUid, KeyId, Revision, Source, TenantId,
    Timestamp,
};
use remit_store::{
    AdminActionFilter, Authorship, Change, DraftEdit, DraftFilter, DraftMark, DraftState, Error,
    Expected, NewDraft, NewReview, ReviewVerdict, Settings, Store, StoredDraft,
};

use remit_tests::sql::{execute, texts};

use super::Fixture;

for_each_database! {
    drafts_are_kept_with_their_authors;
    a_draft_is_published_with_its_version_or_not_at_all;
    reviews_are_kept_and_the_last_of_each_stands;
    drafts_do_not_cross_tenants;
    a_damaged_draft_is_found;
    a_change_without_its_record_is_not_made;
    a_draft_has_a_thousand_reviews_at_most;
    open_drafts_are_bounded_together_and_closed_ones_hold_nothing;
}

fn bundle(text: &str) -> Bundle {
    Bundle {
        policies: vec![Source {
            file: "a.cedar".to_owned(),
            text: text.to_owned(),
        }],
        ..Bundle::default()
    }
}

async fn make(fixture: &Fixture, tenant: TenantId, name: &str) -> StoredDraft {
    let new = NewDraft {
        id: DraftId::from_uuid(fixture.clock.id()),
        at: fixture.clock.now(),
        name,
        message: Some("why"),
        base: None,
        bundle: &bundle("1"),
        author: "ana",
    };
    let made = fixture.store.create_draft(tenant, new, Change::default());
    made.await.unwrap()
}

async fn open_drafts_are_bounded_together_and_closed_ones_hold_nothing(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    if fixture.url.is_empty() {
        return;
    }
    let large = make(&fixture, tenant, "large").await;
    let small = make(&fixture, tenant, "small").await;
    let filler = if fixture.url.starts_with("sqlite:") {
        "printf('%.*c', 268434456, 'x')"
    } else {
        "repeat('x', 268434456)"
    };
    let fill = format!("UPDATE drafts SET body = {filler} WHERE name = 'large'");
    execute(&fixture.admin, &fill).await;
    let text = "y".repeat(2_000);
    let at = (small.id, small.version);
    let more = bundle(&text);
    let new = NewDraft {
        id: DraftId::from_uuid(fixture.clock.id()),
        at: fixture.clock.now(),
        name: "more",
        message: None,
        base: None,
        bundle: &more,
        author: "ana",
    };
    for refused in [
        edit(&fixture, tenant, at, "ana", None, &text).await,
        store.create_draft(tenant, new, Change::default()).await,
    ] {
        let Err(Error::Unfit { problem }) = refused else {
            panic!("{refused:?}");
        };
        assert!(problem.contains("268435456 bytes"), "{problem}");
    }
    // What takes less room than it had is no trouble.
    let at = (large.id, large.version);
    store
        .discard_draft(tenant, large.id, at.1, Change::default())
        .await
        .unwrap();
    let left = "SELECT CAST(octet_length(body) AS TEXT) FROM drafts WHERE name = 'large'";
    assert_eq!(texts(&fixture.admin, left).await, [["0"]]);
    let found = store.draft(tenant, large.id).await.unwrap().unwrap();
    let none = store.draft_bundle(tenant, &found).await;
    assert!(matches!(none, Err(Error::Unfit { .. })), "{none:?}");
    let at = (small.id, small.version);
    edit(&fixture, tenant, at, "ana", None, &text)
        .await
        .unwrap();
    store
        .create_draft(tenant, new, Change::default())
        .await
        .unwrap();
}

async fn edit(
    fixture: &Fixture,
    tenant: TenantId,
    (id, version): (DraftId, u64),
    author: &str,
    base: Option<Revision>,
    text: &str,
) -> Result<StoredDraft, Error> {
    let edit = DraftEdit {
        author,
        at: fixture.clock.now(),
        base,
        bundle: &bundle(text),
    };
    let edited = fixture
        .store
        .edit_draft(tenant, (id, version), edit, Change::default());
    edited.await
}

async fn review(
    store: &Store,
    tenant: TenantId,
    draft: &StoredDraft,
    who: &str,
    verdict: ReviewVerdict,
) {
    let new = NewReview {
        principal: who,
        key: KeyId::NIL,
        at: Timestamp::from_micros(1),
        verdict,
        message: None,
    };
    store
        .review_draft(tenant, (draft.id, draft.version), new, Change::default())
        .await
        .unwrap();
}

async fn drafts_are_kept_with_their_authors(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let made = make(&fixture, tenant, "one").await;
    assert_eq!(
        (made.version, made.reviews, made.state),
        (1, 0, DraftState::Open)
    );
    assert_eq!(made.authors, BTreeSet::from(["ana".to_owned()]));
    assert_eq!(made.message.as_deref(), Some("why"));
    assert_eq!(made.hash, bundle("1").content_hash());
    let base = Some(Revision::new(7));
    let edited = edit(&fixture, tenant, (made.id, 1), "ben", base, "2")
        .await
        .unwrap();
    assert_eq!((edited.version, edited.base), (2, base));
    assert_eq!(edited.authors.len(), 2);
    assert_ne!(edited.about(), made.about());
    assert_eq!(
        store.draft(tenant, made.id).await.unwrap(),
        Some(edited.clone())
    );
    assert_eq!(
        store.draft_bundle(tenant, &edited).await.unwrap(),
        bundle("2")
    );
    let stale = store.draft_bundle(tenant, &made).await;
    assert!(
        matches!(stale, Err(Error::Stale { current: 2, .. })),
        "{stale:?}"
    );
    let stale = edit(&fixture, tenant, (made.id, 1), "eve", base, "3").await;
    assert!(
        matches!(stale, Err(Error::Stale { current: 2, .. })),
        "{stale:?}"
    );
    assert!(
        store
            .keep_draft_results(tenant, made.id, 2, "{}", Change::default())
            .await
            .unwrap()
    );
    assert!(
        !store
            .keep_draft_results(tenant, made.id, 1, "no", Change::default())
            .await
            .unwrap()
    );
    let found = store.draft(tenant, made.id).await.unwrap().unwrap();
    assert_eq!(found.results.as_deref(), Some("{}"));

    let other = make(&fixture, tenant, "two").await;
    store
        .discard_draft(tenant, made.id, 2, Change::default())
        .await
        .unwrap();
    let over = store
        .discard_draft(tenant, made.id, 2, Change::default())
        .await;
    assert!(matches!(over, Err(Error::Unfit { .. })), "{over:?}");
    let again = make(&fixture, tenant, "one").await;
    let list = async |state, name, before| {
        let filter = DraftFilter { state, name };
        let found = store.drafts(tenant, filter, before, 2).await.unwrap();
        found.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, None).await, [again.id, other.id]);
    assert_eq!(list(None, None, Some(other.id)).await, [made.id]);
    assert_eq!(
        list(Some(DraftState::Discarded), None, None).await,
        [made.id]
    );
    assert_eq!(
        list(Some(DraftState::Open), Some("one"), None).await,
        [again.id]
    );
    let heads = store.heads().await.unwrap();
    assert_eq!(
        heads[0].revision,
        Revision::default(),
        "nothing that decides has changed"
    );
}

async fn a_draft_is_published_with_its_version_or_not_at_all(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let draft = make(&fixture, tenant, "one").await;
    let publish = async |mark: DraftMark, expected| {
        let authorship = Authorship {
            draft: Some(mark),
            evidence: Some("{\"cases\":1}"),
            ..Authorship::default()
        };
        store
            .put_version(
                tenant,
                expected,
                &bundle("1"),
                authorship,
                Change::default(),
            )
            .await
    };
    for mark in [
        DraftMark {
            version: 2,
            ..draft.mark()
        },
        DraftMark {
            reviews: 1,
            ..draft.mark()
        },
    ] {
        let stale = publish(mark, Expected::Absent).await;
        assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    }
    assert_eq!(
        store.bundle(tenant).await.unwrap(),
        None,
        "there is no version without it"
    );
    let published = publish(draft.mark(), Expected::Absent).await.unwrap();
    let found = store.draft(tenant, draft.id).await.unwrap().unwrap();
    assert_eq!(found.state, DraftState::Published);
    let version = store.bundle(tenant).await.unwrap().unwrap();
    let read = store.draft_bundle(tenant, &found).await.unwrap();
    assert_eq!(read, version.bundle);
    if !fixture.url.is_empty() {
        let left = "SELECT CAST(octet_length(body) AS TEXT) FROM drafts";
        assert_eq!(texts(&fixture.admin, left).await, [["0"]]);
    }
    assert_eq!(found.published_as, Some(published));
    let versions = store.bundle_versions(tenant, None, 9).await.unwrap();
    assert_eq!(versions[0].evidence.as_deref(), Some("{\"cases\":1}"));
    let twice = publish(draft.mark(), Expected::Any).await;
    assert!(matches!(twice, Err(Error::Stale { .. })), "{twice:?}");
    // A version that is refused leaves the draft open.
    let other = make(&fixture, tenant, "two").await;
    let refused = publish(other.mark(), Expected::Absent).await;
    assert!(
        matches!(refused, Err(Error::Conflict { .. })),
        "{refused:?}"
    );
    let found = store.draft(tenant, other.id).await.unwrap().unwrap();
    assert_eq!(found.state, DraftState::Open);
}

async fn reviews_are_kept_and_the_last_of_each_stands(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let draft = make(&fixture, tenant, "one").await;
    for (who, verdict) in [
        ("ben", ReviewVerdict::Reject),
        ("eve", ReviewVerdict::Approve),
        ("ben", ReviewVerdict::Approve),
        ("eve", ReviewVerdict::Reject),
    ] {
        review(store, tenant, &draft, who, verdict).await;
    }
    let found = store.draft(tenant, draft.id).await.unwrap().unwrap();
    assert_eq!(found.reviews, 4);
    let reviews = store.draft_reviews(tenant, draft.id).await.unwrap();
    assert_eq!(reviews.len(), 4);
    let standing = found.standing(reviews.clone());
    let told: Vec<_> = standing
        .iter()
        .map(|one| (one.principal.as_str(), one.verdict))
        .collect();
    assert_eq!(
        told,
        [
            ("ben", ReviewVerdict::Approve),
            ("eve", ReviewVerdict::Reject)
        ]
    );
    // The same content over another base is another draft.
    let moved = edit(
        &fixture,
        tenant,
        (draft.id, 1),
        "ana",
        Some(Revision::new(3)),
        "1",
    )
    .await
    .unwrap();
    assert_eq!(moved.hash, draft.hash);
    assert_eq!(moved.standing(reviews.clone()), []);
    let back = edit(&fixture, tenant, (draft.id, 2), "ana", None, "1")
        .await
        .unwrap();
    assert_eq!(back.standing(reviews).len(), 2);
    let stale = NewReview {
        principal: "ben",
        key: KeyId::NIL,
        at: Timestamp::from_micros(1),
        verdict: ReviewVerdict::Approve,
        message: None,
    };
    let stale = store
        .review_draft(tenant, (draft.id, 2), stale, Change::default())
        .await;
    assert!(
        matches!(stale, Err(Error::Stale { current: 3, .. })),
        "{stale:?}"
    );
}

async fn drafts_do_not_cross_tenants(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    let draft = make(&fixture, tenant, "one").await;
    assert_eq!(store.draft(other, draft.id).await.unwrap(), None);
    let filter = DraftFilter::default();
    assert_eq!(store.drafts(other, filter, None, 9).await.unwrap(), []);
    assert_eq!(store.draft_reviews(other, draft.id).await.unwrap(), []);
    let missing = edit(&fixture, other, (draft.id, 1), "eve", None, "2").await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    let missing = store
        .discard_draft(other, draft.id, 1, Change::default())
        .await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    assert!(
        !store
            .keep_draft_results(other, draft.id, 1, "{}", Change::default())
            .await
            .unwrap()
    );
    let authorship = Authorship {
        draft: Some(draft.mark()),
        ..Authorship::default()
    };
    let stolen = store
        .put_version(
            other,
            Expected::Any,
            &bundle("1"),
            authorship,
            Change::default(),
        )
        .await;
    assert!(matches!(stolen, Err(Error::Stale { .. })), "{stolen:?}");
    make(&fixture, other, "one").await;
    assert_eq!(store.draft(tenant, draft.id).await.unwrap(), Some(draft));
}

async fn a_damaged_draft_is_found(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let draft = make(&fixture, tenant, "one").await;
    let body = "UPDATE drafts SET body = '{\"schema\":[],\"policies\":[]}'";
    if fixture.damage(body).await {
        let found = store.draft_bundle(tenant, &draft).await;
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
        for column in ["hash", "authors"] {
            fixture
                .damage(&format!("UPDATE drafts SET {column} = 'x'"))
                .await;
            let found = store.draft(tenant, draft.id).await;
            assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
            let mended = match column {
                "hash" => draft.hash.to_string(),
                _ => "[]".to_owned(),
            };
            fixture
                .damage(&format!("UPDATE drafts SET {column} = '{mended}'"))
                .await;
        }
    }
}

/// Whoever may not any more changes no draft and no settings, and leaves no record of having done so.
async fn a_change_without_its_record_is_not_made(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let draft = make(&fixture, tenant, "one").await;
    let record = AdminAction {
        // There is no such key, as if it had been revoked meanwhile.
        key: Some(fixture.key_id()),
        ..AdminAction::of_itself(
            AdminActionId::from_uuid(fixture.clock.id()),
            fixture.clock.now(),
            "put_draft_bundle",
            EntityUid::new("Draft", draft.id.to_string()),
        )
    };
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let new = NewDraft {
        id: DraftId::from_uuid(fixture.clock.id()),
        at: fixture.clock.now(),
        name: "two",
        message: None,
        base: None,
        bundle: &bundle("2"),
        author: "eve",
    };
    let edit = DraftEdit {
        author: "eve",
        at: fixture.clock.now(),
        base: None,
        bundle: &bundle("2"),
    };
    let review = NewReview {
        principal: "eve",
        key: KeyId::NIL,
        at: fixture.clock.now(),
        verdict: ReviewVerdict::Approve,
        message: None,
    };
    let at = draft.mark();
    let marked = (at.id, at.version);
    let outcomes = [
        store.create_draft(tenant, new, change).await.map(drop),
        store
            .edit_draft(tenant, marked, edit, change)
            .await
            .map(drop),
        store
            .review_draft(tenant, marked, review, change)
            .await
            .map(drop),
        store
            .keep_draft_results(tenant, at.id, at.version, "{}", change)
            .await
            .map(drop),
        store.discard_draft(tenant, at.id, at.version, change).await,
        store.ask_settings(tenant, None, change).await,
        store
            .change_settings(
                tenant,
                Revision::default(),
                Settings {
                    second_person: true,
                },
                change,
            )
            .await
            .map(drop),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::Withdrawn)), "{outcome:?}");
    }
    assert_eq!(
        store.draft(tenant, draft.id).await.unwrap(),
        Some(draft.clone())
    );
    let filter = DraftFilter::default();
    assert_eq!(
        store.drafts(tenant, filter, None, 9).await.unwrap().len(),
        1
    );
    assert_eq!(store.draft_reviews(tenant, draft.id).await.unwrap(), []);
    assert!(!store.settings(tenant).await.unwrap().settings.second_person);
    let filter = AdminActionFilter::default();
    assert_eq!(
        store.admin_actions(tenant, &filter, None, 9).await.unwrap(),
        []
    );

    // With one that may, both are there.
    let record = AdminAction {
        key: None,
        ..record
    };
    let change = Change {
        record: Some(&record),
        once: None,
    };
    store
        .edit_draft(tenant, marked, edit, change)
        .await
        .unwrap();
    let filter = AdminActionFilter::default();
    let found = store.admin_actions(tenant, &filter, None, 9).await.unwrap();
    assert_eq!(found, [record], "it brings no revision");
}

async fn a_draft_has_a_thousand_reviews_at_most(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let draft = make(&fixture, tenant, "one").await;
    if !fixture.damage("UPDATE drafts SET reviews = 999").await {
        return;
    }
    review(store, tenant, &draft, "ben", ReviewVerdict::Approve).await;
    let new = NewReview {
        principal: "eve",
        key: KeyId::NIL,
        at: fixture.clock.now(),
        verdict: ReviewVerdict::Approve,
        message: None,
    };
    let marked = (draft.id, draft.version);
    let full = store
        .review_draft(tenant, marked, new, Change::default())
        .await;
    assert!(matches!(full, Err(Error::Unfit { .. })), "{full:?}");
    assert_eq!(
        store.draft_reviews(tenant, draft.id).await.unwrap().len(),
        1
    );
}
