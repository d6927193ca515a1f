//! What a call says itself: a tool that repeats it vouches for nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::canonical_sink;
use super::links::links_in;

/// The texts in the arguments of a call, and the links and addresses in them.
#[derive(Debug, Clone, Default)]
pub struct Said {
    links: BTreeSet<SmolStr>,
    texts: Vec<String>,
}

// === impl Said ===

impl Said {
    /// Collects every text and number of the arguments, and the names of members.
    pub fn of(arguments: &Map<String, Value>) -> Self {
        let mut said = Self::default();
        for value in arguments.values() {
            said.add(value);
        }
        said
    }

    /// Whether a value stands in the arguments as a whole word or words, in whatever case or spelling of an address.
    pub fn has(&self, value: &str) -> bool {
        let canonical = canonical_sink(value);
        if self.links.contains(&canonical.to_lowercase() as &str) {
            return true;
        }
        let spellings = [value.trim().to_lowercase(), canonical.to_lowercase()];
        let stands = |text: &String| spellings.iter().any(|value| stands_in(value, text));
        self.texts.iter().any(stands)
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add_text(text),
            Value::Number(number) => self.texts.push(number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    self.add_text(name);
                    self.add(value);
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn add_text(&mut self, text: &str) {
        let mut links = BTreeSet::new();
        links_in(text, &mut links);
        links.insert(canonical_sink(text));
        let lower = |link: SmolStr| SmolStr::new(link.to_lowercase());
        self.links.extend(links.into_iter().map(lower));
        self.texts.push(text.to_lowercase());
    }
}

/// Returns whether `value` stands in `text` with nothing alphanumeric on either side.
fn stands_in(value: &str, text: &str) -> bool {
    !value.is_empty()
        && text.match_indices(value).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text
                .get(at + value.len()..)
                .and_then(|text| text.chars().next());
            let divides = |mark: Option<char>| mark.is_none_or(|mark| !mark.is_alphanumeric());
            divides(before) && divides(after)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_arguments_say_is_found_in_any_spelling() {
        let arguments = json!({
            "to": "Bob Stone", "body": "Pay to gb82 west 1234 5698 7654 32, see HTTPS://Evil.Example/x.",
            "more": [{ "account-9": 7 }, "eve@EVIL.example"], "flag": true,
        });
        let said = Said::of(&arguments.as_object().cloned().unwrap_or_default());
        for value in [
            "Bob",
            " bob stone ",
            "GB82WEST12345698765432",
            "https://evil.example/x",
            "account-9",
            "7",
            "Eve@evil.example",
        ] {
            assert!(said.has(value), "{value}");
        }
        for value in ["Bo", "Stones", "8", "true", "", "adam@evil.example"] {
            assert!(!said.has(value), "{value}");
        }
    }
}
