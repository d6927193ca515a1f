//! `remit bundle`: a folder of policies put in force, and what is in force put into a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use remit_core::Bundle;
use remit_engine::{Comparison, Diagnostic};
use reqwest::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use crate::bundle_dir;
use crate::client::{Client, Server};
use crate::cmd::fleet::{self, Barrier};
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

/// Where the bundle is.
const PATH: &[&str] = &["v1", "bundle"];

/// Examples in `--help`.
const PUSH: &str = "\
Examples:
    remit bundle push policies/starter --dry-run
    remit bundle push policies/starter
    remit bundle push policies/starter --if-match 41 --message 'Invoices over 1,000 need a person'
    remit bundle push policies/starter --wait fleet --timeout 60

The bundle in force is read first and replaced only if nobody changes it meanwhile; --if-match names the revision that
you based your change on, and the push fails with exit 6 where another one is in force.

With --wait fleet it ends when every live replica decides with the bundle; where that takes longer than --timeout it names
those that do not and exits with 124. The bundle stays in force.";

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
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "dry_run")]
        wait: Option<Wait>,
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

/// What a push waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Every live replica decides with it.
    Fleet,
}

/// What the server says of a bundle that is in force now.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Applied {
    pub(super) revision: u64,
    pub(super) hash: String,
    pub(super) policies: usize,
    warnings: Vec<Diagnostic>,
    #[serde(default)]
    loosens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<Barrier>,
}

/// What the server says of a bundle that it only looked at.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checked {
    valid: bool,
    hash: String,
    policies: usize,
    diagnostics: Vec<Diagnostic>,
    cases: Vec<CaseOutcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
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
            wait,
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
                let applied = push(&client, request, &dir, &folder.bundle, if_match).await?;
                let patience = wait.map(|Wait::Fleet| Duration::from_secs(server.timeout));
                finish(&client, applied, &folder.bundle, patience, out).await
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
    checked.tell(bundle, out)
}

// === impl Applied ===

impl Applied {
    /// Waits until every live replica has it, where that is asked for.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn wait(
        &mut self,
        client: &Client,
        patience: Option<Duration>,
        out: &Output,
    ) -> Result<(), Error> {
        let Some(patience) = patience else {
            return Ok(());
        };
        match fleet::wait(client, self.revision, patience).await {
            Ok(barrier) => {
                self.fleet = Some(barrier);
                Ok(())
            }
            Err(error) => {
                // What was done must not be lost among what was not.
                out.note(&format!(
                    "the bundle is in force at revision {}; whether on every replica could not be found out",
                    self.revision
                ));
                Err(error)
            }
        }
    }

    /// Says where it is in force, if that was asked.
    pub(super) fn places(&self) -> Vec<String> {
        self.fleet.iter().flat_map(Barrier::lines).collect()
    }

    /// Whether it has arrived where it was waited for.
    pub(super) fn exit(&self) -> Exit {
        match &self.fleet {
            Some(barrier) if !barrier.reached => Exit::TimedOut,
            _ => Exit::Ok,
        }
    }
}

// === impl Checked ===

impl Checked {
    /// Whether it compiles and its cases pass.
    pub(super) fn is_valid(&self) -> bool {
        self.valid
    }

    /// Says what would come of a bundle.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    pub(super) fn tell(self, bundle: &Bundle, out: &Output) -> Result<Exit, Error> {
        let checked = self;
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
            let mut lines = changes(checked.comparison.as_ref());
            lines.push(format!(
                "{verdict}: {} policies, {failed} of {cases} cases failed, {}",
                checked.policies, checked.hash
            ));
            lines.join("\n")
        })?;
        Ok(match (checked.valid, compiles) {
            (true, _) => Exit::Ok,
            (false, true) => Exit::CasesFailed,
            (false, false) => Exit::Invalid,
        })
    }
}

/// Names what a bundle changes, one change a line.
fn changes(comparison: Option<&Comparison>) -> Vec<String> {
    let Some(comparison) = comparison else {
        return Vec::new();
    };
    let mut lines: Vec<String> = Vec::new();
    for change in &comparison.changes {
        let does = if change.loosens {
            "loosens "
        } else {
            "changes "
        };
        let policy = change.policy.as_ref();
        let about = policy.map_or_else(String::new, |id| format!("{}: ", plain(id.as_str())));
        lines.push(format!("{does} {about}{}", plain(&change.message)));
    }
    if comparison.more > 0 {
        lines.push(format!("and {} more changes", comparison.more));
    }
    lines
}

/// Puts a bundle in force on the replica that answers.
async fn push(
    client: &Client,
    request: RequestBuilder,
    dir: &Path,
    bundle: &Bundle,
    if_match: Option<u64>,
) -> Result<Applied, Error> {
    let request = request.json(bundle);
    let request = match if_match {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => match etag(client).await? {
            Some(etag) => request.header(IF_MATCH, etag),
            None => request.header(IF_NONE_MATCH, "*"),
        },
    };
    match client.send(request).await {
        Err(Error::Refused(problem)) if !problem.diagnostics.is_empty() => {
            let found = Box::new(Found::new(problem.diagnostics, bundle).within(dir));
            Err(Error::Diagnostics {
                what: format!("the bundle in `{}`", dir.display()),
                found,
            })
        }
        reply => reply?.json(),
    }
}

/// Waits for the other replicas where that is asked for, and says what came of it.
pub(super) async fn finish(
    client: &Client,
    mut applied: Applied,
    bundle: &Bundle,
    patience: Option<Duration>,
    out: &Output,
) -> Result<Exit, Error> {
    applied.wait(client, patience, out).await?;
    if !out.is_machine() {
        out.diagnostics(&Found::new(applied.warnings.clone(), bundle));
    }
    out.value(&applied, |applied| {
        let mut lines = vec![format!(
            "in force at revision {}: {} policies, {}",
            applied.revision, applied.policies, applied.hash
        )];
        if applied.loosens {
            lines.push(
                "it loosens: a question that was denied before may now be permitted".to_owned(),
            );
        }
        lines.extend(applied.places());
        lines.join("\n")
    })?;
    Ok(applied.exit())
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
