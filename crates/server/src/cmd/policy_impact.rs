//! `remit policy impact`: what recorded decisions would have been under a folder of policies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use crate::bundle_dir;
use crate::client::{Client, Server};
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

/// Examples in `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
    remit policy impact policies/starter
    remit policy impact policies/starter --hours 168 -o json
    remit policy impact policies/starter --deny-loosening

The server makes its recorded decisions again under the policies of the folder, each over the entities of its own time, and
tells what would have come out otherwise. Nothing is changed.";

/// How long the server may take for all of it.
const PATIENCE: Duration = Duration::from_hours(1);

/// What is assessed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bundle's folder.
    dir: PathBuf,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    server: Server,
}

/// Which decisions are made again.
#[derive(Debug, clap::Args)]
pub(crate) struct Window {
    /// How far back decisions are taken.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8_784))]
    hours: u32,
    /// How many decisions at most, the oldest of that time first.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Exit 6 when something would be permitted that was denied, or that could not be judged for every decision.
    #[arg(long)]
    deny_loosening: bool,
}

/// What the server says of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Impact {
    from: String,
    until: String,
    replayed: u64,
    unchanged: u64,
    truncated: bool,
    entities: String,
    totals: BTreeMap<String, u64>,
    groups: Vec<Group>,
    not_replayable: Vec<Left>,
}

/// Decisions that differ in the same way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    outcome: String,
    action: String,
    before: Said,
    after: Said,
    count: u64,
    samples: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    verdict: String,
    reason: String,
    policies: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Left {
    because: String,
    count: u64,
    samples: Vec<String>,
}

/// How far the server is.
#[derive(Debug, Deserialize)]
struct Progress {
    replayed: u64,
}

/// Runs it.
///
/// # Errors
///
/// Those of the folder and of the client.
pub(crate) async fn run(args: &Args, out: &Output) -> Result<Exit, Error> {
    let folder = bundle_dir::read(&args.dir)?;
    folder.warnings.iter().for_each(|warning| out.warn(warning));
    let client = args.server.client()?;
    let request = client
        .request(Method::POST, &["v1", "bundle", "impact"])?
        .json(&folder.bundle);
    match args.window.ask(&client, request, out).await {
        Err(Error::Refused(problem)) if !problem.diagnostics.is_empty() => {
            let found = Found::new(problem.diagnostics, &folder.bundle).within(&args.dir);
            Err(Error::Diagnostics {
                what: format!("the bundle in `{}`", args.dir.display()),
                found: Box::new(found),
            })
        }
        impact => args.window.tell(&impact?, out),
    }
}

// === impl Window ===

impl Window {
    /// Asks for an assessment, and shows how far it is.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn ask(
        &self,
        client: &Client,
        request: RequestBuilder,
        out: &Output,
    ) -> Result<Impact, Error> {
        let request = request
            .query(&[("hours", self.hours), ("limit", self.limit)])
            .header(ACCEPT, "text/event-stream")
            .timeout(PATIENCE);
        let bar = out.progress(u64::from(self.limit), "decisions made again");
        let followed = async {
            let mut events = client.events(request).await?;
            let mut impact = None;
            while let Some(sent) = events.next().await? {
                match sent.name.as_str() {
                    "progress" => {
                        bar.set_position(client.understand::<Progress>(&sent.data)?.replayed);
                    }
                    "impact" => impact = Some(client.understand::<Impact>(&sent.data)?),
                    _ => {
                        let problem = format!("it gave up: {}", plain(&sent.data));
                        return Err(client.not_understood(problem));
                    }
                }
            }
            Ok(impact)
        };
        let impact: Result<Option<Impact>, Error> = followed.await;
        bar.finish_and_clear();
        impact?.ok_or_else(|| client.not_understood("it ends before it is done"))
    }

    /// Says what came of it.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    pub(super) fn tell(&self, impact: &Impact, out: &Output) -> Result<Exit, Error> {
        out.value(impact, |impact| text(impact, out))?;
        let unknown = impact.unknown();
        Ok(gate(self.deny_loosening, &impact.totals, &unknown, out))
    }
}

/// Says how a command ends whose caller wants nothing loosened: what could not be judged may be loosened, and is named.
pub(super) fn gate(
    wanted: bool,
    totals: &BTreeMap<String, u64>,
    unknown: &[String],
    out: &Output,
) -> Exit {
    if !wanted {
        return Exit::Ok;
    }
    for what in unknown {
        out.warn(&format!("not known whether it loosens: {what}"));
    }
    if totals.contains_key("newly_permitted") || !unknown.is_empty() {
        Exit::GateFailed
    } else {
        Exit::Ok
    }
}

// === impl Impact ===

impl Impact {
    /// Names what was not judged.
    fn unknown(&self) -> Vec<String> {
        let left = self.not_replayable.iter().map(|left| left.count).sum();
        let mut unknown = Vec::new();
        if left > 0 {
            unknown.push(format!("{} not replayable", decisions(left)));
        }
        if self.truncated {
            unknown.push("there are more decisions of that time, see --limit".to_owned());
        }
        unknown
    }
}

/// Writes a number of decisions.
pub(super) fn decisions(count: u64) -> String {
    match count {
        1 => "1 decision".to_owned(),
        count => format!("{count} decisions"),
    }
}

/// Shows how decisions differ, one way a line; nothing where none does.
pub(super) fn differences(groups: &[Group], out: &Output) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let said = |said: &Said| {
        let policies = match said.policies.as_slice() {
            [] => String::new(),
            policies => format!(" ({})", plain(&policies.join(", "))),
        };
        format!("{} {}{policies}", said.verdict, said.reason)
    };
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            vec![
                group.outcome.replace('_', " "),
                group.count.to_string(),
                plain(&group.action),
                said(&group.before),
                said(&group.after),
                group.samples.first().cloned().unwrap_or_default(),
            ]
        })
        .collect();
    let columns = ["outcome", "count", "action", "was", "would be", "such as"];
    let mut text = out.table(&columns, &rows);
    text.push('\n');
    text
}

fn text(impact: &Impact, out: &Output) -> String {
    let mut text = differences(&impact.groups, out);
    for left in &impact.not_replayable {
        let because = plain(&left.because);
        let _ = writeln!(text, "not replayable: {}, because {because}", left.count);
    }
    let changed = impact.replayed - impact.unchanged;
    let _ = write!(
        text,
        "{} from {} to {} made again: {changed} differ",
        decisions(impact.replayed),
        impact.from,
        impact.until
    );
    if impact.truncated {
        text.push_str("; there are more, see --limit");
    }
    if impact.entities == "current" {
        text.push_str("; over today's entities, which are too many to be read back");
    }
    text
}
