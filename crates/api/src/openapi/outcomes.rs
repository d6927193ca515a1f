//! The operations of outcomes: what happened after permits, and of which permits nobody said.

use serde_json::{Map, Value, json};

use super::examples::{DECISION, KEY};
use super::{Operation, or_null, reference};
use crate::problem::Kind;

const TASK: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1b01";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![report(), list(), orphans()]
}

fn report() -> Operation {
    Operation::new(
        "POST",
        "/v1/decisions/{id}/outcome",
        "report_outcome",
        "Record",
    )
    .says(
        "Report what happened",
        "Tells once what became of a permitted call, by the principal that asked for it. What the permit reserved of \
         the budgets of its task, and of those above, is spent (`succeeded`) or given back (`failed`, `not_made`), but for \
         the `cost` and the `bytes` that are told of. `labels` are added to the task and those above it; none is ever taken \
         away. `sinks` are values that the tool returned, which the task may then send to: they are taken of tools whose \
         integrity is `trusted` alone, of calls that succeeded, and not where the call's own arguments say them. A principal \
         that is a registered agent's own tells only that a call `succeeded`, without `sinks`.\n\n\
         The same outcome may be sent again and is answered alike; another one of the same decision is refused. A decision \
         that another replica has just made is waited for, up to two seconds. What a permit reserved is given back within 15 \
         minutes; an outcome that comes later is kept, and gives nothing back.",
    )
    .scope("evaluate")
    .part("id", "The id of the decision.", DECISION)
    .takes("OutcomeReport", "What happened.", &reported())
    .gives(200, "It is kept.", "Outcome", &outcome(), &["Remit-Revision"])
    .fails(&[
        Kind::INVALID_REQUEST,
        Kind::NOT_FOUND,
        Kind::OUTCOME_REFUSED,
        Kind::CONFLICT,
        Kind::REVISION_NOT_REACHED,
        Kind::STALE_POLICY,
        Kind::STORE_UNAVAILABLE,
    ])
}

fn list() -> Operation {
    Operation::new("GET", "/v1/outcomes", "list_outcomes", "Record")
        .says(
            "List outcomes",
            "What was reported, those of the newest decisions first: with `bytes`, `source` and `destination` the record of \
             every movement of data.",
        )
        .scope("read")
        .query("task", &uuid(), "Only in this task.", &json!(TASK))
        .query("destination", &text("Where to."), "Only of data that went there.", &json!("mail"))
        .query("result", &reference("OutcomeResult"), "Only with this result.", &json!("succeeded"))
        .query("limit", &limit(), "How many a page holds at most.", &json!(100))
        .query("cursor", &text("A cursor."), "The `next` of the page before, with the same other parameters.", &json!(""))
        .gives(200, "One page.", "OutcomePage", &json!({ "outcomes": [outcome()] }), &["Link"])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn orphans() -> Operation {
    Operation::new("GET", "/v1/orphans", "list_orphans", "Record")
        .says(
            "List permits without an outcome",
            "The permits in tasks of which no outcome was reported in time (`tasks.orphan_after_ms`, five minutes where \
             nobody says otherwise), newest first. Whether these calls were made nobody knows.",
        )
        .scope("read")
        .query("task", &uuid(), "Only in this task.", &json!(TASK))
        .query("limit", &limit(), "How many a page holds at most.", &json!(100))
        .query("cursor", &text("A cursor."), "The `next` of the page before, with the same other parameters.", &json!(""))
        .gives(200, "One page.", "OrphanPage", &json!({ "orphans": [orphan()] }), &["Link"])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn reported() -> Value {
    json!({ "result": "succeeded", "bytes": 5120, "source": "crm", "destination": "mail", "labels": ["class:pii"] })
}

fn outcome() -> Value {
    json!({
        "at": "2026-11-22T09:30:02.000000Z", "bytes": 5120, "caller": KEY, "decision": DECISION, "destination": "mail",
        "labels": ["class:pii"], "result": "succeeded", "source": "crm", "task": TASK,
    })
}

fn orphan() -> Value {
    json!({
        "decision": DECISION, "at": "2026-11-22T09:30:00.000000Z", "task": TASK,
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": "pay_supplier",
        "resource": { "type": "Payee", "id": "acme" },
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let optional = |schema: Value| or_null(schema);
    let labels = json!({ "type": "array", "items": { "type": "string" }, "maxItems": 64, "description": "Labels of what came back, beside those of the catalogue: `untrusted`, `private`, or `class:` and a data class." });
    let result = reference("OutcomeResult");
    let all = json!({
        "OutcomeResult": {
            "type": "string", "enum": ["succeeded", "failed", "not_made"],
            "description": "`succeeded`: it was made and did what it does. `failed`: it was made and failed. `not_made`: it was not made.",
        },
        "OutcomeReport": {
            "type": "object", "description": "What happened after a permit.", "required": ["result"],
            "additionalProperties": false,
            "properties": {
                "result": result, "bytes": optional(number("Bytes that were moved.")),
                "cost": optional(number("What it cost in the end, in units of the tenant's own.")),
                "source": optional(short("Where data came from.")), "destination": optional(short("Where data went.")),
                "labels": optional(labels.clone()),
                "sinks": optional(json!({ "type": "array", "maxItems": 1000, "items": short("A value."), "description": "Values that a trusted tool returned." })),
                "error": optional(json!({ "type": "string", "maxLength": 4096, "description": "What went wrong." })),
            },
        },
        "Outcome": {
            "type": "object", "description": "What was reported of one permit; members that were left out are left out.",
            "required": ["at", "caller", "decision", "result"],
            "properties": {
                "at": { "type": "string", "format": "date-time", "description": "When it was reported." },
                "bytes": number("Bytes that were moved."), "caller": uuid(), "cost": number("What it cost in the end."),
                "decision": uuid(), "destination": text("Where data went."), "error": text("What went wrong."),
                "labels": labels, "result": result, "source": text("Where data came from."), "task": uuid(),
            },
        },
        "OutcomePage": {
            "type": "object", "description": "One page of outcomes.", "required": ["outcomes"],
            "properties": {
                "outcomes": { "type": "array", "items": reference("Outcome"), "description": "Those of the newest decisions first." },
                "next": text("The cursor of the next page; absent on the last one."),
            },
        },
        "Orphan": {
            "type": "object", "description": "A permit in a task of which no outcome was reported.",
            "required": ["decision", "at", "task", "subject", "action", "resource"],
            "properties": {
                "decision": uuid(), "at": { "type": "string", "format": "date-time", "description": "When it was permitted." },
                "task": uuid(), "subject": reference("EntityUid"), "action": text("The action."),
                "resource": reference("EntityUid"),
            },
        },
        "OrphanPage": {
            "type": "object", "description": "One page of permits without an outcome.", "required": ["orphans"],
            "properties": {
                "orphans": { "type": "array", "items": reference("Orphan"), "description": "Newest first." },
                "next": text("The cursor of the next page; absent on the last one."),
            },
        },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn short(about: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 1024, "description": about })
}

fn number(about: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64, "description": about })
}

fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

fn limit() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 })
}
