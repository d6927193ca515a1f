//! `remit approvers`: who answers access requests, in groups, and in whose place.

use clap::Subcommand;
use remit_core::{PrincipalName, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::Server;
use crate::cmd::agent::waits;
use crate::cmd::bundle::Wait;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

const GROUPS: &[&str] = &["v1", "approver-groups"];
const DELEGATIONS: &[&str] = &["v1", "approver-delegations"];
/// How many one request lists.
const PAGE: &str = "1000";

/// Examples in `--help`.
const SET: &str = "\
Examples:
    remit approvers group set finance --members ben,cy --escalates-to board --escalate-after 3600
    remit approvers group set finance --members ben,cy@2026-12-31T00:00:00Z

A policy that forbids names it: @cure(\"approval:finance\"). What is set replaces what there was. NAME@TIME is a member until
then.";

/// Examples in `--help`.
const HAND: &str = "\
Examples:
    remit approvers delegate set ben --to cy --until 2026-11-29T18:00:00Z --reason 'On leave'
    remit approvers delegate end ben";

/// The commands around approvers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Groups of approvers.
    #[command(subcommand)]
    Group(Group),
    /// Who answers in the place of whom.
    #[command(subcommand)]
    Delegate(Delegate),
}

/// The commands around groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List groups.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Make or replace a group.
    #[command(after_help = SET)]
    Set(Set),
    /// Remove a group.
    Delete {
        /// The group.
        name: String,
        #[command(flatten)]
        server: Server,
    },
}

/// The commands around delegations.
#[derive(Debug, Subcommand)]
pub(crate) enum Delegate {
    /// List delegations, those that are over included.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Hand the part of an approver on, until a moment.
    #[command(after_help = HAND)]
    Set(Hand),
    /// Take it back at once.
    End {
        /// Whose part it is.
        from: PrincipalName,
        #[command(flatten)]
        server: Server,
    },
}

