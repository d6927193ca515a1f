//! `remit webhook`: where Remit sends what happens, signed, and what became of it.

use clap::{ArgGroup, Subcommand};
use remit_core::{Timestamp, WebhookId};
use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// Where the webhooks are.
const PATH: &[&str] = &["v1", "webhooks"];
/// The state of a webhook that is told what happens.
const ENABLED: &str = "enabled";

/// Examples in `--help`.
const CREATE: &str = "\
Examples:
    remit webhook create https://chat.example.com/remit --events access_request.,approval.withdrawn
    remit webhook create https://agents.example.com/callbacks/ --callbacks

The secret is shown this once: the receiver checks the signature of everything that it gets with it. An event is named whole,
or every one that begins with a name that ends in a dot. With --callbacks, whoever asks for approval may name this URL, or one
below it, to be told when the request ends.";

/// Examples in `--help`.
const DELIVERIES: &str = "\
Examples:
    remit webhook deliveries 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20 --state dead
    remit webhook deliveries 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20 -o json | jq '.[].last_problem'";

/// The commands around webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a webhook, and show its secret this once.
    #[command(after_help = CREATE)]
    Create(Create),
    /// List the webhooks.
    List {
        /// The most webhooks to list: 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Show one webhook.
    Show(One),
    /// Delete a webhook; what waits to be sent there is not sent any more.
    Delete(One),
    /// List the newest deliveries of a webhook: those that wait, were taken or are given up.
    #[command(after_help = DELIVERIES)]
    Deliveries {
        #[command(flatten)]
        one: One,
        /// Only those in this state.
        #[arg(long, value_parser = ["pending", "delivered", "dead"])]
        state: Option<String>,
        /// The most deliveries to list: 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Enable a webhook again that was disabled; what happened meanwhile is not told.
    Enable(One),
    /// Send a webhook an event that says nothing, to try it.
    Ping(One),
    /// Make a new secret and show it this once; the old one signs as well for a while.
    Rotate(One),
}

/// A webhook to be registered.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").args(["events", "callbacks"]).required(true).multiple(true)))]
pub(crate) struct Create {
    /// Where to send: an https URL.
    #[arg(value_name = "URL")]
    endpoint: String,
    /// Which events, by name, or by the beginning of their names up to a dot.
    #[arg(long, value_delimiter = ',', value_name = "EVENTS")]
    events: Vec<String>,
    /// Let requests for approval name this URL, or one below it, as their callback.
    #[arg(long)]
    callbacks: bool,
    #[command(flatten)]
    server: Server,
}

/// One webhook.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// The id of the webhook.
    id: WebhookId,
    #[command(flatten)]
    server: Server,
}

/// A webhook as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: WebhookId,
    url: String,
    events: Vec<String>,
    callbacks: bool,
    state: String,
    created_by: String,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_why: Option<String>,
}

/// A webhook that was just registered.
#[derive(Debug, Serialize, Deserialize)]
struct Created {
    secret: String,
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Debug, Deserialize)]
struct Page {
    webhooks: Vec<Shown>,
}

/// What became of one event, or one callback, at one webhook.
#[derive(Debug, Serialize, Deserialize)]
struct Delivery {
    id: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    state: String,
    attempts: u32,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

/// That a trial is on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Pinged {
    delivery: String,
}

/// A new secret.
#[derive(Debug, Serialize, Deserialize)]
struct Rotated {
    secret: String,
    old_until: Timestamp,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Create(wanted) => create(&wanted, out).await?,
        Command::List { limit, server } => {
            let query = [("limit", limit.to_string())];
            let page: Page = server.client()?.get(PATH, &query).await?;
            let columns = ["id", "state", "url", "events", "callbacks", "by"];
            out.rows(&page.webhooks, &columns, |one| one.cells(out))?;
        }
        Command::Show(one) => {
            let shown: Shown = one.send(Method::GET, None).await?;
            out.value(&shown, |shown| shown.text(out))?;
        }
        Command::Delete(One { id, server }) => {
            let client = server.client()?;
            let text = id.to_string();
            let path = ["v1", "webhooks", text.as_str()];
            client.send(client.request(Method::DELETE, &path)?).await?;
            out.note(&format!("{id} is deleted"));
        }
        Command::Deliveries { one, state, limit } => {
            deliveries(&one, state, limit, out).await?;
        }
        Command::Enable(one) => enable(&one, out).await?,
        Command::Ping(one) => {
            let pinged: Pinged = one.send(Method::POST, Some("ping")).await?;
            out.value(&pinged, |pinged| {
                format!(
                    "{} is on its way; to see what becomes of it: remit webhook deliveries {}",
                    plain(&pinged.delivery),
                    one.id
                )
            })?;
        }
        Command::Rotate(one) => {
            let rotated: Rotated = one.send(Method::POST, Some("rotate")).await?;
            out.value(&rotated, |rotated| plain(&rotated.secret))?;
            if !out.is_machine() {
                out.note(&format!(
                    "keep it: it is shown this once; the old one signs as well until {}",
                    rotated.old_until
                ));
            }
        }
    }
    Ok(Exit::Ok)
}

