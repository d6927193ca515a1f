//! Suites as files: what is asked for, which calls that takes, what came back, and who may have written into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use remit_core::{Effects, Integrity, Tool};
use remit_engine::McpTools;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::cmd::schema;
use crate::error::Error;

/// The longest text of a task that is declared as its intent, in bytes.
const INTENT_BYTES: usize = 16 * 1024;

/// One suite, checked against its catalogue.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: String,
    /// The descriptors of its tools.
    pub(super) descriptors: McpTools,
    /// The catalogue's entries of them.
    pub(super) tools: BTreeMap<String, Tool>,
    /// Tasks with at least one call.
    pub(super) tasks: BTreeMap<String, UserTask>,
    /// Injection tasks with at least one call.
    pub(super) injections: BTreeMap<String, InjectionTask>,
    /// How many injection tasks have none: they ask for words, or their calls are not known.
    pub(super) excluded: usize,
    /// How many of `injections` only read: nothing of theirs can succeed, since no effect is asked for.
    pub(super) only_read: usize,
    /// Tools that the catalogue does not describe and nothing calls: they are taken at their worst.
    pub(super) unlisted: Vec<String>,
}

/// What a user asked for.
#[derive(Debug, Deserialize)]
pub(super) struct UserTask {
    #[serde(deserialize_with = "in_normal_form")]
    pub(super) prompt: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(super) calls: Vec<Call>,
}

/// What an attacker asks for.
#[derive(Debug, Deserialize)]
pub(super) struct InjectionTask {
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(super) calls: Vec<Call>,
}

/// One call, and what it brought back.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Call {
    pub(super) tool: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(super) args: Map<String, Value>,
    #[serde(default)]
    pub(super) result: Value,
    #[serde(default)]
    pub(super) error: Value,
    /// The injection vectors that stand in the result.
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(super) exposes: Vec<Value>,
}

/// A suite as it is written.
#[derive(Debug, Deserialize)]
struct Written {
    suite: String,
    tools: Value,
    user_tasks: BTreeMap<String, UserTask>,
    injection_tasks: BTreeMap<String, InjectionTask>,
}

/// What the catalogue says of a tool.
#[derive(Debug, Deserialize)]
struct Profile {
    effect: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    sinks: Vec<String>,
    out: String,
    conf: String,
    #[serde(default)]
    domain: Option<String>,
}

/// The profiles of one suite; read where a tool wants one, so that one entry is in nobody else's way.
type Profiles = BTreeMap<String, Value>;

/// Reads text in the form in which Remit takes the words of a task: NFC, without NUL.
fn in_normal_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(remit_core::nfc(&text).replace('\0', " "))
}