/// The flags of `remit approvers group set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The group.
    name: String,
    /// Who belongs to it, each NAME or NAME@TIME.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    members: Vec<String>,
    /// The group to which goes on what it has not answered.
    #[arg(long, value_name = "GROUP", requires = "escalate_after")]
    escalates_to: Option<String>,
    /// After how many seconds.
    #[arg(long, value_name = "SECONDS", requires = "escalates_to")]
    escalate_after: Option<u32>,
    /// How many requests may wait for it, for each of its members; 100, without it.
    #[arg(long, value_name = "NUMBER")]
    most_open: Option<u32>,
    /// How many answers a member gives within an hour at most; 60, without it.
    #[arg(long, value_name = "NUMBER")]
    most_per_hour: Option<u32>,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit approvers delegate set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Hand {
    /// Whose part it is.
    from: PrincipalName,
    /// Who answers.
    #[arg(long)]
    to: PrincipalName,
    /// The moment from which they do not any more, at most 90 days ahead.
    #[arg(long, value_name = "TIME")]
    until: Timestamp,
    /// Why, in one line.
    #[arg(long)]
    reason: String,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShownGroup {
    name: String,
    members: Vec<Member>,
    #[serde(flatten)]
    rules: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    principal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShownDelegation {
    from: String,
    to: String,
    until: Timestamp,
    reason: String,
    made_by: String,
    at: Timestamp,
    in_force: bool,
}

#[derive(Debug, Deserialize)]
struct GroupPage {
    groups: Vec<ShownGroup>,
}

#[derive(Debug, Deserialize)]
struct DelegationPage {
    delegations: Vec<ShownDelegation>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Group(command) => group(command, out).await,
        Command::Delegate(command) => delegate(command, out).await,
    }
}

async fn group(command: Group, out: &Output) -> Result<Exit, Error> {
    match command {
        Group::List { server } => {
            let query = [("limit", PAGE.to_owned())];
            let page: GroupPage = server.client()?.get(GROUPS, &query).await?;
            let columns = ["name", "members", "goes on to", "after"];
            out.rows(&page.groups, &columns, ShownGroup::cells)?;
        }
        Group::Set(set) => {
            let client = set.server.client()?;
            let path = [GROUPS, &[set.name.as_str()]].concat();
            let request = client.request(Method::PUT, &path)?.json(&set.body());
            let request = request.query(&waits(set.wait));
            let shown: ShownGroup = client.send(request).await?.json()?;
            out.value(&shown, |shown| shown.cells().join("  "))?;
        }
        Group::Delete { name, server } => {
            let client = server.client()?;
            let path = [GROUPS, &[name.as_str()]].concat();
            client.send(client.request(Method::DELETE, &path)?).await?;
            out.note(&format!("{} is no group any more", plain(&name)));
        }
    }
    Ok(Exit::Ok)
}

async fn delegate(command: Delegate, out: &Output) -> Result<Exit, Error> {
    match command {
        Delegate::List { server } => {
            let query = [("limit", PAGE.to_owned())];
            let page: DelegationPage = server.client()?.get(DELEGATIONS, &query).await?;
            let columns = ["from", "to", "until", "state", "reason"];
            out.rows(&page.delegations, &columns, |one| one.cells(out))?;
        }
        Delegate::Set(hand) => {
            let client = hand.server.client()?;
            let path = [DELEGATIONS, &[hand.from.as_str()]].concat();
            let body = json!({ "to": hand.to, "until": hand.until, "reason": hand.reason });
            let request = client.request(Method::PUT, &path)?.json(&body);
            let request = request.query(&waits(hand.wait));
            let shown: ShownDelegation = client.send(request).await?.json()?;
            out.value(&shown, |shown| {
                let (from, to) = (plain(&shown.from), plain(&shown.to));
                format!("{to} answers in the place of {from} until {}", shown.until)
            })?;
        }
        Delegate::End { from, server } => {
            let client = server.client()?;
            let path = [DELEGATIONS, &[from.as_str()]].concat();
            client.send(client.request(Method::DELETE, &path)?).await?;
            out.note(&format!("{} answers for themself", plain(from.as_str())));
        }
    }
    Ok(Exit::Ok)
}

// === impl Set ===

impl Set {
    fn body(&self) -> Value {
        let mut members = Vec::new();
        for member in &self.members {
            members.push(match member.rsplit_once('@') {
                None => json!({ "principal": member }),
                Some((name, until)) => match until.parse::<Timestamp>() {
                    Ok(until) => json!({ "principal": name, "until": until }),
                    // A name may have the sign in it.
                    Err(_) => json!({ "principal": member }),
                },
            });
        }
        let mut body = Map::new();
        body.insert("members".to_owned(), Value::Array(members));
        for (name, value) in [
            ("escalates_to", json!(self.escalates_to)),
            ("escalate_after", json!(self.escalate_after)),
            ("most_open", json!(self.most_open)),
            ("most_per_hour", json!(self.most_per_hour)),
        ] {
            if !value.is_null() {
                body.insert(name.to_owned(), value);
            }
        }
        Value::Object(body)
    }
}

// === impl ShownGroup ===

impl ShownGroup {
    fn cells(&self) -> Vec<String> {
        let members = self.members.iter().map(|member| match member.until {
            Some(until) => format!("{} until {until}", plain(&member.principal)),
            None => plain(&member.principal),
        });
        let text = |name: &str| match self.rules.get(name) {
            Some(Value::String(text)) => plain(text),
            Some(other) => format!("{other} s"),
            None => String::new(),
        };
        let members: Vec<String> = members.collect();
        vec![
            plain(&self.name),
            members.join(", "),
            text("escalates_to"),
            text("escalate_after"),
        ]
    }
}

// === impl ShownDelegation ===

impl ShownDelegation {
    fn cells(&self, out: &Output) -> Vec<String> {
        let state = if self.in_force {
            "in force".to_owned()
        } else {
            out.paint(Tone::Dim, "over")
        };
        vec![
            plain(&self.from),
            plain(&self.to),
            self.until.to_string(),
            state,
            plain(&self.reason),
        ]
    }
}
