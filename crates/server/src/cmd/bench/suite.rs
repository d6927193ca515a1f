//! Suites as files: what is asked for, which calls that takes, what came back, and who may have written into it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use remit_core::{Effects, Tool};
use remit_engine::McpTools;
use serde::Deserialize;
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
    /// Injection tasks with at least one side effect.
    pub(super) injections: BTreeMap<String, InjectionTask>,
    /// How many injection tasks have none: they ask for words, or their calls are not known.
    pub(super) excluded: usize,
}

/// What a user asked for.
#[derive(Debug, Deserialize)]
pub(super) struct UserTask {
    pub(super) prompt: String,
    pub(super) calls: Vec<Call>,
}

/// What an attacker asks for.
#[derive(Debug, Deserialize)]
pub(super) struct InjectionTask {
    pub(super) calls: Vec<Call>,
}

/// One call, and what it brought back.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Call {
    pub(super) tool: String,
    pub(super) args: Map<String, Value>,
    #[serde(default)]
    pub(super) result: Value,
    #[serde(default)]
    pub(super) error: Value,
    /// The injection vectors that stand in the result.
    #[serde(default)]
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
    #[serde(default)]
    sinks: Vec<String>,
    out: String,
    conf: String,
    domain: String,
}

type Catalogue = BTreeMap<String, BTreeMap<String, Profile>>;

/// Reads every suite of a folder, in the order of their names.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::Invalid`] naming the suite and the tool that do not fit the catalogue.
pub(super) fn read(dir: &Path, catalogue: &Path) -> Result<Vec<Suite>, Error> {
    let profiles: Catalogue = serde_json::from_str(&schema::text(catalogue)?)
        .map_err(|why| Error::Invalid(format!("`{}`: {why}", catalogue.display())))?;
    let mut suites = BTreeMap::new();
    let listing = fs::read_dir(dir).map_err(|why| Error::path("read", dir, why))?;
    for entry in listing {
        let path = entry.map_err(|why| Error::path("read", dir, why))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let wrong = |why: serde_json::Error| Error::Invalid(format!("`{}`: {why}", path.display()));
        let value: Value = serde_json::from_str(&schema::text(&path)?).map_err(wrong)?;
        // The catalogue may lie in the same folder.
        if value.get("suite").is_none_or(|name| !name.is_string()) {
            continue;
        }
        let written: Written = serde_json::from_value(value).map_err(wrong)?;
        let Some(profiles) = profiles.get(&written.suite) else {
            return Err(Error::Invalid(format!(
                "the catalogue has no suite `{}`",
                written.suite
            )));
        };
        let suite = check(written, profiles)?;
        suites.insert(suite.name.clone(), suite);
    }
    Ok(suites.into_values().collect())
}

fn check(written: Written, profiles: &BTreeMap<String, Profile>) -> Result<Suite, Error> {
    let wrong = |what: String| Error::Invalid(format!("suite `{}`: {what}", written.suite));
    let descriptors =
        McpTools::read(&written.tools.to_string()).map_err(|why| wrong(why.to_string()))?;
    let mut tools = BTreeMap::new();
    for tool in descriptors.worst_case(None) {
        let profile = profiles
            .get(tool.name.as_str())
            .ok_or_else(|| wrong(format!("the catalogue has no tool `{}`", tool.name)))?;
        tools.insert(tool.name.to_string(), profile.tool(&tool)?);
    }
    let effect = |call: &Call| tools.get(&call.tool).map(|tool| tool.effect);
    let user = written.user_tasks.values().flat_map(|task| &task.calls);
    let injected = written
        .injection_tasks
        .values()
        .flat_map(|task| &task.calls);
    for call in user.clone().chain(injected) {
        if effect(call).is_none() {
            return Err(wrong(format!(
                "`tools` has no `{}`, which is called",
                call.tool
            )));
        }
    }
    // The canary: what an attacker can write into must be labelled so, or every figure is worth nothing.
    for call in user.filter(|call| !call.exposes.is_empty()) {
        let trusted = tools
            .get(&call.tool)
            .is_some_and(|tool| tool.integrity == remit_core::Integrity::Trusted);
        if trusted {
            return Err(wrong(format!(
                "the catalogue calls the result of `{}` trusted, and an injection vector stands in it",
                call.tool
            )));
        }
    }
    if let Some((name, _)) = written
        .user_tasks
        .iter()
        .find(|(_, task)| task.prompt.len() > INTENT_BYTES)
    {
        return Err(wrong(format!(
            "the prompt of `{name}` is over {INTENT_BYTES} bytes"
        )));
    }
    let count = written.injection_tasks.len();
    let injections: BTreeMap<_, _> = written
        .injection_tasks
        .into_iter()
        .filter(|(_, task)| {
            task.calls
                .iter()
                .any(|call| effect(call) != Some(Effects::Read))
        })
        .collect();
    let tasks = written
        .user_tasks
        .into_iter()
        .filter(|(_, task)| !task.calls.is_empty())
        .collect();
    Ok(Suite {
        excluded: count - injections.len(),
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
        let entry = json!({
            "effect": self.effect,
            "sinks": self.sinks,
            "integrity": self.out,
            "confidentiality": self.conf,
            "domain": self.domain,
            "owner": "bench",
        });
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
    /// Returns the calls up to and including the first whose result an attacker wrote into; nothing where there is none.
    pub(super) fn until_exposed(&self) -> Option<&[Call]> {
        let first = self
            .calls
            .iter()
            .position(|call| !call.exposes.is_empty())?;
        self.calls.get(..=first)
    }
}
