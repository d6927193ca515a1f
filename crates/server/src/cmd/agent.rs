//! `remit agent`: the registry of agents.

use clap::Subcommand;
use remit_core::{ContentHash, EntityUid, PrincipalName, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{Client, Server};
use crate::cmd::bundle::Wait;
use crate::cmd::question::named;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// How many agents one request lists.
const PAGE: usize = 1_000;
const PATH: &[&str] = &["v1", "agents"];

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit agent list --status active
    remit agent list --owner maya -o json | jq -r '.[] | select(.standing != \"active\") | .uid.id'";

/// Examples in `--help`.
const PUT: &str = "\
Examples:
    remit agent put Agent:invoice-bot --owner maya --purpose 'Pays the invoices of suppliers' \\
        --environment production --model claude-sonnet-4-5 --trust 2 --roles payer \\
        --review-at 2027-02-28T00:00:00Z --ends-at 2027-06-30T00:00:00Z

What is put replaces what was registered; an agent that is suspended stays so. Its owner is a person who is enabled
(`remit principal set`). It must be reviewed, and end, within 366 days.";

/// Examples in `--help`.
const STOP: &str = "\
Examples:
    remit agent suspend Agent:invoice-bot --wait fleet";

/// The commands around agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the agents that are registered, and how each stands.
    #[command(after_help = LIST)]
    List(Wanted),
    /// Show one agent.
    Show {
        /// The agent: Agent:invoice-bot or 'Agent::"invoice-bot"'.
        agent: String,
        #[command(flatten)]
        server: Server,
    },
    /// Register an agent, or replace what is registered of it.
    #[command(after_help = PUT)]
    Put(Box<Put>),
    /// Stop an agent until it is resumed.
    #[command(after_help = STOP)]
    Suspend(Turn),
    /// Let a suspended agent work again.
    Resume(Turn),
    /// Stop an agent for good; its id is never used again.
    Retire(Turn),
    /// List who asked as an agent, lately, and is not registered.
    Unknown {
        #[command(flatten)]
        server: Server,
    },
}

