//! `remit settings`: what a tenant demands of its administration.

use clap::{ArgAction, Subcommand};
use remit_core::Timestamp;
use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Server;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

/// Where the settings are.
const PATH: &[&str] = &["v1", "settings"];

/// Examples in `--help`.
const SET: &str = "\
Examples:
    remit settings set --second-person true
    remit settings set --second-person false

To demand a second person holds at once. To demand it no more waits for another person, who runs `remit settings confirm
--second-person false` within 24 hours.";

/// The commands around settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the settings, and what somebody has asked to change.
    Show {
        #[command(flatten)]
        server: Server,
    },
    /// Change the settings, or ask for it.
    #[command(after_help = SET)]
    Set(Wanted),
    /// Agree to what another person has asked for.
    Confirm(Wanted),
}

/// What the settings are to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// Whether what may permit more needs the approval of a person who had no hand in it.
    #[arg(long, required = true, action = ArgAction::Set, value_name = "true|false")]
    second_person: bool,
    #[command(flatten)]
    server: Server,
}

/// The settings as the API tells them.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    second_person: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    second_person: bool,
    asked_by: String,
    at: Timestamp,
    expires_at: Timestamp,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let settings: Settings = match command {
        Command::Show { server } => server.client()?.get(PATH, &[]).await?,
        Command::Set(wanted) => {
            let client = wanted.server.client()?;
            let before = client.send(client.request(Method::GET, PATH)?).await?;
            let tag = before.header(ETAG.as_str()).unwrap_or_default();
            let request = client
                .request(Method::PUT, PATH)?
                .header(IF_MATCH, tag)
                .json(&json!({ "second_person": wanted.second_person }));
            client.send(request).await?.json()?
        }
        Command::Confirm(wanted) => {
            let client = wanted.server.client()?;
            let request = client
                .request(Method::POST, &["v1", "settings", "confirm"])?
                .json(&json!({ "second_person": wanted.second_person }));
            client.send(request).await?.json()?
        }
    };
    out.value(&settings, Settings::text)?;
    Ok(Exit::Ok)
}

// === impl Settings ===

impl Settings {
    fn text(&self) -> String {
        let mut lines = vec![format!("second person: {}", self.second_person)];
        if let Some(pending) = &self.pending {
            lines.push(format!(
                "{} asks for {}; another person confirms it until {}: remit settings confirm --second-person {}",
                plain(&pending.asked_by),
                pending.second_person,
                pending.expires_at,
                pending.second_person
            ));
        }
        lines.join("\n")
    }
}
