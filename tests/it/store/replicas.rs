//! Replicas in the store: who is there, what each has in force, who is forgotten, and what is told of a change.

use std::time::Duration;

use remit_core::{Clock, Revision};
use remit_store::{Applied, Change, Error, Expected, Hints, Options, Replica, SeenReplica, Store};
use remit_tests::postgres::Postgres;
use tokio::time::timeout;

use super::{Fixture, bundle, entity, patient};

for_each_database! {
    a_replica_is_seen_with_what_it_has_in_force;
    a_replica_that_was_forgotten_is_told_so;
    a_replica_is_lost_when_its_lease_is_over;
    a_replica_that_stops_is_gone;
    what_a_failure_says_always_fits;
}

/// Longer than any hint takes, and short enough to wait for where none comes.
const SOON: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(400);

fn replica(fixture: &Fixture, name: &str) -> Replica {
    Replica {
        id: fixture.replica(),
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        lease: Duration::from_secs(5),
    }
}

fn applied(tenant: remit_core::TenantId, revision: u64, failure: Option<&str>) -> Applied {
    Applied {
        tenant,
        revision: Revision::new(revision),
        failure: failure.map(str::to_owned),
    }
}

async fn seen(store: &Store, tenant: remit_core::TenantId) -> Vec<SeenReplica> {
    store.fleet(tenant).await.unwrap().replicas
}

async fn a_replica_is_seen_with_what_it_has_in_force(fixture: Fixture) {
    let store = &fixture.store;
    let (ours, theirs) = (fixture.tenant("ours").await, fixture.tenant("theirs").await);
    assert_eq!(seen(store, ours).await, []);
    let (two, one) = (replica(&fixture, "two"), replica(&fixture, "one"));
    let before = store.time().await.unwrap();
    assert!(
        store.heartbeat(&two, &[]).await.unwrap(),
        "nothing was known"
    );
    let told = [applied(ours, 3, None), applied(theirs, 7, Some("bad row"))];
    assert!(store.heartbeat(&one, &told).await.unwrap());
    let fleet = store.fleet(ours).await.unwrap();
    assert_eq!(fleet.head, Revision::default());
    assert!(before <= fleet.now && fleet.now <= store.time().await.unwrap());
    let names: Vec<&str> = fleet
        .replicas
        .iter()
        .map(|seen| seen.replica.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two"], "by name");
    let first = &fleet.replicas[0];
    assert_eq!(first.replica, one);
    assert!(before <= first.started_at && first.seen_at <= fleet.now);
    assert_eq!(
        (first.revision, first.failure.as_deref()),
        (Revision::new(3), None)
    );
    assert_eq!(fleet.replicas[1].revision, Revision::default());
    // What is said of one tenant is not seen by another.
    let other = &seen(store, theirs).await[0];
    assert_eq!(other.failure.as_deref(), Some("bad row"));
    assert_eq!(other.revision, Revision::new(7));

    // Only what is new is told; the rest stays. A tenant that is not there is passed over.
    let nobody = remit_core::TenantId::from_uuid(fixture.clock.id());
    let news = [applied(theirs, 8, None), applied(nobody, 1, None)];
    assert!(!store.heartbeat(&one, &news).await.unwrap(), "it is known");
    let again = &seen(store, ours).await[0];
    assert_eq!(again.revision, Revision::new(3));
    assert_eq!(again.started_at, first.started_at);
    assert!(again.seen_at >= first.seen_at);
    let other = &seen(store, theirs).await[0];
    assert_eq!(
        (other.revision, other.failure.as_deref()),
        (Revision::new(8), None)
    );
    assert!(matches!(
        store.fleet(nobody).await,
        Err(Error::NotFound { what: "tenant" })
    ));
    store
        .put_bundle(ours, Expected::Any, &bundle("1"), None)
        .await
        .unwrap();
    assert_eq!(store.fleet(ours).await.unwrap().head, Revision::new(1));
}

async fn a_replica_that_was_forgotten_is_told_so(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("acme").await;
    let (old, new) = (replica(&fixture, "old"), replica(&fixture, "new"));
    for one in [&old, &new] {
        let told = [applied(tenant, 1, None)];
        assert!(store.heartbeat(one, &told).await.unwrap());
    }
    assert_eq!(store.forget_unseen_replicas().await.unwrap(), 0);
    let day = 24 * 3_600 * 1_000_000_i64;
    let aged = format!("UPDATE replicas SET seen_at = seen_at - {day} WHERE name = 'old'");
    if !fixture.damage(&aged).await {
        return;
    }
    assert_eq!(store.forget_unseen_replicas().await.unwrap(), 1);
    assert_eq!(seen(store, tenant).await.len(), 1);
    assert!(
        store.heartbeat(&old, &[]).await.unwrap(),
        "nothing is known of it any more"
    );
    let back = seen(store, tenant).await;
    assert_eq!(back[1].replica.name, "old");
    assert_eq!(
        back[1].revision,
        Revision::default(),
        "what it had was forgotten too"
    );
}

async fn a_replica_is_lost_when_its_lease_is_over(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("acme").await;
    store
        .heartbeat(&replica(&fixture, "one"), &[])
        .await
        .unwrap();
    let fleet = store.fleet(tenant).await.unwrap();
    let seen = &fleet.replicas[0];
    let after = |micros: i64| remit_core::Timestamp::from_micros(seen.seen_at.micros() + micros);
    assert!(!seen.is_lost(fleet.now));
    assert!(!seen.is_lost(after(5_000_000)));
    assert!(seen.is_lost(after(5_000_001)));
    // A clock that was set back loses nobody.
    assert!(!seen.is_lost(after(-1_000_000_000)));
}

async fn a_replica_that_stops_is_gone(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("acme").await;
    let (one, two) = (replica(&fixture, "one"), replica(&fixture, "two"));
    for each in [&one, &two] {
        let told = [applied(tenant, 1, None)];
        store.heartbeat(each, &told).await.unwrap();
    }
    store.forget_replica(one.id).await.unwrap();
    store.forget_replica(one.id).await.unwrap();
    let left = seen(store, tenant).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].replica, two);
}

