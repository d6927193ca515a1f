//! `approval_once`, of the digest: the same however it is spelled, another for everything that says something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use remit_core::{ContentHash, Question};
use remit_engine::Snapshot;
use serde_json::json;

/// JSON as it is meant: equal exactly where it says the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Meant {
    Null,
    Bool(bool),
    /// A whole number that a double holds.
    Whole(i64),
    /// One that a double does not hold.
    Great(u64),
    /// A half more than a whole number.
    Half(i32),
    Text(String),
    List(Vec<Meant>),
    Members(BTreeMap<String, Meant>),
}

use Meant::{Bool, Great, Half, List, Members, Null, Text, Whole};

const TEXTS: [&str; 10] = [
    "",
    "acme",
    "Acme",
    "аcme",
    "a\u{200B}cme",
    "é",
    "e\u{301}",
    "\"\\\n\u{1F}",
    "100",
    "😀",
];

fn text(rng: &mut StdRng) -> String {
    TEXTS[rng.random_range(0..TEXTS.len())].to_owned()
}

fn members(rng: &mut StdRng, depth: u32) -> BTreeMap<String, Meant> {
    let count = rng.random_range(0..5);
    (0..count).map(|_| (text(rng), any(rng, depth))).collect()
}

/// Draws a value; numbers near those where doubles leave off are frequent.
fn any(rng: &mut StdRng, depth: u32) -> Meant {
    let kinds = if depth == 0 { 7 } else { 9 };
    match rng.random_range(0..kinds) {
        0 => Null,
        1 => Bool(rng.random_bool(0.5)),
        2 => Whole(rng.random_range(-3..4)),
        3 => Whole((1 << 53) - rng.random_range(1..4)),
        4 => Great((1 << 53) + rng.random_range(1..8)),
        5 => Half(rng.random_range(-3..4)),
        6 => Text(text(rng)),
        7 => List(
            (0..rng.random_range(0..4))
                .map(|_| any(rng, depth - 1))
                .collect(),
        ),
        _ => Members(members(rng, depth - 1)),
    }
}

/// Writes a value in one of its spellings: members in any order, numbers and characters in any form, room between them.
fn spell(value: &Meant, rng: &mut StdRng, out: &mut String) {
    let room = ["", "", " ", "\n", "\t "];
    out.push_str(room[rng.random_range(0..room.len())]);
    match value {
        Null => out.push_str("null"),
        Bool(bool) => write!(out, "{bool}").unwrap(),
        Whole(number) => {
            let forms = [
                format!("{number}"),
                format!("{number}.0"),
                format!("{number}e0"),
                format!("{number}.00E+0"),
            ];
            // A great one has no fraction: whoever reads it may round it.
            let most = if number.abs() < 1_000 { forms.len() } else { 1 };
            out.push_str(&forms[rng.random_range(0..most)]);
        }
        Great(number) => write!(out, "{number}").unwrap(),
        Half(number) => {
            let tenths = i64::from(*number) * 10 + 5;
            let sign = if tenths < 0 { "-" } else { "" };
            let (whole, rest) = (tenths.abs() / 10, tenths.abs() % 10);
            let forms = [
                format!("{sign}{whole}.{rest}"),
                format!("{sign}{whole}.{rest}00"),
                format!("{tenths}e-1"),
            ];
            out.push_str(&forms[rng.random_range(0..forms.len())]);
        }
        Text(text) => spell_text(text, rng, out),
        List(list) => {
            out.push('[');
            for (place, value) in list.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { "," });
                spell(value, rng, out);
            }
            out.push(']');
        }
        Members(members) => {
            let mut all: Vec<_> = members.iter().collect();
            all.shuffle(rng);
            out.push('{');
            for (place, (name, value)) in all.into_iter().enumerate() {
                out.push_str(if place == 0 { "" } else { "," });
                spell_text(name, rng, out);
                out.push(':');
                spell(value, rng, out);
            }
            out.push('}');
        }
    }
}

fn spell_text(text: &str, rng: &mut StdRng, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let plain = character != '"' && character != '\\' && !character.is_control();
        if plain && rng.random_bool(0.7) {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").unwrap();
        }
    }
    out.push('"');
}