async fn create(wanted: &Create, out: &Output) -> Result<(), Error> {
    let client = wanted.server.client()?;
    let body = json!({
        "url": wanted.endpoint, "events": wanted.events, "callbacks": wanted.callbacks,
    });
    let request = client.request(Method::POST, PATH)?.json(&body);
    let created: Created = client.send(request).await?.json()?;
    out.value(&created, |created| plain(&created.secret))?;
    if !out.is_machine() {
        out.note(&format!(
            "{} is registered; keep the secret: it is shown this once",
            created.shown.id
        ));
    }
    Ok(())
}

/// Enables a webhook as it was read: nothing is put back that somebody changes at the same time.
async fn enable(one: &One, out: &Output) -> Result<(), Error> {
    let client = one.server.client()?;
    let id = one.id.to_string();
    let path = ["v1", "webhooks", id.as_str()];
    let read = client.send(client.request(Method::GET, &path)?).await?;
    let mut shown: Shown = read.json()?;
    let note = if shown.state == ENABLED {
        format!("{id} was enabled already")
    } else {
        let body = json!({
            "url": shown.url, "events": shown.events, "callbacks": shown.callbacks, "state": ENABLED,
        });
        let request = client.request(Method::PUT, &path)?.json(&body);
        let request = match read.header(ETAG.as_str()) {
            Some(etag) => request.header(IF_MATCH, etag),
            None => request,
        };
        shown = client.send(request).await?.json()?;
        format!("{id} is enabled; what happened while it was disabled is not told")
    };
    out.value(&shown, |shown| shown.text(out))?;
    out.note(&note);
    Ok(())
}

async fn deliveries(
    one: &One,
    state: Option<String>,
    limit: usize,
    out: &Output,
) -> Result<(), Error> {
    let id = one.id.to_string();
    let path = ["v1", "webhooks", id.as_str(), "deliveries"];
    let mut query = vec![("limit", limit.to_string())];
    query.extend(state.map(|state| ("state", state)));
    let client: Client = one.server.client()?;
    let page: Deliveries = client.get(&path, &query).await?;
    let columns = [
        "id", "state", "kind", "subject", "at", "attempts", "next", "last",
    ];
    out.rows(&page.deliveries, &columns, |delivery| delivery.cells(out))
}

// === impl One ===

impl One {
    /// Asks about this webhook, or for something to be done with it, and reads the answer.
    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        step: Option<&str>,
    ) -> Result<T, Error> {
        let client = self.server.client()?;
        let id = self.id.to_string();
        let path: Vec<&str> = PATH.iter().copied().chain([id.as_str()]).collect();
        let path: Vec<&str> = path.into_iter().chain(step).collect();
        client.send(client.request(method, &path)?).await?.json()
    }
}

// === impl Shown ===

impl Shown {
    fn text(&self, out: &Output) -> String {
        let mut lines = vec![
            format!("{}  {}", self.id, self.standing(out)),
            format!("url        {}", plain(&self.url)),
            format!("events     {}", self.names()),
            format!("callbacks  {}", self.yes_or_no()),
            format!(
                "by         {}, {}",
                plain(&self.created_by),
                self.created_at
            ),
        ];
        if let Some(at) = self.disabled_at {
            let why = self.disabled_why.as_deref().map(plain);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            lines.push(format!("disabled   {at}{why}"));
        }
        lines.join("\n")
    }

    fn cells(&self, out: &Output) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.standing(out),
            plain(&self.url),
            self.names(),
            self.yes_or_no().to_owned(),
            plain(&self.created_by),
        ]
    }

    fn standing(&self, out: &Output) -> String {
        let state = plain(&self.state);
        match self.state.as_str() {
            ENABLED => state,
            _ => out.paint(Tone::Bad, &state),
        }
    }

    fn names(&self) -> String {
        if self.events.is_empty() {
            return "-".to_owned();
        }
        let names: Vec<String> = self.events.iter().map(|name| plain(name)).collect();
        names.join(",")
    }

    fn yes_or_no(&self) -> &'static str {
        if self.callbacks { "yes" } else { "no" }
    }
}

// === impl Delivery ===

impl Delivery {
    fn cells(&self, out: &Output) -> Vec<String> {
        let tone = match self.state.as_str() {
            "delivered" => Tone::Good,
            "dead" => Tone::Bad,
            _ => Tone::Warn,
        };
        let last = match (self.last_status, self.last_problem.as_deref()) {
            (Some(status), Some(problem)) => format!("{status} {}", plain(problem)),
            (Some(status), None) => status.to_string(),
            (None, Some(problem)) => plain(problem),
            (None, None) => String::new(),
        };
        vec![
            plain(&self.id),
            out.paint(tone, &plain(&self.state)),
            plain(&self.kind),
            self.subject.as_deref().map(plain).unwrap_or_default(),
            self.at.to_string(),
            self.attempts.to_string(),
            self.next_at.map(|at| at.to_string()).unwrap_or_default(),
            last,
        ]
    }
}
