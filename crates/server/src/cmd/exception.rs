//! `remit exception`: a control that does not count for a while, in one scope.

use clap::Subcommand;
use remit_core::{ContentHash, ExceptionId, ExceptionScope, PolicyId, TaskId, Timestamp};
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

const PATH: &[&str] = &["v1", "exceptions"];

/// Examples in `--help`.
const PROPOSE: &str = "\
Examples:
    remit exception propose payments.limit --agent Agent:invoice-bot --action pay --owner maya \\
        --until 2026-11-23T18:00:00Z --reason 'Quarter end, incident 4711' \\
        --compensating 'Maya looks at every payment above 10,000 the same evening'

It changes nothing before another person confirms exactly that (`remit exception confirm`), within 7 days. Policies annotated
@relax(\"never\") have no exceptions.";

/// Examples in `--help`.
const CONFIRM: &str = "\
Examples:
    remit exception show 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1e01
    remit exception confirm 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1e01 --seen sha256:9f2c… --wait fleet";

/// The commands around exceptions.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Propose that a policy which forbids does not count in one scope for a while.
    #[command(after_help = PROPOSE)]
    Propose(Box<Propose>),
    /// Agree to exactly what another person proposed; it is in force from then on.
    #[command(after_help = CONFIRM)]
    Confirm {
        /// The id of the exception.
        id: ExceptionId,
        /// The hash of what you have looked at, as `remit exception show` prints it.
        #[arg(long, value_name = "HASH")]
        seen: ContentHash,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
    /// End an exception, or take back what was proposed.
    End {
        /// The id of the exception.
        id: ExceptionId,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest exceptions, whatever has become of them.
    List {
        /// Those of one policy.
        #[arg(long)]
        policy: Option<String>,
        /// The most exceptions to list: 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Show one exception with all that was proposed.
    Show {
        /// The id of the exception.
        id: ExceptionId,
        #[command(flatten)]
        server: Server,
    },
}

/// What is proposed.
#[derive(Debug, clap::Args)]
pub(crate) struct Propose {
    /// The id of the policy.
    policy: String,
    /// Only for this action.
    #[arg(long)]
    action: Option<String>,
    /// Only for this agent: Agent:invoice-bot or 'Agent::"invoice-bot"'.
    #[arg(long)]
    agent: Option<String>,
    /// Only for keys of this environment.
    #[arg(long)]
    environment: Option<String>,
    /// Only for this resource: Tool:mail.send or 'Tool::"mail.send"'.
    #[arg(long)]
    resource: Option<String>,
    /// Only in this task and those below it.
    #[arg(long)]
    task: Option<TaskId>,
    /// Who answers for it: a person.
    #[arg(long)]
    owner: String,
    /// Why, in one line.
    #[arg(long)]
    reason: String,
    /// What is done instead, in one line.
    #[arg(long)]
    compensating: String,
    /// The moment from which the policy counts again, such as 2026-11-23T18:00:00Z.
    #[arg(long)]
    until: Timestamp,
    #[command(flatten)]
    server: Server,
}

/// An exception as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: ExceptionId,
    state: String,
    policy: PolicyId,
    scope: ExceptionScope,
    owner: String,
    reason: String,
    compensating: String,
    until: Timestamp,
    hash: ContentHash,
    proposed_by: String,
    proposed_at: Timestamp,
    lapses_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    void_because: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Page {
    exceptions: Vec<Shown>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let shown: Shown = match command {
        Command::Propose(propose) => {
            let client = propose.server.client()?;
            let body = propose.body()?;
            let request = client.request(Method::POST, PATH)?.json(&body);
            client.send(request).await?.json()?
        }
        Command::Confirm {
            id,
            seen,
            wait,
            server,
        } => {
            let client = server.client()?;
            let id = id.to_string();
            let path = ["v1", "exceptions", id.as_str(), "confirm"];
            let request = client.request(Method::POST, &path)?.query(&waits(wait));
            let request = request.json(&json!({ "seen": seen }));
            client.send(request).await?.json()?
        }
        Command::End { id, wait, server } => {
            let client = server.client()?;
            let id = id.to_string();
            let path = ["v1", "exceptions", id.as_str(), "end"];
            let request = client.request(Method::POST, &path)?.query(&waits(wait));
            client.send(request).await?.json()?
        }
        Command::Show { id, server } => {
            let id = id.to_string();
            let path = ["v1", "exceptions", id.as_str()];
            server.client()?.get(&path, &[]).await?
        }
        Command::List {
            policy,
            limit,
            server,
        } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(policy.map(|policy| ("policy", policy)));
            let page: Page = server.client()?.get(PATH, &query).await?;
            let columns = ["id", "state", "policy", "scope", "until", "owner", "reason"];
            out.rows(&page.exceptions, &columns, |one| one.cells(out))?;
            return Ok(Exit::Ok);
        }
    };
    out.value(&shown, Shown::text)?;
    Ok(Exit::Ok)
}

/// Writes where it is for.
fn places(scope: &ExceptionScope) -> String {
    let ExceptionScope {
        action,
        agent,
        environment,
        resource,
        task,
    } = scope;
    let members = [
        action.as_ref().map(|name| format!("action {name}")),
        agent.as_ref().map(|uid| format!("agent {uid}")),
        environment
            .as_ref()
            .map(|name| format!("environment {name}")),
        resource.as_ref().map(|uid| format!("resource {uid}")),
        task.map(|id| format!("task {id}")),
    ];
    let members: Vec<String> = members.into_iter().flatten().collect();
    plain(&members.join(", "))
}

// === impl Propose ===

impl Propose {
    fn body(&self) -> Result<serde_json::Value, Error> {
        let uid = |member: &'static str, text: &Option<String>| {
            text.as_deref().map(|text| named(member, text)).transpose()
        };
        let scope = ExceptionScope {
            action: self.action.as_deref().map(Into::into),
            agent: uid("--agent", &self.agent)?,
            environment: self.environment.as_deref().map(Into::into),
            resource: uid("--resource", &self.resource)?,
            task: self.task,
        };
        Ok(json!({
            "policy": self.policy, "scope": scope, "owner": self.owner, "reason": self.reason,
            "compensating": self.compensating, "until": self.until,
        }))
    }
}

// === impl Shown ===

impl Shown {
    fn text(&self) -> String {
        let what = format!(
            "{} does not count for {}\n  until {}, {} answers for it\n  because: {}\n  instead: {}",
            plain(self.policy.as_str()),
            places(&self.scope),
            self.until,
            plain(&self.owner),
            plain(&self.reason),
            plain(&self.compensating),
        );
        let by = |name: &Option<String>| name.as_deref().map(plain).unwrap_or_default();
        let state = match self.state.as_str() {
            "proposed" => format!(
                "proposed by {}; another person agrees until {}:\n  remit exception confirm {} --seen {}",
                plain(&self.proposed_by),
                self.lapses_at,
                self.id,
                self.hash
            ),
            "in_force" => format!(
                "in force, confirmed by {}; to end it: remit exception end {}",
                by(&self.confirmed_by),
                self.id
            ),
            "ended" => format!("ended by {}", by(&self.ended_by)),
            "void" => format!("of no effect: {}", by(&self.void_because)),
            other => plain(other),
        };
        format!("{what}\n{state}")
    }

    fn cells(&self, out: &Output) -> Vec<String> {
        let state = match self.state.as_str() {
            "in_force" => out.paint(Tone::Bad, "in force"),
            other => plain(other),
        };
        vec![
            self.id.to_string(),
            state,
            plain(self.policy.as_str()),
            places(&self.scope),
            self.until.to_string(),
            plain(&self.owner),
            plain(&self.reason),
        ]
    }
}
