//! Break-glass grants in the store: approved once by another, over by the time alone.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    BreakGlassId, KeyId, Principal, PrincipalKind, PrincipalName, Role, TenantId, Timestamp,
};
use remit_store::{Change, Error, NewBreakGlass};

use super::Fixture;

for_each_database! {
    a_grant_is_over_by_the_time_alone;
    a_grant_is_approved_once_and_by_another;
    ten_grants_are_open_and_one_a_person;
}

fn name(name: &str) -> PrincipalName {
    name.parse().unwrap()
}

fn after(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(at.micros() + i64::try_from(by.as_micros()).unwrap())
}

/// Asks as Ana that somebody has the role `publisher`.
pub(super) async fn ask(
    fixture: &Fixture,
    tenant: TenantId,
    who: &str,
    at: Timestamp,
) -> Result<BreakGlassId, Error> {
    let id = BreakGlassId::from_uuid(fixture.clock.id());
    let new = NewBreakGlass {
        id,
        principal: &name(who),
        roles: &BTreeSet::from([Role::Publisher]),
        minutes: 15,
        reason: "an incident",
        requested_by: &name("ana"),
        requester_key: KeyId::from_uuid(fixture.clock.id()),
        requested_at: at,
        expires_at: after(at, Duration::from_hours(1)),
    };
    let asked = fixture
        .store
        .request_break_glass(tenant, new, Change::default());
    asked.await.map(|()| id)
}

async fn person(fixture: &Fixture, tenant: TenantId, who: &str) {
    let principal = Principal {
        kind: PrincipalKind::Person,
        name: name(who),
        roles: BTreeSet::new(),
    };
    fixture
        .store
        .put_principal(tenant, None, &principal, Change::default())
        .await
        .unwrap();
}

