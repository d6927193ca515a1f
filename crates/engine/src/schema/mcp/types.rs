//! Arguments of tools: from JSON Schema to Cedar types.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use smol_str::SmolStr;

/// The most arguments of a tool, and the most members of an object among them.
const MEMBERS: usize = 256;
/// The deepest that objects and arrays nest.
const NESTING: usize = 8;
/// The most schemas that one tool's arguments may come to, references written out.
const NODES: usize = 4_096;
/// Names by which Cedar's own JSON tells entities and extension values from records.
const RESERVED: &[&str] = &["__entity", "__extn", "__expr"];

/// Why there is no type.
const MIXED: &str = "may be of several types";
const FREE: &str = "is an object whose members are not declared";
const UNKNOWN: &str = "has no type that Cedar knows";
const DEEP: &str = "nests too deep, or refers to itself";
const OPEN: &str = "is an array of nothing in particular";

/// One argument with a type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Argument {
    pub(super) name: SmolStr,
    kind: Kind,
    pub(super) required: bool,
}

/// The type of an argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool,
    Long,
    Decimal,
    String,
    Set(Box<Kind>),
    Record(Vec<Argument>),
}

/// What a tool takes.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) arguments: Vec<Argument>,
    pub(super) untyped: Vec<(String, &'static str)>,
}

/// Reads the schema of a tool's input.
///
/// # Errors
///
/// What no tool can have, in words.
pub(super) fn read(schema: &Value) -> Result<Arguments, String> {
    let object = schema
        .as_object()
        .ok_or("its input schema must be an object")?;
    match object.get("type") {
        None => {}
        Some(Value::String(kind)) if kind == "object" => {}
        Some(_) => return Err("its input schema must be of the type `object`".to_owned()),
    }
    let properties = match object.get("properties") {
        None => return Ok(Arguments::default()),
        Some(properties) => properties
            .as_object()
            .ok_or("`properties` of its input schema must be an object")?,
    };
    if properties.len() > MEMBERS {
        return Err(format!(
            "it takes {} arguments, the most is {MEMBERS}",
            properties.len()
        ));
    }
    let mut reader = Reader {
        root: schema,
        nodes: NODES,
    };
    let required = required(object);
    let mut read = Arguments::default();
    for (name, schema) in properties {
        super::check_name(name).map_err(|why| format!("the name of an argument {why}"))?;
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("the name of its argument `{name}` is reserved"));
        }
        match reader.kind(schema, NESTING) {
            Ok(Found { kind, nullable }) => read.arguments.push(Argument {
                name: SmolStr::new(name),
                kind,
                required: !nullable && required.contains(&name.as_str()),
            }),
            Err(why) => read.untyped.push((name.clone(), why)),
        }
    }
    Ok(read)
}

fn required(object: &Map<String, Value>) -> Vec<&str> {
    let list = object.get("required").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

struct Reader<'s> {
    /// What references start from.
    root: &'s Value,
    /// How many schemas may still be read.
    nodes: usize,
}

struct Found {
    kind: Kind,
    nullable: bool,
}

// === impl Found ===

impl Found {
    fn plain(kind: Kind) -> Self {
        Self {
            kind,
            nullable: false,
        }
    }
}

// === impl Reader ===