/// The flags of `remit agent list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// Only those in this status: active, suspended or retired.
    #[arg(long)]
    status: Option<String>,
    /// Only those of this owner.
    #[arg(long)]
    owner: Option<PrincipalName>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit agent put`.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// The agent: Agent:invoice-bot or 'Agent::"invoice-bot"'.
    agent: String,
    /// The person who answers for it.
    #[arg(long, value_name = "NAME")]
    owner: PrincipalName,
    /// What it is for, in one line.
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// Where it runs.
    #[arg(long, value_name = "NAME")]
    environment: String,
    /// The model that drives it.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// How well it proves what it is: 0 not at all, 1 by a token, 2 by a bound token, 3 attested.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=3))]
    trust: u8,
    /// What it may do at most, by names that policies know; nothing, without it.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    roles: Vec<String>,
    /// By when somebody must have looked at it again.
    #[arg(long, value_name = "TIME")]
    review_at: Timestamp,
    /// When it must stop.
    #[arg(long, value_name = "TIME")]
    ends_at: Timestamp,
    /// The SHA-256 of what it is built of.
    #[arg(long, value_name = "HASH")]
    build: Option<ContentHash>,
    /// The machine principal as which it calls Remit itself.
    #[arg(long, value_name = "NAME")]
    principal: Option<PrincipalName>,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// One agent to be stopped or let go on.
#[derive(Debug, clap::Args)]
pub(crate) struct Turn {
    /// The agent: Agent:invoice-bot or 'Agent::"invoice-bot"'.
    agent: String,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// An agent as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    uid: EntityUid,
    standing: String,
    owner: String,
    purpose: String,
    model: String,
    trust: u8,
    roles: Vec<String>,
    review_at: Timestamp,
    ends_at: Timestamp,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Who is not registered, as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Unknown {
    uid: EntityUid,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Page<T> {
    agents: Vec<T>,
    #[serde(default)]
    next: Option<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::List(Wanted {
            status,
            owner,
            server,
        }) => {
            let mut query = Vec::new();
            query.extend(status.map(|status| ("status", status)));
            query.extend(owner.map(|owner| ("owner", owner.to_string())));
            let found: Vec<Shown> = all(&server.client()?, PATH, &query).await?;
            let columns = [
                "agent", "standing", "owner", "model", "trust", "roles", "ends",
            ];
            out.rows(&found, &columns, |one| one.cells(out))?;
        }
        Command::Show { agent, server } => {
            let uid = named("AGENT", &agent)?;
            let path = ["v1", "agents", &uid.kind, &uid.id];
            let shown: Shown = server.client()?.get(&path, &[]).await?;
            out.value(&shown, |shown| shown.text(out))?;
        }
        Command::Put(put) => {
            let uid = named("AGENT", &put.agent)?;
            let client = put.server.client()?;
            let path = ["v1", "agents", &uid.kind, &uid.id];
            let body = put.body();
            let request = client.request(Method::PUT, &path)?.json(&body);
            let request = request.query(&waits(put.wait));
            let shown: Shown = client.send(request).await?.json()?;
            out.value(&shown, |shown| shown.text(out))?;
        }
        Command::Suspend(turn) => turned(Method::POST, Some("suspend"), turn, out).await?,
        Command::Resume(turn) => turned(Method::POST, Some("resume"), turn, out).await?,
        Command::Retire(turn) => turned(Method::DELETE, None, turn, out).await?,
        Command::Unknown { server } => {
            let path = ["v1", "agents", "unknown"];
            let found: Vec<Unknown> = all(&server.client()?, &path, &[]).await?;
            let columns = ["agent", "decisions", "first seen", "last seen"];
            out.rows(&found, &columns, |one| {
                vec![
                    plain(&one.uid.to_string()),
                    one.count.to_string(),
                    one.first_seen.to_string(),
                    one.last_seen.to_string(),
                ]
            })?;
        }
    }
    Ok(Exit::Ok)
}

/// Reads every page of a list of agents.
async fn all<T: for<'de> Deserialize<'de>>(
    client: &Client,
    path: &[&str],
    query: &[(&str, String)],
) -> Result<Vec<T>, Error> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut query = query.to_vec();
        query.extend([("limit", PAGE.to_string()), ("cursor", cursor)]);
        let page: Page<T> = client.get(path, &query).await?;
        found.extend(page.agents);
        match page.next {
            Some(next) => cursor = next,
            None => return Ok(found),
        }
    }
}

async fn turned(method: Method, verb: Option<&str>, turn: Turn, out: &Output) -> Result<(), Error> {
    let uid = named("AGENT", &turn.agent)?;
    let client = turn.server.client()?;
    let mut path = vec!["v1", "agents", &uid.kind, &uid.id];
    path.extend(verb);
    let request = client.request(method, &path)?.query(&waits(turn.wait));
    let shown: Shown = client.send(request).await?.json()?;
    out.value(&shown, |shown| shown.text(out))
}

/// Says in a request what to wait for.
pub(crate) fn waits(wait: Option<Wait>) -> Vec<(&'static str, &'static str)> {
    wait.map(|Wait::Fleet| ("wait", "fleet"))
        .into_iter()
        .collect()
}

// === impl Put ===

impl Put {
    fn body(&self) -> Value {
        let mut body = json!({
            "owner": self.owner, "purpose": self.purpose, "environment": self.environment, "model": self.model,
            "trust": self.trust, "roles": self.roles, "review_at": self.review_at, "ends_at": self.ends_at,
        });
        if let Some(members) = body.as_object_mut() {
            let build = self.build.map(|hash| ("build".to_owned(), json!(hash)));
            members.extend(build);
            let principal = self.principal.as_ref();
            members.extend(principal.map(|name| ("principal".to_owned(), json!(name))));
        }
        body
    }
}

// === impl Shown ===

impl Shown {
    fn cells(&self, out: &Output) -> Vec<String> {
        vec![
            plain(&self.uid.to_string()),
            self.stands(out),
            plain(&self.owner),
            plain(&self.model),
            self.trust.to_string(),
            plain(&self.roles.join(",")),
            self.ends_at.to_string(),
        ]
    }

    fn stands(&self, out: &Output) -> String {
        let tone = if self.standing == "active" {
            Tone::Good
        } else {
            Tone::Bad
        };
        out.paint(tone, &plain(&self.standing))
    }

    fn text(&self, out: &Output) -> String {
        format!(
            "{}  {}\n  {}\n  owner {}, model {}, trust {}, roles {}; review by {}, ends {}",
            plain(&self.uid.to_string()),
            self.stands(out),
            plain(&self.purpose),
            plain(&self.owner),
            plain(&self.model),
            self.trust,
            plain(&self.roles.join(",")),
            self.review_at,
            self.ends_at
        )
    }
}
