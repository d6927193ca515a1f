//! `remit kill`: what must stop now, whatever the policies say.

use clap::Subcommand;
use remit_core::{KillId, KillTarget, TaskId, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Server;
use crate::cmd::agent::waits;
use crate::cmd::bundle::Wait;
use crate::cmd::question::named;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

const PATH: &[&str] = &["v1", "kills"];

/// Examples in `--help`.
const SET: &str = "\
Examples:
    remit kill agent Agent:invoice-bot --reason 'It pays nobody knows whom, incident 4711' --wait fleet
    remit kill tool payments.send --reason 'The bank asks us to'

Every question of it is denied on every replica, within seconds; with --wait fleet, when the command ends. One person asks to
lift it (`remit kill lift`), and another agrees (`remit kill confirm`).";

/// The commands around kills.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Stop everything, in every tenant of the installation; needs the scope tenants.
    Everything(Set),
    /// Stop everything in the tenant.
    Tenant(Set),
    /// Stop one agent, and whoever acts on its authority.
    #[command(after_help = SET)]
    Agent {
        /// The agent: Agent:invoice-bot or 'Agent::"invoice-bot"'.
        agent: String,
        #[command(flatten)]
        set: Set,
    },
    /// Stop one task with all below it.
    Task {
        /// The id of the task.
        task: TaskId,
        #[command(flatten)]
        set: Set,
    },
    /// Stop one tool.
    Tool {
        /// The name of the tool.
        tool: String,
        #[command(flatten)]
        set: Set,
    },
    /// Stop every agent that a model drives.
    Model {
        /// The model.
        model: String,
        #[command(flatten)]
        set: Set,
    },
    /// List the newest kills.
    List {
        /// Those too that were lifted.
        #[arg(long)]
        all: bool,
        /// The most kills to list: 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Ask that a kill is lifted; another person has to agree within an hour.
    Lift {
        /// The id of the kill.
        id: KillId,
        #[command(flatten)]
        server: Server,
    },
    /// Agree that a kill is lifted which another person asks for.
    Confirm {
        /// The id of the kill.
        id: KillId,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
}

/// Why something is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Why, in one line.
    #[arg(long)]
    reason: String,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// A kill as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: KillId,
    state: String,
    target: KillTarget,
    reason: String,
    by: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lift: Option<Lift>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifted_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifted_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Lift {
    asked_by: String,
    asked_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Page {
    kills: Vec<Shown>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let (target, set) = match command {
        Command::Everything(set) => (KillTarget::Everything, set),
        Command::Tenant(set) => (KillTarget::Tenant, set),
        Command::Agent { agent, set } => {
            let agent = named("AGENT", &agent)?;
            (KillTarget::Agent { agent }, set)
        }
        Command::Task { task, set } => (KillTarget::Task { task }, set),
        Command::Tool { tool, set } => (KillTarget::Tool { tool: tool.into() }, set),
        Command::Model { model, set } => {
            let model = model.into();
            (KillTarget::Model { model }, set)
        }
        Command::List { all, limit, server } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend((!all).then(|| ("state", "in_force".to_owned())));
            let page: Page = server.client()?.get(PATH, &query).await?;
            let columns = [
                "id",
                "state",
                "stops",
                "by",
                "since",
                "lift asked by",
                "reason",
            ];
            out.rows(&page.kills, &columns, |one| one.cells(out))?;
            return Ok(Exit::Ok);
        }
        Command::Lift { id, server } => {
            let id = id.to_string();
            let path = ["v1", "kills", id.as_str(), "lift"];
            return post(&server, &path, None, out).await;
        }
        Command::Confirm { id, wait, server } => {
            let id = id.to_string();
            let path = ["v1", "kills", id.as_str(), "lift", "confirm"];
            return post(&server, &path, wait, out).await;
        }
    };
    let client = set.server.client()?;
    let body = json!({ "target": target, "reason": set.reason });
    let request = client.request(Method::POST, PATH)?.json(&body);
    let request = request.query(&waits(set.wait));
    let shown: Shown = client.send(request).await?.json()?;
    out.value(&shown, Shown::text)?;
    Ok(Exit::Ok)
}

async fn post(
    server: &Server,
    path: &[&str],
    wait: Option<Wait>,
    out: &Output,
) -> Result<Exit, Error> {
    let client = server.client()?;
    let request = client.request(Method::POST, path)?.query(&waits(wait));
    let shown: Shown = client.send(request).await?.json()?;
    out.value(&shown, Shown::text)?;
    Ok(Exit::Ok)
}

/// Names what a kill stops.
fn stops(target: &KillTarget) -> String {
    let what = match target {
        KillTarget::Everything | KillTarget::Tenant => None,
        KillTarget::Agent { agent } => Some(agent.to_string()),
        KillTarget::Task { task } => Some(task.to_string()),
        KillTarget::Tool { tool } => Some(tool.to_string()),
        KillTarget::Model { model } => Some(model.to_string()),
    };
    match what {
        Some(what) => format!("{} {}", target.kind(), plain(&what)),
        None => target.kind().to_owned(),
    }
}

// === impl Shown ===

impl Shown {
    fn text(&self) -> String {
        let what = stops(&self.target);
        match (&self.lifted_by, &self.lift) {
            (Some(by), _) => format!("{what} may go on; {} agreed", plain(by)),
            (None, Some(lift)) => format!(
                "{what} is to go on; another person agrees until {}: remit kill confirm {}",
                lift.expires_at, self.id
            ),
            (None, None) => format!(
                "{what} is stopped since {}, by {}; to ask that it is lifted: remit kill lift {}",
                self.at,
                plain(&self.by),
                self.id
            ),
        }
    }

    fn cells(&self, out: &Output) -> Vec<String> {
        let state = match self.state.as_str() {
            "in_force" => out.paint(Tone::Bad, "in force"),
            other => plain(other),
        };
        let asked = self.lift.as_ref().map(|lift| plain(&lift.asked_by));
        vec![
            self.id.to_string(),
            state,
            stops(&self.target),
            plain(&self.by),
            self.at.to_string(),
            asked.unwrap_or_default(),
            plain(&self.reason),
        ]
    }
}
