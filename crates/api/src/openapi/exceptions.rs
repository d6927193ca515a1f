//! The operations and schemas of exceptions.

use serde_json::{Map, Value, json};

use super::examples::HASH;
use super::lifecycle::{once, paged};
use super::{Operation, reference};
use crate::problem::Kind;

/// The id of the exception in the examples.
const EXCEPTION: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1e01";
const PATH: &str = "/v1/exceptions";
const ONE: &str = "/v1/exceptions/{id}";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![propose(), list(), get(), confirm(), end()]
}

fn of_exception(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Exceptions").part("id", "The exception.", EXCEPTION)
}

fn propose() -> Operation {
    let operation = Operation::new("POST", PATH, "propose_exception", "Exceptions").says(
        "Propose an exception",
        "Proposes that one policy which forbids does not count in one scope until a time. It changes nothing before another \
         person confirms it, within 7 days, whatever the settings demand; only a person can propose. 409 where the bundle in \
         force has no such policy, or it permits, is in shadow mode or annotated `@relax(\"never\")`, or `owner` is no person \
         who is enabled. A tenant has at most 200 that wait or are in force: 409.",
    );
    once(operation)
        .scope("write")
        .takes(
            "ExceptionBody",
            "Which control, where, why and until when.",
            &body(),
        )
        .gives(
            201,
            "It waits for another person.",
            "Exception",
            &proposed(),
            &["Location"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::NOT_READY,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn list() -> Operation {
    let policy = json!({ "type": "string", "minLength": 1, "maxLength": 256 });
    let operation = Operation::new("GET", PATH, "list_exceptions", "Exceptions").says(
        "List exceptions",
        "All there ever were, newest first, with what has become of each.",
    );
    paged(operation)
        .scope("read")
        .query(
            "policy",
            &policy,
            "Those of one policy.",
            &json!("payments.limit"),
        )
        .gives(
            200,
            "One page.",
            "ExceptionPage",
            &json!({ "exceptions": [confirmed()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_exception("GET", ONE, "get_exception")
        .says(
            "Read an exception",
            "One exception, whatever has become of it.",
        )
        .scope("read")
        .gives(200, "The exception.", "Exception", &confirmed(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn confirm() -> Operation {
    let path = "/v1/exceptions/{id}/confirm";
    once(of_exception("POST", path, "confirm_exception"))
        .says(
            "Confirm an exception",
            "Agrees to exactly what was proposed, of which `seen` is the hash. Only a person can who is not the one who \
             proposed it. 409 where it does not wait any more, `seen` is another hash, whoever proposed it may not any more, \
             or nothing can be proposed for the policy or the owner by now.",
        )
        .scope("write")
        .until()
        .takes("ExceptionSeen", "What was seen.", &json!({ "seen": HASH }))
        .gives(
            200,
            "It is in force.",
            "Exception",
            &confirmed(),
            &["Remit-Revision"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::REVISION_NOT_REACHED,
            Kind::NOT_READY,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn end() -> Operation {
    let path = "/v1/exceptions/{id}/end";
    once(of_exception("POST", path, "end_exception"))
        .says(
            "End an exception",
            "Ends it at once, or takes back what was proposed, which brings no revision. Whoever proposes, confirms or stops \
             things may. It stays listed.",
        )
        .scope("write")
        .until()
        .gives(
            200,
            "Its policy counts.",
            "Exception",
            &ended(),
            &["Remit-Revision"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn with(mut value: Value, members: Value) -> Value {
    if let (Some(value), Value::Object(members)) = (value.as_object_mut(), members) {
        value.extend(members);
    }
    value
}

fn body() -> Value {
    json!({
        "policy": "payments.limit", "scope": { "agent": { "type": "Agent", "id": "invoice-bot" }, "action": "pay" },
        "owner": "maya", "reason": "Quarter end: the bank takes no second file today, incident 4711",
        "compensating": "Maya looks at every payment above 10,000 the same evening",
        "until": "2026-11-23T18:00:00.000000Z",
    })
}

fn proposed() -> Value {
    let members = json!({
        "id": EXCEPTION, "state": "proposed", "hash": HASH, "proposed_by": "ana",
        "proposed_at": "2026-11-22T09:30:00.000000Z", "lapses_at": "2026-11-29T09:30:00.000000Z",
    });
    with(body(), members)
}

fn confirmed() -> Value {
    let members = json!({
        "state": "in_force", "confirmed_by": "ben", "confirmed_at": "2026-11-22T10:04:00.000000Z", "revision": 43,
    });
    with(proposed(), members)
}

fn ended() -> Value {
    let members = json!({
        "state": "ended", "ended_by": "maya", "ended_at": "2026-11-22T17:00:00.000000Z",
    });
    with(confirmed(), members)
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let line = |most: usize, about: &str| json!({ "type": "string", "minLength": 1, "maxLength": most, "description": about });
    let hash = |about: &str| json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "description": about });
    let uid = |about: &str| json!({ "allOf": [reference("EntityUid")], "description": about });
    let policy = line(
        256,
        "The control: a policy of the bundle in force that forbids.",
    );
    let (owner, until) = (
        text("Who answers for it: a person who is enabled. When that ends, so does its effect."),
        time(
            "The moment from which the policy counts again; not later than the configured time allows, 90 days.",
        ),
    );
    let (reason, compensating) = (
        line(1_024, "Why: one line of at most 1,024 bytes."),
        line(
            1_024,
            "What is done instead: one line of at most 1,024 bytes.",
        ),
    );
    let schemas = json!({
        "ExceptionScope": {
            "type": "object", "description": "Which questions it is for: those that fulfil every member; at least one is there.",
            "additionalProperties": false,
            "properties": {
                "action": line(256, "The id of the action."), "agent": uid("Who acts."),
                "environment": line(256, "The environment of the key that asks."),
                "resource": uid("What is acted on: exactly this, nothing below it."),
                "task": { "type": "string", "format": "uuid", "description": "The task in which it is asked, or one above it." },
            },
        },
        "ExceptionBody": {
            "type": "object", "description": "An exception to be proposed.", "additionalProperties": false,
            "required": ["policy", "scope", "owner", "reason", "compensating", "until"],
            "properties": {
                "policy": policy, "scope": reference("ExceptionScope"), "owner": owner, "reason": reason,
                "compensating": compensating, "until": until,
            },
        },
        "ExceptionSeen": {
            "type": "object", "description": "What whoever confirms has seen.", "required": ["seen"], "additionalProperties": false,
            "properties": { "seen": hash("The `hash` of the exception.") },
        },
        "Exception": {
            "type": "object", "description": "That a control does not count for a while, in one scope.",
            "required": ["id", "state", "policy", "scope", "owner", "reason", "compensating", "until", "hash", "proposed_by", "proposed_at", "lapses_at"],
            "properties": {
                "id": { "type": "string", "format": "uuid", "description": "Its id." },
                "state": { "type": "string", "enum": ["proposed", "in_force", "over", "ended", "void", "lapsed"], "description": "What has become of it: it waits, its policy does not count, its time came, somebody ended it or took it back, it is of no effect (`void_because`), or nobody confirmed it in time." },
                "policy": policy, "scope": reference("ExceptionScope"), "owner": owner, "reason": reason,
                "compensating": compensating, "until": until,
                "hash": hash("The hash of what was proposed, for `seen`."),
                "proposed_by": text("Who proposed it."), "proposed_at": time("When."), "lapses_at": time("Until when it can be confirmed."),
                "confirmed_by": text("Who confirmed it."), "confirmed_at": time("When."),
                "revision": { "allOf": [reference("Revision")], "description": "The revision that brought it into force." },
                "ended_by": text("Who ended it, or took it back."), "ended_at": time("When."),
                "void_because": text("Why it is, or would be, of no effect now."),
            },
        },
        "ExceptionPage": {
            "type": "object", "required": ["exceptions"],
            "properties": { "exceptions": { "type": "array", "items": reference("Exception"), "description": "Newest first." }, "next": text("The cursor of the next page.") },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
