//! What time, power cuts and disks do to the files, and what is made of it at the next start.

use std::fs;
use std::path::PathBuf;

use remit_core::{DecisionId, ReplicaId};
use uuid::Uuid;

use super::disk::QuickDisk;
use super::{Fixture, all, assert_kept, files, records};
use crate::folder::Name;
use crate::frame::{Encoded, Frame, HEAD_BYTES, HEADER_BYTES, Header, NO_HASH, Place};
use crate::{Entry, Error, Receipt, fsck};

/// Makes a closed log: the records of `batches`, each batch a commit of its own.
async fn written(fixture: &Fixture, batches: &[usize]) -> Vec<Receipt> {
    let log = fixture.open(QuickDisk).unwrap();
    let mut receipts = Vec::new();
    for batch in batches {
        receipts.extend(log.append(&records(&fixture.clock, *batch)).await.unwrap());
    }
    log.close().await;
    receipts
}

/// Returns where the frames of a segment begin, and where the last one ends.
fn bounds(bytes: &[u8]) -> Vec<usize> {
    let mut bounds = vec![HEADER_BYTES];
    while let Ok(frame) = Frame::read(&bytes[*bounds.last().unwrap()..]) {
        bounds.push(bounds.last().unwrap() + frame.size());
    }
    bounds
}

#[tokio::test]
async fn no_changed_byte_goes_unnoticed() {
    let fixture = Fixture::new(3);
    let receipts = written(&fixture, &[1, 1, 2, 1, 1, 1]).await;
    let files = files(fixture.dir());
    assert!(files.len() > 1, "more than one segment is wanted");
    let mut torn = 0;
    for (index, file) in files.iter().enumerate() {
        let whole = fs::read(file).unwrap();
        let bounds = bounds(&whole);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(file, &bytes).unwrap();
            let report = fsck(fixture.dir()).unwrap();
            let frame = bounds.iter().rposition(|bound| *bound <= at);
            let start = frame.map_or(0, |frame| bounds[frame]);
            let last =
                index + 1 == files.len() && frame.is_some_and(|frame| frame + 2 == bounds.len());
            let named = report
                .problems
                .iter()
                .any(|problem| &problem.file == file && problem.offset == start as u64);
            if last {
                torn += 1;
                assert!(report.is_sound(), "byte {at}: {report:?}");
                assert_eq!(report.torn_tail_bytes, (whole.len() - start) as u64);
                assert_eq!(report.records, receipts.len() as u64 - 1);
            } else {
                assert!(named, "byte {at} of {}: {report:?}", file.display());
            }
        }
        fs::write(file, &whole).unwrap();
    }
    assert!(torn > HEAD_BYTES, "the last frame was changed byte by byte");
    assert!(fsck(fixture.dir()).unwrap().is_sound());
}

#[tokio::test]
async fn wherever_the_last_segment_is_cut_the_batches_before_are_kept() {
    let fixture = Fixture::new(4);
    let receipts = written(&fixture, &[1, 1, 1, 1, 2, 1]).await;
    let all_files = files(fixture.dir());
    let last = all_files.last().unwrap();
    let name = last.file_name().unwrap();
    let whole = fs::read(last).unwrap();
    let bounds = bounds(&whole);
    let in_last = bounds.len() - 1;
    assert_eq!(in_last, 3, "a batch of two and one record");
    let before = receipts.len() - in_last;
    for length in 0..=whole.len() {
        let options = fixture.copy("cut");
        fs::write(options.dir.join(name), &whole[..length]).unwrap();
        let frames = bounds.iter().skip(1).filter(|end| **end <= length).count();
        // The first two frames are one batch: all or nothing.
        let kept = before + if frames == 1 { 0 } else { frames };
        let log = crate::DecisionLog::open(options.clone(), fixture.clock.clone()).unwrap();
        let found = all(&options.dir);
        assert_kept(&receipts[..kept], &found);
        assert_eq!(found.len(), kept, "cut at {length}");
        assert_eq!(log.status().unshipped_records, kept as u64);
        log.close().await;
        let report = fsck(&options.dir).unwrap();
        assert!(
            report.is_sound() && report.torn_tail_bytes == 0,
            "{report:?}"
        );
        fs::remove_dir_all(&options.dir).unwrap();
    }
}

/// Blanks `count` bytes in the middle of the record at `index` of the last segment.
fn blank(fixture: &Fixture, index: usize) -> (PathBuf, usize, usize) {
    let file = files(fixture.dir()).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let start = bounds(&bytes)[index];
    bytes[start + 100..start + 200].fill(0);
    fs::write(&file, &bytes).unwrap();
    (file, start, bytes.len())
}

