//! `remit outcome`: what happened after permits.

use clap::{Subcommand, ValueEnum};
use remit_core::{DecisionId, Label, Outcome, TaskId};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

/// The most outcomes on one page.
const PAGE: usize = 1_000;

/// Examples in `--help`.
const REPORT: &str = "\
Examples:
    remit outcome report 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 succeeded --bytes 5120 --destination mail
    remit outcome report 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 failed --error 'no such mailbox'

An outcome is told once; the same one may be told again.";

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit outcome list --task 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1b01
    remit outcome list --destination mail -o ndjson | jq .bytes";

/// The commands around outcomes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell what became of a permitted call.
    #[command(after_help = REPORT)]
    Report {
        /// The id of the decision.
        decision: DecisionId,
        /// What became of it.
        #[arg(value_enum)]
        result: ResultArg,
        /// How many bytes were moved.
        #[arg(long, value_name = "COUNT")]
        bytes: Option<u64>,
        /// What it cost in the end.
        #[arg(long, value_name = "NUMBER")]
        cost: Option<u64>,
        /// Where data came from.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Where data went.
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// A label of what came back; may be given again.
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<Label>,
        /// A value that a trusted tool returned; may be given again.
        #[arg(long = "sink", value_name = "VALUE")]
        sinks: Vec<String>,
        /// What went wrong.
        #[arg(long, value_name = "TEXT")]
        error: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// List outcomes, those of the newest decisions first.
    #[command(after_help = LIST)]
    List {
        /// Only in this task.
        #[arg(long, value_name = "ID")]
        task: Option<TaskId>,
        /// Only of data that went there.
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// Only with this result.
        #[arg(long, value_enum)]
        result: Option<ResultArg>,
        /// How many at most.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ResultArg {
    /// It was made and did what it does.
    Succeeded,
    /// It was made and failed.
    Failed,
    /// It was not made.
    NotMade,
}

/// One page of the list.
#[derive(Debug, Deserialize)]
struct Page {
    outcomes: Vec<Outcome>,
    next: Option<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Report {
            decision,
            result,
            bytes,
            cost,
            source,
            destination,
            labels,
            sinks,
            error,
            server,
        } => {
            let client = server.client()?;
            let path = ["v1", "decisions", &decision.to_string(), "outcome"];
            let body = json!({
                "result": result.name(), "bytes": bytes, "cost": cost, "source": source, "destination": destination,
                "labels": labels, "sinks": sinks, "error": error,
            });
            let request = client.request(Method::POST, &path)?.json(&body);
            let kept: Outcome = client.send(request).await?.json()?;
            out.value(&kept, |kept| {
                format!("{}  {}", kept.decision, kept.result.as_str())
            })?;
        }
        Command::List {
            task,
            destination,
            result,
            limit,
            server,
        } => {
            let query = [
                ("task", task.map(|task| task.to_string())),
                ("destination", destination),
                ("result", result.map(|result| result.name().to_owned())),
            ];
            let found = list(&server.client()?, query, limit).await?;
            out.rows(
                &found,
                &[
                    "at",
                    "result",
                    "bytes",
                    "source",
                    "destination",
                    "task",
                    "decision",
                ],
                cells,
            )?;
        }
    }
    Ok(Exit::Ok)
}

async fn list(
    client: &Client,
    query: [(&'static str, Option<String>); 3],
    limit: usize,
) -> Result<Vec<Outcome>, Error> {
    let query: Vec<(&'static str, String)> = query
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let mut found = Vec::new();
    let mut cursor = None;
    while found.len() < limit {
        let mut query = query.clone();
        query.push(("limit", (limit - found.len()).min(PAGE).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: Page = client.get(&["v1", "outcomes"], &query).await?;
        found.extend(page.outcomes);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

fn cells(outcome: &Outcome) -> Vec<String> {
    let text = |text: Option<&str>| text.map(plain).unwrap_or_default();
    vec![
        outcome.at.to_string(),
        outcome.result.as_str().to_owned(),
        outcome
            .bytes
            .map(|bytes| bytes.to_string())
            .unwrap_or_default(),
        text(outcome.source.as_deref()),
        text(outcome.destination.as_deref()),
        outcome
            .task
            .map(|task| task.to_string())
            .unwrap_or_default(),
        outcome.decision.to_string(),
    ]
}

// === impl ResultArg ===

impl ResultArg {
    const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::NotMade => "not_made",
        }
    }
}
