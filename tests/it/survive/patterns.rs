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

/// The shortest of five decisions on a text of this length.
fn shortest(snapshot: &Snapshot, length: usize) -> Duration {
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
    let facts = Facts {
        now: Timestamp::from_micros(0),
        caller: KeyId::nil(),
        environment: "dev".into(),
        approved: false,
    };
    let one = || {
        let began = Instant::now();
        assert_eq!(snapshot.decide(&question, &facts).reason, Reason::NoPermit);
        began.elapsed()
    };
    (0..5).map(|_| one()).min().unwrap()
}

#[test]
fn f40_a_pattern_takes_time_in_proportion_to_the_text() {
    const SHORT: usize = 20_000;
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
        let (short, long) = (shortest(&snapshot, SHORT), shortest(&snapshot, 8 * SHORT));
        let ratio = long.as_secs_f64() / short.as_secs_f64();
        println!(
            "{pattern:.12}…: {short:?} for {SHORT} bytes, {long:?} for eight times as many: ×{ratio:.1}"
        );
        // Eight where it is linear, 64 where it is quadratic.
        assert!(ratio < 24.0, "{pattern}: {short:?}, {long:?}");
    }
}
