//! `remit log`: the decision log on this host.

use std::path::PathBuf;

use clap::Subcommand;
use remit_log::Report;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Examples in `--help`.
const FSCK: &str = "\
Examples:
    remit log fsck .remit/spool
    remit log fsck /var/lib/remit/spool -o json";

/// The commands around the log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check every checksum, sequence and chain of a spool; changes nothing. Exit 6 when something is wrong.
    #[command(after_help = FSCK)]
    Fsck {
        /// The folder of the spool.
        dir: PathBuf,
    },
}

/// Runs one of them.
///
/// # Errors
///
/// [`Error::Log`] when the folder cannot be read.
pub(crate) fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let Command::Fsck { dir } = command;
    let report = remit_log::fsck(&dir).map_err(|source| Error::Log {
        what: "check the decision log",
        source,
    })?;
    out.value(&report, |report| describe(report, out))?;
    Ok(if report.problems.is_empty() {
        Exit::Ok
    } else {
        Exit::GateFailed
    })
}

fn describe(report: &Report, out: &Output) -> String {
    let mut lines = vec![format!(
        "{} records in {} segments, {} bytes",
        report.records, report.segments, report.bytes
    )];
    for replica in &report.replicas {
        lines.push(format!(
            "  replica {}: records {} to {}, {} segments",
            replica.replica, replica.first_sequence, replica.last_sequence, replica.segments
        ));
    }
    if report.torn_tail_bytes > 0 {
        lines.push(format!(
            "{} a torn tail of {} bytes: a write cut short that nobody was answered for",
            out.paint(Tone::Warn, "!"),
            report.torn_tail_bytes
        ));
    }
    for problem in &report.problems {
        lines.push(format!(
            "{} {} at byte {}: {}",
            out.paint(Tone::Bad, "✗"),
            problem.file.display(),
            problem.offset,
            plain(&problem.what)
        ));
    }
    if report.problems.is_empty() {
        lines.push(format!("{} sound", out.paint(Tone::Good, "✓")));
    }
    lines.join("\n")
}
