//! `remit draft`: changes of what decides, from the first edit to the version that they become.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use remit_core::{Bundle, Timestamp};
use remit_engine::{Diagnostic, Differences};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bundle::{Applied, Checked, Wait, finish};
use super::policy_impact::Window;
use crate::bundle_dir;
use crate::client::{Client, Server};
use crate::config::read_small;
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

mod told;

/// Where the drafts are.
const PATH: [&str; 2] = ["v1", "drafts"];

/// Examples in `--help`.
const CREATE: &str = "\
Examples:
    remit draft create refunds --message 'Refunds up to 50 need nobody'
    remit draft create refunds policies/ours

Without a folder the draft begins as what is in force. A draft need not compile.";

/// Examples in `--help`.
const REVIEW: &str = "\
Examples:
    remit draft review refunds --approve --if-match 3
    remit draft review refunds --reject --message 'The limit is 40'

--if-match names the version that you read, as `remit draft show` tells it; another one is refused with exit 6.";

/// Examples in `--help`.
const PUBLISH: &str = "\
Examples:
    remit draft publish refunds
    remit draft publish refunds --wait fleet --timeout 60

Where another person has to agree first, nothing is changed, it says what they run, and exits with 6.";

/// Examples in `--help`.
pub(super) const PUBLISH_FOLDER: &str = "\
Examples:
    remit policy publish policies/ours --message 'Refunds up to 50 need nobody'
    remit policy publish policies/ours --name refunds --wait fleet

Makes a draft of the folder, checks it on the server and publishes it. Where another person has to agree first, the draft
stays open, it says what they run, and exits with 6.";

/// The commands around drafts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a draft.
    #[command(after_help = CREATE)]
    Create {
        /// What it is called, unlike every other open draft.
        name: String,
        /// The folder of the bundle that it holds; what is in force, without it.
        dir: Option<PathBuf>,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// List drafts, newest first.
    List {
        /// Published and discarded ones too.
        #[arg(long)]
        all: bool,
        /// How many to list.
        #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000))]
        limit: u64,
        #[command(flatten)]
        server: Server,
    },
    #[command(flatten)]
    Of(OfDraft),
}

/// The commands that are about one draft.
#[derive(Debug, Subcommand)]
pub(crate) enum OfDraft {
    /// Show a draft: what it changes, what was found out about it, and who says what of it.
    Show(One),
    /// Replace what a draft holds by the bundle in a folder.
    Push {
        #[command(flatten)]
        one: One,
        /// The bundle's folder.
        dir: PathBuf,
    },
    /// Write one policy of a draft.
    EditPolicy {
        #[command(flatten)]
        one: One,
        /// The policy's `@id`.
        policy: String,
        /// A file with the text of that one policy.
        text: PathBuf,
        /// The file of the bundle that a new policy goes to.
        #[arg(long, value_name = "NAME")]
        file: Option<String>,
    },
    /// Take one policy out of a draft.
    RemovePolicy {
        #[command(flatten)]
        one: One,
        /// The policy's `@id`.
        policy: String,
    },
    /// Compile a draft, run its cases and say what it changes, on the server. Exit 3 or 4 when it is not good.
    Check(One),
    /// Make recorded decisions again under a draft, and tell what would have come out otherwise.
    Impact {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        window: Window,
    },
    /// Say whether a draft may be published.
    #[command(after_help = REVIEW)]
    Review {
        #[command(flatten)]
        one: One,
        /// It may.
        #[arg(long, required_unless_present = "reject", conflicts_with = "reject")]
        approve: bool,
        /// It may not.
        #[arg(long)]
        reject: bool,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Put a draft in force.
    #[command(after_help = PUBLISH)]
    Publish {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        how: How,
    },
    /// Make of a draft the same change of what is in force now. Exit 3 when both sides changed the same thing.
    Rebase(One),
    /// Give a draft up; it stays readable.
    Discard(One),
}

/// One draft.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Its id, or the name of an open one.
    draft: String,
    /// Go on only if it is still this version.
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    #[command(flatten)]
    server: Server,
}

/// How a draft is published.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// What it is for; kept with the version.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
}

/// The flags of `remit policy publish`.
#[derive(Debug, clap::Args)]
pub(crate) struct Folder {
    /// The bundle's folder.
    dir: PathBuf,
    /// What the draft is called; the name of the folder, without it.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    server: Server,
}

/// A draft without its bundle, as the API tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    id: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    state: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    behind: bool,
    hash: String,
    authors: BTreeSet<String>,
    updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_as: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Page {
    drafts: Vec<Head>,
}