async fn a_grant_is_over_by_the_time_alone(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    person(&fixture, tenant, "maya").await;
    person(&fixture, other, "maya").await;
    // Ahead of every clock there is, so that the floor is the time on both databases.
    let at = after(store.time().await.unwrap(), Duration::from_hours(24));
    let maya = name("maya");
    let id = ask(&fixture, tenant, "maya", at).await.unwrap();
    let standing = async |at| store.standing(tenant, &maya, at).await.unwrap();
    assert_eq!(standing(at).await.grant, None, "it waits");
    let ends_at = after(at, Duration::from_mins(15));
    let by = (&name("ben"), KeyId::from_uuid(fixture.clock.id()));
    store
        .approve_break_glass(tenant, id, by, (at, ends_at), Change::default())
        .await
        .unwrap();
    let found = standing(at).await;
    assert!(!found.second_person);
    assert_eq!(found.at, at);
    let grant = found.grant.unwrap();
    assert_eq!((grant.id, grant.ends_at), (id, ends_at));
    assert_eq!(grant.roles, BTreeSet::from([Role::Publisher]));
    assert_eq!(store.active_break_glass(tenant, at).await.unwrap(), [id]);
    // Nobody else's, and nothing of another tenant.
    let of_ana = store.standing(tenant, &name("ana"), at).await.unwrap();
    assert_eq!(of_ana.grant, None);
    assert_eq!(store.standing(other, &maya, at).await.unwrap().grant, None);
    assert_eq!(store.break_glass(other, id).await.unwrap(), None);
    assert!(
        store
            .break_glasses(other, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .active_break_glass(other, at)
            .await
            .unwrap()
            .is_empty()
    );

    let stored = store.break_glass(tenant, id).await.unwrap().unwrap();
    let last = Timestamp::from_micros(ends_at.micros() - 1);
    assert!(stored.is_active(last) && !stored.is_active(ends_at));
    assert!(!store.note_break_glass_end(tenant, id, last).await.unwrap());
    assert!(
        store
            .active_break_glass(tenant, ends_at)
            .await
            .unwrap()
            .is_empty()
    );
    // Noted once; then no time brings it back.
    assert!(
        store
            .note_break_glass_end(tenant, id, ends_at)
            .await
            .unwrap()
    );
    assert!(
        !store
            .note_break_glass_end(tenant, id, ends_at)
            .await
            .unwrap()
    );
    assert_eq!(standing(at).await.grant, None);
    assert!(
        store
            .active_break_glass(tenant, at)
            .await
            .unwrap()
            .is_empty()
    );
    let again = store.end_break_glass(tenant, id, &maya, at, Change::default());
    assert!(matches!(again.await, Err(Error::Unfit { .. })));
}

async fn a_grant_is_approved_once_and_by_another(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    person(&fixture, tenant, "maya").await;
    let at = store.time().await.unwrap();
    let id = ask(&fixture, tenant, "maya", at).await.unwrap();
    let key = KeyId::from_uuid(fixture.clock.id());
    let approve = async |who: &str, at| {
        let times = (at, after(at, Duration::from_mins(15)));
        store
            .approve_break_glass(tenant, id, (&name(who), key), times, Change::default())
            .await
    };
    for who in ["ana", "maya"] {
        assert!(
            matches!(approve(who, at).await, Err(Error::Unfit { .. })),
            "{who}"
        );
    }
    let late = after(at, Duration::from_hours(1));
    assert!(matches!(
        approve("ben", late).await,
        Err(Error::Unfit { .. })
    ));
    let (one, two) = tokio::join!(approve("ben", at), approve("eve", at));
    assert_eq!(
        [one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(),
        1
    );
    let refused = if one.is_ok() { two } else { one };
    assert!(matches!(refused, Err(Error::Unfit { .. })));

    // A principal that is disabled has none.
    let far = after(at, Duration::from_secs(1));
    let maya = name("maya");
    assert!(
        store
            .standing(tenant, &maya, at)
            .await
            .unwrap()
            .grant
            .is_some()
    );
    store
        .disable_principal(tenant, None, &maya, Change::default())
        .await
        .unwrap();
    assert_eq!(
        store.standing(tenant, &maya, far).await.unwrap().grant,
        None
    );
    let ana = name("ana");
    let ended = store.end_break_glass(tenant, id, &ana, far, Change::default());
    ended.await.unwrap();
    person(&fixture, tenant, "maya").await;
    assert_eq!(
        store.standing(tenant, &maya, far).await.unwrap().grant,
        None
    );
    let stored = store.break_glass(tenant, id).await.unwrap().unwrap();
    assert_eq!(stored.ended_by, Some(name("ana")));
    assert!(!stored.is_active(far));
}

async fn ten_grants_are_open_and_one_a_person(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let at = store.time().await.unwrap();
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(
            ask(&fixture, tenant, &format!("p{number}"), at)
                .await
                .unwrap(),
        );
    }
    let twice = ask(&fixture, tenant, "p3", at).await;
    assert!(matches!(twice, Err(Error::Unfit { problem }) if problem.contains("`p3`")));
    let eleventh = ask(&fixture, tenant, "p10", at).await;
    assert!(matches!(eleventh, Err(Error::Unfit { problem }) if problem.contains("10")));
    let ana = name("ana");
    let ended = store.end_break_glass(tenant, ids[0], &ana, at, Change::default());
    ended.await.unwrap();
    let room = ask(&fixture, tenant, "p10", at).await.unwrap();
    // Pages, newest first.
    let first = store.break_glasses(tenant, None, 2).await.unwrap();
    assert_eq!([first[0].id, first[1].id], [room, ids[9]]);
    let next = store.break_glasses(tenant, Some(ids[9]), 2).await.unwrap();
    assert_eq!(next[0].id, ids[8]);
    // Those that nobody approved in time are in nobody's way.
    let late = after(at, Duration::from_hours(1));
    ask(&fixture, tenant, "p3", late).await.unwrap();
}
