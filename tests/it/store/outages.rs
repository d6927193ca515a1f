//! A database that is away, frozen or slow: every call ends in time and says so, and works again afterwards.

use std::time::{Duration, Instant};

use remit_core::{Clock, Revision};
use remit_store::{Error, Expected, Options, Store};
use remit_tests::postgres::Postgres;

use super::{Fixture, bundle, decisions, entity, new_key, patient, pepper};

const DEADLINE: Duration = Duration::from_millis(600);

fn quick(url: &str) -> Options {
    Options {
        deadline: DEADLINE,
        max_connections: 3,
        ..Options::new(url)
    }
}

/// Waits until the database answers, and returns how long that took.
async fn answers(store: &Store) -> Duration {
    let start = Instant::now();
    while let Err(error) = store.ping().await {
        assert!(error.is_outage(), "{error:?}");
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it does not come back: {error:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

/// F3: nothing but a deadline on this side ends a call to a server that is frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_postgres_is_reported_within_the_deadline() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let url = server.fresh_database();
    let store = Store::open(&patient(&url), Clock::system()).await.unwrap();
    store.migrate().await.unwrap();
    let fixture = Fixture {
        store: store.clone(),
        ..Fixture::memory().await
    };
    let tenant = fixture.tenant("acme").await;
    fixture
        .store
        .put_bundle(tenant, Expected::Any, &bundle("1"), None)
        .await
        .unwrap();
    let shipped = decisions::record(&fixture, tenant, 1);
    let position = decisions::position(shipped.replica, 1);
    let filter = remit_store::DecisionFilter::default();

    let (second, new, pepper) = (bundle("2"), new_key(), pepper());
    let store = Store::open(&quick(&url), Clock::system()).await.unwrap();
    // It has a connection.
    answers(&store).await;

    server.pause();
    // More calls than connections: some wait for the pool, some for a connection, some for an answer.
    let mut rounds = Vec::new();
    for round in 0..2 {
        let start = Instant::now();
        let results = tokio::join!(
            store.ping(),
            store.heads(),
            store.bundle(tenant),
            store.put_bundle(tenant, Expected::Any, &second, None),
            store.create_key(tenant, &new, &pepper),
            store.ship(&position, std::slice::from_ref(&shipped)),
            store.decisions(tenant, &filter, None, 10),
            store.pending_migrations(),
        );
        let took = start.elapsed();
        let errors = [
            results.0.map(drop),
            results.1.map(drop),
            results.2.map(drop),
            results.3.map(drop),
            results.4.map(drop),
            results.5.map(drop),
            results.6.map(drop),
            results.7.map(drop),
        ];
        for result in errors {
            match result {
                Err(Error::Deadline { deadline, .. }) => assert_eq!(deadline, DEADLINE),
                other => panic!("round {round}: {other:?}"),
            }
        }
        rounds.push(took);
    }
    // `create_key` looks the id up first, which is a call of its own. This machine may stand still in one of them.
    let quickest = rounds.iter().min().unwrap();
    assert!(*quickest < DEADLINE * 4, "{rounds:?}");
    server.resume();
    println!("answers again {:?} after the thaw", answers(&store).await);
    // Patiently, as the server works off what nobody waits for any more.
    let store = &fixture.store;
    store.ship(&position, &[shipped]).await.unwrap();
    let revision = store
        .put_bundle(tenant, Expected::Any, &bundle("3"), None)
        .await
        .unwrap();
    assert!(revision >= Revision::new(2), "{revision}");
}

/// F1, F2: Remit starts without its database, is told the cause at once, and goes on when the database comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_is_reported_at_once() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let url = server.fresh_database();
    server.stop();
    let store = Store::open(&patient(&url), Clock::system()).await.unwrap();
    let start = Instant::now();
    match store.ping().await {
        Err(error @ Error::Unavailable { .. }) => {
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.to_lowercase().contains("refused"), "{cause}");
            assert!(error.is_outage());
        }
        other => panic!("{other:?}"),
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );

    server.restart();
    answers(&store).await;
    store.migrate().await.unwrap();
    let tenant = store.ensure_tenant("acme").await.unwrap();

    // It goes away under open connections, and comes back with what was committed.
    server.stop();
    let gone = store.heads().await.unwrap_err();
    assert!(gone.is_outage(), "{gone:?}");
    server.restart();
    answers(&store).await;
    assert_eq!(store.heads().await.unwrap()[0].tenant, tenant);
}

