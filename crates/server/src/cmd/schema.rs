//! `remit schema`: makes the schema of tools from their descriptors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_core::{Effects, Source, Tool};
use remit_engine::{McpActions, McpError, McpTools};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::bundle_dir;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// The largest file that is read, in bytes.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The file of a bundle that the generated schema is.
pub(crate) const FILE: &str = "tools.cedarschema";

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit schema from-mcp tools.json                                  # to look at
    remit schema from-mcp tools.json --domain email --catalogue-out catalogue.json > tools.cedarschema
    remit schema from-mcp tools.json --bundle policies/mine --catalogue catalogue.json --principal Agent --principal Person \
        --out policies/mine/tools.cedarschema
    remit tool import catalogue.json

TOOLS.json is what an MCP server answers to `tools/list`. What a descriptor does not say counts as the worst: correct it
in the catalogue, which is read again with --catalogue. A tool whose descriptor is not the pinned one any more is
reported, keeps its old hash, and the command exits with 6; --repin takes the new one. Tools that only one of the two has
are named.";

/// The commands around schemas.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a Cedar schema with typed arguments, and a tool catalogue, of an MCP server's tools; needs no server.
    #[command(name = "from-mcp", after_help = EXAMPLES)]
    FromMcp(Args),
}

/// The flags of `remit schema from-mcp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The result of `tools/list`.
    #[arg(value_name = "TOOLS.json")]
    tools: PathBuf,
    /// A folder of policies: what its other schema files declare is not declared again.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// A catalogue to go by: what it says of a tool is true, instead of the descriptor's hints.
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// Write the catalogue of these tools to this file, for `remit tool import`.
    #[arg(long, value_name = "FILE")]
    catalogue_out: Option<PathBuf>,
    /// The business domain of the tools that the catalogue puts in none.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Write the schema to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// An entity type of those who call; may be given several times, the agents first.
    #[arg(long, default_value = "Agent", value_name = "TYPE")]
    principal: Vec<String>,
    /// Pin the descriptors as they are now, also those that changed.
    #[arg(long)]
    repin: bool,
    /// An entity type of what is called on; may be given several times.
    #[arg(long, default_value = "Service", value_name = "TYPE")]
    resource: Vec<String>,
}

/// What was made, for `-o json`.
#[derive(Debug, Serialize)]
struct Made {
    /// The text of the schema.
    schema: String,
    /// The catalogue: each entry without its name.
    tools: Map<String, Value>,
    /// What no policy can read.
    left_out: Vec<String>,
    /// Tools whose descriptor is not the pinned one.
    drifted: Vec<String>,
    /// Tools that the catalogue given does not have.
    unknown: Vec<String>,
    /// Tools of the catalogue given that the list does not have.
    missing: Vec<String>,
}

/// Runs one of them.
///
/// # Errors
///
/// [`Error::Invalid`] for descriptors that are refused, [`Error::Io`] for files.
pub(crate) fn run(command: Command, out: &Output) -> Result<Exit, Error> {
    let Command::FromMcp(args) = command;
    let descriptors = McpTools::read(&text(&args.tools)?).map_err(refused)?;
    let mut tools = descriptors.worst_case(args.domain.as_deref());
    let mut compared = Compared::default();
    let mut entries = BTreeMap::new();
    if let Some(path) = &args.catalogue {
        entries = read_entries(path)?;
        compared = Compared::of(&tools, &entries);
        compared.drifted = correct(&mut tools, &descriptors, &entries, args.repin)?;
    }
    warn(&tools, &descriptors, &entries, &compared, out);
    let beside = args.bundle.as_deref().map(beside).transpose()?;
    let principals: Vec<&str> = args.principal.iter().map(String::as_str).collect();
    let resources: Vec<&str> = args.resource.iter().map(String::as_str).collect();
    let made = descriptors.schema(
        &tools,
        McpActions {
            beside: beside.as_deref().unwrap_or_default(),
            principals: &principals,
            resources: &resources,
        },
    );
    let made = made.map_err(refused)?;
    let made = Made {
        schema: made.text,
        tools: catalogue(&tools)?,
        left_out: made.left_out,
        drifted: if args.repin {
            Vec::new()
        } else {
            compared.drifted
        },
        unknown: compared.unknown,
        missing: compared.missing,
    };
    if let Some(path) = &args.catalogue_out {
        let file = serde_json::json!({ "tools": &made.tools });
        let mut text = serde_json::to_string_pretty(&file).map_err(Error::Unwritable)?;
        text.push('\n');
        bundle_dir::replace(path, text.as_bytes())?;
    }
    made.left_out.iter().for_each(|what| out.warn(what));
    for name in &made.drifted {
        out.warn(&format!(
            "tool `{name}`: its descriptor is not the pinned one any more; look at it, then --repin"
        ));
    }
    for name in &made.unknown {
        out.warn(&format!(
            "tool `{name}`: it is new to the catalogue, and taken at its worst"
        ));
    }
    for name in &made.missing {
        out.warn(&format!(
            "tool `{name}`: the catalogue has it and the list does not; importing leaves it in force"
        ));
    }
    if let Some(path) = &args.out {
        bundle_dir::replace(path, made.schema.as_bytes())?;
    }
    if out.is_machine() {
        out.value(&made, |_| String::new())?;
    } else if args.out.is_none() {
        out.print(made.schema.trim_end())?;
    }
    Ok(if made.drifted.is_empty() {
        Exit::Ok
    } else {
        Exit::GateFailed
    })
}

