//! Policy text: pre-scan, parser, strict validation and compiling, on the product's own threads, and what it decides.

use remit_core::{Bundle, Question, Source};
use remit_engine::{Snapshot, format_policies};
use serde_json::json;

use crate::world::{
    check_places, facts, faults, on_evaluation_stack, starter, starter_bundle, text,
};

/// Reads an input as a policy file of a bundle with the starter's schema.
pub fn policy(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    let formatted = format_policies(&text);
    let bundle = of(text);
    let fresh = match (starter().recompile(&bundle), Snapshot::compile(&bundle)) {
        (Ok(_), Ok(fresh)) => fresh,
        (Err(cached), Err(fresh)) => {
            // What is wrong with a text does not depend on what was compiled before.
            assert_eq!(faults(&cached), faults(&fresh));
            let sources: Vec<&Source> = bundle.schema.iter().chain(&bundle.policies).collect();
            return check_places(&fresh.diagnostics, &sources);
        }
        (cached, fresh) => panic!("compiled after another {cached:?}, afresh {fresh:?}"),
    };
    // The text that is stored is the text that decides.
    let stored = serde_json::to_vec(&bundle).unwrap();
    let read: Bundle = serde_json::from_slice(&stored).unwrap();
    assert_eq!(read, bundle);
    let again = Snapshot::compile(&read).expect("what compiled compiles as it is stored");
    assert_eq!(fresh.content_hash(), again.content_hash());
    assert!(fresh.policy_ids().eq(again.policy_ids()));
    let formatted = formatted.expect("what compiles can be formatted");
    assert_eq!(format_policies(&formatted).unwrap(), formatted);
    let laid_out = Snapshot::compile(&of(formatted)).expect("a layout does not change validity");
    assert!(fresh.policy_ids().eq(laid_out.policy_ids()));
    on_evaluation_stack(|| decide(&fresh, &again, &laid_out));
}

/// A bundle decides the same as it was sent, as it is stored, and in another layout.
fn decide(fresh: &Snapshot, again: &Snapshot, laid_out: &Snapshot) {
    for question in questions() {
        let facts = facts(false);
        let decision = fresh.decide(&question, &facts);
        assert_eq!(again.decide(&question, &facts), decision);
        assert_eq!(fresh.explain(&question, &facts).decision, decision);
        let other = laid_out.decide(&question, &facts);
        assert_eq!(
            (other.verdict, other.reason, other.determining),
            (decision.verdict, decision.reason, decision.determining)
        );
    }
}

fn of(text: String) -> Bundle {
    Bundle {
        schema: starter_bundle().schema,
        policies: vec![Source {
            file: "fuzz.cedar".to_owned(),
            text,
        }],
        ..Bundle::default()
    }
}

fn questions() -> Vec<Question> {
    let ask = |action, kind, properties| {
        serde_json::from_value(json!({
            "subject": { "type": "Agent", "id": "invoice-bot" },
            "action": { "name": action, "properties": properties },
            "resource": { "type": kind, "id": "one" },
        }))
        .unwrap()
    };
    vec![
        ask("call", "Tool", json!({ "domains": ["a.example"] })),
        ask("read_data", "Document", json!({})),
        ask("pay", "Payee", json!({ "amount": 100, "currency": "EUR" })),
    ]
}
