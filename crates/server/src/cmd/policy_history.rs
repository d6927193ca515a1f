//! `remit policy history`, `diff` and `rollback`: what decided before, what has changed since, and back to it.

use std::collections::BTreeMap;
use std::time::Duration;

use remit_core::{Bundle, KeyId, Source, Timestamp};
use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH};
use serde::{Deserialize, Serialize};
use serde_json::json;
use similar::TextDiff;

use super::bundle::{Applied, Wait, etag};
use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// How long one text is compared before the rest of it counts as changed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Examples in `--help`.
pub(super) const HISTORY: &str = "\
Examples:
    remit policy history
    remit policy history --limit 1000 -o json | jq '.[] | select(.restores) | .revision'";

/// Examples in `--help`.
pub(super) const DIFF: &str = "\
Examples:
    remit policy diff 41
    remit policy diff 41 44
    remit policy diff 41 -o json | jq '.policies[] | select(.change == \"removed\") | .name'";

/// Examples in `--help`.
pub(super) const ROLLBACK: &str = "\
Examples:
    remit policy rollback 41 --message 'Reports came out empty'
    remit policy rollback 41 --if-match 44
    remit policy rollback 41 --wait fleet --timeout 60

The bundle of that revision is compiled against the entities of today and its cases are run, as for a push. It becomes a
new version: nothing is removed from the history.";

/// The flags of `remit policy history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// How many versions to list.
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit policy diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The revision of the older version, as `remit policy history` shows it.
    from: u64,
    /// The revision of the newer one; what is in force now, without it.
    to: Option<u64>,
    #[command(flatten)]
    server: Server,
}

/// The flags of `remit policy rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The revision of the version to go back to, as `remit policy history` shows it.
    revision: u64,
    /// What it is for; kept with the new version.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Replace only this revision of the bundle.
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
    /// What to wait for; without it, for the replica that answers.
    #[arg(long, value_enum, value_name = "WHAT")]
    wait: Option<Wait>,
    #[command(flatten)]
    server: Server,
}

