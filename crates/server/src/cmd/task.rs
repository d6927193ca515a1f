//! `remit task`: what agents are asked to do, how each task stands, and what it has touched.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{Client, Server};
use crate::cmd::agent::waits;
use crate::cmd::bundle::Wait;
use crate::cmd::question::named;
use crate::cmd::tool::read;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

mod template;

/// How many tasks one request lists.
const PAGE: usize = 1_000;
const PATH: &[&str] = &["v1", "tasks"];

/// Examples in `--help`.
const OPEN: &str = "\
Examples:
    remit task open Agent:invoice-bot --purpose pay-invoices --actions get_invoice,pay \\
        --sinks DE89370400440532013000 --calls 100 --expires-in 3600
    remit task open Agent:invoice-bot --template pay-invoices --sinks DE89370400440532013000
    remit task open --file task.json -o json | jq -r .id

A flag goes over the member of the file. What neither says is what the template says, else what the parent says, else no
limit. Exit code 2: the tenant's policies do not permit it. Exit code 3: it is wider than its template or its parent.";

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit task list --state active --agent Agent:invoice-bot
    remit task list --parent 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20 -o json | jq -r '.[].id'";

/// Examples in `--help`.
const END: &str = "\
Examples:
    remit task revoke 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20 --reason 'the agent was misled' --wait fleet

What ends a task ends everything below it, for good.";

/// Examples in `--help`.
const ENDORSE: &str = "\
Examples:
    remit task endorse 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20 --labels untrusted --reason 'I have read the invoice myself'

Only a person can; it is recorded.";

/// The commands around tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open a task.
    #[command(after_help = OPEN)]
    Open(Box<Open>),
    /// Put a narrower task in the place of one.
    Narrow(Box<Narrow>),
    /// List tasks, newest first.
    #[command(after_help = LIST)]
    List(Wanted),
    /// Show one task, its labels and what it has used.
    Show {
        /// The task.
        task: String,
        #[command(flatten)]
        server: Server,
    },
    /// End a task as done, with everything below it.
    #[command(after_help = END)]
    Complete(Turn),
    /// End a task, with everything below it.
    #[command(after_help = END)]
    Revoke(Turn),
    /// Stop a task until it is resumed.
    Suspend(Turn),
    /// Let a suspended task go on.
    Resume(Turn),
    /// Vouch for what a task has touched, as a person.
    #[command(after_help = ENDORSE)]
    Endorse(Endorse),
    /// Manage what tasks are made from.
    #[command(subcommand)]
    Template(template::Command),
}

/// The members that a task may be limited by.
#[derive(Debug, clap::Args)]
pub(crate) struct Members {
    /// A JSON object of the members; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The actions and groups that it may take.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    actions: Option<Vec<String>>,
    /// What it may act on: Type:id or 'Type::"id"', again for each.
    #[arg(long = "resource", value_name = "ENTITY")]
    resources: Option<Vec<String>>,
    /// Whom and what it may affect.
    #[arg(long, value_delimiter = ',', value_name = "SINKS")]
    sinks: Option<Vec<String>>,
    /// The data classes that it may touch.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    data_classes: Option<Vec<String>>,
    /// How many permitted calls it may make.
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// How much it may pay, in the smallest unit of its currency.
    #[arg(long, value_name = "N")]
    amount: Option<u64>,
    /// How long it lasts, in seconds.
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,
    /// Whether tasks may be opened below it.
    #[arg(long, value_name = "BOOL")]
    may_delegate: Option<bool>,
}

