//! Calls: what is known of one from its arguments and the catalogue, and its digest.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::{CallFacts, Label, Spending};
use crate::{ContentHash, EntityUid, Question, TaskId, Tool, canonical_json, links, sinks_of};

/// What the digest of a call is made of; members in the order of canonical JSON.
#[derive(Serialize)]
struct Call<'q> {
    action: &'q str,
    agent: EntityUid,
    arguments: &'q Map<String, Value>,
    /// Whole numbers beyond 2^53, in the order of the arguments' canonical JSON, which rounds them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    integers: Vec<String>,
    resource: EntityUid,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
}

/// Returns the SHA-256 of the canonical JSON of a call: action, agent, arguments, resource and task.
///
/// Equal exactly for calls that say the same: neither the order of members, nor escapes, nor `1`, `1.0` and `1e0`, make a
/// difference, and every digit of a whole number does.
pub fn call_digest(question: &Question) -> ContentHash {
    let arguments = &question.action.properties;
    let call = Call {
        action: &question.action.name,
        agent: EntityUid::new(&question.subject.kind, &question.subject.id),
        arguments,
        integers: exact_integers(arguments),
        resource: EntityUid::new(&question.resource.kind, &question.resource.id),
        task: question.task(),
    };
    // It is JSON by construction: its maps have text keys, and JSON that was read has no infinite number.
    ContentHash::of(&canonical_json(&call).unwrap_or_default())
}

/// Returns the whole numbers that a double cannot tell from their neighbours, in the order of the canonical JSON of all,
/// which rounds them.
pub(crate) fn exact_integers(members: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (_, value) in sorted(members) {
        large(value, &mut found);
    }
    found
}

/// Returns members in the order of canonical JSON, whatever order the map keeps.
fn sorted(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    members
}

/// Collects the whole numbers that a double cannot tell from their neighbours.
fn large(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Number(number) => found.extend(exact(number)),
        Value::Array(items) => items.iter().for_each(|item| large(item, found)),
        Value::Object(members) => {
            for (_, value) in sorted(members) {
                large(value, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn exact(number: &Number) -> Option<String> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // Beyond this no whole number is kept as one, so that both spellings are the same double.
    const WHOLE: f64 = 18_446_744_073_709_551_616.0;
    let double = number.as_f64()?;
    let between = (EXACT..=WHOLE).contains(&double.abs());
    between.then(|| {
        if number.is_f64() {
            format!("{double:.0}")
        } else {
            number.to_string()
        }
    })
}

// === impl CallFacts ===

impl CallFacts {
    /// Makes the facts of a call from its question and the tool of the catalogue that it is of.
    ///
    /// `labels` are those of the task in which it is asked, `None` outside a task: then nothing is charged or raised. What
    /// no tool is known for raises [`Label::worst`]. An amount that cannot be read is charged as 0; the engine denies the call.
    pub fn of(question: &Question, tool: Option<&Tool>, labels: Option<&BTreeSet<Label>>) -> Self {
        let arguments = &question.action.properties;
        let raises = tool.map_or_else(Label::worst, Tool::raises);
        Self {
            charges: labels.map(|_| Spending {
                amount: tool
                    .and_then(|tool| tool.amount_of(arguments).ok())
                    .unwrap_or(0),
                bytes: 0,
                calls: 1,
                cost: tool.map_or(0, |tool| tool.cost),
                irreversible: u64::from(tool.is_some_and(|tool| tool.irreversible)),
            }),
            digest: Some(call_digest(question)),
            links: links(arguments),
            presented_tool: question.tool_hash().map(Into::into),
            raises: labels.map_or_else(BTreeSet::new, |has| {
                raises.difference(has).cloned().collect()
            }),
            sinks: tool.map_or_else(BTreeSet::new, |tool| sinks_of(&tool.sinks, arguments)),
        }
    }
}