/// A version as the API lists it.
#[derive(Debug, Serialize, Deserialize)]
struct Version {
    revision: u64,
    hash: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<Author>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restores: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

/// What spoke for a version; what this program does not know of it is shown as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Evidence {
    publisher: String,
    reviewers: Vec<String>,
    cases: Cases,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cases {
    passed: u64,
    failed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Author {
    key: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

/// How two versions differ; what stands where in which file is no difference.
#[derive(Debug, Serialize)]
struct Difference {
    from: u64,
    to: u64,
    policies: Vec<Delta>,
    /// The files of policies that say who may administer.
    admin: Vec<Delta>,
    schema: Vec<Delta>,
    links: Vec<Delta>,
    entities: Vec<Delta>,
    cases: Vec<Delta>,
}

/// One thing of a bundle that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Delta {
    name: String,
    change: Kind,
    /// The lines that differ, in unified form.
    diff: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Added,
    Removed,
    Changed,
}

/// Lists the versions of the bundle, newest first.
///
/// # Errors
///
/// Those of the client.
pub(super) async fn history(args: &History, out: &Output) -> Result<Exit, Error> {
    let client = args.server.client()?;
    let limit = [("limit", args.limit.to_string())];
    let found: Versions = client.get(&["v1", "bundle", "versions"], &limit).await?;
    out.rows(
        &found.versions,
        &[
            "revision",
            "at",
            "by",
            "approved by",
            "cases",
            "restores",
            "message",
        ],
        cells,
    )?;
    Ok(Exit::Ok)
}

fn cells(version: &Version) -> Vec<String> {
    let author = match &version.author {
        Some(Author {
            name: Some(name), ..
        }) => plain(name),
        Some(Author { key, .. }) => key.to_string(),
        None => "remit".to_owned(),
    };
    let none = || "-".to_owned();
    let evidence = version.evidence.as_ref();
    // A key that is bound to nobody says less by its id than by its name.
    let by = evidence.map(|evidence| &evidence.publisher);
    let by = by.filter(|publisher| !publisher.starts_with("key:"));
    let approved = evidence.filter(|evidence| !evidence.reviewers.is_empty());
    vec![
        version.revision.to_string(),
        version.at.to_string(),
        by.map_or(author, |publisher| plain(publisher)),
        approved.map_or_else(none, |evidence| plain(&evidence.reviewers.join(", "))),
        evidence.map_or_else(none, |evidence| {
            let Cases { passed, failed } = evidence.cases;
            format!("{passed}/{}", passed + failed)
        }),
        version
            .restores
            .map_or_else(none, |revision| revision.to_string()),
        version.message.as_deref().map_or_else(String::new, plain),
    ]
}

/// Shows how two versions differ, policy by policy.
///
/// # Errors
///
/// Those of the client, and [`Error::Invalid`] for a version whose policies this program cannot read.
pub(super) async fn diff(args: &Diff, out: &Output) -> Result<Exit, Error> {
    let client = args.server.client()?;
    let (from, old) = version(&client, Some(args.from)).await?;
    let (to, new) = version(&client, args.to).await?;
    let difference = Difference {
        from,
        to,
        policies: changes(&policies(&old, from)?, &policies(&new, to)?),
        admin: changes(&files(&old.admin), &files(&new.admin)),
        schema: changes(&files(&old.schema), &files(&new.schema)),
        links: changes(
            &values(&old.links, |link| link.id.to_string()),
            &values(&new.links, |link| link.id.to_string()),
        ),
        entities: changes(
            &values(&old.entities, |entity| entity.uid.to_string()),
            &values(&new.entities, |entity| entity.uid.to_string()),
        ),
        cases: changes(
            &values(&old.cases, |case| case.name.clone()),
            &values(&new.cases, |case| case.name.clone()),
        ),
    };
    if difference.is_empty() && !out.is_machine() {
        out.note(&format!(
            "revisions {from} and {to} say the same; at most comments and places differ"
        ));
        return Ok(Exit::Ok);
    }
    out.value(&difference, |difference| difference.text(out))?;
    Ok(Exit::Ok)
}

/// Puts an older version in force again.
///
/// # Errors
///
/// Those of the client.
pub(super) async fn rollback(args: Rollback, out: &Output) -> Result<Exit, Error> {
    let client = args.server.client()?;
    let condition = match args.if_match {
        Some(revision) => format!("\"{revision}\""),
        None => etag(&client)
            .await?
            .ok_or_else(|| Error::Invalid("no bundle has been put yet".to_owned()))?,
    };
    let mut body = json!({ "to": args.revision });
    if let (Some(message), Some(members)) = (args.message, body.as_object_mut()) {
        members.insert("message".to_owned(), json!(message));
    }
    let request = client
        .request(Method::POST, &["v1", "bundle", "rollback"])?
        .header(IF_MATCH, condition)
        .json(&body);
    let mut applied: Applied = client.send(request).await?.json()?;
    let timeout = Duration::from_secs(args.server.timeout);
    let patience = args.wait.map(|Wait::Fleet| timeout);
    applied.wait(&client, patience, out).await?;
    out.value(&applied, |applied| {
        let mut lines = vec![format!(
            "in force at revision {} is what revision {} brought: {} policies, {}",
            applied.revision, args.revision, applied.policies, applied.hash
        )];
        lines.extend(applied.places());
        lines.join("\n")
    })?;
    Ok(applied.exit())
}

/// Fetches the bundle of a revision, or the one in force with its revision.
async fn version(client: &Client, revision: Option<u64>) -> Result<(u64, Bundle), Error> {
    let number = revision.map(|revision| revision.to_string());
    let path: Vec<&str> = match &number {
        Some(number) => vec!["v1", "bundle", "versions", number.as_str()],
        None => vec!["v1", "bundle"],
    };
    let reply = client.send(client.request(Method::GET, &path)?).await?;
    let tag = reply.header(ETAG.as_str()).unwrap_or_default();
    let told = tag.trim_matches('"').parse().unwrap_or_default();
    Ok((revision.unwrap_or(told), reply.json()?))
}

/// Things of a bundle by name; what has the name of another is numbered.
type Named = BTreeMap<String, String>;

fn policies(bundle: &Bundle, revision: u64) -> Result<Named, Error> {
    let texts = remit_engine::policy_texts(bundle).map_err(|error| {
        Error::Invalid(format!(
            "the policies of revision {revision} cannot be read: {error}"
        ))
    })?;
    let texts = texts.into_iter();
    Ok(texts.map(|(id, text)| (id.to_string(), text)).collect())
}

fn files(sources: &[Source]) -> Named {
    let sources = sources.iter();
    sources
        .map(|source| (source.file.clone(), source.text.clone()))
        .collect()
}

fn values<T: Serialize>(values: &[T], name: impl Fn(&T) -> String) -> Named {
    let mut named = Named::new();
    for value in values {
        let name = name(value);
        let numbered = (2..).map(|number: u64| format!("{name} ({number})"));
        let free = std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !named.contains_key(name));
        // What came from JSON can be written as JSON.
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        named.insert(free.unwrap_or(name), text);
    }
    named
}

/// Compares two sets of texts by their names.
fn changes(old: &Named, new: &Named) -> Vec<Delta> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let compared = names.into_iter().filter_map(|name| {
        let (change, before, after) = match (old.get(name), new.get(name)) {
            (Some(before), Some(after)) if before == after => return None,
            (Some(before), Some(after)) => (Kind::Changed, before.as_str(), after.as_str()),
            (Some(before), None) => (Kind::Removed, before.as_str(), ""),
            (None, Some(after)) => (Kind::Added, "", after.as_str()),
            (None, None) => return None,
        };
        Some(Delta {
            name: name.clone(),
            change,
            diff: unified(before, after),
        })
    });
    compared.collect()
}