impl<'s> Reader<'s> {
    fn kind(&mut self, schema: &'s Value, depth: usize) -> Result<Found, &'static str> {
        self.nodes = self.nodes.checked_sub(1).ok_or(DEEP)?;
        let depth = depth.checked_sub(1).ok_or(DEEP)?;
        let object = schema.as_object().ok_or(UNKNOWN)?;
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').ok_or(UNKNOWN)?;
            let target = self.root.pointer(pointer).ok_or(UNKNOWN)?;
            return self.kind(target, depth);
        }
        for several in ["anyOf", "oneOf"] {
            if let Some(options) = object.get(several).and_then(Value::as_array) {
                return self.one_of(options, depth);
            }
        }
        if let Some([only]) = object
            .get("allOf")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            return self.kind(only, depth);
        }
        match object.get("type") {
            Some(Value::String(kind)) => self.named(kind, object, depth).map(Found::plain),
            Some(Value::Array(kinds)) => self.several(kinds, object, depth),
            Some(_) => Err(UNKNOWN),
            None => listed(object),
        }
    }

    /// Reads a choice: what is left of it beside null must be of one type.
    fn one_of(&mut self, options: &'s [Value], depth: usize) -> Result<Found, &'static str> {
        let mut found: Option<Kind> = None;
        let mut nullable = false;
        for option in options {
            if option.get("type").and_then(Value::as_str) == Some("null") {
                nullable = true;
                continue;
            }
            let next = self.kind(option, depth)?;
            nullable |= next.nullable;
            match &found {
                None => found = Some(next.kind),
                Some(kind) if *kind == next.kind => {}
                Some(_) => return Err(MIXED),
            }
        }
        let kind = found.ok_or(UNKNOWN)?;
        Ok(Found { kind, nullable })
    }

    fn several(
        &mut self,
        kinds: &'s [Value],
        object: &'s Map<String, Value>,
        depth: usize,
    ) -> Result<Found, &'static str> {
        let names = || kinds.iter().filter_map(Value::as_str);
        let mut others = names().filter(|name| *name != "null");
        let (Some(only), None) = (others.next(), others.next()) else {
            return Err(MIXED);
        };
        Ok(Found {
            kind: self.named(only, object, depth)?,
            nullable: names().any(|name| name == "null"),
        })
    }

    fn named(
        &mut self,
        kind: &str,
        object: &'s Map<String, Value>,
        depth: usize,
    ) -> Result<Kind, &'static str> {
        match kind {
            "boolean" => Ok(Kind::Bool),
            "integer" => Ok(Kind::Long),
            "number" => Ok(Kind::Decimal),
            "string" => Ok(Kind::String),
            "array" => {
                let items = object.get("items").ok_or(OPEN)?;
                let item = self.kind(items, depth)?;
                // A set has no place for null.
                if item.nullable {
                    return Err(MIXED);
                }
                Ok(Kind::Set(Box::new(item.kind)))
            }
            "object" => self.record(object, depth),
            _ => Err(UNKNOWN),
        }
    }

    fn record(
        &mut self,
        object: &'s Map<String, Value>,
        depth: usize,
    ) -> Result<Kind, &'static str> {
        let properties = object.get("properties").and_then(Value::as_object);
        let properties = properties.filter(|found| !found.is_empty()).ok_or(FREE)?;
        if properties.len() > MEMBERS {
            return Err("is an object with too many members");
        }
        let required = required(object);
        let mut members = Vec::with_capacity(properties.len());
        for (name, schema) in properties {
            if super::check_name(name).is_err() || RESERVED.contains(&name.as_str()) {
                return Err("has a member with a name that cannot be used");
            }
            let Found { kind, nullable } = self.kind(schema, depth)?;
            members.push(Argument {
                name: SmolStr::new(name),
                kind,
                required: !nullable && required.contains(&name.as_str()),
            });
        }
        Ok(Kind::Record(members))
    }
}

/// Reads the type of what only lists its values.
fn listed(object: &Map<String, Value>) -> Result<Found, &'static str> {
    let values = match (object.get("enum"), object.get("const")) {
        (Some(Value::Array(values)), _) => values.as_slice(),
        (None, Some(value)) => std::slice::from_ref(value),
        _ => return Err(UNKNOWN),
    };
    let mut found: Option<Kind> = None;
    let mut nullable = false;
    for value in values {
        let kind = match value {
            Value::Null => {
                nullable = true;
                continue;
            }
            Value::String(_) => Kind::String,
            Value::Bool(_) => Kind::Bool,
            Value::Number(number) if number.is_i64() => Kind::Long,
            Value::Number(_) => Kind::Decimal,
            _ => return Err(UNKNOWN),
        };
        if found.as_ref().is_some_and(|found| *found != kind) {
            return Err(MIXED);
        }
        found = Some(kind);
    }
    let kind = found.ok_or(UNKNOWN)?;
    Ok(Found { kind, nullable })
}

// === impl Kind ===

impl Kind {
    /// Writes it in Cedar's schema syntax, records with a line a member.
    pub(super) fn text(&self, indent: usize) -> String {
        match self {
            Self::Bool => "Bool".to_owned(),
            Self::Long => "Long".to_owned(),
            Self::Decimal => "decimal".to_owned(),
            Self::String => "String".to_owned(),
            Self::Set(item) => format!("Set<{}>", item.text(indent)),
            Self::Record(members) => {
                let mut text = "{\n".to_owned();
                for member in members {
                    // Writing to a string does not fail.
                    let _ = writeln!(
                        text,
                        "{:width$}\"{}\"{}: {},",
                        "",
                        member.name.escape_debug(),
                        if member.required { "" } else { "?" },
                        member.kind.text(indent + 1),
                        width = 2 * (indent + 1),
                    );
                }
                let _ = write!(text, "{:width$}}}", "", width = 2 * indent);
                text
            }
        }
    }
}
