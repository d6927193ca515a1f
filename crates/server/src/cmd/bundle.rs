//! `remit bundle`: a folder of policies put in force, and what is in force put into a folder.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_core::Bundle;
use remit_engine::Diagnostic;
use reqwest::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use crate::bundle_dir;
use crate::client::{Client, Server};
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Where the bundle is.
const PATH: &[&str] = &["v1", "bundle"];

/// Examples in `--help`.
const PUSH: &str = "\
Examples:
    remit bundle push policies/starter --dry-run
    remit bundle push policies/starter
    remit bundle push policies/starter --if-match 41 --message 'Invoices over 1,000 need a person'

The bundle in force is read first and replaced only if nobody changes it meanwhile; --if-match names the revision that
you based your change on, and the push fails with exit 6 where another one is in force.";

/// Examples in `--help`.
const PULL: &str = "\
Examples:
    remit bundle pull in-force
    remit bundle pull policies/ours --dry-run
    remit bundle pull policies/ours --force";

/// The commands around bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put the bundle in a folder in force. A bundle that does not compile changes nothing, and exits with 3.
    #[command(after_help = PUSH)]
    Push {
        /// The bundle's folder.
        dir: PathBuf,
        /// Compile and run the cases on the server, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Replace only this revision of the bundle.
        #[arg(long, value_name = "REVISION", conflicts_with = "dry_run")]
        if_match: Option<u64>,
        /// What the change is for; kept with the version.
        #[arg(long, value_name = "TEXT", conflicts_with = "dry_run")]
        message: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Write the bundle in force into a folder.
    #[command(after_help = PULL)]
    Pull {
        /// The folder; made where it is missing.
        dir: PathBuf,
        /// Say what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Change and remove files of a bundle that is in the folder already.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        server: Server,
    },
}

/// What the server says of a bundle that is in force now.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Applied {
    pub(super) revision: u64,
    pub(super) hash: String,
    pub(super) policies: usize,
    warnings: Vec<Diagnostic>,
}

/// What the server says of a bundle that it only looked at.
#[derive(Debug, Serialize, Deserialize)]
struct Checked {
    valid: bool,
    hash: String,
    policies: usize,
    diagnostics: Vec<Diagnostic>,
    cases: Vec<CaseOutcome>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CaseOutcome {
    name: String,
    #[serde(default, alias = "mismatches")]
    failures: Vec<serde_json::Value>,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the folder and of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Push {
            dir,
            dry_run,
            if_match,
            message,
            server,
        } => {
            let folder = bundle_dir::read(&dir)?;
            folder.warnings.iter().for_each(|warning| out.warn(warning));
            let client = server.client()?;
            if dry_run {
                check(&client, &folder.bundle, out).await
            } else {
                let request = client.request(Method::PUT, PATH)?;
                let noted: Vec<_> = message
                    .map(|message| ("message", message))
                    .into_iter()
                    .collect();
                let request = request.query(&noted);
                push(&client, request, &dir, &folder.bundle, if_match, out).await
            }
        }
        Command::Pull {
            dir,
            dry_run,
            force,
            server,
        } => pull(&server.client()?, &dir, dry_run, force, out).await,
    }
}

async fn check(client: &Client, bundle: &Bundle, out: &Output) -> Result<Exit, Error> {
    let request = client
        .request(Method::POST, &["v1", "bundle", "check"])?
        .json(bundle);
    let checked: Checked = client.send(request).await?.json()?;
    let failed = checked
        .cases
        .iter()
        .filter(|case| !case.failures.is_empty())
        .count();
    if !out.is_machine() {
        out.diagnostics(&Found::new(checked.diagnostics.clone(), bundle));
    }
    let compiles = Found::new(checked.diagnostics.clone(), bundle).errors() == 0;
    out.value(&checked, |checked| {
        let verdict = if checked.valid {
            "would be accepted"
        } else {
            "would be refused"
        };
        let cases = checked.cases.len();
        format!(
            "{verdict}: {} policies, {failed} of {cases} cases failed, {}",
            checked.policies, checked.hash
        )
    })?;
    Ok(match (checked.valid, compiles) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::CasesFailed,
        (false, false) => Exit::Invalid,
    })
}

async fn push(
    client: &Client,
    request: RequestBuilder,
    dir: &Path,
    bundle: &Bundle,
    if_match: Option<u64>,
    out: &Output,
) -> Result<Exit, Error> {
    let request = request.json(bundle);
    let request = match if_match {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => match etag(client).await? {
            Some(etag) => request.header(IF_MATCH, etag),
            None => request.header(IF_NONE_MATCH, "*"),
        },
    };
    let reply = match client.send(request).await {
        Err(Error::Refused(problem)) if !problem.diagnostics.is_empty() => {
            let found = Box::new(Found::new(problem.diagnostics, bundle).within(dir));
            return Err(Error::Diagnostics {
                what: format!("the bundle in `{}`", dir.display()),
                found,
            });
        }
        reply => reply?,
    };
    let applied: Applied = reply.json()?;
    if !out.is_machine() {
        out.diagnostics(&Found::new(applied.warnings.clone(), bundle));
    }
    out.value(&applied, |applied| {
        format!(
            "in force at revision {}: {} policies, {}",
            applied.revision, applied.policies, applied.hash
        )
    })?;
    Ok(Exit::Ok)
}

/// Asks which bundle is in force.
pub(super) async fn etag(client: &Client) -> Result<Option<String>, Error> {
    match client.send(client.request(Method::GET, PATH)?).await {
        Ok(reply) => Ok(reply.header(ETAG.as_str()).map(str::to_owned)),
        Err(Error::Refused(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn pull(
    client: &Client,
    dir: &Path,
    dry_run: bool,
    force: bool,
    out: &Output,
) -> Result<Exit, Error> {
    let bundle: Bundle = client.get(PATH, &[]).await?;
    let changes = bundle_dir::changes(dir, &bundle)?;
    let overwrites = changes.changed.len() + changes.removed.len();
    if overwrites > 0 && !force && !dry_run {
        return Err(Error::Invalid(format!(
            "`{}` holds another bundle: {} would change and {} would go; --dry-run lists them, --force does it",
            dir.display(),
            files(changes.changed.len()),
            files(changes.removed.len())
        )));
    }
    let changes = if dry_run {
        changes
    } else {
        bundle_dir::write(dir, &bundle)?
    };
    out.value(&changes, |changes| {
        let mut lines = Vec::new();
        lines.extend(changes.added.iter().map(|file| format!("added    {file}")));
        lines.extend(
            changes
                .changed
                .iter()
                .map(|file| format!("changed  {file}")),
        );
        lines.extend(
            changes
                .removed
                .iter()
                .map(|file| format!("removed  {file}")),
        );
        if lines.is_empty() {
            lines.push("nothing changed".to_owned());
        }
        lines.join("\n")
    })?;
    out.note(&format!("{} is {}", dir.display(), bundle.content_hash()));
    Ok(Exit::Ok)
}

fn files(count: usize) -> String {
    if count == 1 {
        "1 file".to_owned()
    } else {
        format!("{count} files")
    }
}
