//! `remit explain`: why a decision came out as it did, clause by clause; of a record, or offline over a folder.

mod render;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use remit_core::{CaseFacts, Clock, Decision, DecisionId, Facts, KeyId, Timestamp};
use remit_engine::{Explanation, Snapshot};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::question;
use crate::bundle_dir;
use crate::client::Server;
use crate::diagnostics::Found;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone};

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit explain 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77
    remit explain 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77 --against current
    remit explain --bundle policies/starter -s Agent:invoice-bot -a call -r Tool:mail.send

With --bundle no server is asked: the entities are those of the folder, and nothing is recorded.";

/// The most bytes of a file of facts.
const FACTS_BYTES: u64 = 1 << 20;

/// The flags of `remit explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The id of a decision.
    #[arg(required_unless_present = "bundle", conflicts_with = "bundle")]
    id: Option<DecisionId>,
    /// Over which policies: those of the record, or today's.
    #[arg(
        long,
        value_enum,
        default_value_t,
        conflicts_with = "bundle",
        value_name = "WHICH"
    )]
    against: Against,
    /// Explain a question over the bundle in this folder, offline.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// When the question is asked, with --bundle; now, where left out.
    #[arg(long, requires = "bundle", value_name = "TIME")]
    at: Option<Timestamp>,
    /// The environment of the asking key, with --bundle.
    #[arg(
        long = "env",
        requires = "bundle",
        default_value = "dev",
        value_name = "NAME"
    )]
    environment: String,
    /// As if a person had approved the call, with --bundle.
    #[arg(long, requires = "bundle")]
    approved: bool,
    /// What Remit has registered, counted or verified, with --bundle: what stands under `facts` in a case.
    #[arg(long, requires = "bundle", value_name = "FILE")]
    facts: Option<PathBuf>,
    /// Write out every policy whose scope matches, also those that came to nothing.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    question: question::Args,
    #[command(flatten)]
    server: Server,
}

/// Which policies explain.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Against {
    #[default]
    Recorded,
    Current,
}

/// A recorded decision made again.
#[derive(Debug, Deserialize)]
struct Explained {
    recorded: Decision,
    reproduced: bool,
    explanation: Explanation,
}

/// Explains one decision or one question.
///
/// # Errors
///
/// Those of the client, or of the folder and the question with `--bundle`.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    match (&args.id, &args.bundle) {
        (Some(_), _) if args.question.is_given() => {
            return Err(Error::Usage("a recorded decision has its own question; leave --subject, --action and --resource out".to_owned()));
        }
        (Some(id), _) => recorded(*id, &args, out).await?,
        (None, Some(dir)) => offline(dir, &args, out)?,
        // clap asks for one of them.
        (None, None) => {
            return Err(Error::Usage(
                "name a decision, or a folder with --bundle".to_owned(),
            ));
        }
    }
    Ok(Exit::Ok)
}

async fn recorded(id: DecisionId, args: &Args, out: &Output) -> Result<(), Error> {
    let client = args.server.client()?;
    let against = match args.against {
        Against::Recorded => "recorded",
        Against::Current => "current",
    };
    let request = client.request(
        Method::POST,
        &["v1", "decisions", &id.to_string(), "explain"],
    )?;
    let reply = client.send(request.query(&[("against", against)])).await?;
    let body: Value = reply.json()?;
    let explained: Explained = reply.json()?;
    out.value(&body, |_| {
        let text = render::explanation(&explained.explanation, args.all, out);
        if explained.reproduced {
            return text;
        }
        format!(
            "{text}\n\n{} the record says {} ({}): an entity or the policies have changed since",
            out.paint(Tone::Warn, "!"),
            super::decisions::verdict(explained.recorded.verdict, out),
            explained.recorded.reason
        )
    })
}

fn offline(dir: &Path, args: &Args, out: &Output) -> Result<(), Error> {
    let question = args.question.question()?;
    let folder = bundle_dir::read(dir)?;
    folder.warnings.iter().for_each(|warning| out.warn(warning));
    let snapshot = Snapshot::compile(&folder.bundle).map_err(|error| Error::Diagnostics {
        what: format!("the bundle in `{}`", dir.display()),
        found: Box::new(Found::new(error.diagnostics, &folder.bundle).within(dir)),
    })?;
    let facts = Facts {
        approved: args.approved,
        ..Facts::plain(
            KeyId::nil(),
            args.environment.clone(),
            args.at.unwrap_or_else(|| Clock::system().now()),
        )
    };
    let supposed = args.facts.as_deref().map(supposed).transpose()?;
    let facts = supposed.unwrap_or_default().over(facts, &question);
    let explanation = snapshot.explain(&question, &facts);
    out.value(&explanation, |explanation| {
        render::explanation(explanation, args.all, out)
    })
}

/// Reads what a file supposes, in YAML or JSON.
fn supposed(file: &Path) -> Result<CaseFacts, Error> {
    let name = file.display();
    let length = std::fs::metadata(file)
        .map_err(|error| Error::io(format!("read `{name}`"), error))?
        .len();
    if length > FACTS_BYTES {
        return Err(Error::Invalid(format!(
            "`{name}` has {length} bytes; the most is {FACTS_BYTES}"
        )));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::io(format!("read `{name}`"), error))?;
    let facts: CaseFacts = serde_norway::from_str(&text)
        .map_err(|error| Error::Invalid(format!("`{name}`: {error}")))?;
    facts
        .check()
        .map_err(|invalid| Error::Invalid(format!("`{name}`: {invalid}")))?;
    Ok(facts)
}
