//! `remit policy test`: runs the cases of a bundle, offline.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use remit_api::App;
use remit_core::{Case, PolicyId};
use remit_engine::{CaseOutcome, Coverage, Mismatch, Snapshot};
use serde::Serialize;

use crate::bundle_dir;
use crate::cases::{self, Located};
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone};

mod coverage;
mod junit;
mod mutants;
mod watch;

use coverage::Covered;
use mutants::Mutated;

/// Run the cases of a bundle; needs no server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  remit policy test policies/starter
  remit policy test --coverage policies/starter   # what no case has shown to be true, or false
  remit policy test --watch                       # again whenever a file changes
  remit policy test --min-coverage 90 --junit cases.xml
  remit policy test --mutants policies/starter    # would a case notice if a policy were another?
  remit policy test -o json | jq '.failed[].name'

Exits with 4 when a case fails or less is covered than asked for, with 3 when the bundle does not compile, with 6 when
--deny-survivors is given and a mutant survives or was not tried.")]
pub(crate) struct Args {
    /// The bundle's folder.
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Also write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Tell for every policy, clause and term how often it was reached, and what it came to.
    #[arg(long)]
    coverage: bool,
    /// Fail when a smaller part is covered, in percent; implies --coverage.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    #[command(flatten)]
    mutants: mutants::Wanted,
    /// Run them again whenever a file of the bundle changes, until interrupted.
    #[arg(long)]
    watch: bool,
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
    /// What every policy and clause came to, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Covered>,
    /// What became of every mutant of the policies, where that was asked for and every case passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    mutants: Option<Mutated>,
}

/// One case that did not pass.
#[derive(Debug, Serialize)]
struct Failed {
    name: String,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    mismatches: Vec<Mismatch>,
    /// The policies that determined the answer; of several steps, the last.
    because: Vec<PolicyId>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Error::Invalid`] for a case file that is wrong, [`Error::Diagnostics`] for a bundle that does not compile.
pub(crate) async fn run(args: &Args, out: &Output) -> Result<Exit, Error> {
    if args.watch {
        watch::run(&args.dir, || once(args, out), out).await
    } else {
        once(args, out)
    }
}

fn once(args: &Args, out: &Output) -> Result<Exit, Error> {
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
    let wanted = args.coverage || args.min_coverage.is_some();
    let mut coverage = wanted.then(|| Coverage::of(&snapshot));
    let mut run = |case: &Case| match &mut coverage {
        Some(coverage) => snapshot.run_case_covering(case, coverage),
        None => snapshot.run_case(case),
    };
    let runs: Vec<CaseOutcome> = located.iter().map(|located| run(&located.case)).collect();
    let coverage = coverage.map(|coverage| Covered::of(&coverage, args.min_coverage));
    let short = coverage.as_ref().and_then(Covered::short_of);
    let mut report = Report {
        coverage,
        ..report(&snapshot, &located, &runs)
    };
    // What fails by itself shows nothing of a mutant.
    if args.mutants.wanted() && report.failed.is_empty() {
        let cases: Vec<&Case> = located.iter().map(|located| &located.case).collect();
        report.mutants = Some(Mutated::try_all(&snapshot, &bundle, &cases, args.mutants)?);
    }
    if let Some(path) = &args.junit {
        bundle_dir::replace(path, junit::write(&located, &runs).as_bytes())?;
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
    if let Some(short) = &short {
        out.note(&format!("{} {short}", out.paint_note(Tone::Bad, "failed:")));
    }
    let unnoticed = args.mutants.refuses(report.mutants.as_ref());
    if let Some(unnoticed) = &unnoticed {
        out.note(&format!(
            "{} {unnoticed}",
            out.paint_note(Tone::Bad, "failed:")
        ));
    }
    Ok(if !report.failed.is_empty() || short.is_some() {
        Exit::CasesFailed
    } else if unnoticed.is_some() {
        Exit::GateFailed
    } else {
        Exit::Ok
    })
}

fn report(snapshot: &Snapshot, located: &[Located], runs: &[CaseOutcome]) -> Report {
    let mut covered: BTreeSet<&PolicyId> = BTreeSet::new();
    for decision in runs.iter().flat_map(CaseOutcome::decisions) {
        covered.extend(&decision.determining);
        covered.extend(decision.errors.iter().map(|error| &error.policy));
        covered.extend(decision.shadow.iter().map(|shadow| &shadow.policy));
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
        coverage: None,
        mutants: None,
    }
}

fn human(report: &Report, out: &Output) -> String {
    let mut text = String::new();
    if let Some(coverage) = &report.coverage {
        text = coverage.table(out);
        text.push('\n');
    }
    if let Some(mutants) = &report.mutants {
        let _ = writeln!(text, "{}", mutants.tables(out));
    }
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
                place_in(failure),
                out.paint(Tone::Good, &failure.expected),
                out.paint(Tone::Bad, &failure.actual)
            );
        }
        // Of several steps, the one that differs need not be the last.
        let told = |failure: &Mismatch| failure.member == "because" || failure.step.is_some();
        if !failed.mismatches.iter().any(told) {
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
    if let Some(coverage) = &report.coverage {
        let _ = write!(text, ", {coverage}");
    }
    if let Some(mutants) = &report.mutants {
        let _ = write!(text, "\n{mutants}");
    }
    text
}

/// Says which member differs, and of several steps at which.
fn place_in(failure: &Mismatch) -> String {
    match failure.step {
        Some(step) => format!("step {step}: {}", failure.member),
        None => failure.member.clone(),
    }
}