fn unified(before: &str, after: &str) -> String {
    let whole = |text: &str| match text {
        "" => String::new(),
        text if text.ends_with('\n') => text.to_owned(),
        text => format!("{text}\n"),
    };
    let (before, after) = (whole(before), whole(after));
    let mut config = TextDiff::configure();
    let diff = config.timeout(PATIENCE).diff_lines(&before, &after);
    diff.unified_diff().context_radius(3).to_string()
}

// === impl Difference ===

impl Difference {
    fn groups(&self) -> [(&'static str, &[Delta]); 6] {
        [
            ("policy", &self.policies),
            ("administration", &self.admin),
            ("schema", &self.schema),
            ("link", &self.links),
            ("entity", &self.entities),
            ("case", &self.cases),
        ]
    }

    fn is_empty(&self) -> bool {
        self.groups().iter().all(|(_, changes)| changes.is_empty())
    }

    /// Writes it for people: a heading for each thing, and under it the lines that differ.
    fn text(&self, out: &Output) -> String {
        let mut lines = Vec::new();
        for (noun, changes) in self.groups() {
            for Delta { name, change, diff } in changes {
                let heading = format!("{} {noun} {}", change.word(), plain(name));
                lines.push(out.paint(Tone::Strong, &heading));
                lines.extend(diff.lines().map(|line| paint(line, out)));
            }
        }
        lines.join("\n")
    }
}

fn paint(line: &str, out: &Output) -> String {
    // A tab steers nothing, and people indent with it.
    let shown: Vec<String> = line.split('\t').map(plain).collect();
    let shown = shown.join("\t");
    match line.as_bytes().first() {
        Some(b'+') => out.paint(Tone::Good, &shown),
        Some(b'-') => out.paint(Tone::Bad, &shown),
        Some(b'@') => out.paint(Tone::Dim, &shown),
        _ => shown,
    }
}

// === impl Kind ===

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}
