//! The operations and schemas of break-glass.

use serde_json::{Map, Value, json};

use super::lifecycle::{once, paged};
use super::{Operation, reference};
use crate::problem::Kind;

/// The id of the grant in the examples.
const GRANT: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1b10";
const PATH: &str = "/v1/break-glass";
const ONE: &str = "/v1/break-glass/{id}";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![request(), list(), get(), approve(), end()]
}

fn of_grant(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Break-glass").part("id", "The grant.", GRANT)
}

fn request() -> Operation {
    once(Operation::new("POST", PATH, "request_break_glass", "Break-glass"))
        .says(
            "Ask for break-glass",
            "Asks that a person, who is the caller where `principal` is absent, has more roles for some minutes. Another \
             person has to approve it within an hour. `approver` is not among the roles. A person has one grant at a time \
             that waits or is active, and a tenant ten. Only a person can ask, by the built-in policies alone.",
        )
        .scope("keys")
        .takes("BreakGlassBody", "Who, which roles, how long and why.", &json!({ "principal": "maya", "minutes": 15, "reason": "Payments are blocked, incident 4711" }))
        .gives(201, "It is asked for, and waits for another person.", "BreakGlass", &pending(), &["Location"])
        .fails(&[Kind::CONFLICT, Kind::IDEMPOTENCY_KEY_REUSED, Kind::STORE_UNAVAILABLE])
}

fn list() -> Operation {
    let operation = Operation::new("GET", PATH, "list_break_glass", "Break-glass").says(
        "List break-glass grants",
        "Those that wait, those that are active and those that were, newest first.",
    );
    paged(operation)
        .scope("read")
        .gives(
            200,
            "One page.",
            "BreakGlassPage",
            &json!({ "grants": [active()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_grant("GET", ONE, "get_break_glass")
        .says("Read a break-glass grant", "One grant.")
        .scope("read")
        .gives(200, "The grant.", "BreakGlass", &active(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn approve() -> Operation {
    let path = "/v1/break-glass/{id}/approve";
    once(of_grant("POST", path, "approve_break_glass"))
        .says(
            "Approve a break-glass grant",
            "Makes it active from now on, for its minutes by the database's time. Only a person can who has the role \
             `approver`, has not asked for it and is not to have it, whatever the settings demand. 409 where it does not \
             wait any more, or whoever asked for it may not any more.",
        )
        .scope("write")
        .gives(200, "It is active.", "BreakGlass", &active(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn end() -> Operation {
    once(of_grant("DELETE", ONE, "end_break_glass"))
        .says(
            "End a break-glass grant",
            "Ends it on every replica at once, or takes back what was asked. Whoever asked for it or has it can, and whoever \
             has the role `admin` or `approver`. 409 where it is over.",
        )
        .scope("write")
        .gives_nothing(204, "It is over.", &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn pending() -> Value {
    json!({
        "id": GRANT, "state": "pending", "principal": "maya", "roles": ["publisher", "admin"], "minutes": 15,
        "reason": "Payments are blocked, incident 4711", "requested_by": "ana",
        "requested_at": "2026-11-22T09:00:00.000000Z", "expires_at": "2026-11-22T10:00:00.000000Z",
    })
}

fn active() -> Value {
    json!({
        "id": GRANT, "state": "active", "principal": "maya", "roles": ["publisher", "admin"], "minutes": 15,
        "reason": "Payments are blocked, incident 4711", "requested_by": "ana",
        "requested_at": "2026-11-22T09:00:00.000000Z", "expires_at": "2026-11-22T10:00:00.000000Z",
        "approved_by": "ben", "approved_at": "2026-11-22T09:04:00.000000Z", "ends_at": "2026-11-22T09:19:00.000000Z",
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let id = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
    let roles = json!({ "type": "array", "items": reference("Role"), "description": "The roles, beside those that the person has." });
    let asked = json!({ "type": "array", "minItems": 1, "items": reference("Role"), "description": "The roles, of which `approver` is none; `admin` and `publisher` where it is absent." });
    let minutes = json!({ "type": "integer", "minimum": 1, "maximum": 60, "description": "For how long, from the approval on; 15 where it is absent." });
    let schemas = json!({
        "BreakGlassBody": {
            "type": "object", "description": "A grant to be asked for.", "required": ["reason"], "additionalProperties": false,
            "properties": {
                "principal": text("The person who is to have the roles; the caller where it is absent."), "roles": asked, "minutes": minutes,
                "reason": { "type": "string", "minLength": 1, "maxLength": 1_024, "description": "What for: one line of at most 1,024 bytes." },
            },
        },
        "BreakGlass": {
            "type": "object", "description": "More roles for one person, for minutes.",
            "required": ["id", "state", "principal", "roles", "minutes", "reason", "requested_by", "requested_at", "expires_at"],
            "properties": {
                "id": id("Its id."),
                "state": { "type": "string", "enum": ["pending", "active", "ended"], "description": "It waits for another person; it counts; or it is over." },
                "principal": text("Who has the roles."), "roles": roles, "minutes": minutes, "reason": text("What for."),
                "requested_by": text("Who asked."), "requested_at": time("When."), "expires_at": time("Until when it can be approved."),
                "approved_by": text("Who agreed."), "approved_at": time("When."), "ends_at": time("The first moment at which it is over by itself."),
                "ended_by": text("Who ended it, where somebody did."), "ended_at": time("Since when it is over."),
            },
        },
        "BreakGlassPage": {
            "type": "object", "required": ["grants"],
            "properties": { "grants": { "type": "array", "items": reference("BreakGlass"), "description": "Newest first." }, "next": text("The cursor of the next page.") },
        },
        "BreakGlassHeld": {
            "type": "object", "description": "The grant of whoever asks that is active.", "required": ["id", "roles", "ends_at"],
            "properties": { "id": id("Its id."), "roles": roles, "ends_at": time("The first moment at which it is over.") },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
