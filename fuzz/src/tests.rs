//! Replays the corpus, so that what was once found stays mended, and checks that its seeds reach what they are to reach.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use remit_api::fuzzing;
use remit_core::{DecisionRecord, Source};
use remit_engine::Snapshot;
use remit_log::fsck;
use tempfile::TempDir;

use crate::TARGETS;
use crate::world::{starter_bundle, text};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn seed(name: &str) -> Vec<u8> {
    fs::read(corpus().join(name)).unwrap()
}

/// Runs one target over its folder, and names every input that breaks a law.
fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(other, _)| *other == name).unwrap();
    let inputs = inputs(&corpus().join(name));
    assert!(inputs.len() >= 5, "`{name}` has hardly any seeds");
    let broken: Vec<&PathBuf> = inputs
        .iter()
        .filter(|path| {
            let bytes = fs::read(path).unwrap();
            catch_unwind(|| target(&bytes)).is_err()
        })
        .collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn entities() {
    replay("entities");
}

#[test]
fn policy() {
    replay("policy");
}

#[test]
fn query() {
    replay("query");
}

#[test]
fn question() {
    replay("question");
}

#[test]
fn record() {
    replay("record");
}

#[test]
fn schema() {
    replay("schema");
}

#[test]
fn spool() {
    replay("spool");
}

#[test]
fn tokens() {
    replay("tokens");
}

#[test]
fn every_target_has_a_folder_and_a_program() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |paths: Vec<PathBuf>| -> BTreeSet<String> {
        let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        paths.into_iter().map(name).collect()
    };
    assert_eq!(names(inputs(&corpus())), targets);
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    assert_eq!(names(inputs(&programs)), targets);
}

/// A seed that is refused at the door exercises nothing behind it.
#[test]
fn seeds_get_past_the_door() {
    for name in ["pay", "call", "send", "numbers", "escapes"] {
        let question = fuzzing::question(&seed(&format!("question/{name}")));
        assert!(question.is_ok(), "{name}: {question:?}");
    }
    assert_eq!(
        fuzzing::questions(&seed("question/batch")).unwrap().len(),
        3
    );
    assert!(fuzzing::changes(&seed("entities/array"), false).is_ok());
    assert!(fuzzing::changes(&seed("entities/lines"), true).is_ok());
    let record: Result<DecisionRecord, _> = serde_json::from_slice(&seed("record/decision"));
    assert!(record.is_ok(), "{record:?}");
    let query = String::from_utf8(seed("query/all")).unwrap();
    let uri = format!("/v1/decisions?{query}").parse().unwrap();
    let taken = fuzzing::decisions_query(&uri);
    assert!(taken.is_ok(), "{taken:?}");
    for name in ["permit-forbid", "deep-brackets", "many", "template"] {
        let mut bundle = starter_bundle();
        bundle.policies = vec![source("fuzz.cedar", &seed(&format!("policy/{name}")))];
        let compiled = Snapshot::compile(&bundle);
        let wanted = matches!(name, "permit-forbid" | "template");
        assert_eq!(compiled.is_ok(), wanted, "{name}: {:?}", compiled.err());
    }
}

fn source(file: &str, input: &[u8]) -> Source {
    Source {
        file: file.to_owned(),
        text: text(input).unwrap(),
    }
}

#[test]
fn spool_seeds_hold_what_their_names_say() {
    for (name, records, torn, problems) in [
        ("one-record", 1, false, 0),
        ("three-records", 3, false, 0),
        ("batch", 5, false, 0),
        ("torn-tail", 2, true, 0),
        ("torn-batch", 1, true, 0),
        ("header-only", 0, false, 0),
        ("damaged-body", 2, false, 1),
        ("sequence-zero", 1, false, 1),
    ] {
        let dir = TempDir::new().unwrap();
        let file = dir
            .path()
            .join("00000000-0000-7000-8000-000000000001-000001.seg");
        fs::write(file, seed(&format!("spool/{name}"))).unwrap();
        let report = fsck(dir.path()).unwrap();
        assert_eq!(report.records, records, "{name}: {report:?}");
        assert_eq!(report.torn_tail_bytes > 0, torn, "{name}: {report:?}");
        assert_eq!(report.problems.len(), problems, "{name}: {report:?}");
    }
}
