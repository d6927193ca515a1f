//! `remit approvals`: what waits for a person's answer, and the answer.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Subcommand;
use remit_core::{ApprovalId, ContentHash, Timestamp, canonical_json};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{Client, Server};
use crate::cmd::agent::waits;
use crate::cmd::bundle::Wait;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

mod card;
mod watch;

const PATH: &[&str] = &["v1", "approvals"];

/// Examples in `--help`.
const APPROVE: &str = "\
Examples:
    remit approvals approve 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c30
    remit approvals approve 019aa8f2-… --uses 3 --minutes 60 --amount 500000
    remit approvals approve 019aa8f2-… --yes --seen sha256:…

It shows the card, and asks for the last four characters of the id. Without a terminal, --yes and --seen with the hash of the
card (`remit approvals show -o json | jq -r .card_hash`) take the place of that. With --uses and --minutes it is for calls of
the same kind in the same task; without, for exactly this call, once.";

/// The commands around access requests.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what waits for an answer.
    List(List),
    /// Show the card of one request.
    Show {
        /// The id of the request.
        id: ApprovalId,
        #[command(flatten)]
        server: Server,
    },
    /// Approve a request.
    #[command(after_help = APPROVE)]
    Approve(Approve),
    /// Refuse a request, for good.
    Deny(Deny),
    /// Ask those as well to whom the groups go on that it waits for.
    Escalate {
        /// The id of the request.
        id: ApprovalId,
        #[command(flatten)]
        server: Server,
    },
    /// Show what happens to requests, approvals and exceptions, as it happens.
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::Watch),
    /// Take an approval back.
    Withdraw {
        /// The id of the request.
        id: ApprovalId,
        /// Why, in one line.
        #[arg(long)]
        reason: String,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
}

