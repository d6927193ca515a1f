//! Tool descriptors of the Model Context Protocol: read strictly, taken at their worst, made into actions with typed
//! arguments.
//!
//! A descriptor is what a server says of itself: a hint that is missing counts as the worst, none makes a result trusted,
//! and what Cedar has no type for stays out of the schema, and is named.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cedar_policy_core::ast::Name;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::RawName;
use cedar_policy_core::validator::json_schema::Fragment;
use remit_core::{
    Confidentiality, ContentHash, Effects, Integrity, Source, Tool, canonical_json, is_nfc,
};
use serde_json::{Map, Value};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::CompiledSchema;
use crate::diagnostic::Diagnostic;
use crate::{guard, stack};

mod strict;
mod types;

use types::{Argument, Kind};

/// The most tools of one list.
pub(crate) const MOST_TOOLS: usize = 1_000;
/// The longest descriptor, in bytes of its canonical JSON.
const DESCRIPTOR_BYTES: usize = 256 * 1024;
/// The longest list of tools, in bytes.
const LIST_BYTES: usize = 16 * 1024 * 1024;
/// The longest name of a tool, an argument or a domain, in bytes.
const NAME_BYTES: usize = 128;
/// The file name under which errors speak of the generated schema.
const FILE: &str = "tools.cedarschema";

/// The descriptors of an MCP `tools/list`.
#[derive(Debug, Clone)]
pub struct McpTools {
    tools: Vec<Descriptor>,
}

/// One descriptor, checked.
#[derive(Debug, Clone)]
struct Descriptor {
    name: SmolStr,
    arguments: Vec<Argument>,
    /// The arguments that Cedar has no type for, each with why.
    untyped: Vec<(String, &'static str)>,
    hash: ContentHash,
    hints: Hints,
}

/// What a descriptor hints at (`annotations`), at the worst where it says nothing.
#[derive(Debug, Clone, Copy)]
struct Hints {
    reads_only: bool,
    destroys: bool,
    open_world: bool,
}

/// What the generated schema stands beside.
#[derive(Debug, Clone, Copy)]
pub struct McpActions<'a> {
    /// The other schema files of the bundle; none makes a schema that is complete by itself.
    pub beside: &'a [Source],
    /// The entity types of those who call.
    pub principals: &'a [&'a str],
    /// The entity types of what is called on.
    pub resources: &'a [&'a str],
}

/// A schema that was generated, and what it leaves out.
#[derive(Debug, Clone)]
pub struct McpSchema {
    /// The text of the schema file.
    pub text: String,
    /// Arguments that no policy can read, in words.
    pub left_out: Vec<String>,
}

/// Why descriptors are refused.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    /// The text is no list of tools.
    #[error("the list of tools cannot be read: {0}")]
    List(String),
    /// A tool that cannot be taken.
    #[error("tool `{name}`: {problem}")]
    Tool {
        /// Its name, or its place in the list.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The generated schema does not compile beside the others.
    #[error("the schema with these tools does not compile: {}", .0.first().map_or("", |first| first.message.as_str()))]
    Schema(Vec<Diagnostic>),
}

// === impl McpTools ===

impl McpTools {
    /// Reads the result of `tools/list`: `{"tools": […]}`, inside `{"result": …}` or not, or the bare list.
    ///
    /// # Errors
    ///
    /// [`McpError`] naming the tool.
    pub fn read(text: &str) -> Result<Self, McpError> {
        if text.len() > LIST_BYTES {
            return Err(McpError::List(format!(
                "it has {} bytes, the most is {LIST_BYTES}",
                text.len()
            )));
        }
        let value = strict::read(text).map_err(McpError::List)?;
        let inner = value.get("result").unwrap_or(&value);
        let Some(list) = inner.get("tools").unwrap_or(inner).as_array() else {
            let expected =
                "expected an array of tools, or an object whose member `tools` is one".to_owned();
            return Err(McpError::List(expected));
        };
        if list.len() > MOST_TOOLS {
            return Err(McpError::List(format!(
                "it has {} tools, the most is {MOST_TOOLS}",
                list.len()
            )));
        }
        let mut names = BTreeSet::new();
        let mut tools = Vec::with_capacity(list.len());
        for (place, value) in list.iter().enumerate() {
            let tool = Descriptor::read(place, value)?;
            if !names.insert(tool.name.clone()) {
                return Err(tool.refused("the list has it twice"));
            }
            tools.push(tool);
        }
        Ok(Self { tools })
    }