/// A draft with all that is known of it.
#[derive(Debug, Serialize, Deserialize)]
struct Whole {
    #[serde(flatten)]
    head: Head,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    differences: Option<Differences>,
    results: Map<String, Value>,
    reviews: Vec<Review>,
    /// Nothing of one that was discarded.
    #[serde(default, skip_serializing_if = "is_nothing")]
    bundle: Bundle,
}

fn is_nothing(bundle: &Bundle) -> bool {
    *bundle == Bundle::default()
}

#[derive(Debug, Serialize, Deserialize)]
struct Review {
    principal: String,
    verdict: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    at: Timestamp,
}

/// A draft that was saved.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    head: Head,
    compiles: bool,
    diagnostics: Vec<Diagnostic>,
}

/// One draft on one server.
struct Draft {
    client: Client,
    whole: Whole,
    tag: String,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the folders and of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::Create {
            name,
            dir,
            message,
            server,
        } => {
            let bundle = dir.map(|dir| folder(&dir, out)).transpose()?;
            let client = server.client()?;
            let saved = create(&client, &name, message.as_deref(), bundle.as_ref()).await?;
            saved.tell(&bundle.unwrap_or_default(), out)?;
            Ok(Exit::Ok)
        }
        Command::List { all, limit, server } => list(&server, all, limit, out).await,
        Command::Of(command) => work(command, out).await,
    }
}

/// Runs one of those that are about one draft.
async fn work(command: OfDraft, out: &Output) -> Result<Exit, Error> {
    match command {
        OfDraft::Show(one) => {
            let draft = one.find().await?;
            out.value(&draft.whole, Whole::text)?;
            Ok(Exit::Ok)
        }
        OfDraft::Push { one, dir } => {
            let bundle = folder(&dir, out)?;
            let draft = one.find().await?;
            draft
                .save(Method::PUT, &["bundle"], Some(json!(bundle)), out)
                .await
        }
        OfDraft::EditPolicy {
            one,
            policy,
            text,
            file,
        } => {
            let written = read_small(&text).map_err(|why| Error::path("read", &text, why))?;
            let body = json!({ "text": written, "file": file });
            let path = ["policies", policy.as_str()];
            one.find()
                .await?
                .save(Method::PUT, &path, Some(body), out)
                .await
        }
        OfDraft::RemovePolicy { one, policy } => {
            let path = ["policies", policy.as_str()];
            one.find()
                .await?
                .save(Method::DELETE, &path, None, out)
                .await
        }
        OfDraft::Check(one) => {
            let draft = one.find().await?;
            draft.checked().await?.tell(&draft.whole.bundle, out)
        }
        OfDraft::Impact { one, window } => {
            let draft = one.find().await?;
            let request = draft.request(Method::POST, &["impact"])?;
            let impact = window.ask(&draft.client, request, out).await;
            window.tell(&impact.map_err(|error| draft.explained(error))?, out)
        }
        OfDraft::Review {
            one,
            approve,
            message,
            ..
        } => {
            let verdict = if approve { "approve" } else { "reject" };
            one.find()
                .await?
                .review(verdict, message.as_deref(), out)
                .await
        }
        OfDraft::Publish { one, how } => {
            let timeout = one.server.timeout;
            one.find().await?.publish(&how, timeout, out).await
        }
        OfDraft::Rebase(one) => {
            one.find()
                .await?
                .save(Method::POST, &["rebase"], None, out)
                .await
        }
        OfDraft::Discard(one) => {
            let draft = one.find().await?;
            draft
                .client
                .send(draft.request(Method::DELETE, &[])?)
                .await?;
            out.note(&format!("{} is discarded", plain(&draft.whole.head.name)));
            Ok(Exit::Ok)
        }
    }
}

/// Makes a draft of a folder, checks it, and publishes it where nobody else has to agree.
///
/// # Errors
///
/// Those of the folder and of the client.
pub(super) async fn publish_folder(args: Folder, out: &Output) -> Result<Exit, Error> {
    let bundle = folder(&args.dir, out)?;
    let client = args.server.client()?;
    let dir = args
        .dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = args.name.or(dir).unwrap_or_else(|| "policies".to_owned());
    let message = args.how.message.as_deref();
    let saved = create(&client, &name, message, Some(&bundle)).await?;
    let one = One {
        draft: saved.head.id,
        if_match: None,
        server: args.server,
    };
    let draft = one.find().await?;
    let checked = draft.checked().await?;
    if !checked.is_valid() {
        let name = plain(&name);
        out.note(&format!(
            "it stays open as the draft `{name}`; mend it with `remit draft push`"
        ));
        return checked.tell(&bundle, out);
    }
    draft.publish(&args.how, one.server.timeout, out).await
}

fn folder(dir: &std::path::Path, out: &Output) -> Result<Bundle, Error> {
    let folder = bundle_dir::read(dir)?;
    folder.warnings.iter().for_each(|warning| out.warn(warning));
    Ok(folder.bundle)
}

