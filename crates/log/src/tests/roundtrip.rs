//! What was appended is what is found.

use std::fs;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use remit_core::{Clock, Timestamp, canonical_json};
use sha2::{Digest, Sha256};

use super::disk::QuickDisk;
use super::{Fixture, all, assert_kept, record, records};
use crate::{Error, fsck};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any batches of any sizes come back whole, in order, from one run or several, whatever the size of segments.
    #[test]
    fn what_is_appended_is_found(
        runs in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(0_usize..3_000, 1..5), 0..8), 1..4),
        per_segment in 1_u64..20,
    ) {
        block_on(async {
            let fixture = Fixture::new(per_segment);
            let mut expected = Vec::new();
            let mut receipts = Vec::new();
            for run in runs {
                let log = fixture.open(QuickDisk).unwrap();
                for batch in run {
                    let batch: Vec<_> =
                        batch.into_iter().map(|size| record(&fixture.clock, size)).collect();
                    expected.extend(batch.iter().map(|record| canonical_json(record).unwrap()));
                    receipts.extend(log.append(&batch).await.unwrap());
                }
                log.close().await;
            }
            let found = all(fixture.dir());
            assert_kept(&receipts, &found);
            let bodies: Vec<_> = found.into_iter().map(|entry| entry.body).collect();
            assert_eq!(bodies, expected);
            let report = fsck(fixture.dir()).unwrap();
            assert!(report.is_sound(), "{report:?}");
            assert_eq!(report.records, receipts.len() as u64);
            assert_eq!(report.torn_tail_bytes + report.superseded_bytes, 0);
        });
    }
}

#[tokio::test]
async fn many_callers_share_few_syncs() {
    let fixture = Fixture::new(1_000);
    let log = fixture.open(super::disk::GatedDisk::default()).unwrap();
    let mut appends = tokio::task::JoinSet::new();
    for record in records(&fixture.clock, 200) {
        let log = log.clone();
        appends.spawn(async move { log.append(&[record]).await.unwrap() });
    }
    let receipts: Vec<_> = appends.join_all().await.into_iter().flatten().collect();
    assert_kept(&receipts, &all(fixture.dir()));
    let status = log.status();
    assert_eq!(status.records_total, 200);
    assert_eq!(status.sequence, 200);
    assert_eq!(status.unshipped_records, 200);
    assert!(status.syncs_total <= 200);
}

#[tokio::test]
async fn a_second_log_on_the_folder_is_refused_until_the_first_is_closed() {
    let fixture = Fixture::new(10);
    let log = fixture.open(QuickDisk).unwrap();
    let refused = fixture.open(QuickDisk).unwrap_err();
    assert!(matches!(&refused, Error::Locked { dir } if dir == fixture.dir()));
    assert!(refused.to_string().contains("in use by another process"));
    log.close().await;
    assert!(matches!(
        log.append(&records(&fixture.clock, 1)).await,
        Err(Error::Closed)
    ));
    fixture.open(QuickDisk).unwrap().close().await;
}

/// Between `fork` and `exec` a process that is being started has whatever file its parent has open.
#[tokio::test]
async fn a_process_that_is_being_started_does_not_keep_the_folder() {
    let fixture = Fixture::new(10);
    let log = fixture.open(QuickDisk).unwrap();
    let inherited = log
        .spool()
        .lock
        .lock()
        .unwrap()
        .as_ref()
        .map(|lock| lock.0.try_clone());
    log.close().await;
    fixture.open(QuickDisk).unwrap().close().await;
    drop(inherited.unwrap().unwrap());
}

#[tokio::test]
async fn every_run_has_a_replica_of_its_own_and_leaves_no_empty_file() {
    let fixture = Fixture::new(10);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let log = fixture.open(QuickDisk).unwrap();
        replicas.push(log.replica());
        log.close().await;
    }
    replicas.dedup();
    assert_eq!(replicas.len(), 3);
    assert!(super::files(fixture.dir()).is_empty());
}

