//! `remit principal`: who administers, and in which roles.

use clap::Subcommand;
use remit_core::{Principal, PrincipalKind, PrincipalName, Role, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Server;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the principals are.
const PATH: &[&str] = &["v1", "principals"];
/// The most principals that one request lists.
const PAGE: usize = 1_000;

/// Examples in `--help`.
const LIST: &str = "\
Examples:
    remit principal list
    remit principal list -o json | jq '.[] | select(.roles | index(\"approver\")) | .name'";

/// Examples in `--help`.
const SET: &str = "\
Examples:
    remit principal set maya --kind person --roles author,approver
    remit principal set deploy --kind machine --roles publisher
    remit key create maya-laptop --scopes read,write --principal maya

Roles: reader, author, publisher, approver, admin, auditor, operator. What is set replaces the roles
there were; a principal that was disabled is enabled again. A kind never changes.";

/// Examples in `--help`.
const DISABLE: &str = "\
Examples:
    remit principal disable maya

None of its keys can be used from then on; `remit principal set` brings it back.";

/// The commands around principals.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List principals and their roles.
    #[command(after_help = LIST)]
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Make a principal, or give it other roles.
    #[command(after_help = SET)]
    Set(Set),
    /// Disable a principal, and with it all of its keys.
    #[command(after_help = DISABLE)]
    Disable {
        /// What it is called.
        name: PrincipalName,
        #[command(flatten)]
        server: Server,
    },
}

/// The flags of `remit principal set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// What it is called.
    name: PrincipalName,
    /// What it is: person or machine.
    #[arg(long, value_name = "KIND")]
    kind: PrincipalKind,
    /// What it is trusted with; none, without it.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    roles: Vec<Role>,
    /// The natural person behind it, by the name of their first account; '' for nobody but itself. Without it, whoever was.
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// A principal as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    #[serde(flatten)]
    principal: Principal,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<PrincipalName>,
}

#[derive(Debug, Deserialize)]
struct Page {
    principals: Vec<Shown>,
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
        Command::List { server } => {
            let client = server.client()?;
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let query = [("limit", PAGE.to_string()), ("cursor", cursor)];
                let page: Page = client.get(PATH, &query).await?;
                found.extend(page.principals);
                match page.next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
            let columns = ["name", "kind", "roles", "created", "state"];
            out.rows(&found, &columns, |one| cells(one, out))?;
        }
        Command::Set(args) => {
            let client = args.server.client()?;
            let path = ["v1", "principals", args.name.as_str()];
            let mut body = json!({ "kind": args.kind, "roles": args.roles });
            if let (Some(members), Some(person)) = (body.as_object_mut(), &args.person) {
                members.insert("person".to_owned(), json!(person));
            }
            let reply = client
                .send(client.request(Method::PUT, &path)?.json(&body))
                .await?;
            let shown: Shown = reply.json()?;
            out.value(&shown, |shown| {
                format!(
                    "{}  {}",
                    plain(shown.principal.name.as_str()),
                    roles(&shown.principal)
                )
            })?;
        }
        Command::Disable { name, server } => {
            let client = server.client()?;
            let path = ["v1", "principals", name.as_str()];
            client.send(client.request(Method::DELETE, &path)?).await?;
            out.note(&format!("{} is disabled", plain(name.as_str())));
        }
    }
    Ok(Exit::Ok)
}

fn cells(one: &Shown, out: &Output) -> Vec<String> {
    let state = match one.disabled_at {
        Some(at) => out.paint(Tone::Bad, &format!("disabled {at}")),
        None => "enabled".to_owned(),
    };
    vec![
        plain(one.principal.name.as_str()),
        one.principal.kind.to_string(),
        roles(&one.principal),
        one.created_at.to_string(),
        state,
    ]
}

fn roles(principal: &Principal) -> String {
    if principal.roles.is_empty() {
        return "no roles".to_owned();
    }
    let names: Vec<&str> = principal.roles.iter().map(|role| role.as_str()).collect();
    names.join(",")
}
