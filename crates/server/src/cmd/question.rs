//! One question on the command line, for the commands that ask one.

use std::io::Read as _;

use remit_core::{Action, EntityUid, Question, Resource, Subject};
use serde_json::{Map, Value};

use crate::config::read_small;
use crate::error::Error;

/// The largest JSON read from standard input, in bytes.
const STDIN_BYTES: u64 = 1024 * 1024;

/// The flags that make a question.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Question")]
#[group(skip)]
pub(crate) struct Args {
    /// Who wants to act: Agent:invoice-bot or 'Agent::"invoice-bot"'.
    #[arg(short, long, value_name = "TYPE:ID")]
    pub(crate) subject: Option<String>,
    /// What it wants to do: the name of an action of the schema.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) action: Option<String>,
    /// To what: Tool:mail.send or 'Tool::"mail.send"'.
    #[arg(short, long, value_name = "TYPE:ID")]
    pub(crate) resource: Option<String>,
    /// Everything else about this call, as a JSON object; @FILE reads a file, @- standard input.
    #[arg(short, long, value_name = "JSON")]
    pub(crate) context: Option<String>,
    /// The arguments of the call (action.properties), in the same form.
    #[arg(long, visible_alias = "action-properties", value_name = "JSON")]
    pub(crate) properties: Option<String>,
    /// What is said of the subject (subject.properties), in the same form.
    #[arg(long, value_name = "JSON")]
    pub(crate) subject_properties: Option<String>,
    /// What is said of the resource (resource.properties), in the same form.
    #[arg(long, value_name = "JSON")]
    pub(crate) resource_properties: Option<String>,
}

// === impl Args ===

impl Args {
    /// Says whether any part of a question was given.
    pub(crate) fn is_given(&self) -> bool {
        self.subject.is_some() || self.action.is_some() || self.resource.is_some()
    }

    /// Makes the question.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a part that is missing, [`Error::Invalid`] for one that is malformed.
    pub(crate) fn question(&self) -> Result<Question, Error> {
        let (kind, id) = entity("--subject", self.subject.as_deref())?;
        let subject = Subject {
            kind,
            id,
            properties: object("--subject-properties", self.subject_properties.as_deref())?,
        };
        let (kind, id) = entity("--resource", self.resource.as_deref())?;
        let resource = Resource {
            kind,
            id,
            properties: object("--resource-properties", self.resource_properties.as_deref())?,
        };
        let name = self.action.clone().ok_or_else(|| missing("--action"))?;
        let action = Action {
            name,
            properties: object("--properties", self.properties.as_deref())?,
        };
        let context = object("--context", self.context.as_deref())?;
        let question = Question {
            subject,
            action,
            resource,
            context,
        };
        question
            .check()
            .map_err(|why| Error::Invalid(format!("the question cannot be asked: {why}")))?;
        Ok(question)
    }
}

fn missing(flag: &str) -> Error {
    Error::Usage(format!(
        "{flag} is missing: a question has --subject, --action and --resource"
    ))
}

/// Reads the name of an entity that stands by itself on the command line.
///
/// # Errors
///
/// [`Error::Usage`] for what is none.
pub(crate) fn named(what: &str, text: &str) -> Result<EntityUid, Error> {
    let (kind, id) = entity(what, Some(text))?;
    Ok(EntityUid::new(kind, id))
}

/// Reads `Type::"id"` or `Type:id`, where the type may be namespaced.
fn entity(flag: &str, text: Option<&str>) -> Result<(String, String), Error> {
    let text = text.ok_or_else(|| missing(flag))?;
    let parts = quoted(text).or_else(|| short(text));
    parts
        .filter(|(kind, id)| !kind.is_empty() && !id.is_empty())
        .ok_or_else(|| {
            Error::Usage(format!(
                "{flag}: `{text}` is no entity; write Agent:invoice-bot or 'Agent::\"invoice-bot\"'"
            ))
        })
}

/// Reads the form of a policy, with its escapes.
fn quoted(text: &str) -> Option<(String, String)> {
    let (kind, rest) = text.split_once("::\"")?;
    let inner = rest.strip_suffix('"')?;
    let mut id = String::new();
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' => return None,
            '\\' => id.push(escaped(&mut rest)?),
            other => id.push(other),
        }
    }
    Some((kind.to_owned(), id))
}

fn escaped(rest: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        same @ ('\\' | '"' | '\'') => same,
        'u' => {
            let digits = rest.as_str().strip_prefix('{')?.split_once('}')?.0;
            let value = u32::from_str_radix(digits, 16)
                .ok()
                .and_then(char::from_u32)?;
            rest.nth(digits.len() + 1)?;
            value
        }
        _ => return None,
    })
}

/// Splits at the first colon that stands alone: `Acme::Agent:bot` is of type `Acme::Agent`.
fn short(text: &str) -> Option<(String, String)> {
    let mut rest = text;
    let mut kind = String::new();
    loop {
        let (part, after) = rest.split_once(':')?;
        kind.push_str(part);
        match after.strip_prefix(':') {
            Some(after) => {
                kind.push_str("::");
                rest = after;
            }
            None => return Some((kind, after.to_owned())),
        }
    }
}

/// Reads a JSON object from the flag itself, from a file or from standard input.
pub(crate) fn object(flag: &str, text: Option<&str>) -> Result<Map<String, Value>, Error> {
    let Some(text) = text else {
        return Ok(Map::new());
    };
    let (from, json) = match text.strip_prefix('@') {
        Some("-") => {
            let mut json = String::new();
            let taken = std::io::stdin()
                .lock()
                .take(STDIN_BYTES + 1)
                .read_to_string(&mut json);
            let taken = taken.map_err(|why| Error::io("read standard input", why))?;
            if taken as u64 > STDIN_BYTES {
                return Err(Error::Invalid(format!(
                    "{flag}: standard input holds more than {STDIN_BYTES} bytes"
                )));
            }
            ("standard input".to_owned(), json)
        }
        Some(path) => {
            let json =
                read_small(path.as_ref()).map_err(|why| Error::path("read", path.as_ref(), why))?;
            (format!("`{path}`"), json)
        }
        None => ("the flag".to_owned(), text.to_owned()),
    };
    match serde_json::from_str(&json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::Invalid(format!(
            "{flag}: {from} holds JSON that is no object such as {{\"amount\": 5}}"
        ))),
        Err(why) => Err(Error::Invalid(format!("{flag}: {from} is not JSON: {why}"))),
    }
}