#[tokio::test]
async fn only_the_owner_can_read_the_records() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new(10);
    let log = fixture.open(QuickDisk).unwrap();
    log.append(&records(&fixture.clock, 1)).await.unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(fixture.dir()), 0o700);
    assert_eq!(mode(super::files(fixture.dir())[0].as_path()), 0o600);
}

#[tokio::test]
async fn the_age_of_the_oldest_record_counts_from_when_it_was_made() {
    let mut fixture = Fixture::new(10);
    fixture.clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let second = std::time::Duration::from_secs(1);
    let log = fixture.open(QuickDisk).unwrap();
    assert_eq!(log.status().oldest_unshipped, None);
    log.append(&records(&fixture.clock, 1)).await.unwrap();
    fixture.clock.advance(30 * second);
    log.append(&records(&fixture.clock, 1)).await.unwrap();
    assert_eq!(log.status().oldest_unshipped, Some(30 * second));
    log.close().await;
    let log = fixture.open(QuickDisk).unwrap();
    fixture.clock.advance(10 * second);
    let status = log.status();
    assert_eq!(status.oldest_unshipped, Some(40 * second));
    assert_eq!((status.unshipped_records, status.records_total), (2, 0));
    let oldest = log.spool().oldest().unwrap();
    log.spool().pass(oldest.last, oldest.end);
    assert_eq!(log.status().oldest_unshipped, None);
    fixture.clock.advance(100 * second);
    log.append(&records(&fixture.clock, 1)).await.unwrap();
    assert_eq!(
        log.status().oldest_unshipped,
        Some(std::time::Duration::ZERO)
    );
}

/// Reads a segment by the tables in `frame` and nothing else.
#[tokio::test]
async fn the_bytes_are_as_documented() {
    let fixture = Fixture::new(100);
    let log = fixture.open(QuickDisk).unwrap();
    let batch = records(&fixture.clock, 2);
    let bodies: Vec<_> = batch
        .iter()
        .map(|record| canonical_json(record).unwrap())
        .collect();
    let ids: Vec<_> = batch.iter().map(|record| record.id.uuid()).collect();
    let receipts = log.append(&batch).await.unwrap();
    let bytes = fs::read(&super::files(fixture.dir())[0]).unwrap();
    let mut expected = Vec::new();
    expected.extend_from_slice(b"REMITLOG");
    expected.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    expected.extend_from_slice(log.replica().uuid().as_bytes());
    expected.extend_from_slice(&1_u64.to_le_bytes());
    expected.extend_from_slice(&[0; 32]);
    let crc = crc32c::crc32c(&expected);
    expected.extend_from_slice(&crc.to_le_bytes());
    let mut previous = [0; 32];
    for (sequence, more) in [(1_u64, 1_u32), (2, 0)] {
        let index = usize::try_from(sequence).unwrap() - 1;
        let (id, body) = (ids[index], &bodies[index]);
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let mut rest = Vec::new();
        rest.extend_from_slice(&sequence.to_le_bytes());
        rest.extend_from_slice(&76_u64.to_le_bytes());
        rest.extend_from_slice(&more.to_le_bytes());
        rest.extend_from_slice(id.as_bytes());
        rest.extend_from_slice(&previous);
        rest.extend_from_slice(body);
        let crc = crc32c::crc32c(&[length.as_slice(), &rest].concat());
        expected.extend_from_slice(&length);
        expected.extend_from_slice(&crc.to_le_bytes());
        expected.extend_from_slice(&rest);
        let body_hash = Sha256::digest(body);
        let number = sequence.to_le_bytes();
        let hashed = [number.as_slice(), id.as_bytes(), &previous, &body_hash];
        previous = Sha256::digest(hashed.concat()).into();
        assert_eq!(receipts[index].hash(), &previous);
    }
    assert_eq!(bytes, expected);
}
