//! `remit completions`: a completion script for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit completions bash > ~/.local/share/bash-completion/completions/remit
    remit completions zsh > ~/.zfunc/_remit";

/// The flags of `remit completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
///
/// [`Error::Io`] when stdout cannot be written.
pub(crate) fn run(args: &Args, out: &Output) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "remit", &mut script);
    out.print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
