//! `remit config`: what is in force, and whether it can be used.

mod page;

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::Layers;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Examples in `--help`.
const SHOW: &str = "\
Examples:
    remit config show
    REMIT__LISTEN__HTTP=0.0.0.0:7364 remit config show --config /etc/remit.toml
    remit config show -o json";

/// Examples in `--help`.
const CHECK: &str = "\
Examples:
    remit config check --config /etc/remit.toml
    remit config check && systemctl restart remit";

/// The commands around the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every setting in force and where it comes from; secrets are hidden.
    #[command(after_help = SHOW)]
    Show(Args),
    /// Check the configuration, and the files it names, without starting anything.
    #[command(after_help = CHECK)]
    Check(Args),
    /// Print `docs/config.md`.
    #[command(hide = true)]
    Page,
}

/// The flag both take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// A configuration file in TOML; it goes over the defaults and under the environment.
    #[arg(long, env = "REMIT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Runs one of them.
///
/// # Errors
///
/// [`Error::Config`] naming every setting at fault.
pub(crate) fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Show(args) => {
            let layers = Layers::new(args.config.as_deref(), &[])?;
            // A configuration that cannot be used is not shown as if it could.
            layers.read()?;
            out.rows(
                &layers.settings()?,
                &["setting", "value", "from"],
                |setting| {
                    let value = match &setting.value {
                        serde_json::Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    vec![setting.key.clone(), value, setting.source.clone()]
                },
            )?;
        }
        Command::Page => out.print(page::page().trim_end())?,
        Command::Check(args) => {
            let config = Layers::new(args.config.as_deref(), &[])?.read()?;
            config.database_url()?;
            if config.pepper()?.is_none() {
                out.warn("auth.pepper_file is not set; `remit serve` needs it, `remit serve --dev` makes its own");
            }
            out.note("the configuration is good");
        }
    }
    Ok(Exit::Ok)
}
