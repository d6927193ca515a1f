//! What the log must survive, with the disk in the test's hand.

mod damage;
mod disk;
mod faults;
mod limits;
mod roundtrip;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remit_core::{
    Action, Caller, Clock, ContentHash, Decision, DecisionId, DecisionRecord, Facts, KeyId,
    Question, Reason, Resource, Revision, Subject, TenantId, Verdict,
};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::{DecisionLog, Entry, Options, Receipt, entries};

/// Makes records that differ in their id and in the size of one member.
fn record(clock: &Clock, padding: usize) -> DecisionRecord {
    let entity = |kind: &str, id: &str| (kind.to_owned(), id.to_owned());
    let (kind, id) = entity("Agent", "invoice-bot");
    let subject = Subject {
        kind,
        id,
        properties: serde_json::Map::default(),
    };
    let (kind, id) = entity("Tool", &"x".repeat(padding));
    let resource = Resource {
        kind,
        id,
        properties: serde_json::Map::default(),
    };
    let caller = KeyId::from_uuid(clock.id());
    DecisionRecord {
        id: DecisionId::from_uuid(clock.id()),
        tenant: TenantId::from_uuid(clock.id()),
        at: clock.now(),
        caller: Caller {
            key: caller,
            request_id: None,
            trace_id: None,
        },
        question: Question {
            subject,
            action: Action {
                name: "call".to_owned(),
                properties: serde_json::Map::default(),
            },
            resource,
            context: serde_json::Map::default(),
        },
        facts: Facts::plain(caller, "dev", clock.now()),
        decision: Decision {
            verdict: Verdict::Deny,
            limit: None,
            approval: None,
            duties: Vec::new(),
            exceptions: Vec::new(),
            lease: None,
            modify: None,
            ttl: None,
            reason: Reason::NoPermit,
            determining: Vec::new(),
            errors: Vec::new(),
            obligations: Vec::new(),
            shadow: Vec::new(),
            notes: Vec::new(),
            revision: Revision::new(7),
            bundle: ContentHash::of(b"bundle"),
        },
        duration_us: 5,
    }
}

fn records(clock: &Clock, count: usize) -> Vec<DecisionRecord> {
    (0..count).map(|_| record(clock, 8)).collect()
}

/// A log in a folder that is removed at the end, with segments that hold about `per_segment` records.
struct Fixture {
    folder: TempDir,
    clock: Clock,
    options: Options,
}

// === impl Fixture ===

impl Fixture {
    fn new(per_segment: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            segment_bytes: per_segment * 600,
            retry: Duration::from_millis(1),
            ..Options::new(folder.path().join("log"))
        };
        Self {
            folder,
            clock: Clock::system(),
            options,
        }
    }

    fn dir(&self) -> &Path {
        &self.options.dir
    }

    fn open(&self, disk: impl Disk) -> Result<DecisionLog, crate::Error> {
        DecisionLog::open_on(self.options.clone(), self.clock.clone(), Arc::new(disk))
    }

    /// Returns what the folder holds at this moment, as another process would find it after this one was killed.
    fn copy(&self, name: &str) -> Options {
        let to = self.folder.path().join(name);
        fs::create_dir_all(&to).unwrap();
        for file in files(self.dir()) {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
        Options {
            dir: to,
            ..self.options.clone()
        }
    }
}

/// Returns the segments of a folder, oldest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    crate::folder::list(dir)
        .unwrap()
        .into_iter()
        .map(|name| name.path)
        .collect()
}

fn all(dir: &Path) -> Vec<Entry> {
    entries(dir).unwrap().map(Result::unwrap).collect()
}

/// Checks that every receipt has its record in `found`, exactly once, and that sequences have no gaps.
#[track_caller]
fn assert_kept(receipts: &[Receipt], found: &[Entry]) {
    for receipt in receipts {
        let matching: Vec<_> = found
            .iter()
            .filter(|entry| entry.id == receipt.id())
            .collect();
        assert_eq!(matching.len(), 1, "{receipt:?} among {}", found.len());
        assert_eq!(Ok(receipt.sequence()), matching[0].sequence.try_into());
        assert_eq!(&matching[0].hash, receipt.hash());
        assert_eq!(matching[0].replica, receipt.replica());
    }
    for replica in found.chunk_by(|one, other| one.replica == other.replica) {
        let sequences: Vec<u64> = replica.iter().map(|entry| entry.sequence).collect();
        let gapless: Vec<u64> = (1..=sequences.len() as u64).collect();
        assert_eq!(sequences, gapless);
    }
}
