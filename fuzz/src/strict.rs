//! A second reading of JSON, by serde_json's own reader, that notices what the product's reader must refuse.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// What is to be known of a JSON text.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Scalars, arrays and objects.
    pub(crate) nodes: usize,
    /// The deepest nesting of arrays and objects.
    pub(crate) depth: usize,
    /// Whether an object has two members of one name.
    pub(crate) twice: bool,
    /// Whether a whole number is beyond ±(2^53 − 1).
    pub(crate) inexact: bool,
    /// Whether a number is written with a point or an exponent, or is negative zero.
    pub(crate) fractions: bool,
}

/// Reads a JSON text; `None` where serde_json refuses it.
pub(crate) fn see(bytes: &[u8]) -> Option<Seen> {
    let mut seen = Seen::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Node {
        seen: &mut seen,
        depth: 0,
    }
    .deserialize(&mut reader)
    .ok()?;
    reader.end().ok()?;
    Some(seen)
}

/// Writes every whole number as an integer, as the product does: the record has one spelling a number.
pub(crate) fn unified(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            match float {
                Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
                    Value::Number(Number::from(
                        format!("{float:.0}").parse::<i64>().unwrap_or(0),
                    ))
                }
                _ => Value::Number(number),
            }
        }
        Value::Array(items) => items.into_iter().map(unified).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, unified(value)))
            .collect(),
        other => other,
    }
}

struct Node<'s> {
    seen: &'s mut Seen,
    depth: usize,
}

// === impl Node ===

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.seen.nodes += 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.seen.inexact |= number >= 1 << 53;
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.seen.inexact |= number.unsigned_abs() >= 1 << 53;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.seen.fractions = true;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        self.seen.depth = self.seen.depth.max(depth);
        while let Some(()) = items.next_element_seed(Node {
            seen: self.seen,
            depth,
        })? {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        self.seen.depth = self.seen.depth.max(depth);
        let mut names = HashSet::new();
        while let Some(Name(name)) = members.next_key()? {
            self.seen.twice |= !names.insert(name);
            members.next_value_seed(Node {
                seen: self.seen,
                depth,
            })?;
        }
        Ok(())
    }
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
