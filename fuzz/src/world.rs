//! What targets share: the starter bundle in force, facts, the threads of the product, and texts with repetitions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use remit_core::{Bundle, Facts, KeyId, Source};
use remit_engine::{CompileError, Diagnostic, EVALUATION_STACK, Snapshot};

/// The longest text that [`text`] makes of an input.
const LONGEST: usize = 128 * 1024;
/// The byte that stands for a repetition; it has no place in any language that is read here.
const AGAIN: u8 = 0x01;

/// Returns the starter bundle, compiled.
pub(crate) fn starter() -> &'static Snapshot {
    static STARTER: OnceLock<Snapshot> = OnceLock::new();
    STARTER.get_or_init(|| Snapshot::compile(&starter_bundle()).unwrap())
}

/// Reads the starter bundle.
pub(crate) fn starter_bundle() -> Bundle {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/starter");
    let entities = fs::read(folder.join("entities.json")).unwrap();
    Bundle {
        schema: sources(&folder, "cedarschema"),
        policies: sources(&folder, "cedar"),
        entities: serde_json::from_slice(&entities).unwrap(),
        ..Bundle::default()
    }
}

fn sources(folder: &Path, ending: &str) -> Vec<Source> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| Source {
            file: path.file_name().unwrap().to_string_lossy().into_owned(),
            text: fs::read_to_string(path).unwrap(),
        })
        .collect()
}

/// Returns what Remit knows about a question: a Monday morning.
pub(crate) fn facts(approved: bool) -> Facts {
    Facts {
        approved,
        ..Facts::plain(KeyId::NIL, "dev", "2026-01-05T10:00:00Z".parse().unwrap())
    }
}

/// Runs `work` on a thread with the stack on which the product evaluates.
pub(crate) fn on_evaluation_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(EVALUATION_STACK)
            .spawn_scoped(scope, work)
            .unwrap()
            .join()
            .unwrap()
    })
}

/// Reads an input as text in which `0x01 n m` repeats the last `m` bytes `n` times; `None` where that is not UTF-8.
///
/// What is dangerous in a grammar is depth and length, and a fuzzer does not find a thousand brackets by itself.
pub(crate) fn text(data: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(data.len());
    let mut rest = data.iter();
    while let Some(byte) = rest.next() {
        if *byte != AGAIN {
            out.push(*byte);
            continue;
        }
        let (times, length) = (usize::from(*rest.next()?), usize::from(*rest.next()?));
        let piece = out.get(out.len().checked_sub(length)?..)?.to_vec();
        for _ in 0..times {
            out.extend_from_slice(&piece);
        }
        if out.len() > LONGEST {
            return None;
        }
    }
    String::from_utf8(out).ok()
}

/// Returns what was found wrong, and where, in an order of its own.
///
/// Cedar's words are left out: it lists names as its hash maps do and suggests any of the nearest, so that two runs over
/// one text word one fault differently. For the same reason they may name another of several places.
pub(crate) fn faults(error: &CompileError) -> BTreeSet<String> {
    let fault = |found: &Diagnostic| {
        let Diagnostic {
            severity,
            code,
            policy,
            file,
            ..
        } = found;
        format!("{severity:?} {code} {policy:?} {file:?}")
    };
    error.diagnostics.iter().map(fault).collect()
}

/// Asserts that every diagnostic that names a place names one within the text of its file.
pub(crate) fn check_places(diagnostics: &[Diagnostic], sources: &[&Source]) {
    for diagnostic in diagnostics {
        let (Some(file), Some(span)) = (&diagnostic.file, diagnostic.span) else {
            continue;
        };
        let source = sources.iter().find(|source| source.file == *file).unwrap();
        assert!(
            source.text.get(span.start..span.end).is_some(),
            "{diagnostic:?} is not within the text"
        );
        assert!(span.start_line >= 1 && span.start_line <= span.end_line);
    }
}