/// The flags of `remit approvals list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// In which state: pending, approved, denied, expired or cancelled; pending, without it.
    #[arg(long)]
    state: Option<String>,
    /// Only those that wait for this group.
    #[arg(long, conflicts_with = "mine")]
    group: Option<String>,
    /// Only those in this task.
    #[arg(long)]
    task: Option<String>,
    /// Only those of this action.
    #[arg(long)]
    action: Option<String>,
    /// Only those that wait for you.
    #[arg(long)]
    mine: bool,
    /// The most to list: 1 to 1,000.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit approvals approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The id of the request.
    id: ApprovalId,
    /// How often calls of the same kind may be made in the same task, 1 to 100.
    #[arg(long, value_name = "NUMBER", requires = "minutes")]
    uses: Option<u32>,
    /// For how long, 1 to 1,440.
    #[arg(long, value_name = "NUMBER", requires = "uses")]
    minutes: Option<u32>,
    /// How much money all of them together may move, in the smallest unit of its currency.
    #[arg(long, value_name = "NUMBER", requires = "uses")]
    amount: Option<u64>,
    /// Until when it can be used once.
    #[arg(long, value_name = "TIME", conflicts_with = "uses")]
    until: Option<Timestamp>,
    /// What is to be said to it, in one line.
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    sure: Sure,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit approvals deny`.
#[derive(Debug, clap::Args)]
pub(crate) struct Deny {
    /// The id of the request.
    id: ApprovalId,
    /// Why, in one line.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    server: Server,
}

/// How somebody is sure of what they answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Sure {
    /// Do not ask; takes --seen.
    #[arg(long, requires = "seen")]
    yes: bool,
    /// The hash of the card that you have seen.
    #[arg(long, value_name = "HASH")]
    seen: Option<ContentHash>,
}

/// A request as the API tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    id: ApprovalId,
    state: String,
    action: String,
    agent: Value,
    wants: Map<String, Value>,
    requested_by: String,
    expires_at: Timestamp,
    card_hash: ContentHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    card: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Page {
    approvals: Vec<Shown>,
}

/// What came of an answer.
#[derive(Debug, Serialize, Deserialize)]
struct Answered {
    id: ApprovalId,
    state: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the client; [`Error::Invalid`] where whoever answers is not sure.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::List(list) => {
            let page: Page = list.server.client()?.get(PATH, &list.query()).await?;
            let columns = ["id", "state", "agent", "action", "waits for", "by", "until"];
            out.rows(&page.approvals, &columns, |one| one.cells(out))?;
            Ok(Exit::Ok)
        }
        Command::Show { id, server } => {
            let shown = fetch(&server.client()?, id).await?;
            out.value(&shown, card::text)?;
            Ok(Exit::Ok)
        }
        Command::Approve(approve) => {
            let client = approve.server.client()?;
            let seen = approve
                .sure
                .seen(&client, approve.id, "approve", out)
                .await?;
            let body = approve.body(seen);
            answer(
                &client,
                (approve.id, "approve"),
                Some(&body),
                approve.wait,
                out,
            )
            .await
        }
        Command::Deny(deny) => {
            let client = deny.server.client()?;
            let seen = deny.sure.seen(&client, deny.id, "refuse", out).await?;
            let body = json!({ "seen": seen, "reason": deny.reason });
            answer(&client, (deny.id, "deny"), Some(&body), None, out).await
        }
        Command::Escalate { id, server } => {
            answer(&server.client()?, (id, "escalate"), None, None, out).await
        }
        Command::Watch(watch) => watch.run(out).await,
        Command::Withdraw {
            id,
            reason,
            wait,
            server,
        } => {
            let body = json!({ "reason": reason });
            answer(&server.client()?, (id, "withdraw"), Some(&body), wait, out).await
        }
    }
}

/// Reads a request, and makes sure that its hash is that of its card.
async fn fetch(client: &Client, id: ApprovalId) -> Result<Shown, Error> {
    let id = id.to_string();
    let path = [PATH, &[id.as_str()]].concat();
    let shown: Shown = client.get(&path, &[]).await?;
    let bytes = canonical_json(&shown.card).unwrap_or_default();
    if ContentHash::of(&bytes) != shown.card_hash {
        return Err(client.not_understood("the hash is not that of the card"));
    }
    Ok(shown)
}

async fn answer(
    client: &Client,
    (id, verb): (ApprovalId, &str),
    body: Option<&Value>,
    wait: Option<Wait>,
    out: &Output,
) -> Result<Exit, Error> {
    let id = id.to_string();
    let path = [PATH, &[id.as_str(), verb]].concat();
    let mut request = client.request(Method::POST, &path)?.query(&waits(wait));
    if let Some(body) = body {
        request = request.json(body);
    }
    let answered: Answered = client.send(request).await?.json()?;
    out.value(&answered, Answered::text)?;
    Ok(Exit::Ok)
}

// === impl Sure ===

impl Sure {
    /// Returns the hash of the card that somebody has seen: the one they name, or that of the card that is shown to them now.
    async fn seen(
        &self,
        client: &Client,
        id: ApprovalId,
        verb: &str,
        out: &Output,
    ) -> Result<ContentHash, Error> {
        if let Some(seen) = self.seen.filter(|_| self.yes) {
            return Ok(seen);
        }
        if !io::stdin().is_terminal() {
            let problem = "there is no terminal to ask at; say --yes, and --seen with the hash of the card that you have seen";
            return Err(Error::Usage(problem.to_owned()));
        }
        let shown = fetch(client, id).await?;
        if self.seen.is_some_and(|seen| seen != shown.card_hash) {
            let problem = "the card is another one than --seen names".to_owned();
            return Err(Error::Invalid(problem));
        }
        let failed = |source: io::Error| Error::Io {
            what: "ask at the terminal".to_owned(),
            source,
        };
        let mut terminal = io::stderr();
        let last: String = id.to_string().chars().rev().take(4).collect();
        let last: String = last.chars().rev().collect();
        writeln!(terminal, "{}\n", card::text(&shown)).map_err(failed)?;
        let ask = out.paint(
            Tone::Strong,
            &format!("To {verb} it, type the last four characters of its id ({last}): "),
        );
        write!(terminal, "{ask}").map_err(failed)?;
        terminal.flush().map_err(failed)?;
        let mut typed = String::new();
        io::stdin().lock().read_line(&mut typed).map_err(failed)?;
        if typed.trim() == last {
            return Ok(shown.card_hash);
        }
        Err(Error::Invalid("nothing was answered".to_owned()))
    }
}

// === impl Approve ===

impl Approve {
    fn body(&self, seen: ContentHash) -> Value {
        let mut body = Map::new();
        body.insert("seen".to_owned(), json!(seen));
        if let (Some(uses), Some(minutes)) = (self.uses, self.minutes) {
            let mut scope = json!({ "kind": "task", "uses": uses, "minutes": minutes });
            if let (Some(scope), Some(amount)) = (scope.as_object_mut(), self.amount) {
                scope.insert("amount".to_owned(), json!(amount));
            }
            body.insert("scope".to_owned(), scope);
        }
        if let Some(until) = self.until {
            body.insert("until".to_owned(), json!(until));
        }
        if let Some(comment) = &self.comment {
            body.insert("comment".to_owned(), json!(comment));
        }
        Value::Object(body)
    }
}

// === impl List ===

impl List {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("limit", self.limit.to_string())];
        for (name, value) in [
            ("state", &self.state),
            ("group", &self.group),
            ("task", &self.task),
            ("action", &self.action),
        ] {
            query.extend(value.clone().map(|value| (name, value)));
        }
        query.extend(self.mine.then(|| ("mine", "true".to_owned())));
        query
    }
}

// === impl Shown ===

impl Shown {
    fn cells(&self, out: &Output) -> Vec<String> {
        let state = match self.state.as_str() {
            "pending" => out.paint(Tone::Warn, "pending"),
            "approved" => out.paint(Tone::Good, "approved"),
            other => plain(other),
        };
        let groups: Vec<String> = self.wants.keys().map(|group| plain(group)).collect();
        vec![
            self.id.to_string(),
            state,
            card::named(&self.agent),
            plain(&self.action),
            groups.join(", "),
            plain(&self.requested_by),
            self.expires_at.to_string(),
        ]
    }
}

// === impl Answered ===

impl Answered {
    fn text(&self) -> String {
        let mut parts = vec![format!("{} is {}", self.id, plain(&self.state))];
        let text = |name: &str| self.rest.get(name).and_then(Value::as_str).map(plain);
        parts.extend(text("approved_until").map(|until| format!("until {until}")));
        let progress = self.rest.get("progress").and_then(Value::as_array);
        for one in progress.into_iter().flatten() {
            let member = |name: &str| one.get(name).map(card::one_line).unwrap_or_default();
            let (has, needs) = (member("approved"), member("needed"));
            parts.push(format!("{}: {has} of {needs}", member("group")));
        }
        parts.extend(text("suspended").map(|task| format!("the task {task} is suspended")));
        parts.join("; ")
    }
}
