//! Events in the store: read in the order of commits, page by page, and kept for a week.

use std::time::Duration;

use remit_core::{Revision, TenantId};
use remit_store::{Error, EventId, FORGOTTEN_AT_ONCE};

use super::Fixture;

for_each_database! {
    they_are_read_in_order_and_page_by_page;
    they_are_kept_for_a_week;
}

/// Writes events past the store, as rows of a tenant: revision, place and age.
async fn write(fixture: &Fixture, tenant: TenantId, events: &[(u64, u64, Duration)]) -> bool {
    let id = match fixture.store.kind() {
        "sqlite" => format!("x'{}'", tenant.uuid().simple()),
        _ => format!("'{tenant}'"),
    };
    let now = fixture.clock.now().micros();
    let rows: Vec<String> = events
        .iter()
        .map(|(revision, place, age)| {
            let at = now - i64::try_from(age.as_micros()).unwrap();
            format!("({id}, {revision}, {place}, 'test.happened', 'it', {at}, '{{\"n\":{place}}}')")
        })
        .collect();
    let rows = rows.join(", ");
    fixture
        .damage(&format!(
            "INSERT INTO events (tenant, revision, place, kind, subject, at, body) VALUES {rows}"
        ))
        .await
}

fn id(revision: u64, place: u64) -> EventId {
    EventId {
        revision: Revision::new(revision),
        place,
    }
}

async fn read(
    fixture: &Fixture,
    tenant: TenantId,
    after: Option<EventId>,
    limit: usize,
) -> (Vec<EventId>, bool) {
    let page = fixture.store.events(tenant, after, limit).await.unwrap();
    let ids = page.events.iter().map(|event| event.id).collect();
    (ids, page.lost)
}

async fn they_are_read_in_order_and_page_by_page(fixture: Fixture) {
    let (ours, theirs) = (fixture.tenant("a").await, fixture.tenant("b").await);
    let store = &fixture.store;
    assert_eq!(store.newest_event(ours).await.unwrap(), None);
    assert_eq!(read(&fixture, ours, None, 10).await, (vec![], false));
    let new = Duration::ZERO;
    // Written in no order: what counts is where they stand.
    let written = [(10, 0, new), (1, 1, new), (2, 0, new), (1, 0, new)];
    if !write(&fixture, ours, &written).await {
        return;
    }
    assert!(write(&fixture, theirs, &[(1, 5, new)]).await);
    let first = read(&fixture, ours, None, 2).await;
    assert_eq!(first, (vec![id(1, 0), id(1, 1)], false));
    let rest = read(&fixture, ours, Some(id(1, 1)), 10).await;
    assert_eq!(rest, (vec![id(2, 0), id(10, 0)], false));
    let end = read(&fixture, ours, Some(id(10, 0)), 10).await;
    assert_eq!(end, (vec![], false));
    // What is not there may have had others after it that are not there either.
    let unknown = read(&fixture, ours, Some(id(1, 7)), 1).await;
    assert_eq!(unknown, (vec![id(2, 0)], true));
    assert_eq!(store.newest_event(ours).await.unwrap(), Some(id(10, 0)));
    assert_eq!(
        read(&fixture, theirs, None, 10).await,
        (vec![id(1, 5)], false)
    );
    let page = store.events(ours, Some(id(1, 0)), 1).await.unwrap();
    let heads = store.heads().await.unwrap();
    let head = heads.iter().find(|head| head.tenant == ours).unwrap();
    assert_eq!(page.head, head.revision);
    let one = &page.events[0];
    assert_eq!(
        (one.kind.as_str(), one.subject.as_str()),
        ("test.happened", "it")
    );
    assert_eq!(one.body, serde_json::json!({ "n": 1 }));
    let nobody = TenantId::from_uuid(fixture.clock.id());
    let refused = store.events(nobody, None, 1).await;
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "{refused:?}"
    );
}

async fn they_are_kept_for_a_week(fixture: Fixture) {
    let tenant = fixture.tenant("a").await;
    let (old, young) = (
        Duration::from_mins(7 * 24 * 60 + 1),
        Duration::from_mins(7 * 24 * 60 - 1),
    );
    let count = FORGOTTEN_AT_ONCE + 5;
    let mut events: Vec<_> = (0..count).map(|place| (1, place, old)).collect();
    events.push((2, 0, young));
    if !write(&fixture, tenant, &events).await {
        return;
    }
    let store = &fixture.store;
    let mut forgotten = Vec::new();
    for _ in 0..3 {
        forgotten.push(store.forget_events().await.unwrap());
    }
    assert_eq!(forgotten, [FORGOTTEN_AT_ONCE, 5, 0]);
    assert_eq!(
        read(&fixture, tenant, Some(id(1, 0)), 10).await,
        (vec![id(2, 0)], true),
        "whoever was there has missed some"
    );
    // The newest of a tenant stays however old it is: whoever has read it has missed nothing.
    let quiet = fixture.tenant("b").await;
    assert!(write(&fixture, quiet, &[(1, 0, old), (1, 1, old), (2, 0, old)]).await);
    assert_eq!(store.forget_events().await.unwrap(), 2);
    assert_eq!(store.newest_event(quiet).await.unwrap(), Some(id(2, 0)));
    assert!(write(&fixture, quiet, &[(3, 0, young)]).await);
    assert_eq!(
        read(&fixture, quiet, Some(id(2, 0)), 10).await,
        (vec![id(3, 0)], false)
    );
}

#[test]
fn an_id_is_a_revision_and_a_place() {
    assert_eq!("42.7".parse::<EventId>().unwrap(), id(42, 7));
    assert_eq!(id(42, 7).to_string(), "42.7");
    for wrong in [
        "",
        "42",
        "42.",
        ".7",
        "42.7.0",
        "-1.0",
        "+1.0",
        "a.b",
        "1.18446744073709551616",
    ] {
        let error = wrong.parse::<EventId>().unwrap_err().to_string();
        assert!(error.contains("Last-Event-ID"), "{wrong}: {error}");
    }
}
