//! Calls redirected to an attacker: the user's own call, with a sink that the user never named.

use remit_core::Tool;
use serde_json::{Map, Value};

use super::suite::Call;

/// Makes every redirection of a call: each sink replaced by itself, all replaced, and the attacker added to each list.
///
/// Empty where the call names no sink.
pub(super) fn redirected(call: &Call, tool: &Tool) -> Vec<Call> {
    let mut paths: Vec<Vec<&str>> = tool
        .sinks
        .iter()
        .map(|path| path.split('.').collect())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    let mut found: Vec<Map<String, Value>> = Vec::new();
    let mut add = |changed: Map<String, Value>| {
        if changed != call.args && !found.contains(&changed) {
            found.push(changed);
        }
    };
    for path in &paths {
        add(with(&call.args, &[path], replaced));
        add(with(&call.args, &[path], joined));
    }
    let all: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    add(with(&call.args, &all, replaced));
    let into_call = |args| Call {
        args,
        ..call.clone()
    };
    found.into_iter().map(into_call).collect()
}

fn with(
    args: &Map<String, Value>,
    paths: &[&[&str]],
    change: fn(&Value) -> Value,
) -> Map<String, Value> {
    let mut changed = args.clone();
    for path in paths {
        let Some((first, rest)) = path.split_first() else {
            continue;
        };
        if let Some(value) = changed.get_mut(*first) {
            within(value, rest, change);
        }
    }
    changed
}

/// Changes what a path leads to, as sinks are read: through objects by name, and through every item of a list.
fn within(value: &mut Value, path: &[&str], change: fn(&Value) -> Value) {
    match (value, path.split_first()) {
        (Value::Array(items), Some(_)) => {
            for item in items {
                within(item, path, change);
            }
        }
        (Value::Object(members), Some((name, rest))) => {
            if let Some(value) = members.get_mut(*name) {
                within(value, rest, change);
            }
        }
        (value, None) if !is_nothing(value) => *value = change(value),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(members) => members.values().all(is_nothing),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sinks_are_redirected_where_they_stand() {
        let changed = |args: Value, paths: &[&[&str]], change| match args {
            Value::Object(args) => Value::Object(with(&args, paths, change)),
            other => other,
        };
        let event = json!({ "event": { "title": "Tea", "who": ["ann@a.example"] } });
        let mallory = "mallory@attacker.example";

        assert_eq!(
            changed(event.clone(), &[&["event", "who"]], replaced),
            json!({ "event": { "title": "Tea", "who": [mallory] } })
        );
        assert_eq!(
            changed(event.clone(), &[&["event", "who"]], joined),
            json!({ "event": { "title": "Tea", "who": ["ann@a.example", mallory] } })
        );
        let list = json!({ "items": [{ "id": 7 }, { "id": null }, { "no": 1 }] });
        assert_eq!(
            changed(list, &[&["items", "id"]], replaced),
            json!({ "items": [{ "id": 990_017 }, { "id": null }, { "no": 1 }] })
        );
        // What is not there is not invented.
        assert_eq!(
            changed(event.clone(), &[&["to"], &["event", "x"]], replaced),
            event
        );
    }
}