/// The flags of `remit task open`.
#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    /// Who works on it: Agent:invoice-bot or 'Agent::"invoice-bot"'.
    agent: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// The words in which it was given.
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// The person for whom it is done.
    #[arg(long, value_name = "ENTITY")]
    on_behalf_of: Option<String>,
    /// The task that it is a part of.
    #[arg(long, value_name = "TASK")]
    parent: Option<String>,
    /// The template that it is made from.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    #[command(flatten)]
    members: Members,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit task narrow`.
#[derive(Debug, clap::Args)]
pub(crate) struct Narrow {
    /// The task.
    task: String,
    #[command(flatten)]
    members: Members,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit task list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// Only those of this agent.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only those in this state: active, suspended, completed, revoked or expired.
    #[arg(long)]
    state: Option<String>,
    /// Only children of this task.
    #[arg(long, value_name = "TASK")]
    parent: Option<String>,
    /// Only those of this purpose.
    #[arg(long)]
    purpose: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// One task to be ended, stopped or let go on.
#[derive(Debug, clap::Args)]
pub(crate) struct Turn {
    /// The task.
    task: String,
    /// Why, in one line.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit task endorse`.
#[derive(Debug, clap::Args)]
pub(crate) struct Endorse {
    /// The task.
    task: String,
    /// The labels to take off.
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    labels: Vec<String>,
    /// Why that is safe.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// A task as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: String,
    state: String,
    declaration: Declared,
    opened_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<Touched>>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Declared {
    agent: remit_core::EntityUid,
    purpose: String,
    expires_at: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Touched {
    label: String,
    decision: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    tasks: Vec<Shown>,
    #[serde(default)]
    next: Option<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the file and of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Open(open) => {
            let client = open.server.client()?;
            let request = client.request(Method::POST, PATH)?.json(&open.body()?);
            shown(&client, request.query(&waits(open.wait)), out).await?;
        }
        Command::Narrow(narrow) => {
            let client = narrow.server.client()?;
            let path = ["v1", "tasks", &narrow.task, "narrow"];
            let body = Value::Object(narrow.members.body()?);
            let request = client.request(Method::POST, &path)?.json(&body);
            shown(&client, request.query(&waits(narrow.wait)), out).await?;
        }
        Command::List(wanted) => list(wanted, out).await?,
        Command::Show { task, server } => {
            let shown: Shown = server.client()?.get(&["v1", "tasks", &task], &[]).await?;
            out.value(&shown, |shown| shown.text(out))?;
        }
        Command::Complete(turn) => turned("complete", turn, out).await?,
        Command::Revoke(turn) => turned("revoke", turn, out).await?,
        Command::Suspend(turn) => turned("suspend", turn, out).await?,
        Command::Resume(turn) => turned("resume", turn, out).await?,
        Command::Endorse(endorse) => {
            let client = endorse.server.client()?;
            let path = ["v1", "tasks", &endorse.task, "endorse"];
            let body = json!({ "labels": endorse.labels, "reason": endorse.reason });
            let request = client.request(Method::POST, &path)?.json(&body);
            shown(&client, request.query(&waits(endorse.wait)), out).await?;
        }
        Command::Template(command) => template::run(command, out).await?,
    }
    Ok(Exit::Ok)
}

async fn shown(
    client: &Client,
    request: reqwest::RequestBuilder,
    out: &Output,
) -> Result<(), Error> {
    let shown: Shown = client.send(request).await?.json()?;
    out.value(&shown, |shown| shown.text(out))
}

async fn turned(verb: &str, turn: Turn, out: &Output) -> Result<(), Error> {
    let client = turn.server.client()?;
    let path = ["v1", "tasks", &turn.task, verb];
    let mut request = client
        .request(Method::POST, &path)?
        .query(&waits(turn.wait));
    if let Some(reason) = turn.reason {
        request = request.json(&json!({ "reason": reason }));
    }
    shown(&client, request, out).await
}

async fn list(wanted: Wanted, out: &Output) -> Result<(), Error> {
    let client = wanted.server.client()?;
    let mut filter: Vec<(&str, String)> = Vec::new();
    if let Some(agent) = &wanted.agent {
        let uid = named("--agent", agent)?;
        filter.push(("agent_type", uid.kind.to_string()));
        filter.push(("agent_id", uid.id.to_string()));
    }
    filter.extend(wanted.state.map(|state| ("state", state)));
    filter.extend(wanted.parent.map(|parent| ("parent", parent)));
    filter.extend(wanted.purpose.map(|purpose| ("purpose", purpose)));
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut query = filter.clone();
        query.extend([("limit", PAGE.to_string()), ("cursor", cursor)]);
        let page: Page = client.get(PATH, &query).await?;
        found.extend(page.tasks);
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let columns = ["task", "state", "agent", "purpose", "opened", "expires"];
    out.rows(&found, &columns, |one| {
        vec![
            plain(&one.id),
            one.stands(out),
            plain(&one.declaration.agent.to_string()),
            plain(&one.declaration.purpose),
            plain(&one.opened_at),
            plain(&one.declaration.expires_at),
        ]
    })
}

// === impl Members ===

impl Members {
    /// Returns the members as the API takes them: those of the file, and those of the flags over them.
    fn body(&self) -> Result<Map<String, Value>, Error> {
        let mut body = match &self.file {
            None => Map::new(),
            Some(file) => match read(file)? {
                Value::Object(members) => members,
                _ => {
                    let text = format!("`{}` is no JSON object", file.display());
                    return Err(Error::Usage(text));
                }
            },
        };
        let mut put = |name: &str, value: Option<Value>| {
            body.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("actions", self.actions.as_ref().map(|names| json!(names)));
        put("sinks", self.sinks.as_ref().map(|names| json!(names)));
        put(
            "data_classes",
            self.data_classes.as_ref().map(|names| json!(names)),
        );
        put("expires_in", self.expires_in.map(|seconds| json!(seconds)));
        put("may_delegate", self.may_delegate.map(|may| json!(may)));
        if let Some(resources) = &self.resources {
            let uids = resources.iter().map(|text| named("--resource", text));
            let uids = uids.collect::<Result<Vec<_>, _>>()?;
            put("resources", Some(json!(uids)));
        }
        if self.calls.is_some() || self.amount.is_some() {
            let budget = body.entry("budget").or_insert_with(|| json!({}));
            if let Value::Object(budget) = budget {
                budget.extend(self.calls.map(|calls| ("calls".to_owned(), json!(calls))));
                let amount = self.amount;
                budget.extend(amount.map(|amount| ("amount".to_owned(), json!(amount))));
            }
        }
        Ok(body)
    }
}

// === impl Open ===

impl Open {
    fn body(&self) -> Result<Value, Error> {
        let mut body = self.members.body()?;
        if let Some(agent) = &self.agent {
            body.insert("agent".to_owned(), json!(named("AGENT", agent)?));
        }
        if let Some(person) = &self.on_behalf_of {
            let person = named("--on-behalf-of", person)?;
            body.insert("on_behalf_of".to_owned(), json!(person));
        }
        for (name, text) in [
            ("purpose", &self.purpose),
            ("intent", &self.intent),
            ("parent", &self.parent),
            ("template", &self.template),
        ] {
            if let Some(text) = text {
                body.insert(name.to_owned(), json!(text));
            }
        }
        Ok(Value::Object(body))
    }
}

// === impl Shown ===

impl Shown {
    fn stands(&self, out: &Output) -> String {
        let tone = if self.state == "active" {
            Tone::Good
        } else {
            Tone::Bad
        };
        out.paint(tone, &plain(&self.state))
    }

    fn text(&self, out: &Output) -> String {
        let declared = &self.declaration;
        let mut text = format!(
            "{}  {}\n  {} for `{}`, until {}",
            plain(&self.id),
            self.stands(out),
            plain(&declared.agent.to_string()),
            plain(&declared.purpose),
            plain(&declared.expires_at)
        );
        for (name, value) in &declared.more {
            let _ = write!(text, "\n  {}: {}", plain(name), plain(&value.to_string()));
        }
        for touched in self.labels.iter().flatten() {
            let (label, decision) = (plain(&touched.label), plain(&touched.decision));
            let _ = write!(text, "\n  touched {label}, by decision {decision}");
        }
        text
    }
}
