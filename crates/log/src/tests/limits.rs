//! What is turned away, and that nothing taken is ever dropped.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::disk::{GatedDisk, QuickDisk};
use super::{Fixture, all, assert_kept, record, records};
use crate::{DecisionLog, Error, Options};

async fn until(what: impl Fn() -> bool) {
    let poll = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), poll)
        .await
        .unwrap();
}

/// Returns a log whose writer hangs in a sync, and an append that waits for it.
async fn hanging(
    fixture: &Fixture,
    disk: &GatedDisk,
) -> (
    DecisionLog,
    tokio::task::JoinHandle<Result<Vec<crate::Receipt>, Error>>,
) {
    let log = fixture.open(disk.clone()).unwrap();
    disk.shut();
    let (other, one) = (log.clone(), records(&fixture.clock, 1));
    let append = tokio::spawn(async move { other.append(&one).await });
    until(|| disk.is_waiting()).await;
    (log, append)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let mut fixture = Fixture::new(100);
    fixture.options.queue = 3;
    let disk = GatedDisk::default();
    let (log, first) = hanging(&fixture, &disk).await;
    let queued = tokio::spawn({
        let (log, three) = (log.clone(), records(&fixture.clock, 3));
        async move { log.append(&three).await }
    });
    until(|| log.status().queued_records == 3).await;
    let refused = log.append(&records(&fixture.clock, 1)).await;
    assert!(
        matches!(refused, Err(Error::Busy { queued: 3 })),
        "{refused:?}"
    );
    assert_eq!(log.status().refused_busy_total, 1);
    disk.open();
    let mut receipts = first.await.unwrap().unwrap();
    receipts.extend(queued.await.unwrap().unwrap());
    assert_kept(&receipts, &all(fixture.dir()));
    let never = log.append(&records(&fixture.clock, 4)).await;
    assert!(
        matches!(
            never,
            Err(Error::TooMany {
                records: 4,
                limit: 3
            })
        ),
        "{never:?}"
    );
}

#[tokio::test]
async fn too_many_queued_bytes_refuse_at_once() {
    let mut fixture = Fixture::new(100);
    fixture.options.queue_bytes = 2_000;
    let disk = GatedDisk::default();
    let (log, first) = hanging(&fixture, &disk).await;
    let two = records(&fixture.clock, 2);
    let mut queued = pin!(log.append(&two));
    let mut context = Context::from_waker(Waker::noop());
    assert!(queued.as_mut().poll(&mut context).is_pending());
    let refused = log.append(&records(&fixture.clock, 2)).await;
    assert!(
        matches!(refused, Err(Error::Busy { queued: 2 })),
        "{refused:?}"
    );
    disk.open();
    first.await.unwrap().unwrap();
    assert_eq!(queued.await.unwrap().len(), 2);
    let never = log.append(&[record(&fixture.clock, 3_000)]).await;
    assert!(
        matches!(never, Err(Error::TooLarge { limit: 2_000, .. })),
        "{never:?}"
    );
}

#[tokio::test]
async fn an_append_that_was_dropped_is_durable_all_the_same() {
    let fixture = Fixture::new(100);
    let disk = GatedDisk::default();
    let (log, first) = hanging(&fixture, &disk).await;
    let gone = records(&fixture.clock, 2);
    let ids: Vec<_> = gone.iter().map(|record| record.id).collect();
    {
        let mut append = pin!(log.append(&gone));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(append.as_mut().poll(&mut context), Poll::Pending));
    }
    disk.open();
    first.await.unwrap().unwrap();
    until(|| log.status().records_total == 3).await;
    let found: Vec<_> = all(fixture.dir())
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    assert_eq!(found[1..], ids);
}

#[tokio::test]
async fn a_disk_that_hangs_ends_in_an_error_and_not_in_silence() {
    let mut fixture = Fixture::new(100);
    fixture.options.deadline = Duration::from_millis(20);
    let disk = GatedDisk::default();
    let (log, first) = hanging(&fixture, &disk).await;
    assert!(matches!(first.await.unwrap(), Err(Error::Deadline(_))));
    disk.open();
    until(|| log.status().records_total == 1).await;
}

#[tokio::test]
async fn a_spool_with_too_much_to_ship_refuses_until_it_is_shipped() {
    let mut fixture = Fixture::new(2);
    fixture.options.max_unshipped_bytes = 3_000;
    let log = fixture.open(QuickDisk).unwrap();
    let mut receipts = Vec::new();
    let refused = loop {
        match log.append(&records(&fixture.clock, 1)).await {
            Ok(more) => receipts.extend(more),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, Error::Full { bytes } if bytes > 3_000),
        "{refused:?}"
    );
    assert!(receipts.len() >= 3);
    assert_eq!(log.status().refused_full_total, 1);
    assert_kept(&receipts, &all(fixture.dir()));
    // What a run left behind counts in the next one too.
    log.close().await;
    let log = fixture.open(QuickDisk).unwrap();
    let refused = log.append(&records(&fixture.clock, 1)).await;
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    let oldest = log.spool().oldest().unwrap();
    log.spool().pass(oldest.last, oldest.end);
    log.append(&records(&fixture.clock, 1)).await.unwrap();
}

#[tokio::test]
async fn a_record_of_more_than_a_mebibyte_is_refused_and_one_below_is_not() {
    let fixture = Fixture::new(100);
    let log = fixture.open(QuickDisk).unwrap();
    let large = log.append(&[record(&fixture.clock, 1 << 20)]).await;
    assert!(
        matches!(
            large,
            Err(Error::TooLarge {
                limit: 1_048_576,
                ..
            })
        ),
        "{large:?}"
    );
    let fits = log.append(&[record(&fixture.clock, 1_000_000)]).await;
    assert_kept(&fits.unwrap(), &all(fixture.dir()));
    assert_eq!(log.append(&[]).await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let fixture = Fixture::new(100);
    let file = fixture.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let options = Options::new(file.join("log"));
    let error = DecisionLog::open(options, fixture.clock.clone()).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Io {
                doing: "create",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("file/log"), "{error}");
}
