//! `remit policy verify`: what a solver proves of a folder of policies; needs no server, and cvc5 on this machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use remit_core::Effect;
use remit_verify::{Matches, PolicyReport, Proof, Report, Solver, verify};

use crate::bundle_dir;
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Examples in `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
    remit policy verify policies/starter
    remit policy verify draft --against policies/starter
    remit policy verify draft --solver /opt/cvc5/bin/cvc5 -o json

What is proved holds for every question that fits the schema, as long as each entity that a policy looks at is stored.
Exit 6 when something is not proved: a policy can fail or never matches, or more is permitted than by --against.";

/// Ask a solver.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bundle's folder.
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// The folder of the bundle before, to be compared with.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// The solver: cvc5, or what speaks SMT-LIB 2 as it does.
    #[arg(long, default_value = "cvc5", value_name = "PROGRAM")]
    solver: OsString,
    /// How long one question to it may take, in seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
}

/// Runs the command.
///
/// # Errors
///
/// [`Error::Diagnostics`] for a bundle that does not compile, [`Error::Invalid`] where the solver cannot be started.
pub(crate) async fn run(args: &Args, out: &Output) -> Result<Exit, Error> {
    let after = bundle_dir::read(&args.dir)?.bundle;
    let before = match &args.against {
        Some(dir) => Some(bundle_dir::read(dir)?.bundle),
        None => None,
    };
    let solver = Solver {
        program: args.solver.clone(),
        limit: Duration::from_secs(args.limit),
    };
    let verified = verify(before.as_ref(), &after, &solver).await;
    let report = verified.map_err(|error| match error {
        remit_verify::Error::Bundle(error) => Error::Diagnostics {
            what: format!("the bundle in `{}`", args.dir.display()),
            found: Box::new(Found::new(error.diagnostics, &after)),
        },
        remit_verify::Error::Solver { program, source } => Error::Invalid(format!(
            "the solver `{program}` cannot be started: {source}"
        )),
        other @ remit_verify::Error::Translation(_) => Error::Invalid(other.to_string()),
    })?;
    let holds = report.holds();
    out.value(&report, |report| text(report, out))?;
    Ok(if holds { Exit::Ok } else { Exit::GateFailed })
}

fn text(report: &Report, out: &Output) -> String {
    let mut lines = Vec::new();
    for policy in report.policies.iter().filter(|policy| !policy.holds()) {
        lines.push(told(policy, out));
    }
    let proved = report.policies.iter().filter(|policy| policy.holds());
    lines.push(format!(
        "{} of {} policies never fail and can match, in {} kinds of questions",
        proved.count(),
        report.policies.len(),
        report.environments
    ));
    if let Some(comparison) = &report.comparison {
        lines.push(format!(
            "permits no more than before: {}",
            proof(&comparison.permits_no_more, out)
        ));
        lines.push(format!(
            "permits no less than before: {}",
            proof(&comparison.permits_no_less, out)
        ));
    }
    lines.join("\n")
}

fn told(policy: &PolicyReport, out: &Output) -> String {
    let effect = match policy.effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    };
    let matches = match policy.matches {
        Matches::Somewhere => "can match",
        Matches::Never => "never matches",
        Matches::Unknown => "is not known to match",
    };
    let never_errors = proof(&policy.never_errors, out);
    format!(
        "{} ({effect}) {matches}; never fails: {never_errors}",
        plain(policy.policy.as_str())
    )
}

fn proof(proof: &Proof, out: &Output) -> String {
    match proof {
        Proof::Proved => out.paint(Tone::Good, "proved"),
        Proof::Refuted { example } => {
            let lines = example.lines().map(|line| format!("\n    {}", plain(line)));
            format!(
                "{}{}",
                out.paint(Tone::Bad, "no"),
                lines.collect::<String>()
            )
        }
        Proof::Unknown { because } => {
            format!("{}: {}", out.paint(Tone::Warn, "unknown"), plain(because))
        }
    }
}
