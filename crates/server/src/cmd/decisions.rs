//! `remit decisions`: the record of what was decided.

use std::collections::HashSet;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use remit_core::{
    Case, DecisionId, DecisionRecord, EntityUid, Label, Reason, TaskId, Timestamp, Verdict,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{decisions_orphans, decisions_replay};
use crate::cases;
use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the records are.
const PATH: &[&str] = &["v1", "decisions"];
/// The most records on one page.
const PAGE: usize = 1_000;
/// How many ids `tail` keeps, to leave out what it has shown.
const SEEN: usize = 20_000;

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit decisions list --verdict deny --limit 20
    remit decisions list --agent invoice-bot --from 2026-11-22T00:00:00Z
    remit decisions list --policy active-agents -o ndjson | jq .question";

/// Examples in `--help`.
const SHOW: &str = "\
Examples:
    remit decisions show 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77
    remit decisions show 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 -o json";

/// Examples in `--help`.
const CASE: &str = "\
Examples:
    remit decisions case 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 > cases/mail.yaml
    remit decisions case 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 -o json

What it lacks, such as entities that are in no bundle, is told on stderr.";

/// Examples in `--help`.
const TAIL: &str = "\
Examples:
    remit decisions tail
    remit decisions tail --verdict deny
    remit decisions tail --agent invoice-bot -o ndjson";

/// The commands around decisions.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List decisions, newest first.
    #[command(after_help = LIST)]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only those made at this time or later, in RFC 3339.
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// Only those made before this time.
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        /// How many at most.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Show one decision in full.
    #[command(after_help = SHOW)]
    Show {
        /// The id of the decision.
        id: DecisionId,
        #[command(flatten)]
        server: Server,
    },
    /// Make a case of a decision: a file for `cases/` that expects what was decided.
    #[command(after_help = CASE)]
    Case {
        /// The id of the decision.
        id: DecisionId,
        #[command(flatten)]
        server: Server,
    },
    /// Make decisions again, each under its own revision. Exit 6 when one comes out otherwise.
    #[command(after_help = decisions_replay::EXAMPLES)]
    Replay {
        #[command(flatten)]
        filter: Filter,
        /// Only those made at this time or later, in RFC 3339.
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// Only those made before this time.
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        /// How many at most, the newest first.
        #[arg(short = 'n', long, default_value_t = 1_000, value_name = "COUNT")]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// List permits in tasks of which no outcome was told in time.
    #[command(after_help = decisions_orphans::EXAMPLES)]
    Orphans {
        /// Only in this task.
        #[arg(long, value_name = "ID")]
        task: Option<TaskId>,
        /// How many at most.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Show decisions as they are made, until interrupted.
    #[command(after_help = TAIL)]
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// How often to look, in seconds.
        #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
        #[command(flatten)]
        server: Server,
    },
}

/// Which decisions.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Filter")]
pub(crate) struct Filter {
    /// Only permits or only denies.
    #[arg(long, value_enum)]
    verdict: Option<VerdictArg>,
    /// Only with this reason code, such as no_permit.
    #[arg(long, value_name = "CODE")]
    reason: Option<Reason>,
    /// Only of this subject, as Type::"id".
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only of subjects with this id, whatever their type.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Only with this action.
    #[arg(long, value_name = "NAME")]
    action: Option<String>,
    /// Only on this resource, as Type::"id" or an id.
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// Only where this policy was determining.
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VerdictArg {
    Permit,
    Deny,
}

/// One page of the list.
#[derive(Debug, Deserialize)]
struct Page {
    decisions: Vec<DecisionRecord>,
    next: Option<String>,
}

/// A case made of a decision.
#[derive(Debug, Serialize, Deserialize)]
struct Drawn {
    case: Case,
    passes: Option<bool>,
    notes: Vec<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::List {
            filter,
            from,
            until,
            limit,
            server,
        } => {
            let query = filter.within(from, until);
            let found = list(&server.client()?, &query, limit).await?;
            out.rows(
                &found,
                &[
                    "at", "verdict", "reason", "subject", "action", "resource", "decision",
                ],
                |record| cells(record, out),
            )?;
        }
        Command::Replay {
            filter,
            from,
            until,
            limit,
            server,
        } => {
            let client = server.client()?;
            let found = list(&client, &filter.within(from, until), limit).await?;
            return decisions_replay::run(&client, &found, out).await;
        }
        Command::Show { id, server } => {
            let record: DecisionRecord = server
                .client()?
                .get(&["v1", "decisions", &id.to_string()], &[])
                .await?;
            out.value(&record, |record| describe(record, out))?;
        }
        Command::Orphans {
            task,
            limit,
            server,
        } => decisions_orphans::run(&server.client()?, task, limit, out).await?,
        Command::Case { id, server } => draw(&server.client()?, id, out).await?,
        Command::Tail {
            filter,
            interval,
            server,
        } => {
            let (client, query) = (server.client()?, filter.query());
            tokio::select! {
                stopped = tail(&client, &query, Duration::from_secs(interval), out) => stopped?,
                // Being interrupted is how it ends.
                _ = tokio::signal::ctrl_c() => {}
            }
        }
    }
    Ok(Exit::Ok)
}

async fn draw(client: &Client, id: DecisionId, out: &Output) -> Result<(), Error> {
    let request = client.request(Method::POST, &["v1", "decisions", &id.to_string(), "case"])?;
    let drawn: Drawn = client.send(request).await?.json()?;
    let written = cases::write(std::slice::from_ref(&drawn.case))?;
    for note in &drawn.notes {
        out.note(&format!("note: {}", plain(note)));
    }
    out.value(&drawn, |_| written.trim_end().to_owned())
}

async fn list(
    client: &Client,
    query: &[(&'static str, String)],
    limit: usize,
) -> Result<Vec<DecisionRecord>, Error> {
    let mut found = Vec::new();
    let mut cursor = None;
    while found.len() < limit {
        let mut query = query.to_vec();
        query.push(("limit", (limit - found.len()).min(PAGE).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: Page = client.get(PATH, &query).await?;
        found.extend(page.decisions);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Shows what is new, oldest first, again and again.
///
/// It looks some seconds back each time, because another replica may ship a decision with an older id later.
async fn tail(
    client: &Client,
    query: &[(&'static str, String)],
    interval: Duration,
    out: &Output,
) -> Result<(), Error> {
    const BACK_MICROS: i64 = 10_000_000;
    let newest = list(client, query, 1).await?;
    let mut since = newest
        .first()
        .map_or(Timestamp::from_micros(0), |record| record.at);
    let mut seen: HashSet<DecisionId> = HashSet::new();
    let from = |since: Timestamp| {
        (
            "from",
            Timestamp::from_micros(since.micros() - BACK_MICROS).to_string(),
        )
    };
    if !newest.is_empty() {
        let mut query = query.to_vec();
        query.push(from(since));
        seen.extend(
            list(client, &query, SEEN)
                .await?
                .iter()
                .map(|record| record.id),
        );
    }
    out.note("waiting for decisions; Ctrl-C ends it");
    loop {
        tokio::time::sleep(interval).await;
        let mut query = query.to_vec();
        query.push(from(since));
        let found = match list(client, &query, SEEN).await {
            // A server that is being restarted comes back.
            Err(error @ Error::Unreachable { .. }) => {
                out.warn(&error.to_string());
                continue;
            }
            found => found?,
        };
        for record in found
            .iter()
            .rev()
            .filter(|record| !seen.contains(&record.id))
        {
            show_line(record, out)?;
        }
        since = found.first().map_or(since, |record| record.at.max(since));
        // What lies further back than the next look is not needed any more.
        seen = found.iter().map(|record| record.id).collect();
    }
}

fn show_line(record: &DecisionRecord, out: &Output) -> Result<(), Error> {
    if out.is_machine() {
        let line = serde_json::to_string(record).map_err(Error::Unwritable)?;
        return out.print(&line);
    }
    out.print(&cells(record, out).join("  "))
}

fn cells(record: &DecisionRecord, out: &Output) -> Vec<String> {
    let question = &record.question;
    vec![
        record.at.to_string(),
        verdict(record.decision.verdict, out),
        record.decision.reason.to_string(),
        name(&question.subject.kind, &question.subject.id),
        plain(&question.action.name),
        name(&question.resource.kind, &question.resource.id),
        record.id.to_string(),
    ]
}

/// Writes a verdict in its colour.
pub(crate) fn verdict(verdict: Verdict, out: &Output) -> String {
    match verdict {
        Verdict::Permit => out.paint(Tone::Good, "permit"),
        Verdict::Deny => out.paint(Tone::Bad, "deny"),
    }
}

fn name(kind: &str, id: &str) -> String {
    plain(&EntityUid::new(kind, id).to_string())
}

fn describe(record: &DecisionRecord, out: &Output) -> String {
    let (question, decision) = (&record.question, &record.decision);
    let policies: Vec<_> = decision
        .determining
        .iter()
        .map(|id| plain(id.as_str()))
        .collect();
    let mut lines = vec![
        format!(
            "{}  {}: {}",
            verdict(decision.verdict, out),
            decision.reason,
            decision.reason.sentence()
        ),
        format!("  decision    {}", record.id),
        format!("  at          {} ({} µs)", record.at, record.duration_us),
        format!(
            "  subject     {}",
            name(&question.subject.kind, &question.subject.id)
        ),
        format!("  action      {}", plain(&question.action.name)),
        format!(
            "  resource    {}",
            name(&question.resource.kind, &question.resource.id)
        ),
        format!("  policies    {}", policies.join(", ")),
        format!("  revision    {} ({})", decision.revision, decision.bundle),
        format!(
            "  key         {} ({})",
            record.caller.key,
            plain(&record.facts.environment)
        ),
    ];
    if let Some(limit) = &decision.limit {
        lines.push(format!("  limit       {}", plain(&limit.to_string())));
    }
    if let Some(task) = &record.facts.task {
        let labels: Vec<&str> = task.labels.iter().map(Label::as_str).collect();
        let labels = plain(&labels.join(", "));
        lines.push(format!(
            "  task        {} ({}) {labels}",
            task.id,
            task.state.as_str()
        ));
    }
    if !question.context.is_empty() {
        let json = serde_json::to_string(&question.context).unwrap_or_default();
        lines.push(format!("  context     {}", plain(&json)));
    }
    for error in &decision.errors {
        lines.push(format!(
            "  error       {}: {}",
            plain(error.policy.as_str()),
            plain(&error.message)
        ));
    }
    for shadow in &decision.shadow {
        lines.push(
            format!(
                "  shadow      {} would {:?}",
                plain(shadow.policy.as_str()),
                shadow.effect
            )
            .to_lowercase(),
        );
    }
    for note in &decision.notes {
        let json = serde_json::to_string(note).unwrap_or_default();
        lines.push(format!("  note        {}", plain(&json)));
    }
    if let Some(id) = &record.caller.request_id {
        lines.push(format!("  request     {}", plain(id)));
    }
    if let Some(id) = &record.caller.trace_id {
        lines.push(format!("  trace       {}", plain(id)));
    }
    lines.join("\n")
}

// === impl Filter ===

impl Filter {
    fn within(
        &self,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Vec<(&'static str, String)> {
        let mut query = self.query();
        query.extend(from.map(|time| ("from", time.to_string())));
        query.extend(until.map(|time| ("until", time.to_string())));
        query
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let verdict = self.verdict.map(|verdict| match verdict {
            VerdictArg::Permit => "permit".to_owned(),
            VerdictArg::Deny => "deny".to_owned(),
        });
        let pairs = [
            ("decision", verdict),
            ("reason", self.reason.map(|reason| reason.to_string())),
            ("subject", self.subject.clone()),
            ("agent", self.agent.clone()),
            ("action", self.action.clone()),
            ("resource", self.resource.clone()),
            ("policy", self.policy.clone()),
        ];
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}
