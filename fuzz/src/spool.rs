//! Spool segments: arbitrary bytes as segment files, checked by `fsck` and opened as the product opens them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use remit_core::Clock;
use remit_log::{DecisionLog, Error, Options, entries, fsck};
use tempfile::TempDir;

/// Where files cost no disk, on Linux.
const MEMORY: &str = "/dev/shm";
/// The bytes between two segments of an input.
const BETWEEN: &[u8] = b"NEXTSEG!";

/// Writes an input as up to three segments of one replica, and recovers them.
pub fn spool(data: &[u8]) {
    let dir = TempDir::new_in(MEMORY).or_else(|_| TempDir::new()).unwrap();
    let mut rest = data;
    for number in 1..=3 {
        let end = rest
            .windows(BETWEEN.len())
            .position(|bytes| bytes == BETWEEN);
        let segment = &rest[..end.unwrap_or(rest.len())];
        let name = format!("00000000-0000-7000-8000-000000000001-{number:06}.seg");
        fs::write(dir.path().join(name), segment).unwrap();
        let Some(end) = end else { break };
        rest = &rest[end + BETWEEN.len()..];
    }
    recover(dir.path());
}

/// `fsck` finds a folder sound exactly when the log opens over it, and no whole record is lost by that.
fn recover(dir: &Path) {
    let report = fsck(dir).unwrap();
    let before: Vec<_> = entries(dir).unwrap().map(Result::unwrap).collect();
    assert_eq!(fsck(dir).unwrap(), report);
    let options = Options {
        grace: Duration::ZERO,
        ..Options::new(dir)
    };
    match DecisionLog::open(options, Clock::system()) {
        Ok(log) => {
            assert!(report.is_sound(), "opened over {:?}", report.problems);
            assert_eq!(log.status().unshipped_records, report.records);
        }
        Err(Error::Corrupt { file, offset, .. }) => {
            let first = report
                .problems
                .first()
                .expect("fsck sees what open refuses");
            assert_eq!((&first.file, first.offset), (&file, offset));
        }
        Err(error) => panic!("{error}"),
    }
    let after: Vec<_> = entries(dir).unwrap().map(Result::unwrap).collect();
    assert_eq!(before, after);
}
