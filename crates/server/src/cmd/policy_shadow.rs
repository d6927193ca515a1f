//! `remit policy shadow`: a folder of policies that decides beside those in force and enforces nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_core::Bundle;
use remit_engine::{CaseOutcome, Comparison, Diagnostic};
use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use serde::{Deserialize, Serialize};

use super::policy_impact::{Group, decisions, differences, gate};
use crate::bundle_dir;
use crate::client::{Client, Server};
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

/// Where the shadow is.
const PATH: &[&str] = &["v1", "shadow"];

/// Examples in `--help`.
const START: &str = "\
Examples:
    remit policy shadow start policies/next
    remit policy shadow start policies/next --if-match 43

Every decision from now on is made again by the policies of the folder, after its answer and over the same entities. They must
compile; their cases are run and need not pass. A shadow that is there already is replaced, and what it has found is gone.";

/// Examples in `--help`.
const STATUS: &str = "\
Examples:
    remit policy shadow status
    remit policy shadow status --deny-loosening
    remit policy shadow status -o json | jq '.groups[] | select(.outcome == \"newly_permitted\")'";

/// Examples in `--help`.
const STOP: &str = "\
Examples:
    remit policy shadow stop";

/// The commands around a shadow.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Decide by a folder of policies beside those in force.
    #[command(after_help = START)]
    Start {
        /// The bundle's folder.
        dir: PathBuf,
        /// Replace only the shadow of this revision.
        #[arg(long, value_name = "REVISION")]
        if_match: Option<u64>,
        #[command(flatten)]
        server: Server,
    },
    /// Tell how the decisions since then come out under it.
    #[command(after_help = STATUS)]
    Status {
        /// Exit 6 when it would permit something that was denied, or that could not be judged for every decision.
        #[arg(long)]
        deny_loosening: bool,
        #[command(flatten)]
        server: Server,
    },
    /// End the shadow, and forget what it has found.
    #[command(after_help = STOP)]
    Stop {
        #[command(flatten)]
        server: Server,
    },
}

/// What the server says of a shadow that decides now.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    revision: u64,
    hash: String,
    policies: usize,
    warnings: Vec<Diagnostic>,
    cases: Vec<CaseOutcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// What the server says that a shadow has found.
#[derive(Debug, Serialize, Deserialize)]
struct Status {
    revision: u64,
    hash: String,
    since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    decided: u64,
    same: u64,
    differing: u64,
    dropped: u64,
    failed: u64,
    totals: BTreeMap<String, u64>,
    groups: Vec<Group>,
    failures: Vec<Failure>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    replica: String,
    because: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    revision: u64,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the folder and of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Start {
            dir,
            if_match,
            server,
        } => {
            let folder = bundle_dir::read(&dir)?;
            folder.warnings.iter().for_each(|warning| out.warn(warning));
            start(&server.client()?, &dir, &folder.bundle, if_match, out).await
        }
        Command::Status {
            deny_loosening,
            server,
        } => {
            let status: Status = server.client()?.get(PATH, &[]).await?;
            out.value(&status, |status| status.text(out))?;
            let unknown = status.unknown();
            Ok(gate(deny_loosening, &status.totals, &unknown, out))
        }
        Command::Stop { server } => {
            let client = server.client()?;
            let request = client.request(Method::DELETE, PATH)?;
            let ended: Ended = client.send(request).await?.json()?;
            out.value(&ended, |ended| {
                format!("the shadow has ended at revision {}", ended.revision)
            })?;
            Ok(Exit::Ok)
        }
    }
}

async fn start(
    client: &Client,
    dir: &Path,
    bundle: &Bundle,
    if_match: Option<u64>,
    out: &Output,
) -> Result<Exit, Error> {
    let request = client.request(Method::PUT, PATH)?.json(bundle);
    let request = match if_match {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => match etag(client).await? {
            Some(etag) => request.header(IF_MATCH, etag),
            None => request.header(IF_NONE_MATCH, "*"),
        },
    };
    let begun: Begun = match client.send(request).await {
        Err(Error::Refused(problem)) if !problem.diagnostics.is_empty() => {
            let found = Box::new(Found::new(problem.diagnostics, bundle).within(dir));
            return Err(Error::Diagnostics {
                what: format!("the bundle in `{}`", dir.display()),
                found,
            });
        }
        reply => reply?.json()?,
    };
    if !out.is_machine() {
        out.diagnostics(&Found::new(begun.warnings.clone(), bundle).within(dir));
    }
    let failed = begun.cases.iter().filter(|case| !case.passed()).count();
    out.value(&begun, |begun| {
        format!(
            "in shadow since revision {}: {} policies, {failed} of {} cases failed, {}",
            begun.revision,
            begun.policies,
            begun.cases.len(),
            begun.hash
        )
    })?;
    Ok(Exit::Ok)
}

/// Asks which shadow there is.
async fn etag(client: &Client) -> Result<Option<String>, Error> {
    match client.send(client.request(Method::GET, PATH)?).await {
        Ok(reply) => Ok(reply.header(ETAG.as_str()).map(str::to_owned)),
        Err(Error::Refused(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl Status ===

impl Status {
    /// Names what was not judged.
    fn unknown(&self) -> Vec<String> {
        [(self.failed, "failed"), (self.dropped, "let go")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", decisions(count)))
            .collect()
    }

    fn text(&self, out: &Output) -> String {
        let mut text = differences(&self.groups, out);
        for Failure { replica, because } in &self.failures {
            let _ = writeln!(text, "replica {replica} cannot decide: {}", plain(because));
        }
        let _ = write!(
            text,
            "{} since {} made again by the shadow of revision {}: {} differ",
            decisions(self.decided),
            self.since,
            self.revision,
            self.differing
        );
        for (count, what) in [(self.dropped, "let go"), (self.failed, "failed")] {
            if count > 0 {
                let _ = write!(text, "; {} {what}", decisions(count));
            }
        }
        text
    }
}
