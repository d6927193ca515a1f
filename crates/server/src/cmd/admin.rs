//! `remit admin actions`: who changed what, and who was not allowed to.

use clap::{Subcommand, ValueEnum};
use remit_core::{AdminAction, PrincipalName, Verdict};
use serde::Deserialize;

use crate::client::Server;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the records are.
const PATH: &[&str] = &["v1", "admin", "actions"];

/// Examples in `--help`.
const ACTIONS: &str = "\
Examples:
    remit admin actions
    remit admin actions --principal maya --limit 5
    remit admin actions --verdict deny -o json | jq '.[] | {at, principal, action, reason}'

Every change is recorded with it, in one transaction, and every change that was denied. What only reads is not recorded.";

/// The commands around administration.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List who changed what, newest first.
    #[command(after_help = ACTIONS)]
    Actions(Actions),
}

/// The flags of `remit admin actions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Actions {
    /// Of this principal only.
    #[arg(long, value_name = "NAME")]
    principal: Option<PrincipalName>,
    /// Of this operation only, such as put_policy.
    #[arg(long, value_name = "OPERATION")]
    action: Option<String>,
    /// With this verdict only.
    #[arg(long, value_name = "VERDICT")]
    verdict: Option<Outcome>,
    /// How many to list.
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
    #[command(flatten)]
    server: Server,
}

/// A verdict, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Outcome {
    Permit,
    Deny,
}

#[derive(Debug, Deserialize)]
struct Page {
    actions: Vec<AdminAction>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let Command::Actions(args) = command;
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.principal.map(|name| ("principal", name.to_string())));
    query.extend(args.action.map(|name| ("action", name)));
    query.extend(args.verdict.map(|verdict| {
        let word = match verdict {
            Outcome::Permit => "permit",
            Outcome::Deny => "deny",
        };
        ("verdict", word.to_owned())
    }));
    let page: Page = args.server.client()?.get(PATH, &query).await?;
    let columns = [
        "at",
        "principal",
        "action",
        "resource",
        "verdict",
        "reason",
        "revision",
    ];
    out.rows(&page.actions, &columns, |action| cells(action, out))?;
    Ok(Exit::Ok)
}

fn cells(action: &AdminAction, out: &Output) -> Vec<String> {
    let verdict = match action.verdict {
        Verdict::Permit => out.paint(Tone::Good, "permit"),
        Verdict::Deny => out.paint(Tone::Bad, "deny"),
    };
    vec![
        action.at.to_string(),
        plain(action.principal.as_str()),
        plain(&action.action),
        plain(&action.resource.to_string()),
        verdict,
        plain(&action.reason),
        action
            .revision
            .map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
    ]
}
