//! The tree of commands, and the road from `main` to one of them.

use std::num::NonZero;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::cmd;
use crate::error::Error;
use crate::exit::{self, Exit};
use crate::output::{self, Output};

/// The stack of every thread that may evaluate a policy: policies are untrusted, and Cedar recurses.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Runtime authorisation for AI agents: may this agent do this, to that, now?
#[derive(Debug, Parser)]
#[command(name = "remit", version, after_help = exit::TABLE, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    output: output::Args,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the decision service.
    Serve(cmd::serve::Args),
    /// Replay a recorded agent run against an embedded Remit, and leave nothing behind.
    Demo(cmd::demo::Args),
    /// Ask one question; the exit code is the verdict.
    Decide(cmd::decide::Args),
    /// Show why a decision came out as it did.
    Explain(cmd::explain::Args),
    /// Check, format and test policies, which needs no server; follow and take back their versions.
    #[command(subcommand)]
    Policy(cmd::policy::Command),
    /// Make the schema of tools from their descriptors.
    #[command(subcommand)]
    Schema(cmd::schema::Command),
    /// Put a folder of policies in force, or fetch what is in force.
    #[command(subcommand)]
    Bundle(cmd::bundle::Command),
    /// Show and change what the administration is held to.
    #[command(subcommand)]
    Settings(cmd::settings::Command),
    /// Give one person more roles for minutes, when another agrees.
    #[command(subcommand)]
    BreakGlass(cmd::break_glass::Command),
    /// Work on drafts of what decides: edit, check, review and publish them.
    #[command(subcommand)]
    Draft(cmd::draft::Command),
    /// Manage stored entities.
    #[command(subcommand)]
    Entities(cmd::entities::Command),
    /// Manage the registry of agents: who answers for each, until when, and what it may do at most.
    #[command(subcommand)]
    Agent(cmd::agent::Command),
    /// Manage the catalogue of tools: what a call does, says of whom, and brings back.
    #[command(subcommand)]
    Tool(cmd::tool::Command),
    /// Stop an agent, a task, a tool, a model or everything, whatever the policies say.
    #[command(subcommand)]
    Kill(cmd::kill::Command),
    /// Relax a control for a while, in one scope: one person proposes it, another confirms it.
    #[command(subcommand)]
    Exception(cmd::exception::Command),
    /// Open, end and look at tasks: what agents are asked to do, and what they have touched.
    #[command(subcommand)]
    Task(cmd::task::Command),
    /// Answer what waits for a person: see exactly what will run, and approve or refuse it.
    #[command(subcommand)]
    Approvals(cmd::approvals::Command),
    /// Say who answers: groups of approvers, and who stands in for whom.
    #[command(subcommand)]
    Approvers(cmd::approvers::Command),
    /// Manage API keys.
    #[command(subcommand)]
    Key(cmd::key::Command),
    /// Manage principals: who administers, and in which roles.
    #[command(subcommand)]
    Principal(cmd::principal::Command),
    /// Read the record of administration.
    #[command(subcommand)]
    Admin(cmd::admin::Command),
    /// Manage where Remit sends what happens, and look at what became of it.
    #[command(subcommand)]
    Webhook(cmd::webhook::Command),
    /// Manage the tenants of an installation.
    #[command(subcommand)]
    Tenant(cmd::tenant::Command),
    /// Read the record of decisions.
    #[command(subcommand)]
    Decisions(cmd::decisions::Command),
    /// Tell and list what happened after permits.
    #[command(subcommand)]
    Outcome(cmd::outcome::Command),
    /// Check the decision log on this host.
    #[command(subcommand)]
    Log(cmd::log::Command),
    /// Measure what attacks get past the policies, and what they cost legitimate work.
    #[command(subcommand)]
    Bench(cmd::bench::Command),
    /// Bring the database's schema up to date.
    Migrate(cmd::migrate::Args),
    /// Check that everything Remit needs is in place, and say how to mend what is not.
    Doctor(cmd::doctor::Args),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(cmd::config::Command),
    /// Print a completion script for a shell.
    Completions(cmd::completions::Args),
    /// Print the version and what it is built from.
    Version,
}

/// Parses the command line, runs the command, prints what went wrong and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let out = Output::new(&cli.output);
    let exit = run(cli.command, out.clone()).unwrap_or_else(|error| {
        out.error(&error);
        error.exit()
    });
    exit.into()
}

/// Prints what clap has to say: help goes to stdout and is a success, a mistake goes to stderr.
///
/// clap would exit with 2, which is a deny here.
fn usage(error: &clap::Error) -> Exit {
    let asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    // A closed stdout is not a failure of the command.
    let _ = error.print();
    if asked { Exit::Ok } else { Exit::Usage }
}

/// Runs one command on a runtime whose threads have room for policies.
fn run(command: Command, out: Output) -> Result<Exit, Error> {
    // The one process-wide choice of a TLS implementation; a second install is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, NonZero::get))
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|source| Error::io("start the runtime", source))?;
    // Spawned, so that the command itself runs on a thread with the large stack and a panic is an exit code.
    let result = runtime.block_on(async {
        tokio::spawn(async move { Box::pin(dispatch(command, &out)).await }).await
    });
    // Blocking threads that still wait on a terminal or a disk do not hold up the exit.
    runtime.shutdown_background();
    result.unwrap_or_else(|join| Err(Error::Crashed(join)))
}

async fn dispatch(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Serve(args) => Box::pin(cmd::serve::run(args, out)).await,
        Command::Demo(args) => Box::pin(cmd::demo::run(args, out)).await,
        Command::Decide(args) => cmd::decide::run(args, out).await,
        Command::Explain(args) => cmd::explain::run(args, out).await,
        Command::Policy(command) => cmd::policy::run(command, out).await,
        Command::Schema(command) => cmd::schema::run(command, out),
        Command::Bundle(command) => cmd::bundle::run(command, out).await,
        Command::Settings(command) => cmd::settings::run(command, out).await,
        Command::BreakGlass(command) => cmd::break_glass::run(command, out).await,
        Command::Draft(command) => Box::pin(cmd::draft::run(command, out)).await,
        Command::Entities(command) => cmd::entities::run(command, out).await,
        Command::Agent(command) => cmd::agent::run(command, out).await,
        Command::Tool(command) => cmd::tool::run(command, out).await,
        Command::Kill(command) => cmd::kill::run(command, out).await,
        Command::Exception(command) => cmd::exception::run(command, out).await,
        Command::Task(command) => Box::pin(cmd::task::run(command, out)).await,
        Command::Approvals(command) => Box::pin(cmd::approvals::run(command, out)).await,
        Command::Approvers(command) => cmd::approvers::run(command, out).await,
        Command::Key(command) => cmd::key::run(command, out).await,
        Command::Principal(command) => cmd::principal::run(command, out).await,
        Command::Admin(command) => cmd::admin::run(command, out).await,
        Command::Webhook(command) => cmd::webhook::run(command, out).await,
        Command::Tenant(command) => cmd::tenant::run(command, out).await,
        Command::Decisions(command) => cmd::decisions::run(command, out).await,
        Command::Outcome(command) => cmd::outcome::run(command, out).await,
        Command::Log(command) => cmd::log::run(command, out),
        Command::Bench(command) => Box::pin(cmd::bench::run(command, out)).await,
        Command::Migrate(args) => cmd::migrate::run(args, out).await,
        Command::Doctor(args) => cmd::doctor::run(args, out).await,
        Command::Config(command) => cmd::config::run(command, out),
        Command::Completions(args) => cmd::completions::run(&args, out),
        Command::Version => cmd::version::run(out),
    }
}