fn refused(why: McpError) -> Error {
    match why {
        McpError::Schema(diagnostics) => Error::Invalid(
            diagnostics
                .iter()
                .map(|found| found.message.clone())
                .collect::<Vec<_>>()
                .join("; "),
        ),
        other => Error::Invalid(other.to_string()),
    }
}

/// Reads the schema files of a bundle, but for the one that is generated.
fn beside(dir: &Path) -> Result<Vec<Source>, Error> {
    let mut schema = bundle_dir::read(dir)?.bundle.schema;
    schema.retain(|source| source.file != FILE);
    Ok(schema)
}

/// The entries of a catalogue, by tool.
type Entries = BTreeMap<String, Map<String, Value>>;

/// How a list of tools and a catalogue differ.
#[derive(Debug, Default)]
struct Compared {
    drifted: Vec<String>,
    unknown: Vec<String>,
    missing: Vec<String>,
}

/// Reads a catalogue: `{"tools": {name: {…}}}`, `{"tools": [{"name", …}]}`, or what `tools` holds alone.
fn read_entries(path: &Path) -> Result<Entries, Error> {
    let wrong = |what: String| Error::Invalid(format!("`{}`: {what}", path.display()));
    let value: Value = serde_json::from_str(&text(path)?).map_err(|why| wrong(why.to_string()))?;
    let inner = value.get("tools").unwrap_or(&value);
    let entry = |name: &str, value: &Value| match value.as_object() {
        Some(members) => Ok((name.to_owned(), members.clone())),
        None => Err(wrong(format!("the entry of `{name}` must be an object"))),
    };
    match inner {
        Value::Object(members) => members.iter().map(|(name, of)| entry(name, of)).collect(),
        Value::Array(list) => {
            let named = |value: &Value| match value.get("name").and_then(Value::as_str) {
                Some(name) => entry(name, value),
                None => Err(wrong("an entry has no `name`".to_owned())),
            };
            list.iter().map(named).collect()
        }
        _ => Err(wrong(
            "expected an object of tools by name, or a list of tools".to_owned(),
        )),
    }
}

/// Lets the catalogue correct what the descriptors say; returns the tools that have another descriptor than it pins.
fn correct(
    tools: &mut [Tool],
    descriptors: &McpTools,
    entries: &Entries,
    repin: bool,
) -> Result<Vec<String>, Error> {
    let mut drifted = Vec::new();
    for tool in tools {
        let Some(entry) = entries.get(tool.name.as_str()) else {
            continue;
        };
        let (now, said) = (tool.descriptor, tool.effect);
        *tool = corrected(tool, entry)?;
        // The worst case of a read named no sinks.
        if said == Effects::Read && tool.effect != Effects::Read && !entry.contains_key("sinks") {
            let names = descriptors.arguments(&tool.name).into_iter();
            let names = names.filter(|name| !name.contains('.'));
            tool.sinks = names.map(Into::into).collect();
        }
        if tool.descriptor != now {
            drifted.push(tool.name.to_string());
        }
        if repin {
            tool.descriptor = now;
        }
    }
    Ok(drifted)
}