async fn what_a_failure_says_always_fits(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = fixture.tenant("acme").await;
    let long = format!("a \0 and \" and é{}", "x".repeat(5_000));
    let odd = Replica {
        name: "a\0b".to_owned(),
        ..replica(&fixture, "")
    };
    let told = [applied(tenant, u64::MAX, Some(&long))];
    store.heartbeat(&odd, &told).await.unwrap();
    let seen = &seen(store, tenant).await[0];
    assert_eq!(seen.replica.name, "a\u{fffd}b");
    let failure = seen.failure.as_deref().unwrap();
    assert!(failure.starts_with("a \u{fffd} and \" and éx"), "{failure}");
    assert!(failure.len() <= 1_100, "{}", failure.len());
}

/// Waits for one hint.
async fn told(hints: &mut Hints) -> Result<(), Error> {
    timeout(SOON, hints.next())
        .await
        .expect("nothing was told in time")
}

/// Waits whether a hint comes, and expects none.
async fn quiet(hints: &mut Hints) {
    let heard = timeout(QUIET, hints.next()).await;
    assert!(heard.is_err(), "a hint of nothing: {heard:?}");
}

#[tokio::test]
async fn sqlite_tells_nothing() {
    let fixture = Fixture::sqlite().await;
    let mut hints = fixture.store.hints();
    let tenant = fixture.tenant("acme").await;
    fixture
        .store
        .put_bundle(tenant, Expected::Any, &bundle("1"), None)
        .await
        .unwrap();
    quiet(&mut hints).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_told_when_it_is_committed_and_no_other() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let store = &fixture.store;
    let tenant = fixture.tenant("acme").await;
    let mut hints = Store::open(&patient(&fixture.url), Clock::system())
        .await
        .unwrap()
        .hints();
    told(&mut hints).await.unwrap();
    quiet(&mut hints).await;
    let first = store
        .put_bundle(tenant, Expected::Any, &bundle("1"), None)
        .await
        .unwrap();
    told(&mut hints).await.unwrap();
    store
        .upsert_entities(tenant, &[entity("A", "b", 1)])
        .await
        .unwrap();
    told(&mut hints).await.unwrap();
    let (key, _) = store
        .create_key(tenant, &super::new_key(), &super::pepper())
        .await
        .unwrap();
    told(&mut hints).await.unwrap();
    store
        .revoke_key(tenant, key.id, None, Change::default())
        .await
        .unwrap();
    told(&mut hints).await.unwrap();

    // Neither what is refused, nor reading, nor a heartbeat is told.
    let refused = store
        .put_bundle(tenant, Expected::Absent, &bundle("2"), None)
        .await;
    assert!(matches!(refused, Err(Error::Conflict { current }) if current == Some(first)));
    store.bundle(tenant).await.unwrap();
    store
        .heartbeat(&replica(&fixture, "one"), &[applied(tenant, 1, None)])
        .await
        .unwrap();
    quiet(&mut hints).await;

    // Where hints are switched off, nothing is told and nothing heard.
    let off = Options {
        hints: false,
        ..patient(&fixture.url)
    };
    let silent = Store::open(&off, Clock::system()).await.unwrap();
    silent
        .upsert_entities(tenant, &[entity("A", "b", 2)])
        .await
        .unwrap();
    quiet(&mut hints).await;
    let mut deaf = silent.hints();
    store
        .upsert_entities(tenant, &[entity("A", "b", 3)])
        .await
        .unwrap();
    told(&mut hints).await.unwrap();
    quiet(&mut deaf).await;
}

/// F5: the connection of the hints is cut, and frozen; each time it is made again, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_made_again() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let url = server.fresh_database();
    let quick = Options {
        deadline: Duration::from_millis(600),
        ..Options::new(&url)
    };
    let patiently = Store::open(&patient(&url), Clock::system()).await.unwrap();
    patiently.migrate().await.unwrap();
    let tenant = patiently.ensure_tenant("acme").await.unwrap();
    let mut hints = Store::open(&quick, Clock::system()).await.unwrap().hints();
    while let Err(error) = told(&mut hints).await {
        assert!(error.is_outage(), "{error:?}");
    }

    server.stop();
    let lost = told(&mut hints).await.unwrap_err();
    assert!(lost.is_outage(), "{lost:?}");
    let refused = told(&mut hints).await.unwrap_err();
    assert!(refused.is_outage(), "{refused:?}");
    server.restart();
    while let Err(error) = told(&mut hints).await {
        assert!(error.is_outage(), "{error:?}");
    }

    // It says nothing, as it would where nothing changes; so it is asked.
    server.pause();
    let frozen = told(&mut hints).await.unwrap_err();
    assert!(matches!(frozen, Error::Deadline { .. }), "{frozen:?}");
    server.resume();
    while let Err(error) = told(&mut hints).await {
        assert!(error.is_outage(), "{error:?}");
    }
    patiently
        .upsert_entities(tenant, &[entity("A", "b", 1)])
        .await
        .unwrap();
    told(&mut hints).await.unwrap();
}
