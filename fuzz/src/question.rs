//! Question JSON: the strict reader, the bodies of an evaluation and of a batch, shaping, deciding, the record.

use remit_api::fuzzing;
use remit_core::{
    Caller, Decision, DecisionId, DecisionRecord, KeyId, Question, Reason, TenantId, canonical_json,
};
use serde_json::{Map, Value};

use crate::strict::{see, unified};
use crate::world::{facts, starter};

/// The most values of an evaluation's body.
const NODES: usize = 10_000;
/// The deepest nesting.
const DEPTH: usize = 32;
/// The members that a batch defaults.
const MEMBERS: [&str; 4] = ["subject", "action", "resource", "context"];

/// Reads an input as the body of an evaluation and of a batch, and decides what it asks.
pub fn question(data: &[u8]) {
    strictly(data);
    if let Ok(question) = fuzzing::question(data) {
        ask(&question);
    }
    batch(data);
}

/// What the strict reader takes, serde_json takes as the same value, and nobody could read it differently.
fn strictly(data: &[u8]) {
    let taken = fuzzing::object(data);
    let seen = see(data);
    if let Ok(value) = taken {
        let seen = seen.expect("serde_json refuses what the strict reader takes");
        let plain: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(unified(plain), value);
        assert!(value.is_object());
        assert!(!seen.twice && !seen.inexact, "{seen:?}");
        assert!(seen.nodes <= NODES && seen.depth <= DEPTH, "{seen:?}");
    } else if let Some(seen) = seen {
        // And it refuses nothing for any other reason.
        let object = data
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|byte| *byte == b'{');
        let reason = !object
            || seen.twice
            || seen.inexact
            || seen.fractions
            || seen.nodes > NODES
            || seen.depth > DEPTH;
        assert!(reason, "refused without a reason: {seen:?}");
    }
}

/// The decision is a function of the question, is what an explanation says it is, and can be recorded.
fn ask(question: &Question) {
    if question.check().is_err() {
        return;
    }
    let snapshot = starter();
    for approved in [false, true] {
        let facts = facts(approved);
        let decision = snapshot.decide(question, &facts);
        assert_ne!(decision.reason, Reason::EngineFault, "{question:?}");
        assert_eq!(snapshot.explain(question, &facts).decision, decision);
        let recorded = record(question, approved, decision);
        // Made again from its own record, it comes out the same.
        let again = snapshot.decide(&recorded.question, &recorded.facts);
        assert_eq!(again, recorded.decision);
    }
}

/// Writes the record of a decision and reads it back.
fn record(question: &Question, approved: bool, decision: Decision) -> DecisionRecord {
    let facts = facts(approved);
    let record = DecisionRecord {
        id: DecisionId::NIL,
        tenant: TenantId::NIL,
        at: facts.now,
        caller: Caller {
            key: KeyId::NIL,
            request_id: None,
            trace_id: None,
        },
        question: question.clone(),
        facts,
        decision,
        duration_us: 1,
    };
    let body = canonical_json(&record).expect("what was asked can be recorded");
    let read: DecisionRecord = serde_json::from_slice(&body).expect("a record can be read");
    assert_eq!(read, record);
    read
}

/// An item of a batch is the question that it would be by itself, with the defaults written out.
fn batch(data: &[u8]) {
    let Ok(questions) = fuzzing::questions(data) else {
        return;
    };
    let body: Value = serde_json::from_slice(data).unwrap();
    let items = match body.get("evaluations") {
        Some(Value::Array(items)) if !items.is_empty() => items.clone(),
        _ => vec![Value::Object(Map::new())],
    };
    assert_eq!(questions.len(), items.len());
    for (question, item) in questions.iter().zip(items) {
        let alone = complete(item, &body).map(|item| {
            let bytes = serde_json::to_vec(&item).unwrap();
            fuzzing::question(&bytes)
        });
        match (question, alone) {
            (Ok(question), Some(Ok(alone))) => {
                assert_eq!(*question, alone);
                ask(question);
            }
            (Err(_), None | Some(Err(_))) => {}
            // A batch may have more values than one question.
            (Ok(_), Some(Err(problem))) if problem.kind().code == "malformed-body" => {}
            (question, alone) => panic!("in a batch {question:?}, alone {alone:?}"),
        }
    }
}

fn complete(item: Value, defaults: &Value) -> Option<Value> {
    let Value::Object(mut item) = item else {
        return None;
    };
    for member in MEMBERS {
        if let Some(default) = defaults.get(member) {
            item.entry(member).or_insert_with(|| default.clone());
        }
    }
    Some(Value::Object(item))
}
