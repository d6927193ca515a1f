//! `remit demo`: the life of one task, and of one approval, told over HTTP against a Remit of its own.
//!
//! The Remit is wired as `remit serve --dev` wires it, in a temporary folder on a free loopback port. Whatever happens,
//! also an error or Ctrl-C, it is stopped and the folder is removed.

mod show;
mod stage;
mod story;

use std::path::Path;

use remit_core::{PolicyId, Reason, Tool};
use remit_log::Report;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::stage::Stage;
use self::stage::approving::Approving;
use crate::embedded::Embedded;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone};
use crate::serve;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit demo
    remit demo --serve      # keep it up afterwards, to ask it questions of your own";

/// The flags of `remit demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep Remit up after the run, until Ctrl-C.
    #[arg(long)]
    serve: bool,
}

/// What the demo came to, for `-o json`.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Questions answered, those of opening tasks included.
    answered: usize,
    /// Of these, permitted.
    permitted: usize,
    /// Of these, denied.
    denied: usize,
    /// Of the denied, those that a person could approve.
    approval_required: usize,
    /// The task, and the decisions that set its labels.
    task: String,
    labels: Vec<Label>,
    /// The decision about the injected payment, its reason and the policies behind it.
    injected: Option<Denied>,
    /// Whether the same payment was permitted in a task that wants it.
    clean_permitted: bool,
    /// In what a child would have been wider than its parent.
    exceeded: String,
    /// Why what was permitted before is denied once the task is over: in the task, and in the one below.
    over: Vec<Reason>,
    /// What came of the payment that a person has to approve.
    #[serde(skip_serializing_if = "Option::is_none")]
    approving: Option<Approving>,
    /// Records in the store.
    recorded: usize,
    /// What checking the log found.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Report>,
}

/// A denial.
#[derive(Debug, Serialize)]
struct Denied {
    decision: String,
    reason: Reason,
    policies: Vec<PolicyId>,
}

/// Something that a task has touched, and the decision that set it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Label {
    label: String,
    decision: String,
}

/// Runs the demo.
///
/// # Errors
///
/// Those of the server and the client; [`Error::Invalid`] when what was answered and what was recorded differ.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    // Before the folder is made, so that no signal finds it unguarded.
    let (stop, _) = watch::channel(false);
    serve::watch_signals(stop.clone())?;
    let folder = tempfile::Builder::new()
        .prefix("remit-demo-")
        .tempdir()
        .map_err(|why| Error::io("make a temporary folder", why))?;
    let path = folder.path().to_owned();
    let ended = perform(&args, &path, stop, out).await;
    // Dropping the folder would remove it too, but say nothing when that fails.
    folder
        .close()
        .map_err(|why| Error::path("remove", &path, why))?;
    let Some(summary) = ended? else {
        out.note("interrupted; Remit was stopped and its folder removed");
        return Ok(Exit::Unexpected);
    };
    if out.is_machine() {
        out.value(&summary, |_| String::new())?;
    } else {
        out.print(&closing(out, &path))?;
    }
    Ok(Exit::Ok)
}

/// Starts Remit, tells the story and stops Remit; `None` when it was interrupted.
async fn perform(
    args: &Args,
    folder: &Path,
    stop: watch::Sender<bool>,
    out: &Output,
) -> Result<Option<Summary>, Error> {
    let tools = story::tools()?;
    let bundle = story::bundle(&tools)?;
    let Some(remit) = Embedded::start(folder, bundle, stop, out).await? else {
        return Ok(None);
    };
    let told = tokio::select! {
        biased;
        () = remit.interrupted() => Ok(None),
        told = tell(&remit, &tools, out) => match told {
            // What was asked of a Remit that stops is not answered any more.
            Err(_) if remit.is_interrupted() => Ok(None),
            told => told.map(Some),
        },
    };
    if args.serve && matches!(told, Ok(Some(_))) {
        say(out, &keys_to(&remit, out))?;
        remit.interrupted().await;
    }
    remit.stop().await?;
    told
}

/// Tells the story to its end.
async fn tell(remit: &Embedded, tools: &[Tool], out: &Output) -> Result<Summary, Error> {
    let mut stage = Stage::new(remit, out)?;
    let opening = format!(
        "{}\n{}",
        out.paint(
            Tone::Strong,
            "Remit decides, before each action, whether an agent may take it."
        ),
        show::remark(
            out,
            0,
            &format!(
                "Fernhill, an invented company, lets an agent pay invoices. Every call below is asked over HTTP before it is \
                 made. Remit itself runs at {} until this ends.",
                remit.url
            )
        )
    );
    say(out, &opening)?;
    stage.tell(tools).await?;
    let report = remit_log::fsck(&remit.log_folder()).map_err(|source| Error::Log {
        what: "check the log",
        source,
    })?;
    let mut summary = stage.summary;
    say(out, &verify(&summary, &report, out)?)?;
    summary.log = Some(report);
    Ok(summary)
}

/// Compares what was answered with what was recorded and with the log.
fn verify(summary: &Summary, report: &Report, out: &Output) -> Result<String, Error> {
    let logged: u64 = report
        .replicas
        .iter()
        .map(|replica| replica.last_sequence)
        .sum();
    // What grew a label or took from a budget was recorded in the transaction that did so, and not here.
    let equal = summary.answered == summary.recorded && logged <= summary.answered as u64;
    if !equal || !report.problems.is_empty() {
        return Err(Error::Invalid(format!(
            "{} decisions were answered, {} recorded, {logged} of them logged, and the log has {} problems",
            summary.answered,
            summary.recorded,
            report.problems.len()
        )));
    }
    let heading = show::heading(
        out,
        14,
        "Everything was recorded before its answer left",
        "remit log fsck",
    );
    let consumed = summary.answered as u64 - logged;
    let line = format!(
        "  {} {} decisions answered = {} recorded = {logged} in the log + {consumed} with what they used, 0 problems",
        out.paint(Tone::Good, "✓"),
        summary.answered,
        summary.recorded
    );
    Ok(format!("{heading}\n{line}"))
}

/// Says where Remit is and how to ask it.
fn keys_to(remit: &Embedded, out: &Output) -> String {
    let Embedded { url, key, .. } = remit;
    format!(
        "\n{}\n  export REMIT_URL={url}\n  export REMIT_KEY={key}\n  remit task list\n  {}",
        out.paint(
            Tone::Strong,
            "Remit stays up until Ctrl-C. In another terminal:"
        ),
        out.paint(Tone::Dim, &format!("{url}/docs has the whole API")),
    )
}

fn closing(out: &Output, folder: &Path) -> String {
    let gone = format!(
        "Nothing is left behind: Remit is stopped and {} is removed.",
        folder.display()
    );
    format!(
        "\n{}\n{}\n  remit demo --serve                         the same, and it stays up for your own questions\n  \
         remit serve --dev                          a Remit of your own, kept in ./.remit\n  \
         remit policy test policies/agent-baseline  the policies behind this, and their cases",
        out.paint(Tone::Dim, &gone),
        out.paint(Tone::Strong, "What next"),
    )
}

/// Writes a piece of the story, for people only.
fn say(out: &Output, text: &str) -> Result<(), Error> {
    if out.is_machine() {
        Ok(())
    } else {
        out.print(text)
    }
}
