//! The digest of a call: equal exactly where two calls say the same.

#![expect(
    clippy::semicolon_if_nothing_returned,
    reason = "a list of edits, one expression each"
)]

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{Question, call_digest};
use serde_json::{Map, Value, json};

use super::draw::pick;

/// Draws a value of JSON.
fn value(rng: &mut StdRng, depth: u32) -> Value {
    match rng.random_range(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Bool(rng.random_bool(0.5)),
        2 => json!(rng.random_range(-3..4_i64)),
        3 => json!(*pick(
            rng,
            &[
                9_007_199_254_740_991_i64,
                9_007_199_254_740_992,
                9_007_199_254_740_993,
                -9_007_199_254_740_993,
                i64::MAX,
                i64::MIN
            ]
        )),
        4 => json!(*pick(rng, &[0.5, -0.0, 1e21, 1e17, 1.5e-7, 3.0])),
        5 => json!(*pick(
            rng,
            &[
                "",
                "a",
                "é",
                "e\u{301}",
                "\u{10000}",
                "\u{e000}",
                "\"\\/\u{8}\n",
                "1"
            ]
        )),
        6 => (0..rng.random_range(0..4))
            .map(|_| value(rng, depth - 1))
            .collect(),
        _ => Value::Object(members(rng, depth - 1)),
    }
}

fn members(rng: &mut StdRng, depth: u32) -> Map<String, Value> {
    let names = ["a", "b", "é", "e\u{301}", "\u{10000}", "\u{e000}", "\u{1}"];
    (0..rng.random_range(0..4))
        .map(|_| ((*pick(rng, &names)).to_owned(), value(rng, depth)))
        .collect()
}

/// Writes a value in one of the many ways that JSON has for it.
fn respelt(rng: &mut StdRng, value: &Value) -> String {
    let space = |rng: &mut StdRng| *pick(rng, &["", " ", "\n\t"]);
    match value {
        Value::Null | Value::Bool(_) => value.to_string(),
        Value::Number(number) => {
            let text = number.to_string();
            let small = number
                .as_i64()
                .is_some_and(|whole| whole.unsigned_abs() < 1 << 53);
            match rng.random_range(0..4) {
                0 if small => format!("{text}.0"),
                1 if small => format!("{text}e0"),
                2 if small && text != "0" => format!("{text}0E-1"),
                _ => text,
            }
        }
        Value::String(text) => string(rng, text),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| format!("{}{}", space(rng), respelt(rng, item)))
                .collect();
            format!("[{}{}]", items.join(","), space(rng))
        }
        Value::Object(members) => {
            let mut written: Vec<String> = members
                .iter()
                .map(|(name, value)| {
                    format!(
                        "{}{}{}:{}",
                        space(rng),
                        string(rng, name),
                        space(rng),
                        respelt(rng, value)
                    )
                })
                .collect();
            let turn = rng.random_range(0..written.len().max(1));
            written.rotate_left(turn);
            format!("{{{}}}", written.join(","))
        }
    }
}

fn string(rng: &mut StdRng, text: &str) -> String {
    if rng.random_bool(0.5) {
        return Value::String(text.to_owned()).to_string();
    }
    let escaped: String = text
        .encode_utf16()
        .map(|unit| {
            if rng.random_bool(0.5) {
                format!("\\u{unit:04x}")
            } else {
                format!("\\u{unit:04X}")
            }
        })
        .collect();
    format!("\"{escaped}\"")
}

fn question(arguments: Map<String, Value>) -> Question {
    let mut question: Question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "pay" }, "resource": { "type": "Payee", "id": "p" },
    }))
    .unwrap();
    question.action.properties = arguments;
    question
}

/// Whether two values of JSON say the same: numbers by what they are worth.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let exact = |n: &serde_json::Number| {
                n.as_i128().or_else(|| {
                    let double = n.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e30)?;
                    format!("{double:.0}").parse().ok()
                })
            };
            match (exact(a), exact(b)) {
                (Some(a), Some(b)) => a == b,
                (None, None) => a.as_f64() == b.as_f64(),
                _ => false,
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn canonical_args() {
    let mut rng = StdRng::seed_from_u64(10_000);
    let (mut equal, mut different) = (0, 0);
    for number in 0..20_000 {
        let one = members(&mut rng, 2);
        let digest = call_digest(&question(one.clone()));
        let text = respelt(&mut rng, &Value::Object(one.clone()));
        let again: Map<String, Value> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(call_digest(&question(again)), digest, "{number}: {text}");
        let mut other = members(&mut rng, 2);
        if rng.random_bool(0.5) {
            // Much alike: one member is another.
            other.clone_from(&one);
            if let Some(member) = other.values_mut().next() {
                *member = value(&mut rng, 1);
            }
        }
        let says_the_same = same(&Value::Object(one.clone()), &Value::Object(other.clone()));
        let is = call_digest(&question(other.clone())) == digest;
        assert_eq!(is, says_the_same, "{number}: {one:?} {other:?}");
        if says_the_same {
            equal += 1
        } else {
            different += 1
        }
    }
    println!("{equal} equal, {different} different");
    assert!(equal > 500 && different > 5_000, "{equal} {different}");
}

#[test]
fn every_part_of_a_call_is_in_its_digest() {
    type Edit = fn(&mut Question);
    let base = question(Map::new());
    let edits: [Edit; 6] = [
        |q| "b".clone_into(&mut q.subject.id),
        |q| "User".clone_into(&mut q.subject.kind),
        |q| "q".clone_into(&mut q.resource.id),
        |q| "get".clone_into(&mut q.action.name),
        |q| drop(q.action.properties.insert("x".to_owned(), Value::Null)),
        |q| {
            drop(q.context.insert(
                "task".to_owned(),
                json!("019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"),
            ))
        },
    ];
    let mut seen = std::collections::BTreeSet::from([call_digest(&base).to_string()]);
    for edit in edits {
        let mut question = base.clone();
        edit(&mut question);
        assert!(
            seen.insert(call_digest(&question).to_string()),
            "{question:?}"
        );
    }
    // What is not of the call is not in it.
    let mut question = base.clone();
    question.context.insert("ip".to_owned(), json!("192.0.2.1"));
    assert_eq!(call_digest(&question), call_digest(&base));
}
