//! Exceptions in the store: one of two who confirm, nobody their own, and never more than there is room for.

use std::time::Duration;

use remit_core::{ContentHash, ExceptionId, ExceptionScope, PolicyId, TenantId, Timestamp};
use remit_store::{Error, ExceptionBy, MAX_EXCEPTIONS, ProposedException};

use super::Fixture;
use super::registry::{name, none};

for_each_database! {
    an_exception_is_in_force_between_two_revisions;
    what_is_over_by_the_databases_time_stays_over;
    of_two_who_confirm_or_end_one_comes_second;
    there_is_room_for_so_many;
    nobody_confirms_by_another_account_or_over_another_change;
    an_ended_lease_stays_so_while_it_could_be_renewed;
}

pub(super) fn by(fixture: &Fixture, who: &str) -> ExceptionBy {
    ExceptionBy {
        name: name(who),
        key: remit_core::KeyId::from_uuid(fixture.clock.id()),
        at: fixture.clock.now(),
    }
}

/// Proposes as Ana, for an hour.
pub(super) async fn propose(
    fixture: &Fixture,
    tenant: TenantId,
) -> Result<(ExceptionId, ContentHash), Error> {
    let at = fixture.clock.now();
    let hour = Duration::from_hours(1);
    let proposed = ProposedException {
        compensating: "maya looks".to_owned(),
        id: ExceptionId::from_uuid(fixture.clock.id()),
        owner: name("maya"),
        policy: PolicyId::new("limit"),
        reason: "quarter end".to_owned(),
        scope: ExceptionScope {
            action: Some("pay".into()),
            ..ExceptionScope::default()
        },
        until: at.plus(hour),
    };
    let ana = by(fixture, "ana");
    let made = fixture
        .store
        .propose_exception(tenant, &proposed, (&ana, at.plus(hour)), none());
    made.await?;
    Ok((proposed.id, proposed.hash()?))
}