async fn create(
    client: &Client,
    name: &str,
    message: Option<&str>,
    bundle: Option<&Bundle>,
) -> Result<Saved, Error> {
    let body = json!({ "name": name, "message": message, "bundle": bundle });
    let request = client.request(Method::POST, &PATH)?.json(&body);
    client.send(request).await?.json()
}

async fn list(server: &Server, all: bool, limit: u64, out: &Output) -> Result<Exit, Error> {
    let mut query = vec![("limit", limit.to_string())];
    if !all {
        query.push(("state", "open".to_owned()));
    }
    let page: Page = server.client()?.get(&PATH, &query).await?;
    let columns = [
        "name", "version", "state", "base", "authors", "updated", "message",
    ];
    out.rows(&page.drafts, &columns, Head::cells)?;
    Ok(Exit::Ok)
}

// === impl One ===

impl One {
    /// Finds the draft by its id, or the open one of this name.
    async fn find(&self) -> Result<Draft, Error> {
        let client = self.server.client()?;
        let id = if uuid(&self.draft) {
            self.draft.clone()
        } else {
            let query = [("state", "open".to_owned()), ("name", self.draft.clone())];
            let page: Page = client.get(&PATH, &query).await?;
            let found = page.drafts.into_iter().next();
            let none = || Error::Invalid(format!("no open draft is called `{}`", self.draft));
            found.ok_or_else(none)?.id
        };
        let whole: Whole = client.get(&["v1", "drafts", &id], &[]).await?;
        let version = self.if_match.unwrap_or(whole.head.version);
        Ok(Draft {
            client,
            whole,
            tag: format!("\"{version}\""),
        })
    }
}

/// Whether a text has the form of an id.
fn uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match byte {
            b'-' => dashes.contains(&place),
            byte => byte.is_ascii_hexdigit() && !dashes.contains(&place),
        })
}

// === impl Draft ===

impl Draft {
    /// Begins a request about the draft as it was read.
    fn request(&self, method: Method, path: &[&str]) -> Result<reqwest::RequestBuilder, Error> {
        let whole: Vec<&str> = PATH
            .into_iter()
            .chain([self.whole.head.id.as_str()])
            .chain(path.iter().copied())
            .collect();
        Ok(self
            .client
            .request(method, &whole)?
            .header(IF_MATCH, &self.tag))
    }

    /// Shows the lines of the draft that a refusal is about.
    fn explained(&self, error: Error) -> Error {
        match error {
            Error::Refused(problem) if !problem.diagnostics.is_empty() => Error::Diagnostics {
                what: format!("the draft `{}`", plain(&self.whole.head.name)),
                found: Box::new(Found::new(problem.diagnostics, &self.whole.bundle)),
            },
            error => error,
        }
    }

    /// Saves a change of the draft.
    async fn save(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
        out: &Output,
    ) -> Result<Exit, Error> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.json(&body);
        }
        let saved: Saved = self.client.send(request).await?.json()?;
        saved.tell(&Bundle::default(), out)?;
        Ok(Exit::Ok)
    }

    async fn checked(&self) -> Result<Checked, Error> {
        let request = self.request(Method::POST, &["check"])?;
        self.client.send(request).await?.json()
    }

    async fn review(
        &self,
        verdict: &str,
        message: Option<&str>,
        out: &Output,
    ) -> Result<Exit, Error> {
        let body = json!({ "verdict": verdict, "message": message });
        let request = self.request(Method::POST, &["review"])?.json(&body);
        let review: Review = self.client.send(request).await?.json()?;
        out.value(&review, |review| {
            let (who, verdict) = (plain(&review.principal), plain(&review.verdict));
            format!(
                "{who}: {verdict} {}, version {}",
                plain(&self.whole.head.name),
                self.tag
            )
        })?;
        Ok(Exit::Ok)
    }

    async fn publish(&self, how: &How, timeout: u64, out: &Output) -> Result<Exit, Error> {
        let body = json!({ "message": how.message });
        let request = self.request(Method::POST, &["publish"])?.json(&body);
        let applied: Applied = match self.client.send(request).await {
            Err(Error::Refused(problem)) if problem.waits_for_review() => {
                let Head { id, version, .. } = &self.whole.head;
                out.note(&format!(
                    "another person has to approve it: remit draft review {id} --approve --if-match {version}"
                ));
                return Err(Error::Refused(problem));
            }
            reply => reply.map_err(|error| self.explained(error))?.json()?,
        };
        let patience = how.wait.map(|Wait::Fleet| Duration::from_secs(timeout));
        finish(&self.client, applied, &self.whole.bundle, patience, out).await
    }
}
