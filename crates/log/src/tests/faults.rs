//! Every call to the disk is made to fail in turn, once, for a while, and in three ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use remit_store::Store;

use super::disk::{ENOSPC, FaultyDisk, Mode, QuickDisk, StickyDisk};
use super::{Fixture, all, assert_kept, records};
use crate::{DecisionLog, Error, Receipt, fsck};

/// Appends until the log takes it, within a time that no working log needs.
async fn insist(log: &DecisionLog, fixture: &Fixture, count: usize) -> Vec<Receipt> {
    let take = async {
        loop {
            match log.append(&records(&fixture.clock, count)).await {
                Ok(receipts) => return receipts,
                Err(Error::Poisoned { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), take)
        .await
        .unwrap()
}

/// Runs one log over a disk that fails, and checks at every step that nothing confirmed is lost; says whether it failed.
async fn survive(disk: FaultyDisk) -> bool {
    let fixture = Fixture::new(2);
    let seen = format!("{:?} x{} at call {}", disk.mode, disk.count, disk.from);
    let log = match fixture.open(disk.clone()) {
        Ok(log) => log,
        Err(Error::Io { .. }) => {
            let log = fixture.open(QuickDisk).unwrap();
            let receipts = insist(&log, &fixture, 1).await;
            assert_kept(&receipts, &all(fixture.dir()));
            return true;
        }
        Err(other) => panic!("{seen}: {other:?}"),
    };
    let mut receipts = Vec::new();
    for (step, count) in [1, 2, 1, 1, 3, 1].into_iter().enumerate() {
        receipts.extend(insist(&log, &fixture, count).await);
        let killed = fixture.copy(&format!("killed-{step}"));
        let report = fsck(&killed.dir).unwrap();
        assert!(report.is_sound(), "{seen}: {report:?}");
        let next = DecisionLog::open_on(killed.clone(), fixture.clock.clone(), Arc::new(QuickDisk));
        next.unwrap().close().await;
        assert_kept(&receipts, &all(&killed.dir));
    }
    assert!(!log.status().poisoned);
    assert_eq!(log.status().records_total, receipts.len() as u64);
    log.close().await;
    assert_kept(&receipts, &all(fixture.dir()));
    assert_eq!(all(fixture.dir()).len(), receipts.len(), "{seen}");
    disk.failed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_failing_call_loses_a_confirmed_record() {
    let mut runs = 0;
    for mode in [Mode::Failed, Mode::FailedButDone, Mode::Half] {
        for count in [1, 2, 3, 5, 9] {
            let mut from = 0;
            while survive(FaultyDisk::new(mode, from, count)).await {
                from += 1;
                runs += 1;
            }
            assert!(from > 15, "the sweep reached only {from} calls");
        }
    }
    println!("{runs} runs, each with another failing call");
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_log_recovers_by_itself() {
    let fixture = Fixture::new(100);
    let half = usize::MAX / 2;
    let disk = FaultyDisk {
        error: ENOSPC,
        ..FaultyDisk::new(Mode::Half, half, half)
    };
    let calls = disk.calls.clone();
    let log = fixture.open(disk).unwrap();
    let mut receipts = log.append(&records(&fixture.clock, 1)).await.unwrap();
    calls.store(half, Ordering::SeqCst);
    let refused = log.append(&records(&fixture.clock, 2)).await.unwrap_err();
    assert!(matches!(&refused, Error::Poisoned { problem } if problem.contains("No space left")));
    let status = log.status();
    assert!(status.poisoned);
    assert_eq!(status.records_total, 1);
    assert_eq!(status.unshipped_records, 1);
    assert!(status.disk_error.unwrap().contains("No space left"));
    assert!(matches!(
        log.append(&records(&fixture.clock, 1)).await,
        Err(Error::Poisoned { .. })
    ));
    assert!(log.status().refused_poisoned_total >= 1);
    // Space returns.
    calls.store(0, Ordering::SeqCst);
    let heal = async {
        while log.status().poisoned {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heal)
        .await
        .unwrap();
    receipts.extend(log.append(&records(&fixture.clock, 1)).await.unwrap());
    assert_eq!(receipts[1].sequence(), 2);
    assert_kept(&receipts, &all(fixture.dir()));
    assert_eq!(all(fixture.dir()).len(), 2);
}

/// What is shipped and cannot be removed is no gap: the next start takes it for what it is.
#[tokio::test]
async fn a_segment_that_cannot_be_removed_is_no_gap() {
    for refusals in [1, 2, usize::MAX] {
        let fixture = Fixture::new(2);
        let url = format!(
            "sqlite:{}",
            fixture.folder.path().join("remit.db").display()
        );
        let options = remit_store::Options::new(url);
        let store = Store::open(&options, fixture.clock.clone()).await.unwrap();
        store.migrate().await.unwrap();
        let tenant = store.ensure_tenant("acme").await.unwrap();
        let disk = StickyDisk {
            refusals: Arc::new(AtomicUsize::new(refusals)),
        };
        let log = fixture.open(disk).unwrap();
        let shipping = {
            let log = log.clone();
            tokio::spawn(async move { log.ship(store, std::future::pending()).await })
        };
        for _ in 0..12 {
            let mut one = records(&fixture.clock, 1);
            one[0].tenant = tenant;
            log.append(&one).await.unwrap();
            assert!(log.caught_up(Duration::from_secs(20)).await);
        }
        let report = fsck(fixture.dir()).unwrap();
        assert!(report.is_sound(), "{refusals}: {report:?}");
        log.close().await;
        shipping.await.unwrap();
        let report = fsck(fixture.dir()).unwrap();
        assert!(report.is_sound(), "{refusals}: {report:?}");
        assert_eq!(
            report.records > 0,
            refusals == usize::MAX,
            "{refusals}: {report:?}"
        );
        fixture.open(QuickDisk).unwrap().close().await;
    }
}
