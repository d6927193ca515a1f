//! Schema text: pre-scan, parser and resolution, and a policy and a question by whatever it declares.

use remit_core::{Action, Bundle, Question, Resource, Source, Subject};
use remit_engine::Snapshot;
use serde_json::Map;

use crate::world::{check_places, facts, faults, on_evaluation_stack, text};

/// Reads an input as the schema of a bundle with one policy that permits everything.
pub fn schema(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    let question = question(&text);
    let bundle = Bundle {
        schema: vec![source("fuzz.cedarschema", text)],
        policies: vec![source(
            "all.cedar",
            "@id(\"all\") permit (principal, action, resource);".to_owned(),
        )],
        ..Bundle::default()
    };
    let compiled = match Snapshot::compile(&bundle) {
        Ok(compiled) => compiled,
        Err(error) => {
            let again = Snapshot::compile(&bundle).unwrap_err();
            assert_eq!(faults(&again), faults(&error));
            let sources: Vec<&Source> = bundle.schema.iter().chain(&bundle.policies).collect();
            return check_places(&error.diagnostics, &sources);
        }
    };
    let again = compiled
        .recompile(&bundle)
        .expect("what compiled compiles again");
    assert_eq!(again.content_hash(), compiled.content_hash());
    assert_eq!(again.warnings(), compiled.warnings());
    on_evaluation_stack(|| {
        let facts = facts(false);
        let decision = compiled.decide(&question, &facts);
        assert_eq!(again.decide(&question, &facts), decision);
    });
}

/// Asks about the first types and the first action that the text seems to declare.
fn question(text: &str) -> Question {
    let after = |keyword: &str, nth: usize| {
        let word = text.split(keyword).skip(1).nth(nth).unwrap_or("x");
        let end = |character: char| !character.is_alphanumeric() && character != '_';
        word.trim_start()
            .split(end)
            .next()
            .unwrap_or("x")
            .to_owned()
    };
    Question {
        subject: Subject {
            kind: after("entity ", 0),
            id: "one".to_owned(),
            properties: Map::new(),
        },
        action: Action {
            name: after("action ", 0),
            properties: Map::new(),
        },
        resource: Resource {
            kind: after("entity ", 1),
            id: "two".to_owned(),
            properties: Map::new(),
        },
        context: Map::new(),
    }
}

fn source(file: &str, text: String) -> Source {
    Source {
        file: file.to_owned(),
        text,
    }
}
