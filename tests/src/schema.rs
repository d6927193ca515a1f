//! JSON Schema 2020-12, as much of it as the OpenAPI document and the AuthZEN schemas use.
//!
//! A keyword that is not known here is a failure: a schema that is checked only in part would prove nothing.

use serde_json::{Map, Value};

/// Keywords that say nothing about whether a value fits.
const ANNOTATIONS: &[&str] = &[
    "$comment",
    "$id",
    "$schema",
    "default",
    "description",
    "example",
    "examples",
    "title",
];

/// Returns everything about `value` that does not fit `schema`; references are looked up in `document`.
pub fn misfits(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check {
        document,
        found: Vec::new(),
    };
    check.fits("$", schema, value);
    check.found
}

struct Check<'a> {
    document: &'a Value,
    found: Vec<String>,
}

// === impl Check ===

impl Check<'_> {
    fn blame(&mut self, at: &str, problem: impl std::fmt::Display) {
        self.found.push(format!("{at}: {problem}"));
    }

    fn fits(&mut self, at: &str, schema: &Value, value: &Value) {
        let Some(schema) = schema.as_object() else {
            return if schema != &Value::Bool(true) {
                self.blame(at, "is not allowed")
            };
        };
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "$ref" => {
                    let pointer = rule.as_str().unwrap().trim_start_matches('#');
                    let target = self.document.pointer(pointer);
                    let target = target
                        .unwrap_or_else(|| panic!("{pointer} is not in the document"))
                        .clone();
                    self.fits(at, &target, value);
                }
                "type" => self.of_type(at, rule, value),
                "enum" if !rule.as_array().unwrap().contains(value) => {
                    self.blame(at, format!("{value} is none of {rule}"))
                }
                "const" if rule != value => self.blame(at, format!("{value} is not {rule}")),
                "allOf" => rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .for_each(|one| self.fits(at, one, value)),
                "anyOf" | "oneOf" => self.some_of(at, keyword, rule, value),
                "required" | "properties" | "additionalProperties" => {}
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.fits(&format!("{at}[{index}]"), rule, item);
                    }
                }
                "minItems" | "maxItems" | "minimum" | "maximum" | "minLength" | "maxLength" => {
                    self.within(at, keyword, rule, value)
                }
                "uniqueItems" => {
                    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    let twice = |at: usize| items[..at].contains(&items[at]);
                    if rule == &Value::Bool(true) && (1..items.len()).any(twice) {
                        self.blame(at, "an item is there twice");
                    }
                }
                "format" => self.of_format(at, rule.as_str().unwrap(), value),
                "pattern" => self.of_pattern(at, rule.as_str().unwrap(), value),
                "enum" | "const" => {}
                other => assert!(
                    ANNOTATIONS.contains(&other),
                    "{at}: the keyword `{other}` is not known to this check"
                ),
            }
        }
        if let Some(object) = value.as_object() {
            self.members(at, schema, object);
        }
    }

    fn members(&mut self, at: &str, schema: &Map<String, Value>, object: &Map<String, Value>) {
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if !object.contains_key(name.as_str().unwrap()) {
                self.blame(at, format!("{name} is missing"));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, member) in object {
            let at = format!("{at}.{name}");
            match (
                properties.and_then(|properties| properties.get(name)),
                schema.get("additionalProperties"),
            ) {
                (Some(schema), _) | (None, Some(schema)) => self.fits(&at, schema, member),
                (None, None) => {}
            }
        }
    }

    fn of_type(&mut self, at: &str, rule: &Value, value: &Value) {
        let is = |name: &Value| match name.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "null" => value.is_null(),
            other => panic!("the type `{other}` is not known"),
        };
        let fits = rule
            .as_array()
            .map_or_else(|| is(rule), |names| names.iter().any(is));
        if !fits {
            self.blame(at, format!("{value} is not of type {rule}"));
        }
    }

    fn some_of(&mut self, at: &str, keyword: &str, rule: &Value, value: &Value) {
        let schemas = rule.as_array().unwrap();
        let fitting = schemas
            .iter()
            .filter(|schema| misfits(self.document, schema, value).is_empty())
            .count();
        if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
            self.blame(at, format!("{fitting} of {keyword} fit {value}"));
        }
    }

    fn within(&mut self, at: &str, keyword: &str, rule: &Value, value: &Value) {
        let size = match keyword {
            "minItems" | "maxItems" => value.as_array().map(|items| items.len() as f64),
            "minLength" | "maxLength" => value.as_str().map(|text| text.chars().count() as f64),
            _ => value.as_f64(),
        };
        let Some(size) = size else { return };
        let bound = rule.as_f64().unwrap();
        if (keyword.starts_with("min") && size < bound)
            || (keyword.starts_with("max") && size > bound)
        {
            self.blame(at, format!("{size} breaks {keyword} {bound}"));
        }
    }

    fn of_format(&mut self, at: &str, format: &str, value: &Value) {
        let Some(text) = value.as_str() else { return };
        let fits = match format {
            "uuid" => text.len() == 36 && text.parse::<remit_core::KeyId>().is_ok(),
            "date-time" => text.parse::<remit_core::Timestamp>().is_ok(),
            other => panic!("the format `{other}` is not known"),
        };
        if !fits {
            self.blame(at, format!("{text:?} is not a {format}"));
        }
    }

    fn of_pattern(&mut self, at: &str, pattern: &str, value: &Value) {
        let Some(text) = value.as_str() else { return };
        let fits = match pattern {
            "^sha256:[0-9a-f]{64}$" => text.parse::<remit_core::ContentHash>().is_ok(),
            "^[a-z0-9]{1,16}$" => {
                (1..=16).contains(&text.len())
                    && text
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
            }
            other => panic!("the pattern `{other}` is not known"),
        };
        if !fits {
            self.blame(at, format!("{text:?} does not match {pattern}"));
        }
    }
}