    /// Returns what the catalogue says of each where nobody has looked: the hints, and the worst where there is none.
    ///
    /// Without `readOnlyHint` a tool is no read; it destroys unless `destructiveHint` says otherwise, and then it sends
    /// out unless `openWorldHint` does. Its result is untrusted and private, whatever the hints. Of what is no read every
    /// argument is a sink.
    pub fn worst_case(&self, domain: Option<&str>) -> Vec<Tool> {
        let tools = self.tools.iter();
        tools.map(|tool| tool.worst_case(domain)).collect()
    }

    /// Returns the names of a tool's arguments; empty for one that is not in the list.
    pub fn arguments(&self, tool: &str) -> Vec<&str> {
        let named = self
            .tools
            .iter()
            .filter(|descriptor| descriptor.name == tool);
        named.flat_map(Descriptor::names).collect()
    }

    /// Writes the schema of one action a tool, in the groups that its entry of `catalogue` puts it into, and compiles it
    /// with the files it stands beside.
    ///
    /// # Errors
    ///
    /// [`McpError`] for a tool without an entry, a name that is taken, and whatever does not compile.
    pub fn schema(
        &self,
        catalogue: &[Tool],
        actions: McpActions<'_>,
    ) -> Result<McpSchema, McpError> {
        for name in actions.principals.iter().chain(actions.resources) {
            if name.parse::<Name>().is_err() {
                let problem = format!("`{name}` is not the name of an entity type");
                return Err(McpError::List(problem));
            }
        }
        stack::on_large_stack(|| Ok(self.schema_here(catalogue, actions)))
            .unwrap_or_else(|why| Err(McpError::Schema(why.diagnostics)))
    }

    fn schema_here(
        &self,
        catalogue: &[Tool],
        actions: McpActions<'_>,
    ) -> Result<McpSchema, McpError> {
        let there = declared(actions.beside)?;
        let mut entries = Vec::with_capacity(self.tools.len());
        for tool in &self.tools {
            let entry = catalogue.iter().find(|entry| entry.name == tool.name);
            let entry = entry.ok_or_else(|| tool.refused("the catalogue has no entry of it"))?;
            if let Some(domain) = &entry.domain {
                check_name(domain)
                    .and_then(|()| no_slash(domain))
                    .map_err(|why| tool.refused(&format!("its domain {why}")))?;
            }
            entries.push((tool, entry));
        }
        let groups: BTreeSet<SmolStr> = entries
            .iter()
            .filter_map(|(_, entry)| domain_group(entry))
            .collect();
        for (tool, _) in &entries {
            let effect = Effects::ALL.iter().any(|other| other.as_str() == tool.name);
            if effect || groups.contains(&tool.name) || there.contains(&tool.name) {
                return Err(tool.refused("an action or an action group has that name already"));
            }
        }
        let mut text = heading(self.tools.len());
        if actions.beside.is_empty() {
            types_of_its_own(&mut text, actions);
        }
        for effect in Effects::ALL {
            if !there.contains(effect.as_str()) {
                line(&mut text, format_args!("action \"{}\";", effect.as_str()));
            }
        }
        for group in groups.difference(&there) {
            let effect = group.rsplit('/').next().unwrap_or_default();
            line(
                &mut text,
                format_args!("action \"{}\" in [\"{effect}\"];", group.escape_debug()),
            );
        }
        for (tool, entry) in &entries {
            tool.write(entry, actions, &mut text);
        }
        compile(&text, actions.beside)?;
        let left_out = self.tools.iter().flat_map(Descriptor::left_out).collect();
        Ok(McpSchema { text, left_out })
    }
}