/// Says what a person should look at: what rests on the server's own word, and what no control can hold on to.
fn warn(
    tools: &[Tool],
    descriptors: &McpTools,
    entries: &Entries,
    compared: &Compared,
    out: &Output,
) {
    for tool in tools {
        let name = &tool.name;
        let says = |member: &str| {
            entries
                .get(name.as_str())
                .is_some_and(|of| of.contains_key(member))
        };
        if tool.effect != Effects::Destroy && !says("effect") {
            let effect = tool.effect.as_str();
            out.warn(&format!(
                "tool `{name}`: only its own server says that it is no more than `{effect}`"
            ));
        }
        if tool.effect == Effects::Pay && tool.amount.is_none() {
            out.warn(&format!(
                "tool `{name}`: it pays, and the catalogue does not say which argument is the `amount`; limits on amounts \
                 do not hold it"
            ));
        }
        let arguments = descriptors.arguments(name).into_iter();
        let uncovered: Vec<&str> = arguments
            .filter(|argument| {
                !tool
                    .sinks
                    .iter()
                    .any(|sink| sink.split('.').next() == Some(*argument))
            })
            .filter(|argument| {
                argument.contains('.') || compared.drifted.iter().any(|of| of == name)
            })
            .collect();
        if tool.effect != Effects::Read && !uncovered.is_empty() {
            out.warn(&format!(
                "tool `{name}`: no sink covers {}",
                uncovered.join(", ")
            ));
        }
    }
}

/// Returns the tool with what an entry of a catalogue says of it.
///
/// # Errors
///
/// [`Error::Invalid`] naming the tool.
pub(crate) fn corrected(tool: &Tool, entry: &Map<String, Value>) -> Result<Tool, Error> {
    let wrong = |why: serde_json::Error| {
        Error::Invalid(format!("the catalogue's entry of `{}`: {why}", tool.name))
    };
    let mut value = serde_json::to_value(tool).map_err(wrong)?;
    if let Some(members) = value.as_object_mut() {
        // Whether a call can be undone follows from what it does, where the entry says only that.
        if entry.contains_key("effect") && !entry.contains_key("irreversible") {
            let mild = matches!(
                entry.get("effect").and_then(Value::as_str),
                Some("read" | "write")
            );
            members.insert("irreversible".to_owned(), Value::Bool(!mild));
        }
        // Of a read nothing is affected; the worst case of another effect named every argument.
        if entry.get("effect").and_then(Value::as_str) == Some("read")
            && !entry.contains_key("sinks")
        {
            members.insert("sinks".to_owned(), Value::Array(Vec::new()));
        }
        members.extend(entry.iter().map(|(name, of)| (name.clone(), of.clone())));
        members.insert("name".to_owned(), Value::String(tool.name.to_string()));
    }
    serde_json::from_value(value).map_err(wrong)
}

/// Writes tools as a catalogue holds them: by name, each without it.
///
/// # Errors
///
/// [`Error::Unwritable`].
pub(crate) fn catalogue(tools: &[Tool]) -> Result<Map<String, Value>, Error> {
    let mut entries = Map::new();
    for tool in tools {
        let mut value = serde_json::to_value(tool).map_err(Error::Unwritable)?;
        if let Some(members) = value.as_object_mut() {
            members.remove("name");
        }
        entries.insert(tool.name.to_string(), value);
    }
    Ok(entries)
}

/// Reads a text file of bounded size.
///
/// # Errors
///
/// [`Error::Io`].
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    use std::io::Read as _;
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        let taken = std::fs::File::open(path)?
            .take(FILE_BYTES + 1)
            .read_to_string(&mut text)?;
        if taken as u64 > FILE_BYTES {
            let problem = format!("the file is larger than {FILE_BYTES} bytes");
            return Err(std::io::Error::other(problem));
        }
        Ok(text)
    };
    read().map_err(|why| Error::path("read", path, why))
}

// === impl Compared ===

impl Compared {
    fn of(tools: &[Tool], entries: &Entries) -> Self {
        let mut compared = Self::default();
        let unknown = tools.iter().map(|tool| tool.name.to_string());
        compared.unknown = unknown.filter(|name| !entries.contains_key(name)).collect();
        let listed = |name: &&String| tools.iter().any(|tool| tool.name == ***name);
        let missing = entries.keys().filter(|name| !listed(name));
        compared.missing = missing.cloned().collect();
        compared
    }
}
