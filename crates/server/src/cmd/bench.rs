//! `remit bench agentdojo`: what an agent that obeys every injected instruction gets past Remit, and what it costs those
//! who do nothing wrong.
//!
//! No model is asked. The calls of each task are known, and so are those that an attacker wants; both are asked of a
//! Remit of its own over HTTP, as an enforcement point would ask them. `docs/bench-agentdojo.md` has the method.

mod approver;
mod attacker;
mod play;
mod results;
mod stand;
mod suite;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::approver::Approvers;
use self::play::{Kind, Play, Seen};
use self::stand::Stand;
use self::suite::Suite;
use self::tally::{Declaration, Report, Tally};
use crate::embedded::Embedded;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;
use crate::serve;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit bench agentdojo suites --catalogue tool-catalogue.json
    remit bench agentdojo suites --catalogue tool-catalogue.json -o json | jq '.rows'
    remit bench agentdojo suites --catalogue tool-catalogue.json --policies policies/mine --list
    remit bench agentdojo suites --catalogue tool-catalogue.json --approvals scripted

DIR holds suites of AgentDojo as JSON: tools, user tasks and injection tasks, each with its calls. FILE says of every tool
what it does: {suite: {tool: {effect, sinks, out, conf, domain?}}}. docs/bench-agentdojo.md has the method.";

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay suites of AgentDojo with an agent that carries out every injected instruction.
    #[command(after_help = EXAMPLES)]
    Agentdojo(Args),
}

/// The flags of `remit bench agentdojo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the suites.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Who answers what a person has to approve.
    #[arg(long, default_value = "none", value_name = "WHO")]
    approvals: Answering,
    /// What each tool does, by suite.
    #[arg(long, value_name = "FILE")]
    catalogue: PathBuf,
    /// How many plays are on at a time.
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Name every legitimate call that is not permitted, and every attack that succeeds.
    #[arg(long)]
    list: bool,
    /// The folder of the policies; without it the agent baseline that this binary carries.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

/// Who answers requests for an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Answering {
    /// Nobody: what would ask is not done.
    None,
    /// A script that approves the calls of the user's task and refuses all others.
    Scripted,
}

/// Runs one of them.
///
/// # Errors
///
/// [`Error::Invalid`] for suites or a catalogue that do not fit together; those of the server and the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let Command::Agentdojo(args) = command;
    let suites = suite::read(&args.dir, &args.catalogue)?;
    for suite in &suites {
        for tool in &suite.unlisted {
            let name = &suite.name;
            out.warn(&format!(
                "suite `{name}`: the catalogue has no `{tool}`, which nothing calls; it is taken at its worst"
            ));
        }
    }
    let pack = stand::pack(args.policies.as_deref())?;
    let bundles = suites
        .iter()
        .map(|suite| stand::bundle(&pack, suite))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = bundles.first().cloned() else {
        return Err(Error::Invalid(format!(
            "`{}` holds no suite: a *.json with `suite`, `tools`, `user_tasks` and `injection_tasks`",
            args.dir.display()
        )));
    };
    // Before the folder is made, so that no signal finds it unguarded.
    let (stop, _) = watch::channel(false);
    serve::watch_signals(stop.clone())?;
    let folder = tempfile::Builder::new()
        .prefix("remit-bench-")
        .tempdir()
        .map_err(|why| Error::io("make a temporary folder", why))?;
    let Some(remit) = Embedded::start(folder.path(), first, stop, out).await? else {
        return Ok(Exit::Unexpected);
    };
    let played = tokio::select! {
        biased;
        () = remit.interrupted() => Ok(None),
        played = play_all(&remit, suites, bundles, &args, out) => played.map(Some),
    };
    remit.stop().await?;
    let Some(report) = played? else {
        out.note("interrupted; Remit was stopped and its folder removed");
        return Ok(Exit::Unexpected);
    };
    if out.is_machine() {
        // The figures alone are the result.
        report.headings().iter().for_each(|line| out.note(line));
    }
    out.value(&report, |report| report.table(out))?;
    Ok(Exit::Ok)
}

/// Plays every suite, one after another.
async fn play_all(
    remit: &Embedded,
    suites: Vec<Suite>,
    bundles: Vec<remit_core::Bundle>,
    args: &Args,
    out: &Output,
) -> Result<Report, Error> {
    let scripted = args.approvals == Answering::Scripted;
    let mut report = Report::new(scripted);
    for (place, (suite, bundle)) in suites.into_iter().zip(bundles).enumerate() {
        let stand = Stand::set_up(remit.client()?, &suite, &bundle, place > 0).await?;
        let approvers = if scripted {
            Some(Approvers::set_up(remit, &stand, &bundle).await?)
        } else {
            None
        };
        let (suite, stand) = (Arc::new(suite), Arc::new((stand, approvers)));
        let tallies = play_one(&suite, &stand, args, out).await?;
        report.add(&suite, tallies);
    }
    Ok(report)
}

/// Plays one suite: every task by itself, with every injection, and redirected.
async fn play_one(
    suite: &Arc<Suite>,
    stand: &Arc<(Stand, Option<Approvers>)>,
    args: &Args,
    out: &Output,
) -> Result<Vec<(Declaration, Tally)>, Error> {
    let plays = play::all(suite);
    let progress = out.progress(plays.len() as u64, "plays");
    let room = Arc::new(Semaphore::new(usize::from(args.concurrency)));
    let mut running = JoinSet::new();
    for play in plays {
        let (suite, stand, room) = (suite.clone(), stand.clone(), room.clone());
        running.spawn(async move {
            // The semaphore is never closed.
            let _place = room.acquire().await;
            let seen = play.perform(&suite, &stand.0, stand.1.as_ref()).await;
            (play, seen)
        });
    }
    let mut tallies: Vec<(Declaration, Tally)> = Declaration::ALL
        .iter()
        .map(|declaration| (*declaration, Tally::default()))
        .collect();
    let mut listed = Vec::new();
    while let Some(done) = running.join_next().await {
        let (play, seen) = done.map_err(Error::Crashed)?;
        let seen =
            seen.inspect_err(|_| out.warn(&format!("it was asked by {}", play.name(suite))))?;
        progress.inc(1);
        if args.list {
            listed.extend(notes(suite, &play, &seen));
        }
        if let Some((_, tally)) = tallies.iter_mut().find(|(of, _)| *of == play.declaration) {
            tally.add(&play, &seen);
        }
    }
    progress.finish_and_clear();
    listed.sort();
    for line in listed {
        out.note(&line);
    }
    Ok(tallies)
}

/// Names what is worth a look: legitimate calls that are not permitted, attacks and redirected calls that are.
fn notes(suite: &Suite, play: &Play, seen: &[Seen]) -> Vec<String> {
    let of = play.name(suite);
    match &play.kind {
        Kind::Legitimate => seen
            .iter()
            .filter(|seen| !seen.permitted())
            .map(|seen| format!("{of}: {}: {}", seen.tool, seen.because))
            .collect(),
        Kind::Attack(injection) if tally::succeeded(seen) => {
            vec![format!("{of}: the attack {injection} succeeds")]
        }
        Kind::Attack(_) => Vec::new(),
        Kind::Redirected => seen
            .iter()
            .filter(|seen| seen.permitted())
            .map(|seen| format!("{of}: {} is permitted to the attacker's sink", seen.tool))
            .collect(),
    }
}