/// Returns the actions that the files beside declare.
fn declared(files: &[Source]) -> Result<BTreeSet<SmolStr>, McpError> {
    let mut actions = BTreeSet::new();
    for file in files.iter().filter(|file| file.file != FILE) {
        guard::check_schema(&file.text).map_err(|excess| {
            McpError::List(format!("`{}` beside it: {}", file.file, excess.message))
        })?;
        let (fragment, _): (Fragment<RawName>, _) =
            Fragment::from_cedarschema_str(&file.text, Extensions::all_available()).map_err(
                |why| McpError::List(format!("`{}` beside it does not parse: {why}", file.file)),
            )?;
        for (namespace, definition) in &fragment.0 {
            if namespace.is_none() {
                actions.extend(definition.actions.keys().cloned());
            }
        }
    }
    Ok(actions)
}

fn compile(text: &str, beside: &[Source]) -> Result<(), McpError> {
    let mut files: Vec<Source> = beside.to_vec();
    files.retain(|file| file.file != FILE);
    files.push(Source {
        file: FILE.to_owned(),
        text: text.to_owned(),
    });
    CompiledSchema::compile(&files)
        .map(drop)
        .map_err(McpError::Schema)
}

fn heading(tools: usize) -> String {
    let mut text = String::new();
    line(
        &mut text,
        format_args!("// One action for each of {tools} tools, made by `remit schema from-mcp`."),
    );
    line(
        &mut text,
        format_args!(
            "// The next import replaces it: what a tool does is changed in the catalogue.\n"
        ),
    );
    text
}

fn types_of_its_own(text: &mut String, actions: McpActions<'_>) {
    let mut names = BTreeSet::new();
    for (place, name) in actions
        .principals
        .iter()
        .chain(actions.resources)
        .enumerate()
    {
        if names.insert(name) {
            // Who calls is an agent, and the first is the one that there always is.
            let registered = if place == 0 {
                "@registered(\"agent\")\n"
            } else {
                ""
            };
            line(text, format_args!("{registered}entity {name};"));
        }
    }
    text.push('\n');
}

/// Adds a line.
fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{content}");
}

