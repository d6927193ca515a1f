//! The decision log and the store together: every record is shipped exactly once, whatever fails in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remit_core::{
    Action, Caller, Clock, ContentHash, Decision, DecisionId, DecisionRecord, Facts, KeyId,
    PolicyId, Question, Reason, Resource, Revision, Subject, TenantId, Verdict,
};
use remit_log::{DecisionLog, Error, Options, entries, fsck};
use remit_store::{DecisionFilter, Store};
use remit_tests::postgres::Postgres;
use remit_tests::sql::execute;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No working log needs as long as this.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes a module of each test, with one test a database in it.
macro_rules! on_both_databases {
    ($($(#[doc = $doc:literal])* $test:ident;)*) => {$(
        mod $test {
            use crate::log::Fixture;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$test(Fixture::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(fixture) = Fixture::postgres().await {
                    super::$test(fixture).await;
                }
            }
        }
    )*};
}

on_both_databases! {
    /// Many callers, many segments, one of each in the store, and nothing left in the folder.
    every_record_arrives_once;
    /// The store fails in the middle of a transaction, again and again.
    outages_of_the_store_lose_and_repeat_nothing;
    /// The store has committed, and the process died before it knew.
    what_was_shipped_already_is_not_shipped_again;
    /// A process died with records unshipped; the next one ships them, under the name of the first.
    the_next_start_ships_what_the_last_one_left;
    /// A spool with too much in it takes records again once they are shipped.
    a_full_spool_takes_records_again_when_it_is_shipped;
    /// Closing ships what is there.
    closing_ships_the_rest;
    /// A record that changed on the disk after the start is not shipped, and nothing after it is.
    a_damaged_record_stops_shipping_and_is_named;
}

/// A database, and a folder for the log.
struct Fixture {
    store: Store,
    url: String,
    clock: Clock,
    tenant: TenantId,
    folder: TempDir,
}

/// A shipper in the background.
struct Shipping {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

// === impl Fixture ===

impl Fixture {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("remit.db").display());
        Self::open(url, folder).await
    }

    async fn postgres() -> Option<Self> {
        let url = Postgres::database().await?;
        Some(Self::open(url, tempfile::tempdir().unwrap()).await)
    }

    async fn open(url: String, folder: TempDir) -> Self {
        let clock = Clock::system();
        let store = open_store(&url, &clock).await;
        store.migrate().await.unwrap();
        let tenant = store.ensure_tenant("acme").await.unwrap();
        Self {
            store,
            url,
            clock,
            tenant,
            folder,
        }
    }

    /// Returns the options of a log with small segments.
    fn options(&self) -> Options {
        Options {
            segment_bytes: 16 << 10,
            deadline: PATIENCE,
            grace: PATIENCE,
            ..Options::new(self.dir())
        }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> DecisionLog {
        DecisionLog::open(self.options(), self.clock.clone()).unwrap()
    }

    fn ship(&self, log: &DecisionLog) -> Shipping {
        ship(log, self.store.clone())
    }

    fn records(&self, count: usize) -> Vec<DecisionRecord> {
        (0..count)
            .map(|_| record(&self.clock, self.tenant))
            .collect()
    }

    /// Checks that the store holds these records, member for member, and no others.
    async fn assert_stored(&self, expected: &[DecisionRecord]) {
        let wanted: BTreeMap<_, _> = expected
            .iter()
            .map(|record| (record.id, record.clone()))
            .collect();
        assert_eq!(wanted.len(), expected.len(), "ids are unique");
        let found = self.stored().await;
        assert_eq!(found.len(), wanted.len());
        assert!(found == wanted);
    }

    /// Reads every decision in the store; one listed twice is a failure.
    async fn stored(&self) -> BTreeMap<DecisionId, DecisionRecord> {
        let mut found = BTreeMap::new();
        let mut after = None;
        let everything = DecisionFilter::default();
        loop {
            let page = self
                .store
                .decisions(self.tenant, &everything, after, 1_000)
                .await
                .unwrap();
            for decision in &page {
                let before = found.insert(decision.record.id, decision.record.clone());
                assert_eq!(before, None);
            }
            after = page.last().map(|decision| decision.record.id);
            if page.len() < 1_000 {
                return found;
            }
        }
    }
}

// === impl Shipping ===

impl Shipping {
    async fn end(self) {
        let _ = self.end.send(());
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

fn ship(log: &DecisionLog, store: Store) -> Shipping {
    let (end, ended) = oneshot::channel();
    let log = log.clone();
    let task = tokio::spawn(async move {
        let ended = async { drop(ended.await) };
        log.ship(store, ended).await;
    });
    Shipping { end, task }
}

async fn open_store(url: &str, clock: &Clock) -> Store {
    let options = remit_tests::sql::patient(url);
    Store::open(&options, clock.clone()).await.unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let poll = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap();
}

fn record(clock: &Clock, tenant: TenantId) -> DecisionRecord {
    let key = KeyId::from_uuid(clock.id());
    let context = serde_json::json!({ "note": "a\u{0} \" \\ \u{2028} é 😀", "amount": 12.5 });
    DecisionRecord {
        id: DecisionId::from_uuid(clock.id()),
        tenant,
        at: clock.now(),
        caller: Caller {
            key,
            request_id: Some("request-1".to_owned()),
            trace_id: None,
        },
        question: Question {
            subject: Subject {
                kind: "Agent".to_owned(),
                id: "invoice-bot".to_owned(),
                properties: serde_json::Map::default(),
            },
            action: Action {
                name: "call".to_owned(),
                properties: serde_json::Map::default(),
            },
            resource: Resource {
                kind: "Tool".to_owned(),
                id: "pay_supplier".to_owned(),
                properties: serde_json::Map::default(),
            },
            context: context.as_object().unwrap().clone(),
        },
        facts: Facts::plain(key, "test", clock.now()),
        decision: Decision {
            verdict: Verdict::Deny,
            limit: None,
            approval: None,
            duties: Vec::new(),
            exceptions: Vec::new(),
            lease: None,
            modify: None,
            ttl: None,
            reason: Reason::PolicyForbid,
            determining: vec![PolicyId::new("no-money-out")],
            errors: Vec::new(),
            obligations: Vec::new(),
            shadow: Vec::new(),
            notes: Vec::new(),
            revision: Revision::new(3),
            bundle: ContentHash::of(b"bundle"),
        },
        duration_us: 7,
    }
}

/// Copies the segments, as another process would find them after this one was killed.
fn copy_segments(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn segments(dir: &Path) -> u64 {
    fsck(dir).unwrap().segments
}

async fn every_record_arrives_once(fixture: Fixture) {
    let log = fixture.log();
    let shipping = fixture.ship(&log);
    let mut expected = Vec::new();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        for batch in [1, 7, 1, 120, 1, 1, 40] {
            let (log, records) = (log.clone(), fixture.records(batch));
            expected.extend(records.clone());
            callers.spawn(async move {
                let receipts = log.append(&records).await.unwrap();
                let ids: Vec<_> = receipts.iter().map(remit_log::Receipt::id).collect();
                let given: Vec<_> = records.iter().map(|record| record.id).collect();
                assert_eq!(ids, given);
                assert!(
                    receipts
                        .windows(2)
                        .all(|two| two[0].sequence() + 1 == two[1].sequence())
                );
            });
        }
    }
    callers.join_all().await;
    assert!(log.caught_up(PATIENCE).await);
    fixture.assert_stored(&expected).await;
    let status = log.status();
    assert_eq!((status.unshipped_records, status.unshipped_bytes), (0, 0));
    assert_eq!(status.shipped_total, expected.len() as u64);
    assert_eq!((status.oldest_unshipped, status.ship_error), (None, None));
    until(|| segments(&fixture.dir()) == 1).await;
    log.close().await;
    shipping.end().await;
    assert_eq!(segments(&fixture.dir()), 0);
}

async fn outages_of_the_store_lose_and_repeat_nothing(fixture: Fixture) {
    let log = fixture.log();
    let shipping = fixture.ship(&log);
    let mut expected = Vec::new();
    for round in 0..4 {
        let before = fixture.records(30);
        expected.extend(before.clone());
        log.append(&before).await.unwrap();
        // Every transaction now fails at its last statement, after the records were inserted.
        execute(
            &fixture.url,
            "ALTER TABLE spool_positions RENAME TO elsewhere",
        )
        .await;
        let during = fixture.records(if round % 2 == 0 { 3 } else { 700 });
        expected.extend(during.clone());
        for batch in during.chunks(50) {
            log.append(batch).await.unwrap();
        }
        until(|| log.status().ship_error.is_some()).await;
        assert!(log.status().unshipped_records > 0);
        assert!(!log.caught_up(Duration::from_millis(20)).await);
        execute(
            &fixture.url,
            "ALTER TABLE elsewhere RENAME TO spool_positions",
        )
        .await;
        assert!(log.caught_up(PATIENCE).await);
        assert_eq!(log.status().ship_error, None);
        fixture.assert_stored(&expected).await;
    }
    assert!(log.status().ship_errors_total >= 4);
    log.close().await;
    shipping.end().await;
}

async fn what_was_shipped_already_is_not_shipped_again(fixture: Fixture) {
    let log = fixture.log();
    let mut expected = fixture.records(90);
    for batch in expected.chunks(9) {
        log.append(batch).await.unwrap();
    }
    let half = fixture.folder.path().join("half");
    copy_segments(&fixture.dir(), &half);
    let more = fixture.records(25);
    expected.extend(more.clone());
    for batch in more.chunks(5) {
        log.append(batch).await.unwrap();
    }
    let whole = fixture.folder.path().join("whole");
    copy_segments(&fixture.dir(), &whole);
    // The store gets the first ninety, and this process never hears of it.
    for (dir, count) in [(half, 90), (whole, 115)] {
        let options = Options {
            dir: dir.clone(),
            ..fixture.options()
        };
        let log = DecisionLog::open(options, fixture.clock.clone()).unwrap();
        assert_eq!(log.status().unshipped_records, count);
        let shipping = fixture.ship(&log);
        assert!(log.caught_up(PATIENCE).await);
        let status = log.status();
        assert_eq!(status.shipped_total, if count == 90 { 90 } else { 25 });
        assert_eq!((status.unshipped_records, status.ship_errors_total), (0, 0));
        log.close().await;
        shipping.end().await;
        assert_eq!(segments(&dir), 0);
    }
    fixture.assert_stored(&expected).await;
    log.close().await;
}

async fn the_next_start_ships_what_the_last_one_left(fixture: Fixture) {
    let mut expected = Vec::new();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let log = fixture.log();
        replicas.push(log.replica());
        let records = fixture.records(60);
        expected.extend(records.clone());
        for batch in records.chunks(20) {
            log.append(batch).await.unwrap();
        }
        // Nobody ships, so this leaves everything where it is.
        log.close().await;
    }
    assert_eq!(entries(&fixture.dir()).unwrap().count(), 180);
    let log = fixture.log();
    assert_eq!(log.status().unshipped_records, 180);
    let own = fixture.records(1);
    expected.extend(own.clone());
    log.append(&own).await.unwrap();
    let shipping = fixture.ship(&log);
    assert!(log.caught_up(PATIENCE).await);
    fixture.assert_stored(&expected).await;
    for replica in replicas {
        let position = fixture.store.shipped(replica).await.unwrap().unwrap();
        assert_eq!(position.sequence, 60);
    }
    until(|| segments(&fixture.dir()) == 1).await;
    shipping.end().await;
    log.close().await;
}

async fn a_full_spool_takes_records_again_when_it_is_shipped(fixture: Fixture) {
    let options = Options {
        max_unshipped_bytes: 40 << 10,
        ..fixture.options()
    };
    let log = DecisionLog::open(options, fixture.clock.clone()).unwrap();
    let mut expected = Vec::new();
    loop {
        let records = fixture.records(5);
        match log.append(&records).await {
            Ok(_) => expected.extend(records),
            Err(Error::Full { .. }) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(expected.len() > 10);
    let shipping = fixture.ship(&log);
    assert!(log.caught_up(PATIENCE).await);
    let records = fixture.records(5);
    expected.extend(records.clone());
    log.append(&records).await.unwrap();
    log.close().await;
    shipping.end().await;
    fixture.assert_stored(&expected).await;
}

async fn closing_ships_the_rest(fixture: Fixture) {
    let log = fixture.log();
    let shipping = fixture.ship(&log);
    until(|| log.status().segments == 1).await;
    let expected = fixture.records(400);
    for batch in expected.chunks(100) {
        log.append(batch).await.unwrap();
    }
    log.close().await;
    fixture.assert_stored(&expected).await;
    assert_eq!(segments(&fixture.dir()), 0);
    // The shipper has ended by itself, and the folder is free.
    tokio::time::timeout(PATIENCE, shipping.task)
        .await
        .unwrap()
        .unwrap();
    fixture.log().close().await;
}

async fn a_damaged_record_stops_shipping_and_is_named(fixture: Fixture) {
    let log = fixture.log();
    let expected = fixture.records(12);
    for record in &expected {
        log.append(std::slice::from_ref(record)).await.unwrap();
    }
    let damaged = entries(&fixture.dir()).unwrap().nth(7).unwrap().unwrap();
    let name = format!("{}-{:06}.seg", damaged.replica, damaged.segment);
    let file = fixture.dir().join(name);
    let whole = fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    let at = usize::try_from(damaged.offset).unwrap() + 100;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let shipping = fixture.ship(&log);
    let seen = || log.status().ship_error.unwrap_or_default();
    let named = format!("damaged at byte {}", damaged.offset);
    until(|| seen().contains(&named)).await;
    assert!(seen().contains(file.to_str().unwrap()), "{}", seen());
    assert_eq!(fixture.stored().await.len(), 7, "those before it arrive");
    // Restored from a copy, everything arrives.
    fs::write(&file, whole).unwrap();
    assert!(log.caught_up(PATIENCE).await);
    fixture.assert_stored(&expected).await;
    log.close().await;
    shipping.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_freeze_stop_and_come_back() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let url = server.fresh_database();
    let mut fixture = Fixture::open(url.clone(), folder).await;
    let quick = remit_store::Options {
        deadline: Duration::from_secs(1),
        ..remit_store::Options::new(&url)
    };
    let quick = Store::open(&quick, fixture.clock.clone()).await.unwrap();
    let log = fixture.log();
    let shipping = ship(&log, quick);
    let mut expected = Vec::new();
    for round in 0..3 {
        match round {
            0 => server.pause(),
            _ => server.stop(),
        }
        let records = fixture.records(40);
        expected.extend(records.clone());
        log.append(&records).await.unwrap();
        until(|| log.status().ship_error.is_some()).await;
        match round {
            0 => server.resume(),
            _ => server.restart(),
        }
        assert!(log.caught_up(PATIENCE).await, "{:?}", log.status());
    }
    fixture.store = open_store(&url, &fixture.clock).await;
    fixture.assert_stored(&expected).await;
    log.close().await;
    shipping.end().await;
}