/// F4: a server that has become read-only, as an old primary after a failover, is an outage and its connection is left.
#[tokio::test]
async fn a_read_only_postgres_is_an_outage() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let tenant = fixture.tenant("acme").await;
    let url = format!(
        "{}?options=-c%20default_transaction_read_only=on",
        fixture.url
    );
    let store = Store::open(&patient(&url), Clock::system()).await.unwrap();
    let refused = store.upsert_entities(tenant, &[entity("A", "b", 1)]).await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        store.heads().await.is_ok(),
        "reading works, on a new connection"
    );
}

/// A caller that goes away in the middle of a change leaves no lock, no half of the change, and no broken connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_change_leaves_nothing_behind() {
    for fixture in [
        Some(Fixture::memory().await),
        Some(Fixture::sqlite().await),
        Fixture::postgres().await,
    ] {
        let Some(fixture) = fixture else { continue };
        let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
        let entities: Vec<_> = (0..3_000)
            .map(|number| entity("A", &number.to_string(), number))
            .collect();
        let mut finished = 0;
        for number in 0..40 {
            let change = store.upsert_entities(tenant, &entities);
            let patience = Duration::from_micros(number * 700);
            finished += u64::from(tokio::time::timeout(patience, change).await.is_ok());
        }
        let made = store
            .upsert_entities(tenant, &entities)
            .await
            .unwrap()
            .number();
        let head = store.heads().await.unwrap()[0].revision.number();
        assert_eq!(head, made);
        // A commit may have happened without its caller hearing of it, never more than were tried.
        assert!(
            (finished + 1..=41).contains(&made),
            "{finished} heard of, {made} made"
        );
        assert_eq!(
            store
                .entities(tenant, None, None, 10_000)
                .await
                .unwrap()
                .len(),
            3_000
        );
    }
}

/// What is kept in memory is there as long as the store, however long nobody asks, and is nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_memory_stays() {
    let (one, other) = (Fixture::memory().await, Fixture::memory().await);
    let tenant = one.tenant("acme").await;
    // Each abandoned call closes the one connection of the pool.
    let first = bundle("1");
    for _ in 0..20 {
        let change = one.store.put_bundle(tenant, Expected::Any, &first, None);
        let _ = tokio::time::timeout(Duration::from_micros(100), change).await;
    }
    assert_eq!(one.store.heads().await.unwrap()[0].tenant, tenant);
    assert_eq!(other.store.heads().await.unwrap(), []);
}

/// What was committed to a file is there when it is opened again.
#[tokio::test]
async fn a_database_in_a_file_is_found_again() {
    let fixture = Fixture::sqlite().await;
    let tenant = fixture.tenant("acme").await;
    fixture.store.close().await;
    assert!(
        fixture
            .store
            .ping()
            .await
            .is_err_and(|error| error.is_outage()),
        "closed is closed"
    );
    let again = Store::open(&patient(&fixture.url), Clock::system())
        .await
        .unwrap();
    assert_eq!(again.pending_migrations().await.unwrap(), [""; 0]);
    assert_eq!(again.heads().await.unwrap()[0].tenant, tenant);
}

/// Two processes on one SQLite file: writers wait for each other, and no revision is made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_file() {
    let fixture = Fixture::sqlite().await;
    let tenant = fixture.tenant("acme").await;
    let other = Store::open(&patient(&fixture.url), Clock::system())
        .await
        .unwrap();
    let writing: Vec<_> = [fixture.store.clone(), other]
        .into_iter()
        .map(|store| {
            tokio::spawn(async move {
                let mut made = Vec::new();
                for number in 0..20 {
                    made.push(
                        store
                            .upsert_entities(tenant, &[entity("A", "b", number)])
                            .await
                            .unwrap()
                            .number(),
                    );
                }
                made
            })
        })
        .collect();
    let mut all = Vec::new();
    for one in writing {
        all.extend(one.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=40).collect::<Vec<_>>());
}