fn domain_group(tool: &Tool) -> Option<SmolStr> {
    let domain = tool.domain.as_ref()?;
    Some(format_smolstr!("{domain}/{}", tool.effect.as_str()))
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > NAME_BYTES {
        return Err(format!(
            "has {} bytes, the most is {NAME_BYTES}",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    if !is_nfc(name) {
        return Err("is not in Unicode normal form C (NFC)".to_owned());
    }
    Ok(())
}

fn no_slash(name: &str) -> Result<(), String> {
    if name.contains('/') {
        return Err("holds a `/`, which divides it from the effect".to_owned());
    }
    Ok(())
}

// === impl Descriptor ===

impl Descriptor {
    fn read(place: usize, value: &Value) -> Result<Self, McpError> {
        let refused = |problem: String| McpError::Tool {
            name: format!("#{}", place + 1),
            problem,
        };
        let Some(members) = value.as_object() else {
            return Err(refused("expected an object".to_owned()));
        };
        let Some(name) = members.get("name").and_then(Value::as_str) else {
            return Err(refused("has no `name`, which must be a text".to_owned()));
        };
        check_name(name).map_err(|why| refused(format!("its name {why}")))?;
        let refused = |problem: String| McpError::Tool {
            name: name.to_owned(),
            problem,
        };
        let canonical = canonical_json(value).map_err(|why| refused(why.to_string()))?;
        if canonical.len() > DESCRIPTOR_BYTES {
            return Err(refused(format!(
                "its descriptor has {} bytes, the most is {DESCRIPTOR_BYTES}",
                canonical.len()
            )));
        }
        let none = Value::Object(Map::new());
        let input = members.get("inputSchema").or(members.get("parameters"));
        let input = input.filter(|input| !input.is_null());
        let read = types::read(input.unwrap_or(&none)).map_err(refused)?;
        Ok(Self {
            name: name.to_smolstr(),
            arguments: read.arguments,
            untyped: read.untyped,
            hash: ContentHash::of(&canonical),
            hints: Hints::read(members.get("annotations")).map_err(refused)?,
        })
    }

    fn refused(&self, problem: &str) -> McpError {
        McpError::Tool {
            name: self.name.to_string(),
            problem: problem.to_owned(),
        }
    }

    /// Returns the names of its arguments.
    fn names(&self) -> impl Iterator<Item = &str> {
        let typed = self.arguments.iter().map(|argument| &*argument.name);
        typed.chain(self.untyped.iter().map(|(name, _)| name.as_str()))
    }

    fn worst_case(&self, domain: Option<&str>) -> Tool {
        let effect = self.hints.effect();
        let sinks = match effect {
            Effects::Read => Vec::new(),
            // A dot would lead into an object: of an argument with one in its name no sink can be made.
            _ => self
                .names()
                .filter(|name| !name.contains('.'))
                .map(SmolStr::new)
                .collect(),
        };
        Tool {
            amount: None,
            classes: BTreeSet::new(),
            clearance: None,
            confidentiality: Confidentiality::Private,
            cost: 0,
            descriptor: Some(self.hash),
            domain: domain.map(SmolStr::new),
            effect,
            environment: None,
            // A server cannot vouch for itself.
            integrity: Integrity::Untrusted,
            irreversible: !matches!(effect, Effects::Read | Effects::Write),
            min_trust: 0,
            name: self.name.clone(),
            owner: None,
            roles: None,
            sinks,
        }
    }

    /// Writes its action.
    fn write(&self, entry: &Tool, actions: McpActions<'_>, text: &mut String) {
        let group =
            domain_group(entry).unwrap_or_else(|| SmolStr::new_static(entry.effect.as_str()));
        line(
            text,
            format_args!(
                "\naction \"{}\" in [\"{}\"] appliesTo {{\n  principal: [{}],\n  resource: [{}],\n  context: {{\n    \
                 facts: Remit::Facts,",
                self.name.escape_debug(),
                group.escape_debug(),
                actions.principals.join(", "),
                actions.resources.join(", "),
            ),
        );
        if !self.arguments.is_empty() {
            let kind = Kind::Record(self.arguments.clone());
            // Without the arguments that it must have there is nobody whom it affects, and nothing to hold on to.
            let must = self.arguments.iter().any(|argument| argument.required);
            let mark = if must { "" } else { "?" };
            line(text, format_args!("    action{mark}: {},", kind.text(2)));
        }
        text.push_str("  },\n};\n");
    }

    fn left_out(&self) -> impl Iterator<Item = String> {
        let of = |(argument, why): &(String, &'static str)| {
            format!(
                "tool `{}`: argument `{argument}` {why}: no policy can read it",
                self.name
            )
        };
        self.untyped.iter().map(of)
    }
}

// === impl Hints ===

impl Hints {
    fn read(annotations: Option<&Value>) -> Result<Self, String> {
        let hint = |name: &str, absent: bool| match annotations.and_then(|of| of.get(name)) {
            None | Some(Value::Null) => Ok(absent),
            Some(Value::Bool(hint)) => Ok(*hint),
            Some(_) => Err(format!("`annotations.{name}` must be true or false")),
        };
        Ok(Self {
            reads_only: hint("readOnlyHint", false)?,
            destroys: hint("destructiveHint", true)?,
            open_world: hint("openWorldHint", true)?,
        })
    }

    fn effect(self) -> Effects {
        match self {
            Self {
                reads_only: true, ..
            } => Effects::Read,
            Self { destroys: true, .. } => Effects::Destroy,
            Self {
                open_world: true, ..
            } => Effects::Egress,
            _ => Effects::Write,
        }
    }
}

#[cfg(test)]
mod tests;