/// Makes something else of a value, in one place.
fn change(value: &mut Meant, rng: &mut StdRng) {
    match value {
        List(list) if !list.is_empty() && rng.random_bool(0.7) => {
            let place = rng.random_range(0..list.len());
            match rng.random_range(0..4) {
                0 => drop(list.remove(place)),
                1 => list.insert(place, any(rng, 0)),
                2 => list.rotate_left(1),
                _ => change(&mut list[place], rng),
            }
        }
        Members(members) if !members.is_empty() && rng.random_bool(0.8) => {
            let names: Vec<String> = members.keys().cloned().collect();
            let name = &names[rng.random_range(0..names.len())];
            match rng.random_range(0..4) {
                0 => drop(members.remove(name)),
                1 => drop(members.insert(format!("{name}\u{200B}"), any(rng, 0))),
                2 => {
                    let moved = members.remove(name).unwrap();
                    members.insert(format!("{name}."), moved);
                }
                _ => change(members.get_mut(name).unwrap(), rng),
            }
        }
        Members(members) => drop(members.insert(text(rng), any(rng, 1))),
        Text(text) if rng.random_bool(0.6) => text.push(' '),
        Whole(number) if rng.random_bool(0.4) => *number -= 1,
        Great(number) if rng.random_bool(0.8) => *number ^= 1,
        other => *other = any(rng, 1),
    }
}

/// The parts of a question in which anything may stand.
const PARTS: [&str; 5] = ["arguments", "resource", "subject", "declared", "deep"];

fn question(parts: &BTreeMap<String, Meant>, rng: &mut StdRng) -> Question {
    let mut part = |name: &str| {
        let mut spelled = String::new();
        spell(&parts[name], rng, &mut spelled);
        spelled
    };
    let body = format!(
        r#"{{ "subject": {{ "type": "Agent", "id": "a", "properties": {} }},
        "action": {{ "name": "pay", "properties": {} }},
        "resource": {{ "type": "Payee", "id": "acme", "properties": {} }},
        "context": {{ "declared": {}, "deep": {}, "loose": {} }} }}"#,
        part("subject"),
        part("arguments"),
        part("resource"),
        part("declared"),
        part("deep"),
        part("loose"),
    );
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Of `PARTS` everything counts and nothing but what is meant; of what the schema does not declare nothing.
#[test]
fn approval_once_the_digest_is_of_what_is_meant() {
    let schema = "entity Agent; entity Payee; action pay appliesTo { principal: [Agent], resource: [Payee], \
        context: { declared?: String, deep?: { a?: Long } } };";
    let bundle = serde_json::from_value(json!({
        "schema": [{ "file": "s.cedarschema", "text": schema }], "policies": [],
    }));
    let snapshot = Snapshot::compile(&bundle.unwrap()).unwrap();
    let mut rng = StdRng::seed_from_u64(9_700);
    let mut changed: BTreeMap<&str, u32> = BTreeMap::new();
    let mut great = 0;
    for _ in 0..4_000 {
        let mut parts: BTreeMap<String, Meant> = ["arguments", "resource", "subject"]
            .map(|name| (name.to_owned(), Members(members(&mut rng, 3))))
            .into();
        for name in ["declared", "deep", "loose"] {
            parts.insert(name.to_owned(), any(&mut rng, 2));
        }
        let digest = |parts: &BTreeMap<String, Meant>, rng: &mut StdRng| -> ContentHash {
            snapshot.approval_digest(&question(parts, rng))
        };
        let own = digest(&parts, &mut rng);
        let mut loose = parts.clone();
        loose.insert("loose".to_owned(), any(&mut rng, 2));
        assert_eq!(digest(&loose, &mut rng), own, "{parts:?}");
        for name in PARTS {
            let mut other = parts.clone();
            let part = other.get_mut(name).unwrap();
            change(part, &mut rng);
            // An object stays one where a question must have one.
            let whole = ["arguments", "resource", "subject"].contains(&name);
            if whole && !matches!(part, Members(_)) {
                continue;
            }
            let same = other == parts;
            let came = digest(&other, &mut rng);
            assert_eq!(came == own, same, "{name}: {parts:?} {other:?}");
            *changed.entry(name).or_default() += u32::from(!same);
            great += u32::from(!same && format!("{other:?}").contains("Great"));
        }
    }
    println!("{changed:?}, {great} beside a number that no double holds");
    assert!(
        PARTS.iter().all(|name| changed[name] > 1_500),
        "{changed:?}"
    );
    assert!(great > 1_000, "{great}");
}
