//! `remit task template`: what is declared for a purpose once.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PAGE;
use crate::client::Server;
use crate::cmd::agent::waits;
use crate::cmd::bundle::Wait;
use crate::cmd::tool::read;
use crate::error::Error;
use crate::output::{Output, plain};

const PATH: &[&str] = &["v1", "task-templates"];

/// Examples in `--help`.
const PUT: &str = "\
Examples:
    remit task template put pay-invoices template.json

where template.json is such as
    {\"purpose\": \"pay-invoices\", \"actions\": [\"get_invoice\", \"pay\"], \"budget\": {\"calls\": 100}, \"required\": [\"sinks\"]}";

/// The commands around templates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the templates.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one template.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Make or replace a template.
    #[command(after_help = PUT)]
    Put {
        /// Its name.
        name: String,
        /// A JSON object of what it says; `-` is standard input.
        file: PathBuf,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a template; the tasks that were made from it go on.
    Delete {
        /// Its name.
        name: String,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
}

/// A template as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    name: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Page {
    templates: Vec<Shown>,
    #[serde(default)]
    next: Option<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the file and of the client.
pub(super) async fn run(command: Command, out: &Output) -> Result<(), Error> {
    match command {
        Command::List { server } => {
            let client = server.client()?;
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let query = [("limit", PAGE.to_string()), ("cursor", cursor)];
                let page: Page = client.get(PATH, &query).await?;
                found.extend(page.templates);
                match page.next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
            out.rows(&found, &["template", "says"], |one| {
                vec![plain(&one.name), one.says()]
            })
        }
        Command::Show { name, server } => {
            let path = ["v1", "task-templates", &name];
            let shown: Shown = server.client()?.get(&path, &[]).await?;
            out.value(&shown, Shown::text)
        }
        Command::Put {
            name,
            file,
            wait,
            server,
        } => {
            let client = server.client()?;
            let path = ["v1", "task-templates", &name];
            let request = client.request(Method::PUT, &path)?.json(&read(&file)?);
            let sent = client.send(request.query(&waits(wait))).await?;
            let shown: Shown = sent.json()?;
            out.value(&shown, Shown::text)
        }
        Command::Delete { name, wait, server } => {
            let client = server.client()?;
            let path = ["v1", "task-templates", &name];
            let request = client.request(Method::DELETE, &path)?;
            client.send(request.query(&waits(wait))).await?;
            Ok(())
        }
    }
}

// === impl Shown ===

impl Shown {
    fn says(&self) -> String {
        plain(&Value::Object(self.more.clone()).to_string())
    }

    fn text(&self) -> String {
        format!("{}\n  {}", plain(&self.name), self.says())
    }
}
