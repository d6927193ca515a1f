//! The arguments of a call as they are shown: every one, with its type; what is secret by its name is taken out.

use serde_json::{Map, Number, Value, json};

use super::plain::plain;

/// What is confidential, by what its name ends with; case, `-` and `_` do not matter.
const CONFIDENTIAL: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "credential",
    "credentials",
    "authorization",
    "cookie",
];
/// What is confidential where it is the whole name.
const CONFIDENTIAL_NAMES: [&str; 4] = ["pin", "cvv", "cvc", "otp"];

/// Returns the arguments in the order of their names.
pub(super) fn shown(arguments: &Map<String, Value>) -> Value {
    let mut names: Vec<_> = arguments.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    let all = names.into_iter().map(|(name, value)| {
        if is_confidential(name) {
            return json!({ "name": plain(name), "type": kind(value), "redacted": taken_out(value) });
        }
        json!({ "name": plain(name), "type": kind(value), "value": visible(value) })
    });
    Value::Array(all.collect())
}

/// Whether something of the arguments is taken out where they are shown.
pub(super) fn hide(arguments: &Map<String, Value>) -> bool {
    fn hides(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(hides),
            Value::Object(members) => hide(members),
            _ => false,
        }
    }
    let mut members = arguments.iter();
    members.any(|(name, value)| is_confidential(name) || hides(value))
}

/// Writes a member in one text of which everything can be seen, but for what is confidential.
pub(super) fn in_one_text(name: &str, value: &Value) -> String {
    if is_confidential(name) {
        return json!({ "redacted": taken_out(value) }).to_string();
    }
    match visible(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Returns a value of which everything can be seen, but for what is confidential inside; no two members become one.
pub(super) fn visible(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(plain(text)),
        Value::Number(number) => exact(number),
        Value::Array(items) => items.iter().map(visible).collect(),
        Value::Object(members) => {
            let shown = members.iter().map(|(name, value)| {
                let shown = if is_confidential(name) {
                    json!({ "redacted": taken_out(value) })
                } else {
                    visible(value)
                };
                (plain(name), shown)
            });
            Value::Object(shown.collect())
        }
        other => other.clone(),
    }
}

/// Writes a number that a double would round as a text of all its digits.
fn exact(number: &Number) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.as_f64().is_some_and(|double| double.abs() < EXACT) {
        return Value::Number(number.clone());
    }
    json!(number.to_string())
}

/// Says what was taken out: of what type it was and how long, and nothing of what it said.
fn taken_out(value: &Value) -> Value {
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    json!({ "type": kind(value), "length": length })
}

fn is_confidential(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(|one| !matches!(one, '-' | '_' | '.' | ' '))
        .flat_map(char::to_lowercase)
        .collect();
    CONFIDENTIAL.iter().any(|end| name.ends_with(end))
        || CONFIDENTIAL_NAMES.contains(&name.as_str())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_stay_two() {
        let twice = json!({ "to\u{200B}": "evil", "to\\u{200B}": "bank" });
        let shown = visible(&json!({ "more": twice }));
        let expected = json!({ "to\\u{200B}": "evil", "to\\u{5C}u{200B}": "bank" });
        assert_eq!(shown, json!({ "more": expected }));
    }

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let arguments = json!({
            "to": "bob\u{202E}", "amount": 10.5, "large": 9_007_199_254_740_993_u64, "api_key": "s3cret",
            "login": { "Access-Token": "s3cret", "user": "ann" }, "pin": 1234, "shipping": "fast",
        });
        let shown = shown(arguments.as_object().unwrap_or(&Map::new()));
        assert!(!shown.to_string().contains("s3cret") && !shown.to_string().contains("1234"));
        let expected = json!([
            { "name": "amount", "type": "number", "value": 10.5 },
            { "name": "api_key", "type": "string", "redacted": { "type": "string", "length": 6 } },
            { "name": "large", "type": "number", "value": "9007199254740993" },
            { "name": "login", "type": "object", "value": {
                "Access-Token": { "redacted": { "type": "string", "length": 6 } }, "user": "ann" } },
            { "name": "pin", "type": "number", "redacted": { "type": "number", "length": 0 } },
            { "name": "shipping", "type": "string", "value": "fast" },
            { "name": "to", "type": "string", "value": "bob\\u{202E}" },
        ]);
        assert_eq!(shown, expected);
        assert!(hide(arguments.as_object().unwrap_or(&Map::new())));
        let plain = json!({ "to": "bob", "more": [{ "pins": 2 }] });
        assert!(!hide(plain.as_object().unwrap_or(&Map::new())));
    }
}
