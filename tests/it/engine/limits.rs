//! What one decision may cost: past a limit it denies, with the reason, and the process goes on.

use std::fmt::Write as _;

use remit_core::{
    Action, Bundle, Decision, Entity, EntityUid, Facts, KeyId, Question, Reason, Resource, Source,
    Subject, Timestamp, Verdict,
};
use remit_engine::Snapshot;
use serde_json::{Map, Value, json};

const SCHEMA: &str = "entity User { friends?: Set<User>, boss?: User, level?: Long }; entity Doc;
action read appliesTo { principal: User, resource: Doc };";

fn snapshot(policies: String, stored: &[Entity]) -> Snapshot {
    let source = |file: &str, text: String| Source {
        file: file.to_owned(),
        text,
    };
    let bundle = Bundle {
        schema: vec![source("users.cedarschema", SCHEMA.to_owned())],
        policies: vec![source("users.cedar", policies)],
        ..Bundle::default()
    };
    let compiled = Snapshot::compile(&bundle).unwrap();
    compiled.with_entities(stored, &[]).unwrap()
}

fn user(id: &str, attrs: Value) -> Entity {
    let Value::Object(attrs) = attrs else {
        panic!("{attrs} is not an object")
    };
    Entity {
        uid: EntityUid::new("User", id),
        attrs,
        parents: Vec::new(),
        tags: Map::new(),
    }
}

/// Asks whether the user may read a document.
fn read(snapshot: &Snapshot, id: &str) -> Decision {
    let question = Question {
        subject: Subject {
            kind: "User".into(),
            id: id.into(),
            properties: Map::new(),
        },
        action: Action {
            name: "read".into(),
            properties: Map::new(),
        },
        resource: Resource {
            kind: "Doc".into(),
            id: "d".into(),
            properties: Map::new(),
        },
        context: Map::new(),
    };
    let facts = Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(0));
    snapshot.decide(&question, &facts)
}

#[test]
fn more_candidates_than_a_decision_may_evaluate_deny() {
    let permits = |count: usize| {
        let mut text = String::new();
        for number in 0..count {
            writeln!(
                text,
                "@id(\"p{number}\") permit (principal, action, resource);"
            )
            .unwrap();
        }
        snapshot(text, &[])
    };
    let most = read(&permits(10_000), "u");
    assert_eq!(
        (most.verdict, most.determining.len()),
        (Verdict::Permit, 10_000)
    );
    let over = read(&permits(10_001), "u");
    assert_eq!(
        (over.verdict, over.reason),
        (Verdict::Deny, Reason::TooManyCandidates)
    );
    assert_eq!(over.determining, []);
}

/// No expression can look into the members of a set, so they are not among the entities a decision looks at.
#[test]
fn a_set_of_many_references_costs_a_decision_nothing() {
    let rule = r#"@id("boss") permit (principal is User, action, resource)
        when { principal has boss && principal.boss has level && principal.boss.level > 2 };"#;
    let name = |number: usize| format!("f{number}");
    let mut stored: Vec<Entity> = (0..10_001)
        .map(|number| user(&name(number), json!({})))
        .collect();
    let friends: Vec<Value> = (0..10_001)
        .map(|number| json!({ "type": "User", "id": name(number) }))
        .collect();
    let boss = json!({ "type": "User", "id": "boss" });
    stored.push(user("boss", json!({ "level": 3 })));
    stored.push(user("u", json!({ "friends": friends, "boss": boss })));
    let decision = read(&snapshot(rule.to_owned(), &stored), "u");
    assert_eq!(decision.reason, Reason::PolicyPermit);
}
