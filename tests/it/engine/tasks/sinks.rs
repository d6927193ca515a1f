//! Sinks and links: one spelling each, found wherever they stand.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{MOST_SINKS, Reason, canonical_sink, links, sinks_of};
use serde_json::{Value, json};

use super::draw::pick;
use super::monotone::ground;
use super::{POLICIES, compiled};

#[test]
fn one_spelling_is_its_own() {
    let mut rng = StdRng::seed_from_u64(11_000);
    let parts = [
        "a",
        "B",
        "É",
        "e\u{301}",
        "İ",
        "Σ",
        "ς",
        "\u{212a}",
        "\u{345}",
        "@",
        "://",
        "www.",
        "WWW.",
        ".",
        "/",
        "?",
        " ",
        "\u{2000}",
        "FI21",
        "1234",
        "5600 0007 85",
        "-",
        "ǅ",
        "ﬃ",
        "\u{300}",
    ];
    for _ in 0..200_000 {
        let text: String = (0..rng.random_range(0..8))
            .map(|_| *pick(&mut rng, &parts))
            .collect();
        let once = canonical_sink(&text);
        assert_eq!(canonical_sink(&once), once, "{text:?}");
    }
}

#[test]
fn links_are_found_wherever_they_stand() {
    let mut rng = StdRng::seed_from_u64(11_001);
    let known = [
        (
            "https://evil.example/x?a=1&b=2",
            "https://evil.example/x?a=1&b=2",
        ),
        ("HTTP://Evil.Example/X", "http://evil.example/X"),
        ("ftp://files.example", "ftp://files.example"),
        ("www.evil.example/a", "www.evil.example/a"),
        ("Mallory@Evil.Example", "Mallory@evil.example"),
        ("m.b+c@sub.evil.example", "m.b+c@sub.evil.example"),
        ("FI21 1234 5600 0007 85", "FI2112345600000785"),
        ("GB82WEST12345698765432", "GB82WEST12345698765432"),
    ];
    let before = [
        "", " ", "see: ", "(", "<", "\"", "text\n", "ä ", "mailto: ", "[x](", "a, b; ",
    ];
    let after = ["", " ", ".", ", and more", ")", ">", "\"", "\n", "! ä", ";"];
    for number in 0..30_000 {
        let mut expected = BTreeSet::new();
        let mut text = String::new();
        for _ in 0..rng.random_range(1..4) {
            let (written, link) = pick(&mut rng, &known);
            text.push_str(pick::<&str>(&mut rng, &before));
            text.push_str(written);
            text.push_str(pick::<&str>(&mut rng, &after));
            text.push(' ');
            expected.insert((*link).into());
        }
        let mut value = Value::String(text.clone());
        for _ in 0..rng.random_range(0..5) {
            value = match rng.random_range(0..3) {
                0 => json!([1, value]),
                1 => json!({ "deep": value }),
                _ => json!([{ "x": null, "y": [value] }]),
            };
        }
        let arguments = json!({ "n": 1, "value": value });
        let found = links(arguments.as_object().unwrap());
        assert!(expected.is_subset(&found), "{number}: {text:?}: {found:?}");
    }
}

#[test]
fn more_sinks_or_links_than_allowed_are_refused_soon() {
    let snapshot = compiled(POLICIES);
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(11_002);
    let many: Vec<String> = (0..1_000_000)
        .map(|number| format!("a{number}@b.example"))
        .collect();
    let before = std::time::Instant::now();
    let arguments = json!({ "to": many, "body": "x" });
    let arguments = arguments.as_object().unwrap();
    let (sinks, links) = (sinks_of(&["to".into()], arguments), links(arguments));
    assert_eq!((sinks.len(), links.len()), (MOST_SINKS + 1, MOST_SINKS + 1));
    assert!(before.elapsed().as_secs() < 30, "{:?}", before.elapsed());
    for (sinks, links) in [(sinks.clone(), BTreeSet::new()), (BTreeSet::new(), links)] {
        let mut drawn = ground.draw(&mut rng);
        drawn.facts = remit_core::Facts {
            agent: drawn.facts.agent.map(|agent| remit_core::AgentFacts {
                standing: remit_core::Standing::Active,
                ..agent
            }),
            call: Some(remit_core::CallFacts {
                sinks,
                links,
                ..drawn.facts.call.unwrap()
            }),
            task: None,
            hops: Vec::new(),
            ..drawn.facts
        };
        drawn.question.context.clear();
        let decision = snapshot.decide(&drawn.question, &drawn.facts);
        assert_eq!(decision.reason, Reason::MistypedProperty);
        assert!(
            format!("{:?}", decision.notes).contains("at most 1000 sinks and 1000 links"),
            "{:?}",
            decision.notes
        );
    }
}
