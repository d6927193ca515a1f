//! Results of trusted tools: the values in them, as an enforcement point reports them.

use std::collections::BTreeSet;

use remit_core::Said;
use serde_json::Value;

/// The most values of one result that are reported, and the longest of them in bytes; Remit takes no more.
const MOST: usize = 1_000;
const LONGEST: usize = 1_024;
/// The longest result that is read as a structure, in bytes.
const STRUCTURED: usize = 256 * 1024;

/// Collects the values that a result holds and that the call itself did not say.
///
/// What the arguments say already proves nothing: a tool that repeats them would vouch for whatever it was given.
pub(super) fn values(result: &Value, arguments: &serde_json::Map<String, Value>) -> Vec<String> {
    let said = Said::of(arguments);
    let mut found = BTreeSet::new();
    let mut texts = Vec::new();
    match result {
        Value::String(text) => {
            if let Some(value) = structured(text) {
                leaves(&value, &mut texts);
            }
            // Also as it stands: much reads as a structure that was not meant as one. What stands between two texts in
            // quotes does no harm.
            texts.push(text.clone());
            texts.extend(text.split(['\'', '"']).map(ToOwned::to_owned));
        }
        other => leaves(other, &mut texts),
    }
    for text in &texts {
        pieces(text, &mut found);
    }
    let mut found: Vec<&str> = found
        .into_iter()
        .filter(|value| value.len() <= LONGEST)
        .filter(|value| !said.has(value))
        .collect();
    // Where there is no room for all, a name is worth more than the text that it stands in.
    found.sort_by_key(|value| value.len());
    found.truncate(MOST);
    found.into_iter().map(ToOwned::to_owned).collect()
}

/// Reads text that is JSON, YAML, or close enough to it.
fn structured(text: &str) -> Option<Value> {
    if text.len() > STRUCTURED {
        return None;
    }
    serde_norway::from_str::<Value>(text)
        .ok()
        .filter(|value| value.is_object() || value.is_array())
}

/// Collects every text and number, and the names of members.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => {
            found.push(number.to_string());
            // As a sink spells it: 7.0 is 7.
            let spelled = remit_core::canonical_json(number).unwrap_or_default();
            found.extend(String::from_utf8(spelled));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(members) => {
            for (name, value) in members {
                found.push(name.clone());
                leaves(value, found);
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// Collects a text itself, its lines, what follows a colon, the items of a list in it, and the addresses.
fn pieces<'t>(text: &'t str, found: &mut BTreeSet<&'t str>) {
    let mut add = |piece: &'t str| {
        let piece = piece.trim().trim_matches(['\'', '"', '`']).trim();
        if !piece.is_empty() {
            found.insert(piece);
        }
    };
    add(text);
    for line in text.lines() {
        let line = line.trim().trim_start_matches("- ");
        add(line);
        let said = line.split_once(": ").map_or(line, |(_, said)| said);
        add(said);
        for item in said.split([',', ';']) {
            add(item);
            // A member of an object on one line.
            if let Some((_, said)) = item.split_once(": ") {
                add(said.trim_matches(['{', '}', '[', ']', ' ']));
            }
        }
    }
    for word in text.split_whitespace() {
        let word = word.trim_matches(|mark: char| !mark.is_alphanumeric());
        let digits = word.chars().filter(char::is_ascii_digit).count();
        if word.contains('@') || word.contains("://") || word.starts_with("www.") || digits >= 8 {
            add(word);
        }
    }
}