#[tokio::test]
async fn a_hole_in_the_last_write_is_a_torn_tail() {
    let fixture = Fixture::new(100);
    let receipts = written(&fixture, &[1, 1, 4]).await;
    // Power was lost while the batch of four was written: its second record is not there, its fourth is.
    let (_, start, length) = blank(&fixture, 3);
    let report = fsck(fixture.dir()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(
        report.torn_tail_bytes > (length - start) as u64,
        "the batch is one"
    );
    let log = fixture.open(QuickDisk).unwrap();
    assert_kept(&receipts[..2], &all(fixture.dir()));
    assert_eq!(all(fixture.dir()).len(), 2);
    log.close().await;
}

#[tokio::test]
async fn a_hole_before_a_later_write_is_damage_and_nothing_starts() {
    let fixture = Fixture::new(100);
    let receipts = written(&fixture, &[1, 3, 1]).await;
    let (file, start, length) = blank(&fixture, 2);
    let error = fixture.open(QuickDisk).unwrap_err();
    let Error::Corrupt {
        file: named,
        offset,
        what,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((named, *offset), (&file, start as u64));
    assert_eq!(what, "the checksum of a record does not match");
    assert!(error.to_string().contains("remit log fsck"), "{error}");
    assert_eq!(
        fs::metadata(&file).unwrap().len(),
        length as u64,
        "nothing was cut"
    );
    let report = fsck(fixture.dir()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(
        report.records,
        receipts.len() as u64 - 1,
        "the others are still read"
    );
    // A person may look at it and move it away; then the log starts.
    fs::remove_file(file).unwrap();
    fixture.open(QuickDisk).unwrap().close().await;
}

#[tokio::test]
async fn a_missing_segment_and_a_swapped_one_are_noticed() {
    let fixture = Fixture::new(2);
    written(&fixture, &[1; 9]).await;
    let names = files(fixture.dir());
    assert!(names.len() >= 3);
    let middle = fs::read(&names[1]).unwrap();
    fs::remove_file(&names[1]).unwrap();
    let report = fsck(fixture.dir()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(
        report.problems[0]
            .what
            .contains("the next one begins with record")
    );
    assert!(matches!(
        fixture.open(QuickDisk),
        Err(Error::Corrupt { .. })
    ));
    fs::write(&names[1], fs::read(&names[2]).unwrap()).unwrap();
    fs::write(&names[2], middle).unwrap();
    assert!(!fsck(fixture.dir()).unwrap().is_sound());
}

#[tokio::test]
async fn a_record_put_in_the_place_of_another_breaks_the_chain() {
    let fixture = Fixture::new(100);
    written(&fixture, &[1, 1, 1]).await;
    let file = files(fixture.dir()).pop().unwrap();
    let bytes = fs::read(&file).unwrap();
    let bounds = bounds(&bytes);
    let old = Frame::read(&bytes[bounds[1]..]).unwrap();
    let mut body = old.body.to_vec();
    let at = body.windows(4).position(|four| four == b"deny").unwrap();
    body[at..at + 4].copy_from_slice(b"true");
    let mut forged = bytes[..bounds[1]].to_vec();
    crate::frame::Encoded::new(old.id, body).place(&old.place, &mut forged);
    forged.extend_from_slice(&bytes[bounds[2]..]);
    fs::write(&file, forged).unwrap();
    let report = fsck(fixture.dir()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].offset, bounds[2] as u64);
    assert_eq!(
        report.problems[0].what,
        "record 3 does not continue the hash chain"
    );
}

#[tokio::test]
async fn other_files_in_the_folder_are_left_alone() {
    let fixture = Fixture::new(100);
    written(&fixture, &[1]).await;
    for name in ["notes.txt", "x-000001.seg", "0198-1.seg"] {
        fs::write(fixture.dir().join(name), "mine").unwrap();
    }
    assert_eq!(fsck(fixture.dir()).unwrap().segments, 1);
    fixture.open(QuickDisk).unwrap().close().await;
    assert!(fixture.dir().join("notes.txt").exists());
    assert_eq!(all(fixture.dir()).len(), 1);
    let first: &Entry = &all(fixture.dir())[0];
    assert_eq!(first.record().unwrap().id, first.id);
}

#[test]
fn a_record_numbered_nought_is_damage() {
    let before_wrap = segment(u64::MAX, &[u64::MAX, 0]);
    for (bytes, at) in [
        (segment(0, &[0]), HEADER_BYTES),
        (segment(0, &[0, 1]), HEADER_BYTES),
        (before_wrap, 2 * HEADER_BYTES + BODY.len()),
    ] {
        let fixture = Fixture::new(12);
        fs::create_dir(fixture.dir()).unwrap();
        fs::write(Name::new(fixture.dir(), REPLICA, 1).path, bytes).unwrap();
        let report = fsck(fixture.dir()).unwrap();
        assert_eq!(report.problems[0].offset, at as u64, "{report:?}");
        match fixture.open(QuickDisk) {
            Err(Error::Corrupt { offset, .. }) => assert_eq!(offset, at as u64),
            other => panic!("{other:?}"),
        }
    }
}

const REPLICA: ReplicaId = ReplicaId::from_uuid(Uuid::from_u128(1));
const BODY: &[u8] = b"{}";

/// Makes a segment whose checksums are right, whatever its numbers are.
fn segment(first: u64, sequences: &[u64]) -> Vec<u8> {
    let mut previous = NO_HASH;
    let header = Header {
        replica: REPLICA,
        number: 1,
        first,
        previous,
    };
    let mut bytes = header.bytes();
    for sequence in sequences {
        let place = Place {
            sequence: *sequence,
            commit: bytes.len() as u64,
            more: 0,
            previous,
        };
        let record = Encoded::new(DecisionId::NIL, BODY.to_vec());
        previous = record.place(&place, &mut bytes);
    }
    bytes
}
