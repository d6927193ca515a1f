//! `remit policy test`: runs the cases of a bundle, offline.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use remit_api::App;
use remit_core::PolicyId;
use remit_engine::{CaseOutcome, Mismatch, Snapshot};
use serde::Serialize;

use crate::bundle_dir;
use crate::cases::{self, Located};
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone};

/// Run the cases of a bundle; needs no server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  remit policy test policies/starter
  remit policy test --junit cases.xml     # for the report of a build server
  remit policy test -o json | jq '.failed[].name'

Exits with 4 when a case fails, with 3 when the bundle does not compile.")]
pub(crate) struct Args {
    /// The bundle's folder.
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Also write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What the cases of a bundle came to.
#[derive(Debug, Serialize)]
struct Report {
    /// How many passed.
    passed: usize,
    /// Every case that did not.
    failed: Vec<Failed>,
    /// Policies that no case shows at work: neither determining, nor erroring, nor speaking in shadow mode.
    not_covered: Vec<PolicyId>,
    /// How many policies the bundle has.
    policies: usize,
}

/// One case that did not pass.
#[derive(Debug, Serialize)]
struct Failed {
    name: String,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    mismatches: Vec<Mismatch>,
    /// The policies that determined the answer.
    because: Vec<PolicyId>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Error::Invalid`] for a case file that is wrong, [`Error::Diagnostics`] for a bundle that does not compile.
pub(crate) fn run(args: &Args, out: &Output) -> Result<Exit, Error> {
    let folder = bundle_dir::read(&args.dir)?;
    folder.warnings.iter().for_each(|warning| out.warn(warning));
    let located = cases::read_folder(&args.dir)?;
    let bundle = folder.bundle;
    let compiled = Snapshot::compile(&bundle).and_then(|snapshot| {
        App::review_admin(&bundle)?;
        Ok(snapshot)
    });
    let snapshot = compiled.map_err(|error| Error::Diagnostics {
        what: format!("the bundle in `{}`", args.dir.display()),
        found: Box::new(Found::new(error.diagnostics, &bundle)),
    })?;
    let runs: Vec<CaseOutcome> = located
        .iter()
        .map(|located| snapshot.run_case(&located.case))
        .collect();
    let report = report(&snapshot, &located, &runs);
    if let Some(path) = &args.junit {
        bundle_dir::replace(path, junit(&args.dir, &located, &runs).as_bytes())?;
    }
    out.value(&report, |report| human(report, out))?;
    if located.is_empty() {
        out.warn(&format!(
            "`{}` has no cases: nothing was tested",
            args.dir.display()
        ));
    }
    if !report.not_covered.is_empty() && !located.is_empty() {
        let ids: Vec<&str> = report.not_covered.iter().map(PolicyId::as_str).collect();
        out.note(&format!(
            "note: no case shows these policies at work: {}",
            ids.join(", ")
        ));
    }
    Ok(if report.failed.is_empty() {
        Exit::Ok
    } else {
        Exit::CasesFailed
    })
}

fn report(snapshot: &Snapshot, located: &[Located], runs: &[CaseOutcome]) -> Report {
    let mut covered: BTreeSet<&PolicyId> = BTreeSet::new();
    for run in runs {
        covered.extend(&run.decision.determining);
        covered.extend(run.decision.errors.iter().map(|error| &error.policy));
        covered.extend(run.decision.shadow.iter().map(|shadow| &shadow.policy));
    }
    let all: Vec<PolicyId> = snapshot.policy_ids().cloned().collect();
    let failed = located.iter().zip(runs).filter(|(_, run)| !run.passed());
    let failed: Vec<Failed> = failed
        .map(|(located, run)| Failed {
            name: run.name.clone(),
            file: located.file.clone(),
            line: located.line,
            mismatches: run.mismatches.clone(),
            because: run.decision.determining.clone(),
        })
        .collect();
    Report {
        passed: runs.len() - failed.len(),
        failed,
        policies: all.len(),
        not_covered: all.into_iter().filter(|id| !covered.contains(id)).collect(),
    }
}

fn human(report: &Report, out: &Output) -> String {
    let mut text = String::new();
    for failed in &report.failed {
        let place = failed.line.map_or_else(
            || failed.file.clone(),
            |line| format!("{}:{line}", failed.file),
        );
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "{} {}  {}",
            out.paint(Tone::Bad, "FAIL"),
            failed.name,
            out.paint(Tone::Dim, &place)
        );
        for failure in &failed.mismatches {
            let _ = writeln!(
                text,
                "       {:<9} expected {}, got {}",
                failure.member,
                out.paint(Tone::Good, &failure.expected),
                out.paint(Tone::Bad, &failure.actual)
            );
        }
        if !failed
            .mismatches
            .iter()
            .any(|failure| failure.member == "because")
        {
            let ids: Vec<&str> = failed.because.iter().map(PolicyId::as_str).collect();
            let ids = if ids.is_empty() {
                "no policy".to_owned()
            } else {
                ids.join(", ")
            };
            let _ = writeln!(text, "       because   {ids}");
        }
    }
    let total = report.passed + report.failed.len();
    let (word, tone) = if report.failed.is_empty() {
        ("ok", Tone::Good)
    } else {
        ("failed", Tone::Bad)
    };
    let covered = report.policies - report.not_covered.len();
    let _ = write!(
        text,
        "{}: {} of {total} cases passed, {covered} of {} policies shown at work",
        out.paint(tone, word),
        report.passed,
        report.policies
    );
    text
}

/// Writes the report in the JUnit form that build servers read.
fn junit(dir: &Path, located: &[Located], runs: &[CaseOutcome]) -> String {
    let failed = runs.iter().filter(|run| !run.passed()).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\">\n",
        xml(&dir.display().to_string()),
        runs.len()
    );
    for (located, run) in located.iter().zip(runs) {
        let _ = write!(
            text,
            "  <testcase classname=\"{}\" name=\"{}\" file=\"{}\"",
            xml(&located.file),
            xml(&run.name),
            xml(&located.file)
        );
        if let Some(line) = located.line {
            let _ = write!(text, " line=\"{line}\"");
        }
        if run.passed() {
            text.push_str("/>\n");
            continue;
        }
        let differences = run.mismatches.iter().map(|failure| {
            format!(
                "{}: expected {}, got {}",
                failure.member, failure.expected, failure.actual
            )
        });
        let differences: Vec<String> = differences.collect();
        let _ = writeln!(
            text,
            ">\n    <failure message=\"{}\"/>\n  </testcase>",
            xml(&differences.join("; "))
        );
    }
    text.push_str("</testsuite>\n");
    text
}

/// Escapes text for an XML attribute; characters that XML 1.0 cannot hold become U+FFFD.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\r' => escaped.push_str("&#13;"),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            other => escaped.push(other),
        }
    }
    escaped
}
