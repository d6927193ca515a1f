//! `remit doctor`: what Remit needs, looked at piece by piece, with what to do where a piece is missing.

mod local;
mod remote;

use std::path::PathBuf;

use remit_core::Clock;
use serde::Serialize;

use super::direct;
use crate::client::Server;
use crate::config::Layers;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit doctor
    remit doctor --config /etc/remit.toml --bundle policies/ours
    remit doctor -o json | jq '.checks[] | select(.state != \"ok\")'

Exits with 0 when nothing is wrong; a `!` is worth a look and does not count.";

/// The flags of `remit doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A folder of policies to compile as well.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Look at what `remit serve --dev` uses: ./.remit, where nothing else is configured.
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    database: direct::Args,
    #[command(flatten)]
    server: Server,
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Examination {
    healthy: bool,
    checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// What.
    name: &'static str,
    /// How it is.
    state: State,
    /// What was seen.
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warning,
    /// In the way.
    Failed,
}

/// Looks at everything, and stops at nothing.
///
/// # Errors
///
/// [`Error::Io`] when stdout cannot be written; whatever else is wrong is a finding.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    let clock = Clock::system();
    let mut checks = Vec::new();
    let preset = if args.dev { crate::dev::PRESET } else { &[] };
    let layers = Layers::new(args.database.config.as_deref(), preset).map(|layers| {
        layers
            .flag(
                "--database",
                "database.url",
                args.database.database.as_ref(),
            )
            .flag(
                "--data",
                "data.dir",
                args.database.data.as_ref().map(|dir| dir.display()),
            )
    });
    match layers.and_then(|layers| layers.read()) {
        Ok(config) => {
            checks.push(Check::ok("configuration", "every setting can be used"));
            checks.push(local::pepper(&config, args.dev));
            checks.push(local::port("API port", config.listen.http, "listen.http").await);
            checks.push(
                local::port(
                    "operations port",
                    config.listen.operations,
                    "listen.operations",
                )
                .await,
            );
            checks.push(local::folder(&config));
            checks.push(local::spool(&config));
            checks.extend(local::database(&config, &clock).await);
        }
        Err(error) => checks.push(Check::failed(
            "configuration",
            reason(&error),
            "mend the settings named here; `remit config show` prints the rest",
        )),
    }
    if let Some(dir) = &args.bundle {
        checks.push(local::bundle(dir));
    }
    checks.extend(remote::server(&args.server, &clock).await);
    let healthy = checks.iter().all(|check| check.state != State::Failed);
    let examination = Examination { healthy, checks };
    out.value(&examination, |examination| describe(examination, out))?;
    Ok(if healthy { Exit::Ok } else { Exit::Unexpected })
}

fn describe(examination: &Examination, out: &Output) -> String {
    let mut lines = Vec::new();
    for check in &examination.checks {
        let mark = match check.state {
            State::Ok => out.paint(Tone::Good, "✓"),
            State::Warning => out.paint(Tone::Warn, "!"),
            State::Failed => out.paint(Tone::Bad, "✗"),
        };
        lines.push(format!("{mark} {:<16} {}", check.name, plain(&check.found)));
        if let Some(fix) = &check.fix {
            lines.push(format!(
                "  {:<16} {}",
                "",
                out.paint(Tone::Dim, &format!("→ {}", plain(fix)))
            ));
        }
    }
    lines.join("\n")
}

/// Writes an error with its causes on one line.
pub(super) fn reason(error: &Error) -> String {
    let mut text = error.to_string().replace("\n  ", ": ").replace('\n', " ");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

// === impl Check ===

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warning(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Warning,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn failed(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Failed,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }
}
