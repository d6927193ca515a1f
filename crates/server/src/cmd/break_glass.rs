//! `remit break-glass`: more roles for one person, for minutes, once another person has agreed.

use clap::Subcommand;
use remit_core::{BreakGlassId, PrincipalName, Role, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Server;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the grants are.
const PATH: &[&str] = &["v1", "break-glass"];

/// Examples in `--help`.
const REQUEST: &str = "\
Examples:
    remit break-glass request --reason 'Payments are blocked, incident 4711'
    remit break-glass request --principal maya --roles publisher --minutes 5 --reason 'Incident 4711'

Another person with the role `approver` runs `remit break-glass approve` within an hour. The role `approver` cannot be had
in this way.";

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit break-glass list
    remit break-glass list -o json | jq '.[] | select(.state == \"active\")'";

/// The commands around break-glass.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask for more roles for some minutes.
    #[command(after_help = REQUEST)]
    Request(Wanted),
    /// List the newest grants: those that wait, are active or are over.
    #[command(after_help = LIST)]
    List {
        /// The most grants to list: 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Agree to a grant that another person has asked for.
    Approve(One),
    /// End a grant at once, or take back what was asked.
    End(One),
}

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The person who is to have the roles; you, without it.
    #[arg(long, value_name = "NAME")]
    principal: Option<PrincipalName>,
    /// The roles; admin and publisher, without it.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    roles: Vec<Role>,
    /// For how long, from the approval on.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..=60))]
    minutes: u8,
    /// What for, in one line.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// One grant.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// The id of the grant.
    id: BreakGlassId,
    #[command(flatten)]
    server: Server,
}

/// A grant as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: BreakGlassId,
    state: String,
    principal: String,
    roles: Vec<Role>,
    minutes: u8,
    reason: String,
    requested_by: String,
    requested_at: Timestamp,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approved_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Page {
    grants: Vec<Shown>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Request(wanted) => {
            let client = wanted.server.client()?;
            let mut body = json!({ "minutes": wanted.minutes, "reason": wanted.reason });
            if let Some(members) = body.as_object_mut() {
                let principal = wanted.principal.map(|name| json!(name));
                members.extend(principal.map(|name| ("principal".to_owned(), name)));
                let roles = Some(wanted.roles).filter(|roles| !roles.is_empty());
                members.extend(roles.map(|roles| ("roles".to_owned(), json!(roles))));
            }
            let request = client.request(Method::POST, PATH)?.json(&body);
            let shown: Shown = client.send(request).await?.json()?;
            out.value(&shown, Shown::text)?;
        }
        Command::List { limit, server } => {
            let query = [("limit", limit.to_string())];
            let page: Page = server.client()?.get(PATH, &query).await?;
            let columns = [
                "id",
                "state",
                "principal",
                "roles",
                "by",
                "approved",
                "end",
                "reason",
            ];
            out.rows(&page.grants, &columns, |one| one.cells(out))?;
        }
        Command::Approve(One { id, server }) => {
            let client = server.client()?;
            let id = id.to_string();
            let path = ["v1", "break-glass", id.as_str(), "approve"];
            let request = client.request(Method::POST, &path)?;
            let shown: Shown = client.send(request).await?.json()?;
            out.value(&shown, Shown::text)?;
        }
        Command::End(One { id, server }) => {
            let client = server.client()?;
            let id = id.to_string();
            let path = ["v1", "break-glass", id.as_str()];
            client.send(client.request(Method::DELETE, &path)?).await?;
            out.note(&format!("{id} is over"));
        }
    }
    Ok(Exit::Ok)
}

// === impl Shown ===

impl Shown {
    fn text(&self) -> String {
        let who = plain(&self.principal);
        let roles = self.names();
        match (&self.ends_at, &self.approved_by) {
            (Some(ends_at), Some(by)) => format!(
                "{who} has {roles} until {ends_at}, approved by {}; to end it: remit break-glass end {}",
                plain(by),
                self.id
            ),
            _ => format!(
                "{who} is to have {roles} for {} minutes; another person approves it until {}: remit break-glass approve {}",
                self.minutes, self.expires_at, self.id
            ),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
        names.join(",")
    }

    fn cells(&self, out: &Output) -> Vec<String> {
        let end = self.ended_at.or(self.ends_at);
        let state = match self.state.as_str() {
            "active" => out.paint(Tone::Bad, "active"),
            "pending" => out.paint(Tone::Warn, "pending"),
            other => plain(other),
        };
        vec![
            self.id.to_string(),
            state,
            plain(&self.principal),
            self.names(),
            plain(&self.requested_by),
            self.approved_by.as_deref().map(plain).unwrap_or_default(),
            end.map(|end| end.to_string()).unwrap_or_default(),
            plain(&self.reason),
        ]
    }
}
