//! `remit tool`: the catalogue of tools.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_core::Tool;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::Server;
use crate::cmd::agent::waits;
use crate::cmd::bundle::Wait;
use crate::cmd::question::object;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, Tone, plain};

/// How many tools one request lists.
const PAGE: usize = 1_000;
/// The largest file that is sent, in bytes: what the server takes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
const PATH: &[&str] = &["v1", "tools"];

/// Examples in `--help`.
const PUT: &str = "\
Examples:
    remit tool put mail.send '{\"effect\": \"egress\", \"sinks\": [\"to\", \"cc\"], \"domain\": \"email\"}'
    remit tool put mail.send @mail.send.json

What is left out is taken for the worst: untrusted, private, and irreversible unless the effect is read or write.";

/// Examples in `--help`.
const IMPORT: &str = "\
Examples:
    remit tool import catalogue.json --wait fleet

The file holds {\"tools\": {NAME: {...}}}, or a list of tools that say their names. All are written at one revision or not at
all; tools that are not in the file stay.";

/// Examples in `--help`.
const DRIFT: &str = "\
Examples:
    remit tool drift tools-list.json || echo 'somebody has to look at it'

The file holds what an MCP server answers to tools/list, or the list of its tools alone. Exit code 6 where anything is not
what was registered.";

/// The commands around tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tools of the catalogue.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one tool.
    Show {
        /// The name of the tool.
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Write one tool.
    #[command(after_help = PUT)]
    Put {
        /// The name of the tool.
        name: String,
        /// What it is to be, as a JSON object; @FILE reads a file, @- standard input.
        tool: String,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
    /// Remove one tool.
    Remove {
        /// The name of the tool.
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Write every tool of a file.
    #[command(after_help = IMPORT)]
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// What to wait for; without it, for the replica that answers.
        #[arg(long, value_enum, value_name = "WHAT")]
        wait: Option<Wait>,
        #[command(flatten)]
        server: Server,
    },
    /// Compare the descriptors of a file with those that were registered.
    #[command(after_help = DRIFT)]
    Drift {
        /// The file; `-` is standard input.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Deserialize)]
struct Page {
    tools: Vec<Tool>,
    #[serde(default)]
    next: Option<String>,
}

/// What the server says of a catalogue that was written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    revision: u64,
    written: u64,
}

/// What the server says of descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Drift {
    drifted: bool,
    tools: Vec<Found>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Found {
    name: String,
    state: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs one of them.
///
/// # Errors
///
/// Those of the file and of the client.
pub(crate) async fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    match command {
        Command::List { server } => list(&server, out).await?,
        Command::Show { name, server } => {
            let path = ["v1", "tools", name.as_str()];
            let tool: Tool = server.client()?.get(&path, &[]).await?;
            out.value(&tool, text)?;
        }
        Command::Put {
            name,
            tool,
            wait,
            server,
        } => {
            let body = object("TOOL", Some(&tool))?;
            let client = server.client()?;
            let path = ["v1", "tools", name.as_str()];
            let request = client.request(Method::PUT, &path)?.json(&body);
            let tool: Tool = client.send(request.query(&waits(wait))).await?.json()?;
            out.value(&tool, text)?;
        }
        Command::Remove { name, server } => {
            let client = server.client()?;
            let path = ["v1", "tools", name.as_str()];
            client.send(client.request(Method::DELETE, &path)?).await?;
            out.note(&format!("{} is removed", plain(&name)));
        }
        Command::Import { file, wait, server } => {
            let body = match read(&file)? {
                Value::Array(tools) => json!({ "tools": tools }),
                other => other,
            };
            let client = server.client()?;
            let request = client.request(Method::PUT, PATH)?.json(&body);
            let done: Written = client.send(request.query(&waits(wait))).await?.json()?;
            out.value(&done, |done| {
                format!(
                    "{} tools written, at revision {}",
                    done.written, done.revision
                )
            })?;
        }
        Command::Drift { file, server } => return drift(&file, &server, out).await,
    }
    Ok(Exit::Ok)
}

async fn list(server: &Server, out: &Output) -> Result<(), Error> {
    let client = server.client()?;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let query = [("limit", PAGE.to_string()), ("cursor", cursor)];
        let page: Page = client.get(PATH, &query).await?;
        found.extend(page.tools);
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let columns = ["tool", "effect", "returns", "sinks", "pinned"];
    out.rows(&found, &columns, |tool| {
        vec![
            plain(&tool.name),
            tool.effect.as_str().to_owned(),
            returns(tool),
            plain(&tool.sinks.join(",")),
            (if tool.descriptor.is_some() {
                "yes"
            } else {
                "no"
            })
            .to_owned(),
        ]
    })
}

async fn drift(file: &Path, server: &Server, out: &Output) -> Result<Exit, Error> {
    let descriptors = descriptors(read(file)?).ok_or_else(|| {
        Error::Invalid(format!(
            "`{}` holds no list of tools, such as an MCP server answers to tools/list",
            file.display()
        ))
    })?;
    let client = server.client()?;
    let path = ["v1", "tools", "drift"];
    let body = json!({ "descriptors": descriptors });
    let request = client.request(Method::POST, &path)?.json(&body);
    let drift: Drift = client.send(request).await?.json()?;
    if out.is_machine() {
        out.value(&drift, |_| String::new())?;
    } else {
        out.rows(&drift.tools, &["tool", "state"], |found| {
            let tone = if found.state == "same" {
                Tone::Good
            } else {
                Tone::Bad
            };
            vec![plain(&found.name), out.paint(tone, &plain(&found.state))]
        })?;
    }
    Ok(if drift.drifted {
        Exit::GateFailed
    } else {
        Exit::Ok
    })
}

/// Finds the list of tools: alone, or where an answer to `tools/list` has it.
fn descriptors(read: Value) -> Option<Vec<Value>> {
    match read {
        Value::Array(tools) => Some(tools),
        Value::Object(mut members) => match members.remove("result") {
            Some(result) => descriptors(result),
            None => members.remove("tools").and_then(descriptors),
        },
        _ => None,
    }
}

pub(crate) fn read(path: &Path) -> Result<Value, Error> {
    let failed = |why| Error::path("read", path, why);
    let mut text = String::new();
    let taken = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(FILE_BYTES + 1)
            .read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(FILE_BYTES + 1).read_to_string(&mut text)
    };
    let file = path.display();
    if taken.map_err(failed)? as u64 > FILE_BYTES {
        return Err(Error::Invalid(format!(
            "`{file}` is larger than {FILE_BYTES} bytes"
        )));
    }
    serde_json::from_str(&text)
        .map_err(|why| Error::Invalid(format!("`{file}` is not JSON: {why}")))
}

/// Says what a call brings back.
fn returns(tool: &Tool) -> String {
    let labels: Vec<String> = tool.raises().iter().map(ToString::to_string).collect();
    if labels.is_empty() {
        return "nothing of note".to_owned();
    }
    plain(&labels.join(","))
}

fn text(tool: &Tool) -> String {
    format!(
        "{}  {}, {}\n  returns {}; says who is affected in {}",
        plain(&tool.name),
        tool.effect.as_str(),
        if tool.irreversible {
            "irreversible"
        } else {
            "reversible"
        },
        returns(tool),
        plain(&tool.sinks.join(","))
    )
}
