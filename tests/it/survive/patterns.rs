//! F40: a pattern and a text that do not like each other take time in proportion, not more.

use std::time::{Duration, Instant};

use remit_core::{Action, Bundle, Facts, KeyId, Question, Reason, Resource, Subject, Timestamp};
use remit_engine::Snapshot;
use serde_json::{Map, Value};

use super::source;

/// Patterns that a backtracking matcher would not come back from, each within the longest that may be published.
fn patterns() -> Vec<String> {
    vec![
        format!("{}b", "*a".repeat(127)),
        format!("{}b", "a*".repeat(127)),
        format!("*{}b", "a".repeat(250)),
        format!("{}b", "*".repeat(250)),
        format!("{}b*", "*aa".repeat(80)),
    ]
}

/// The time of one decision on a text of this length.
fn time(snapshot: &Snapshot, length: usize) -> Duration {
    let mut context = Map::new();
    context.insert("a".into(), Value::String("a".repeat(length)));
    let question = Question {
        subject: Subject {
            kind: "User".into(),
            id: "u".into(),
            properties: Map::new(),
        },
        action: Action {
            name: "read".into(),
            properties: Map::new(),
        },
        resource: Resource {
            kind: "User".into(),
            id: "u".into(),
            properties: Map::new(),
        },
        context,
    };
    let facts = Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(0));
    let began = Instant::now();
    assert_eq!(snapshot.decide(&question, &facts).reason, Reason::NoPermit);
    began.elapsed()
}

/// How much longer a text eight times as long takes: the shortest of seven times each, taken by turns.
fn ratio(snapshot: &Snapshot) -> f64 {
    const SHORT: usize = 20_000;
    let (mut short, mut long) = (Duration::MAX, Duration::MAX);
    for _ in 0..7 {
        short = short.min(time(snapshot, SHORT));
        long = long.min(time(snapshot, 8 * SHORT));
    }
    let ratio = long.as_secs_f64() / short.as_secs_f64();
    println!("{short:?} for {SHORT} bytes, {long:?} for eight times as many: ×{ratio:.1}");
    ratio
}

#[test]
fn f40_a_pattern_takes_time_in_proportion_to_the_text() {
    for pattern in patterns() {
        let bundle = Bundle {
            schema: vec![source(
                "s.cedarschema",
                "entity User; action read appliesTo { principal: User, resource: User, context: { a: String } };",
            )],
            policies: vec![source(
                "p.cedar",
                &format!(
                    "@id(\"p\") permit (principal, action, resource) when {{ context.a like \"{pattern}\" }};"
                ),
            )],
            ..Bundle::default()
        };
        let snapshot = Snapshot::compile(&bundle).unwrap();
        println!("{pattern:.12}…");
        // Eight where it is linear, 64 where it is quadratic. What one try adds is another program's.
        let linear = (0..5).any(|_| ratio(&snapshot) < 24.0);
        assert!(linear, "{pattern}");
    }
}