async fn an_exception_is_in_force_between_two_revisions(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    let head = async || {
        let heads = store.heads().await.unwrap();
        let head = heads.iter().find(|head| head.tenant == tenant);
        head.unwrap().revision
    };
    let before = head().await;
    let (id, hash) = propose(&fixture, tenant).await.unwrap();
    assert_eq!(head().await, before, "what is proposed decides nothing");
    let ben = by(&fixture, "ben");
    let confirmed = store.confirm_exception(tenant, None, (id, hash), &ben, none());
    let from = confirmed.await.unwrap();
    assert_eq!(head().await, from);
    let found = store.exception(tenant, id).await.unwrap().unwrap();
    assert_eq!(found.hash, hash);
    assert_eq!(found.confirmed, Some((name("ben"), ben.at, from)));
    assert_eq!(store.exception(other, id).await.unwrap(), None);
    assert_eq!(store.exceptions(other, None, None, 10).await.unwrap(), []);
    let limit = PolicyId::new("limit");
    let listed = store.exceptions(tenant, Some(&limit), None, 10);
    assert_eq!(listed.await.unwrap(), std::slice::from_ref(&found));
    let another = PolicyId::new("another");
    assert_eq!(
        store
            .exceptions(tenant, Some(&another), None, 10)
            .await
            .unwrap(),
        []
    );
    let ended = store.end_exception(tenant, &found, &ben, none());
    let until = ended.await.unwrap().unwrap();
    let in_force = async |at| {
        let live = store.live_now(tenant, at).await.unwrap();
        live.exceptions.iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(in_force(before).await, []);
    assert_eq!(
        in_force(from).await,
        [id],
        "a replica that lags decides by its own revision"
    );
    assert_eq!(in_force(until).await, []);
    let theirs = store.live_now(other, until).await.unwrap();
    assert_eq!(theirs.exceptions, []);
}

/// What is confirmed and over is noted once, and nothing else is; it is not in force by an earlier time either.
async fn what_is_over_by_the_databases_time_stays_over(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    let ben = by(&fixture, "ben");
    let mut ids = Vec::new();
    for tenant in [tenant, other, tenant] {
        let (id, hash) = propose(&fixture, tenant).await.unwrap();
        ids.push(id);
        if ids.len() < 3 {
            let confirmed = store.confirm_exception(tenant, None, (id, hash), &ben, none());
            confirmed.await.unwrap();
        }
    }
    assert_eq!(store.note_exceptions_over(tenant).await.unwrap(), 0);
    if !fixture.damage("UPDATE exceptions SET ends_at = 1").await {
        return;
    }
    assert_eq!(store.note_exceptions_over(tenant).await.unwrap(), 1);
    assert_eq!(store.note_exceptions_over(tenant).await.unwrap(), 0);
    // As by a clock that was set back.
    let later = "UPDATE exceptions SET ends_at = 9000000000000000";
    fixture.damage(later).await;
    for (tenant, id, over) in [
        (tenant, ids[0], true),
        (other, ids[1], false),
        (tenant, ids[2], false),
    ] {
        let found = store.exception(tenant, id).await.unwrap().unwrap();
        assert_eq!(found.over, over, "{id}");
        let head = store.tenant(tenant).await.unwrap().unwrap().revision;
        let live = store.live_now(tenant, head).await.unwrap();
        let in_force = live.exceptions.iter().any(|one| one.id == id);
        assert_eq!(in_force, !over && id != ids[2], "{id}");
    }
}

async fn of_two_who_confirm_or_end_one_comes_second(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let (id, hash) = propose(&fixture, tenant).await.unwrap();
    let unfit = |result: &Result<_, Error>| matches!(result, Err(Error::Unfit { .. }));
    let ana = by(&fixture, "ana");
    let own = store
        .confirm_exception(tenant, None, (id, hash), &ana, none())
        .await;
    assert!(unfit(&own), "{own:?}");
    let ben = by(&fixture, "ben");
    let unseen = ContentHash::of(b"another");
    let unseen = store
        .confirm_exception(tenant, None, (id, unseen), &ben, none())
        .await;
    assert!(unfit(&unseen), "{unseen:?}");
    let late = ExceptionBy {
        at: ben.at.plus(Duration::from_hours(1)),
        ..ben.clone()
    };
    let lapsed = store
        .confirm_exception(tenant, None, (id, hash), &late, none())
        .await;
    assert!(unfit(&lapsed), "{lapsed:?}");
    let waiting = store.exception(tenant, id).await.unwrap().unwrap();
    assert!(waiting.waits(ben.at) && !waiting.waits(late.at));
    let eve = by(&fixture, "eve");
    let (one, other) = tokio::join!(
        store.confirm_exception(tenant, None, (id, hash), &ben, none()),
        store.confirm_exception(tenant, None, (id, hash), &eve, none()),
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    // Who takes back what was confirmed meanwhile reads it again.
    let stale = store.end_exception(tenant, &waiting, &ana, none()).await;
    assert!(matches!(stale, Err(Error::Unfit { .. })), "{stale:?}");
    let found = store.exception(tenant, id).await.unwrap().unwrap();
    store
        .end_exception(tenant, &found, &ana, none())
        .await
        .unwrap();
    let twice = store.end_exception(tenant, &found, &ana, none()).await;
    assert!(matches!(twice, Err(Error::Unfit { .. })), "{twice:?}");
    let again = store
        .confirm_exception(tenant, None, (id, hash), &ben, none())
        .await;
    assert!(unfit(&again), "{again:?}");
}

async fn there_is_room_for_so_many(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let mut last = None;
    for _ in 0..MAX_EXCEPTIONS {
        last = Some(propose(&fixture, tenant).await.unwrap().0);
    }
    let full = propose(&fixture, tenant).await;
    assert!(matches!(full, Err(Error::Unfit { .. })), "{full:?}");
    let found = store
        .exception(tenant, last.unwrap())
        .await
        .unwrap()
        .unwrap();
    let ana = by(&fixture, "ana");
    let taken_back = store.end_exception(tenant, &found, &ana, none()).await;
    assert_eq!(taken_back.unwrap(), None, "it never was in force");
    propose(&fixture, tenant).await.unwrap();
    let page = store
        .exceptions(tenant, None, Some(found.proposed.id), 3)
        .await
        .unwrap();
    assert_eq!(page.len(), 3);
    assert!(page.iter().all(|one| one.proposed.id < found.proposed.id));
    let before: Timestamp = page[0].by.at;
    assert!(before <= fixture.clock.now());
}

async fn an_ended_lease_stays_so_while_it_could_be_renewed(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    let lease = || remit_core::DecisionId::from_uuid(fixture.clock.id());
    let (one, later) = (lease(), lease());
    let (at, day) = (fixture.clock.now(), Duration::from_hours(24));
    assert!(!store.lease_ended(tenant, one).await.unwrap());
    for _ in 0..2 {
        store.end_lease(tenant, one, (at, day)).await.unwrap();
    }
    assert!(store.lease_ended(tenant, one).await.unwrap());
    assert!(!store.lease_ended(other, one).await.unwrap());
    let twice = at.plus(Duration::from_hours(48));
    store.end_lease(tenant, later, (twice, day)).await.unwrap();
    assert!(store.lease_ended(tenant, one).await.unwrap());
    let longer = twice.plus(Duration::from_micros(1));
    store.end_lease(tenant, later, (longer, day)).await.unwrap();
    assert!(
        !store.lease_ended(tenant, one).await.unwrap(),
        "nobody could renew it"
    );
    assert!(store.lease_ended(tenant, later).await.unwrap());
}

async fn nobody_confirms_by_another_account_or_over_another_change(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let (id, hash) = propose(&fixture, tenant).await.unwrap();
    let put = async |who: &str, behind: remit_store::Behind<'_>| {
        let principal = remit_core::Principal {
            kind: remit_core::PrincipalKind::Person,
            name: name(who),
            roles: std::collections::BTreeSet::new(),
        };
        let put = store.put_principal_of(tenant, None, (&principal, behind), none());
        put.await.unwrap()
    };
    let ana = name("ana");
    let before = put("ana", remit_store::Behind::Itself).await;
    let now = put("ana-2", remit_store::Behind::Person(&ana)).await;
    let second = by(&fixture, "ana-2");
    let own = store
        .confirm_exception(tenant, None, (id, hash), &second, none())
        .await;
    assert!(matches!(own, Err(Error::Unfit { .. })), "{own:?}");
    let ben = by(&fixture, "ben");
    let moved = store
        .confirm_exception(tenant, Some(before), (id, hash), &ben, none())
        .await;
    assert!(
        matches!(moved, Err(Error::Moved { head }) if head == now),
        "{moved:?}"
    );
    store
        .confirm_exception(tenant, Some(now), (id, hash), &ben, none())
        .await
        .unwrap();
}
