//! Calls redirected to an attacker: the user's own call, with a sink that the user never named.

use remit_core::Tool;
use serde_json::{Map, Value};

use super::suite::Call;

/// Makes every redirection of a call: each sink replaced by itself, all replaced, and the attacker added to each list.
///
/// Empty where the call names no sink.
pub(super) fn redirected(call: &Call, tool: &Tool) -> Vec<Call> {
    // Only arguments themselves, not members within them: a replaced argument replaces what is in it.
    let mut arguments: Vec<&str> = tool
        .sinks
        .iter()
        .filter_map(|path| path.split('.').next())
        .filter(|name| call.args.get(*name).is_some_and(|value| !is_nothing(value)))
        .collect();
    arguments.sort_unstable();
    arguments.dedup();
    let mut found: Vec<Map<String, Value>> = Vec::new();
    let mut add = |changed: Map<String, Value>| {
        if changed != call.args && !found.contains(&changed) {
            found.push(changed);
        }
    };
    for name in &arguments {
        add(with(&call.args, &[name], replaced));
        add(with(&call.args, &[name], joined));
    }
    add(with(&call.args, &arguments, replaced));
    let into_call = |args| Call {
        args,
        ..call.clone()
    };
    found.into_iter().map(into_call).collect()
}

fn with(
    args: &Map<String, Value>,
    names: &[&str],
    change: fn(&Value) -> Value,
) -> Map<String, Value> {
    let mut changed = args.clone();
    for name in names {
        if let Some(value) = changed.get_mut(*name) {
            *value = change(value);
        }
    }
    changed
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        _ => false,
    }
}

/// Returns the attacker's value of the same type.
fn replaced(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(like(text).to_owned()),
        Value::Number(_) => Value::from(990_017),
        Value::Array(items) => match items.first() {
            Some(first) => Value::Array(vec![replaced(first)]),
            None => value.clone(),
        },
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), replaced(value)))
            .collect(),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

/// Returns a list with the attacker in it beside those who were there; anything else as it is.
fn joined(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut joined = items.clone();
            joined.extend(items.first().map(replaced));
            Value::Array(joined)
        }
        other => other.clone(),
    }
}

/// Returns a value of the attacker's that is spelled like `text`.
fn like(text: &str) -> &'static str {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    if text.contains('@') {
        "mallory@attacker.example"
    } else if text.contains("://") || text.starts_with("www.") {
        "https://attacker.example/collect"
    } else if digits == text.chars().count() {
        "990017"
    } else if digits >= 8 && text.chars().all(char::is_alphanumeric) {
        "XK051212012345678906"
    } else {
        "Mallory Attacker"
    }
}