fn absent_if_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads every suite of a folder, in the order of their names.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::Invalid`] naming the suite and the tool that do not fit the catalogue.
pub(super) fn read(dir: &Path, catalogue: &Path) -> Result<Vec<Suite>, Error> {
    let wrong =
        |why: serde_json::Error| Error::Invalid(format!("`{}`: {why}", catalogue.display()));
    let all: BTreeMap<String, Value> =
        serde_json::from_str(&schema::text(catalogue)?).map_err(wrong)?;
    let mut suites = BTreeMap::new();
    let listing = fs::read_dir(dir).map_err(|why| Error::path("read", dir, why))?;
    for entry in listing {
        let path = entry.map_err(|why| Error::path("read", dir, why))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let refused = |why: String| Error::Invalid(format!("`{}`: {why}", path.display()));
        let value: Value =
            serde_json::from_str(&schema::text(&path)?).map_err(|why| refused(why.to_string()))?;
        // The catalogue may lie in the same folder.
        if value.get("suite").is_none_or(|name| !name.is_string()) {
            continue;
        }
        let written: Written =
            serde_json::from_value(value).map_err(|why| refused(why.to_string()))?;
        let Some(profiles) = all.get(&written.suite) else {
            let why = format!("the catalogue has no suite `{}`", written.suite);
            return Err(Error::Invalid(why));
        };
        let profiles = Profiles::deserialize(profiles).map_err(wrong)?;
        let suite = check(written, &profiles)?;
        if let Some(first) = suites.insert(suite.name.clone(), suite) {
            let why = format!("a second file has the suite `{}`", first.name);
            return Err(refused(why));
        }
    }
    Ok(suites.into_values().collect())
}

fn check(written: Written, profiles: &Profiles) -> Result<Suite, Error> {
    let wrong = |what: String| Error::Invalid(format!("suite `{}`: {what}", written.suite));
    let descriptors =
        McpTools::read(&written.tools.to_string()).map_err(|why| wrong(why.to_string()))?;
    let user = written.user_tasks.values().flat_map(|task| &task.calls);
    let injected = written
        .injection_tasks
        .values()
        .flat_map(|task| &task.calls);
    let called: BTreeSet<&str> = user
        .clone()
        .chain(injected)
        .map(|call| call.tool.as_str())
        .collect();
    let mut tools = BTreeMap::new();
    let mut unlisted = Vec::new();
    for tool in descriptors.worst_case(None) {
        let name = tool.name.to_string();
        let described = match profiles.get(&name) {
            Some(profile) => Profile::deserialize(profile)
                .map_err(|why| wrong(format!("the catalogue's entry of `{name}`: {why}")))?
                .tool(&tool)?,
            None if called.contains(&*name) => {
                return Err(wrong(format!("the catalogue has no tool `{name}`")));
            }
            None => {
                unlisted.push(name.clone());
                tool
            }
        };
        tools.insert(name, described);
    }
    if let Some(name) = called.iter().find(|name| !tools.contains_key(**name)) {
        return Err(wrong(format!("`tools` has no `{name}`, which is called")));
    }
    // The canary: what an attacker can write into must be labelled so, or every figure is worth nothing.
    let trusted = |call: &&Call| {
        let tool = tools.get(&call.tool);
        tool.is_some_and(|tool| tool.integrity == Integrity::Trusted)
    };
    if let Some(call) = user.filter(|call| call.exposes()).find(trusted) {
        return Err(wrong(format!(
            "the catalogue calls the result of `{}` trusted, and an injection vector stands in it",
            call.tool
        )));
    }
    let long = |(_, task): &(&String, &UserTask)| task.prompt.len() > INTENT_BYTES;
    if let Some((name, _)) = written.user_tasks.iter().find(long) {
        return Err(wrong(format!(
            "the prompt of `{name}` is over {INTENT_BYTES} bytes"
        )));
    }
    let (mut injections, mut tasks) = (written.injection_tasks, written.user_tasks);
    let count = injections.len();
    injections.retain(|_, task| !task.calls.is_empty());
    tasks.retain(|_, task| !task.calls.is_empty());
    let reads = |call: &Call| {
        let tool = tools.get(&call.tool);
        tool.is_some_and(|tool| tool.effect == Effects::Read)
    };
    let only_read = injections
        .values()
        .filter(|task| task.calls.iter().all(reads))
        .count();
    Ok(Suite {
        excluded: count - injections.len(),
        only_read,
        unlisted,
        name: written.suite,
        descriptors,
        tools,
        tasks,
        injections,
    })
}

// === impl Profile ===

impl Profile {
    /// Corrects what the descriptor of the tool says.
    fn tool(&self, tool: &Tool) -> Result<Tool, Error> {
        let mut entry = json!({
            "effect": self.effect,
            "sinks": self.sinks,
            "integrity": self.out,
            "confidentiality": self.conf,
            "owner": "bench",
        });
        let domain = self.domain.as_deref().unwrap_or_default().trim();
        if let (false, Some(members)) = (domain.is_empty(), entry.as_object_mut()) {
            // A slash divides a domain from an effect.
            members.insert("domain".to_owned(), Value::from(domain.replace('/', "-")));
        }
        let empty = Map::new();
        schema::corrected(tool, entry.as_object().unwrap_or(&empty))
    }
}

// === impl Suite ===

impl Suite {
    /// Returns whether a call of it changes something or sends it out.
    pub(super) fn is_side_effect(&self, call: &Call) -> bool {
        self.tools
            .get(&call.tool)
            .is_some_and(|tool| tool.effect != Effects::Read)
    }
}

// === impl UserTask ===

impl UserTask {
    /// Returns whether an attacker wrote into what one of its calls brings back.
    pub(super) fn is_exposed(&self) -> bool {
        self.calls.iter().any(Call::exposes)
    }
}

// === impl Call ===

impl Call {
    /// Returns whether an attacker wrote into what it brings back.
    pub(super) fn exposes(&self) -> bool {
        !self.exposes.is_empty()
    }
}
